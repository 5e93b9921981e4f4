//! The formats of the report, as readers of other makes take them.

use anyhow::{Context, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Groundswell, Prepared, Report, read_with_python};

const PLAN: &str = r#"
name: "odd <b>&amp; \u0007"
max_send_lag: 10s
target: TARGET
scenarios:
  arrive:
    load: { rate: 40/s, for: 3s }
    flow:
      - get: /health
        name: plain
      - get: /health
        name: "=1+1,\"<script>&\u0001\u001b[2J"
        expect: { json: { $.nothing: 1 } }
thresholds:
  - plain.p95 < 10s
  - plain.p95 < 0.001ms
"#;

/// A stored run that can be asked for every format.
struct Stored {
    prepared: Prepared,
    store: TempDir,
    report: Report,
}

impl Stored {
    fn run() -> anyhow::Result<Self> {
        let mut target = Groundswell::new(["-v", "demo-target", "--listen", "127.0.0.1:0"]).start("target")?;
        let line = target.wait_for("http://")?;
        let url = line.split_whitespace().find(|word| word.starts_with("http://")).context("no URL")?.to_owned();
        let (store, prepared) = (tempfile::tempdir()?, Prepared::new(PLAN, &url)?);
        let data = store.path().join("data").display().to_string();
        let run = prepared.call("run", &["--data-dir", &data]).finish()?;
        ensure!(run.code == Some(1), "{run:?}");
        let report = prepared.report()?;
        Ok(Stored { prepared, store, report })
    }

    /// The path of the report in a format, by `--out` and by `--format` alike.
    fn in_format(&self, format: &str, ending: &str) -> anyhow::Result<String> {
        let path = self.prepared.folder().join(format!("out.{ending}")).display().to_string();
        let data = self.store.path().join("data").display().to_string();
        let arguments = ["report", "last", "--data-dir", &data, "--out", &path, "--format", format];
        let reported = Groundswell::new(arguments).finish()?;
        ensure!(reported.code == Some(0), "{reported:?}");
        ensure!(std::fs::read_to_string(&path)? == reported.stdout, "--format {format} is not --out {path}");
        Ok(path)
    }
}

/// The JUnit file fits the schemas of CI servers, and its outcomes are those of the report.
pub(crate) fn junit() -> anyhow::Result<()> {
    let stored = Stored::run()?;
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/readers/junit-10.xsd");
    let cases = read_with_python("junit.py", &[schema, &stored.in_format("junit", "xml")?])?;
    let outcomes: Vec<[&str; 3]> = cases
        .as_array()
        .context("no cases")?
        .iter()
        .map(|case| [1, 2, 3].map(|field| case[field].as_str().unwrap_or_default()))
        .collect();
    let odd = "=1+1,\"<script>&\u{fffd}\u{fffd}[2J";
    ensure!(
        outcomes
            == [
                ["verdict", "failure", "failed"],
                ["plain.p95 < 10s", "passed", ""],
                ["plain.p95 < 0.001ms", "failure", "threshold"],
                ["plain", "passed", ""],
                [odd, "failure", "expect_json"],
            ],
        "{outcomes:?}"
    );
    let suites: Vec<&Value> = cases.as_array().into_iter().flatten().map(|case| &case[0]).collect();
    ensure!(suites[0] == "odd <b>&amp; \u{fffd}" && suites[4] == "odd <b>&amp; \u{fffd}.arrive", "{suites:?}");
    Ok(())
}
