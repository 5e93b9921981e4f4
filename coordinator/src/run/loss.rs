//! What nobody offered, and what nobody knows of an agent that was lost.

use std::collections::BTreeMap;
use std::time::Duration;

use groundswell_scenario::load::Load;
use groundswell_scenario::plan::ScenarioStart;
use groundswell_scenario::planned::Planned;
use groundswell_scenario::{Assignment, Plan, schedule};
use groundswell_stats::{StepId, Totals};

use super::{Lost, Member};
use crate::delivery::Assignments;
use crate::fleet::AgentId;

/// The account of an agent that did not do all that it owned.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Shortfall {
    /// Operations of its assignments that it had not offered when it was last heard, by step.
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

/// What is missing from the agents' own accounts.
#[derive(Debug, Default)]
pub(super) struct Shortfalls {
    /// Of lost agents, by their place.
    pub(super) lost: BTreeMap<usize, Shortfall>,
    /// Given to agents that had ended when they heard of it.
    pub(super) late: Shortfall,
    /// What nobody owned.
    pub(super) unowned: Shortfall,
}

/// Users of a closed load that were missing.
#[derive(Debug, PartialEq)]
pub(super) struct MissingUsers {
    pub(super) scenario: String,
    pub(super) users: u32,
    pub(super) from: Duration,
    pub(super) to: Duration,
}

/// What an agent owned.
pub(super) fn owned_by(assignments: &Assignments<AgentId>, agent: AgentId) -> Vec<Assignment> {
    let own = assignments.history().iter().filter(|holding| holding.owner == Some(agent) && !holding.is_void());
    own.map(|holding| holding.assignment.clone()).collect()
}

/// Settles the account of an agent that did not do all that it owned: nothing of it is left without a counter.
pub(super) fn shortfall(plan: &Plan, totals: &Totals, index: usize, member: &Member, own: &[Assignment]) -> Shortfall {
    let mut shortfall = Shortfall::default();
    for assignment in own {
        let decided =
            |scenario, phase| member.cursors.get(&(assignment.generation, scenario, phase)).copied().unwrap_or(0);
        shortfall.leave_undone(plan, assignment, decided);
    }
    for step in (0..plan.steps.len()).filter_map(|step| u32::try_from(step).ok()).map(StepId) {
        let Some(counters) = totals.counters_of(index, step) else { continue };
        // Scheduled with its iteration, but not reached when the agent was last heard.
        add(&mut shortfall.not_generated, step, u64::try_from(counters.unaccounted()).unwrap_or(0));
        add(&mut shortfall.in_flight, step, counters.in_flight().unwrap_or(0));
    }
    if let Some(lost) = &member.lost {
        for scenario in 0..plan.scenarios.len() {
            shortfall.missing_users.extend(missing_users(plan, scenario, own, lost));
        }
        if !lost.delivered {
            let last_heard = Duration::from_micros(member.merged_to_us);
            shortfall.unheard_max = unheard_max(plan, member, own, last_heard, lost.until);
        }
    }
    shortfall
}

/// What nobody owned.
pub(super) fn unowned(plan: &Plan, assignments: &Assignments<AgentId>) -> Shortfall {
    let mut shortfall = Shortfall::default();
    for unowned in assignments.unowned() {
        let (share, from, until) = (unowned.share, unowned.from, unowned.until);
        shortfall.leave_undone(plan, &Assignment { generation: 0, share, from, until }, |_, _| 0);
    }
    shortfall
}

impl Shortfalls {
    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Shortfall> {
        self.lost.values().chain([&self.late, &self.unowned])
    }

    /// Closes the account of a run.
    pub(super) fn of(plan: &Plan, totals: &Totals, members: &[Member], assignments: &Assignments<AgentId>) -> Self {
        let mut shortfalls = Shortfalls { unowned: unowned(plan, assignments), ..Shortfalls::default() };
        for (index, member) in members.iter().enumerate() {
            let own = owned_by(assignments, member.id);
            if member.lost.is_some() {
                shortfalls.lost.insert(index, shortfall(plan, totals, index, member, &own));
                continue;
            }
            let unknown = |assignment: &&Assignment| {
                !assignment.is_initial() && !member.cursors.keys().any(|(of, ..)| *of == assignment.generation)
            };
            for assignment in own.iter().filter(unknown) {
                shortfalls.late.leave_undone(plan, assignment, |_, _| 0);
            }
        }
        shortfalls
    }
}

impl Shortfall {
    /// Counts what an assignment has beyond what was decided of it.
    fn leave_undone(&mut self, plan: &Plan, assignment: &Assignment, decided: impl Fn(usize, usize) -> u64) {
        for (scenario_index, scenario) in plan.scenarios.iter().enumerate() {
            for (phase_index, phase) in scenario.phases.iter().enumerate() {
                let origin = scenario.origin_of(phase);
                let planned: Option<Planned> = phase.assigned_iterations(assignment, origin, plan.seed);
                let Some(planned) = planned else { continue };
                for (first, left) in phase.parts(planned.after(decided(scenario_index, phase_index))) {
                    for step in (first.0..first.0 + scenario.timed_steps).map(StepId) {
                        let operations = left * plan.step(step).map_or(0, |timed| timed.per_iteration);
                        add(&mut self.not_generated, step, operations);
                        add(&mut self.never_scheduled, step, operations);
                    }
                }
            }
        }
    }
}

fn add(map: &mut BTreeMap<StepId, u64>, step: StepId, operations: u64) {
    if operations > 0 {
        *map.entry(step).or_default() += operations;
    }
}

/// Open loads: what was due between the last delta and the loss. Closed loads have no such figure; the greatest rate
/// that the agent ever had stands for them.
fn unheard_max(plan: &Plan, member: &Member, own: &[Assignment], from: Duration, to: Duration) -> u64 {
    let mut operations = 0;
    let mut closed = false;
    for scenario in &plan.scenarios {
        for phase in &scenario.phases {
            let (Some(schedule), Some(origin)) = (phase.schedule(plan.seed), scenario.origin_of(phase)) else {
                closed = true;
                continue;
            };
            for assignment in own {
                let due_before = |until: Duration| {
                    let until = assignment.until.map_or(until, |end| end.min(until));
                    assignment.share.count_below(schedule.count_before(until.saturating_sub(origin)))
                };
                let (from, to) = (due_before(from.max(assignment.from)), due_before(to));
                operations += to.saturating_sub(from) * scenario.operations_per_iteration();
            }
        }
    }
    if closed {
        operations += (member.peak_rate * to.saturating_sub(from).as_secs_f64()).ceil() as u64;
    }
    operations
}

/// Users of a lost agent, from its loss to the moment at which others go on with them.
fn missing_users(plan: &Plan, scenario: usize, own: &[Assignment], lost: &Lost) -> Option<MissingUsers> {
    let described = &plan.scenarios[scenario];
    let (ScenarioStart::At(start), Some(end)) = (&described.start, described.end()) else { return None };
    let at_loss = own.iter().filter(|assignment| assignment.until.is_none_or(|until| until > lost.at));
    let shares: Vec<&Assignment> = at_loss.collect();
    let users = described.phases.iter().filter_map(|phase| match &phase.load {
        Load::Users { curve } => {
            let users = u64::from(schedule::Attendance::new(curve).users());
            Some(shares.iter().map(|assignment| assignment.share.count_below(users)).sum::<u64>())
        }
        _ => None,
    });
    let users = u32::try_from(users.max()?).ok().filter(|users| *users > 0)?;
    let end = shares.iter().map(|assignment| assignment.until.unwrap_or(end)).max().unwrap_or(end).min(end);
    (lost.at < end).then(|| MissingUsers {
        scenario: described.name.clone(),
        users,
        from: lost.at.max(*start),
        to: end,
    })
}
