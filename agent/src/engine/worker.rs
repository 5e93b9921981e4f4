//! A worker: one thread, one single-threaded runtime, its part of the agent's share.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use groundswell_scenario::flow::HttpRequest;
use groundswell_scenario::plan::ScenarioStart;
use groundswell_scenario::{Plan, Scenario, Share};
use groundswell_stats::{Room, StepDelta, StepId};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::PrepareError;
use super::phase;
use super::recording::Recording;
use super::render::{DataFeed, Templates};
use crate::clock::{RunClock, micros};
use crate::machine::thread_waited;
use crate::timer::Timer;
use crate::transport::{Clients, Request, Setup};

/// What a worker is told.
pub(super) enum Command {
    /// Start the load at T0.
    Start(Instant),
    /// Issue nothing more; cut off what is still in flight after the grace.
    Stop { reason: String, grace: Duration },
    /// Hand over what was measured.
    Seal(oneshot::Sender<WorkerSealed>),
}

/// What one worker measured since its last seal.
pub(super) struct WorkerSealed {
    pub(super) steps: BTreeMap<StepId, StepDelta>,
    pub(super) rooms: BTreeMap<String, Room>,
    pub(super) cursors: BTreeMap<(usize, usize), u64>,
    /// Since this worker's last seal.
    pub(super) window_us: u64,
    pub(super) cpu_us: u64,
    pub(super) cpu_wait_us: u64,
    pub(super) users: u32,
    pub(super) finished: bool,
}

/// What a worker is made of; it crosses to the worker's thread.
pub(super) struct WorkerSpec {
    pub(super) plan: Arc<Plan>,
    pub(super) share: Share,
    pub(super) setup: Setup,
    pub(super) raw_samples: Option<File>,
}

/// A [`WorkerSpec`] whose parts that can fail were made.
pub(super) struct PreparedWorker {
    spec: WorkerSpec,
    templates: Templates,
}

impl WorkerSpec {
    pub(super) fn prepare(self) -> Result<PreparedWorker, PrepareError> {
        let templates = Templates::of(&self.plan)?;
        // The worker makes its own on its own thread; what can fail there fails here first.
        Clients::new(self.setup.clone(), &self.share)?;
        Ok(PreparedWorker { spec: self, templates })
    }
}

/// The built requests of one slot: steps of the same name share it, so each is known by its place in the plan.
pub(super) type Constants = RefCell<Vec<(*const HttpRequest, Rc<Request>)>>;

/// What all tasks of a worker share.
pub(super) struct Context {
    pub(super) plan: Arc<Plan>,
    pub(super) share: Share,
    pub(super) clock: RunClock,
    pub(super) timer: Timer,
    pub(super) recording: Rc<Recording>,
    pub(super) templates: Templates,
    pub(super) data: Vec<DataFeed>,
    pub(super) stop: Rc<StopSignal>,
    /// Requests without templates, built once, by scenario and slot.
    pub(super) constant_requests: Vec<Vec<Constants>>,
    pub(super) clients: Clients,
    ended: Vec<CancellationToken>,
}

/// "Issue nothing more", with the reason for the account.
#[derive(Default)]
pub(super) struct StopSignal {
    token: CancellationToken,
    reason: RefCell<Option<&'static str>>,
}

impl StopSignal {
    /// The reason, once stopped.
    pub(super) fn reason(&self) -> Option<&'static str> {
        *self.reason.borrow()
    }

    fn stop(&self, reason: &str) {
        // Reasons are few and known; one that a newer coordinator made up is still a stop.
        let known = ["interrupted", "threshold", "agent_lost", "coordinator_lost", "client_gone", "start_failed"];
        let reason = known.into_iter().find(|known| *known == reason).unwrap_or("stopped");
        self.reason.borrow_mut().get_or_insert(reason);
        self.token.cancel();
    }
}

impl Context {
    /// Waits until the deadline; false when the run was stopped before it.
    pub(super) async fn pause_until(&self, deadline: Instant) -> bool {
        tokio::select! {
            biased;
            () = self.stop.token.cancelled() => false,
            () = self.timer.sleep_until(deadline) => true,
        }
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

async fn serve(worker: PreparedWorker, mut commands: mpsc::Receiver<Command>, finished: &mpsc::Sender<()>) {
    let PreparedWorker { mut spec, templates } = worker;
    let clients = match Clients::new(spec.setup, &spec.share) {
        Ok(clients) => clients,
        Err(error) => {
            tracing::error!(%error, "a worker's HTTP client can't be set up");
            return;
        }
    };
    let recording = Recording::new(spec.plan.steps.len(), spec.raw_samples.take());
    let stop = Rc::new(StopSignal::default());
    // Until Start there is only this: seals (empty ones) and a stop.
    let mut cpu = CpuMeter::new();
    let t0 = loop {
        match commands.recv().await {
            Some(Command::Start(t0)) => break t0,
            Some(Command::Stop { reason, .. }) => stop.stop(&reason),
            Some(Command::Seal(answer)) => {
                let _ = answer.send(sealed(&recording, &mut cpu, stop.reason().is_some()));
            }
            None => return,
        }
    };
    let slots = |scenario: &Scenario| vec![Constants::default(); scenario.timed_steps as usize];
    let constant_requests = spec.plan.scenarios.iter().map(slots).collect();
    let context = Rc::new(Context {
        data: spec.plan.data.iter().map(|set| DataFeed::new(set, &spec.share)).collect(),
        ended: spec.plan.scenarios.iter().map(|_| CancellationToken::new()).collect(),
        plan: spec.plan,
        share: spec.share,
        clock: RunClock::new(t0),
        timer: Timer::new(),
        recording: Rc::clone(&recording),
        templates,
        stop: Rc::clone(&stop),
        constant_requests,
        clients,
    });
    let mut load = Some(Box::pin(all_scenarios(Rc::clone(&context))));
    let mut driver = pin!(context.timer.drive());
    let mut cut_off_at: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            command = commands.recv() => match command {
                None => return,
                Some(Command::Start(_)) => {}
                Some(Command::Stop { reason, grace }) => {
                    stop.stop(&reason);
                    cut_off_at = Some(Instant::now() + grace);
                }
                Some(Command::Seal(answer)) => {
                    let _ = answer.send(sealed(&recording, &mut cpu, load.is_none()));
                }
            },
            () = &mut driver => {}
            () = ended(&mut load) => {
                let _ = finished.send(()).await;
            }
            () = deadline(cut_off_at), if load.is_some() => {
                // Dropping the tasks counts every operation in flight as aborted.
                load = None;
                let _ = finished.send(()).await;
            }
        }
    }
}

/// Returns once, when the load has ended; then never again.
async fn ended(load: &mut Option<std::pin::Pin<Box<impl Future<Output = ()>>>>) {
    match load {
        Some(running) => {
            running.await;
            *load = None;
        }
        None => std::future::pending().await,
    }
}

async fn deadline(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn all_scenarios(context: Rc<Context>) {
    let scenarios = (0..context.plan.scenarios.len()).map(|index| scenario(Rc::clone(&context), index));
    futures_util::future::join_all(scenarios).await;
}

async fn scenario(context: Rc<Context>, index: usize) {
    let scenario = &context.plan.scenarios[index];
    let origin = match &scenario.start {
        ScenarioStart::At(offset) => context.clock.at(*offset),
        ScenarioStart::AfterEnd(predecessors) => {
            for predecessor in predecessors {
                context.ended[*predecessor].cancelled().await;
            }
            Instant::now()
        }
    };
    let phases = (0..scenario.phases.len()).map(|phase| phase::run(Rc::clone(&context), index, phase, origin));
    futures_util::future::join_all(phases).await;
    context.ended[index].cancel();
}

fn sealed(recording: &Recording, cpu: &mut CpuMeter, finished: bool) -> WorkerSealed {
    let CpuLap { window_us, cpu_us, cpu_wait_us } = cpu.lap();
    WorkerSealed {
        steps: recording.seal(),
        rooms: recording.seal_rooms(),
        cursors: recording.cursors(),
        window_us,
        cpu_us,
        cpu_wait_us,
        users: recording.users(),
        finished,
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
