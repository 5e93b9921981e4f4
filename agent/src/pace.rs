//! How many operations a second an agent begins at the most: those of all its runs and worker threads together.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::bucket::Bucket;

/// What was due in this time may begin at once: threads wake a moment late, and would lose those moments else.
const AT_ONCE: Duration = Duration::from_millis(50);

/// Turns at the rate of `--max-rate`.
#[derive(Debug)]
pub(crate) struct Pace {
    bucket: Bucket,
    /// Who holds it has the next turn; the others stand in line for it.
    next: Mutex<()>,
    /// Somebody waits for the next turn.
    is_held: AtomicBool,
}

impl Pace {
    /// So many a second.
    pub(crate) fn new(rate_per_s: f64) -> Self {
        let bucket = Bucket::new(rate_per_s, rate_per_s * AT_ONCE.as_secs_f64());
        Pace { bucket, next: Mutex::new(()), is_held: AtomicBool::new(false) }
    }

    /// Returns when it is the caller's turn, and whether that took until the rate allowed it. Whoever drops the wait gives
    /// its place up, and takes nothing.
    pub(crate) async fn turn(&self) -> bool {
        // That another thread has its turn at this very moment is no wait.
        let mut was_held = self.is_held.load(Ordering::Relaxed);
        let _next = self.next.lock().await;
        let _held = Held(&self.is_held);
        while let Err(at) = self.bucket.take(Instant::now()) {
            was_held = true;
            self.is_held.store(true, Ordering::Relaxed);
            sleep_until(at).await;
        }
        was_held
    }

    /// Takes turns without waiting; whoever waits does so for longer.
    pub(crate) fn count(&self, turns: u64) {
        self.bucket.fill(Instant::now(), turns);
    }
}

/// Says that nobody waits any more, also where the wait is given up.
struct Held<'a>(&'a AtomicBool);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_come_at_the_rate_whoever_gives_up() {
        let pace = Pace::new(10.0);
        let begun = Instant::now();
        assert!(!pace.turn().await && pace.turn().await);
        for _ in 0..100 {
            assert!(tokio::time::timeout(Duration::from_millis(1), pace.turn()).await.is_err());
            advance(Duration::from_millis(99)).await;
            assert!(!pace.turn().await, "its time had come, and nobody was waiting");
        }
        assert_eq!(begun.elapsed().as_secs(), 10);
        pace.count(20);
        assert!(pace.turn().await);
        assert_eq!(begun.elapsed().as_secs(), 12, "what others took is waited for");
        advance(Duration::from_secs(3_600)).await;
        assert!(!pace.turn().await && pace.turn().await, "what was not taken is not saved up");
    }

    /// Threads with runtimes of their own, as workers have them.
    #[test]
    fn threads_share_the_rate() {
        const TURNS: u64 = 40;
        let (pace, taken) = (Arc::new(Pace::new(100.0)), Arc::new(AtomicU64::new(0)));
        let begun = Instant::now();
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                    runtime.block_on(async {
                        while taken.fetch_add(1, Ordering::Relaxed) < TURNS {
                            pace.turn().await;
                        }
                    });
                });
            }
        });
        // Five at once, the others a hundredth of a second apart.
        assert!(begun.elapsed() >= Duration::from_millis((TURNS - 6) * 10), "{:?}", begun.elapsed());
    }
}
