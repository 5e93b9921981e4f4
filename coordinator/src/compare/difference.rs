//! The difference between a run and its baselines, and how far chance may have moved it.
//!
//! What differs from run to run, whatever happens within each, is a random effect: the variance between the baselines
//! beyond that within them, by the method of moments (DerSimonian & Laird, Meta-Analysis in Clinical Trials, Controlled
//! Clinical Trials 7, 1986). It counts for the run too, so the interval is one for the next run and not for the mean of all
//! (Hahn & Meeker, Statistical Intervals, 4.7). The degrees of freedom are those of a sum of variances (Satterthwaite, An
//! Approximate Distribution of Estimates of Variance Components, Biometrics Bulletin 2, 1946): where baselines agree as
//! well as chance within them allows they are many, where they don't they are one less than there are baselines.

use super::comparison::{Decision, Metric};
use super::estimate::Estimate;
use super::student;

/// A figure of a run minus that of its baselines, on the scale of [`Estimate`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Difference {
    pub(super) baseline: f64,
    pub(super) value: f64,
    /// Of the difference, by chance within the runs and between them.
    variance: f64,
    /// The part of it that is between runs, 0 to 1.
    between: f64,
    freedom: f64,
}

/// The tolerance on the same scale: below zero and above it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Band {
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Difference {
    /// `baselines` holds one at least.
    pub(super) fn of(baselines: &[Estimate], run: &Estimate) -> Self {
        let count = baselines.len() as f64;
        let mean = |of: fn(&Estimate) -> f64| baselines.iter().map(of).sum::<f64>() / count;
        let baseline = mean(|estimate| estimate.value);
        let squares: f64 = baselines.iter().map(|estimate| (estimate.value - baseline).powi(2)).sum();
        let seen = if baselines.len() > 1 { squares / (count - 1.0) } else { 0.0 };
        let between = (seen - mean(|estimate| estimate.variance)).max(0.0) * (1.0 + 1.0 / count);
        let within = baselines.iter().map(|estimate| (estimate.variance / (count * count), estimate.freedom));
        let parts = within.chain([(run.variance, run.freedom), (between, (count - 1.0).max(1.0))]);
        let (variance, weighed) =
            parts.fold((0.0, 0.0), |(sum, weighed), (part, freedom)| (sum + part, weighed + part * part / freedom));
        let freedom = if weighed > 0.0 { variance * variance / weighed } else { f64::from(u32::MAX) };
        let between = if variance > 0.0 { between / variance } else { 0.0 };
        Difference { baseline, value: run.value - baseline, variance, between, freedom }
    }

    /// Half of the interval that misses the true difference with this probability.
    fn half(&self, probability: f64) -> f64 {
        if self.variance == 0.0 { 0.0 } else { student::two_sided(probability, self.freedom) * self.variance.sqrt() }
    }

    /// The interval that misses the true difference with this probability.
    pub(super) fn interval(&self, probability: f64) -> Band {
        let half = self.half(probability);
        Band { low: self.value - half, high: self.value + half }
    }

    /// By how much longer runs would have to be for the interval to leave the edge of the tolerance that it lies on.
    pub(super) fn times_longer(&self, probability: f64, band: Band) -> f64 {
        let edge = (self.value - band.low).abs().min((self.value - band.high).abs());
        (self.half(probability) / edge).powi(2)
    }

    /// Is it mostly the baselines among themselves that differ? Longer runs then tell no more.
    pub(super) fn is_between_runs(&self) -> bool {
        self.between > 0.5
    }
}

/// What an interval of differences means.
pub(super) fn decision(metric: Metric, interval: Band, tolerance: Band) -> Decision {
    let (below, above) = match metric {
        Metric::Throughput => (Decision::Regression, Decision::Improvement),
        _ => (Decision::Improvement, Decision::Regression),
    };
    match interval {
        Band { low, .. } if low > tolerance.high => above,
        Band { high, .. } if high < tolerance.low => below,
        Band { low, high } if low >= tolerance.low && high <= tolerance.high => Decision::NoDifference,
        _ => Decision::CannotTell,
    }
}

/// The decision about each figure, with the probability of the interval that it rests on.
///
/// All figures together are called different with at most this probability where none is (Holm, A Simple Sequentially
/// Rejective Multiple Test Procedure, Scandinavian Journal of Statistics 6, 1979): each is judged at the probability
/// divided by the number of figures, and once one is decided the others share what is left among one fewer.
pub(super) fn judge(figures: &[(Metric, Difference, Band)], probability: f64) -> Vec<(Decision, f64)> {
    let mut judged: Vec<Option<(Decision, f64)>> = vec![None; figures.len()];
    loop {
        let left = judged.iter().filter(|judged| judged.is_none()).count();
        let share = probability / left.max(1) as f64;
        let mut found = false;
        for ((metric, difference, band), judged) in figures.iter().zip(&mut judged) {
            let decision = decision(*metric, difference.interval(share), *band);
            if judged.is_none() && matches!(decision, Decision::Regression | Decision::Improvement) {
                (*judged, found) = (Some((decision, share)), true);
            }
        }
        if !found {
            let rest = figures.iter().zip(judged).map(|((metric, difference, band), judged)| {
                judged.unwrap_or_else(|| (decision(*metric, difference.interval(share), *band), share))
            });
            return rest.collect();
        }
    }
}
