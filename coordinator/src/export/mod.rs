//! Figures for monitoring systems, while runs go on.
//!
//! A [`Snapshot`] of the coordinator becomes a list of [`Family`]s, and each of those a form that some system reads:
//! Prometheus' text and protobuf, OpenTelemetry's OTLP. `docs/monitoring.md` lists the names.
//!
//! # Layout
//! - `families`: which figures there are, and their names
//! - `histogram`: our bins as classic and exponential buckets
//! - [`prometheus`]: the text format, and protobuf for native histograms
//! - [`otlp`]: OpenTelemetry's messages

mod families;
mod histogram;
pub mod otlp;
pub mod prometheus;

use std::collections::BTreeMap;

use groundswell_stats::Series;

pub use families::families;
pub use histogram::{Exponential, Histogram};

/// What a coordinator could tell at a moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// How often a coordinator has started on its store.
    pub term: u64,
    /// Agents by state.
    pub agents: BTreeMap<String, u64>,
    /// Runs that have no answer yet, by state.
    pub runs: BTreeMap<String, u64>,
    /// Entries that were made durable since it started.
    pub entries: u64,
    /// Entries that wait for the store because it is slower than the agents.
    pub backlog: u64,
    /// Runs that go on, and those that ended a moment ago.
    pub figures: Vec<RunFigures>,
}

/// Figures of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunFigures {
    /// Its id.
    pub run: String,
    /// Name of the plan.
    pub plan: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Start of load, in nanoseconds since 1970 (UTC); 0 where none was sent.
    pub started_unix_ns: u64,
    /// Iterations a second that the open loads want.
    pub wanted_per_s: f64,
    /// Users at work.
    pub users: u32,
    /// Operations in flight.
    pub in_flight: u64,
    /// WebSockets open.
    pub open_sockets: u64,
    /// Each agent.
    pub agents: Vec<AgentHealth>,
    /// Each timed step.
    pub steps: Vec<StepTotals>,
}

/// How an agent does.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentHealth {
    /// Its name.
    pub name: String,
    /// CPU of its busiest worker in the last second, 0 to 1.
    pub cpu: f64,
    /// Its send lag so far.
    pub send_lag: Series,
    /// Bound of the difference between its time of the run and the coordinator's, in seconds.
    pub clock_bound_s: f64,
    /// Was it lost?
    pub lost: bool,
}

/// Totals of a timed step since the start of the run.
#[derive(Debug, Clone, PartialEq)]
pub struct StepTotals {
    /// Scenario.
    pub scenario: String,
    /// Level of a sweep; empty where there is none.
    pub level: String,
    /// Name of the step.
    pub step: String,
    /// Does it belong to the warm-up?
    pub warm_up: bool,
    /// Operations issued.
    pub issued: u64,
    /// Operations that ended well.
    pub ok: u64,
    /// Failures by class.
    pub failures: BTreeMap<String, u64>,
    /// Operations that were not issued although their time came: shed, or not generated, by reason.
    pub not_issued: BTreeMap<String, u64>,
    /// Response times.
    pub response: Series,
    /// Service times.
    pub service: Series,
}

/// One figure with all its values.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// Name as Prometheus writes it, with its unit.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Unit as UCUM writes it.
    pub unit: &'static str,
    /// Its values.
    pub samples: Vec<Sample>,
}

/// What a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution, whose counts only rise.
    Histogram,
}

/// A value with its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Names and values.
    pub labels: Vec<(&'static str, String)>,
    /// When counting began, in nanoseconds since 1970 (UTC); 0 where that is not known.
    pub since_unix_ns: u64,
    /// The value.
    pub value: Value,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of a counter or a gauge.
    Number(f64),
    /// Of a histogram.
    Histogram(Histogram),
}
