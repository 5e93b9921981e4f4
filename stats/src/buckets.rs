//! Sparse histogram counts.

use hdrhistogram::{Counter, Histogram};

use crate::Layout;

/// A sum does not fit its 64 bits: the figures are wrong somewhere, and no sum of them may be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("sum of {figure} does not fit 64 bits")]
pub struct Overflow {
    /// Name of the figure.
    pub figure: &'static str,
}

/// Adds with a check.
pub(crate) fn sum(figure: &'static str, left: u64, right: u64) -> Result<u64, Overflow> {
    left.checked_add(right).ok_or(Overflow { figure })
}

/// Counts by bin of [`Layout::STANDARD`]; only bins that hold something, ascending. The sum of all counts fits a `u64`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Buckets(Vec<(u32, u64)>);

impl Buckets {
    /// Takes counts that are already sparse, ascending, within the layout, and of a sum that was checked.
    pub(crate) fn from_sorted(counts: Vec<(u32, u64)>) -> Self {
        debug_assert!(counts.is_sorted_by(|left, right| left.0 < right.0), "ascending, each bin once");
        debug_assert!(counts.iter().all(|(index, count)| (*index as usize) < Layout::STANDARD.bins() && *count > 0));
        Buckets(counts)
    }

    /// The counts of a histogram in [`Layout::STANDARD`]; values above the layout fall into its last bin.
    pub fn from_histogram<T: Counter>(histogram: &Histogram<T>) -> Self {
        let mut counts: Vec<(u32, u64)> = Vec::new();
        for bin in histogram.iter_recorded() {
            let (index, count) = (Layout::STANDARD.index_of(bin.value_iterated_to()), bin.count_at_value().as_u64());
            match counts.last_mut() {
                Some((last, sum)) if *last == index => *sum = sum.saturating_add(count),
                _ => counts.push((index, count)),
            }
        }
        Buckets(counts)
    }

    /// One more in this bin.
    pub(crate) fn count(&mut self, bin: u32) {
        match self.0.binary_search_by_key(&bin, |(index, _)| *index) {
            Ok(place) => self.0[place].1 += 1,
            Err(place) => self.0.insert(place, (bin, 1)),
        }
    }

    /// Adds the counts of another; on an error nothing was added.
    pub fn add(&mut self, other: &Buckets) -> Result<(), Overflow> {
        // With the sums checked, no single bin can overflow.
        sum("bucket counts", self.total(), other.total())?;
        if other.0.is_empty() {
            return Ok(());
        }
        let mut merged = Vec::with_capacity(self.0.len() + other.0.len());
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some(&&(left_index, left_count)), Some(&&(right_index, right_count))) = (left.peek(), right.peek()) {
            merged.push(match left_index.cmp(&right_index) {
                std::cmp::Ordering::Less => (left_index, left_count),
                std::cmp::Ordering::Greater => (right_index, right_count),
                std::cmp::Ordering::Equal => (left_index, left_count + right_count),
            });
            left.next_if(|_| left_index <= right_index);
            right.next_if(|_| right_index <= left_index);
        }
        merged.extend(left);
        merged.extend(right);
        self.0 = merged;
        Ok(())
    }

    /// Sum of all counts.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// Whether no bin holds anything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// (index, count) of each bin that holds something, ascending.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u32, u64)> + DoubleEndedIterator + '_ {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{buckets_of, value_us};

    #[test]
    fn a_sum_that_does_not_fit_is_refused_and_changes_nothing() {
        let mut buckets = Buckets::from_sorted(vec![(1, u64::MAX - 1)]);
        let before = buckets.clone();
        assert_eq!(buckets.add(&Buckets::from_sorted(vec![(2, 2)])), Err(Overflow { figure: "bucket counts" }));
        assert_eq!(buckets, before);
    }

    proptest! {
        #[test]
        fn adding_counts_is_counting_together(left in prop::collection::vec(value_us(), 0..200), right in prop::collection::vec(value_us(), 0..200)) {
            let mut added = buckets_of(&left);
            added.add(&buckets_of(&right)).unwrap();
            prop_assert_eq!(added, buckets_of(&[left, right].concat()));
        }

        #[test]
        fn a_histogram_gives_its_own_counts(values in prop::collection::vec(value_us(), 0..200)) {
            let mut histogram = Histogram::<u32>::new_with_bounds(1, Layout::STANDARD.high_us, 3).unwrap();
            for value in &values {
                histogram.saturating_record(*value);
            }
            prop_assert_eq!(Buckets::from_histogram(&histogram), buckets_of(&values));
        }
    }
}
