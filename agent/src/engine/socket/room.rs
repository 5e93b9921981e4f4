//! Subscriptions: which messages of a room have arrived at one socket.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use groundswell_scenario::socket::IdAt;

use super::id::{MessageId, Sender, hash};

/// A socket in a room, from its joining on.
pub(super) struct Subscription {
    pub(super) room: String,
    pub(super) hash: u32,
    pub(super) id: IdAt,
    pub(super) own: bool,
    pub(super) settle: Duration,
    pub(super) joined_us: u64,
    /// Messages published after this are not expected any more.
    pub(super) left_us: Option<u64>,
    /// Late messages were waited for.
    pub(super) settled: bool,
    seen: HashMap<Sender, Seen>,
}

/// What an arrival was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Expected, and here for the first time.
    First {
        /// One that the same sender published later came before it.
        out_of_order: bool,
    },
    /// It was here before.
    Duplicate,
    /// Published before the joining or after the leaving.
    Outside,
}

impl Subscription {
    pub(super) fn new(room: String, id: IdAt, own: bool, settle: Duration, joined_us: u64) -> Self {
        let hash = hash(&room);
        Subscription { room, hash, id, own, settle, joined_us, left_us: None, settled: false, seen: HashMap::new() }
    }

    /// Takes in an arrival.
    pub(super) fn arrived(&mut self, id: MessageId) -> Delivery {
        if id.at_us < self.joined_us || self.left_us.is_some_and(|left_us| id.at_us > left_us) {
            return Delivery::Outside;
        }
        self.seen.entry(id.sender).or_default().insert(id.number)
    }

    /// Is a message published at this time expected?
    pub(super) fn expects(&self, at_us: u64) -> bool {
        self.joined_us <= at_us && self.left_us.is_none_or(|left_us| at_us <= left_us)
    }
}

/// Numbers of one sender's messages, as ranges from a first to a last: a few, however many messages there are.
#[derive(Debug, Default)]
struct Seen(BTreeMap<u64, u64>);

impl Seen {
    fn insert(&mut self, number: u64) -> Delivery {
        let greatest = self.0.last_key_value().map(|(_, last)| *last);
        let below = self.0.range(..=number).next_back().map(|(first, last)| (*first, *last));
        if below.is_some_and(|(_, last)| number <= last) {
            return Delivery::Duplicate;
        }
        let above = number.checked_add(1).and_then(|next| self.0.remove(&next));
        let last = above.unwrap_or(number);
        match below {
            Some((first, end)) if end.checked_add(1) == Some(number) => self.0.insert(first, last),
            _ => self.0.insert(number, last),
        };
        Delivery::First { out_of_order: greatest.is_some_and(|greatest| number < greatest) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a set and a maximum, which say the same with more memory.
        #[test]
        fn ranges_know_what_a_set_knows(numbers in prop::collection::vec(prop_oneof![0_u64..40, Just(u64::MAX)], 0..120)) {
            let (mut seen, mut set) = (Seen::default(), BTreeSet::new());
            for number in numbers {
                let out_of_order = set.last().is_some_and(|greatest| number < *greatest);
                let wanted = if set.insert(number) { Delivery::First { out_of_order } } else { Delivery::Duplicate };
                prop_assert_eq!(seen.insert(number), wanted);
            }
        }
    }

    #[test]
    fn messages_count_from_joining_to_leaving() {
        let mut subscription = Subscription::new("lobby".into(), IdAt::Anywhere, true, Duration::ZERO, 100);
        let sender = Sender::new();
        let mut arrived = |number, at_us, left_us| {
            subscription.left_us = left_us;
            subscription.arrived(MessageId { room: hash("lobby"), sender, number, at_us })
        };
        assert_eq!(arrived(1, 99, None), Delivery::Outside);
        assert_eq!(arrived(2, 100, None), Delivery::First { out_of_order: false });
        assert_eq!(arrived(4, 120, Some(120)), Delivery::First { out_of_order: false });
        assert_eq!(arrived(5, 121, Some(120)), Delivery::Outside);
        assert_eq!(arrived(3, 110, Some(120)), Delivery::First { out_of_order: true });
        assert_eq!(arrived(3, 110, Some(120)), Delivery::Duplicate);
    }
}
