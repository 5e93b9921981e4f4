//! The validated plan: every value legal, immutable, the same on every agent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use groundswell_stats::StepId;

use crate::compare::Tolerances;
use crate::continuity::Continuity;
use crate::flow::{StatusSet, Step, StepKind};
use crate::http::HttpOptions;
use crate::load::Load;
use crate::socket::SocketUse;
use crate::threshold::Threshold;

/// What the user wrote, complete: the plan file's text and the data files it names.
///
/// This is what travels: the coordinator and every agent compile the same source with the same code, so that
/// there is one definition of a plan's meaning and no second schema of it on the wire.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanSource {
    /// File name for diagnostics, as the user gave it.
    pub name: String,
    /// The YAML text.
    pub text: String,
    /// Data files by the path written in the plan; an unreadable one holds the reason it could not be read.
    pub files: BTreeMap<String, Result<Vec<u8>, String>>,
    /// The level of a plan's search at which it is to run: users, or iterations a second. Without one, the search's
    /// least.
    pub search_level: Option<f64>,
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
    /// Names of values that templates use as `secrets.NAME` and that are in no plan: agents have them, or get them from the
    /// coordinator.
    pub secrets: Vec<String>,
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
    /// What a comparison with another run is judged by.
    pub tolerances: Tolerances,
    /// The load that is searched for, in a plan that has one.
    pub search: Option<Search>,
    /// p99 send lag above which the figures of a window are not trusted; none for the rule: the greater of 1 ms and 5 %
    /// of the median response time.
    pub max_send_lag: Option<Duration>,
    /// What happens when agents and coordinator lose each other.
    pub continuity: Continuity,
    /// Seed of every random choice of the plan (arrivals, shuffles), so that all agents agree. Default 1.
    pub seed: u64,
    /// Hash over text, data files and search level (BLAKE3, first 16 hexadecimal digits): equal plans have equal hashes.
    pub hash: String,
    /// Hash over what the plan sends: `scenarios`, `http`, `vars`, `data` with its files, `seed` and the search level
    /// (BLAKE3, first 16 hexadecimal digits). Plans that differ only in where the load goes, in what judges it, or in
    /// comments and spaces have the same; only such runs can be compared.
    pub load_hash: String,
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
    /// Its WebSockets, by number.
    pub sockets: Vec<SocketUse>,
    /// Pacing of a closed load: a user is due again so long after it was due, or when it has ended, whichever is later.
    pub every: Option<Duration>,
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

/// A load that is not given but searched for: the greatest that keeps the plan's thresholds.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// Index into [`Plan::scenarios`].
    pub scenario: usize,
    /// What a level counts.
    pub of: SearchOf,
    /// The least level that is tried.
    pub from: f64,
    /// The greatest level that is tried.
    pub to: f64,
    /// The search ends when it knows the level to this part of it, above 0 and below 1.
    pub within: f64,
}

/// What the level of a [`Search`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchOf {
    /// Users of a closed load.
    Users,
    /// Iterations a second of an open load.
    Rate,
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
    /// Its first part, kept out of the figures.
    pub warm_up: Option<WarmUp>,
    /// How long operations in flight may go on after its end before they are cut off.
    pub grace: Duration,
}

/// The first part of a phase: its operations are in the account but not in the figures, by having steps of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WarmUp {
    /// From the phase's start; below the phase's length.
    pub length: Duration,
    /// [`StepId`] of slot 0 in the warm-up.
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
    /// Does it have messages of a shared rate? They count as they come and are not in `per_iteration`.
    pub as_they_come: bool,
    /// Does it count what happens in the warm-up?
    pub warm_up: bool,
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

impl Phase {
    /// [`StepId`] of slot 0 for what is intended at this offset from the phase's start.
    pub fn first_step_at(&self, offset: Duration) -> StepId {
        match self.warm_up {
            Some(warm_up) if offset < warm_up.length => warm_up.first_step,
            _ => self.first_step,
        }
    }

    /// When the figures begin, from the phase's start.
    pub fn measured_from(&self) -> Duration {
        self.warm_up.map_or(Duration::ZERO, |warm_up| warm_up.length)
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
