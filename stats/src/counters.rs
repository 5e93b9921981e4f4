//! The account of operations.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::buckets::sum;
use crate::{ErrorClass, Overflow};

/// Counters of operations. `scheduled = issued + shed + not generated`; `issued = ok + errors + timeout + aborted + unsent
/// + in flight`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counters {
    /// Operations whose time came.
    pub scheduled: u64,
    /// Operations handed to the transport.
    pub issued: u64,
    /// Operations that ended well.
    pub ok: u64,
    /// Operations that ended with an error; the sum of `errors_by_class`.
    pub errors: u64,
    /// Operations that ran into their time limit.
    pub timeout: u64,
    /// Operations cut off at the end of the run.
    pub aborted: u64,
    /// Errors by class.
    pub errors_by_class: BTreeMap<ErrorClass, u64>,
    /// Operations that never left this machine because of its own limits, by class: nothing was asked of the target, so
    /// they are no errors of it and have no latency.
    pub unsent: BTreeMap<ErrorClass, u64>,
    /// Operations given up because they could not start in time, by reason.
    pub shed: BTreeMap<Cow<'static, str>, u64>,
    /// Operations that nobody tried to start, by reason.
    pub not_generated: BTreeMap<Cow<'static, str>, u64>,
    /// Requests that operations made beyond their first: redirects followed, challenges answered, stale connections
    /// replaced. The target has seen `issued - unsent + follow_ups` requests, less those that did not reach it.
    pub follow_ups: u64,
    /// WebSocket messages sent.
    pub messages_sent: u64,
    /// WebSocket messages received.
    pub messages_received: u64,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
}

impl Counters {
    /// Adds another account; on an error nothing was added.
    pub fn add(&mut self, other: &Counters) -> Result<(), Overflow> {
        self.fits(other)?;
        self.add_checked(other);
        Ok(())
    }

    /// Can another account be added?
    pub(crate) fn fits(&self, other: &Counters) -> Result<(), Overflow> {
        for ((figure, left), (_, right)) in self.figures().into_iter().zip(other.figures()) {
            sum(figure, left, right)?;
        }
        words_fit("errors by class", &self.errors_by_class, &other.errors_by_class)?;
        words_fit("unsent", &self.unsent, &other.unsent)?;
        words_fit("shed", &self.shed, &other.shed)?;
        words_fit("not generated", &self.not_generated, &other.not_generated)
    }

    /// Those that are one number.
    fn figures(&self) -> [(&'static str, u64); 11] {
        [
            ("scheduled", self.scheduled),
            ("issued", self.issued),
            ("ok", self.ok),
            ("errors", self.errors),
            ("timeout", self.timeout),
            ("aborted", self.aborted),
            ("follow-ups", self.follow_ups),
            ("messages sent", self.messages_sent),
            ("messages received", self.messages_received),
            ("bytes sent", self.bytes_sent),
            ("bytes received", self.bytes_received),
        ]
    }

    /// Adds another account that is known to fit.
    pub(crate) fn add_checked(&mut self, other: &Counters) {
        self.scheduled += other.scheduled;
        self.issued += other.issued;
        self.ok += other.ok;
        self.errors += other.errors;
        self.timeout += other.timeout;
        self.aborted += other.aborted;
        self.follow_ups += other.follow_ups;
        self.messages_sent += other.messages_sent;
        self.messages_received += other.messages_received;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        add_words(&mut self.errors_by_class, &other.errors_by_class);
        add_words(&mut self.unsent, &other.unsent);
        add_words(&mut self.shed, &other.shed);
        add_words(&mut self.not_generated, &other.not_generated);
    }

    /// Operations issued that have not ended. None where more have ended than were issued, as in a delta whose
    /// operations were issued in the window before.
    pub fn in_flight(&self) -> Option<u64> {
        let ended = [self.ok, self.errors, self.timeout, self.aborted, self.unsent_in_all()];
        ended.into_iter().try_fold(self.issued, u64::checked_sub)
    }

    /// Operations that failed: errors, timeouts and aborted ones.
    pub fn failed(&self) -> u64 {
        // Only accounts that already are wrong get to the end of 64 bits; in_flight and unaccounted tell of them.
        self.errors.saturating_add(self.timeout).saturating_add(self.aborted)
    }

    /// Operations that never left this machine, whatever the class.
    pub fn unsent_in_all(&self) -> u64 {
        self.unsent.values().fold(0, |total, count| total.saturating_add(*count))
    }

    /// Operations given up, whatever the reason.
    pub fn shed_in_all(&self) -> u64 {
        self.shed.values().fold(0, |total, count| total.saturating_add(*count))
    }

    /// Operations that nobody tried to start, whatever the reason.
    pub fn not_generated_in_all(&self) -> u64 {
        self.not_generated.values().fold(0, |total, count| total.saturating_add(*count))
    }

    /// Scheduled operations of which the account tells no fate: `scheduled - issued - shed - not generated`. Zero when
    /// the account adds up; in the middle of a run, those that wait for their start.
    pub fn unaccounted(&self) -> i128 {
        let told = |by_reason: &BTreeMap<_, u64>| by_reason.values().map(|count| i128::from(*count)).sum::<i128>();
        i128::from(self.scheduled) - i128::from(self.issued) - told(&self.shed) - told(&self.not_generated)
    }
}

/// Can counts by word be added to others?
pub(crate) fn words_fit<K: Ord>(
    figure: &'static str,
    left: &BTreeMap<K, u64>,
    right: &BTreeMap<K, u64>,
) -> Result<(), Overflow> {
    right.iter().try_for_each(|(word, count)| sum(figure, left.get(word).copied().unwrap_or(0), *count).map(drop))
}

/// Adds counts by word that are known to fit.
pub(crate) fn add_words<K: Ord + Clone>(left: &mut BTreeMap<K, u64>, right: &BTreeMap<K, u64>) {
    for (word, count) in right {
        match left.get_mut(word) {
            Some(known) => *known += count,
            None => drop(left.insert(word.clone(), *count)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn account() -> Counters {
        Counters {
            scheduled: 12,
            issued: 9,
            ok: 3,
            errors: 1,
            timeout: 1,
            aborted: 1,
            errors_by_class: [(ErrorClass::new("status_503"), 1)].into(),
            unsent: [(ErrorClass::new("no_free_port"), 2)].into(),
            shed: [("max_in_flight".into(), 2)].into(),
            not_generated: [("interrupted".into(), 1)].into(),
            follow_ups: 4,
            messages_sent: 5,
            messages_received: 6,
            bytes_sent: 100,
            bytes_received: 200,
        }
    }

    #[test]
    fn every_operation_has_one_fate() {
        let account = account();
        assert_eq!((account.in_flight(), account.failed(), account.unaccounted()), (Some(1), 3, 0));
        assert_eq!((account.shed_in_all(), account.not_generated_in_all(), account.unsent_in_all()), (2, 1, 2));
    }

    #[test]
    fn an_account_that_does_not_add_up_shows() {
        let lost = Counters { shed: BTreeMap::new(), ..account() };
        assert_eq!(lost.unaccounted(), 2);
        let doubled = Counters { ok: 9, ..account() };
        assert_eq!(doubled.in_flight(), None);
        let wrong = Counters { shed: [("a".into(), u64::MAX), ("b".into(), u64::MAX)].into(), ..account() };
        assert!(wrong.unaccounted() < -i128::from(u64::MAX));
    }

    #[test]
    fn adding_doubles_every_counter() {
        let mut twice = account();
        twice.add(&account()).unwrap();
        assert_eq!((twice.scheduled, twice.issued, twice.ok, twice.errors), (24, 18, 6, 2));
        assert_eq!((twice.timeout, twice.aborted, twice.messages_sent, twice.messages_received), (2, 2, 10, 12));
        assert_eq!((twice.bytes_sent, twice.bytes_received, twice.follow_ups), (200, 400, 8));
        assert_eq!(twice.errors_by_class[&ErrorClass::new("status_503")], 2);
        assert_eq!((twice.shed_in_all(), twice.not_generated_in_all(), twice.unsent_in_all()), (4, 2, 4));
    }

    #[test]
    fn a_sum_that_does_not_fit_is_refused_and_changes_nothing() {
        let mut counters = account();
        let wrong = Counters { bytes_received: u64::MAX, ..account() };
        assert_eq!(counters.add(&wrong), Err(Overflow { figure: "bytes received" }));
        assert_eq!(counters, account());
    }
}
