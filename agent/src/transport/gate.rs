//! What the agent lets the load of one run do, whatever its plan says: where connections may go, and how many there are.

use std::net::SocketAddr;
use std::sync::Arc;

use groundswell_scenario::Plan;
use groundswell_stats::ErrorClass;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::Failure;
use crate::allow::{Allowlist, LookUp, Refused};
use crate::bucket::Bucket;
use crate::pace::Pace;

/// Look-ups a second of names that the allowlist does not have itself: a host name that changes from one operation to the
/// next would be a message to whoever serves it.
const LOOK_UPS_PER_S: f64 = 10.0;
/// So many of them may come at once: a plan with a host for each of its services.
const LOOK_UPS_AT_ONCE: f64 = 100.0;

/// Its place among the connections that the agent may have; given back when dropped.
pub(super) type Place = Option<OwnedSemaphorePermit>;

/// What the process has for the load of all its runs together; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    /// Connections that it may open yet; none for no limit.
    places: Option<Arc<Semaphore>>,
    look_ups: Arc<Bucket>,
    /// Operations that it begins; none for no limit.
    pace: Option<Arc<Pace>>,
}

impl Budget {
    /// With so many connections at the same time and operations a second; none for no limit.
    pub(crate) fn new(connections: Option<u32>, rate_per_s: Option<f64>) -> Self {
        Budget {
            places: connections.map(|most| Arc::new(Semaphore::new(most as usize))),
            look_ups: Arc::new(Bucket::new(LOOK_UPS_PER_S, LOOK_UPS_AT_ONCE)),
            pace: rate_per_s.map(|rate| Arc::new(Pace::new(rate))),
        }
    }
}

/// The gate of one run; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    allowlist: Allowlist,
    /// Hosts that the plan has in its text.
    named: Vec<String>,
    budget: Budget,
}

impl Gate {
    /// `budget` is that of the process.
    pub(crate) fn new(plan: &Plan, allowlist: Allowlist, budget: Budget) -> Self {
        let mut named: Vec<String> = plan.destinations().into_iter().map(|to| to.host).collect();
        named.extend(plan.http.redirect_hosts.iter().cloned());
        named.extend(plan.http.proxy.as_ref().and_then(|proxy| proxy.host_str()).map(str::to_owned));
        Gate { inner: Arc::new(Inner { allowlist, named, budget }) }
    }

    /// Whether a connection may go to this address; `host` as for [`Allowlist::decide`].
    pub(crate) fn decide(&self, host: Option<&str>, address: SocketAddr) -> Result<(), Refused> {
        let Inner { allowlist, named, .. } = &*self.inner;
        let is_named = host.is_none_or(|host| named.iter().any(|named| named == host));
        allowlist.decide(host, address, is_named)
    }

    /// The addresses that a connection may go to.
    pub(super) fn admitted(
        &self,
        host: Option<&str>,
        mut addresses: Vec<SocketAddr>,
    ) -> Result<Vec<SocketAddr>, Barred> {
        let were_some = !addresses.is_empty();
        addresses.retain(|address| self.decide(host, *address).is_ok());
        if were_some && addresses.is_empty() { Err(Barred::NotAllowed) } else { Ok(addresses) }
    }

    /// Whether the addresses of a name may be asked for.
    pub(super) fn look_up(&self, host: &str, port: u16) -> Result<LookUp, Barred> {
        self.inner.allowlist.look_up(host, port).map_err(|_| Barred::NotAllowed)
    }

    /// Takes one look-up of a name.
    pub(super) fn take_look_up(&self, of: LookUp) -> Result<(), Barred> {
        match of {
            LookUp::Listed => Ok(()),
            LookUp::Unlisted => self.inner.budget.look_ups.take(Instant::now()).map_err(|_| Barred::TooManyLookUps),
        }
    }

    /// Whether a connection may go to a name whose address a proxy looks up.
    pub(crate) fn decide_unseen(&self, host: &str, port: u16) -> Result<(), Refused> {
        self.inner.allowlist.decide_unseen(host, port)
    }

    /// The turns in which operations begin; none for no limit.
    pub(super) fn pace(&self) -> Option<Arc<Pace>> {
        self.inner.budget.pace.clone()
    }

    /// A place for one more connection.
    pub(super) fn place(&self) -> Result<Place, Failure> {
        let Some(places) = &self.inner.budget.places else { return Ok(None) };
        let place = Arc::clone(places).try_acquire_owned();
        place.map(Some).map_err(|_| Failure::Unsent(ErrorClass::new("max_connections")))
    }
}

/// Why the agent does not let a connection be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Barred {
    /// Its allowlist does not have where it was to go.
    #[error("the agent's allowlist does not have this address")]
    NotAllowed,
    /// Too many names were looked up already.
    #[error("the agent looks up no more names that its allowlist does not have")]
    TooManyLookUps,
}

impl From<Barred> for Failure {
    fn from(barred: Barred) -> Self {
        Failure::Unsent(ErrorClass::new(match barred {
            Barred::NotAllowed => "not_allowed",
            Barred::TooManyLookUps => "too_many_look_ups",
        }))
    }
}
