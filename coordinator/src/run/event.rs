//! What happens to a run, and what is to be done about it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use groundswell_scenario::Share;
use groundswell_stats::Delta;

use crate::fleet::AgentId;
use crate::report::Report;

/// The two clocks at one moment: the coordinator's monotonic one, and the calendar.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Since the coordinator's start.
    pub monotonic: Duration,
    /// For people only; never subtracted.
    pub calendar: SystemTime,
}

/// An agent that is to take part.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its number.
    pub id: AgentId,
    /// Its name.
    pub name: String,
    /// Its part of the load in relation to the others'.
    pub weight: u32,
}

/// What happens to a run.
#[derive(Debug)]
pub enum Event {
    /// So many agents as the run waits for are free: these.
    Assigned(Vec<Candidate>),
    /// An agent has compiled the plan and says what will be too small on its machine, or why it can't take part.
    Ready(AgentId, Result<Vec<String>, String>),
    /// The target's readiness check has ended.
    TargetChecked(Result<(), String>),
    /// An agent knows the start on its own clock, with this bound in µs, or says why it can't keep it.
    Started(AgentId, Result<u64, String>),
    /// Figures of an agent.
    Measured(AgentId, Box<Measured>),
    /// An agent's part has ended with this seq; the text says why when it was before its time.
    Done(AgentId, u64, Option<String>),
    /// An agent is gone.
    Lost(AgentId, String),
    /// Stop the load: the word is the reason in the account.
    Stop(StopReason),
    /// Time has passed.
    Tick,
}

/// Why a run is stopped before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// By its user.
    Interrupted,
    /// Whoever submitted it is gone, so nobody would see its report.
    ClientGone,
    /// By a threshold with `stop`.
    Threshold,
}

/// What one agent measured in one window.
#[derive(Debug)]
pub struct Measured {
    /// Place in the agent's sequence.
    pub seq: u64,
    /// The figures.
    pub delta: Delta,
    /// Iterations decided so far, by (scenario, phase).
    pub cursors: BTreeMap<(usize, usize), u64>,
    /// Number under which it publishes.
    pub source: u32,
    /// How it did in the window.
    pub health: Health,
}

/// How an agent did in one window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Health {
    /// CPU time of its busiest worker, in thousandths of the window.
    pub cpu_permille: u32,
    /// Time for which a worker was ready to run but had no CPU: of the one that waited most, in thousandths of the window.
    pub cpu_wait_permille: u32,
    /// CPU time that the hypervisor gave to others, in thousandths of the machine's.
    pub steal_permille: u32,
    /// Time for which a CPU quota held the agent back, in thousandths of the window.
    pub throttled_permille: u32,
    /// CPU time of its machine that was not idle, in thousandths of the machine's.
    pub machine_permille: u32,
    /// Users at work.
    pub users: u32,
}

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    /// Send the plan with this share.
    Arm(AgentId, Share),
    /// Let this agent check the target.
    CheckTarget(AgentId),
    /// Tell the start, on the coordinator's clock.
    Start(AgentId, Duration),
    /// Everything up to this seq was merged.
    Acknowledge(AgentId, u64),
    /// Stop issuing.
    Stop(AgentId, &'static str, Duration),
    /// Forget the run; the agent is free.
    Release(AgentId),
    /// An agent sent what can't be: end its session.
    Expel(AgentId, String),
    /// The run is over.
    Finish(Outcome),
}

/// How a run ends.
#[derive(Debug)]
pub enum Outcome {
    /// With a report.
    Report(Box<Report>),
    /// Without one: no load was sent, or its figures can't be shown.
    NoReport {
        /// Why.
        problem: String,
        /// What the command exits with.
        exit_code: u8,
    },
}

impl StopReason {
    /// Word of the account.
    pub(super) fn word(self) -> &'static str {
        match self {
            StopReason::Interrupted => "interrupted",
            StopReason::ClientGone => "client_gone",
            StopReason::Threshold => "threshold",
        }
    }
}
