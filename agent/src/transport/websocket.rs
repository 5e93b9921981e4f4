//! WebSocket connections over tokio-tungstenite.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::HeaderMap;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message as Frame};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use url::Url;

use super::client::Clients;
use super::dial::{Dialled, Stream};
use super::target::Origin;
use super::{Failure, Progress};

/// Read buffer of one connection. The library's 128 KiB would cost 1.2 GB for 10,000 connections.
const READ_BUFFER_BYTES: usize = 4 << 10;
/// Most that waits to be written on one connection before a send fails.
const MAX_WRITE_BUFFER_BYTES: usize = 16 << 20;
/// Largest message or frame taken from a target.
const MAX_MESSAGE_BYTES: usize = 16 << 20;

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
        match self {
            Message::Text(text) => text.len(),
            Message::Binary(bytes) => bytes.len(),
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
        }
    }
}

/// An open WebSocket.
pub(crate) struct Socket {
    stream: WebSocketStream<Stream>,
}

impl Socket {
    pub(crate) async fn open(
        handshake: Handshake,
        clients: &Clients,
        progress: &mut Progress,
    ) -> Result<Self, Failure> {
        match timeout(handshake.timeout, connect(handshake, clients, progress)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Timeout),
        }
    }

    /// Sends one message; returns when it was handed to the kernel.
    pub(crate) async fn send(&mut self, message: Message) -> Result<(), Failure> {
        let frame = match message {
            Message::Text(text) => Frame::text(text),
            Message::Binary(bytes) => Frame::Binary(bytes),
        };
        self.stream.send(frame).await.map_err(|error| classify(&error))
    }

    /// The next message. Pings are answered by the library. A close by the target is a failure that names its code.
    pub(crate) async fn next(&mut self) -> Result<Message, Failure> {
        loop {
            return match self.stream.next().await {
                Some(Ok(Frame::Text(text))) => Ok(Message::Text(text.to_string())),
                Some(Ok(Frame::Binary(bytes))) => Ok(Message::Binary(bytes)),
                Some(Ok(Frame::Close(frame))) => Err(closed(frame.map(|frame| frame.code.into()))),
                Some(Ok(Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_))) => continue,
                Some(Err(error)) => Err(classify(&error)),
                None => Err(closed(None)),
            };
        }
    }

    /// The closing handshake: sends the close frame and reads until the target's. Returns the messages that were still
    /// on their way, and the failure when the target did not answer with a close frame.
    pub(crate) async fn close(&mut self, code: u16, reason: &str) -> (Vec<Message>, Result<(), Failure>) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.to_owned().into() };
        let mut late = Vec::new();
        if let Err(error) = self.stream.close(Some(frame)).await {
            return (late, Err(classify(&error)));
        }
        loop {
            match self.stream.next().await {
                Some(Ok(Frame::Text(text))) => late.push(Message::Text(text.to_string())),
                Some(Ok(Frame::Binary(bytes))) => late.push(Message::Binary(bytes)),
                Some(Ok(Frame::Close(_)) | Err(Error::ConnectionClosed)) => return (late, Ok(())),
                Some(Ok(_)) => {}
                Some(Err(error)) => return (late, Err(classify(&error))),
                None => return (late, Err(closed(None))),
            }
        }
    }
}

async fn connect(handshake: Handshake, clients: &Clients, progress: &mut Progress) -> Result<Socket, Failure> {
    let origin = Origin::of(&handshake.url).ok_or_else(|| Failure::class("dns"))?;
    let Dialled { stream, .. } = clients.websockets().dial(&origin, &mut progress.phases).await?;
    let mut request = handshake.url.as_str().into_client_request().map_err(|_| Failure::class("protocol"))?;
    for (name, value) in &handshake.headers {
        request.headers_mut().append(name, value.clone());
    }
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    let (stream, _response) =
        client_async_with_config(request, stream, Some(config)).await.map_err(|error| classify(&error))?;
    Ok(Socket { stream })
}

fn classify(error: &Error) -> Failure {
    match error {
        Error::Http(response) => Failure::class(format!("ws_upgrade_refused_{}", response.status().as_u16())),
        Error::ConnectionClosed | Error::AlreadyClosed => closed(None),
        Error::Io(error) => Failure::of_io(error, "connection_reset"),
        Error::Tls(_) => Failure::class("tls"),
        Error::Capacity(_) => Failure::class("body_too_large"),
        Error::WriteBufferFull(_) => Failure::class("ws_write_buffer_full"),
        Error::Protocol(tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
            closed(Some(1006))
        }
        Error::Protocol(_) => Failure::class("protocol"),
        _ => Failure::class("ws_handshake"),
    }
}

/// 1005 is the code that stands for a close frame without one (RFC 6455, section 7.4.1).
fn closed(code: Option<u16>) -> Failure {
    Failure::class(format!("ws_closed_{}", code.unwrap_or(1005)))
}
