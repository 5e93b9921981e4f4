//! Runs of a store without a server.

use super::clock::Clock;
use super::hub::replay;
use super::wire;
use crate::report::Report;
use crate::run::{Now, Outcome, Place};
use crate::store::{Store, StoreError};

/// Why a run can't be turned into a report.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The store failed, or is not what was written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There are no figures to report.
    #[error("run {run} has no report: {problem}")]
    NoReport {
        /// Its id.
        run: String,
        /// Why.
        problem: String,
    },
}

/// Turns what the store has of a run into its report. A run without an answer is closed: what its agents did not hand in
/// is unknown, and the report says how much that may be.
///
/// # Errors
/// See [`RecoverError`].
pub async fn recover(store: &Store, run: &str) -> Result<Report, RecoverError> {
    let stored = store.run(run).await?;
    if let Some(answer) = &stored.report {
        let json = answer.report.clone().map_err(|problem| RecoverError::NoReport { run: run.to_owned(), problem })?;
        return serde_json::from_slice(&json).map_err(|error| store.damaged(run, error).into());
    }
    let mut restored = replay(store, &stored, Place::default()).await?;
    let last =
        restored.last.unwrap_or(Now { monotonic: std::time::Duration::ZERO, calendar: std::time::SystemTime::now() });
    let outcome = match restored.outcome.take() {
        Some(outcome) => outcome,
        None => {
            let clock = Clock::new();
            restored.run.give_up(last, clock.ahead_of(last).run_time(clock.now()))
        }
    };
    store.finish_run(&wire::finish(run, 1, last.calendar, &outcome)).await?;
    match outcome {
        Outcome::Report { report, .. } => Ok(*report),
        Outcome::NoReport { problem, .. } => Err(RecoverError::NoReport { run: run.to_owned(), problem }),
    }
}
