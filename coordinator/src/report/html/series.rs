//! Figures over time as a chart needs them: on a grid of so many intervals that a line of them can be told apart.

use std::time::Duration;

use groundswell_scenario::Plan;
use groundswell_scenario::load::Load;
use groundswell_scenario::plan::{Phase, Scenario, ScenarioStart};
use groundswell_stats::Distribution;

use super::chart::{Axis, Line};
use super::scale::Scale;
use crate::report::format::millis;
use crate::report::{Distributions, Interval, RenderError, Report, StepDistributions, TimelinePoint};

/// Moments of each interval at which the planned rate is looked up.
const LOOKS: u32 = 8;

/// The run's time in equal intervals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Grid {
    /// Seconds of an interval: those of the timeline, or some of them together.
    length_s: f64,
    /// End of the last one that has something.
    end_s: f64,
}

impl Grid {
    /// The timeline of a run in at most so many intervals.
    pub(super) fn of(report: &Report, most: usize) -> Self {
        let length = report.timeline.iter().map(|point| point.length_s).fold(1.0, f64::max);
        let end = report.timeline.iter().map(|point| point.t_s + point.length_s).fold(length, f64::max);
        let together = (end / length / most as f64).ceil().max(1.0);
        Grid { length_s: length * together, end_s: end }
    }

    pub(super) fn len(&self) -> usize {
        (self.end_s / self.length_s).ceil() as usize
    }

    /// Start of an interval; that of the one after the last is the end.
    pub(super) fn start(&self, index: usize) -> f64 {
        (index as f64 * self.length_s).min(self.end_s)
    }

    fn index(&self, t_s: f64) -> usize {
        ((t_s / self.length_s) as usize).min(self.len() - 1)
    }

    /// Seconds of an interval; the last one may be shorter.
    fn length(&self, index: usize) -> f64 {
        self.start(index + 1) - self.start(index)
    }

    /// A value for each interval, as points of a line.
    pub(super) fn points(&self, values: impl IntoIterator<Item = Option<f64>>) -> Vec<(f64, Option<f64>)> {
        values.into_iter().enumerate().map(|(index, value)| (self.start(index), value)).collect()
    }

    /// What happened a second in each interval.
    pub(super) fn rate<'t>(
        &self,
        points: impl Iterator<Item = &'t TimelinePoint>,
        of: impl Fn(&TimelinePoint) -> u64,
    ) -> Vec<(f64, Option<f64>)> {
        let mut counts = vec![0_u64; self.len()];
        points.for_each(|point| counts[self.index(point.t_s)] += of(point));
        let rates = counts.into_iter().enumerate().map(|(index, count)| Some(count as f64 / self.length(index)));
        self.points(rates)
    }

    /// The mean of what was looked at in each interval, given as moments with values; nothing where nobody looked.
    pub(super) fn mean(&self, looks: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, Option<f64>)> {
        let mut sums = vec![(0.0, 0_u32); self.len()];
        for (t_s, value) in looks {
            let (sum, n) = &mut sums[self.index(t_s)];
            (*sum, *n) = (*sum + value, *n + 1);
        }
        self.points(sums.into_iter().map(|(sum, n)| (n > 0).then(|| sum / f64::from(n))))
    }

    /// The response times of some steps in each interval.
    ///
    /// # Errors
    /// When sums do not fit.
    pub(super) fn distributions<'d>(
        &self,
        steps: impl Iterator<Item = &'d StepDistributions>,
    ) -> Result<Vec<Option<Distribution>>, RenderError> {
        let mut columns: Vec<Option<Distribution>> = vec![None; self.len()];
        for Interval { from_s, response, .. } in steps.flat_map(|step| &step.intervals) {
            let column = columns[self.index(*from_s as f64)].get_or_insert_default();
            let added = Distribution::of([response]).and_then(|response| column.merge(&response));
            added.map_err(|overflow| RenderError::Histogram(overflow.to_string()))?;
        }
        Ok(columns)
    }

    /// Operations a second that these scenarios are to start, where the schedule says it: in every interval in which all
    /// that are on have open loads. None where there is no such interval.
    pub(super) fn wanted(&self, plan: &Plan, of: impl Fn(&Scenario) -> bool) -> Option<Vec<(f64, Option<f64>)>> {
        let scenarios: Vec<(usize, &Scenario)> =
            plan.scenarios.iter().enumerate().filter(|(_, scenario)| of(scenario)).collect();
        let mut any = false;
        let mut at = |seconds: f64| -> Option<f64> {
            let at = Duration::from_secs_f64(seconds);
            let all: Option<Vec<f64>> =
                scenarios.iter().map(|(index, scenario)| wanted_at(plan, *index, scenario, at)).collect();
            let sum: f64 = all?.iter().sum();
            any |= sum > 0.0;
            Some(sum)
        };
        let values: Vec<Option<f64>> = (0..self.len())
            .map(|index| {
                let step = self.length(index) / f64::from(LOOKS);
                let looks: Option<Vec<f64>> =
                    (0..LOOKS).map(|look| at(self.start(index) + (f64::from(look) + 0.5) * step)).collect();
                Some(looks?.iter().sum::<f64>() / f64::from(LOOKS))
            })
            .collect();
        any.then(|| self.points(values))
    }
}

/// Operations a second that a scenario is to start at a moment of the run: the rate of iterations times the operations
/// of one. None where it has no rate then.
fn wanted_at(plan: &Plan, index: usize, scenario: &Scenario, at: Duration) -> Option<f64> {
    let ScenarioStart::At(start) = scenario.start else { return None };
    let mut wanted = 0.0;
    for (number, phase) in scenario.phases.iter().enumerate() {
        let Some(offset) = at.checked_sub(start + phase.offset) else { continue };
        match &phase.load {
            Load::Rate { curve, .. } => wanted += curve.at(offset) * operations(plan, index, number) as f64,
            _ if is_on(phase, offset) => return None,
            _ => {}
        }
    }
    Some(wanted)
}

fn is_on(phase: &Phase, offset: Duration) -> bool {
    phase.load.length().is_none_or(|length| offset < length)
}

fn operations(plan: &Plan, scenario: usize, phase: usize) -> u64 {
    let of_phase = plan.steps.iter().filter(|step| (step.scenario, step.phase) == (scenario, phase) && !step.warm_up);
    of_phase.map(|step| step.per_iteration).sum()
}

/// The steps that are in the figures.
pub(super) fn measured(distributions: &Distributions) -> impl Iterator<Item = &StepDistributions> {
    distributions.steps.iter().filter(|step| !step.warm_up)
}

/// Median, 90th and 99th percentile of each interval.
pub(super) fn percentiles(grid: &Grid, columns: &[Option<Distribution>]) -> Vec<Line> {
    let quantile = |q: f64| {
        let of = |column: &Option<Distribution>| {
            column.as_ref().filter(|column| column.count() > 0).map(|column| column.quantile_us(q) as f64 / 1e3)
        };
        grid.points(columns.iter().map(of))
    };
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)].map(|(name, q)| Line::new(name, quantile(q))).into()
}

/// The axis that every chart over time has.
pub(super) fn seconds_of_the_run(grid: &Grid) -> Axis {
    Axis {
        name: "seconds of the run",
        scale: Scale::from_zero(grid.start(grid.len())),
        show: |seconds| crate::report::format::count(seconds as u64),
    }
}

/// A latency on an axis or in a table.
pub(super) fn milliseconds(ms: f64) -> String {
    if ms > 0.0 { millis(ms) } else { "0".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_has_as_many_intervals_as_a_chart_takes() {
        for (seconds, most, length, intervals) in
            [(10, 180, 1.0, 10), (180, 180, 1.0, 180), (900, 180, 5.0, 180), (901, 180, 6.0, 151)]
        {
            let grid = Grid { length_s: length, end_s: f64::from(seconds) };
            let together = (f64::from(seconds) / f64::from(most)).ceil();
            assert!((grid.length_s - together).abs() < 1e-9 && grid.len() == intervals, "{grid:?}");
            assert!((0..grid.len()).all(|index| grid.length(index) > 0.0 && grid.index(grid.start(index)) == index));
        }
    }
}
