//! HTTP over hyper's connections, driven on the worker's own runtime: HTTP/1.1 and HTTP/2, TLS, with the time of each
//! phase. What it does for one request is what the target sees: one request.
//!
//! # Layout
//! - `connection`: one connection, and a request on it
//! - `heads`: maps of headers that are used again
//! - `pool`: the connections of one owner

mod connection;
mod heads;
mod pool;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use groundswell_scenario::Share;
use groundswell_scenario::http::{Connections, HttpVersion};
use http::Method;
use tokio::time::{Instant, timeout};

use super::client::Setup;
use super::dial::Dialler;
use super::{Extra, Failure, HttpTransport, MAX_KEPT_BODY_BYTES, Progress, Request, Response, spend};
use connection::{Broken, Incoming};
use heads::Heads;
use pool::{Lease, Pool};

/// One owner of connections.
pub(super) struct Direct {
    settings: Rc<Settings>,
    pool: Pool,
}

/// What all owners of a worker share.
struct Settings {
    dialler: Dialler,
    heads: Heads,
    version: HttpVersion,
    connections: Connections,
    /// Most connections of this worker to an origin.
    most: Option<usize>,
    first_byte_timeout: Option<Duration>,
    retry_stale: bool,
    max_body: u64,
}

impl Direct {
    pub(super) fn new(setup: &Setup, share: &Share) -> Rc<Self> {
        let options = &setup.plan.http;
        let config = setup.tls.config(options.version);
        let most = match options.connections {
            Connections::Shared { most: Some(most) } => {
                Some(usize::try_from(share.count_below(u64::from(most))).unwrap_or(usize::MAX).max(1))
            }
            _ => None,
        };
        let settings = Rc::new(Settings {
            dialler: Dialler::new(setup.resolver.clone(), setup.gate.clone(), Arc::new(config), options),
            heads: Heads::default(),
            version: options.version,
            connections: options.connections,
            most,
            first_byte_timeout: options.first_byte_timeout,
            retry_stale: options.retry_stale,
            max_body: options.max_body.unwrap_or(u64::MAX),
        });
        Rc::new(Direct { pool: Pool::new(Rc::clone(&settings)), settings })
    }

    /// Another owner with the same settings.
    pub(super) fn another(&self) -> Rc<Self> {
        let settings = Rc::clone(&self.settings);
        Rc::new(Direct { pool: Pool::new(Rc::clone(&settings)), settings })
    }

    /// Takes a response of its that nobody reads any more.
    pub(super) fn take_back(&self, response: Response) {
        self.settings.heads.take_back(response.headers);
    }

    /// The head of the response, with the connection that its body comes over.
    async fn head(
        &self,
        request: &Request,
        extra: &Extra,
        progress: &mut Progress,
    ) -> Result<(Incoming, Lease, Instant), Failure> {
        let mut may_retry = self.settings.retry_stale && is_idempotent(&request.method);
        loop {
            let mut lease = self.pool.take(&request.target.origin, &mut progress.phases).await?;
            let headers = self.settings.heads.copy_of(&request.headers);
            let message = lease.connection.message(request, headers, extra);
            // A kept connection is taken without waiting, so an operation's first request goes out as it is handed over.
            let sent = match progress.begun.take() {
                Some(begun) if lease.is_reused && self.settings.most.is_none() => begun,
                _ => Instant::now(),
            };
            let answer = match self.settings.first_byte_timeout {
                None => lease.connection.send(message, &mut progress.bytes_sent).await,
                Some(limit) => timeout(limit, lease.connection.send(message, &mut progress.bytes_sent))
                    .await
                    .unwrap_or(Err(Broken { failure: Failure::class("first_byte_timeout"), is_unsent: false })),
            };
            match answer {
                Ok(incoming) => {
                    let arrived = spend(&mut progress.phases.first_byte_us, sent);
                    return Ok((incoming, lease, arrived));
                }
                // The target closed a kept connection before a byte of the request was written: it has not seen it.
                Err(Broken { is_unsent: true, .. }) if lease.is_reused => {}
                Err(Broken { failure, .. }) if may_retry && failure.is("stale_connection") => {
                    may_retry = false;
                    progress.follow_ups += 1;
                }
                Err(Broken { failure, .. }) => return Err(failure),
            }
        }
    }
}

impl HttpTransport for Direct {
    async fn exchange(&self, request: &Request, extra: Extra, progress: &mut Progress) -> Result<Response, Failure> {
        let (Incoming { status, headers, mut body }, mut lease, arrived) = self.head(request, &extra, progress).await?;
        let mut kept = BytesMut::new();
        let mut received = 0;
        let mut whole = Bytes::new();
        let ended = loop {
            let data = match lease.connection.next(&mut body).await {
                Ok(Some(data)) => data,
                Ok(None) => break Ok(()),
                Err(failure) => break Err(failure),
            };
            received += data.len() as u64;
            progress.bytes_received += data.len() as u64;
            if received > self.settings.max_body || (request.keep_body && received > MAX_KEPT_BODY_BYTES as u64) {
                break Err(Failure::class("body_too_large"));
            }
            if request.keep_body {
                // Most bodies come in one piece, which is taken as it is.
                match (whole.is_empty(), kept.is_empty()) {
                    (true, true) => whole = data,
                    (_, is_first) => {
                        if is_first {
                            kept.extend_from_slice(&std::mem::take(&mut whole));
                        }
                        kept.extend_from_slice(&data);
                    }
                }
            }
        };
        progress.ended = Some(spend(&mut progress.phases.body_us, arrived));
        ended?;
        self.pool.give_back(lease).await;
        Ok(Response { status, headers, body: if kept.is_empty() { whole } else { kept.freeze() } })
    }
}

/// Sending it twice is as good as sending it once (RFC 9110, section 9.2.2).
fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::PUT | Method::DELETE | Method::OPTIONS)
}
