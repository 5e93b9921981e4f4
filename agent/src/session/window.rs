//! What is sealed at once, and how it travels.

use std::collections::BTreeMap;

use bytes::Bytes;
use groundswell_proto::v1;
use groundswell_stats::{Delta, Overflow};

use crate::clock::Agreement;
use crate::delivery::Merge;
use crate::engine::{Sealed, source};

/// Figures of a window with what the agent says of itself.
#[derive(Debug, Clone)]
pub(super) struct Window {
    pub(super) delta: Delta,
    cursors: BTreeMap<(u32, usize, usize), u64>,
    health: v1::Health,
}

impl Window {
    pub(super) fn new(sealed: Sealed, agreement: Agreement) -> Self {
        let health = v1::Health {
            cpu_permille: sealed.cpu_permille,
            users: sealed.users,
            cpu_wait_permille: sealed.cpu_wait_permille,
            steal_permille: sealed.machine.steal_permille,
            throttled_permille: sealed.machine.throttled_permille,
            machine_permille: sealed.machine.busy_permille,
            clock_bound_us: agreement.bound_us,
            clock_skew_us: agreement.skew_us,
            held_operations: sealed.held,
        };
        Window { delta: sealed.delta, cursors: sealed.cursors, health }
    }

    /// The packed figures.
    pub(super) fn pack(&self) -> Bytes {
        let cursors = self.cursors.iter().map(|((generation, scenario, phase), decided)| v1::Cursor {
            scenario: u32::try_from(*scenario).unwrap_or(u32::MAX),
            phase: u32::try_from(*phase).unwrap_or(u32::MAX),
            decided: *decided,
            generation: *generation,
        });
        let figures = v1::Figures {
            health: Some(self.health),
            cursors: cursors.collect(),
            source: source(),
            ..v1::Figures::from(&self.delta)
        };
        figures.pack().into()
    }
}

impl Merge for Window {
    type Error = Overflow;

    /// Of what the agent says of itself, the worse of two stands for both, and what is counted adds up.
    fn merge(&mut self, later: &Self) -> Result<(), Overflow> {
        self.delta.add(&later.delta)?;
        self.cursors.extend(later.cursors.iter().map(|(key, decided)| (*key, *decided)));
        let (before, after) = (self.health, later.health);
        self.health = v1::Health {
            cpu_permille: before.cpu_permille.max(after.cpu_permille),
            users: after.users,
            cpu_wait_permille: before.cpu_wait_permille.max(after.cpu_wait_permille),
            steal_permille: before.steal_permille.max(after.steal_permille),
            throttled_permille: before.throttled_permille.max(after.throttled_permille),
            machine_permille: before.machine_permille.max(after.machine_permille),
            clock_bound_us: before.clock_bound_us.max(after.clock_bound_us),
            clock_skew_us: if before.clock_skew_us.abs() > after.clock_skew_us.abs() {
                before.clock_skew_us
            } else {
                after.clock_skew_us
            },
            held_operations: before.held_operations.saturating_add(after.held_operations),
        };
        Ok(())
    }
}
