//! An agent made by hand: it says to a coordinator whatever a test wants said.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use groundswell_proto::limits::PROTOCOL;
use groundswell_proto::v1::agent_message::Kind as Say;
use groundswell_proto::v1::agent_service_client::AgentServiceClient;
use groundswell_proto::v1::coordinator_message::Kind as Heard;
use groundswell_proto::v1::{self, AgentMessage, CoordinatorMessage, Held, Hello};
use groundswell_stats::{Delta, Outcome, Phases, Recorder, Sample, StepId};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};
use tower::service_fn;

/// Nothing that a test waits for takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A session with a coordinator.
pub(crate) struct ByHand {
    runtime: Runtime,
    out: mpsc::Sender<AgentMessage>,
    inbound: Streaming<CoordinatorMessage>,
    /// Number of this life.
    pub(crate) incarnation: u64,
}

/// What an agent has that was let in.
pub(crate) struct Joined {
    out: mpsc::Sender<AgentMessage>,
    inbound: Streaming<CoordinatorMessage>,
    /// Number of its life.
    pub(crate) incarnation: u64,
}

/// Opens a session under a name; the same boot again comes back as the same incarnation, with what it says that it holds.
///
/// # Errors
/// When it is not let in.
pub(crate) async fn join(url: &str, name: &str, boot: u64, held: Vec<Held>) -> anyhow::Result<Joined> {
    join_with(url, None, name, boot, held).await
}

/// The same over TLS.
///
/// # Errors
/// When it is not let in.
pub(crate) async fn join_with(
    url: &str,
    tls: Option<Arc<ClientConfig>>,
    name: &str,
    boot: u64,
    held: Vec<Held>,
) -> anyhow::Result<Joined> {
    let (out, outbound) = mpsc::channel(64);
    let hello = Hello {
        protocol: PROTOCOL,
        name: name.to_owned(),
        version: "0".into(),
        workers: 1,
        weight: 1,
        boot,
        held,
        ..Hello::default()
    };
    let mut client = AgentServiceClient::new(connect(url, tls).await?);
    out.send(AgentMessage { kind: Some(Say::Hello(hello)) }).await?;
    let mut inbound = client.session(ReceiverStream::new(outbound)).await?.into_inner();
    match inbound.message().await? {
        Some(CoordinatorMessage { kind: Some(Heard::Welcome(welcome)) }) => {
            Ok(Joined { out, inbound, incarnation: welcome.incarnation })
        }
        other => bail!("no Welcome but {other:?}"),
    }
}

async fn connect(url: &str, tls: Option<Arc<ClientConfig>>) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(url.to_owned())?;
    let Some(tls) = tls else { return Ok(endpoint.connect().await?) };
    let mut config = (*tls).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let over_tls = service_fn(move |url: Uri| {
        let connector = connector.clone();
        async move {
            let address: std::net::SocketAddr = url
                .authority()
                .and_then(|at| at.as_str().parse().ok())
                .ok_or_else(|| std::io::Error::new(std::io::ErrorKind::InvalidInput, "the tests dial addresses"))?;
            let stream = TcpStream::connect(address).await?;
            anyhow::Ok(TokioIo::new(connector.connect(ServerName::IpAddress(address.ip().into()), stream).await?))
        }
    });
    Ok(endpoint.connect_with_connector(over_tls).await?)
}

impl ByHand {
    /// Joins; the same boot again comes back as the same incarnation, with what it says that it holds.
    ///
    /// # Errors
    /// When it is not let in.
    pub(crate) fn join(url: &str, boot: u64, held: Vec<Held>) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let Joined { out, inbound, incarnation } = runtime.block_on(join(url, "by-hand", boot, held))?;
        Ok(ByHand { runtime, out, inbound, incarnation })
    }

    /// Says something.
    ///
    /// # Errors
    /// When the session is over.
    pub(crate) fn say(&self, kind: Say) -> anyhow::Result<()> {
        Ok(self.runtime.block_on(self.out.send(AgentMessage { kind: Some(kind) }))?)
    }

    /// The first thing heard that `pick` takes.
    ///
    /// # Errors
    /// When the session ends before.
    pub(crate) fn until<T>(&mut self, mut pick: impl FnMut(Heard) -> Option<T>) -> anyhow::Result<T> {
        let inbound = &mut self.inbound;
        let heard = async {
            loop {
                let message = inbound.message().await?.context("the session ended")?;
                if let Some(picked) = message.kind.and_then(&mut pick) {
                    return anyhow::Ok(picked);
                }
            }
        };
        self.runtime.block_on(async { timeout(PATIENCE, heard).await })?
    }

    /// Waits for the end of the session.
    ///
    /// # Errors
    /// When it ends without a reason.
    pub(crate) fn refused(&mut self) -> anyhow::Result<Status> {
        match self.until(|_| None::<()>) {
            Ok(()) => bail!("nothing was to be picked"),
            Err(error) => error.downcast::<Status>(),
        }
    }

    /// Takes part in a run up to its start, and returns its id.
    ///
    /// # Errors
    /// When it does not come to that.
    pub(crate) fn take_part(&mut self) -> anyhow::Result<String> {
        let run_id = self.until(|heard| match heard {
            Heard::Arm(arm) => Some(arm.run_id),
            _ => None,
        })?;
        self.say(Say::Ready(v1::Ready { run_id: run_id.clone(), ..v1::Ready::default() }))?;
        self.until(|heard| matches!(heard, Heard::CheckTarget(_)).then_some(()))?;
        self.say(Say::TargetChecked(v1::TargetChecked { run_id: run_id.clone(), problem: String::new() }))?;
        self.until(|heard| matches!(heard, Heard::Start(_)).then_some(()))?;
        self.say(Say::Started(v1::Started { run_id: run_id.clone(), ..v1::Started::default() }))?;
        Ok(run_id)
    }

    /// Hands in figures.
    ///
    /// # Errors
    /// When the session is over.
    pub(crate) fn deliver(&self, run_id: &str, seq: u64, figures: Vec<u8>) -> anyhow::Result<()> {
        let (run_id, incarnation) = (run_id.to_owned(), self.incarnation);
        self.say(Say::Delta(v1::Delta::new(run_id, incarnation, seq, figures.into())))
    }

    /// Waits until everything up to this number is acknowledged.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) fn acknowledged(&mut self, seq: u64) -> anyhow::Result<()> {
        self.until(|heard| matches!(heard, Heard::Ack(ack) if ack.upto == seq).then_some(()))
    }

    /// Says that it has ended, and waits until it is let go.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) fn done(&mut self, run_id: &str, last_seq: u64) -> anyhow::Result<()> {
        let (run_id, incarnation) = (run_id.to_owned(), self.incarnation);
        self.say(Say::Done(v1::Done { run_id, last_seq, problem: String::new(), incarnation }))?;
        self.until(|heard| matches!(heard, Heard::Release(_)).then_some(()))
    }
}

/// Figures of one second of the plan's first step in which so many operations ended well after `response_us`, with all
/// that were decided before.
pub(crate) fn measured(second: u64, operations: u64, response_us: u64) -> v1::Figures {
    let mut recorder = Recorder::new(1);
    recorder.scheduled(StepId(0), operations);
    for _ in 0..operations {
        recorder.issued(StepId(0));
        recorder.finished(&Sample {
            step: StepId(0),
            response_us,
            service_us: response_us,
            send_lag_us: 1,
            phases: Phases::default(),
            outcome: Outcome::Ok,
            follow_ups: 0,
            bytes_sent: 0,
            bytes_received: 2,
        });
    }
    let (from_us, to_us) = (second * 1_000_000, (second + 1) * 1_000_000);
    let delta = Delta { from_us, to_us, steps: recorder.seal(), ..Delta::default() };
    let decided = (second + 1) * operations;
    let cursors = vec![v1::Cursor { scenario: 0, phase: 0, decided, generation: 0 }];
    v1::Figures { cursors, ..v1::Figures::from(&delta) }
}
