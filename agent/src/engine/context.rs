//! What all tasks of a worker share, and the signal that ends their load.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use groundswell_scenario::Plan;
use groundswell_scenario::flow::HttpRequest;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::lease::Lease;
use super::recording::Recording;
use super::render::{DataFeed, Templates};
use crate::clock::RunClock;
use crate::pace::Pace;
use crate::timer::Timer;
use crate::transport::{Clients, Request};

/// The built requests of one slot: steps of the same name share it, so each is known by its place in the plan.
pub(super) type Constants = RefCell<Vec<(*const HttpRequest, Rc<Request>)>>;

/// What all tasks of a worker share, whichever assignment they work for.
pub(super) struct Context {
    pub(super) plan: Arc<Plan>,
    pub(super) clock: RunClock,
    pub(super) timer: Timer,
    pub(super) recording: Rc<Recording>,
    pub(super) templates: Templates,
    /// One for each data set: the rows of the share that the worker began with. What it takes over draws from them too:
    /// the rows of an agent that is gone may be used already, its own are not, so no row is used twice.
    pub(super) data: Vec<DataFeed>,
    pub(super) stop: Rc<StopSignal>,
    pub(super) lease: Lease,
    /// Nothing is issued from then on, whatever anybody says; none for no such limit.
    pub(super) ends: Option<Instant>,
    /// Requests without templates, built once, by scenario and slot.
    pub(super) constant_requests: Vec<Vec<Constants>>,
    pub(super) clients: Clients,
    /// The turns in which operations begin; none for no limit.
    pub(super) pace: Option<Arc<Pace>>,
}

impl Context {
    /// Waits until the deadline; false when the run was stopped before it.
    pub(super) async fn pause_until(&self, deadline: Instant) -> bool {
        self.pause(|| Some(deadline)).await
    }

    /// Waits until a deadline that may change while it is waited for; false when the run was stopped or there is no
    /// deadline any more.
    pub(super) async fn pause(&self, deadline: impl Fn() -> Option<Instant>) -> bool {
        loop {
            let changed = self.stop.changed.notified();
            if self.stop.reason().is_some() {
                return false;
            }
            let Some(deadline) = deadline() else { return false };
            tokio::select! {
                biased;
                () = changed => {}
                // This wake-up may be long after the deadline, where the process was held back.
                now = self.timer.sleep_until(deadline) => return self.may_issue(now),
            }
        }
    }

    /// May something be issued at this moment, which the caller has just read from the clock? Where the lease has run out,
    /// or the longest load is over, the load ends.
    pub(super) fn may_issue(&self, now: Instant) -> bool {
        let allowed = self.lease.allows(now);
        if !allowed {
            self.stop.stop(LEASE_EXPIRED, Rest::HandedOn);
        }
        let is_over = self.ends.is_some_and(|ends| now >= ends);
        if is_over {
            self.stop.stop(MAX_DURATION, Rest::Counted);
        }
        allowed && !is_over
    }
}

/// The account's word for what the end of a lease kept from being generated.
pub(super) const LEASE_EXPIRED: &str = "lease_expired";

/// The account's word for what the agent's longest load kept from being generated.
pub(super) const MAX_DURATION: &str = "max_duration";

/// What becomes of the iterations whose time has not come when a load is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Rest {
    /// They enter the account as scheduled and not generated.
    #[default]
    Counted,
    /// Nothing here: others get them, and the coordinator sees from the cursors which.
    HandedOn,
}

/// "Issue nothing more", with the reason for the account.
#[derive(Default)]
pub(super) struct StopSignal {
    reason: Cell<Option<&'static str>>,
    rest: Cell<Rest>,
    /// The load was stopped, or an assignment has got an end.
    changed: Notify,
}

impl StopSignal {
    /// The reason, once stopped.
    pub(super) fn reason(&self) -> Option<&'static str> {
        self.reason.get()
    }

    /// What becomes of what is left, once stopped.
    pub(super) fn rest(&self) -> Rest {
        self.rest.get()
    }

    /// Ends the load. Only the first reason counts.
    pub(super) fn stop(&self, reason: &str, rest: Rest) {
        // Reasons are few and known; one that a newer coordinator made up is still a stop.
        const KNOWN: [&str; 11] = [
            "interrupted",
            "threshold",
            "agent_lost",
            "agent_left",
            "coordinator_lost",
            "client_gone",
            "start_failed",
            LEASE_EXPIRED,
            MAX_DURATION,
            "agent_limits",
            "aborted",
        ];
        if self.reason.get().is_none() {
            self.reason.set(Some(KNOWN.into_iter().find(|known| *known == reason).unwrap_or("stopped")));
            self.rest.set(rest);
        }
        self.changed.notify_waiters();
    }

    /// Whoever pauses looks again how long.
    pub(super) fn look_again(&self) {
        self.changed.notify_waiters();
    }

    /// Returns when the load was stopped.
    pub(super) async fn stopped(&self) {
        loop {
            let changed = self.changed.notified();
            if self.reason().is_some() {
                return;
            }
            changed.await;
        }
    }
}
