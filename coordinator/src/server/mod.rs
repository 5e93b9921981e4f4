//! gRPC around the state machines: sessions of agents, submitted runs. The only part that names the wire.

mod hub;
mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use groundswell_proto::limits::{
    HELLO_DEADLINE, MAX_AGENT_MESSAGE_BYTES, MAX_EVENT_BYTES, MAX_PLAN_MESSAGE_BYTES, PROTOCOL, SESSION_QUEUE,
};
use groundswell_proto::v1::agent_message::Kind as Said;
use groundswell_proto::v1::agent_service_server::{AgentService, AgentServiceServer};
use groundswell_proto::v1::coordinator_message::Kind as Tell;
use groundswell_proto::v1::run_service_server::{RunService, RunServiceServer};
use groundswell_proto::v1::{
    AgentMessage, CoordinatorMessage, Hello, ProbeReply, RunEvent, StopRequest, StopResponse, SubmitRequest, Welcome,
};
use groundswell_scenario::{Plan, PlanSource};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::fleet::AgentId;
use hub::{Clock, Hub, Message};

/// Messages from sessions that wait for the hub; when it is full, sessions stop reading, and agents merge.
const HUB_QUEUE: usize = 256;
/// Progress events that wait for a slow client; further ones are left out.
const EVENT_QUEUE: usize = 64;
/// HTTP/2 streams of one connection: an agent needs one, a client two.
const MAX_STREAMS: u32 = 16;
/// Largest header list of a request.
const MAX_HEADER_LIST_BYTES: u32 = 16 << 10;

/// How a coordinator serves.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// Every agent is in this process, so a run may start without waiting for slow links.
    pub local: bool,
}

/// Serves until `shutdown`; then runs are stopped and reported, and the server ends.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    options: ServerOptions,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let (hub_queue, inbox) = mpsc::channel(HUB_QUEUE);
    let tasks = TaskTracker::new();
    let closed = CancellationToken::new();
    let clock = Clock::new();
    tasks.spawn(Hub::new(clock, options, tasks.clone()).run(inbox, shutdown, closed.clone()));
    let services = Services { hub: hub_queue, clock, tasks: tasks.clone() };
    let agents = AgentServiceServer::new(services.clone())
        .max_decoding_message_size(MAX_AGENT_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_PLAN_MESSAGE_BYTES);
    let runs = RunServiceServer::new(services)
        .max_decoding_message_size(MAX_PLAN_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_EVENT_BYTES);
    let served = Server::builder()
        .tcp_nodelay(true)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADER_LIST_BYTES)
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(15)))
        .add_service(agents)
        .add_service(runs)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), closed.cancelled_owned())
        .await;
    tasks.close();
    tasks.wait().await;
    served
}

#[derive(Clone)]
struct Services {
    hub: mpsc::Sender<Message>,
    clock: Clock,
    tasks: TaskTracker,
}

type ToAgent = mpsc::Sender<Result<CoordinatorMessage, Status>>;

#[tonic::async_trait]
impl AgentService for Services {
    type SessionStream = ReceiverStream<Result<CoordinatorMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut inbound = request.into_inner();
        let first = timeout(HELLO_DEADLINE, inbound.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no Hello came"))??;
        let Some(AgentMessage { kind: Some(Said::Hello(hello)) }) = first else {
            return Err(Status::invalid_argument("the first message of a session must be Hello"));
        };
        speaks_our_protocol("agent", hello.protocol, &hello.version)?;
        let (out, outbound) = mpsc::channel(SESSION_QUEUE);
        let (agent, welcome) = self.join(hello, out.clone()).await?;
        let _ = out.send(Ok(message(Tell::Welcome(welcome)))).await;
        self.tasks.spawn(pump(agent, inbound, out, self.hub.clone(), self.clock));
        Ok(Response::new(ReceiverStream::new(outbound)))
    }
}

impl Services {
    async fn join(&self, hello: Hello, out: ToAgent) -> Result<(AgentId, Welcome), Status> {
        let (answer, answered) = oneshot::channel();
        self.tell(Message::Join { hello, out, answer }).await?;
        let joined = answered.await.map_err(|_| shutting_down())?;
        joined.map_err(|error| Status::already_exists(error.to_string()))
    }

    async fn tell(&self, message: Message) -> Result<(), Status> {
        self.hub.send(message).await.map_err(|_| shutting_down())
    }
}

/// Reads one session until it ends.
async fn pump(
    agent: AgentId,
    mut inbound: Streaming<AgentMessage>,
    out: ToAgent,
    hub: mpsc::Sender<Message>,
    clock: Clock,
) {
    let why = loop {
        let said = match inbound.message().await {
            Ok(Some(AgentMessage { kind: Some(said) })) => said,
            Ok(Some(AgentMessage { kind: None })) => continue,
            Ok(None) => break "it closed its session".to_owned(),
            Err(status) => break format!("its connection broke: {}", status.message()),
        };
        if let Said::Probe(probe) = &said {
            let t2_us = clock.now_us();
            let reply = ProbeReply { t1_us: probe.t1_us, t2_us, t3_us: clock.now_us() };
            // A full queue means an agent that does not read; it will probe again.
            let _ = out.try_send(Ok(message(Tell::ProbeReply(reply))));
        }
        let heard = match wire::heard(said) {
            Ok(heard) => heard,
            Err(error) => {
                let why = format!("it sent a delta that can't be: {error}");
                let _ = out.send(Err(Status::invalid_argument(why.clone()))).await;
                break why;
            }
        };
        if hub.send(Message::Heard { agent, heard }).await.is_err() {
            return;
        }
    };
    let _ = hub.send(Message::Left { agent, why }).await;
}

#[tonic::async_trait]
impl RunService for Services {
    type SubmitStream = ReceiverStream<Result<RunEvent, Status>>;

    async fn submit(&self, request: Request<SubmitRequest>) -> Result<Response<Self::SubmitStream>, Status> {
        let request = request.into_inner();
        speaks_our_protocol("client", request.protocol, "?")?;
        let source = request.plan.map(PlanSource::from).ok_or_else(|| Status::invalid_argument("there is no plan"))?;
        let labels: BTreeMap<String, String> = request.labels.into_iter().collect();
        // Compiling may take a while for large data; sessions must not wait for it.
        let compiled = tokio::task::spawn_blocking(move || Plan::compile(&source).map(|plan| (plan, source)));
        let (plan, source) = compiled
            .await
            .map_err(|error| Status::internal(error.to_string()))?
            .map_err(|problems| Status::invalid_argument(problems.to_string()))?;
        let (events, stream) = mpsc::channel(EVENT_QUEUE);
        let submission = hub::Submission {
            plan,
            source,
            agents: request.agents as usize,
            wait: Duration::from_millis(u64::from(request.wait_ms)),
            labels,
            events,
        };
        self.tell(Message::Submit(Box::new(submission))).await?;
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn stop(&self, request: Request<StopRequest>) -> Result<Response<StopResponse>, Status> {
        let (answer, answered) = oneshot::channel();
        let run_id = request.into_inner().run_id;
        self.tell(Message::Stop { run_id: run_id.clone(), answer }).await?;
        match answered.await {
            Ok(true) => Ok(Response::new(StopResponse {})),
            Ok(false) => Err(Status::not_found(format!("there is no run {run_id}"))),
            Err(_) => Err(shutting_down()),
        }
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

fn shutting_down() -> Status {
    Status::unavailable("the coordinator is shutting down")
}

fn message(kind: Tell) -> CoordinatorMessage {
    CoordinatorMessage { kind: Some(kind) }
}
