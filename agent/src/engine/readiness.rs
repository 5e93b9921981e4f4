//! Is the target there? One request that has to be answered before any load is sent.

use std::sync::Arc;
use std::time::Duration;

use groundswell_scenario::plan::Ready;
use groundswell_scenario::{Plan, Share};
use http::{HeaderMap, Method};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::transport::{Clients, Failure, Payload, Progress, Request, Setup, Target};

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(250);
/// Limit of one try.
const TRY: Duration = Duration::from_secs(5);

/// Waits until the plan's readiness check holds; else says what the target answered last. Connections belong to one
/// thread, so this has one of its own; it ends when nobody waits for it any more.
pub(super) async fn check(plan: Arc<Plan>, setup: Setup) -> Result<(), String> {
    if plan.ready.is_none() {
        return Ok(());
    }
    let (mut answer, answered) = oneshot::channel();
    let started = std::thread::Builder::new().name("readiness".into()).spawn(move || {
        let Some(ready) = &plan.ready else { return };
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let result = match runtime {
            Err(error) => Err(format!("the check can't be started: {error}")),
            Ok(runtime) => runtime.block_on(async {
                tokio::select! {
                    result = wait(&plan, ready, setup) => result,
                    () = answer.closed() => Err("nobody waits for it".to_owned()),
                }
            }),
        };
        let _ = answer.send(result);
    });
    started.map_err(|error| format!("the check can't be started: {error}"))?;
    answered.await.unwrap_or_else(|_| Err("the check ended without an answer".to_owned()))
}

async fn wait(plan: &Plan, ready: &Ready, setup: Setup) -> Result<(), String> {
    let deadline = Instant::now() + ready.within;
    let pace = setup.pace();
    let clients = Clients::new(setup, &Share::whole()).map_err(|error| error.to_string())?;
    let mut client = clients.client(0);
    let url = plan.target.join(&ready.url).map_err(|error| format!("{}: {error}", ready.url))?;
    let target = Target::new(url.clone()).map_err(|error| format!("{url}: {error}"))?;
    let mut headers = HeaderMap::new();
    clients.complete(&mut headers, &target);
    let mut request = Request {
        method: Method::GET,
        target,
        headers,
        payload: Payload::Empty,
        timeout: TRY,
        keep_body: false,
        login: None,
        max_redirects: plan.http.max_redirects,
    };
    loop {
        if let Some(pace) = &pace {
            pace.turn().await;
        }
        request.timeout = TRY.min(deadline.saturating_duration_since(Instant::now()));
        let answer = match client.send(&request, &mut Progress::default()).await {
            Ok(response) if ready.status.contains(response.status) => return Ok(()),
            Ok(response) => format!("it answered with status {}", response.status),
            Err(failure) => said(&failure),
        };
        if Instant::now() + PAUSE >= deadline {
            let within = humantime::format_duration(ready.within);
            return Err(format!("{url} was not ready within {within}; {answer}"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn said(failure: &Failure) -> String {
    match failure {
        Failure::Timeout => "it did not answer in time".to_owned(),
        Failure::Unsent(class) if class.as_str() == "not_allowed" => {
            "the agent's allowlist does not have its address (groundswell agent --allow)".to_owned()
        }
        Failure::Unsent(class) => format!("this machine could not ask it: {}", class.as_str().replace('_', " ")),
        Failure::Error(class) => match class.as_str() {
            "dns" => "its name could not be resolved".to_owned(),
            "connection_refused" => "nothing listens there".to_owned(),
            other => format!("the check failed: {}", other.replace('_', " ")),
        },
    }
}
