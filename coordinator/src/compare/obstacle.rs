//! Why runs can't be compared.

use super::Measured;
use crate::report::{RunInfo, Status};

/// A reason not to compare runs. With `--force` it becomes a note of the comparison.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// A run whose figures can't be trusted, or which did not offer the load that it should have.
    #[error("run {run} is {}: {reason}", status.as_str())]
    Verdict {
        /// Its id.
        run: String,
        /// Its verdict.
        status: Status,
        /// The weightiest reason of that.
        reason: String,
    },
    /// Runs that sent different load.
    #[error("run {baseline} sent other load: its plan differs in scenarios, http, vars, data or seed")]
    OtherLoad {
        /// Id of the baseline.
        baseline: String,
    },
    /// One run twice among the baselines: it would seem that they agree.
    #[error("run {run} is given twice as a baseline")]
    Twice {
        /// Its id.
        run: String,
    },
}

/// Why these runs can't be compared; nothing where they can.
pub fn obstacles(baselines: &[Measured<'_>], run: &Measured<'_>) -> Vec<Obstacle> {
    let info = &run.report.run;
    let same_load = |baseline: &RunInfo| match (baseline.load_hash.as_str(), info.load_hash.as_str()) {
        // Reports of releases that kept no hash of the load have that of the whole plan.
        ("", _) | (_, "") => baseline.plan_hash == info.plan_hash,
        (left, right) => left == right,
    };
    let mut found = of_baselines(baselines, same_load);
    found.extend(verdict(run).filter(|obstacle| !found.contains(obstacle)));
    found
}

/// The same before there is a run: why nothing that sends the load of this hash can be compared with these runs.
pub fn obstacles_of_baselines(baselines: &[Measured<'_>], load_hash: &str) -> Vec<Obstacle> {
    of_baselines(baselines, |baseline| baseline.load_hash == load_hash)
}

fn of_baselines(baselines: &[Measured<'_>], same_load: impl Fn(&RunInfo) -> bool) -> Vec<Obstacle> {
    let mut found = Vec::new();
    for (index, measured) in baselines.iter().enumerate() {
        let baseline = &measured.report.run;
        if baselines[..index].iter().any(|earlier| earlier.report.run.id == baseline.id) {
            found.push(Obstacle::Twice { run: baseline.id.clone() });
            continue;
        }
        found.extend(verdict(measured));
        if !same_load(baseline) {
            found.push(Obstacle::OtherLoad { baseline: baseline.id.clone() });
        }
    }
    found
}

fn verdict(measured: &Measured<'_>) -> Option<Obstacle> {
    let (verdict, run) = (&measured.report.verdict, &measured.report.run);
    // A broken threshold is a finding about the target, and the load was offered.
    if matches!(verdict.status, Status::Passed | Status::Failed) {
        return None;
    }
    let reason = verdict.reasons.first().map_or("no reason is known", |reason| reason.message.as_str());
    Some(Obstacle::Verdict { run: run.id.clone(), status: verdict.status, reason: reason.to_owned() })
}
