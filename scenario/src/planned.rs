//! What a plan asks for before anything has run: how long at the most, how many iterations, by whom.
//!
//! Agents and coordinator use the same functions, so the account of a lost agent is exact.

use std::time::Duration;

use groundswell_stats::StepId;

use crate::assignment::Window;
use crate::flow::Step;
use crate::http::Connections;
use crate::load::Load;
use crate::plan::{Phase, ScenarioStart};
use crate::schedule::{Attendance, Schedule};
use crate::{Assignment, Plan, Scenario, Share};

impl Plan {
    /// From the start of the run to the latest moment at which an iteration may start.
    pub fn longest(&self) -> Duration {
        (0..self.scenarios.len()).map(|index| self.latest_end(index)).max().unwrap_or_default()
    }

    /// `after` has no cycles in a validated plan, so this ends.
    fn latest_end(&self, index: usize) -> Duration {
        let scenario = &self.scenarios[index];
        let start = match &scenario.start {
            ScenarioStart::At(offset) => *offset,
            ScenarioStart::AfterEnd(predecessors) => {
                predecessors.iter().map(|predecessor| self.latest_end(*predecessor)).max().unwrap_or_default()
            }
        };
        let length = scenario.phases.iter().map(|phase| phase.offset + phase.load.limit()).max();
        start + length.unwrap_or_default()
    }
}

impl Scenario {
    /// When a phase begins, from the start of the run; none where each agent begins it at a moment of its own.
    pub fn origin_of(&self, phase: &Phase) -> Option<Duration> {
        match self.start {
            ScenarioStart::At(start) => Some(start + phase.offset),
            ScenarioStart::AfterEnd(_) => None,
        }
    }
}

/// From one offset to another.
pub type Interval = (Duration, Duration);

/// Iterations that a share has to start, those of the warm-up first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Planned {
    /// In the warm-up.
    pub warm_up: u64,
    /// After it.
    pub measured: u64,
}

impl Planned {
    /// Both.
    pub fn in_all(self) -> u64 {
        self.warm_up + self.measured
    }

    /// What is left of them after the first `decided`.
    pub fn after(self, decided: u64) -> Planned {
        let beyond_warm_up = decided.saturating_sub(self.warm_up);
        Planned {
            warm_up: self.warm_up.saturating_sub(decided),
            measured: self.measured.saturating_sub(beyond_warm_up),
        }
    }
}

impl Phase {
    /// Arrivals of an open load.
    pub fn schedule(&self, seed: u64) -> Option<Schedule> {
        match &self.load {
            Load::Rate { curve, arrivals, .. } => Some(Schedule::new(curve, *arrivals, seed, self.first_step.0)),
            Load::Users { .. } | Load::Iterations { .. } => None,
        }
    }

    /// Iterations that a share has to start; none for a closed load, whose number depends on the target.
    pub fn planned_iterations(&self, share: &Share, seed: u64) -> Option<Planned> {
        self.planned_in(Some(Window::ALWAYS), true, share, seed)
    }

    /// Iterations that an assignment has to start; none for a closed load. `origin` is [`Scenario::origin_of`] this phase.
    ///
    /// Whatever the history of a run's assignments, if they part the shares at each moment, each iteration is in the plan
    /// of exactly one.
    pub fn assigned_iterations(&self, assignment: &Assignment, origin: Option<Duration>, seed: u64) -> Option<Planned> {
        self.planned_in(assignment.window(origin), assignment.is_initial(), &assignment.share, seed)
    }

    fn planned_in(&self, window: Option<Window>, is_initial: bool, share: &Share, seed: u64) -> Option<Planned> {
        match &self.load {
            Load::Users { .. } => None,
            Load::Rate { .. } => {
                let schedule = self.schedule(seed)?;
                Some(window.map_or_else(Planned::default, |window| self.planned_turns(&schedule, share, window)))
            }
            Load::Iterations { .. } if !is_initial => Some(Planned::default()),
            Load::Iterations { total, users, .. } => {
                let measured = owned_users(share, *users).map(|user| iterations_of(user, *total, *users)).sum();
                Some(Planned { warm_up: 0, measured })
            }
        }
    }

    /// Arrivals of a share that are intended in a part of this phase's time.
    pub fn planned_turns(&self, schedule: &Schedule, share: &Share, window: Window) -> Planned {
        let turns = window.turns(schedule, share);
        let warm_up_ends = share.count_below(schedule.count_before(self.measured_from())).clamp(turns.start, turns.end);
        Planned { warm_up: warm_up_ends - turns.start, measured: turns.end - warm_up_ends }
    }

    /// The users of a closed load that an assignment has, and when each is at work: offsets (from, to) from the phase's
    /// start, ascending, apart from each other, none empty. Users with none are left out. `origin` is
    /// [`Scenario::origin_of`] this phase.
    pub fn assigned_users(&self, assignment: &Assignment, origin: Option<Duration>) -> Vec<(u32, Vec<Interval>)> {
        let (Load::Users { curve }, Some(window)) = (&self.load, assignment.window(origin)) else { return Vec::new() };
        let attendance = Attendance::new(curve);
        let users = owned_users(&assignment.share, attendance.users()).map(|user| {
            let intervals = attendance.intervals(user).into_iter().filter_map(|interval| window.clip(interval));
            (user, intervals.collect::<Vec<_>>())
        });
        users.filter(|(_, intervals)| !intervals.is_empty()).collect()
    }

    /// For each part of a plan: the step of slot 0 and its iterations.
    pub fn parts(&self, planned: Planned) -> impl Iterator<Item = (StepId, u64)> {
        let warm_up = self.warm_up.map(|warm_up| (warm_up.first_step, planned.warm_up));
        warm_up.into_iter().chain([(self.first_step, planned.measured)])
    }
}

/// What a share of a plan needs at the most from the machine that runs it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Needs {
    /// Connections open at the same time. An upper bound: an open load that never has so much in flight needs fewer.
    pub connections: u64,
    /// Users at work, and operations in flight of open loads, at the same time.
    pub users: u64,
    /// Operations a second that open loads start; closed loads are as fast as their target.
    pub operations_per_s: f64,
    /// Connections opened a second, where every request opens one.
    pub connects_per_s: f64,
}

/// What a scenario needs, and when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// The earliest moment at which it begins.
    pub from: Duration,
    /// The latest moment at which it starts an iteration.
    pub to: Duration,
    /// What it needs at its greatest moment.
    pub needs: Needs,
    /// It has no place on the run's time, and so stays whole with an [`Assignment`] made before the start.
    pub stays_whole: bool,
}

impl Span {
    /// May it be at work then?
    pub fn lasts(&self, moment: Duration) -> bool {
        self.from <= moment && moment < self.to
    }
}

impl Plan {
    /// What a share needs at its greatest moment.
    pub fn needs(&self, share: &Share) -> Needs {
        let spans: Vec<Span> = self.spans(share).collect();
        // Where one begins, it and those that last are together; the greatest sum is at one of these moments.
        let at = |moment: Duration| {
            let together = spans.iter().filter(|span| span.lasts(moment));
            together.fold(Needs::default(), |sum, Span { needs, .. }| Needs {
                connections: sum.connections.saturating_add(needs.connections),
                users: sum.users.saturating_add(needs.users),
                operations_per_s: sum.operations_per_s + needs.operations_per_s,
                connects_per_s: sum.connects_per_s + needs.connects_per_s,
            })
        };
        spans.iter().map(|span| at(span.from)).fold(Needs::default(), |most, needs| Needs {
            connections: most.connections.max(needs.connections),
            users: most.users.max(needs.users),
            operations_per_s: most.operations_per_s.max(needs.operations_per_s),
            connects_per_s: most.connects_per_s.max(needs.connects_per_s),
        })
    }

    /// Each scenario's part of what a share needs.
    pub fn spans<'a>(&'a self, share: &'a Share) -> impl Iterator<Item = Span> + 'a {
        self.scenarios.iter().enumerate().map(move |(index, scenario)| {
            let is_fixed = scenario.phases.iter().any(|phase| matches!(phase.load, Load::Iterations { .. }));
            Span {
                from: self.earliest_start(index),
                to: self.latest_end(index),
                needs: self.needs_of(scenario, share),
                stays_whole: is_fixed || matches!(scenario.start, ScenarioStart::AfterEnd(_)),
            }
        })
    }

    fn needs_of(&self, scenario: &Scenario, share: &Share) -> Needs {
        let part = share.slots().len() as f64 / f64::from(share.of());
        let users = scenario.phases.iter().map(|phase| phase.most_users(share)).max().unwrap_or(0);
        let rate = scenario.phases.iter().map(Phase::peak_rate).fold(0.0, f64::max) * part;
        let (requests, sockets) = (count_steps(&scenario.flow, is_request), count_steps(&scenario.flow, is_socket));
        // A user has one connection for its requests, and one for each socket, all of which may be open together.
        let each = u64::from(requests > 0) + scenario.sockets.len() as u64;
        let opened = if self.http.connections == Connections::PerRequest { requests } else { 0 } + sockets;
        Needs {
            connections: users.saturating_mul(each),
            users,
            operations_per_s: rate * scenario.operations_per_iteration() as f64,
            connects_per_s: rate * opened as f64,
        }
    }

    fn earliest_start(&self, index: usize) -> Duration {
        match &self.scenarios[index].start {
            ScenarioStart::At(offset) => *offset,
            ScenarioStart::AfterEnd(_) => Duration::ZERO,
        }
    }
}

fn is_request(step: &Step) -> bool {
    matches!(step, Step::Http(_))
}

fn is_socket(step: &Step) -> bool {
    matches!(step, Step::Websocket(_))
}

/// How often an iteration does steps of a kind.
fn count_steps(flow: &[Step], kind: fn(&Step) -> bool) -> u64 {
    let count = |step: &Step| {
        let inner = match step {
            Step::Repeat { times, flow } => u64::from(*times) * count_steps(flow, kind),
            Step::Group { flow, .. } => count_steps(flow, kind),
            Step::Websocket(timed) => count_steps(&timed.spec.flow, kind),
            Step::Http(_) | Step::OnSocket(_) | Step::Listen { .. } | Step::Subscribe(_) | Step::Think(_) => 0,
        };
        inner + u64::from(kind(step))
    };
    flow.iter().map(count).sum()
}

impl Phase {
    /// Users of a share that may be at work at the same time.
    pub fn most_users(&self, share: &Share) -> u64 {
        match &self.load {
            Load::Users { curve } => share.count_below(u64::from(Attendance::new(curve).users())),
            Load::Rate { max_in_flight, .. } => share.count_below(u64::from(*max_in_flight)),
            Load::Iterations { users, .. } => share.count_below(u64::from(*users)),
        }
    }

    /// Greatest rate of an open load, in iterations a second; zero for a closed one.
    fn peak_rate(&self) -> f64 {
        match &self.load {
            Load::Rate { curve, .. } => curve.peak(),
            Load::Users { .. } | Load::Iterations { .. } => 0.0,
        }
    }
}

/// Numbers of the users that a share owns.
pub fn owned_users(share: &Share, users: u32) -> impl Iterator<Item = u32> + '_ {
    (0..share.count_below(u64::from(users))).filter_map(|nth| u32::try_from(share.nth(nth)).ok())
}

/// Iterations of one user of a fixed total: iteration k belongs to user k mod `users`, so the users' parts add up to
/// the total whatever the number of agents.
pub fn iterations_of(user: u32, total: u64, users: u32) -> u64 {
    let users = u64::from(users.max(1));
    total / users + u64::from(u64::from(user) < total % users)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::PlanSource;

    fn plan(scenarios: &str) -> Plan {
        let text = format!("target: http://localhost\nscenarios:\n{scenarios}");
        let source = PlanSource { name: "p.yaml".into(), text, files: BTreeMap::new(), search_level: None };
        Plan::compile(&source).unwrap()
    }

    #[test]
    fn a_warm_up_parts_the_iterations() {
        let plan = plan("  a: { load: { rate: 10/s, for: 10s, warm_up: 4s }, flow: [ { get: / } ] }\n");
        let phase = &plan.scenarios[0].phases[0];
        let all = phase.planned_iterations(&Share::whole(), 1).unwrap();
        assert_eq!(all, Planned { warm_up: 40, measured: 60 });
        assert_eq!(all.after(0), all);
        assert_eq!(all.after(30), Planned { warm_up: 10, measured: 60 });
        assert_eq!(all.after(45), Planned { warm_up: 0, measured: 55 });
        let shares = (0..3).map(|agent| phase.planned_iterations(&Share::nth_of(agent, 3), 1).unwrap().in_all());
        assert_eq!(shares.sum::<u64>(), 100);
        assert_eq!(phase.parts(all).collect::<Vec<_>>(), [(StepId(1), 40), (StepId(0), 60)]);
        assert_eq!(phase.first_step_at(Duration::from_millis(3_999)), StepId(1));
        assert_eq!(phase.first_step_at(Duration::from_secs(4)), StepId(0));
    }

    #[test]
    fn needs_are_those_of_the_greatest_moment() {
        let plan = plan(
            "  a: { load: { users: 30, for: 10s }, flow: [ { get: / } ] }\n\
             \x20 b: { after: a, load: { rate: 50/s, for: 5s, max_in_flight: 20 }, flow: [ { get: / }, { websocket: /ws, flow: [ { send: x } ] } ] }\n\
             \x20 c: { after: a, load: { rate: 10/s, for: 5s, max_in_flight: 4 }, flow: [ { get: / } ] }\n",
        );
        let needs = plan.needs(&Share::whole());
        assert_eq!(needs.connections, 44, "20 users with a socket beside their connection, and 4 others");
        assert!(
            (needs.operations_per_s - 160.0).abs() < 1e-9 && (needs.connects_per_s - 50.0).abs() < 1e-9,
            "{needs:?}"
        );
        assert_eq!(plan.needs(&Share::nth_of(0, 2)).connections, 22);
    }

    proptest! {
        #[test]
        fn the_shares_of_a_fixed_total_add_up(total in 0u64..100_000, users in 1u32..500, agents in 1u32..17) {
            let parts: u64 = (0..agents)
                .flat_map(|agent| {
                    let share = Share::nth_of(agent, agents);
                    let numbers: Vec<u32> = owned_users(&share, users).collect();
                    numbers.into_iter().map(|user| iterations_of(user, total, users))
                })
                .sum();
            prop_assert_eq!(parts, total);
        }
    }
}
