//! The search for the greatest load that keeps a plan's thresholds: which level to try next, and what it found.
//!
//! The level doubles until one does not hold, then the gap between the greatest that held and the least that did not is
//! halved until it is small enough. Each step is a run of its own, judged on merged figures. A step in which the
//! generator was the bottleneck says nothing about the target: it is tried once more, and if it is so again, the search
//! goes on below it and the report says that the generator was the limit.

mod render;

use groundswell_scenario::Plan;
use groundswell_scenario::plan::{self, SearchOf};
use serde::{Deserialize, Serialize};

use crate::report::{Reason, Report, Status};

/// Value of [`SearchReport::schema`].
pub const SCHEMA: &str = "groundswell.search/v1";
/// Steps of one search; doubling and halving need far fewer.
const MOST_STEPS: usize = 64;

/// One search under way.
#[derive(Debug)]
pub struct Search {
    plan: String,
    target: String,
    of: SearchOf,
    from: f64,
    to: f64,
    within: f64,
    steps: Vec<SearchStep>,
}

/// What a search does next.
#[derive(Debug)]
pub enum Next {
    /// Run the plan at this level and [`Search::record`] its report.
    Try(f64),
    /// It is over.
    Done(Box<SearchReport>),
}

/// The report of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchReport {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// Name of the plan.
    pub plan: String,
    /// Base URL of the target.
    pub target: String,
    /// What the level counts: `users` or `rate` (iterations a second).
    pub of: String,
    /// The greatest level that kept the thresholds; null where none did.
    pub level: Option<f64>,
    /// What stood in the way of a greater level.
    pub limit: Limit,
    /// One sentence that says both.
    pub message: String,
    /// Every run, in the order tried.
    pub steps: Vec<SearchStep>,
}

/// What stood in the way of a greater level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// The target: its thresholds broke.
    Target,
    /// The generator: it was the bottleneck.
    Generator,
    /// The end of the range that was searched.
    Range,
    /// Its user, who interrupted it.
    Interrupted,
    /// A run that lost an agent: the search ended early.
    Incomplete,
}

/// One run of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchStep {
    /// The level.
    pub level: f64,
    /// The level as people write it: `100/s`, `20 users`.
    pub label: String,
    /// What came of it.
    pub outcome: StepOutcome,
    /// Id of the run.
    pub run_id: String,
    /// Operations issued a second.
    pub rate_per_s: f64,
    /// Operations that ended well a second.
    pub throughput_per_s: f64,
    /// (errors + timeouts + aborted) / (issued - unsent).
    pub error_rate: f64,
    /// Median response time in milliseconds; null where there is no sample.
    pub p50_ms: Option<f64>,
    /// 95th percentile in milliseconds.
    pub p95_ms: Option<f64>,
    /// 99th percentile in milliseconds.
    pub p99_ms: Option<f64>,
    /// Why it did not hold: the reasons of its verdict.
    pub reasons: Vec<String>,
}

/// What came of one run of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepOutcome {
    /// Every threshold held and all of the load was offered.
    Kept,
    /// The target did not keep up.
    Broken,
    /// The generator was the bottleneck, so the run says nothing of the target.
    Generator,
    /// Its user interrupted it.
    Interrupted,
    /// It lost an agent.
    Incomplete,
}

impl Search {
    /// The search of a plan; none where it has none.
    pub fn of(plan: &Plan) -> Option<Self> {
        let plan::Search { of, from, to, within, .. } = *plan.search.as_ref()?;
        let (name, target) = (plan.name.clone(), plan.target.to_string());
        Some(Search { plan: name, target, of, from, to, within, steps: Vec::new() })
    }

    /// What to do next.
    pub fn next(&self) -> Next {
        match self.steps.last().map(|step| step.outcome) {
            Some(StepOutcome::Interrupted) => return self.done(Limit::Interrupted),
            Some(StepOutcome::Incomplete) => return self.done(Limit::Incomplete),
            _ => {}
        }
        // The generator's limit is believed when it shows twice.
        if let Some(step) = self.steps.last().filter(|step| step.outcome == StepOutcome::Generator)
            && self.tries(step.level) < 2
        {
            return Next::Try(step.level);
        }
        let kept = self.kept();
        let above = self.least_that_did_not_hold();
        let level = match (kept, above) {
            (None, None) => self.from,
            (None, Some((_, limit))) => return self.done(limit),
            (Some(kept), None) if kept >= self.to => return self.done(Limit::Range),
            (Some(kept), None) => (kept * 2.0).min(self.to),
            (Some(kept), Some((above, limit))) => {
                if self.is_near(kept, above) || self.steps.len() >= MOST_STEPS {
                    return self.done(limit);
                }
                f64::midpoint(kept, above)
            }
        };
        Next::Try(self.whole(level))
    }

    /// Takes in the report of a run at a level.
    pub fn record(&mut self, level: f64, report: &Report) -> &SearchStep {
        let index = self.steps.len();
        let total = &report.total;
        self.steps.push(SearchStep {
            level,
            label: self.label(level),
            outcome: outcome(report),
            run_id: report.run.id.clone(),
            rate_per_s: total.rate_per_s,
            throughput_per_s: total.throughput_per_s,
            error_rate: total.error_rate,
            p50_ms: total.response_ms.p50,
            p95_ms: total.response_ms.p95,
            p99_ms: total.response_ms.p99,
            reasons: report.verdict.reasons.iter().chain(held(report)).map(|reason| reason.message.clone()).collect(),
        });
        &self.steps[index]
    }

    /// A level as people write it.
    pub fn label(&self, level: f64) -> String {
        match self.of {
            SearchOf::Users => format!("{level:.0} users"),
            SearchOf::Rate => crate::report::format::rate(level),
        }
    }

    fn tries(&self, level: f64) -> usize {
        self.steps.iter().filter(|step| step.level == level).count()
    }

    /// The greatest level that held below every one that did not.
    fn kept(&self) -> Option<f64> {
        let above = self.least_that_did_not_hold().map_or(f64::INFINITY, |(above, _)| above);
        let kept = self.steps.iter().filter(|step| step.outcome == StepOutcome::Kept && step.level < above);
        kept.map(|step| step.level).max_by(f64::total_cmp)
    }

    /// A generator that was the limit once and not again was no limit.
    fn least_that_did_not_hold(&self) -> Option<(f64, Limit)> {
        let held = |level: f64| self.steps.iter().any(|step| step.level == level && step.outcome == StepOutcome::Kept);
        let limits = self.steps.iter().filter_map(|step| match step.outcome {
            StepOutcome::Broken => Some((step.level, Limit::Target)),
            StepOutcome::Generator if !held(step.level) => Some((step.level, Limit::Generator)),
            _ => None,
        });
        // At one level, the target's limit outweighs: it showed in a run that can be trusted.
        limits.min_by(|a, b| a.0.total_cmp(&b.0).then_with(|| (a.1 != Limit::Target).cmp(&(b.1 != Limit::Target))))
    }

    fn is_near(&self, kept: f64, above: f64) -> bool {
        let near = above - kept <= kept * self.within;
        near || self.of == SearchOf::Users && above - kept <= 1.0
    }

    /// Users are whole; rates have three significant digits, which is more than any search needs.
    fn whole(&self, level: f64) -> f64 {
        match self.of {
            SearchOf::Users => level.round(),
            SearchOf::Rate => {
                let unit = 10_f64.powf(level.log10().floor() - 2.0);
                let rounded = (level / unit).round() * unit;
                // Away from the float's own error, so that 0.1 × 3 is 0.3.
                format!("{rounded:.6}").parse().unwrap_or(rounded)
            }
        }
    }

    fn done(&self, limit: Limit) -> Next {
        let level = self.kept();
        Next::Done(Box::new(SearchReport {
            schema: SCHEMA.to_owned(),
            plan: self.plan.clone(),
            target: self.target.clone(),
            of: match self.of {
                SearchOf::Users => "users".to_owned(),
                SearchOf::Rate => "rate".to_owned(),
            },
            level,
            limit,
            message: self.message(level, limit),
            steps: self.steps.clone(),
        }))
    }

    fn message(&self, level: Option<f64>, limit: Limit) -> String {
        let why = || {
            let above = self.least_that_did_not_hold().map(|(above, _)| above);
            let step = self.steps.iter().rev().find(|step| above.is_none_or(|above| step.level == above));
            step.and_then(|step| step.reasons.first().cloned()).unwrap_or_default()
        };
        let at = self.least_that_did_not_hold().map_or_else(String::new, |(above, _)| self.label(above));
        match (level.map(|level| self.label(level)), limit) {
            (Some(level), Limit::Target) => {
                format!("the target keeps the thresholds up to {level}; at {at} it does not: {}", why())
            }
            (Some(level), Limit::Generator) => format!(
                "the target keeps the thresholds up to {level}; its limit was not found, because at {at} the generator was \
                 the limit: {}",
                why()
            ),
            (Some(level), Limit::Range) => {
                format!("the target keeps the thresholds up to {level}, the end of the search; its limit lies beyond")
            }
            (None, Limit::Target) => {
                format!("the target does not keep the thresholds even at {at}, the least that was tried: {}", why())
            }
            (None, Limit::Generator) => {
                format!("nothing can be said of the target: the generator was the limit even at {at}: {}", why())
            }
            (None, Limit::Range) => "nothing was tried".to_owned(),
            (level, Limit::Incomplete | Limit::Interrupted) => {
                let so_far = level.map_or("no level".to_owned(), |level| level);
                format!("the search ended early, with {so_far} known to keep the thresholds: {}", why())
            }
        }
    }
}

/// Agents that made operations wait for their own limit.
fn held(report: &Report) -> impl Iterator<Item = &Reason> {
    report.warnings.iter().filter(|warning| warning.code == "max_rate")
}

/// What a report says of its level.
fn outcome(report: &Report) -> StepOutcome {
    let has = |codes: &[&str]| report.verdict.reasons.iter().any(|reason| codes.contains(&reason.code.as_str()));
    let is_held = held(report).next().is_some();
    match report.verdict.status {
        // Users that an agent makes wait are not the load of this level.
        Status::Passed | Status::Failed if is_held => StepOutcome::Generator,
        Status::Passed => StepOutcome::Kept,
        Status::Aborted => StepOutcome::Interrupted,
        _ if has(&["ledger", "agent_lost"]) => StepOutcome::Incomplete,
        _ if has(&["generator", "client_limit", "not_allowed"]) => StepOutcome::Generator,
        Status::Failed | Status::Degraded | Status::Invalid => StepOutcome::Broken,
    }
}

#[cfg(test)]
mod tests;
