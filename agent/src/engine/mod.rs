//! The engine: turns a plan and a share into operations and samples. It knows no gRPC.
//!
//! One worker thread for each core, each with a single-threaded runtime, its own users, connections, timers and
//! recorder; nothing is shared on the path of a request. The session thread talks to workers by messages only.
//!
//! # Layout
//! - `worker`: a worker thread and what it answers
//! - `context`: what all tasks of a worker share, and the signal that ends their load
//! - `lease`: until when an agent may send
//! - `assigned`: one assignment at one worker
//! - `dispatch`: the arrivals of an open load, each at its time
//! - `phase`: the load models: users, arrivals, iterations
//! - `readiness`: is the target there?
//! - `iteration`: one user's way through the flow
//! - `check`: expectations and captures
//! - `render`: templates
//! - `socket`: a user's WebSockets
//! - `recording`: operations and their account

mod assigned;
mod check;
mod context;
mod dispatch;
mod iteration;
mod lease;
mod phase;
mod readiness;
mod recording;
mod render;
mod socket;
#[cfg(test)]
mod tests;
mod worker;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use groundswell_access::Secrets;
use groundswell_scenario::{Assignment, Plan};
use groundswell_stats::Delta;
use http::HeaderValue;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::machine::{MachineLoad, MachineMeter, permille};
use crate::transport::{Gate, Setup};
use context::Rest;
use lease::Lease;
use recording::Cursors;
pub(crate) use socket::id::source;
use worker::{Command, WorkerSpec};

/// Commands that wait for one busy worker; the session sends at most a start, a stop and a seal at a time.
const COMMAND_QUEUE: usize = 8;

/// Why an agent can't take part in a run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    #[error("TLS can't be set up: {0}")]
    Tls(#[from] crate::transport::TlsError),
    #[error("{address} (http.bind) is not an address of this machine: {source}")]
    Bind { address: IpAddr, source: std::io::Error },
    #[error("the HTTP client can't be set up: {0}")]
    Http(#[from] reqwest::Error),
    #[error("worker thread can't be started: {0}")]
    Thread(std::io::Error),
    #[error("raw samples can't be written to {path}: {source}")]
    RawSamples { path: PathBuf, source: std::io::Error },
    #[error("template can't be compiled: {0}")]
    Template(#[from] minijinja::Error),
}

/// Why nothing can be said of a window, or of any later one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SealError {
    /// Counts that do not fit.
    #[error("counts can't be added: {0}")]
    Overflow(#[from] groundswell_stats::Overflow),
    /// A worker is gone, and with it what it had counted and its part of the load.
    #[error("a worker thread panicked, and what it did is not known")]
    WorkerPanicked,
}

/// What an agent measured since the last seal.
#[derive(Debug, Default)]
pub(crate) struct Sealed {
    /// The figures; the window is from the last seal to this one.
    pub(crate) delta: Delta,
    /// Iterations decided so far, by (generation of the assignment, scenario, phase).
    pub(crate) cursors: Cursors,
    /// CPU time of the busiest worker, in thousandths of the window.
    pub(crate) cpu_permille: u32,
    /// Time for which a worker was ready to run but had no CPU: of the one that waited most, in thousandths of the window.
    pub(crate) cpu_wait_permille: u32,
    /// Load of the machine.
    pub(crate) machine: MachineLoad,
    /// Users at work.
    pub(crate) users: u32,
    /// Operations that the agent's limit of them made wait.
    pub(crate) held: u64,
    /// Every worker has ended its part of all assignments so far.
    pub(crate) finished: bool,
    /// The load has ended because the lease ran out: what is left of the plan is not in the account, the cursors say what
    /// that is. Whatever is assigned from now on will not be done.
    pub(crate) lease_expired: bool,
}

/// The workers of one run.
pub(crate) struct Engine {
    plan: Arc<Plan>,
    setup: Setup,
    workers: Vec<Worker>,
    lease: Lease,
    finished: mpsc::Receiver<()>,
    machine: MachineMeter,
    sealed_until_us: u64,
}

struct Worker {
    commands: mpsc::Sender<Command>,
    thread: Option<JoinHandle<()>>,
}

/// How an engine is set up.
#[derive(Debug, Clone)]
pub(crate) struct EngineOptions {
    /// Worker threads, at least 1.
    pub(crate) workers: u32,
    /// Name of the agent, for threads and raw sample files.
    pub(crate) agent: String,
    /// Secrets that the plan names.
    pub(crate) secrets: Secrets,
    /// Directory that gets a CSV of every sample; a mode for tests.
    pub(crate) raw_samples: Option<PathBuf>,
    /// Where connections may go, and how many there are.
    pub(crate) gate: Gate,
    /// What requests say which run they are of.
    pub(crate) run: Option<HeaderValue>,
    /// Longest load; none for no limit.
    pub(crate) max_duration: Option<Duration>,
}

impl Engine {
    /// Starts the workers; they wait for [`Engine::start`]. Rows of data come from the share of this first assignment.
    pub(crate) fn prepare(plan: Arc<Plan>, first: &Assignment, options: &EngineOptions) -> Result<Self, PrepareError> {
        let setup = Setup::new(&plan, options.gate.clone(), options.run.clone())?;
        for address in &plan.http.network.bind {
            let bound = std::net::UdpSocket::bind((*address, 0));
            bound.map_err(|source| PrepareError::Bind { address: *address, source })?;
        }
        let (finished_tx, finished) = mpsc::channel(options.workers.max(1) as usize);
        let lease = Lease::unlimited();
        let mut workers = Vec::new();
        for index in 0..options.workers.max(1) {
            let spec = WorkerSpec {
                plan: Arc::clone(&plan),
                assignment: first.split(index, options.workers.max(1)),
                lease: lease.clone(),
                setup: setup.clone(),
                secrets: options.secrets.clone(),
                max_duration: options.max_duration,
                raw_samples: raw_file(options, index)?,
            };
            let load = spec.prepare()?;
            let (commands, inbox) = mpsc::channel(COMMAND_QUEUE);
            let finished = finished_tx.clone();
            let thread = std::thread::Builder::new()
                .name(format!("{}-worker-{index}", options.agent))
                .spawn(move || worker::run(load, inbox, &finished))
                .map_err(PrepareError::Thread)?;
            workers.push(Worker { commands, thread: Some(thread) });
        }
        Ok(Engine { plan, setup, workers, lease, finished, machine: MachineMeter::new(), sealed_until_us: 0 })
    }

    /// Waits until the target's readiness check holds; else says what it answered last.
    pub(crate) fn check_target(&self) -> impl Future<Output = Result<(), String>> + use<> {
        readiness::check(Arc::clone(&self.plan), self.setup.clone())
    }

    /// Starts the load at T0.
    pub(crate) async fn start(&self, t0: Instant) {
        self.tell_all(|_| Command::Start(t0)).await;
    }

    /// Issues no further operation; what is in flight may go on for `grace`. `reason` is the account's word for what is
    /// not generated because of it: all that is left of the assignments.
    pub(crate) async fn stop(&self, reason: &str, grace: Duration) {
        self.tell_all(|_| Command::Stop { reason: reason.to_owned(), rest: Rest::Counted, grace }).await;
    }

    /// Returns when a worker has ended its part; a seal then tells whether all have.
    pub(crate) async fn worker_finished(&mut self) {
        if self.finished.recv().await.is_none() {
            std::future::pending().await
        }
    }

    /// Takes what was measured since the last seal. `now_us` is the run's time.
    pub(crate) async fn seal(&mut self, now_us: u64) -> Result<Sealed, SealError> {
        let mut answers = Vec::new();
        for worker in &self.workers {
            let (answer, answered) = oneshot::channel();
            worker.commands.send(Command::Seal(answer)).await.map_err(|_| SealError::WorkerPanicked)?;
            answers.push(answered);
        }
        let mut sealed = Sealed { finished: true, machine: self.machine.lap(), ..Sealed::default() };
        sealed.delta.from_us = self.sealed_until_us;
        sealed.delta.to_us = now_us;
        for answer in answers {
            let part = answer.await.map_err(|_| SealError::WorkerPanicked)?;
            let part_delta =
                Delta { from_us: self.sealed_until_us, to_us: now_us, steps: part.steps, rooms: part.rooms };
            sealed.delta.add(&part_delta)?;
            for (phase, decided) in part.cursors {
                *sealed.cursors.entry(phase).or_default() += decided;
            }
            let part_of_window = |part_us| permille(part_us, part.window_us);
            sealed.cpu_permille = sealed.cpu_permille.max(part_of_window(part.cpu_us));
            sealed.cpu_wait_permille = sealed.cpu_wait_permille.max(part_of_window(part.cpu_wait_us));
            sealed.users += part.users;
            sealed.held += part.held;
            sealed.finished &= part.finished;
            sealed.lease_expired |= part.lease_expired;
        }
        self.sealed_until_us = now_us;
        Ok(sealed)
    }

    /// `command` gets the number of the worker.
    async fn tell_all(&self, command: impl Fn(u32) -> Command) {
        for (number, worker) in (0..).zip(&self.workers) {
            // A worker that is gone has nothing left to be told.
            let _ = worker.commands.send(command(number)).await;
        }
    }
}

/// What others have to do with its load: shares come and go, and a lease ends.
impl Engine {
    /// Takes on another assignment, whether the others have ended or not. Where it comes late (its `from` has passed), it
    /// begins with what is due next; what was due before is counted as not generated, reason `late_assign`.
    pub(crate) async fn assign(&self, assignment: &Assignment) {
        let workers = u32::try_from(self.workers.len()).unwrap_or(u32::MAX);
        self.tell_all(|worker| Command::Assign(assignment.split(worker, workers))).await;
    }

    /// Ends an assignment at a moment of the run that is still to come: its users leave then, no arrival from then on is
    /// its own, what is in flight has the grace of its phase. An earlier end that it has already stays.
    pub(crate) async fn end_assignment(&self, generation: u32, until: Duration) {
        self.tell_all(|_| Command::EndAssignment { generation, until }).await;
    }

    /// Nothing is issued from this moment on, none: no limit. Each worker looks at it whenever it is about to issue
    /// something. Where it has passed, the load ends, reason `lease_expired`, and for good: what is left of
    /// it enters no account here, the cursors say what that is.
    pub(crate) fn lease(&self, until: Option<Instant>) {
        self.lease.set(until);
    }
}

impl Drop for Engine {
    /// Closing the command channel ends a worker; whatever it still had in flight is dropped with it.
    fn drop(&mut self) {
        for worker in &mut self.workers {
            let (closed, _) = mpsc::channel(1);
            worker.commands = closed;
        }
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take()
                && thread.join().is_err()
            {
                tracing::error!("a worker thread panicked");
            }
        }
    }
}

fn raw_file(options: &EngineOptions, worker: u32) -> Result<Option<std::fs::File>, PrepareError> {
    let Some(directory) = &options.raw_samples else { return Ok(None) };
    let path = directory.join(format!("{}-{worker}.csv", options.agent));
    match std::fs::File::create(&path) {
        Ok(file) => Ok(Some(file)),
        Err(source) => Err(PrepareError::RawSamples { path, source }),
    }
}
