//! What happened to the run's company, on its time axis.

use std::time::Duration;

use crate::fleet::AgentId;

/// Something that changed who offers the load, or who could hear of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    /// Run time.
    pub(super) at: Duration,
    pub(super) kind: MarkKind,
    /// Whom it concerns; nobody in particular for the coordinator's own.
    pub(super) agent: Option<AgentId>,
    /// One sentence.
    pub(super) text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MarkKind {
    AgentAway,
    AgentBack,
    AgentLost,
    AgentLeft,
    AgentJoined,
    LoadMoved,
    CoordinatorRestarted,
}

impl MarkKind {
    pub(super) fn word(self) -> &'static str {
        match self {
            MarkKind::AgentAway => "agent_away",
            MarkKind::AgentBack => "agent_back",
            MarkKind::AgentLost => "agent_lost",
            MarkKind::AgentLeft => "agent_left",
            MarkKind::AgentJoined => "agent_joined",
            MarkKind::LoadMoved => "load_moved",
            MarkKind::CoordinatorRestarted => "coordinator_restarted",
        }
    }
}
