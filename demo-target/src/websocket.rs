//! `/ws`: a small protocol in JSON. Anything that is none of its messages is echoed as it came.
//!
//! | from the client | to the client |
//! |---|---|
//! | `{"op":"ping","id":x}` | `{"op":"pong","id":x}` |
//! | `{"op":"echo","data":x}` | the same |
//! | `{"op":"join","room":r}` | `{"op":"joined","room":r,"members":n}` |
//! | `{"op":"broadcast","room":r,"data":x}` | to everyone in the room: `{"op":"message","room":r,"data":x,"seq":n}` |

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};
use tokio_util::sync::CancellationToken;

use crate::Target;
use crate::fault::Fault;
use crate::rooms::Member;

/// Largest message taken from a client.
const MOST_MESSAGE: usize = 1 << 20;
/// How long a client may take to read what is left and the close frame.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);
/// Messages that wait for one slow member before it is closed.
const OUTBOX: usize = 1_024;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

pub(crate) async fn upgrade(State(target): State<Arc<Target>>, mut request: Request) -> Response {
    let fault = request.extensions_mut().remove::<Fault>();
    if let Some(Fault::Upgrade(status)) = fault {
        return StatusCode::from_u16(status).unwrap_or(StatusCode::NOT_FOUND).into_response();
    }
    let Some(accept) = accept_key(request.headers()) else {
        let help = "this is a WebSocket endpoint: connect to it with ws://";
        return (StatusCode::UPGRADE_REQUIRED, [(UPGRADE, "websocket")], help).into_response();
    };
    let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
        return (StatusCode::BAD_REQUEST, "WebSocket needs HTTP/1.1").into_response();
    };
    let close_after_first = match fault {
        Some(Fault::Close(code)) => Some(code),
        _ => None,
    };
    // The upgrade completes after the answer below was sent, so it needs a task of its own; it ends with its connection.
    let sockets = target.sockets.clone();
    sockets.spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let config = WebSocketConfig::default()
            .read_buffer_size(4 << 10)
            .write_buffer_size(0)
            .max_write_buffer_size(4 * MOST_MESSAGE)
            .max_message_size(Some(MOST_MESSAGE))
            .max_frame_size(Some(MOST_MESSAGE));
        let socket = Socket::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        serve(socket, &target, close_after_first).await;
    });
    let headers =
        [(UPGRADE, "websocket".to_owned()), (CONNECTION, "upgrade".to_owned()), (SEC_WEBSOCKET_ACCEPT, accept)];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// The answer to a handshake (RFC 6455, section 4.2.2); none where it is no handshake.
fn accept_key(headers: &HeaderMap) -> Option<String> {
    let upgrade = headers.get(UPGRADE)?.to_str().ok()?;
    let version = headers.get(SEC_WEBSOCKET_VERSION)?;
    let key = headers.get(SEC_WEBSOCKET_KEY)?;
    (upgrade.eq_ignore_ascii_case("websocket") && version == "13").then(|| derive_accept_key(key.as_bytes()))
}

async fn serve(mut socket: Socket, target: &Target, close_after_first: Option<u16>) {
    let id = target.counts.ws_connections.fetch_add(1, Ordering::Relaxed);
    let (outbox, mut inbox) = mpsc::channel(OUTBOX);
    let too_slow = CancellationToken::new();
    let member = Member { id, outbox, too_slow: too_slow.clone() };
    let close = loop {
        let answer = tokio::select! {
            close = unwanted(target, &too_slow) => break Some(close),
            Some(text) = inbox.recv() => Some(Message::text(&*text)),
            message = socket.next() => match message {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                    target.counts.ws_messages_in.fetch_add(1, Ordering::Relaxed);
                    if let Some(code) = close_after_first {
                        break Some((CloseCode::from(code), "as asked for"));
                    }
                    answer(message, &member, target)
                }
                // Pings and closes are answered by the library.
                Some(Ok(_)) => None,
                Some(Err(_)) | None => break None,
            },
        };
        let Some(answer) = answer else { continue };
        // A client that does not read would hold the send, and with it the connection, for ever.
        let sent = tokio::select! {
            close = unwanted(target, &too_slow) => break Some(close),
            sent = socket.send(answer) => sent,
        };
        if sent.is_err() {
            break None;
        }
        target.counts.ws_messages_out.fetch_add(1, Ordering::Relaxed);
    };
    target.rooms.leave(id);
    if let Some((code, reason)) = close {
        // The client may be gone already, or never read again.
        let _ = tokio::time::timeout(CLOSE_LIMIT, socket.close(Some(CloseFrame { code, reason: reason.into() }))).await;
    }
}

/// Waits for a reason of the target's own to close a connection.
async fn unwanted(target: &Target, too_slow: &CancellationToken) -> (CloseCode, &'static str) {
    tokio::select! {
        () = target.shutdown.cancelled() => (CloseCode::Away, "the demo target is going away"),
        () = too_slow.cancelled() => (CloseCode::Policy, "this client reads too slowly"),
    }
}

fn answer(message: Message, member: &Member, target: &Target) -> Option<Message> {
    let Message::Text(json) = &message else { return Some(message) };
    let Ok(parsed) = serde_json::from_str::<Value>(json) else { return Some(message) };
    let room = || parsed.get("room").and_then(Value::as_str).unwrap_or("lobby");
    let part = |name: &str| parsed.get(name).cloned().unwrap_or(Value::Null);
    match parsed.get("op").and_then(Value::as_str) {
        Some("ping") => Some(text(&json!({ "op": "pong", "id": part("id") }))),
        Some("join") => {
            let joined = target.rooms.join(room(), member.clone());
            Some(match joined {
                Some(members) => text(&json!({ "op": "joined", "room": room(), "members": members })),
                None => text(&json!({ "op": "error", "error": "there are too many rooms" })),
            })
        }
        Some("broadcast") => {
            let data = part("data");
            let say = |seq| json!({ "op": "message", "room": room(), "data": &data, "seq": seq }).to_string();
            target.rooms.broadcast(room(), say);
            None
        }
        _ => Some(message),
    }
}

fn text(json: &Value) -> Message {
    Message::text(json.to_string())
}
