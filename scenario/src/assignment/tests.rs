//! Whatever happens to the agents of a run, every ordinal has one owner.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::load::Load;
use crate::planned::{Interval, Planned};
use crate::schedule::Attendance;
use crate::{Plan, PlanSource};

const SEED: u64 = 7;

/// Loads of every kind: with a warm-up, at random moments, after a delay, with a ramp, without a common origin.
fn plan() -> Plan {
    let text = "target: http://localhost\nscenarios:\n\
        \x20 even: { load: { rate: 40/s, for: 10s, warm_up: 3s }, flow: [ { get: / } ] }\n\
        \x20 random: { load: { rate: 25/s, for: 8s, arrivals: poisson }, start: 3s, flow: [ { get: / } ] }\n\
        \x20 people: { load: { users: { stages: [{ to: 20, for: 4s }, { to: 6, for: 5s }] } }, flow: [ { get: / } ] }\n\
        \x20 work: { load: { iterations: 101, users: 9 }, flow: [ { get: / } ] }\n\
        \x20 then: { after: work, load: { rate: 10/s, for: 5s }, flow: [ { get: / } ] }\n\
        \x20 crowd: { after: work, load: { users: 5, for: 5s }, flow: [ { get: / } ] }\n";
    let source = PlanSource { name: "p.yaml".into(), text: text.into(), files: BTreeMap::new(), search_level: None };
    Plan::compile(&source).unwrap()
}

/// What happens at a moment of a run.
#[derive(Debug, Clone)]
enum Change {
    /// An agent is gone; the others take over, in proportion to their weights.
    Lost(usize),
    /// An agent is gone; the others take over equal parts.
    LostEvenly(usize),
    /// An agent of this weight joins; every other one gives it a part.
    Joined(u32),
}

/// The assignments of a run, and which agents it has.
#[derive(Debug)]
struct History {
    /// Each with the agent that has it, while it has one.
    assignments: Vec<(Option<usize>, Assignment)>,
    /// Weights of all agents that were ever there; none for those that are gone.
    agents: Vec<Option<u32>>,
}

impl History {
    fn begin(weights: &[u32]) -> Self {
        let mut history = History { assignments: Vec::new(), agents: weights.iter().copied().map(Some).collect() };
        for agent in 0..weights.len() {
            history.assign(agent, Share::weighted(agent, weights).unwrap(), Duration::ZERO);
        }
        history
    }

    fn assign(&mut self, agent: usize, share: Share, from: Duration) {
        let generation = u32::try_from(self.assignments.len()).unwrap();
        self.assignments.push((Some(agent), Assignment { generation, share, from, until: None }));
    }

    fn there(&self) -> Vec<(usize, u32)> {
        self.agents.iter().enumerate().filter_map(|(agent, weight)| Some((agent, (*weight)?))).collect()
    }

    /// Ends what an agent has at a moment; returns the shares.
    fn end(&mut self, agent: usize, at: Duration) -> Vec<Share> {
        let open = self.assignments.iter_mut().filter(|(owner, _)| *owner == Some(agent));
        open.map(|(owner, assignment)| {
            *owner = None;
            assignment.until = Some(at);
            assignment.share.clone()
        })
        .collect()
    }

    fn change(&mut self, at: Duration, change: &Change) {
        let there = self.there();
        match *change {
            Change::Lost(nth) | Change::LostEvenly(nth) => {
                let (lost, _) = there[nth % there.len()];
                let survivors: Vec<(usize, u32)> = there.into_iter().filter(|(agent, _)| *agent != lost).collect();
                if survivors.is_empty() {
                    return;
                }
                self.agents[lost] = None;
                let weights: Vec<u32> = survivors.iter().map(|(_, weight)| *weight).collect();
                for share in self.end(lost, at) {
                    for (index, (survivor, _)) in survivors.iter().enumerate() {
                        let (nth, of) = (u32::try_from(index).unwrap(), u32::try_from(survivors.len()).unwrap());
                        let part = match change {
                            Change::LostEvenly(_) => share.split(nth, of),
                            _ => share.split_weighted(index, &weights).unwrap(),
                        };
                        self.assign(*survivor, part, at);
                    }
                }
            }
            Change::Joined(weight) => {
                let joiner = self.agents.len();
                self.agents.push(Some(weight));
                let before: u32 = there.iter().map(|(_, weight)| weight).sum();
                for (giver, _) in there {
                    for share in self.end(giver, at) {
                        self.assign(giver, share.split_weighted(0, &[before, weight]).unwrap(), at);
                        self.assign(joiner, share.split_weighted(1, &[before, weight]).unwrap(), at);
                    }
                }
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = &Assignment> {
        self.assignments.iter().map(|(_, assignment)| assignment)
    }
}

fn any_history() -> impl Strategy<Value = History> {
    let change = prop_oneof![
        (0_usize..8).prop_map(Change::Lost),
        (0_usize..8).prop_map(Change::LostEvenly),
        (1_u32..4).prop_map(Change::Joined),
    ];
    // Some moments on those of the schedule, some between them.
    let moment = prop_oneof![
        (1_u64..13_000).prop_map(Duration::from_millis),
        (1_u64..400).prop_map(|k| 25 * k).prop_map(Duration::from_millis),
        (1_u64..13_000_000).prop_map(Duration::from_micros)
    ];
    let changes = prop::collection::vec((moment, change), 0..6);
    (prop::collection::vec(1_u32..4, 1..5), changes).prop_map(|(weights, mut changes)| {
        changes.sort_by_key(|(at, _)| *at);
        let mut history = History::begin(&weights);
        for (at, change) in &changes {
            history.change(*at, change);
        }
        history
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Take-overs and releases plan every ordinal exactly once, in the warm-up and after it.
    #[test]
    fn every_history_plans_every_ordinal_once(history in any_history()) {
        let plan = plan();
        for scenario in &plan.scenarios {
            for phase in &scenario.phases {
                let origin = scenario.origin_of(phase);
                let Some(whole) = phase.planned_iterations(&Share::whole(), SEED) else { continue };
                let parts: Vec<Planned> =
                    history.all().map(|assignment| phase.assigned_iterations(assignment, origin, SEED).unwrap()).collect();
                let sum = |part: fn(&Planned) -> u64| parts.iter().map(part).sum::<u64>();
                let sums = Planned { warm_up: sum(|part| part.warm_up), measured: sum(|part| part.measured) };
                prop_assert_eq!(sums, whole, "{}", &scenario.name);
                let Some(schedule) = phase.schedule(SEED) else { continue };
                let mut owners = vec![0; usize::try_from(schedule.total()).unwrap()];
                for assignment in history.all() {
                    let Some(window) = assignment.window(origin) else { continue };
                    for turn in window.turns(&schedule, &assignment.share) {
                        owners[usize::try_from(assignment.share.nth(turn)).unwrap()] += 1;
                    }
                }
                prop_assert!(owners.iter().all(|owners| *owners == 1), "{}: {owners:?}", &scenario.name);
            }
        }
    }

    /// Each user is at work exactly while the load has it, whoever has the user.
    #[test]
    fn every_history_keeps_every_user_at_work(history in any_history()) {
        let plan = plan();
        for scenario in &plan.scenarios {
            for phase in &scenario.phases {
                let Load::Users { curve } = &phase.load else { continue };
                let attendance = Attendance::new(curve);
                let mut at_work: BTreeMap<u32, Vec<Interval>> = BTreeMap::new();
                for assignment in history.all() {
                    for (user, intervals) in phase.assigned_users(assignment, scenario.origin_of(phase)) {
                        at_work.entry(user).or_default().extend(intervals);
                    }
                }
                for user in 0..attendance.users() {
                    let mut at_work = at_work.remove(&user).unwrap_or_default();
                    at_work.sort_unstable();
                    at_work.dedup_by(|next, last| {
                        let follows = last.1 == next.0;
                        if follows {
                            last.1 = next.1;
                        }
                        follows
                    });
                    prop_assert_eq!(at_work, attendance.intervals(user), "user {} of {}", user, &scenario.name);
                }
            }
        }
    }
}

/// An ordinal that is intended at the very moment of a change belongs to the one that takes over.
#[test]
fn the_moment_of_a_change_belongs_to_the_next_one() {
    let plan = plan();
    let (scenario, phase) = (&plan.scenarios[0], &plan.scenarios[0].phases[0]);
    let (origin, at) = (scenario.origin_of(phase), Duration::from_secs(5));
    let first = Assignment { until: Some(at), ..Assignment::whole_run(0, Share::whole()) };
    let second = Assignment { generation: 1, share: Share::whole(), from: at, until: None };
    assert_eq!(phase.assigned_iterations(&first, origin, SEED), Some(Planned { warm_up: 120, measured: 80 }));
    assert_eq!(phase.assigned_iterations(&second, origin, SEED), Some(Planned { warm_up: 0, measured: 200 }));
    assert_eq!(phase.schedule(SEED).unwrap().offset(200), Some(at));
}
