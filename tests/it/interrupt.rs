//! Runs that end before their schedule.

use std::time::Duration;

use anyhow::{Context, ensure};
use groundswell_coordinator::report::Status;
use rustix::process::Signal;

use crate::harness::{Nginx, Prepared, Report};

pub(crate) fn ctrl_c() -> anyhow::Result<()> {
    let nginx = Nginx::start()?;
    let plan = "
max_send_lag: 10s
target: TARGET
scenarios:
  long:
    load: { rate: 50/s, for: 10m }
    flow: [ { get: /x } ]
  browse:
    load: { users: 2, for: 10m }
    flow: [ { get: /y }, { think: 1h } ]
";
    let prepared = Prepared::new(plan, &nginx.url())?;
    let mut run = prepared.call("run", &[]).start("run")?;
    while nginx.requests()?.get("GET /x").copied().unwrap_or(0) < 60 {
        std::thread::sleep(Duration::from_millis(50));
    }
    run.signal(Signal::INT)?;
    let code = run.wait()?;
    ensure!(code == Some(130), "exit code {code:?}");
    let report: Report = prepared.report()?;
    ensure!(report.verdict.status == Status::Aborted, "{:?}", report.verdict);
    ensure!(report.ledger.balanced, "{:?}", report.ledger);
    ensure!(report.ledger.scheduled > 29_000, "the whole plan is in the account: {:?}", report.ledger);
    let seen: u64 = nginx.requests()?.values().sum();
    ensure!(seen == report.ledger.issued, "nginx saw {seen}: {:?}", report.ledger);
    Ok(())
}

pub(crate) fn threshold_stops() -> anyhow::Result<()> {
    let nginx = Nginx::start()?;
    let plan = "
max_send_lag: 10s
target: TARGET
scenarios:
  failing:
    load: { rate: 50/s, for: 10m }
    flow: [ { get: /missing } ]
thresholds:
  - failing.error_rate < 1% over 2s, stop
";
    let prepared = Prepared::new(plan, &nginx.url())?;
    let run = prepared.call("run", &[]).finish()?;
    ensure!(run.code == Some(1), "{run:?}");
    let report: Report = prepared.report()?;
    ensure!(report.verdict.status == Status::Failed, "{:?}", report.verdict);
    let result = report.thresholds.first().context("no threshold")?;
    // An operation may still be in flight when a second ends, so the rate of a window is not exactly one.
    ensure!(!result.passed && result.value > Some(0.5) && result.aborted_at_s.is_some(), "{result:?}");
    ensure!(report.ledger.balanced, "{:?}", report.ledger);
    Ok(())
}
