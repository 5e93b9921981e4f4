//! The report: the merged answer. Every format is a rendering of this one value.
//!
//! The JSON form is an interface: scripts rely on its keys, `docs/report.schema.json` describes it, and it grows only
//! by addition. `docs/figures.md` defines every figure.

pub(crate) mod cells;
mod distributions;
mod explain;
pub mod format;
mod frames;
mod hdr;
mod html;
mod junit;
pub(crate) mod markdown;
pub(crate) mod markup;
mod render;
mod sockets;
mod summary;
mod tables;
mod text;

use std::collections::BTreeMap;

use groundswell_scenario::compare::Tolerances;
use serde::{Deserialize, Serialize};

use crate::fleet::Machine;

pub use distributions::{Distributions, Interval, InvalidDistributions, StepDistributions};
pub use explain::{explain, meaning_of_close};
pub use frames::{Frame, FrameFigures, FrameStep, HEAT_ROWS_PER_DECADE, percentile_curve};
pub use markdown::markdown;
pub use render::{Format, RenderError, Rendered, render};
pub use sockets::{BroadcastFigures, ClosingCount, ConnectionFigures, OpenPoint, RecoveryFigures};
pub use summary::Summary;
pub use text::{TextOptions, text};

/// Value of [`Report::schema`].
pub const SCHEMA: &str = "groundswell.report/v1";

/// The merged answer of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// Which run.
    pub run: RunInfo,
    /// Whether its figures can be trusted and whether they pass.
    pub verdict: Verdict,
    /// The account of every operation.
    pub ledger: Ledger,
    /// All operations together.
    pub total: StepFigures,
    /// A row for each timed step; the levels of a sweep together.
    pub steps: Vec<StepFigures>,
    /// A row for each timed step at each level of a sweep.
    pub levels: Vec<LevelFigures>,
    /// Where the target bends: a row for each sweep whose levels show it.
    pub bends: Vec<Bend>,
    /// A row for each WebSocket step.
    pub connections: Vec<ConnectionFigures>,
    /// A row for each room that messages were published in.
    pub broadcasts: Vec<BroadcastFigures>,
    /// A row for each agent; the warm-up is in its figures.
    pub agents: Vec<AgentFigures>,
    /// A row for each threshold.
    pub thresholds: Vec<ThresholdResult>,
    /// Figures over time.
    pub timeline: Vec<TimelinePoint>,
    /// The load as a whole over time.
    #[serde(default)]
    pub load: Vec<LoadPoint>,
    /// What changed who offers the load, in order of time.
    #[serde(default)]
    pub marks: Vec<MarkFigures>,
    /// What does not change the verdict but should be known: codes `preflight`, `generator`, `machine_busy`, `queued`,
    /// `max_rate`, `telemetry_late`, `insecure`.
    pub warnings: Vec<Reason>,
}

/// Which run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// Its id.
    pub id: String,
    /// Name of the plan.
    pub name: String,
    /// Base URL of the target.
    pub target: String,
    /// When load started, RFC 3339 in UTC; none where it never did.
    pub started_at: Option<String>,
    /// From the start of load to its end, in seconds.
    pub duration_s: f64,
    /// Agents that took part.
    pub agents: usize,
    /// Hash of plan and data.
    pub plan_hash: String,
    /// Hash of what the plan sends, without where to and what it is judged by: equal in runs that can be compared. Empty
    /// in reports of releases that did not compare.
    #[serde(default)]
    pub load_hash: String,
    /// What a comparison with another run is judged by.
    #[serde(default)]
    pub tolerances: Tolerances,
    /// Version of groundswell.
    pub version: String,
    /// Labels given with the run.
    pub labels: BTreeMap<String, String>,
    /// Names of the scenarios, in the plan's order.
    pub scenarios: Vec<String>,
    /// Certificates were not checked (`http.insecure`).
    pub insecure: bool,
    /// What carried HTTP requests: `direct` or `reqwest`.
    pub transport: String,
}

/// Whether a run's figures can be trusted and whether they pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The verdict.
    pub status: Status,
    /// Why, the weightiest first; never empty unless passed.
    pub reasons: Vec<Reason>,
}

/// The verdict in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The load was offered as planned and every threshold holds.
    Passed,
    /// A threshold is broken.
    Failed,
    /// Part of the load was not offered.
    Degraded,
    /// The figures can't be trusted: the generator was the bottleneck, or the account does not add up.
    Invalid,
    /// Stopped before its end by the user.
    Aborted,
}

/// One reason of a verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// Stable word for scripts: `ledger`, `tainted`, `interrupted`, `generator`, `client_limit`, `not_allowed`, `agent_lost`,
    /// `threshold`, `shed`, `not_generated`, `all_failed`.
    pub code: String,
    /// One sentence for people: what, who, when, what to do.
    pub message: String,
    /// The agent it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Start of the time range, in seconds of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_s: Option<f64>,
    /// End of the time range, in seconds of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_s: Option<f64>,
}

/// The account of every operation.
/// `scheduled = issued + shed + not generated`; `issued = ok + errors + timeout + aborted + unsent + unknown`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Operations whose time came, or would have come.
    pub scheduled: u64,
    /// Operations handed to the transport.
    pub issued: u64,
    /// Operations that ended well.
    pub ok: u64,
    /// Operations that ended with an error.
    pub errors: u64,
    /// Operations that ran into their time limit.
    pub timeout: u64,
    /// Operations cut off at the end of the run.
    pub aborted: u64,
    /// Operations that never left an agent because of its own limits, by class.
    pub unsent: BTreeMap<String, u64>,
    /// Operations given up because they could not start in time, by reason.
    pub shed: BTreeMap<String, u64>,
    /// Operations that nobody tried to start, by reason.
    pub not_generated: BTreeMap<String, u64>,
    /// Most operations whose fate nobody knows: what lost agents may have done since their last delta.
    pub unknown_max: u64,
    /// The part of `issued` that lies in the warm-up; it is in no other figure.
    pub warm_up: u64,
    /// Does the account add up? When not, the verdict is `invalid` and says by how much.
    pub balanced: bool,
}

/// Figures of one timed step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepFigures {
    /// Scenario; empty in the total row.
    pub scenario: String,
    /// Name of the step; `total` in the total row.
    pub step: String,
    /// `http`, `websocket`, `send`, `receive`, `close`, or `all`.
    pub kind: String,
    /// Operations whose time came.
    pub scheduled: u64,
    /// Operations handed to the transport.
    pub issued: u64,
    /// Operations that ended well.
    pub ok: u64,
    /// Operations that failed: errors, timeouts and aborted ones.
    pub errors: u64,
    /// Failures by class, most frequent first; the sum is `errors`.
    pub error_classes: Vec<ErrorClassCount>,
    /// Operations that never left an agent because of its own limits; they are no errors and have no latency.
    pub unsent: u64,
    /// Operations shed.
    pub shed: u64,
    /// Operations not generated.
    pub not_generated: u64,
    /// Operations issued a second while the scenario was active.
    pub rate_per_s: f64,
    /// Operations that ended well a second while the scenario was active.
    pub throughput_per_s: f64,
    /// (errors + timeouts + aborted) / (issued - unsent); 0 where nothing was sent.
    pub error_rate: f64,
    /// WebSocket messages sent.
    pub messages_sent: u64,
    /// WebSocket messages received, matched or not.
    pub messages_received: u64,
    /// HTTP requests beyond the first of their operation: redirects followed, logins answered, retries on a stale
    /// connection. The target saw `issued - unsent + follow_ups` requests at most.
    pub follow_ups: u64,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Intended start to finish, every issued operation; timeouts and aborted ones censored at their age.
    pub response_ms: Latency,
    /// The same of operations that ended well.
    pub response_ok_ms: Latency,
    /// The same of operations that failed.
    pub response_failed_ms: Latency,
    /// Hand-over to the transport to finish.
    pub service_ms: Latency,
    /// The generator's own delay: intended start, or free place in flight, to hand-over to the transport.
    pub send_lag_ms: Latency,
    /// Intended start to a free place in flight, of operations that had to wait for one (max_in_flight).
    pub queue_ms: Latency,
    /// Name looked up, of operations that had to ask for it.
    pub dns_ms: Latency,
    /// Connection opened, of operations that had to open one.
    pub connect_ms: Latency,
    /// TLS handshake, of operations that had to make one.
    pub tls_ms: Latency,
    /// Request sent to first byte of the response, of HTTP operations that were answered.
    pub first_byte_ms: Latency,
    /// First byte of the response to its last, of HTTP operations that were answered.
    pub body_ms: Latency,
    /// The response times themselves, for tools: an HdrHistogram in its V2 form, deflated, base64 (`HISTFAAA…`).
    pub response_histogram: String,
}

/// A latency in milliseconds. All figures come from one histogram of every sample; `min`, `mean` and `max` are exact.
/// A figure is null where there is no sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Samples.
    pub count: u64,
    /// Least.
    pub min: Option<f64>,
    /// Arithmetic mean.
    pub mean: Option<f64>,
    /// Median.
    pub p50: Option<f64>,
    /// 90th percentile.
    pub p90: Option<f64>,
    /// 95th percentile.
    pub p95: Option<f64>,
    /// 99th percentile.
    pub p99: Option<f64>,
    /// 99.9th percentile.
    pub p999: Option<f64>,
    /// 99.99th percentile.
    pub p9999: Option<f64>,
    /// Greatest.
    pub max: Option<f64>,
    /// Samples above the histogram's range (1 h), counted at its end.
    pub clamped: u64,
}

/// Failures of one class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorClassCount {
    /// Class, a stable word for scripts, such as `status_503` or `connection_refused`.
    pub class: String,
    /// How many.
    pub count: u64,
    /// What it means and the likely cause.
    pub explanation: String,
}

/// Figures of one timed step at one level of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LevelFigures {
    /// The level, as "5 users" or "100/s".
    pub level: String,
    /// Its figures.
    #[serde(flatten)]
    pub figures: StepFigures,
}

/// Where the target bends in a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bend {
    /// The scenario of the sweep.
    pub scenario: String,
    /// The level after which more load brings little more throughput; null where none was found.
    pub level: Option<String>,
    /// Throughput at this level, in operations a second; at the last level where none was found.
    pub throughput_per_s: f64,
    /// One sentence to act on.
    pub message: String,
}

/// Figures of one agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentFigures {
    /// Its name.
    pub name: String,
    /// What it ran on.
    #[serde(default)]
    pub machine: Machine,
    /// Its part of the schedule, 0 to 1.
    pub share: f64,
    /// Operations handed to the transport.
    pub issued: u64,
    /// Operations that ended well.
    pub ok: u64,
    /// Operations that failed.
    pub errors: u64,
    /// Response times of its operations.
    pub response_ms: Latency,
    /// Send lag of its operations.
    pub send_lag_ms: Latency,
    /// Greatest CPU use of its busiest worker in one second, 0 to 1.
    pub cpu: f64,
    /// Greatest difference measured between its time of the run and the coordinator's, in milliseconds; positive where it
    /// is late.
    #[serde(default)]
    pub clock_skew_ms: f64,
    /// When it joined, where the run had begun before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined_at_s: Option<f64>,
    /// When it was asked to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_at_s: Option<f64>,
    /// Bound of that difference, whatever the clocks do, in milliseconds.
    pub clock_bound_ms: f64,
    /// When it was lost, in seconds of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_at_s: Option<f64>,
}

/// Outcome of one threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThresholdResult {
    /// As the plan says it.
    pub text: String,
    /// The figure that was judged (the worst window for `over`), in the unit of the text; null where there is none.
    pub value: Option<f64>,
    /// Unit of `value`: `ms`, `ratio`, `/s` or `count`.
    pub unit: String,
    /// Does it hold?
    pub passed: bool,
    /// When it stopped the run, in seconds of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aborted_at_s: Option<f64>,
}

/// Figures of one timed step in one interval of the run, by the end of the operations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MarkFigures {
    /// When, in seconds of the run.
    pub t_s: f64,
    /// Stable word for scripts: `agent_away`, `agent_back`, `agent_lost`, `agent_left`, `agent_joined`, `load_moved`,
    /// `coordinator_restarted`.
    pub kind: String,
    /// The agent it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// One sentence.
    pub text: String,
}

/// Figures of one step in one interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimelinePoint {
    /// Start of the interval, in seconds of the run.
    pub t_s: f64,
    /// Length of the interval in seconds.
    pub length_s: f64,
    /// Scenario.
    pub scenario: String,
    /// Level of a sweep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Does it belong to the warm-up, which is in no other figure?
    pub warm_up: bool,
    /// Step.
    pub step: String,
    /// Operations issued.
    pub issued: u64,
    /// Operations that ended well.
    pub ok: u64,
    /// Operations that failed.
    pub errors: u64,
    /// Failures by class; the sum is `errors`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub errors_by_class: BTreeMap<String, u64>,
    /// Response times.
    pub response_ms: Latency,
    /// Service times.
    #[serde(default)]
    pub service_ms: Latency,
}

/// The load as a whole in one interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LoadPoint {
    /// Start of the interval, in seconds of the run.
    pub t_s: f64,
    /// Length of the interval in seconds.
    pub length_s: f64,
    /// Iterations a second that the open loads want, on average over the interval.
    pub wanted_per_s: f64,
    /// Users at work, on average over the interval.
    pub users: f64,
    /// Operations in flight at its end.
    pub in_flight: u64,
    /// WebSockets open at its end.
    pub open_sockets: u64,
}

impl Status {
    /// As written in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Passed => "PASSED",
            Status::Failed => "FAILED",
            Status::Degraded => "DEGRADED",
            Status::Invalid => "INVALID",
            Status::Aborted => "ABORTED",
        }
    }

    /// Exit code of a run that ends with this verdict.
    pub fn exit_code(self) -> u8 {
        match self {
            Status::Passed => 0,
            Status::Failed => 1,
            Status::Degraded | Status::Invalid => 3,
            Status::Aborted => 130,
        }
    }
}

/// The report as JSON, indented.
pub fn json(report: &Report) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(report)
}
