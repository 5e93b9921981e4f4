//! Time in an agent: one monotonic clock, the run's time on it, and the coordinator's clock mapped to it.

use std::collections::VecDeque;
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

/// Probes that are kept: a minute of one a second, and those of the beginning.
const KEPT: usize = 80;
/// How much less exact an estimate gets with its age, in millionths: clocks drift apart by no more than this.
const DRIFT_PPM: u64 = 500;

/// This agent's clock, in microseconds since its own zero.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AgentClock {
    epoch: Instant,
}

impl AgentClock {
    pub(crate) fn new() -> Self {
        AgentClock { epoch: Instant::now() }
    }

    pub(crate) fn now_us(&self) -> u64 {
        micros(self.epoch.elapsed())
    }

    /// The instant at which this clock shows a time; none where the instant can't be expressed.
    pub(crate) fn instant(&self, us: u64) -> Option<Instant> {
        self.epoch.checked_add(Duration::from_micros(us))
    }

    /// The same of a time that may lie before this clock's zero.
    fn any_instant(&self, us: i128) -> Option<Instant> {
        let distance = Duration::from_micros(u64::try_from(us.unsigned_abs()).ok()?);
        if us < 0 { self.epoch.checked_sub(distance) } else { self.epoch.checked_add(distance) }
    }
}

/// An estimate of the coordinator's clock from probes, in the manner of NTP (RFC 5905, sections 8 and 10):
/// offset = ((t2 - t1) + (t3 - t4)) / 2, with an error of at most half the round trip, and of more the longer ago the
/// probe was. Of the last minute's probes the one that bounds the error best is used.
#[derive(Debug)]
pub(crate) struct ClockSync {
    clock: AgentClock,
    probes: VecDeque<Probe>,
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    /// When it was sent: the offset may be the one of any moment from then on.
    sent_us: u64,
    answered_us: u64,
    offset_us: i128,
    round_trip_us: u64,
}

/// How well the start that is kept agrees with the coordinator's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Agreement {
    /// By how much this agent's T0 is late, as measured; negative where it is early.
    pub(crate) skew_us: i64,
    /// The difference is at most this.
    pub(crate) bound_us: u64,
}

impl ClockSync {
    pub(crate) fn new(clock: AgentClock) -> Self {
        ClockSync { clock, probes: VecDeque::new() }
    }

    /// Takes in an answered probe: sent at `t1`, received there at `t2`, answered at `t3`, received here at `t4`.
    pub(crate) fn probed(&mut self, t1_us: u64, t2_us: u64, t3_us: u64, t4_us: u64) {
        let (t1, t2, t3, t4) = (i128::from(t1_us), i128::from(t2_us), i128::from(t3_us), i128::from(t4_us));
        let round_trip = ((t4 - t1) - (t3 - t2)).max(0);
        if self.probes.len() == KEPT {
            self.probes.pop_front();
        }
        self.probes.push_back(Probe {
            sent_us: t1_us,
            answered_us: t4_us,
            offset_us: ((t2 - t1) + (t3 - t4)) / 2,
            round_trip_us: u64::try_from(round_trip).unwrap_or(u64::MAX),
        });
    }

    /// The coordinator's clock is another one from now on.
    pub(crate) fn forget(&mut self) {
        self.probes.clear();
    }

    /// The probe that bounds the error best at the moment of the latest one, and that bound.
    fn best(&self) -> Option<(Probe, u64)> {
        let latest_us = self.probes.back()?.answered_us;
        let bound = |probe: &Probe| {
            let age_us = latest_us.saturating_sub(probe.sent_us);
            probe.round_trip_us.div_ceil(2).saturating_add(age_us.saturating_mul(DRIFT_PPM) / 1_000_000)
        };
        self.probes.iter().map(|probe| (*probe, bound(probe))).min_by_key(|(_, bound)| *bound)
    }

    /// Bound of the mapping's error in microseconds; none before the first probe.
    pub(crate) fn bound_us(&self) -> Option<u64> {
        self.best().map(|(_, bound)| bound)
    }

    /// The local instant of a moment on the coordinator's clock; none before the first probe or for a moment that this
    /// clock can't express. A run may have begun before this agent did.
    pub(crate) fn local(&self, coordinator_us: u64) -> Option<Instant> {
        self.clock.any_instant(i128::from(coordinator_us) - self.best()?.0.offset_us)
    }

    /// How well a start that was mapped earlier agrees with the coordinator's clock by what is known now.
    pub(crate) fn agreement(&self, coordinator_us: u64, kept: Instant) -> Option<Agreement> {
        let local = self.local(coordinator_us)?;
        let late = micros(kept.saturating_duration_since(local));
        let early = micros(local.saturating_duration_since(kept));
        let skew_us = i64::try_from(late).ok()? - i64::try_from(early).ok()?;
        Some(Agreement { skew_us, bound_us: self.bound_us()?.saturating_add(skew_us.unsigned_abs()) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_probe_with_the_least_round_trip_is_used() {
        let clock = AgentClock::new();
        let mut sync = ClockSync::new(clock);
        assert_eq!(sync.bound_us(), None);
        // The coordinator's clock is 1,000,000 ahead; the first probe's way back took 900 longer than its way there.
        sync.probed(100, 1_000_200, 1_000_210, 1_210);
        sync.probed(2_000, 1_002_050, 1_002_060, 2_110);
        sync.probed(3_000, 1_003_500, 1_003_510, 3_610);
        assert_eq!(sync.bound_us(), Some(50));
        let local = sync.local(1_005_000).unwrap();
        assert_eq!(local, clock.instant(5_000).unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_probe_gives_way_to_a_newer_one() {
        let mut sync = ClockSync::new(AgentClock::new());
        sync.probed(0, 1_000_010, 1_000_010, 20);
        assert_eq!(sync.bound_us(), Some(10));
        // Ten seconds later: 10 µs and 5 ms of drift against half a round trip of 400 µs.
        sync.probed(10_000_000, 11_000_200, 11_000_200, 10_000_400);
        assert_eq!(sync.bound_us(), Some(200));
    }

    #[tokio::test(start_paused = true)]
    async fn a_moment_before_this_clock_began_is_in_its_past() {
        let clock = AgentClock::new();
        let mut sync = ClockSync::new(clock);
        sync.probed(0, 1_000_000, 1_000_000, 0);
        assert_eq!(sync.local(10).unwrap() + Duration::from_micros(999_990), clock.instant(0).unwrap());
    }

    proptest! {
        /// Whatever the delays each way and a drift of up to 500 ppm: the true difference lies within the bound.
        #[test]
        fn the_true_difference_lies_within_the_bound(
            drift_ppm in -500_i64..=500, delays in prop::collection::vec((0_u64..200_000, 0_u64..200_000), 1..40),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let clock = AgentClock::new();
                let mut sync = ClockSync::new(clock);
                // The coordinator's clock when the agent's shows `us`.
                let drift = |us: u64| i128::from(us) * i128::from(drift_ppm) / 1_000_000;
                let there = |us: u64| u64::try_from(7_000_000_000 + i128::from(us) + drift(us)).unwrap();
                let mut kept = None;
                for (nth, (out, back)) in delays.iter().enumerate() {
                    let t1 = nth as u64 * 1_000_000;
                    let t4 = t1 + out + back;
                    sync.probed(t1, there(t1 + out), there(t1 + out), t4);
                    // T0 is what the agent's clock shows at 100 s, as it was estimated first.
                    let t0 = there(100_000_000);
                    let local = *kept.get_or_insert_with(|| sync.local(t0).unwrap());
                    let agreement = sync.agreement(t0, local).unwrap();
                    // At the latest probe: the offset that is true now, applied to T0.
                    let offset_now = i128::from(there(t4)) - i128::from(t4);
                    let true_t0 = i128::from(t0) - offset_now;
                    let kept_us = i128::from(micros(local - clock.instant(0).unwrap()));
                    let error = (kept_us - true_t0).unsigned_abs();
                    assert!(error <= u128::from(agreement.bound_us) + 2, "{error} {agreement:?}");
                }
            });
        }
    }
}
