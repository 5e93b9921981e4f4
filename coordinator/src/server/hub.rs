//! The hub: one task that owns the fleet and the runs, feeds the state machines and carries out what they say.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use groundswell_proto::limits::{MAX_NAME_BYTES, SILENCE_LIMIT};
use groundswell_proto::v1::coordinator_message::Kind as Tell;
use groundswell_proto::v1::{self, Hello, RunEvent, Welcome};
use groundswell_scenario::{Plan, PlanSource};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

use super::wire::{self, Heard};
use super::{ServerOptions, ToAgent, message};
use crate::fleet::{AgentId, Fleet, JoinError};
use crate::run::{Action, Candidate, Event, Now, Outcome, Run, StopReason};

/// How often time passes for the state machines: a threshold stops a run within two seconds of breaking it.
const TICK: Duration = Duration::from_millis(200);
/// Progress goes out at every so many ticks.
const PROGRESS_TICKS: u64 = 3;
/// At shutdown, runs get so long to stop and report.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(8);

/// The coordinator's clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    epoch: Instant,
}

impl Clock {
    pub(super) fn new() -> Self {
        Clock { epoch: Instant::now() }
    }

    pub(super) fn now_us(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn now(&self) -> Now {
        Now { monotonic: self.epoch.elapsed(), calendar: SystemTime::now() }
    }
}

/// What sessions and clients bring to the hub.
pub(super) enum Message {
    /// An agent wants in.
    Join { hello: Hello, out: ToAgent, answer: oneshot::Sender<Result<(AgentId, Welcome), JoinError>> },
    /// An agent said something.
    Heard { agent: AgentId, heard: Heard },
    /// An agent's session is over.
    Left { agent: AgentId, why: String },
    /// A plan to run.
    Submit(Box<Submission>),
    /// Stop a run; answers whether it is there.
    Stop { run_id: String, answer: oneshot::Sender<bool> },
}

/// A plan to run.
pub(super) struct Submission {
    pub(super) plan: Plan,
    pub(super) source: PlanSource,
    /// Agents to wait for; 0: all that are free, at least one.
    pub(super) agents: usize,
    /// How long to wait for them.
    pub(super) wait: Duration,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) events: mpsc::Sender<Result<RunEvent, Status>>,
}

/// A run that has not ended.
struct Running {
    run: Run,
    /// What agents are sent.
    wire_plan: v1::Plan,
    events: mpsc::Sender<Result<RunEvent, Status>>,
    agents_wanted: usize,
    wait_until: Duration,
    wait: Duration,
    client_gone: bool,
}

pub(super) struct Hub {
    clock: Clock,
    options: ServerOptions,
    tasks: TaskTracker,
    fleet: Fleet,
    sessions: HashMap<AgentId, ToAgent>,
    /// In the order of submission, which is the order in which they get agents.
    runs: BTreeMap<u64, (String, Running)>,
    submitted: u64,
}

impl Hub {
    pub(super) fn new(clock: Clock, options: ServerOptions, tasks: TaskTracker) -> Self {
        Hub {
            clock,
            options,
            tasks,
            fleet: Fleet::default(),
            sessions: HashMap::new(),
            runs: BTreeMap::new(),
            submitted: 0,
        }
    }

    /// Works until the shutdown is done, then cancels `closed`.
    pub(super) async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Message>,
        shutdown: CancellationToken,
        closed: CancellationToken,
    ) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticks = 0;
        let mut deadline = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled(), if deadline.is_none() => {
                    deadline = Some(Instant::now() + SHUTDOWN_LIMIT);
                    self.every_run(|| Event::Stop(StopReason::Interrupted));
                }
                Some(message) = inbox.recv() => self.take(message),
                _ = tick.tick() => {
                    ticks += 1;
                    self.tick(ticks);
                }
            }
            let over = deadline.is_some_and(|deadline| self.runs.is_empty() || Instant::now() > deadline);
            if over {
                break;
            }
        }
        // Dropping the senders ends every session and stream; then the server can close its connections.
        self.sessions.clear();
        self.runs.clear();
        closed.cancel();
        inbox.close();
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Join { hello, out, answer } => {
                // An agent that gave up waiting finds its session closed.
                let _ = answer.send(self.join(&hello, out));
            }
            Message::Heard { agent, heard } => self.heard(agent, heard),
            Message::Left { agent, why } => self.left(agent, &why),
            Message::Submit(submission) => self.submit(*submission),
            Message::Stop { run_id, answer } => {
                let key = self.key_of(&run_id);
                if let Some(key) = key {
                    self.feed(key, Event::Stop(StopReason::Interrupted));
                }
                let _ = answer.send(key.is_some());
            }
        }
    }

    fn join(&mut self, hello: &Hello, out: ToAgent) -> Result<(AgentId, Welcome), JoinError> {
        let now = self.clock.now().monotonic;
        let replaced = self.fleet.find(&hello.name);
        let id = self.fleet.join(&hello.name, hello.boot, hello.weight, MAX_NAME_BYTES, now)?;
        if let Some((old, run)) = replaced {
            self.sessions.remove(&old);
            self.lost(old, run.as_deref(), "it came back with a new session");
        }
        self.sessions.insert(id, out);
        let incarnation = self.fleet.get(id).map_or(0, |agent| agent.incarnation);
        tracing::info!(agent = %hello.name, workers = hello.workers, version = %hello.version, "agent joined");
        Ok((id, Welcome { agent: id.0, incarnation, version: env!("CARGO_PKG_VERSION").to_owned() }))
    }

    fn heard(&mut self, agent: AgentId, heard: Heard) {
        self.fleet.heard(agent, self.clock.now().monotonic);
        let (run_id, event) = match heard {
            Heard::Alive => return,
            Heard::Ready(run_id, result) => (run_id, Event::Ready(agent, result)),
            Heard::TargetChecked(run_id, result) => (run_id, Event::TargetChecked(result)),
            Heard::Started(run_id, result) => (run_id, Event::Started(agent, result)),
            Heard::Measured(run_id, measured) => (run_id, Event::Measured(agent, measured)),
            Heard::Done(run_id, last_seq, early) => (run_id, Event::Done(agent, last_seq, early)),
        };
        // An agent speaks for the run it was given, no other.
        let its_own = self.fleet.get(agent).is_some_and(|agent| agent.run.as_deref() == Some(&*run_id));
        if let Some(key) = self.key_of(&run_id).filter(|_| its_own) {
            self.feed(key, event);
        }
    }

    fn left(&mut self, agent: AgentId, why: &str) {
        self.sessions.remove(&agent);
        if let Some(left) = self.fleet.leave(agent) {
            tracing::info!(agent = %left.name, why, "agent left");
            self.lost(agent, left.run.as_deref(), why);
        }
    }

    fn lost(&mut self, agent: AgentId, run: Option<&str>, why: &str) {
        if let Some(key) = run.and_then(|run| self.key_of(run)) {
            self.feed(key, Event::Lost(agent, why.to_owned()));
        }
    }

    fn submit(&mut self, submission: Submission) {
        let run_id = format!("{:08x}", rand::random::<u32>());
        let plan = Arc::new(submission.plan);
        let wire_plan = v1::Plan { hash: plan.hash.clone(), ..v1::Plan::from(&submission.source) };
        let running = Running {
            run: Run::new(run_id.clone(), plan, submission.labels, self.options.local),
            wire_plan,
            agents_wanted: submission.agents,
            wait_until: self.clock.now().monotonic + submission.wait,
            wait: submission.wait,
            events: submission.events,
            client_gone: false,
        };
        tracing::info!(run = %run_id, "run submitted");
        let _ = running.events.try_send(Ok(wire::accepted(&run_id)));
        self.submitted += 1;
        self.runs.insert(self.submitted, (run_id, running));
        self.assign();
    }

    /// Gives free agents to the runs that wait, first come, first served.
    fn assign(&mut self) {
        let waiting: Vec<u64> =
            self.runs.iter().filter(|(_, (_, running))| running.run.is_waiting()).map(|(key, _)| *key).collect();
        for key in waiting {
            let Some((run_id, running)) = self.runs.get(&key) else { continue };
            let mut free = self.fleet.free();
            if free.len() < running.agents_wanted.max(1) {
                // A later run must not take the agents that an earlier one collects.
                return;
            }
            if running.agents_wanted > 0 {
                free.truncate(running.agents_wanted);
            }
            let run_id = run_id.clone();
            let candidates = free.iter().filter_map(|id| {
                let agent = self.fleet.get(*id)?;
                Some(Candidate { id: *id, name: agent.name.clone(), weight: agent.weight })
            });
            let candidates: Vec<Candidate> = candidates.collect();
            free.iter().for_each(|id| self.fleet.assign(*id, Some(&run_id)));
            self.feed(key, Event::Assigned(candidates));
        }
    }

    fn tick(&mut self, ticks: u64) {
        let now = self.clock.now();
        for agent in self.fleet.silent(SILENCE_LIMIT, now.monotonic) {
            let why = format!("nothing was heard of it for {} s", SILENCE_LIMIT.as_secs());
            self.left(agent, &why);
        }
        self.assign();
        self.give_up_waiting(now);
        self.every_run(|| Event::Tick);
        if ticks.is_multiple_of(PROGRESS_TICKS) {
            self.send_progress(now);
        }
    }

    fn give_up_waiting(&mut self, now: Now) {
        let late: Vec<u64> = self
            .runs
            .iter()
            .filter(|(_, (_, running))| running.run.is_waiting() && now.monotonic > running.wait_until)
            .map(|(key, _)| *key)
            .collect();
        for key in late {
            let Some((_, running)) = self.runs.get(&key) else { continue };
            let problem = format!(
                "{} agents were wanted but {} were free after {} s; start agents with `groundswell agent --coordinator \
                 URL --name NAME`",
                running.agents_wanted.max(1),
                self.fleet.free().len(),
                running.wait.as_secs()
            );
            self.finish(key, &Outcome::NoReport { problem, exit_code: 3 });
        }
    }

    fn send_progress(&mut self, now: Now) {
        let free = self.fleet.free().len();
        let mut gone = Vec::new();
        for (key, (_, running)) in &mut self.runs {
            if running.events.is_closed() && !running.client_gone {
                running.client_gone = true;
                gone.push(*key);
            }
            let detail = if running.run.is_waiting() {
                format!("{free} of {} agents are there", running.agents_wanted.max(1))
            } else {
                String::new()
            };
            // A slow client misses some progress, never its report.
            if let Ok(progress) = running.run.progress(now) {
                let _ = running.events.try_send(Ok(wire::progress(&progress, detail)));
            }
        }
        for key in gone {
            self.feed(key, Event::Stop(StopReason::ClientGone));
        }
    }

    fn every_run(&mut self, event: impl Fn() -> Event) {
        let keys: Vec<u64> = self.runs.keys().copied().collect();
        for key in keys {
            self.feed(key, event());
        }
    }

    fn key_of(&self, run_id: &str) -> Option<u64> {
        self.runs.iter().find(|(_, (id, _))| id == run_id).map(|(key, _)| *key)
    }

    fn feed(&mut self, key: u64, event: Event) {
        let now = self.clock.now();
        let Some((_, running)) = self.runs.get_mut(&key) else { return };
        for action in running.run.step(event, now) {
            self.act(key, action);
        }
    }

    fn act(&mut self, key: u64, action: Action) {
        let Some((run_id, running)) = self.runs.get(&key) else { return };
        let run_id = run_id.clone();
        match action {
            Action::Arm(agent, share) => {
                let arm = v1::Arm { run_id, plan: Some(running.wire_plan.clone()), share: Some((&share).into()) };
                self.send(agent, Tell::Arm(arm));
            }
            Action::CheckTarget(agent) => self.send(agent, Tell::CheckTarget(v1::CheckTarget { run_id })),
            Action::Start(agent, t0) => {
                let t0_us = u64::try_from(t0.as_micros()).unwrap_or(u64::MAX);
                self.send(agent, Tell::Start(v1::Start { run_id, t0_us }));
            }
            Action::Acknowledge(agent, upto) => {
                let incarnation = self.fleet.get(agent).map_or(0, |agent| agent.incarnation);
                self.send(agent, Tell::Ack(v1::Ack { run_id, incarnation, upto }));
            }
            Action::Stop(agent, reason, grace) => {
                let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
                self.send(agent, Tell::Stop(v1::Stop { run_id, reason: reason.to_owned(), grace_ms }));
            }
            Action::Release(agent) => {
                self.fleet.assign(agent, None);
                self.send(agent, Tell::Release(v1::Release { run_id }));
            }
            Action::Expel(agent, why) => {
                tracing::warn!(agent = agent.0, why, "agent expelled");
                if let Some(session) = self.sessions.get(&agent) {
                    let _ = session.try_send(Err(Status::invalid_argument(why.clone())));
                }
                self.left(agent, &why);
            }
            Action::Finish(outcome) => self.finish(key, &outcome),
        }
    }

    fn send(&mut self, agent: AgentId, tell: Tell) {
        let Some(session) = self.sessions.get(&agent) else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = session.try_send(Ok(message(tell))) {
            self.left(agent, "it does not read what it is sent");
        }
    }

    fn finish(&mut self, key: u64, outcome: &Outcome) {
        let Some((run_id, running)) = self.runs.remove(&key) else { return };
        tracing::info!(run = %run_id, "run finished");
        let event = wire::finished(outcome);
        // The queue may be full of progress; the report waits for its place without holding up the hub.
        self.tasks.spawn(async move {
            let _ = running.events.send(Ok(event)).await;
        });
    }
}
