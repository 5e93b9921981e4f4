//! A target in memory: sends what it is told to, whatever it is asked.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::spawn_local;
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::Flags;
use crate::transport::Failure;

/// Stands between what is sent at one request and what is sent at the next.
const BETWEEN: &[u8] = b"\n=====\n";
/// Bytes on their way, as in the buffers of a kernel.
const UNDERWAY_BYTES: usize = 64 << 10;
/// Small pieces, prime so that they begin anywhere in what they are pieces of.
const PIECE_BYTES: usize = 7;
/// Between one piece or repetition and the next. Time passes at once where everybody waits, but not for those who never
/// do.
const PAUSE: Duration = Duration::from_millis(10);
/// Longer than any limit.
const FOREVER: Duration = Duration::from_secs(3_600);

thread_local! {
    static PLACED: RefCell<Option<Rc<Target>>> = const { RefCell::new(None) };
}

/// What a target does, and what it saw.
pub(super) struct Target {
    flags: Flags,
    kind: Kind,
    /// What is yet to be sent, the next part last.
    parts: RefCell<Vec<Vec<u8>>>,
    /// Heads of requests that came over HTTP/1.1.
    pub(super) requests: Cell<u64>,
    pub(super) sent_bytes: Cell<u64>,
    /// Where connections were to go.
    pub(super) asked_for: RefCell<Vec<SocketAddr>>,
}

/// When what is sent is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A part at each request.
    Http1,
    /// A part at whatever comes.
    Http2,
    /// All of it at the first request.
    Socket,
    /// All of it after the answer that opens a WebSocket.
    OpenSocket,
}

/// A target in the place of the network, until this is dropped.
pub(super) struct Placed;

impl Placed {
    pub(super) fn new(target: &Rc<Target>) -> Self {
        PLACED.set(Some(Rc::clone(target)));
        Placed
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        PLACED.set(None);
    }
}

/// A connection to the target that is there in place of the network, to the first of the addresses that may be gone to;
/// none where there is no such target.
pub(crate) fn connect<E: Into<Failure>>(
    addresses: impl FnOnce() -> Result<Vec<SocketAddr>, E>,
) -> Result<Option<DuplexStream>, Failure> {
    let Some(target) = PLACED.with_borrow(Option::clone) else { return Ok(None) };
    let addresses = addresses().map_err(Into::into)?;
    let address = addresses.first().ok_or_else(|| Failure::class("dns"))?;
    target.asked_for.borrow_mut().push(*address);
    let (ours, theirs) = duplex(UNDERWAY_BYTES);
    spawn_local(target.serve(theirs));
    Ok(Some(ours))
}

impl Target {
    pub(super) fn new(flags: Flags, kind: Kind, bytes: &[u8]) -> Self {
        let mut parts = Vec::new();
        let mut rest = bytes;
        while let Some(at) = rest.windows(BETWEEN.len()).position(|window| window == BETWEEN) {
            parts.push(rest[..at].to_vec());
            rest = &rest[at + BETWEEN.len()..];
        }
        parts.push(rest.to_vec());
        parts.reverse();
        Target {
            flags,
            kind,
            parts: RefCell::new(parts),
            requests: Cell::new(0),
            sent_bytes: Cell::new(0),
            asked_for: RefCell::default(),
        }
    }

    /// Ends when the other side has gone, or there is nothing more to send.
    async fn serve(self: Rc<Self>, mut stream: DuplexStream) {
        let mut asked = Vec::new();
        while let Ok(1..) = stream.read_buf(&mut asked).await {
            // No request here has a body.
            if self.kind != Kind::Http2 && !asked.ends_with(b"\r\n\r\n") {
                continue;
            }
            self.requests.set(self.requests.get() + 1);
            if self.answer(&asked, &mut stream).await.is_none() {
                return;
            }
            asked.clear();
        }
    }

    /// None where nothing is left to be done.
    async fn answer(&self, asked: &[u8], stream: &mut DuplexStream) -> Option<()> {
        if self.kind == Kind::OpenSocket {
            self.send(&upgrade(asked), stream).await?;
        }
        while let Some((part, is_last)) = self.next_part() {
            self.send(&part, stream).await?;
            while is_last && self.flags.floods() {
                sleep(PAUSE).await;
                self.send(&part, stream).await?;
            }
            if is_last {
                break;
            }
            if matches!(self.kind, Kind::Http1 | Kind::Http2) {
                return Some(());
            }
        }
        if self.flags.hangs() {
            sleep(FOREVER).await;
        }
        None
    }

    fn next_part(&self) -> Option<(Vec<u8>, bool)> {
        let mut parts = self.parts.borrow_mut();
        Some((parts.pop()?, parts.is_empty()))
    }

    async fn send(&self, bytes: &[u8], stream: &mut DuplexStream) -> Option<()> {
        let piece = if self.flags.drips() { PIECE_BYTES } else { bytes.len().max(1) };
        for (nth, piece) in bytes.chunks(piece).enumerate() {
            if nth > 0 {
                tokio::task::yield_now().await;
            }
            stream.write_all(piece).await.ok()?;
            self.sent_bytes.set(self.sent_bytes.get() + piece.len() as u64);
        }
        Some(())
    }
}

/// The answer that opens a WebSocket (RFC 6455, section 4.2.2).
fn upgrade(asked: &[u8]) -> Vec<u8> {
    let head = String::from_utf8_lossy(asked);
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    let key = fields.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key")).map_or("", |(_, key)| key);
    let accept = derive_accept_key(key.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {accept}\r\n\r\n"
    )
    .into_bytes()
}
