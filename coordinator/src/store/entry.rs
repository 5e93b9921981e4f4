//! An entry of a run's log.

use super::StoreError;
use super::checksum::{Part, checksum};

/// Hash of a delta's content, as whoever sends and compares deltas makes it.
pub type Hash = [u8; 16];

/// One thing that changed a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The run's id.
    pub run: String,
    /// 1, 2, 3 … in each run.
    pub n: u64,
    /// When, on the coordinator's clock, in microseconds.
    pub monotonic_us: u64,
    /// When, on the calendar, in microseconds since 1970 (UTC).
    pub calendar_us: i64,
    /// What.
    pub body: EntryBody,
}

/// What an entry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryBody {
    /// An event, encoded by the caller.
    Event(Vec<u8>),
    /// A delta under its key.
    Delta {
        /// Name of the agent.
        agent: String,
        /// The agent's incarnation.
        incarnation: u64,
        /// The delta's number in the incarnation, from 1.
        seq: u64,
        /// Hash of its content.
        hash: Hash,
        /// The delta, encoded by the caller.
        bytes: Vec<u8>,
    },
    /// What compaction has made of several deltas of one incarnation. Only the store makes these.
    Interval {
        /// Name of the agent.
        agent: String,
        /// The agent's incarnation.
        incarnation: u64,
        /// The number of the first delta in it.
        first_seq: u64,
        /// The hash of each delta in it, in order, so that one that comes again is still known.
        hashes: Vec<Hash>,
        /// The deltas merged, encoded by the caller.
        bytes: Vec<u8>,
    },
}

impl EntryBody {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            EntryBody::Event(bytes) | EntryBody::Delta { bytes, .. } | EntryBody::Interval { bytes, .. } => bytes,
        }
    }
}

/// A row of the table, without its log.
pub(super) type Row =
    (i64, i64, i64, Option<String>, Option<i64>, Option<i64>, Option<i64>, Option<Vec<u8>>, Vec<u8>, i64);

/// An entry on its way into the table.
pub(super) struct RowOf<'a> {
    pub(super) n: i64,
    pub(super) monotonic_us: i64,
    pub(super) calendar_us: i64,
    pub(super) agent: Option<&'a str>,
    pub(super) incarnation: Option<i64>,
    pub(super) first_seq: Option<i64>,
    pub(super) seq: Option<i64>,
    pub(super) hashes: Option<Vec<u8>>,
    pub(super) bytes: &'a [u8],
    pub(super) checksum: i64,
}

impl<'a> RowOf<'a> {
    pub(super) fn new(entry: &'a Entry) -> Result<RowOf<'a>, StoreError> {
        let mut row = RowOf {
            n: int("the number of an entry", entry.n)?,
            monotonic_us: int("the time of an entry", entry.monotonic_us)?,
            calendar_us: entry.calendar_us,
            agent: None,
            incarnation: None,
            first_seq: None,
            seq: None,
            hashes: None,
            bytes: entry.body.bytes(),
            checksum: 0,
        };
        match &entry.body {
            EntryBody::Event(_) => {}
            EntryBody::Delta { agent, incarnation, seq, hash, .. } => {
                row.keyed(agent, *incarnation, *seq, std::slice::from_ref(hash))?;
            }
            EntryBody::Interval { agent, incarnation, first_seq, hashes, .. } => {
                row.keyed(agent, *incarnation, *first_seq, hashes)?;
            }
        }
        row.checksum = row.sum(&entry.run);
        Ok(row)
    }

    fn keyed(&mut self, agent: &'a str, incarnation: u64, first_seq: u64, hashes: &[Hash]) -> Result<(), StoreError> {
        let last = first_seq.saturating_add(hashes.len() as u64).saturating_sub(1);
        self.agent = Some(agent);
        self.incarnation = Some(int("an incarnation", incarnation)?);
        self.first_seq = Some(int("the number of a delta", first_seq)?);
        self.seq = Some(int("the number of a delta", last)?);
        self.hashes = Some(hashes.concat());
        Ok(())
    }

    /// The run's id and not the log's number, which a compaction changes.
    fn sum(&self, run: &str) -> i64 {
        checksum(&[
            run.into(),
            self.n.into(),
            self.monotonic_us.into(),
            self.calendar_us.into(),
            self.agent.into(),
            self.incarnation.into(),
            self.first_seq.into(),
            self.seq.into(),
            Part::from(self.hashes.as_deref()),
            self.bytes.into(),
        ])
    }
}

/// Reads a row back. An error is what is wrong with it, in words.
pub(super) fn read(run: &str, row: Row) -> Result<Entry, String> {
    let (n, monotonic_us, calendar_us, agent, incarnation, first_seq, seq, hashes, bytes, stored) = row;
    let found = RowOf {
        n,
        monotonic_us,
        calendar_us,
        agent: agent.as_deref(),
        incarnation,
        first_seq,
        seq,
        hashes: hashes.clone(),
        bytes: &bytes,
        checksum: stored,
    };
    if found.sum(run) != stored {
        return Err(format!("entry {n} of run {run} is not what was written (its checksum differs)"));
    }
    let body = match (agent, incarnation, first_seq, hashes) {
        (None, None, None, None) => EntryBody::Event(bytes),
        (Some(agent), Some(incarnation), Some(first_seq), Some(hashes)) => {
            let (incarnation, first_seq) = (incarnation.unsigned_abs(), first_seq.unsigned_abs());
            let (hashes, rest) = hashes.as_chunks::<16>();
            match hashes {
                [hash] if rest.is_empty() => {
                    EntryBody::Delta { agent, incarnation, seq: first_seq, hash: *hash, bytes }
                }
                [_, ..] if rest.is_empty() => {
                    EntryBody::Interval { agent, incarnation, first_seq, hashes: hashes.to_vec(), bytes }
                }
                _ => return Err(format!("entry {n} of run {run} has a hash that is cut off")),
            }
        }
        _ => return Err(format!("entry {n} of run {run} has half a key")),
    };
    Ok(Entry { run: run.to_owned(), n: n.unsigned_abs(), monotonic_us: monotonic_us.unsigned_abs(), calendar_us, body })
}

/// Databases have signed numbers only.
pub(super) fn int(what: &'static str, value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::TooLarge { what, value })
}
