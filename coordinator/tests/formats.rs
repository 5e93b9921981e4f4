//! The formats of the report that programs read: what they say of reports that have everything in them.
#![allow(clippy::unwrap_used, reason = "tests")]

use groundswell_coordinator::report::{Format, Rendered, Report, render};

#[path = "report/samples.rs"]
mod samples;

use samples::{degraded, empty, passing, with_hostile_strings};

fn page(format: Format, report: &Report) -> String {
    let of = Rendered { report, distributions: None, plan: None };
    String::from_utf8(render(format, &of).unwrap()).unwrap()
}

/// A testcase's element up to its end.
fn case<'p>(page: &'p str, name: &str) -> &'p str {
    let start = page.find(&format!("<testcase name=\"{name}\"")).unwrap_or_else(|| panic!("no {name} in {page}"));
    let case = &page[start..];
    let line = case.lines().next().unwrap();
    if line.ends_with("/>") { line } else { &case[..case.find("</testcase>").unwrap()] }
}

#[test]
fn junit_has_a_case_for_the_verdict_and_each_threshold() {
    let page = page(Format::Junit, &degraded());
    let verdict = case(&page, "verdict");
    assert!(verdict.contains("<failure type=\"degraded\"") && verdict.contains("agent agent-c was lost"), "{verdict}");
    let broken = case(&page, "scaling.error_rate &lt; 1% over 10s, stop");
    assert!(broken.contains("it was 6.33 % (stopped the run at 28.0 s)"), "{broken}");
    assert!(case(&page, "live.p99 &lt; 2s").ends_with("/>"), "{page}");
    assert!(case(&page, "checkout.errors &lt; 5").contains("it was no figure"), "{page}");
}

#[test]
fn figures_that_say_nothing_are_an_error_in_junit_and_no_failure() {
    let page = page(Format::Junit, &empty());
    assert!(case(&page, "verdict").contains("<error type=\"invalid\""), "{page}");
    assert!(page.contains("timestamp=\"1970-01-01T00:00:00\""), "{page}");
}

#[test]
fn a_threshold_that_holds_decides_how_many_answers_may_be_unexpected() {
    let mut report = degraded();
    report.thresholds.clear();
    let step = "GET /api/graph/stats?depth={{ depth }}&amp;include=edges,labels,weights";
    let strict = page(Format::Junit, &report);
    let strict = case(&strict, step);
    assert!(strict.contains("<failure type=\"status_503\"") && strict.contains("500 of 8,900 answers"), "{strict}");
    for (text, passed, allowed) in [
        ("error_rate < 10%", true, true),
        ("scaling.checks >= 90%", true, true),
        ("live.errors < 1000", true, false),
        ("scaling.p95 < 1s", true, false),
        ("scaling.error_rate < 1%", false, false),
    ] {
        let mut threshold = degraded().thresholds.remove(0);
        (threshold.text, threshold.passed) = (text.to_owned(), passed);
        report.thresholds = vec![threshold];
        let page = page(Format::Junit, &report);
        assert_eq!(case(&page, step).ends_with("/>"), allowed, "{text}");
    }
}

#[test]
fn a_step_that_was_never_answered_is_skipped_in_junit() {
    let mut report = passing();
    report.steps[0].ok = 0;
    assert!(case(&page(Format::Junit, &report), "search").contains("<skipped/>"));
}

/// What names can hold that a reader would take for something else.
const HOSTILE: &str = "\r\n\"x\",<script>alert(1)</script>&\u{1b}[2J\u{202e}";

#[test]
fn strings_of_others_are_inert_in_xml() {
    for report in [passing(), degraded(), empty()] {
        let (clean, shown) =
            (page(Format::Junit, &report), page(Format::Junit, &with_hostile_strings(&report, HOSTILE)));
        assert!(shown.contains("&lt;script&gt;") && !shown.contains("<script"), "{shown}");
        assert_eq!(shown.matches('<').count(), clean.matches('<').count(), "{shown}");
        assert!(!shown.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'), "{shown:?}");
    }
}

/// The cells of a CSV, read by the reader that plans' data files are read with.
fn cells(text: &str) -> Vec<Vec<String>> {
    assert!(text.ends_with("\r\n"));
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
}

/// The value of a column in a row.
fn cell<'r>(rows: &'r [Vec<String>], row: usize, column: &str) -> &'r str {
    let index = rows[0].iter().position(|name| name == column).unwrap_or_else(|| panic!("no {column}"));
    &rows[row][index]
}

#[test]
fn csv_has_a_row_for_each_step_and_interval() {
    let mut report = degraded();
    report.timeline[0].errors_by_class = [("status_503".to_owned(), 5), ("timeout".to_owned(), 1)].into();
    let rows = cells(&page(Format::Csv, &report));
    assert_eq!(rows.len(), 1 + report.timeline.len());
    let (first, point) = (|column| cell(&rows, 1, column), &report.timeline[0]);
    assert_eq!((first("scenario"), first("level"), first("step")), ("scaling", "5 users", point.step.as_str()));
    assert_eq!((first("t_s"), first("issued"), first("rate_per_s")), ("0", "300", "300"));
    assert_eq!((first("errors_by_class"), first("service_count")), ("status_503=5 timeout=1", "9000"));
    assert_eq!((first("warm_up"), first("response_p99_ms"), first("response_max_ms")), ("true", "1240", "10000"));
}

#[test]
fn csv_of_steps_has_every_step_the_total_and_every_level() {
    let report = degraded();
    let rows = cells(&page(Format::CsvSteps, &report));
    assert_eq!(rows.len(), 1 + report.steps.len() + 1 + report.levels.len());
    assert_eq!((cell(&rows, 3, "step"), cell(&rows, 3, "issued"), cell(&rows, 3, "errors")), ("total", "11000", "630"));
    assert_eq!((cell(&rows, 4, "level"), cell(&rows, 4, "response_p50_ms")), ("5 users", "12.3"));
    assert_eq!((cell(&rows, 1, "tls_count"), cell(&rows, 1, "tls_p99_ms")), ("0", ""), "no sample is no figure");
}

#[test]
fn no_name_is_a_formula_and_none_makes_a_cell_in_csv() {
    for begin in ["=", "+", "-", "@", "\t", "\r"] {
        let mut report = degraded();
        let name = format!("{begin}cmd|' /C calc'!A0,\"b\"\r\nc");
        (report.timeline[0].step, report.steps[0].step) = (name.clone(), name.clone());
        for (format, row) in [(Format::Csv, 1), (Format::CsvSteps, 1)] {
            let rows = cells(&page(format, &report));
            assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{format:?}");
            assert_eq!(cell(&rows, row, "step"), format!("'{name}"));
        }
    }
}

#[test]
fn a_log_of_histograms_needs_histograms() {
    let of = Rendered { report: &passing(), distributions: None, plan: None };
    let error = render(Format::Hlog, &of).unwrap_err().to_string();
    assert!(error.starts_with("hlog is made of the histograms of the run"), "{error}");
}
