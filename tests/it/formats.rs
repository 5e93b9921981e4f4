//! The formats of the report, as readers of other makes take them.

use anyhow::{Context, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Groundswell, Prepared, Report, demo_target, read_with_python};

/// Tag of the step with the odd name: blanks, commas and control characters are replaced.
const ODD_TAG: &str = "arrive/=1+1_\"<script>&__[2J";

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
        let (_target, url) = demo_target()?;
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

/// The figures of an hlog, read by HdrHistogram's port to Python, are those of the report; the hgrm has them too.
pub(crate) fn histograms() -> anyhow::Result<()> {
    let stored = Stored::run()?;
    let (hlog, hgrm) = (stored.in_format("hlog", "hlog")?, stored.in_format("hgrm", "hgrm")?);
    let read = read_with_python("hlog.py", &[&hlog, &hgrm])?;
    let tags = read["tags"].as_object().context("no tags")?;
    let rows = stored.report.steps.iter().chain([&stored.report.total]).zip(["arrive/plain", ODD_TAG, "all"]);
    ensure!(tags.len() == 3, "{:?}", tags.keys());
    for (row, tag) in rows {
        let (of_tag, response) = (&tags[tag], &row.response_ms);
        ensure!(of_tag["count"] == row.issued, "{tag}: {of_tag}");
        let figures = [("50", response.p50), ("90", response.p90), ("99", response.p99), ("99.9", response.p999)];
        for (percentile, ms) in figures {
            let (theirs, ours) = (of_tag[percentile].as_f64().context("no percentile")?, ms.context("no figure")?);
            // Both are the end of the same bucket; ours never exceeds the exact maximum.
            let same = (theirs - ours).abs() < 1e-9 || (response.max == Some(ours) && theirs <= ours * 1.001);
            ensure!(same && theirs >= ours - 1e-9, "{tag} p{percentile}: {theirs} ms in the log, {ours} ms reported");
        }
    }
    let started = humantime::parse_rfc3339(stored.report.run.started_at.as_deref().unwrap_or_default())?;
    let started = started.duration_since(std::time::UNIX_EPOCH)?.as_secs_f64();
    ensure!((read["start_s"].as_f64().unwrap_or_default() - started).abs() < 0.002, "{read}");
    ensure!(read["seconds"] == serde_json::json!([0, 1, 2]), "{read}");
    let footer = std::fs::read_to_string(hgrm)?;
    ensure!(footer.contains("#[Max     =") && footer.contains("SubBuckets     =         2048]"), "{footer}");
    Ok(())
}

/// A spreadsheet's reader gets the rows of the timeline and of the steps, and no formula.
pub(crate) fn csv() -> anyhow::Result<()> {
    let stored = Stored::run()?;
    let timeline = read_with_python("csv_rows.py", &[&stored.in_format("csv", "csv")?])?;
    let timeline = timeline.as_array().context("no rows")?;
    ensure!(timeline.len() == stored.report.timeline.len(), "{} rows", timeline.len());
    let issued: u64 = timeline.iter().filter_map(|row| row["issued"].as_str()?.parse::<u64>().ok()).sum();
    ensure!(issued == stored.report.ledger.issued, "{issued} issued in the rows");
    let steps = read_with_python("csv_rows.py", &[&stored.in_format("csv-steps", "steps.csv")?])?;
    let names: Vec<&str> = steps.as_array().into_iter().flatten().filter_map(|row| row["step"].as_str()).collect();
    ensure!(names.len() == 3 && names[0] == "plain" && names[1].starts_with("'=1+1,\"<script>&"), "{names:?}");
    Ok(())
}

/// The page of a real run has its charts, the wanted rate among them, and nothing of what a name tried.
pub(crate) fn html() -> anyhow::Result<()> {
    let stored = Stored::run()?;
    let page = std::fs::read_to_string(stored.in_format("html", "html")?)?;
    for shown in ["Response time, every operation", "Response time by percentile", ">wanted<", "<td>80/s</td></tr>"] {
        ensure!(page.contains(shown), "no {shown}");
    }
    ensure!(!page.contains("<script") && !page.contains("<b>&amp;amp;"), "a name got through");
    Ok(())
}
