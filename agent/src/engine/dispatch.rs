//! Releases the arrivals of an open load, each at its intended time.

use std::ops::Range;
use std::time::Duration;

use groundswell_scenario::{Schedule, Share};
use tokio::time::Instant;

/// An arrival that is later than this was held back by a stall: of the machine, or of whoever stopped this process.
const STALL: Duration = Duration::from_millis(5);

/// Arrivals of one share of an open load.
pub(super) struct Dispatch<'a> {
    pub(super) schedule: &'a Schedule,
    pub(super) share: &'a Share,
    /// When offset zero is.
    pub(super) origin: Instant,
    /// Which of the share's arrivals.
    pub(super) turns: Range<u64>,
}

impl Dispatch<'_> {
    /// Calls `release` with the ordinal and the intended time of each arrival, in order, none before its time, and as many
    /// at one wake-up as are due. `pause` is told when an arrival is due, waits until an instant and says false to stop;
    /// `is_over` is told when it is due and what time it is, and says whether to stop though nothing had to be waited for.
    /// Returns how many were released.
    ///
    /// The time that `is_over` is told is that before the pause: a pause has to look at the clock after it.
    pub(super) async fn run(
        &self,
        pause: impl AsyncFn(Instant, Instant) -> bool,
        is_over: impl Fn(Instant, Instant) -> bool,
        mut release: impl FnMut(u64, Instant),
    ) -> u64 {
        let mut pace = Pace::default();
        for nth in self.turns.clone() {
            let ordinal = self.share.nth(nth);
            let Some(offset) = self.schedule.offset(ordinal) else { return nth - self.turns.start };
            let due = self.origin + offset;
            let now = Instant::now();
            let at = pace.at(due, now);
            // Without this check a burst that is due at once would ask the timer for each arrival.
            if at > now && !pause(due, at).await || is_over(due, now) {
                return nth - self.turns.start;
            }
            release(ordinal, due);
        }
        self.turns.end - self.turns.start
    }
}

/// When an arrival is released: at its intended time, or as soon as possible after it. What a stall has held back is made
/// up for at twice the rate of the schedule, so that it does not end in a storm on the target; every operation keeps its
/// intended time, so the figures show the stall whole.
#[derive(Default)]
struct Pace {
    /// The last arrival: when it was due and when it was released.
    last: Option<(Instant, Instant)>,
    catching_up: bool,
}

impl Pace {
    fn at(&mut self, due: Instant, now: Instant) -> Instant {
        let late = now.saturating_duration_since(due);
        self.catching_up = late > STALL || self.catching_up && !late.is_zero();
        let at = match self.last {
            Some((last_due, last)) if self.catching_up => due.max(last + due.saturating_duration_since(last_due) / 2),
            _ => due,
        };
        self.last = Some((due, at.max(now)));
        at
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::cell::RefCell;

    use groundswell_scenario::load::{Arrivals, Curve};
    use tokio::time::{advance, sleep_until};

    use super::*;

    fn schedule(rate: f64, seconds: u64) -> Schedule {
        Schedule::new(&Curve::constant(rate, Duration::from_secs(seconds)), Arrivals::Uniform, 1, 0)
    }

    async fn tick(_: Instant, until: Instant) -> bool {
        sleep_until(until).await;
        true
    }

    /// Ten minutes at 1,000/s: exactly 600,000 arrivals, in order, none early, none later than the clock's own tick.
    #[tokio::test(start_paused = true)]
    async fn ten_minutes_at_a_thousand_a_second_are_600_000_arrivals_in_order() {
        let (schedule, share, origin) = (schedule(1_000.0, 600), Share::whole(), Instant::now());
        let dispatch = Dispatch { schedule: &schedule, share: &share, origin, turns: 0..schedule.total() };
        let (mut next, mut latest) = (0, Duration::ZERO);
        let released = dispatch
            .run(
                tick,
                |_, _| false,
                |ordinal, due| {
                    assert_eq!(ordinal, next);
                    assert_eq!(due, origin + Duration::from_millis(ordinal));
                    let now = Instant::now();
                    assert!(now >= due, "arrival {ordinal} was released early");
                    latest = latest.max(now - due);
                    next += 1;
                },
            )
            .await;
        assert_eq!((released, next), (600_000, 600_000));
        assert!(latest <= Duration::from_millis(1), "{latest:?}");
    }

    /// |issued(t) - floor(R t)| <= 1 + R x (largest send lag), for every number of agents.
    #[tokio::test(start_paused = true)]
    async fn all_shares_together_issue_what_is_due() {
        const RATE: u64 = 700;
        let equal = |agents| vec![1; agents];
        for weights in [equal(1), equal(2), equal(3), equal(7), equal(16), vec![5, 1, 2], vec![1, 9]] {
            let (schedule, origin) = (schedule(RATE as f64, 5), Instant::now());
            let releases = RefCell::new(Vec::new());
            let shares = (0..weights.len()).map(|agent| Share::weighted(agent, &weights).unwrap());
            let all = shares.map(|share| {
                let (releases, schedule) = (&releases, &schedule);
                async move {
                    let turns = 0..share.count_below(schedule.total());
                    let dispatch = Dispatch { schedule, share: &share, origin, turns };
                    dispatch.run(tick, |_, _| false, |_, due| releases.borrow_mut().push((Instant::now(), due))).await
                }
            });
            let released: u64 = futures_util::future::join_all(all).await.into_iter().sum();
            assert_eq!(released, 5 * RATE);
            let mut releases = releases.into_inner();
            releases.sort_unstable();
            let lag = releases.iter().map(|(at, due)| *at - *due).max().unwrap();
            for (index, (at, _)) in releases.iter().enumerate() {
                let due = ((*at - origin).as_secs_f64() * RATE as f64).floor();
                let off = (index as f64 + 1.0 - due).abs();
                // One more, because the arrival at this very moment counts as issued and not yet as due.
                assert!(off <= 2.0 + RATE as f64 * lag.as_secs_f64(), "{off} with weights {weights:?}");
            }
        }
    }

    /// Held back after a pause has looked at the clock, the next arrival is judged by the time that it is then.
    #[tokio::test(start_paused = true)]
    async fn what_is_due_at_once_is_judged_by_the_time() {
        let (schedule, share, origin) = (schedule(100.0, 10), Share::whole(), Instant::now());
        let dispatch = Dispatch { schedule: &schedule, share: &share, origin, turns: 100..schedule.total() };
        let limit = origin + Duration::from_secs(3);
        let pause = async |due: Instant, until: Instant| {
            sleep_until(until).await;
            if due == origin + Duration::from_secs(2) {
                advance(Duration::from_secs(2)).await;
            }
            true
        };
        let mut last = None;
        let released = dispatch.run(pause, |_, now| now >= limit, |ordinal, _| last = Some(ordinal)).await;
        assert_eq!((released, last), (101, Some(200)));
    }

    /// After a stall of two seconds the arrivals that were held back come at twice the rate, each with its own time.
    #[tokio::test(start_paused = true)]
    async fn a_stall_does_not_end_in_a_storm() {
        let (schedule, share, origin) = (schedule(100.0, 10), Share::whole(), Instant::now());
        let dispatch = Dispatch { schedule: &schedule, share: &share, origin, turns: 0..schedule.total() };
        let releases = RefCell::new(Vec::new());
        let pause = async |_, until: Instant| {
            sleep_until(until).await;
            if (Duration::from_secs(3)..Duration::from_millis(3_005)).contains(&origin.elapsed()) {
                advance(Duration::from_secs(2)).await;
            }
            true
        };
        dispatch.run(pause, |_, _| false, |_, due| releases.borrow_mut().push((due - origin, origin.elapsed()))).await;
        let releases = releases.into_inner();
        assert_eq!(releases.len(), 1_000);
        assert!(releases.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
        let within =
            |from: f64, to: f64| releases.iter().filter(|(_, at)| (from..to).contains(&at.as_secs_f64())).count();
        assert!((195..=205).contains(&within(5.0, 6.0)), "{} in the first second after the stall", within(5.0, 6.0));
        assert!((98..=102).contains(&within(8.0, 9.0)), "{} when all is made up for", within(8.0, 9.0));
        let lag = |nth: usize| releases[nth].1 - releases[nth].0;
        assert!(lag(301) >= Duration::from_millis(1_980) && lag(850) <= Duration::from_millis(1));
    }
}
