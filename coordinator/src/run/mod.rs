//! One run from submission to report: a state machine without sockets or clocks.
//!
//! [`Run::step`] takes an [`Event`] and the time and says what to do ([`Action`]); the server carries it out. The server
//! has every event in its log before the run hears of it, so a run that is fed its log again is the same run. A test
//! drives it through any history in any order.
//!
//! ```text
//! Waiting ─assigned─▶ Arming ─all ready─▶ Checking ─target ready─▶ Starting ─all started─▶ Running ─all done─▶ Closed
//! ```
//!
//! # Layout
//! - `event`: what happens and what is to be done
//! - `member`: an agent that takes part
//! - `company`: agents that join, leave, are lost
//! - `allowance`: how much an agent can have done by now
//! - `progress`, `judge`, `trust`, `verdict`, `report`, …: what is known of the run

mod allowance;
mod company;
mod distributions;
mod event;
mod figures;
mod judge;
mod knee;
mod loss;
mod mark;
mod member;
mod progress;
mod report;
mod sockets;
mod trust;
mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use groundswell_scenario::{Assignment, Plan};
use groundswell_stats::{Delta, Overflow, Timeline, Totals};

use crate::delivery::Assignments;
use crate::fleet::AgentId;
use allowance::Allowance;
pub use event::{Action, Candidate, Event, Health, Measured, Now, Outcome, StopReason};
use judge::Judge;
use mark::Mark;
use member::{Lost, Member, MemberState};
pub use progress::{AgentProgress, Progress, StepProgress};

/// The start lies this far ahead, so that every agent has heard of it.
const START_AHEAD: Duration = Duration::from_secs(2);
/// The same where every agent is in this process.
const START_AHEAD_LOCAL: Duration = Duration::from_secs(1);
/// Agents have this long to compile the plan and start their workers.
const ARM_LIMIT: Duration = Duration::from_secs(60);
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

/// Where a run takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// Every agent is in this process: clocks agree and messages take no time.
    pub local: bool,
    /// Everybody who reaches the coordinator can join, read and steer, over connections that others can read.
    pub open: bool,
}

/// One run.
pub struct Run {
    id: String,
    plan: Arc<Plan>,
    labels: BTreeMap<String, String>,
    place: Place,
    stage: Stage,
    members: Vec<Member>,
    /// Who owns what; none before agents are assigned.
    assignments: Option<Assignments<AgentId>>,
    allowance: Allowance,
    totals: Totals,
    timeline: Timeline,
    judge: Judge,
    /// Figures that can't be added, so none can be shown.
    overflow: Option<Overflow>,
    t0: Option<Duration>,
    started_at: Option<SystemTime>,
    /// Nobody looked at the agents since the last event until then.
    unwatched_until: Option<Duration>,
    /// The coordinator was started again since the run began.
    was_restarted: bool,
    stopped: Option<Stopped>,
    marks: Vec<Mark>,
    progress: progress::Meter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Arming { since: Duration },
    Checking { by: AgentId },
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
    /// A run that waits for its agents.
    pub fn new(id: String, plan: Arc<Plan>, labels: BTreeMap<String, String>, place: Place) -> Self {
        let steps = plan.steps.len();
        let timeline = Timeline::with_windows_of(judge::longest_window(&plan).as_secs());
        Run {
            id,
            judge: Judge::new(&plan),
            allowance: Allowance::of(&plan),
            plan,
            labels,
            place,
            stage: Stage::Waiting,
            members: Vec::new(),
            assignments: None,
            totals: Totals::new(steps),
            timeline,
            overflow: None,
            t0: None,
            started_at: None,
            unwatched_until: None,
            was_restarted: false,
            stopped: None,
            marks: Vec::new(),
            progress: progress::Meter::default(),
        }
    }

    /// Its plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The user's labels.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// Does it wait for agents?
    pub fn is_waiting(&self) -> bool {
        self.stage == Stage::Waiting
    }

    /// Is it over?
    pub fn is_closed(&self) -> bool {
        self.stage == Stage::Closed
    }

    /// The next state and what is to be done. Events that do not fit the state are ignored: they crossed with a change.
    pub fn step(&mut self, event: Event, now: Now) -> Vec<Action> {
        match event {
            Event::Assigned(candidates) => self.assigned(candidates, now),
            Event::Ready(agent, result) => self.ready(agent, result, now),
            Event::TargetChecked(agent, result) => self.target_checked(agent, result, now),
            Event::Started(agent, result) => self.started(agent, result, now),
            Event::Measured(agent, measured) => self.measured(agent, *measured, now),
            Event::Done(agent, last_seq, early) => self.done(agent, last_seq, early, now),
            Event::Lost(agent, why) => self.lost(agent, why, now),
            Event::Joined(candidate) => self.joined(candidate, now),
            Event::Leaving(agent) => self.leaving(agent, now),
            Event::Released(agent, generation, at, accepted) => self.released(agent, generation, at, accepted, now),
            Event::Away(agent, why) => self.away(agent, why, now),
            Event::Back(agent) => self.back(agent, now),
            Event::Tainted(agent, why) => self.tainted(agent, why, now),
            Event::Stop(reason) => self.stop(reason, now),
            Event::Restarted => self.restarted(now),
        }
    }

    /// What has become due by the passing of time. It happens when it has come back as an event.
    pub fn due(&self, now: Now) -> Vec<Event> {
        match self.stage {
            Stage::Arming { since } if now.monotonic > since + ARM_LIMIT => {
                let late = self.members.iter().filter(|member| member.state == MemberState::Arming);
                let why = format!("it was not ready within {} s", ARM_LIMIT.as_secs());
                late.map(|member| Event::Lost(member.id, why.clone())).take(1).collect()
            }
            Stage::Running => self.due_while_running(now),
            _ => Vec::new(),
        }
    }

    fn due_while_running(&self, now: Now) -> Vec<Event> {
        if self.stopped.is_none() {
            if self.judge.stops() {
                return vec![Event::Stop(StopReason::Threshold)];
            }
            if let Some(reason) = self.must_stop() {
                return vec![Event::Stop(reason)];
            }
        }
        if self.deadline().is_some_and(|deadline| now.monotonic > deadline) {
            let late = self.members.iter().filter(|member| !member.is_over());
            return late.map(|member| Event::Lost(member.id, "it did not end in time".to_owned())).collect();
        }
        Vec::new()
    }

    fn ready(&mut self, agent: AgentId, result: Result<Vec<String>, String>, now: Now) -> Vec<Action> {
        let in_time = matches!(self.stage, Stage::Arming { .. });
        let Some(t0) = self.t0.filter(|_| self.stage == Stage::Running).or(in_time.then_some(Duration::ZERO)) else {
            return Vec::new();
        };
        let Some(member) = self.members.iter_mut().find(|member| member.id == agent) else { return Vec::new() };
        match result {
            Ok(warnings) => member.warnings = warnings,
            Err(problem) if in_time => {
                let problem = format!("agent {} can't take part: {problem}", member.name);
                return self.never_started(problem, EXIT_INCOMPLETE);
            }
            Err(problem) => return self.lost(agent, problem, now),
        }
        member.state = MemberState::Ready;
        if !in_time {
            return vec![Action::Start(agent, t0)];
        }
        if self.members.iter().any(|member| member.state != MemberState::Ready) {
            return Vec::new();
        }
        let Some(by) = self.members.first().map(|member| member.id) else { return Vec::new() };
        self.stage = Stage::Checking { by };
        vec![Action::CheckTarget(by)]
    }

    fn target_checked(&mut self, agent: Option<AgentId>, result: Result<(), String>, now: Now) -> Vec<Action> {
        // No other agent can vouch for the target, or end the run because of it.
        if !matches!(self.stage, Stage::Checking { by } if agent.is_none_or(|agent| agent == by)) {
            return Vec::new();
        }
        if let Err(problem) = result {
            let problem = format!("the target never became ready, so no load was sent: {problem}");
            return self.never_started(problem, EXIT_TARGET_NOT_READY);
        }
        let ahead = if self.place.local { START_AHEAD_LOCAL } else { START_AHEAD };
        let t0 = now.monotonic + ahead;
        self.stage = Stage::Starting;
        self.t0 = Some(t0);
        self.started_at = Some(now.calendar + ahead);
        self.members.iter().map(|member| Action::Start(member.id, t0)).collect()
    }

    fn started(&mut self, agent: AgentId, result: Result<u64, String>, now: Now) -> Vec<Action> {
        if !matches!(self.stage, Stage::Starting | Stage::Running) {
            return Vec::new();
        }
        let Some(member) = self.members.iter_mut().find(|member| member.id == agent) else { return Vec::new() };
        if member.state != MemberState::Ready {
            // Said again in a new session.
            return Vec::new();
        }
        let skew = self.plan.continuity.max_start_skew.as_micros();
        let problem = match result {
            Ok(bound_us) if u128::from(bound_us) <= skew => {
                member.clock_bound_us = bound_us;
                member.state = MemberState::Running;
                None
            }
            Ok(bound_us) => Some(format!("its clock is known to {bound_us} µs only, the limit is {skew} µs")),
            Err(problem) => Some(problem),
        };
        let name = member.name.clone();
        match (problem, self.stage) {
            (Some(problem), Stage::Running) => return self.lost(agent, problem, now),
            (Some(problem), _) => {
                let problem = format!("agent {name} can't keep the common start: {problem}");
                return self.never_started(problem, EXIT_INCOMPLETE);
            }
            (None, Stage::Running) => return self.takes_part(agent, now),
            (None, _) => {}
        }
        if self.members.iter().all(|member| member.state == MemberState::Running) {
            self.stage = Stage::Running;
        }
        Vec::new()
    }

    fn measured(&mut self, agent: AgentId, measured: Measured, now: Now) -> Vec<Action> {
        let elapsed = self.elapsed(now);
        let Some(index) = self.members.iter().position(|member| member.id == agent) else { return Vec::new() };
        let member = &self.members[index];
        if member.tainted.is_some() || measured.seq != member.last_seq + 1 {
            return Vec::new();
        }
        if let Some(why) = self.overdrawn(agent, index, &measured, elapsed) {
            return self.tainted(agent, why, now);
        }
        if let Err(error) = self.totals.absorb(index, &measured.delta) {
            let why = format!("delta {} can't be merged: {error}", measured.seq);
            return self.tainted(agent, why, now);
        }
        let member = &mut self.members[index];
        let is_measured = |step| self.plan.step(step).is_some_and(|timed| !timed.warm_up);
        let limit = self.plan.max_send_lag;
        let trusted = member.trust.absorb(&measured.delta, measured.health, limit, is_measured);
        let Delta { from_us, to_us, .. } = measured.delta;
        let users = self.timeline.absorb_users(from_us, to_us, measured.health.users);
        if let Err(overflow) = self.timeline.absorb(&measured.delta).and(users).and(trusted) {
            return self.overflowed(overflow);
        }
        let behind = elapsed.saturating_sub(Duration::from_micros(measured.delta.to_us));
        member.telemetry_lag = member.telemetry_lag.max(behind);
        member.merged(measured);
        match self.judged() {
            Ok(()) => Vec::new(),
            Err(overflow) => self.overflowed(overflow),
        }
    }

    /// Why a delta can't be what this agent measured, by what it was given to do.
    fn overdrawn(&mut self, agent: AgentId, index: usize, measured: &Measured, elapsed: Duration) -> Option<String> {
        let own: Vec<Assignment> =
            self.assignments.iter().flat_map(|assignments| assignments.given_to(agent)).collect();
        let ahead = u64::try_from(measured.health.clock_skew_us.saturating_neg()).unwrap_or(0);
        // After a restart the time may come from the calendar, which anybody can set.
        let elapsed = (!self.was_restarted).then(|| elapsed.saturating_add(Duration::from_micros(ahead)));
        self.allowance.overdrawn(&self.plan, &own, (&self.totals, index), &measured.delta, elapsed)
    }

    /// Looks at the thresholds with what is merged now.
    fn judged(&mut self) -> Result<(), Overflow> {
        if self.plan.thresholds.is_empty() {
            return Ok(());
        }
        let merged_to = self.merged_to();
        self.judge.judge_now(&self.plan, &self.totals, &self.timeline, merged_to)
    }

    fn stop(&mut self, reason: StopReason, now: Now) -> Vec<Action> {
        match self.stage {
            Stage::Closed => Vec::new(),
            Stage::Running if self.stopped.is_some() => Vec::new(),
            Stage::Running => {
                self.stopped = Some(Stopped { reason, at: now.monotonic });
                let at_work = self.members.iter().filter(|member| !member.is_over());
                at_work.map(|member| Action::Stop(member.id, reason.word(), STOP_GRACE)).collect()
            }
            _ => self.never_started("interrupted before the start; no load was sent".to_owned(), EXIT_INTERRUPTED),
        }
    }

    /// The moment by which every agent should have ended.
    fn deadline(&self) -> Option<Duration> {
        // An agent that can't be heard has as long as it may go on by itself.
        let patience = self.plan.continuity.lost_after();
        match self.stopped {
            Some(stopped) => Some(stopped.at + STOP_GRACE + STOP_OVERTIME.max(patience)),
            None => Some(self.t0? + self.plan.longest() + OVERTIME.max(patience)),
        }
    }

    fn close_when_over(&mut self, now: Now) -> Vec<Action> {
        if self.stage != Stage::Running || !self.members.iter().all(|member| self.has_nothing_to_do(member)) {
            return Vec::new();
        }
        for member in &mut self.members {
            member.trust.close(self.plan.max_send_lag);
        }
        match self.judged().and_then(|()| self.answer(now)) {
            Ok(answer) => self.finish(answer),
            Err(overflow) => self.overflowed(overflow),
        }
    }

    /// The report with its histograms, as the run stands.
    fn answer(&self, now: Now) -> Result<Outcome, Overflow> {
        let (report, distributions) = (Box::new(self.report(now)?), Box::new(self.distributions()?));
        Ok(Outcome::Report { report, distributions })
    }

    /// Sums that do not fit come from an agent that lies: no figure of the run can be shown.
    fn overflowed(&mut self, overflow: Overflow) -> Vec<Action> {
        let problem = format!("the agents' figures can't be added: {overflow}; there is no report");
        self.overflow = Some(overflow);
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
        let there = self.members.iter().filter(|member| member.lost.as_ref().is_none_or(|lost| lost.delivered));
        let release = there.map(|member| Action::Release(member.id));
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
