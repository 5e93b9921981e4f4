//! A run that goes on, or that was taken up again for what came late: its log, its deltas, who follows it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use groundswell_proto::v1;

use super::unanswered::Unanswered;
use super::watch::Feed;
use crate::delivery::{Intake, Leases};
use crate::fleet::AgentId;
use crate::run::{Event, Now, Run};
use crate::server::clock::{Ahead, calendar_us};
use crate::store::{Entry, EntryBody};

/// What the writer gives back when an entry is durable.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) run: String,
    pub(super) event: Event,
    pub(super) now: Now,
    /// The delta that it is: whose and which.
    pub(super) delta: Option<(AgentId, u64)>,
}

/// A delta on its way into the log.
pub(super) struct Packed {
    pub(super) seq: u64,
    pub(super) hash: [u8; 16],
    pub(super) bytes: Vec<u8>,
}

/// A run in memory.
pub(super) struct Running {
    pub(super) id: String,
    pub(super) run: Run,
    /// What agents are sent.
    pub(super) wire_plan: v1::Plan,
    pub(super) feed: Feed,
    /// It ends when nobody follows it.
    pub(super) attached: bool,
    /// Labels that an agent must have to take part.
    pub(super) selector: BTreeMap<String, String>,
    pub(super) agents_wanted: usize,
    pub(super) wait: Duration,
    pub(super) wait_until: Duration,
    /// When somebody followed it last.
    pub(super) followed: Duration,
    pub(super) leases: Leases<AgentId>,
    pub(super) intakes: BTreeMap<AgentId, Intake>,
    /// Names of the agents that take part.
    pub(super) names: BTreeMap<AgentId, String>,
    pub(super) done: BTreeSet<AgentId>,
    pub(super) unanswered: Unanswered,
    /// Entries handed to the writer so far.
    pub(super) logged: u64,
    /// Events, deltas left out, that are not durable yet.
    pub(super) undecided: usize,
    pub(super) ahead: Ahead,
    /// Answers stored so far.
    pub(super) revision: u64,
}

impl Running {
    pub(super) fn new(id: String, run: Run, wire_plan: v1::Plan, wanted: usize, wait: Duration, now: Duration) -> Self {
        let leases = Leases::new(run.plan().continuity.issue_limit());
        Running {
            id,
            run,
            wire_plan,
            feed: Feed::default(),
            attached: true,
            selector: BTreeMap::new(),
            agents_wanted: wanted,
            wait,
            wait_until: now + wait,
            followed: now,
            leases,
            intakes: BTreeMap::new(),
            names: BTreeMap::new(),
            done: BTreeSet::new(),
            unanswered: Unanswered::default(),
            logged: 0,
            undecided: 0,
            ahead: Ahead::default(),
            revision: 0,
        }
    }

    /// The entry for an event, and what comes back when it is durable.
    pub(super) fn entry(&mut self, event: Event, packed: Option<Packed>, now: Now) -> Option<(Entry, Token)> {
        let now = self.ahead.run_time(now);
        self.logged += 1;
        let (body, delta) = match (&event, packed) {
            (Event::Measured(agent, _), Some(Packed { seq, hash, bytes })) => {
                let name = self.names.get(agent).cloned().unwrap_or_default();
                (EntryBody::Delta { agent: name, incarnation: agent.0, seq, hash, bytes }, Some((*agent, seq)))
            }
            _ => {
                self.undecided += 1;
                match serde_json::to_vec(&event) {
                    Ok(bytes) => (EntryBody::Event(bytes), None),
                    Err(error) => {
                        // Only floats that are none, and keys that are no texts, can't be written.
                        tracing::error!(%error, ?event, "an event can't be written down");
                        self.logged -= 1;
                        self.undecided -= 1;
                        return None;
                    }
                }
            }
        };
        let monotonic_us = u64::try_from(now.monotonic.as_micros()).unwrap_or(u64::MAX);
        let entry =
            Entry { run: self.id.clone(), n: self.logged, monotonic_us, calendar_us: calendar_us(now.calendar), body };
        Some((entry, Token { run: self.id.clone(), event, now, delta }))
    }
}
