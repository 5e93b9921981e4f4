//! The layout of every histogram: which value falls into which bin.
//!
//! The scheme is HdrHistogram's (Gil Tene; `AbstractHistogram` of github.com/HdrHistogram/HdrHistogram, methods
//! `getBucketIndex`, `getSubBucketIndex`, `countsArrayIndex`, `valueFromIndex`). Bucket 0 has `2n` sub-buckets of one
//! unit; each further bucket covers twice the range of the one before with `n` sub-buckets, where `2n` is the least power
//! of two that tells `2 × 10^digits` values apart. A bin is thus never wider than `1/n` of its value: 1/1024 for 3 digits.

/// Bounds and precision of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Least value that can be told from zero, in microseconds; at least 1.
    pub low_us: u64,
    /// Greatest value, in microseconds; what is above is counted here and as clamped.
    pub high_us: u64,
    /// Significant decimal digits, 0 to 5.
    pub digits: u8,
}

impl Layout {
    /// The one layout of this version: 1 µs to 1 h, 3 significant digits.
    pub const STANDARD: Layout = Layout { low_us: 1, high_us: 3_600_000_000, digits: 3 };

    /// Number of bins; indices are below it.
    pub const fn bins(&self) -> usize {
        // As in the crate: whole buckets, so the last ones may lie above `high_us`.
        let covered = 64 - self.high_us.leading_zeros();
        let first_bucket = self.unit_magnitude() + self.half_magnitude() + 1;
        let buckets = 1 + covered.saturating_sub(first_bucket) as usize;
        (buckets + 1) << self.half_magnitude()
    }

    /// The bin of a value; values above the range fall into the bin of [`Layout::high_us`].
    #[inline]
    pub const fn index_of(&self, value_us: u64) -> u32 {
        let value = if value_us > self.high_us { self.high_us } else { value_us };
        let (unit, half) = (self.unit_magnitude(), self.half_magnitude());
        let mask = ((2_u64 << half) - 1) << unit;
        let bucket = 64 - unit - half - 1 - (value | mask).leading_zeros();
        // Beyond bucket 0 only sub-buckets n to 2n are in use (the rest is in the bucket before), so bin b·n + sub-bucket.
        (bucket << half) + (value >> (bucket + unit)) as u32
    }

    /// Least value of a bin. `index` is below [`Layout::bins`].
    #[inline]
    pub const fn lowest_of(&self, index: u32) -> u64 {
        let (bucket, sub_bucket) = self.place_of(index);
        sub_bucket << (bucket + self.unit_magnitude())
    }

    /// Greatest value of a bin. `index` is below [`Layout::bins`].
    #[inline]
    pub const fn highest_of(&self, index: u32) -> u64 {
        let (bucket, sub_bucket) = self.place_of(index);
        ((sub_bucket + 1) << (bucket + self.unit_magnitude())) - 1
    }

    #[inline]
    const fn place_of(&self, index: u32) -> (u32, u64) {
        let half = self.half_magnitude();
        let bucket = (index >> half).saturating_sub(1);
        (bucket, (index - (bucket << half)) as u64)
    }

    /// log2 of the unit, the greatest power of two that is not above `low_us`.
    #[inline]
    const fn unit_magnitude(&self) -> u32 {
        self.low_us.ilog2()
    }

    /// log2 of `n`, half of the sub-buckets of bucket 0.
    #[inline]
    const fn half_magnitude(&self) -> u32 {
        let distinct = 2 * 10_u64.pow(self.digits as u32);
        distinct.next_power_of_two().ilog2() - 1
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use hdrhistogram::Histogram;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::value_us;

    fn crates_own(layout: &Layout) -> Histogram<u64> {
        Histogram::new_with_bounds(layout.low_us, layout.high_us, layout.digits).unwrap()
    }

    #[test]
    fn the_number_of_bins_is_the_crates_for_every_precision_and_range() {
        for digits in 0..=5 {
            for (low_us, high_us) in
                [(1, 2), (1, 4095), (1, 4096), (1, 3_600_000_000), (10, 60_000_000), (1000, 1 << 50)]
            {
                let layout = Layout { low_us, high_us, digits };
                assert_eq!(layout.bins(), crates_own(&layout).distinct_values(), "{layout:?}");
            }
        }
    }

    #[test]
    fn zero_has_a_bin_and_values_above_the_range_share_the_last() {
        let layout = Layout::STANDARD;
        assert_eq!(layout.index_of(0), 0);
        assert_eq!(layout.index_of(u64::MAX), layout.index_of(layout.high_us));
        assert!((layout.index_of(u64::MAX) as usize) < layout.bins());
    }

    proptest! {
        #[test]
        fn bins_are_the_crates(value in value_us(), digits in 0_u8..=5, low_us in 1_u64..5000) {
            for layout in [Layout::STANDARD, Layout { low_us, high_us: 3_600_000_000, digits }] {
                let value = value.min(layout.high_us);
                let crates = crates_own(&layout);
                let index = layout.index_of(value);
                prop_assert_eq!(layout.lowest_of(index), crates.lowest_equivalent(value));
                prop_assert_eq!(layout.highest_of(index), crates.highest_equivalent(value));
            }
        }

        #[test]
        fn bins_follow_one_another(index in 0..Layout::STANDARD.bins() as u32 - 1) {
            let layout = Layout::STANDARD;
            prop_assert_eq!(layout.highest_of(index) + 1, layout.lowest_of(index + 1));
        }
    }
}
