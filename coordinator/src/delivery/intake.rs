//! The deltas of one incarnation, from the wire to the acknowledgement.

use std::ops::RangeInclusive;

use super::mutants::{self, Mutant};

/// Hash of a delta's content.
pub type Hash = [u8; 16];

/// What to do with a delta that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// The next one: hand it to the log's writer. It is counted as handed over with this answer.
    Log,
    /// It came before and is on its way into the log: no answer yet.
    InFlight,
    /// It came before and is durable: acknowledge again.
    Duplicate {
        /// Up to this seq.
        acked: u64,
    },
    /// One before it is missing: ask for that.
    Gap {
        /// The missing one.
        expected: u64,
    },
    /// It came before with other content: one of the two is a lie, and the agent can't be believed.
    Equivocation {
        /// The seq that means two things.
        seq: u64,
    },
}

/// The log has a hole or the same delta twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log has delta {found} where {expected} must be")]
pub struct BrokenLog {
    /// The seq that must come next.
    pub expected: u64,
    /// The one that is there.
    pub found: u64,
}

/// What the coordinator has of one run's deltas of one incarnation.
///
/// A delta is `logged` when it was handed to the log's writer and `committed` when the writer says that it is durable.
/// Only then it is merged, and only then acknowledged: whatever an agent may forget, and whatever anybody has seen in a
/// report, survives a crash at any moment.
#[derive(Debug, Clone, Default)]
pub struct Intake {
    /// Hash of each delta that was handed to the writer; that of seq 1 first.
    logged: Vec<Hash>,
    committed: u64,
    merged: u64,
}

impl Intake {
    /// Rebuilds it from the log's entries, which are merged as they are read.
    pub fn restore(entries: impl IntoIterator<Item = (u64, Hash)>) -> Result<Self, BrokenLog> {
        let mut intake = Intake::default();
        for (found, hash) in entries {
            let expected = intake.last_logged() + 1;
            if found != expected {
                return Err(BrokenLog { expected, found });
            }
            intake.logged.push(hash);
        }
        intake.committed = intake.last_logged();
        intake.merged = intake.committed;
        Ok(intake)
    }

    /// A valid delta of this incarnation came.
    pub fn offer(&mut self, seq: u64, hash: Hash) -> Offer {
        let expected = self.last_logged() + 1;
        let known = seq.checked_sub(1).and_then(|index| self.logged.get(usize::try_from(index).ok()?));
        match known {
            Some(_) if mutants::is(Mutant::NoDuplicateCheck) => self.take(hash),
            Some(known) if *known != hash => Offer::Equivocation { seq },
            Some(_) if seq > self.acked() => Offer::InFlight,
            Some(_) => Offer::Duplicate { acked: self.acked() },
            None if seq == expected || (seq > expected && mutants::is(Mutant::NoGapCheck)) => self.take(hash),
            // Seqs begin at 1, so 0 is answered like any other that does not fit.
            None => Offer::Gap { expected },
        }
    }

    fn take(&mut self, hash: Hash) -> Offer {
        self.logged.push(hash);
        Offer::Log
    }

    /// The writer says that everything up to this seq is durable.
    pub fn committed(&mut self, upto: u64) {
        self.committed = self.committed.max(upto.min(self.last_logged()));
    }

    /// Seqs that are to be merged now, each once: those that have become durable since the last call.
    pub fn to_merge(&mut self) -> RangeInclusive<u64> {
        let upto = if mutants::is(Mutant::MergeBeforeCommit) { self.last_logged() } else { self.committed };
        let from = std::mem::replace(&mut self.merged, upto) + 1;
        from..=upto
    }

    /// What may be acknowledged: everything up to this seq is durable.
    pub fn acked(&self) -> u64 {
        if mutants::is(Mutant::AcknowledgeBeforeCommit) { self.last_logged() } else { self.committed }
    }

    /// The last seq that was handed to the writer.
    pub fn last_logged(&self) -> u64 {
        self.logged.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn hash(content: u8) -> Hash {
        [content; 16]
    }

    fn with(entries: u8) -> Intake {
        let mut intake = Intake::default();
        for seq in 1..=entries {
            assert_eq!(intake.offer(u64::from(seq), hash(seq)), Offer::Log);
        }
        intake
    }

    #[test]
    fn nothing_is_acknowledged_or_merged_before_it_is_durable() {
        let mut intake = with(3);
        assert_eq!((intake.acked(), intake.to_merge().count()), (0, 0));
        assert_eq!(intake.offer(2, hash(2)), Offer::InFlight);
        intake.committed(2);
        assert_eq!((intake.acked(), intake.to_merge()), (2, 1..=2));
        assert_eq!(intake.offer(2, hash(2)), Offer::Duplicate { acked: 2 });
        assert_eq!(intake.offer(3, hash(3)), Offer::InFlight);
        intake.committed(3);
        assert_eq!((intake.acked(), intake.to_merge()), (3, 3..=3));
        assert_eq!(intake.to_merge().count(), 0, "each once");
    }

    #[test]
    fn what_is_missing_is_asked_for() {
        let mut intake = with(2);
        assert_eq!(intake.offer(4, hash(4)), Offer::Gap { expected: 3 });
        assert_eq!(intake.offer(0, hash(0)), Offer::Gap { expected: 3 });
        assert_eq!(intake.offer(u64::MAX, hash(0)), Offer::Gap { expected: 3 });
        assert_eq!(intake.offer(3, hash(3)), Offer::Log);
    }

    #[test]
    fn two_contents_under_one_seq_are_told_before_and_after_the_commit() {
        let mut intake = with(2);
        assert_eq!(intake.offer(2, hash(9)), Offer::Equivocation { seq: 2 });
        intake.committed(2);
        assert_eq!(intake.offer(1, hash(9)), Offer::Equivocation { seq: 1 });
        assert_eq!(intake.last_logged(), 2);
    }

    #[test]
    fn a_commit_of_more_than_was_logged_or_of_less_than_before_changes_nothing() {
        let mut intake = with(2);
        intake.committed(9);
        intake.committed(1);
        assert_eq!(intake.acked(), 2);
    }

    #[test]
    fn after_a_restart_it_knows_what_the_log_has() {
        let mut intake = Intake::restore((1..=2).map(|seq| (u64::from(seq), hash(seq)))).unwrap_or_default();
        assert_eq!((intake.acked(), intake.to_merge().count()), (2, 0));
        assert_eq!(intake.offer(2, hash(2)), Offer::Duplicate { acked: 2 });
        assert_eq!(intake.offer(1, hash(7)), Offer::Equivocation { seq: 1 });
        assert_eq!(intake.offer(3, hash(3)), Offer::Log);
    }

    #[test]
    fn a_log_with_a_hole_or_a_double_is_refused() {
        let restored = |seqs: &[u64]| Intake::restore(seqs.iter().map(|seq| (*seq, hash(0)))).err();
        assert_eq!(restored(&[1, 3]), Some(BrokenLog { expected: 2, found: 3 }));
        assert_eq!(restored(&[1, 1]), Some(BrokenLog { expected: 2, found: 1 }));
        assert_eq!(restored(&[2]), Some(BrokenLog { expected: 1, found: 2 }));
        assert_eq!(restored(&[]), None);
    }
}
