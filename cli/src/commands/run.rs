//! `groundswell run`: a coordinator and agents in this process by default, over the same path as a cluster.

use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use groundswell_agent::AgentOptions;
use groundswell_coordinator::report::Report;
use groundswell_coordinator::server::ServerOptions;
use groundswell_demo_target::DemoTargetOptions;
use groundswell_proto::limits::{MAX_EVENT_BYTES, MAX_PLAN_MESSAGE_BYTES, PROTOCOL};
use groundswell_proto::v1::run_event::Kind as EventKind;
use groundswell_proto::v1::run_service_client::RunServiceClient;
use groundswell_proto::v1::{self, Finished, StopRequest, SubmitRequest};
use groundswell_scenario::{Plan, PlanSource};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use super::{EXIT_INTERRUPTED, Signals, bind, cores, runtime};
use crate::args::RunArgs;
use crate::live::Live;
use crate::output::{self, OutFile};
use crate::{Exit, Failure, Outcome, plan_file};

/// How long a coordinator may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

pub(crate) fn run(args: &RunArgs) -> Outcome {
    let files =
        args.out.iter().map(|path| OutFile::new(path)).collect::<Result<Vec<_>, _>>().map_err(Failure::usage)?;
    let (source, plan) = plan_file::load(&args.plan)?;
    let mut company = Company::default();
    let runtime = runtime()?;
    let followed = runtime.block_on(async {
        company.start(args, &plan).await?;
        follow(args, &company, &source, &plan).await
    });
    // Closes the connection to the coordinator, which waits for that before it ends.
    drop(runtime);
    let outcome = followed.and_then(|finished| conclude(&finished, &files));
    company.stop();
    outcome
}

/// Prints and writes what came out.
fn conclude(finished: &Finished, files: &[OutFile]) -> Outcome {
    let exit = Exit::Code(u8::try_from(finished.exit_code).unwrap_or(3));
    if finished.report_json.is_empty() {
        return Err(Failure { exit, error: anyhow!("{}", finished.problem) });
    }
    let report: Report = serde_json::from_slice(&finished.report_json)
        .context("the coordinator's report can't be read; use the same version of groundswell on both sides")
        .map_err(Failure::incomplete)?;
    output::report(&report);
    for file in files {
        file.write(&report).map_err(Failure::incomplete)?;
    }
    Ok(exit)
}

/// What runs beside this command in the same process: coordinator, agents, demo target. Each has its own thread.
#[derive(Default)]
struct Company {
    coordinator: String,
    /// Agents that the run waits for.
    agents_wanted: u32,
    /// They leave first, so that none misses its coordinator.
    agents: Threads,
    servers: Threads,
}

impl Company {
    async fn start(&mut self, args: &RunArgs, plan: &Plan) -> Result<(), Failure> {
        self.agents_wanted = args.wait_agents.unwrap_or(0);
        if args.demo_target {
            self.start_demo_target(plan).await?;
        }
        match &args.coordinator {
            Some(coordinator) => self.coordinator.clone_from(coordinator),
            None => self.start_coordinator(args, plan).await?,
        }
        Ok(())
    }

    async fn start_demo_target(&mut self, plan: &Plan) -> Result<(), Failure> {
        let address = demo_address(plan).map_err(Failure::usage)?;
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| {
                format!("--demo-target: can't listen on {address}, the plan's target; is something else running there?")
            })
            .map_err(Failure::usage)?;
        let listener = listener.into_std().map_err(Failure::incomplete)?;
        let shutdown = self.servers.shutdown.clone();
        self.servers.spawn("demo-target", async move {
            let listener = TcpListener::from_std(listener)?;
            groundswell_demo_target::serve(listener, DemoTargetOptions::default(), shutdown).await?;
            Ok(())
        })
    }

    async fn start_coordinator(&mut self, args: &RunArgs, plan: &Plan) -> Result<(), Failure> {
        let address = args.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = bind(address, "--listen").await?;
        let address = listener.local_addr().map_err(Failure::incomplete)?;
        let listener = listener.into_std().map_err(Failure::incomplete)?;
        self.coordinator = format!("http://{}", reachable(address));
        let here = args.agents.unwrap_or(if args.wait_agents.is_some() { 0 } else { 1 });
        self.agents_wanted += here;
        let options = ServerOptions { local: args.wait_agents.is_none() };
        let shutdown = self.servers.shutdown.clone();
        self.servers.spawn("coordinator", async move {
            let listener = TcpListener::from_std(listener)?;
            groundswell_coordinator::server::serve(listener, options, shutdown).await?;
            Ok(())
        })?;
        if let Some(wanted) = args.wait_agents {
            output::note(&format!("waiting for {wanted} agents: groundswell agent --coordinator http://{address}"));
        }
        let agents = if here == 1 { "1 agent" } else { &format!("{here} agents") };
        output::note(&format!("load goes to {} from {agents} in this process", plan.target));
        for number in 1..=here {
            self.start_agent(args, number, here)?;
        }
        Ok(())
    }

    fn start_agent(&mut self, args: &RunArgs, number: u32, of: u32) -> Result<(), Failure> {
        let options = AgentOptions {
            coordinator: self.coordinator.clone(),
            name: format!("local-{number}"),
            workers: args.workers.unwrap_or((cores() / of).max(1)),
            raw_samples: args.raw_samples.clone(),
            once: false,
        };
        let shutdown = self.agents.shutdown.clone();
        self.agents.spawn(&format!("local-{number}"), async move {
            groundswell_agent::run(options, shutdown).await?;
            Ok(())
        })
    }

    fn stop(self) {
        self.agents.stop();
        self.servers.stop();
    }
}

/// Threads that end together, each with a runtime of its own.
#[derive(Default)]
struct Threads {
    shutdown: CancellationToken,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    fn spawn(
        &mut self,
        name: &str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) -> Result<(), Failure> {
        let runtime = runtime()?;
        let thread_name = name.to_owned();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            if let Err(error) = runtime.block_on(task) {
                output::error(&error.context(thread_name));
            }
        });
        self.threads.push(thread.context("can't start a thread").map_err(Failure::incomplete)?);
        Ok(())
    }

    fn stop(self) {
        self.shutdown.cancel();
        for thread in self.threads {
            // A thread that panicked has said so on stderr.
            let _ = thread.join();
        }
    }
}

/// The address at which the demo target has to listen so that the plan finds it.
fn demo_address(plan: &Plan) -> anyhow::Result<SocketAddr> {
    let target = &plan.target;
    let port = target.port_or_known_default().unwrap_or(80);
    let ip = match target.host() {
        Some(url::Host::Ipv4(ip)) if ip.is_loopback() => ip.into(),
        Some(url::Host::Ipv6(ip)) if ip.is_loopback() => ip.into(),
        Some(url::Host::Domain("localhost")) => [127, 0, 0, 1].into(),
        _ => bail!(
            "--demo-target: the plan's target is {target}, but the demo target serves on this machine only; set target: http://127.0.0.1:8088"
        ),
    };
    if target.scheme() != "http" {
        bail!("--demo-target: the plan's target is {target}, but the demo target speaks plain http");
    }
    Ok(SocketAddr::new(ip, port))
}

/// An address that agents in this process can dial: "all interfaces" is none.
fn reachable(listening: SocketAddr) -> SocketAddr {
    let mut address = listening;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    address
}

/// Submits the plan and follows the run to its end. The first interrupt stops the load, a second one leaves at once.
async fn follow(args: &RunArgs, company: &Company, source: &PlanSource, plan: &Plan) -> Result<Finished, Failure> {
    let mut client = connect(&company.coordinator).await?;
    let mut plan_wire = v1::Plan::from(source);
    plan_wire.hash.clone_from(&plan.hash);
    let request = SubmitRequest {
        protocol: PROTOCOL,
        plan: Some(plan_wire),
        agents: company.agents_wanted,
        wait_ms: args.wait.saturating_mul(1000),
        labels: args.label.iter().cloned().collect(),
    };
    let mut events =
        client.submit(request).await.map_err(|status| refused(&company.coordinator, &status))?.into_inner();
    let mut live = Live::new(plan, args.plain);
    let mut run_id = String::new();
    let mut signals = Signals::new();
    let mut interrupted = false;
    loop {
        tokio::select! {
            event = next(&mut events, &company.coordinator) => match event? {
                EventKind::Accepted(accepted) => run_id = accepted.run_id,
                EventKind::Progress(progress) => live.show(&progress),
                EventKind::Finished(finished) => {
                    live.end();
                    return Ok(finished);
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

async fn connect(coordinator: &str) -> Result<RunServiceClient<Channel>, Failure> {
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
