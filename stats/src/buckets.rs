//! Sparse histogram counts.

use hdrhistogram::{Counter, Histogram};

use crate::Layout;
use crate::pages::Pages;

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

/// Counts by bin of [`Layout::STANDARD`]. The sum of all counts fits a `u64`.
///
/// Few counts are a list. What others were added to becomes pages where they lie close together: to add to a list is to
/// write it anew, to add to pages costs as much as what is added.
#[derive(Debug, Clone, Default)]
pub struct Buckets {
    /// Only bins that hold something, ascending; empty where there are pages.
    list: Vec<(u32, u64)>,
    pages: Pages,
    total: u64,
}

impl Buckets {
    /// Takes counts that are already sparse, ascending, within the layout, and of a sum that was checked.
    pub(crate) fn from_sorted(counts: Vec<(u32, u64)>) -> Self {
        debug_assert!(counts.is_sorted_by(|left, right| left.0 < right.0), "ascending, each bin once");
        debug_assert!(counts.iter().all(|(index, count)| (*index as usize) < Layout::STANDARD.bins() && *count > 0));
        let total = counts.iter().map(|(_, count)| count).sum();
        Buckets { list: counts, pages: Pages::default(), total }
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
        Buckets::from_sorted(counts)
    }

    /// One more in this bin.
    pub(crate) fn count(&mut self, bin: u32) {
        self.total += 1;
        if !self.pages.is_empty() {
            return self.pages.count(bin);
        }
        match self.list.binary_search_by_key(&bin, |(index, _)| *index) {
            Ok(place) => self.list[place].1 += 1,
            Err(place) => self.list.insert(place, (bin, 1)),
        }
    }

    /// Adds the counts of another; on an error nothing was added.
    pub fn add(&mut self, other: &Buckets) -> Result<(), Overflow> {
        sum("bucket counts", self.total, other.total)?;
        self.add_checked(other);
        Ok(())
    }

    /// Adds the counts of another where the sum of both totals is known to fit; then no single bin can overflow.
    pub(crate) fn add_checked(&mut self, other: &Buckets) {
        if self.is_empty() {
            self.clone_from(other);
            return;
        }
        self.total += other.total;
        if self.pages.is_empty() && other.pages.is_empty() {
            self.list = merged(&self.list, &other.list);
            if Pages::suit(&self.list) {
                self.turn_into_pages();
            }
        } else {
            // Of both forms each has one, so that half of this does nothing.
            self.turn_into_pages();
            self.pages.add_list(&other.list);
            self.pages.add(&other.pages);
        }
    }

    fn turn_into_pages(&mut self) {
        self.pages.add_list(&std::mem::take(&mut self.list));
    }

    /// The bin in which the counts, added up from the first, reach so many; none where they do not.
    pub(crate) fn bin_at(&self, rank: u64) -> Option<u32> {
        if !self.pages.is_empty() {
            return self.pages.bin_at(rank);
        }
        let mut counted = 0;
        self.list.iter().find_map(|(bin, count)| {
            counted += count;
            (counted >= rank).then_some(*bin)
        })
    }

    /// Sum of all counts.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whether no bin holds anything.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// (index, count) of each bin that holds something, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u32, u64)> + '_ {
        self.list.iter().copied().chain(self.pages.iter())
    }
}

/// In whichever form they are kept.
impl PartialEq for Buckets {
    fn eq(&self, other: &Self) -> bool {
        self.total == other.total && self.iter().eq(other.iter())
    }
}

impl Eq for Buckets {}

/// The sums of two lists, bin by bin.
fn merged(left: &[(u32, u64)], right: &[(u32, u64)]) -> Vec<(u32, u64)> {
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
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
    merged
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{buckets_of, value_us};

    /// Values that lie close together, so that their counts come to be pages, with a few of any magnitude.
    fn crowded() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec(prop_oneof![9 => 4_000_u64..4_400, 1 => value_us()], 0..400)
    }

    fn in_pages(values: &[u64]) -> Buckets {
        let mut buckets = buckets_of(values);
        buckets.turn_into_pages();
        buckets
    }

    /// The form is no part of what is equal, so here it is.
    fn bits(buckets: &Buckets) -> (Vec<(u32, u64)>, Pages, u64) {
        (buckets.list.clone(), buckets.pages.clone(), buckets.total)
    }

    #[test]
    fn a_sum_that_does_not_fit_is_refused_and_changes_nothing() {
        for list in [vec![(1, u64::MAX - 1)], (0..64).map(|bin| (bin, u64::MAX / 64)).collect()] {
            let mut buckets = Buckets::from_sorted(list);
            if buckets.total < u64::MAX - 1 {
                buckets.turn_into_pages();
            }
            let before = bits(&buckets);
            let other = Buckets::from_sorted(vec![(2, 64)]);
            assert_eq!(buckets.add(&other), Err(Overflow { figure: "bucket counts" }));
            assert_eq!(bits(&buckets), before);
        }
    }

    #[test]
    fn what_lies_close_together_takes_the_room_of_pages_and_what_does_not_that_of_a_list() {
        let twice = |bins: Vec<u32>| {
            let one = Buckets::from_sorted(bins.into_iter().map(|bin| (bin, 1)).collect());
            let mut two = one.clone();
            two.add(&one).unwrap();
            assert!(two.iter().eq(one.iter().map(|(bin, count)| (bin, 2 * count))));
            two.list.is_empty()
        };
        assert!(twice((0..1_000).collect()));
        assert!(!twice((0..1_000).map(|bin| 8 * bin).collect()));
    }

    proptest! {
        #[test]
        fn adding_counts_is_counting_together(left in crowded(), right in crowded()) {
            let whole = buckets_of(&[left.clone(), right.clone()].concat());
            for left in [buckets_of(&left), in_pages(&left)] {
                for right in [buckets_of(&right), in_pages(&right)] {
                    let mut added = left.clone();
                    added.add(&right).unwrap();
                    prop_assert_eq!(&added, &whole);
                    prop_assert_eq!(added.total(), added.iter().map(|(_, count)| count).sum::<u64>());
                    prop_assert!(added.iter().rev().eq(whole.iter().rev()));
                    prop_assert!(added.list.is_empty() || added.pages.is_empty());
                    for rank in [1, whole.total() / 2, whole.total(), whole.total() + 1].into_iter().filter(|rank| *rank > 0) {
                        let mut each = whole.iter().flat_map(|(bin, count)| (0..count).map(move |_| bin));
                        prop_assert_eq!(added.bin_at(rank), each.nth(rank as usize - 1));
                    }
                }
            }
        }

        #[test]
        fn the_order_of_adding_makes_no_difference(
            parts in prop::collection::vec(crowded(), 0..6), order in Just((0..6_usize).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let mut counted: BTreeMap<u32, u64> = BTreeMap::new();
            for value in parts.iter().flatten() {
                *counted.entry(Layout::STANDARD.index_of(*value)).or_default() += 1;
            }
            let mut added = Buckets::default();
            for part in order.into_iter().filter_map(|place| parts.get(place)) {
                added.add(&buckets_of(part)).unwrap();
            }
            prop_assert!(added.iter().eq(counted));
        }

        #[test]
        fn counting_one_by_one_is_counting_together(values in crowded(), more in crowded()) {
            let whole = buckets_of(&[values.clone(), more.clone()].concat());
            for mut buckets in [buckets_of(&values), in_pages(&values)] {
                more.iter().for_each(|value| buckets.count(Layout::STANDARD.index_of(*value)));
                prop_assert_eq!(&buckets, &whole);
            }
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
