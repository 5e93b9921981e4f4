//! What is to happen when agents and coordinator lose each other, and how exactly agents start together.

use std::time::Duration;

/// How far two clocks may drift apart, as a part: 500 ppm, several times what quartz does.
const DRIFT: f64 = 500e-6;
/// What a coordinator waits beyond an agent's limit, for the time between its clock readings and its messages.
const MARGIN: Duration = Duration::from_millis(250);

/// `on_agent_loss`, `lease`, `coordinator_timeout` and `max_start_skew` of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Continuity {
    /// What becomes of a lost agent's share.
    pub on_agent_loss: OnAgentLoss,
    /// With [`OnAgentLoss::Redistribute`]: how long an agent goes on after it sent the last heartbeat that was answered.
    pub lease: Duration,
    /// The same with the other policies, where nobody takes its share.
    pub coordinator_timeout: Duration,
    /// An agent whose clock is known less exactly than this can't start with the others.
    pub max_start_skew: Duration,
}

/// What becomes of a lost agent's share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnAgentLoss {
    /// The other agents take it over from a later moment on.
    #[default]
    Redistribute,
    /// Nobody takes it, an agent that joins neither: the lost one may still be issuing.
    Continue,
    /// The run stops.
    Abort,
}

impl Default for Continuity {
    fn default() -> Self {
        Continuity {
            on_agent_loss: OnAgentLoss::default(),
            lease: Duration::from_secs(10),
            coordinator_timeout: Duration::from_secs(60),
            max_start_skew: Duration::from_millis(5),
        }
    }
}

impl Continuity {
    /// How long an agent may issue after it sent the last heartbeat that was answered.
    pub fn issue_limit(&self) -> Duration {
        match self.on_agent_loss {
            OnAgentLoss::Redistribute => self.lease,
            OnAgentLoss::Continue | OnAgentLoss::Abort => self.coordinator_timeout,
        }
    }

    /// After so long without an answered heartbeat the coordinator knows that the agent issues nothing any more, however
    /// far their clocks drift apart.
    pub fn lost_after(&self) -> Duration {
        self.issue_limit().mul_f64(1.0 + 2.0 * DRIFT) + MARGIN
    }
}
