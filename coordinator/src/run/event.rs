//! What happens to a run, and what is to be done about it.
//!
//! A run is a function of its events: each is in the log of the store before the run hears of it, and the same events in
//! the same order make the same run. So everything that a run decides by must come with them.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use groundswell_scenario::Assignment;
use groundswell_stats::Delta;
use serde::{Deserialize, Deserializer, Serialize};

use crate::fleet::{AgentId, Machine};
use crate::report::{Distributions, Report};

/// The two clocks at one moment: the coordinator's monotonic one, and the calendar.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Since some moment before the run was submitted; goes on when the coordinator is started again.
    pub monotonic: Duration,
    /// For people only; never subtracted.
    pub calendar: SystemTime,
}

/// An agent that is to take part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its number.
    pub id: AgentId,
    /// Its name.
    pub name: String,
    /// Its part of the load in relation to the others'.
    pub weight: u32,
    /// Most operations a second of open loads that it takes on.
    pub max_rate_per_s: Option<f64>,
    /// Most users that it takes on.
    pub max_users: Option<u32>,
    /// What it runs on.
    #[serde(default)]
    pub machine: Machine,
}

/// What happens to a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// So many agents as the run waits for are free: these.
    Assigned(Vec<Candidate>),
    /// An agent has compiled the plan and says what will be too small on its machine, or why it can't take part.
    Ready(AgentId, Result<Vec<String>, String>),
    /// The target's readiness check has ended at this agent; logs of earlier releases do not say at which.
    #[serde(deserialize_with = "target_checked")]
    TargetChecked(Option<AgentId>, Result<(), String>),
    /// An agent knows the start on its own clock, with this bound in µs, or says why it can't keep it.
    Started(AgentId, Result<u64, String>),
    /// Figures of an agent. They stand in the log as the bytes that came.
    #[serde(skip)]
    Measured(AgentId, Box<Measured>),
    /// An agent's part has ended with this seq; the text says why when it was before its time.
    Done(AgentId, u64, Option<String>),
    /// An agent issues nothing any more: its lease has run out, or it says so.
    Lost(AgentId, String),
    /// An agent that was free wants to take part in a run that has begun.
    Joined(Candidate),
    /// An agent was asked to end and hands its load over.
    Leaving(AgentId),
    /// An agent's answer to the end of an assignment: generation, moment, and whether it ends then.
    Released(AgentId, u32, Duration, bool),
    /// An agent has no session.
    Away(AgentId, String),
    /// It has one again.
    Back(AgentId),
    /// An agent sent two contents under one seq, or figures that can't be: what it says can't be believed.
    Tainted(AgentId, String),
    /// Stop the load: the word is the reason in the account.
    Stop(StopReason),
    /// The coordinator was started again, in the middle of the run.
    Restarted,
}

/// Who says how the target is, and how.
type Checked = (Option<AgentId>, Result<(), String>);

fn target_checked<'de, D: Deserializer<'de>>(from: D) -> Result<Checked, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Logged {
        By(Option<AgentId>, Result<(), String>),
        BySomebody(Result<(), String>),
    }
    Ok(match Logged::deserialize(from)? {
        Logged::By(agent, result) => (agent, result),
        Logged::BySomebody(result) => (None, result),
    })
}

impl Event {
    /// Agents that take part from now on.
    pub fn candidates(&self) -> &[Candidate] {
        match self {
            Event::Assigned(candidates) => candidates,
            Event::Joined(candidate) => std::slice::from_ref(candidate),
            _ => &[],
        }
    }
}

/// Why a run is stopped before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopReason {
    /// By its user.
    Interrupted,
    /// Whoever submitted it is gone, so nobody would see its report.
    ClientGone,
    /// By a threshold with `stop`.
    Threshold,
    /// An agent was lost, and the plan says to stop then.
    AgentLost,
}

/// What one agent measured in one window.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Place in the agent's sequence.
    pub seq: u64,
    /// The figures.
    pub delta: Delta,
    /// Iterations decided so far, by (generation, scenario, phase).
    pub cursors: BTreeMap<(u32, usize, usize), u64>,
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
    /// Bound of the difference between the run's time there and here, in µs.
    pub clock_bound_us: u64,
    /// That difference as measured, in µs; positive where the agent is late.
    pub clock_skew_us: i64,
    /// Operations that waited because the agent begins no more of them a second.
    pub held_operations: u64,
}

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    /// Send the plan with this assignment.
    Arm(AgentId, Assignment),
    /// Let this agent check the target.
    CheckTarget(AgentId),
    /// Tell the start, on the coordinator's clock.
    Start(AgentId, Duration),
    /// Give more load.
    Give(AgentId, Assignment),
    /// End an assignment at a moment of the run, with what the agent holds from then on in its place.
    End {
        /// Whose.
        agent: AgentId,
        /// Which.
        generation: u32,
        /// When.
        at: Duration,
        /// What instead.
        instead: Option<Assignment>,
    },
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
    Report {
        /// The figures.
        report: Box<Report>,
        /// The histograms behind them.
        distributions: Box<Distributions>,
    },
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
            StopReason::AgentLost => "aborted",
        }
    }
}
