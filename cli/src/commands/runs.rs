//! `groundswell runs`: what a store has.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use groundswell_coordinator::server::{merge_deltas, recover};
use groundswell_coordinator::store::{RunRow, RunState, Store};

use super::stored::Answer;
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
            Some(RunsAction::Tidy { older_than, store }) => {
                let (_, store) = store::open(store).await?;
                tidy(&store, *older_than).await?;
                store.close().await;
                Ok(Exit::Success)
            }
        }
    })
}

async fn tidy(store: &Store, older_than: Option<u32>) -> Result<(), Failure> {
    if let Some(days) = older_than {
        let limit = SystemTime::now() - Duration::from_secs(u64::from(days) * 24 * 3_600);
        let limit = limit.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let deleted = store.prune(i64::try_from(limit).unwrap_or(i64::MAX)).await.map_err(Failure::incomplete)?;
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
