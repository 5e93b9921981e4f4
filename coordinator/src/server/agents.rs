//! The service that agents talk to.

use std::sync::Arc;

use groundswell_access::Subject;
use groundswell_proto::WireError;
use groundswell_proto::limits::{HELLO_DEADLINE, MAX_HELD, MAX_NAME_BYTES, SESSION_QUEUE};
use groundswell_proto::v1::agent_message::Kind as Said;
use groundswell_proto::v1::agent_service_server::AgentService;
use groundswell_proto::v1::{AgentMessage, CoordinatorMessage, Hello, Probe, ProbeReply};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::door::until_revoked;
use super::hub::{Beat, Joined, Message, Part};
use super::{Services, ShuttingDown, ToAgent, speaks_our_protocol, wire};
use crate::fleet::{AgentId, check_name};
use crate::store::StoreError;

#[tonic::async_trait]
impl AgentService for Services {
    type SessionStream = ReceiverStream<Result<CoordinatorMessage, Status>>;
    type BeatStream = ReceiverStream<Result<ProbeReply, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let subject = self.doorkeeper.admit(request.extensions().get())?;
        let mut inbound = request.into_inner();
        let first = first_word(&mut inbound, "Hello").await?;
        let Some(AgentMessage { kind: Some(Said::Hello(hello)) }) = first else {
            return Err(Status::invalid_argument("the first message of a session must be Hello"));
        };
        speaks_our_protocol("agent", hello.protocol, &hello.version)?;
        if let Some(subject) = subject.as_ref().filter(|subject| subject.name != hello.name) {
            return Err(Status::permission_denied(format!(
                "its certificate is that of agent {:?}, and it says that it is {:?}; an agent has the name in its certificate",
                subject.name, hello.name
            )));
        }
        let (out, outbound) = mpsc::channel(SESSION_QUEUE);
        let Joined { agent, session } = self.join(hello, out.clone()).await?;
        let revoked = until_revoked(self.doorkeeper.gate().cloned(), subject);
        self.tasks.spawn(pump(self.clone(), (agent, session), inbound, out, revoked));
        Ok(Response::new(ReceiverStream::new(outbound)))
    }

    async fn beat(&self, request: Request<Streaming<Probe>>) -> Result<Response<Self::BeatStream>, Status> {
        let subject = self.doorkeeper.admit(request.extensions().get())?;
        let mut inbound = request.into_inner();
        let first = first_word(&mut inbound, "heartbeat").await?;
        let (out, outbound) = mpsc::channel(SESSION_QUEUE);
        self.tasks.spawn(answer_beats(self.clone(), subject, first, inbound, out));
        Ok(Response::new(ReceiverStream::new(outbound)))
    }
}

impl Services {
    async fn join(&self, mut hello: Hello, out: ToAgent) -> Result<Joined, Status> {
        check_name(&hello.name, MAX_NAME_BYTES).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let incarnation = self
            .store
            .incarnation(&hello.name, hello.boot)
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        // Here and not in the hub, where heartbeats would wait for it.
        let mut held = Vec::new();
        for of_run in std::mem::take(&mut hello.held).into_iter().take(MAX_HELD) {
            match Part::look_up(&self.store, &hello.name, of_run).await {
                Ok(part) => held.extend(part),
                // Nothing more can be added to such a run.
                Err(error @ (StoreError::Damaged { .. } | StoreError::Changed { .. })) => {
                    tracing::error!(agent = hello.name, %error, "what an agent holds of a run can't be taken");
                }
                Err(error) => return Err(Status::unavailable(error.to_string())),
            }
        }
        let (answer, answered) = oneshot::channel();
        self.tell(Message::Join { hello: Box::new(hello), held, incarnation, out, answer }).await?;
        let joined = answered.await.map_err(|_| ShuttingDown)?;
        joined.map_err(|error| Status::already_exists(error.to_string()))
    }
}

/// Reads one session until it ends.
async fn pump(
    services: Services,
    (agent, session): (AgentId, u64),
    mut inbound: Streaming<AgentMessage>,
    out: ToAgent,
    revoked: impl Future<Output = ()>,
) {
    let hub = &services.hub;
    let mut revoked = std::pin::pin!(revoked);
    let why = loop {
        let said = tokio::select! {
            said = inbound.message() => said,
            // The hub has given the session up.
            () = out.closed() => break "its session was closed".to_owned(),
            () = &mut revoked => {
                let why = "its certificate was revoked, or has expired";
                let _ = out.send(Err(Status::unauthenticated(why))).await;
                break why.to_owned();
            }
            // The coordinator ends; as long as this sender is here, the session would not.
            () = hub.closed() => return,
        };
        let said = match said {
            Ok(Some(AgentMessage { kind: Some(said) })) => said,
            Ok(Some(AgentMessage { kind: None })) => continue,
            Ok(None) => break "it closed its session".to_owned(),
            Err(status) => break format!("its connection broke: {}", status.message()),
        };
        let turn = services.unpacking.acquire().await;
        let heard = match wire::heard(said) {
            Ok(heard) => heard,
            Err(error) => {
                drop(turn);
                let why = format!("it sent a delta that can't be: {error}");
                let status = match error {
                    // The link's fault, not the agent's: it says it again in its next session.
                    WireError::Corrupted { .. } => Status::data_loss(why.clone()),
                    _ => Status::invalid_argument(why.clone()),
                };
                let _ = out.send(Err(status)).await;
                break why;
            }
        };
        if hub.send(Message::Heard { agent, heard }).await.is_err() {
            return;
        }
        drop(turn);
    };
    let _ = hub.send(Message::Left { agent, session, why }).await;
}

/// The first message of a stream. One that never says anything would be held for ever.
async fn first_word<M>(inbound: &mut Streaming<M>, what: &str) -> Result<Option<M>, Status> {
    let first = timeout(HELLO_DEADLINE, inbound.message()).await;
    first.map_err(|_| Status::deadline_exceeded(format!("no {what} came")))?
}

/// Answers heartbeats for as long as the hub lets the agent go on.
async fn answer_beats(
    services: Services,
    subject: Option<Arc<Subject>>,
    mut next: Option<Probe>,
    mut inbound: Streaming<Probe>,
    out: mpsc::Sender<Result<ProbeReply, Status>>,
) {
    let name = subject.as_ref().map(|subject| subject.name.clone());
    let mut revoked = std::pin::pin!(until_revoked(services.doorkeeper.gate().cloned(), subject));
    while let Some(probe) = next {
        let t2_us = services.clock.now_us();
        let (answer, answered) = oneshot::channel();
        if services.beats.send(Beat { agent: AgentId(probe.incarnation), name: name.clone(), answer }).await.is_err() {
            return;
        }
        let reply = match answered.await {
            Ok(true) => Ok(ProbeReply { t1_us: probe.t1_us, t2_us, t3_us: services.clock.now_us() }),
            // What it had may be others' by now.
            Ok(false) => Err(Status::failed_precondition("this agent was given up")),
            Err(_) => Err(ShuttingDown.into()),
        };
        let is_last = reply.is_err();
        if out.send(reply).await.is_err() || is_last {
            return;
        }
        next = tokio::select! {
            probe = inbound.message() => probe.unwrap_or_default(),
            () = &mut revoked => return,
            // The coordinator ends.
            () = services.beats.closed() => return,
        };
    }
}
