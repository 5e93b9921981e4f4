//! Where a run stands, for people who watch it.

use std::time::Duration;

use groundswell_scenario::load::Load;
use groundswell_scenario::plan::ScenarioStart;
use groundswell_stats::{Kind, Overflow, StepId};
use serde::{Deserialize, Serialize};

use super::distributions::interval;
use super::judge::RESPONSE;
use super::report::{error_classes, latency, per_second};
use super::{Member, MemberState, Now, Run, Stage};
use crate::report::{ErrorClassCount, Frame, FrameStep, Interval, Latency, MarkFigures, Reason, ThresholdResult};

/// Where a run stands, from merged figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// One word: waiting, arming, checking, starting, running, draining, closed.
    pub state: String,
    /// One sentence for people: what it waits for; empty where it waits for nothing.
    pub detail: String,
    /// Run time in seconds.
    pub elapsed_s: f64,
    /// Planned length in seconds, where it can be computed.
    pub planned_s: Option<f64>,
    /// Operations issued a second, over the last second.
    pub rate_per_s: f64,
    /// Iterations a second that the open loads want at this moment.
    pub wanted_per_s: f64,
    /// Operations issued.
    pub issued: u64,
    /// Operations that ended well.
    pub ok: u64,
    /// Errors, timeouts and aborted operations.
    pub failed: u64,
    /// Operations in flight.
    pub in_flight: u64,
    /// WebSockets open.
    pub open_sockets: u64,
    /// Users at work.
    pub users: u32,
    /// Response times so far, the warm-up left out.
    pub response_ms: Latency,
    /// A row for each timed step, the levels of a sweep together.
    pub steps: Vec<StepProgress>,
    /// Failures so far by class, most frequent first.
    pub error_classes: Vec<ErrorClassCount>,
    /// The thresholds as they stand.
    pub thresholds: Vec<ThresholdResult>,
    /// What already stands against the run's figures: agents lost, agents that can't be believed.
    pub reasons: Vec<Reason>,
    /// What changed who offers the load.
    pub marks: Vec<MarkFigures>,
    /// The agents.
    pub agents: Vec<AgentProgress>,
}

/// Where one timed step stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepProgress {
    /// Scenario.
    pub scenario: String,
    /// Name of the step.
    pub step: String,
    /// As in [`crate::report::StepFigures::kind`].
    pub kind: String,
    /// Operations issued.
    pub issued: u64,
    /// Operations that ended well.
    pub ok: u64,
    /// Operations that failed.
    pub errors: u64,
    /// Operations issued a second while the scenario was active.
    pub rate_per_s: f64,
    /// Response times so far.
    pub response_ms: Latency,
    /// Service times so far.
    pub service_ms: Latency,
}

/// Where one agent stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentProgress {
    /// Its name.
    pub name: String,
    /// One word: arming, ready, running, done, lost.
    pub state: String,
    /// Has it no session at the moment?
    pub away: bool,
    /// Operations issued.
    pub issued: u64,
    /// Operations that failed.
    pub errors: u64,
    /// Users at work.
    pub users: u32,
    /// CPU of its busiest worker in the last second, 0 to 1.
    pub cpu: f64,
    /// 99th percentile of its send lag so far, in milliseconds; none without a sample.
    pub send_lag_p99_ms: Option<f64>,
    /// Bound of the difference between its time of the run and the coordinator's, in milliseconds.
    pub clock_bound_ms: f64,
}

/// What the last progress saw, for rates.
#[derive(Debug, Default)]
pub(super) struct Meter {
    issued: u64,
    merged_to: Duration,
    rate_per_s: f64,
}

impl Run {
    /// Where the run stands.
    ///
    /// # Errors
    /// When the figures of all agents together do not fit.
    pub fn progress(&mut self, now: Now, detail: String) -> Result<Progress, Overflow> {
        let elapsed = self.elapsed(now);
        let counters = self.totals.merged_counters(self.every_step())?;
        let sockets = self.totals.sockets(self.every_step())?;
        let merged_to = self.merged_to();
        let since = merged_to.saturating_sub(self.progress.merged_to);
        if since >= Duration::from_millis(900) {
            let issued = counters.issued.saturating_sub(self.progress.issued);
            self.progress =
                Meter { issued: counters.issued, merged_to, rate_per_s: issued as f64 / since.as_secs_f64() };
        }
        let thresholds = self.judge.results(&self.plan, &self.totals, &self.all_broadcasts()?, elapsed)?;
        Ok(Progress {
            state: self.state_word(elapsed).to_owned(),
            detail,
            elapsed_s: elapsed.as_secs_f64(),
            planned_s: self.plan.duration().map(|planned| planned.as_secs_f64()),
            rate_per_s: self.progress.rate_per_s,
            wanted_per_s: self.wanted_per_s(elapsed),
            issued: counters.issued,
            ok: counters.ok,
            failed: counters.failed(),
            in_flight: counters.in_flight().unwrap_or(0),
            open_sockets: sockets.opened.saturating_sub(sockets.closed_in_all()),
            users: self.members.iter().map(|member| member.health.users).sum(),
            response_ms: latency(&self.totals.distribution(self.measured_steps(), &RESPONSE)?),
            steps: self.steps_progress(elapsed)?,
            error_classes: error_classes(&counters, "timeout"),
            thresholds,
            reasons: self.standing_reasons(elapsed),
            marks: self.mark_rows(),
            agents: self.agents_progress()?,
        })
    }

    /// Which step each number in a frame stands for.
    pub fn frame_steps(&self) -> Vec<FrameStep> {
        let step = |timed: &groundswell_scenario::plan::TimedStep| {
            let scenario = &self.plan.scenarios[timed.scenario];
            FrameStep {
                scenario: scenario.name.clone(),
                level: scenario.phases[timed.phase].level.clone(),
                step: timed.name.clone(),
                kind: timed.kind.as_str().to_owned(),
                warm_up: timed.warm_up,
            }
        };
        self.plan.steps.iter().map(step).collect()
    }

    /// The frames of the intervals from the first on that changed after a change; see [`Run::changes`].
    ///
    /// # Errors
    /// When the figures of all agents together do not fit.
    pub fn frames_since(&self, change: u64) -> Result<Vec<Frame>, Overflow> {
        let Some(first) = self.timeline.changed_since(change).next() else { return Ok(Vec::new()) };
        let rows = self.load_rows().into_iter().filter(|row| row.t_s >= first.from_s as f64);
        let frame = |row: crate::report::LoadPoint| {
            let kind = |step| self.plan.step(step).map(|timed| timed.kind);
            let steps: Vec<(usize, Interval)> = self
                .timeline
                .points_at(row.t_s as u64)
                .filter_map(|point| Some((point.step.0 as usize, interval(&point, kind(point.step)?))))
                .collect();
            Frame::of(row, steps.iter().map(|(number, interval)| (*number, interval)))
        };
        rows.map(frame).collect()
    }

    /// How often the figures over time have changed, and the length of their intervals in seconds.
    pub fn changes(&self) -> (u64, u64) {
        (self.timeline.changes(), self.timeline.length_s())
    }

    /// Every timed step, those of the warm-up among them.
    pub(super) fn every_step(&self) -> impl Iterator<Item = StepId> + use<> {
        (0..u32::try_from(self.plan.steps.len()).unwrap_or(u32::MAX)).map(StepId)
    }

    /// Every timed step that is in the figures.
    pub(super) fn measured_steps(&self) -> impl Iterator<Item = StepId> + '_ {
        self.every_step().filter(|step| self.plan.step(*step).is_some_and(|timed| !timed.warm_up))
    }

    fn steps_progress(&self, elapsed: Duration) -> Result<Vec<StepProgress>, Overflow> {
        let row = |steps: Vec<StepId>| {
            let counters = self.totals.merged_counters(steps.iter().copied())?;
            let latency_of = |kinds: &[Kind]| self.totals.distribution(steps.iter().copied(), kinds);
            let timed = steps.first().and_then(|step| self.plan.step(*step));
            Ok(StepProgress {
                scenario: timed.map_or_else(String::new, |timed| self.plan.scenarios[timed.scenario].name.clone()),
                step: timed.map_or_else(String::new, |timed| timed.name.clone()),
                kind: timed.map_or("all", |timed| timed.kind.as_str()).to_owned(),
                issued: counters.issued,
                ok: counters.ok,
                errors: counters.failed(),
                rate_per_s: per_second(counters.issued, super::judge::active(&self.plan, &steps, elapsed)),
                response_ms: latency(&latency_of(&RESPONSE)?),
                service_ms: latency(&latency_of(&[Kind::Service])?),
            })
        };
        self.rows_of_steps().into_iter().map(row).collect()
    }

    fn agents_progress(&self) -> Result<Vec<AgentProgress>, Overflow> {
        let agent = |(index, member): (usize, &Member)| {
            let counters = self.totals.agent_counters(index)?;
            let send_lag = self.totals.agent_send_lag(index).filter(|lag| lag.count() > 0);
            Ok(AgentProgress {
                name: member.name.clone(),
                state: state_of(member).to_owned(),
                away: member.away.is_some(),
                issued: counters.issued,
                errors: counters.failed(),
                users: member.health.users,
                cpu: f64::from(member.health.cpu_permille) / 1e3,
                send_lag_p99_ms: send_lag.map(|lag| lag.quantile_us(0.99) as f64 / 1e3),
                clock_bound_ms: member.clock_bound_us as f64 / 1e3,
            })
        };
        self.members.iter().enumerate().map(agent).collect()
    }

    /// Its state in one word.
    pub fn state(&self, now: Now) -> &'static str {
        self.state_word(self.elapsed(now))
    }

    fn state_word(&self, elapsed: Duration) -> &'static str {
        match self.stage {
            Stage::Waiting => "waiting",
            Stage::Arming { .. } => "arming",
            Stage::Checking { .. } => "checking",
            Stage::Starting => "starting",
            Stage::Running if elapsed.is_zero() => "starting",
            Stage::Running if self.stopped.is_some() => "draining",
            Stage::Running if self.plan.duration().is_some_and(|planned| elapsed > planned) => "draining",
            Stage::Running => "running",
            Stage::Closed => "closed",
        }
    }

    pub(super) fn wanted_per_s(&self, elapsed: Duration) -> f64 {
        let mut wanted = 0.0;
        for scenario in &self.plan.scenarios {
            let ScenarioStart::At(start) = scenario.start else { continue };
            for phase in &scenario.phases {
                if let (Load::Rate { curve, .. }, Some(offset)) =
                    (&phase.load, elapsed.checked_sub(start + phase.offset))
                {
                    wanted += curve.at(offset);
                }
            }
        }
        wanted
    }
}

fn state_of(member: &Member) -> &'static str {
    match member.state {
        MemberState::Arming => "arming",
        MemberState::Ready => "ready",
        MemberState::Running => "running",
        MemberState::Done => "done",
        MemberState::Lost => "lost",
    }
}
