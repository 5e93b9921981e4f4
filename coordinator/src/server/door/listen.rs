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
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::transport::server::Connected;

use super::strangers::{Place, Strangers};
use super::{Door, Peer};

/// Most connections at a time: an agent has two. More wait to be accepted.
const MAX_CONNECTIONS: usize = 20_000;
/// Most connections that shake hands at a time.
const MAX_HANDSHAKES: usize = 512;
/// A handshake may take so long.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// After so long a connection has to have said enough to tell HTTP/2 from HTTP/1.1; hyper has deadlines for what follows.
const FIRST_WORDS_LIMIT: Duration = Duration::from_secs(10);
/// With so many bytes that can be told: the length of HTTP/2's preface (RFC 9113, 3.4).
const FIRST_WORDS: usize = 24;
/// After a connection could not be accepted, for want of descriptors for instance.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Accepted connections that the server has not taken.
const QUEUE: usize = 64;

/// A connection that was accepted; it counts for as long as it lives.
pub(in crate::server) struct Connection {
    stream: Stream,
    peer: Peer,
    /// What it still has to say until when.
    first_words: Option<(usize, Pin<Box<Sleep>>)>,
    _counted: OwnedSemaphorePermit,
    /// Of those from its address, unless it is an agent's.
    _place: Option<Place>,
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
    let entrance = Entrance { accepted: accepted.clone(), shaking: Arc::new(Semaphore::new(MAX_HANDSHAKES)) };
    let of_handshakes = tasks.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = accept_all(listener, tls, entrance, of_handshakes) => {}
            () = accepted.closed() => {}
        }
    });
    Ok(ReceiverStream::new(connections))
}

async fn accept_all(listener: TcpListener, tls: Option<TlsAcceptor>, entrance: Entrance, tasks: TaskTracker) {
    let (all, strangers) = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), Strangers::default());
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
            let connection = Connection::new(Stream::Plain(stream), peer, counted, None);
            if entrance.accepted.send(Ok(connection)).await.is_err() {
                return;
            }
            continue;
        };
        let Some(place) = strangers.place_for(address.ip()) else {
            tracing::debug!(from = %address, "too many connections without a certificate from there");
            continue;
        };
        let entrance = entrance.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = entrance.shake_hands(tls, stream, peer, counted, place) => {}
                // The server ends.
                () = entrance.accepted.closed() => {}
            }
        });
    }
}

/// Where connections come in.
#[derive(Clone)]
struct Entrance {
    accepted: mpsc::Sender<io::Result<Connection>>,
    shaking: Arc<Semaphore>,
}

impl Entrance {
    async fn shake_hands(
        &self,
        tls: TlsAcceptor,
        stream: TcpStream,
        peer: Peer,
        counted: OwnedSemaphorePermit,
        place: Place,
    ) {
        let shaking = async {
            // Who says nothing keeps nobody else from it.
            stream.readable().await?;
            let _one_of_few = self.shaking.acquire().await.map_err(io::Error::other)?;
            tls.accept(stream).await
        };
        match timeout(HANDSHAKE_LIMIT, shaking).await {
            Ok(Ok(stream)) => {
                let agent = agent_of(&stream);
                let place = Some(place).filter(|_| agent.is_none());
                let stream = Stream::Tls(Box::new(stream));
                let connection = Connection::new(stream, Peer { agent, ..peer }, counted, place);
                let _ = self.accepted.send(Ok(connection)).await;
            }
            // Scanners, browsers that ask first, agents with old certificates: their side says why.
            Ok(Err(error)) => tracing::debug!(from = ?peer.address, %error, "a handshake failed"),
            Err(_) => tracing::debug!(from = ?peer.address, "a handshake took too long"),
        }
    }
}

/// rustls has verified that the CA issued it.
fn agent_of(stream: &TlsStream<TcpStream>) -> Option<Arc<Subject>> {
    let (_, connection) = stream.get_ref();
    let certificate = connection.peer_certificates()?.first()?;
    Subject::of(certificate).ok().map(Arc::new)
}

impl Connection {
    fn new(stream: Stream, peer: Peer, counted: OwnedSemaphorePermit, place: Option<Place>) -> Self {
        let first_words = Some((FIRST_WORDS, Box::pin(sleep(FIRST_WORDS_LIMIT))));
        Connection { stream, peer, first_words, _counted: counted, _place: place }
    }

    /// Whether its time is over, when nothing came; what came, when something did.
    fn hear(&mut self, context: &mut Context<'_>, came: Option<usize>) -> io::Result<()> {
        let Some((left, deadline)) = &mut self.first_words else { return Ok(()) };
        match came {
            // The end of the connection says all there is.
            Some(0) => self.first_words = None,
            Some(bytes) if bytes >= *left => self.first_words = None,
            Some(bytes) => *left -= bytes,
            None if deadline.as_mut().poll(context).is_ready() => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it says nothing"));
            }
            None => {}
        }
        Ok(())
    }
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
        let before = buffer.filled().len();
        let read = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        let came = match read {
            Poll::Ready(Ok(())) => Some(buffer.filled().len().saturating_sub(before)),
            Poll::Ready(Err(_)) => return read,
            Poll::Pending => None,
        };
        match self.hear(context, came) {
            Ok(()) => read,
            Err(error) => Poll::Ready(Err(error)),
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
