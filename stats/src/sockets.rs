//! What became of the WebSockets of one step.

use std::collections::BTreeMap;

use crate::buckets::sum;
use crate::counters::{add_words, words_fit};
use crate::{ErrorClass, Overflow, Series};

/// The WebSockets of one step in one window.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sockets {
    /// Connections opened, first and later ones.
    pub opened: u64,
    /// Connections that ended, by who ended them and the close code.
    pub closed: BTreeMap<Closing, u64>,
    /// Pings sent.
    pub pings_sent: u64,
    /// Answers to them.
    pub pongs_received: u64,
    /// Pings of the target; each was answered.
    pub pings_received: u64,
    /// Messages thrown away because no step had taken them and too many waited.
    pub unread: u64,
    /// What went over the connections.
    pub traffic: Traffic,
    /// Recoveries, by the cycle of `drop` that caused them; cycle 0 are those that the plan did not cause.
    pub recoveries: BTreeMap<u32, Recovery>,
}

/// What went over WebSocket connections, control frames and handshakes among it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Messages sent.
    pub messages_sent: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Frames sent.
    pub frames_sent: u64,
    /// Frames received.
    pub frames_received: u64,
    /// Bytes sent, before TLS.
    pub bytes_sent: u64,
    /// Bytes received, after TLS.
    pub bytes_received: u64,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Closing {
    /// Who ended it.
    pub by: Closer,
    /// Close code (RFC 6455, section 7.4); 1005 stands for a close frame without one, 1006 for no close frame.
    pub code: u16,
}

/// Who ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Closer {
    /// A step or the end of the flow.
    Agent,
    /// The target, or what lies between.
    Target,
    /// `drop` of the plan.
    Drop,
}

/// Connections that were lost and opened again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Connections lost that were to be opened again.
    pub lost: u64,
    /// Connections that were opened again.
    pub restored: u64,
    /// Connections given up after the most attempts.
    pub given_up: u64,
    /// Attempts that failed, by class.
    pub failed: BTreeMap<ErrorClass, u64>,
    /// Handshakes that ended well.
    pub handshake: Series,
    /// From the loss to the connection that replaced it.
    pub outage: Series,
}

impl Sockets {
    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        *self == Sockets::default()
    }

    /// Connections that ended.
    pub fn closed_in_all(&self) -> u64 {
        self.closed.values().fold(0, |all, count| all.saturating_add(*count))
    }

    /// Adds the figures of another window or recorder; on an error nothing was added.
    pub fn add(&mut self, other: &Sockets) -> Result<(), Overflow> {
        self.fits(other)?;
        self.add_checked(other);
        Ok(())
    }

    /// Can the figures of another be added?
    pub(crate) fn fits(&self, other: &Sockets) -> Result<(), Overflow> {
        words_fit("closed", &self.closed, &other.closed)?;
        for (cycle, recovery) in &other.recoveries {
            self.recoveries.get(cycle).map_or(Ok(()), |known| known.fits(recovery))?;
        }
        sum("opened", self.opened, other.opened)?;
        sum("pings sent", self.pings_sent, other.pings_sent)?;
        sum("pongs received", self.pongs_received, other.pongs_received)?;
        sum("pings received", self.pings_received, other.pings_received)?;
        sum("unread", self.unread, other.unread)?;
        self.traffic.with(other.traffic).map(drop)
    }

    /// Adds the figures of another that is known to fit.
    pub(crate) fn add_checked(&mut self, other: &Sockets) {
        self.opened += other.opened;
        add_words(&mut self.closed, &other.closed);
        self.pings_sent += other.pings_sent;
        self.pongs_received += other.pongs_received;
        self.pings_received += other.pings_received;
        self.unread += other.unread;
        self.traffic.add_checked(other.traffic);
        for (cycle, recovery) in &other.recoveries {
            self.recoveries.entry(*cycle).or_default().add_checked(recovery);
        }
    }
}

impl Traffic {
    /// What is new since an earlier look.
    pub fn since(self, earlier: Traffic) -> Traffic {
        Traffic {
            messages_sent: self.messages_sent.saturating_sub(earlier.messages_sent),
            messages_received: self.messages_received.saturating_sub(earlier.messages_received),
            frames_sent: self.frames_sent.saturating_sub(earlier.frames_sent),
            frames_received: self.frames_received.saturating_sub(earlier.frames_received),
            bytes_sent: self.bytes_sent.saturating_sub(earlier.bytes_sent),
            bytes_received: self.bytes_received.saturating_sub(earlier.bytes_received),
        }
    }

    fn add_checked(&mut self, other: Traffic) {
        self.messages_sent += other.messages_sent;
        self.messages_received += other.messages_received;
        self.frames_sent += other.frames_sent;
        self.frames_received += other.frames_received;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
    }

    /// With the traffic of another connection, window or recorder.
    pub fn with(self, other: Traffic) -> Result<Traffic, Overflow> {
        Ok(Traffic {
            messages_sent: sum("messages sent", self.messages_sent, other.messages_sent)?,
            messages_received: sum("messages received", self.messages_received, other.messages_received)?,
            frames_sent: sum("frames sent", self.frames_sent, other.frames_sent)?,
            frames_received: sum("frames received", self.frames_received, other.frames_received)?,
            bytes_sent: sum("bytes sent", self.bytes_sent, other.bytes_sent)?,
            bytes_received: sum("bytes received", self.bytes_received, other.bytes_received)?,
        })
    }
}

impl Recovery {
    fn fits(&self, other: &Recovery) -> Result<(), Overflow> {
        sum("lost", self.lost, other.lost)?;
        sum("restored", self.restored, other.restored)?;
        sum("given up", self.given_up, other.given_up)?;
        words_fit("failed", &self.failed, &other.failed)?;
        self.handshake.fits(&other.handshake)?;
        self.outage.fits(&other.outage)
    }

    fn add_checked(&mut self, other: &Recovery) {
        self.lost += other.lost;
        self.restored += other.restored;
        self.given_up += other.given_up;
        add_words(&mut self.failed, &other.failed);
        self.handshake.add_checked(&other.handshake);
        self.outage.add_checked(&other.outage);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn adding_adds_every_figure_or_nothing() {
        let mut recovery = Recovery { lost: 2, restored: 1, given_up: 1, ..Recovery::default() };
        recovery.failed.insert(ErrorClass::new("connection_refused"), 3);
        recovery.outage.record(3_000_000);
        let traffic = Traffic {
            messages_sent: 1,
            messages_received: 2,
            frames_sent: 3,
            frames_received: 4,
            bytes_sent: 5,
            bytes_received: 6,
        };
        let one = Sockets {
            opened: 1,
            closed: [(Closing { by: Closer::Target, code: 1001 }, 2)].into(),
            pings_sent: 3,
            pongs_received: 4,
            pings_received: 5,
            unread: 6,
            traffic,
            recoveries: [(7, recovery)].into(),
        };
        let mut two = one.clone();
        two.add(&one).unwrap();
        assert_eq!((two.opened, two.closed_in_all(), two.pings_sent), (2, 4, 6));
        assert_eq!((two.pongs_received, two.pings_received, two.unread), (8, 10, 12));
        let recovery = &two.recoveries[&7];
        assert_eq!((recovery.lost, recovery.restored, recovery.given_up), (4, 2, 2));
        assert_eq!((recovery.failed.values().sum::<u64>(), recovery.outage.count), (6, 2));
        assert_eq!(two.traffic.since(traffic), traffic);
        assert_eq!((two.traffic.messages_received, two.traffic.bytes_received), (4, 12));
        let before = two.clone();
        let wrong = Sockets { unread: u64::MAX, ..one };
        assert_eq!(two.add(&wrong), Err(Overflow { figure: "unread" }));
        assert_eq!(two, before);
    }
}
