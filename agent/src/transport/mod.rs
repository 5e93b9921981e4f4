//! How operations reach the target. The engine knows this module's types only; which library carries them is decided
//! here.

mod failure;
mod over_reqwest;
mod tls;
mod websocket;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use url::Url;

pub(crate) use failure::Failure;
pub(crate) use over_reqwest::ReqwestTransport;
pub(crate) use tls::Tls;
pub(crate) use websocket::{Handshake, Message, Socket};

/// Largest response body that is kept for expectations and captures.
pub(crate) const MAX_KEPT_BODY_BYTES: usize = 16 << 20;

/// Carries HTTP requests. One value is one owner of connections: a user, or all users of a worker.
pub(crate) trait HttpTransport {
    /// Sends one request and reads the whole response. The target sees it at most once.
    fn send(&self, request: Request) -> impl Future<Output = Result<Response, Failure>> + Send;
}

/// One HTTP request, ready to go.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
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
