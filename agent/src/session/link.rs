//! The session: dialled, used, lost, dialled again.

use std::pin::Pin;
use std::time::Duration;

use groundswell_proto::limits::{HELLO_DEADLINE, MAX_AGENT_MESSAGE_BYTES, MAX_PLAN_MESSAGE_BYTES, SESSION_QUEUE};
use groundswell_proto::v1::agent_message::Kind as Say;
use groundswell_proto::v1::agent_service_client::AgentServiceClient;
use groundswell_proto::v1::coordinator_message::Kind as Heard;
use groundswell_proto::v1::{AgentMessage, CoordinatorMessage, Hello, Welcome};
use rand::RngExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::Dialler;

/// First pause before a lost coordinator is dialled again; doubles up to [`RETRY_LIMIT`], each time with full jitter.
const RETRY_FIRST: Duration = Duration::from_millis(200);
/// Longest pause between two tries.
const RETRY_LIMIT: Duration = Duration::from_secs(5);

/// An open session.
pub(super) struct Session {
    out: mpsc::Sender<AgentMessage>,
    inbound: Streaming<CoordinatorMessage>,
}

type Dialling = Pin<Box<dyn Future<Output = Result<(Session, Welcome), Status>> + Send>>;

enum State {
    Down { until: Instant },
    Dialling(Dialling),
    Up(Box<Session>),
}

/// What happened to the link.
pub(super) enum Happened {
    /// It is time to dial: the owner calls [`Link::dial`].
    TimeToDial,
    /// There is a session.
    Opened(Welcome),
    /// The coordinator said something.
    Heard(Heard),
    /// There is no session any more, or none came about.
    Lost(Status),
}

pub(super) struct Link {
    dialler: Dialler,
    state: State,
    pause: Duration,
}

impl Link {
    pub(super) fn new(dialler: Dialler) -> Self {
        Link { dialler, state: State::Down { until: Instant::now() }, pause: RETRY_FIRST }
    }

    /// The next thing that happens. Dropping the wait loses nothing.
    pub(super) async fn next(&mut self) -> Happened {
        let happened = match &mut self.state {
            State::Down { until } => {
                sleep_until(*until).await;
                return Happened::TimeToDial;
            }
            State::Dialling(dialling) => dialling.await.map(Ok),
            State::Up(session) => session.heard().await.map(Err),
        };
        match happened {
            Ok(Ok((session, welcome))) => {
                self.state = State::Up(Box::new(session));
                Happened::Opened(welcome)
            }
            Ok(Err(heard)) => {
                self.pause = RETRY_FIRST;
                Happened::Heard(heard)
            }
            Err(status) => {
                self.hang_up();
                Happened::Lost(status)
            }
        }
    }

    pub(super) fn dial(&mut self, hello: Hello) {
        self.state = State::Dialling(Box::pin(open(self.dialler.clone(), hello)));
    }

    /// Ends the session; another one is dialled after a pause.
    pub(super) fn hang_up(&mut self) {
        let jittered = rand::rng().random_range(Duration::ZERO..=self.pause);
        self.pause = (self.pause * 2).min(RETRY_LIMIT);
        self.state = State::Down { until: Instant::now() + jittered };
    }

    /// Sends where there is a session with room for it; says whether it did. What has to arrive is said again in the next
    /// session.
    pub(super) fn say(&self, kind: Say) -> bool {
        let State::Up(session) = &self.state else { return false };
        session.out.try_send(AgentMessage { kind: Some(kind) }).is_ok()
    }

    /// Is there a session with room for this many messages?
    pub(super) fn has_room(&self, messages: usize) -> bool {
        matches!(&self.state, State::Up(session) if session.out.capacity() >= messages)
    }
}

impl Session {
    async fn heard(&mut self) -> Result<Heard, Status> {
        loop {
            match self.inbound.message().await? {
                Some(CoordinatorMessage { kind: Some(heard) }) => return Ok(heard),
                // A message of a newer coordinator.
                Some(CoordinatorMessage { kind: None }) => {}
                None => return Err(Status::unavailable("the coordinator closed the session")),
            }
        }
    }
}

async fn open(dialler: Dialler, hello: Hello) -> Result<(Session, Welcome), Status> {
    let mut client = AgentServiceClient::new(dialler.dial().await?)
        .max_decoding_message_size(MAX_PLAN_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_AGENT_MESSAGE_BYTES);
    let (out, outbound) = mpsc::channel(SESSION_QUEUE);
    // The queue is empty, so this does not wait.
    let _ = out.send(AgentMessage { kind: Some(Say::Hello(hello)) }).await;
    let opened = async {
        let mut inbound = client.session(ReceiverStream::new(outbound)).await?.into_inner();
        match inbound.message().await? {
            Some(CoordinatorMessage { kind: Some(Heard::Welcome(welcome)) }) => Ok((inbound, welcome)),
            _ => Err(Status::unavailable("the coordinator did not answer Hello with Welcome")),
        }
    };
    let (inbound, welcome) = timeout(HELLO_DEADLINE, opened)
        .await
        .map_err(|_| Status::deadline_exceeded("the coordinator did not answer Hello"))??;
    Ok((Session { out, inbound }, welcome))
}

/// The words of a status; tonic's own for a failed dial hide the reason in the source.
pub(super) fn explain(status: &Status) -> String {
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
