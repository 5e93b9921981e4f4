//! WebSocket connections over tokio-tungstenite.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, Stream as _};
use groundswell_stats::Traffic;
use http::HeaderMap;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::{ProtocolError, UrlError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message as Frame};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use url::Url;

use super::client::Clients;
use super::dial::{Dialled, Stream};
use super::frames::Counted;
use super::target::Origin;
use super::{Failure, Progress};

/// Read buffer of one connection. The library's 128 KiB would cost 1.2 GB for 10,000 connections.
const READ_BUFFER_BYTES: usize = 4 << 10;
/// Most that waits to be written on one connection before a send fails.
const MAX_WRITE_BUFFER_BYTES: usize = 16 << 20;
/// Largest message or frame taken from a target.
const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// A last frame has so long to leave.
const LAST_FRAME_LIMIT: Duration = Duration::from_secs(1);

/// What is needed to open a WebSocket.
#[derive(Debug, Clone)]
pub(crate) struct Handshake {
    /// `ws` or `wss`.
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    /// Limit of connect, TLS and upgrade together.
    pub(crate) timeout: Duration,
}

/// A message, either way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    Text(String),
    Binary(Bytes),
}

impl Message {
    pub(crate) fn len(&self) -> usize {
        self.as_bytes().len()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
        }
    }
}

/// What comes in.
#[derive(Debug)]
pub(crate) enum Arrival {
    Message(Message),
    /// The library answers it.
    Ping,
    Pong(Bytes),
}

/// The end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Close code (RFC 6455, section 7.4): 1005 for a close frame without one, 1006 for no close frame.
    pub(crate) code: u16,
    /// What an operation fails with that needed the connection.
    pub(crate) failure: Failure,
}

/// An open WebSocket. One task reads it; any task may send.
pub(crate) struct Socket {
    stream: RefCell<WebSocketStream<Counted<Stream>>>,
    /// The library remembers one task to wake for writing.
    writer: Mutex<()>,
    messages_sent: Cell<u64>,
    messages_received: Cell<u64>,
    /// What was taken of its traffic.
    taken: Cell<Traffic>,
}

impl Socket {
    pub(crate) async fn open(
        handshake: &Handshake,
        clients: &Clients,
        progress: &mut Progress,
    ) -> Result<Self, Failure> {
        match timeout(handshake.timeout, connect(handshake, clients, progress)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Timeout),
        }
    }

    /// Sends one message; returns when it was handed to the kernel.
    pub(crate) async fn send(&self, message: Message) -> Result<(), Failure> {
        self.write(match message {
            Message::Text(text) => Frame::text(text),
            Message::Binary(bytes) => Frame::Binary(bytes),
        })
        .await?;
        self.messages_sent.set(self.messages_sent.get() + 1);
        Ok(())
    }

    /// What went over it since the last time.
    pub(crate) fn take_traffic(&self) -> Traffic {
        let stream = self.stream.borrow();
        let Counted { sent, received, .. } = stream.get_ref();
        let all = Traffic {
            messages_sent: self.messages_sent.get(),
            messages_received: self.messages_received.get(),
            frames_sent: sent.frames,
            frames_received: received.frames,
            bytes_sent: sent.bytes,
            bytes_received: received.bytes,
        };
        all.since(self.taken.replace(all))
    }

    pub(crate) async fn ping(&self, payload: Bytes) -> Result<(), Failure> {
        self.write(Frame::Ping(payload)).await
    }

    /// Sends the close frame; the reader then sees the target's.
    pub(crate) async fn close(&self, code: u16, reason: &str) -> Result<(), Failure> {
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.to_owned().into() };
        self.write(Frame::Close(Some(frame))).await
    }

    /// What comes next. Dropping the wait loses nothing.
    pub(crate) async fn next(&self) -> Result<Arrival, Ended> {
        loop {
            let next = poll_fn(|context| Pin::new(&mut *self.stream.borrow_mut()).poll_next(context)).await;
            return match next {
                Some(Ok(Frame::Text(text))) => Ok(self.arrived(Message::Text(text.to_string()))),
                Some(Ok(Frame::Binary(bytes))) => Ok(self.arrived(Message::Binary(bytes))),
                Some(Ok(Frame::Ping(_))) => Ok(Arrival::Ping),
                Some(Ok(Frame::Pong(payload))) => Ok(Arrival::Pong(payload)),
                Some(Ok(Frame::Frame(_))) => continue,
                Some(Ok(Frame::Close(Some(frame)))) if is_made_up(&frame) || !frame.code.is_allowed() => {
                    self.leave(None).await;
                    Err(Ended { code: 1006, failure: Failure::class("ws_bad_close_code") })
                }
                Some(Ok(Frame::Close(frame))) => {
                    self.leave(None).await;
                    Err(closed(frame.map_or(1005, |frame| frame.code.into())))
                }
                Some(Err(error)) => {
                    self.leave(code_for(&error)).await;
                    Err(ended(&error))
                }
                None => Err(closed(1006)),
            };
        }
    }

    fn arrived(&self, message: Message) -> Arrival {
        self.messages_received.set(self.messages_received.get() + 1);
        Arrival::Message(message)
    }

    async fn write(&self, frame: Frame) -> Result<(), Failure> {
        let _turn = self.writer.lock().await;
        poll_fn(|context| self.with(|stream| stream.poll_ready(context)))
            .await
            .map_err(|error| ended(&error).failure)?;
        self.with(|stream| stream.start_send(frame)).map_err(|error| ended(&error).failure)?;
        poll_fn(|context| self.poll_flush(context)).await
    }

    fn poll_flush(&self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(ready!(self.with(|stream| stream.poll_flush(context))).map_err(|error| ended(&error).failure))
    }

    /// The last frame: the answer to the target's close, which the library has written already, or the code that says what
    /// was wrong (RFC 6455, section 7.1.7). A target that does not take it has only itself to blame.
    async fn leave(&self, code: Option<CloseCode>) {
        if let Some(code) = code {
            // The library takes no more frames after some errors; then there is nothing to be said.
            let _ = self.with(|stream| stream.start_send(Frame::Close(Some(CloseFrame { code, reason: "".into() }))));
        }
        let _ = timeout(LAST_FRAME_LIMIT, poll_fn(|context| self.poll_flush(context))).await;
    }

    fn with<T>(&self, act: impl FnOnce(Pin<&mut WebSocketStream<Counted<Stream>>>) -> T) -> T {
        act(Pin::new(&mut *self.stream.borrow_mut()))
    }
}

async fn connect(handshake: &Handshake, clients: &Clients, progress: &mut Progress) -> Result<Socket, Failure> {
    let origin = Origin::of(&handshake.url).ok_or_else(|| Failure::class("dns"))?;
    let Dialled { stream, .. } = clients.websockets().dial(&origin, &mut progress.phases).await?;
    let mut request = handshake.url.as_str().into_client_request().map_err(|_| Failure::class("ws_handshake"))?;
    for (name, value) in &handshake.headers {
        request.headers_mut().append(name, value.clone());
    }
    clients.identify(request.headers_mut());
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    let opened = client_async_with_config(request, Counted::new(stream), Some(config)).await;
    let (stream, _response) = opened.map_err(|error| refused(&error))?;
    Ok(Socket {
        stream: RefCell::new(stream),
        writer: Mutex::new(()),
        messages_sent: Cell::default(),
        messages_received: Cell::default(),
        taken: Cell::default(),
    })
}

/// The library puts this frame in the place of one whose code must not be on the wire (1005, 1006, …), but not where it
/// answers ours.
fn is_made_up(frame: &CloseFrame) -> bool {
    frame.code == CloseCode::Protocol && frame.reason.as_str() == "Protocol violation"
}

/// Why there is no connection.
fn refused(error: &Error) -> Failure {
    match error {
        Error::Http(response) => Failure::class(format!("ws_upgrade_refused_{}", response.status().as_u16())),
        Error::Io(error) => Failure::of_io(error, "connection_reset"),
        Error::Tls(_) => Failure::class("tls"),
        Error::Url(UrlError::UnableToConnect(_)) => Failure::class("connect_failed"),
        Error::Protocol(ProtocolError::HandshakeIncomplete) | Error::ConnectionClosed => {
            Failure::class("connection_closed")
        }
        _ => Failure::class("ws_handshake"),
    }
}

/// How an open connection ended.
fn ended(error: &Error) -> Ended {
    let failure = match error {
        Error::ConnectionClosed | Error::AlreadyClosed => return closed(1006),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return closed(1006),
        Error::Protocol(ProtocolError::SendAfterClosing) => return closed(1000),
        Error::Io(error) => Failure::of_io(error, "connection_reset"),
        Error::Tls(_) => Failure::class("tls"),
        Error::Capacity(_) => Failure::class("ws_message_too_large"),
        Error::WriteBufferFull(_) => Failure::class("ws_write_buffer_full"),
        Error::Utf8(_) => Failure::class("ws_bad_utf8"),
        Error::Protocol(ProtocolError::MaskedFrameFromServer) => Failure::class("ws_masked_frame"),
        Error::Protocol(ProtocolError::NonZeroReservedBits) => Failure::class("ws_reserved_bits"),
        Error::Protocol(ProtocolError::FragmentedControlFrame | ProtocolError::ControlFrameTooBig) => {
            Failure::class("ws_bad_control_frame")
        }
        _ => Failure::class("ws_protocol"),
    };
    Ended { code: 1006, failure }
}

/// What the target is told of its mistake; none where it is not listening any more.
fn code_for(error: &Error) -> Option<CloseCode> {
    match error {
        Error::Capacity(_) => Some(CloseCode::Size),
        Error::Utf8(_) => Some(CloseCode::Invalid),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(_) => Some(CloseCode::Protocol),
        _ => None,
    }
}

fn closed(code: u16) -> Ended {
    Ended { code, failure: Failure::class(format!("ws_closed_{code}")) }
}
