//! `groundswell run`: a coordinator and agents in this process by default, over the same path as a cluster.

use anyhow::anyhow;
use groundswell_coordinator::compare::{Comparison, Measured, obstacles_of_baselines};
use groundswell_coordinator::report::Rendered;
use groundswell_scenario::Plan;

use super::company::{Company, reach};
use super::compare::{Known, Runs, compare_with, refusal};
use super::follow::{Ended, follow};
use super::runtime;
use crate::args::{RunArgs, StoreArgs};
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
        let baselines = baselines(args, &plan).await?;
        company.start(args, &plan).await?;
        Ok((follow(args, &company, &source, &plan).await?, baselines))
    });
    // Closes the connection to the coordinator, which waits for that before it ends.
    drop(runtime);
    let outcome = followed.and_then(|(ended, baselines)| {
        output::report(&ended.report);
        let of = Rendered { report: &ended.report, distributions: ended.distributions.as_ref(), plan: Some(&plan) };
        for file in &files {
            file.write(&of).map_err(Failure::incomplete)?;
        }
        let Some(comparison) = compared(&baselines, &ended) else { return Ok(Exit::Code(ended.exit_code)) };
        output::print(&format!("\n{}", comparison.text()));
        // A verdict that is no success says more than any comparison.
        Ok(Exit::Code(if ended.exit_code == 0 { comparison.exit_code(false) } else { ended.exit_code }))
    });
    company.stop();
    outcome
}

/// The runs of `--baseline`. What is in the way of a comparison stops the command before any load is sent.
async fn baselines(args: &RunArgs, plan: &Plan) -> Result<Vec<Known>, Failure> {
    let words: Vec<&str> = args.baseline.iter().map(String::as_str).collect();
    let store = StoreArgs { data_dir: args.data_dir.clone() };
    let elsewhere = args.coordinator.as_deref().map(|url| reach(args, url)).transpose()?;
    let runs = elsewhere.as_ref().map_or(Runs::Store(&store), Runs::Coordinator);
    let baselines = Known::load_all(&words, &runs).await?;
    let measured: Vec<Measured<'_>> = baselines.iter().map(Known::measured).collect();
    let found = obstacles_of_baselines(&measured, &plan.load_hash);
    if found.is_empty() { Ok(baselines) } else { Err(refusal(&found)) }
}

/// The run beside its baselines; none where there are no baselines, or where the run itself is not to be compared.
fn compared(baselines: &[Known], ended: &Ended) -> Option<Comparison> {
    if baselines.is_empty() {
        return None;
    }
    let Some(distributions) = &ended.distributions else {
        output::note("not compared: the run has no histograms");
        return None;
    };
    match compare_with(baselines, &Measured { report: &ended.report, distributions }, false) {
        Ok(comparison) => Some(comparison),
        Err(refused) => {
            output::note(&format!("not compared: {:#}", refused.error));
            None
        }
    }
}
