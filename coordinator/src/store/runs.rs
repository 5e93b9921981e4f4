//! What was submitted, and the answers that were given.

use std::collections::BTreeMap;

use super::checksum::{Part, checksum};
use super::database::{reading, writing};
use super::entry::int;
use super::error::Trouble;
use super::figures::{Figures, insert_figures};
use super::{Inner, Store, StoreError};

/// A run to be made.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// The id that it gets.
    pub id: String,
    /// The client's id of this submission. The same submission again is the same run.
    pub submission: String,
    /// The name that the user gave it.
    pub name: String,
    /// Hash of the plan, in the caller's way of writing it.
    pub plan_hash: String,
    /// The plan, encoded by the caller.
    pub plan: Vec<u8>,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// Agents to wait for; 0: whatever is free.
    pub agents_wanted: u64,
    /// How long to wait for them, in milliseconds.
    pub wait_ms: u64,
    /// Labels that an agent must have to take part.
    pub selector: BTreeMap<String, String>,
    /// Whether it ends when nobody follows it.
    pub attached: bool,
    /// When, in microseconds since 1970 (UTC).
    pub submitted_at_us: i64,
}

/// What a submission became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Id of the run: that of the first time, if the submission came again.
    pub id: String,
    /// Whether this made it.
    pub new: bool,
}

/// The answer of a run.
#[derive(Debug, Clone)]
pub struct Finish {
    /// The run's id.
    pub run: String,
    /// 1 for the first answer; a later one, with what came in since, is the next number.
    pub revision: u64,
    /// What the command exits with.
    pub exit_code: i32,
    /// When, in microseconds since 1970 (UTC).
    pub finished_at_us: i64,
    /// The report as JSON, or why there is none.
    pub report: Result<Vec<u8>, String>,
    /// What stands beside the report.
    pub figures: Option<Figures>,
}

/// A run in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    /// Its id.
    pub id: String,
    /// The name that the user gave it.
    pub name: String,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// Hash of the plan, in the caller's way of writing it.
    pub plan_hash: String,
    /// When, in microseconds since 1970 (UTC).
    pub submitted_at_us: i64,
    /// Whether its log has been made smaller and is closed.
    pub compacted: bool,
    /// Whether it has an answer.
    pub state: RunState,
    /// The line of its newest report, as JSON.
    pub summary: Option<String>,
}

/// Whether a run has an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// No answer yet: it goes on, or its coordinator was stopped.
    Unfinished,
    /// There is an answer.
    Finished {
        /// Of the newest answer.
        revision: u64,
        /// What the command exits with.
        exit_code: i32,
        /// When, in microseconds since 1970 (UTC).
        finished_at_us: i64,
    },
}

/// The newest answer of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// 1 for the first.
    pub revision: u64,
    /// What the command exits with.
    pub exit_code: i32,
    /// When, in microseconds since 1970 (UTC).
    pub finished_at_us: i64,
    /// The report as JSON, or why there is none.
    pub report: Result<Vec<u8>, String>,
}

/// A run with its plan and its newest answer.
#[derive(Debug, Clone)]
pub struct StoredRun {
    /// As in a list.
    pub row: RunRow,
    /// The client's id of its submission.
    pub submission: String,
    /// The plan, encoded by the caller.
    pub plan: Vec<u8>,
    /// Agents to wait for; 0: whatever is free.
    pub agents_wanted: u64,
    /// How long to wait for them, in milliseconds.
    pub wait_ms: u64,
    /// Labels that an agent must have to take part.
    pub selector: BTreeMap<String, String>,
    /// Whether it ends when nobody follows it.
    pub attached: bool,
    /// None as long as it is unfinished.
    pub report: Option<Report>,
}

/// A row of the table of runs, without its log.
type Row = (String, i64, String, String, String, Vec<u8>, String, i64, i64, i64, String, i64, i64);
/// A row of the table of reports, without its run.
type ReportRow = (i64, i64, i64, Option<Vec<u8>>, Option<String>, i64);
/// A run without its plan, and its newest answer if there is one.
type ListRow = (String, i64, String, String, String, i64, Option<i64>, Option<i64>, Option<i64>, Option<String>);

/// What a run's row has beside what it was made of.
struct RunColumns {
    labels: String,
    selector: String,
    wanted: i64,
    wait: i64,
    sum: i64,
}

/// Inserts a run with a log of its own, in a transaction of either database.
macro_rules! insert_run {
    ($transaction:ident, $run:ident, $columns:ident, $compacted:expr) => {{
        let log: i64 = sqlx::query_scalar(
            "SELECT COALESCE(MAX(log), 0) + 1 FROM \
             (SELECT log FROM runs UNION ALL SELECT log FROM dropped_logs) AS logs",
        )
        .fetch_one(&mut *$transaction)
        .await?;
        sqlx::query(
            "INSERT INTO runs (id, log, compacted, submission, name, plan_hash, plan, labels, agents_wanted, \
             wait_ms, submitted_at_us, selector, attached, checksum) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        )
        .bind(&$run.id)
        .bind(log)
        .bind($compacted)
        .bind(&$run.submission)
        .bind(&$run.name)
        .bind(&$run.plan_hash)
        .bind($run.plan.as_slice())
        .bind(&$columns.labels)
        .bind($columns.wanted)
        .bind($columns.wait)
        .bind($run.submitted_at_us)
        .bind(&$columns.selector)
        .bind(i64::from($run.attached))
        .bind($columns.sum)
        .execute(&mut *$transaction)
        .await
    }};
}

/// Inserts an answer with what stands beside it, in a transaction of either database.
macro_rules! insert_report {
    ($transaction:ident, $finish:ident, $revision:ident) => {{
        let exit_code = i64::from($finish.exit_code);
        let (report, problem) =
            ($finish.report.as_ref().ok().map(Vec::as_slice), $finish.report.as_ref().err().map(String::as_str));
        let sum = sum_of_report(&$finish.run, $revision, exit_code, $finish.finished_at_us, report, problem);
        let inserted = sqlx::query(
            "INSERT INTO reports (run, revision, exit_code, finished_at_us, report, problem, checksum) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(&$finish.run)
        .bind($revision)
        .bind(exit_code)
        .bind($finish.finished_at_us)
        .bind(report)
        .bind(problem)
        .bind(sum)
        .execute(&mut *$transaction)
        .await;
        match (&$finish.figures, inserted) {
            (Some(figures), Ok(_)) => insert_figures!($transaction, $finish.run.as_str(), $revision, figures),
            (_, inserted) => inserted,
        }
    }};
}

impl Store {
    /// Stores a run, with an empty log. The same submission again changes nothing and says which run it is.
    ///
    /// # Errors
    /// [`StoreError::OtherPlan`] when the submission came before with another plan; [`StoreError::Duplicate`] when the
    /// id is taken.
    pub async fn create_run(&self, run: &NewRun) -> Result<Created, StoreError> {
        let inner = &*self.inner;
        inner.check_stopped()?;
        let columns = inner.columns(run)?;
        writing!(inner, "store a run", transaction => {
            let known: Option<(String, String)> =
                sqlx::query_as("SELECT id, plan_hash FROM runs WHERE submission = $1")
                    .bind(&run.submission).fetch_optional(&mut *transaction).await?;
            if let Some((id, plan_hash)) = known {
                again(run, id, &plan_hash).map_err(Trouble::from)
            } else {
                insert_run!(transaction, run, columns, 0_i64)?;
                Ok(Created { id: run.id.clone(), new: true })
            }
        })
    }

    /// Stores the answer of a run, all of it or nothing. An answer never changes: the same one again is fine, another
    /// one under the same number is refused.
    ///
    /// # Errors
    /// [`StoreError::NoRun`]; [`StoreError::Revision`] when it is not the next revision.
    pub async fn finish_run(&self, finish: &Finish) -> Result<(), StoreError> {
        let inner = &*self.inner;
        inner.check_stopped()?;
        let revision = int("a revision", finish.revision)?;
        writing!(inner, "store a report", transaction => {
            let newest: Option<i64> = sqlx::query_scalar(
                "SELECT (SELECT COALESCE(MAX(revision), 0) FROM reports WHERE run = id) FROM runs WHERE id = $1",
            ).bind(&finish.run).fetch_optional(&mut *transaction).await?;
            let newest = newest.ok_or_else(|| StoreError::NoRun { run: finish.run.clone() })?;
            let same: Option<ReportRow> = sqlx::query_as(
                "SELECT revision, exit_code, finished_at_us, report, problem, checksum FROM reports \
                 WHERE run = $1 AND revision = $2",
            ).bind(&finish.run).bind(revision).fetch_optional(&mut *transaction).await?;
            if !is_stored(finish, newest, same.as_ref())? {
                insert_report!(transaction, finish, revision)?;
            }
            Ok::<(), Trouble>(())
        })
    }

    /// Stores a run that ended elsewhere with its newest answer, all of it or nothing. It has no log: it counts as
    /// compacted, and its answer keeps its number.
    ///
    /// # Errors
    /// [`StoreError::Duplicate`] when the id or the submission is there already.
    pub async fn import_run(&self, run: &NewRun, finish: &Finish) -> Result<(), StoreError> {
        let inner = &*self.inner;
        inner.check_stopped()?;
        let columns = inner.columns(run)?;
        let revision = int("a revision", finish.revision)?;
        writing!(inner, "store an imported run", transaction => {
            insert_run!(transaction, run, columns, 1_i64)?;
            insert_report!(transaction, finish, revision)?;
            Ok::<(), Trouble>(())
        })
    }

    /// All runs, the newest submission first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn runs(&self) -> Result<Vec<RunRow>, StoreError> {
        let inner = &*self.inner;
        let rows: Vec<ListRow> = reading!(inner, "list runs", pool => {
            Ok(sqlx::query_as(
                "SELECT id, compacted, name, plan_hash, labels, submitted_at_us, reports.revision, exit_code, \
                 finished_at_us, summary \
                 FROM runs LEFT JOIN reports ON reports.run = id \
                 AND reports.revision = (SELECT MAX(revision) FROM reports WHERE run = id) \
                 LEFT JOIN figures ON figures.run = id AND figures.revision = reports.revision \
                 ORDER BY submitted_at_us DESC, log DESC",
            ).fetch_all(pool).await?)
        })?;
        rows.into_iter().map(|row| inner.listed(row)).collect()
    }

    /// A run with its plan and its newest answer.
    ///
    /// # Errors
    /// [`StoreError::NoRun`]; [`StoreError::Damaged`] when something of it is not what was written.
    pub async fn run(&self, id: &str) -> Result<StoredRun, StoreError> {
        let inner = &*self.inner;
        let (run, report): (Option<Row>, Option<ReportRow>) = reading!(inner, "read a run", pool => {
            let run = sqlx::query_as(
                "SELECT id, compacted, submission, name, plan_hash, plan, labels, agents_wanted, wait_ms, \
                 submitted_at_us, selector, attached, checksum FROM runs WHERE id = $1",
            ).bind(id).fetch_optional(pool).await?;
            let report = sqlx::query_as(
                "SELECT revision, exit_code, finished_at_us, report, problem, checksum FROM reports \
                 WHERE run = $1 ORDER BY revision DESC LIMIT 1",
            ).bind(id).fetch_optional(pool).await?;
            Ok((run, report))
        })?;
        let row = run.ok_or_else(|| StoreError::NoRun { run: id.to_owned() })?;
        inner.stored(row, report.map(|report| inner.report(id, report)).transpose()?)
    }
}

impl Inner {
    fn columns(&self, run: &NewRun) -> Result<RunColumns, StoreError> {
        let labels = serde_json::to_string(&run.labels).map_err(|error| self.damaged(error.to_string()))?;
        let selector = selector_text(&run.selector).map_err(|error| self.damaged(error.to_string()))?;
        let wanted = int("the number of agents wanted", run.agents_wanted)?;
        let wait = int("the time to wait for agents", run.wait_ms)?;
        let parts: [Part<'_>; 9] = [
            run.id.as_str().into(),
            run.submission.as_str().into(),
            run.name.as_str().into(),
            run.plan_hash.as_str().into(),
            run.plan.as_slice().into(),
            labels.as_str().into(),
            wanted.into(),
            wait.into(),
            run.submitted_at_us.into(),
        ];
        let sum = sum_of_run(parts, &selector, run.attached);
        Ok(RunColumns { labels, selector, wanted, wait, sum })
    }

    fn listed(&self, row: ListRow) -> Result<RunRow, StoreError> {
        let (id, compacted, name, plan_hash, labels, submitted_at_us, revision, exit_code, finished_at_us, summary) =
            row;
        let state = match (revision, exit_code, finished_at_us) {
            (Some(revision), Some(exit_code), Some(finished_at_us)) => RunState::Finished {
                revision: revision.unsigned_abs(),
                exit_code: self.exit_code(&id, exit_code)?,
                finished_at_us,
            },
            _ => RunState::Unfinished,
        };
        let labels = self.labels(&id, &labels)?;
        Ok(RunRow { id, name, labels, plan_hash, submitted_at_us, compacted: compacted != 0, state, summary })
    }

    fn stored(&self, row: Row, report: Option<Report>) -> Result<StoredRun, StoreError> {
        let (
            id,
            compacted,
            submission,
            name,
            plan_hash,
            plan,
            labels,
            wanted,
            wait,
            submitted_at_us,
            selector,
            attached,
            stored,
        ) = row;
        let parts: [Part<'_>; 9] = [
            id.as_str().into(),
            submission.as_str().into(),
            name.as_str().into(),
            plan_hash.as_str().into(),
            plan.as_slice().into(),
            labels.as_str().into(),
            wanted.into(),
            wait.into(),
            submitted_at_us.into(),
        ];
        let attached = attached != 0;
        self.compare(stored, sum_of_run(parts, &selector, attached), || format!("run {id}"))?;
        let state = report.as_ref().map_or(RunState::Unfinished, |report| RunState::Finished {
            revision: report.revision,
            exit_code: report.exit_code,
            finished_at_us: report.finished_at_us,
        });
        let labels = self.labels(&id, &labels)?;
        let selector = if selector.is_empty() { BTreeMap::new() } else { self.labels(&id, &selector)? };
        let (compacted, summary) = (compacted != 0, None);
        let row = RunRow { id, name, labels, plan_hash, submitted_at_us, compacted, state, summary };
        let (agents_wanted, wait_ms) = (wanted.unsigned_abs(), wait.unsigned_abs());
        Ok(StoredRun { row, submission, plan, agents_wanted, wait_ms, selector, attached, report })
    }

    fn report(&self, run: &str, row: ReportRow) -> Result<Report, StoreError> {
        let (revision, exit_code, finished_at_us, report, problem, stored) = row;
        let sum = sum_of_report(run, revision, exit_code, finished_at_us, report.as_deref(), problem.as_deref());
        self.compare(stored, sum, || format!("revision {revision} of the report of run {run}"))?;
        Ok(Report {
            revision: revision.unsigned_abs(),
            exit_code: self.exit_code(run, exit_code)?,
            finished_at_us,
            report: report.ok_or_else(|| problem.unwrap_or_default()),
        })
    }

    fn exit_code(&self, run: &str, code: i64) -> Result<i32, StoreError> {
        i32::try_from(code).map_err(|_| self.damaged(format!("the exit code of run {run} is {code}")))
    }

    fn labels(&self, run: &str, text: &str) -> Result<BTreeMap<String, String>, StoreError> {
        serde_json::from_str(text).map_err(|error| self.damaged(format!("the labels of run {run}: {error}")))
    }
}

/// Empty where any agent will do, so that runs of before there were selectors keep their checksums.
fn selector_text(selector: &BTreeMap<String, String>) -> Result<String, serde_json::Error> {
    if selector.is_empty() { Ok(String::new()) } else { serde_json::to_string(selector) }
}

/// What an older release could not say is only in it where it is said.
fn sum_of_run(parts: [Part<'_>; 9], selector: &str, attached: bool) -> i64 {
    let mut parts = Vec::from(parts);
    if !selector.is_empty() {
        parts.push(selector.into());
    }
    if !attached {
        parts.push("detached".into());
    }
    checksum(&parts)
}

fn sum_of_report(
    run: &str,
    revision: i64,
    exit_code: i64,
    finished_at_us: i64,
    report: Option<&[u8]>,
    problem: Option<&str>,
) -> i64 {
    let (report, problem) = (Part::from(report), Part::from(problem));
    checksum(&[run.into(), revision.into(), exit_code.into(), finished_at_us.into(), report, problem])
}

/// A submission that came again.
fn again(run: &NewRun, id: String, plan_hash: &str) -> Result<Created, StoreError> {
    if plan_hash == run.plan_hash {
        return Ok(Created { id, new: false });
    }
    Err(StoreError::OtherPlan { submission: run.submission.clone(), run: id })
}

/// Whether this very answer is stored; an error if it can't be.
fn is_stored(finish: &Finish, newest: i64, same: Option<&ReportRow>) -> Result<bool, StoreError> {
    let refused = |why: String| Err(StoreError::Revision { run: finish.run.clone(), revision: finish.revision, why });
    match same {
        Some((_, exit_code, _, report, problem, _)) => {
            let (report, problem) = (report.as_ref(), problem.as_ref());
            if *exit_code == i64::from(finish.exit_code)
                && report == finish.report.as_ref().ok()
                && problem == finish.report.as_ref().err()
            {
                return Ok(true);
            }
            refused("is there with other content".to_owned())
        }
        None if finish.revision == newest.unsigned_abs() + 1 => Ok(false),
        None => refused(format!("can't follow revision {newest}")),
    }
}
