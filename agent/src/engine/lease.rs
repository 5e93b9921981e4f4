//! Until when an agent may send: the gate that each worker asks before it issues anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

const UNLIMITED: u64 = u64::MAX;
const EXPIRED: u64 = 0;

/// A worker that has nothing to send looks so often whether a lease was set or shortened.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A moment on the agent's monotonic clock after which nothing may be issued any more; clones share it.
///
/// Whoever is about to issue asks with a clock reading of its own. So a process that was held back beyond the lease sends
/// nothing when it goes on, though nobody has told it anything yet.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    epoch: Instant,
    /// Nanoseconds after the epoch.
    until_ns: Arc<AtomicU64>,
}

impl Lease {
    /// One without a limit.
    pub(super) fn unlimited() -> Self {
        Lease { epoch: Instant::now(), until_ns: Arc::new(AtomicU64::new(UNLIMITED)) }
    }

    /// Sets the moment; none for no limit. Once somebody has found it expired it stays so, because what was to be issued
    /// then is lost for this agent: others own it.
    pub(super) fn set(&self, until: Option<Instant>) {
        let until_ns = until.map_or(UNLIMITED, |until| self.since_epoch(until).clamp(EXPIRED + 1, UNLIMITED - 1));
        let mut known = self.until_ns.load(Ordering::Relaxed);
        while known != EXPIRED {
            // The moment is all that workers learn from it, so nothing has to be ordered with it.
            match self.until_ns.compare_exchange_weak(known, until_ns, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(current) => known = current,
            }
        }
    }

    /// May something be issued at this moment?
    pub(super) fn allows(&self, now: Instant) -> bool {
        let mut known = self.until_ns.load(Ordering::Relaxed);
        loop {
            if known == UNLIMITED {
                return true;
            }
            if known == EXPIRED {
                return false;
            }
            if self.since_epoch(now) < known {
                return true;
            }
            // Expired for all workers, unless it was extended at this very moment.
            match self.until_ns.compare_exchange_weak(known, EXPIRED, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return false,
                Err(current) => known = current,
            }
        }
    }

    /// Returns when it has expired: for a worker that issues nothing and would not notice.
    pub(super) async fn expired(&self) {
        loop {
            let now = Instant::now();
            if !self.allows(now) {
                return;
            }
            let known = self.until_ns.load(Ordering::Relaxed);
            let left = Duration::from_nanos(known.saturating_sub(self.since_epoch(now)));
            sleep_until(now + left.min(LOOK_AGAIN)).await;
        }
    }

    fn since_epoch(&self, moment: Instant) -> u64 {
        u64::try_from(moment.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(UNLIMITED)
    }
}
