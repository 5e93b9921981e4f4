//! One run at this agent: armed, started, sealed once a second, done.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use groundswell_proto::v1::agent_message::Kind as Say;
use groundswell_proto::v1::{self, Arm, Done, Health, Ready, Started, TargetChecked};
use groundswell_scenario::{Plan, PlanSource, Share};
use groundswell_stats::Delta;
use tokio::time::{Instant, sleep_until};

use super::AgentOptions;
use crate::clock::{ClockSync, RunClock};
use crate::engine::{Engine, EngineOptions, Sealed, source};
use crate::preflight::foresee;

/// A delta is sealed at every whole second of the run.
const SEAL_EVERY: Duration = Duration::from_secs(1);
/// Deltas on the wire without an acknowledgement; beyond it, what is sealed is merged into one that waits.
const WINDOW: u64 = 8;
/// Operations in flight may go on for so long when the agent itself is asked to stop.
const LEAVE_GRACE: Duration = Duration::from_millis(500);

/// What a job has to do.
pub(super) enum Due {
    /// Tell the outcome of the target's readiness check.
    Checked(Result<(), String>),
    /// Seal a delta.
    Seal,
}

/// The target's readiness check under way.
type Check = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

pub(super) struct Job {
    run_id: String,
    incarnation: u64,
    engine: Engine,
    clock: Option<RunClock>,
    next_seal: Option<Instant>,
    seq: u64,
    acknowledged: u64,
    /// Sealed but not yet sent, merged.
    waiting: Option<Delta>,
    checking: Option<Check>,
    /// Why this agent leaves before the end.
    leaving: Option<&'static str>,
    done: bool,
}

impl Job {
    /// Compiles the plan and starts the workers, or says why not.
    pub(super) fn arm(arm: Arm, options: &AgentOptions, incarnation: u64) -> (Option<Job>, Ready) {
        let run_id = arm.run_id.clone();
        match Self::try_arm(arm, options, incarnation) {
            Ok((job, warnings)) => (Some(job), Ready { run_id, problem: String::new(), warnings }),
            Err(problem) => (None, Ready { run_id, problem, warnings: Vec::new() }),
        }
    }

    /// The job, and what will be too small on this machine.
    fn try_arm(arm: Arm, options: &AgentOptions, incarnation: u64) -> Result<(Job, Vec<String>), String> {
        let wire = arm.plan.ok_or("the coordinator sent no plan")?;
        let hash = wire.hash.clone();
        let plan = Plan::compile(&PlanSource::from(wire)).map_err(|problems| problems.to_string())?;
        if plan.hash != hash {
            return Err(format!("the plan's hash is {} here but {hash} at the coordinator", plan.hash));
        }
        let share = arm.share.ok_or("the coordinator sent no share")?;
        let share = Share::try_from(share).map_err(|error| error.to_string())?;
        let warnings = foresee(&plan, &share, options.workers).lacks;
        let options = EngineOptions {
            workers: options.workers,
            agent: options.name.clone(),
            raw_samples: options.raw_samples.clone(),
        };
        let engine = Engine::prepare(Arc::new(plan), &share, &options).map_err(|error| error.to_string())?;
        let job = Job {
            run_id: arm.run_id,
            incarnation,
            engine,
            clock: None,
            next_seal: None,
            seq: 0,
            acknowledged: 0,
            waiting: None,
            checking: None,
            leaving: None,
            done: false,
        };
        Ok((job, warnings))
    }

    pub(super) fn is(&self, run_id: &str) -> bool {
        self.run_id == run_id
    }

    pub(super) fn check_target(&mut self) {
        self.checking = Some(Box::pin(self.engine.check_target()));
    }

    pub(super) async fn start(&mut self, t0_us: u64, sync: &ClockSync) -> Started {
        let mut started = Started {
            run_id: self.run_id.clone(),
            clock_bound_us: sync.bound_us().unwrap_or(0),
            problem: String::new(),
        };
        match sync.local(t0_us) {
            Some(t0) if t0 > Instant::now() => {
                self.engine.start(t0).await;
                self.clock = Some(RunClock::new(t0));
                self.next_seal = Some(t0 + SEAL_EVERY);
            }
            Some(_) => started.problem = "the start had passed when it arrived".to_owned(),
            None => started.problem = "this agent has no estimate of the coordinator's clock".to_owned(),
        }
        started
    }

    pub(super) async fn stop(&mut self, reason: &str, grace: Duration) {
        self.engine.stop(reason, grace).await;
        if self.clock.is_none() {
            // Nothing was started, so there is nothing to wait for.
            self.next_seal = Some(Instant::now());
        }
    }

    /// The agent was asked to end: its load stops, and what it measured is sent.
    pub(super) async fn leave(&mut self) {
        self.leaving = Some("the agent was asked to stop");
        self.stop("agent_left", LEAVE_GRACE).await;
    }

    pub(super) fn acknowledged(&mut self, upto: u64) {
        self.acknowledged = self.acknowledged.max(upto.min(self.seq));
    }

    /// Waits until this job has something to do. Dropping the wait loses nothing: sealing is done by [`Job::act`], which
    /// must run to its end, because what was sealed has left the recorders.
    pub(super) async fn due(job: Option<&mut Job>) -> Due {
        match job {
            Some(job) => job.wait().await,
            None => std::future::pending().await,
        }
    }

    async fn wait(&mut self) -> Due {
        let Job { engine, checking, next_seal, .. } = self;
        tokio::select! {
            result = outcome(checking) => Due::Checked(result),
            () = engine.worker_finished() => Due::Seal,
            () = at(*next_seal) => {
                self.next_seal = Some(Instant::now().max(self.following_second()));
                Due::Seal
            }
        }
    }

    /// Does what is due; returns what the coordinator has to hear of it.
    pub(super) async fn act(&mut self, due: Due) -> Vec<Say> {
        match due {
            Due::Checked(result) => {
                self.checking = None;
                let problem = result.err().unwrap_or_default();
                vec![Say::TargetChecked(TargetChecked { run_id: self.run_id.clone(), problem })]
            }
            Due::Seal => self.seal().await,
        }
    }

    fn following_second(&self) -> Instant {
        match &self.clock {
            Some(clock) => clock.at(Duration::from_secs(clock.now_us() / 1_000_000 + 1)),
            None => Instant::now() + SEAL_EVERY,
        }
    }

    async fn seal(&mut self) -> Vec<Say> {
        if self.done {
            return Vec::new();
        }
        let now_us = self.clock.filter(RunClock::started).map_or(0, |clock| clock.now_us());
        let sealed = match self.engine.seal(now_us).await {
            Ok(sealed) => sealed,
            Err(error) => return vec![self.finished(format!("counts can't be added: {error}"))],
        };
        match &mut self.waiting {
            None => self.waiting = Some(sealed.delta.clone()),
            Some(waiting) => {
                if let Err(error) = waiting.add(&sealed.delta) {
                    return vec![self.finished(format!("counts can't be added: {error}"))];
                }
            }
        }
        let mut said = Vec::new();
        if sealed.finished || self.seq - self.acknowledged < WINDOW {
            said.extend(self.waiting.take().map(|delta| self.delta(&delta, &sealed)));
        }
        if sealed.finished {
            said.push(self.finished(String::new()));
        }
        said
    }

    fn delta(&mut self, delta: &Delta, sealed: &Sealed) -> Say {
        self.seq += 1;
        let health = Health {
            cpu_permille: sealed.cpu_permille,
            users: sealed.users,
            cpu_wait_permille: sealed.cpu_wait_permille,
            steal_permille: sealed.machine.steal_permille,
            throttled_permille: sealed.machine.throttled_permille,
            machine_permille: sealed.machine.busy_permille,
        };
        let cursors = sealed.cursors.iter().map(|((scenario, phase), decided)| v1::Cursor {
            scenario: u32::try_from(*scenario).unwrap_or(u32::MAX),
            phase: u32::try_from(*phase).unwrap_or(u32::MAX),
            decided: *decided,
        });
        let figures = v1::Figures {
            health: Some(health),
            cursors: cursors.collect(),
            source: source(),
            ..v1::Figures::from(delta)
        };
        Say::Delta(v1::Delta {
            run_id: self.run_id.clone(),
            incarnation: self.incarnation,
            seq: self.seq,
            figures: figures.pack(),
        })
    }

    fn finished(&mut self, problem: String) -> Say {
        self.done = true;
        self.next_seal = None;
        let problem = if problem.is_empty() { self.leaving.unwrap_or_default().to_owned() } else { problem };
        Say::Done(Done { run_id: self.run_id.clone(), last_seq: self.seq, problem })
    }
}

async fn outcome(checking: &mut Option<Check>) -> Result<(), String> {
    match checking {
        Some(check) => check.await,
        None => std::future::pending().await,
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
