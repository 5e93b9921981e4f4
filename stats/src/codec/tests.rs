//! Tests of the wire form: agreement with the crate's, and bytes that lie.
#![allow(clippy::unwrap_used, reason = "tests")]

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use proptest::prelude::*;

use super::*;
use crate::testing::{series_of, value_us};

/// What the crate's own recording and serializing gives for values within the layout.
fn crates_bytes(values: &[u64]) -> Vec<u8> {
    let mut histogram = Histogram::<u64>::new_with_bounds(1, Layout::STANDARD.high_us, 3).unwrap();
    for value in values {
        histogram.record((*value).min(Layout::STANDARD.high_us)).unwrap();
    }
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(&histogram, &mut bytes).unwrap();
    bytes
}

/// A message with a right header and this payload.
fn message(payload: &[i64]) -> Vec<u8> {
    let mut bytes = encode(&Buckets::default());
    bytes.truncate(HEADER_BYTES);
    for number in payload {
        write_number(&mut bytes, *number);
    }
    let length = u32::try_from(bytes.len() - HEADER_BYTES).unwrap();
    bytes[4..8].copy_from_slice(&length.to_be_bytes());
    bytes
}

#[test]
fn every_field_of_the_header_must_be_the_layouts() {
    let series = series_of(&[1, 2, 3]);
    let bytes = encode(&series.buckets);
    let fields = [(0, "cookie"), (4, "payload length"), (8, "normalizing index offset"), (12, "significant digits")];
    let long = [(16, "lowest value"), (24, "highest value"), (32, "conversion ratio")];
    for (offset, name) in fields.into_iter().chain(long) {
        let mut wrong = bytes.clone();
        wrong[offset + 3] ^= 1;
        let refused = decode(&wrong, &(&series).into()).unwrap_err();
        assert!(matches!(refused, InvalidSeries::Header { field, .. } if field == name), "{refused}");
    }
}

#[test]
fn a_header_that_asks_for_a_gigabyte_is_refused_by_its_length() {
    let mut bytes = message(&[]);
    bytes[4..8].copy_from_slice(&0x4000_0000_u32.to_be_bytes());
    let refused = decode(&bytes, &Declared::default()).unwrap_err();
    assert_eq!(refused.to_string(), "histogram header: payload length is 0x40000000, not 0x0");
}

#[test]
fn counts_that_would_saturate_are_refused_whatever_is_declared() {
    let bytes = message(&[i64::MAX; 4]);
    for count in [0, 4, u64::MAX] {
        let declared = Declared { count, max_us: 3, sum_us: 6, ..Declared::default() };
        let refused = decode(&bytes, &declared).unwrap_err();
        assert_eq!(refused, InvalidSeries::Count { counted: 4 * i64::MAX as u128, declared: count });
    }
}

#[test]
fn no_run_and_no_count_may_pass_the_last_bin() {
    let bins = Layout::STANDARD.bins() as i64;
    for payload in [&[-bins - 1][..], &[-bins, 1], &[i64::MIN], &[-1, i64::MIN, i64::MIN]] {
        let refused = decode(&message(payload), &Declared { count: 1, ..Declared::default() }).unwrap_err();
        assert!(matches!(refused, InvalidSeries::PastTheEnd { .. }), "{payload:?}: {refused}");
    }
    assert_eq!(decode(&message(&[-bins]), &Declared::default()), Ok(Series::default()));
}

#[test]
fn bins_behind_the_end_of_the_range_hold_nothing() {
    let end = i64::from(Layout::STANDARD.index_of(Layout::STANDARD.high_us));
    let value = Layout::STANDARD.lowest_of(end as u32 + 1);
    let declared = Declared { count: 1, sum_us: value, min_us: value, max_us: value, clamped: 1 };
    let refused = decode(&message(&[-end - 1, 1]), &declared).unwrap_err();
    assert!(matches!(refused, InvalidSeries::PastTheEnd { .. }), "{refused}");
}

#[test]
fn figures_that_cannot_belong_to_the_counts_are_refused_by_name() {
    let high = Layout::STANDARD.high_us;
    let wrong = |values: &[u64], change: fn(&mut Declared)| {
        let series = series_of(values);
        let mut declared = Declared::from(&series);
        change(&mut declared);
        match decode(&encode(&series.buckets), &declared).unwrap_err() {
            InvalidSeries::Figure { field, .. } => field,
            other => panic!("{other}"),
        }
    };
    assert_eq!(wrong(&[], |declared| declared.max_us = 1), "max");
    assert_eq!(wrong(&[], |declared| declared.sum_us = 1), "sum");
    assert_eq!(wrong(&[10, 5000], |declared| declared.max_us = 5010), "max");
    assert_eq!(wrong(&[10, 5000], |declared| declared.min_us = 9), "min");
    assert_eq!(wrong(&[5000, 5001], |declared| (declared.min_us, declared.max_us) = (5001, 5000)), "min");
    assert_eq!(wrong(&[10, 20, 5000], |declared| declared.sum_us += 1), "sum");
    assert_eq!(wrong(&[10, 5000], |declared| declared.sum_us += 1), "sum");
    assert_eq!(wrong(&[5001], |declared| declared.sum_us -= 1), "sum");
    // Bins are four wide here, but no value is below the least or above the greatest.
    assert_eq!(wrong(&[5001, 5001, 5001], |declared| declared.sum_us -= 1), "sum");
    assert_eq!(wrong(&[5000, 5000, 5000], |declared| declared.sum_us += 1), "sum");
    assert_eq!(wrong(&[5001], |declared| declared.min_us -= 1), "sum");
    assert_eq!(wrong(&[10, 5000], |declared| declared.clamped = 1), "clamped");
    assert_eq!(wrong(&[10, 2 * high], |declared| declared.clamped = 0), "clamped");
    assert_eq!(wrong(&[high, 2 * high], |declared| declared.clamped = 2), "clamped");
    assert_eq!(wrong(&[2 * high, 2 * high], |declared| declared.clamped = 1), "clamped");
}

#[test]
fn a_number_that_is_cut_off_is_named_by_its_place() {
    let mut bytes = message(&[1, 300]);
    bytes.pop();
    bytes[7] -= 1;
    assert_eq!(decode(&bytes, &Declared::default()), Err(InvalidSeries::CutOff { at: 1 }));
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(values in prop::collection::vec(value_us(), 0..300)) {
        let series = series_of(&values);
        prop_assert_eq!(decode(&encode(&series.buckets), &(&series).into()), Ok(series));
    }

    #[test]
    fn the_bytes_are_the_crates_both_ways(values in prop::collection::vec(value_us(), 0..300)) {
        let series = series_of(&values);
        let (ours, crates) = (encode(&series.buckets), crates_bytes(&values));
        prop_assert_eq!(&ours, &crates);
        let read: Histogram<u64> = Deserializer::new().deserialize(&mut ours.as_slice()).unwrap();
        prop_assert_eq!(Buckets::from_histogram(&read), series.buckets.clone());
        prop_assert_eq!(decode(&crates, &(&series).into()), Ok(series));
    }

    #[test]
    fn numbers_of_any_size_come_back(number in any::<i64>(), shift in 0_u32..64) {
        let number = number >> shift;
        let mut bytes = Vec::new();
        write_number(&mut bytes, number);
        prop_assert_eq!(read_number(&bytes), Some((number, bytes.len())));
    }

    #[test]
    fn damaged_bytes_are_refused_or_make_a_series_with_the_declared_figures(
        values in prop::collection::vec(value_us(), 0..100), place in any::<prop::sample::Index>(), flip in 1_u8.., cut in any::<bool>(),
    ) {
        let series = series_of(&values);
        let mut bytes = encode(&series.buckets);
        let place = place.index(bytes.len());
        if cut {
            bytes.truncate(place);
            // A message with a shorter payload that its header knows of.
            if let Some(payload) = place.checked_sub(HEADER_BYTES) {
                bytes[4..8].copy_from_slice(&u32::try_from(payload).unwrap().to_be_bytes());
            }
        } else {
            bytes[place] ^= flip;
        }
        if let Ok(read) = decode(&bytes, &(&series).into()) {
            prop_assert_eq!(read.buckets.total(), series.count);
            prop_assert_eq!(Declared::from(&read), Declared::from(&series));
            prop_assert!(place >= HEADER_BYTES);
        }
    }

    #[test]
    fn arbitrary_payloads_never_panic(
        payload in prop::collection::vec(any::<u8>(), 0..200), count in any::<u64>(), sum_us in any::<u64>(), min_us in any::<u64>(), max_us in any::<u64>(), clamped in any::<u64>(),
    ) {
        let mut bytes = message(&[]);
        bytes.extend(&payload);
        bytes[4..8].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
        let read = decode(&bytes, &Declared { count, sum_us, min_us, max_us, clamped });
        if let Ok(series) = read {
            prop_assert_eq!(series.buckets.total(), count);
        }
        // With the count that the bytes add up to, the checks of the figures are reached.
        if let Ok((_, counted)) = walk(&payload) && let Ok(count) = u64::try_from(counted) {
            let _ = decode(&bytes, &Declared { count, sum_us, min_us, max_us, clamped });
        }
    }
}
