//! How far a figure of one step of one run may be off by chance.
//!
//! The seconds of a run are no independent samples: a busy machine, a garbage collection or a full queue lasts for
//! several of them. So blocks of neighbouring intervals are drawn and not single ones: the moving-block bootstrap (Künsch,
//! The Jackknife and the Bootstrap for General Stationary Observations, Annals of Statistics 17, 1989), on a circle so
//! that the ends weigh as much as the middle (Politis & Romano, A Circular Block-Resampling Procedure for Stationary Data,
//! 1992). A block has n^(1/3) of n intervals, the order that is best for a variance (Hall, Horowitz & Jing, On Blocking
//! Rules for the Bootstrap with Dependent Data, Biometrika 82, 1995). The percentiles of a resample are those of the
//! histogram that its intervals make together.

use groundswell_stats::Layout;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::comparison::Metric;
use crate::report::{Interval, StepDistributions, StepFigures};

/// Resamples: a standard error then is itself known to 1/√(2 × 400), 3.5 %.
pub(super) const RESAMPLES: usize = 400;
/// Fewer intervals than this are no series.
const LEAST_INTERVALS: usize = 8;
/// A percentile rests on the samples above it; on fewer than this it is an accident.
const LEAST_ABOVE: f64 = 10.0;
/// Variance of the logarithm of a percentile for the width of its bin, 1/1024 (uniform distribution).
const BIN_VARIANCE: f64 = 1.0 / (1024.0 * 1024.0 * 12.0);

/// A figure on the scale on which it is compared: the logarithm of latencies and throughput, so that differences are
/// parts, and error rates as they are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Estimate {
    pub(super) value: f64,
    /// Of chance within the run.
    pub(super) variance: f64,
    /// Degrees of freedom of that variance.
    pub(super) freedom: f64,
}

/// Why a figure has no estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TooLittle {
    /// No sample at all.
    Nothing,
    /// The step was at work for fewer seconds than a series needs.
    Short {
        /// Seconds needed.
        needed_s: u64,
    },
    /// Fewer operations than the percentile needs.
    Few {
        /// Operations needed.
        needed: u64,
    },
}

/// The estimates of one step of one run, by [`Metric::ALL`].
pub(super) type Estimates = Vec<Result<Estimate, TooLittle>>;

/// Estimates every figure of a step.
pub(super) fn estimates(step: &StepDistributions, figures: &StepFigures, generator: &mut ChaCha8Rng) -> Estimates {
    let series = Intervals::of(&step.intervals);
    let spreads = if series.intervals.len() < LEAST_INTERVALS {
        let needed_s = LEAST_INTERVALS as u64 * series.length_s;
        return Metric::ALL.map(|metric| point(metric, figures).and(Err(TooLittle::Short { needed_s }))).into();
    } else {
        series.spreads(generator)
    };
    let freedom = series.freedom();
    let estimate = |(metric, spread): (Metric, f64)| {
        let value = point(metric, figures)?;
        let variance = match metric {
            Metric::Throughput => spread,
            // Where nothing failed, or all did, every resample is the same; the next run need not be.
            Metric::ErrorRate => spread.max(binomial_variance(step)),
            _ => spread + BIN_VARIANCE,
        };
        Ok(Estimate { value, variance, freedom })
    };
    Metric::ALL.into_iter().zip(spreads).map(estimate).collect()
}

/// The figure itself, as the report has it, on its scale.
fn point(metric: Metric, figures: &StepFigures) -> Result<f64, TooLittle> {
    let logarithm = |figure: Option<f64>| figure.filter(|figure| *figure > 0.0).map(f64::ln).ok_or(TooLittle::Nothing);
    let operations = figures.ok + figures.errors;
    if let Some(q) = metric.quantile() {
        let needed = (LEAST_ABOVE / (1.0 - q)).round() as u64;
        let value = logarithm(figure(metric, figures))?;
        return if figures.response_ms.count < needed { Err(TooLittle::Few { needed }) } else { Ok(value) };
    }
    match metric {
        Metric::ErrorRate if operations == 0 => Err(TooLittle::Nothing),
        Metric::ErrorRate => Ok(figures.error_rate),
        _ => logarithm(figure(metric, figures)),
    }
}

/// The figure as the report has it, in its unit.
pub(super) fn figure(metric: Metric, figures: &StepFigures) -> Option<f64> {
    let latency = &figures.response_ms;
    match metric {
        Metric::P50 => latency.p50,
        Metric::P90 => latency.p90,
        Metric::P95 => latency.p95,
        Metric::P99 => latency.p99,
        Metric::Throughput => Some(figures.throughput_per_s),
        Metric::ErrorRate => Some(figures.error_rate),
    }
}

/// Variance of a ratio of so many operations, with one more of each outcome (Agresti & Caffo, Simple and Effective
/// Confidence Intervals for Proportions and Differences of Proportions, The American Statistician 54, 2000).
fn binomial_variance(step: &StepDistributions) -> f64 {
    let (ok, failed) = step
        .intervals
        .iter()
        .fold((1.0, 1.0), |(ok, failed), interval| (ok + interval.ok as f64, failed + interval.failed as f64));
    let (all, ratio) = (ok + failed, failed / (ok + failed));
    ratio * (1.0 - ratio) / all
}

/// The intervals of a step one after another, also those in which nothing happened.
struct Intervals {
    intervals: Vec<Counted>,
    length_s: u64,
    /// The bins that any of them uses, ascending: a resample adds up these alone.
    bins: Vec<u32>,
}

/// One interval: outcomes, and counts by position in [`Intervals::bins`]. In floats: exact to 2^53, and no file can make
/// their sums overflow.
#[derive(Default, Clone)]
struct Counted {
    ok: f64,
    failed: f64,
    counts: Vec<(u32, f64)>,
}

impl Intervals {
    fn of(intervals: &[Interval]) -> Self {
        let mut bins: Vec<u32> =
            intervals.iter().flat_map(|interval| interval.response.buckets.iter().map(|(bin, _)| bin)).collect();
        bins.sort_unstable();
        bins.dedup();
        let length_s = intervals.first().map_or(1, |interval| interval.length_s.max(1));
        let begin = intervals.first().map_or(0, |interval| interval.from_s);
        let mut all: Vec<Counted> = Vec::new();
        for interval in intervals {
            let place = usize::try_from((interval.from_s.saturating_sub(begin)) / length_s).unwrap_or(usize::MAX);
            // A run has at most some thousand intervals, whatever a file says.
            all.resize(all.len().max(place.min(MOST_INTERVALS)), Counted::default());
            let position = |bin: u32| bins.partition_point(|known| *known < bin) as u32;
            let counts = interval.response.buckets.iter().map(|(bin, count)| (position(bin), count as f64)).collect();
            all.push(Counted { ok: interval.ok as f64, failed: interval.failed as f64, counts });
        }
        Intervals { intervals: all, length_s, bins }
    }

    /// Intervals of a block.
    fn block(&self) -> usize {
        // Of at most some thousand intervals, so the result is small and exact enough.
        ((self.intervals.len() as f64).cbrt() - 1e-9).ceil().max(1.0) as usize
    }

    /// A variance over so many blocks is as good as one over so many independent samples.
    fn freedom(&self) -> f64 {
        (self.intervals.len() as f64 / self.block() as f64 - 1.0).max(1.0)
    }

    /// The variance of each figure over the resamples, by [`Metric::ALL`].
    fn spreads(&self, generator: &mut ChaCha8Rng) -> [f64; Metric::ALL.len()] {
        let mut spreads = [Spread::default(); Metric::ALL.len()];
        let mut weights = vec![0.0; self.intervals.len()];
        let mut sums = vec![0.0; self.bins.len()];
        for _ in 0..RESAMPLES {
            self.draw(generator, &mut weights);
            for (spread, figure) in spreads.iter_mut().zip(self.figures(&weights, &mut sums)) {
                figure.into_iter().for_each(|figure| spread.add(figure));
            }
        }
        spreads.map(|spread| spread.variance())
    }

    /// How often a resample has each interval: blocks are drawn until there are as many intervals as the run has.
    fn draw(&self, generator: &mut ChaCha8Rng, weights: &mut [f64]) {
        weights.fill(0.0);
        let (all, block) = (weights.len(), self.block());
        let mut drawn = 0;
        while drawn < all {
            let start = generator.random_range(0..all);
            for offset in 0..block.min(all - drawn) {
                weights[(start + offset) % all] += 1.0;
            }
            drawn += block;
        }
    }

    /// The figures of a resample, by [`Metric::ALL`]; none where it has no sample.
    fn figures(&self, weights: &[f64], sums: &mut [f64]) -> [Option<f64>; Metric::ALL.len()] {
        sums.fill(0.0);
        let (mut ok, mut failed, mut whole) = (0.0, 0.0, (0.0, 0.0));
        let last = weights.len() - 1;
        for (index, (interval, weight)) in self.intervals.iter().zip(weights).enumerate() {
            ok += interval.ok * weight;
            failed += interval.failed * weight;
            // The load begins and ends within the first and the last one: they are no measure of a rate.
            if index > 0 && index < last {
                whole = (whole.0 + interval.ok * weight, whole.1 + weight);
            }
            interval.counts.iter().for_each(|(bin, count)| sums[*bin as usize] += count * weight);
        }
        let mut figures = self.percentiles(sums);
        for (figure, metric) in figures.iter_mut().zip(Metric::ALL) {
            match metric {
                Metric::Throughput if whole.0 > 0.0 => *figure = Some((whole.0 / whole.1).ln()),
                Metric::ErrorRate if ok + failed > 0.0 => *figure = Some(failed / (ok + failed)),
                _ => {}
            }
        }
        figures
    }

    /// The logarithms of the percentiles, which stand first in [`Metric::ALL`]; none for other metrics.
    fn percentiles(&self, sums: &[f64]) -> [Option<f64>; Metric::ALL.len()] {
        let mut figures = [None; Metric::ALL.len()];
        let all: f64 = sums.iter().sum();
        let (mut counted, mut next) = (0.0, 0);
        for (bin, count) in self.bins.iter().zip(sums).filter(|(_, count)| **count > 0.0) {
            counted += count;
            // 0.95 × 20 may be a little more than 19 in binary.
            let reached = |metric: &Metric| metric.quantile().is_some_and(|q| counted >= q * all * (1.0 - 1e-12));
            while Metric::ALL.get(next).is_some_and(reached) {
                figures[next] = Some((Layout::STANDARD.highest_of(*bin).max(1) as f64).ln());
                next += 1;
            }
        }
        figures
    }
}

/// More than the intervals of any run.
const MOST_INTERVALS: usize = 10_000;

/// Mean and variance of a growing number of values (Welford, Note on a Method for Calculating Corrected Sums of Squares
/// and Products, Technometrics 4, 1962).
#[derive(Default, Clone, Copy)]
struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let off = value - self.mean;
        self.mean += off / self.count;
        self.squares += off * (value - self.mean);
    }

    fn variance(self) -> f64 {
        if self.count < 2.0 { 0.0 } else { self.squares / (self.count - 1.0) }
    }
}
