//! Where a run stands, for people who watch it.

use std::time::Duration;

use groundswell_scenario::load::Load;
use groundswell_scenario::plan::ScenarioStart;
use groundswell_stats::{Overflow, StepId};

use super::judge::RESPONSE;
use super::{MemberState, Now, Run, Stage};

/// Where a run stands, from merged figures.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// One word: waiting, arming, checking, starting, running, draining, closed.
    pub state: &'static str,
    /// Run time.
    pub elapsed: Duration,
    /// Planned length, where it can be computed.
    pub planned: Option<Duration>,
    /// Operations issued a second, since the last progress.
    pub rate_per_s: f64,
    /// Iterations a second that the open loads want at this moment.
    pub wanted_per_s: f64,
    /// Operations issued.
    pub issued: u64,
    /// Operations that ended well.
    pub ok: u64,
    /// Errors, timeouts and aborted operations.
    pub failed: u64,
    /// Response time so far: p50, p95 and p99 in microseconds.
    pub response_us: [u64; 3],
    /// Users at work.
    pub users: u32,
    /// The agents.
    pub agents: Vec<AgentProgress>,
}

/// Where one agent stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentProgress {
    /// Its name.
    pub name: String,
    /// One word: arming, ready, running, done, lost.
    pub state: &'static str,
    /// Operations issued.
    pub issued: u64,
    /// CPU of its busiest worker, in thousandths of a core.
    pub cpu_permille: u32,
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
    pub fn progress(&mut self, now: Now) -> Result<Progress, Overflow> {
        let elapsed = self.elapsed(now);
        let counters = self.totals.merged_counters(self.every_step())?;
        let distribution = self.totals.distribution(self.measured_steps(), &RESPONSE)?;
        let quantile = |q| if distribution.count() == 0 { 0 } else { distribution.quantile_us(q) };
        let merged_to = self.merged_to();
        let since = merged_to.saturating_sub(self.progress.merged_to);
        if since >= Duration::from_millis(900) {
            let issued = counters.issued.saturating_sub(self.progress.issued);
            self.progress =
                Meter { issued: counters.issued, merged_to, rate_per_s: issued as f64 / since.as_secs_f64() };
        }
        Ok(Progress {
            state: self.state_word(elapsed),
            elapsed,
            planned: self.plan.duration(),
            rate_per_s: self.progress.rate_per_s,
            wanted_per_s: self.wanted_per_s(elapsed),
            issued: counters.issued,
            ok: counters.ok,
            failed: counters.failed(),
            response_us: [quantile(0.5), quantile(0.95), quantile(0.99)],
            users: self.members.iter().map(|member| member.health.users).sum(),
            agents: self.agents_progress()?,
        })
    }

    /// Every timed step, those of the warm-up among them.
    pub(super) fn every_step(&self) -> impl Iterator<Item = StepId> + use<> {
        (0..u32::try_from(self.plan.steps.len()).unwrap_or(u32::MAX)).map(StepId)
    }

    /// Every timed step that is in the figures.
    pub(super) fn measured_steps(&self) -> impl Iterator<Item = StepId> + '_ {
        self.every_step().filter(|step| self.plan.step(*step).is_some_and(|timed| !timed.warm_up))
    }

    fn agents_progress(&self) -> Result<Vec<AgentProgress>, Overflow> {
        let agent = |(index, member): (usize, &super::Member)| {
            Ok(AgentProgress {
                name: member.name.clone(),
                state: match member.state {
                    MemberState::Arming => "arming",
                    MemberState::Ready => "ready",
                    MemberState::Running => "running",
                    MemberState::Done => "done",
                    MemberState::Lost => "lost",
                },
                issued: self.totals.agent_counters(index)?.issued,
                cpu_permille: member.health.cpu_permille,
            })
        };
        self.members.iter().enumerate().map(agent).collect()
    }

    fn state_word(&self, elapsed: Duration) -> &'static str {
        match self.stage {
            Stage::Waiting => "waiting",
            Stage::Arming { .. } => "arming",
            Stage::Checking => "checking",
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
