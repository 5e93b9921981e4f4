//! Quantiles.

use hdrhistogram::Histogram;

use crate::series::Sums;
use crate::{Buckets, Layout, Overflow, Series};

/// The values of any number of series together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Distribution {
    series: Series,
}

impl Distribution {
    /// All values of these series.
    pub fn of<'a>(series: impl IntoIterator<Item = &'a Series>) -> Result<Self, Overflow> {
        let mut all = Distribution::default();
        series.into_iter().try_for_each(|series| all.add(series))?;
        Ok(all)
    }

    /// Adds the values of a series; on an error nothing was added.
    pub fn add(&mut self, series: &Series) -> Result<(), Overflow> {
        self.series.merge(series)
    }

    /// Adds the values of a series that is known to fit.
    pub(crate) fn add_checked(&mut self, series: &Series) {
        self.series.add_checked(series);
    }

    pub(crate) fn sums(&self) -> Sums {
        self.series.sums()
    }

    /// Adds the values of another; on an error nothing was added.
    pub fn merge(&mut self, other: &Distribution) -> Result<(), Overflow> {
        self.series.merge(&other.series)
    }

    /// The least value in microseconds that a part `q` (0 to 1) of all values do not exceed, as the upper end of its bin:
    /// never less than the exact quantile, and at most 1/1024 more. It stays within the exact least and greatest value,
    /// and is the greatest where it falls among values above the layout's range. 0 where there are no values.
    pub fn quantile_us(&self, q: f64) -> u64 {
        let rank = rank(q, self.series.count);
        self.series.buckets.bin_at(rank).map_or(self.series.max_us, |bin| self.top_of(bin))
    }

    /// Arithmetic mean in microseconds, from the exact sum; 0 where there are no values.
    pub fn mean_us(&self) -> f64 {
        if self.series.count == 0 { 0.0 } else { self.series.sum_us as f64 / self.series.count as f64 }
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.series.count
    }

    /// Exact sum in microseconds.
    pub fn sum_us(&self) -> u64 {
        self.series.sum_us
    }

    /// Exact least value in microseconds; 0 where there are no values.
    pub fn min_us(&self) -> u64 {
        self.series.min_us
    }

    /// Exact greatest value in microseconds; 0 where there are no values.
    pub fn max_us(&self) -> u64 {
        self.series.max_us
    }

    /// Values above the layout's range.
    pub fn clamped(&self) -> u64 {
        self.series.clamped
    }

    /// The values as one series.
    pub fn into_series(self) -> Series {
        self.series
    }

    /// Counts by bin.
    pub fn buckets(&self) -> &Buckets {
        &self.series.buckets
    }

    /// The counts as a histogram of the crate, for its log formats. It takes 188 KB.
    pub fn histogram(&self) -> Histogram<u64> {
        let Layout { low_us, high_us, digits } = Layout::STANDARD;
        // The layout is legal by its tests, and so is every value within it.
        let Ok(mut histogram) = Histogram::new_with_bounds(low_us, high_us, digits) else {
            unreachable!("{low_us} to {high_us}")
        };
        for (index, count) in self.buckets().iter() {
            histogram.saturating_record_n(Layout::STANDARD.lowest_of(index), count);
        }
        histogram
    }

    fn top_of(&self, index: u32) -> u64 {
        let end = Layout::STANDARD.index_of(Layout::STANDARD.high_us);
        // Among clamped values the bin says nothing; the greatest value is the only bound that is known.
        let top = if index == end && self.series.clamped > 0 { u64::MAX } else { Layout::STANDARD.highest_of(index) };
        top.clamp(self.series.min_us, self.series.max_us)
    }
}

/// Which of `count` ordered values is the quantile: the least whole number that is not below `q × count`, from 1.
fn rank(q: f64, count: u64) -> u64 {
    let product = q.clamp(0.0, 1.0) * count as f64;
    // 0.07 × 100 is 7.000000000000001 in binary; its rank is 7, not 8.
    let rank = (product * (1.0 - 4.0 * f64::EPSILON)).ceil() as u64;
    rank.clamp(1, count.max(1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{series_of, value_us};

    fn distribution_of(values: &[u64]) -> Distribution {
        Distribution::of([&series_of(values)]).unwrap()
    }

    #[test]
    fn ranks_do_not_suffer_from_binary_fractions() {
        for (q, count, expected) in
            [(0.07, 100, 7), (0.5, 10, 5), (0.999, 1000, 999), (0.9999, 10_000, 9999), (0.29, 100, 29)]
        {
            assert_eq!(rank(q, count), expected, "{q} of {count}");
        }
        assert_eq!((rank(0.0, 10), rank(1.0, 10), rank(0.501, 10), rank(f64::NAN, 10)), (1, 10, 6, 1));
    }

    #[test]
    fn no_values_have_no_figures() {
        let empty = Distribution::default();
        assert_eq!((empty.quantile_us(0.5), empty.mean_us(), empty.min_us(), empty.max_us()), (0, 0.0, 0, 0));
    }

    #[test]
    fn quantiles_among_clamped_values_are_not_made_better_than_they_are() {
        let high = Layout::STANDARD.high_us;
        let clamped = distribution_of(&[1, 3 * high, 3 * high]);
        assert_eq!((clamped.quantile_us(0.3), clamped.quantile_us(0.5), clamped.clamped()), (1, 3 * high, 2));
    }

    proptest! {
        #[test]
        fn quantiles_are_the_exact_ones_or_at_most_a_1024th_more(
            values in prop::collection::vec(value_us().prop_map(|value| value.min(Layout::STANDARD.high_us)), 1..3000),
        ) {
            let distribution = distribution_of(&values);
            let mut sorted = values;
            sorted.sort_unstable();
            for per_10_000 in [5000_u64, 7500, 9000, 9500, 9900, 9990, 9999] {
                let rank = (per_10_000 * sorted.len() as u64).div_ceil(10_000);
                let exact = sorted[rank as usize - 1];
                let reported = distribution.quantile_us(per_10_000 as f64 / 10_000.0);
                prop_assert!(exact <= reported, "{} < {}", reported, exact);
                prop_assert!(1024 * reported <= 1025 * exact, "{} > {}", reported, exact);
            }
        }

        #[test]
        fn quantiles_rise_from_the_least_to_the_greatest_value(values in prop::collection::vec(value_us(), 1..300)) {
            let distribution = distribution_of(&values);
            let mut figures = vec![distribution.min_us()];
            figures.extend([0.5, 0.99, 0.999].map(|q| distribution.quantile_us(q)));
            figures.push(distribution.max_us());
            prop_assert!(figures.is_sorted(), "{:?}", figures);
            prop_assert_eq!(distribution.quantile_us(1.0), distribution.max_us());
        }

        #[test]
        fn the_histogram_has_the_same_counts(values in prop::collection::vec(value_us(), 0..100)) {
            let distribution = distribution_of(&values);
            prop_assert_eq!(&Buckets::from_histogram(&distribution.histogram()), distribution.buckets());
        }

        #[test]
        fn merging_is_having_all_values(left in prop::collection::vec(value_us(), 0..50), right in prop::collection::vec(value_us(), 0..50)) {
            let mut merged = distribution_of(&left);
            merged.merge(&distribution_of(&right)).unwrap();
            prop_assert_eq!(merged, distribution_of(&[left, right].concat()));
        }
    }
}
