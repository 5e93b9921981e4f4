//! Submits a plan to a coordinator and follows the run.

use std::time::Duration;

use anyhow::anyhow;
use groundswell_coordinator::api::{PlanFiles, Submission};
use groundswell_coordinator::report::{Distributions, Report};
use groundswell_scenario::{Plan, PlanSource};
use tokio::time::{Instant, sleep};

use super::company::Company;
use super::{EXIT_INTERRUPTED, Signals};
use crate::args::RunArgs;
use crate::client::{Client, Event, Events};
use crate::live::Live;
use crate::{Exit, Failure};

/// A coordinator that is away for longer does not come back: it needs about a minute to restart with a long run.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two tries to find it.
const RETRY: Duration = Duration::from_millis(500);

/// How a run ended.
pub(super) struct Ended {
    pub(super) exit_code: u8,
    pub(super) report: Report,
    /// The histograms behind it.
    pub(super) distributions: Option<Distributions>,
}

/// Submits a plan and follows its run to the end. The first interrupt stops the load, a second one leaves at once.
pub(super) async fn follow(
    args: &RunArgs,
    company: &Company,
    source: &PlanSource,
    plan: &Plan,
) -> Result<Ended, Failure> {
    let client = Client::new(&company.coordinator)?;
    let submission = Submission {
        plan: PlanFiles::from(source),
        agents: company.agents_wanted,
        wait_s: f64::from(args.wait),
        labels: args.label.iter().cloned().collect(),
        selector: args.on.iter().cloned().collect(),
        submission: Some(format!("{:032x}", rand::random::<u128>())),
        attached: true,
    };
    let run = client.submit(&submission).await?.id;
    let mut events = client.events(&run).await?;
    let mut live = Live::new(plan, args.plain);
    let mut signals = Signals::new();
    let mut interrupted = false;
    loop {
        tokio::select! {
            event = events.next() => match event {
                Ok(Event::Progress(progress)) => live.show(&progress),
                Ok(Event::Finished(finished)) => {
                    live.end();
                    let exit_code = u8::try_from(finished.exit_code).unwrap_or(3);
                    return match finished.problem {
                        Some(problem) => Err(Failure { exit: Exit::Code(exit_code), ..Failure::incomplete(anyhow!(problem)) }),
                        None => {
                            let report = client.report(&run).await?;
                            Ok(Ended { exit_code, report, distributions: client.distributions(&run).await? })
                        }
                    };
                }
                Err(lost) if args.coordinator.is_none() => return Err(lost),
                Err(lost) => {
                    live.say(&format!("{:#}; trying to find it again", lost.error));
                    events = again(&client, &run, lost).await?;
                    live.say("the coordinator is there again");
                }
            },
            () = signals.next() => {
                if interrupted {
                    live.end();
                    std::process::exit(EXIT_INTERRUPTED);
                }
                interrupted = true;
                live.say("stopping the load; interrupt again to leave without a report");
                client.cancel(&run).await?;
            }
        }
    }
}

/// Follows a run that was followed before, as soon as its coordinator is there again.
async fn again(client: &Client, run: &str, lost: Failure) -> Result<Events, Failure> {
    let deadline = Instant::now() + PATIENCE;
    let mut signals = Signals::new();
    loop {
        tokio::select! {
            () = signals.next() => std::process::exit(EXIT_INTERRUPTED),
            () = sleep(RETRY) => {}
        }
        match client.events(run).await {
            Ok(events) => return Ok(events),
            Err(failure) if failure.not_found => {
                return Err(Failure::incomplete(anyhow!(
                    "the coordinator at {} does not know run {run} any more",
                    client.name
                )));
            }
            Err(_) if Instant::now() > deadline => return Err(lost),
            Err(_) => {}
        }
    }
}
