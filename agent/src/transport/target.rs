//! Where a request goes, in the forms that connections need; made once for a request that does not change.

use std::sync::Arc;

use http::{HeaderValue, Uri};
use url::{Position, Url};

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
    pub(super) host: String,
    pub(super) port: u16,
}

/// A URL that no request can be made of.
#[derive(Debug, thiserror::Error)]
#[error("{0}: no request can be made of this URL")]
pub(crate) struct InvalidTarget(Url);

impl Target {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// When it has no host or port, or is longer than a request may ask for.
    pub(crate) fn new(url: Url) -> Result<Arc<Self>, InvalidTarget> {
        let parts = (|| {
            let origin = Origin {
                secure: url.scheme() == "https",
                host: url.host_str()?.to_owned(),
                port: url.port_or_known_default()?,
            };
            let path = url[Position::BeforePath..Position::AfterQuery].parse().ok()?;
            let whole = url[..Position::AfterQuery].parse().ok()?;
            let host = HeaderValue::from_str(&url[Position::BeforeHost..Position::AfterPort]).ok()?;
            Some((origin, path, whole, host))
        })();
        match parts {
            Some((origin, path, whole, host)) => Ok(Arc::new(Target { url, origin, path, whole, host })),
            None => Err(InvalidTarget(url)),
        }
    }
}
