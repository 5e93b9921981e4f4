//! The validated plan: every value legal, immutable, the same on every agent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use groundswell_stats::StepId;

use crate::flow::{StatusSet, Step, StepKind, Text};
use crate::load::Load;
use crate::threshold::Threshold;

/// What the user wrote, complete: the plan file's text and the data files it names.
///
/// This is what travels: the coordinator and every agent compile the same source with the same code, so that
/// there is one definition of a plan's meaning and no second schema of it on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanSource {
    /// File name for diagnostics, as the user gave it.
    pub name: String,
    /// The YAML text.
    pub text: String,
    /// Data files by the path written in the plan; an unreadable one holds the reason it could not be read.
    pub files: BTreeMap<String, Result<Vec<u8>, String>>,
}

/// All scenarios of a run with what they share.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Name of the plan, shown in reports. Defaults to the file's stem.
    pub name: String,
    /// Base URL of relative paths; `http` or `https`.
    pub target: url::Url,
    /// The target's readiness check; no load is sent before it holds.
    pub ready: Option<Ready>,
    /// Defaults of every HTTP step.
    pub http: HttpOptions,
    /// Plan-wide template variables, in the order written.
    pub vars: Vec<(String, serde_json::Value)>,
    /// Data sets by name.
    pub data: Vec<DataSet>,
    /// Scenarios in the order written.
    pub scenarios: Vec<Scenario>,
    /// Every timed step at every level; [`StepId`] is the index.
    pub steps: Vec<TimedStep>,
    /// What the run is judged by.
    pub thresholds: Vec<Threshold>,
    /// Seed of every random choice of the plan (arrivals, shuffles), so that all agents agree. Default 1.
    pub seed: u64,
    /// Hash over text and data files (BLAKE3, first 16 hexadecimal digits): equal plans have equal hashes.
    pub hash: String,
}

/// `ready:` one GET that has to answer with a status before any load is sent.
#[derive(Debug, Clone)]
pub struct Ready {
    /// Path or URL.
    pub url: String,
    /// Accepted status.
    pub status: StatusSet,
    /// Give up after this long (default 30 s): exit code 4.
    pub within: Duration,
}

/// `http:` defaults of every HTTP step.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Whole-operation limit (default 10 s).
    pub timeout: Duration,
    /// Protocol version.
    pub version: HttpVersion,
    /// Who owns connections.
    pub connections: Connections,
    /// Keep cookies for each user (default true).
    pub cookies: bool,
    /// Headers sent with every request.
    pub headers: Vec<(String, Text)>,
    /// Accept any certificate. Shown in the report.
    pub insecure: bool,
}

/// Which HTTP version to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HttpVersion {
    /// HTTP/2 where TLS negotiates it, else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// Who owns connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Connections {
    /// Every user has its own, kept alive between its requests, as a browser does.
    #[default]
    PerUser,
    /// The users of one worker share a pool.
    Shared,
    /// A new connection for every request.
    PerRequest,
}

/// One named data set, read from CSV.
#[derive(Debug, Clone)]
pub struct DataSet {
    /// Name by which templates refer to it.
    pub name: String,
    /// Column names from the header line.
    pub columns: Vec<String>,
    /// Rows, already in the order in which they are used (shuffled with the plan's seed where asked).
    pub rows: Arc<[Vec<String>]>,
    /// What happens when all rows are used.
    pub at_end: AtEnd,
}

/// What happens when all rows of a data set are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AtEnd {
    /// Start over at the first row.
    #[default]
    Repeat,
    /// Start no further iteration; what is left is counted as not generated, reason `data_exhausted`.
    Stop,
}

/// Validated intent of one scenario.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Name, unique in the plan.
    pub name: String,
    /// When its clock starts.
    pub start: ScenarioStart,
    /// The load, one phase after another. A plain load has one phase, a sweep one for each level.
    pub phases: Vec<Phase>,
    /// What a user does in one iteration.
    pub flow: Vec<Step>,
    /// How many timed steps the flow has: slots `0..timed_steps` of each phase.
    pub timed_steps: u32,
}

/// When a scenario's clock starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScenarioStart {
    /// At this offset from the start of the run.
    At(Duration),
    /// When these scenarios (indices into [`Plan::scenarios`]) have ended on this agent. Used only where one of them
    /// has no end that can be computed (iterations); otherwise validation resolves `after` to [`ScenarioStart::At`].
    AfterEnd(Vec<usize>),
}

/// One load with its place in the scenario.
#[derive(Debug, Clone)]
pub struct Phase {
    /// Label of the sweep level ("5 users", "300/s"); none for a plain load.
    pub level: Option<String>,
    /// Offset from the scenario's start.
    pub offset: Duration,
    /// The load.
    pub load: Load,
    /// [`StepId`] of slot 0 at this level.
    pub first_step: StepId,
}

/// A timed step at one level: the identity of its series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimedStep {
    /// Index into [`Plan::scenarios`].
    pub scenario: usize,
    /// Index into [`Scenario::phases`].
    pub phase: usize,
    /// Name as reports show it.
    pub name: String,
    /// What kind of operation it is.
    pub kind: StepKind,
    /// How many operations of this step one iteration makes (`repeat` multiplies).
    pub per_iteration: u64,
}

impl Plan {
    /// The plan's own end: the latest end of a scenario whose end can be computed, from the start of the run.
    /// `None` when a scenario ends only when its iterations are done and no limit can be computed.
    pub fn duration(&self) -> Option<Duration> {
        self.scenarios.iter().map(Scenario::end).try_fold(Duration::ZERO, |latest, end| Some(latest.max(end?)))
    }

    /// The timed step behind an id.
    pub fn step(&self, id: StepId) -> Option<&TimedStep> {
        self.steps.get(id.0 as usize)
    }
}

impl Scenario {
    /// When the last phase stops issuing, from the start of the run; none where only its iterations decide.
    pub fn end(&self) -> Option<Duration> {
        match self.start {
            ScenarioStart::At(start) => Some(start + self.length()?),
            ScenarioStart::AfterEnd(_) => None,
        }
    }

    /// From the scenario's start to the moment its last phase stops issuing; none for iterations.
    pub fn length(&self) -> Option<Duration> {
        self.phases.iter().map(|phase| Some(phase.offset + phase.load.length()?)).next_back().flatten()
    }

    /// Operations that one iteration makes.
    pub fn operations_per_iteration(&self) -> u64 {
        self.flow.iter().map(Step::operations).sum()
    }
}
