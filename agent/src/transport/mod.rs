//! How operations reach the target. The engine knows this module's types only; which library carries them is decided
//! here.
//!
//! # Layout
//! - `client`: what one user has above single requests: cookies, redirects, digest, decoding, the time limit
//! - `direct`: HTTP/1.1 and HTTP/2 on connections of the worker's own; `over_reqwest`: the same by reqwest
//! - `websocket`: WebSocket connections; `frames` counts what passes on them
//! - `resolve`, `dial`, `tls`: names, connections and handshakes, for all of them but reqwest's connections
//! - `recent`: what is kept of origins, in bounds
//! - `gate`: where connections may go, and how many there are
//! - `target`, `body`, `decode`: parts of messages
//! - `failure`: why an operation failed, as a class

mod body;
mod client;
#[cfg(test)]
mod conformance;
mod decode;
mod dial;
mod digest;
mod direct;
mod failure;
mod frames;
mod gate;
mod over_reqwest;
mod recent;
mod redirect;
mod resolve;
mod target;
mod tls;
mod websocket;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use groundswell_stats::Phases;
use http::{HeaderMap, HeaderValue, Method};
use tokio::time::Instant;

pub(crate) use body::{Payload, Streamed};
pub(crate) use client::{Client, Clients, Setup};
pub(crate) use digest::Login;
pub(crate) use failure::Failure;
pub(crate) use gate::{Barred, Budget, Gate};
pub(crate) use resolve::Resolver;
pub(crate) use target::{InvalidTarget, Target};
pub(crate) use tls::TlsError;
pub(crate) use websocket::{Arrival, Ended, Handshake, Message, Socket};

use crate::clock::micros;

/// Largest response body that is kept for expectations and captures, as it comes and decoded.
const MAX_KEPT_BODY_BYTES: usize = 16 << 20;
/// Largest head of a response, and most that a target may send before its head is complete.
const MAX_HEAD_BYTES: usize = 256 << 10;
/// The same over HTTP/2, where names and values count as they are when unpacked, and 32 bytes more for each pair
/// (RFC 9113, section 6.5.2).
const MAX_HTTP2_HEAD_BYTES: u32 = 64 << 10;

/// Carries one request and its response: no redirect, no retry that the plan does not ask for, so the target sees each
/// at most once.
trait HttpTransport {
    /// Sends a request and reads the response to its end. `progress` gets what became of it, also where it fails.
    fn exchange(
        &self,
        request: &Request,
        extra: Extra,
        progress: &mut Progress,
    ) -> impl Future<Output = Result<Response, Failure>>;
}

/// One HTTP request, complete but for what differs from user to user; sent as often as wanted.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) target: Arc<Target>,
    /// All of them; [`Clients::complete`] adds those that every request has.
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Payload,
    /// Limit from the hand-over to the last byte of the last response.
    pub(crate) timeout: Duration,
    /// Whether anything looks at the response's body; if not, it is counted and dropped as it comes.
    pub(crate) keep_body: bool,
    /// Who answers a digest challenge.
    pub(crate) login: Option<Arc<Login>>,
    /// Redirects that are followed; none where 0.
    pub(crate) max_redirects: u32,
}

/// What a user adds to a request.
#[derive(Debug, Default)]
struct Extra {
    cookie: Option<HeaderValue>,
    authorization: Option<HeaderValue>,
}

/// One HTTP response, read to its end.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// The body where it was kept, else empty.
    pub(crate) body: Bytes,
}

/// How far an operation has come.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    /// Where its time went; those of its requests added up.
    pub(crate) phases: Phases,
    /// Bytes of bodies handed over.
    pub(crate) bytes_sent: u64,
    /// Bytes of bodies received, as they came.
    pub(crate) bytes_received: u64,
    /// Requests beyond the first.
    pub(crate) follow_ups: u64,
    /// When it was handed over.
    pub(crate) begun: Option<Instant>,
    /// When the last response was read to its end: the clock is not asked twice for the same moment.
    pub(crate) ended: Option<Instant>,
}

/// Adds the time since a moment to a phase.
fn spend(phase: &mut Option<u64>, since: Instant) -> Instant {
    let now = Instant::now();
    *phase = Some(phase.unwrap_or(0) + micros(now.saturating_duration_since(since)));
    now
}
