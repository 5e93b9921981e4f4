//! An agent as its run sees it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::event::{Candidate, Health, Measured};
use super::trust::Trust;
use crate::fleet::{AgentId, Machine};

/// An agent that takes part.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: AgentId,
    pub(super) name: String,
    pub(super) weight: u32,
    pub(super) machine: Machine,
    /// The fraction of the whole load that it may own at the most.
    pub(super) limit: Option<f64>,
    pub(super) state: MemberState,
    pub(super) clock_bound_us: u64,
    /// The greatest difference measured between its start and the coordinator's.
    pub(super) clock_skew_us: i64,
    /// Number under which it publishes; agents of one process have the same.
    pub(super) source: Option<u32>,
    pub(super) last_seq: u64,
    /// Run time up to which its figures are merged.
    pub(super) merged_to_us: u64,
    pub(super) cursors: BTreeMap<(u32, usize, usize), u64>,
    pub(super) cpu_permille_max: u32,
    pub(super) health: Health,
    /// Operations that its limit of them made wait, warm-up included.
    pub(super) held_operations: u64,
    /// What it foresaw to be too small on its machine.
    pub(super) warnings: Vec<String>,
    pub(super) trust: Trust,
    /// Most time from the end of a window to its figures' being merged.
    pub(super) telemetry_lag: Duration,
    /// Most operations issued a second in one of its windows.
    pub(super) peak_rate: f64,
    /// When it took part in a run that had begun before.
    pub(super) joined: Option<Duration>,
    /// It was asked to end.
    pub(super) leaving: Option<Duration>,
    pub(super) lost: Option<Lost>,
    /// Why it is away, and since when.
    pub(super) away: Option<(Duration, String)>,
    /// Why what it says can't be believed.
    pub(super) tainted: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MemberState {
    Arming,
    Ready,
    Running,
    /// It has ended, and everything that it measured is here.
    Done,
    /// It issues nothing any more, and what it measured last may still come.
    Lost,
}

#[derive(Debug, Clone)]
pub(super) struct Lost {
    /// Run time.
    pub(super) at: Duration,
    /// It may have issued until then.
    pub(super) until: Duration,
    /// From this moment of the run on others own what it owned, if anybody does.
    pub(super) taken_over: Duration,
    pub(super) why: String,
    /// Everything that it measured has come since.
    pub(super) delivered: bool,
}

impl Member {
    /// An agent that is to be armed.
    pub(super) fn new(candidate: Candidate, limit: Option<f64>) -> Self {
        Member {
            id: candidate.id,
            name: candidate.name,
            weight: candidate.weight,
            machine: candidate.machine,
            limit,
            state: MemberState::Arming,
            clock_bound_us: 0,
            clock_skew_us: 0,
            source: None,
            last_seq: 0,
            merged_to_us: 0,
            cursors: BTreeMap::new(),
            cpu_permille_max: 0,
            health: Health::default(),
            held_operations: 0,
            warnings: Vec::new(),
            trust: Trust::default(),
            telemetry_lag: Duration::ZERO,
            peak_rate: 0.0,
            joined: None,
            leaving: None,
            lost: None,
            away: None,
            tainted: None,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, MemberState::Done | MemberState::Lost)
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
        self.held_operations = self.held_operations.saturating_add(measured.health.held_operations);
        self.cpu_permille_max = self.cpu_permille_max.max(measured.health.cpu_permille);
        self.clock_bound_us = self.clock_bound_us.max(measured.health.clock_bound_us);
        if measured.health.clock_skew_us.abs() > self.clock_skew_us.abs() {
            self.clock_skew_us = measured.health.clock_skew_us;
        }
    }
}
