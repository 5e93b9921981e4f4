//! A run as one file: exported from one store, imported into another.
//!
//! The file is JSON, gzipped: the plan with its data files, the newest answer, the histograms behind it, labels and
//! times. What must come out as it went in, byte for byte, is in it as text or base64. The log stays behind: an imported
//! run counts as compacted.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use groundswell_scenario::PlanSource;
use serde::{Deserialize, Serialize};

use crate::report::{Distributions, Report, Summary};
use crate::store::{Figures, Finish, NewRun, RunState, Store, StoreError};

/// Value of `schema` in the file.
pub const SCHEMA: &str = "groundswell.run/v1";

/// Most bytes that a file may become when inflated; the histograms in it are deflated once more.
const MOST_BYTES: u64 = 512 << 20;

/// A finished run with everything but its log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Archive {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// The run's id.
    pub id: String,
    /// The client's id of its submission.
    pub submission: String,
    /// The name that the user gave it.
    pub name: String,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// When it was submitted, in microseconds since 1970 (UTC).
    pub submitted_at_us: i64,
    /// Agents that it waited for.
    pub agents_wanted: u64,
    /// How long it would wait for them, in milliseconds.
    pub wait_ms: u64,
    /// Labels that an agent had to have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub selector: BTreeMap<String, String>,
    /// Whether it was to end when nobody followed it.
    pub attached: bool,
    /// What was to be done.
    pub plan: ArchivedPlan,
    /// What came of it.
    pub answer: Answer,
}

/// The plan of a run, as its author wrote it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArchivedPlan {
    /// The file's name.
    pub name: String,
    /// The YAML text.
    pub text: String,
    /// Data files by the path written in the plan, in base64.
    pub files: BTreeMap<String, String>,
    /// The level at which a search ran it, in decimal: as text it stays exactly this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search_level: Option<String>,
    /// Hash over all of this.
    pub hash: String,
}

/// The newest answer of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// 1 for the first; later ones took in what came late.
    pub revision: u64,
    /// What the command exits with.
    pub exit_code: i32,
    /// When, in microseconds since 1970 (UTC).
    pub finished_at_us: i64,
    /// The report, as the text of its JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<String>,
    /// Why there is no report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The histograms behind the report, as [`Distributions::pack`] writes them, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distributions: Option<String>,
}

/// Why a run can't be exported or imported.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It goes on, or its coordinator was stopped.
    #[error("run {0} has no answer yet: only what is finished can be exported")]
    Unfinished(String),
    /// The file is no run, or something in it contradicts something else.
    #[error("this is no run that can be imported: {0}")]
    Invalid(String),
    /// The run is in the store, with another content.
    #[error("run {0} is in the store with other content: nothing was imported")]
    Different(String),
    /// The store has a run of the same submission under another id.
    #[error("the store has another run of submission {submission:?}: run {run} was not imported")]
    Taken {
        /// The run in the file.
        run: String,
        /// The submission in the file.
        submission: String,
    },
    /// It can't be written down.
    #[error("the run can't be written: {0}")]
    Write(#[from] std::io::Error),
}

/// What became of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Imported {
    /// The store has the run now.
    New,
    /// It had it before, the same in everything.
    Known,
}

/// A finished run of a store.
///
/// # Errors
/// [`ArchiveError::Unfinished`] without an answer; otherwise see [`ArchiveError`].
pub async fn export(store: &Store, run: &str) -> Result<Archive, ArchiveError> {
    let stored = store.run(run).await?;
    let answer = stored.report.ok_or_else(|| ArchiveError::Unfinished(run.to_owned()))?;
    let source = groundswell_proto::stored_plan(&stored.plan).map_err(|error| store.damaged(run, error))?;
    let (report, problem) = match answer.report {
        Ok(json) => (Some(String::from_utf8(json).map_err(|error| store.damaged(run, error))?), None),
        Err(problem) => (None, Some(problem)),
    };
    let distributions = store.distributions(run).await?.map(|packed| BASE64.encode(packed));
    Ok(Archive {
        schema: SCHEMA.to_owned(),
        id: stored.row.id,
        submission: stored.submission,
        name: stored.row.name,
        labels: stored.row.labels,
        submitted_at_us: stored.row.submitted_at_us,
        agents_wanted: stored.agents_wanted,
        wait_ms: stored.wait_ms,
        selector: stored.selector,
        attached: stored.attached,
        plan: ArchivedPlan::of(source, stored.row.plan_hash),
        answer: Answer {
            revision: answer.revision,
            exit_code: answer.exit_code,
            finished_at_us: answer.finished_at_us,
            report,
            problem,
            distributions,
        },
    })
}

/// Puts a run into a store: all of it, or nothing.
///
/// # Errors
/// [`ArchiveError::Invalid`] when something in it does not fit: its plan is checked by its hash, its report by its form,
/// its histograms one by one. [`ArchiveError::Different`] when the store has another run of this id,
/// [`ArchiveError::Taken`] when it has one of this submission.
pub async fn import(store: &Store, archive: &Archive) -> Result<Imported, ArchiveError> {
    let (run, finish) = archive.checked()?;
    match store.run(&run.id).await {
        Ok(known) if known.row.state == RunState::Unfinished => return Err(ArchiveError::Different(run.id)),
        Ok(_) if export(store, &run.id).await? == *archive => return Ok(Imported::Known),
        Ok(_) => return Err(ArchiveError::Different(run.id)),
        Err(StoreError::NoRun { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    match store.import_run(&run, &finish).await {
        Ok(()) => Ok(Imported::New),
        Err(StoreError::Duplicate { .. }) => Err(ArchiveError::Taken { run: run.id, submission: run.submission }),
        Err(error @ StoreError::TooLarge { .. }) => Err(ArchiveError::Invalid(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

impl Archive {
    /// Writes the file: JSON, gzipped.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn write(&self, to: impl Write) -> Result<(), ArchiveError> {
        let mut out = GzEncoder::new(to, Compression::default());
        serde_json::to_writer_pretty(&mut out, self).map_err(std::io::Error::from)?;
        out.finish()?.flush()?;
        Ok(())
    }

    /// Reads the file; what is in it is checked by [`import`].
    ///
    /// # Errors
    /// [`ArchiveError::Invalid`] when it is none.
    pub fn read(from: impl Read) -> Result<Self, ArchiveError> {
        let mut inflated = GzDecoder::new(from).take(MOST_BYTES);
        let read: Result<Archive, _> = serde_json::from_reader(std::io::BufReader::new(&mut inflated));
        if inflated.limit() == 0 {
            return Err(ArchiveError::Invalid(format!("it takes more than {MOST_BYTES} bytes")));
        }
        read.map_err(|error| ArchiveError::Invalid(error.to_string()))
    }

    /// The histograms behind the report, if there are some.
    ///
    /// # Errors
    /// [`ArchiveError::Invalid`] when they are none.
    pub fn distributions(&self) -> Result<Option<Distributions>, ArchiveError> {
        let Some(packed) = &self.answer.distributions else { return Ok(None) };
        let packed =
            BASE64.decode(packed).map_err(|error| ArchiveError::Invalid(format!("its histograms: {error}")))?;
        Distributions::unpack(&packed).map(Some).map_err(|error| ArchiveError::Invalid(error.to_string()))
    }

    /// What the store is to take.
    fn checked(&self) -> Result<(NewRun, Finish), ArchiveError> {
        let invalid = |what: String| ArchiveError::Invalid(what);
        if self.schema != SCHEMA {
            return Err(invalid(format!("its schema is {:?}, not {SCHEMA:?}", self.schema)));
        }
        if !is_id(&self.id) || self.answer.revision == 0 {
            return Err(invalid(format!("{:?} is no id, or revision {} none", self.id, self.answer.revision)));
        }
        let plan = self.plan.to_store()?;
        let (report, figures) = match (&self.answer.report, &self.answer.problem) {
            (Some(report), None) => (Ok(report.clone().into_bytes()), self.figures(report)?),
            (None, Some(problem)) => (Err(problem.clone()), None),
            _ => return Err(invalid("an answer is a report, or the reason why there is none".to_owned())),
        };
        let Answer { revision, exit_code, finished_at_us, .. } = self.answer;
        let run = NewRun {
            id: self.id.clone(),
            submission: self.submission.clone(),
            name: self.name.clone(),
            plan_hash: self.plan.hash.clone(),
            plan,
            labels: self.labels.clone(),
            agents_wanted: self.agents_wanted,
            wait_ms: self.wait_ms,
            selector: self.selector.clone(),
            attached: self.attached,
            submitted_at_us: self.submitted_at_us,
        };
        Ok((run, Finish { run: self.id.clone(), revision, exit_code, finished_at_us, report, figures }))
    }

    /// What stands beside the report, if histograms do.
    fn figures(&self, report: &str) -> Result<Option<Figures>, ArchiveError> {
        let invalid = |what: String| ArchiveError::Invalid(what);
        let report: Report = serde_json::from_str(report).map_err(|error| invalid(format!("its report: {error}")))?;
        if report.schema != crate::report::SCHEMA {
            return Err(invalid(format!("the schema of its report is {:?}", report.schema)));
        }
        if (&report.run.id, &report.run.plan_hash) != (&self.id, &self.plan.hash) {
            return Err(invalid("its report is that of another run".to_owned()));
        }
        let Some(packed) = &self.answer.distributions else { return Ok(None) };
        let distributions = BASE64.decode(packed).map_err(|error| invalid(format!("its histograms: {error}")))?;
        Distributions::unpack(&distributions).map_err(|error| invalid(error.to_string()))?;
        let summary = serde_json::to_string(&Summary::from(&report)).map_err(|error| invalid(error.to_string()))?;
        Ok(Some(Figures { summary, distributions }))
    }
}

impl ArchivedPlan {
    fn of(source: PlanSource, hash: String) -> Self {
        let PlanSource { name, text, files, search_level } = source;
        let files = files.into_iter().filter_map(|(path, content)| Some((path, BASE64.encode(content.ok()?))));
        let search_level = search_level.map(|level| level.to_string());
        ArchivedPlan { name, text, files: files.collect(), search_level, hash }
    }

    /// The bytes that a store keeps.
    fn to_store(&self) -> Result<Vec<u8>, ArchiveError> {
        let mut files = BTreeMap::new();
        for (path, content) in &self.files {
            let content = BASE64.decode(content);
            let content = content.map_err(|error| ArchiveError::Invalid(format!("its file {path}: {error}")))?;
            files.insert(path.clone(), Ok(content));
        }
        let level = self.search_level.as_deref().map(str::parse).transpose();
        let search_level = level.map_err(|_| ArchiveError::Invalid("its search level is no number".to_owned()))?;
        let source = PlanSource { name: self.name.clone(), text: self.text.clone(), files, search_level };
        if source.hash() != self.hash {
            return Err(ArchiveError::Invalid(format!("its plan has the hash {}, not {}", source.hash(), self.hash)));
        }
        Ok(groundswell_proto::plan_to_store(&source, &self.hash))
    }
}

/// Ids are words in paths and on command lines.
fn is_id(id: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (1..=64).contains(&id.len()) && id.chars().all(plain) && id != "last"
}
