//! The fleet: the agents of this coordinator and their states.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Number of one life of an agent, its incarnation: no two lives of whatever agents have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AgentId(pub u64);

/// Labels: of an agent, or those that a run asks of its agents.
pub type Labels = BTreeMap<String, String>;

/// Labels as a user writes them.
pub fn label_text(labels: &Labels) -> String {
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.join(", ")
}

/// What an agent runs on, for people who wonder about a figure later.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Machine {
    /// Version of the binary.
    pub version: String,
    /// Operating system with its release and processor.
    pub system: String,
    /// Processors that it may use.
    pub cores: u32,
    /// Worker threads.
    pub workers: u32,
}

/// An agent that is here or was a moment ago.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    /// Name as its user gave it.
    pub name: String,
    /// Random number of its start.
    pub boot: u64,
    /// Its part of a load in relation to the other agents', 1 to [`MOST_WEIGHT`].
    pub weight: u32,
    /// Most operations a second of open loads that it takes on.
    pub max_rate_per_s: Option<f64>,
    /// Most users that it takes on.
    pub max_users: Option<u32>,
    /// Its labels, by which runs choose their agents.
    pub labels: Labels,
    /// What it runs on.
    pub machine: Machine,
    /// The run it works for.
    pub run: Option<String>,
    /// When it was last heard, on the coordinator's clock.
    pub last_heard: Duration,
    /// The session that it has; none while it is away.
    pub session: Option<u64>,
    /// It was asked to end and takes no further run.
    pub leaving: bool,
}

/// Greatest weight of an agent.
pub const MOST_WEIGHT: u32 = 100;
/// An agent that was heard so recently is alive: another one of its name is a mistake of its user.
pub(crate) const ALIVE: Duration = Duration::from_secs(3);

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

/// Is this a name for an agent?
///
/// # Errors
/// When it is empty, longer than so many bytes, or has control characters.
pub fn check_name(name: &str, max_name: usize) -> Result<(), JoinError> {
    if name.is_empty() || name.len() > max_name || name.chars().any(char::is_control) {
        return Err(JoinError::BadName(max_name));
    }
    Ok(())
}

/// Who comes in.
#[derive(Debug, Clone, PartialEq)]
pub struct Newcomer {
    /// Its incarnation.
    pub id: AgentId,
    /// Name as its user gave it.
    pub name: String,
    /// Random number of its start.
    pub boot: u64,
    /// Its part of a load.
    pub weight: u32,
    /// Most operations a second of open loads that it takes on.
    pub max_rate_per_s: Option<f64>,
    /// Most users that it takes on.
    pub max_users: Option<u32>,
    /// Its labels.
    pub labels: Labels,
    /// What it runs on.
    pub machine: Machine,
}

impl Agent {
    fn of(newcomer: Newcomer, run: Option<String>, session: Option<u64>, now: Duration) -> Self {
        let Newcomer { id: _, name, boot, weight, max_rate_per_s, max_users, labels, machine } = newcomer;
        let (weight, last_heard, leaving) = (weight.clamp(1, MOST_WEIGHT), now, false);
        Agent { name, boot, weight, max_rate_per_s, max_users, labels, machine, run, last_heard, session, leaving }
    }

    /// Has it all labels that a run asks for?
    pub fn has(&self, selector: &Labels) -> bool {
        selector.iter().all(|(key, value)| self.labels.get(key) == Some(value))
    }
}

/// The agents of this coordinator, in the order in which they joined first.
///
/// A session that is over says nothing of its agent: it may go on with its load and come back. So an agent with a run
/// stays until the run lets it go, and one without a run until it was away for a while.
#[derive(Debug, Default)]
pub struct Fleet {
    agents: BTreeMap<AgentId, Agent>,
    sessions: u64,
}

impl Fleet {
    /// An agent comes in, or comes back. Returns the number of its session; an older one of the same agent is over.
    ///
    /// # Errors
    /// When its name is none, or belongs to another agent that is alive.
    pub fn join(&mut self, newcomer: Newcomer, max_name: usize, now: Duration) -> Result<u64, JoinError> {
        let (id, name) = (newcomer.id, newcomer.name.clone());
        check_name(&name, max_name)?;
        let others = self.agents.iter().filter(|(other, agent)| **other != id && agent.name == name);
        let others: Vec<AgentId> = others.map(|(other, _)| *other).collect();
        let is_alive = |agent: &Agent| agent.session.is_some() && now.saturating_sub(agent.last_heard) < ALIVE;
        if others.iter().any(|other| self.agents.get(other).is_some_and(is_alive)) {
            return Err(JoinError::NameTaken(name));
        }
        for other in others {
            self.leave(other);
        }
        self.sessions += 1;
        let run = self.agents.get(&id).and_then(|agent| agent.run.clone());
        self.agents.insert(id, Agent::of(newcomer, run, Some(self.sessions), now));
        Ok(self.sessions)
    }

    /// A run that was restored has this agent, which has not come back yet.
    pub fn expect(&mut self, newcomer: Newcomer, run: &str, now: Duration) {
        self.agents.insert(newcomer.id, Agent::of(newcomer, Some(run.to_owned()), None, now));
    }

    /// A session is over: if it is the agent's latest, the agent is away.
    pub fn away(&mut self, id: AgentId, session: u64) -> bool {
        match self.agents.get_mut(&id) {
            Some(agent) if agent.session == Some(session) => {
                agent.session = None;
                true
            }
            _ => false,
        }
    }

    /// It ends, or another one of its name has come. One with a run stays until that lets it go.
    pub fn leave(&mut self, id: AgentId) {
        if let Some(agent) = self.agents.get_mut(&id) {
            agent.session = None;
            agent.leaving = true;
            if agent.run.is_none() {
                self.agents.remove(&id);
            }
        }
    }

    /// It takes no further run; answers whether that is news.
    pub fn is_leaving(&mut self, id: AgentId) -> bool {
        self.agents.get_mut(&id).is_some_and(|agent| !std::mem::replace(&mut agent.leaving, true))
    }

    /// An agent said something.
    pub fn heard(&mut self, id: AgentId, now: Duration) {
        if let Some(agent) = self.agents.get_mut(&id) {
            agent.last_heard = agent.last_heard.max(now);
        }
    }

    /// Forgets agents without a run that were away for longer than `limit`.
    pub fn forget_away(&mut self, limit: Duration, now: Duration) {
        let is_over = |agent: &Agent| agent.run.is_none() && now.saturating_sub(agent.last_heard) > limit;
        self.agents.retain(|_, agent| !is_over(agent));
    }

    /// Agents with a session and without a run, longest there first.
    pub fn free(&self) -> Vec<AgentId> {
        let is_free = |agent: &Agent| agent.run.is_none() && agent.session.is_some() && !agent.leaving;
        self.agents.iter().filter(|(_, agent)| is_free(agent)).map(|(id, _)| *id).collect()
    }

    /// Every agent, in the order in which they joined first.
    pub fn agents(&self) -> impl Iterator<Item = (AgentId, &Agent)> {
        self.agents.iter().map(|(id, agent)| (*id, agent))
    }

    /// Gives an agent to a run, or takes it back. One that has left is forgotten then.
    pub fn assign(&mut self, id: AgentId, run: Option<&str>) {
        let Some(agent) = self.agents.get_mut(&id) else { return };
        agent.run = run.map(str::to_owned);
        if agent.run.is_none() && agent.leaving && agent.session.is_none() {
            self.agents.remove(&id);
        }
    }

    /// An agent by its number.
    pub fn get(&self, id: AgentId) -> Option<&Agent> {
        self.agents.get(&id)
    }

    /// How many there are, those that are away among them.
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

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn newcomer(id: u64, name: &str, boot: u64) -> Newcomer {
        Newcomer {
            id: AgentId(id),
            name: name.into(),
            boot,
            weight: 1,
            max_rate_per_s: None,
            max_users: None,
            labels: Labels::new(),
            machine: Machine::default(),
        }
    }

    #[test]
    fn a_name_belongs_to_one_living_agent() {
        let mut fleet = Fleet::default();
        let first = fleet.join(newcomer(1, "a", 1), 16, s(0)).unwrap();
        assert_eq!(fleet.join(newcomer(2, "a", 2), 16, s(1)), Err(JoinError::NameTaken("a".into())));
        let again = fleet.join(newcomer(1, "a", 1), 16, s(1)).unwrap();
        assert_ne!(first, again);
        assert_eq!(fleet.len(), 1);
        assert!(!fleet.away(AgentId(1), first), "an older session is over already");
        // It was not heard for long, or has no session: another one takes its name.
        fleet.join(newcomer(2, "a", 2), 16, s(9)).unwrap();
        assert!(fleet.get(AgentId(1)).is_none() && fleet.len() == 1);
        assert_eq!(fleet.join(newcomer(3, "", 3), 16, s(0)), Err(JoinError::BadName(16)));
        assert_eq!(fleet.join(newcomer(3, "a\u{1b}[2J", 3), 16, s(0)), Err(JoinError::BadName(16)));
    }

    #[test]
    fn an_agent_with_a_run_stays_while_it_is_away() {
        let mut fleet = Fleet::default();
        let session = fleet.join(newcomer(1, "a", 1), 16, s(0)).unwrap();
        fleet.join(newcomer(2, "b", 2), 16, s(0)).unwrap();
        assert_eq!(fleet.free(), [AgentId(1), AgentId(2)]);
        fleet.assign(AgentId(1), Some("run"));
        assert!(fleet.away(AgentId(1), session));
        fleet.heard(AgentId(2), s(90));
        fleet.forget_away(s(10), s(100));
        assert_eq!(fleet.len(), 2);
        assert_eq!(fleet.free(), [AgentId(2)]);
        // A new life of it comes in; the old one stays with its run.
        fleet.join(newcomer(3, "a", 3), 16, s(100)).unwrap();
        assert_eq!(fleet.free(), [AgentId(2), AgentId(3)]);
        fleet.assign(AgentId(1), None);
        assert!(fleet.get(AgentId(1)).is_none());
    }
}
