//! What a plan asks for before anything has run: how long at the most, how many iterations, by whom.
//!
//! Agents and coordinator use the same functions, so the account of a lost agent is exact.

use std::time::Duration;

use crate::load::Load;
use crate::plan::{Phase, ScenarioStart};
use crate::schedule::Schedule;
use crate::{Plan, Share};

impl Plan {
    /// From the start of the run to the latest moment at which an iteration may start.
    pub fn longest(&self) -> Duration {
        (0..self.scenarios.len()).map(|index| self.latest_end(index)).max().unwrap_or_default()
    }

    /// `after` has no cycles in a validated plan, so this ends.
    fn latest_end(&self, index: usize) -> Duration {
        let scenario = &self.scenarios[index];
        let start = match &scenario.start {
            ScenarioStart::At(offset) => *offset,
            ScenarioStart::AfterEnd(predecessors) => {
                predecessors.iter().map(|predecessor| self.latest_end(*predecessor)).max().unwrap_or_default()
            }
        };
        let length = scenario.phases.iter().map(|phase| phase.offset + phase.load.limit()).max();
        start + length.unwrap_or_default()
    }
}

impl Phase {
    /// Iterations that a share has to start; none for a closed load, whose number depends on the target.
    pub fn planned_iterations(&self, share: &Share, seed: u64) -> Option<u64> {
        match &self.load {
            Load::Users { .. } => None,
            Load::Rate { curve, arrivals, .. } => {
                Some(share.count_below(Schedule::new(curve, *arrivals, seed, self.first_step.0).total()))
            }
            Load::Iterations { total, users, .. } => {
                Some(owned_users(share, *users).map(|user| iterations_of(user, *total, *users)).sum())
            }
        }
    }
}

/// Numbers of the users that a share owns.
pub fn owned_users(share: &Share, users: u32) -> impl Iterator<Item = u32> + '_ {
    (0..share.count_below(u64::from(users))).filter_map(|nth| u32::try_from(share.nth(nth)).ok())
}

/// Iterations of one user of a fixed total: iteration k belongs to user k mod `users`, so the users' parts add up to
/// the total whatever the number of agents.
pub fn iterations_of(user: u32, total: u64, users: u32) -> u64 {
    let users = u64::from(users.max(1));
    total / users + u64::from(u64::from(user) < total % users)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_shares_of_a_fixed_total_add_up(total in 0u64..100_000, users in 1u32..500, agents in 1u32..17) {
            let parts: u64 = (0..agents)
                .flat_map(|agent| {
                    let share = Share::nth_of(agent, agents);
                    let numbers: Vec<u32> = owned_users(&share, users).collect();
                    numbers.into_iter().map(|user| iterations_of(user, total, users))
                })
                .sum();
            prop_assert_eq!(parts, total);
        }
    }
}
