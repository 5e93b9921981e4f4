//! The agent between sessions and runs: what it measures and what it may do outlive every session.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use groundswell_proto::limits::PROTOCOL;
use groundswell_proto::v1::agent_message::Kind as Say;
use groundswell_proto::v1::coordinator_message::Kind as Heard;
use groundswell_proto::v1::{Arm, Hello, Ready, Welcome};
use groundswell_scenario::Assignment;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::beat::{Answered, beat};
use super::job::{Due, Job};
use super::link::{Happened, Link, explain};
use super::{AgentError, AgentOptions, Dialler};
use crate::clock::{AgentClock, ClockSync};
use crate::delivery::{Fence, Torn};
use crate::guard::Taken;
use crate::transport::Budget;

/// Probes at the beginning of a session, one after another: the least round trip of so many is close to the link's own.
const FIRST_PROBES: u32 = 16;
/// An estimate of the coordinator's clock with this bound is good enough to start by: half of what the coordinator
/// allows by default.
const CLOCK_BOUND_US: u64 = 2_500;
/// How long an agent probes for it.
const CLOCK_PATIENCE: Duration = Duration::from_secs(5);
/// How long an agent that was asked to stop goes on with its load until somebody takes it over.
const HAND_OVER: Duration = Duration::from_millis(2_500);
/// How long it waits after that for its last delta to be acknowledged and its run to be released.
const DRAIN_LIMIT: Duration = Duration::from_secs(8);
/// Answers to heartbeats that wait for this agent.
const BEATS: usize = 16;

pub(super) struct Agent {
    options: AgentOptions,
    /// Of all runs.
    budget: Budget,
    dialler: Dialler,
    /// Random number of this life. A lease that has run out ends it: what comes next is another agent of the same name.
    boot: u64,
    link: Link,
    /// Sends heartbeats while there is a session.
    beat: JoinSet<()>,
    hurry: Arc<Notify>,
    answers: (mpsc::Sender<Answered>, mpsc::Receiver<Answered>),
    clock: AgentClock,
    sync: ClockSync,
    probes: u32,
    /// When the newest heartbeat that was answered was sent.
    answered: Option<Instant>,
    store: Option<u64>,
    fence: Fence,
    incarnation: u64,
    jobs: Vec<Job>,
    /// Waits for a better estimate of the clock, until the deadline.
    ready: Option<(Ready, Instant)>,
    leaving: Option<Leaving>,
}

/// It was asked to end.
struct Leaving {
    /// Load that nobody has taken over by then stops.
    hand_over: Option<Instant>,
    /// It ends then, whatever is left.
    limit: Instant,
}

enum Next {
    Happened(Box<Happened>),
    Answered(Answered),
    Due(usize, Due),
    Leave,
    HandOverEnded,
    DrainEnded,
}

impl Agent {
    pub(super) fn new(options: AgentOptions, dialler: Dialler) -> Self {
        let clock = AgentClock::new();
        let budget = Budget::new(options.guard.max_connections, options.limits.rate_per_s);
        Agent {
            options,
            budget,
            link: Link::new(dialler.clone()),
            dialler,
            boot: rand::random(),
            beat: JoinSet::new(),
            hurry: Arc::default(),
            answers: mpsc::channel(BEATS),
            clock,
            sync: ClockSync::new(clock),
            probes: 0,
            answered: None,
            store: None,
            fence: Fence::default(),
            incarnation: 0,
            jobs: Vec::new(),
            ready: None,
            leaving: None,
        }
    }

    /// Works until the shutdown is done or the coordinator refuses this agent for good.
    pub(super) async fn serve(mut self, shutdown: &CancellationToken) -> Result<(), AgentError> {
        loop {
            match self.next(shutdown).await {
                Next::Happened(happened) => self.happened(*happened).await?,
                Next::Answered(answered) => self.answered(answered),
                Next::Due(index, due) => self.act(index, due).await?,
                Next::Leave => self.leave(),
                Next::HandOverEnded => self.hand_over_ended().await,
                Next::DrainEnded => return Ok(()),
            }
            if self.leaving.is_some() && self.jobs.is_empty() {
                return Ok(());
            }
        }
    }

    async fn next(&mut self, shutdown: &CancellationToken) -> Next {
        let (hand_over, limit) =
            self.leaving.as_ref().map_or((None, None), |leaving| (leaving.hand_over, Some(leaving.limit)));
        tokio::select! {
            () = shutdown.cancelled(), if self.leaving.is_none() => Next::Leave,
            () = at(hand_over) => Next::HandOverEnded,
            () = at(limit) => Next::DrainEnded,
            Some(answered) = self.answers.1.recv() => Next::Answered(answered),
            happened = self.link.next() => Next::Happened(Box::new(happened)),
            (index, due) = first_due(&mut self.jobs) => Next::Due(index, due),
        }
    }

    async fn happened(&mut self, happened: Happened) -> Result<(), AgentError> {
        match happened {
            Happened::TimeToDial => {
                let hello = self.hello();
                self.link.dial(hello);
            }
            Happened::Opened(welcome) => self.welcomed(welcome),
            Happened::Heard(heard) => {
                if let Err(torn) = self.hear(heard).await {
                    self.give_up_torn(&torn);
                }
            }
            Happened::Lost(status) => return self.lost(&status),
        }
        Ok(())
    }

    fn hello(&self) -> Hello {
        Hello {
            protocol: PROTOCOL,
            name: self.options.name.clone(),
            boot: self.boot,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            workers: self.options.workers,
            weight: self.options.weight,
            held: self.jobs.iter().map(Job::held).collect(),
            max_rate_per_s: self.options.limits.rate_per_s.unwrap_or(0.0),
            max_users: self.options.limits.users.unwrap_or(0),
            labels: self.options.labels.clone().into_iter().collect(),
            system: system(),
            cores: std::thread::available_parallelism()
                .map_or(0, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX)),
        }
    }

    /// There is a session. A coordinator that was started before the one that this agent knows is a ghost.
    fn welcomed(&mut self, welcome: Welcome) {
        if self.store != Some(welcome.store) {
            (self.store, self.fence) = (Some(welcome.store), Fence::default());
        }
        if !self.fence.admits(welcome.term) {
            let (known, offered) = (self.fence.term(), welcome.term);
            tracing::warn!(known, offered, "an older coordinator answered; it is not obeyed");
            return self.link.hang_up();
        }
        tracing::info!(coordinator = %self.options.coordinator, name = %self.options.name, "joined");
        self.incarnation = welcome.incarnation;
        // Another process of the coordinator may be on another machine with another clock.
        self.sync.forget();
        self.probes = 0;
        self.beat = JoinSet::new();
        let (dialler, hurry) = (self.dialler.clone(), Arc::clone(&self.hurry));
        self.beat.spawn(beat(dialler, self.incarnation, self.clock, hurry, self.answers.0.clone()));
        let resume = |job: &Job| {
            let of_job = welcome.resume.iter().find(|resume| job.is(&resume.run_id, resume.incarnation));
            of_job.map(|resume| resume.acknowledged)
        };
        let link = &self.link;
        self.jobs.retain_mut(|job| match resume(job).map(|acknowledged| job.resumed(acknowledged, link)) {
            Some(Ok(())) => true,
            Some(Err(torn)) => {
                tracing::error!(run = job.run_id(), %torn, "this run can't be delivered");
                false
            }
            None => {
                tracing::info!(run = job.run_id(), "the coordinator knows nothing of this run; forgotten");
                false
            }
        });
    }

    fn lost(&mut self, status: &Status) -> Result<(), AgentError> {
        let why = explain(status);
        self.beat = JoinSet::new();
        self.ready = None;
        // A run that had not begun can't begin any more: its coordinator gives it up.
        self.jobs.retain(Job::has_started);
        self.jobs.iter_mut().for_each(Job::session_lost);
        let url = self.options.coordinator.clone();
        // Who is not let in any more stops at once; what it holds would not be taken.
        let is_shut_out = matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied);
        let is_refused =
            matches!(status.code(), Code::FailedPrecondition | Code::AlreadyExists | Code::InvalidArgument);
        if is_shut_out || is_refused && self.jobs.is_empty() {
            return Err(AgentError::Refused { url, why });
        }
        if self.options.once {
            return Err(AgentError::Unreachable { url, why });
        }
        tracing::warn!(coordinator = %url, %why, "no session with the coordinator; trying again");
        Ok(())
    }

    async fn act(&mut self, index: usize, due: Due) -> Result<(), AgentError> {
        let Agent { jobs, sync, link, .. } = self;
        let Some(job) = jobs.get_mut(index) else { return Ok(()) };
        let was_done = job.is_done();
        if let Some(say) = job.act(due, sync).await {
            link.say(say);
        }
        if job.is_broken() {
            // Its share is lost with it, which the coordinator sees by the lease; what it had not handed in is unknown.
            return Err(AgentError::Broken);
        }
        job.deliver(link);
        if !was_done && job.is_done() && job.incarnation() == self.incarnation && job.lease_expired() {
            // Its share may be somebody else's by now, so this agent comes back as another one.
            self.boot = rand::random();
            self.link.hang_up();
            self.beat = JoinSet::new();
            self.jobs.iter_mut().for_each(Job::session_lost);
        }
        Ok(())
    }

    /// A heartbeat was answered: the clock is known better, and the load may go on.
    fn answered(&mut self, Answered { t1_us, t2_us, t3_us, t4_us }: Answered) {
        self.sync.probed(t1_us, t2_us, t3_us, t4_us);
        self.probes += 1;
        if let Some(sent) = self.clock.instant(t1_us) {
            self.answered = Some(self.answered.map_or(sent, |before| before.max(sent)));
            let incarnation = self.incarnation;
            self.jobs.iter_mut().filter(|job| job.incarnation() == incarnation).for_each(|job| job.granted(sent));
        }
        if self.probes < FIRST_PROBES || self.ready.is_some() {
            self.hurry.notify_one();
        }
        self.say_ready();
    }

    /// Tells that the agent is ready, as soon as its clock is known well enough for a common start. A link that never
    /// gets there is told as it is, and the coordinator says so.
    fn say_ready(&mut self) {
        let known = self.sync.bound_us().is_some_and(|bound_us| bound_us <= CLOCK_BOUND_US);
        let over =
            |(ready, deadline): &mut (Ready, Instant)| known || !ready.problem.is_empty() || Instant::now() > *deadline;
        if let Some((ready, _)) = self.ready.take_if(over) {
            self.link.say(Say::Ready(ready));
        }
    }

    fn job(&mut self, run_id: &str) -> Option<&mut Job> {
        let incarnation = self.incarnation;
        self.jobs.iter_mut().find(|job| job.is(run_id, incarnation))
    }

    async fn hear(&mut self, heard: Heard) -> Result<(), Torn> {
        match heard {
            Heard::Arm(arm) => self.arm(arm).await,
            Heard::Start(start) => {
                let incarnation = self.incarnation;
                let Agent { jobs, sync, answered, link, .. } = self;
                if let Some(job) = jobs.iter_mut().find(|job| job.is(&start.run_id, incarnation)) {
                    let started = job.start(start.t0_us, sync, *answered).await;
                    link.say(Say::Started(started));
                }
            }
            Heard::CheckTarget(check) => {
                if let Some(job) = self.job(&check.run_id) {
                    job.check_target();
                }
            }
            Heard::Ack(ack) => {
                if let Some(job) = self.jobs.iter_mut().find(|job| job.is(&ack.run_id, ack.incarnation)) {
                    job.acknowledged(ack.upto)?;
                    job.deliver(&self.link);
                }
            }
            Heard::Expected(expected) => {
                if let Some(job) = self.jobs.iter_mut().find(|job| job.is(&expected.run_id, expected.incarnation)) {
                    job.expected(expected.seq)?;
                    job.deliver(&self.link);
                }
            }
            Heard::Assign(assign) => self.assign(&assign.run_id, assign.assignment).await,
            Heard::End(end) => {
                let (run_id, others) = (end.run_id.clone(), self.taken_beside(&end.run_id));
                let said = match self.job(&run_id) {
                    Some(job) => job.end(end, others).await,
                    None => None,
                };
                if let Some(said) = said {
                    self.link.say(said);
                }
            }
            Heard::Stop(stop) => {
                if let Some(job) = self.job(&stop.run_id) {
                    job.stop(&stop.reason, Duration::from_millis(u64::from(stop.grace_ms))).await;
                }
            }
            Heard::Release(release) => self.jobs.retain(|job| !job.is(&release.run_id, release.incarnation)),
            Heard::Welcome(_) => tracing::warn!("a second Welcome on one session was ignored"),
        }
        Ok(())
    }

    async fn arm(&mut self, arm: Arm) {
        let ready = self.armed(arm).await;
        self.ready = Some((ready, Instant::now() + CLOCK_PATIENCE));
        self.hurry.notify_one();
        self.say_ready();
    }

    async fn armed(&mut self, arm: Arm) -> Ready {
        let (options, incarnation, run_id) = (self.options.clone(), self.incarnation, arm.run_id.clone());
        // A run that it has already counts too: what is armed twice would be started twice.
        let (budget, others) =
            (self.budget.clone(), self.jobs.iter().map(Job::taken).fold(Taken::default(), Taken::and));
        // Compiling a large plan takes a while, and heartbeats must not wait for it.
        let armed = tokio::task::spawn_blocking(move || Job::arm(arm, &options, budget, others, incarnation)).await;
        let (job, ready) = armed.unwrap_or_else(|error| {
            (None, Ready { run_id, problem: format!("arming failed: {error}"), warnings: Vec::new() })
        });
        self.jobs.extend(job);
        ready
    }

    async fn assign(&mut self, run_id: &str, assignment: Option<groundswell_proto::v1::Assignment>) {
        let Some(Ok(assignment)) = assignment.map(Assignment::try_from) else {
            tracing::warn!(run = run_id, "an assignment that is none was ignored");
            return;
        };
        let others = self.taken_beside(run_id);
        if let Some(job) = self.job(run_id) {
            job.assign(assignment, others).await;
        }
    }

    /// What all runs but this one take of the limits.
    fn taken_beside(&self, run_id: &str) -> Taken {
        let others = self.jobs.iter().filter(|job| !job.is(run_id, self.incarnation));
        others.map(Job::taken).fold(Taken::default(), Taken::and)
    }

    /// The coordinator has lost what it had acknowledged, or never was this run's: what is left can't make it whole.
    fn give_up_torn(&mut self, torn: &Torn) {
        tracing::error!(%torn, "the coordinator's account does not fit this agent's; the session is given up");
        self.link.hang_up();
        self.beat = JoinSet::new();
        self.jobs.iter_mut().for_each(Job::session_lost);
    }

    /// The agent was asked to end.
    fn leave(&mut self) {
        let now = Instant::now();
        self.jobs.retain(Job::has_started);
        let Agent { jobs, link, .. } = self;
        for job in jobs.iter_mut().filter(|job| !job.is_done()) {
            link.say(job.leaving());
        }
        self.leaving = Some(Leaving { hand_over: Some(now + HAND_OVER), limit: now + HAND_OVER + DRAIN_LIMIT });
    }

    async fn hand_over_ended(&mut self) {
        if let Some(leaving) = &mut self.leaving {
            leaving.hand_over = None;
        }
        for job in &mut self.jobs {
            job.leave_now().await;
        }
    }
}

/// The first of the jobs that has something to do.
async fn first_due(jobs: &mut [Job]) -> (usize, Due) {
    if jobs.is_empty() {
        return std::future::pending().await;
    }
    let waits = jobs.iter_mut().map(|job| Box::pin(job.due()));
    let (due, index, _) = futures_util::future::select_all(waits).await;
    (index, due)
}

async fn at(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The operating system, its release and the processor, as `uname` says.
fn system() -> String {
    let uname = rustix::system::uname();
    let parts = [uname.sysname(), uname.release(), uname.machine()];
    parts.map(|part| part.to_string_lossy().into_owned()).join(" ")
}
