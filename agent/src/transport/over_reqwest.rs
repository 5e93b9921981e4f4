//! HTTP over reqwest: HTTP/1.1 and HTTP/2, TLS, cookies.

use bytes::{Bytes, BytesMut};
use groundswell_scenario::plan::{Connections, HttpOptions, HttpVersion};
use groundswell_stats::Phases;
use reqwest::redirect;
use tokio::time::{Instant, timeout};

use super::{Failure, HttpTransport, MAX_KEPT_BODY_BYTES, Request, Response, Tls};
use crate::clock::micros;

/// One reqwest client: one owner of connections and cookies.
#[derive(Debug, Clone)]
pub(crate) struct ReqwestTransport {
    client: reqwest::Client,
}

impl ReqwestTransport {
    pub(crate) fn new(options: &HttpOptions, tls: &Tls) -> Result<Self, reqwest::Error> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.config())
            // The target's own count must equal ours: nothing is sent that the plan does not name.
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .tcp_nodelay(true)
            .cookie_store(options.cookies && options.connections == Connections::PerUser)
            .user_agent(concat!("groundswell/", env!("CARGO_PKG_VERSION")));
        builder = match options.version {
            HttpVersion::Auto => builder,
            HttpVersion::Http1 => builder.http1_only(),
            HttpVersion::Http2 => builder.http2_prior_knowledge(),
        };
        builder = match options.connections {
            Connections::PerUser => builder.pool_max_idle_per_host(1),
            Connections::Shared => builder,
            Connections::PerRequest => builder.pool_max_idle_per_host(0),
        };
        Ok(ReqwestTransport { client: builder.build()? })
    }

    async fn exchange(&self, request: Request, phases: &mut Phases) -> Result<Response, Failure> {
        let keep_body = request.keep_body;
        let mut builder = self.client.request(request.method, request.target.url.clone()).headers(request.headers);
        if let Some(body) = request.body {
            builder = builder.body(body);
        }
        let sent = Instant::now();
        let mut response = builder.send().await.map_err(|error| classify(&error))?;
        // reqwest does not tell the time of its parts: this one has the connection in it, where one had to be opened.
        phases.first_byte_us = Some(micros(sent.elapsed()));
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        let mut bytes_received = 0;
        let mut kept = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| classify(&error))? {
            bytes_received += chunk.len() as u64;
            if keep_body {
                if kept.len() + chunk.len() > MAX_KEPT_BODY_BYTES {
                    return Err(Failure::class("body_too_large"));
                }
                kept.extend_from_slice(&chunk);
            }
        }
        Ok(Response { status, headers, body: Bytes::from(kept), bytes_received })
    }
}

impl HttpTransport for ReqwestTransport {
    async fn send(&self, request: Request, phases: &mut Phases) -> Result<Response, Failure> {
        match timeout(request.timeout, self.exchange(request, phases)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Timeout),
        }
    }
}

fn classify(error: &reqwest::Error) -> Failure {
    if error.is_timeout() {
        return Failure::Timeout;
    }
    if error.is_dns() {
        return Failure::class("dns");
    }
    Failure::of_chain(error, fallback_class(error))
}

/// For errors without an I/O error inside. hyper says in words only that a connection ended within a message.
fn fallback_class(error: &reqwest::Error) -> &'static str {
    if error.is_connect() {
        return "connect_failed";
    }
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let text = inner.to_string();
        if text.contains("closed before message completed") || text.contains("end of file before message") {
            return "connection_closed";
        }
        source = inner.source();
    }
    "protocol"
}
