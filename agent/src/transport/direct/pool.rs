//! The connections of one owner: a user, or all users of a worker.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use groundswell_scenario::http::{Connections, HttpVersion};
use groundswell_stats::Phases;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use super::Settings;
use super::connection::{Connection, Http1, Http2};
use crate::transport::Failure;
use crate::transport::recent::Recent;
use crate::transport::target::Origin;

/// Connections by where they lead to.
pub(super) struct Pool {
    settings: Rc<Settings>,
    lanes: RefCell<Recent<Lane>>,
}

/// The connections to one origin.
struct Lane {
    origin: Origin,
    /// None until it is known which version the target speaks.
    speaks_http2: Cell<Option<bool>>,
    idle: RefCell<Vec<Http1>>,
    shared: RefCell<Vec<Http2>>,
    /// Next of the shared ones.
    turn: Cell<usize>,
    /// Places for connections, where their number is limited.
    places: Option<Arc<Semaphore>>,
    /// Held while a connection is opened that others may share.
    opening: Mutex<()>,
}

/// A connection for one request.
pub(super) struct Lease {
    pub(super) connection: Connection,
    /// It carried a request before.
    pub(super) is_reused: bool,
    lane: Rc<Lane>,
    /// Held until the connection is given back or dropped.
    _place: Option<OwnedSemaphorePermit>,
}

impl Pool {
    pub(super) fn new(settings: Rc<Settings>) -> Self {
        Pool { settings, lanes: RefCell::default() }
    }

    /// A connection: a kept one, or a new one.
    pub(super) async fn take(&self, origin: &Origin, phases: &mut Phases) -> Result<Lease, Failure> {
        let lane = self.lane(origin);
        let is_shared = matches!(self.settings.connections, Connections::Shared { .. });
        if is_shared && lane.speaks_http2.get().is_none() {
            // Nobody knows yet whether one connection will do for all: one opens it, the others wait.
            let _opening = lane.opening.lock().await;
            if lane.speaks_http2.get().is_none() {
                return self.open(&lane, lane.place().await, phases).await;
            }
        }
        if lane.speaks_http2.get() == Some(true) && self.settings.connections != Connections::PerRequest {
            return self.take_http2(&lane, phases).await;
        }
        let place = lane.place().await;
        while let Some(mut kept) = lane.pop_idle() {
            if kept.is_open().await {
                return Ok(lane.lease(Connection::Http1(kept), place));
            }
        }
        self.open(&lane, place, phases).await
    }

    /// One of the shared connections in turn, once there are as many as there may be.
    async fn take_http2(&self, lane: &Rc<Lane>, phases: &mut Phases) -> Result<Lease, Failure> {
        let most = self.settings.most.unwrap_or(1);
        let open = lane.open_http2();
        if open < most {
            // While one user opens the next connection, others use those that there are.
            let opening = if open == 0 { Some(lane.opening.lock().await) } else { lane.opening.try_lock().ok() };
            if opening.is_some() && lane.open_http2() < most {
                return self.open(lane, None, phases).await;
            }
        }
        match lane.next_http2() {
            Some(shared) => Ok(lane.lease(Connection::Http2(shared), None)),
            None => self.open(lane, None, phases).await,
        }
    }

    async fn open(
        &self,
        lane: &Rc<Lane>,
        place: Option<OwnedSemaphorePermit>,
        phases: &mut Phases,
    ) -> Result<Lease, Failure> {
        let dialled = self.settings.dialler.dial(&lane.origin, phases).await?;
        // With prior knowledge there is no TLS that could have agreed on it.
        let is_http2 = dialled.is_http2 || self.settings.version == HttpVersion::Http2;
        lane.speaks_http2.set(Some(is_http2));
        if !is_http2 {
            return Ok(lane.lease(Connection::http1(dialled.stream).await?, place));
        }
        let shared = Connection::http2(dialled.stream).await?;
        if self.settings.connections != Connections::PerRequest {
            lane.shared.borrow_mut().push(shared.reused());
        }
        Ok(lane.lease(Connection::Http2(shared), None))
    }

    /// Keeps a connection whose response was read to its end.
    pub(super) async fn give_back(&self, lease: Lease) {
        let Lease { connection, lane, .. } = lease;
        if let Connection::Http1(mut own) = connection
            && self.settings.connections != Connections::PerRequest
            && own.can_be_kept().await
        {
            lane.idle.borrow_mut().push(own);
        }
    }

    fn lane(&self, origin: &Origin) -> Rc<Lane> {
        let mut lanes = self.lanes.borrow_mut();
        let known = lanes.find(|lane| lane.origin == *origin);
        known.unwrap_or_else(|| lanes.add(Lane::new(origin.clone(), &self.settings)))
    }
}

impl Lane {
    fn new(origin: Origin, settings: &Settings) -> Self {
        let speaks_http2 = match settings.version {
            HttpVersion::Http1 => Some(false),
            HttpVersion::Http2 => Some(true),
            HttpVersion::Auto if !origin.secure => Some(false),
            HttpVersion::Auto => None,
        };
        Lane {
            origin,
            speaks_http2: Cell::new(speaks_http2),
            idle: RefCell::default(),
            shared: RefCell::default(),
            turn: Cell::new(0),
            places: settings.most.map(|most| Arc::new(Semaphore::new(most))),
            opening: Mutex::new(()),
        }
    }

    fn lease(self: &Rc<Self>, connection: Connection, place: Option<OwnedSemaphorePermit>) -> Lease {
        Lease { is_reused: connection.is_used(), connection, lane: Rc::clone(self), _place: place }
    }

    fn pop_idle(&self) -> Option<Http1> {
        self.idle.borrow_mut().pop()
    }

    /// A place for one more connection at work, once there is one.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        match &self.places {
            // It is never closed.
            Some(places) => Arc::clone(places).acquire_owned().await.ok(),
            None => None,
        }
    }

    /// How many shared connections are open.
    fn open_http2(&self) -> usize {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|connection| !connection.is_closed());
        shared.len()
    }

    fn next_http2(&self) -> Option<Http2> {
        let shared = self.shared.borrow();
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        shared.get(turn.checked_rem(shared.len())?).map(Http2::reused)
    }
}

#[cfg(test)]
mod tests {
    use groundswell_scenario::Share;
    use groundswell_scenario::http::HttpOptions;

    use super::*;
    use crate::transport::conformance::setup;
    use crate::transport::direct::Direct;
    use crate::transport::recent::tests::MOST_KEPT;

    #[test]
    fn a_target_that_leads_to_ever_new_ports_is_not_kept_for_ever() {
        let direct = Direct::new(&setup(HttpOptions::default()), &Share::whole());
        let origin = |port| Origin { secure: false, host: "target".into(), address: None, port };
        let first = direct.pool.lane(&origin(1));
        (1..3_000).for_each(|port| drop(direct.pool.lane(&origin(port))));
        assert_eq!(direct.pool.lanes.borrow().len(), MOST_KEPT);
        assert!(Rc::ptr_eq(&first, &direct.pool.lane(&origin(1))), "connections at work keep their limits");
    }
}
