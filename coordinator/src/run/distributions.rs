//! The histograms of a run and its load over time, as its report's company.

use std::collections::BTreeMap;
use std::time::Duration;

use groundswell_scenario::flow::StepKind;
use groundswell_stats::{Distribution, Kind, Overflow, Point, Series, Span, StepId};

use super::Run;
use super::judge::RESPONSE;
use super::report::timeout_class;
use crate::report::{Distributions, Interval, LoadPoint, StepDistributions};

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
            let kind = self.plan.step(point.step).map(|timed| timed.kind);
            if let (Some(step), Some(kind)) = (steps.get_mut(point.step.0 as usize), kind) {
                step.intervals.push(interval(&point, kind));
            }
        }
        Ok(Distributions { steps, load: self.load_rows() })
    }

    fn series(&self, step: StepId, kinds: &[Kind]) -> Result<Series, Overflow> {
        self.totals.distribution([step], kinds).map(Distribution::into_series)
    }

    /// The load as a whole, interval by interval.
    pub(super) fn load_rows(&self) -> Vec<LoadPoint> {
        let (mut in_flight, mut open) = (0, 0);
        let row = |span: Span| {
            for point in self.timeline.points_at(span.from_s) {
                let ended = point.ok + point.failed + point.unsent;
                in_flight += i128::from(point.issued) - i128::from(ended);
                open += i128::from(point.opened) - i128::from(point.closed);
            }
            LoadPoint {
                t_s: span.from_s as f64,
                length_s: span.length_s as f64,
                wanted_per_s: self.wanted_on_average(span),
                users: span.users,
                in_flight: u64::try_from(in_flight).unwrap_or(0),
                open_sockets: u64::try_from(open).unwrap_or(0),
            }
        };
        self.timeline.spans().map(row).collect()
    }

    fn wanted_on_average(&self, span: Span) -> f64 {
        // The middle of each second: exact for what is constant or changes at a constant rate.
        let middle = |second: u64| Duration::from_millis(second * 1_000 + 500);
        let wanted: f64 = (span.from_s..).take(span.length_s as usize).map(|at| self.wanted_per_s(middle(at))).sum();
        wanted / span.length_s as f64
    }
}

/// One step in one interval.
pub(super) fn interval(point: &Point<'_>, kind: StepKind) -> Interval {
    Interval {
        from_s: point.from_s,
        length_s: point.length_s,
        issued: point.issued,
        ok: point.ok,
        failed: point.failed,
        failures: failures(point, kind),
        response: point.response.clone(),
        service: point.service.clone(),
    }
}

/// What failed in an interval, by class.
pub(super) fn failures(point: &Point<'_>, kind: StepKind) -> BTreeMap<String, u64> {
    let errors: u64 = point.errors_by_class.values().sum();
    let aborted = point.failed.saturating_sub(errors).saturating_sub(point.timeouts);
    let of_class = point.errors_by_class.iter().map(|(class, count)| (class.as_str(), *count));
    let all = of_class.chain([(timeout_class(kind), point.timeouts), ("aborted", aborted)]);
    all.filter(|(_, count)| *count > 0).map(|(class, count)| (class.to_owned(), count)).collect()
}
