//! `groundswell compare`: a run beside the runs that it is judged by. `groundswell run --baseline` does the same with the
//! run that has just ended.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, anyhow};
use groundswell_coordinator::archive::Archive;
use groundswell_coordinator::compare::{Comparison, Measured, Obstacle, compare, obstacles};
use groundswell_coordinator::report::{Distributions, Format, Report};
use groundswell_coordinator::store::Store;

use super::stored::{Answer, id_of};
use super::{runtime, store};
use crate::args::{CompareArgs, StoreArgs};
use crate::client::{Client, Reach};
use crate::output::{self, OutFile};
use crate::{Exit, Failure, Outcome};

pub(crate) fn run(args: &CompareArgs) -> Outcome {
    let files = OutFile::all_of_comparison(&args.out).map_err(Failure::usage)?;
    let words: Vec<&str> = args.base.iter().chain([&args.run]).map(String::as_str).collect();
    let mut known = runtime()?.block_on(Known::load_all(&words, &Runs::Store(&args.store)))?;
    let Some(run) = known.pop() else { return Err(Failure::usage(anyhow!("there is no run to compare"))) };
    let comparison = compare_with(&known, &run.measured(), args.force)?;
    if let Some(format) = args.format.or(files.is_empty().then_some(Format::Text)) {
        output::print(&comparison.render(format).map_err(Failure::incomplete)?);
    }
    for file in &files {
        file.write_comparison(&comparison).map_err(Failure::incomplete)?;
    }
    Ok(Exit::Code(comparison.exit_code(args.strict)))
}

/// Compares a run with its baselines.
///
/// # Errors
/// Where they can't be compared, unless `force` makes notes of the reasons.
pub(super) fn compare_with(baselines: &[Known], run: &Measured<'_>, force: bool) -> Result<Comparison, Failure> {
    let baselines: Vec<Measured<'_>> = baselines.iter().map(Known::measured).collect();
    let found = obstacles(&baselines, run);
    if !found.is_empty() && !force {
        return Err(refusal(&found));
    }
    let notes = found.iter().map(|obstacle| format!("compared by force: {obstacle}")).collect();
    Ok(compare(&baselines, run, notes))
}

/// Says all that is in the way at once.
pub(super) fn refusal(obstacles: &[Obstacle]) -> Failure {
    let reasons: Vec<String> = obstacles.iter().map(ToString::to_string).collect();
    Failure::usage(anyhow!("{}; `groundswell compare --force` compares them all the same", reasons.join("; ")))
}

/// Where runs that are no files are.
pub(super) enum Runs<'a> {
    Store(&'a StoreArgs),
    Coordinator(&'a Reach),
}

/// A run that has ended, with what a comparison needs of it.
pub(super) struct Known {
    report: Report,
    distributions: Distributions,
}

impl Known {
    /// Runs by id, as `last` (of a store), or as files of `runs export`. A store is opened only if one of them is there.
    pub(super) async fn load_all(words: &[&str], runs: &Runs<'_>) -> Result<Vec<Self>, Failure> {
        let store = match runs {
            Runs::Store(args) if words.iter().any(|word| !is_file(word)) => Some(store::open(args).await?.1),
            _ => None,
        };
        let mut all = Vec::with_capacity(words.len());
        for word in words {
            all.push(match (&store, runs) {
                _ if is_file(word) => Known::of_file(Path::new(word))?,
                (Some(store), _) => Known::of_store(store, word).await?,
                (None, Runs::Coordinator(reach)) => Known::of_coordinator(reach, word).await?,
                (None, Runs::Store(_)) => return Err(Failure::usage(anyhow!("there is no file {word} any more"))),
            });
        }
        if let Some(store) = store {
            store.close().await;
        }
        Ok(all)
    }

    async fn of_store(store: &Store, word: &str) -> Result<Self, Failure> {
        let Answer { report, distributions, .. } = Answer::load(store, &id_of(store, word).await?).await?;
        Known::of(report, distributions)
    }

    async fn of_coordinator(reach: &Reach, run: &str) -> Result<Self, Failure> {
        let client = Client::new(reach)?;
        Known::of(client.report(run).await?, client.distributions(run).await?)
    }

    fn of_file(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let file = File::open(path).with_context(|| format!("can't read {shown}")).map_err(Failure::usage)?;
        let archive = Archive::read(file).with_context(|| format!("{shown}")).map_err(Failure::usage)?;
        let report =
            archive.answer.report.as_deref().ok_or_else(|| anyhow!("{shown}: run {} has no report", archive.id));
        let report = serde_json::from_str(report.map_err(Failure::usage)?);
        let report = report.with_context(|| format!("{shown}: the report can't be read")).map_err(Failure::usage)?;
        Known::of(report, archive.distributions().with_context(|| format!("{shown}")).map_err(Failure::usage)?)
    }

    fn of(report: Report, distributions: Option<Distributions>) -> Result<Self, Failure> {
        let distributions = distributions.ok_or_else(|| {
            Failure::usage(anyhow!("run {} is of a release that kept no histograms beside the report", report.run.id))
        })?;
        Ok(Known { report, distributions })
    }

    pub(super) fn measured(&self) -> Measured<'_> {
        Measured { report: &self.report, distributions: &self.distributions }
    }
}

fn is_file(word: &str) -> bool {
    Path::new(word).is_file()
}
