//! Both ends of the real session over a simulated network that loses, holds and forgets: `groundswell_agent::run_over` and
//! `groundswell_coordinator::server::serve_over` with connections of turmoil instead of TCP.
//!
//! Heartbeats, leases, sessions and deltas live in the simulation's time. The load does not: its workers are threads with a
//! target of their own. So the simulation is kept at the pace of the real clock.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "tests, which live in real time beside the simulation"
)]

#[allow(dead_code, reason = "shared with a benchmark, which uses more of it")]
#[path = "../benches/common/api.rs"]
mod api;
#[allow(dead_code, reason = "shared with the black-box tests, which use more of it")]
#[path = "../it/harness/oracle.rs"]
mod oracle;
mod wire;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use groundswell_agent::{AgentOptions, Guard, Limits, run_over};
use groundswell_coordinator::api::{Accepted, RunStatus};
use groundswell_coordinator::report::{Report, Status};
use groundswell_coordinator::server::{ServerOptions, serve_over};
use groundswell_coordinator::store::{Location, Store};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use turmoil::Sim;

use api::ask;
use oracle::Oracle;

const PORT: u16 = 7710;
const RATE: u64 = 50;
/// No test takes so long.
const PATIENCE: Duration = Duration::from_secs(300);

/// Messages are held for three seconds and then all come at once.
#[test]
fn held() {
    let (report, oracle) = run(8, |sim, at_work| match at_work {
        2 => sim.hold("b", "coordinator"),
        5 => sim.release("b", "coordinator"),
        _ => {}
    });
    nothing_was_lost(&report, &oracle, 8);
}

/// Messages are lost for three seconds. Connections stay open and nothing ever comes over them again, until both ends have
/// noticed.
#[test]
fn parted() {
    let (report, oracle) = run(24, |sim, at_work| match at_work {
        2 => sim.partition("b", "coordinator"),
        5 => sim.repair("b", "coordinator"),
        _ => {}
    });
    nothing_was_lost(&report, &oracle, 24);
    let late = report.warnings.iter().find(|warning| warning.code == "telemetry_late");
    assert_eq!(late.and_then(|late| late.agent.as_deref()), Some("b"), "{:?}", report.warnings);
}

/// The coordinator is gone in the middle of whatever it did, and comes back with its store a second later.
#[test]
fn crashed() {
    let (report, oracle) = run(10, |sim, at_work| match at_work {
        3 => sim.crash("coordinator"),
        4 => sim.bounce("coordinator"),
        _ => {}
    });
    nothing_was_lost(&report, &oracle, 10);
    assert!(report.marks.iter().any(|mark| mark.kind == "coordinator_restarted"), "{:?}", report.marks);
}

fn nothing_was_lost(report: &Report, oracle: &Oracle, seconds: u64) {
    let (verdict, ledger) = (&report.verdict, &report.ledger);
    assert_eq!(verdict.status, Status::Passed, "{verdict:?} {ledger:?} {:?}", report.marks);
    assert!(ledger.balanced && ledger.issued == RATE * seconds && ledger.unknown_max == 0, "{ledger:?}");
    oracle.everything_once(RATE * seconds).unwrap();
}

/// Two agents and a run of so many seconds. `fault` is told each second that the load has been on, once.
fn run(seconds: u64, fault: impl Fn(&mut Sim<'_>, u64)) -> (Report, Oracle) {
    let oracle = Oracle::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let data: PathBuf = folder.path().to_owned();
    let mut sim = turmoil::Builder::new()
        .simulation_duration(PATIENCE)
        .tick_duration(Duration::from_millis(2))
        .max_message_latency(Duration::from_millis(5))
        .tcp_capacity(4_096)
        .enable_tokio_io()
        .build();
    sim.host("coordinator", move || coordinator(data.clone()));
    for name in ["a", "b"] {
        sim.host(name, move || agent(name));
    }
    let report = Rc::new(RefCell::new(None));
    let (told, target) = (Rc::clone(&report), oracle.url());
    sim.client("client", async move {
        *told.borrow_mut() = Some(client(&target, seconds).await?);
        Ok(())
    });
    let (began, mut at_work) = (Instant::now(), 0);
    while !sim.step().unwrap() {
        assert!(began.elapsed() < PATIENCE, "it hangs");
        std::thread::sleep(sim.elapsed().saturating_sub(began.elapsed()));
        if oracle.count() >= RATE * (at_work + 1) {
            at_work += 1;
            fault(&mut sim, at_work);
        }
    }
    let report = report.borrow_mut().take().unwrap();
    (report, oracle)
}

async fn coordinator(data: PathBuf) -> turmoil::Result {
    let store = Store::open(&Location::Folder(data)).await?;
    let options = ServerOptions { outlives: true, ..ServerOptions::default() };
    serve_over(wire::incoming(PORT).await?, options, store, CancellationToken::new()).await?;
    Ok(())
}

async fn agent(name: &str) -> turmoil::Result {
    let options = AgentOptions {
        coordinator: format!("http://coordinator:{PORT}"),
        name: name.to_owned(),
        workers: 1,
        weight: 1,
        limits: Limits::default(),
        guard: Guard::default(),
        labels: BTreeMap::new(),
        raw_samples: None,
        once: false,
        tls: None,
        secrets: Default::default(),
    };
    run_over(wire::connect(), options, CancellationToken::new()).await?;
    Ok(())
}

/// Submits the plan and asks, through whatever happens to the coordinator, until there is a report.
async fn client(target: &str, seconds: u64) -> anyhow::Result<Report> {
    let text = format!(
        "target: {target}\nmax_send_lag: 60s\nmax_start_skew: 500ms\nlease: 2m\nscenarios:\n  arrive:\n    load: {{ rate: \
         {RATE}/s, for: {seconds}s, max_in_flight: 10000 }}\n    flow: [ {{ get: '/k/{{{{ iteration }}}}', name: k, \
         timeout: 60s }} ]\n"
    );
    let submission = json!({ "plan": { "text": text }, "agents": 2, "wait_s": 60 }).to_string();
    // It opens its store before it listens.
    let connection = loop {
        match wire::dial("coordinator", PORT).await {
            Ok(connection) => break connection,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    let accepted: Accepted = ask(connection, "/runs", Some(&submission)).await?;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        // It may be away.
        let Ok(status) = status(&accepted.id).await else { continue };
        if let Some(problem) = status.problem {
            anyhow::bail!("{problem}");
        }
        if status.finished_at.is_some() {
            let path = format!("/runs/{}/report", accepted.id);
            return ask(wire::dial("coordinator", PORT).await?, &path, None).await;
        }
    }
}

async fn status(run: &str) -> anyhow::Result<RunStatus> {
    ask(wire::dial("coordinator", PORT).await?, &format!("/runs/{run}"), None).await
}
