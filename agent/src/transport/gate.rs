//! What the agent lets the load of one run do, whatever its plan says: where connections may go, and how many there are.

use std::net::SocketAddr;
use std::sync::Arc;

use groundswell_scenario::Plan;
use groundswell_stats::ErrorClass;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Failure;
use crate::allow::{Allowlist, Refused};

/// Its place among the connections that the agent may have; given back when dropped.
pub(super) type Place = Option<OwnedSemaphorePermit>;

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
    /// Connections that the process may open yet; none for no limit.
    places: Option<Arc<Semaphore>>,
}

impl Gate {
    /// `places` are those of the process.
    pub(crate) fn new(plan: &Plan, allowlist: Allowlist, places: Option<Arc<Semaphore>>) -> Self {
        let mut named: Vec<String> = plan.destinations().into_iter().map(|to| to.host).collect();
        named.extend(plan.http.redirect_hosts.iter().cloned());
        named.extend(plan.http.proxy.as_ref().and_then(|proxy| proxy.host_str()).map(str::to_owned));
        Gate { inner: Arc::new(Inner { allowlist, named, places }) }
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
    ) -> Result<Vec<SocketAddr>, NotAllowed> {
        let were_some = !addresses.is_empty();
        addresses.retain(|address| self.decide(host, *address).is_ok());
        if were_some && addresses.is_empty() { Err(NotAllowed) } else { Ok(addresses) }
    }

    /// Whether a connection may go to a name whose address a proxy looks up.
    pub(crate) fn decide_unseen(&self, host: &str, port: u16) -> Result<(), Refused> {
        self.inner.allowlist.decide_unseen(host, port)
    }

    /// A place for one more connection.
    pub(super) fn place(&self) -> Result<Place, Failure> {
        let Some(places) = &self.inner.places else { return Ok(None) };
        let place = Arc::clone(places).try_acquire_owned();
        place.map(Some).map_err(|_| Failure::Unsent(ErrorClass::new("max_connections")))
    }
}

/// The agent's allowlist does not have where a connection was to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the agent's allowlist does not have this address")]
pub(super) struct NotAllowed;

impl From<NotAllowed> for Failure {
    fn from(_: NotAllowed) -> Self {
        Failure::Unsent(ErrorClass::new("not_allowed"))
    }
}
