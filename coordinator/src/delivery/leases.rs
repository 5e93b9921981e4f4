//! Until when an agent may have been issuing load.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::mutants::{self, Mutant};

/// Clocks run too fast or too slow by at most this part of a million.
const DRIFT_PPM: u32 = 500;
/// For what a clock's rate does not say: granularity, and the moment between reading it and sending.
const MARGIN: Duration = Duration::from_millis(250);

/// The last grant of each agent, on the coordinator's monotonic clock.
///
/// An agent may issue for the length of the lease, counted on its own clock from when it sent the heartbeat that the grant
/// answers, which was before the grant. So it has certainly stopped when the lease has passed here since the grant, and
/// somewhat more because both clocks drift. A closed connection says nothing: the agent may go on.
///
/// `A` names one incarnation of an agent. One that was given up stays so: its share may have another owner, so it must
/// not be granted anything again. If it lives, it registers as another incarnation and begins without assignments.
#[derive(Debug, Clone)]
pub struct Leases<A> {
    lease: Duration,
    granted: BTreeMap<A, Duration>,
    given_up: BTreeSet<A>,
}

impl<A: Copy + Ord> Leases<A> {
    /// Of a run whose agents may issue for so long after a heartbeat.
    pub fn new(lease: Duration) -> Self {
        Leases { lease, granted: BTreeMap::new(), given_up: BTreeSet::new() }
    }

    /// A restarted coordinator does not know when it last granted something to these agents, but it was before now.
    pub fn restarted(lease: Duration, agents: impl IntoIterator<Item = A>, now: Duration) -> Self {
        let since = if mutants::is(Mutant::RestartForgetsLeases) { Duration::ZERO } else { now };
        let granted = agents.into_iter().map(|agent| (agent, since)).collect();
        Leases { granted, ..Leases::new(lease) }
    }

    /// A grant is about to be sent: may it be? Ask before sending, never after.
    #[must_use]
    pub fn grant(&mut self, agent: A, now: Duration) -> bool {
        if self.given_up.contains(&agent) && !mutants::is(Mutant::StaleIncarnationActs) {
            return false;
        }
        let last = self.granted.entry(agent).or_insert(now);
        *last = now.max(*last);
        true
    }

    /// Agents whose leases have certainly ended. They are given up with this answer: nothing is granted to them any
    /// more, so what they owned may be given to others as soon as their loss is in the log.
    pub fn expired(&mut self, now: Duration) -> Vec<A> {
        let wait = self.wait();
        let expired: Vec<A> =
            self.granted.iter().filter(|(_, last)| now > **last + wait).map(|(agent, _)| *agent).collect();
        for agent in &expired {
            self.give_up(*agent);
        }
        expired
    }

    /// The log says that this agent was given up; or its lease need not be waited for, because it said itself that it
    /// has stopped.
    pub fn give_up(&mut self, agent: A) {
        self.granted.remove(&agent);
        self.given_up.insert(agent);
    }

    /// Was it given up?
    pub fn is_given_up(&self, agent: A) -> bool {
        self.given_up.contains(&agent)
    }

    /// From a grant to the moment at which the lease has certainly ended.
    pub fn wait(&self) -> Duration {
        if mutants::is(Mutant::NoMargin) {
            return self.lease / 2;
        }
        self.lease + self.lease * 2 * DRIFT_PPM / 1_000_000 + MARGIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// 10 s, 10 ms of drift, and the margin.
    const WAIT: u64 = 10_260;

    #[test]
    fn a_lease_ends_after_its_length_with_drift_and_margin() {
        let mut leases = Leases::new(ms(10_000));
        assert!(leases.grant(1, ms(0)) && leases.grant(2, ms(0)) && leases.grant(1, ms(5_000)));
        assert_eq!(leases.wait(), ms(WAIT));
        assert_eq!(leases.expired(ms(WAIT)), Vec::<i32>::new());
        assert_eq!(leases.expired(ms(WAIT + 1)), [2]);
        assert_eq!(leases.expired(ms(WAIT + 1)), Vec::<i32>::new(), "told once");
        assert_eq!(leases.expired(ms(5_000 + WAIT + 1)), [1]);
    }

    #[test]
    fn one_that_was_given_up_is_granted_nothing_again() {
        let mut leases = Leases::new(ms(10_000));
        assert!(leases.grant(1, ms(0)));
        assert_eq!(leases.expired(ms(20_000)), [1]);
        assert!(!leases.grant(1, ms(20_001)) && leases.is_given_up(1));
        assert_eq!(leases.expired(ms(60_000)), Vec::<i32>::new());
    }

    #[test]
    fn a_restarted_coordinator_waits_from_its_restart() {
        let mut leases = Leases::restarted(ms(10_000), [1, 2], ms(700));
        assert!(leases.grant(2, ms(3_000)));
        assert_eq!(leases.expired(ms(700 + WAIT)), Vec::<i32>::new());
        assert_eq!(leases.expired(ms(701 + WAIT)), [1]);
    }

    #[test]
    fn a_grant_that_is_recorded_late_does_not_shorten_the_wait() {
        let mut leases = Leases::new(ms(10_000));
        assert!(leases.grant(1, ms(5_000)) && leases.grant(1, ms(4_000)));
        assert_eq!(leases.expired(ms(4_001 + WAIT)), Vec::<i32>::new());
    }
}
