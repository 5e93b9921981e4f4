//! What charts show of each interval: few figures, made from the histograms once, for everybody who looks.

use std::collections::BTreeMap;

use groundswell_stats::{Distribution, Layout, Overflow, Series};
use serde::{Deserialize, Serialize};

use super::{Distributions, Interval, LoadPoint, StepDistributions};

/// Rows of a heat map for each power of ten: row `n` has the response times from `10^(n/8)` µs up to those of the next.
pub const HEAT_ROWS_PER_DECADE: f64 = 8.0;

/// One interval of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// The load as a whole.
    #[serde(flatten)]
    pub load: LoadPoint,
    /// All steps together, those of the warm-up among them.
    pub total: FrameFigures,
    /// Failures of all steps by class.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub errors_by_class: BTreeMap<String, u64>,
    /// The heat map's column: (row, response times in it), see [`HEAT_ROWS_PER_DECADE`].
    pub heat: Vec<(u32, u64)>,
    /// Each step in which something happened, by its number in the list of steps.
    pub steps: BTreeMap<usize, FrameFigures>,
}

/// Figures of one interval.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FrameFigures {
    /// Operations issued.
    pub issued: u64,
    /// Operations that ended well.
    pub ok: u64,
    /// Operations that failed.
    pub errors: u64,
    /// Response time in milliseconds: p50, p90, p99; none without a sample.
    pub response_ms: Option<[f64; 3]>,
    /// Service time in milliseconds: p50, p90, p99.
    pub service_ms: Option<[f64; 3]>,
}

/// Which step a number in a [`Frame`] stands for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrameStep {
    /// Scenario.
    pub scenario: String,
    /// Level of a sweep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Name of the step.
    pub step: String,
    /// As in [`super::StepFigures::kind`].
    pub kind: String,
    /// Does it belong to the warm-up?
    pub warm_up: bool,
}

impl From<&StepDistributions> for FrameStep {
    fn from(step: &StepDistributions) -> Self {
        let StepDistributions { scenario, level, step, kind, warm_up, .. } = step.clone();
        FrameStep { scenario, level, step, kind, warm_up }
    }
}

impl Frame {
    /// The frame of an interval, from what each step did in it.
    ///
    /// # Errors
    /// When a sum does not fit, which figures of a report never do.
    pub fn of<'a>(load: LoadPoint, steps: impl IntoIterator<Item = (usize, &'a Interval)>) -> Result<Self, Overflow> {
        let mut frame = Frame {
            load,
            total: FrameFigures::default(),
            errors_by_class: BTreeMap::new(),
            heat: Vec::new(),
            steps: BTreeMap::new(),
        };
        let (mut response, mut service) = (Distribution::default(), Distribution::default());
        for (number, interval) in steps {
            let (of_step, its_service) =
                (Distribution::of([&interval.response])?, Distribution::of([&interval.service])?);
            frame.total.issued += interval.issued;
            frame.total.ok += interval.ok;
            frame.total.errors += interval.failed;
            for (class, count) in &interval.failures {
                *frame.errors_by_class.entry(class.clone()).or_default() += count;
            }
            let figures = FrameFigures {
                issued: interval.issued,
                ok: interval.ok,
                errors: interval.failed,
                response_ms: percentiles(&of_step),
                service_ms: percentiles(&its_service),
            };
            frame.steps.insert(number, figures);
            response.merge(&of_step)?;
            service.merge(&its_service)?;
        }
        (frame.total.response_ms, frame.total.service_ms) = (percentiles(&response), percentiles(&service));
        frame.heat = heat(&response.into_series());
        Ok(frame)
    }

    /// Every frame of a run that is over.
    ///
    /// # Errors
    /// As [`Frame::of`].
    pub fn all(distributions: &Distributions) -> Result<Vec<Self>, Overflow> {
        let mut by_start: BTreeMap<u64, Vec<(usize, &Interval)>> = BTreeMap::new();
        for (number, step) in distributions.steps.iter().enumerate() {
            for interval in &step.intervals {
                by_start.entry(interval.from_s).or_default().push((number, interval));
            }
        }
        let frame = |load: &LoadPoint| Frame::of(*load, by_start.remove(&(load.t_s as u64)).unwrap_or_default());
        distributions.load.iter().map(frame).collect()
    }
}

/// The curve of a percentile plot: (part of the values, milliseconds that they do not exceed), from 0 to 1, with points as
/// dense in the tail as in the middle when the axis is `1 / (1 - part)`, as HdrHistogram's own plots have them: five for
/// each half of the distance to 1 that is left.
pub fn percentile_curve(distribution: &Distribution) -> Vec<(f64, f64)> {
    const TICKS_PER_HALF: u32 = 5;
    if distribution.count() == 0 {
        return Vec::new();
    }
    let ms = |us: u64| us as f64 / 1e3;
    let mut curve = vec![(0.0, ms(distribution.min_us()))];
    let (mut left, mut tick) = (1.0_f64, 0);
    // Beyond one value in all there is nothing to tell.
    while left * distribution.count() as f64 > 0.5 {
        tick += 1;
        let half = f64::from(tick / TICKS_PER_HALF);
        let within = f64::from(tick % TICKS_PER_HALF) / f64::from(TICKS_PER_HALF);
        left = 0.5_f64.powf(half) * (1.0 - within / 2.0);
        curve.push((1.0 - left, ms(distribution.quantile_us(1.0 - left))));
    }
    curve.push((1.0, ms(distribution.max_us())));
    curve
}

fn percentiles(distribution: &Distribution) -> Option<[f64; 3]> {
    let ms = |q| distribution.quantile_us(q) as f64 / 1e3;
    (distribution.count() > 0).then(|| [ms(0.5), ms(0.9), ms(0.99)])
}

fn heat(series: &Series) -> Vec<(u32, u64)> {
    let mut rows: Vec<(u32, u64)> = Vec::new();
    for (index, count) in series.buckets.iter() {
        let value_us = Layout::STANDARD.lowest_of(index).max(1) as f64;
        // At most 77: the layout ends at an hour.
        let row = (value_us.log10() * HEAT_ROWS_PER_DECADE) as u32;
        match rows.last_mut() {
            Some((last, sum)) if *last == row => *sum += count,
            _ => rows.push((row, count)),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn interval(values_us: &[u64]) -> Interval {
        let mut response = Series::default();
        values_us.iter().for_each(|value| response.record(*value));
        Interval {
            from_s: 4,
            length_s: 1,
            issued: response.count,
            ok: response.count - 1,
            failed: 1,
            failures: BTreeMap::from([("timeout".to_owned(), 1)]),
            service: response.clone(),
            response,
        }
    }

    #[test]
    fn a_frame_adds_steps_and_keeps_each() {
        let load = LoadPoint { t_s: 4.0, length_s: 1.0, wanted_per_s: 5.0, users: 2.0, in_flight: 0, open_sockets: 0 };
        let (fast, slow) = (interval(&[1, 1_000]), interval(&[100_000; 4]));
        let frame = Frame::of(load, [(0, &fast), (3, &slow)]).unwrap();
        assert_eq!((frame.total.issued, frame.total.ok, frame.total.errors), (6, 4, 2));
        assert_eq!(frame.errors_by_class["timeout"], 2);
        assert_eq!(frame.heat, [(0, 1), (24, 1), (39, 4)], "1 ms begins row 24; a bin of 100 ms begins below it");
        assert_eq!(frame.steps.keys().collect::<Vec<_>>(), [&0, &3]);
        assert_eq!(frame.steps[&0].response_ms.unwrap()[0], 0.001);
        let p50 = frame.total.response_ms.unwrap()[0];
        assert!((100.0..100.1).contains(&p50), "{p50}");
    }
}
