//! An agent as its run sees it.

use std::collections::BTreeMap;
use std::time::Duration;

use groundswell_scenario::Share;

use super::event::{Candidate, Health, Measured};
use super::trust::Trust;
use crate::fleet::AgentId;

/// An agent that takes part.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: AgentId,
    pub(super) name: String,
    pub(super) share: Share,
    pub(super) state: MemberState,
    pub(super) clock_bound_us: u64,
    /// Number under which it publishes; agents of one process have the same.
    pub(super) source: Option<u32>,
    pub(super) last_seq: u64,
    /// Run time up to which its figures are merged.
    pub(super) merged_to_us: u64,
    pub(super) cursors: BTreeMap<(usize, usize), u64>,
    pub(super) cpu_permille_max: u32,
    pub(super) health: Health,
    /// What it foresaw to be too small on its machine.
    pub(super) warnings: Vec<String>,
    pub(super) trust: Trust,
    /// Most time from the end of a window to its figures' being merged.
    pub(super) telemetry_lag: Duration,
    /// Most operations issued a second in one of its windows.
    pub(super) peak_rate: f64,
    pub(super) lost: Option<Lost>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MemberState {
    Arming,
    Ready,
    Running,
    Done,
    Lost,
}

#[derive(Debug, Clone)]
pub(super) struct Lost {
    /// Run time.
    pub(super) at: Duration,
    pub(super) why: String,
}

impl Member {
    /// An agent that is to be armed with its share.
    pub(super) fn new(candidate: Candidate, share: Share) -> Self {
        Member {
            id: candidate.id,
            name: candidate.name,
            share,
            state: MemberState::Arming,
            clock_bound_us: 0,
            source: None,
            last_seq: 0,
            merged_to_us: 0,
            cursors: BTreeMap::new(),
            cpu_permille_max: 0,
            health: Health::default(),
            warnings: Vec::new(),
            trust: Trust::default(),
            telemetry_lag: Duration::ZERO,
            peak_rate: 0.0,
            lost: None,
        }
    }

    pub(super) fn merged(&mut self, measured: Measured) {
        let window_s = measured.delta.to_us.saturating_sub(measured.delta.from_us) as f64 / 1e6;
        let issued: u64 = measured.delta.steps.values().map(|step| step.counters.issued).sum();
        if window_s > 0.0 {
            self.peak_rate = self.peak_rate.max(issued as f64 / window_s);
        }
        self.last_seq = measured.seq;
        self.source = Some(measured.source);
        self.merged_to_us = self.merged_to_us.max(measured.delta.to_us);
        self.cursors.extend(measured.cursors);
        self.health = measured.health;
        self.cpu_permille_max = self.cpu_permille_max.max(measured.health.cpu_permille);
    }
}
