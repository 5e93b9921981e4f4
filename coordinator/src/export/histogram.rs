//! Our bins as the buckets of others. A bin is at most 1/1024 wide, so what is wrong at a bucket's edge is no more.

use groundswell_stats::{Layout, Series};

/// Upper bounds of the classic buckets in seconds.
const BOUNDS_S: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Exponential buckets: `2^SCALE` of them double the value, so each is 4.4 % wide.
pub(super) const SCALE: i32 = 4;

/// A distribution in seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Number of values.
    pub count: u64,
    /// Their sum in seconds.
    pub sum_s: f64,
    /// (upper bound in seconds, values up to it); the last bound is below infinity.
    pub classic: Vec<(f64, u64)>,
    /// The same in exponential buckets.
    pub exponential: Exponential,
}

/// Counts in exponential buckets: number `i` has the values above `2^((i - 1) / 2^SCALE)` seconds up to
/// `2^(i / 2^SCALE)`, as Prometheus numbers them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exponential {
    /// Values of zero.
    pub zeros: u64,
    /// Number of the first bucket.
    pub first: i32,
    /// Its count and those of the buckets after it.
    pub counts: Vec<u64>,
}

impl Histogram {
    /// The values of a series.
    pub fn of(series: &Series) -> Self {
        let mut classic = BOUNDS_S.map(|bound| (bound, 0)).to_vec();
        for (index, count) in series.buckets.iter() {
            let highest_s = Layout::STANDARD.highest_of(index) as f64 / 1e6;
            for (_, counted) in classic.iter_mut().filter(|(bound, _)| highest_s <= *bound) {
                *counted += count;
            }
        }
        Histogram {
            count: series.count,
            sum_s: series.sum_us as f64 / 1e6,
            classic,
            exponential: Exponential::of(series),
        }
    }
}

impl Exponential {
    fn of(series: &Series) -> Self {
        let mut exponential = Exponential::default();
        for (index, count) in series.buckets.iter() {
            let middle_us = (Layout::STANDARD.lowest_of(index) + Layout::STANDARD.highest_of(index)) as f64 / 2.0;
            if middle_us == 0.0 {
                exponential.zeros += count;
                continue;
            }
            // From -20 to 12 times 16 at the most.
            let number = ((middle_us / 1e6).log2() * f64::from(1 << SCALE)).ceil() as i32;
            if exponential.counts.is_empty() {
                exponential.first = number;
            }
            // Bins ascend, and so do buckets.
            let place = usize::try_from(number - exponential.first).unwrap_or(0);
            exponential.counts.resize(exponential.counts.len().max(place + 1), 0);
            exponential.counts[place] += count;
        }
        exponential
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_its_bucket() {
        let mut series = Series::default();
        [0, 1_000, 1_100, 2_000_000, 90_000_000].into_iter().for_each(|value| series.record(value));
        let histogram = Histogram::of(&series);
        let up_to = |bound: f64| histogram.classic.iter().find(|(at, _)| *at == bound).map(|(_, count)| *count);
        assert_eq!((up_to(0.001), up_to(0.0025), up_to(2.5), up_to(60.0)), (Some(2), Some(3), Some(4), Some(4)));
        assert_eq!((histogram.count, histogram.exponential.zeros), (5, 1));
        assert_eq!(histogram.exponential.counts.iter().sum::<u64>(), 4);
        // 2 s is the upper end of bucket 16; its bin reaches a little above.
        let of_two = histogram.exponential.counts[usize::try_from(17 - histogram.exponential.first).unwrap_or(0)];
        assert_eq!(of_two, 1);
    }
}
