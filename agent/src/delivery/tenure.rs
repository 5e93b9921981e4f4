//! Until when an agent may issue load.

use std::time::Duration;

use super::mutants::{self, Mutant};

/// The lease at the agent, on the agent's monotonic clock.
///
/// A grant answers a heartbeat, and the lease counts from when that heartbeat was **sent**. Counted from the grant's
/// receipt it would outlast what the coordinator waits for before it gives the share to somebody else, by as long as the
/// grant was under way.
#[derive(Debug, Clone)]
pub struct Tenure {
    lease: Duration,
    until: Duration,
}

impl Tenure {
    /// Nothing may be issued before the first grant.
    pub fn new(lease: Duration) -> Self {
        Tenure { lease, until: Duration::ZERO }
    }

    /// The coordinator granted, in answer to what this agent sent at `sent_at`. The first grant comes with the start and
    /// answers the message before it. Grants that come late or twice never shorten a lease; one that claims to answer
    /// something not yet sent is nonsense and ignored.
    pub fn granted(&mut self, sent_at: Duration, now: Duration) {
        if sent_at > now {
            return;
        }
        let counts_from = if mutants::is(Mutant::LeaseFromReceipt) { now } else { sent_at };
        self.until = self.until.max(counts_from + self.lease);
    }

    /// Load may be issued before this moment. Look at it before each issue: a thread that was frozen wakes up after it.
    pub fn until(&self) -> Duration {
        self.until
    }

    /// May load be issued now?
    pub fn holds(&self, now: Duration) -> bool {
        now < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn nothing_is_issued_before_the_first_grant() {
        let tenure = Tenure::new(s(10));
        assert!(!tenure.holds(s(0)) && !tenure.holds(s(5)));
    }

    #[test]
    fn the_lease_counts_from_the_heartbeat_and_not_from_the_grant() {
        let mut tenure = Tenure::new(s(10));
        tenure.granted(s(3), s(9));
        assert_eq!(tenure.until(), s(13));
        assert!(tenure.holds(s(12)) && !tenure.holds(s(13)));
    }

    #[test]
    fn late_and_repeated_grants_never_shorten_it() {
        let mut tenure = Tenure::new(s(10));
        tenure.granted(s(5), s(6));
        tenure.granted(s(4), s(7));
        tenure.granted(s(5), s(8));
        assert_eq!(tenure.until(), s(15));
    }

    #[test]
    fn a_grant_for_a_heartbeat_of_the_future_is_ignored() {
        let mut tenure = Tenure::new(s(10));
        tenure.granted(s(100), s(6));
        assert_eq!(tenure.until(), s(0));
    }
}
