//! The report as people and scripts read it: text, Markdown, JSON with its schema, and the page of its figures.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use groundswell_coordinator::report::{Report, Status, TextOptions, json, markdown, text};
use serde_json::Value;

#[path = "report/samples.rs"]
mod samples;

use samples::{degraded, empty, passing, with_hostile_strings};

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
        "not_allowed",
        "insecure",
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
