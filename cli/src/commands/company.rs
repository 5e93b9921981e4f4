//! What runs in the process of a command: coordinator, agents, demo target.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, anyhow, bail};
use groundswell_access::{Authority, Role, Secrets, Trust, client_config};
use groundswell_agent::{AgentOptions, Allowlist, Guard, Limits};
use groundswell_coordinator::server::{Door, ServerOptions};
use groundswell_demo_target::DemoTargetOptions;
use groundswell_scenario::Plan;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::joining::trust_of;
use super::{access, bind, cores, runtime, store};
use crate::args::RunArgs;
use crate::client::{Reach, on_this_machine};
use crate::{Failure, output};

/// What runs beside this command in the same process: coordinator, agents, demo target. Each has its own thread.
#[derive(Default)]
pub(super) struct Company {
    /// How the coordinator is reached.
    pub(super) coordinator: Reach,
    /// Who gets into a coordinator of this process.
    door: Door,
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
            Some(_) if !args.secrets.secrets.is_empty() => {
                return Err(Failure::usage(anyhow!(
                    "--secret is for the coordinator or its agents, not for --coordinator"
                )));
            }
            Some(coordinator) => self.coordinator = reach(args, coordinator)?,
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
        let here = args.agents.unwrap_or(if args.wait_agents.is_some() { 0 } else { 1 });
        self.agents_wanted += here;
        let store = store::for_one_run(args.data_dir.as_deref()).await?;
        self.door = access::door(&args.door, address, Vec::new(), || access::beside(&store.location))?;
        self.coordinator = within(&self.door, address)?;
        let options = ServerOptions {
            local: args.wait_agents.is_none(),
            secrets: Secrets::read(&args.secrets.secrets).map_err(Failure::usage)?,
            door: self.door.clone(),
            names: args.door.names.clone(),
            ..ServerOptions::default()
        };
        let shutdown = self.servers.shutdown.clone();
        self.servers.spawn("coordinator", async move {
            // All of it, with the folder: a task that only names the store takes nothing else along.
            let kept = store;
            let listener = TcpListener::from_std(listener)?;
            groundswell_coordinator::server::serve(listener, options, kept.store.clone(), shutdown).await?;
            Ok(())
        })?;
        if let Some(wanted) = args.wait_agents {
            output::note(&format!("waiting for {wanted} agents: {}", self.invitation(args, plan, address)?));
        }
        let agents = if here == 1 { "1 agent" } else { &format!("{here} agents") };
        output::note(&format!("load goes to {} from {agents} in this process", destinations(plan)));
        for number in 1..=here {
            self.start_agent(args, plan, number, here)?;
        }
        Ok(())
    }

    /// What agents from elsewhere are started with.
    fn invitation(&self, args: &RunArgs, plan: &Plan, address: SocketAddr) -> Result<String, Failure> {
        let (url, join) = match &self.door {
            Door::Local => (format!("http://{address}"), String::new()),
            Door::Open => (format!("http://{address}"), " --insecure".to_owned()),
            Door::Gate(gate) => {
                let token = gate.passing_token(Role::Join);
                (format!("https://{}", access::shown(&args.door, address)), format!(" --join {}", token.text()))
            }
        };
        let target = plan.target.host_str().filter(|_| !on_this_machine(&plan.target));
        let allow = target.map(|host| format!(" --allow {host}")).unwrap_or_default();
        Ok(format!("groundswell agent --coordinator {url}{join}{allow}"))
    }

    fn start_agent(&mut self, args: &RunArgs, plan: &Plan, number: u32, of: u32) -> Result<(), Failure> {
        let name = format!("local-{number}");
        let tls = match (&self.door, &self.coordinator.trust) {
            (Door::Gate(gate), Some(trust)) => {
                let identity =
                    gate.authority().issue_agent(&name, Authority::AGENT_LIFETIME).map_err(Failure::usage)?;
                Some(Arc::new(client_config(trust, Some(&identity)).map_err(Failure::usage)?))
            }
            _ => None,
        };
        let options = AgentOptions {
            coordinator: self.coordinator.url.clone(),
            name,
            workers: args.workers.unwrap_or((cores() / of).max(1)),
            weight: 1,
            limits: Limits::default(),
            // Who runs a plan here has said where its load may go. Nobody else has, though the coordinator may take more.
            guard: Guard {
                allow: Allowlist::Plan { hash: plan.hash.clone() },
                run_header: !args.no_run_header,
                ..Guard::default()
            },
            // So that a plan that is run with --on for its agents can be tried here too.
            secrets: Secrets::default(),
            labels: args.on.iter().cloned().collect(),
            raw_samples: args.raw_samples.clone(),
            once: false,
            tls,
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

/// How the coordinator of `--coordinator` is reached.
pub(super) fn reach(args: &RunArgs, url: &str) -> Result<Reach, Failure> {
    let token = access::token(args.client.token_file.as_deref(), "GROUNDSWELL_TOKEN")?;
    let trust = trust_of(args.client.ca.as_deref(), token.as_deref())?;
    Ok(Reach { token, trust, insecure: args.door.insecure, ..Reach::at(url) })
}

/// How this process reaches its own coordinator.
fn within(door: &Door, address: SocketAddr) -> Result<Reach, Failure> {
    let address = reachable(address);
    let Door::Gate(gate) = door else {
        return Ok(Reach { within_process: true, insecure: true, ..Reach::at(&format!("http://{address}")) });
    };
    let token = gate.passing_token(Role::Run);
    Ok(Reach {
        token: Some(token.text()),
        trust: Some(Trust::Fingerprint(token.ca)),
        within_process: true,
        ..Reach::at(&format!("https://{address}"))
    })
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

/// Where a plan sends to, as far as it says.
fn destinations(plan: &Plan) -> String {
    let mut text = plan.target.to_string();
    for other in plan.destinations().iter().skip(1) {
        let host = if other.host.contains(':') { format!("[{}]", other.host) } else { other.host.clone() };
        text.push_str(&format!(", {host}:{}", other.port));
    }
    let redirects = &plan.http.redirect_hosts;
    if redirects.iter().any(|host| host == "*") {
        text.push_str(", and wherever redirects lead,");
    } else if !redirects.is_empty() {
        text.push_str(&format!(", where redirects lead also to {},", redirects.join(", ")));
    }
    text
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
