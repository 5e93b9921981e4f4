//! How much an agent can have done by now: no more than its part of the plan has due. Who says more is wrong, whatever
//! else holds of its figures.
//!
//! Closed loads have no such bound, because the target decides how many operations they make. There, as everywhere, no
//! more can have ended than was issued.

use std::collections::BTreeMap;
use std::time::Duration;

use groundswell_scenario::continuity::Continuity;
use groundswell_scenario::load::Load;
use groundswell_scenario::planned::Planned;
use groundswell_scenario::{Assignment, Plan, Schedule};
use groundswell_stats::{Delta, StepId, Totals};

/// Clocks drift apart by no more than this part, several times what quartz does.
const DRIFT: f64 = 0.001;
/// By this much nobody has to be suspected. Whole seconds, so that agents heard in the same second have one moment.
const SLACK_S: u64 = 2;
/// Counts that are kept; computed anew beyond that.
const MOST_KNOWN: usize = 10_000;

/// What is due of a plan, and what has been computed of it.
pub(super) struct Allowance {
    /// Arrivals of open loads, by (scenario, phase).
    schedules: BTreeMap<(usize, usize), Schedule>,
    /// How many are due before an offset from the phase's start: the same for all agents.
    due: BTreeMap<(usize, usize, Duration), u64>,
    /// Iterations of a fixed total, by (generation, scenario, phase).
    iterations: BTreeMap<(u32, usize, usize), u64>,
}

/// Operations of each step that is bounded.
type Bounds = BTreeMap<StepId, u64>;

impl Allowance {
    pub(super) fn of(plan: &Plan) -> Self {
        let phases = plan.scenarios.iter().enumerate().flat_map(|(scenario, described)| {
            let phase = move |(phase, load): (usize, &groundswell_scenario::plan::Phase)| {
                Some(((scenario, phase), load.schedule(plan.seed)?))
            };
            described.phases.iter().enumerate().filter_map(phase)
        });
        Allowance { schedules: phases.collect(), due: BTreeMap::new(), iterations: BTreeMap::new() }
    }

    /// Why the figures of an agent that has been given this can't be; none where they can. `elapsed` is the run's time, with
    /// what the agent's is known to be ahead of it; none where it is not known well enough, and then the whole plan is the
    /// bound.
    ///
    /// An agent goes on for a lease after it heard the coordinator last. So where this machine stood still with its clock,
    /// as virtual ones do, an honest agent can be ahead by so much, and that is allowed.
    pub(super) fn overdrawn(
        &mut self,
        plan: &Plan,
        own: &[Assignment],
        (totals, agent): (&Totals, usize),
        delta: &Delta,
        elapsed: Option<Duration>,
    ) -> Option<String> {
        let in_all = self.bounds(plan, own, None);
        let by_now = elapsed.map(|elapsed| {
            let Continuity { max_start_skew, .. } = plan.continuity;
            let latest = elapsed.mul_f64(1.0 + DRIFT) + max_start_skew + plan.continuity.issue_limit();
            self.bounds(plan, own, Some(Duration::from_secs(latest.as_secs() + SLACK_S)))
        });
        delta.steps.iter().find_map(|(step, figures)| {
            // What the plan doesn't have, and sums that do not fit, are refused by the merge.
            let timed = plan.step(*step)?;
            let mut counters = totals.counters_of(agent, *step).cloned().unwrap_or_default();
            counters.add(&figures.counters).ok()?;
            if counters.in_flight().is_none() {
                return Some(format!("it says that more operations of {} have ended than it issued", timed.name));
            }
            if timed.as_they_come {
                return None;
            }
            let beyond = |said: u64, bounds: &Bounds| bounds.get(step).copied().filter(|bound| said > *bound);
            let issued = by_now.as_ref().and_then(|bounds| beyond(counters.issued, bounds));
            if let Some(bound) = issued.or_else(|| beyond(counters.issued, &in_all)) {
                let said = counters.issued;
                return Some(format!(
                    "it says that it issued {said} operations of {}; at most {bound} were due",
                    timed.name
                ));
            }
            let bound = beyond(counters.scheduled, &in_all)?;
            let said = counters.scheduled;
            Some(format!("it says that {said} operations of {} were its; its part of the plan has {bound}", timed.name))
        })
    }

    /// Operations of these assignments that are due before a moment of the run. When an assignment ends is left out of
    /// account: that is settled with the agent, and what is said of it here must not depend on who heard what first.
    fn bounds(&mut self, plan: &Plan, own: &[Assignment], until: Option<Duration>) -> Bounds {
        let mut bounds = Bounds::new();
        for (scenario_index, scenario) in plan.scenarios.iter().enumerate() {
            for (phase_index, phase) in scenario.phases.iter().enumerate() {
                let place = (scenario_index, phase_index);
                let origin = scenario.origin_of(phase);
                let mut planned = Planned::default();
                for assignment in own {
                    let part = match &phase.load {
                        Load::Users { .. } => None,
                        Load::Rate { .. } => self.arrivals(plan, place, assignment, origin, until),
                        Load::Iterations { .. } => self.iterations(plan, place, assignment),
                    };
                    let part = part.unwrap_or_default();
                    planned.warm_up += part.warm_up;
                    planned.measured += part.measured;
                }
                if matches!(phase.load, Load::Users { .. }) {
                    continue;
                }
                for (first, iterations) in phase.parts(planned) {
                    for step in (first.0..first.0 + scenario.timed_steps).map(StepId) {
                        let each = plan.step(step).map_or(0, |timed| timed.per_iteration);
                        bounds.insert(step, iterations.saturating_mul(each));
                    }
                }
            }
        }
        bounds
    }

    /// Arrivals of an open load.
    fn arrivals(
        &mut self,
        plan: &Plan,
        place: (usize, usize),
        assignment: &Assignment,
        origin: Option<Duration>,
        until: Option<Duration>,
    ) -> Option<Planned> {
        let phase = &plan.scenarios[place.0].phases[place.1];
        let window = assignment.window(origin)?;
        // Without a common origin nobody here knows when the phase began.
        let until = origin.and_then(|origin| Some(until?.saturating_sub(origin)));
        let share = &assignment.share;
        let first = share.count_below(self.due_before(place, Some(window.from)));
        let end = share.count_below(self.due_before(place, until)).max(first);
        let warm_up_ends = share.count_below(self.due_before(place, Some(phase.measured_from()))).clamp(first, end);
        Some(Planned { warm_up: warm_up_ends - first, measured: end - warm_up_ends })
    }

    /// Arrivals of everybody before an offset from the phase's start; of the whole phase where none is said.
    fn due_before(&mut self, (scenario, phase): (usize, usize), offset: Option<Duration>) -> u64 {
        let Some(schedule) = self.schedules.get(&(scenario, phase)) else { return 0 };
        match offset {
            None => schedule.total(),
            Some(Duration::ZERO) => 0,
            Some(offset) => {
                if self.due.len() > MOST_KNOWN {
                    self.due.clear();
                }
                *self.due.entry((scenario, phase, offset)).or_insert_with(|| schedule.count_before(offset))
            }
        }
    }

    /// Iterations of a fixed total: at any moment as many as there are, because the target decides when they are done.
    fn iterations(&mut self, plan: &Plan, place: (usize, usize), assignment: &Assignment) -> Option<Planned> {
        if !assignment.is_initial() {
            return None;
        }
        let planned = || {
            let phase = &plan.scenarios[place.0].phases[place.1];
            phase.planned_iterations(&assignment.share, plan.seed).map_or(0, Planned::in_all)
        };
        let known = self.iterations.entry((assignment.generation, place.0, place.1)).or_insert_with(planned);
        Some(Planned { warm_up: 0, measured: *known })
    }
}
