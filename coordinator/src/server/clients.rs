//! The service that clients talk to: whoever submits and follows runs.

use std::collections::BTreeMap;
use std::time::Duration;

use groundswell_proto::v1::run_service_server::RunService;
use groundswell_proto::v1::{FollowRequest, RunEvent, StopRequest, StopResponse, SubmitRequest};
use groundswell_scenario::{Plan, PlanSource};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::hub::{Message, Submission};
use super::{Services, shutting_down, speaks_our_protocol};

/// Progress events that wait for a slow client; further ones are left out.
const EVENT_QUEUE: usize = 64;

#[tonic::async_trait]
impl RunService for Services {
    type SubmitStream = ReceiverStream<Result<RunEvent, Status>>;
    type FollowStream = ReceiverStream<Result<RunEvent, Status>>;

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
        let (follower, stream) = mpsc::channel(EVENT_QUEUE);
        let (answer, answered) = oneshot::channel();
        let submission = Submission {
            plan,
            source,
            agents: request.agents as usize,
            wait: Duration::from_millis(u64::from(request.wait_ms)),
            labels,
            submission: request.submission,
            follower,
            answer,
        };
        self.tell(Message::Submit(Box::new(submission))).await?;
        let stored = answered.await.map_err(|_| shutting_down())?;
        stored.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn follow(&self, request: Request<FollowRequest>) -> Result<Response<Self::FollowStream>, Status> {
        let FollowRequest { protocol, run_id } = request.into_inner();
        speaks_our_protocol("client", protocol, "?")?;
        let (follower, stream) = mpsc::channel(EVENT_QUEUE);
        let (answer, answered) = oneshot::channel();
        self.tell(Message::Follow { run_id: run_id.clone(), follower, answer }).await?;
        match answered.await {
            Ok(true) => Ok(Response::new(ReceiverStream::new(stream))),
            Ok(false) => Err(Status::not_found(format!("there is no run {run_id}"))),
            Err(_) => Err(shutting_down()),
        }
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
