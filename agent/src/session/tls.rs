//! Connections to a coordinator with TLS.

use std::io;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::http::Uri;
use tower::service_fn;

use super::Connect;

/// The port of `https`, where the URL has none.
const HTTPS: u16 = 443;

/// Connects with that configuration, HTTP/2 inside.
pub(super) fn connect(config: Arc<ClientConfig>) -> Connect {
    let mut config = (*config).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    Arc::new(move |endpoint| {
        let connector = connector.clone();
        let over_tls = service_fn(move |url: Uri| {
            let connector = connector.clone();
            async move { dial(connector, url).await.map(TokioIo::new) }
        });
        Box::pin(async move { endpoint.connect_with_connector(over_tls).await })
    })
}

async fn dial(connector: TlsConnector, url: Uri) -> io::Result<TlsStream<TcpStream>> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why.to_owned());
    let host = url.host().ok_or_else(|| invalid("the URL has no host"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(|_| invalid("the URL's host is no name for TLS"))?;
    let stream = TcpStream::connect((host, url.port_u16().unwrap_or(HTTPS))).await?;
    stream.set_nodelay(true)?;
    connector.connect(name, stream).await
}
