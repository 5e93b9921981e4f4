//! Searches on targets of known capacity.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use groundswell_scenario::PlanSource;
use proptest::prelude::*;

use super::*;

fn search(load: &str) -> Search {
    let text = format!(
        "target: http://localhost\nscenarios:\n  s: {{ load: {{ search: {load}, for: 5s }}, flow: [ {{ get: /x }} ] }}\n\
         thresholds: [ 'p95 < 100ms' ]\n"
    );
    let source = PlanSource { name: "capacity.yaml".into(), text, files: BTreeMap::new(), search_level: None };
    Search::of(&Plan::compile(&source).unwrap()).unwrap()
}

/// Runs a search against a target (and a generator) that do what a function of the level says.
fn searched(mut search: Search, at: impl Fn(f64, usize) -> StepOutcome) -> SearchReport {
    for _ in 0..200 {
        let level = match search.next() {
            Next::Try(level) => level,
            Next::Done(report) => return *report,
        };
        let outcome = at(level, search.tries(level));
        let ms = 10.0 / (1.0 - (level / 1000.0).min(0.99));
        let reasons = match outcome {
            StepOutcome::Kept => Vec::new(),
            StepOutcome::Broken => vec!["p95 < 100ms does not hold".to_owned()],
            StepOutcome::Generator => vec!["agent a was the bottleneck".to_owned()],
            StepOutcome::Interrupted => vec!["interrupted by the user".to_owned()],
            StepOutcome::Incomplete => vec!["agent a was lost".to_owned()],
        };
        search.steps.push(SearchStep {
            level,
            label: search.label(level),
            outcome,
            run_id: format!("r{}", search.steps.len()),
            rate_per_s: level,
            throughput_per_s: level,
            error_rate: 0.0,
            p50_ms: Some(ms / 2.0),
            p95_ms: Some(ms),
            p99_ms: Some(ms * 2.0),
            reasons,
        });
    }
    panic!("the search does not end");
}

fn up_to(capacity: f64) -> impl Fn(f64, usize) -> StepOutcome {
    move |level, _| if level <= capacity { StepOutcome::Kept } else { StepOutcome::Broken }
}

#[test]
fn the_report_shows_the_steps_and_the_curve() {
    let report = searched(search("{ rate: { from: 50/s, to: 5000/s } }"), up_to(730.0));
    assert_eq!((report.limit, report.exit_code()), (Limit::Target, 0));
    insta::assert_snapshot!(report.text());
    insta::assert_snapshot!(report.markdown());
}

#[test]
fn a_generator_that_is_the_limit_is_never_reported_as_the_target() {
    let outcome = |level, _| if level <= 300.0 { StepOutcome::Kept } else { StepOutcome::Generator };
    let report = searched(search("{ rate: { from: 50/s, to: 5000/s } }"), outcome);
    assert_eq!((report.limit, report.exit_code()), (Limit::Generator, 3));
    assert!(report.level.is_some_and(|level| (285.0..=300.0).contains(&level)), "{:?}", report.level);
    assert!(report.message.contains("the generator was the limit"), "{}", report.message);
}

#[test]
fn a_generator_that_fails_once_is_asked_again() {
    let outcome = |level: f64, tries: usize| match (level, tries) {
        (400.0, 0) => StepOutcome::Generator,
        (level, _) if level <= 730.0 => StepOutcome::Kept,
        _ => StepOutcome::Broken,
    };
    let report = searched(search("{ rate: { from: 50/s, to: 5000/s } }"), outcome);
    assert_eq!(report.limit, Limit::Target);
    assert!(report.level.is_some_and(|level| (695.0..=730.0).contains(&level)), "{:?}", report.level);
}

#[test]
fn the_ends_of_the_range_are_told_apart() {
    let report = searched(search("{ users: { from: 3, to: 100 } }"), up_to(1e9));
    assert_eq!((report.limit, report.level, report.exit_code()), (Limit::Range, Some(100.0), 0));
    let report = searched(search("{ users: { from: 3, to: 100 } }"), up_to(2.0));
    assert_eq!((report.limit, report.level, report.exit_code()), (Limit::Target, None, 1));
    assert!(report.message.contains("even at 3 users"), "{}", report.message);
    let report = searched(search("{ users: { from: 3, to: 100 } }"), |_, _| StepOutcome::Incomplete);
    assert_eq!((report.limit, report.exit_code(), report.steps.len()), (Limit::Incomplete, 3, 1));
    let report = searched(search("{ users: { from: 3, to: 100 } }"), |_, _| StepOutcome::Interrupted);
    assert_eq!((report.limit, report.exit_code(), report.steps.len()), (Limit::Interrupted, 130, 1));
    let report = searched(search("{ users: { from: 3, to: 100 } }"), |_, _| StepOutcome::Generator);
    assert_eq!((report.limit, report.level, report.steps.len()), (Limit::Generator, None, 2));
}

proptest! {
    /// Whatever the capacity, the level found is not above it and at most 5 % (or one user) below.
    #[test]
    fn the_level_found_is_the_capacity(capacity in 10.0_f64..4_900.0, users in any::<bool>()) {
        let range = if users { "{ users: { from: 10, to: 5000 } }" } else { "{ rate: { from: 10/s, to: 5000/s } }" };
        let report = searched(search(range), up_to(capacity));
        prop_assert_eq!(report.limit, Limit::Target);
        let level = report.level.unwrap();
        prop_assert!(level <= capacity && (level >= capacity / 1.0501 || users && level > capacity - 1.0), "{} of {}", level, capacity);
        prop_assert!(report.steps.len() < 20);
    }
}
