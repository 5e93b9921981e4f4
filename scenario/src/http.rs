//! What the plan says about HTTP: `http:` and the bodies of requests.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::flow::{JsonText, Text};

/// `http:` defaults of every HTTP step.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Whole-operation limit (default 10 s).
    pub timeout: Duration,
    /// Limit of opening a connection: name, TCP and TLS together.
    pub connect_timeout: Option<Duration>,
    /// Limit from the request sent to the first byte of its response.
    pub first_byte_timeout: Option<Duration>,
    /// Protocol version.
    pub version: HttpVersion,
    /// Who owns connections.
    pub connections: Connections,
    /// What carries requests.
    pub transport: TransportKind,
    /// Keep cookies for each user (default true).
    pub cookies: bool,
    /// Headers sent with every request.
    pub headers: Vec<(String, Text)>,
    /// Who the requests are from.
    pub auth: Option<Auth>,
    /// Redirects that an operation follows (default 10).
    pub max_redirects: u32,
    /// Hosts beside the target and the step's own that a redirect may lead to; `*` for any.
    pub redirect_hosts: Vec<String>,
    /// Content codings that the target may use; none by default.
    pub compression: Vec<Coding>,
    /// Send an idempotent request again when a kept connection turned out to be closed.
    pub retry_stale: bool,
    /// Largest body of a response, in bytes; a larger one is an error.
    pub max_body: Option<u64>,
    /// Where connections go and where they come from.
    pub network: Network,
    /// TLS.
    pub tls: TlsOptions,
    /// Proxy that connections go through.
    pub proxy: Option<Url>,
}

/// Where connections go and where they come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// Addresses of hosts, in place of those that the name server knows.
    pub resolve: Vec<Mapping>,
    /// Source addresses, used in turn; the machine's choice where empty.
    pub bind: Vec<IpAddr>,
    /// Which addresses of a name are used.
    pub family: AddressFamily,
}

/// Addresses of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// Host of a URL, in lower case.
    pub host: String,
    /// Only connections to this port; any where none.
    pub port: Option<u16>,
    /// Used in turn. Port 0 stands for that of the URL.
    pub addresses: Vec<SocketAddr>,
}

/// Which addresses of a name are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AddressFamily {
    /// All, in the name server's order.
    #[default]
    Any,
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
    /// IPv4 before IPv6.
    Ipv4First,
    /// IPv6 before IPv4.
    Ipv6First,
}

/// How TLS connections are made. PEM texts were checked to hold what they should.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Accept any certificate. Shown in the report.
    pub insecure: bool,
    /// Authorities to trust in place of the machine's own, in PEM.
    pub authorities: Option<Arc<[u8]>>,
    /// Certificate chain and private key of the client, in PEM.
    pub identity: Option<Identity>,
    /// Name to ask for and to check, in place of the host of the URL.
    pub server_name: Option<String>,
    /// TLS 1.3 or nothing.
    pub only_1_3: bool,
}

/// Who a client is, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its certificate and what leads to an authority.
    pub chain: Arc<[u8]>,
    /// Its private key.
    pub key: Arc<[u8]>,
}

/// Which HTTP version to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HttpVersion {
    /// HTTP/2 where TLS negotiates it, else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2; without TLS with prior knowledge.
    Http2,
}

/// What carries requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportKind {
    /// Connections of the worker's own, with the time of each phase.
    Direct,
    /// The reqwest library.
    Reqwest,
}

/// Who owns connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Connections {
    /// Every user has its own, kept alive between its requests, as a browser does.
    #[default]
    PerUser,
    /// The users of one worker share a pool.
    Shared {
        /// Most connections to one origin, over all agents; each worker has at least one. As many as needed where none.
        most: Option<u32>,
    },
    /// A new connection for every request.
    PerRequest,
}

/// Who a request is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// RFC 7617.
    Basic(Credentials),
    /// RFC 7616: answers the target's challenge, and uses it again while it holds.
    Digest(Credentials),
    /// RFC 6750.
    Bearer(Text),
}

/// A name with its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Name.
    pub user: Text,
    /// Password.
    pub password: Text,
}

/// A content coding (RFC 9110, section 8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
    /// RFC 1950, and RFC 1951 as some servers send it.
    Deflate,
}

/// Body of a request.
#[derive(Debug, Clone)]
pub enum Body {
    /// Sent as `text/plain; charset=utf-8` unless a header says otherwise.
    Text(Text),
    /// Sent as `application/json`.
    Json(JsonText),
    /// Sent as `application/x-www-form-urlencoded`.
    Form(Vec<(String, Text)>),
    /// Sent as `multipart/form-data` (RFC 7578).
    Multipart(Vec<Part>),
    /// The bytes of a file.
    File(FileBody),
    /// Sent piece by piece, without a length said before (chunked, in HTTP/1.1).
    Stream(StreamBody),
}

/// One part of a multipart body.
#[derive(Debug, Clone)]
pub struct Part {
    /// Name of the field.
    pub name: String,
    /// What it holds.
    pub value: PartValue,
}

/// What a part holds.
#[derive(Debug, Clone)]
pub enum PartValue {
    /// Text.
    Text(Text),
    /// A file.
    File(FileBody),
}

/// The bytes of a file of the plan.
#[derive(Debug, Clone)]
pub struct FileBody {
    /// Its bytes.
    pub bytes: Arc<[u8]>,
    /// Name that a multipart body says.
    pub filename: String,
    /// Media type.
    pub media_type: String,
}

/// A body that is sent piece by piece.
#[derive(Debug, Clone)]
pub struct StreamBody {
    /// Where its bytes come from.
    pub source: StreamSource,
    /// Bytes of one piece.
    pub chunk: usize,
    /// Pause before each piece but the first.
    pub pause: Duration,
}

/// Where the bytes of a [`StreamBody`] come from.
#[derive(Debug, Clone)]
pub enum StreamSource {
    /// So many zeros.
    Zeros(u64),
    /// A file of the plan.
    File(Arc<[u8]>),
}

impl Default for HttpOptions {
    fn default() -> Self {
        HttpOptions {
            timeout: Duration::from_secs(10),
            connect_timeout: None,
            first_byte_timeout: None,
            version: HttpVersion::Auto,
            connections: Connections::PerUser,
            transport: TransportKind::Direct,
            cookies: true,
            headers: Vec::new(),
            auth: None,
            max_redirects: 10,
            redirect_hosts: Vec::new(),
            compression: Vec::new(),
            retry_stale: false,
            max_body: None,
            network: Network::default(),
            tls: TlsOptions::default(),
            proxy: None,
        }
    }
}

impl Auth {
    /// Its texts.
    pub fn texts(&self) -> impl Iterator<Item = &Text> {
        let (first, second) = match self {
            Auth::Basic(credentials) | Auth::Digest(credentials) => (&credentials.user, Some(&credentials.password)),
            Auth::Bearer(token) => (token, None),
        };
        std::iter::once(first).chain(second)
    }
}

impl Body {
    /// Is it the same in every iteration?
    pub fn is_constant(&self) -> bool {
        match self {
            Body::Text(text) => text.is_literal(),
            Body::Json(json) => matches!(json, JsonText::Literal(_)),
            Body::Form(fields) => fields.iter().all(|(_, text)| text.is_literal()),
            Body::Multipart(parts) => {
                parts.iter().all(|part| !matches!(&part.value, PartValue::Text(text) if !text.is_literal()))
            }
            Body::File(_) | Body::Stream(_) => true,
        }
    }
}

impl Coding {
    /// Name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
            Coding::Deflate => "deflate",
        }
    }
}

impl TransportKind {
    /// Word used in plans and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            TransportKind::Direct => "direct",
            TransportKind::Reqwest => "reqwest",
        }
    }
}
