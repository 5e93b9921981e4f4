//! Comparing runs of a store, from the command line.

use anyhow::{Context, ensure};
use groundswell_coordinator::compare::{Comparison, Decision, Metric};

use crate::harness::{Daemon, Groundswell, Prepared, Report, folder};

/// Half of its operations go to a server beside the target. Its own delays decide nothing here.
const PLAN: &str = "
max_send_lag: 10s
target: TARGET
scenarios:
  arrive:
    load: { rate: 20/s, for: 10s }
    flow: [ { get: /health, name: check }, { get: BESIDE/health, name: check } ]
compare: { tolerance: { p50: 99%, p90: 99%, p95: 99%, p99: 99% }, least_difference: 1m }
";

fn demo_target() -> anyhow::Result<(Daemon, String)> {
    let mut target = Groundswell::new(["-v", "demo-target", "--listen", "127.0.0.1:0"]).start("target")?;
    let line = target.wait_for("http://")?;
    let url = line.split_whitespace().find(|word| word.starts_with("http://")).context("no URL")?.to_owned();
    Ok((target, url))
}

/// A run with a server less than its baseline had fails by what is compared, and says by how much.
pub(crate) fn regression() -> anyhow::Result<()> {
    let (_target, url) = demo_target()?;
    let (beside, beside_url) = demo_target()?;
    let store = folder()?;
    let data = store.path().join("data").display().to_string();
    let prepared = Prepared::new(&PLAN.replace("BESIDE", &beside_url), &url)?;
    let first = prepared.call("run", &["--data-dir", &data]).finish()?;
    ensure!(first.code == Some(0), "{first:?}");
    let baseline = prepared.report::<Report>()?.run.id;
    drop(beside);

    let second = prepared.call("run", &["--data-dir", &data, "--baseline", "last"]).finish()?;
    ensure!(second.code == Some(1) && second.stdout.contains("REGRESSION  2 of 6 figures worse"), "{second:?}");
    ensure!(prepared.report::<Report>()?.verdict.status.exit_code() == 0, "the verdict is not the comparison's");

    let compare = |more: &[&str]| Groundswell::new([&["compare", "--data-dir", &data], more].concat()).finish();
    let compared = compare(&[&baseline, "last", "--format", "json"])?;
    ensure!(compared.code == Some(1), "{compared:?}");
    let comparison: Comparison = serde_json::from_str(&compared.stdout)?;
    ensure!(comparison.baselines[0].id == baseline, "{comparison:?}");
    let figures = &comparison.requests[0].figures;
    let error_rate = figures.iter().find(|figure| figure.metric == Metric::ErrorRate).context("no error rate")?;
    ensure!(error_rate.decision == Decision::Regression && error_rate.run == Some(0.5), "{error_rate:?}");
    let itself = compare(&[&baseline, &baseline])?;
    ensure!(itself.code == Some(0) && !itself.stdout.contains("regression "), "{itself:?}");
    let page = store.path().join("pr.md");
    let written = compare(&[&baseline, "last", "--out", &page.display().to_string()])?;
    ensure!(written.code == Some(1) && written.stdout.is_empty(), "{written:?}");
    ensure!(std::fs::read_to_string(page)?.starts_with("### ❌ REGRESSION"), "no Markdown");

    let file = store.path().join("baseline.gz").display().to_string();
    let exported = Groundswell::new(["runs", "export", &baseline, &file, "--data-dir", &data]).finish()?;
    ensure!(exported.code == Some(0), "{exported:?}");
    let by_file = compare(&[&file, "last", "--format", "json"])?;
    ensure!(by_file.code == Some(1) && by_file.stdout == compared.stdout, "a file is not the run: {by_file:?}");

    let other = Prepared::new(&PLAN.replace("BESIDE", &url).replace("10s }", "1s }"), &url)?;
    let refused = other.call("run", &["--baseline", &file]).finish()?;
    ensure!(refused.code == Some(2) && refused.stderr.contains("sent other load"), "{refused:?}");
    let run = other.call("run", &["--data-dir", &data]).finish()?;
    ensure!(run.code == Some(0), "{run:?}");
    let refused = compare(&[&baseline, "last"])?;
    ensure!(refused.code == Some(2) && refused.stderr.contains("sent other load"), "{refused:?}");
    let forced = compare(&[&baseline, "last", "--force"])?;
    ensure!(forced.code == Some(0) && forced.stdout.contains("compared by force"), "{forced:?}");
    let strict = compare(&[&baseline, "last", "--force", "--strict"])?;
    ensure!(strict.code == Some(1), "{strict:?}");
    Ok(())
}
