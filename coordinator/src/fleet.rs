//! The fleet: the agents of this coordinator and their states.

use std::collections::BTreeMap;
use std::time::Duration;

/// Number of an agent at this coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId(pub u64);

/// An agent with a session.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Name as its user gave it.
    pub name: String,
    /// Random number of its start.
    pub boot: u64,
    /// Incarnation given to this boot.
    pub incarnation: u64,
    /// Its part of a load in relation to the other agents', 1 to [`MOST_WEIGHT`].
    pub weight: u32,
    /// The run it works for.
    pub run: Option<String>,
    /// When it was last heard, on the coordinator's clock.
    pub last_heard: Duration,
}

/// Greatest weight of an agent.
pub const MOST_WEIGHT: u32 = 100;

/// Why an agent can't join.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// Another agent has the name.
    #[error("an agent named {0:?} is already there; give each agent its own --name")]
    NameTaken(String),
    /// The name is empty or too long.
    #[error("the name must have 1 to {0} bytes and no control characters")]
    BadName(usize),
}

/// The agents that have a session, in the order in which they joined.
#[derive(Debug, Default)]
pub struct Fleet {
    agents: BTreeMap<AgentId, Agent>,
    joined: u64,
}

impl Fleet {
    /// An agent comes in.
    ///
    /// # Errors
    /// When its name is taken by another boot, or is none. The same boot that comes again replaces its old session.
    pub fn join(
        &mut self,
        name: &str,
        boot: u64,
        weight: u32,
        max_name: usize,
        now: Duration,
    ) -> Result<AgentId, JoinError> {
        if name.is_empty() || name.len() > max_name || name.chars().any(char::is_control) {
            return Err(JoinError::BadName(max_name));
        }
        let same_name = self.agents.iter().find(|(_, agent)| agent.name == name).map(|(id, agent)| (*id, agent.boot));
        match same_name {
            Some((id, known)) if known == boot => drop(self.agents.remove(&id)),
            Some(_) => return Err(JoinError::NameTaken(name.to_owned())),
            None => {}
        }
        self.joined += 1;
        let id = AgentId(self.joined);
        let agent = Agent {
            name: name.to_owned(),
            boot,
            incarnation: self.joined,
            weight: weight.clamp(1, MOST_WEIGHT),
            run: None,
            last_heard: now,
        };
        self.agents.insert(id, agent);
        Ok(id)
    }

    /// An agent's session is over.
    pub fn leave(&mut self, id: AgentId) -> Option<Agent> {
        self.agents.remove(&id)
    }

    /// An agent said something.
    pub fn heard(&mut self, id: AgentId, now: Duration) {
        if let Some(agent) = self.agents.get_mut(&id) {
            agent.last_heard = now;
        }
    }

    /// Agents that were silent for longer than `limit`.
    pub fn silent(&self, limit: Duration, now: Duration) -> Vec<AgentId> {
        let silent = |agent: &Agent| now.saturating_sub(agent.last_heard) > limit;
        self.agents.iter().filter(|(_, agent)| silent(agent)).map(|(id, _)| *id).collect()
    }

    /// Agents without a run, longest there first.
    pub fn free(&self) -> Vec<AgentId> {
        self.agents.iter().filter(|(_, agent)| agent.run.is_none()).map(|(id, _)| *id).collect()
    }

    /// Gives an agent to a run, or takes it back.
    pub fn assign(&mut self, id: AgentId, run: Option<&str>) {
        if let Some(agent) = self.agents.get_mut(&id) {
            agent.run = run.map(str::to_owned);
        }
    }

    /// The agent with this name, and its run.
    pub fn find(&self, name: &str) -> Option<(AgentId, Option<String>)> {
        self.agents.iter().find(|(_, agent)| agent.name == name).map(|(id, agent)| (*id, agent.run.clone()))
    }

    /// An agent by its number.
    pub fn get(&self, id: AgentId) -> Option<&Agent> {
        self.agents.get(&id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.agents.len()
    }

    /// Is nobody there?
    pub fn is_empty(&self) -> bool {
        self.agents.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_name_belongs_to_one_boot() {
        let mut fleet = Fleet::default();
        let first = fleet.join("a", 1, 1, 16, Duration::ZERO).unwrap();
        assert_eq!(fleet.join("a", 2, 1, 16, Duration::ZERO), Err(JoinError::NameTaken("a".into())));
        let again = fleet.join("a", 1, 1, 16, Duration::ZERO).unwrap();
        assert_ne!(first, again);
        assert_eq!(fleet.len(), 1);
        assert_eq!(fleet.join("", 3, 1, 16, Duration::ZERO), Err(JoinError::BadName(16)));
        assert_eq!(fleet.join("a\u{1b}[2J", 3, 1, 16, Duration::ZERO), Err(JoinError::BadName(16)));
    }

    #[test]
    fn silence_and_assignment() {
        let mut fleet = Fleet::default();
        let a = fleet.join("a", 1, 1, 16, Duration::ZERO).unwrap();
        let b = fleet.join("b", 2, 1, 16, Duration::ZERO).unwrap();
        fleet.heard(b, Duration::from_secs(9));
        assert_eq!(fleet.silent(Duration::from_secs(10), Duration::from_secs(11)), [a]);
        fleet.assign(a, Some("run"));
        assert_eq!(fleet.free(), [b]);
        fleet.assign(a, None);
        assert_eq!(fleet.free(), [a, b]);
    }
}
