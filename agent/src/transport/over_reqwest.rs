//! HTTP over reqwest: what the direct transport can't do (proxies), and a second opinion on all that it can.

use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use groundswell_scenario::http::{Connections, HttpOptions, HttpVersion};
use http::header::{AUTHORIZATION, COOKIE};
use reqwest::{Proxy, redirect};
use tokio::time::Instant;

use super::failure::{Stage, is_end_of_connection};
use super::resolve::Resolver;
use super::tls::Tls;
use super::{
    Extra, Failure, HttpTransport, MAX_HTTP2_HEAD_BYTES, MAX_KEPT_BODY_BYTES, Payload, Progress, Request, Response,
    spend,
};

/// One reqwest client: one owner of connections.
#[derive(Debug, Clone)]
pub(super) struct Reqwest {
    client: reqwest::Client,
    max_body: u64,
    has_proxy: bool,
}

impl Reqwest {
    /// `number` chooses among several source addresses.
    pub(super) fn new(
        resolver: &Resolver,
        tls: &Tls,
        options: &HttpOptions,
        number: u64,
    ) -> Result<Self, reqwest::Error> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.config(options.version))
            // The target's own count must equal ours: nothing is sent that the plan does not name.
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .tcp_nodelay(true)
            .http2_max_header_list_size(MAX_HTTP2_HEAD_BYTES)
            .dns_resolver(resolver.clone());
        builder = match options.version {
            HttpVersion::Auto => builder,
            HttpVersion::Http1 => builder.http1_only(),
            HttpVersion::Http2 => builder.http2_prior_knowledge(),
        };
        builder = match options.connections {
            Connections::PerUser => builder.pool_max_idle_per_host(1),
            Connections::Shared { .. } => builder,
            Connections::PerRequest => builder.pool_max_idle_per_host(0),
        };
        if let Some(limit) = options.connect_timeout {
            builder = builder.connect_timeout(limit);
        }
        if let Some(proxy) = &options.proxy {
            builder = builder.proxy(Proxy::all(proxy.clone())?);
        }
        let bind = &options.network.bind;
        let turn = number.checked_rem(bind.len() as u64).and_then(|turn| usize::try_from(turn).ok());
        builder = builder.local_address(turn.and_then(|turn| bind.get(turn)).copied());
        let (max_body, has_proxy) = (options.max_body.unwrap_or(u64::MAX), options.proxy.is_some());
        Ok(Reqwest { client: builder.build()?, max_body, has_proxy })
    }

    async fn head(
        &self,
        request: &Request,
        extra: Extra,
        progress: &mut Progress,
    ) -> Result<reqwest::Response, Failure> {
        let mut builder = self.client.request(request.method.clone(), request.target.url.clone());
        builder = builder.headers(request.headers.clone());
        if let Some(cookie) = extra.cookie {
            builder = builder.header(COOKIE, cookie);
        }
        if let Some(authorization) = extra.authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        let (body, streamed) = request.payload.outgoing();
        builder = match &request.payload {
            Payload::Empty => builder,
            Payload::Whole(bytes) => builder.body(bytes.clone()),
            Payload::Parts(_) | Payload::Stream(_) => builder.body(reqwest::Body::wrap(body)),
        };
        let sent = Instant::now();
        let answer = builder.send().await;
        progress.bytes_sent += request.payload.known_length().unwrap_or(0);
        progress.bytes_sent += streamed.map_or(0, |streamed| streamed.load(Ordering::Relaxed));
        let response = answer.map_err(|error| {
            let failure = classify(&error);
            let is_closed = failure.is("connection_closed") || failure.is("connection_reset");
            // Without a proxy, a connection that is open and not yet ready can only be in its handshake.
            match is_closed && error.is_connect() && request.target.origin.secure && !self.has_proxy {
                true => Failure::class("tls_closed"),
                false => failure,
            }
        })?;
        // reqwest does not tell the time of its parts: this one has the connection in it, where one had to be opened.
        spend(&mut progress.phases.first_byte_us, sent);
        Ok(response)
    }
}

impl HttpTransport for Reqwest {
    async fn exchange(&self, request: &Request, extra: Extra, progress: &mut Progress) -> Result<Response, Failure> {
        let mut response = self.head(request, extra, progress).await?;
        let arrived = Instant::now();
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        let mut received = 0;
        let mut kept = BytesMut::new();
        let ended = loop {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break Ok(()),
                Err(error) => break Err(classify(&error).at(Stage::Body)),
            };
            received += chunk.len() as u64;
            progress.bytes_received += chunk.len() as u64;
            if received > self.max_body || (request.keep_body && received > MAX_KEPT_BODY_BYTES as u64) {
                break Err(Failure::class("body_too_large"));
            }
            if request.keep_body {
                kept.extend_from_slice(&chunk);
            }
        };
        progress.ended = Some(spend(&mut progress.phases.body_us, arrived));
        ended?;
        Ok(Response { status, headers, body: Bytes::from(kept) })
    }
}

fn classify(error: &reqwest::Error) -> Failure {
    // The only limit of time that reqwest is told of.
    if error.is_timeout() {
        return Failure::class("connect_timeout");
    }
    if error.is_dns() {
        return Failure::class("dns");
    }
    Failure::of_chain(error, fallback_class(error))
}

/// For errors without an I/O error inside. hyper says in words only that a connection ended within a message.
fn fallback_class(error: &reqwest::Error) -> &'static str {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(hyper) = inner.downcast_ref::<hyper::Error>() {
            if hyper.is_parse_too_large() {
                return "headers_too_large";
            }
            if is_end_of_connection(hyper) {
                return "connection_closed";
            }
        }
        source = inner.source();
    }
    if error.is_connect() { "connect_failed" } else { "protocol" }
}
