//! Runs of which the truth is known: log-normal response times with a median of 10 ms, second by second.

use std::collections::BTreeMap;

use groundswell_coordinator::compare::Measured;
use groundswell_coordinator::report::{Distributions, Interval, Latency, Report, StepDistributions, StepFigures};
use groundswell_stats::{Distribution, Series};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::samples::passing;

/// What a run was like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Truth {
    pub(super) seed: u64,
    pub(super) seconds: u64,
    /// Operations a second of each step.
    pub(super) rate: u64,
    /// Multiplies response times.
    pub(super) scale: f64,
    /// Part of the operations that fail.
    pub(super) failing: f64,
}

pub(super) const USUAL: Truth = Truth { seed: 1, seconds: 20, rate: 80, scale: 1.0, failing: 0.0 };

/// A run with its histograms.
pub(super) struct Made {
    pub(super) report: Report,
    pub(super) distributions: Distributions,
}

impl Made {
    pub(super) fn measured(&self) -> Measured<'_> {
        Measured { report: &self.report, distributions: &self.distributions }
    }
}

/// A run with two steps. Its id is its seed.
pub(super) fn run(truth: Truth) -> Made {
    let steps: Vec<StepDistributions> = ["search", "traverse"].map(|step| distributions(step, &truth)).into();
    let mut report = passing();
    report.run.id = format!("run-{}", truth.seed);
    report.run.duration_s = truth.seconds as f64;
    report.steps = steps.iter().map(|step| figures(step, &truth, &report.steps[0])).collect();
    Made { report, distributions: Distributions { steps, load: Vec::new() } }
}

fn distributions(step: &str, truth: &Truth) -> StepDistributions {
    let mut generator = ChaCha8Rng::seed_from_u64(truth.seed);
    generator.set_stream(step.len() as u64);
    let intervals: Vec<Interval> = (0..truth.seconds).map(|second| interval(second, truth, &mut generator)).collect();
    let mut response = Series::default();
    intervals.iter().try_for_each(|interval| response.merge(&interval.response)).unwrap();
    StepDistributions {
        scenario: "search".to_owned(),
        level: None,
        step: step.to_owned(),
        kind: "http".to_owned(),
        warm_up: false,
        service: response.clone(),
        response,
        intervals,
    }
}

fn interval(second: u64, truth: &Truth, generator: &mut ChaCha8Rng) -> Interval {
    let mut response = Series::default();
    let mut failed = 0;
    for _ in 0..truth.rate {
        let (radius, angle): (f64, f64) = (generator.random_range(f64::MIN_POSITIVE..1.0), generator.random());
        let normal = (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos();
        response.record((10_000.0 * truth.scale * (0.4 * normal).exp()) as u64);
        failed += u64::from(generator.random_bool(truth.failing));
    }
    Interval {
        from_s: second,
        length_s: 1,
        issued: truth.rate,
        ok: truth.rate - failed,
        failed,
        failures: BTreeMap::new(),
        service: response.clone(),
        response,
    }
}

/// The row that the report of such a run has.
fn figures(step: &StepDistributions, truth: &Truth, like: &StepFigures) -> StepFigures {
    let all = Distribution::of([&step.response]).unwrap();
    let quantile = |q: f64| (all.count() > 0).then(|| all.quantile_us(q) as f64 / 1e3);
    let (ok, errors) =
        step.intervals.iter().fold((0, 0), |(ok, failed), interval| (ok + interval.ok, failed + interval.failed));
    StepFigures {
        step: step.step.clone(),
        issued: all.count(),
        ok,
        errors,
        error_rate: if all.count() == 0 { 0.0 } else { errors as f64 / all.count() as f64 },
        throughput_per_s: ok as f64 / truth.seconds as f64,
        response_ms: Latency {
            count: all.count(),
            p50: quantile(0.5),
            p90: quantile(0.9),
            p95: quantile(0.95),
            p99: quantile(0.99),
            ..like.response_ms
        },
        ..like.clone()
    }
}
