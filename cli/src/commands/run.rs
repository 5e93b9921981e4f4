//! `groundswell run`: a coordinator and agents in this process by default, over the same path as a cluster.

use anyhow::anyhow;
use groundswell_coordinator::report::Rendered;

use super::company::Company;
use super::follow::follow;
use super::runtime;
use crate::args::RunArgs;
use crate::output::{self, OutFile};
use crate::{Exit, Failure, Outcome, plan_file};

pub(crate) fn run(args: &RunArgs) -> Outcome {
    let files = OutFile::all(&args.out).map_err(Failure::usage)?;
    let (source, plan) = plan_file::load(&args.plan)?;
    if plan.search.is_some() {
        return Err(Failure::usage(anyhow!(
            "{}: this plan searches for its load; use groundswell search",
            source.name
        )));
    }
    let mut company = Company::default();
    let runtime = runtime()?;
    let followed = runtime.block_on(async {
        company.start(args, &plan).await?;
        follow(args, &company, &source, &plan).await
    });
    // Closes the connection to the coordinator, which waits for that before it ends.
    drop(runtime);
    let outcome = followed.and_then(|ended| {
        output::report(&ended.report);
        let of = Rendered { report: &ended.report, distributions: ended.distributions.as_ref(), plan: Some(&plan) };
        for file in &files {
            file.write(&of).map_err(Failure::incomplete)?;
        }
        Ok(Exit::Code(ended.exit_code))
    });
    company.stop();
    outcome
}
