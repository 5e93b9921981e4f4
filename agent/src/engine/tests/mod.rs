//! What a worker does with assignments and leases, under a paused clock; and a whole engine with a target.
#![allow(clippy::unwrap_used, reason = "tests")]

mod allocations;
mod assignments;
mod lease;
mod pace;
mod takeover;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use groundswell_access::Secrets;
use groundswell_scenario::{Assignment, Plan, PlanSource, Share};
use groundswell_stats::{Counters, Kind};
use http::HeaderValue;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep_until};

use super::context::Rest;
use super::lease::Lease;
use super::recording::Cursors;
use super::worker::{self, Command, WorkerSealed, WorkerSpec};
use crate::allow::Allowlist;
use crate::transport::{Budget, Gate, Setup};

/// Nothing listens there, so an operation ends as soon as it was issued.
const NOBODY: &str = "http://127.0.0.1:9";

/// The run that requests say they are of.
const RUN: HeaderValue = HeaderValue::from_static("run-1");

fn plan(target: &str, scenarios: &str) -> Arc<Plan> {
    plan_with(target, scenarios, BTreeMap::new())
}

fn plan_with(target: &str, scenarios: &str, files: BTreeMap<String, Result<Vec<u8>, String>>) -> Arc<Plan> {
    let text = format!("target: {target}\nscenarios:\n{scenarios}\n");
    let source = PlanSource { name: "p.yaml".into(), text, files, search_level: None };
    Arc::new(Plan::compile(&source).unwrap_or_else(|problems| panic!("{problems}")))
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn assignment(generation: u32, share: Share, from: f64, until: Option<f64>) -> Assignment {
    Assignment { generation, share, from: seconds(from), until: until.map(seconds) }
}

/// The half of a share that one of two agents has.
fn half(index: u32) -> Share {
    Share::nth_of(index, 2)
}

/// What a worker has told so far, and what it told last.
#[derive(Default)]
struct Told {
    /// All steps together.
    counters: Counters,
    /// Operations issued since the seal before.
    issued: u64,
    cursors: Cursors,
    users: u32,
    /// Operations that waited for their turn.
    held: u64,
    most_lag_us: u64,
    finished: bool,
    lease_expired: bool,
}

impl Told {
    fn not_generated(&self, reason: &str) -> u64 {
        self.counters.not_generated.get(reason).copied().unwrap_or(0)
    }

    fn not_generated_in_all(&self) -> u64 {
        self.counters.not_generated.values().sum()
    }

    fn decided(&self, generation: u32) -> u64 {
        self.cursors.iter().filter(|((of, _, _), _)| *of == generation).map(|(_, decided)| decided).sum()
    }
}

/// A worker that was started.
struct Worker {
    t0: Instant,
    lease: Lease,
    commands: mpsc::Sender<Command>,
    finished: mpsc::Receiver<()>,
    told: Told,
}

impl Worker {
    /// T0 is a second from now.
    async fn start(plan: &Arc<Plan>, first: Assignment) -> Self {
        Worker::start_at(plan, first, Instant::now() + Duration::from_secs(1)).await
    }

    async fn start_at(plan: &Arc<Plan>, first: Assignment, t0: Instant) -> Self {
        Worker::start_within(plan, first, t0, Budget::new(None, None)).await
    }

    /// One of an agent that has this for all its load.
    async fn start_within(plan: &Arc<Plan>, first: Assignment, t0: Instant, budget: Budget) -> Self {
        crate::timer::follow_paused_clock();
        let lease = Lease::unlimited();
        let (commands, inbox) = mpsc::channel(8);
        let (finished_tx, finished) = mpsc::channel(1);
        let spec = WorkerSpec {
            plan: Arc::clone(plan),
            assignment: first,
            lease: lease.clone(),
            setup: Setup::new(plan, Gate::new(plan, Allowlist::default(), budget), Some(RUN)).unwrap(),
            secrets: Secrets::default(),
            max_duration: None,
            raw_samples: None,
        };
        let prepared = spec.prepare().unwrap();
        spawn_local(async move { worker::serve(prepared, inbox, &finished_tx).await });
        let worker = Worker { t0, lease, commands, finished, told: Told::default() };
        worker.tell(Command::Start(t0)).await;
        worker
    }

    async fn tell(&self, command: Command) {
        assert!(self.commands.send(command).await.is_ok(), "the worker is gone");
    }

    async fn assign(&self, assignment: Assignment) {
        self.tell(Command::Assign(assignment)).await;
    }

    async fn end_assignment(&self, generation: u32, until: f64) {
        self.tell(Command::EndAssignment { generation, until: seconds(until) }).await;
    }

    async fn stop(&self, reason: &str, rest: Rest) {
        self.tell(Command::Stop { reason: reason.to_owned(), rest, grace: Duration::from_secs(1) }).await;
    }

    /// Waits for a moment of the run.
    async fn at(&self, run: f64) {
        sleep_until(self.t0 + seconds(run)).await;
    }

    /// Seals; returns what was told so far.
    async fn seal(&mut self) -> &Told {
        let (answer, answered) = oneshot::channel();
        self.tell(Command::Seal(answer)).await;
        let WorkerSealed { steps, cursors, users, held, finished, lease_expired, .. } = answered.await.unwrap();
        let issued = steps.values().map(|step| step.counters.issued).sum();
        let mut counters = std::mem::take(&mut self.told.counters);
        steps.values().for_each(|step| counters.add(&step.counters).unwrap());
        let held = self.told.held + held;
        let lags = steps.values().map(|step| step.series(Kind::SendLag).max_us);
        let most_lag_us = lags.fold(self.told.most_lag_us, u64::max);
        self.told = Told { counters, issued, cursors, users, held, most_lag_us, finished, lease_expired };
        &self.told
    }

    async fn sealed_at(&mut self, run: f64) -> &Told {
        self.at(run).await;
        self.seal().await
    }

    /// Returns when the worker tells that it has ended its part: the time of the run.
    async fn ended(&mut self) -> f64 {
        self.finished.recv().await.unwrap();
        (Instant::now() - self.t0).as_secs_f64()
    }
}

/// Tasks of workers need a place to run.
async fn in_a_worker_thread(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}
