//! Time in an agent: one monotonic clock, the run's time on it, and the coordinator's clock mapped to it.

use std::time::Duration;

use tokio::time::Instant;

/// The run's time: zero at T0, the one instant at which all agents start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunClock {
    t0: Instant,
}

impl RunClock {
    pub(crate) fn new(t0: Instant) -> Self {
        RunClock { t0 }
    }

    /// The instant of an offset from T0.
    pub(crate) fn at(&self, offset: Duration) -> Instant {
        self.t0 + offset
    }

    /// Microseconds of the run at this moment; zero before T0.
    pub(crate) fn now_us(&self) -> u64 {
        micros(Instant::now().saturating_duration_since(self.t0))
    }

    pub(crate) fn started(&self) -> bool {
        Instant::now() >= self.t0
    }
}

/// Whole microseconds of a duration, at most `u64::MAX`.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// An estimate of the coordinator's clock from probes, in the manner of NTP (RFC 5905, section 8):
/// offset = ((t2 - t1) + (t3 - t4)) / 2, with an error of at most half the round trip. The probe with the least round
/// trip bounds the error best, so that one is kept.
#[derive(Debug)]
pub(crate) struct ClockSync {
    epoch: Instant,
    best: Option<Probe>,
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    offset_us: i128,
    round_trip_us: u64,
}

impl ClockSync {
    pub(crate) fn new() -> Self {
        ClockSync { epoch: Instant::now(), best: None }
    }

    /// This agent's clock, in microseconds since its own zero.
    pub(crate) fn now_us(&self) -> u64 {
        micros(self.epoch.elapsed())
    }

    /// Takes in an answered probe: sent at `t1`, received there at `t2`, answered at `t3`, received here at `t4`.
    pub(crate) fn probed(&mut self, t1_us: u64, t2_us: u64, t3_us: u64, t4_us: u64) {
        let (t1, t2, t3, t4) = (i128::from(t1_us), i128::from(t2_us), i128::from(t3_us), i128::from(t4_us));
        let round_trip = ((t4 - t1) - (t3 - t2)).max(0);
        let probe = Probe {
            offset_us: ((t2 - t1) + (t3 - t4)) / 2,
            round_trip_us: u64::try_from(round_trip).unwrap_or(u64::MAX),
        };
        if self.best.is_none_or(|best| probe.round_trip_us < best.round_trip_us) {
            self.best = Some(probe);
        }
    }

    /// Bound of the mapping's error in microseconds; none before the first probe.
    pub(crate) fn bound_us(&self) -> Option<u64> {
        self.best.map(|best| best.round_trip_us.div_ceil(2))
    }

    /// The local instant of a moment on the coordinator's clock; none before the first probe or for a moment that this
    /// clock can't express.
    pub(crate) fn local(&self, coordinator_us: u64) -> Option<Instant> {
        let local_us = u64::try_from(i128::from(coordinator_us) - self.best?.offset_us).ok()?;
        self.epoch.checked_add(Duration::from_micros(local_us))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_probe_with_the_least_round_trip_is_kept() {
        let mut sync = ClockSync::new();
        assert_eq!(sync.bound_us(), None);
        // The coordinator's clock is 1,000,000 ahead; the first probe's way back took 900 longer than its way there.
        sync.probed(100, 1_000_200, 1_000_210, 1_210);
        sync.probed(2_000, 1_002_050, 1_002_060, 2_110);
        sync.probed(3_000, 1_003_500, 1_003_510, 3_610);
        assert_eq!(sync.bound_us(), Some(50));
        let local = sync.local(1_005_000).unwrap();
        assert_eq!(local.duration_since(sync.epoch), Duration::from_micros(5_000));
    }

    #[tokio::test(start_paused = true)]
    async fn a_moment_before_this_clock_began_has_no_instant() {
        let mut sync = ClockSync::new();
        sync.probed(0, 1_000_000, 1_000_000, 0);
        assert!(sync.local(10).is_none());
    }
}
