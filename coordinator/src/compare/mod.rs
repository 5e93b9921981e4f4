//! Did a run regress against one or more baselines, with the noise taken into account? As pure as the report: no socket,
//! no clock, and the same runs always give the same answer. docs/compare.md explains the method to users.
//!
//! # Layout
//! - `comparison`: what a comparison says
//! - `obstacle`: why runs can't be compared
//! - `estimate`: how far a figure of one run may be off by chance
//! - `difference`: what that means for the difference of runs, and when it is called one
//! - `student`: the t distribution
//! - `render`, `junit`: text, Markdown, JUnit

mod comparison;
mod difference;
mod estimate;
mod junit;
mod obstacle;
mod render;
mod student;

use groundswell_scenario::compare::Tolerances;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

pub use comparison::{
    ComparedRun, Comparison, Counts, Decision, FigureComparison, Interval, Method, Metric, RequestComparison, SCHEMA,
    Unmatched,
};
use difference::{Band, Difference, judge};
use estimate::{Estimate, Estimates, RESAMPLES, TooLittle, estimates, figure};
pub use obstacle::{Obstacle, obstacles, obstacles_of_baselines};

use crate::report::{Distributions, Report, StepDistributions, StepFigures};

/// Chance that anything is called a regression or an improvement where nothing moved beyond its tolerance.
pub const ERROR_PROBABILITY: f64 = 0.05;
/// Seed of the resamples.
const SEED: u64 = 1;

/// What a comparison needs of a run.
#[derive(Debug, Clone, Copy)]
pub struct Measured<'a> {
    /// Its report.
    pub report: &'a Report,
    /// The histograms behind it.
    pub distributions: &'a Distributions,
}

/// Compares a run with its baselines, of which there has to be one at least; their order changes nothing. Whether they
/// can be compared at all is a question for [`obstacles`], whose answers belong into `notes` where it is done all the
/// same.
///
/// The tolerances are the run's own.
pub fn compare(baselines: &[Measured<'_>], run: &Measured<'_>, notes: Vec<String>) -> Comparison {
    let mut baselines = baselines.to_vec();
    baselines.sort_by(|left, right| left.report.run.id.cmp(&right.report.run.id));
    let (pairs, unmatched) = matched(&baselines, run);
    let mut rows: Vec<(Vec<Row>, &StepDistributions)> = Vec::new();
    for (of_baselines, of_run) in &pairs {
        let before: Vec<Estimates> = of_baselines.iter().map(Step::estimates).collect();
        let after = of_run.estimates();
        let row = |(index, metric): (usize, Metric)| Row {
            metric,
            before: of_baselines.iter().map(|step| figure(metric, step.figures)).collect(),
            after: figure(metric, of_run.figures),
            estimates: collected(before.iter().chain([&after]).map(|estimates| estimates[index])),
        };
        rows.push((Metric::ALL.into_iter().enumerate().map(row).collect(), of_run.step));
    }
    let requests = decided(rows, &run.report.run.tolerances);
    let counts = Counts::of(requests.iter().flat_map(|request| &request.figures).map(|figure| figure.decision));
    let run_of = |measured: &Measured<'_>| ComparedRun::of(&measured.report.run, measured.report.verdict.status);
    Comparison {
        schema: SCHEMA.to_owned(),
        decision: counts.decision(),
        counts,
        run: run_of(run),
        baselines: baselines.iter().map(run_of).collect(),
        method: Method { error_probability: ERROR_PROBABILITY, resamples: RESAMPLES, seed: SEED },
        requests,
        unmatched,
        notes,
    }
}

/// One timed step of one run.
#[derive(Clone, Copy)]
struct Step<'a> {
    run: &'a str,
    step: &'a StepDistributions,
    figures: &'a StepFigures,
}

/// One figure of one timed step: the baselines' and the run's.
struct Row {
    metric: Metric,
    before: Vec<Option<f64>>,
    after: Option<f64>,
    /// The baselines' and last the run's, or why there is not one of each.
    estimates: Result<Vec<Estimate>, TooLittle>,
}

impl<'a> Step<'a> {
    /// The measured steps of a run.
    fn all_of(measured: &Measured<'a>) -> impl Iterator<Item = Step<'a>> + use<'a> {
        let Measured { report, distributions } = *measured;
        distributions.steps.iter().filter(|step| !step.warm_up).filter_map(|step| {
            let named = |figures: &&StepFigures| figures.scenario == step.scenario && figures.step == step.step;
            let figures = match &step.level {
                None => report.steps.iter().find(named),
                Some(level) => {
                    let at_level = report.levels.iter().filter(|row| row.level == *level);
                    at_level.map(|row| &row.figures).find(named)
                }
            };
            Some(Step { run: &report.run.id, step, figures: figures? })
        })
    }

    fn is(&self, other: &Step<'_>) -> bool {
        let key = |step: &Step<'_>| (step.step.scenario.clone(), step.step.level.clone(), step.step.step.clone());
        key(self) == key(other)
    }

    /// Each step of each run has random numbers of its own, whatever else is compared with it.
    fn estimates(&self) -> Estimates {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&SEED.to_le_bytes());
        for part in [self.run, &self.step.scenario, self.step.level.as_deref().unwrap_or_default(), &self.step.step] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        let mut generator = ChaCha8Rng::from_seed(*hasher.finalize().as_bytes());
        estimates(self.step, self.figures, &mut generator)
    }
}

/// A step of every baseline with that of the run.
type Pair<'a> = (Vec<Step<'a>>, Step<'a>);

/// The steps that all runs have, in the run's order, and those that some lack.
fn matched<'a>(baselines: &[Measured<'a>], run: &Measured<'a>) -> (Vec<Pair<'a>>, Vec<Unmatched>) {
    let runs: Vec<(&str, Vec<Step<'a>>)> =
        baselines.iter().chain([run]).map(|run| (run.report.run.id.as_str(), Step::all_of(run).collect())).collect();
    let mut known: Vec<Step<'a>> = Vec::new();
    for step in runs.iter().rev().flat_map(|(_, steps)| steps) {
        if !known.iter().any(|known| known.is(step)) {
            known.push(*step);
        }
    }
    let (mut pairs, mut unmatched) = (Vec::new(), Vec::new());
    for step in known {
        let of_run = |steps: &[Step<'a>]| steps.iter().find(|other| other.is(&step)).copied();
        let mut found: Vec<Step<'a>> = runs.iter().filter_map(|(_, steps)| of_run(steps)).collect();
        if found.len() == runs.len() {
            pairs.extend(found.pop().map(|of_run| (found, of_run)));
            continue;
        }
        let without = runs.iter().filter(|(_, steps)| of_run(steps).is_none());
        let StepDistributions { scenario, level, step, .. } = step.step.clone();
        unmatched.push(Unmatched {
            scenario,
            level,
            step,
            missing_in: without.map(|(id, _)| (*id).to_owned()).collect(),
        });
    }
    (pairs, unmatched)
}

/// All estimates, or the reason of the first that is none.
fn collected(estimates: impl Iterator<Item = Result<Estimate, TooLittle>>) -> Result<Vec<Estimate>, TooLittle> {
    estimates.collect()
}

/// The decisions about all figures of all requests, which depend on how many there are.
fn decided(rows: Vec<(Vec<Row>, &StepDistributions)>, tolerances: &Tolerances) -> Vec<RequestComparison> {
    let difference = |row: &Row| {
        let (run, baselines) = row.estimates.as_ref().ok()?.split_last()?;
        let difference = Difference::of(baselines, run);
        Some((row.metric, difference, band(row.metric, difference.baseline, tolerances)))
    };
    let differences: Vec<_> = rows.iter().flat_map(|(rows, _)| rows).filter_map(difference).collect();
    let mut judged = judge(&differences, ERROR_PROBABILITY).into_iter().zip(differences);
    let mut requests = Vec::new();
    for (rows, step) in rows {
        let figures = rows.iter().map(|row| match &row.estimates {
            Err(reason) => untold(row, *reason),
            Ok(_) => judged.next().map_or_else(|| untold(row, TooLittle::Nothing), |judged| told(row, judged)),
        });
        let (figures, StepDistributions { scenario, level, step, kind, .. }) = (figures.collect(), step.clone());
        requests.push(RequestComparison { scenario, level, step, kind, figures });
    }
    requests
}

/// The tolerance of a figure on the scale of its estimates.
fn band(metric: Metric, baseline: f64, tolerances: &Tolerances) -> Band {
    let part = match metric {
        Metric::P50 => tolerances.p50,
        Metric::P90 => tolerances.p90,
        Metric::P95 => tolerances.p95,
        Metric::P99 => tolerances.p99,
        Metric::Throughput => tolerances.throughput,
        Metric::ErrorRate => return Band { low: -tolerances.error_rate, high: tolerances.error_rate },
    };
    let least = if metric.quantile().is_some() { tolerances.least_difference_ms / baseline.exp() } else { 0.0 };
    let part = part.max(least);
    Band { low: (1.0 - part.min(1.0)).ln(), high: part.ln_1p() }
}

/// A figure whose difference is known within bounds.
fn told(row: &Row, ((decision, share), (metric, difference, tolerance)): Judged) -> FigureComparison {
    let in_unit = |value: f64| match metric {
        Metric::ErrorRate => value,
        _ => difference.baseline.exp() * value.exp_m1(),
    };
    let range = |band: Band| Interval { low: in_unit(band.low), high: in_unit(band.high) };
    let baseline = if metric == Metric::ErrorRate { difference.baseline } else { difference.baseline.exp() };
    let after = row.after.unwrap_or_default();
    FigureComparison {
        metric,
        unit: metric.unit().to_owned(),
        baseline: Some(baseline),
        run: Some(after),
        difference: Some(after - baseline),
        relative: (metric != Metric::ErrorRate && baseline > 0.0).then(|| after / baseline - 1.0),
        interval: Some(range(difference.interval(share))),
        tolerance: Some(range(tolerance)),
        decision,
        advice: (decision == Decision::CannotTell).then(|| advice(&difference, share, tolerance)),
    }
}

/// What was decided, and what about.
type Judged = ((Decision, f64), (Metric, Difference, Band));

/// More than this many times longer is no advice.
const MOST_TIMES: f64 = 100.0;

fn advice(difference: &Difference, share: f64, tolerance: Band) -> String {
    if difference.is_between_runs() {
        return "the baselines differ among themselves: more of them, or a quieter machine, would tell".to_owned();
    }
    match difference.times_longer(share, tolerance) {
        times if times <= MOST_TIMES => format!("runs about {:.0} times as long would tell", times.max(2.0).ceil()),
        _ => "the difference is just about the tolerance: no length of runs would tell".to_owned(),
    }
}

/// A figure without estimates.
fn untold(row: &Row, reason: TooLittle) -> FigureComparison {
    let before: Vec<f64> = row.before.iter().copied().flatten().collect();
    let baseline = match before.as_slice() {
        [] => None,
        some => Some(some.iter().sum::<f64>() / some.len() as f64),
    };
    let advice = match reason {
        TooLittle::Nothing => "there is a run in which nothing of it was measured".to_owned(),
        TooLittle::Short { needed_s } => format!("it needs at least {needed_s} s of load in every run"),
        TooLittle::Few { needed } => format!("it needs at least {needed} operations in every run"),
    };
    FigureComparison {
        metric: row.metric,
        unit: row.metric.unit().to_owned(),
        baseline,
        run: row.after,
        difference: row.after.zip(baseline).map(|(after, before)| after - before),
        relative: None,
        interval: None,
        tolerance: None,
        decision: Decision::CannotTell,
        advice: Some(advice),
    }
}
