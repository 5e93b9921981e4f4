//! `groundswell report`: a stored run, rendered.

use anyhow::anyhow;
use groundswell_coordinator::report::render;

use super::stored::{Answer, id_of};
use super::{runtime, store};
use crate::args::ReportArgs;
use crate::output::{self, OutFile};
use crate::{Exit, Failure, Outcome};

pub(crate) fn run(args: &ReportArgs) -> Outcome {
    let files = OutFile::all(&args.out).map_err(Failure::usage)?;
    let answer = runtime()?.block_on(async {
        let (_, store) = store::open(&args.store).await?;
        let answer = Answer::load(&store, &id_of(&store, &args.run).await?).await;
        store.close().await;
        answer
    })?;
    match args.format {
        Some(format) => {
            let page = render(format, &answer.rendered()).map_err(|error| Failure::incomplete(anyhow!(error)))?;
            output::print_bytes(&page);
        }
        None if files.is_empty() => output::report(&answer.report),
        None => {}
    }
    for file in &files {
        file.write(&answer.rendered()).map_err(Failure::incomplete)?;
    }
    Ok(Exit::Success)
}
