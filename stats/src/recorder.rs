//! Recording on the path of a request: one recorder per worker thread, no locks.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::series::DenseSeries;
use crate::{Counters, Kind, Outcome, Phases, Room, Sample, Sockets, StepDelta, StepId};

/// Counts what happens on one thread until it is sealed.
///
/// Counting allocates only at the first sample of a step and kind, and at the first error of a class in a window.
/// Every method panics on a step that the recorder was not made for: steps come from the same plan.
#[derive(Debug)]
pub struct Recorder {
    steps: Vec<StepRecorder>,
    /// Steps that changed since the last seal, each once.
    changed: Vec<StepId>,
    rooms: BTreeMap<String, Room>,
}

#[derive(Debug, Default)]
struct StepRecorder {
    changed: bool,
    counters: Counters,
    series: [DenseSeries; Kind::COUNT],
    sockets: Sockets,
}

impl Recorder {
    /// A recorder for the steps `0..steps`.
    pub fn new(steps: usize) -> Self {
        let mut recorder = Recorder { steps: Vec::new(), changed: Vec::with_capacity(steps), rooms: BTreeMap::new() };
        recorder.steps.resize_with(steps, StepRecorder::default);
        recorder
    }

    /// The time of `n` operations came.
    pub fn scheduled(&mut self, step: StepId, n: u64) {
        count(&mut self.step(step).counters.scheduled, n);
    }

    /// An operation was handed to the transport.
    pub fn issued(&mut self, step: StepId) {
        count(&mut self.step(step).counters.issued, 1);
    }

    /// An operation ended.
    #[inline]
    pub fn finished(&mut self, sample: &Sample) {
        let StepRecorder { counters, series, .. } = self.step(sample.step);
        let response = match &sample.outcome {
            Outcome::Ok => {
                count(&mut counters.ok, 1);
                Kind::ResponseOk
            }
            Outcome::Error(class) => {
                count(&mut counters.errors, 1);
                match counters.errors_by_class.get_mut(class) {
                    Some(errors) => count(errors, 1),
                    None => drop(counters.errors_by_class.insert(class.clone(), 1)),
                }
                Kind::ResponseFailed
            }
            Outcome::Unsent(class) => {
                // Nothing was asked of the target, so there is no latency either. Where a redirect was followed, that went out.
                count(&mut counters.follow_ups, sample.follow_ups);
                return count(counters.unsent.entry(class.clone()).or_default(), 1);
            }
            Outcome::Timeout => {
                count(&mut counters.timeout, 1);
                Kind::ResponseFailed
            }
            Outcome::Aborted => {
                count(&mut counters.aborted, 1);
                Kind::ResponseFailed
            }
        };
        count(&mut counters.follow_ups, sample.follow_ups);
        count(&mut counters.bytes_sent, sample.bytes_sent);
        count(&mut counters.bytes_received, sample.bytes_received);
        series[response as usize].record(sample.response_us);
        series[Kind::Service as usize].record(sample.service_us);
        series[Kind::SendLag as usize].record(sample.send_lag_us);
        let Phases { queue_us, dns_us, connect_us, tls_us, first_byte_us, body_us } = sample.phases;
        let parts = [
            (Kind::Queue, queue_us),
            (Kind::Dns, dns_us),
            (Kind::Connect, connect_us),
            (Kind::Tls, tls_us),
            (Kind::FirstByte, first_byte_us),
            (Kind::Body, body_us),
        ];
        for (kind, part_us) in parts {
            if let Some(part_us) = part_us {
                series[kind as usize].record(part_us);
            }
        }
    }

    /// `n` operations were given up because they could not start in time.
    pub fn shed(&mut self, step: StepId, reason: &'static str, n: u64) {
        count(self.step(step).counters.shed.entry(Cow::Borrowed(reason)).or_default(), n);
    }

    /// `n` operations will not be started by anybody.
    pub fn not_generated(&mut self, step: StepId, reason: &'static str, n: u64) {
        count(self.step(step).counters.not_generated.entry(Cow::Borrowed(reason)).or_default(), n);
    }

    /// `n` WebSocket messages were sent; the bytes are those that no operation counts.
    pub fn messages_sent(&mut self, step: StepId, n: u64, bytes: u64) {
        let counters = &mut self.step(step).counters;
        count(&mut counters.messages_sent, n);
        count(&mut counters.bytes_sent, bytes);
    }

    /// `n` WebSocket messages of so many bytes together were received.
    pub fn messages_received(&mut self, step: StepId, n: u64, bytes: u64) {
        let counters = &mut self.step(step).counters;
        count(&mut counters.messages_received, n);
        count(&mut counters.bytes_received, bytes);
    }

    /// The WebSockets of a step, to be counted.
    pub fn sockets(&mut self, step: StepId) -> &mut Sockets {
        &mut self.step(step).sockets
    }

    /// A room, to be counted.
    pub fn room(&mut self, name: &str) -> &mut Room {
        self.rooms.entry(name.to_owned()).or_default()
    }

    /// Takes what happened in the rooms.
    pub fn seal_rooms(&mut self) -> BTreeMap<String, Room> {
        std::mem::take(&mut self.rooms)
    }

    /// Takes the figures of each step that changed and leaves the recorder empty, its allocations kept.
    pub fn seal(&mut self) -> BTreeMap<StepId, StepDelta> {
        let steps = &mut self.steps;
        self.changed.drain(..).map(|id| (id, steps[id.0 as usize].seal())).collect()
    }

    #[inline]
    fn step(&mut self, id: StepId) -> &mut StepRecorder {
        let step = &mut self.steps[id.0 as usize];
        if !step.changed {
            step.changed = true;
            self.changed.push(id);
        }
        step
    }
}

impl StepRecorder {
    fn seal(&mut self) -> StepDelta {
        self.changed = false;
        StepDelta {
            counters: std::mem::take(&mut self.counters),
            series: self.series.each_mut().map(DenseSeries::seal),
            sockets: std::mem::take(&mut self.sockets),
        }
    }
}

/// Counting one window by one never gets to the end of 64 bits; were a caller to pass an absurd number, the account would
/// no longer add up, which the verdict shows, but the load would go on.
#[inline]
fn count(counter: &mut u64, n: u64) {
    *counter = counter.saturating_add(n);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{STEPS, record, samples};
    use crate::{Delta, ErrorClass};

    #[test]
    fn every_event_ends_in_its_counter() {
        let mut recorder = Recorder::new(3);
        let step = StepId(2);
        recorder.scheduled(step, 10);
        (0..5).for_each(|_| recorder.issued(step));
        recorder.shed(step, "max_in_flight", 4);
        recorder.not_generated(step, "interrupted", 2);
        recorder.messages_sent(step, 3, 10);
        recorder.messages_received(step, 5, 100);
        let outcomes = [
            Outcome::Ok,
            Outcome::Error(ErrorClass::new("status_503")),
            Outcome::Timeout,
            Outcome::Aborted,
            Outcome::Unsent(ErrorClass::new("no_free_port")),
        ];
        for (outcome, response_us) in outcomes.into_iter().zip([10, 20, 30, 40, 50]) {
            recorder.finished(&Sample {
                step,
                response_us,
                service_us: response_us - 1,
                send_lag_us: 1,
                phases: Phases { connect_us: Some(3), first_byte_us: Some(5), body_us: Some(1), ..Phases::default() },
                outcome,
                follow_ups: 2,
                bytes_sent: 7,
                bytes_received: 9,
            });
        }
        let sealed = recorder.seal();
        assert_eq!(sealed.keys().collect::<Vec<_>>(), [&step]);
        let counters = Counters {
            scheduled: 10,
            issued: 5,
            ok: 1,
            errors: 1,
            timeout: 1,
            aborted: 1,
            errors_by_class: [(ErrorClass::new("status_503"), 1)].into(),
            unsent: [(ErrorClass::new("no_free_port"), 1)].into(),
            shed: [("max_in_flight".into(), 4)].into(),
            not_generated: [("interrupted".into(), 2)].into(),
            follow_ups: 10,
            messages_sent: 3,
            messages_received: 5,
            bytes_sent: 38,
            bytes_received: 136,
        };
        assert_eq!(sealed[&step].counters, counters);
        let figures = |kind| (sealed[&step].series(kind).count, sealed[&step].series(kind).sum_us);
        let expected = [(1, 10), (3, 90), (4, 96), (4, 4), (0, 0), (4, 12), (0, 0), (4, 20), (0, 0), (4, 4)];
        assert_eq!(Kind::ALL.map(figures), expected);
    }

    proptest! {
        // Each case records several traces into histograms of 94 KB.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn a_trace_over_many_recorders_and_windows_gives_the_same_figures_as_over_one(
            trace in samples(300), recorders in prop::sample::select(vec![1_usize, 2, 7, 16]), window in 1_usize..50, order in any::<u64>(),
        ) {
            let mut single = Recorder::new(STEPS);
            trace.iter().for_each(|sample| record(&mut single, sample));
            let mut many: Vec<Recorder> = (0..recorders).map(|_| Recorder::new(STEPS)).collect();
            let mut deltas = Vec::new();
            for (index, sample) in trace.iter().enumerate() {
                record(&mut many[index % recorders], sample);
                if index % window == 0 {
                    deltas.extend(many.iter_mut().map(Recorder::seal));
                }
            }
            deltas.extend(many.iter_mut().map(Recorder::seal));
            // Any order will do: a multiplicative hash of the index.
            let mut shuffled: Vec<_> = deltas.into_iter().enumerate().collect();
            shuffled.sort_by_key(|(index, _)| (*index as u64 ^ order).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let mut merged = Delta::default();
            for (_, steps) in shuffled {
                merged.add(&Delta { steps, ..Delta::default() }).unwrap();
            }
            prop_assert_eq!(merged.steps, single.seal());
        }

        #[test]
        fn a_second_seal_is_empty_and_the_next_window_starts_from_nothing(first in samples(50), second in samples(50)) {
            let mut recorder = Recorder::new(STEPS);
            first.iter().for_each(|sample| record(&mut recorder, sample));
            recorder.seal();
            prop_assert!(recorder.seal().is_empty());
            second.iter().for_each(|sample| record(&mut recorder, sample));
            let mut fresh = Recorder::new(STEPS);
            second.iter().for_each(|sample| record(&mut fresh, sample));
            prop_assert_eq!(recorder.seal(), fresh.seal());
        }
    }
}
