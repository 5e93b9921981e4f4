//! The load models: who starts an iteration, and when.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use groundswell_scenario::load::{Load, Sharing};
use groundswell_scenario::planned::{iterations_of, owned_users};
use groundswell_scenario::{Scenario, Schedule, schedule};
use groundswell_stats::StepId;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::iteration::{Accounting, User, UserNumber};
use super::worker::Context;

/// How long operations in flight may go on after a load's end before they are cut off and counted as aborted. Most end
/// long before, by their own time limits.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// One phase of one scenario on one worker.
pub(super) struct Phase {
    pub(super) context: Rc<Context>,
    pub(super) scenario: usize,
    pub(super) index: usize,
    /// When it begins.
    pub(super) origin: Instant,
    /// [`StepId`] of slot 0.
    pub(super) first_step: StepId,
}

impl Phase {
    pub(super) fn scenario(&self) -> &Scenario {
        &self.context.plan.scenarios[self.scenario]
    }

    pub(super) fn step(&self, slot: u32) -> StepId {
        StepId(self.first_step.0 + slot)
    }

    fn load(&self) -> &Load {
        &self.scenario().phases[self.index].load
    }

    /// Each timed step with the operations that one iteration makes of it.
    fn operations(&self) -> impl Iterator<Item = (StepId, u64)> + '_ {
        (0..self.scenario().timed_steps).filter_map(|slot| {
            let step = self.step(slot);
            Some((step, self.context.plan.step(step)?.per_iteration))
        })
    }

    fn scheduled(&self, iterations: u64) {
        for (step, operations) in self.operations() {
            self.context.recording.scheduled(step, operations * iterations);
        }
    }

    fn decided(&self, iterations: u64) {
        self.context.recording.decided((self.scenario, self.index), iterations);
    }

    /// Iterations whose time came, or would have come, but which nobody starts.
    fn not_generated(&self, iterations: u64, reason: &'static str) {
        if iterations == 0 {
            return;
        }
        self.scheduled(iterations);
        self.decided(iterations);
        for (step, operations) in self.operations() {
            self.context.recording.not_generated(step, reason, operations * iterations);
        }
    }

    /// An iteration given up because it could not start in time.
    fn shed(&self, reason: &'static str) {
        for (step, operations) in self.operations() {
            self.context.recording.shed(step, reason, operations);
        }
    }
}

/// Runs one phase to its end, drained.
pub(super) async fn run(context: Rc<Context>, scenario: usize, index: usize, scenario_start: Instant) {
    let described = &context.plan.scenarios[scenario].phases[index];
    let origin = scenario_start + described.offset;
    let first_step = described.first_step;
    let phase = Rc::new(Phase { context, scenario, index, origin, first_step });
    match phase.load() {
        Load::Users { .. } => users(&phase).await,
        Load::Rate { .. } => arrivals(&phase).await,
        Load::Iterations { .. } => iterations(&phase).await,
    }
}

/// Closed model: each user starts its next iteration when its last has ended.
async fn users(phase: &Rc<Phase>) {
    let Load::Users { curve } = phase.load() else { return };
    let attendance = schedule::Attendance::new(curve);
    let mut tasks = JoinSet::new();
    for number in owned_users(&phase.context.share, attendance.users()) {
        let intervals = attendance.intervals(number);
        let phase = Rc::clone(phase);
        tasks.spawn_local(async move {
            for (from, to) in intervals {
                attend(&phase, number, phase.origin + from, phase.origin + to).await;
            }
        });
    }
    let end = phase.origin + curve.length();
    phase.context.pause_until(end).await;
    drain(tasks).await;
}

/// One user from its joining to its leaving.
async fn attend(phase: &Rc<Phase>, number: u32, from: Instant, until: Instant) {
    if !phase.context.pause_until(from).await {
        return;
    }
    let mut user = User::new(phase, UserNumber(u64::from(number)));
    phase.context.recording.user_joined();
    let mut due = from;
    for iteration in 0.. {
        if due >= until || phase.context.stop.reason().is_some() || !user.draw_data(phase) {
            break;
        }
        due = user.iterate(phase, iteration, due, Accounting::AsIssued { until }).await;
    }
    phase.context.recording.user_left();
}

/// A fixed number of iterations, divided over users.
async fn iterations(phase: &Rc<Phase>) {
    let Load::Iterations { total, sharing, users, limit } = *phase.load() else { return };
    let numbers: Vec<u32> = owned_users(&phase.context.share, users).collect();
    let pool = Rc::new(Cell::new(numbers.iter().map(|number| iterations_of(*number, total, users)).sum::<u64>()));
    let until = phase.origin + limit;
    let mut tasks = JoinSet::new();
    for number in numbers {
        let left = match sharing {
            Sharing::Shared => Rc::clone(&pool),
            Sharing::PerUser => Rc::new(Cell::new(iterations_of(number, total, users))),
        };
        let (phase, pool) = (Rc::clone(phase), Rc::clone(&pool));
        tasks.spawn_local(async move { work_off(&phase, number, &left, &pool, sharing, until).await });
    }
    while tasks.join_next().await.is_some() {}
    let reason = if phase.context.stop.reason().is_some() { stop_reason(phase) } else { "time_limit" };
    phase.not_generated(pool.get(), reason);
}

/// One user that takes iterations from `left` until there are none.
async fn work_off(
    phase: &Rc<Phase>,
    number: u32,
    left: &Cell<u64>,
    pool: &Cell<u64>,
    sharing: Sharing,
    until: Instant,
) {
    if !phase.context.pause_until(phase.origin).await {
        return;
    }
    let mut user = User::new(phase, UserNumber(u64::from(number)));
    phase.context.recording.user_joined();
    let mut due = phase.origin;
    let mut iteration = 0;
    while left.get() > 0 && due < until && phase.context.stop.reason().is_none() && user.draw_data(phase) {
        left.set(left.get() - 1);
        if sharing == Sharing::PerUser {
            pool.set(pool.get() - 1);
        }
        phase.scheduled(1);
        phase.decided(1);
        due = user.iterate(phase, iteration, due, Accounting::Scheduled).await;
        iteration += 1;
    }
    phase.context.recording.user_left();
}

/// Open model: iterations start on schedule, however slow the target is.
async fn arrivals(phase: &Rc<Phase>) {
    let Load::Rate { curve, arrivals, max_in_flight } = phase.load() else { return };
    let schedule = Schedule::new(curve, *arrivals, phase.context.plan.seed, phase.first_step.0);
    let share = &phase.context.share;
    let total = share.count_below(schedule.total());
    let cap = usize::try_from(share.count_below(u64::from(*max_in_flight)).max(1)).unwrap_or(usize::MAX);
    let crowd = Rc::new(Crowd { idle: RefCell::default(), waiting: RefCell::default(), busy: Cell::new(0), cap });
    let mut tasks = JoinSet::new();
    let mut stopped_at = total;
    for nth in 0..total {
        let ordinal = share.nth(nth);
        let Some(offset) = schedule.offset(ordinal) else { break };
        let due = phase.origin + offset;
        // Without this check a burst that is due at once would ask the clock and the timer for each arrival.
        if due > Instant::now() && !phase.context.pause_until(due).await || phase.context.stop.reason().is_some() {
            stopped_at = nth;
            break;
        }
        phase.scheduled(1);
        phase.decided(1);
        crowd.arrive(phase, ordinal, due, &mut tasks);
        while tasks.try_join_next().is_some() {}
    }
    phase.not_generated(total - stopped_at, stop_reason(phase));
    drain(tasks).await;
    crowd.give_up(phase);
}

/// The users of an open load: at most `cap` at work, as many iterations again waiting, the rest shed.
struct Crowd {
    idle: RefCell<Vec<User>>,
    waiting: RefCell<VecDeque<(u64, Instant)>>,
    busy: Cell<usize>,
    cap: usize,
}

impl Crowd {
    fn arrive(self: &Rc<Self>, phase: &Rc<Phase>, ordinal: u64, due: Instant, tasks: &mut JoinSet<()>) {
        if self.busy.get() >= self.cap {
            let mut waiting = self.waiting.borrow_mut();
            if waiting.len() >= self.cap {
                phase.shed("max_in_flight");
            } else {
                waiting.push_back((ordinal, due));
            }
            return;
        }
        let user = self.idle.borrow_mut().pop();
        // A user that is made now has the number of this worker's users so far, spread over all shares.
        let user = user.unwrap_or_else(|| {
            let number = phase.context.share.nth(self.busy.get() as u64);
            User::new(phase, UserNumber(number))
        });
        self.busy.set(self.busy.get() + 1);
        phase.context.recording.user_joined();
        tasks.spawn_local(Rc::clone(self).serve(Rc::clone(phase), user, ordinal, due));
    }

    /// One user that works off an arrival, then what has been waiting.
    async fn serve(self: Rc<Self>, phase: Rc<Phase>, mut user: User, ordinal: u64, due: Instant) {
        let mut next = Some((ordinal, due));
        while let Some((ordinal, due)) = next {
            if user.draw_data(&phase) {
                user.iterate(&phase, ordinal, due, Accounting::Scheduled).await;
            } else {
                phase.account_for(1, "data_exhausted");
            }
            next = if phase.context.stop.reason().is_some() { None } else { self.waiting.borrow_mut().pop_front() };
        }
        phase.context.recording.user_left();
        self.busy.set(self.busy.get() - 1);
        self.idle.borrow_mut().push(user);
    }

    /// What still waits when the load is over: given up.
    fn give_up(&self, phase: &Rc<Phase>) {
        let waiting = self.waiting.borrow_mut().drain(..).count() as u64;
        match phase.context.stop.reason() {
            Some(reason) => phase.account_for(waiting, reason),
            None => (0..waiting).for_each(|_| phase.shed("max_in_flight")),
        }
    }
}

impl Phase {
    /// Iterations that were scheduled already but are not started after all.
    fn account_for(&self, iterations: u64, reason: &'static str) {
        for (step, operations) in self.operations() {
            if iterations > 0 {
                self.context.recording.not_generated(step, reason, operations * iterations);
            }
        }
    }
}

fn stop_reason(phase: &Phase) -> &'static str {
    // Data that ran out is the only way to end before the schedule without a stop.
    phase.context.stop.reason().unwrap_or("data_exhausted")
}

/// Lets what is in flight end; what has not after the limit is dropped, which counts it as aborted.
async fn drain(mut tasks: JoinSet<()>) {
    let ended = timeout(DRAIN_LIMIT, async { while tasks.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tasks.shutdown().await;
    }
}
