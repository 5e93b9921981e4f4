//! What crosses the simulated wire and what stands in the simulated log.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use groundswell_agent::delivery::Merge;
use groundswell_coordinator::delivery::{Hash, Member, Order};

/// One life of one agent, as the coordinator knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id {
    pub(crate) name: u32,
    pub(crate) incarnation: u64,
}

/// From an agent.
#[derive(Debug, Clone)]
pub(crate) enum Up {
    Hello { name: u32, boot: u64 },
    Heartbeat { id: Id, sent_at: Duration },
    Delta { id: Id, seq: u64, bytes: Bytes },
    Answer { id: Id, generation: u32, asked: Duration, ok: bool },
    Leave { id: Id },
}

/// To an agent.
#[derive(Debug, Clone)]
pub(crate) enum Down {
    /// The answer to a hello: from here on the session is open.
    Welcome {
        id: Id,
        may_act: bool,
        acked: u64,
    },
    /// The run begins, or began, at this real time.
    Start {
        t0: u64,
    },
    Grant {
        sent_at: Duration,
    },
    Ack {
        upto: u64,
    },
    Expect {
        seq: u64,
    },
    Order(Order<Id>),
    /// This life was given up and may only deliver.
    Fenced,
}

/// A record of the coordinator's log.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    Registered { name: u32, boot: u64, incarnation: u64 },
    Started { members: Vec<Member<Id>>, t0: u64 },
    Delta { id: Id, seq: u64, hash: Hash, bytes: Bytes },
    Lost { id: Id, at: Duration },
    Joined { member: Member<Id>, at: Duration },
    Left { id: Id, at: Duration },
    Released { id: Id, generation: u32, asked: Duration, ok: bool, at: Duration },
}

/// What a simulated agent counts: the ordinals themselves, so that nothing can hide in a sum.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) issued: Vec<u32>,
    pub(crate) skipped: Vec<u32>,
    /// By generation: everything owned under it and intended before this moment of the run, in µs, is decided.
    pub(crate) decided: BTreeMap<u32, u64>,
}

impl Figures {
    pub(crate) fn add(&mut self, later: &Figures) {
        self.issued.extend_from_slice(&later.issued);
        self.skipped.extend_from_slice(&later.skipped);
        self.decided.extend(&later.decided);
    }

    pub(crate) fn encode(&self, seq: u64) -> Bytes {
        let mut bytes = Vec::with_capacity(24 + 4 * (self.issued.len() + self.skipped.len()) + 16 * self.decided.len());
        let mut long = |value: u64| bytes.extend_from_slice(&value.to_le_bytes());
        long(seq);
        long(self.issued.len() as u64);
        long(self.decided.len() as u64);
        for (generation, to_us) in &self.decided {
            long(u64::from(*generation));
            long(*to_us);
        }
        for k in self.issued.iter().chain(&self.skipped) {
            bytes.extend_from_slice(&k.to_le_bytes());
        }
        Bytes::from(bytes)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Figures {
        let long = |bytes: &[u8], at: usize| {
            bytes[8 * at..8 * at + 8].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
        };
        let ordinal = |four: &[u8]| four.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte));
        let (issued, generations) = (long(bytes, 1) as usize, long(bytes, 2) as usize);
        let (head, ordinals) = bytes.split_at(24 + 16 * generations);
        let decided = head[24..].chunks(16).map(|pair| (long(pair, 0) as u32, long(pair, 1))).collect();
        let all: Vec<u32> = ordinals.chunks(4).map(ordinal).collect();
        let (issued, skipped) = all.split_at(issued);
        Figures { issued: issued.to_vec(), skipped: skipped.to_vec(), decided }
    }
}

impl Merge for Figures {
    type Error = std::convert::Infallible;

    fn merge(&mut self, later: &Self) -> Result<(), Self::Error> {
        self.add(later);
        Ok(())
    }
}

/// Good enough against accidents, which is all that happens here.
pub(crate) fn hash(bytes: &[u8]) -> Hash {
    let mut state = 0xcbf2_9ce4_8422_2325_u128;
    for byte in bytes {
        state = (state ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    state.to_le_bytes()
}
