//! Sealed deltas, from the seal to their acknowledgement.

use std::collections::VecDeque;

use bytes::Bytes;

use super::mutants::{self, Mutant};

/// Deltas that may be on the wire without an acknowledgement; beyond it, what is sealed is merged into one that waits.
pub const WINDOW: usize = 8;

/// What can take in a later one of its kind.
pub trait Merge {
    /// Why two can't be one.
    type Error;

    /// Adds what was sealed after it.
    fn merge(&mut self, later: &Self) -> Result<(), Self::Error>;
}

/// The coordinator remembers another past than this agent: an acknowledged delta is gone there, or it has some that were
/// never sent. Nothing that is sent now would make the sums right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the coordinator has deltas up to {theirs}, but {freed} were acknowledged and {last} sent")]
pub struct Torn {
    /// What the coordinator says that it has.
    pub theirs: u64,
    /// Acknowledged so far.
    pub freed: u64,
    /// Sent so far.
    pub last: u64,
}

/// The deltas of one run and one incarnation that the coordinator has not acknowledged.
///
/// A delta that was handed out once may have arrived, so it is kept as the same bytes under the same seq until it is
/// acknowledged; otherwise its key would mean two things. What was never handed out is merged into one delta. So the
/// memory is that of [`WINDOW`] encoded deltas and one more, however long the coordinator is away.
#[derive(Debug)]
pub struct Outbox<D> {
    /// Handed out at least once, in order of seq; the last has seq `last`.
    exposed: VecDeque<Bytes>,
    /// So many of `exposed` were handed out in this session; `None` without a session.
    on_wire: Option<usize>,
    /// Never handed out.
    waiting: Option<D>,
    last: u64,
    /// Acknowledged when the last session was lost, so the next one can't know less.
    known: u64,
}

impl<D> Default for Outbox<D> {
    fn default() -> Self {
        Outbox { exposed: VecDeque::with_capacity(WINDOW), on_wire: Some(0), waiting: None, last: 0, known: 0 }
    }
}

impl<D: Merge> Outbox<D> {
    /// An empty one, within a session.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a delta that was just sealed. After an error the sums of this run can't be right any more.
    pub fn seal(&mut self, delta: D) -> Result<(), D::Error> {
        match &mut self.waiting {
            Some(waiting) => waiting.merge(&delta),
            None => {
                self.waiting = Some(delta);
                Ok(())
            }
        }
    }

    /// The next delta for the wire, with its seq: first again what an earlier session may have lost, then what is new, as
    /// long as the window is open. `encode` is called once for each seq.
    pub fn next(&mut self, encode: impl FnOnce(u64, &D) -> Bytes) -> Option<(u64, Bytes)> {
        let sent = self.on_wire?;
        if let Some(bytes) = self.exposed.get(sent) {
            let mut bytes = bytes.clone();
            let seq = self.freed() + sent as u64 + 1;
            if mutants::is(Mutant::ChangedAfterExposure)
                && let Some(newer) = self.waiting.take()
            {
                bytes = encode(seq, &newer);
            }
            self.on_wire = Some(sent + 1);
            return Some((seq, bytes));
        }
        if self.exposed.len() >= WINDOW {
            return None;
        }
        let delta = self.waiting.take()?;
        self.last += 1;
        let bytes = encode(self.last, &delta);
        if mutants::is(Mutant::FreedBeforeAcknowledged) {
            return Some((self.last, bytes));
        }
        self.exposed.push_back(bytes.clone());
        self.on_wire = Some(self.exposed.len());
        Some((self.last, bytes))
    }

    /// Everything up to this seq is durable at the coordinator. Late and repeated acknowledgements do nothing.
    pub fn acknowledged(&mut self, upto: u64) -> Result<(), Torn> {
        if upto > self.last {
            return Err(self.torn(upto));
        }
        // Not more than `exposed` holds, because `upto` is not above `last`.
        let freed = usize::try_from(upto.saturating_sub(self.freed())).unwrap_or(usize::MAX).min(self.exposed.len());
        self.exposed.drain(..freed);
        self.on_wire = self.on_wire.map(|sent| sent.saturating_sub(freed));
        Ok(())
    }

    /// The session is over: nothing is handed out until [`Outbox::resumed`].
    pub fn session_lost(&mut self) {
        self.on_wire = None;
        self.known = self.freed();
    }

    /// A new session has begun, and the coordinator has everything up to `acked`; what is above is handed out again. An
    /// acknowledgement that overtook this answer may say more, but the answer says no less than what was known before.
    pub fn resumed(&mut self, acked: u64) -> Result<(), Torn> {
        if acked < self.known {
            return Err(self.torn(acked));
        }
        self.acknowledged(acked)?;
        self.on_wire = Some(0);
        Ok(())
    }

    /// The coordinator got something else than the seq that it expects: from there on all is handed out again.
    pub fn expected(&mut self, seq: u64) -> Result<(), Torn> {
        if seq > self.last + 1 {
            return Err(self.torn(seq.saturating_sub(1)));
        }
        // What was expected before an acknowledgement came is an old answer. Never forward: that would leave a hole.
        let (Some(sent), Some(ahead)) = (self.on_wire, seq.checked_sub(self.freed() + 1)) else { return Ok(()) };
        self.on_wire = Some(sent.min(usize::try_from(ahead).unwrap_or(usize::MAX)));
        Ok(())
    }

    /// Handed out, and not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.exposed.len()
    }

    /// The last seq that was handed out.
    pub fn last_seq(&self) -> u64 {
        self.last
    }

    /// Has everything that was sealed been acknowledged?
    pub fn is_drained(&self) -> bool {
        self.exposed.is_empty() && self.waiting.is_none()
    }

    /// Is there something sealed that was never handed out?
    pub fn has_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    fn freed(&self) -> u64 {
        self.last - self.exposed.len() as u64
    }

    fn torn(&self, theirs: u64) -> Torn {
        Torn { theirs, freed: self.freed(), last: self.last }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    impl Merge for u64 {
        type Error = ();

        fn merge(&mut self, later: &Self) -> Result<(), ()> {
            *self = self.checked_add(*later).ok_or(())?;
            Ok(())
        }
    }

    fn encode(seq: u64, delta: &u64) -> Bytes {
        Bytes::from(format!("{seq}:{delta}"))
    }

    /// Everything that may be handed out now.
    fn all(outbox: &mut Outbox<u64>) -> Vec<String> {
        std::iter::from_fn(|| outbox.next(encode))
            .map(|(_, bytes)| String::from_utf8(bytes.to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn deltas_go_out_in_order_and_once_for_each_session() {
        let mut outbox = Outbox::new();
        outbox.seal(1).unwrap();
        assert_eq!(all(&mut outbox), ["1:1"]);
        outbox.seal(2).unwrap();
        assert_eq!(all(&mut outbox), ["2:2"]);
        assert_eq!(all(&mut outbox), Vec::<String>::new());
        assert_eq!((outbox.unacknowledged(), outbox.last_seq(), outbox.is_drained()), (2, 2, false));
        outbox.acknowledged(2).unwrap();
        assert!(outbox.is_drained());
    }

    #[test]
    fn beyond_the_window_what_is_sealed_becomes_one() {
        let mut outbox = Outbox::new();
        for delta in 1..=8 {
            outbox.seal(delta).unwrap();
            assert_eq!(all(&mut outbox).len(), 1);
        }
        for delta in [100, 200, 300] {
            outbox.seal(delta).unwrap();
            assert!(all(&mut outbox).is_empty());
        }
        outbox.acknowledged(1).unwrap();
        assert_eq!(all(&mut outbox), ["9:600"]);
    }

    #[test]
    fn while_the_session_is_lost_memory_stays_flat_and_nothing_on_the_wire_changes() {
        let mut outbox = Outbox::new();
        outbox.seal(1).unwrap();
        outbox.seal(2).unwrap();
        assert_eq!(all(&mut outbox), ["1:3"]);
        outbox.session_lost();
        for _ in 0..1_000 {
            outbox.seal(1).unwrap();
            assert!(all(&mut outbox).is_empty());
        }
        assert_eq!(outbox.unacknowledged(), 1);
        outbox.resumed(0).unwrap();
        assert_eq!(all(&mut outbox), ["1:3", "2:1000"]);
        outbox.session_lost();
        outbox.resumed(1).unwrap();
        assert_eq!(all(&mut outbox), ["2:1000"]);
    }

    #[test]
    fn acknowledgements_may_come_while_there_is_no_session_late_and_twice() {
        let mut outbox = Outbox::new();
        for delta in 1..=3 {
            outbox.seal(delta).unwrap();
            all(&mut outbox);
        }
        outbox.session_lost();
        for upto in [2, 1, 2, 0] {
            outbox.acknowledged(upto).unwrap();
        }
        assert_eq!(outbox.unacknowledged(), 1);
        outbox.resumed(0).unwrap();
        assert_eq!(all(&mut outbox), ["3:3"], "the answer was overtaken by the acknowledgement");
    }

    #[test]
    fn a_gap_is_filled_from_the_expected_seq_and_an_old_answer_skips_nothing() {
        let mut outbox = Outbox::new();
        for delta in 1..=4 {
            outbox.seal(delta).unwrap();
            all(&mut outbox);
        }
        outbox.acknowledged(1).unwrap();
        outbox.expected(3).unwrap();
        assert_eq!(all(&mut outbox), ["3:3", "4:4"]);
        outbox.expected(2).unwrap();
        outbox.expected(4).unwrap();
        assert_eq!(all(&mut outbox), ["2:2", "3:3", "4:4"]);
        outbox.expected(1).unwrap();
        outbox.expected(5).unwrap();
        assert!(all(&mut outbox).is_empty());
    }

    #[test]
    fn a_coordinator_with_another_past_is_found_out() {
        let mut outbox = Outbox::new();
        for delta in 1..=3 {
            outbox.seal(delta).unwrap();
            all(&mut outbox);
        }
        outbox.acknowledged(2).unwrap();
        outbox.session_lost();
        assert_eq!(outbox.resumed(1), Err(Torn { theirs: 1, freed: 2, last: 3 }));
        assert_eq!(outbox.acknowledged(4), Err(Torn { theirs: 4, freed: 2, last: 3 }));
        assert_eq!(outbox.resumed(9), Err(Torn { theirs: 9, freed: 2, last: 3 }));
        assert_eq!(outbox.expected(9), Err(Torn { theirs: 8, freed: 2, last: 3 }));
    }

    #[test]
    fn sums_that_do_not_fit_are_told() {
        let mut outbox = Outbox::new();
        outbox.seal(u64::MAX).unwrap();
        assert_eq!(outbox.seal(1), Err(()));
    }
}
