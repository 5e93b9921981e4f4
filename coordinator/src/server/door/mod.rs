//! The door of a coordinator: who gets in.
//!
//! # Layout
//! - `listen`: connections, with TLS where there is a gate
//! - `strangers`: how many of them one address may have
//! - `sessions`: browsers that have logged in
//! - `attempts`: how often somebody may try
//! - `hosts`: under which names a browser may reach it
//! - `audit`: who did what

mod attempts;
mod audit;
mod hosts;
mod listen;
mod sessions;
mod strangers;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use groundswell_access::{Denied, Gate, Grant, Subject, Token};
use tokio_util::sync::CancellationToken;
use tonic::Status;

pub(super) use attempts::Attempts;
pub use audit::AUDIT;
pub(super) use audit::Audit;
pub(super) use hosts::Hosts;
pub(super) use listen::listen;
pub(super) use sessions::{LIFETIME, Sessions};

/// A change of tokens or revocations counts after so long.
const RELOAD: Duration = Duration::from_secs(1);

/// Who gets in.
#[derive(Clone, Default)]
pub enum Door {
    /// Everybody on this machine: the address is a loopback one.
    #[default]
    Local,
    /// Everybody who reaches the address, over connections that others can read. Stands in every report.
    Open,
    /// Agents with a certificate, people with a token, over TLS.
    Gate(Arc<Gate>),
}

/// For `{:?}` of options: nothing of a gate is for logs.
impl std::fmt::Debug for Door {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Door::Local => "Local",
            Door::Open => "Open",
            Door::Gate(_) => "Gate",
        })
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Peer {
    pub(super) address: Option<SocketAddr>,
    /// The agent whose certificate it showed.
    pub(super) agent: Option<Arc<Subject>>,
}

impl Peer {
    /// Where it comes from.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        self.address.map(|address| address.ip().to_canonical())
    }
}

/// Why a token is not taken.
#[derive(Debug)]
pub(super) enum Refusal {
    Denied(Denied),
    /// It was not looked at: wait so long.
    TooMany(Duration),
}

/// What the server knows of who gets in.
#[derive(Clone)]
pub(super) struct Doorkeeper {
    pub(super) door: Door,
    pub(super) hosts: Arc<Hosts>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) attempts: Arc<Attempts>,
    pub(super) audit: Arc<Audit>,
}

impl Doorkeeper {
    pub(super) fn new(door: Door, names: &[String]) -> Self {
        let audit = match &door {
            Door::Gate(gate) => Audit::to(&gate.folder().changes().join("audit.jsonl")),
            Door::Local | Door::Open => Audit::none(),
        };
        Doorkeeper {
            door,
            hosts: Arc::new(Hosts::new(names)),
            sessions: Arc::default(),
            attempts: Arc::default(),
            audit: Arc::new(audit),
        }
    }

    pub(super) fn gate(&self) -> Option<&Arc<Gate>> {
        match &self.door {
            Door::Gate(gate) => Some(gate),
            Door::Local | Door::Open => None,
        }
    }

    /// Tries a token. Who has tried too many that count for nothing has to wait; one that a coordinator made is looked at all
    /// the same, since nobody can guess it, and others behind the same address shall not be locked out.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub(super) fn grant(&self, gate: &Gate, peer: &Peer, token: &str) -> Result<Grant, Refusal> {
        let waits = self.attempts.may_try(peer.ip()).err();
        if let Some(wait) = waits.filter(|_| Token::parse(token).is_err()) {
            return Err(Refusal::TooMany(wait));
        }
        gate.grant(token).map_err(|denied| {
            self.attempts.failed(peer.ip());
            waits.map_or(Refusal::Denied(denied), Refusal::TooMany)
        })
    }

    /// Lets an agent in: the name in its certificate is its name, whatever it says. None where everybody gets in.
    ///
    /// # Errors
    /// Says what to do.
    pub(super) fn admit(&self, peer: Option<&Peer>) -> Result<Option<Arc<Subject>>, Status> {
        let Some(gate) = self.gate() else { return Ok(None) };
        let refuse = |why: &str| {
            if let Some(suppressed) = self.attempts.may_be_told() {
                let from = peer.and_then(|peer| peer.address).map(|address| address.to_string()).unwrap_or_default();
                tracing::warn!(from, why, suppressed, "an agent is not let in");
            }
            Err(Status::unauthenticated(why))
        };
        match peer.and_then(|peer| peer.agent.clone()) {
            None => refuse(
                "it wants a certificate; start the agent with --join TOKEN (groundswell tokens create join) or --identity DIR \
                 (groundswell certs agent)",
            ),
            Some(subject) if gate.is_revoked(&subject) => {
                refuse("the certificate of this agent is revoked or expired; it needs another one: --join TOKEN")
            }
            Some(subject) => Ok(Some(subject)),
        }
    }

    /// Follows what is changed in the access folder.
    pub(super) async fn follow(self, over: CancellationToken) {
        let Some(gate) = self.gate() else { return };
        let mut tick = tokio::time::interval(RELOAD);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = over.cancelled() => return,
            }
            if let Err(error) = gate.reload() {
                tracing::error!(%error, "tokens and revocations stay as they were");
            }
        }
    }
}

/// Whether the certificate that a session began with counts no more.
pub(super) async fn until_revoked(gate: Option<Arc<Gate>>, subject: Option<Arc<Subject>>) {
    let (Some(gate), Some(subject)) = (gate, subject) else { return std::future::pending().await };
    let mut tick = tokio::time::interval(RELOAD);
    while !gate.is_revoked(&subject) {
        tick.tick().await;
    }
}
