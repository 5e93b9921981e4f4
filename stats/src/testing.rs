//! What the tests of several modules share: values, samples and figures made the obvious way.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::{Buckets, Delta, ErrorClass, Layout, Outcome, Phases, Recorder, Sample, Series, StepId};

/// Steps of the samples that [`samples`] makes.
pub(crate) const STEPS: usize = 3;

/// Latencies of every magnitude, zero and values above the layout's range among them.
pub(crate) fn value_us() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => (0_u32..32, any::<u64>()).prop_map(|(bits, noise)| (1 << bits) + noise % (1 << bits)),
        1 => 0_u64..4,
        1 => Layout::STANDARD.high_us - 2..Layout::STANDARD.high_us * 3,
    ]
}

/// Up to so many samples of any outcome.
pub(crate) fn samples(most: usize) -> impl Strategy<Value = Vec<Sample>> {
    let outcome = prop_oneof![
        4 => Just(Outcome::Ok),
        1 => "[ab]".prop_map(|name| Outcome::Error(ErrorClass::new(name))),
        1 => Just(Outcome::Timeout),
        1 => Just(Outcome::Aborted),
    ];
    let sample = (0..STEPS as u32, value_us(), value_us(), outcome, 0_u64..100).prop_map(
        |(step, service_us, send_lag_us, outcome, bytes)| Sample {
            step: StepId(step),
            response_us: service_us + send_lag_us,
            service_us,
            send_lag_us,
            phases: Phases {
                connect_us: bytes.checked_sub(90),
                first_byte_us: Some(service_us / 2),
                body_us: Some(service_us / 4),
                ..Phases::default()
            },
            outcome,
            follow_ups: bytes % 3,
            bytes_sent: bytes,
            bytes_received: 2 * bytes,
        },
    );
    prop::collection::vec(sample, 0..most)
}

/// One operation from its schedule to its end.
pub(crate) fn record(recorder: &mut Recorder, sample: &Sample) {
    recorder.scheduled(sample.step, 1);
    recorder.issued(sample.step);
    recorder.finished(sample);
}

/// The delta of one recorder.
pub(crate) fn delta_of(trace: &[Sample]) -> Delta {
    let mut recorder = Recorder::new(STEPS);
    trace.iter().for_each(|sample| record(&mut recorder, sample));
    Delta { steps: recorder.seal(), ..Delta::default() }
}

/// Counted one by one.
pub(crate) fn buckets_of(values: &[u64]) -> Buckets {
    let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
    for value in values {
        *counts.entry(Layout::STANDARD.index_of(*value)).or_default() += 1;
    }
    Buckets::from_sorted(counts.into_iter().collect())
}

/// Summed one by one.
pub(crate) fn series_of(values: &[u64]) -> Series {
    Series {
        buckets: buckets_of(values),
        count: values.len() as u64,
        sum_us: values.iter().sum(),
        min_us: values.iter().copied().min().unwrap_or(0),
        max_us: values.iter().copied().max().unwrap_or(0),
        clamped: values.iter().filter(|value| **value > Layout::STANDARD.high_us).count() as u64,
    }
}
