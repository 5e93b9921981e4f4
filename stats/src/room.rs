//! Broadcasts: what was published in a room, who was to get it, and what arrived.
//!
//! Every message carries the time of its publication; a subscription has a time of joining and one of leaving. A message
//! is expected at every subscription that it was published in. Both sides decide with the same three figures, so that
//! the sums agree whatever the clocks' error, which only decides which messages at the edges are meant (`in_doubt`).

use std::collections::BTreeMap;

use crate::buckets::sum;
use crate::{Overflow, Series};

/// One room. Times are microseconds of the run, in no order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Room {
    /// Publications.
    pub published_at_us: Vec<u64>,
    /// Subscriptions that began.
    pub joined_at_us: Vec<u64>,
    /// Subscriptions that ended.
    pub left_at_us: Vec<u64>,
    /// Subscriptions that lost their connection.
    pub down_at_us: Vec<u64>,
    /// Subscriptions that had their connection back, or ended without it.
    pub up_at_us: Vec<u64>,
    /// The sums.
    pub counts: RoomCounts,
    /// From publication to arrival, by the agent that published.
    pub latency: BTreeMap<u32, Series>,
}

/// What is counted of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RoomCounts {
    /// Publications that their own sender, who is subscribed, is not to get back.
    pub own: u64,
    /// Expected messages that arrived, each once.
    pub delivered: u64,
    /// Arrivals of a message that had arrived before.
    pub duplicated: u64,
    /// Messages that arrived after one that the same socket had published later.
    pub out_of_order: u64,
    /// Arrivals of messages that were published before the subscription or after its end.
    pub outside: u64,
    /// Arrivals at sockets that are not subscribed to the room.
    pub misdirected: u64,
    /// Subscriptions that were cut off, so that messages on their way could not arrive any more.
    pub cut_off: u64,
}

impl RoomCounts {
    fn plus(self, other: RoomCounts) -> Result<Self, Overflow> {
        Ok(RoomCounts {
            own: sum("own", self.own, other.own)?,
            delivered: sum("delivered", self.delivered, other.delivered)?,
            duplicated: sum("duplicated", self.duplicated, other.duplicated)?,
            out_of_order: sum("out of order", self.out_of_order, other.out_of_order)?,
            outside: sum("outside", self.outside, other.outside)?,
            misdirected: sum("misdirected", self.misdirected, other.misdirected)?,
            cut_off: sum("cut off", self.cut_off, other.cut_off)?,
        })
    }

    fn add_checked(&mut self, other: RoomCounts) {
        self.own += other.own;
        self.delivered += other.delivered;
        self.duplicated += other.duplicated;
        self.out_of_order += other.out_of_order;
        self.outside += other.outside;
        self.misdirected += other.misdirected;
        self.cut_off += other.cut_off;
    }
}

impl Room {
    /// Longest name of a room, in bytes.
    pub const MAX_NAME_BYTES: usize = 128;

    /// Adds what happened elsewhere; on an error nothing was added.
    pub fn add(&mut self, other: &Room) -> Result<(), Overflow> {
        self.fits(other)?;
        self.add_checked(other);
        Ok(())
    }

    /// Can what happened elsewhere be added?
    pub(crate) fn fits(&self, other: &Room) -> Result<(), Overflow> {
        for (source, series) in &other.latency {
            self.latency.get(source).map_or(Ok(()), |known| known.fits(series))?;
        }
        self.counts.plus(other.counts).map(drop)
    }

    /// Adds what happened elsewhere and is known to fit.
    pub(crate) fn add_checked(&mut self, other: &Room) {
        self.counts.add_checked(other.counts);
        for (source, series) in &other.latency {
            self.latency.entry(*source).or_default().add_checked(series);
        }
        self.published_at_us.extend(&other.published_at_us);
        self.joined_at_us.extend(&other.joined_at_us);
        self.left_at_us.extend(&other.left_at_us);
        self.down_at_us.extend(&other.down_at_us);
        self.up_at_us.extend(&other.up_at_us);
    }

    /// Pairs of a publication and a subscription that lasted from its joining to its leaving, both included.
    pub fn expected(&self) -> u64 {
        self.pairs(&self.joined_at_us, &self.left_at_us).saturating_sub(self.counts.own)
    }

    /// The part of them that was published while the subscription had no connection.
    pub fn while_disconnected(&self) -> u64 {
        self.pairs(&self.down_at_us, &self.up_at_us)
    }

    /// Publications so near to a joining or a leaving that clocks which agree to `bound_us` can't tell the order.
    pub fn in_doubt(&self, bound_us: u64) -> u64 {
        if bound_us == 0 {
            return 0;
        }
        let published = sorted(&self.published_at_us);
        let near = |edge: &u64| {
            let from = published.partition_point(|at| at.saturating_add(bound_us) < *edge);
            let to = published.partition_point(|at| *at <= edge.saturating_add(bound_us));
            (to - from) as u64
        };
        self.joined_at_us.iter().chain(&self.left_at_us).map(near).sum()
    }

    /// Most subscriptions at a time.
    pub fn most_subscribers(&self) -> u64 {
        let (joined, left) = (sorted(&self.joined_at_us), sorted(&self.left_at_us));
        let at = |(before, joined): (usize, &u64)| before + 1 - left.partition_point(|at| at < joined).min(before);
        joined.iter().enumerate().map(at).max().unwrap_or(0) as u64
    }

    /// For each publication the spans that it lies in, begins and ends included, added up.
    fn pairs(&self, begins: &[u64], ends: &[u64]) -> u64 {
        let (begins, ends) = (sorted(begins), sorted(ends));
        let spans = |at: &u64| {
            let begun = begins.partition_point(|begin| begin <= at);
            begun.saturating_sub(ends.partition_point(|end| end < at)) as u64
        };
        self.published_at_us.iter().map(spans).sum()
    }
}

fn sorted(times: &[u64]) -> Vec<u64> {
    let mut times = times.to_vec();
    times.sort_unstable();
    times
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn room(published: &[u64], spans: &[(u64, u64)]) -> Room {
        Room {
            published_at_us: published.to_vec(),
            joined_at_us: spans.iter().map(|span| span.0).collect(),
            left_at_us: spans.iter().map(|span| span.1).collect(),
            ..Room::default()
        }
    }

    #[test]
    fn a_message_is_expected_from_joining_to_leaving() {
        let room = room(&[9, 10, 15, 20, 21], &[(10, 20), (0, 9)]);
        assert_eq!(room.expected(), 4);
        assert_eq!(room.most_subscribers(), 1);
    }

    #[test]
    fn a_publication_at_an_edge_is_in_doubt_within_the_bound() {
        let room = room(&[8, 12, 30], &[(10, 20)]);
        assert_eq!([0, 1, 2, 10].map(|bound| room.in_doubt(bound)), [0, 0, 2, 4]);
    }

    proptest! {
        #[test]
        fn expected_is_the_number_of_pairs(
            published in prop::collection::vec(0_u64..40, 0..30), spans in prop::collection::vec((0_u64..40, 0_u64..20), 0..10), cut in 0_usize..30,
        ) {
            let spans: Vec<_> = spans.into_iter().map(|(from, length)| (from, from + length)).collect();
            let by_hand = published.iter().map(|at| spans.iter().filter(|(from, to)| from <= at && at <= to).count() as u64).sum::<u64>();
            prop_assert_eq!(room(&published, &spans).expected(), by_hand);
            // However the figures were divided over agents.
            let (first, second) = published.split_at(cut.min(published.len()));
            let mut parts = room(first, &[]);
            parts.add(&room(second, &spans)).unwrap();
            prop_assert_eq!(parts.expected(), by_hand);
            prop_assert_eq!(parts.most_subscribers(), (0..60).map(|at| spans.iter().filter(|(from, to)| *from <= at && at <= *to).count() as u64).max().unwrap_or(0));
        }
    }
}
