//! The report as a page: complete, inert, and small enough for a mail.
#![allow(clippy::unwrap_used, reason = "tests")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use groundswell_coordinator::report::{
    Distributions, Format, Interval, LoadPoint, Rendered, Report, StepDistributions, TimelinePoint, render,
};
use groundswell_scenario::{Plan, PlanSource};
use groundswell_stats::{Distribution, Series};
use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};

#[path = "report/samples.rs"]
mod samples;

use samples::{degraded, empty, passing, with_hostile_strings};

fn page(of: &Rendered<'_>) -> String {
    String::from_utf8(render(Format::Html, of).unwrap()).unwrap()
}

fn without_histograms(report: &Report) -> String {
    page(&Rendered { report, distributions: None, plan: None })
}

/// Gives a report so many seconds of timeline, with histograms behind every figure.
fn with_histograms(mut report: Report, seconds: u64) -> (Report, Distributions) {
    let patterns: Vec<Series> = (0..7).map(pattern).collect();
    let point = passing().timeline.remove(0);
    let mut steps = Vec::new();
    report.timeline.clear();
    report.load.clear();
    for row in &mut report.steps {
        let mut response = Series::default();
        let mut intervals = Vec::new();
        for second in 0..seconds {
            let series = patterns[second as usize % patterns.len()].clone();
            response.merge(&series).unwrap();
            report.load.push(LoadPoint {
                t_s: second as f64,
                length_s: 1.0,
                wanted_per_s: 0.0,
                users: 10.0,
                in_flight: 3,
                open_sockets: 0,
            });
            report.timeline.push(TimelinePoint {
                t_s: second as f64,
                length_s: 1.0,
                scenario: row.scenario.clone(),
                step: row.step.clone(),
                warm_up: false,
                issued: 60,
                ok: 58,
                errors: 1,
                errors_by_class: [("timeout".to_owned(), 1)].into(),
                ..point.clone()
            });
            intervals.push(Interval {
                from_s: second,
                length_s: 1,
                issued: 60,
                ok: 58,
                failed: 1,
                failures: std::collections::BTreeMap::new(),
                response: series,
                service: Series::default(),
            });
        }
        let mut packed = Vec::new();
        let histogram = Distribution::of([&response]).unwrap().histogram();
        V2DeflateSerializer::new().serialize(&histogram, &mut packed).unwrap();
        row.response_histogram = BASE64.encode(packed);
        report.total.response_histogram.clone_from(&row.response_histogram);
        steps.push(StepDistributions {
            scenario: row.scenario.clone(),
            level: None,
            step: row.step.clone(),
            kind: row.kind.clone(),
            warm_up: false,
            service: response.clone(),
            response,
            intervals,
        });
    }
    (report, Distributions { steps, load: Vec::new() })
}

/// Response times of one second, between 1 and 81 ms.
fn pattern(number: u64) -> Series {
    let mut series = Series::default();
    (1..60).for_each(|n| series.record(900 + (number * 1_237 + n * n * n * 13) % 80_000));
    series
}

/// The element of a chart, by its title.
fn chart<'p>(page: &'p str, title: &str) -> &'p str {
    let caption = format!("<figcaption>{title}</figcaption>");
    let start = page.find(&caption).unwrap_or_else(|| panic!("no chart {title}"));
    &page[start..start + page[start..].find("</figure>").unwrap()]
}

#[test]
fn it_says_what_every_other_format_says() {
    let page = without_histograms(&degraded());
    for shown in [
        "<span class=\"verdict middling\">DEGRADED</span> nightly",
        "agent agent-c was lost at 12.0 s",
        "scaling.error_rate &lt; 1% over 10s, stop",
        "Levels of scaling",
        "the target bends at about 10 users",
        "no healthy server",
        "scheduled 12,000 = issued 11,000",
        "the coordinator was restarted",
        "lobby: messages of other rooms that arrived here: 1",
        "figures of agent agent-b came up to 6.1 s late",
    ] {
        assert!(page.contains(shown), "{shown}");
    }
    assert!(without_histograms(&empty()).contains("the account does not add up"));
}

#[test]
fn it_has_every_chart() {
    let (report, distributions) = with_histograms(degraded(), 30);
    let page = page(&Rendered { report: &report, distributions: Some(&distributions), plan: None });
    for title in [
        "Throughput",
        "Response time",
        "Response time, every operation",
        "Errors by class",
        "Load",
        "Response time by percentile",
        "WebSocket connections open",
        "Throughput of scaling",
        "Throughput by level",
        "p95 of the response time by level",
    ] {
        let chart = chart(&page, title);
        assert!(chart.contains("<svg role=\"img\"") && chart.contains("<desc"), "{title}: {chart}");
    }
    assert!(chart(&page, "Throughput").matches("class=\"mark\"").count() == report.marks.len());
    assert!(chart(&page, "Response time").contains("<tr><th>29</th>"), "the last second is in the table");
    let without = without_histograms(&report);
    assert!(without.contains("histograms are not beside this report") && !without.contains("every operation</fig"));
}

#[test]
fn the_wanted_rate_of_open_loads_stands_beside_what_was_achieved() {
    let text = "
target: http://127.0.0.1:1
scenarios:
  search:
    load: { rate: 120/s, for: 10s }
    flow: [ { get: /a, name: search }, { get: /b, name: traverse } ]
";
    let source = PlanSource {
        name: "plan.yaml".to_owned(),
        text: text.to_owned(),
        files: std::collections::BTreeMap::new(),
        search_level: None,
    };
    let plan = Plan::compile(&source).unwrap();
    let (report, distributions) = with_histograms(passing(), 12);
    let page = page(&Rendered { report: &report, distributions: Some(&distributions), plan: Some(&plan) });
    let chart = chart(&page, "Throughput");
    // Two operations for each iteration, up to the end of the load.
    assert!(chart.contains("<tr><th>9</th><td>120/s</td><td>116/s</td><td>240/s</td></tr>"), "{chart}");
    assert!(chart.contains("<tr><th>10</th><td>120/s</td><td>116/s</td><td>0/s</td></tr>"), "{chart}");
}

#[test]
fn strings_of_others_are_inert() {
    let text = "\r\n\"'><script>alert(1)</script><svg onload=alert(1)>&\u{1b}[2J\u{202e}";
    for report in [passing(), degraded(), empty()] {
        let (clean, distributions) = with_histograms(report, 5);
        let hostile = with_hostile_strings(&clean, text);
        let mut theirs = distributions.clone();
        theirs.steps.iter_mut().for_each(|step| {
            step.scenario += text;
            step.step += text;
        });
        let clean = page(&Rendered { report: &clean, distributions: Some(&distributions), plan: None });
        let shown = page(&Rendered { report: &hostile, distributions: Some(&theirs), plan: None });
        assert!(shown.contains("&lt;script&gt;") && !shown.contains("<script"), "{shown}");
        // The histograms are strings too, and can no longer be read: their chart is gone, nothing else.
        let tags = |page: &str| page.replace(chart_of_percentiles(page), "").matches('<').count();
        assert_eq!(tags(&shown), tags(&clean));
        assert!(!shown.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'));
    }
}

/// The whole figure of the percentile plot, if there is one.
fn chart_of_percentiles(page: &str) -> &str {
    let Some(at) = page.find("<figure><figcaption>Response time by percentile<") else { return "\u{0}" };
    &page[at..at + page[at..].find("</figure>\n").unwrap() + "</figure>\n".len()]
}

#[test]
fn it_asks_nobody_for_anything_and_is_well_formed() {
    let (report, distributions) = with_histograms(degraded(), 20);
    let page = page(&Rendered { report: &report, distributions: Some(&distributions), plan: None });
    for outside in ["src=", "href=", "url(", "@import", "<script", "<link", "<iframe"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("default-src 'none'; style-src 'unsafe-inline'"));
    let mut open = Vec::new();
    for tag in page.split('<').skip(1) {
        let (inside, _) = tag.split_once('>').unwrap();
        let name = inside.split_whitespace().next().unwrap();
        match name.strip_prefix('/') {
            Some(closed) => assert_eq!(open.pop(), Some(closed), "{tag}"),
            None if inside.ends_with('/') || ["!doctype", "meta"].contains(&name) => {}
            None => open.push(name),
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn the_longest_timeline_of_many_steps_fits_into_a_mail() {
    let mut report = passing();
    let step = report.steps[0].clone();
    report.steps = (0..30)
        .map(|n| groundswell_coordinator::report::StepFigures { step: format!("step {n}"), ..step.clone() })
        .collect();
    let (report, distributions) = with_histograms(report, 900);
    let page = page(&Rendered { report: &report, distributions: Some(&distributions), plan: None });
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
}
