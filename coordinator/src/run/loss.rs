//! What a lost agent did not offer, and what nobody knows of it.

use std::collections::BTreeMap;
use std::time::Duration;

use groundswell_scenario::load::Load;
use groundswell_scenario::plan::ScenarioStart;
use groundswell_scenario::{Plan, schedule};
use groundswell_stats::{StepId, Totals};

use super::{Lost, Member};

/// The account of one lost agent.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Shortfall {
    /// Operations of its share that it had not offered when it was last heard, by step.
    pub(super) not_generated: BTreeMap<StepId, u64>,
    /// The part of them that was never entered as scheduled by the agent itself.
    pub(super) never_scheduled: BTreeMap<StepId, u64>,
    /// Operations in flight when it was last heard: issued, without an end.
    pub(super) in_flight: BTreeMap<StepId, u64>,
    /// Most operations that it may have issued after it was last heard.
    pub(super) unheard_max: u64,
    /// Closed loads: who was missing from when to when.
    pub(super) missing_users: Vec<MissingUsers>,
}

/// Users of a closed load that were missing.
#[derive(Debug, PartialEq)]
pub(super) struct MissingUsers {
    pub(super) scenario: String,
    pub(super) users: u32,
    pub(super) from: Duration,
    pub(super) to: Duration,
}

/// Settles the account of a lost agent: nothing of its share is left without a counter.
pub(super) fn shortfall(plan: &Plan, totals: &Totals, index: usize, member: &Member, lost: &Lost) -> Shortfall {
    let mut shortfall = Shortfall::default();
    let last_heard = Duration::from_micros(member.merged_to_us);
    for (scenario_index, scenario) in plan.scenarios.iter().enumerate() {
        for (phase_index, phase) in scenario.phases.iter().enumerate() {
            let Some(planned) = phase.planned_iterations(&member.share, plan.seed) else { continue };
            let decided = member.cursors.get(&(scenario_index, phase_index)).copied().unwrap_or(0);
            for (first, left) in phase.parts(planned.after(decided)) {
                for step in (first.0..first.0 + scenario.timed_steps).map(StepId) {
                    let operations = left * plan.step(step).map_or(0, |timed| timed.per_iteration);
                    add(&mut shortfall.not_generated, step, operations);
                    add(&mut shortfall.never_scheduled, step, operations);
                }
            }
        }
        shortfall.missing_users.extend(missing_users(plan, scenario_index, member, lost.at));
    }
    for step in (0..plan.steps.len()).filter_map(|step| u32::try_from(step).ok()).map(StepId) {
        let Some(counters) = totals.counters_of(index, step) else { continue };
        // Scheduled with its iteration, but not reached when the agent was last heard.
        add(&mut shortfall.not_generated, step, u64::try_from(counters.unaccounted()).unwrap_or(0));
        add(&mut shortfall.in_flight, step, counters.in_flight().unwrap_or(0));
    }
    shortfall.unheard_max = unheard_max(plan, member, last_heard, lost.at);
    shortfall
}

fn add(map: &mut BTreeMap<StepId, u64>, step: StepId, operations: u64) {
    if operations > 0 {
        *map.entry(step).or_default() += operations;
    }
}

/// Open loads: what was due between the last delta and the loss. Closed loads have no such figure; the greatest rate
/// that the agent ever had stands for them.
fn unheard_max(plan: &Plan, member: &Member, from: Duration, to: Duration) -> u64 {
    let mut operations = 0;
    let mut closed = false;
    for scenario in &plan.scenarios {
        let ScenarioStart::At(start) = scenario.start else {
            closed = true;
            continue;
        };
        for phase in &scenario.phases {
            let Some(schedule) = phase.schedule(plan.seed) else {
                closed = true;
                continue;
            };
            let origin = start + phase.offset;
            let due_before =
                |until: Duration| member.share.count_below(schedule.count_before(until.saturating_sub(origin)));
            operations += (due_before(to) - due_before(from).min(due_before(to))) * scenario.operations_per_iteration();
        }
    }
    if closed {
        operations += (member.peak_rate * to.saturating_sub(from).as_secs_f64()).ceil() as u64;
    }
    operations
}

fn missing_users(plan: &Plan, scenario: usize, member: &Member, lost_at: Duration) -> Option<MissingUsers> {
    let described = &plan.scenarios[scenario];
    let (ScenarioStart::At(start), Some(end)) = (&described.start, described.end()) else { return None };
    let users = described.phases.iter().filter_map(|phase| match &phase.load {
        Load::Users { curve } => Some(member.share.count_below(u64::from(schedule::Attendance::new(curve).users()))),
        _ => None,
    });
    let users = u32::try_from(users.max()?).ok().filter(|users| *users > 0)?;
    (lost_at < end).then(|| MissingUsers {
        scenario: described.name.clone(),
        users,
        from: lost_at.max(*start),
        to: end,
    })
}
