//! `groundswell agent`

use std::sync::Arc;
use std::time::Duration;

use groundswell_access::Secrets;
use groundswell_agent::{AgentError, AgentOptions, Limits};
use tokio_util::sync::CancellationToken;

use super::joining::{Way, way};
use super::{cores, runtime, shutdown_on_signal};
use crate::args::AgentArgs;
use crate::{Exit, Failure, Outcome, output};

pub(crate) fn run(args: &AgentArgs) -> Outcome {
    // Before anybody hears of this agent.
    let guard = args.guard.guard().map_err(Failure::usage)?;
    let runtime = runtime()?;
    let shutdown = CancellationToken::new();
    let way = runtime.block_on(async {
        tokio::select! {
            way = way(args, default_name) => way.map(Some),
            () = shutdown_on_signal(shutdown.clone()) => Ok(None),
            () = shutdown.cancelled() => Ok(None),
        }
    })?;
    // Asked to end before it was let in.
    let Some(Way { name, tls }) = way else { return Ok(Exit::Success) };
    let options = AgentOptions {
        coordinator: args.coordinator.clone(),
        name,
        workers: args.workers.unwrap_or_else(cores),
        weight: args.weight,
        limits: Limits { rate_per_s: args.max_rate, users: args.max_users },
        secrets: Secrets::read(&args.secrets.secrets).map_err(Failure::usage)?,
        guard,
        labels: args.label.iter().cloned().collect(),
        raw_samples: args.raw_samples.clone(),
        once: false,
        tls: tls.map(Arc::new),
    };
    output::note(&format!(
        "agent {} (worker threads: {}), coordinator {}",
        options.name, options.workers, options.coordinator
    ));
    let more = if args.guard.allow.is_empty() { "; --allow names other targets" } else { "" };
    output::note(&format!("  sends load to {}{more}", options.guard.allow));
    runtime.block_on(async {
        tokio::select! {
            ended = groundswell_agent::run(options, shutdown.clone()) => ended.map_err(failure)?,
            () = shutdown_on_signal(shutdown.clone()) => {}
            () = leave_after(args.leave_after, &shutdown) => {}
        }
        Ok(Exit::Success)
    })
}

/// Asks the agent to leave when its time is over; never ends by itself, since leaving takes a while.
async fn leave_after(time: Option<Duration>, shutdown: &CancellationToken) {
    if let Some(time) = time {
        tokio::time::sleep(time).await;
        output::note("its time is over: the agent leaves");
        shutdown.cancel();
    }
    std::future::pending().await
}

fn failure(error: AgentError) -> Failure {
    match error {
        AgentError::Url { .. } | AgentError::Refused { .. } => Failure::usage(error),
        AgentError::Unreachable { .. } | AgentError::Broken => Failure::incomplete(error),
    }
}

/// The host's name tells machines apart, the process id agents on one machine.
fn default_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    format!("{}-{}", if host.is_empty() { "agent" } else { host }, std::process::id())
}
