//! `groundswell serve`

use std::net::SocketAddr;
use std::time::Duration;

use groundswell_access::Secrets;
use groundswell_coordinator::server::{Door, OtlpTarget, Retention, ServerOptions, serve};
use groundswell_coordinator::store::Location;
use tokio_util::sync::CancellationToken;

use super::{access, bind, runtime, shutdown_on_signal, store};
use crate::args::ServeArgs;
use crate::{Exit, Failure, Outcome, output};

pub(crate) fn run(args: &ServeArgs) -> Outcome {
    let otlp = args.otlp.url.as_deref().map(|url| OtlpTarget::new(url, Duration::from_millis(args.otlp.interval_ms)));
    let otlp = otlp.transpose().map_err(Failure::usage)?;
    // Each connection is one.
    groundswell_agent::raise_open_files();
    runtime()?.block_on(async {
        let listener = bind(args.listen, "--listen").await?;
        let (location, store) = store::open(&args.store).await?;
        let address = listener.local_addr().map_err(Failure::incomplete)?;
        let statics = access::statics(&args.tokens.tokens)?;
        let door = access::door(&args.door, address, statics, || access::beside(&location))?;
        welcome(args, address, &location, &door)?;
        let shutdown = CancellationToken::new();
        let retention = Some(Retention { days: args.keep_days, newest: args.keep });
        let names = args.door.names.clone();
        let secrets = Secrets::read(&args.secrets.secrets).map_err(Failure::usage)?;
        let options = ServerOptions { local: false, outlives: true, otlp, retention, secrets, door, names };
        tokio::select! {
            served = serve(listener, options, store, shutdown.clone()) => served.map_err(Failure::incomplete)?,
            () = shutdown_on_signal(shutdown.clone()) => {}
        }
        Ok(Exit::Success)
    })
}

/// What to do next.
fn welcome(args: &ServeArgs, address: SocketAddr, location: &Location, door: &Door) -> Result<(), Failure> {
    let mut to_log_in = None;
    let (url, join) = match door {
        Door::Gate(gate) => {
            let first = access::first_tokens(gate)?;
            let token = match first {
                Some((join, admin)) => {
                    to_log_in = Some(admin);
                    format!(" --join {join} --allow TARGET")
                }
                None => " --join TOKEN --allow TARGET    (groundswell tokens create join)".to_owned(),
            };
            (format!("https://{}", access::shown(&args.door, address)), token)
        }
        Door::Local => (format!("http://{address}"), String::new()),
        Door::Open => (format!("http://{address}"), " --insecure --allow TARGET".to_owned()),
    };
    output::note(&format!("coordinator listening on {url}"));
    match door {
        Door::Gate(gate) => {
            let folder = gate.folder();
            output::note(&format!("  its keys are in {}", folder.at().display()));
            if folder.changes() != folder.at() {
                output::note(&format!("  revocations and the audit log are in {}", folder.changes().display()));
            }
        }
        Door::Local => {}
        Door::Open => output::note("  --insecure: whoever reaches it can join, read and steer; every report says so"),
    }
    output::note(&format!("  runs are kept in {location}"));
    output::note(&format!("  dashboard:   {url}/"));
    output::note(&format!("  join it:     groundswell agent --coordinator {url}{join}"));
    output::note(&format!("  run a plan:  groundswell run PLAN --coordinator {url}"));
    if let Some(token) = to_log_in {
        output::note(&format!("  your token, shown this once (role admin, for a year; GROUNDSWELL_TOKEN): {token}"));
    }
    Ok(())
}
