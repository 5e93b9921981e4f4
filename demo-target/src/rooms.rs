//! Rooms: who is in, and what is said to all of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Rooms at the same time.
const MOST_ROOMS: usize = 10_000;

/// One connection as its rooms see it.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) id: u64,
    pub(crate) outbox: mpsc::Sender<Arc<str>>,
    /// Cancelled when it reads too slowly.
    pub(crate) too_slow: CancellationToken,
}

#[derive(Debug, Default)]
struct Room {
    members: BTreeMap<u64, Member>,
    messages: u64,
}

/// All rooms.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    rooms: Mutex<HashMap<String, Room>>,
}

impl Rooms {
    /// A member comes in; returns how many are in then, or nothing where there are too many rooms.
    pub(crate) fn join(&self, room: &str, member: Member) -> Option<usize> {
        let mut rooms = self.lock();
        if rooms.len() >= MOST_ROOMS && !rooms.contains_key(room) {
            return None;
        }
        let room = rooms.entry(room.to_owned()).or_default();
        room.members.insert(member.id, member);
        Some(room.members.len())
    }

    /// A member leaves every room.
    pub(crate) fn leave(&self, id: u64) {
        self.lock().retain(|_, room| {
            room.members.remove(&id);
            !room.members.is_empty()
        });
    }

    /// Says something to everyone in a room; `message` gets its number within the room. Members that do not keep up are
    /// told so and skipped. All members get the messages of a room in the same order.
    pub(crate) fn broadcast(&self, room: &str, message: impl Fn(u64) -> String) {
        let mut rooms = self.lock();
        let Some(room) = rooms.get_mut(room) else { return };
        room.messages += 1;
        let text: Arc<str> = message(room.messages).into();
        for member in room.members.values() {
            if member.outbox.try_send(Arc::clone(&text)).is_err() {
                member.too_slow.cancel();
            }
        }
    }

    /// Nothing panics while it is held; if something did, the rooms would still be whole.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Room>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
