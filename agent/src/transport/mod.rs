//! How operations reach the target. The engine knows this module's types only; which library carries them is decided
//! here.

#[cfg(test)]
mod conformance;
mod dial;
mod direct;
mod failure;
mod over_reqwest;
mod target;
mod tls;
mod websocket;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use groundswell_scenario::plan::{HttpOptions, TransportKind};
use groundswell_stats::Phases;
use http::{HeaderMap, Method};

pub(crate) use direct::DirectTransport;
pub(crate) use failure::Failure;
pub(crate) use over_reqwest::ReqwestTransport;
pub(crate) use target::{InvalidTarget, Target};
pub(crate) use tls::Tls;
pub(crate) use websocket::{Handshake, Message, Socket};

/// Largest response body that is kept for expectations and captures.
pub(crate) const MAX_KEPT_BODY_BYTES: usize = 16 << 20;

/// Carries HTTP requests. One value is one owner of connections: a user, or all users of a worker.
pub(crate) trait HttpTransport {
    /// Sends one request and reads the whole response. The target sees it at most once. `phases` gets what this transport
    /// can tell, also of a request that fails.
    fn send(&self, request: Request, phases: &mut Phases) -> impl Future<Output = Result<Response, Failure>>;
}

/// The transport of a user, as the plan chooses it.
#[derive(Clone)]
pub(crate) enum Transport {
    Direct(DirectTransport),
    Reqwest(ReqwestTransport),
}

impl Transport {
    pub(crate) fn new(options: &HttpOptions, tls: &Tls) -> Result<Self, reqwest::Error> {
        Ok(match options.transport {
            TransportKind::Direct => Transport::Direct(DirectTransport::new(options, tls)),
            TransportKind::Reqwest => Transport::Reqwest(ReqwestTransport::new(options, tls)?),
        })
    }

    /// Another owner of connections with the same settings.
    pub(crate) fn another(&self, options: &HttpOptions, tls: &Tls) -> Self {
        match self {
            Transport::Direct(direct) => Transport::Direct(direct.another()),
            // It was built from the same options before, so this can't fail where that did not; should it fail all the
            // same, sharing connections keeps the load up.
            Transport::Reqwest(shared) => {
                Transport::Reqwest(ReqwestTransport::new(options, tls).unwrap_or_else(|_| shared.clone()))
            }
        }
    }
}

impl HttpTransport for Transport {
    async fn send(&self, request: Request, phases: &mut Phases) -> Result<Response, Failure> {
        match self {
            Transport::Direct(direct) => direct.send(request, phases).await,
            Transport::Reqwest(reqwest) => reqwest.send(request, phases).await,
        }
    }
}

/// One HTTP request, ready to go.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) target: Arc<Target>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
    /// Limit from the hand-over to the last byte of the response.
    pub(crate) timeout: Duration,
    /// Whether anything looks at the response's body; if not, it is counted and dropped as it comes.
    pub(crate) keep_body: bool,
}

/// One HTTP response, read to its end.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// The body where it was kept, else empty.
    pub(crate) body: Bytes,
    /// Bytes of the body.
    pub(crate) bytes_received: u64,
}
