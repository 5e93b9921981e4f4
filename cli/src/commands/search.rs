//! `groundswell search`: one run after another, each at a level that the last ones suggest.

use anyhow::anyhow;
use groundswell_coordinator::search::{Next, Search, SearchReport};
use groundswell_scenario::{Plan, PlanSource};

use super::company::Company;
use super::follow::follow;
use super::runtime;
use crate::args::RunArgs;
use crate::output::{self, OutFile};
use crate::{Exit, Failure, Outcome, plan_file};

pub(crate) fn run(args: &RunArgs) -> Outcome {
    let files = OutFile::all_of_search(&args.out).map_err(Failure::usage)?;
    if !args.baseline.is_empty() {
        return Err(Failure::usage(anyhow!("--baseline is for `run`: a search has no load of its own to compare")));
    }
    let (source, plan) = plan_file::load(&args.plan)?;
    let Some(search) = Search::of(&plan) else {
        let hint = "give a scenario `load: { search: { rate: { from: 10/s, to: 5000/s } }, for: 20s }`";
        return Err(Failure::usage(anyhow!("{}: this plan has no search; {hint}", source.name)));
    };
    let mut company = Company::default();
    let runtime = runtime()?;
    let searched = runtime.block_on(async {
        company.start(args, &plan).await?;
        steps(args, &company, &source, search).await
    });
    drop(runtime);
    let outcome = searched.and_then(|report| {
        output::search_report(&report);
        for file in &files {
            file.write_search(&report).map_err(Failure::incomplete)?;
        }
        Ok(Exit::Code(report.exit_code()))
    });
    company.stop();
    outcome
}

async fn steps(
    args: &RunArgs,
    company: &Company,
    source: &PlanSource,
    mut search: Search,
) -> Result<SearchReport, Failure> {
    loop {
        let level = match search.next() {
            Next::Try(level) => level,
            Next::Done(report) => return Ok(*report),
        };
        let source = PlanSource { search_level: Some(level), ..source.clone() };
        let plan = Plan::compile(&source).map_err(Failure::usage)?;
        output::note(&format!("trying {}", search.label(level)));
        let ended = follow(args, company, &source, &plan).await?;
        let step = search.record(level, &ended.report);
        output::note(&step.line());
    }
}
