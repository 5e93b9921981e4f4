//! The generator at its limits: the verdict names the agent, the time and the cause, and never blames the target.

use std::time::Duration;

use anyhow::{Context, ensure};
use groundswell_coordinator::report::Status;
use groundswell_coordinator::search::{Limit, SearchReport};
use rustix::process::Signal;

use crate::harness::{CpuGroup, Daemon, Finished, Groundswell, Nginx, Prepared, Report, agent, serve};

/// A debug build on a busy machine may be late by less; what is done to agents here makes them later.
const PLAN: &str = "
target: TARGET
max_send_lag: 250ms
scenarios:
  arrive:
    load: { rate: 400/s, for: 6s }
    flow: [ { get: /x } ]
";

/// Runs a plan on two agents of which something is done to `b`, and returns the outcome and the report.
fn on_two_agents(
    nginx: &Nginx,
    disturb: impl FnOnce(&mut Daemon) -> anyhow::Result<()>,
) -> anyhow::Result<(Option<i32>, Report)> {
    let (_coordinator, url) = serve()?;
    let _a = agent(&url, "a", None)?;
    let mut b = agent(&url, "b", None)?;
    let prepared = Prepared::new(PLAN, &nginx.url())?;
    let mut run = prepared.call_on("run", &url, "2").start("run")?;
    run.wait_for("running")?;
    disturb(&mut b)?;
    Ok((run.wait()?, prepared.report()?))
}

fn generator_reason(report: &Report) -> anyhow::Result<&groundswell_coordinator::report::Reason> {
    ensure!(report.verdict.status == Status::Invalid, "{:?}", report.verdict);
    let reason = report.verdict.reasons.first().context("no reason")?;
    ensure!(reason.code == "generator" && reason.agent.as_deref() == Some("b"), "{:?}", report.verdict);
    Ok(reason)
}

/// SIGSTOP of an agent for two seconds: response time and send lag show it, service time does not, and every arrival of
/// its share is accounted for.
pub(crate) fn stalled_agent() -> anyhow::Result<()> {
    let nginx = Nginx::start()?;
    let (code, report) = on_two_agents(&nginx, |b| {
        std::thread::sleep(Duration::from_millis(1500));
        b.signal(Signal::STOP)?;
        std::thread::sleep(Duration::from_secs(2));
        b.signal(Signal::CONT)
    })?;
    ensure!(code == Some(3), "{code:?} {:?}", report.verdict);
    let reason = generator_reason(&report)?;
    ensure!(reason.from_s.is_some_and(|from| from >= 1.0) && reason.to_s.is_some_and(|to| to >= 3.0), "{reason:?}");
    let figures = &report.total;
    let most = |latency: &groundswell_coordinator::report::Latency| latency.max.unwrap_or(0.0);
    ensure!(most(&figures.send_lag_ms) > 1_500.0 && most(&figures.response_ms) > 1_500.0, "{figures:?}");
    ensure!(figures.service_ms.p95 < Some(1_000.0), "{:?}", figures.service_ms);
    ensure!(report.ledger.balanced && report.ledger.scheduled == 2400, "{:?}", report.ledger);
    Ok(())
}

/// A CPU quota that leaves an agent a fiftieth of a core.
pub(crate) fn cpu_quota() -> anyhow::Result<()> {
    let nginx = Nginx::start()?;
    let group = CpuGroup::with_quota(Duration::from_millis(10))?;
    let (code, report) = on_two_agents(&nginx, |b| group.take(b.id()))?;
    ensure!(code == Some(3), "{code:?} {:?}", report.verdict);
    let reason = generator_reason(&report)?;
    ensure!(reason.message.contains("CPU quota") && reason.message.contains("raise the quota"), "{reason:?}");
    let (code, report) = on_two_agents(&nginx, |_| Ok(()))?;
    ensure!(code == Some(0), "without the quota: {code:?} {:?}", report.verdict);
    Ok(())
}

/// A search with one starved agent says that the generator was the limit, and nothing of the target.
pub(crate) fn search_with_a_starved_agent() -> anyhow::Result<()> {
    let nginx = Nginx::start()?;
    let group = CpuGroup::with_quota(Duration::from_millis(10))?;
    let (_coordinator, url) = serve()?;
    let _a = agent(&url, "a", None)?;
    let b = agent(&url, "b", None)?;
    group.take(b.id())?;
    let plan = "
target: TARGET
max_send_lag: 250ms
scenarios:
  capacity:
    load: { search: { rate: { from: 100/s, to: 1000/s } }, for: 3s }
    flow: [ { get: /x } ]
thresholds: [ 'error_rate < 50%' ]
";
    let prepared = Prepared::new(plan, &nginx.url())?;
    let search = prepared.call_on("search", &url, "2").finish()?;
    let report: SearchReport = prepared.report().with_context(|| format!("{search:?}"))?;
    ensure!(search.code == Some(3) && report.limit == Limit::Generator, "{search:?}");
    ensure!(report.message.contains("agent b"), "{}", report.message);
    Ok(())
}

/// A hundred users, each with a connection of its own.
const MANY: &str = "
target: TARGET
max_send_lag: 10s
scenarios:
  browse:
    load: { users: 100, for: 2s }
    flow: [ { get: /health }, { think: 200ms } ]
";

fn run_many(
    plan: &str,
    target: &str,
    wrap: impl FnOnce(Groundswell) -> Groundswell,
) -> anyhow::Result<(Finished, Report)> {
    let prepared = Prepared::new(plan, target)?;
    let more: &[&str] = if target == OWN_TARGET { &["--demo-target"] } else { &[] };
    let run = wrap(prepared.call("run", more)).finish()?;
    let report = prepared.report().with_context(|| format!("{run:?}"))?;
    Ok((run, report))
}

/// Within its namespace, this port is free.
const OWN_TARGET: &str = "http://127.0.0.1:8088";

fn not_sent(run: &Finished, report: &Report, class: &str) -> anyhow::Result<()> {
    ensure!(run.code == Some(3) && report.verdict.status == Status::Invalid, "{run:?}");
    ensure!(report.verdict.reasons.first().is_some_and(|reason| reason.code == "client_limit"), "{:?}", report.verdict);
    ensure!(report.ledger.unsent.contains_key(class), "{:?}", report.ledger);
    // The target answered whatever reached it.
    ensure!(report.total.errors == 0 && report.total.ok > 0 && report.ledger.balanced, "{:?}", report.ledger);
    ensure!(report.warnings.iter().any(|warning| warning.code == "preflight"), "nothing was foreseen: {run:?}");
    Ok(())
}

/// `ulimit -n 64`.
pub(crate) fn few_descriptors() -> anyhow::Result<()> {
    let nginx = Nginx::start()?;
    let limited = |run: Groundswell| run.through("sh", &["-c", "ulimit -n 64 && exec \"$0\" \"$@\""]);
    let (run, report) = run_many(MANY, &nginx.url(), limited)?;
    not_sent(&run, &report, "too_many_open_files")?;
    let (run, _) = run_many(MANY, &nginx.url(), |run| run)?;
    ensure!(run.code == Some(0), "without the limit: {run:?}");
    Ok(())
}

/// A network namespace whose connections have ten ports to leave from, chosen by the kernel when they connect or, from a
/// source address of the plan, when they are bound to it; each such address has ports of its own.
pub(crate) fn few_ports() -> anyhow::Result<()> {
    let namespace = |range: &'static str| {
        move |run: Groundswell| {
            let set_up = "ip link set lo up && echo $0 > /proc/sys/net/ipv4/ip_local_port_range && exec \"$@\"";
            run.through("unshare", &["-n", "sh", "-c", set_up, range])
        }
    };
    let bound = |addresses: &[String]| format!("{MANY}http: {{ bind: [{}] }}\n", addresses.join(", "));
    let twenty: Vec<String> = (2..=21).map(|last| format!("127.0.0.{last}")).collect();
    for plan in [MANY.to_owned(), bound(&twenty[..1])] {
        let (run, report) = run_many(&plan, OWN_TARGET, namespace("40000 40009"))?;
        not_sent(&run, &report, "no_free_port").context(plan)?;
    }
    for (plan, range) in [(MANY.to_owned(), "40000 49999"), (bound(&twenty), "40000 40009")] {
        let (run, _) = run_many(&plan, OWN_TARGET, namespace(range))?;
        ensure!(run.code == Some(0), "without the limit: {run:?}");
    }
    Ok(())
}
