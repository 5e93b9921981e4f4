//! What runs in the process of a command: coordinator, agents, demo target.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use anyhow::{Context, bail};
use groundswell_agent::{AgentOptions, Limits};
use groundswell_coordinator::server::ServerOptions;
use groundswell_demo_target::DemoTargetOptions;
use groundswell_scenario::Plan;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{bind, cores, runtime, store};
use crate::args::RunArgs;
use crate::{Failure, output};

/// What runs beside this command in the same process: coordinator, agents, demo target. Each has its own thread.
#[derive(Default)]
pub(super) struct Company {
    /// URL of the coordinator.
    pub(super) coordinator: String,
    /// Agents that the run waits for.
    pub(super) agents_wanted: u32,
    /// They leave first, so that none misses its coordinator.
    agents: Threads,
    servers: Threads,
}

impl Company {
    pub(super) async fn start(&mut self, args: &RunArgs, plan: &Plan) -> Result<(), Failure> {
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
        let options = ServerOptions { local: args.wait_agents.is_none(), outlives: false, otlp: None, retention: None };
        let store = store::for_one_run(args.data_dir.as_deref()).await?;
        let shutdown = self.servers.shutdown.clone();
        self.servers.spawn("coordinator", async move {
            // All of it, with the folder: a task that only names the store takes nothing else along.
            let kept = store;
            let listener = TcpListener::from_std(listener)?;
            groundswell_coordinator::server::serve(listener, options, kept.store.clone(), shutdown).await?;
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
            weight: 1,
            limits: Limits::default(),
            // So that a plan that is run with --on for its agents can be tried here too.
            labels: args.on.iter().cloned().collect(),
            raw_samples: args.raw_samples.clone(),
            once: false,
        };
        let shutdown = self.agents.shutdown.clone();
        self.agents.spawn(&format!("local-{number}"), async move {
            groundswell_agent::run(options, shutdown).await?;
            Ok(())
        })
    }

    pub(super) fn stop(self) {
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
