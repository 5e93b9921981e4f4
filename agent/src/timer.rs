//! A timer finer than tokio's: its wheel ticks at 1 ms and fires up to a tick late, which would go into every send lag.
//!
//! One timerfd for each worker, armed for the earliest deadline; at each wake-up everything that is due is released.
//! Where there is no timerfd (not Linux) tokio's own timer is used; the send lag in the report then says so by itself.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use tokio::time::Instant;

/// Deadlines of sleeps that were dropped are cleared away when there are more of them than of others, and than these.
const MOST_DROPPED: usize = 64;

/// Sleeps for the tasks of one worker. Clones share one driver; [`Timer::drive`] has to run beside them.
#[derive(Clone)]
pub(crate) struct Timer {
    waiting: Rc<RefCell<Waiting>>,
}

/// Collections that keep their room when they are empty, because an open load sleeps before each arrival.
#[derive(Default)]
struct Waiting {
    /// The earliest first, with the sleeper. Those of sleeps that were dropped stay for a while.
    deadlines: BinaryHeap<Reverse<(Instant, u64)>>,
    sleepers: HashMap<u64, Waker>,
    next_number: u64,
    driver: Option<Waker>,
}

impl Waiting {
    /// The earliest deadline that somebody waits for.
    fn earliest(&mut self) -> Option<Instant> {
        while let Some(Reverse((deadline, sleeper))) = self.deadlines.peek() {
            if self.sleepers.contains_key(sleeper) {
                return Some(*deadline);
            }
            self.deadlines.pop();
        }
        None
    }

    /// Wakes everyone whose deadline has come.
    fn release(&mut self, now: Instant) {
        while let Some(Reverse((deadline, sleeper))) = self.deadlines.peek().copied() {
            if deadline > now {
                return;
            }
            self.deadlines.pop();
            if let Some(waker) = self.sleepers.remove(&sleeper) {
                waker.wake();
            }
        }
    }

    fn forget(&mut self, sleeper: u64) {
        let Waiting { deadlines, sleepers, .. } = self;
        if sleepers.remove(&sleeper).is_some() && deadlines.len() > 2 * sleepers.len() + MOST_DROPPED {
            deadlines.retain(|Reverse((_, sleeper))| sleepers.contains_key(sleeper));
        }
    }
}

impl Timer {
    pub(crate) fn new() -> Self {
        Timer { waiting: Rc::default() }
    }

    /// Returns at the deadline, or at once where it has passed: the time that it is then.
    pub(crate) async fn sleep_until(&self, deadline: Instant) -> Instant {
        let mut sleep = Sleep { waiting: &self.waiting, deadline, number: None };
        poll_fn(|context| {
            let now = Instant::now();
            if now >= sleep.deadline {
                return Poll::Ready(now);
            }
            sleep.register(context.waker());
            Poll::Pending
        })
        .await
    }

    /// Wakes sleepers at their deadlines; never returns.
    pub(crate) async fn drive(&self) {
        let alarm = alarm::Alarm::new();
        loop {
            let next = self.next_deadline().await;
            tokio::select! {
                () = alarm.wait(next) => {}
                () = self.earlier_than(next) => continue,
            }
            self.waiting.borrow_mut().release(Instant::now());
        }
    }

    /// The earliest deadline, as soon as there is one.
    async fn next_deadline(&self) -> Instant {
        poll_fn(|context| {
            let mut waiting = self.waiting.borrow_mut();
            match waiting.earliest() {
                Some(deadline) => Poll::Ready(deadline),
                None => {
                    waiting.driver = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Returns when a deadline before `armed` is registered.
    async fn earlier_than(&self, armed: Instant) {
        poll_fn(|context| {
            let mut waiting = self.waiting.borrow_mut();
            match waiting.earliest() {
                Some(deadline) if deadline < armed => Poll::Ready(()),
                _ => {
                    waiting.driver = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await;
    }
}

#[cfg(test)]
thread_local! {
    static PAUSED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// From now on timers of this thread go by tokio's clock, which a test can pause; a timerfd can't be paused.
#[cfg(test)]
pub(crate) fn follow_paused_clock() {
    PAUSED.set(true);
}

#[cfg(test)]
fn follows_paused_clock() -> bool {
    PAUSED.get()
}

struct Sleep<'a> {
    waiting: &'a RefCell<Waiting>,
    deadline: Instant,
    number: Option<u64>,
}

impl Sleep<'_> {
    fn register(&mut self, waker: &Waker) {
        let mut waiting = self.waiting.borrow_mut();
        let earliest = waiting.earliest();
        let number = *self.number.get_or_insert_with(|| {
            waiting.next_number += 1;
            waiting.next_number
        });
        if waiting.sleepers.insert(number, waker.clone()).is_none() {
            waiting.deadlines.push(Reverse((self.deadline, number)));
        }
        if earliest.is_none_or(|earliest| self.deadline < earliest)
            && let Some(driver) = waiting.driver.take()
        {
            driver.wake();
        }
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.waiting.borrow_mut().forget(number);
        }
    }
}

#[cfg(target_os = "linux")]
mod alarm {
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };
    use tokio::io::unix::AsyncFd;
    use tokio::time::{Instant, sleep_until};

    /// One timerfd on the worker's reactor.
    pub(super) struct Alarm {
        fd: Option<AsyncFd<OwnedFd>>,
    }

    impl Alarm {
        #[allow(
            deprecated,
            reason = "its replacement is the same call behind `unsafe`; it is sound here, because an OwnedFd stays what it is"
        )]
        pub(super) fn new() -> Self {
            #[cfg(test)]
            if super::follows_paused_clock() {
                return Alarm { fd: None };
            }
            let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC);
            // Out of descriptors: tokio's coarser timer still works, and the send lag shows the difference.
            Alarm { fd: fd.ok().and_then(|fd| AsyncFd::new(fd).ok()) }
        }

        pub(super) async fn wait(&self, deadline: Instant) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            match &self.fd {
                Some(fd) if arm(fd, left).is_ok() => {
                    if let Ok(mut guard) = fd.readable().await {
                        // Setting the timer again clears its count, so nothing has to be read.
                        guard.clear_ready();
                    }
                }
                _ => sleep_until(deadline).await,
            }
        }
    }

    fn arm(fd: &AsyncFd<OwnedFd>, left: Duration) -> rustix::io::Result<()> {
        let once = Timespec { tv_sec: 0, tv_nsec: 0 };
        // At least 1 ns: zero would disarm the timer.
        let value = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos().max(1)),
        };
        let spec = Itimerspec { it_interval: once, it_value: value };
        timerfd_settime(fd.get_ref(), TimerfdTimerFlags::empty(), &spec).map(drop)
    }
}

#[cfg(not(target_os = "linux"))]
mod alarm {
    use tokio::time::{Instant, sleep_until};

    /// Tokio's own timer.
    pub(super) struct Alarm;

    impl Alarm {
        pub(super) fn new() -> Self {
            Alarm
        }

        pub(super) async fn wait(&self, deadline: Instant) {
            sleep_until(deadline).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::task::LocalSet;

    use super::*;

    /// Sleepers registered out of order are released in order, none before its deadline, dropped ones not at all.
    #[tokio::test(flavor = "current_thread")]
    async fn sleepers_wake_in_order_and_never_early() {
        let timer = Timer::new();
        let driver = timer.clone();
        let woken = Rc::new(RefCell::new(Vec::new()));
        let local = LocalSet::new();
        local.spawn_local(async move { driver.drive().await });
        local
            .run_until(async {
                let start = Instant::now();
                let sleep = |ms: u64| {
                    let (timer, woken) = (timer.clone(), Rc::clone(&woken));
                    tokio::task::spawn_local(async move {
                        timer.sleep_until(start + Duration::from_millis(ms)).await;
                        woken.borrow_mut().push((ms, start.elapsed()));
                    })
                };
                let late = sleep(30);
                let dropped = sleep(20);
                let early = sleep(5);
                tokio::task::yield_now().await;
                dropped.abort();
                let _ = (late.await, early.await, dropped.await);
            })
            .await;
        let woken = woken.borrow();
        assert_eq!(woken.iter().map(|(ms, _)| *ms).collect::<Vec<_>>(), [5, 30]);
        assert!(woken.iter().all(|(ms, after)| *after >= Duration::from_millis(*ms)), "{woken:?}");
    }

    /// Whoever waits for something with a limit drops the sleep each time: its deadline does not stay until it comes.
    #[tokio::test(flavor = "current_thread")]
    async fn dropped_sleeps_leave_nothing() {
        let timer = Timer::new();
        let now = Instant::now();
        let mut kept = Box::pin(timer.sleep_until(now + Duration::from_secs(7_200)));
        for _ in 0..10_000 {
            let dropped = timer.sleep_until(now + Duration::from_secs(3_600));
            tokio::select! {
                biased;
                _ = &mut kept => {}
                _ = dropped => {}
                () = std::future::ready(()) => {}
            }
        }
        let mut waiting = timer.waiting.borrow_mut();
        assert!(waiting.deadlines.len() <= 2 + MOST_DROPPED + 1, "{}", waiting.deadlines.len());
        assert_eq!((waiting.earliest(), waiting.sleepers.len()), (Some(now + Duration::from_secs(7_200)), 1));
    }
}
