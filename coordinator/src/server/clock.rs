//! The coordinator's clocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use crate::run::Now;

/// Between a reboot, or a move to another machine, and a calendar that was set: more is a reboot.
const CALENDAR_TRUST: Duration = Duration::from_secs(600);

/// The coordinator's clock: the machine's monotonic one, so that it goes on when the process is started again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    began: Instant,
    began_at: Duration,
}

impl Clock {
    pub(super) fn new() -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        let began_at = Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0));
        Clock { began: Instant::now(), began_at }
    }

    pub(super) fn monotonic(&self) -> Duration {
        self.began_at + self.began.elapsed()
    }

    pub(super) fn now_us(&self) -> u64 {
        u64::try_from(self.monotonic().as_micros()).unwrap_or(u64::MAX)
    }

    pub(super) fn now(&self) -> Now {
        Now { monotonic: self.monotonic(), calendar: SystemTime::now() }
    }

    /// What has to be added to this clock to go on where one stood when the last entry of a log was written. Zero on the
    /// machine that wrote it; after a reboot or on another one only the calendar knows how much time has passed.
    pub(super) fn ahead_of(&self, last: Now) -> Ahead {
        let now = self.now();
        let passed = now.calendar.duration_since(last.calendar).unwrap_or_default();
        let expected = last.monotonic + passed;
        let differs = now.monotonic.abs_diff(expected) > CALENDAR_TRUST;
        if now.monotonic < last.monotonic || differs {
            return Ahead { ours: now.monotonic, theirs: expected };
        }
        Ahead::default()
    }
}

/// Maps this clock to the one that a run was begun by.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ahead {
    ours: Duration,
    theirs: Duration,
}

impl Ahead {
    pub(super) fn run_time(&self, now: Now) -> Now {
        Now { monotonic: (now.monotonic + self.theirs).saturating_sub(self.ours), ..now }
    }

    /// A moment of the run's clock on this one.
    pub(super) fn our_time(&self, moment: Duration) -> Duration {
        (moment + self.ours).saturating_sub(self.theirs)
    }
}

/// Microseconds since 1970.
pub(super) fn calendar_us(calendar: SystemTime) -> i64 {
    let since = calendar.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// A moment of the calendar.
pub(super) fn calendar(us: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(u64::try_from(us).unwrap_or(0))
}
