//! What a person sees of a plan with problems: a snapshot of each kind.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use groundswell_scenario::{Plan, PlanSource};

fn source(text: &str) -> PlanSource {
    let files = [
        ("words.csv".to_owned(), Ok(b"word,limit\nrust,1\ngraph,2\n".to_vec())),
        ("empty.csv".to_owned(), Ok(b"word,limit\n".to_vec())),
        ("ragged.csv".to_owned(), Ok(b"word,limit\nrust\n".to_vec())),
        ("gone.csv".to_owned(), Err("No such file or directory".to_owned())),
    ];
    PlanSource { name: "plan.yaml".into(), text: text.into(), files: BTreeMap::from(files), search_level: None }
}

fn check(text: &str) -> String {
    match Plan::compile(&source(text)) {
        Ok(_) => "valid\n".to_owned(),
        Err(problems) => problems.to_string(),
    }
}

/// A plan with these lines for its only scenario.
fn scenario(lines: &str) -> String {
    format!("target: http://localhost\nscenarios:\n  one:\n{lines}\n")
}

const LOAD: &str = "    load: { users: 1, for: 1s }\n";

macro_rules! problems {
    ($($name:ident: $plan:expr;)*) => {
        $(#[test]
        fn $name() {
            let mut settings = insta::Settings::clone_current();
            settings.set_omit_expression(true);
            settings.bind(|| insta::assert_snapshot!(stringify!($name), check(&$plan)));
        })*
    };
}

problems! {
    tolerances: format!(
        "{}compare: {{ tolerance: {{ p98: 5%, p99: 150%, throughput: fast }}, least_diference: 1ms }}\n",
        scenario("    load: { users: 1, for: 1s }\n    flow: [ { get: /x } ]")
    );
    unknown_key: scenario("    load: { users: 1, fro: 1s }\n    flow: [ { get: /x, exspect: {} } ]");
    rate_beyond_reason: scenario("    load: { rate: 1000000000000/s, for: 10s }\n    flow: [ { get: /x } ]");
    rate_that_is_none: scenario("    load: { rate: nan/s, for: 10s }\n    flow: [ { get: /x } ]");
    length_of_zero: scenario("    load: { rate: 5/s, for: 0s }\n    flow: [ { get: /x } ]");
    stages_that_go_nowhere: scenario(
        "    load: { users: { stages: [ { to: 0, for: 5s }, { to: 0, for: 5s } ] } }\n    flow: [ { get: /x } ]"
    );
    warm_up_of_everything: scenario(
        "    load: { sweep: { users: [1, 2] }, for: 10s, warm_up: 10s }\n    flow: [ { get: /x } ]"
    );
    pace_of_a_rate: scenario("    load: { rate: 5/s, for: 10s }\n    every: 2s\n    flow: [ { get: /x, think: exp(1) } ]");
    search_without_thresholds: scenario("    load: { search: { rate: { from: 1/s, to: 9/s } }, for: 1s }\n    flow: [ { get: /x } ]");
    search_of_nothing: format!(
        "{}thresholds: [ 'p95 < 1s' ]\n",
        scenario("    load: { search: { users: { from: 9, to: 3 }, within: 200% }, for: 1s }\n    flow: [ { get: /x } ]")
    );
    two_searches: "target: http://localhost\nscenarios:\n  one: &a\n    load: { search: { rate: { from: 1/s, to: 9/s } }, for: 1s }\n    flow: [ { get: /x } ]\n  two:\n    load: { search: { rate: { from: 1/s, to: 9/s } }, for: 1s }\n    flow: [ { get: /x } ]\nthresholds: [ 'p95 < 1s' ]\n";
    threshold_clauses: format!(
        "{}thresholds: [ 'p95 < 1s after soon', 'checks > 2', 'p95 < 1s over 5m, stop', 'checks >= 99% over 5s after 10s, stop' ]\n",
        scenario("    load: { users: 1, for: 1s }\n    flow: [ { get: /x } ]")
    );
    wrong_unit: scenario("    load: { rate: 5, for: 10 }\n    flow: [ { get: /x, timeout: 5 minutes } ]");
    negative_rate: scenario("    load: { rate: -5/s, for: 10s }\n    flow: [ { get: /x } ]");
    negative_users: scenario("    load: { users: -5, for: 10s }\n    flow: [ { get: /x } ]");
    no_load: scenario("    load: { for: 10s }\n    flow: [ { get: /x } ]");
    two_loads: scenario("    load: { rate: 1/s, iterations: 5, for: 10s }\n    flow: [ { get: /x } ]");
    no_length: scenario("    load: { users: 5 }\n    flow: [ { get: /x } ]");
    stages_with_for: scenario("    load: { users: { stages: [ { to: 5, for: 1s } ] }, for: 1s }\n    flow: [ { get: /x } ]");
    missing_csv: format!("data: {{ words: {{ csv: gone.csv }} }}\n{}", scenario(&format!("{LOAD}    flow: [ {{ get: '/{{{{ words.word }}}}' }} ]")));
    empty_csv: format!("data: {{ a: {{ csv: empty.csv }}, b: {{ csv: ragged.csv }} }}\n{}", scenario(&format!("{LOAD}    flow: [ {{ get: / }} ]")));
    cyclic_after: "target: http://localhost\nscenarios:\n  a: { after: c, load: { users: 1, for: 1s }, flow: [ { get: / } ] }\n  b: { after: a, load: { users: 1, for: 1s }, flow: [ { get: / } ] }\n  c: { after: b, load: { users: 1, for: 1s }, flow: [ { get: / } ] }\n";
    unknown_after: "target: http://localhost\nscenarios:\n  first: { load: { users: 1, for: 1s }, flow: [ { get: / } ] }\n  then: { after: fist, load: { users: 1, for: 1s }, flow: [ { get: / } ] }\n";
    undefined_variable: format!("vars: {{ tenant: acme }}\n{}", scenario(&format!("{LOAD}    flow: [ {{ get: '/{{{{ tennant }}}}' }} ]")));
    captured_later: scenario(&format!("{LOAD}    flow: [ {{ get: '/{{{{ id }}}}' }}, {{ get: /x, capture: {{ id: $.id }} }} ]"));
    unknown_column: format!("data: {{ words: {{ csv: words.csv }} }}\n{}", scenario(&format!("{LOAD}    flow: [ {{ get: '/{{{{ words.wrod }}}}' }} ]")));
    malformed_template: scenario(&format!("{LOAD}    flow: [ {{ get: '/{{{{ user' }} ]"));
    bad_regex_and_path: scenario(&format!("{LOAD}    flow: [ {{ get: /x, expect: {{ matches: '(', json: {{ nodes: 1 }} }} }} ]"));
    send_outside: scenario(&format!("{LOAD}    flow: [ {{ send: hello }} ]"));
    repeat_of_nothing: scenario(&format!("{LOAD}    flow: [ {{ repeat: 3 }} ]"));
    two_bodies: scenario(&format!("{LOAD}    flow: [ {{ post: /x, text: a, json: 1 }} ]"));
    two_kinds: scenario(&format!("{LOAD}    flow: [ {{ get: /x, post: /y }}, {{ name: z }} ]"));
    same_name: scenario(&format!("{LOAD}    flow: [ {{ get: /x, name: a }}, {{ websocket: /y, name: a }} ]"));
    close_code: scenario(&format!("{LOAD}    flow: [ {{ websocket: /, flow: [ {{ close: 1006 }} ] }} ]"));
    thresholds: format!("{}thresholds: [ on.p95 < 5ms, one.p9x < 5ms, one.p95 < 5, one.error_rate < 5ms, one.p95 < 5ms over 90s, soon ]\n", scenario(&format!("{LOAD}    flow: [ {{ get: / }} ]")));
    secrets_that_others_see: format!("secrets: [key]\n{}", scenario(&format!("{LOAD}    flow:\n      - get: 'http://{{{{ secrets.key }}}}.example.com/'\n      - get: '{{{{ user }}}}://x/{{{{ secrets.key }}}}'\n      - websocket: '//{{{{ secrets.key }}}}'\n      - websocket: /ws\n        flow:\n          - subscribe: 'room-{{{{ secrets.key }}}}'\n          - subscribe: {{ room: '{{% set secrets = secrets %}}{{{{ secrets.key }}}}' }}\n          - send: {{ text: hi, publish: '{{{{ secrets.key }}}}' }}")));
    secrets_for_the_target: format!("secrets: [key]\n{}", scenario(&format!("{LOAD}    flow: [ {{ get: '/{{{{ secrets.key }}}}' }}, {{ get: 'http://x/?k={{{{ secrets.key }}}}', headers: {{ a: '{{{{ secrets.key }}}}' }} }} ]")));
    templates_within_templates: scenario(&format!("{LOAD}    flow: [ {{ get: '/{{% include \"/x\" %}}' }} ]"));
    empty_file: "";
    not_a_mapping: "- one\n- two\n";
    syntax_error: "target: http://localhost\nscenarios: [a: {\n";
    tab: "target: http://localhost\nscenarios:\n\tone: 1\n";
    duplicate_key: "target: http://localhost\ntarget: http://localhost\nscenarios: {}\n";
    ten_megabytes: format!("target: http://localhost\n# {}\n", "x".repeat(10_000_000));
    alias_bomb: bomb();
    bad_target: "target: localhost:80\nscenarios: {}\n";
}

/// Ten levels of ten aliases: ten billion values.
fn bomb() -> String {
    let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..10 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(",");
        text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    text
}

/// A long line is cut, so that a plan of one line does not flood the terminal.
/// The level of a search comes from outside of the plan.
#[test]
fn a_level_outside_of_its_search_is_refused() {
    let plan = "target: http://localhost\nscenarios:\n  s: { load: { search: { users: { from: 1, to: 9 } }, for: 1s }, flow: [ { get: / } ] }\nthresholds: [ 'p95 < 1s' ]\n";
    let at = |level| Plan::compile(&PlanSource { search_level: Some(level), ..source(plan) });
    assert_eq!(at(4.0).unwrap().scenarios[0].phases[0].load.limit().as_secs(), 1);
    for level in [0.0, 9.5, -1.0, f64::NAN, f64::INFINITY] {
        assert!(at(level).unwrap_err().to_string().contains("is not within the search, 1 to 9"), "{level}");
    }
    assert_ne!(at(4.0).unwrap().hash, at(5.0).unwrap().hash);
}

#[test]
fn a_long_line_is_cut() {
    let text = check(&format!("target: http://localhost\nname: {{ a: {} }}\nscenarios: {{}}\n", "x".repeat(100_000)));
    assert!(text.len() < 2_000, "{} bytes", text.len());
}
