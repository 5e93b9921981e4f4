//! The session with the coordinator: on a thread of its own, so that a busy worker never misses a heartbeat and a slow
//! link never delays a request. The only part of the agent that names the wire.

mod job;

use std::path::PathBuf;
use std::time::Duration;

use groundswell_proto::limits::{
    HEARTBEAT, HELLO_DEADLINE, MAX_AGENT_MESSAGE_BYTES, MAX_PLAN_MESSAGE_BYTES, PROTOCOL, SESSION_QUEUE,
};
use groundswell_proto::v1::agent_message::Kind as Say;
use groundswell_proto::v1::agent_service_client::AgentServiceClient;
use groundswell_proto::v1::coordinator_message::Kind as Heard;
use groundswell_proto::v1::{AgentMessage, CoordinatorMessage, Hello, Probe, Ready, Welcome};
use rand::RngExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use crate::clock::ClockSync;
use job::{Due, Job};

/// First pause before a lost coordinator is dialled again; doubles up to [`RETRY_LIMIT`], each time with full jitter.
const RETRY_FIRST: Duration = Duration::from_millis(200);
/// Longest pause between two tries.
const RETRY_LIMIT: Duration = Duration::from_secs(5);
/// Probes at the beginning of a session, one after another: the least round trip of so many is close to the link's own.
const FIRST_PROBES: u32 = 16;
/// An estimate of the coordinator's clock with this bound is good enough to start by: half of what the coordinator
/// allows.
const CLOCK_BOUND_US: u64 = 2_500;
/// How long an agent probes for it.
const CLOCK_PATIENCE: Duration = Duration::from_secs(5);
/// Between the last message of an agent that leaves and the end of its session.
const LEAVE_PAUSE: Duration = Duration::from_millis(300);
/// How long an agent that was asked to stop waits for its last delta to be acknowledged.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

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
    /// A mode for tests: a directory that gets a CSV of every sample (`step,outcome,response,service,send lag`, in µs).
    pub raw_samples: Option<PathBuf>,
    /// End with an error when the coordinator can't be reached, instead of trying again.
    pub once: bool,
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
    let endpoint = Endpoint::from_shared(options.coordinator.clone())
        .map_err(|error| AgentError::Url { url: options.coordinator.clone(), why: error.to_string() })?
        .connect_timeout(HELLO_DEADLINE)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(10));
    let boot: u64 = rand::random();
    let mut pause = RETRY_FIRST;
    loop {
        let ended = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            session = Session::open(&endpoint, &options, boot) => match session {
                Ok(session) => {
                    pause = RETRY_FIRST;
                    session.serve(&shutdown).await
                }
                Err(status) => Err(status),
            },
        };
        let Err(status) = ended else { return Ok(()) };
        let why = explain(&status);
        if matches!(status.code(), Code::FailedPrecondition | Code::AlreadyExists | Code::InvalidArgument) {
            return Err(AgentError::Refused { url: options.coordinator, why });
        }
        if options.once {
            return Err(AgentError::Unreachable { url: options.coordinator, why });
        }
        tracing::warn!(coordinator = %options.coordinator, %why, "no session with the coordinator; trying again");
        let jittered = rand::rng().random_range(Duration::ZERO..=pause);
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = sleep(jittered) => pause = (pause * 2).min(RETRY_LIMIT),
        }
    }
}

/// The words of a status; tonic's own for a failed dial hide the reason in the source.
fn explain(status: &Status) -> String {
    let mut why = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(inner) = source {
        let text = inner.to_string();
        if !why.contains(&text) {
            why = format!("{why}: {text}");
        }
        source = inner.source();
    }
    why
}

struct Session {
    options: AgentOptions,
    out: mpsc::Sender<AgentMessage>,
    inbound: Streaming<CoordinatorMessage>,
    clock: ClockSync,
    probes: u32,
    welcome: Welcome,
    job: Option<Job>,
    /// Waits for a better estimate of the clock, until the deadline.
    ready: Option<(Ready, Instant)>,
}

impl Session {
    async fn open(endpoint: &Endpoint, options: &AgentOptions, boot: u64) -> Result<Self, Status> {
        let channel: Channel = endpoint.connect().await.map_err(|error| Status::from_error(Box::new(error)))?;
        let mut client = AgentServiceClient::new(channel)
            .max_decoding_message_size(MAX_PLAN_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_AGENT_MESSAGE_BYTES);
        let (out, outbound) = mpsc::channel(SESSION_QUEUE);
        let hello = Hello {
            protocol: PROTOCOL,
            name: options.name.clone(),
            boot,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            workers: options.workers,
            weight: options.weight,
        };
        // The queue is empty, so this does not wait.
        let _ = out.send(message(Say::Hello(hello))).await;
        let mut inbound = client.session(ReceiverStream::new(outbound)).await?.into_inner();
        let first = timeout(HELLO_DEADLINE, inbound.message())
            .await
            .map_err(|_| Status::deadline_exceeded("the coordinator did not answer Hello"))??;
        let Some(CoordinatorMessage { kind: Some(Heard::Welcome(welcome)) }) = first else {
            return Err(Status::unavailable("the coordinator did not answer Hello with Welcome"));
        };
        tracing::info!(coordinator = %options.coordinator, name = %options.name, "joined");
        Ok(Session {
            options: options.clone(),
            out,
            inbound,
            clock: ClockSync::new(),
            probes: 0,
            welcome,
            job: None,
            ready: None,
        })
    }

    /// Serves until the session is lost (an error) or the shutdown is done.
    async fn serve(mut self, shutdown: &CancellationToken) -> Result<(), Status> {
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut leaving = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled(), if leaving.is_none() => {
                    let Some(job) = &mut self.job else { return Ok(()) };
                    job.leave().await;
                    leaving = Some(Instant::now() + DRAIN_LIMIT);
                }
                () = until(leaving) => return Ok(()),
                heard = self.inbound.message() => match heard? {
                    Some(CoordinatorMessage { kind: Some(heard) }) => self.hear(heard).await,
                    Some(CoordinatorMessage { kind: None }) => {}
                    None => return Err(Status::unavailable("the coordinator closed the session")),
                },
                _ = heartbeat.tick() => self.probe(),
                due = Job::due(self.job.as_mut()) => {
                    let done = self.act(due).await?;
                    if done && leaving.is_some() {
                        // A moment for the stream to carry the last delta; the coordinator closes the account with it.
                        leaving = Some(Instant::now() + LEAVE_PAUSE);
                    }
                }
            }
        }
    }

    /// Does what is due and tells the coordinator; true when the job is done.
    async fn act(&mut self, due: Due) -> Result<bool, Status> {
        let Some(job) = &mut self.job else { return Ok(false) };
        let mut done = false;
        for kind in job.act(due).await {
            done |= matches!(kind, Say::Done(_));
            self.out.send(message(kind)).await.map_err(|_| Status::unavailable("the session is closed"))?;
        }
        Ok(done)
    }

    fn probe(&self) {
        // A full queue means a slow link; the next probe will do.
        let _ = self.out.try_send(message(Say::Probe(Probe { t1_us: self.clock.now_us() })));
    }

    /// Tells that the agent is ready, as soon as its clock is known well enough for a common start. A link that never
    /// gets there is told as it is, and the coordinator says so.
    async fn say_ready(&mut self) {
        let known = self.clock.bound_us().is_some_and(|bound_us| bound_us <= CLOCK_BOUND_US);
        let over =
            |(ready, deadline): &mut (Ready, Instant)| known || !ready.problem.is_empty() || Instant::now() > *deadline;
        if let Some((ready, _)) = self.ready.take_if(over) {
            // A closed session shows at the next read.
            let _ = self.out.send(message(Say::Ready(ready))).await;
        }
    }

    async fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::ProbeReply(reply) => {
                self.clock.probed(reply.t1_us, reply.t2_us, reply.t3_us, self.clock.now_us());
                self.probes += 1;
                if self.probes < FIRST_PROBES || self.ready.is_some() {
                    self.probe();
                }
                self.say_ready().await;
            }
            Heard::Arm(arm) => {
                let (job, ready) = Job::arm(arm, &self.options, self.welcome.incarnation);
                self.job = job;
                self.ready = Some((ready, Instant::now() + CLOCK_PATIENCE));
                self.probe();
                self.say_ready().await;
            }
            Heard::Start(start) => {
                if let Some(job) = self.job.as_mut().filter(|job| job.is(&start.run_id)) {
                    let started = job.start(start.t0_us, &self.clock).await;
                    let _ = self.out.send(message(Say::Started(started))).await;
                }
            }
            Heard::CheckTarget(check) => {
                if let Some(job) = self.job.as_mut().filter(|job| job.is(&check.run_id)) {
                    job.check_target();
                }
            }
            Heard::Ack(ack) => {
                if let Some(job) = self.job.as_mut().filter(|job| job.is(&ack.run_id)) {
                    job.acknowledged(ack.upto);
                }
            }
            Heard::Stop(stop) => {
                if let Some(job) = self.job.as_mut().filter(|job| job.is(&stop.run_id)) {
                    job.stop(&stop.reason, Duration::from_millis(u64::from(stop.grace_ms))).await;
                }
            }
            Heard::Release(release) => {
                if self.job.as_ref().is_some_and(|job| job.is(&release.run_id)) {
                    self.job = None;
                }
            }
            Heard::Welcome(_) => tracing::warn!("a second Welcome on one session was ignored"),
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn message(kind: Say) -> AgentMessage {
    AgentMessage { kind: Some(kind) }
}
