//! The id that a message carries: who sent it, in which room, as which of its messages, and when.
//!
//! `gs1-<room>-<sender>-<number>-<time>.`, all hexadecimal: plain enough to pass through JSON, URLs and logs unchanged.

use std::fmt;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use groundswell_scenario::socket::IdAt;
use regex::bytes::Regex;

use crate::engine::check::Document;

/// Senders of this process so far.
static SENDERS: AtomicU32 = AtomicU32::new(0);
/// What this process's senders have in common.
static SOURCE: LazyLock<u32> = LazyLock::new(rand::random);

#[expect(clippy::expect_used, reason = "a constant, which a test compiles")]
static PATTERN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"gs1-([0-9a-f]{8})-([0-9a-f]{16})-([0-9a-f]{1,16})-([0-9a-f]{1,16})\.").expect("it is valid")
});

/// The number under which this process publishes.
pub(crate) fn source() -> u32 {
    *SOURCE
}

/// A sender: a socket in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Sender(u64);

impl Sender {
    /// One that nobody else is.
    pub(crate) fn new() -> Self {
        Sender(u64::from(source()) << 32 | u64::from(SENDERS.fetch_add(1, Ordering::Relaxed)))
    }

    /// The process that it belongs to.
    pub(crate) fn source(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// What a message says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MessageId {
    /// Hash of the room's name; 0 for a message to nobody in particular.
    pub(crate) room: u32,
    pub(crate) sender: Sender,
    /// 1, 2, 3 … for each sender.
    pub(crate) number: u64,
    /// When it was sent, in microseconds of the run.
    pub(crate) at_us: u64,
}

impl fmt::Display for MessageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MessageId { room, sender, number, at_us } = self;
        write!(formatter, "gs1-{room:08x}-{:016x}-{number:x}-{at_us:x}.", sender.0)
    }
}

impl MessageId {
    /// The first id in these bytes.
    pub(crate) fn find(bytes: &[u8]) -> Option<Self> {
        let (_, parts) = PATTERN.captures(bytes)?.extract();
        let [room, sender, number, at_us] =
            parts.map(|part: &[u8]| u64::from_str_radix(std::str::from_utf8(part).unwrap_or_default(), 16).ok());
        Some(MessageId { room: u32::try_from(room?).ok()?, sender: Sender(sender?), number: number?, at_us: at_us? })
    }

    /// The id of a message at the place where it sits.
    pub(crate) fn of(document: &mut Document<'_>, at: &IdAt) -> Option<Self> {
        match at {
            IdAt::Anywhere => MessageId::find(document.bytes()),
            IdAt::Path(path) => {
                let found = path.query(document.json()?).first()?;
                MessageId::find(found.as_str()?.as_bytes())
            }
        }
    }
}

/// FNV-1a, 32 bits: the same in every process. Never 0, which stands for no room.
pub(crate) fn hash(room: &str) -> u32 {
    room.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)).max(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_is_found_again(room: u32, sender: u64, number: u64, at_us: u64, before in ".{0,9}", after in ".{0,9}") {
            let id = MessageId { room, sender: Sender(sender), number, at_us };
            prop_assert_eq!(MessageId::find(format!("{before}{id}{after}").as_bytes()), Some(id));
        }

        #[test]
        fn other_bytes_hold_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(MessageId::find(&bytes), None);
        }
    }

    #[test]
    fn an_id_sits_where_the_plan_says() {
        let id = MessageId { room: hash("lobby"), sender: Sender::new(), number: 1, at_us: 2 };
        let message = serde_json::json!({"meta": {"id": id.to_string()}, "text": "x"}).to_string();
        let path = |path: &str| IdAt::Path(serde_json_path::JsonPath::parse(path).unwrap());
        let find = |at| MessageId::of(&mut Document::of_message(message.as_bytes()), &at);
        assert_eq!(find(path("$.meta.id")), Some(id));
        assert_eq!(find(IdAt::Anywhere), Some(id));
        assert_eq!(find(path("$.text")), None);
    }
}
