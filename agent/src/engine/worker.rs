//! A worker: one thread, one single-threaded runtime, its part of the agent's share.

use std::collections::BTreeMap;
use std::fs::File;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{FutureExt, LocalBoxFuture};
use futures_util::stream::{FuturesUnordered, StreamExt};
use groundswell_access::Secrets;
use groundswell_scenario::{Assignment, Plan, Scenario};
use groundswell_stats::{Room, StepDelta, StepId};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep_until};

use super::PrepareError;
use super::assigned::{self, Assigned};
use super::context::{Constants, Context, LEASE_EXPIRED, MAX_DURATION, Rest, StopSignal};
use super::lease::Lease;
use super::recording::{Cursors, Recording};
use super::render::{DataFeed, Templates};
use crate::clock::{RunClock, micros};
use crate::machine::thread_waited;
use crate::timer::Timer;
use crate::transport::{Clients, Setup};

/// Operations in flight may go on for so long after the longest load.
const LAST_GRACE: Duration = Duration::from_millis(500);

/// What a worker is told.
pub(super) enum Command {
    /// Start the load at T0.
    Start(Instant),
    /// Work this off too.
    Assign(Assignment),
    /// End an assignment at this moment of the run.
    EndAssignment { generation: u32, until: Duration },
    /// Issue nothing more; cut off what is still in flight after the grace.
    Stop { reason: String, rest: Rest, grace: Duration },
    /// Hand over what was measured.
    Seal(oneshot::Sender<WorkerSealed>),
    /// Break, as by a mistake in its code.
    #[cfg(test)]
    Panic,
}

/// What one worker measured since its last seal.
pub(super) struct WorkerSealed {
    pub(super) steps: BTreeMap<StepId, StepDelta>,
    pub(super) rooms: BTreeMap<String, Room>,
    pub(super) cursors: Cursors,
    /// Since this worker's last seal.
    pub(super) window_us: u64,
    pub(super) cpu_us: u64,
    pub(super) cpu_wait_us: u64,
    pub(super) users: u32,
    /// Operations that the agent's limit of them made wait.
    pub(super) held: u64,
    /// All its assignments so far have ended.
    pub(super) finished: bool,
    pub(super) lease_expired: bool,
}

/// What a worker is made of; it crosses to the worker's thread.
pub(super) struct WorkerSpec {
    pub(super) plan: Arc<Plan>,
    /// The worker's part of the first one.
    pub(super) assignment: Assignment,
    pub(super) lease: Lease,
    pub(super) setup: Setup,
    pub(super) secrets: Secrets,
    /// Longest load; none for no limit.
    pub(super) max_duration: Option<Duration>,
    pub(super) raw_samples: Option<File>,
}

/// A [`WorkerSpec`] whose parts that can fail were made.
pub(super) struct PreparedWorker {
    spec: WorkerSpec,
    templates: Templates,
}

impl WorkerSpec {
    pub(super) fn prepare(self) -> Result<PreparedWorker, PrepareError> {
        let templates = Templates::of(&self.plan, &self.secrets)?;
        // The worker makes its own on its own thread; what can fail there fails here first.
        Clients::new(self.setup.clone(), &self.assignment.share)?;
        Ok(PreparedWorker { spec: self, templates })
    }
}

/// The worker's thread. Ends when the command channel is closed.
pub(super) fn run(worker: PreparedWorker, commands: mpsc::Receiver<Command>, finished: &mpsc::Sender<()>) {
    let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "a worker's runtime can't be started");
            return;
        }
    };
    runtime.block_on(serve(worker, commands, finished));
}

pub(super) async fn serve(worker: PreparedWorker, mut commands: mpsc::Receiver<Command>, finished: &mpsc::Sender<()>) {
    let PreparedWorker { mut spec, templates } = worker;
    let clients = match Clients::new(spec.setup.clone(), &spec.assignment.share) {
        Ok(clients) => clients,
        Err(error) => {
            tracing::error!(%error, "a worker's HTTP client can't be set up");
            return;
        }
    };
    let pace = spec.setup.pace();
    let recording = Recording::new(spec.plan.steps.len(), spec.raw_samples.take());
    let mut before = BeforeStart { recording, cpu: CpuMeter::new(), stop: Rc::default(), added: Vec::new() };
    let Some(t0) = before.wait(&mut spec.assignment, &mut commands).await else { return };
    let BeforeStart { recording, cpu, stop, added } = before;
    let slots = |scenario: &Scenario| vec![Constants::default(); scenario.timed_steps as usize];
    let constant_requests = spec.plan.scenarios.iter().map(slots).collect();
    let context = Rc::new(Context {
        data: spec.plan.data.iter().map(|set| DataFeed::new(set, &spec.assignment.share)).collect(),
        plan: spec.plan,
        clock: RunClock::new(t0),
        timer: Timer::new(),
        recording,
        templates,
        stop,
        lease: spec.lease,
        ends: spec.max_duration.and_then(|most| t0.checked_add(most)),
        constant_requests,
        clients,
        pace,
    });
    let mut work = Work::new(context, cpu);
    for assignment in std::iter::once(spec.assignment).chain(added) {
        work.begin(assignment);
    }
    work.serve(commands, finished).await;
}

/// A worker until T0 is known: it only takes in what it is told.
struct BeforeStart {
    recording: Rc<Recording>,
    cpu: CpuMeter,
    stop: Rc<StopSignal>,
    /// Assignments beside the first.
    added: Vec<Assignment>,
}

impl BeforeStart {
    /// T0; none where there will be no start.
    async fn wait(&mut self, first: &mut Assignment, commands: &mut mpsc::Receiver<Command>) -> Option<Instant> {
        loop {
            match commands.recv().await? {
                Command::Start(t0) => return Some(t0),
                Command::Assign(assignment) => self.added.push(assignment),
                Command::EndAssignment { generation, until } => {
                    let all = std::iter::once(&mut *first).chain(&mut self.added);
                    for assignment in all.filter(|assignment| assignment.generation == generation) {
                        assignment.until = Some(assignment.until.map_or(until, |known| known.min(until)));
                    }
                }
                Command::Stop { reason, rest, .. } => self.stop.stop(&reason, rest),
                Command::Seal(answer) => {
                    let finished = self.stop.reason().is_some();
                    let _ = answer.send(sealed(&self.recording, &mut self.cpu, &self.stop, finished));
                }
                #[cfg(test)]
                Command::Panic => panic!("a mistake"),
            }
        }
    }
}

/// A worker from the start on.
struct Work {
    context: Rc<Context>,
    cpu: CpuMeter,
    assigned: Vec<Rc<Assigned>>,
    /// One for each assignment that has not ended.
    load: FuturesUnordered<LocalBoxFuture<'static, ()>>,
    cut_off_at: Option<Instant>,
}

impl Work {
    fn new(context: Rc<Context>, cpu: CpuMeter) -> Self {
        let cut_off_at = context.ends.and_then(|ends| ends.checked_add(LAST_GRACE));
        Work { context, cpu, assigned: Vec::new(), load: FuturesUnordered::new(), cut_off_at }
    }

    fn begin(&mut self, assignment: Assignment) {
        let assigned = Assigned::new(assignment, self.context.plan.scenarios.len());
        self.assigned.push(Rc::clone(&assigned));
        self.load.push(assigned::run(Rc::clone(&self.context), assigned).boxed_local());
    }

    async fn serve(mut self, mut commands: mpsc::Receiver<Command>, finished: &mpsc::Sender<()>) {
        let context = Rc::clone(&self.context);
        let mut driver = pin!(context.timer.drive());
        let mut ends = JoinSet::new();
        ends.spawn_local(watch_ends(Rc::clone(&context)));
        loop {
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    None => return,
                    Some(command) => self.told(command),
                },
                () = &mut driver => {}
                Some(()) = self.load.next(), if !self.load.is_empty() => self.tell_if_finished(finished),
                () = deadline(self.cut_off_at), if !self.load.is_empty() => {
                    self.cut_off().await;
                    self.tell_if_finished(finished);
                }
            }
        }
    }

    /// Drops all tasks, which counts every operation in flight as aborted.
    async fn cut_off(&mut self) {
        self.load.clear();
        // The tasks are dropped only when the runtime comes to them, some at a time. Each of them holds its assignment; a
        // seal before the last of them is gone would miss operations that nobody asks for again.
        while self.assigned.iter().any(|assigned| Rc::strong_count(assigned) > 1) {
            yield_now().await;
        }
    }

    fn tell_if_finished(&self, finished: &mpsc::Sender<()>) {
        if self.load.is_empty() {
            // One that finds no room is one of several: at each of them the owner looks at all workers.
            let _ = finished.try_send(());
        }
    }

    fn told(&mut self, command: Command) {
        match command {
            Command::Start(_) => {}
            Command::Assign(assignment) => self.begin(assignment),
            Command::EndAssignment { generation, until } => {
                for assigned in self.assigned.iter().filter(|assigned| assigned.generation() == generation) {
                    assigned.end(until);
                }
                self.context.stop.look_again();
            }
            Command::Stop { reason, rest, grace } => {
                self.context.stop.stop(&reason, rest);
                let at = Instant::now() + grace;
                self.cut_off_at = Some(self.cut_off_at.map_or(at, |known| known.min(at)));
            }
            Command::Seal(answer) => {
                let Context { recording, stop, .. } = &*self.context;
                let _ = answer.send(sealed(recording, &mut self.cpu, stop, self.load.is_empty()));
            }
            #[cfg(test)]
            Command::Panic => panic!("a mistake"),
        }
    }
}

/// Ends the load of a worker that has nothing to issue when the lease runs out, or when the longest load is over.
async fn watch_ends(context: Rc<Context>) {
    tokio::select! {
        () = context.lease.expired() => context.stop.stop(LEASE_EXPIRED, Rest::HandedOn),
        () = deadline(context.ends) => context.stop.stop(MAX_DURATION, Rest::Counted),
    }
}

async fn deadline(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn sealed(recording: &Recording, cpu: &mut CpuMeter, stop: &StopSignal, finished: bool) -> WorkerSealed {
    let CpuLap { window_us, cpu_us, cpu_wait_us } = cpu.lap();
    WorkerSealed {
        steps: recording.seal(),
        rooms: recording.seal_rooms(),
        cursors: recording.cursors(),
        window_us,
        cpu_us,
        cpu_wait_us,
        users: recording.users(),
        held: recording.seal_held(),
        finished,
        lease_expired: stop.reason() == Some(LEASE_EXPIRED),
    }
}

/// What the CPU gave to the calling thread, from lap to lap.
struct CpuMeter {
    last: (Instant, Duration, Duration),
}

/// One lap, in microseconds.
struct CpuLap {
    window_us: u64,
    cpu_us: u64,
    cpu_wait_us: u64,
}

impl CpuMeter {
    fn new() -> Self {
        CpuMeter { last: (Instant::now(), thread_cpu(), thread_waited()) }
    }

    fn lap(&mut self) -> CpuLap {
        let now = (Instant::now(), thread_cpu(), thread_waited());
        let last = std::mem::replace(&mut self.last, now);
        CpuLap {
            window_us: micros(now.0.saturating_duration_since(last.0)),
            cpu_us: micros(now.1.saturating_sub(last.1)),
            cpu_wait_us: micros(now.2.saturating_sub(last.2)),
        }
    }
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
