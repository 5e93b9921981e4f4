//! So many of something a second, for all threads together and without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A rate that is not exceeded for long: each one that is taken fills the bucket, which runs empty at the rate.
#[derive(Debug)]
pub(crate) struct Bucket {
    epoch: Instant,
    /// What one takes, at the rate.
    interval_ns: u64,
    /// What it holds.
    room_ns: u64,
    /// When it will be empty, in nanoseconds after the epoch.
    empty_ns: AtomicU64,
}

impl Bucket {
    /// `at_once` can be taken at once, one at the least.
    pub(crate) fn new(rate_per_s: f64, at_once: f64) -> Self {
        // A cast takes what is beyond a number's range to its end.
        let interval_ns = ((1e9 / rate_per_s) as u64).max(1);
        let room_ns = ((interval_ns as f64 * at_once) as u64).max(interval_ns);
        Bucket { epoch: Instant::now(), interval_ns, room_ns, empty_ns: AtomicU64::new(0) }
    }

    /// Takes one, or says when there may be room for it.
    pub(crate) fn take(&self, now: Instant) -> Result<(), Instant> {
        let now_ns = self.since_epoch(now);
        let filled = |empty_ns: u64| empty_ns.max(now_ns).saturating_add(self.interval_ns);
        let most_ns = now_ns.saturating_add(self.room_ns);
        let take = |empty_ns| Some(filled(empty_ns)).filter(|filled| *filled <= most_ns);
        // The moment is all that others learn from it, so nothing has to be ordered with it.
        match self.empty_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => Ok(()),
            Err(empty_ns) => Err(self.epoch + Duration::from_nanos(filled(empty_ns).saturating_sub(self.room_ns))),
        }
    }

    /// Takes so many whether there is room or not.
    pub(crate) fn fill(&self, now: Instant, taken: u64) {
        let now_ns = self.since_epoch(now);
        let fill = |empty_ns: u64| Some(empty_ns.max(now_ns).saturating_add(self.interval_ns.saturating_mul(taken)));
        // It always has a new moment, so this can't fail.
        let _ = self.empty_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fill);
    }

    fn since_epoch(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// How many can be taken at this moment.
    fn taken(bucket: &Bucket) -> usize {
        (0..1_000).take_while(|_| bucket.take(Instant::now()).is_ok()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_keeps_to_the_rate() {
        let bucket = Bucket::new(10.0, 5.0);
        assert_eq!(taken(&bucket), 5);
        assert_eq!(bucket.take(Instant::now()), Err(Instant::now() + Duration::from_millis(100)));
        advance(Duration::from_millis(100)).await;
        assert_eq!(taken(&bucket), 1);
        advance(Duration::from_millis(350)).await;
        assert_eq!(taken(&bucket), 3);
        advance(Duration::from_secs(3_600)).await;
        assert_eq!(taken(&bucket), 5, "what was not taken is not saved up");
        let (slow, fast) = (Bucket::new(0.5, 0.0), Bucket::new(f64::MAX, 1.0));
        assert_eq!((taken(&slow), taken(&fast)), (1, 1));
        advance(Duration::from_secs(2)).await;
        assert_eq!(taken(&slow), 1);
    }
}
