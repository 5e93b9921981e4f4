//! The histograms of a run, as its report's company.

use groundswell_stats::{Distribution, Kind, Overflow, Point, Series, StepId};

use super::Run;
use super::judge::RESPONSE;
use crate::report::{Distributions, Interval, StepDistributions};

impl Run {
    /// The histograms behind the report.
    pub(super) fn distributions(&self) -> Result<Distributions, Overflow> {
        let mut steps = Vec::with_capacity(self.plan.steps.len());
        for (id, timed) in self.every_step().zip(&self.plan.steps) {
            let scenario = &self.plan.scenarios[timed.scenario];
            steps.push(StepDistributions {
                scenario: scenario.name.clone(),
                level: scenario.phases[timed.phase].level.clone(),
                step: timed.name.clone(),
                kind: timed.kind.as_str().to_owned(),
                warm_up: timed.warm_up,
                response: self.series(id, &RESPONSE)?,
                service: self.series(id, &[Kind::Service])?,
                intervals: Vec::new(),
            });
        }
        for point in self.timeline.points() {
            if let Some(step) = steps.get_mut(point.step.0 as usize) {
                step.intervals.push(interval(&point));
            }
        }
        Ok(Distributions { steps })
    }

    fn series(&self, step: StepId, kinds: &[Kind]) -> Result<Series, Overflow> {
        self.totals.distribution([step], kinds).map(Distribution::into_series)
    }
}

fn interval(point: &Point<'_>) -> Interval {
    let Point { from_s, length_s, issued, ok, failed, response, .. } = *point;
    Interval { from_s, length_s, issued, ok, failed, response: response.clone() }
}
