//! The hub: one task that owns the fleet and the runs, has every event in the log, feeds the state machines with what is
//! durable, and carries out what they say.
//!
//! # Layout
//! - `running`: a run with its log and its followers
//! - `figures`: what monitoring systems are told
//! - `watch`: what those who watch a run are told
//! - `sessions`: what agents bring
//! - `runs`: what clients bring: runs to begin, follow, stop
//! - `restore`: runs that the store has
//! - `unanswered`: what agents were asked; what else they say is not logged

mod figures;
mod restore;
mod running;
mod runs;
mod sessions;
#[cfg(test)]
mod tests;
mod unanswered;
mod watch;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use groundswell_proto::limits::AWAY_LIMIT;
use groundswell_proto::v1::coordinator_message::Kind as Tell;
use groundswell_proto::v1::{self, Hello};
use groundswell_scenario::{Plan, PlanSource};
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

use super::clock::Clock;
use super::wire::Heard;
use super::{ServerOptions, ToAgent, message};
use crate::api::AgentStatus;
use crate::export::{RunFigures, Snapshot};
use crate::fleet::{AgentId, Fleet, JoinError};
use crate::run::{Action, Event, StopReason};
use crate::store::{Committed, Created, Entry, Store, StoreError, Writer};
pub(super) use restore::{Part, replay};
use running::{Packed, Running, Token};
pub(super) use watch::{Update, Watch, finished};

/// How often time passes for the state machines: a threshold stops a run within two seconds of breaking it.
const TICK: Duration = Duration::from_millis(200);
/// Progress goes out at every so many ticks.
const PROGRESS_TICKS: u64 = 3;
/// At shutdown, runs get so long to stop and report.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(8);
/// Entries that wait for the writer.
const WRITER_QUEUE: usize = 1_024;
/// Commits that wait for the hub.
const COMMITTED_QUEUE: usize = 64;
/// Of entries that became durable together, so many are merged at once; in between, others have their turn.
const MERGED_AT_ONCE: usize = 8;

/// What sessions and clients bring to the hub.
pub(super) enum Message {
    /// An agent wants in. Its incarnation is durable, and what it says that it holds was looked up.
    Join {
        hello: Box<Hello>,
        held: Vec<Part>,
        incarnation: u64,
        out: ToAgent,
        answer: oneshot::Sender<Result<Joined, JoinError>>,
    },
    /// An agent said something.
    Heard { agent: AgentId, heard: Heard },
    /// An agent's session is over.
    Left { agent: AgentId, session: u64, why: String },
    /// A plan to run.
    Submit(Box<Submission>),
    /// Stop a run; answers whether it is there.
    Stop { run_id: String, answer: oneshot::Sender<bool> },
}

/// What somebody wants to know. It changes nothing, so it needs no place behind what agents bring.
pub(super) enum Question {
    /// A run, from now on; none where it is not at work.
    Watch { run_id: String, answer: oneshot::Sender<Option<Watch>> },
    /// The figures for monitoring systems.
    Figures { answer: oneshot::Sender<Snapshot> },
    /// What is going on: the runs that have no answer yet, and the agents.
    Look { answer: oneshot::Sender<Present> },
}

/// What comes to the hub.
pub(super) struct Inbox {
    pub(super) messages: mpsc::Receiver<Message>,
    pub(super) beats: mpsc::Receiver<Beat>,
    pub(super) questions: mpsc::Receiver<Question>,
}

/// An agent that was let in.
pub(super) struct Joined {
    pub(super) agent: AgentId,
    pub(super) session: u64,
}

/// A heartbeat; answers whether the agent may go on.
pub(super) struct Beat {
    pub(super) agent: AgentId,
    /// The name in its certificate, where agents have one.
    pub(super) name: Option<String>,
    pub(super) answer: oneshot::Sender<bool>,
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
    /// Labels that an agent must have to take part.
    pub(super) selector: BTreeMap<String, String>,
    /// The client's own id of it.
    pub(super) submission: String,
    /// Stop it when nobody follows it.
    pub(super) attached: bool,
    pub(super) answer: oneshot::Sender<Result<Created, SubmitError>>,
}

/// Why a plan is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum SubmitError {
    /// It would have to wait for agents, and may not.
    #[error("{0}")]
    NoAgents(String),
    /// It can't be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is going on at a moment.
pub(super) struct Present {
    /// State and detail of each run that has no answer yet.
    pub(super) runs: BTreeMap<String, (String, String)>,
    pub(super) agents: Vec<AgentStatus>,
}

pub(super) struct Hub {
    clock: Clock,
    options: ServerOptions,
    store: Store,
    tasks: TaskTracker,
    fleet: Fleet,
    sessions: HashMap<AgentId, ToAgent>,
    /// In the order of submission, which is the order in which they get agents.
    runs: Vec<Running>,
    writer: Writer<Token>,
    committed: mpsc::Receiver<Committed<Token>>,
    /// Entries that are durable, which the runs have yet to hear of.
    durable: VecDeque<Token>,
    /// What the writer had no room for; nothing more is taken from agents until it has.
    backlog: VecDeque<(Entry, Token)>,
    /// Entries that were made durable.
    entries: u64,
    /// Totals of runs that ended a moment ago, and when, for whoever scrapes now and then.
    ended: Vec<(Duration, RunFigures)>,
    /// Why nothing can be stored any more.
    broken: Option<Arc<StoreError>>,
}

impl Hub {
    pub(super) fn new(clock: Clock, options: ServerOptions, store: Store, tasks: TaskTracker) -> Self {
        let (done, committed) = mpsc::channel(COMMITTED_QUEUE);
        Hub {
            clock,
            options,
            writer: store.writer(WRITER_QUEUE, done),
            store,
            tasks,
            fleet: Fleet::default(),
            sessions: HashMap::new(),
            runs: Vec::new(),
            committed,
            durable: VecDeque::new(),
            backlog: VecDeque::new(),
            entries: 0,
            ended: Vec::new(),
            broken: None,
        }
    }

    /// Works until the shutdown is done, then cancels `closed`.
    ///
    /// # Errors
    /// When the store fails: what was acknowledged is safe, and nothing more can be.
    pub(super) async fn run(
        mut self,
        mut inbox: Inbox,
        shutdown: CancellationToken,
        closed: CancellationToken,
    ) -> Result<(), Arc<StoreError>> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticks = 0;
        let mut deadline = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled(), if deadline.is_none() => {
                    deadline = Some(Instant::now() + SHUTDOWN_LIMIT);
                    self.shut_down();
                }
                Some(beat) = inbox.beats.recv() => self.beat(beat),
                Some(question) = inbox.questions.recv() => self.answer(question),
                Some(committed) = self.committed.recv(), if self.durable.is_empty() => self.committed(committed),
                () = ready(()), if !self.durable.is_empty() => {
                    self.merge_some();
                    yield_now().await;
                }
                Some(message) = inbox.messages.recv(), if self.backlog.is_empty() => self.take(message).await,
                _ = tick.tick() => {
                    ticks += 1;
                    self.tick(ticks);
                }
            }
            self.work_off_backlog();
            let over = deadline.is_some_and(|deadline| self.runs.is_empty() || Instant::now() > deadline);
            if over || self.broken.is_some() {
                break;
            }
        }
        self.close(&closed).await;
        inbox.messages.close();
        self.broken.map_or(Ok(()), Err)
    }

    async fn close(&mut self, closed: &CancellationToken) {
        if let Some(error) = &self.broken {
            tracing::error!(%error, "the coordinator stops; its runs go on when it is started again");
        }
        // Dropping the senders ends every session and stream; then the server can close its connections.
        self.sessions.clear();
        self.runs.clear();
        closed.cancel();
    }

    async fn take(&mut self, message: Message) {
        match message {
            Message::Join { hello, held, incarnation, out, answer } => {
                let joined = self.join(&hello, &held, AgentId(incarnation), out).await;
                let agent = joined.as_ref().ok().map(|joined| joined.agent);
                // An agent that gave up waiting finds its session closed.
                let _ = answer.send(joined);
                if let Some(agent) = agent {
                    self.say_orders(agent);
                }
            }
            Message::Heard { agent, heard } => self.heard(agent, heard),
            Message::Left { agent, session, why } => self.left(agent, session, &why),
            Message::Submit(submission) => self.submit(*submission).await,
            Message::Stop { run_id, answer } => {
                let index = self.index_of(&run_id);
                if let Some(index) = index {
                    self.log(index, Event::Stop(StopReason::Interrupted), None);
                }
                let _ = answer.send(index.is_some());
            }
        }
    }

    /// Whoever has given up waiting hears nothing.
    fn answer(&mut self, question: Question) {
        match question {
            Question::Watch { run_id, answer } => drop(answer.send(self.watch(&run_id))),
            Question::Figures { answer } => drop(answer.send(self.figures())),
            Question::Look { answer } => drop(answer.send(self.present())),
        }
    }

    /// A run stops for its users' sake when this is a coordinator of one run; else it goes on when the next one starts.
    fn shut_down(&mut self) {
        if self.options.outlives {
            self.runs.clear();
            return;
        }
        for index in 0..self.runs.len() {
            self.log(index, Event::Stop(StopReason::Interrupted), None);
        }
    }

    fn index_of(&self, run_id: &str) -> Option<usize> {
        self.runs.iter().position(|running| running.id == run_id)
    }

    /// Has an event written down; the run hears of it when it is durable.
    fn log(&mut self, index: usize, event: Event, packed: Option<Packed>) {
        let now = self.clock.now();
        let Some(running) = self.runs.get_mut(index) else { return };
        let Some((entry, token)) = running.entry(event, packed, now) else { return };
        self.backlog.push_back((entry, token));
        self.work_off_backlog();
    }

    fn work_off_backlog(&mut self) {
        while let Some((entry, token)) = self.backlog.pop_front() {
            if let Err(refused) = self.writer.try_write(entry, token) {
                match *refused {
                    mpsc::error::TrySendError::Full(waiting) | mpsc::error::TrySendError::Closed(waiting) => {
                        self.backlog.push_front(waiting);
                        return;
                    }
                }
            }
        }
    }

    /// Entries are durable.
    fn committed(&mut self, committed: Committed<Token>) {
        if let Err(error) = committed.result {
            tracing::error!(%error, "the store failed; what was acknowledged is safe");
            self.broken.get_or_insert(error);
            return;
        }
        self.entries += committed.tokens.len() as u64;
        self.durable.extend(committed.tokens);
    }

    /// Runs hear of what is durable, and agents may forget it.
    fn merge_some(&mut self) {
        let mut acknowledged: BTreeMap<(String, AgentId), u64> = BTreeMap::new();
        let some = self.durable.len().min(MERGED_AT_ONCE);
        for Token { run, event, now, delta } in self.durable.drain(..some).collect::<Vec<_>>() {
            let Some(index) = self.index_of(&run) else { continue };
            let running = &mut self.runs[index];
            match delta {
                Some((agent, seq)) => {
                    if let Some(intake) = running.intakes.get_mut(&agent) {
                        intake.committed(seq);
                        acknowledged.insert((run.clone(), agent), intake.acked());
                    }
                }
                None => running.undecided -= 1,
            }
            let actions = running.run.step(event, now);
            self.act(&run, actions);
        }
        for ((run, agent), upto) in acknowledged {
            self.send_for(agent, Tell::Ack(v1::Ack { run_id: run, incarnation: agent.0, upto }));
        }
    }

    fn tick(&mut self, ticks: u64) {
        let now = self.clock.now();
        self.fleet.forget_away(AWAY_LIMIT, now.monotonic);
        self.assign();
        self.give_up_waiting(now.monotonic);
        self.forget_taken_up(now.monotonic);
        for index in 0..self.runs.len() {
            self.look_after(index);
        }
        if ticks.is_multiple_of(PROGRESS_TICKS) {
            self.send_progress();
        }
    }

    /// What time has brought about for one run.
    fn look_after(&mut self, index: usize) {
        let now = self.clock.now();
        let running = &mut self.runs[index];
        let limit = running.run.plan().continuity.issue_limit();
        let at_work: Vec<AgentId> = running.run.at_work().collect();
        let expired = running.leases.expired(now.monotonic);
        for agent in expired.into_iter().filter(|agent| at_work.contains(agent)) {
            let why = format!("nothing was heard of it for {} s", limit.as_secs());
            self.log(index, Event::Lost(agent, why), None);
        }
        let running = &self.runs[index];
        // What was decided and is not durable yet would be decided again.
        if running.undecided == 0 {
            for event in running.run.due(running.ahead.run_time(now)) {
                self.log(index, event, None);
            }
        }
    }

    fn act(&mut self, run_id: &str, actions: Vec<Action>) {
        for action in actions {
            self.act_once(run_id, action);
        }
    }

    fn act_once(&mut self, run_id: &str, action: Action) {
        let Some(index) = self.index_of(run_id) else { return };
        self.runs[index].unanswered.ask(&action);
        let run_id = run_id.to_owned();
        let micros = |at: Duration| u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
        match action {
            Action::Arm(agent, assignment) => {
                let running = &self.runs[index];
                let plan = Some(running.wire_plan.clone());
                let secrets = self.options.secrets_of(running.run.plan());
                self.send(agent, Tell::Arm(v1::Arm { run_id, plan, assignment: Some((&assignment).into()), secrets }));
            }
            Action::CheckTarget(agent) => self.send(agent, Tell::CheckTarget(v1::CheckTarget { run_id })),
            Action::Start(agent, t0) => {
                let t0_us = micros(self.runs[index].ahead.our_time(t0));
                self.send(agent, Tell::Start(v1::Start { run_id, t0_us }));
            }
            Action::Give(agent, assignment) => {
                self.send(agent, Tell::Assign(v1::Assign { run_id, assignment: Some((&assignment).into()) }));
            }
            Action::End { agent, generation, at, instead } => {
                let instead = instead.as_ref().map(Into::into);
                self.send(agent, Tell::End(v1::End { run_id, generation, until_run_us: micros(at), instead }));
            }
            Action::Stop(agent, reason, grace) => {
                let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
                self.send(agent, Tell::Stop(v1::Stop { run_id, reason: reason.to_owned(), grace_ms }));
            }
            Action::Release(agent) => {
                self.fleet.assign(agent, None);
                self.send_for(agent, Tell::Release(v1::Release { run_id, incarnation: agent.0 }));
            }
            Action::Expel(agent, why) => {
                tracing::warn!(agent = agent.0, why, "agent expelled");
                if let Some(session) = self.sessions.remove(&agent) {
                    let _ = session.try_send(Err(Status::invalid_argument(why)));
                }
                self.fleet.leave(agent);
            }
            Action::Finish(outcome) => self.finish(index, &outcome),
        }
    }

    /// Sends to an agent in its present life.
    fn send(&mut self, agent: AgentId, tell: Tell) {
        let Some(session) = self.sessions.get(&agent) else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = session.try_send(Ok(message(tell))) {
            // It hears everything that matters again in its next session.
            tracing::warn!(agent = agent.0, "an agent does not read what it is sent; its session is given up");
            self.sessions.remove(&agent);
        }
    }

    /// Sends what concerns a life of an agent to whatever life of it is here now: it holds what the other measured.
    fn send_for(&mut self, agent: AgentId, tell: Tell) {
        let here = if self.sessions.contains_key(&agent) { Some(agent) } else { self.successor_of(agent) };
        if let Some(here) = here {
            self.send(here, tell);
        }
    }
}
