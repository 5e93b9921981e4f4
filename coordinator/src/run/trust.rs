//! Whether an agent's figures can be trusted: is it the target that they show, or the agent itself?
//!
//! Judged window by window for each agent, as `docs/figures.md` defines it: p99 of the send lag above the limit, or a
//! worker without CPU to spare. What the target did in such a window can't be told from what the agent did.

use std::time::Duration;

use groundswell_stats::{Delta, Distribution, Kind, Overflow, StepId};

use super::event::Health;
use super::judge::RESPONSE;

/// Least operations of a window that is judged. Shorter windows are taken together.
const LEAST_OPERATIONS: u64 = 100;
/// Least operations of a window that have to be late: one or two are a hiccup of the machine, though in a window of a
/// hundred they are its p99.
const LEAST_LATE: f64 = 5.0;
/// The limit of the send lag: so much …
const LAG_LIMIT: Duration = Duration::from_millis(1);
/// … or this part of the median response time, whichever is more.
const LAG_PART: f64 = 0.05;
/// A worker that uses this much of a core, in thousandths, has nothing to spare.
const SATURATED_PERMILLE: u32 = 950;
/// CPU that was taken away counts as a cause from this part on, in thousandths.
const TAKEN_PERMILLE: u32 = 50;
/// A worker that waits this long for a CPU, in thousandths, shares it with others.
const WAITING_PERMILLE: u32 = 100;

/// What an agent showed of itself.
#[derive(Debug, Default)]
pub(super) struct Trust {
    open: Window,
    pub(super) doubts: Vec<Doubt>,
    /// Operations judged.
    pub(super) judged: u64,
    /// Operations in windows that are not in doubt, but in which others took CPU from the agent.
    pub(super) crowded: u64,
}

#[derive(Debug, Default)]
struct Window {
    from_us: Option<u64>,
    to_us: u64,
    lag: Distribution,
    response: Distribution,
    health: Health,
}

/// A window whose figures can't be trusted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Doubt {
    pub(super) from_us: u64,
    pub(super) to_us: u64,
    pub(super) operations: u64,
    pub(super) cause: Cause,
    /// p99 of the send lag.
    pub(super) lag_us: u64,
    pub(super) lag_limit_us: u64,
    pub(super) health: Health,
}

/// Why an agent was too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// A CPU quota held it back.
    Quota,
    /// The hypervisor gave its CPU to others.
    Steal,
    /// Its busiest worker had nothing to spare.
    Saturated,
    /// Other processes took the CPU.
    Shared,
    /// It did not run, or not in time, though there was CPU.
    Stalled,
}

impl Trust {
    /// Takes in one window; `limit` is the plan's own for the send lag. What belongs to no figure (the warm-up) is left out.
    pub(super) fn absorb(
        &mut self,
        delta: &Delta,
        health: Health,
        limit: Option<Duration>,
        is_measured: impl Fn(StepId) -> bool,
    ) -> Result<(), Overflow> {
        let measured = || delta.steps.iter().filter(|(step, _)| is_measured(**step)).map(|(_, step)| step);
        if measured().next().is_none() {
            return Ok(());
        }
        self.open.from_us.get_or_insert(delta.from_us);
        self.open.to_us = delta.to_us;
        measured().try_for_each(|step| self.open.lag.add(step.series(Kind::SendLag)))?;
        self.open.health = self.open.health.worst(health);
        let is_over = self.open.lag.count() >= LEAST_OPERATIONS;
        // Response times only say how much more lag than the least limit is none, and of most windows nobody asks that.
        if !is_over || self.open.is_suspect(limit.unwrap_or(LAG_LIMIT)) {
            let responses = measured().flat_map(|step| RESPONSE.map(|kind| step.series(kind)));
            responses.into_iter().try_for_each(|series| self.open.response.add(series))?;
        }
        if is_over {
            self.close(limit);
        }
        Ok(())
    }

    /// Judges what is left of the last window.
    pub(super) fn close(&mut self, limit: Option<Duration>) {
        let window = std::mem::take(&mut self.open);
        let (operations, is_crowded) = (window.lag.count(), window.health.is_crowded());
        self.judged += operations;
        match window.judge(limit) {
            Some(doubt) => self.doubts.push(doubt),
            None if is_crowded => self.crowded += operations,
            None => {}
        }
    }

    /// Operations in windows that can't be trusted.
    pub(super) fn doubted(&self) -> u64 {
        self.doubts.iter().map(|doubt| doubt.operations).sum()
    }
}

impl Window {
    /// With this limit of the send lag, was it too slow?
    fn is_suspect(&self, limit: Duration) -> bool {
        let late_part = (LEAST_LATE / self.lag.count() as f64).clamp(0.01, 1.0);
        let lag = Duration::from_micros(self.lag.quantile_us(1.0 - late_part));
        lag > limit || self.health.cpu_permille >= SATURATED_PERMILLE
    }

    fn judge(self, limit: Option<Duration>) -> Option<Doubt> {
        if self.lag.count() == 0 {
            return None;
        }
        let part = Duration::from_micros((self.response.quantile_us(0.5) as f64 * LAG_PART) as u64);
        let limit = limit.unwrap_or(LAG_LIMIT.max(part));
        if !self.is_suspect(limit) {
            return None;
        }
        let lag_us = self.lag.quantile_us(0.99);
        let lag_limit_us = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        Some(Doubt {
            from_us: self.from_us.unwrap_or(0),
            to_us: self.to_us,
            operations: self.lag.count(),
            cause: self.health.cause(),
            lag_us,
            lag_limit_us,
            health: self.health,
        })
    }
}

impl Health {
    fn worst(self, other: Health) -> Health {
        Health {
            cpu_permille: self.cpu_permille.max(other.cpu_permille),
            cpu_wait_permille: self.cpu_wait_permille.max(other.cpu_wait_permille),
            steal_permille: self.steal_permille.max(other.steal_permille),
            throttled_permille: self.throttled_permille.max(other.throttled_permille),
            machine_permille: self.machine_permille.max(other.machine_permille),
            users: self.users.max(other.users),
            clock_bound_us: self.clock_bound_us.max(other.clock_bound_us),
            clock_skew_us: other.clock_skew_us,
            held_operations: self.held_operations.saturating_add(other.held_operations),
        }
    }

    /// Others took CPU from the agent, though nothing was late for it.
    fn is_crowded(self) -> bool {
        let waited = self.cpu_wait_permille >= WAITING_PERMILLE && self.machine_permille >= SATURATED_PERMILLE;
        waited || self.steal_permille >= TAKEN_PERMILLE
    }

    fn cause(self) -> Cause {
        if self.throttled_permille >= TAKEN_PERMILLE {
            Cause::Quota
        } else if self.steal_permille >= TAKEN_PERMILLE {
            Cause::Steal
        } else if self.cpu_permille >= SATURATED_PERMILLE {
            Cause::Saturated
        } else if self.cpu_wait_permille >= WAITING_PERMILLE || self.machine_permille >= SATURATED_PERMILLE {
            Cause::Shared
        } else {
            Cause::Stalled
        }
    }
}

impl Doubt {
    /// What happened and what to do about it.
    pub(super) fn text(&self) -> String {
        let percent = |permille: u32| f64::from(permille) / 10.0;
        let lag = format!(
            "p99 send lag {:.1} ms, the limit is {:.1} ms",
            self.lag_us as f64 / 1e3,
            self.lag_limit_us as f64 / 1e3
        );
        let health = self.health;
        match self.cause {
            Cause::Quota => format!(
                "a CPU quota held it back for {:.0} % of the time ({lag}); raise the quota, or use more agents",
                percent(health.throttled_permille)
            ),
            Cause::Steal => format!(
                "the hypervisor gave {:.0} % of its CPU to others ({lag}); use a machine that is not shared, or more agents",
                percent(health.steal_permille)
            ),
            Cause::Saturated => format!(
                "its busiest worker used {:.0} % of a core ({lag}); use more worker threads, cores or agents",
                percent(health.cpu_permille)
            ),
            Cause::Shared => format!(
                "its machine was {:.0} % busy, and a worker waited {:.0} % of the time for a CPU that others used ({lag}); \
                 give the agent a machine of its own, or use more agents",
                percent(health.machine_permille),
                percent(health.cpu_wait_permille)
            ),
            Cause::Stalled => format!(
                "it sent late though it had CPU to spare ({lag}): it was stopped or swapped out, or much was due at the same \
                 moment; look at its machine, spread the users, or use more agents"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use groundswell_stats::{Outcome, Phases, Recorder, Sample};

    use super::*;

    const STEP: StepId = StepId(0);

    /// One second with so many operations of 10 ms, each sent this late.
    fn window(second: u64, operations: u64, lag_us: u64) -> Delta {
        let mut recorder = Recorder::new(1);
        for _ in 0..operations {
            recorder.scheduled(STEP, 1);
            recorder.issued(STEP);
            recorder.finished(&Sample {
                step: STEP,
                response_us: 10_000 + lag_us,
                service_us: 10_000,
                send_lag_us: lag_us,
                phases: Phases::default(),
                outcome: Outcome::Ok,
                follow_ups: 0,
                bytes_sent: 0,
                bytes_received: 0,
            });
        }
        Delta {
            from_us: second * 1_000_000,
            to_us: (second + 1) * 1_000_000,
            steps: recorder.seal(),
            ..Delta::default()
        }
    }

    fn judged(windows: &[Delta], health: Health, limit: Option<Duration>) -> Trust {
        let mut trust = Trust::default();
        windows.iter().for_each(|window| trust.absorb(window, health, limit, |_| true).unwrap());
        trust.close(limit);
        trust
    }

    #[test]
    fn a_late_window_is_in_doubt_and_the_others_are_not() {
        let windows: Vec<Delta> =
            (0..5).map(|second| window(second, 200, if second == 3 { 1_500 } else { 900 })).collect();
        let trust = judged(&windows, Health::default(), None);
        assert_eq!((trust.judged, trust.doubted()), (1_000, 200));
        let doubt = &trust.doubts[0];
        assert_eq!((doubt.from_us, doubt.to_us, doubt.cause), (3_000_000, 4_000_000, Cause::Stalled));
        assert_eq!(doubt.lag_limit_us, 1_000);
    }

    #[test]
    fn slow_targets_allow_more_lag_and_a_plan_may_set_its_own_limit() {
        let mut slow = window(0, 200, 1_500);
        let series = &mut slow.steps.get_mut(&STEP).unwrap().series;
        series[Kind::ResponseOk as usize] = window(0, 200, 40_000).steps[&STEP].series(Kind::ResponseOk).clone();
        assert!(judged(&[slow.clone()], Health::default(), None).doubts.is_empty(), "5 % of 50 ms are 2.5 ms");
        assert_eq!(judged(&[slow], Health::default(), Some(Duration::from_micros(100))).doubts.len(), 1);
        assert!(judged(&[window(0, 200, 40_000)], Health::default(), Some(Duration::from_secs(1))).doubts.is_empty());
    }

    #[test]
    fn short_windows_are_judged_together_and_the_last_one_too() {
        // 60 operations of a second are too few for a p99, so two seconds are one window.
        let windows: Vec<Delta> =
            (0..3).map(|second| window(second, 60, if second == 2 { 5_000 } else { 10 })).collect();
        let trust = judged(&windows, Health::default(), None);
        assert_eq!((trust.judged, trust.doubted()), (180, 60));
        assert!(judged(&[window(0, 0, 0)], Health::default(), None).doubts.is_empty());
    }

    #[test]
    fn a_hiccup_of_two_operations_is_no_doubt() {
        let with_late = |late: u64| {
            let mut delta = window(0, 100 - late, 10);
            let (step, of_late) = (delta.steps.get_mut(&STEP).unwrap(), window(0, late, 9_000));
            step.add(&of_late.steps[&STEP]).unwrap();
            judged(&[delta], Health::default(), None).doubts.len()
        };
        assert_eq!((with_late(2), with_late(5), with_late(6)), (0, 0, 1));
    }

    #[test]
    fn the_likeliest_cause_is_named_with_what_to_do() {
        let cases = [
            (
                Health { throttled_permille: 400, cpu_permille: 600, cpu_wait_permille: 400, ..Health::default() },
                Cause::Quota,
            ),
            (Health { steal_permille: 80, cpu_wait_permille: 300, ..Health::default() }, Cause::Steal),
            (Health { cpu_permille: 980, machine_permille: 990, ..Health::default() }, Cause::Saturated),
            (Health { cpu_wait_permille: 350, machine_permille: 1000, ..Health::default() }, Cause::Shared),
            (Health { cpu_permille: 20, ..Health::default() }, Cause::Stalled),
        ];
        let texts: Vec<String> = cases
            .into_iter()
            .map(|(health, cause)| {
                let trust = judged(&[window(0, 200, 12_345)], health, None);
                assert_eq!(trust.doubts[0].cause, cause);
                trust.doubts[0].text()
            })
            .collect();
        insta::assert_snapshot!(texts.join("\n"));
    }

    /// In a closed load a worker that has to wait for a CPU is not late, but its target looks slower.
    #[test]
    fn a_machine_that_others_fill_is_noticed_though_nothing_was_late() {
        let crowded = |health| judged(&[window(0, 200, 10)], health, None);
        let full = Health { cpu_wait_permille: 200, machine_permille: 990, ..Health::default() };
        assert_eq!((crowded(full).crowded, crowded(full).doubts.len()), (200, 0));
        assert_eq!(crowded(Health { steal_permille: 60, ..Health::default() }).crowded, 200);
        assert_eq!(crowded(Health { machine_permille: 990, ..Health::default() }).crowded, 0, "nobody waited");
    }

    #[test]
    fn a_saturated_worker_is_in_doubt_though_nothing_was_late() {
        let busy = Health { cpu_permille: 960, ..Health::default() };
        assert_eq!(judged(&[window(0, 200, 10)], busy, None).doubts[0].cause, Cause::Saturated);
    }
}
