//! `groundswell report`: a stored run, rendered.

use anyhow::{Context, anyhow};
use groundswell_coordinator::report::Report;
use groundswell_coordinator::store::Store;

use super::{runtime, store};
use crate::args::ReportArgs;
use crate::output::{self, OutFile};
use crate::{Exit, Failure, Outcome};

pub(crate) fn run(args: &ReportArgs) -> Outcome {
    let files =
        args.out.iter().map(|path| OutFile::new(path)).collect::<Result<Vec<_>, _>>().map_err(Failure::usage)?;
    runtime()?.block_on(async {
        let (_, store) = store::open(&args.store).await?;
        let report = load(&store, &args.run).await?;
        store.close().await;
        if files.is_empty() {
            output::report(&report);
        }
        for file in &files {
            file.write(&report).map_err(Failure::incomplete)?;
        }
        Ok(Exit::Success)
    })
}

async fn load(store: &Store, run: &str) -> Result<Report, Failure> {
    let id = if run == "last" {
        let rows = store.runs().await.map_err(Failure::incomplete)?;
        rows.first().map(|row| row.id.clone()).ok_or_else(|| Failure::usage(anyhow!("the store has no runs")))?
    } else {
        run.to_owned()
    };
    let stored = store.run(&id).await.map_err(Failure::usage)?;
    let Some(report) = stored.report else {
        let hint = "if its coordinator will not come back, `groundswell runs recover` makes one of what had arrived";
        return Err(Failure::incomplete(anyhow!("run {id} has no report yet; {hint}")));
    };
    let json = report.report.map_err(|problem| Failure::incomplete(anyhow!("run {id} has no report: {problem}")))?;
    serde_json::from_slice(&json).context("the report can't be read").map_err(Failure::incomplete)
}
