//! The session with the coordinator: on a thread of its own, so that a busy worker never misses a heartbeat and a slow
//! link never delays a request. The only part of the agent that names the wire.
//!
//! A session may break at any moment. What an agent measured is kept until the coordinator has said that it is safe, and
//! its load goes on for as long as the plan allows; `Agent` owns both and outlives every session.
//!
//! # Layout
//! - `agent`: the agent between sessions and runs
//! - `admission`: whether it takes part in a run
//! - `arm`: a run's plan, from its source to workers that wait
//! - `link`: the session: dialled, used, lost, dialled again
//! - `beat`: heartbeats, which are clock probes too
//! - `job`: one run: armed, started, sealed once a second, done
//! - `tls`: connections with TLS
//! - `window`: what is sealed and how it travels

mod admission;
mod agent;
mod arm;
mod beat;
mod job;
mod link;
mod tls;
mod window;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use groundswell_access::Secrets;
use groundswell_proto::limits::HELLO_DEADLINE;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use agent::Agent;

use crate::guard::Guard;

/// How an agent joins a coordinator.
#[derive(Debug, Clone)]
pub struct AgentOptions {
    /// URL of the coordinator, such as `http://127.0.0.1:7710`.
    pub coordinator: String,
    /// Name, unique among the coordinator's agents.
    pub name: String,
    /// Worker threads, at least 1.
    pub workers: u32,
    /// Its part of the load in relation to the other agents', 1 to 100.
    pub weight: u32,
    /// Most of the load that it takes on.
    pub limits: Limits,
    /// What it may do, whatever a coordinator asks of it.
    pub guard: Guard,
    /// Labels, by which runs choose their agents.
    pub labels: BTreeMap<String, String>,
    /// Secrets of its own; they count more than those of the coordinator.
    pub secrets: Secrets,
    /// A mode for tests: a directory that gets a CSV of every sample (`step,outcome,response,service,send lag`, in µs).
    pub raw_samples: Option<PathBuf>,
    /// End with an error when the coordinator can't be reached, instead of trying again.
    pub once: bool,
    /// How a coordinator at an `https` URL is known, and how the agent is known to it.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

/// Most of a load that an agent takes on; the coordinator gives it no more.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// Operations a second: closed loads wait for their turn, more of open loads is not taken on; none for no limit.
    pub rate_per_s: Option<f64>,
    /// Users, and operations in flight of open loads; none for no limit.
    pub users: Option<u32>,
}

/// Why an agent ended.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The URL is none.
    #[error("{url}: not the URL of a coordinator: {why}; write it like http://127.0.0.1:7710")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The coordinator does not want this agent, and trying again would not help.
    #[error("the coordinator at {url} refused this agent: {why}")]
    Refused {
        /// The coordinator.
        url: String,
        /// Its answer.
        why: String,
    },
    /// A worker thread panicked.
    #[error(
        "a worker thread panicked, so this agent can't account for its part of the load any more; please report it"
    )]
    Broken,
    /// The coordinator can't be reached, and the options say not to try again.
    #[error("the coordinator at {url} can't be reached: {why}")]
    Unreachable {
        /// The coordinator.
        url: String,
        /// Why.
        why: String,
    },
}

/// Joins the coordinator and works for it until `shutdown`; dials again when the session is lost.
///
/// # Errors
/// See [`AgentError`]; a coordinator that is away is none unless the options say so.
pub async fn run(options: AgentOptions, shutdown: CancellationToken) -> Result<(), AgentError> {
    let connect: Connect = match options.tls.clone() {
        Some(config) => tls::connect(config),
        None => Arc::new(|endpoint| Box::pin(async move { endpoint.connect().await })),
    };
    run_over(connect, options, shutdown).await
}

/// The same over connections that are made in another way.
///
/// # Errors
/// As those of [`run`].
pub async fn run_over(connect: Connect, options: AgentOptions, shutdown: CancellationToken) -> Result<(), AgentError> {
    let endpoint = Endpoint::from_shared(options.coordinator.clone())
        .map_err(|error| AgentError::Url { url: options.coordinator.clone(), why: error.to_string() })?
        .connect_timeout(HELLO_DEADLINE)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(10));
    Agent::new(options, Dialler { connect, endpoint }).serve(&shutdown).await
}

/// A connection on its way.
pub type Connecting = Pin<Box<dyn Future<Output = Result<Channel, tonic::transport::Error>> + Send>>;
/// How connections to a coordinator are made.
pub type Connect = Arc<dyn Fn(Endpoint) -> Connecting + Send + Sync>;

/// Where the coordinator is and how it is reached.
#[derive(Clone)]
struct Dialler {
    connect: Connect,
    endpoint: Endpoint,
}

impl Dialler {
    async fn dial(&self) -> Result<Channel, Status> {
        let dialled = (self.connect)(self.endpoint.clone()).await;
        dialled.map_err(|error| Status::from_error(Box::new(error)))
    }
}
