//! Submits a plan to a coordinator and follows the run.

use std::time::Duration;

use anyhow::{Context, anyhow};
use groundswell_coordinator::report::Report;
use groundswell_proto::limits::{MAX_EVENT_BYTES, MAX_PLAN_MESSAGE_BYTES, PROTOCOL};
use groundswell_proto::v1::run_event::Kind as EventKind;
use groundswell_proto::v1::run_service_client::RunServiceClient;
use groundswell_proto::v1::{self, Finished, FollowRequest, StopRequest, SubmitRequest};
use groundswell_scenario::{Plan, PlanSource};
use tokio::time::{Instant, sleep};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use super::company::Company;
use super::{EXIT_INTERRUPTED, Signals};
use crate::args::RunArgs;
use crate::live::Live;
use crate::{Exit, Failure};

type Client = RunServiceClient<Channel>;

/// A coordinator that is away for longer does not come back: it needs about a minute to restart with a long run.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two tries to find it.
const RETRY: Duration = Duration::from_millis(500);
/// How long a coordinator may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Submits a plan and follows its run to the end. The first interrupt stops the load, a second one leaves at once.
pub(super) async fn follow(
    args: &RunArgs,
    company: &Company,
    source: &PlanSource,
    plan: &Plan,
) -> Result<Finished, Failure> {
    let mut client = connect(&company.coordinator).await?;
    let mut plan_wire = v1::Plan::from(source);
    plan_wire.hash.clone_from(&plan.hash);
    let request = SubmitRequest {
        protocol: PROTOCOL,
        plan: Some(plan_wire),
        agents: company.agents_wanted,
        wait_ms: args.wait.saturating_mul(1000),
        labels: args.label.iter().cloned().collect(),
        submission: format!("{:032x}", rand::random::<u128>()),
    };
    let mut events =
        client.submit(request).await.map_err(|status| refused(&company.coordinator, &status))?.into_inner();
    let mut live = Live::new(plan, args.plain);
    let mut run_id = String::new();
    let mut signals = Signals::new();
    let mut interrupted = false;
    loop {
        tokio::select! {
            event = next(&mut events, &company.coordinator) => match event {
                Ok(EventKind::Accepted(accepted)) => run_id = accepted.run_id,
                Ok(EventKind::Progress(progress)) => live.show(&progress),
                Ok(EventKind::Finished(finished)) => {
                    live.end();
                    return Ok(finished);
                }
                Err(lost) if args.coordinator.is_none() || run_id.is_empty() => return Err(lost),
                Err(lost) => {
                    live.say(&format!("{:#}; trying to find it again", lost.error));
                    (client, events) = again(&company.coordinator, &run_id, lost).await?;
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
                let request = StopRequest { run_id: run_id.clone() };
                client.stop(request).await.map_err(|status| refused(&company.coordinator, &status))?;
            }
        }
    }
}

/// Follows a run that was followed before, as soon as its coordinator is there again.
async fn again(coordinator: &str, run_id: &str, lost: Failure) -> Result<(Client, Streaming<v1::RunEvent>), Failure> {
    let deadline = Instant::now() + PATIENCE;
    let mut signals = Signals::new();
    loop {
        tokio::select! {
            () = signals.next() => std::process::exit(EXIT_INTERRUPTED),
            () = sleep(RETRY) => {}
        }
        let found = async {
            let mut client = connect(coordinator).await.ok()?;
            let request = FollowRequest { protocol: PROTOCOL, run_id: run_id.to_owned() };
            Some(client.follow(request).await.map(|events| (client, events.into_inner())))
        };
        match found.await {
            Some(Ok(found)) => return Ok(found),
            Some(Err(status)) if status.code() == Code::NotFound => {
                return Err(Failure::incomplete(anyhow!(
                    "the coordinator at {coordinator} does not know run {run_id} any more"
                )));
            }
            _ if Instant::now() > deadline => return Err(lost),
            _ => {}
        }
    }
}

async fn connect(coordinator: &str) -> Result<Client, Failure> {
    let endpoint = Endpoint::from_shared(coordinator.to_owned())
        .with_context(|| format!("{coordinator}: not the URL of a coordinator; write it like http://127.0.0.1:7710"))
        .map_err(Failure::usage)?
        .connect_timeout(CONNECT_LIMIT)
        .tcp_nodelay(true);
    let channel = endpoint
        .connect()
        .await
        .with_context(|| format!("can't reach the coordinator at {coordinator}; is `groundswell serve` running there?"))
        .map_err(Failure::incomplete)?;
    Ok(RunServiceClient::new(channel)
        .max_encoding_message_size(MAX_PLAN_MESSAGE_BYTES)
        .max_decoding_message_size(MAX_EVENT_BYTES))
}

async fn next(events: &mut Streaming<v1::RunEvent>, coordinator: &str) -> Result<EventKind, Failure> {
    loop {
        match events.message().await {
            Ok(Some(v1::RunEvent { kind: Some(kind) })) => return Ok(kind),
            // An event of a newer coordinator.
            Ok(Some(v1::RunEvent { kind: None })) => {}
            Ok(None) => {
                return Err(Failure::incomplete(anyhow!(
                    "the coordinator at {coordinator} ended the run without a report"
                )));
            }
            Err(status) => {
                let text = status.message();
                return Err(Failure::incomplete(anyhow!("lost the coordinator at {coordinator}: {text}")));
            }
        }
    }
}

fn refused(coordinator: &str, status: &Status) -> Failure {
    let error = anyhow!("the coordinator at {coordinator} refused the run: {}", status.message());
    match status.code() {
        Code::InvalidArgument | Code::FailedPrecondition => Failure::usage(error),
        _ => Failure::incomplete(error),
    }
}

/// The report of a run that came to one.
pub(super) fn report_of(finished: &Finished) -> Result<Report, Failure> {
    if finished.report_json.is_empty() {
        let exit = Exit::Code(u8::try_from(finished.exit_code).unwrap_or(3));
        return Err(Failure { exit, error: anyhow!("{}", finished.problem) });
    }
    serde_json::from_slice(&finished.report_json)
        .context("the coordinator's report can't be read; use the same version of groundswell on both sides")
        .map_err(Failure::incomplete)
}
