//! What a store has, by the commands that show it.

use anyhow::ensure;
use rustix::process::Signal;

use crate::harness::{Api, Groundswell, Prepared, Report, agent, demo_target, serve_on};

const PLAN: &str = "
max_send_lag: 10s
target: TARGET
scenarios:
  arrive:
    load: { rate: 20/s, for: 1s }
    flow: [ { get: /health } ]
";

/// A run is kept with its report, listed, reported again, made small, and deleted when it is old.
pub(crate) fn kept() -> anyhow::Result<()> {
    let (_target, url) = demo_target()?;
    let store = tempfile::tempdir()?;
    let data = store.path().join("data").display().to_string();
    let (mut coordinator, address) = serve_on("127.0.0.1:0", data.as_ref())?;
    let _agent = agent(&address, "a", None)?;
    let prepared = Prepared::new(PLAN, &url)?;
    let run = prepared.call_on("run", &address, "1").finish()?;
    ensure!(run.code == Some(0), "{run:?}");
    let first: Report = prepared.report()?;
    let busy = Groundswell::new(["runs", "--data-dir", &data]).finish()?;
    ensure!(busy.code == Some(2) && busy.stderr.contains("in use by another coordinator"), "{busy:?}");
    coordinator.signal(Signal::TERM)?;
    ensure!(coordinator.wait()? == Some(0), "the coordinator did not end well");

    let listed = Groundswell::new(["runs", "--data-dir", &data]).finish()?;
    ensure!(listed.stdout.contains(&first.run.id) && listed.stdout.contains("exit code 0"), "{listed:?}");
    let again = || -> anyhow::Result<Report> {
        let out = store.path().join("again.json").display().to_string();
        let reported = Groundswell::new(["report", "last", "--data-dir", &data, "--out", &out]).finish()?;
        ensure!(reported.code == Some(0), "{reported:?}");
        Ok(serde_json::from_str(&std::fs::read_to_string(out)?)?)
    };
    ensure!(again()? == first, "the stored report is another one");
    let tidied = Groundswell::new(["runs", "tidy", "--data-dir", &data]).finish()?;
    ensure!(tidied.code == Some(0) && tidied.stderr.contains(&format!("merged: {}", first.run.id)), "{tidied:?}");
    ensure!(again()? == first, "the report of a run that was made small is another one");
    let unknown = Groundswell::new(["report", "nothing", "--data-dir", &data]).finish()?;
    ensure!(unknown.code == Some(2) && unknown.stderr.contains("no run nothing in the store"), "{unknown:?}");
    let pruned = Groundswell::new(["runs", "tidy", "--older-than", "0", "--data-dir", &data]).finish()?;
    ensure!(pruned.stderr.contains(&format!("deleted: {}", first.run.id)), "{pruned:?}");
    let none = Groundswell::new(["runs", "--data-dir", &data]).finish()?;
    ensure!(none.stdout == "no runs\n", "{none:?}");
    Ok(())
}

/// A run goes from one store into another as a file, and only the newest runs are kept.
pub(crate) fn moved() -> anyhow::Result<()> {
    let (_target, url) = demo_target()?;
    let prepared = Prepared::new(PLAN, &url)?;
    let data = |name: &str| prepared.folder().join(name).display().to_string();
    let (from, to, file) = (data("from"), data("to"), data("a.run.json.gz"));
    let run = prepared.call("run", &["--data-dir", &from, "--label", "branch=mine"]);
    let run = run.env("GITLAB_CI", "true").env("CI_COMMIT_SHA", "c0ffee").env("CI_COMMIT_BRANCH", "theirs").finish()?;
    ensure!(run.code == Some(0), "{run:?}");
    let first: Report = prepared.report()?;
    let labels = [("branch", "mine"), ("ci", "gitlab"), ("commit", "c0ffee")];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    ensure!(first.run.labels == labels.into(), "{:?}", first.run.labels);

    let runs = |arguments: &[&str]| Groundswell::new([&["runs"], arguments].concat()).finish();
    let exported = runs(&["export", "last", &file, "--data-dir", &from])?;
    ensure!(exported.code == Some(0), "{exported:?}");
    let imported = runs(&["import", &file, "--data-dir", &to])?;
    ensure!(
        imported.code == Some(0) && imported.stderr.contains(&format!("imported: {}", first.run.id)),
        "{imported:?}"
    );
    let again = runs(&["import", &file, "--data-dir", &to])?;
    ensure!(again.code == Some(0) && again.stderr.contains("is there already"), "{again:?}");
    for format in ["json", "html", "hlog"] {
        let report = |data: &str| {
            let arguments = ["report", &first.run.id, "--format", format, "--data-dir", data];
            Groundswell::new(arguments).finish()
        };
        let (theirs, ours) = (report(&from)?, report(&to)?);
        ensure!(theirs.code == Some(0) && theirs.stdout == ours.stdout, "{format}: {ours:?}");
    }
    std::fs::write(&file, "nothing")?;
    let broken = runs(&["import", &file, "--data-dir", &to])?;
    ensure!(broken.code == Some(2) && broken.stderr.contains("no run that can be imported"), "{broken:?}");

    let unlabelled = prepared.call("run", &["--data-dir", &to, "--no-ci-labels"]).env("GITLAB_CI", "true").finish()?;
    ensure!(unlabelled.code == Some(0), "{unlabelled:?}");
    ensure!(prepared.report::<Report>()?.run.labels.is_empty(), "labels without being asked");
    let tidied = runs(&["tidy", "--keep", "1", "--data-dir", &to])?;
    ensure!(tidied.stderr.contains(&format!("deleted: {}", first.run.id)), "{tidied:?}");
    Ok(())
}

/// A coordinator deletes what it is not to keep by itself.
pub(crate) fn kept_small() -> anyhow::Result<()> {
    let (_target, url) = demo_target()?;
    let store = tempfile::tempdir()?;
    let data = store.path().join("data").display().to_string();
    let prepared = Prepared::new(PLAN, &url)?;
    for _ in 0..2 {
        let run = prepared.call("run", &["--data-dir", &data]).finish()?;
        ensure!(run.code == Some(0), "{run:?}");
    }
    let last: Report = prepared.report()?;
    let arguments = ["-v", "serve", "--listen", "127.0.0.1:0", "--data-dir", &data, "--keep", "1"];
    let mut coordinator = Groundswell::new(arguments).start("serve")?;
    let line = coordinator.wait_for("coordinator listening on ")?;
    let api = Api::of(line.rsplit(' ').next().unwrap_or_default())?;
    coordinator.wait_for("old runs deleted")?;
    let runs = api.get("/runs")?.json()?;
    ensure!(runs.as_array().is_some_and(|runs| runs.len() == 1) && runs[0]["id"] == last.run.id.as_str(), "{runs}");
    Ok(())
}
