//! What agents were asked and have not answered. Whatever else an agent says of this kind would change nothing, so it does
//! not go into the log, where a hostile one could fill the disk with it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::fleet::AgentId;
use crate::run::{Action, Event};

/// What agents of a run were asked and have not answered.
#[derive(Debug, Default)]
pub(super) struct Unanswered(BTreeSet<Asked>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    ToArm(AgentId),
    ForTheTarget(AgentId),
    ToStart(AgentId),
    /// To end this assignment at this moment of the run.
    ToEnd(AgentId, u32, Duration),
}

impl Unanswered {
    /// An agent is asked, maybe again.
    pub(super) fn ask(&mut self, action: &Action) {
        let asked = match action {
            Action::Arm(agent, _) => Asked::ToArm(*agent),
            Action::CheckTarget(agent) => Asked::ForTheTarget(*agent),
            Action::Start(agent, _) => Asked::ToStart(*agent),
            Action::End { agent, generation, at, .. } => Asked::ToEnd(*agent, *generation, *at),
            _ => return,
        };
        self.0.insert(asked);
    }

    /// Is this an answer that is wanted, or no answer at all? Each question has one.
    pub(super) fn take(&mut self, event: &Event) -> bool {
        let asked = match event {
            Event::Ready(agent, _) => Asked::ToArm(*agent),
            Event::TargetChecked(Some(agent), _) => Asked::ForTheTarget(*agent),
            Event::Started(agent, _) => Asked::ToStart(*agent),
            Event::Released(agent, generation, at, _) => Asked::ToEnd(*agent, *generation, *at),
            _ => return true,
        };
        self.0.remove(&asked)
    }
}
