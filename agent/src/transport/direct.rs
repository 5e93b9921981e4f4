//! HTTP over hyper's connections, driven on the worker's own runtime: HTTP/1.1 and HTTP/2, TLS, cookies, with the time of
//! each phase. What the transport does for one request is what the target sees: no redirect, no retry.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cookie_store::CookieStore;
use groundswell_scenario::plan::{Connections, HttpOptions, HttpVersion};
use groundswell_stats::Phases;
use http::Version;
use http::header::{ACCEPT, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, SET_COOKIE, USER_AGENT};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::time::{Instant, timeout};
use url::Url;

use super::dial::{Dialled, dial};
use super::target::{Origin, Target};
use super::{Failure, HttpTransport, MAX_KEPT_BODY_BYTES, Request, Response, Tls};
use crate::clock::micros;

const AGENT: &str = concat!("groundswell/", env!("CARGO_PKG_VERSION"));

/// One owner of connections and cookies; clones share them.
#[derive(Clone)]
pub(crate) struct DirectTransport {
    inner: Rc<Inner>,
}

struct Inner {
    tls: Arc<ClientConfig>,
    version: HttpVersion,
    /// Connections are closed after one request.
    once: bool,
    /// A user talks to few origins, so looking through a list is faster than hashing.
    idle: RefCell<Vec<(Origin, Vec<Connection>)>>,
    /// None where cookies are not kept.
    cookies: Option<RefCell<CookieStore>>,
}

enum Connection {
    Http1(http1::SendRequest<Full<Bytes>>),
    /// Carries many requests at once.
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// Spawns on the worker's own set of tasks.
#[derive(Clone, Copy)]
struct OnThisThread;

impl<F: Future + 'static> hyper::rt::Executor<F> for OnThisThread
where
    F::Output: 'static,
{
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

impl DirectTransport {
    pub(crate) fn new(options: &HttpOptions, tls: &Tls) -> Self {
        let mut config = tls.config();
        config.alpn_protocols = match options.version {
            HttpVersion::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            HttpVersion::Http1 => vec![b"http/1.1".to_vec()],
            HttpVersion::Http2 => vec![b"h2".to_vec()],
        };
        let own_cookies = options.cookies && options.connections == Connections::PerUser;
        DirectTransport::of(
            Arc::new(config),
            options.version,
            options.connections == Connections::PerRequest,
            own_cookies,
        )
    }

    /// Another owner with the same settings.
    pub(crate) fn another(&self) -> Self {
        let Inner { tls, version, once, cookies, .. } = &*self.inner;
        DirectTransport::of(Arc::clone(tls), *version, *once, cookies.is_some())
    }

    fn of(tls: Arc<ClientConfig>, version: HttpVersion, once: bool, own_cookies: bool) -> Self {
        let cookies = own_cookies.then(RefCell::default);
        DirectTransport { inner: Rc::new(Inner { tls, version, once, idle: RefCell::default(), cookies }) }
    }

    async fn exchange(&self, request: Request, phases: &mut Phases) -> Result<Response, Failure> {
        let (target, keep_body) = (Arc::clone(&request.target), request.keep_body);
        let mut message = self.message(request)?;
        loop {
            let (mut connection, reused) = match self.take_idle(&target.origin).await {
                Some(connection) => (connection, true),
                None => (self.open(&target.url, phases).await?, false),
            };
            connection.address(&mut message, &target);
            let sent = Instant::now();
            match connection.send(message).await {
                Ok(response) => {
                    phases.first_byte_us = Some(micros(sent.elapsed()));
                    return self.read(response, &target, keep_body, connection).await;
                }
                // The target closed an idle connection before a byte of the request was written: it has not seen it.
                Err((_, Some(unsent))) if reused => message = unsent,
                Err((error, _)) => return Err(classify(&error)),
            }
        }
    }

    fn message(&self, request: Request) -> Result<http::Request<Full<Bytes>>, Failure> {
        let mut message = http::Request::new(Full::new(request.body.unwrap_or_default()));
        *message.method_mut() = request.method;
        let headers = message.headers_mut();
        *headers = request.headers;
        add_missing(headers, ACCEPT, HeaderValue::from_static("*/*"));
        add_missing(headers, USER_AGENT, HeaderValue::from_static(AGENT));
        if let Some(cookies) = &self.inner.cookies
            && !headers.contains_key(COOKIE)
        {
            let cookies = cookies.borrow();
            let pairs: Vec<String> = cookies
                .get_request_values(&request.target.url)
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            if !pairs.is_empty() {
                let value = HeaderValue::from_str(&pairs.join("; ")).map_err(|_| Failure::class("protocol"))?;
                headers.insert(COOKIE, value);
            }
        }
        Ok(message)
    }

    /// An idle connection that is still open.
    async fn take_idle(&self, origin: &Origin) -> Option<Connection> {
        loop {
            let mut connection = {
                let mut idle = self.inner.idle.borrow_mut();
                let (_, connections) = idle.iter_mut().find(|(known, _)| known == origin)?;
                match connections.last()? {
                    Connection::Http2(shared) if !shared.is_closed() => return Some(Connection::Http2(shared.clone())),
                    _ => connections.pop()?,
                }
            };
            if connection.is_ready().await {
                return Some(connection);
            }
        }
    }

    async fn open(&self, url: &Url, phases: &mut Phases) -> Result<Connection, Failure> {
        let Dialled { stream, is_http2 } = dial(url, &self.inner.tls, phases).await?;
        let io = TokioIo::new(stream);
        // With prior knowledge there is no TLS that could have agreed on it.
        if is_http2 || self.inner.version == HttpVersion::Http2 {
            let (sender, connection) = http2::handshake(OnThisThread, io).await.map_err(|error| classify(&error))?;
            tokio::task::spawn_local(async move { drop(connection.await) });
            return Ok(Connection::Http2(sender));
        }
        let (sender, connection) = http1::handshake(io).await.map_err(|error| classify(&error))?;
        // How it ends, its last request tells.
        tokio::task::spawn_local(async move { drop(connection.await) });
        Ok(Connection::Http1(sender))
    }

    /// Reads the response to its end and gives the connection back.
    async fn read(
        &self,
        response: http::Response<Incoming>,
        target: &Target,
        keep_body: bool,
        connection: Connection,
    ) -> Result<Response, Failure> {
        let (parts, mut body) = response.into_parts();
        self.keep_cookies(&parts.headers, &target.url);
        let mut bytes_received = 0;
        let mut kept = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|error| classify(&error))?.into_data() else { continue };
            bytes_received += data.len() as u64;
            if keep_body {
                if kept.len() + data.len() > MAX_KEPT_BODY_BYTES {
                    return Err(Failure::class("body_too_large"));
                }
                kept.extend_from_slice(&data);
            }
        }
        if !self.inner.once && !connection.is_closed() {
            self.keep(&target.origin, connection);
        }
        Ok(Response { status: parts.status.as_u16(), headers: parts.headers, body: kept.freeze(), bytes_received })
    }

    fn keep(&self, origin: &Origin, connection: Connection) {
        let mut idle = self.inner.idle.borrow_mut();
        match idle.iter_mut().find(|(known, _)| known == origin) {
            None => idle.push((origin.clone(), vec![connection])),
            // One connection of HTTP/2 is enough for everyone.
            Some((_, connections))
                if matches!((&connection, connections.last()), (Connection::Http2(_), Some(Connection::Http2(_)))) => {}
            Some((_, connections)) => connections.push(connection),
        }
    }

    fn keep_cookies(&self, headers: &HeaderMap, url: &Url) {
        let Some(cookies) = &self.inner.cookies else { return };
        for value in headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok()) {
            // A cookie that is malformed or for another host is not kept, as browsers do.
            let _ = cookies.borrow_mut().parse(value, url);
        }
    }
}

impl HttpTransport for DirectTransport {
    async fn send(&self, request: Request, phases: &mut Phases) -> Result<Response, Failure> {
        match timeout(request.timeout, self.exchange(request, phases)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Timeout),
        }
    }
}

/// An error of a connection, with the request where it has certainly not been sent.
type NotSent = (hyper::Error, Option<http::Request<Full<Bytes>>>);

impl Connection {
    fn is_closed(&self) -> bool {
        match self {
            Connection::Http1(sender) => sender.is_closed(),
            Connection::Http2(sender) => sender.is_closed(),
        }
    }

    /// Waits until it can take a request; false where it is closed.
    async fn is_ready(&mut self) -> bool {
        match self {
            Connection::Http1(sender) => sender.ready().await.is_ok(),
            Connection::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    /// Writes the target into a request.
    fn address(&self, message: &mut http::Request<Full<Bytes>>, target: &Target) {
        match self {
            Connection::Http1(_) => {
                *message.uri_mut() = target.path.clone();
                add_missing(message.headers_mut(), HOST, target.host.clone());
            }
            Connection::Http2(_) => {
                *message.uri_mut() = target.whole.clone();
                *message.version_mut() = Version::HTTP_2;
                message.headers_mut().remove(HOST);
            }
        }
    }

    async fn send(&mut self, message: http::Request<Full<Bytes>>) -> Result<http::Response<Incoming>, NotSent> {
        let result = match self {
            Connection::Http1(sender) => sender.try_send_request(message).await,
            Connection::Http2(sender) => sender.try_send_request(message).await,
        };
        result.map_err(|mut error| {
            let unsent = error.take_message();
            (error.into_error(), unsent)
        })
    }
}

fn add_missing(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    headers.entry(name).or_insert(value);
}

fn classify(error: &hyper::Error) -> Failure {
    let otherwise = if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        "connection_closed"
    } else {
        "protocol"
    };
    Failure::of_chain(error, otherwise)
}
