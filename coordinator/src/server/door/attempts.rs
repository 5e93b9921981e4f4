//! How often somebody may try a token that is none, and how often the log tells of it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many failures within [`WINDOW`] from one address; then nothing is tried any more until it is over.
const LIMIT: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// Most addresses that are remembered.
const MAX_ADDRESSES: usize = 10_000;
/// The log tells of those who are not let in at most so often.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// Failures by address.
#[derive(Debug, Default)]
pub(in crate::server) struct Attempts {
    failures: Mutex<HashMap<IpAddr, (Instant, u32)>>,
    told: Mutex<(Option<Instant>, u64)>,
}

impl Attempts {
    /// How long this address has to wait before it may try again.
    ///
    /// # Errors
    /// Has that time.
    pub(in crate::server) fn may_try(&self, address: Option<IpAddr>) -> Result<(), Duration> {
        let Some(address) = address.map(network) else { return Ok(()) };
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match failures.get(&address) {
            Some((since, count)) if *count >= LIMIT && since.elapsed() < WINDOW => {
                Err(WINDOW.saturating_sub(since.elapsed()))
            }
            _ => Ok(()),
        }
    }

    pub(in crate::server) fn failed(&self, address: Option<IpAddr>) {
        let Some(address) = address.map(network) else { return };
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MAX_ADDRESSES {
            failures.retain(|_, (since, _)| since.elapsed() < WINDOW);
        }
        if failures.len() >= MAX_ADDRESSES {
            // Somebody has ten thousand addresses; forgetting all is better than growing.
            failures.clear();
        }
        let (since, count) = failures.entry(address).or_insert((Instant::now(), 0));
        if since.elapsed() >= WINDOW {
            (*since, *count) = (Instant::now(), 0);
        }
        *count = count.saturating_add(1);
    }

    /// Whether the log may tell of another one now; how many it has not told of since the last.
    pub(in crate::server) fn may_be_told(&self) -> Option<u64> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.0.is_some_and(|at| at.elapsed() < TOLD_EVERY) {
            told.1 = told.1.saturating_add(1);
            return None;
        }
        let suppressed = std::mem::take(&mut told.1);
        told.0 = Some(Instant::now());
        Some(suppressed)
    }
}

/// What counts as one address: of IPv6 the network, of which a single machine has every address.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn after_ten_failures_an_address_has_to_wait() {
        let attempts = Attempts::default();
        let (one, other) = (Some(IpAddr::from([10, 0, 0, 1])), Some(IpAddr::from([10, 0, 0, 2])));
        for _ in 0..LIMIT {
            assert!(attempts.may_try(one).is_ok());
            attempts.failed(one);
        }
        assert!(attempts.may_try(one).is_err());
        assert!(attempts.may_try(other).is_ok());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8:0:7::1"), of("2001:db8:0:7:ffff::2"));
        assert_ne!(of("2001:db8:0:7::1"), of("2001:db8:0:8::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }

    #[test]
    fn the_log_is_not_flooded() {
        let attempts = Attempts::default();
        assert_eq!(attempts.may_be_told(), Some(0));
        assert_eq!(attempts.may_be_told(), None);
    }
}
