//! The formats of the report that programs read: what they say of reports that have everything in them.
#![allow(clippy::unwrap_used, reason = "tests")]

use groundswell_coordinator::report::{Format, Rendered, Report, render};

#[path = "report/samples.rs"]
mod samples;

use samples::{degraded, empty, passing};

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
