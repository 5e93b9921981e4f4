//! Figures over time.

use std::collections::BTreeMap;

use crate::buckets::sum;
use crate::counters::{add_words, words_fit};
use crate::{Counters, Delta, Distribution, ErrorClass, Kind, Overflow, Series, StepDelta, StepId};

/// Most intervals; one more halves the resolution. A quarter of an hour at a second each.
const SLOTS: u64 = 900;
const US_PER_S: u64 = 1_000_000;

/// The figures of each interval and step, bounded whatever the length of the run; beside them, where they are asked for,
/// the last seconds one by one with every kind of latency.
///
/// A delta counts for the second its window starts in, also one that covers more (an agent whose link was down).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// Length of every interval: a power of two.
    length_s: u64,
    slots: BTreeMap<u64, Slot>,
    /// The last `recent_s` seconds.
    recent: BTreeMap<u64, BTreeMap<StepId, StepDelta>>,
    recent_s: u64,
    /// Counts what was absorbed.
    changes: u64,
}

/// One interval.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Slot {
    steps: BTreeMap<StepId, Figures>,
    /// Users at work, summed over agents, times the microseconds for which they were.
    user_us: u128,
    /// The change that touched it last.
    changed: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Figures {
    issued: u64,
    ok: u64,
    failed: u64,
    unsent: u64,
    shed: u64,
    opened: u64,
    closed: u64,
    failures: BTreeMap<ErrorClass, u64>,
    timeouts: u64,
    response: Series,
    service: Series,
}

/// One interval of the run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// Its start, in seconds of the run.
    pub from_s: u64,
    /// Its length in seconds.
    pub length_s: u64,
    /// Users at work, on average over the interval.
    pub users: f64,
}

/// One step in one interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point<'a> {
    /// Start of the interval, in seconds of the run.
    pub from_s: u64,
    /// Its length in seconds.
    pub length_s: u64,
    /// The step.
    pub step: StepId,
    /// Operations issued.
    pub issued: u64,
    /// Operations that ended well.
    pub ok: u64,
    /// Operations that failed: errors, timeouts and aborted ones.
    pub failed: u64,
    /// Operations that never left an agent because of its own limits.
    pub unsent: u64,
    /// Operations shed.
    pub shed: u64,
    /// Operations that ran into their limit; they are among the failed.
    pub timeouts: u64,
    /// Operations that ended with an error, by class; they are among the failed.
    pub errors_by_class: &'a BTreeMap<ErrorClass, u64>,
    /// WebSockets opened.
    pub opened: u64,
    /// WebSockets that ended.
    pub closed: u64,
    /// Response times, whatever the outcome.
    pub response: &'a Series,
    /// Service times.
    pub service: &'a Series,
}

/// The figures of the last seconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Window {
    /// The account.
    pub counters: Counters,
    /// The latencies.
    pub latency: Distribution,
}

impl Timeline {
    /// Nothing yet, at a second each, with windows of up to so many seconds: each of these costs as much as the totals.
    pub fn with_windows_of(recent_s: u64) -> Self {
        Timeline { length_s: 1, slots: BTreeMap::new(), recent: BTreeMap::new(), recent_s, changes: 0 }
    }

    /// Adds a delta. A delta that [`crate::Totals`] took never overflows here; if one does, part of it may be added.
    pub fn absorb(&mut self, delta: &Delta) -> Result<(), Overflow> {
        if delta.is_empty() {
            return Ok(());
        }
        let second = delta.from_us / US_PER_S;
        self.absorb_recent(second, delta)?;
        let slot = self.slot(second)?;
        for (id, step) in &delta.steps {
            slot.steps.entry(*id).or_default().absorb(step)?;
        }
        Ok(())
    }

    /// So many users were at work at one agent from one microsecond of the run to another.
    ///
    /// # Errors
    /// As [`Timeline::absorb`].
    pub fn absorb_users(&mut self, from_us: u64, to_us: u64, users: u32) -> Result<(), Overflow> {
        // A window of hours (an agent whose link was down) is spread over its intervals, never over more than there are.
        let (mut from, mut slots) = (from_us, 0);
        while from < to_us && slots < SLOTS {
            let second = from / US_PER_S;
            self.slot(second)?;
            let end = (second / self.length_s + 1).saturating_mul(self.length_s).saturating_mul(US_PER_S).min(to_us);
            let slot = self.slot(second)?;
            slot.user_us = slot.user_us.saturating_add(u128::from(users) * u128::from(end - from));
            (from, slots) = (end, slots + 1);
        }
        Ok(())
    }

    /// The interval of a second, marked as changed.
    fn slot(&mut self, second: u64) -> Result<&mut Slot, Overflow> {
        while second / self.length_s >= SLOTS {
            self.halve()?;
        }
        self.changes += 1;
        let slot = self.slots.entry(second / self.length_s).or_default();
        slot.changed = self.changes;
        Ok(slot)
    }

    /// Every interval in which something happened, by time.
    pub fn spans(&self) -> impl Iterator<Item = Span> + '_ {
        self.slots.iter().map(|(index, slot)| self.span(*index, slot))
    }

    /// The intervals that changed after the change of that number. Their starts are multiples of [`Timeline::length_s`]:
    /// where that has grown, all have changed.
    pub fn changed_since(&self, change: u64) -> impl Iterator<Item = Span> + '_ {
        let changed = self.slots.iter().filter(move |(_, slot)| slot.changed > change);
        changed.map(|(index, slot)| self.span(*index, slot))
    }

    /// How many changes there have been.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Length of every interval in seconds.
    pub fn length_s(&self) -> u64 {
        self.length_s
    }

    fn span(&self, index: u64, slot: &Slot) -> Span {
        let length_us = self.length_s.saturating_mul(US_PER_S);
        Span {
            from_s: index.saturating_mul(self.length_s),
            length_s: self.length_s,
            users: slot.user_us as f64 / length_us as f64,
        }
    }

    /// Every step in every interval in which something happened, by time, then by step.
    pub fn points(&self) -> impl Iterator<Item = Point<'_>> {
        self.slots.iter().flat_map(|(index, slot)| self.points_of(*index, slot))
    }

    /// Every step in the interval that starts at a second.
    pub fn points_at(&self, from_s: u64) -> impl Iterator<Item = Point<'_>> {
        let index = from_s / self.length_s;
        self.slots.get(&index).into_iter().flat_map(move |slot| self.points_of(index, slot))
    }

    fn points_of<'t>(&'t self, index: u64, slot: &'t Slot) -> impl Iterator<Item = Point<'t>> {
        slot.steps.iter().map(move |(step, figures)| Point {
            from_s: index * self.length_s,
            length_s: self.length_s,
            step: *step,
            issued: figures.issued,
            ok: figures.ok,
            failed: figures.failed,
            unsent: figures.unsent,
            shed: figures.shed,
            timeouts: figures.timeouts,
            errors_by_class: &figures.failures,
            opened: figures.opened,
            closed: figures.closed,
            response: &figures.response,
            service: &figures.service,
        })
    }

    /// The figures of these steps in the `length_s` seconds (no more than the timeline was made for) before `now_s`, in
    /// seconds of the run: `now_s - length_s` up to but without `now_s` itself. At one second each, however long the run
    /// is.
    pub fn window(
        &self,
        length_s: u64,
        now_s: u64,
        steps: impl IntoIterator<Item = StepId>,
        kinds: &[Kind],
    ) -> Result<Window, Overflow> {
        let mut window = Window::default();
        let steps: Vec<StepId> = steps.into_iter().collect();
        for second in self.recent.range(now_s.saturating_sub(length_s)..now_s).map(|(_, second)| second) {
            for step in steps.iter().filter_map(|step| second.get(step)) {
                window.counters.add(&step.counters)?;
                window.latency.merge(&Distribution::of(kinds.iter().map(|kind| step.series(*kind)))?)?;
            }
        }
        Ok(window)
    }

    fn absorb_recent(&mut self, second: u64, delta: &Delta) -> Result<(), Overflow> {
        if self.recent_s == 0 {
            return Ok(());
        }
        let steps = self.recent.entry(second).or_default();
        for (id, step) in &delta.steps {
            steps.entry(*id).or_default().add(step)?;
        }
        let newest = self.recent.last_key_value().map_or(0, |(newest, _)| *newest);
        self.recent = self.recent.split_off(&(newest + 1).saturating_sub(self.recent_s));
        Ok(())
    }

    /// Makes every two neighbouring intervals one.
    fn halve(&mut self) -> Result<(), Overflow> {
        self.length_s *= 2;
        self.changes += 1;
        for (index, slot) in std::mem::take(&mut self.slots) {
            let pair = self.slots.entry(index / 2).or_default();
            pair.changed = self.changes;
            pair.user_us = pair.user_us.saturating_add(slot.user_us);
            for (id, figures) in slot.steps {
                pair.steps.entry(id).or_default().add(&figures)?;
            }
        }
        Ok(())
    }
}

impl Figures {
    fn absorb(&mut self, step: &StepDelta) -> Result<(), Overflow> {
        let counters = &step.counters;
        self.add_counts(&Figures {
            issued: counters.issued,
            ok: counters.ok,
            failed: counters.failed(),
            unsent: counters.unsent_in_all(),
            shed: counters.shed_in_all(),
            opened: step.sockets.opened,
            closed: step.sockets.closed_in_all(),
            timeouts: counters.timeout,
            ..Figures::default()
        })?;
        self.add_failures(&counters.errors_by_class)?;
        Kind::RESPONSE.into_iter().try_for_each(|kind| self.response.merge(step.series(kind)))?;
        self.service.merge(step.series(Kind::Service))
    }

    fn add(&mut self, other: &Figures) -> Result<(), Overflow> {
        self.add_counts(other)?;
        self.add_failures(&other.failures)?;
        self.response.merge(&other.response)?;
        self.service.merge(&other.service)
    }

    /// Those that are one number.
    fn add_counts(&mut self, other: &Figures) -> Result<(), Overflow> {
        self.issued = sum("issued", self.issued, other.issued)?;
        self.ok = sum("ok", self.ok, other.ok)?;
        self.failed = sum("failed", self.failed, other.failed)?;
        self.unsent = sum("unsent", self.unsent, other.unsent)?;
        self.shed = sum("shed", self.shed, other.shed)?;
        self.opened = sum("opened", self.opened, other.opened)?;
        self.closed = sum("closed", self.closed, other.closed)?;
        self.timeouts = sum("timeout", self.timeouts, other.timeouts)?;
        Ok(())
    }

    fn add_failures(&mut self, failures: &BTreeMap<ErrorClass, u64>) -> Result<(), Overflow> {
        words_fit("errors by class", &self.failures, failures)?;
        add_words(&mut self.failures, failures);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{STEPS, delta_of, samples, series_of};
    use crate::{Outcome, Phases, Sample};

    fn steps() -> impl Iterator<Item = StepId> {
        (0..STEPS as u32).map(StepId)
    }

    /// One operation of so many microseconds in a second of the run.
    fn second(second: u64, response_us: u64) -> Delta {
        let sample = Sample {
            step: StepId(1),
            response_us,
            service_us: response_us,
            send_lag_us: 0,
            phases: Phases::default(),
            outcome: Outcome::Ok,
            follow_ups: 0,
            bytes_sent: 0,
            bytes_received: 0,
        };
        Delta { from_us: second * US_PER_S + 999_999, to_us: (second + 2) * US_PER_S, ..delta_of(&[sample]) }
    }

    #[test]
    fn a_long_run_keeps_a_bounded_number_of_intervals_and_every_operation() {
        let mut timeline = Timeline::with_windows_of(60);
        for at in 0..5000 {
            timeline.absorb(&second(at, at)).unwrap();
        }
        let points: Vec<_> = timeline.points().collect();
        assert!(points.len() <= SLOTS as usize);
        assert!(points.iter().all(|point| point.length_s == 8 && point.from_s % 8 == 0));
        assert_eq!(points.iter().map(|point| point.issued).sum::<u64>(), 5000);
        assert_eq!(points[3].response, &series_of(&(24..32).collect::<Vec<_>>()));
    }

    #[test]
    fn a_window_holds_the_seconds_before_now_one_by_one_even_in_a_long_run() {
        let mut timeline = Timeline::with_windows_of(60);
        for at in 0..5000 {
            timeline.absorb(&second(at, at)).unwrap();
        }
        for length in [1, 10, 60] {
            let window = timeline.window(length, 5000, steps(), &[Kind::ResponseOk]).unwrap();
            assert_eq!(window.counters.issued, length);
            assert_eq!((window.latency.min_us(), window.latency.max_us()), (5000 - length, 4999));
        }
        let without = timeline.window(60, 5000, [StepId(0)], &[Kind::ResponseOk]).unwrap();
        assert_eq!(without, Window::default());
        assert_eq!(timeline.window(1, 4990, steps(), &[Kind::Service]).unwrap().latency.sum_us(), 4989);
    }

    #[test]
    fn what_comes_too_late_for_the_last_minute_still_is_in_the_timeline() {
        let mut timeline = Timeline::with_windows_of(60);
        for at in [100, 40, 41] {
            timeline.absorb(&second(at, 1)).unwrap();
        }
        assert_eq!(timeline.points().map(|point| point.from_s).collect::<Vec<_>>(), [40, 41, 100]);
        assert_eq!(timeline.window(60, 101, steps(), &[]).unwrap().counters.issued, 2);
        assert_eq!(timeline.window(101, 101, steps(), &[]).unwrap().counters.issued, 2, "40 s is not kept");
    }

    #[test]
    fn users_are_an_average_over_the_interval_and_over_agents_a_sum() {
        let mut timeline = Timeline::with_windows_of(60);
        timeline.absorb_users(0, 1_500_000, 10).unwrap();
        timeline.absorb_users(500_000, 1_000_000, 4).unwrap();
        let spans: Vec<(u64, f64)> = timeline.spans().map(|span| (span.from_s, span.users)).collect();
        assert_eq!(spans, [(0, 12.0), (1, 5.0)]);
        timeline.absorb_users(0, u64::MAX, 1).unwrap();
        assert!(
            timeline.spans().count() <= SLOTS as usize,
            "a window without end takes no more intervals than there are"
        );
    }

    #[test]
    fn whoever_watches_sees_each_change_once_and_all_when_intervals_grow() {
        let mut timeline = Timeline::with_windows_of(60);
        timeline.absorb(&second(3, 1)).unwrap();
        timeline.absorb(&second(5, 1)).unwrap();
        let starts =
            |timeline: &Timeline, since| timeline.changed_since(since).map(|span| span.from_s).collect::<Vec<_>>();
        assert_eq!(starts(&timeline, 0), [3, 5]);
        let seen = timeline.changes();
        assert!(starts(&timeline, seen).is_empty());
        timeline.absorb(&second(3, 1)).unwrap();
        assert_eq!(starts(&timeline, seen), [3], "late figures change an interval that was seen");
        let seen = timeline.changes();
        timeline.absorb(&second(900, 1)).unwrap();
        assert_eq!((starts(&timeline, seen), timeline.length_s()), (vec![2, 4, 900], 2));
        assert_eq!(timeline.points_at(2).map(|point| point.issued).sum::<u64>(), 2);
    }

    #[test]
    fn a_second_at_the_end_of_time_is_bounded_too() {
        let mut timeline = Timeline::with_windows_of(60);
        timeline.absorb(&Delta { from_us: u64::MAX, to_us: u64::MAX, ..second(0, 1) }).unwrap();
        timeline.absorb(&second(0, 1)).unwrap();
        assert_eq!(timeline.points().map(|point| point.issued).sum::<u64>(), 2);
    }

    proptest! {
        // Each case records several traces into histograms of 94 KB.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn the_order_of_deltas_does_not_matter_and_the_intervals_add_up(
            traces in prop::collection::vec((0_u64..3000, samples(20)), 1..12),
        ) {
            let deltas: Vec<_> =
                traces.iter().map(|(second, trace)| Delta { from_us: second * US_PER_S, ..delta_of(trace) }).collect();
            let (mut forth, mut back) = (Timeline::with_windows_of(60), Timeline::with_windows_of(60));
            deltas.iter().try_for_each(|delta| forth.absorb(delta)).unwrap();
            deltas.iter().rev().try_for_each(|delta| back.absorb(delta)).unwrap();
            prop_assert_eq!(forth.points().collect::<Vec<_>>(), back.points().collect::<Vec<_>>());
            prop_assert_eq!(
                forth.window(60, 3000, steps(), &Kind::ALL).unwrap(), back.window(60, 3000, steps(), &Kind::ALL).unwrap()
            );
            let samples = traces.iter().map(|(_, trace)| trace.len() as u64).sum::<u64>();
            prop_assert_eq!(forth.points().map(|point| point.response.count).sum::<u64>(), samples);
            prop_assert_eq!(forth.points().map(|point| point.ok + point.failed).sum::<u64>(), samples);
        }
    }
}
