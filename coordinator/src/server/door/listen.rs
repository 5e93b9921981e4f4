//! Connections: accepted, counted, and with TLS where there is a gate.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use groundswell_access::{AccessError, Subject};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::transport::server::Connected;

use super::{Door, Peer};

/// Most connections at a time: an agent has two. More wait to be accepted.
const MAX_CONNECTIONS: usize = 20_000;
/// Most connections that shake hands at a time.
const MAX_HANDSHAKES: usize = 512;
/// A handshake may take so long.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// After a connection could not be accepted, for want of descriptors for instance.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Accepted connections that the server has not taken.
const QUEUE: usize = 64;

/// A connection that was accepted; it counts for as long as it lives.
pub(in crate::server) struct Connection {
    stream: Stream,
    peer: Peer,
    _counted: OwnedSemaphorePermit,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The connections of a listener. They end with the receiver.
///
/// # Errors
/// When TLS can't be set up.
pub(in crate::server) fn listen(
    listener: TcpListener,
    door: &Door,
    tasks: &TaskTracker,
) -> Result<ReceiverStream<io::Result<Connection>>, AccessError> {
    let tls = match door {
        Door::Gate(gate) => Some(TlsAcceptor::from(gate.tls()?)),
        Door::Local | Door::Open => None,
    };
    let (accepted, connections) = mpsc::channel(QUEUE);
    let of_handshakes = tasks.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = accept_all(listener, tls, accepted.clone(), of_handshakes) => {}
            () = accepted.closed() => {}
        }
    });
    Ok(ReceiverStream::new(connections))
}

async fn accept_all(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    accepted: mpsc::Sender<io::Result<Connection>>,
    tasks: TaskTracker,
) {
    let (all, shaking) = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), Arc::new(Semaphore::new(MAX_HANDSHAKES)));
    loop {
        let Ok(counted) = all.clone().acquire_owned().await else { return };
        let (stream, address) = match listener.accept().await {
            Ok(new) => new,
            Err(error) => {
                tracing::warn!(%error, "a connection can't be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Small messages must not wait for each other. A connection that is gone already fails later, where it is read.
        let _ = stream.set_nodelay(true);
        let peer = Peer { address: Some(address), agent: None };
        let Some(tls) = tls.clone() else {
            let connection = Connection { stream: Stream::Plain(stream), peer, _counted: counted };
            if accepted.send(Ok(connection)).await.is_err() {
                return;
            }
            continue;
        };
        let Ok(shaken) = shaking.clone().acquire_owned().await else { return };
        let accepted = accepted.clone();
        tasks.spawn(async move {
            let shaken_hands = tokio::select! {
                shaken_hands = timeout(HANDSHAKE_LIMIT, tls.accept(stream)) => shaken_hands,
                // The server ends.
                () = accepted.closed() => return,
            };
            drop(shaken);
            match shaken_hands {
                Ok(Ok(stream)) => {
                    let agent = agent_of(&stream);
                    let stream = Stream::Tls(Box::new(stream));
                    let _ =
                        accepted.send(Ok(Connection { stream, peer: Peer { agent, ..peer }, _counted: counted })).await;
                }
                // Scanners, browsers that ask first, agents with old certificates: their side says why.
                Ok(Err(error)) => tracing::debug!(from = %address, %error, "a handshake failed"),
                Err(_) => tracing::debug!(from = %address, "a handshake took too long"),
            }
        });
    }
}

/// rustls has verified that the CA issued it.
fn agent_of(stream: &TlsStream<TcpStream>) -> Option<Arc<Subject>> {
    let (_, connection) = stream.get_ref();
    let certificate = connection.peer_certificates()?.first()?;
    Subject::of(certificate).ok().map(Arc::new)
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
