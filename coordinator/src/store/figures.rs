//! What stands beside a report: its line in lists, and its histograms.

use super::checksum::checksum;
use super::database::reading;
use super::error::Trouble;
use super::{Store, StoreError};

/// What stands beside a report. It is stored with it and never changes either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// The line of the report that lists show, as JSON.
    pub summary: String,
    /// The histograms behind the report, encoded by the caller.
    pub distributions: Vec<u8>,
}

impl Store {
    /// The histograms of the newest report of a run, as the caller encoded them; none where it has no report, or one of
    /// a release that kept none.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when they are not what was written.
    pub async fn distributions(&self, run: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let inner = &*self.inner;
        let row: Option<(i64, String, Vec<u8>, i64)> = reading!(inner, "read histograms", pool => {
            Ok::<_, Trouble>(sqlx::query_as(
                "SELECT revision, summary, distributions, checksum FROM figures WHERE run = $1 \
                 AND revision = (SELECT MAX(revision) FROM reports WHERE run = $1)",
            ).bind(run).fetch_optional(pool).await?)
        })?;
        let Some((revision, summary, distributions, stored)) = row else { return Ok(None) };
        inner.compare(stored, sum_of_figures(run, revision, &summary, &distributions), || {
            format!("the histograms of revision {revision} of run {run}")
        })?;
        Ok(Some(distributions))
    }
}

/// Inserts figures, in a transaction of either database.
macro_rules! insert_figures {
    ($transaction:ident, $run:expr, $revision:expr, $figures:expr) => {{
        let sum = $crate::store::figures::sum_of_figures($run, $revision, &$figures.summary, &$figures.distributions);
        sqlx::query("INSERT INTO figures (run, revision, summary, distributions, checksum) VALUES ($1, $2, $3, $4, $5)")
            .bind($run)
            .bind($revision)
            .bind(&$figures.summary)
            .bind($figures.distributions.as_slice())
            .bind(sum)
            .execute(&mut *$transaction)
            .await
    }};
}

pub(super) use insert_figures;

pub(super) fn sum_of_figures(run: &str, revision: i64, summary: &str, distributions: &[u8]) -> i64 {
    checksum(&[run.into(), revision.into(), summary.into(), distributions.into()])
}
