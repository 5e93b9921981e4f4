//! One run at this agent: armed, started, sealed once a second, done, delivered.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use groundswell_access::Secrets;
use groundswell_proto::v1::agent_message::Kind as Say;
use groundswell_proto::v1::{self, Arm, Done, End, Held, Ready, Released, Started, TargetChecked};
use groundswell_scenario::{Assignment, Plan};
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::admission::assigned;
use super::arm::{Armed, arm, trail};
use super::link::Link;
use super::window::Window;
use super::{AgentOptions, Limits};
use crate::audit::Trail;
use crate::clock::{ClockSync, RunClock};
use crate::delivery::{Answer, Holdings, Outbox, Tenure, Torn};
use crate::engine::{Engine, SealError};
use crate::guard::{Taken, within_limits};
use crate::transport::Budget;

/// A delta is sealed at every whole second of the run.
const SEAL_EVERY: Duration = Duration::from_secs(1);
/// Operations in flight may go on for so long when the agent itself is asked to stop.
const LEAVE_GRACE: Duration = Duration::from_millis(500);
/// Room for messages beside the deltas of the window.
const ROOM: usize = 16;

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
    plan: Arc<Plan>,
    limits: Limits,
    trail: Trail,
    engine: Engine,
    secrets: Secrets,
    /// Until when it may issue, counted from `tenure_origin`.
    tenure: Tenure,
    /// A heartbeat that was sent before would not let it issue any more.
    tenure_origin: Instant,
    was_granted: bool,
    start: Option<Kept>,
    next_seal: Option<Instant>,
    outbox: Outbox<Window>,
    holdings: Holdings,
    checking: Option<Check>,
    was_checked: bool,
    /// Why this agent leaves before the end.
    leaving: Option<&'static str>,
    lease_expired: bool,
    /// The coordinator's word for why the load was to stop.
    stopped: Option<String>,
    /// Why it did not do what it was given.
    refused: Option<String>,
    /// A worker is gone, so nobody knows what its part of the load came to.
    broken: bool,
    /// Said once all deltas are on the way, and again in every session until the run is released.
    done: Option<Done>,
    done_said: bool,
}

/// The start that this agent keeps.
struct Kept {
    clock: RunClock,
    t0: Instant,
    /// On the coordinator's clock.
    t0_us: u64,
    said: Started,
}

impl Job {
    /// Compiles the plan and starts the workers, or says why not. Takes a while for a large plan.
    /// `others` is what other runs take of the limits.
    pub(super) fn arm(
        asked: Arm,
        options: &AgentOptions,
        budget: Budget,
        others: Taken,
        incarnation: u64,
    ) -> (Option<Job>, Ready) {
        let run_id = asked.run_id.clone();
        let mut trail = trail(&asked, options);
        match arm(asked, options, budget, others, &mut trail) {
            Ok(armed) => {
                let ready = Ready { run_id: run_id.clone(), problem: String::new(), warnings: armed.warnings.clone() };
                (Some(Job::new(run_id, incarnation, armed, options.limits, trail)), ready)
            }
            Err(problem) => {
                tracing::warn!(run = run_id, %problem, "this agent does not take part in a run");
                // Where the log is the problem it can't hold it.
                let problem = trail.refused(&problem).err().unwrap_or(problem);
                (None, Ready { run_id, problem, warnings: Vec::new() })
            }
        }
    }

    fn new(run_id: String, incarnation: u64, armed: Armed, limits: Limits, trail: Trail) -> Self {
        let Armed { plan, engine, assignment, secrets, .. } = armed;
        let issue_limit = plan.continuity.issue_limit();
        let mut holdings = Holdings::default();
        holdings.give(assignment);
        Job {
            run_id,
            incarnation,
            tenure: Tenure::new(issue_limit),
            tenure_origin: Instant::now().checked_sub(issue_limit).unwrap_or_else(Instant::now),
            was_granted: false,
            plan,
            limits,
            trail,
            engine,
            secrets,
            start: None,
            next_seal: None,
            outbox: Outbox::new(),
            holdings,
            checking: None,
            was_checked: false,
            leaving: None,
            lease_expired: false,
            stopped: None,
            refused: None,
            broken: false,
            done: None,
            done_said: false,
        }
    }

    pub(super) fn is(&self, run_id: &str, incarnation: u64) -> bool {
        self.run_id == run_id && self.incarnation == incarnation
    }

    pub(super) fn incarnation(&self) -> u64 {
        self.incarnation
    }

    pub(super) fn run_id(&self) -> &str {
        &self.run_id
    }

    /// Can the coordinator learn anything of it in another session? What never started is over with its session.
    pub(super) fn has_started(&self) -> bool {
        self.start.is_some()
    }

    /// Did it stop because it heard nothing of the coordinator for too long?
    pub(super) fn lease_expired(&self) -> bool {
        self.lease_expired
    }

    /// Can it never be delivered, because a worker is gone?
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Its load is over; what is left is to deliver.
    pub(super) fn is_done(&self) -> bool {
        self.done.is_some()
    }

    pub(super) fn held(&self) -> Held {
        Held { run_id: self.run_id.clone(), incarnation: self.incarnation, last_seq: self.outbox.last_seq() }
    }

    /// What it takes of the agent's limits.
    pub(super) fn taken(&self) -> Taken {
        if self.is_done() { Taken::default() } else { Taken::by(&self.plan, self.holdings.assignments()) }
    }

    /// Once for each run: what a check sends is in no account.
    pub(super) fn check_target(&mut self) {
        if std::mem::replace(&mut self.was_checked, true) {
            return;
        }
        let logged = match &self.plan.ready {
            Some(ready) => self.trail.wrote("checked", &json!({ "url": ready.url })),
            None => Ok(()),
        };
        self.checking = Some(match logged {
            Ok(()) => Box::pin(self.engine.check_target()),
            Err(problem) => Box::pin(std::future::ready(Err(problem))),
        });
    }

    /// Keeps a start that is ahead. One that has passed is kept only by an agent that joins a run under way: what is
    /// given to it begins later.
    pub(super) async fn start(&mut self, t0_us: u64, sync: &ClockSync, answered: Option<Instant>) -> Started {
        let mut started = Started {
            run_id: self.run_id.clone(),
            clock_bound_us: sync.bound_us().unwrap_or(0),
            problem: String::new(),
        };
        let joins_later = self.holdings.assignments().all(|assignment| !assignment.is_initial());
        match sync.local(t0_us) {
            Some(t0) if t0 > Instant::now() || joins_later => {
                if let Err(problem) = self.trail.wrote("started", &json!({})) {
                    return Started { problem, ..started };
                }
                self.granted(answered.unwrap_or_else(Instant::now));
                self.engine.start(t0).await;
                let clock = RunClock::new(t0);
                self.start = Some(Kept { clock, t0, t0_us, said: started.clone() });
                self.next_seal = Some(self.following_second());
            }
            Some(_) => started.problem = "the start had passed when it arrived".to_owned(),
            None => started.problem = "this agent has no estimate of the coordinator's clock".to_owned(),
        }
        started
    }

    /// A heartbeat that was sent then was answered. A limit that has passed stays passed: the share may have another
    /// owner by now.
    pub(super) fn granted(&mut self, sent: Instant) {
        let since_origin = |at: Instant| at.saturating_duration_since(self.tenure_origin);
        let (sent, now) = (since_origin(sent), since_origin(Instant::now()));
        if self.was_granted && !self.tenure.holds(now) {
            return;
        }
        self.was_granted = true;
        self.tenure.granted(sent, now);
        self.engine.lease(Some(self.tenure_origin + self.tenure.until()));
    }

    /// More load, beside what other runs take.
    pub(super) async fn assign(&mut self, assignment: Assignment, others: Taken) {
        if self.done.is_none() && self.holdings.give(assignment.clone()) {
            self.take_on(&assignment, others).await;
        }
    }

    /// Works off what it was given, unless it is more than this agent takes on or its log can't hold it: then its load ends.
    async fn take_on(&mut self, assignment: &Assignment, others: Taken) {
        let within = within_limits(self.limits, others, self.taken());
        let logged = within.and_then(|()| self.trail.wrote("assigned", &assigned(&self.plan, assignment)));
        match logged {
            Ok(()) => self.engine.assign(assignment).await,
            Err(why) => {
                tracing::error!(run = self.run_id, %why, "the load of this run ends here");
                self.refused = Some(why);
                self.stop("agent_limits", Duration::ZERO).await;
            }
        }
    }

    /// Less load, beside what other runs take.
    pub(super) async fn end(&mut self, end: End, others: Taken) -> Option<Say> {
        let instead = end.instead.map(Assignment::try_from).transpose().ok()?;
        let at = Duration::from_micros(end.until_run_us);
        let now = Duration::from_micros(self.start.as_ref()?.clock.now_us());
        let held = |holdings: &Holdings| holdings.assignments().count();
        let before = held(&self.holdings);
        let answer = self.holdings.end(end.generation, at, instead.clone(), now);
        if answer == Answer::Released {
            self.engine.end_assignment(end.generation, at).await;
            if let Some(instead) = instead.filter(|_| held(&self.holdings) > before) {
                self.take_on(&instead, others).await;
            }
        }
        let (run_id, generation) = (self.run_id.clone(), end.generation);
        let accepted = answer == Answer::Released;
        Some(Say::Released(Released { run_id, generation, until_run_us: end.until_run_us, accepted }))
    }

    pub(super) async fn stop(&mut self, reason: &str, grace: Duration) {
        self.stopped.get_or_insert_with(|| reason.to_owned());
        self.engine.stop(reason, grace).await;
        if self.start.is_none() {
            // Nothing was started, so there is nothing to wait for.
            self.next_seal = Some(Instant::now());
        }
    }

    /// The agent was asked to end. Whoever takes its load over needs a moment to begin; the coordinator says when.
    pub(super) fn leaving(&mut self) -> Say {
        self.leaving = Some("the agent was asked to stop");
        Say::Leaving(v1::Leaving { run_id: self.run_id.clone() })
    }

    /// Nobody took its load over in time.
    pub(super) async fn leave_now(&mut self) {
        if self.done.is_none() {
            self.stop("agent_left", LEAVE_GRACE).await;
        }
    }

    pub(super) fn acknowledged(&mut self, upto: u64) -> Result<(), Torn> {
        self.outbox.acknowledged(upto)
    }

    pub(super) fn expected(&mut self, seq: u64) -> Result<(), Torn> {
        self.outbox.expected(seq)
    }

    pub(super) fn session_lost(&mut self) {
        self.outbox.session_lost();
        self.done_said = false;
    }

    /// A new session has begun; says again what the coordinator may not know.
    pub(super) fn resumed(&mut self, acknowledged: u64, link: &Link) -> Result<(), Torn> {
        self.outbox.resumed(acknowledged)?;
        if let Some(kept) = &self.start {
            link.say(Say::Started(kept.said.clone()));
        }
        if self.leaving.is_some() && self.done.is_none() {
            link.say(self.leaving());
        }
        self.deliver(link);
        Ok(())
    }

    /// Hands to the link what may go out now.
    pub(super) fn deliver(&mut self, link: &Link) {
        while link.has_room(ROOM)
            && let Some((seq, figures)) = self.outbox.next(|_, window| window.pack())
        {
            link.say(Say::Delta(v1::Delta::new(self.run_id.clone(), self.incarnation, seq, figures)));
        }
        if self.done.is_some() && !self.done_said && !self.outbox.has_waiting() && link.has_room(ROOM) {
            let last_seq = self.outbox.last_seq();
            self.done_said = self.done.clone().is_some_and(|done| link.say(Say::Done(Done { last_seq, ..done })));
        }
    }

    /// Waits until this job has something to do. Dropping the wait loses nothing: sealing is done by [`Job::act`], which
    /// must run to its end, because what was sealed has left the recorders.
    pub(super) async fn due(&mut self) -> Due {
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

    /// Does what is due; returns what the coordinator has to hear of it beside deltas.
    pub(super) async fn act(&mut self, due: Due, sync: &ClockSync) -> Option<Say> {
        match due {
            Due::Checked(result) => {
                self.checking = None;
                let problem = self.secrets.redact(&result.err().unwrap_or_default());
                Some(Say::TargetChecked(TargetChecked { run_id: self.run_id.clone(), problem }))
            }
            Due::Seal => {
                self.seal(sync).await;
                None
            }
        }
    }

    fn following_second(&self) -> Instant {
        match &self.start {
            Some(Kept { clock, .. }) => clock.at(Duration::from_secs(clock.now_us() / 1_000_000 + 1)),
            None => Instant::now() + SEAL_EVERY,
        }
    }

    async fn seal(&mut self, sync: &ClockSync) {
        if self.done.is_some() {
            return;
        }
        let started = self.start.as_ref().filter(|kept| kept.clock.started());
        let now_us = started.map_or(0, |kept| kept.clock.now_us());
        let agreement = self.start.as_ref().and_then(|kept| sync.agreement(kept.t0_us, kept.t0));
        let sealed = match self.engine.seal(now_us).await {
            Ok(sealed) => sealed,
            Err(SealError::WorkerPanicked) => {
                self.broken = true;
                self.next_seal = None;
                return;
            }
            Err(error) => return self.finish(error.to_string()),
        };
        let finished = sealed.finished;
        self.lease_expired |= sealed.lease_expired;
        sealed.delta.steps.values().for_each(|step| self.trail.counted(&step.counters));
        if let Err(error) = self.outbox.seal(Window::new(sealed, agreement.unwrap_or_default())) {
            return self.finish(format!("counts can't be added: {error}"));
        }
        if finished {
            let expired = "it heard nothing of the coordinator for as long as the plan allows, and stopped";
            self.finish(if self.lease_expired { expired.to_owned() } else { String::new() });
        }
    }

    fn finish(&mut self, problem: String) {
        self.next_seal = None;
        let problem = match &self.refused {
            Some(why) => why.clone(),
            None if problem.is_empty() => self.leaving.unwrap_or_default().to_owned(),
            None => problem,
        };
        let stopped = self.stopped.as_deref().unwrap_or("its load was done");
        self.trail.ended(if problem.is_empty() { stopped } else { &problem });
        let (run_id, incarnation) = (self.run_id.clone(), self.incarnation);
        self.done = Some(Done { run_id, last_seq: 0, problem, incarnation });
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
