//! What a comparison says. Every format is a rendering of this one value; its JSON form is an interface that grows only
//! by addition, described by `docs/comparison.schema.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::report::{RunInfo, Status};

/// Value of [`Comparison::schema`].
pub const SCHEMA: &str = "groundswell.comparison/v1";

/// One run beside the runs that it is judged by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// The whole in one word: [`Decision::Regression`] where any figure is one, else [`Decision::CannotTell`] where any
    /// can't be told, else [`Decision::Improvement`] where any is one, else [`Decision::NoDifference`].
    pub decision: Decision,
    /// How many figures came to each decision; their sum is the number of figures compared.
    pub counts: Counts,
    /// The run that was judged.
    pub run: ComparedRun,
    /// What it was judged by, by id.
    pub baselines: Vec<ComparedRun>,
    /// How it was judged.
    pub method: Method,
    /// A row for each timed step (at each level of a sweep) that the run and every baseline have.
    pub requests: Vec<RequestComparison>,
    /// Timed steps that not every one of these runs has, each with where it is missing.
    pub unmatched: Vec<Unmatched>,
    /// What should be known when the figures are read, such as why the runs were compared only because of `--force`.
    pub notes: Vec<String>,
}

/// What became of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// The whole interval lies beyond the tolerance, on the bad side.
    Regression,
    /// The interval reaches over the edge of the tolerance, or there is none.
    CannotTell,
    /// The whole interval lies beyond the tolerance, on the good side.
    Improvement,
    /// The whole interval lies within the tolerance.
    NoDifference,
}

/// How many figures came to each decision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Figures that got worse.
    pub regression: usize,
    /// Figures that got better.
    pub improvement: usize,
    /// Figures that did not move by more than their tolerance.
    pub no_difference: usize,
    /// Figures of which these runs say too little.
    pub cannot_tell: usize,
}

/// A run of the comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparedRun {
    /// Its id.
    pub id: String,
    /// Name of its plan.
    pub name: String,
    /// Base URL of its target.
    pub target: String,
    /// When its load started, RFC 3339 in UTC; none where it never did.
    pub started_at: Option<String>,
    /// From the start of load to its end, in seconds.
    pub duration_s: f64,
    /// Its verdict.
    pub verdict: Status,
    /// Hash of its plan and data.
    pub plan_hash: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// How it was judged; docs/compare.md has the method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Method {
    /// Chance that any of all figures is called a regression or an improvement where none moved beyond its tolerance.
    pub error_probability: f64,
    /// Resamples of each step of each run.
    pub resamples: usize,
    /// The same runs and the same seed give the same comparison.
    pub seed: u64,
}

/// One timed step in all runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestComparison {
    /// Scenario.
    pub scenario: String,
    /// Level of a sweep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Name of the step.
    pub step: String,
    /// As in [`crate::report::StepFigures::kind`].
    pub kind: String,
    /// Its figures.
    pub figures: Vec<FigureComparison>,
}

/// One figure of one timed step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FigureComparison {
    /// Which.
    pub metric: Metric,
    /// Unit of every number of this row: `ms`, `/s` or `ratio`.
    pub unit: String,
    /// The baseline's; of several the geometric mean (of error rates the arithmetic one). None where it has no sample.
    pub baseline: Option<f64>,
    /// The run's.
    pub run: Option<f64>,
    /// The run's minus the baseline's.
    pub difference: Option<f64>,
    /// The difference as a part of the baseline; none for error rates, and where the baseline is 0.
    pub relative: Option<f64>,
    /// What the difference may be as far as these runs tell.
    pub interval: Option<Interval>,
    /// Differences within this matter to nobody.
    pub tolerance: Option<Interval>,
    /// What became of it.
    pub decision: Decision,
    /// Where it can't be told: why, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// A range of differences.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// A figure that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Median response time.
    P50,
    /// 90th percentile of the response time.
    P90,
    /// 95th percentile of the response time.
    P95,
    /// 99th percentile of the response time.
    P99,
    /// Operations that ended well, a second.
    Throughput,
    /// (errors + timeouts + aborted) / (issued - unsent).
    ErrorRate,
}

/// A timed step that not every run has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmatched {
    /// Scenario.
    pub scenario: String,
    /// Level of a sweep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Name of the step.
    pub step: String,
    /// Ids of the runs without it.
    pub missing_in: Vec<String>,
}

impl Metric {
    /// Every metric, in the order of reports: percentiles first, ascending.
    pub const ALL: [Metric; 6] =
        [Metric::P50, Metric::P90, Metric::P95, Metric::P99, Metric::Throughput, Metric::ErrorRate];

    /// As in the plan file and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Metric::P50 => "p50",
            Metric::P90 => "p90",
            Metric::P95 => "p95",
            Metric::P99 => "p99",
            Metric::Throughput => "throughput",
            Metric::ErrorRate => "error_rate",
        }
    }

    /// Which part of all samples a percentile does not exceed; none for other metrics.
    pub(super) fn quantile(self) -> Option<f64> {
        match self {
            Metric::P50 => Some(0.5),
            Metric::P90 => Some(0.9),
            Metric::P95 => Some(0.95),
            Metric::P99 => Some(0.99),
            Metric::Throughput | Metric::ErrorRate => None,
        }
    }

    /// Its unit in [`FigureComparison`].
    pub(super) fn unit(self) -> &'static str {
        match self {
            Metric::Throughput => "/s",
            Metric::ErrorRate => "ratio",
            _ => "ms",
        }
    }
}

impl Decision {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Decision::Regression => "regression",
            Decision::CannotTell => "can't tell",
            Decision::Improvement => "improvement",
            Decision::NoDifference => "no difference",
        }
    }
}

impl Counts {
    pub(super) fn of(figures: impl IntoIterator<Item = Decision>) -> Self {
        let mut counts = Counts::default();
        for decision in figures {
            *match decision {
                Decision::Regression => &mut counts.regression,
                Decision::CannotTell => &mut counts.cannot_tell,
                Decision::Improvement => &mut counts.improvement,
                Decision::NoDifference => &mut counts.no_difference,
            } += 1;
        }
        counts
    }

    /// The whole in one word.
    pub(super) fn decision(self) -> Decision {
        match self {
            Counts { regression: 1.., .. } => Decision::Regression,
            Counts { cannot_tell: 1.., .. } => Decision::CannotTell,
            Counts { improvement: 1.., .. } => Decision::Improvement,
            _ => Decision::NoDifference,
        }
    }

    /// All figures.
    pub fn total(self) -> usize {
        self.regression + self.improvement + self.no_difference + self.cannot_tell
    }
}

impl ComparedRun {
    pub(super) fn of(run: &RunInfo, verdict: Status) -> Self {
        let RunInfo { id, name, target, started_at, duration_s, plan_hash, labels, .. } = run.clone();
        ComparedRun { id, name, target, started_at, duration_s, verdict, plan_hash, labels }
    }
}

impl Comparison {
    /// What the command exits with: 1 where anything is a regression, or with `strict` where anything can't be told.
    pub fn exit_code(&self, strict: bool) -> u8 {
        let strictly = strict && self.decision == Decision::CannotTell;
        u8::from(strictly || self.decision == Decision::Regression)
    }

    /// As JSON, indented.
    ///
    /// # Errors
    /// When a figure can't be written, which does not happen for what a comparison makes.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }
}
