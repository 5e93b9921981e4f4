//! The agent's own limit of operations a second: a user waits for its turn before an operation, as in a pause of its flow.
//!
//! Open loads do not wait, or what is measured of them would be this agent's: their rate is known, and more than the limit
//! is not taken on. What they begin is counted, so that closed loads beside them get what is left.

use std::sync::Arc;
use std::time::Duration;

use groundswell_scenario::flow::Step;
use groundswell_scenario::socket::Action;
use tokio::time::Instant;

use super::{Iteration, Next};
use crate::pace::Pace;

/// A user that waits looks so often whether it is to leave by a limit that nobody tells it of.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

impl Iteration<'_> {
    /// Is there a limit at all? Where there is none, nothing else of this is paid for.
    pub(super) fn is_paced(&self) -> bool {
        self.phase.context.pace.is_some()
    }

    /// Waits for the turn of a step that is one operation. Messages on a schedule have a turn each.
    pub(super) async fn may_begin_step(&mut self, step: &Step) -> Next {
        let is_operation = match step {
            Step::Http(_) | Step::Websocket(_) => true,
            Step::OnSocket(timed) => !matches!(timed.spec.action, Action::Messages(_)),
            Step::Listen { .. } | Step::Subscribe(_) | Step::Think(_) | Step::Repeat { .. } | Step::Group { .. } => {
                false
            }
        };
        if is_operation { self.may_begin().await } else { Next::Step }
    }

    /// Waits for the turn of an operation.
    pub(super) async fn may_begin(&mut self) -> Next {
        match &self.phase.context.pace {
            None => Next::Step,
            Some(pace) if self.phase.is_open() => {
                pace.count(1);
                Next::Step
            }
            // Boxed, so that it is no part of every user's state.
            Some(pace) => Box::pin(self.wait_for_turn(Arc::clone(pace))).await,
        }
    }

    async fn wait_for_turn(&mut self, pace: Arc<Pace>) -> Next {
        loop {
            let was_held = tokio::select! {
                biased;
                was_held = pace.turn() => was_held,
                going_on = self.pause_until(Instant::now() + LOOK_AGAIN) => {
                    self.due = self.due.max(Instant::now());
                    if !going_on || self.is_over() {
                        return Next::Leave;
                    }
                    continue;
                }
            };
            if was_held {
                self.recording().held();
                // The wait is this agent's: in no latency of the target's.
                self.due = self.due.max(Instant::now());
            }
            return if self.is_over() { Next::Leave } else { Next::Step };
        }
    }

    /// Counts what an operation sent beyond its first request.
    pub(super) fn count_follow_ups(&self, follow_ups: u64) {
        if let Some(pace) = self.phase.context.pace.as_ref().filter(|_| follow_ups > 0) {
            pace.count(follow_ups);
        }
    }
}
