//! Which lives of an agent there were.

use std::collections::BTreeMap;

use super::mutants::{self, Mutant};

/// What an agent is told when it registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registration {
    /// Number of this life of the agent: 1, 2, 3 …
    pub incarnation: u64,
    /// It must be in the log before the agent hears of it.
    pub is_new: bool,
    /// Is it the latest? An earlier one may deliver what it measured, and nothing else.
    pub may_act: bool,
}

/// The log has the incarnations of an agent in another order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the log has incarnation {found} of agent {agent} where {expected} must be")]
pub struct OutOfOrder {
    /// The agent.
    pub agent: String,
    /// The number that must come next.
    pub expected: u64,
    /// The one that is there.
    pub found: u64,
}

/// The incarnations of each agent. A boot is a random number drawn at the agent's start: the same boot that comes again
/// keeps its incarnation, so registering twice is harmless; another one is another life, with its own sequence of deltas.
#[derive(Debug, Clone, Default)]
pub struct Incarnations {
    /// Boots of each agent, the first life first.
    boots: BTreeMap<String, Vec<u64>>,
}

impl Incarnations {
    /// An agent registers.
    pub fn register(&mut self, agent: &str, boot: u64) -> Registration {
        let boots = self.boots.entry(agent.to_owned()).or_default();
        let known = boots.iter().position(|known| *known == boot);
        if known.is_none() {
            if mutants::is(Mutant::IncarnationReused) {
                boots.pop();
            }
            boots.push(boot);
        }
        let incarnation = known.map_or(boots.len(), |index| index + 1);
        Registration { incarnation: incarnation as u64, is_new: known.is_none(), may_act: incarnation == boots.len() }
    }

    /// The log has this.
    pub fn restore(&mut self, agent: &str, boot: u64, incarnation: u64) -> Result<(), OutOfOrder> {
        let boots = self.boots.entry(agent.to_owned()).or_default();
        let expected = boots.len() as u64 + 1;
        if incarnation != expected && !mutants::is(Mutant::IncarnationReused) {
            return Err(OutOfOrder { agent: agent.to_owned(), expected, found: incarnation });
        }
        boots.push(boot);
        Ok(())
    }

    /// Is this the latest life of the agent?
    pub fn may_act(&self, agent: &str, incarnation: u64) -> bool {
        self.boots.get(agent).is_some_and(|boots| boots.len() as u64 == incarnation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(incarnation: u64, is_new: bool, may_act: bool) -> Registration {
        Registration { incarnation, is_new, may_act }
    }

    #[test]
    fn a_boot_keeps_its_incarnation_and_another_boot_is_another_life() {
        let mut incarnations = Incarnations::default();
        assert_eq!(incarnations.register("a", 70), told(1, true, true));
        assert_eq!(incarnations.register("a", 70), told(1, false, true));
        assert_eq!(incarnations.register("b", 70), told(1, true, true));
        assert_eq!(incarnations.register("a", 71), told(2, true, true));
        assert_eq!(incarnations.register("a", 70), told(1, false, false), "it comes late and may not act");
        assert!(incarnations.may_act("a", 2) && !incarnations.may_act("a", 1) && !incarnations.may_act("c", 1));
    }

    #[test]
    fn they_are_rebuilt_from_the_log() {
        let mut incarnations = Incarnations::default();
        assert_eq!(incarnations.restore("a", 70, 1), Ok(()));
        let out_of_order = OutOfOrder { agent: "a".to_owned(), expected: 2, found: 3 };
        assert_eq!(incarnations.restore("a", 72, 3), Err(out_of_order));
        assert_eq!(incarnations.restore("a", 71, 2), Ok(()));
        assert_eq!(incarnations.register("a", 70), told(1, false, false));
        assert_eq!(incarnations.register("a", 73), told(3, true, true));
    }
}
