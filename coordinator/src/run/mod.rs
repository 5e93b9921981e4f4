//! One run from submission to report: a state machine without sockets or clocks.
//!
//! [`Run::step`] takes an [`Event`] and the time and says what to do ([`Action`]); the server carries it out. A test
//! drives it through any history in any order.
//!
//! ```text
//! Waiting ─assigned─▶ Arming ─all ready─▶ Checking ─target ready─▶ Starting ─all started─▶ Running ─all done─▶ Closed
//! ```

mod event;
mod judge;
mod knee;
mod loss;
mod member;
mod progress;
mod report;
mod sockets;
mod trust;
mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use groundswell_scenario::{Plan, Share};
use groundswell_stats::{Overflow, Timeline, Totals};

use crate::fleet::AgentId;
pub use event::{Action, Candidate, Event, Health, Measured, Now, Outcome, StopReason};
use judge::Judge;
use member::{Lost, Member, MemberState};
pub use progress::{AgentProgress, Progress};

/// The start lies this far ahead, so that every agent has heard of it.
const START_AHEAD: Duration = Duration::from_secs(2);
/// The same where every agent is in this process.
const START_AHEAD_LOCAL: Duration = Duration::from_secs(1);
/// Agents have this long to compile the plan and start their workers.
const ARM_LIMIT: Duration = Duration::from_secs(60);
/// A clock bound above this means that agents would not start together.
const MAX_START_SKEW: Duration = Duration::from_millis(5);
/// What is in flight at a stop may go on for so long: an interrupt has to stop the load within a second.
const STOP_GRACE: Duration = Duration::from_millis(500);
/// An agent that has not ended this long after it should have is lost.
const OVERTIME: Duration = Duration::from_secs(45);
/// The same after a stop, where nothing but the grace is left to wait for.
const STOP_OVERTIME: Duration = Duration::from_secs(5);

/// Exit code of a run whose target never became ready.
const EXIT_TARGET_NOT_READY: u8 = 4;
/// Exit code of a run that could not start.
const EXIT_INCOMPLETE: u8 = 3;
/// Exit code of a run that was interrupted before it started.
const EXIT_INTERRUPTED: u8 = 130;

/// One run.
pub struct Run {
    id: String,
    plan: Arc<Plan>,
    labels: BTreeMap<String, String>,
    /// Every agent is in this process: clocks agree and messages take no time.
    local: bool,
    stage: Stage,
    members: Vec<Member>,
    totals: Totals,
    timeline: Timeline,
    judge: Judge,
    t0: Option<Duration>,
    started_at: Option<SystemTime>,
    stopped: Option<Stopped>,
    progress: progress::Meter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Arming { since: Duration },
    Checking,
    Starting,
    Running,
    Closed,
}

#[derive(Debug, Clone, Copy)]
struct Stopped {
    reason: StopReason,
    /// Monotonic time of the coordinator.
    at: Duration,
}

impl Run {
    /// A run that waits for its agents. `local` says that they are all in this process.
    pub fn new(id: String, plan: Arc<Plan>, labels: BTreeMap<String, String>, local: bool) -> Self {
        let steps = plan.steps.len();
        Run {
            id,
            judge: Judge::new(&plan),
            plan,
            labels,
            local,
            stage: Stage::Waiting,
            members: Vec::new(),
            totals: Totals::new(steps),
            timeline: Timeline::new(),
            t0: None,
            started_at: None,
            stopped: None,
            progress: progress::Meter::default(),
        }
    }

    /// Does it wait for agents?
    pub fn is_waiting(&self) -> bool {
        self.stage == Stage::Waiting
    }

    /// The next state and what is to be done. Events that do not fit the state are ignored: they crossed with a change.
    pub fn step(&mut self, event: Event, now: Now) -> Vec<Action> {
        match event {
            Event::Assigned(candidates) => self.assigned(candidates, now),
            Event::Ready(agent, result) => self.ready(agent, result),
            Event::TargetChecked(result) => self.target_checked(result, now),
            Event::Started(agent, result) => self.started(agent, result),
            Event::Measured(agent, measured) => self.measured(agent, *measured, now),
            Event::Done(agent, last_seq, early) => self.done(agent, last_seq, early, now),
            Event::Lost(agent, why) => self.lost(agent, why, now),
            Event::Stop(reason) => self.stop(reason, now),
            Event::Tick => self.tick(now),
        }
    }

    fn assigned(&mut self, candidates: Vec<Candidate>, now: Now) -> Vec<Action> {
        if self.stage != Stage::Waiting || candidates.is_empty() {
            return Vec::new();
        }
        self.stage = Stage::Arming { since: now.monotonic };
        let shares = shares(&candidates);
        self.members =
            candidates.into_iter().zip(shares).map(|(candidate, share)| Member::new(candidate, share)).collect();
        self.members.iter().map(|member| Action::Arm(member.id, member.share.clone())).collect()
    }

    fn ready(&mut self, agent: AgentId, result: Result<Vec<String>, String>) -> Vec<Action> {
        let Stage::Arming { .. } = self.stage else { return Vec::new() };
        let Some(member) = self.members.iter_mut().find(|member| member.id == agent) else { return Vec::new() };
        match result {
            Ok(warnings) => member.warnings = warnings,
            Err(problem) => {
                let problem = format!("agent {} can't take part: {problem}", member.name);
                return self.never_started(problem, EXIT_INCOMPLETE);
            }
        }
        member.state = MemberState::Ready;
        if self.members.iter().any(|member| member.state != MemberState::Ready) {
            return Vec::new();
        }
        self.stage = Stage::Checking;
        self.members.first().map(|member| Action::CheckTarget(member.id)).into_iter().collect()
    }

    fn target_checked(&mut self, result: Result<(), String>, now: Now) -> Vec<Action> {
        if self.stage != Stage::Checking {
            return Vec::new();
        }
        if let Err(problem) = result {
            let problem = format!("the target never became ready, so no load was sent: {problem}");
            return self.never_started(problem, EXIT_TARGET_NOT_READY);
        }
        let ahead = if self.local { START_AHEAD_LOCAL } else { START_AHEAD };
        let t0 = now.monotonic + ahead;
        self.stage = Stage::Starting;
        self.t0 = Some(t0);
        self.started_at = Some(now.calendar + ahead);
        self.members.iter().map(|member| Action::Start(member.id, t0)).collect()
    }

    fn started(&mut self, agent: AgentId, result: Result<u64, String>) -> Vec<Action> {
        if self.stage != Stage::Starting {
            return Vec::new();
        }
        let Some(member) = self.members.iter_mut().find(|member| member.id == agent) else { return Vec::new() };
        let skew = MAX_START_SKEW.as_micros();
        let problem = match result {
            Ok(bound_us) if u128::from(bound_us) <= skew => {
                member.clock_bound_us = bound_us;
                member.state = MemberState::Running;
                None
            }
            Ok(bound_us) => Some(format!("its clock is known to {bound_us} µs only, the limit is {skew} µs")),
            Err(problem) => Some(problem),
        };
        if let Some(problem) = problem {
            let problem = format!("agent {} can't keep the common start: {problem}", member.name);
            return self.never_started(problem, EXIT_INCOMPLETE);
        }
        if self.members.iter().all(|member| member.state == MemberState::Running) {
            self.stage = Stage::Running;
        }
        Vec::new()
    }

    fn measured(&mut self, agent: AgentId, measured: Measured, now: Now) -> Vec<Action> {
        let elapsed = self.elapsed(now);
        let Some(index) = self.members.iter().position(|member| member.id == agent) else { return Vec::new() };
        let member = &mut self.members[index];
        if member.state == MemberState::Lost || self.stage == Stage::Closed {
            return Vec::new();
        }
        if measured.seq <= member.last_seq {
            return vec![Action::Acknowledge(agent, member.last_seq)];
        }
        if measured.seq != member.last_seq + 1 {
            let problem = format!("delta {} came where {} was expected", measured.seq, member.last_seq + 1);
            return vec![Action::Expel(agent, problem)];
        }
        if let Err(error) = self.totals.absorb(index, &measured.delta) {
            return vec![Action::Expel(agent, format!("delta {} can't be merged: {error}", measured.seq))];
        }
        if let Err(overflow) = self.timeline.absorb(&measured.delta) {
            return self.overflowed(&overflow);
        }
        let is_measured = |step| self.plan.step(step).is_some_and(|timed| !timed.warm_up);
        let limit = self.plan.max_send_lag;
        if let Err(overflow) = member.trust.absorb(&measured.delta, measured.health, limit, is_measured) {
            return self.overflowed(&overflow);
        }
        let behind = elapsed.saturating_sub(Duration::from_micros(measured.delta.to_us));
        member.telemetry_lag = member.telemetry_lag.max(behind);
        member.merged(measured);
        vec![Action::Acknowledge(agent, member.last_seq)]
    }

    fn done(&mut self, agent: AgentId, last_seq: u64, early: Option<String>, now: Now) -> Vec<Action> {
        let Some(member) = self.members.iter_mut().find(|member| member.id == agent) else { return Vec::new() };
        if member.state == MemberState::Lost || self.stage == Stage::Closed {
            return Vec::new();
        }
        if last_seq != member.last_seq {
            let why = format!("it ended at delta {last_seq} but only {} came", member.last_seq);
            return self.lost(agent, why, now);
        }
        match early {
            Some(why) if self.stopped.is_none() => return self.lost(agent, why, now),
            _ => member.state = MemberState::Done,
        }
        self.close_when_over(now)
    }

    fn lost(&mut self, agent: AgentId, why: String, now: Now) -> Vec<Action> {
        let at = self.elapsed(now);
        let Some(member) = self.members.iter_mut().find(|member| member.id == agent) else { return Vec::new() };
        match self.stage {
            Stage::Waiting | Stage::Closed => Vec::new(),
            Stage::Arming { .. } | Stage::Checking | Stage::Starting => {
                let problem = format!("agent {} was lost before the start: {why}", member.name);
                self.never_started(problem, EXIT_INCOMPLETE)
            }
            Stage::Running if matches!(member.state, MemberState::Done | MemberState::Lost) => Vec::new(),
            Stage::Running => {
                member.state = MemberState::Lost;
                member.lost = Some(Lost { at, why });
                self.close_when_over(now)
            }
        }
    }

    fn stop(&mut self, reason: StopReason, now: Now) -> Vec<Action> {
        match self.stage {
            Stage::Closed => Vec::new(),
            Stage::Running if self.stopped.is_some() => Vec::new(),
            Stage::Running => {
                self.stopped = Some(Stopped { reason, at: now.monotonic });
                let at_work = self.members.iter().filter(|member| member.state == MemberState::Running);
                at_work.map(|member| Action::Stop(member.id, reason.word(), STOP_GRACE)).collect()
            }
            _ => self.never_started("interrupted before the start; no load was sent".to_owned(), EXIT_INTERRUPTED),
        }
    }

    fn tick(&mut self, now: Now) -> Vec<Action> {
        match self.stage {
            Stage::Arming { since } if now.monotonic > since + ARM_LIMIT => {
                let late = self.members.iter().find(|member| member.state == MemberState::Arming);
                let name = late.map_or("?", |member| &member.name);
                let problem = format!("agent {name} was not ready within {} s", ARM_LIMIT.as_secs());
                self.never_started(problem, EXIT_INCOMPLETE)
            }
            Stage::Running => self.tick_running(now),
            _ => Vec::new(),
        }
    }

    fn tick_running(&mut self, now: Now) -> Vec<Action> {
        let merged_to = self.merged_to();
        match self.judge.judge_now(&self.plan, &self.totals, &self.timeline, merged_to) {
            Ok(stop) if stop && self.stopped.is_none() => return self.stop(StopReason::Threshold, now),
            Ok(_) => {}
            Err(overflow) => return self.overflowed(&overflow),
        }
        if self.deadline().is_some_and(|deadline| now.monotonic > deadline) {
            let late: Vec<AgentId> = self
                .members
                .iter()
                .filter(|member| member.state == MemberState::Running)
                .map(|member| member.id)
                .collect();
            let why = "it did not end in time".to_owned();
            return late.into_iter().flat_map(|agent| self.lost(agent, why.clone(), now)).collect();
        }
        Vec::new()
    }

    /// The moment by which every agent should have ended.
    fn deadline(&self) -> Option<Duration> {
        match self.stopped {
            Some(stopped) => Some(stopped.at + STOP_GRACE + STOP_OVERTIME),
            None => Some(self.t0? + self.plan.longest() + OVERTIME),
        }
    }

    fn close_when_over(&mut self, now: Now) -> Vec<Action> {
        let over = |member: &Member| matches!(member.state, MemberState::Done | MemberState::Lost);
        if !self.members.iter().all(over) {
            return Vec::new();
        }
        for member in &mut self.members {
            member.trust.close(self.plan.max_send_lag);
        }
        let merged_to = self.merged_to();
        let judged = self.judge.judge_now(&self.plan, &self.totals, &self.timeline, merged_to);
        match judged.and_then(|_| self.report(now)) {
            Ok(report) => self.finish(Outcome::Report(Box::new(report))),
            Err(overflow) => self.overflowed(&overflow),
        }
    }

    /// Sums that do not fit come from an agent that lies: no figure of the run can be shown.
    fn overflowed(&mut self, overflow: &Overflow) -> Vec<Action> {
        let problem = format!("the agents' figures can't be added: {overflow}; there is no report");
        let at_work = self.members.iter().filter(|member| member.state == MemberState::Running);
        let mut actions: Vec<Action> =
            at_work.map(|member| Action::Stop(member.id, "figures_overflow", Duration::ZERO)).collect();
        actions.extend(self.finish(Outcome::NoReport { problem, exit_code: EXIT_INCOMPLETE }));
        actions
    }

    fn never_started(&mut self, problem: String, exit_code: u8) -> Vec<Action> {
        self.finish(Outcome::NoReport { problem, exit_code })
    }

    fn finish(&mut self, outcome: Outcome) -> Vec<Action> {
        self.stage = Stage::Closed;
        let release = self.members.iter().map(|member| Action::Release(member.id));
        release.chain([Action::Finish(outcome)]).collect()
    }

    /// Run time; zero before T0.
    fn elapsed(&self, now: Now) -> Duration {
        self.t0.map_or(Duration::ZERO, |t0| now.monotonic.saturating_sub(t0))
    }

    /// Run time up to which the figures of every agent that is not lost are merged.
    fn merged_to(&self) -> Duration {
        let alive = self.members.iter().filter(|member| member.state != MemberState::Lost);
        let at_work: Vec<&Member> = alive.collect();
        let running = at_work.iter().filter(|member| member.state == MemberState::Running);
        let least = running.map(|member| member.merged_to_us).min();
        let most = at_work.iter().map(|member| member.merged_to_us).max();
        Duration::from_micros(least.or(most).unwrap_or(0))
    }
}

/// The parts of the schedule, in proportion to the weights.
fn shares(candidates: &[Candidate]) -> Vec<Share> {
    let of = u32::try_from(candidates.len()).unwrap_or(u32::MAX);
    let weights: Vec<u32> = candidates.iter().map(|candidate| candidate.weight).collect();
    let equal = weights.windows(2).all(|pair| pair[0] == pair[1]);
    let share = |(nth, index): (u32, usize)| match equal {
        true => Share::nth_of(nth, of),
        // Weights are small, so this fails for no number of agents that a coordinator takes; equal shares are a load too.
        false => Share::weighted(index, &weights).unwrap_or_else(|_| Share::nth_of(nth, of)),
    };
    (0..).zip(0..candidates.len()).map(share).collect()
}
