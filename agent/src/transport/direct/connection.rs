//! One connection, and a request on it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, COOKIE, HOST, HeaderMap};
use http::{Uri, Version};
use http_body_util::BodyExt;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::transport::body::Outgoing;
use crate::transport::dial::Stream;
use crate::transport::failure::{HeadTooLarge, Stage, is_end_of_connection};
use crate::transport::{Extra, Failure, MAX_HEAD_BYTES, MAX_HTTP2_HEAD_BYTES, Request};

/// A request for the wire, with the counter of its body where its length is not known.
pub(super) type Outbound = (http::Request<Outgoing>, Option<Arc<AtomicU64>>, u64);

/// An open connection.
pub(super) enum Connection {
    Http1(Http1),
    Http2(Http2),
}

/// A connection that carries one request at a time. Its driver has no task of its own: it is polled by the user that
/// waits for it, which saves two wake-ups for each request.
pub(super) struct Http1 {
    sender: http1::SendRequest<Outgoing>,
    driver: Driver,
    meter: Rc<Meter>,
    /// It carried a request before.
    is_used: bool,
}

/// None where the connection has ended. Boxed, because a connection changes hands with every request.
type Driver = Option<Box<http1::Connection<TokioIo<Metered>, Outgoing>>>;

/// A connection that carries many requests at once; its driver is a task of the worker.
#[derive(Clone)]
pub(super) struct Http2 {
    sender: http2::SendRequest<Outgoing>,
    /// What ended the connection, where the target said so: its requests see only that it broke.
    ending: Rc<RefCell<Option<Failure>>>,
    is_used: bool,
}

/// The head of a response, its body still to come.
pub(super) struct Incoming {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: hyper::body::Incoming,
}

/// A request that got no response.
pub(super) struct Broken {
    pub(super) failure: Failure,
    /// Certainly nothing of it was written.
    pub(super) is_unsent: bool,
}

impl Connection {
    pub(super) async fn http1(stream: Stream) -> Result<Self, Failure> {
        let meter = Rc::new(Meter::default());
        let io = TokioIo::new(Metered { stream, meter: Rc::clone(&meter) });
        let (sender, driver) = http1::Builder::new()
            .max_header_size(MAX_HEAD_BYTES)
            // A head with a small body is one buffer, and one buffer is cheaper to write than a list of them.
            .writev(false)
            .handshake(io)
            .await
            .map_err(|error| classify(&error))?;
        Ok(Connection::Http1(Http1 { sender, driver: Some(Box::new(driver)), meter, is_used: false }))
    }

    pub(super) async fn http2(stream: Stream) -> Result<Http2, Failure> {
        let (sender, driver) = http2::Builder::new(OnThisThread)
            .max_header_list_size(MAX_HTTP2_HEAD_BYTES)
            // Until the target has said how many it takes: more would be refused.
            .initial_max_send_streams(1)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| classify(&error))?;
        let ending = Rc::new(RefCell::new(None));
        let told = Rc::clone(&ending);
        tokio::task::spawn_local(async move {
            *told.borrow_mut() = driver.await.err().map(|error| classify(&error));
        });
        Ok(Http2 { sender, ending, is_used: false })
    }

    pub(super) fn is_used(&self) -> bool {
        match self {
            Connection::Http1(own) => own.is_used,
            Connection::Http2(shared) => shared.is_used,
        }
    }

    /// The request as this connection says it, with its headers in a map that the library may keep.
    pub(super) fn message(&self, request: &Request, mut headers: HeaderMap, extra: &Extra) -> Outbound {
        let (body, streamed) = request.payload.outgoing();
        let mut message = http::Request::new(body);
        *message.method_mut() = request.method.clone();
        if let Some(cookie) = &extra.cookie {
            headers.insert(COOKIE, cookie.clone());
        }
        if let Some(authorization) = &extra.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        match self {
            Connection::Http1(_) => *message.uri_mut() = request.target.path.clone(),
            Connection::Http2(_) => {
                *message.version_mut() = Version::HTTP_2;
                headers.remove(CONNECTION);
                let host = headers.remove(HOST).filter(|host| *host != request.target.host);
                let other = host.and_then(|host| with_authority(&request.target.whole, host.as_bytes()));
                *message.uri_mut() = other.unwrap_or_else(|| request.target.whole.clone());
            }
        }
        *message.headers_mut() = headers;
        (message, streamed, request.payload.known_length().unwrap_or(0))
    }

    /// Sends a request and waits for the head of its response.
    pub(super) async fn send(&mut self, message: Outbound, bytes_sent: &mut u64) -> Result<Incoming, Broken> {
        let (message, streamed, length) = message;
        *bytes_sent += length;
        let answer = match self {
            Connection::Http1(own) => own.send(message).await,
            Connection::Http2(shared) => shared.send(message).await,
        };
        if let Some(streamed) = streamed {
            *bytes_sent += streamed.load(Ordering::Relaxed);
        }
        let (parts, body) = answer?.into_parts();
        Ok(Incoming { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    /// The next piece of a body; none at its end.
    pub(super) async fn next(&mut self, body: &mut hyper::body::Incoming) -> Result<Option<Bytes>, Failure> {
        loop {
            let frame = match self {
                Connection::Http1(own) => drive(&mut own.driver, body.frame()).await,
                Connection::Http2(_) => body.frame().await,
            };
            match frame {
                None => return Ok(None),
                Some(Err(error)) => {
                    let failure = classify(&error);
                    return Err(match self {
                        Connection::Http1(_) => failure.at(Stage::Body),
                        Connection::Http2(shared) => shared.told(failure, Stage::Body),
                    });
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

impl Http1 {
    async fn send(
        &mut self,
        message: http::Request<Outgoing>,
    ) -> Result<http::Response<hyper::body::Incoming>, Broken> {
        self.meter.begin();
        let answer = drive(&mut self.driver, self.sender.try_send_request(message)).await;
        let is_used = std::mem::replace(&mut self.is_used, true);
        match answer {
            Ok(response) => {
                self.meter.head_is_complete();
                Ok(response)
            }
            Err(mut error) => {
                let stage = match (self.meter.received.get(), is_used) {
                    (0, true) => Stage::Reused,
                    (0, false) => Stage::Nothing,
                    _ => Stage::Head,
                };
                let is_unsent = error.take_message().is_some();
                Err(Broken { failure: classify(error.error()).at(stage), is_unsent })
            }
        }
    }

    /// Looks whether a kept connection is still open, without waiting for anything.
    pub(super) async fn is_open(&mut self) -> bool {
        self.poll_driver().await;
        self.driver.is_some() && drive(&mut self.driver, self.sender.ready()).await.is_ok()
    }

    /// Lets the connection see that its response is read. False where the target wants it closed.
    pub(super) async fn can_be_kept(&mut self) -> bool {
        if !self.sender.is_ready() {
            self.poll_driver().await;
        }
        self.driver.is_some() && !self.sender.is_closed()
    }

    async fn poll_driver(&mut self) {
        poll_fn(|context| {
            advance(&mut self.driver, context);
            Poll::Ready(())
        })
        .await;
    }
}

impl Http2 {
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// For one more request.
    pub(super) fn reused(&self) -> Self {
        Http2 { is_used: true, ..self.clone() }
    }

    async fn send(
        &mut self,
        message: http::Request<Outgoing>,
    ) -> Result<http::Response<hyper::body::Incoming>, Broken> {
        let stage = if self.is_used { Stage::Reused } else { Stage::Nothing };
        if let Err(error) = self.sender.ready().await {
            return Err(Broken { failure: self.told(classify(&error), stage), is_unsent: true });
        }
        let answer = self.sender.try_send_request(message).await;
        answer.map_err(|mut error| {
            let is_unsent = error.take_message().is_some();
            Broken { failure: self.told(classify(error.error()), stage), is_unsent }
        })
    }

    /// A failure of a request, in the target's own words where it had some.
    fn told(&self, failure: Failure, stage: Stage) -> Failure {
        let breaks = failure.is("connection_reset") || failure.is("connection_closed");
        match &*self.ending.borrow() {
            Some(ending) if breaks && ending.is("http2_goaway") => ending.clone(),
            _ => failure.at(stage),
        }
    }
}

/// The same URL at another authority, for a `Host` that the plan sets.
fn with_authority(uri: &Uri, authority: &[u8]) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    parts.authority = Some(authority.try_into().ok()?);
    Uri::from_parts(parts).ok()
}

/// Polls the driver once; a connection that has ended is dropped, which tells those who wait for it.
fn advance(driver: &mut Driver, context: &mut Context<'_>) {
    if let Some(running) = driver
        && Pin::new(running).poll(context).is_ready()
    {
        *driver = None;
    }
}

/// Waits for something that the driver brings about. Both are polled in turn, so what waits needs no wake-up of its own.
async fn drive<T>(driver: &mut Driver, awaited: impl Future<Output = T>) -> T {
    let mut awaited = pin!(awaited);
    poll_fn(|context| {
        let mut quiet = Context::from_waker(Waker::noop());
        if let Poll::Ready(output) = awaited.as_mut().poll(&mut quiet) {
            return Poll::Ready(output);
        }
        advance(driver, context);
        awaited.as_mut().poll(&mut quiet)
    })
    .await
}

/// What came in since the request was sent.
#[derive(Debug)]
struct Meter {
    received: Cell<u64>,
    is_head: Cell<bool>,
}

impl Default for Meter {
    fn default() -> Self {
        Meter { received: Cell::new(0), is_head: Cell::new(true) }
    }
}

impl Meter {
    fn begin(&self) {
        self.received.set(0);
        self.is_head.set(true);
    }

    fn head_is_complete(&self) {
        self.is_head.set(false);
    }
}

/// A stream whose bytes are counted, and that ends when a response has more before its body than any head may have:
/// headers, or interim responses without end.
struct Metered {
    stream: Stream,
    meter: Rc<Meter>,
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let received = self.meter.received.get();
        if self.meter.is_head.get() && received > MAX_HEAD_BYTES as u64 {
            return Poll::Ready(Err(io::Error::other(HeadTooLarge)));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.meter.received.set(received + (buffer.filled().len() - before) as u64);
        polled
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Spawns on the worker's own runtime.
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

fn classify(error: &hyper::Error) -> Failure {
    if error.is_parse_too_large() {
        return Failure::class("headers_too_large");
    }
    let otherwise = if is_end_of_connection(error) { "connection_closed" } else { "protocol" };
    Failure::of_chain(error, otherwise)
}
