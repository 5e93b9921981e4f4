//! The load models: who starts an iteration, and when.
//!
//! # Layout
//! - `users`: the closed model
//! - `arrivals`: the open model
//! - `iterations`: a fixed amount of work

mod arrivals;
mod iterations;
mod users;

use std::rc::Rc;
use std::time::Duration;

use groundswell_scenario::assignment::Window;
use groundswell_scenario::load::Load;
use groundswell_scenario::planned::Planned;
use groundswell_scenario::{Scenario, Share};
use groundswell_stats::StepId;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout};

use super::assigned::Assigned;
use super::context::{Context, Rest};
use super::iteration::{User, UserNumber};

/// A user is made so long before it joins: making it takes time, which is nobody's response time.
const MADE_AHEAD: Duration = Duration::from_millis(500);

/// One phase of one scenario for one assignment of a worker.
pub(super) struct Phase {
    pub(super) context: Rc<Context>,
    assigned: Rc<Assigned>,
    pub(super) scenario: usize,
    pub(super) index: usize,
    /// When it begins.
    pub(super) origin: Instant,
}

impl Phase {
    pub(super) fn scenario(&self) -> &Scenario {
        &self.context.plan.scenarios[self.scenario]
    }

    fn described(&self) -> &groundswell_scenario::plan::Phase {
        &self.scenario().phases[self.index]
    }

    fn load(&self) -> &Load {
        &self.described().load
    }

    /// Does a schedule say when its iterations begin?
    pub(super) fn is_open(&self) -> bool {
        matches!(self.load(), Load::Rate { .. })
    }

    /// The part of the load that is this assignment's.
    fn share(&self) -> &Share {
        self.assigned.share()
    }

    /// Where it begins, from the start of the run; none where every agent begins it at a moment of its own.
    fn run_origin(&self) -> Option<Duration> {
        self.scenario().origin_of(self.described())
    }

    /// The part of its time that is this assignment's, by now.
    fn window(&self) -> Option<Window> {
        self.assigned.window(self.run_origin())
    }

    /// The moment at which this assignment loses it to another, by now.
    fn bound(&self) -> Option<Instant> {
        // Of a phase without a common origin it loses nothing.
        self.run_origin()?;
        self.assigned.until().map(|until| self.context.clock.at(until))
    }

    /// Is what is intended at this moment another assignment's?
    fn is_beyond(&self, intended: Instant) -> bool {
        self.bound().is_some_and(|bound| intended >= bound)
    }

    /// When a user of a closed load leaves that is wanted until this moment.
    pub(super) fn leaving(&self, until: Instant) -> Instant {
        self.bound().map_or(until, |bound| bound.min(until))
    }

    /// Does the preparation of what begins then come too late, because the assignment did?
    fn is_late(&self, begins: Instant) -> bool {
        self.assigned.is_late(ahead_of(begins))
    }

    /// [`StepId`] of slot 0 for what is intended at this moment: that of the warm-up while it lasts.
    pub(super) fn first_step_at(&self, intended: Instant) -> StepId {
        self.described().first_step_at(intended.saturating_duration_since(self.origin))
    }

    /// Each timed step from a first one on, with the operations that one iteration makes of it.
    fn operations(&self, first: StepId) -> impl Iterator<Item = (StepId, u64)> + '_ {
        (0..self.scenario().timed_steps).filter_map(move |slot| {
            let step = StepId(first.0 + slot);
            Some((step, self.context.plan.step(step)?.per_iteration))
        })
    }

    /// Iterations whose time came.
    fn scheduled(&self, first: StepId, iterations: u64) {
        for (step, operations) in self.operations(first) {
            self.context.recording.scheduled(step, operations * iterations);
        }
        self.context.recording.decided((self.assigned.generation(), self.scenario, self.index), iterations);
    }

    /// Scheduled iterations that nobody starts.
    fn not_generated(&self, first: StepId, iterations: u64, reason: &'static str) {
        if iterations == 0 {
            return;
        }
        for (step, operations) in self.operations(first) {
            self.context.recording.not_generated(step, reason, operations * iterations);
        }
    }

    /// Iterations that will not be started.
    fn never_started(&self, left: Planned, reason: &'static str) {
        for (first, iterations) in self.described().parts(left).filter(|(_, iterations)| *iterations > 0) {
            self.scheduled(first, iterations);
            self.not_generated(first, iterations, reason);
        }
    }

    /// What is left of the plan when the load is over; `otherwise` is why, where it was not stopped.
    fn rest(&self, left: Planned, otherwise: &'static str) {
        match (self.context.stop.reason(), self.context.stop.rest()) {
            (Some(_), Rest::HandedOn) => {}
            (Some(reason), Rest::Counted) => self.never_started(left, reason),
            (None, _) => self.never_started(left, otherwise),
        }
    }

    /// An iteration given up because it could not start in time.
    fn shed(&self, first: StepId, reason: &'static str) {
        for (step, operations) in self.operations(first) {
            self.context.recording.shed(step, reason, operations);
        }
    }

    /// When a user whose iteration was due then and has ended by now is due again.
    fn due_again(&self, was_due: Instant, ended: Instant) -> Instant {
        match self.scenario().every {
            Some(every) => ended.max(was_due + every),
            None => ended,
        }
    }
}

/// Runs one phase to its end, drained. `place` is that of the scenario and of the phase in it.
pub(super) async fn run(
    context: &Rc<Context>,
    assigned: &Rc<Assigned>,
    place: (usize, usize),
    scenario_start: Instant,
) {
    let (scenario, index) = place;
    let origin = scenario_start + context.plan.scenarios[scenario].phases[index].offset;
    let (context, assigned) = (Rc::clone(context), Rc::clone(assigned));
    let phase = Rc::new(Phase { context, assigned, scenario, index, origin });
    match phase.load() {
        Load::Users { .. } => users::run(&phase).await,
        Load::Rate { .. } => arrivals::run(&phase).await,
        Load::Iterations { .. } => iterations::run(&phase).await,
    }
}

/// When to prepare what begins then.
fn ahead_of(begins: Instant) -> Instant {
    begins.checked_sub(MADE_AHEAD).unwrap_or(begins)
}

/// A user at the moment of its joining; none where the run was stopped before, or it is not wanted any more.
async fn joined(phase: &Phase, number: u32, from: Instant, is_wanted: impl Fn() -> bool) -> Option<User> {
    if !phase.context.pause(|| is_wanted().then(|| ahead_of(from))).await {
        return None;
    }
    let user = User::new(phase, UserNumber(u64::from(number)));
    phase.context.pause(|| is_wanted().then_some(from)).await.then_some(user)
}

/// Lets what is in flight end; what has not after the grace is dropped, which counts it as aborted.
async fn drain(phase: &Phase, mut tasks: JoinSet<()>) {
    let ended = timeout(phase.described().grace, all_ended(&mut tasks)).await;
    if ended.is_err() {
        tasks.shutdown().await;
    }
}

/// Waits for all tasks.
async fn all_ended(tasks: &mut JoinSet<()>) {
    while let Some(task) = tasks.join_next().await {
        outlive(task);
    }
}

/// A task that panicked takes its worker with it, and that the agent: a load that has quietly become less would be
/// reported as if it were whole.
fn outlive(task: Result<(), JoinError>) {
    if let Err(error) = task
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}
