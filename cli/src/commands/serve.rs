//! `groundswell serve`

use std::time::Duration;

use groundswell_coordinator::server::{OtlpTarget, Retention, ServerOptions, serve};
use tokio_util::sync::CancellationToken;

use super::{bind, runtime, shutdown_on_signal, store};
use crate::args::ServeArgs;
use crate::{Exit, Failure, Outcome, output};

pub(crate) fn run(args: &ServeArgs) -> Outcome {
    let otlp = args.otlp.url.as_deref().map(|url| OtlpTarget::new(url, Duration::from_millis(args.otlp.interval_ms)));
    let otlp = otlp.transpose().map_err(Failure::usage)?;
    runtime()?.block_on(async {
        let listener = bind(args.listen, "--listen").await?;
        let (location, store) = store::open(&args.store).await?;
        let address = listener.local_addr().map_err(Failure::incomplete)?;
        output::note(&format!("coordinator listening on http://{address}"));
        output::note(&format!("  runs are kept in {location}"));
        output::note(&format!("  dashboard:   http://{address}/"));
        output::note(&format!("  join it:     groundswell agent --coordinator http://{address}"));
        output::note(&format!("  run a plan:  groundswell run PLAN --coordinator http://{address}"));
        let shutdown = CancellationToken::new();
        let retention = Some(Retention { days: args.keep_days, newest: args.keep });
        let options = ServerOptions { local: false, outlives: true, otlp, retention };
        tokio::select! {
            served = serve(listener, options, store, shutdown.clone()) => served.map_err(Failure::incomplete)?,
            () = shutdown_on_signal(shutdown.clone()) => {}
        }
        Ok(Exit::Success)
    })
}
