//! gRPC for agents and HTTP for people around the state machines, on one address. The only part that names the wire.
//!
//! # Layout
//! - `hub`: the task that owns fleet, runs and log
//! - `agents`: the sessions of agents
//! - `http`: the API
//! - `wire`: messages, checked
//! - `otlp`: figures for OpenTelemetry
//! - `clock`: the coordinator's clocks
//! - `door`: who gets in
//! - `recover`, `tidy`: runs of a store without a server

mod agents;
mod clock;
mod door;
mod http;
mod hub;
mod otlp;
mod recover;
mod tidy;
mod wire;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use groundswell_access::Secrets;
use groundswell_proto::limits::{MAX_AGENT_MESSAGE_BYTES, MAX_PLAN_MESSAGE_BYTES, PROTOCOL};
use groundswell_proto::v1::CoordinatorMessage;
use groundswell_proto::v1::agent_service_server::AgentServiceServer;
use groundswell_proto::v1::coordinator_message::Kind as Tell;
use groundswell_scenario::Plan;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use crate::export::Snapshot;
use crate::run::Place;
use crate::store::{Created, Store, StoreError};
use clock::Clock;
use door::Doorkeeper;
pub use door::{AUDIT, Door};
use hub::{Beat, Hub, Inbox, Message, Present, Question, Submission, SubmitError, Watch};
pub use otlp::{OtlpTarget, OtlpUrlError};
pub use recover::{RecoverError, recover};
pub use tidy::{Retention, merge_deltas};

/// Messages from sessions that wait for the hub; when it is full, sessions stop reading, and agents merge.
const HUB_QUEUE: usize = 256;
/// Heartbeats that wait for the hub.
const BEAT_QUEUE: usize = 1_024;
/// Questions that wait for the hub.
const QUESTION_QUEUE: usize = 64;
/// HTTP/2 streams of one connection: an agent needs one, a client two.
const MAX_STREAMS: u32 = 16;
/// Largest header list of a request.
const MAX_HEADER_LIST_BYTES: u32 = 16 << 10;

/// How a coordinator serves.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// Every agent is in this process, so a run may start without waiting for slow links.
    pub local: bool,
    /// Another coordinator is to go on with what this one leaves: at the shutdown runs are left as they are, instead of
    /// being stopped and reported.
    pub outlives: bool,
    /// The OpenTelemetry collector that gets figures while runs go on (OTLP over gRPC).
    pub otlp: Option<OtlpTarget>,
    /// Which runs are kept, looked at once an hour; the logs of those that ended a day ago are made smaller then, too.
    pub retention: Option<Retention>,
    /// Values that plans name; agents get those that their plan names, over TLS or within this machine.
    pub secrets: Secrets,
    /// Who gets in.
    pub door: Door,
    /// Names under which browsers may reach it, beside addresses and names without a dot.
    pub names: Vec<String>,
}

impl ServerOptions {
    /// The secrets that a plan names, for an agent. Over connections that others can read, there are none.
    fn secrets_of(&self, plan: &Plan) -> HashMap<String, String> {
        if matches!(self.door, Door::Open) {
            return HashMap::new();
        }
        let named = self.secrets.of(&plan.secrets);
        named.expose().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn place(&self) -> Place {
        Place { local: self.local, open: matches!(self.door, Door::Open) }
    }
}

/// Why a coordinator ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener failed.
    #[error("the coordinator can't serve: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// TLS can't be set up.
    #[error("the coordinator can't serve: {0}")]
    Access(#[from] groundswell_access::AccessError),
    /// The store failed. What was acknowledged is in it.
    #[error("{0}")]
    Store(Arc<StoreError>),
}

/// Takes up the runs that the store has, and serves until `shutdown`; then the server ends.
///
/// # Errors
/// See [`ServeError`].
pub async fn serve(
    listener: TcpListener,
    options: ServerOptions,
    store: Store,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let tasks = TaskTracker::new();
    let incoming = door::listen(listener, &options.door, &tasks)?;
    serve_with(incoming, options, store, shutdown, tasks).await
}

/// The same on connections that come in another way; nobody shows a certificate on them.
///
/// # Errors
/// See [`ServeError`].
pub async fn serve_over<C>(
    incoming: impl Stream<Item = std::io::Result<C>>,
    options: ServerOptions,
    store: Store,
    shutdown: CancellationToken,
) -> Result<(), ServeError>
where
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    serve_with(incoming, options, store, shutdown, TaskTracker::new()).await
}

async fn serve_with<C>(
    incoming: impl Stream<Item = std::io::Result<C>>,
    options: ServerOptions,
    store: Store,
    shutdown: CancellationToken,
    tasks: TaskTracker,
) -> Result<(), ServeError>
where
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let (hub_queue, messages) = mpsc::channel(HUB_QUEUE);
    let (beat_queue, beats) = mpsc::channel(BEAT_QUEUE);
    let (question_queue, questions) = mpsc::channel(QUESTION_QUEUE);
    let closed = CancellationToken::new();
    let clock = Clock::new();
    let (otlp, retention) = (options.otlp.clone(), options.retention);
    let doorkeeper = Doorkeeper::new(options.door.clone(), &options.names);
    let mut hub = Hub::new(clock, options, store.clone(), tasks.clone());
    hub.restore().await.map_err(|error| ServeError::Store(Arc::new(error)))?;
    let services = Services {
        hub: hub_queue,
        beats: beat_queue,
        questions: question_queue,
        unpacking: Arc::new(Semaphore::new(1)),
        store: store.clone(),
        clock,
        tasks: tasks.clone(),
        doorkeeper: doorkeeper.clone(),
    };
    // At the shutdown, or when the hub can't go on; whoever works beside it waits for this.
    let over = shutdown.child_token();
    tasks.spawn(doorkeeper.follow(over.clone()));
    if let Some(retention) = retention {
        tasks.spawn(tidy::keep_tidy(store.clone(), retention, over.clone()));
    }
    if let Some(target) = otlp {
        tasks.spawn(otlp::push(services.clone(), target, over.clone()));
    }
    let agents = AgentServiceServer::new(services.clone())
        .max_decoding_message_size(MAX_AGENT_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_PLAN_MESSAGE_BYTES);
    let agents = http::for_agents(Routes::new(agents).into_axum_router());
    let routes = agents.merge(http::router(services)).fallback(http::not_found);
    let server = Server::builder()
        .tcp_nodelay(true)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADER_LIST_BYTES)
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(15)))
        .accept_http1(true)
        .add_routes(Routes::from(routes))
        .serve_with_incoming_shutdown(incoming, closed.clone().cancelled_owned());
    let work = async {
        let worked = hub.run(Inbox { messages, beats, questions }, shutdown, closed).await;
        over.cancel();
        worked
    };
    let (worked, served) = tokio::join!(work, server);
    tasks.close();
    tasks.wait().await;
    store.close().await;
    worked.map_err(ServeError::Store)?;
    Ok(served?)
}

#[derive(Clone)]
struct Services {
    hub: mpsc::Sender<Message>,
    beats: mpsc::Sender<Beat>,
    questions: mpsc::Sender<Question>,
    /// Whoever unpacks a delta: one at a time, so that anything else that comes in the middle of a crowd of deltas waits
    /// for one of them and not for all, and so that no more are in memory than the hub takes.
    unpacking: Arc<Semaphore>,
    store: Store,
    clock: Clock,
    tasks: TaskTracker,
    doorkeeper: Doorkeeper,
}

type ToAgent = mpsc::Sender<Result<CoordinatorMessage, Status>>;

impl Services {
    async fn tell(&self, message: Message) -> Result<(), ShuttingDown> {
        self.hub.send(message).await.map_err(|_| ShuttingDown)
    }

    /// Asks the hub something.
    async fn ask<A>(&self, question: impl FnOnce(oneshot::Sender<A>) -> Question) -> Result<A, ShuttingDown> {
        let (answer, answered) = oneshot::channel();
        self.questions.send(question(answer)).await.map_err(|_| ShuttingDown)?;
        answered.await.map_err(|_| ShuttingDown)
    }

    /// Has the hub do something.
    async fn order<A>(&self, message: impl FnOnce(oneshot::Sender<A>) -> Message) -> Result<A, ShuttingDown> {
        let (answer, answered) = oneshot::channel();
        self.tell(message(answer)).await?;
        answered.await.map_err(|_| ShuttingDown)
    }

    async fn present(&self) -> Result<Present, ShuttingDown> {
        self.ask(|answer| Question::Look { answer }).await
    }

    async fn figures(&self) -> Result<Snapshot, ShuttingDown> {
        self.ask(|answer| Question::Figures { answer }).await
    }

    async fn watch(&self, run_id: &str) -> Result<Option<Watch>, ShuttingDown> {
        self.ask(|answer| Question::Watch { run_id: run_id.to_owned(), answer }).await
    }

    async fn stop(&self, run_id: &str) -> Result<bool, ShuttingDown> {
        self.order(|answer| Message::Stop { run_id: run_id.to_owned(), answer }).await
    }

    async fn submit(
        &self,
        submission: impl FnOnce(oneshot::Sender<Result<Created, SubmitError>>) -> Submission,
    ) -> Result<Result<Created, SubmitError>, ShuttingDown> {
        self.order(|answer| Message::Submit(Box::new(submission(answer)))).await
    }
}

/// The hub hears nothing any more.
#[derive(Debug)]
struct ShuttingDown;

impl From<ShuttingDown> for Status {
    fn from(_: ShuttingDown) -> Self {
        Status::unavailable("the coordinator is shutting down")
    }
}

fn speaks_our_protocol(who: &str, protocol: u32, version: &str) -> Result<(), Status> {
    if protocol == PROTOCOL {
        return Ok(());
    }
    Err(Status::failed_precondition(format!(
        "this {who} (groundswell {version}) speaks protocol {protocol}, the coordinator (groundswell {}) speaks protocol \
         {PROTOCOL}; use the same version of groundswell on both sides",
        env!("CARGO_PKG_VERSION")
    )))
}

fn message(kind: Tell) -> CoordinatorMessage {
    CoordinatorMessage { kind: Some(kind) }
}
