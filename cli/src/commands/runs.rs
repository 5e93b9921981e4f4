//! `groundswell runs`: what a store has.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context;
use groundswell_coordinator::archive::{self, Archive, ArchiveError, Imported};
use groundswell_coordinator::server::{Retention, merge_deltas, recover};
use groundswell_coordinator::store::{RunRow, RunState, Store, StoreError};

use super::stored::{Answer, id_of};
use super::{runtime, store};
use crate::args::{RunsAction, RunsArgs};
use crate::output::{self, OutFile};
use crate::{Exit, Failure, Outcome};

pub(crate) fn run(args: &RunsArgs) -> Outcome {
    runtime()?.block_on(async {
        match &args.action {
            None => {
                let (_, store) = store::open(&args.store).await?;
                let rows = store.runs().await.map_err(Failure::incomplete)?;
                output::print(&list(&rows));
                store.close().await;
                Ok(Exit::Success)
            }
            Some(RunsAction::Recover { run, out, store }) => {
                let files = OutFile::all(out).map_err(Failure::usage)?;
                let (_, store) = store::open(store).await?;
                recover(&store, run).await.map_err(Failure::incomplete)?;
                let answer = Answer::load(&store, run).await;
                store.close().await;
                let answer = answer?;
                output::report(&answer.report);
                for file in &files {
                    file.write(&answer.rendered()).map_err(Failure::incomplete)?;
                }
                Ok(Exit::Code(answer.report.verdict.status.exit_code()))
            }
            Some(RunsAction::Export { run, file, store }) => {
                let (_, store) = store::open(store).await?;
                let exported = export(&store, run, file).await;
                store.close().await;
                exported
            }
            Some(RunsAction::Import { file, store }) => {
                let (_, store) = store::open(store).await?;
                let imported = import(&store, file).await;
                store.close().await;
                imported
            }
            Some(RunsAction::Tidy { older_than, keep, store }) => {
                let (_, store) = store::open(store).await?;
                tidy(&store, Retention { days: *older_than, newest: *keep }).await?;
                store.close().await;
                Ok(Exit::Success)
            }
        }
    })
}

async fn export(store: &Store, run: &str, path: &Path) -> Outcome {
    let archive = archive::export(store, &id_of(store, run).await?).await.map_err(failure)?;
    let file = File::create(path).with_context(|| format!("can't write {}", path.display()));
    archive.write(BufWriter::new(file.map_err(Failure::usage)?)).map_err(Failure::incomplete)?;
    output::note(&format!("exported: {} to {}", archive.id, path.display()));
    Ok(Exit::Success)
}

async fn import(store: &Store, path: &Path) -> Outcome {
    let file = File::open(path).with_context(|| format!("can't read {}", path.display())).map_err(Failure::usage)?;
    let archive = Archive::read(file).map_err(failure)?;
    let imported = archive::import(store, &archive).await.map_err(failure)?;
    let outcome = match imported {
        Imported::New => "imported",
        Imported::Known => "is there already",
    };
    output::note(&format!("{outcome}: {}", archive.id));
    Ok(Exit::Success)
}

/// What the user asked for can't be, or it went wrong.
fn failure(error: ArchiveError) -> Failure {
    match error {
        ArchiveError::Store(StoreError::NoRun { .. })
        | ArchiveError::Unfinished(_)
        | ArchiveError::Invalid(_)
        | ArchiveError::Different(_)
        | ArchiveError::Taken { .. } => Failure::usage(error),
        ArchiveError::Store(_) | ArchiveError::Write(_) => Failure::incomplete(error),
    }
}

async fn tidy(store: &Store, retention: Retention) -> Result<(), Failure> {
    if retention.days.is_some() || retention.newest.is_some() {
        let deleted = retention.apply(store).await.map_err(Failure::incomplete)?;
        output::note(&format!("deleted: {}", if deleted.is_empty() { "none".to_owned() } else { deleted.join(", ") }));
    }
    let rows = store.runs().await.map_err(Failure::incomplete)?;
    for row in rows.iter().filter(|row| !row.compacted && matches!(row.state, RunState::Finished { .. })) {
        merge_deltas(store, &row.id).await.map_err(Failure::incomplete)?;
        output::note(&format!("merged: {}", row.id));
    }
    Ok(())
}

fn list(rows: &[RunRow]) -> String {
    if rows.is_empty() {
        return "no runs\n".to_owned();
    }
    let mut table = output::plain_table(&["run", "name", "submitted", "state", "labels"]);
    for row in rows {
        let state = match row.state {
            RunState::Unfinished => "unfinished".to_owned(),
            RunState::Finished { exit_code, .. } => format!("exit code {exit_code}"),
        };
        let labels: Vec<String> = row.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        table.add_row([row.id.clone(), row.name.clone(), time(row.submitted_at_us), state, labels.join(" ")]);
    }
    format!("{}\n", table.trim_fmt())
}

fn time(us: i64) -> String {
    let at = UNIX_EPOCH + Duration::from_micros(u64::try_from(us).unwrap_or(0));
    humantime::format_rfc3339_seconds(at).to_string()
}
