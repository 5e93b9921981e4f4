//! The figures of one step and kind of latency.

use crate::buckets::sum;
use crate::{Buckets, Layout, Overflow};

/// Bucket counts with the exact count, sum, least and greatest value beside them (bins would round them).
/// Empty, every field is zero.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Series {
    /// Counts by bin; their sum is `count`.
    pub buckets: Buckets,
    /// Number of values.
    pub count: u64,
    /// Sum in microseconds.
    pub sum_us: u64,
    /// Least value in microseconds.
    pub min_us: u64,
    /// Greatest value in microseconds, also where it is above the layout's range.
    pub max_us: u64,
    /// Values above the layout's range; they are in the bin of its end.
    pub clamped: u64,
}

/// Those sums of a series that may not fit. Where they do, no count of a bin can fail to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sums {
    count: u64,
    sum_us: u64,
    clamped: u64,
    counted: u64,
}

impl Sums {
    /// With those of another series.
    pub(crate) fn plus(self, other: Sums) -> Result<Sums, Overflow> {
        Ok(Sums {
            count: sum("count", self.count, other.count)?,
            sum_us: sum("sum_us", self.sum_us, other.sum_us)?,
            clamped: sum("clamped", self.clamped, other.clamped)?,
            counted: sum("bucket counts", self.counted, other.counted)?,
        })
    }
}

impl Series {
    /// Adds the values of another series; on an error nothing was added.
    pub fn merge(&mut self, other: &Series) -> Result<(), Overflow> {
        self.fits(other)?;
        self.add_checked(other);
        Ok(())
    }

    /// Can the values of another be added?
    pub(crate) fn fits(&self, other: &Series) -> Result<(), Overflow> {
        self.sums().plus(other.sums()).map(drop)
    }

    /// Adds the values of another that is known to fit.
    pub(crate) fn add_checked(&mut self, other: &Series) {
        if other.count == 0 {
            return;
        }
        self.buckets.add_checked(&other.buckets);
        self.min_us = if self.count == 0 { other.min_us } else { self.min_us.min(other.min_us) };
        self.max_us = self.max_us.max(other.max_us);
        self.count += other.count;
        self.sum_us += other.sum_us;
        self.clamped += other.clamped;
    }

    pub(crate) fn sums(&self) -> Sums {
        let Series { count, sum_us, clamped, .. } = *self;
        Sums { count, sum_us, clamped, counted: self.buckets.total() }
    }

    /// Counts a value. Finding its bin takes a search, so this is for what happens less often than once a request.
    pub fn record(&mut self, value_us: u64) {
        self.min_us = if self.count == 0 { value_us } else { self.min_us.min(value_us) };
        self.max_us = self.max_us.max(value_us);
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(value_us);
        self.clamped += u64::from(value_us > Layout::STANDARD.high_us);
        self.buckets.count(Layout::STANDARD.index_of(value_us));
    }

    /// Whether it holds no value.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// A series being recorded: one counter for every bin, so that a value costs one addition.
///
/// Not the crate's histogram: its counts saturate without a word, and reading or resetting it goes over all of its 23,552
/// bins. This one only touches those between the least and the greatest value, which keeps a seal short; it happens on
/// the thread that makes the load.
#[derive(Debug, Default)]
pub(crate) struct DenseSeries {
    /// Allocated at the first value and kept.
    counts: Vec<u32>,
    /// The exact figures; its buckets stay empty.
    exact: Series,
}

impl DenseSeries {
    /// Counts a value.
    #[inline]
    pub(crate) fn record(&mut self, value_us: u64) {
        if self.counts.is_empty() {
            self.counts = vec![0; Layout::STANDARD.bins()];
        }
        let exact = &mut self.exact;
        exact.min_us = if exact.count == 0 { value_us } else { exact.min_us.min(value_us) };
        exact.max_us = exact.max_us.max(value_us);
        exact.count += 1;
        exact.sum_us = exact.sum_us.saturating_add(value_us);
        exact.clamped += u64::from(value_us > Layout::STANDARD.high_us);
        self.counts[Layout::STANDARD.index_of(value_us) as usize] += 1;
    }

    /// Takes what was recorded and leaves it empty, its allocation kept.
    pub(crate) fn seal(&mut self) -> Series {
        if self.exact.count == 0 {
            return Series::default();
        }
        let mut sealed = std::mem::take(&mut self.exact);
        let (first, last) = (Layout::STANDARD.index_of(sealed.min_us), Layout::STANDARD.index_of(sealed.max_us));
        let used = &mut self.counts[first as usize..=last as usize];
        let counted = (first..).zip(used.iter()).filter(|(_, count)| **count > 0);
        sealed.buckets = Buckets::from_sorted(counted.map(|(index, count)| (index, u64::from(*count))).collect());
        used.fill(0);
        sealed
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::testing::series_of;

    #[test]
    fn values_above_the_range_keep_their_sum_and_maximum_and_are_counted_as_clamped() {
        let high = Layout::STANDARD.high_us;
        let mut recording = DenseSeries::default();
        [5, high, high + 1, 2 * high].into_iter().for_each(|value| recording.record(value));
        let series = recording.seal();
        assert_eq!((series.count, series.sum_us, series.clamped), (4, 6 + 4 * high, 2));
        assert_eq!((series.min_us, series.max_us), (5, 2 * high));
        assert_eq!(series.buckets.iter().next_back(), Some((Layout::STANDARD.index_of(high), 3)));
    }

    #[test]
    fn an_empty_series_changes_nothing_and_takes_over_the_other() {
        let full = series_of(&[0, 7, 9]);
        let mut merged = full.clone();
        merged.merge(&Series::default()).unwrap();
        assert_eq!(merged, full);
        let mut merged = Series::default();
        merged.merge(&series_of(&[7, 9])).unwrap();
        assert_eq!(merged, series_of(&[7, 9]));
    }

    #[test]
    fn a_sum_that_does_not_fit_is_refused_and_changes_nothing() {
        let mut series = series_of(&[u64::MAX - 1]);
        let before = series.clone();
        assert_eq!(series.merge(&series_of(&[2])), Err(Overflow { figure: "sum_us" }));
        assert_eq!(series, before);
    }
}
