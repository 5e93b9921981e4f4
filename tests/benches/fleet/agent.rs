//! An agent that sends no load: it speaks the protocol as a real one, on two connections, and has its figures from a
//! script.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use groundswell_proto::limits::{HEARTBEAT, PROTOCOL, SESSION_QUEUE};
use groundswell_proto::v1::agent_message::Kind as Say;
use groundswell_proto::v1::agent_service_client::AgentServiceClient;
use groundswell_proto::v1::coordinator_message::Kind as Heard;
use groundswell_proto::v1::{self, AgentMessage, CoordinatorMessage, Hello, Probe, ProbeReply};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, interval_at, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use crate::script::Script;

/// What all agents share.
pub(crate) struct Fleet {
    pub(crate) url: String,
    pub(crate) script: Script,
    pub(crate) agents: u64,
    /// Zero of the clock that they all have.
    pub(crate) zero: Instant,
    /// When the run starts, as soon as it is known.
    pub(crate) t0: watch::Sender<Option<Instant>>,
    /// So many join at a time.
    pub(crate) joining: Semaphore,
    pub(crate) joined: watch::Sender<u64>,
    /// Agents may say that they have ended.
    pub(crate) may_end: CancellationToken,
    pub(crate) sent: AtomicU64,
    pub(crate) acknowledged: AtomicU64,
}

/// A session with the coordinator.
struct Session {
    out: mpsc::Sender<AgentMessage>,
    inbound: Streaming<CoordinatorMessage>,
    incarnation: u64,
}

/// How the coordinator's clock relates to ours.
#[derive(Clone, Copy)]
struct Agreement {
    /// Its clock less ours, in microseconds.
    ahead_us: i64,
    bound_us: u64,
}

/// The run that an agent takes part in.
#[derive(Default)]
struct Part {
    run_id: String,
    generation: u32,
    t0: Option<Instant>,
    /// When each delta was sent.
    sent: Vec<Instant>,
    /// How long each took from there to its acknowledgement.
    acknowledged: Vec<Duration>,
}

/// Takes part in one run as the nth agent. Returns how long each delta took from its sending to its acknowledgement.
///
/// # Errors
/// When anything is not as it should be.
pub(crate) async fn work(fleet: Arc<Fleet>, nth: u64) -> anyhow::Result<Vec<Duration>> {
    let turn = fleet.joining.acquire().await?;
    let session = join(&fleet, nth).await?;
    let incarnation = session.incarnation;
    let (probes, mut replies, agreement) = first_beat(&fleet, incarnation).await?;
    drop(turn);
    fleet.joined.send_modify(|joined| *joined += 1);
    tokio::select! {
        took_part = take_part(&fleet, nth, session, agreement) => took_part.with_context(|| format!("agent {nth}")),
        over = beat(&fleet, (nth, incarnation), &probes, &mut replies) => bail!("the heartbeats of agent {nth} ended: {over:?}"),
    }
}

impl Fleet {
    fn now_us(&self) -> u64 {
        self.zero.elapsed().as_micros() as u64
    }

    /// A connection as real agents have.
    async fn dial(&self) -> anyhow::Result<AgentServiceClient<Channel>> {
        let endpoint = Endpoint::from_shared(self.url.clone())?
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(5))
            .keep_alive_timeout(Duration::from_secs(10));
        Ok(AgentServiceClient::new(endpoint.connect().await?))
    }
}

async fn join(fleet: &Fleet, nth: u64) -> anyhow::Result<Session> {
    let (out, outbound) = mpsc::channel(SESSION_QUEUE);
    let hello = Hello {
        protocol: PROTOCOL,
        name: format!("agent-{nth}"),
        version: "0".into(),
        workers: 1,
        weight: 1,
        boot: nth + 1,
        ..Hello::default()
    };
    out.send(AgentMessage { kind: Some(Say::Hello(hello)) }).await?;
    let mut inbound = fleet.dial().await?.session(ReceiverStream::new(outbound)).await?.into_inner();
    match inbound.message().await?.and_then(|message| message.kind) {
        Some(Heard::Welcome(welcome)) => Ok(Session { out, inbound, incarnation: welcome.incarnation }),
        other => bail!("no Welcome but {other:?}"),
    }
}

type Beats = (mpsc::Sender<Probe>, Streaming<ProbeReply>, Agreement);

async fn first_beat(fleet: &Fleet, incarnation: u64) -> anyhow::Result<Beats> {
    let (probes, outbound) = mpsc::channel(SESSION_QUEUE);
    probes.send(Probe { t1_us: fleet.now_us(), incarnation }).await?;
    let mut replies = fleet.dial().await?.beat(ReceiverStream::new(outbound)).await?.into_inner();
    replies.message().await?.context("no answer to a heartbeat")?;
    // The first one has the connection's set-up in it.
    probes.send(Probe { t1_us: fleet.now_us(), incarnation }).await?;
    let ProbeReply { t1_us, t2_us, t3_us } = replies.message().await?.context("no answer to a heartbeat")?;
    let t4_us = fleet.now_us();
    let ahead_us = ((t2_us + t3_us) / 2) as i64 - ((t1_us + t4_us) / 2) as i64;
    Ok((probes, replies, Agreement { ahead_us, bound_us: (t4_us - t1_us).div_ceil(2) }))
}

/// A heartbeat a second, those of the agents spread over it as the moments at which they joined would be.
async fn beat(
    fleet: &Fleet,
    (nth, incarnation): (u64, u64),
    probes: &mpsc::Sender<Probe>,
    replies: &mut Streaming<ProbeReply>,
) -> anyhow::Result<()> {
    let begin = Instant::now() + HEARTBEAT.mul_f64(nth as f64 / fleet.agents as f64);
    let mut tick = interval_at(begin, HEARTBEAT);
    loop {
        tokio::select! {
            _ = tick.tick() => {
                probes.send(Probe { t1_us: fleet.now_us(), incarnation }).await?;
            }
            reply = replies.message() => drop(reply?.context("the stream ended")?),
        }
    }
}

async fn take_part(
    fleet: &Fleet,
    nth: u64,
    mut session: Session,
    agreement: Agreement,
) -> anyhow::Result<Vec<Duration>> {
    let mut part = Part::default();
    let mut has_ended = false;
    loop {
        // As real agents, each seals at every full second of the run, so all of them at the same moments.
        let next = part.sent.len() as u64 + 1;
        let due = part.t0.filter(|_| next <= fleet.script.seconds()).map(|t0| t0 + Duration::from_secs(next));
        tokio::select! {
            message = session.inbound.message() => {
                let heard = message?.and_then(|message| message.kind).context("the session ended")?;
                if let Heard::Release(_) = heard {
                    ensure!(has_ended, "released before its end");
                    return Ok(part.acknowledged);
                }
                if let Some(answer) = part.hear(fleet, heard, agreement)? {
                    session.say(answer).await?;
                }
            }
            () = at(due) => {
                let figures = fleet.script.figures(nth, next - 1, part.generation);
                let delta = v1::Delta::new(part.run_id.clone(), session.incarnation, next, figures.into());
                part.sent.push(Instant::now());
                session.say(Say::Delta(delta)).await?;
                fleet.sent.fetch_add(1, Ordering::Relaxed);
            }
            () = fleet.may_end.cancelled(), if !has_ended => {
                session.say(part.done(session.incarnation)).await?;
                has_ended = true;
            }
        }
    }
}

impl Session {
    async fn say(&self, kind: Say) -> anyhow::Result<()> {
        Ok(self.out.send(AgentMessage { kind: Some(kind) }).await?)
    }
}

impl Part {
    /// What is answered to what the coordinator says.
    fn hear(&mut self, fleet: &Fleet, heard: Heard, agreement: Agreement) -> anyhow::Result<Option<Say>> {
        let run_id = self.run_id.clone();
        Ok(match heard {
            Heard::Arm(arm) => {
                self.generation = arm.assignment.context("no assignment")?.generation;
                self.run_id.clone_from(&arm.run_id);
                Some(Say::Ready(v1::Ready { run_id: arm.run_id, ..v1::Ready::default() }))
            }
            Heard::CheckTarget(_) => Some(Say::TargetChecked(v1::TargetChecked { run_id, problem: String::new() })),
            Heard::Start(start) => {
                let ours_us = u64::try_from(start.t0_us as i64 - agreement.ahead_us)?;
                let t0 = fleet.zero + Duration::from_micros(ours_us);
                self.t0 = Some(t0);
                fleet.t0.send_replace(Some(t0));
                let clock_bound_us = agreement.bound_us;
                Some(Say::Started(v1::Started { run_id, clock_bound_us, problem: String::new() }))
            }
            Heard::Ack(ack) => {
                let fresh = self.acknowledged.len()..ack.upto as usize;
                fleet.acknowledged.fetch_add(fresh.len() as u64, Ordering::Relaxed);
                self.acknowledged.extend(self.sent[fresh].iter().map(Instant::elapsed));
                None
            }
            other => bail!("it heard {other:?}"),
        })
    }

    fn done(&self, incarnation: u64) -> Say {
        let (run_id, last_seq) = (self.run_id.clone(), self.sent.len() as u64);
        Say::Done(v1::Done { run_id, last_seq, problem: String::new(), incarnation })
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
