//! `groundswell demo-target`

use groundswell_demo_target::{DemoTargetOptions, serve};
use tokio_util::sync::CancellationToken;

use super::{bind, runtime, shutdown_on_signal};
use crate::args::DemoTargetArgs;
use crate::{Exit, Failure, Outcome, output};

pub(crate) fn run(args: &DemoTargetArgs) -> Outcome {
    if !(args.latency_scale.is_finite() && args.latency_scale >= 0.0) {
        return Err(Failure::usage(anyhow::anyhow!("--latency-scale {}: must be 0 or more", args.latency_scale)));
    }
    let options = DemoTargetOptions { seed: args.seed, workers: args.workers, latency_scale: args.latency_scale };
    runtime()?.block_on(async {
        let listener = bind(args.listen, "--listen").await?;
        let address = listener.local_addr().map_err(Failure::incomplete)?;
        output::note(&format!("demo target listening on http://{address}"));
        let shutdown = CancellationToken::new();
        tokio::select! {
            served = serve(listener, options, shutdown.clone()) => served.map_err(Failure::incomplete)?,
            () = shutdown_on_signal(shutdown.clone()) => {}
        }
        Ok(Exit::Success)
    })
}
