//! Plans that want too much or smuggle something in: rows 71 and 72 of the fault matrix. Each is refused with its place, in
//! bounded time and memory.
#![allow(clippy::unwrap_used, reason = "tests")]

use groundswell_scenario::{Plan, PlanSource};

fn refused(text: &str) -> Option<String> {
    let source = PlanSource {
        name: "p.yaml".into(),
        text: text.to_owned(),
        files: std::collections::BTreeMap::new(),
        search_level: None,
    };
    Plan::compile(&source).err().map(|problems| problems.to_string())
}

fn with_load(load: &str) -> String {
    format!("target: http://127.0.0.1:1\nscenarios:\n  s:\n    load: {load}\n    flow: [ {{ get: /x }} ]\n")
}

fn with_step(step: &str) -> String {
    format!("target: http://127.0.0.1:1\nscenarios:\n  s:\n    load: {{ rate: 1/s, for: 1s }}\n    flow: [ {step} ]\n")
}

#[test]
fn numbers_that_no_load_has() {
    assert_eq!(refused(&with_load("{ rate: 10/s, for: 10s }")), None);
    for load in [
        "{ rate: 1000000000000/s, for: 10s }",
        "{ rate: -1/s, for: 10s }",
        "{ rate: .nan/s, for: 10s }",
        "{ rate: .inf, for: 10s }",
        "{ rate: 1e400/s, for: 10s }",
        "{ rate: 1/s, for: 1000000000s }",
        "{ rate: 1/s, for: -1s }",
        "{ rate: 1/s, for: 1e400s }",
        "{ users: 99999999999, for: 10s }",
        "{ users: -1, for: 10s }",
        "{ iterations: 99999999999999999999, users: 1 }",
    ] {
        let problem = refused(&with_load(load)).unwrap_or_else(|| panic!("{load} was taken"));
        assert!(problem.contains("p.yaml:4:"), "{load}: {problem}");
    }
}

#[test]
fn a_million_stages() {
    let stages = vec!["{ to: 5/s, for: 1s }"; 1_000_000].join(", ");
    let problem = refused(&with_load(&format!("{{ rate: {{ stages: [{stages}] }} }}"))).unwrap();
    assert!(problem.len() < 4_000, "the answer is as large as the question: {} bytes", problem.len());
}

#[test]
fn a_hundred_megabytes() {
    let problem = refused(&format!("# {}\n", "x".repeat(100 << 20))).unwrap();
    assert!(problem.contains("the limit is"), "{problem}");
    let deep = format!("vars: {}{}", "[".repeat(200_000), "]".repeat(200_000));
    assert!(refused(&deep).is_some());
}

#[test]
fn nothing_is_smuggled_into_a_request() {
    assert_eq!(refused(&with_step(r#"{ get: /x, headers: { x-y: "a b" } }"#)), None);
    for step in [
        r#"{ get: /x, headers: { x-y: "a\r\nx-evil: 1" } }"#,
        r#"{ get: /x, headers: { x-y: "a\0b" } }"#,
        r#"{ get: /x, headers: { x-y: "a\nb" } }"#,
        r#"{ get: /x, headers: { "x-y: 1\r\nz": "a" } }"#,
        r#"{ get: /x, headers: { "x y": "a" } }"#,
        r#"{ get: /x, host: "a\r\nb" }"#,
        r#"{ get: /x, headers: { host: "a\r\nb" } }"#,
    ] {
        let problem = refused(&with_step(step)).unwrap_or_else(|| panic!("{step} was taken"));
        assert!(problem.contains("p.yaml:5:"), "{step}: {problem}");
    }
}
