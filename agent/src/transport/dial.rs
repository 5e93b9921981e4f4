//! Opens connections: name, TCP, TLS, each timed.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use groundswell_stats::Phases;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::gate::{Gate, Place};
use super::resolve::{Resolved, Resolver};
use super::target::Origin;
use super::{Failure, spend};

/// How connections of one worker are opened.
#[derive(Debug)]
pub(super) struct Dialler {
    resolver: Resolver,
    gate: Gate,
    tls: Arc<ClientConfig>,
    /// Asked for and checked in place of the host.
    server_name: Option<String>,
    /// Source addresses; the machine's choice where empty.
    bind: Vec<IpAddr>,
    /// Of the connections so far, for the next source address.
    turn: Cell<usize>,
    /// Limit of name, TCP and TLS together.
    limit: Option<Duration>,
}

/// An open connection.
pub(super) struct Dialled {
    pub(super) stream: Stream,
    /// TLS agreed on HTTP/2.
    pub(super) is_http2: bool,
}

/// A connection with or without TLS, and its place among those that the agent may have.
pub(super) struct Stream {
    kind: Kind,
    _place: Place,
}

enum Kind {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    #[cfg(any(test, feature = "fuzzing"))]
    Memory(tokio::io::DuplexStream),
}

impl Dialler {
    pub(super) fn new(
        resolver: Resolver,
        gate: Gate,
        tls: Arc<ClientConfig>,
        options: &groundswell_scenario::http::HttpOptions,
    ) -> Self {
        Dialler {
            resolver,
            gate,
            tls,
            server_name: options.tls.server_name.clone(),
            bind: options.network.bind.clone(),
            turn: Cell::new(0),
            limit: options.connect_timeout,
        }
    }

    /// Opens a connection.
    pub(super) async fn dial(&self, origin: &Origin, phases: &mut Phases) -> Result<Dialled, Failure> {
        match self.limit {
            None => self.open(origin, phases).await,
            Some(limit) => timeout(limit, self.open(origin, phases))
                .await
                .unwrap_or_else(|_| Err(Failure::class("connect_timeout"))),
        }
    }

    async fn open(&self, origin: &Origin, phases: &mut Phases) -> Result<Dialled, Failure> {
        let mut started = Instant::now();
        let resolved = self.resolver.resolve(origin).await?;
        if resolved.looked_up {
            started = spend(&mut phases.dns_us, started);
        }
        #[cfg(any(test, feature = "fuzzing"))]
        if let Some(stream) = self.in_memory(origin, &resolved)? {
            return Ok(Dialled { stream: Stream { kind: Kind::Memory(stream), _place: None }, is_http2: false });
        }
        let (stream, place) = self.connect(origin, resolved).await?;
        let connected = spend(&mut phases.connect_us, started);
        // Without it a small message waits for the acknowledgement of the last one.
        stream.set_nodelay(true).map_err(|error| Failure::of_io(&error, "connect_failed"))?;
        if !origin.secure {
            return Ok(Dialled { stream: Stream { kind: Kind::Plain(stream), _place: place }, is_http2: false });
        }
        let name = self.server_name.as_ref().unwrap_or(&origin.host).clone();
        let name = ServerName::try_from(name).map_err(|_| Failure::class("tls"))?;
        let stream =
            TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await.map_err(|error| {
                match error.kind() {
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Failure::class("tls_closed"),
                    _ => Failure::of_chain(&error, "tls"),
                }
            })?;
        spend(&mut phases.tls_us, connected);
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Dialled { stream: Stream { kind: Kind::Tls(Box::new(stream)), _place: place }, is_http2 })
    }

    /// A connection to a fuzzer's target, if there is one: in place of TCP and TLS, but only where those might go.
    #[cfg(any(test, feature = "fuzzing"))]
    fn in_memory(&self, origin: &Origin, resolved: &Resolved) -> Result<Option<tokio::io::DuplexStream>, Failure> {
        crate::fuzzing::connect(|| self.gate.admitted(resolved.asked_for(origin), resolved.addresses.clone()))
    }

    /// The first address that answers, of those that the agent allows. Each is looked at here, where the connection goes
    /// to it, so no name can come to stand for another one in between.
    async fn connect(&self, origin: &Origin, resolved: Resolved) -> Result<(TcpStream, Place), Failure> {
        let addresses = self.gate.admitted(resolved.asked_for(origin), resolved.addresses)?;
        let place = self.gate.place()?;
        let mut failure = Failure::class("dns");
        for address in addresses {
            match self.connect_to(address).await {
                Ok(stream) => return Ok((stream, place)),
                Err(error) => failure = Failure::of_io(&error, "connect_failed"),
            }
        }
        Err(failure)
    }

    async fn connect_to(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let sources = self.bind.iter().filter(|source| source.is_ipv4() == address.is_ipv4());
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let Some(source) = sources.clone().nth(turn % sources.count().max(1)) else {
            if self.bind.is_empty() {
                return TcpStream::connect(address).await;
            }
            return Err(io::Error::new(io::ErrorKind::Unsupported, "no source address of this family"));
        };
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // The port is chosen here, so one source address has as many connections as there are ports, whatever the number
        // of targets. IP_BIND_ADDRESS_NO_PORT would leave it to the connect, but no library offers that without unsafe.
        socket.bind(SocketAddr::new(*source, 0))?;
        socket.connect(address).await
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Kind::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            #[cfg(any(test, feature = "fuzzing"))]
            Kind::Memory(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().kind {
            Kind::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Kind::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            #[cfg(any(test, feature = "fuzzing"))]
            Kind::Memory(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().kind {
            Kind::Plain(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Kind::Tls(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            #[cfg(any(test, feature = "fuzzing"))]
            Kind::Memory(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.kind {
            Kind::Plain(stream) => stream.is_write_vectored(),
            Kind::Tls(stream) => stream.is_write_vectored(),
            #[cfg(any(test, feature = "fuzzing"))]
            Kind::Memory(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Plain(stream) => Pin::new(stream).poll_flush(context),
            Kind::Tls(stream) => Pin::new(stream).poll_flush(context),
            #[cfg(any(test, feature = "fuzzing"))]
            Kind::Memory(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Kind::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            #[cfg(any(test, feature = "fuzzing"))]
            Kind::Memory(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
