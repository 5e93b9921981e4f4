//! WebSockets: the upgrade, frames, and the end.

use std::cell::RefCell;
use std::time::Duration;

use groundswell_scenario::Share;
use http::HeaderMap;
use tokio::time::{Instant, timeout};
use url::Url;

use super::target::{Kind, Target};
use super::{Flags, against, in_a_report, setup};
use crate::transport::{Arrival, Clients, Ended, Handshake, Message, Progress, Setup, Socket};

/// Limit of the upgrade.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(2);
/// How long a user waits for what comes.
const PATIENCE: Duration = Duration::from_secs(3);
/// What the clock may add to a limit.
const TICK: Duration = Duration::from_millis(2);

thread_local! {
    /// Reading the machine's certificate authorities takes longer than a handshake.
    static SETUP: RefCell<Option<Setup>> = RefCell::default();
}

/// Whatever a target sends in place of an upgrade or after it: the socket opens or fails within its limit; it takes no more
/// than was sent; and once the target has gone, it ends, with a close code that can be one.
///
/// # Panics
/// When that does not hold.
pub fn websocket(bytes: &[u8]) {
    let Some((flags, sent)) = bytes.split_first() else { return };
    let flags = Flags(*flags);
    let kind = if flags.is_other_protocol() { Kind::Socket } else { Kind::OpenSocket };
    let setup = SETUP.with_borrow_mut(|known| known.get_or_insert_with(|| setup(false, false)).clone());
    against(Target::new(flags, kind, sent), async |target| {
        let (Ok(clients), Ok(url)) = (Clients::new(setup, &Share::whole()), Url::parse("ws://127.0.0.1:1/")) else {
            return;
        };
        let handshake = Handshake { url, headers: HeaderMap::new(), timeout: HANDSHAKE_LIMIT };
        let begun = Instant::now();
        let opened = Socket::open(&handshake, &clients, &mut Progress::default()).await;
        assert!(begun.elapsed() <= HANDSHAKE_LIMIT + TICK, "it took {:?}", begun.elapsed());
        let socket = match opened {
            Ok(socket) => socket,
            Err(failure) => return in_a_report(&failure),
        };
        let (ended, taken_bytes) = takes_in(&socket, flags).await;
        match ended {
            Some(ended) => ends_as_it_may(&ended),
            None => assert!(flags.hangs() || flags.floods(), "the target has gone, and the socket is open"),
        }
        let traffic = socket.take_traffic();
        assert!(traffic.bytes_received <= target.sent_bytes.get(), "{traffic:?}");
        assert!(traffic.messages_received <= traffic.frames_received, "{traffic:?}");
        assert!(taken_bytes <= traffic.bytes_received, "{taken_bytes} bytes in messages, {traffic:?}");
    });
}

/// Takes in what comes, as long as it comes; how it ended, and the bytes of its messages.
async fn takes_in(socket: &Socket, flags: Flags) -> (Option<Ended>, u64) {
    let mut taken_bytes = 0;
    let until_end = async {
        loop {
            match socket.next().await {
                Ok(Arrival::Message(message)) => {
                    taken_bytes += message.len() as u64;
                    if flags.takes_part() {
                        // A socket that can't be written to ends where it is read.
                        let _ = socket.send(Message::Text("heard".to_owned())).await;
                    }
                }
                Ok(Arrival::Ping | Arrival::Pong(_)) => {}
                Err(ended) => return ended,
            }
            if flags.is_strict() {
                let _ = socket.close(1000, "enough").await;
            }
        }
    };
    let ended = timeout(PATIENCE, until_end).await.ok();
    (ended, taken_bytes)
}

/// 1005 and 1006 stand for close frames without a code and for none; the other codes may be on the wire (RFC 6455, section
/// 7.4).
fn ends_as_it_may(ended: &Ended) {
    in_a_report(&ended.failure);
    assert!(matches!(ended.code, 1000..=1003 | 1005..=1014 | 3000..=4999), "{ended:?}");
}
