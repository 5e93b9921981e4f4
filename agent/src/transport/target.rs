//! Where a request goes, in the forms that connections need; made once for a request that does not change.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderValue, Uri};
use url::{Host, Position, Url};

/// The URL of a request, taken apart.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) url: Url,
    pub(super) origin: Origin,
    /// Path and query: what HTTP/1.1 asks for (RFC 9112, section 3.2.1).
    pub(super) path: Uri,
    /// The whole URL without its fragment: what HTTP/2 asks for (RFC 9113, section 8.3.1).
    pub(super) whole: Uri,
    /// Value of the `Host` header.
    pub(super) host: HeaderValue,
}

/// What a connection leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) secure: bool,
    /// As it stands in a URL, but without the brackets of an IPv6 address.
    pub(super) host: String,
    /// The host, where it is an address.
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
}

/// A URL that no request can be made of. It does not say which: a template may have put a secret into it.
#[derive(Debug, thiserror::Error)]
#[error("no request can be made of this URL: it has no host or port, or is longer than 65,534 bytes")]
pub(crate) struct InvalidTarget;

impl Target {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// When it has no host or port, or is longer than a request may ask for.
    pub(crate) fn new(url: Url) -> Result<Arc<Self>, InvalidTarget> {
        let parts = (|| {
            let origin = Origin::of(&url)?;
            let path = url[Position::BeforePath..Position::AfterQuery].parse().ok()?;
            let whole = url[..Position::AfterQuery].parse().ok()?;
            let host = HeaderValue::from_str(&url[Position::BeforeHost..Position::AfterPort]).ok()?;
            Some((origin, path, whole, host))
        })();
        match parts {
            Some((origin, path, whole, host)) => Ok(Arc::new(Target { url, origin, path, whole, host })),
            None => Err(InvalidTarget),
        }
    }
}

impl Origin {
    /// Where the URL leads to; none where it has no host or port.
    pub(super) fn of(url: &Url) -> Option<Self> {
        let address = match url.host()? {
            Host::Ipv4(address) => Some(IpAddr::V4(address)),
            Host::Ipv6(address) => Some(IpAddr::V6(address)),
            Host::Domain(_) => None,
        };
        let host = match address {
            Some(address) => address.to_string(),
            None => url.host_str()?.to_owned(),
        };
        let secure = matches!(url.scheme(), "https" | "wss");
        Some(Origin { secure, host, address, port: url.port_or_known_default()? })
    }

    /// Where a proxy is.
    pub(super) fn of_proxy(url: &Url) -> Option<Self> {
        Origin::of(url).or_else(|| {
            let mut url = url.clone();
            // The port of SOCKS, where the URL says none (RFC 1928).
            url.set_port(Some(1080)).ok()?;
            Origin::of(&url)
        })
    }

    /// The port of a URL that says none.
    pub(super) fn default_port(&self) -> u16 {
        if self.secure { 443 } else { 80 }
    }
}
