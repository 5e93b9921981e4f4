//! Open model: iterations start on schedule, however slow the target is.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::Range;
use std::rc::Rc;
use std::task::{Poll, Waker};

use groundswell_scenario::Schedule;
use groundswell_scenario::assignment::Window;
use groundswell_scenario::load::Load;
use groundswell_scenario::planned::Planned;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Phase, ahead_of, drain};
use crate::engine::dispatch::Dispatch;
use crate::engine::iteration::{Accounting, User, UserNumber};

/// Users of an open load that are made before its start; more are made when they are needed.
const MADE_FOR_START: usize = 32;

/// Runs the arrivals of an assignment.
pub(super) async fn run(phase: &Rc<Phase>) {
    let Load::Rate { max_in_flight, queue, .. } = *phase.load() else { return };
    let Some(schedule) = phase.described().schedule(phase.context.plan.seed) else { return };
    let Some(window) = phase.window() else { return };
    let turns = window.turns(&schedule, phase.share());
    let crowd = Rc::new(Crowd::new(phase, max_in_flight, queue));
    let mut tasks = JoinSet::new();
    let begins = phase.origin + window.from;
    if phase.context.pause(|| (!phase.is_beyond(begins)).then(|| ahead_of(begins))).await {
        crowd.make_ahead(phase, turns.end - turns.start, &mut tasks);
    }
    let late = if phase.is_late(begins) { skip_late(phase, &schedule, window) } else { 0 };
    let started = release(phase, &schedule, turns.start + late..turns.end, &crowd, &mut tasks).await;
    phase.rest(planned_by_now(phase, &schedule).after(late + started), "cut_off");
    if let Some(bound) = phase.bound() {
        // The grace of what is in flight counts from the end, not from the last arrival before it.
        phase.context.pause_until(bound.min(phase.origin + phase.load().limit())).await;
    }
    crowd.close();
    drain(phase, tasks).await;
    crowd.give_up(phase);
}

/// Starts an iteration at each of these turns of the share; returns how many.
async fn release(
    phase: &Rc<Phase>,
    schedule: &Schedule,
    turns: Range<u64>,
    crowd: &Rc<Crowd>,
    tasks: &mut JoinSet<()>,
) -> u64 {
    let context = &phase.context;
    let dispatch = Dispatch { schedule, share: phase.share(), origin: phase.origin, turns };
    // The end of the assignment may come nearer while an arrival after it is waited for.
    let pause = async |due, at| context.pause(|| (!phase.is_beyond(due)).then_some(at)).await;
    let is_over = |due, now| context.stop.reason().is_some() || phase.is_beyond(due) || !context.may_issue(now);
    dispatch
        .run(pause, is_over, |ordinal, due| {
            phase.scheduled(phase.first_step_at(due), 1);
            crowd.arrive(phase, ordinal, due, tasks);
        })
        .await
}

/// Of an assignment that came late: what was due before is counted and never sent, so that no burst begins it.
fn skip_late(phase: &Phase, schedule: &Schedule, window: Window) -> u64 {
    if phase.context.stop.reason().is_some() {
        return 0;
    }
    let passed = window.before(phase.origin.elapsed());
    let late = phase.described().planned_turns(schedule, phase.share(), passed);
    phase.never_started(late, "late_assign");
    late.in_all()
}

/// What the assignment has of the schedule, by now.
fn planned_by_now(phase: &Phase, schedule: &Schedule) -> Planned {
    let planned = |window| phase.described().planned_turns(schedule, phase.share(), window);
    phase.window().map(planned).unwrap_or_default()
}

/// An iteration of an open load that waits for a user.
struct Arrival {
    ordinal: u64,
    due: Instant,
    /// When a place in flight was free for it, where it had to wait for one.
    free: Option<Instant>,
}

/// Where a user of an open load gets its next arrival. Its task lives as long as the load: one for each arrival would cost
/// an allocation and a lock each.
#[derive(Default)]
struct Seat {
    arrival: Cell<Option<Arrival>>,
    waiting: Cell<Option<Waker>>,
}

impl Seat {
    fn give(&self, arrival: Arrival) {
        self.arrival.set(Some(arrival));
        self.wake();
    }

    fn wake(&self) {
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }
}

/// The users of an open load: at most `cap` at work, at most `queue` iterations waiting for one of them, the rest shed.
struct Crowd {
    idle: RefCell<Vec<Rc<Seat>>>,
    waiting: RefCell<VecDeque<Arrival>>,
    busy: Cell<usize>,
    /// Nothing arrives any more.
    is_closed: Cell<bool>,
    cap: usize,
    queue: usize,
}

impl Crowd {
    fn new(phase: &Phase, max_in_flight: u32, queue: u32) -> Self {
        let own = |most: u32| usize::try_from(phase.share().count_below(u64::from(most))).unwrap_or(usize::MAX);
        Crowd {
            idle: RefCell::default(),
            waiting: RefCell::default(),
            busy: Cell::new(0),
            is_closed: Cell::new(false),
            cap: own(max_in_flight).max(1),
            queue: own(queue),
        }
    }

    /// Makes the users that the start may need.
    fn make_ahead(self: &Rc<Self>, phase: &Rc<Phase>, arrivals: u64, tasks: &mut JoinSet<()>) {
        let users = self.cap.min(MADE_FOR_START).min(usize::try_from(arrivals).unwrap_or(usize::MAX));
        let seats = (0..users as u64).rev().map(|nth| self.seat(phase, nth, tasks));
        self.idle.borrow_mut().extend(seats);
    }

    /// One more user: that with this number of the assignment's.
    fn seat(self: &Rc<Self>, phase: &Rc<Phase>, nth: u64, tasks: &mut JoinSet<()>) -> Rc<Seat> {
        let user = User::new(phase, UserNumber(phase.share().nth(nth)));
        let seat = Rc::new(Seat::default());
        tasks.spawn_local(Rc::clone(self).attend(Rc::clone(phase), user, Rc::clone(&seat)));
        seat
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
        let idle = self.idle.borrow_mut().pop();
        // Where nobody is idle, as many users are made as are busy: this one has the next number.
        let seat = idle.unwrap_or_else(|| self.seat(phase, self.busy.get() as u64, tasks));
        self.busy.set(self.busy.get() + 1);
        phase.context.recording.user_joined();
        seat.give(arrival);
    }

    /// One user, until nothing arrives any more.
    async fn attend(self: Rc<Self>, phase: Rc<Phase>, mut user: User, seat: Rc<Seat>) {
        while let Some(arrival) = self.next(&seat).await {
            self.serve(&phase, &mut user, arrival).await;
            phase.context.recording.user_left();
            self.busy.set(self.busy.get() - 1);
            self.idle.borrow_mut().push(Rc::clone(&seat));
        }
    }

    /// The next arrival at a seat; none where the load is over.
    async fn next(&self, seat: &Seat) -> Option<Arrival> {
        poll_fn(|context| {
            let arrival = seat.arrival.take();
            if arrival.is_some() || self.is_closed.get() {
                return Poll::Ready(arrival);
            }
            seat.waiting.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await
    }

    /// Lets idle users leave now, and the others when they are idle.
    fn close(&self) {
        self.is_closed.set(true);
        self.idle.borrow().iter().for_each(|seat| seat.wake());
    }

    /// Works off an arrival, then what has been waiting.
    async fn serve(&self, phase: &Rc<Phase>, user: &mut User, arrival: Arrival) {
        let mut next = Some(arrival);
        while let Some(Arrival { ordinal, due, free }) = next {
            if user.draw_data(phase) {
                user.iterate(phase, ordinal, due, Accounting::Scheduled { queued_until: free }).await;
            } else {
                phase.not_generated(phase.first_step_at(due), 1, "data_exhausted");
            }
            next = if phase.context.stop.reason().is_some() { None } else { self.waiting.borrow_mut().pop_front() };
            if let Some(next) = &mut next {
                next.free = Some(Instant::now());
            }
        }
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
