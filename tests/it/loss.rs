//! Agents that go away in the middle of a run.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use groundswell_coordinator::report::Status;
use rustix::process::Signal;

use crate::harness::{Daemon, Nginx, Prepared, Report, agent, serve};

const PLAN: &str = "
max_send_lag: 60s
max_start_skew: 500ms
lease: 3s
target: TARGET
scenarios:
  arrive:
    load: { rate: 90/s, for: 14s }
    flow: [ { get: /x } ]
  browse:
    load: { users: 6, for: 14s }
    flow: [ { get: /y }, { think: 50ms } ]
";

/// Runs the plan on three agents, does something to agent b when the load is well under way, and returns the exit code
/// and the report.
fn disturbed(
    nginx: &Nginx,
    disturb: impl Fn(&mut Daemon) -> anyhow::Result<()>,
) -> anyhow::Result<(Option<i32>, Report)> {
    let (_coordinator, url) = serve()?;
    let _a = agent(&url, "a", None)?;
    let mut b = agent(&url, "b", None)?;
    let _c = agent(&url, "c", None)?;
    let prepared = Prepared::new(PLAN, &nginx.url())?;
    let mut run = prepared.call_on("run", &url, "3").start("run")?;
    // About two seconds of the open load are done by then, so every agent has handed in figures.
    wait_for_requests(nginx, "GET /x", 200)?;
    disturb(&mut b)?;
    Ok((run.wait()?, prepared.report()?))
}

fn wait_for_requests(nginx: &Nginx, request: &str, least: u64) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while nginx.requests()?.get(request).copied().unwrap_or(0) < least {
        if Instant::now() > deadline {
            bail!("the target saw no load");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

pub(crate) fn kill_nine() -> anyhow::Result<()> {
    let nginx = Nginx::start()?;
    let (code, report) = disturbed(&nginx, |agent| agent.signal(Signal::KILL))?;
    ensure!(code == Some(3), "exit code {code:?}");
    let reason = report.verdict.reasons.first().context("no reason")?;
    ensure!(reason.code == "agent_lost" && reason.agent.as_deref() == Some("b"), "{reason:?}");
    ensure!(reason.from_s.is_some() && reason.message.contains("users of browse"), "{reason:?}");
    ensure!(report.verdict.status == Status::Degraded && reason.message.contains("its load went to"), "{reason:?}");
    let lost = report.agents.iter().find(|agent| agent.name == "b").context("no row b")?;
    let lost_at = lost.lost_at_s.context("no time of loss")?;
    ensure!(lost_at > 0.0 && lost_at < report.run.duration_s, "{lost_at} of {}", report.run.duration_s);
    ensure!(report.agents.iter().filter(|agent| agent.lost_at_s.is_some()).count() == 1, "{:?}", report.agents);
    // The account of the whole plan is closed: what b did not offer is counted, and the open load is complete.
    let ledger = &report.ledger;
    ensure!(ledger.balanced && ledger.not_generated.get("agent_lost").is_some_and(|n| *n > 0), "{ledger:?}");
    let arrive = report.steps.iter().find(|row| row.scenario == "arrive").context("no row")?;
    ensure!(arrive.scheduled == 1_260 && arrive.issued + arrive.not_generated == 1_260, "{arrive:?}");
    // The target saw what was reported and at most what nobody knows of.
    let seen: u64 = nginx.requests()?.values().sum();
    ensure!((ledger.issued..=ledger.issued + ledger.unknown_max).contains(&seen), "nginx saw {seen}: {ledger:?}");
    Ok(())
}

pub(crate) fn agent_asked_to_stop() -> anyhow::Result<()> {
    let nginx = Nginx::start()?;
    let (code, report) = disturbed(&nginx, |agent| {
        agent.signal(Signal::TERM)?;
        ensure!(agent.wait()? == Some(0), "the agent did not end well");
        Ok(())
    })?;
    ensure!(code == Some(0) && report.verdict.status == Status::Passed, "{code:?} {:?}", report.verdict);
    let has_mark = |kind: &str| report.marks.iter().any(|mark| mark.kind == kind);
    ensure!(has_mark("agent_left") && has_mark("load_moved"), "{:?}", report.marks);
    let ledger = &report.ledger;
    ensure!(ledger.balanced && ledger.not_generated.is_empty() && ledger.unknown_max == 0, "{ledger:?}");
    let seen: u64 = nginx.requests()?.values().sum();
    ensure!(seen == ledger.issued, "nginx saw {seen}: {ledger:?}");
    Ok(())
}
