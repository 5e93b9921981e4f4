//! Thresholds: judged on merged figures, while the run goes on and at its end.

use std::time::Duration;

use groundswell_scenario::Plan;
use groundswell_scenario::load::Load;
use groundswell_scenario::plan::ScenarioStart;
use groundswell_scenario::threshold::{Latency, Metric, Ordering, Threshold};
use groundswell_stats::{Counters, Distribution, Kind, Overflow, Room, StepId, Timeline, Totals, Window};

use crate::report::ThresholdResult;

/// Rates need some time before they mean anything.
const RATE_NEEDS: Duration = Duration::from_secs(1);

/// Both kinds of response time: a failure is a response too, and timeouts must not better a percentile.
pub(super) const RESPONSE: [Kind; 2] = [Kind::ResponseOk, Kind::ResponseFailed];

/// The thresholds of a run with what they have seen.
pub(super) struct Judge {
    seen: Vec<Seen>,
    judged_to: Duration,
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// Value of the worst window so far, for `over`.
    worst: Option<f64>,
    broken: bool,
    aborted_at: Option<Duration>,
}

/// Figures that a threshold can look at: of the whole run or of a window.
struct Figures {
    counters: Counters,
    active: Duration,
    distribution: Option<Distribution>,
    /// All rooms together, for a figure of broadcasts: what was expected, and the sums.
    broadcasts: Broadcasts,
}

/// All rooms of a run together.
#[derive(Debug, Clone, Default)]
pub(super) struct Broadcasts {
    /// Is there a room at all?
    any: bool,
    missing: u64,
    duplicated: u64,
    out_of_order: u64,
    delivery: Distribution,
}

/// The longest window that a threshold of the plan looks at; none where none does.
pub(super) fn longest_window(plan: &Plan) -> Duration {
    plan.thresholds.iter().filter_map(|threshold| threshold.over).max().unwrap_or_default()
}

impl Broadcasts {
    pub(super) fn of<'r>(rooms: impl IntoIterator<Item = &'r Room>) -> Result<Self, Overflow> {
        let mut all = Broadcasts::default();
        for room in rooms {
            all.any = true;
            all.missing += room.expected().saturating_sub(room.counts.delivered);
            all.duplicated += room.counts.duplicated;
            all.out_of_order += room.counts.out_of_order;
            all.delivery.merge(&Distribution::of(room.latency.values())?)?;
        }
        Ok(all)
    }
}

impl Judge {
    pub(super) fn new(plan: &Plan) -> Self {
        Judge { seen: vec![Seen::default(); plan.thresholds.len()], judged_to: Duration::ZERO }
    }

    /// Looks at every window that ended since last time, and at the thresholds that may stop the run.
    pub(super) fn judge_now(
        &mut self,
        plan: &Plan,
        totals: &Totals,
        timeline: &Timeline,
        merged_to: Duration,
    ) -> Result<(), Overflow> {
        let from = self.judged_to.as_secs() + 1;
        for second in from..=merged_to.as_secs() {
            let now = Duration::from_secs(second);
            for (threshold, seen) in plan.thresholds.iter().zip(&mut self.seen) {
                if now < threshold.after {
                    continue;
                }
                if let Some(over) = threshold.over {
                    judge_window(plan, threshold, seen, timeline, now, over)?;
                } else if threshold.stop && second == merged_to.as_secs() && !seen.broken {
                    let figures = whole_run(plan, threshold, totals, now)?;
                    seen.broken = figures.value(threshold.metric).is_some_and(|value| !threshold.holds(value));
                }
                if threshold.stop && seen.broken {
                    seen.aborted_at.get_or_insert(now);
                }
            }
        }
        self.judged_to = self.judged_to.max(merged_to);
        Ok(())
    }

    /// Is a threshold broken that says `stop`?
    pub(super) fn stops(&self) -> bool {
        self.seen.iter().any(|seen| seen.aborted_at.is_some())
    }

    /// The outcome of every threshold at the end of a run that lasted this long.
    pub(super) fn results(
        &self,
        plan: &Plan,
        totals: &Totals,
        broadcasts: &Broadcasts,
        length: Duration,
    ) -> Result<Vec<ThresholdResult>, Overflow> {
        let result = |(threshold, seen): (&Threshold, &Seen)| {
            let value = match threshold.over {
                Some(_) => seen.worst,
                None => {
                    let mut figures = whole_run(plan, threshold, totals, length)?;
                    if threshold.metric.is_of_broadcasts() {
                        figures.distribution = Some(broadcasts.delivery.clone());
                        figures.broadcasts = broadcasts.clone();
                    }
                    figures.value(threshold.metric)
                }
            };
            let holds = value.is_some_and(|value| threshold.holds(value));
            Ok(ThresholdResult {
                text: threshold.text.clone(),
                value,
                unit: unit(threshold.metric).to_owned(),
                // A figure that does not exist proves nothing, so it does not pass.
                passed: holds && !seen.broken,
                aborted_at_s: seen.aborted_at.map(|at| at.as_secs_f64()),
            })
        };
        plan.thresholds.iter().zip(&self.seen).map(result).collect()
    }
}

fn judge_window(
    plan: &Plan,
    threshold: &Threshold,
    seen: &mut Seen,
    timeline: &Timeline,
    now: Duration,
    over: Duration,
) -> Result<(), Overflow> {
    let Some(from) = now.checked_sub(over).filter(|from| *from >= threshold.after) else { return Ok(()) };
    // Only windows in which the load was on all along: at its edges a rate is no figure of the target.
    if !threshold.steps.iter().any(|step| covers(plan, *step, from, now)) {
        return Ok(());
    }
    let steps = threshold.steps.iter().copied();
    let Window { counters, latency } =
        timeline.window(over.as_secs(), now.as_secs(), steps, kinds(threshold.metric))?;
    let figures = Figures { counters, active: over, distribution: Some(latency), broadcasts: Broadcasts::default() };
    let Some(value) = figures.value(threshold.metric) else { return Ok(()) };
    let worse = |than: f64| match threshold.comparison {
        Ordering::Less | Ordering::LessOrEqual => value > than,
        Ordering::Greater | Ordering::GreaterOrEqual => value < than,
        Ordering::Equal => !threshold.holds(value),
    };
    if seen.worst.is_none_or(worse) {
        seen.worst = Some(value);
    }
    seen.broken |= !threshold.holds(value);
    Ok(())
}

fn whole_run(plan: &Plan, threshold: &Threshold, totals: &Totals, now: Duration) -> Result<Figures, Overflow> {
    let steps = || threshold.steps.iter().copied();
    let distribution = match latency(threshold.metric) {
        Some(_) => Some(totals.distribution(steps(), kinds(threshold.metric))?),
        None => None,
    };
    Ok(Figures {
        counters: totals.merged_counters(steps())?,
        active: active(plan, &threshold.steps, now),
        distribution,
        broadcasts: Broadcasts::default(),
    })
}

impl Figures {
    /// The figure; none where there is no sample or too little time.
    fn value(&self, metric: Metric) -> Option<f64> {
        let distribution = self.distribution.as_ref().filter(|distribution| distribution.count() > 0);
        let failed = self.counters.failed();
        let per_second =
            |operations: u64| (self.active >= RATE_NEEDS).then(|| operations as f64 / self.active.as_secs_f64());
        match metric {
            Metric::Quantile(_, quantile) => Some(ms(distribution?.quantile_us(quantile) as f64)),
            Metric::Min(_) => Some(ms(distribution?.min_us() as f64)),
            Metric::Mean(_) => Some(ms(distribution?.mean_us())),
            Metric::Max(_) => Some(ms(distribution?.max_us() as f64)),
            Metric::ErrorRate => error_rate(&self.counters),
            Metric::Checks => checks(&self.counters),
            Metric::Errors => Some(failed as f64),
            Metric::Throughput => per_second(self.counters.ok),
            Metric::Rate => per_second(self.counters.issued),
            Metric::Count => Some(self.counters.issued as f64),
            Metric::Missing => self.broadcasts.any.then_some(self.broadcasts.missing as f64),
            Metric::Duplicated => self.broadcasts.any.then_some(self.broadcasts.duplicated as f64),
            Metric::OutOfOrder => self.broadcasts.any.then_some(self.broadcasts.out_of_order as f64),
            Metric::Shed => Some(self.counters.shed.values().sum::<u64>() as f64),
        }
    }
}

/// How long these steps were measured up to `now`: the union of the times of their phases, without warm-ups.
pub(super) fn active(plan: &Plan, steps: &[StepId], now: Duration) -> Duration {
    let span = |step: &StepId| {
        let timed = plan.step(*step)?;
        let scenario = &plan.scenarios[timed.scenario];
        let phase = &scenario.phases[timed.phase];
        let start = match scenario.start {
            ScenarioStart::At(start) => start,
            ScenarioStart::AfterEnd(_) => Duration::ZERO,
        } + phase.offset;
        let end = match phase.load.length() {
            Some(length) if matches!(scenario.start, ScenarioStart::At(_)) => start + length,
            _ => now,
        };
        Some((start + phase.measured_from(), end.min(now)))
    };
    let mut spans: Vec<(Duration, Duration)> = steps.iter().filter_map(span).collect();
    spans.sort_unstable();
    let (mut total, mut reached) = (Duration::ZERO, Duration::ZERO);
    for (from, to) in spans {
        total += to.saturating_sub(from.max(reached));
        reached = reached.max(to);
    }
    total
}

/// (errors + timeouts + aborted) / (issued - unsent); none where nothing was sent.
pub(super) fn error_rate(counters: &Counters) -> Option<f64> {
    let sent = counters.issued.saturating_sub(counters.unsent_in_all());
    (sent > 0).then(|| counters.failed() as f64 / sent as f64)
}

/// Of the operations that were answered, the part whose expectations held; none where none was answered.
fn checks(counters: &Counters) -> Option<f64> {
    let of_expectations = |class: &str| class.starts_with("expect_") || class == "capture_missing";
    let broken: u64 = counters
        .errors_by_class
        .iter()
        .filter(|(class, _)| of_expectations(class.as_str()))
        .map(|(_, count)| *count)
        .sum();
    let answered = counters.ok + broken;
    (answered > 0).then(|| counters.ok as f64 / answered as f64)
}

/// Is the phase of a step on during the whole of `from..to`?
fn covers(plan: &Plan, step: StepId, from: Duration, to: Duration) -> bool {
    let Some(timed) = plan.step(step) else { return false };
    let scenario = &plan.scenarios[timed.scenario];
    let ScenarioStart::At(start) = scenario.start else { return true };
    let phase = &scenario.phases[timed.phase];
    let phase_start = start + phase.offset;
    let measured_from = phase_start + phase.measured_from();
    let end = match &phase.load {
        Load::Iterations { .. } => return from >= measured_from,
        load => phase_start + load.limit(),
    };
    from >= measured_from && to <= end
}

fn latency(metric: Metric) -> Option<Latency> {
    match metric {
        Metric::Quantile(latency, _) | Metric::Min(latency) | Metric::Mean(latency) | Metric::Max(latency) => {
            Some(latency)
        }
        _ => None,
    }
}

fn kinds(metric: Metric) -> &'static [Kind] {
    match latency(metric) {
        Some(Latency::Service) => &[Kind::Service],
        Some(Latency::SendLag) => &[Kind::SendLag],
        Some(Latency::Delivery) => &[],
        Some(Latency::Response) | None => &RESPONSE,
    }
}

fn unit(metric: Metric) -> &'static str {
    match metric {
        Metric::ErrorRate | Metric::Checks => "ratio",
        Metric::Throughput | Metric::Rate => "/s",
        Metric::Errors | Metric::Count | Metric::Shed | Metric::Missing | Metric::Duplicated | Metric::OutOfOrder => {
            "count"
        }
        _ => "ms",
    }
}

fn ms(us: f64) -> f64 {
    us / 1e3
}
