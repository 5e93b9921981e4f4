//! HTTP over reqwest: what the direct transport can't do (proxies), and a second opinion on all that it can.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use groundswell_scenario::http::{Connections, HttpOptions, HttpVersion};
use http::header::{AUTHORIZATION, COOKIE};
use reqwest::{Proxy, redirect};
use tokio::time::Instant;

use super::client::Setup;
use super::failure::{Stage, is_end_of_connection};
use super::gate::{Barred, Place};
use super::recent::Recent;
use super::resolve::OfOrigin;
use super::target::Origin;
use super::{
    Extra, Failure, HttpTransport, MAX_HTTP2_HEAD_BYTES, MAX_KEPT_BODY_BYTES, Payload, Progress, Request, Response,
    spend,
};

/// One owner of connections. It has a client for each origin, because only then is it known which port an address is looked
/// up for: what the agent allows is decided with the port.
pub(super) struct Reqwest {
    setup: Setup,
    /// Chooses among several source addresses.
    number: u64,
    proxy: Option<Origin>,
    clients: RefCell<Recent<OriginClient>>,
}

struct OriginClient {
    origin: Origin,
    client: reqwest::Client,
    /// Of the user's own connection, once it has one.
    place: RefCell<Place>,
}

impl Reqwest {
    pub(super) fn new(setup: &Setup, number: u64) -> Result<Rc<Self>, reqwest::Error> {
        let proxy = setup.plan.http.proxy.as_ref().and_then(Origin::of_proxy);
        let own = Reqwest { setup: setup.clone(), number, proxy, clients: RefCell::default() };
        // What can fail fails here, and not at the first request.
        if let Some(origin) = Origin::of(&setup.plan.target) {
            own.client(&origin)?;
        }
        Ok(Rc::new(own))
    }

    fn options(&self) -> &HttpOptions {
        &self.setup.plan.http
    }

    fn client(&self, origin: &Origin) -> Result<Rc<OriginClient>, reqwest::Error> {
        let mut clients = self.clients.borrow_mut();
        if let Some(known) = clients.find(|client| client.origin == *origin) {
            return Ok(known);
        }
        let client = self.build(origin)?;
        Ok(clients.add(OriginClient { origin: origin.clone(), client, place: RefCell::default() }))
    }

    fn build(&self, origin: &Origin) -> Result<reqwest::Client, reqwest::Error> {
        let options = self.options();
        let Setup { resolver, gate, tls, .. } = &self.setup;
        let resolver = OfOrigin {
            resolver: resolver.clone(),
            gate: gate.clone(),
            origin: origin.clone(),
            proxy: self.proxy.clone(),
        };
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.config(options.version))
            // The target's own count must equal ours: nothing is sent that the plan does not name.
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .tcp_nodelay(true)
            .http2_max_header_list_size(MAX_HTTP2_HEAD_BYTES)
            .dns_resolver(resolver);
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
        let turn = self.number.checked_rem(bind.len() as u64).and_then(|turn| usize::try_from(turn).ok());
        builder.local_address(turn.and_then(|turn| bind.get(turn)).copied()).build()
    }

    /// Whether the agent lets a request go to this origin, as far as no name has to be looked up for it; the rest is
    /// decided where that is done.
    fn admit(&self, origin: &Origin) -> Result<(), Barred> {
        let Setup { gate, resolver, .. } = &self.setup;
        for literal in self.proxy.iter().chain([origin]) {
            if let Some(address) = literal.address {
                gate.admitted(Some(&literal.host), vec![SocketAddr::new(address, literal.port)])?;
            }
        }
        let looked_up_by_proxy = self.options().proxy.as_ref().is_some_and(|proxy| proxy.scheme() != "socks5");
        match looked_up_by_proxy && origin.address.is_none() {
            true => gate.decide_unseen(&origin.host, origin.port).map_err(|_| Barred::NotAllowed),
            false => resolver.may_resolve(origin),
        }
    }

    /// A place for the connection of a request. The library does not tell when it opens and closes one: a user's own counts
    /// from its first request to the user's end, any other while it is at work.
    fn place(&self, client: &OriginClient) -> Result<Place, Failure> {
        if self.options().connections != Connections::PerUser {
            return self.setup.gate.place();
        }
        let mut own = client.place.borrow_mut();
        if own.is_none() {
            *own = self.setup.gate.place()?;
        }
        Ok(None)
    }

    async fn head(
        &self,
        client: &OriginClient,
        request: &Request,
        extra: Extra,
        progress: &mut Progress,
    ) -> Result<reqwest::Response, Failure> {
        let mut builder = client.client.request(request.method.clone(), request.target.url.clone());
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
            match is_closed && error.is_connect() && request.target.origin.secure && self.proxy.is_none() {
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
        let origin = &request.target.origin;
        self.admit(origin)?;
        // It was built from the same options before, so this can't fail where that did not.
        let client = self.client(origin).map_err(|_| Failure::class("connect_failed"))?;
        let _place = self.place(&client)?;
        let max_body = self.options().max_body.unwrap_or(u64::MAX);
        let mut response = self.head(&client, request, extra, progress).await?;
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
            if received > max_body || (request.keep_body && received > MAX_KEPT_BODY_BYTES as u64) {
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
    let otherwise = if error.is_dns() { "dns" } else { fallback_class(error) };
    match Failure::of_chain(error, otherwise) {
        // The name service's own errors are I/O errors too.
        Failure::Error(_) if error.is_dns() => Failure::class("dns"),
        failure => failure,
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use http::{HeaderMap, Method};
    use url::Url;

    use super::*;
    use crate::transport::Target;
    use crate::transport::conformance::setup;
    use crate::transport::recent::tests::MOST_KEPT;

    /// A client of reqwest is dear, so there is none for where nothing may be sent to, and an end to their number.
    #[tokio::test]
    async fn a_target_that_leads_to_ever_new_ports_is_not_kept_for_ever() {
        let own = Reqwest::new(&setup(HttpOptions::default()), 0).unwrap();
        assert_eq!(own.clients.borrow().len(), 1);
        for host in ["192.0.2.1", "x.invalid"] {
            let request = Request {
                method: Method::GET,
                target: Target::new(Url::parse(&format!("http://{host}/")).unwrap()).unwrap(),
                headers: HeaderMap::new(),
                payload: Payload::Empty,
                timeout: std::time::Duration::from_secs(10),
                keep_body: false,
                login: None,
                max_redirects: 0,
            };
            let refused = own.exchange(&request, Extra::default(), &mut Progress::default()).await.err();
            assert_eq!(refused, Some(Barred::NotAllowed.into()), "{host}");
        }
        assert_eq!(own.clients.borrow().len(), 1, "a client was built for nothing");
        for port in 1..=u16::try_from(MOST_KEPT).unwrap() + 20 {
            own.client(&Origin { secure: false, host: "localhost".into(), address: None, port }).unwrap();
        }
        assert_eq!(own.clients.borrow().len(), MOST_KEPT);
    }
}
