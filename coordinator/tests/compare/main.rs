//! Comparisons of runs of which the truth is known, and how people and scripts read them.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "of these samples only one is needed here")]
#[path = "../report/samples.rs"]
mod samples;
mod synthetic;

use groundswell_coordinator::compare::{
    Comparison, Decision, FigureComparison, Measured, Metric, Obstacle, compare, obstacles,
};
use groundswell_coordinator::report::Status;
use proptest::prelude::*;
use synthetic::{Made, Truth, USUAL, run};

const SCHEMA_FILE: &str = include_str!("../../../docs/comparison.schema.json");

fn compared(baselines: &[&Made], run: &Made) -> Comparison {
    let baselines: Vec<Measured<'_>> = baselines.iter().map(|made| made.measured()).collect();
    compare(&baselines, &run.measured(), Vec::new())
}

fn figure<'a>(comparison: &'a Comparison, step: &str, metric: Metric) -> &'a FigureComparison {
    let request = comparison.requests.iter().find(|request| request.step == step).unwrap();
    request.figures.iter().find(|figure| figure.metric == metric).unwrap()
}

fn decisions(comparison: &Comparison) -> Vec<Decision> {
    comparison.requests.iter().flat_map(|request| &request.figures).map(|figure| figure.decision).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_run_does_not_differ_from_itself(
        seed in 0_u64..1_000_000, seconds in 0_u64..40, rate in 0_u64..100, failing in 0.0_f64..1.0,
    ) {
        let made = run(Truth { seed, seconds, rate, failing, ..USUAL });
        let comparison = compared(&[&made], &made);
        prop_assert!(comparison.counts.regression + comparison.counts.improvement == 0, "{}", comparison.text());
    }

    #[test]
    fn half_as_slow_again_is_a_regression_and_the_other_way_round_an_improvement(seed in 0_u64..1_000_000, seconds in 12_u64..30) {
        let before = run(Truth { seed, seconds, ..USUAL });
        let after = run(Truth { seed: seed + 1, seconds, scale: 1.5, ..USUAL });
        let worse = compared(&[&before], &after);
        prop_assert_eq!(worse.decision, Decision::Regression);
        for step in ["search", "traverse"] {
            prop_assert_eq!(figure(&worse, step, Metric::P50).decision, Decision::Regression);
            prop_assert_eq!(figure(&compared(&[&after], &before), step, Metric::P50).decision, Decision::Improvement);
        }
    }

    #[test]
    fn the_order_of_baselines_changes_nothing(seed in 0_u64..1_000_000, turned in 1_usize..4) {
        let mut baselines: Vec<Made> = (0..4).map(|index| run(Truth { seed: seed + index, seconds: 12, ..USUAL })).collect();
        let after = run(Truth { seed: seed + 9, seconds: 12, ..USUAL });
        let before = compared(&baselines.iter().collect::<Vec<_>>(), &after);
        baselines.rotate_left(turned);
        prop_assert_eq!(compared(&baselines.iter().collect::<Vec<_>>(), &after), before);
    }
}

#[test]
fn equal_runs_are_not_called_a_regression() {
    // Seconds that are independent; what depends on the machine is in docs/compare.md.
    let wrong = (0..40).filter(|pair| {
        let [before, after] = [2 * pair, 2 * pair + 1].map(|seed| run(Truth { seed, ..USUAL }));
        compared(&[&before], &after).counts.regression > 0
    });
    let wrong = wrong.count();
    assert!(wrong <= 2, "{wrong} of 40");
}

#[test]
fn baselines_that_disagree_decide_nothing() {
    let before = [0.8, 1.0, 1.2].map(|scale| run(Truth { seed: (scale * 10.0) as u64, scale, ..USUAL }));
    let after = run(Truth { seed: 99, scale: 1.25, ..USUAL });
    let alone = compared(&[&before[1]], &after);
    assert_eq!(figure(&alone, "search", Metric::P50).decision, Decision::Regression);
    let together = compared(&before.iter().collect::<Vec<_>>(), &after);
    let p50 = figure(&together, "search", Metric::P50);
    assert_eq!(p50.decision, Decision::CannotTell);
    assert!(p50.advice.as_deref().unwrap().contains("more of them"), "{p50:?}");
}

#[test]
fn baselines_that_agree_decide_as_one_does() {
    let before = [1, 2, 3, 4].map(|seed| run(Truth { seed, ..USUAL }));
    let after = run(Truth { seed: 99, scale: 1.2, ..USUAL });
    let together = compared(&before.iter().collect::<Vec<_>>(), &after);
    assert_eq!(figure(&together, "search", Metric::P50).decision, Decision::Regression);
}

#[test]
fn the_tolerance_of_the_run_decides_what_matters() {
    let before = run(Truth { seed: 1, seconds: 60, rate: 300, ..USUAL });
    let mut after = run(Truth { seed: 2, seconds: 60, rate: 300, scale: 1.07, ..USUAL });
    for (tolerance, decision) in
        [(0.02, Decision::Regression), (0.07, Decision::CannotTell), (0.2, Decision::NoDifference)]
    {
        after.report.run.tolerances.p50 = tolerance;
        assert_eq!(figure(&compared(&[&before], &after), "search", Metric::P50).decision, decision, "{tolerance}");
    }
    after.report.run.tolerances.p50 = 0.02;
    after.report.run.tolerances.least_difference_ms = 2.0;
    assert_eq!(figure(&compared(&[&before], &after), "search", Metric::P50).decision, Decision::NoDifference);
}

#[test]
fn fewer_operations_and_more_failures_are_regressions() {
    let before = run(USUAL);
    let slower = compared(&[&before], &run(Truth { seed: 2, rate: 64, ..USUAL }));
    assert_eq!(figure(&slower, "search", Metric::Throughput).decision, Decision::Regression);
    let failing = compared(&[&before], &run(Truth { seed: 2, failing: 0.1, ..USUAL }));
    let error_rate = figure(&failing, "search", Metric::ErrorRate);
    assert_eq!(error_rate.decision, Decision::Regression);
    assert!((error_rate.difference.unwrap() - 0.1).abs() < 0.02 && error_rate.relative.is_none(), "{error_rate:?}");
}

#[test]
fn too_little_is_not_told_and_says_what_is_needed() {
    let short = [1, 2].map(|seed| run(Truth { seed, seconds: 5, ..USUAL }));
    let comparison = compared(&[&short[0]], &short[1]);
    assert!(decisions(&comparison).iter().all(|decision| *decision == Decision::CannotTell));
    let advice = |comparison: &Comparison, metric| figure(comparison, "search", metric).advice.clone().unwrap();
    assert_eq!(advice(&comparison, Metric::P50), "it needs at least 8 s of load in every run");
    let few = [1, 2].map(|seed| run(Truth { seed, rate: 40, ..USUAL }));
    let comparison = compared(&[&few[0]], &few[1]);
    assert_eq!(advice(&comparison, Metric::P99), "it needs at least 1000 operations in every run");
    assert_eq!((comparison.exit_code(false), comparison.exit_code(true)), (0, 1));
}

#[test]
fn errors_that_never_happened_are_not_known_to_be_impossible() {
    let few = [1, 2].map(|seed| run(Truth { seed, rate: 1, ..USUAL }));
    let error_rate = compared(&[&few[0]], &few[1]);
    assert_eq!(figure(&error_rate, "search", Metric::ErrorRate).decision, Decision::CannotTell);
}

#[test]
fn a_step_that_a_run_lacks_is_named() {
    let (before, mut after) = (run(USUAL), run(Truth { seed: 2, ..USUAL }));
    after.distributions.steps.truncate(1);
    let comparison = compared(&[&before], &after);
    assert_eq!(comparison.requests.len(), 1);
    assert_eq!(comparison.unmatched[0].step, "traverse");
    assert_eq!(comparison.unmatched[0].missing_in, ["run-2"]);
}

#[test]
fn what_is_in_the_way_of_a_comparison() {
    let found = |change: &dyn Fn(&mut Made)| {
        let (before, mut after) = (run(USUAL), run(Truth { seed: 2, ..USUAL }));
        change(&mut after);
        obstacles(&[before.measured()], &after.measured())
    };
    assert_eq!(found(&|_| {}), []);
    assert_eq!(found(&|after| after.report.verdict.status = Status::Failed), []);
    for status in [Status::Invalid, Status::Degraded, Status::Aborted] {
        let obstacles = found(&|after| after.report.verdict.status = status);
        assert!(matches!(&obstacles[..], [Obstacle::Verdict { run, .. }] if run == "run-2"), "{obstacles:?}");
    }
    // Where the load goes to, and what judges it, are in the hash of the plan but not in that of the load.
    assert_eq!(found(&|after| after.report.run.plan_hash = "other".to_owned()), []);
    let other = || Obstacle::OtherLoad { baseline: "run-1".to_owned() };
    assert_eq!(found(&|after| after.report.run.load_hash = "other".to_owned()), [other()]);
    // A release that kept no hash of the load.
    let old = |plan_hash: &'static str| {
        found(&|after| {
            after.report.run.load_hash.clear();
            plan_hash.clone_into(&mut after.report.run.plan_hash);
        })
    };
    assert_eq!(old("other"), [other()]);
    assert_eq!(old("9c1185a5c5e9fc54"), []);
    let one = run(USUAL);
    let twice = obstacles(&[one.measured(), one.measured()], &one.measured());
    assert_eq!(twice, [Obstacle::Twice { run: "run-1".to_owned() }]);
}

/// A comparison with something of everything in it.
fn rich() -> Comparison {
    let mut before = run(USUAL);
    let mut after = run(Truth { seed: 2, scale: 1.2, failing: 0.05, ..USUAL });
    before.distributions.steps[1] = run(Truth { scale: 2.0, ..USUAL }).distributions.steps[1].clone();
    before.report.steps[1] = run(Truth { scale: 2.0, ..USUAL }).report.steps[1].clone();
    after.report.run.name = "nightly <b>|@all".to_owned();
    let mut lonely = after.distributions.steps[0].clone();
    lonely.step = "new | step".to_owned();
    after.report.steps.push(groundswell_coordinator::report::StepFigures {
        step: lonely.step.clone(),
        ..after.report.steps[0].clone()
    });
    after.distributions.steps.push(lonely);
    compare(&[before.measured()], &after.measured(), vec!["compared by force: run <x> is INVALID".to_owned()])
}

#[test]
fn as_people_read_it() {
    insta::assert_snapshot!("text", rich().text());
    insta::assert_snapshot!("markdown", rich().markdown());
    insta::assert_snapshot!("junit", rich().junit());
}

#[test]
fn json_fits_its_schema() {
    let schema = serde_json::from_str(SCHEMA_FILE).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let short = run(Truth { seconds: 3, ..USUAL });
    for comparison in [rich(), compared(&[&short], &short)] {
        let json = comparison.json().unwrap();
        let value = serde_json::from_str(&json).unwrap();
        let problems: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(serde_json::from_str::<Comparison>(&json).unwrap(), comparison);
    }
}
