//! One assignment at one worker: all scenarios for its part of the share and of the run's time.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use groundswell_scenario::assignment::Window;
use groundswell_scenario::plan::ScenarioStart;
use groundswell_scenario::{Assignment, Share};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::phase;

/// An assignment that a worker works off.
pub(super) struct Assigned {
    assignment: Assignment,
    /// Comes nearer when the assignment is given an earlier end.
    until: Cell<Option<Duration>>,
    /// When the worker could begin with it.
    since: Instant,
    /// By scenario.
    ended: Vec<CancellationToken>,
}

impl Assigned {
    /// One that the worker begins with now.
    pub(super) fn new(assignment: Assignment, scenarios: usize) -> Rc<Self> {
        Rc::new(Assigned {
            until: Cell::new(assignment.until),
            assignment,
            since: Instant::now(),
            ended: (0..scenarios).map(|_| CancellationToken::new()).collect(),
        })
    }

    pub(super) fn generation(&self) -> u32 {
        self.assignment.generation
    }

    /// The worker's part of the share.
    pub(super) fn share(&self) -> &Share {
        &self.assignment.share
    }

    /// Was it made before the start of the run?
    pub(super) fn is_initial(&self) -> bool {
        self.assignment.is_initial()
    }

    /// Did it come too late for what begins then to be prepared in time? What was assigned before the start is never
    /// late: what it does not start in time is the generator's own lag.
    pub(super) fn is_late(&self, preparations: Instant) -> bool {
        !self.is_initial() && self.since > preparations
    }

    /// As it is by now.
    pub(super) fn now(&self) -> Assignment {
        Assignment { until: self.until.get(), ..self.assignment.clone() }
    }

    /// When it ends, by now.
    pub(super) fn until(&self) -> Option<Duration> {
        self.until.get()
    }

    /// [`Assignment::window`], by now.
    pub(super) fn window(&self, origin: Option<Duration>) -> Option<Window> {
        let window = self.assignment.window(origin)?;
        Some(match (origin, self.until.get()) {
            (Some(origin), Some(until)) => window.before(until.saturating_sub(origin)),
            _ => window,
        })
    }

    /// Gives it an end, unless it has an earlier one.
    pub(super) fn end(&self, until: Duration) {
        self.until.set(Some(self.until.get().map_or(until, |known| known.min(until))));
    }
}

/// Works it off: returns when all of it has ended and is drained.
pub(super) async fn run(context: Rc<Context>, assigned: Rc<Assigned>) {
    let scenarios = (0..context.plan.scenarios.len()).map(|index| scenario(&context, &assigned, index));
    futures_util::future::join_all(scenarios).await;
}

async fn scenario(context: &Rc<Context>, assigned: &Rc<Assigned>, index: usize) {
    let scenario = &context.plan.scenarios[index];
    let origin = match &scenario.start {
        ScenarioStart::At(offset) => context.clock.at(*offset),
        // Its clock is this agent's own, so it is no part of what goes from one agent to another.
        ScenarioStart::AfterEnd(_) if !assigned.is_initial() => return,
        ScenarioStart::AfterEnd(predecessors) => {
            for predecessor in predecessors {
                assigned.ended[*predecessor].cancelled().await;
            }
            Instant::now()
        }
    };
    let phases = (0..scenario.phases.len()).map(|phase| phase::run(context, assigned, (index, phase), origin));
    futures_util::future::join_all(phases).await;
    assigned.ended[index].cancel();
}
