//! The report as people and scripts read it: text, Markdown, JSON with its schema, and the page of its figures.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use groundswell_coordinator::report::{
    AgentFigures, Bend, ErrorClassCount, Latency, Ledger, LevelFigures, Reason, Report, RunInfo, SCHEMA, Status,
    StepFigures, TextOptions, ThresholdResult, TimelinePoint, Verdict, explain, json, markdown, text,
};
use serde_json::Value;

const SCHEMA_FILE: &str = include_str!("../../docs/report.schema.json");
const FIGURES_PAGE: &str = include_str!("../../docs/figures.md");

#[test]
fn passing_run() {
    insta::assert_snapshot!("passing_120", plain_text(&passing(), 120));
    insta::assert_snapshot!("passing_80", plain_text(&passing(), 80));
    insta::assert_snapshot!("passing_markdown", markdown(&passing()));
}

#[test]
fn degraded_run() {
    insta::assert_snapshot!("degraded_120", plain_text(&degraded(), 120));
    insta::assert_snapshot!("degraded_80", plain_text(&degraded(), 80));
    insta::assert_snapshot!("degraded_markdown", markdown(&degraded()));
}

#[test]
fn run_without_operations() {
    insta::assert_snapshot!("empty_120", plain_text(&empty(), 120));
    insta::assert_snapshot!("empty_80", plain_text(&empty(), 80));
    insta::assert_snapshot!("empty_markdown", markdown(&empty()));
}

#[test]
fn text_fits_its_width() {
    for width in [80, 100, 120, 200] {
        for report in samples() {
            // The first line is one line at any width, for those who look for it in a log.
            for line in plain_text(&report, width).lines().skip(1) {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
    }
}

#[test]
fn colours_add_escape_sequences_and_nothing_else() {
    for report in samples() {
        let colored = text(&report, &TextOptions { width: 120, color: true });
        assert!(colored.starts_with("\u{1b}["), "{colored}");
        assert_eq!(without_colors(&colored), plain_text(&report, 120));
    }
}

#[test]
fn strings_of_others_can_not_steer_a_terminal() {
    for report in samples() {
        let hostile = with_hostile_strings(&report, "\u{1b}[2J\r\n\u{9b}31m\u{7}\u{202e}FORGED");
        // So wide that nothing wraps: a further line would be one that a string made.
        let (clean, shown) = (plain_text(&report, 5_000), plain_text(&hostile, 5_000));
        assert!(shown.contains("FORGED"), "{shown}");
        assert_eq!(shown.lines().count(), clean.lines().count(), "{shown}");
        let steers = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!shown.contains(steers), "{shown:?}");
    }
}

#[test]
fn strings_of_others_are_inert_in_markdown() {
    for report in samples() {
        let hostile = with_hostile_strings(&report, "\r\n| a | `b` <script>![i](http://x)</script> @all *c* # d");
        let (clean, shown) = (markdown(&report), markdown(&hostile));
        assert_eq!(shown.lines().count(), clean.lines().count(), "{shown}");
        for (shown, clean) in shown.lines().zip(clean.lines()) {
            // In HTML only angle brackets make markup; elsewhere everything that is neither code nor escaped.
            let is_html = clean.starts_with('<');
            // A pipe ends a cell even in code.
            let pipes = |line: &str| if is_html { 0 } else { line.replace("\\|", "").matches('|').count() };
            assert_eq!(pipes(shown), pipes(clean), "{shown}");
            let visible = |line: &str| if is_html { line.to_owned() } else { outside_code(line) };
            let (shown, clean) = (visible(shown), visible(clean));
            assert!(!shown.contains("@all"), "{shown}");
            let shown = shown.replace("&#8203;", "");
            for c in if is_html { "<>" } else { "<>*[#`!" }.chars() {
                assert_eq!(shown.matches(c).count(), clean.matches(c).count(), "{c} in {shown}");
            }
        }
    }
}

#[test]
fn an_account_that_does_not_add_up_says_by_how_much() {
    let mut report = degraded();
    report.ledger.balanced = false;
    report.ledger.scheduled += 3;
    report.ledger.ok += 50;
    let shown = plain_text(&report, 200);
    assert!(shown.contains("NOT BALANCED, 3 without a counter"), "{shown}");
    assert!(shown.contains("NOT BALANCED, 20 more ended than issued"), "{shown}");
}

#[test]
fn json_report_is_what_the_schema_says() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for report in samples() {
        let value = serde_json::from_str(&json(&report).unwrap()).unwrap();
        let problems: Vec<String> = validator.iter_errors(&value).map(|problem| problem.to_string()).collect();
        assert!(problems.is_empty(), "{problems:#?}");
        assert_eq!(serde_json::from_value::<Report>(value).unwrap(), report);
    }
}

#[test]
fn schema_refuses_what_is_no_report() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let good = serde_json::to_value(degraded()).unwrap();
    let cases: [(&str, Value); 6] = [
        ("/schema", "groundswell.report/v2".into()),
        ("/verdict/status", "PASSED".into()),
        ("/total/response_ms/p99", "12.3 ms".into()),
        ("/levels/0/level", Value::Null),
        ("/ledger/shed/max_in_flight", (-1).into()),
        ("/steps/0", serde_json::json!({})),
    ];
    for (pointer, value) in cases {
        let mut report = good.clone();
        *report.pointer_mut(pointer).unwrap() = value;
        assert!(!validator.is_valid(&report), "{pointer}");
    }
}

/// All keys that are in some report but need not be in every one.
#[test]
fn schema_describes_every_key_and_requires_those_that_are_always_there() {
    let schema = schema();
    let mut optional = BTreeSet::new();
    for report in samples() {
        walk(&schema, &schema, &serde_json::to_value(report).unwrap(), "", &mut optional);
    }
    let expected = ["agent", "aborted_at_s", "from_s", "level", "lost_at_s", "to_s"];
    assert_eq!(optional, expected.map(str::to_owned).into());
}

#[test]
fn every_key_and_code_is_defined_in_figures_md() {
    let mut words = BTreeSet::new();
    property_names(&schema(), &mut words);
    assert!(words.contains("response_ms") && words.contains("lost_at_s"), "{words:?}");
    let codes = [
        "ledger",
        "interrupted",
        "generator",
        "client_limit",
        "preflight",
        "machine_busy",
        "queued",
        "telemetry_late",
        "agent_lost",
        "threshold",
        "shed",
        "not_generated",
        "all_failed",
    ];
    words.extend(codes.map(str::to_owned));
    let missing: Vec<&String> = words.iter().filter(|word| !FIGURES_PAGE.contains(&format!("`{word}`"))).collect();
    assert!(missing.is_empty(), "not in docs/figures.md: {missing:?}");
}

#[test]
fn exit_codes_are_those_of_figures_md() {
    for status in [Status::Passed, Status::Failed, Status::Degraded, Status::Invalid, Status::Aborted] {
        let (word, code) = (format!("| `{}` |", status.as_str().to_lowercase()), format!("| {} |", status.exit_code()));
        assert!(FIGURES_PAGE.lines().any(|line| line.starts_with(&word) && line.ends_with(&code)), "{word} … {code}");
    }
}

fn samples() -> [Report; 3] {
    [passing(), degraded(), empty()]
}

fn plain_text(report: &Report, width: usize) -> String {
    text(report, &TextOptions { width, color: false })
}

fn schema() -> Value {
    serde_json::from_str(SCHEMA_FILE).unwrap()
}

/// Follows a report and its schema side by side.
fn walk(root: &Value, schema: &Value, value: &Value, path: &str, optional: &mut BTreeSet<String>) {
    let schemas = resolved(root, schema);
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let path = format!("{path}/{key}");
                let property = schemas.iter().find_map(|schema| schema["properties"].get(key));
                // A map: its keys are data.
                let map =
                    || schemas.iter().find_map(|schema| schema.get("additionalProperties").filter(|s| s.is_object()));
                let Some(property) = property else {
                    assert!(map().is_some(), "{path} is not in the schema");
                    continue;
                };
                let description = property["description"].as_str().unwrap_or_default();
                assert!(description.len() > 3, "{path} has no description");
                let required = schemas.iter().filter_map(|schema| schema["required"].as_array()).flatten();
                if !required.into_iter().any(|name| name == key) {
                    optional.insert(key.clone());
                }
                walk(root, property, value, &path, optional);
            }
        }
        Value::Array(items) => {
            for item in items {
                let of_items = schemas.iter().find_map(|schema| schema.get("items")).unwrap();
                walk(root, of_items, item, path, optional);
            }
        }
        _ => {}
    }
}

/// A schema with all that it refers to.
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    let reference = schema["$ref"].as_str().and_then(|reference| root.pointer(reference.strip_prefix('#')?));
    let parts = schema["allOf"].as_array().into_iter().flatten().chain(reference);
    std::iter::once(schema).chain(parts.flat_map(|part| resolved(root, part))).collect()
}

fn property_names(schema: &Value, names: &mut BTreeSet<String>) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get("properties") {
                names.extend(properties.keys().cloned());
            }
            object.values().for_each(|value| property_names(value, names));
        }
        Value::Array(items) => items.iter().for_each(|item| property_names(item, names)),
        _ => {}
    }
}

fn without_colors(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |shown, part| shown + part.split_once('m').unwrap().1)
}

/// A line of Markdown without its code spans and its escaped characters.
fn outside_code(line: &str) -> String {
    let mut outside = String::new();
    let (mut in_code, mut escaped) = (false, false);
    for c in line.chars() {
        match c {
            '`' if in_code || !escaped => in_code = !in_code,
            '\\' if !in_code && !escaped => {
                escaped = true;
                continue;
            }
            _ if !in_code && !escaped => outside.push(c),
            _ => {}
        }
        escaped = false;
    }
    assert!(!in_code, "a code span does not end: {line}");
    outside
}

/// Appends a text to every string and to every key that is data.
fn with_hostile_strings(report: &Report, text: &str) -> Report {
    fn spoil(key: &str, value: Value, text: &str) -> Value {
        match value {
            Value::String(old) if !["schema", "status"].contains(&key) => Value::String(old + text),
            Value::Array(items) => items.into_iter().map(|item| spoil(key, item, text)).collect(),
            Value::Object(object) => {
                let data = ["labels", "unsent", "shed", "not_generated"].contains(&key);
                let name = |name: String| if data { name + text } else { name };
                object.into_iter().map(|(key, value)| (name(key.clone()), spoil(&key, value, text))).collect()
            }
            other => other,
        }
    }
    serde_json::from_value(spoil("", serde_json::to_value(report).unwrap(), text)).unwrap()
}

/// min, mean, p50, p90, p95, p99, p99.9, p99.99, max.
fn latency(count: u64, ms: [f64; 9]) -> Latency {
    if count == 0 {
        return Latency::default();
    }
    let [min, mean, p50, p90, p95, p99, p999, p9999, max] = ms.map(Some);
    Latency { count, min, mean, p50, p90, p95, p99, p999, p9999, max, clamped: 0 }
}

fn lag(count: u64) -> Latency {
    latency(count, [0.004, 0.031, 0.021, 0.052, 0.084, 0.412, 0.9, 1.1, 1.3])
}

/// A step of which everything went well; its service times are 80 % of its response times.
fn step(scenario: &str, step: &str, kind: &str, issued: u64, duration_s: f64, ms: [f64; 9]) -> StepFigures {
    let response_ms = latency(issued, ms);
    StepFigures {
        scenario: scenario.to_owned(),
        step: step.to_owned(),
        kind: kind.to_owned(),
        scheduled: issued,
        issued,
        ok: issued,
        errors: 0,
        error_classes: Vec::new(),
        unsent: 0,
        shed: 0,
        not_generated: 0,
        rate_per_s: issued as f64 / duration_s,
        throughput_per_s: issued as f64 / duration_s,
        error_rate: 0.0,
        messages_sent: 0,
        messages_received: 0,
        bytes_sent: issued * 120,
        bytes_received: issued * 4_096,
        response_ms,
        response_ok_ms: response_ms,
        response_failed_ms: Latency::default(),
        service_ms: latency(issued, ms.map(|ms| ms * 0.8)),
        send_lag_ms: lag(issued),
        queue_ms: Latency::default(),
        connect_ms: latency(issued.min(20), [0.05, 0.09, 0.08, 0.12, 0.14, 0.2, 0.2, 0.2, 0.2]),
        dns_ms: Latency::default(),
        tls_ms: Latency::default(),
        body_ms: Latency::default(),
        follow_ups: 0,
        first_byte_ms: latency(issued, ms.map(|ms| ms * 0.7)),
        response_histogram: "HISTFAAAAA==".to_owned(),
    }
}

/// Makes some of the issued operations fail.
fn failing(mut figures: StepFigures, classes: &[(&str, u64)], in_flight: u64) -> StepFigures {
    let class = |(class, count): &(&str, u64)| ErrorClassCount {
        class: (*class).to_owned(),
        count: *count,
        explanation: explain(class),
    };
    figures.error_classes = classes.iter().map(class).collect();
    figures.errors = classes.iter().map(|(_, count)| count).sum();
    figures.throughput_per_s *= (figures.issued - figures.errors - in_flight) as f64 / figures.issued as f64;
    figures.ok = figures.issued - figures.errors - in_flight;
    figures.error_rate = figures.errors as f64 / figures.issued as f64;
    figures
}

fn agent(name: &str, share: f64, issued: u64, errors: u64, lost_at_s: Option<f64>) -> AgentFigures {
    AgentFigures {
        name: name.to_owned(),
        share,
        issued,
        ok: issued - errors,
        errors,
        response_ms: latency(issued, [0.834, 3.4, 2.1, 6.2, 9.9, 24.6, 61.0, 75.2, 80.1]),
        send_lag_ms: lag(issued),
        cpu: 0.31,
        clock_bound_ms: 0.084,
        lost_at_s,
    }
}

fn reason(code: &str, message: &str) -> Reason {
    Reason { code: code.to_owned(), message: message.to_owned(), agent: None, from_s: None, to_s: None }
}

fn threshold(text: &str, value: Option<f64>, unit: &str, passed: bool) -> ThresholdResult {
    ThresholdResult { text: text.to_owned(), value, unit: unit.to_owned(), passed, aborted_at_s: None }
}

fn run(name: &str, agents: usize, duration_s: f64, scenarios: &[&str]) -> RunInfo {
    RunInfo {
        id: "2026-01-02-graph-api-7f3a".to_owned(),
        name: name.to_owned(),
        target: "http://127.0.0.1:8088".to_owned(),
        started_at: Some("2026-01-02T03:04:05.678Z".to_owned()),
        duration_s,
        agents,
        plan_hash: "9c1185a5c5e9fc54".to_owned(),
        version: "0.1.0".to_owned(),
        labels: BTreeMap::new(),
        scenarios: scenarios.iter().map(|name| (*name).to_owned()).collect(),
        insecure: false,
        transport: "direct".into(),
    }
}

fn point(t_s: f64, level: Option<&str>, figures: &StepFigures) -> TimelinePoint {
    TimelinePoint {
        t_s,
        length_s: 1.0,
        scenario: figures.scenario.clone(),
        level: level.map(str::to_owned),
        warm_up: t_s == 0.0,
        step: figures.step.clone(),
        issued: 300,
        ok: 300,
        errors: 0,
        response_ms: figures.response_ms,
    }
}

/// Two steps, everything well.
fn passing() -> Report {
    let search = step("search", "search", "http", 6_345, 30.0, [0.834, 3.4, 2.1, 6.2, 9.9, 24.6, 61.0, 75.2, 80.1]);
    let traverse =
        step("search", "traverse", "http", 6_000, 30.0, [1.204, 8.1, 6.0, 14.2, 19.8, 52.9, 130.4, 1_180.0, 1_240.0]);
    let total = step("", "total", "all", 12_345, 30.0, [0.834, 5.7, 4.2, 11.6, 15.1, 44.2, 118.0, 980.0, 1_240.0]);
    Report {
        schema: SCHEMA.to_owned(),
        run: RunInfo {
            labels: [("branch".to_owned(), "main".to_owned())].into(),
            ..run("graph-api", 3, 30.0, &["search"])
        },
        verdict: Verdict { status: Status::Passed, reasons: Vec::new() },
        ledger: Ledger { scheduled: 12_345, issued: 12_345, ok: 12_345, balanced: true, ..Ledger::default() },
        timeline: vec![point(0.0, None, &search), point(1.0, None, &traverse)],
        steps: vec![search, traverse],
        total,
        levels: Vec::new(),
        bends: Vec::new(),
        warnings: Vec::new(),
        agents: ["agent-a", "agent-b", "agent-c"].map(|name| agent(name, 1.0 / 3.0, 4_115, 0, None)).into(),
        thresholds: vec![
            threshold("search.p95 < 50ms", Some(9.9), "ms", true),
            threshold("search.error_rate < 1%", Some(0.0), "ratio", true),
            threshold("throughput > 100/s", Some(411.5), "/s", true),
        ],
    }
}

/// A lost agent, a broken threshold that stopped the run, a sweep, a WebSocket, errors of several classes, shed and not
/// generated operations, operations of unknown fate.
fn degraded() -> Report {
    let ms = [0.912, 48.0, 12.3, 88.0, 240.0, 1_240.0, 9_400.0, 9_940.0, 10_000.0];
    let http =
        step("scaling", "GET /api/graph/stats?depth={{ depth }}&include=edges,labels,weights", "http", 9_000, 30.0, ms);
    let mut http = failing(http, &[("status_503", 500), ("timeout", 60), ("connection_reset", 10)], 30);
    (http.scheduled, http.shed, http.not_generated) = (10_000, 300, 700);
    let mut pong = step("live", "receive pong", "receive", 2_000, 30.0, ms.map(|ms| ms / 10.0));
    pong = failing(pong, &[("ws_receive_timeout", 50), ("ws_closed_1006", 6), ("aborted", 4)], 0);
    (pong.messages_sent, pong.messages_received) = (0, 2_150);
    let total = step("", "total", "all", 11_000, 30.0, ms);
    let classes =
        [("status_503", 500), ("timeout", 110), ("connection_reset", 10), ("ws_closed_1006", 6), ("aborted", 4)];
    let mut total = failing(total, &classes, 30);
    (total.scheduled, total.shed, total.not_generated, total.messages_received) = (12_000, 300, 700, 2_150);
    total.response_ms.clamped = 2;
    let levels =
        [("5 users", 2_000, 0), ("10 users", 3_800, 20), ("20 users", 3_200, 550)].map(|(level, issued, errors)| {
            let figures = step("scaling", &http.step, "http", issued, 10.0, ms.map(|ms| ms * issued as f64 / 2_000.0));
            LevelFigures { level: level.to_owned(), figures: failing(figures, &[("status_503", errors)], 0) }
        });
    let lost = "agent agent-c was lost at 12.0 s (no heartbeat for 3 s); its figures count up to 11.0 s. Not offered: 700 \
                scheduled operations";
    let lost = reason("agent_lost", lost);
    let broken = reason("threshold", "scaling.error_rate < 1% over 10s, stop does not hold: it was 6.33 %");
    let stopped = Some(28.0);
    Report {
        schema: SCHEMA.to_owned(),
        run: RunInfo { insecure: true, ..run("nightly", 3, 28.4, &["scaling", "live"]) },
        verdict: Verdict {
            status: Status::Degraded,
            reasons: vec![
                Reason { agent: Some("agent-c".to_owned()), from_s: Some(11.0), to_s: Some(28.4), ..lost },
                Reason { from_s: stopped, ..broken },
                reason("shed", "300 operations were shed: too many were in flight already"),
            ],
        },
        ledger: Ledger {
            scheduled: 12_000,
            issued: 11_000,
            ok: 10_340,
            errors: 516,
            timeout: 110,
            aborted: 4,
            unsent: BTreeMap::new(),
            shed: [("max_in_flight".to_owned(), 300)].into(),
            not_generated: [("agent_lost".to_owned(), 700)].into(),
            unknown_max: 130,
            warm_up: 1_200,
            balanced: true,
        },
        timeline: vec![point(0.0, Some("5 users"), &http), point(0.0, None, &pong)],
        steps: vec![http, pong],
        total,
        levels: levels.into(),
        bends: vec![Bend {
            scenario: "scaling".to_owned(),
            level: Some("10 users".to_owned()),
            throughput_per_s: 378.0,
            message: "scaling: the target bends at about 10 users (378/s, p95 456.0 ms): 100 % more load brings -30 % \
                      throughput and a p95 of 384.0 ms; plan for no more than 10 users"
                .to_owned(),
        }],
        warnings: vec![
            reason(
                "preflight",
                "agent agent-a may need 1064 open files but may have 1024; raise the limit (ulimit -n)",
            ),
            reason("telemetry_late", "figures of agent agent-b came up to 6.1 s late"),
        ],
        agents: vec![
            agent("agent-a", 0.4, 4_800, 300, None),
            agent("agent-b", 0.4, 4_700, 310, None),
            agent("agent-c", 0.2, 1_500, 20, Some(12.0)),
        ],
        thresholds: vec![
            ThresholdResult {
                aborted_at_s: stopped,
                ..threshold("scaling.error_rate < 1% over 10s, stop", Some(0.0633), "ratio", false)
            },
            threshold("live.p99 < 2s", Some(124.0), "ms", true),
            threshold("checkout.errors < 5", None, "count", false),
        ],
    }
}

/// Nothing was issued, and the account does not add up.
fn empty() -> Report {
    let total = StepFigures { scheduled: 5, ..step("", "total", "all", 0, 1.0, [0.0; 9]) };
    Report {
        schema: SCHEMA.to_owned(),
        run: RunInfo { started_at: None, ..run("empty", 1, 0.0, &[]) },
        verdict: Verdict {
            status: Status::Invalid,
            reasons: vec![reason("ledger", "the account does not add up: 5 operations scheduled but 0 accounted for")],
        },
        ledger: Ledger { scheduled: 5, ..Ledger::default() },
        total,
        steps: Vec::new(),
        levels: Vec::new(),
        bends: Vec::new(),
        warnings: Vec::new(),
        agents: vec![agent("agent-a", 1.0, 0, 0, None)],
        thresholds: Vec::new(),
        timeline: Vec::new(),
    }
}
