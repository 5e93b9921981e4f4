//! Clocks that drift and begin anywhere.

use std::time::Duration;

/// A monotonic clock as a function of real time in µs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) zero_us: u64,
    /// Faster than real time by this part of a million.
    pub(crate) ppm: i64,
    /// What the estimate of the run's start is wrong by.
    pub(crate) skew_us: i64,
}

impl Clock {
    pub(crate) fn now(&self, real: u64) -> Duration {
        Duration::from_micros(self.zero_us + self.scaled(real as i64) as u64)
    }

    /// The run's time where its start was at `t0`; zero before it.
    pub(crate) fn run_us(&self, t0: u64, real: u64) -> u64 {
        (self.scaled(real as i64 - t0 as i64) + self.skew_us).max(0) as u64
    }

    /// The real time at which the run's time is at least this.
    pub(crate) fn real(&self, t0: u64, run_us: u64) -> u64 {
        let elapsed = run_us as i64 - self.skew_us;
        (t0 as i64 + elapsed - elapsed * self.ppm / (1_000_000 + self.ppm) + 1).max(0) as u64
    }

    fn scaled(&self, elapsed: i64) -> i64 {
        elapsed + elapsed * self.ppm / 1_000_000
    }
}
