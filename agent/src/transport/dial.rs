//! Opens connections: name, TCP, TLS, each timed.

use std::sync::Arc;

use groundswell_stats::Phases;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use url::Url;

use super::Failure;
use crate::clock::micros;

/// A connection with or without TLS.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> ByteStream for T {}

/// An open connection.
pub(super) struct Dialled {
    pub(super) stream: Box<dyn ByteStream>,
    /// TLS agreed on HTTP/2.
    pub(super) is_http2: bool,
}

/// Connects to the host of a URL; `tls` is used where its scheme wants it.
pub(super) async fn dial(url: &Url, tls: &Arc<ClientConfig>, phases: &mut Phases) -> Result<Dialled, Failure> {
    let started = Instant::now();
    let host = url.host_str().ok_or_else(|| Failure::class("dns"))?;
    // An IPv6 literal stands in brackets in a URL but not in a lookup.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = connect(host, url.port_or_known_default().unwrap_or(80)).await?;
    let connected = Instant::now();
    phases.connect_us = Some(micros(connected.saturating_duration_since(started)));
    // Without it a small message waits for the acknowledgement of the last one.
    stream.set_nodelay(true).map_err(|error| Failure::of_io(&error, "connect_failed"))?;
    if !matches!(url.scheme(), "https" | "wss") {
        return Ok(Dialled { stream: Box::new(stream), is_http2: false });
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|_| Failure::class("tls"))?;
    let stream =
        TlsConnector::from(Arc::clone(tls)).connect(name, stream).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset => Failure::class("tls_closed"),
            _ => Failure::of_chain(&error, "tls"),
        })?;
    phases.tls_us = Some(micros(connected.elapsed()));
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok(Dialled { stream: Box::new(stream), is_http2 })
}

/// The first address that answers.
async fn connect(host: &str, port: u16) -> Result<TcpStream, Failure> {
    let addresses = tokio::net::lookup_host((host, port)).await.map_err(|error| Failure::of_io(&error, "dns"))?;
    let mut failure = Failure::class("dns");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = Failure::of_io(&error, "connect_failed"),
        }
    }
    Err(failure)
}
