//! The load models: who starts an iteration, and when.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use groundswell_scenario::load::{Load, Sharing};
use groundswell_scenario::planned::{Planned, iterations_of, owned_users};
use groundswell_scenario::{Scenario, schedule};
use groundswell_stats::StepId;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::dispatch::Dispatch;
use super::iteration::{Accounting, User, UserNumber};
use super::worker::Context;

/// A user is made so long before it joins: making it takes time, which is nobody's response time.
const MADE_AHEAD: Duration = Duration::from_millis(500);
/// Users of an open load that are made before its start; more are made when they are needed.
const MADE_FOR_START: usize = 32;

/// One phase of one scenario on one worker.
pub(super) struct Phase {
    pub(super) context: Rc<Context>,
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
        self.context.recording.decided((self.scenario, self.index), iterations);
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

    /// Iterations whose time did not come or will not be waited for.
    fn never_started(&self, left: Planned, reason: &'static str) {
        for (first, iterations) in self.described().parts(left).filter(|(_, iterations)| *iterations > 0) {
            self.scheduled(first, iterations);
            self.not_generated(first, iterations, reason);
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

/// Runs one phase to its end, drained.
pub(super) async fn run(context: Rc<Context>, scenario: usize, index: usize, scenario_start: Instant) {
    let origin = scenario_start + context.plan.scenarios[scenario].phases[index].offset;
    let phase = Rc::new(Phase { context, scenario, index, origin });
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
    drain(phase, tasks).await;
}

/// One user from its joining to its leaving.
async fn attend(phase: &Rc<Phase>, number: u32, from: Instant, until: Instant) {
    let Some(mut user) = joined(phase, u64::from(number), from).await else { return };
    phase.context.recording.user_joined();
    let mut due = from;
    for iteration in 0.. {
        if due >= until || phase.context.stop.reason().is_some() || !user.draw_data(phase) {
            break;
        }
        let ended = user.iterate(phase, iteration, due, Accounting::AsIssued { until }).await;
        due = phase.due_again(due, ended);
        if due > ended && !phase.context.pause_until(due.min(until)).await {
            break;
        }
    }
    phase.context.recording.user_left();
}

/// A user at the moment of its joining; none where the run was stopped before.
async fn joined(phase: &Phase, number: u64, from: Instant) -> Option<User> {
    if !phase.context.pause_until(from.checked_sub(MADE_AHEAD).unwrap_or(from)).await {
        return None;
    }
    let user = User::new(phase, UserNumber(number));
    phase.context.pause_until(from).await.then_some(user)
}

/// A fixed number of iterations, divided over users.
async fn iterations(phase: &Rc<Phase>) {
    let Load::Iterations { total, sharing, users, limit } = *phase.load() else { return };
    let numbers: Vec<u32> = owned_users(&phase.context.share, users).collect();
    let pool = Rc::new(Cell::new(numbers.iter().map(|number| iterations_of(*number, total, users)).sum::<u64>()));
    let until = phase.origin + limit;
    // Counts the rest also when all of this is cut off. Made before the tasks, so that it is dropped after them.
    let _rest = Rest { phase, pool: &pool };
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
}

/// Iterations that no user has taken; dropped, it counts them as not generated.
struct Rest<'a> {
    phase: &'a Phase,
    pool: &'a Cell<u64>,
}

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        let reason = self.phase.context.stop.reason().unwrap_or("time_limit");
        self.phase.never_started(Planned { warm_up: 0, measured: self.pool.get() }, reason);
    }
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
    let Some(mut user) = joined(phase, u64::from(number), phase.origin).await else { return };
    phase.context.recording.user_joined();
    let mut due = phase.origin;
    let mut iteration = 0;
    while left.get() > 0 && due < until && phase.context.stop.reason().is_none() && user.draw_data(phase) {
        left.set(left.get() - 1);
        if sharing == Sharing::PerUser {
            pool.set(pool.get() - 1);
        }
        phase.scheduled(phase.first_step_at(due), 1);
        let ended = user.iterate(phase, iteration, due, Accounting::Scheduled { queued_until: None }).await;
        due = phase.due_again(due, ended);
        if due > ended && !phase.context.pause_until(due).await {
            break;
        }
        iteration += 1;
    }
    phase.context.recording.user_left();
}

/// Open model: iterations start on schedule, however slow the target is.
async fn arrivals(phase: &Rc<Phase>) {
    let Load::Rate { max_in_flight, queue, .. } = *phase.load() else { return };
    let seed = phase.context.plan.seed;
    let Some(schedule) = phase.described().schedule(seed) else { return };
    let share = &phase.context.share;
    let Some(planned) = phase.described().planned_iterations(share, seed) else { return };
    let own = |most: u32| usize::try_from(share.count_below(u64::from(most))).unwrap_or(usize::MAX);
    let crowd = Rc::new(Crowd {
        idle: RefCell::default(),
        waiting: RefCell::default(),
        busy: Cell::new(0),
        cap: own(max_in_flight).max(1),
        queue: own(queue),
    });
    phase.context.pause_until(phase.origin.checked_sub(MADE_AHEAD).unwrap_or(phase.origin)).await;
    crowd.make_ahead(phase, planned.in_all());
    let mut tasks = JoinSet::new();
    let dispatch = Dispatch { schedule: &schedule, share, origin: phase.origin, arrivals: planned.in_all() };
    let pause = async |until| phase.context.pause_until(until).await;
    let stopped = || phase.context.stop.reason().is_some();
    let started = dispatch
        .run(pause, stopped, |ordinal, due| {
            phase.scheduled(phase.first_step_at(due), 1);
            crowd.arrive(phase, ordinal, due, &mut tasks);
            while tasks.try_join_next().is_some() {}
        })
        .await;
    phase.never_started(planned.after(started), stop_reason(phase));
    drain(phase, tasks).await;
    crowd.give_up(phase);
}

/// An iteration of an open load that waits for a user.
struct Arrival {
    ordinal: u64,
    due: Instant,
    /// When a place in flight was free for it, where it had to wait for one.
    free: Option<Instant>,
}

/// The users of an open load: at most `cap` at work, at most `queue` iterations waiting for one of them, the rest shed.
struct Crowd {
    idle: RefCell<Vec<User>>,
    waiting: RefCell<VecDeque<Arrival>>,
    busy: Cell<usize>,
    cap: usize,
    queue: usize,
}

impl Crowd {
    /// Makes the users that the start may need.
    fn make_ahead(&self, phase: &Phase, arrivals: u64) {
        let users = self.cap.min(MADE_FOR_START).min(usize::try_from(arrivals).unwrap_or(usize::MAX));
        let numbers = (0..users as u64).rev().map(|nth| UserNumber(phase.context.share.nth(nth)));
        self.idle.borrow_mut().extend(numbers.map(|number| User::new(phase, number)));
    }

    fn arrive(self: &Rc<Self>, phase: &Rc<Phase>, ordinal: u64, due: Instant, tasks: &mut JoinSet<()>) {
        let arrival = Arrival { ordinal, due, free: None };
        if self.busy.get() >= self.cap {
            let mut waiting = self.waiting.borrow_mut();
            if waiting.len() >= self.queue {
                phase.shed(phase.first_step_at(due), "max_in_flight");
            } else {
                waiting.push_back(arrival);
            }
            return;
        }
        let user = self.idle.borrow_mut().pop();
        // Nobody is idle, so as many users are made as are busy: this one has the next number of this worker's.
        let user = user.unwrap_or_else(|| {
            let number = phase.context.share.nth(self.busy.get() as u64);
            User::new(phase, UserNumber(number))
        });
        self.busy.set(self.busy.get() + 1);
        phase.context.recording.user_joined();
        tasks.spawn_local(Rc::clone(self).serve(Rc::clone(phase), user, arrival));
    }

    /// One user that works off an arrival, then what has been waiting.
    async fn serve(self: Rc<Self>, phase: Rc<Phase>, mut user: User, arrival: Arrival) {
        let mut next = Some(arrival);
        while let Some(Arrival { ordinal, due, free }) = next {
            if user.draw_data(&phase) {
                user.iterate(&phase, ordinal, due, Accounting::Scheduled { queued_until: free }).await;
            } else {
                phase.not_generated(phase.first_step_at(due), 1, "data_exhausted");
            }
            next = if phase.context.stop.reason().is_some() { None } else { self.waiting.borrow_mut().pop_front() };
            if let Some(next) = &mut next {
                next.free = Some(Instant::now());
            }
        }
        phase.context.recording.user_left();
        self.busy.set(self.busy.get() - 1);
        self.idle.borrow_mut().push(user);
    }

    /// What still waits when the load is over: given up.
    fn give_up(&self, phase: &Rc<Phase>) {
        for Arrival { due, .. } in self.waiting.borrow_mut().drain(..) {
            let first = phase.first_step_at(due);
            match phase.context.stop.reason() {
                Some(reason) => phase.not_generated(first, 1, reason),
                None => phase.shed(first, "max_in_flight"),
            }
        }
    }
}

fn stop_reason(phase: &Phase) -> &'static str {
    // Data that ran out is the only way to end before the schedule without a stop.
    phase.context.stop.reason().unwrap_or("data_exhausted")
}

/// Lets what is in flight end; what has not after the grace is dropped, which counts it as aborted.
async fn drain(phase: &Phase, mut tasks: JoinSet<()>) {
    let ended = timeout(phase.described().grace, async { while tasks.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tasks.shutdown().await;
    }
}
