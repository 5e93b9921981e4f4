//! `http:`: how requests are sent.

use std::net::IpAddr;
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use url::Url;

use super::flow::headers;
use super::node::{Node, Value};
use super::problem::Place;
use super::reader::{Object, Reader};
use super::shape::{AUTH, CREDENTIALS, HTTP, POOL, REDIRECTS, TLS};
use super::template::Names;
use super::value;
use crate::PlanSource;
use crate::http::{
    AddressFamily, Auth, Coding, Connections, Credentials, HttpOptions, HttpVersion, Identity, Mapping, Network,
    TlsOptions, TransportKind,
};

/// Redirects that an operation may follow at the most.
pub(super) const MOST_REDIRECTS: u64 = 100;
const MOST_CONNECTIONS: u64 = 10_000_000;

pub(super) fn read(reader: &mut Reader, node: Option<&Node>, names: &Names, source: &PlanSource) -> HttpOptions {
    let mut options = HttpOptions::default();
    let Some(object) = node.and_then(|node| reader.object(node, &HTTP)) else { return options };
    if let Some(timeout) = object.get("timeout").and_then(|node| reader.duration(node)) {
        options.timeout = timeout;
    }
    options.connect_timeout = object.get("connect_timeout").and_then(|node| reader.duration(node));
    options.first_byte_timeout = object.get("first_byte_timeout").and_then(|node| reader.duration(node));
    let versions = [("auto", HttpVersion::Auto), ("1.1", HttpVersion::Http1), ("2", HttpVersion::Http2)];
    options.version = reader.choice(object.get("version"), &versions, HttpVersion::Auto);
    options.connections = connections(reader, object.get("connections"));
    options.cookies = reader.flag(object.get("cookies"), true);
    options.headers = headers(reader, object.get("headers"), names);
    options.auth = object.get("auth").and_then(|node| auth(reader, node, names));
    redirects(reader, object.get("redirects"), &mut options);
    options.compression = object.get("compression").map(|node| codings(reader, node)).unwrap_or_default();
    options.retry_stale = reader.flag(object.get("retry_stale"), false);
    options.max_body = object.get("max_body").and_then(|node| reader.parsed(node, "a size", value::size));
    options.network = network(reader, &object);
    options.tls = object.get("tls").map(|node| tls(reader, node, source)).unwrap_or_default();
    options.tls.insecure = reader.flag(object.get("insecure"), false);
    options.proxy = object.get("proxy").and_then(|node| proxy(reader, node));
    options.transport = transport(reader, &object, &options);
    options
}

/// The direct transport does everything but proxies; reqwest can't do all that the direct one can.
fn transport(reader: &mut Reader, object: &Object<'_>, options: &HttpOptions) -> TransportKind {
    let kinds = [("auto", None), ("direct", Some(TransportKind::Direct)), ("reqwest", Some(TransportKind::Reqwest))];
    let asked = reader.choice(object.get("transport"), &kinds, None);
    let place = object.place_of("transport");
    if options.proxy.is_none() && asked != Some(TransportKind::Reqwest) {
        return TransportKind::Direct;
    }
    if asked == Some(TransportKind::Direct) {
        reader.problem_with_hint(place, "the direct transport knows no proxies", "leave `transport` away");
    }
    let only_direct = [
        ("connections", matches!(options.connections, Connections::Shared { most: Some(_) }), "a bounded pool"),
        ("first_byte_timeout", options.first_byte_timeout.is_some(), "a limit for the first byte"),
        ("retry_stale", options.retry_stale, "a retry of its own"),
        ("resolve", options.network.resolve.iter().any(|mapping| mapping.port.is_some()), "addresses for one port"),
        ("tls", options.tls.server_name.is_some(), "another server name"),
    ];
    for (key, _, what) in only_direct.iter().filter(|(_, used, _)| *used) {
        let hint = if options.proxy.is_some() { "a proxy needs reqwest" } else { "use the direct transport" };
        reader.problem_with_hint(object.place_of(key), format!("the transport reqwest can't do this: {what}"), hint);
    }
    TransportKind::Reqwest
}

fn connections(reader: &mut Reader, node: Option<&Node>) -> Connections {
    let shared = Connections::Shared { most: None };
    let owners = [("per_user", Connections::PerUser), ("shared", shared), ("per_request", Connections::PerRequest)];
    let Some(Value::Map(_)) = node.map(|node| &node.value) else {
        return reader.choice(node, &owners, Connections::PerUser);
    };
    let pool = node.and_then(|node| reader.object(node, &POOL)).and_then(|object| object.get("shared"));
    let most = pool.and_then(|node| reader.integer(node, 1, MOST_CONNECTIONS));
    Connections::Shared { most: most.and_then(|most| u32::try_from(most).ok()) }
}

pub(super) fn auth(reader: &mut Reader, node: &Node, names: &Names) -> Option<Auth> {
    let object = reader.object(node, &AUTH)?;
    let mut credentials = |node: &Node| {
        let object = reader.object(node, &CREDENTIALS)?;
        let user = object.get("user").and_then(|node| names.text(reader, node));
        let password = object.get("password").and_then(|node| names.text(reader, node));
        Some(Credentials { user: user?, password: password? })
    };
    match (object.get("basic"), object.get("digest"), object.get("bearer")) {
        (Some(node), None, None) => credentials(node).map(Auth::Basic),
        (None, Some(node), None) => credentials(node).map(Auth::Digest),
        (None, None, Some(node)) => names.text(reader, node).map(Auth::Bearer),
        _ => {
            reader.problem(node.place, "`auth` is one of `basic`, `digest` and `bearer`");
            None
        }
    }
}

fn redirects(reader: &mut Reader, node: Option<&Node>, options: &mut HttpOptions) {
    let Some(node) = node else { return };
    let most = match &node.value {
        Value::Map(_) => {
            let Some(object) = reader.object(node, &REDIRECTS) else { return };
            let hosts = reader.items(object.get("hosts"));
            options.redirect_hosts =
                hosts.into_iter().filter_map(|node| reader.text(node)).map(|host| host.to_lowercase()).collect();
            object.get("most")
        }
        _ => Some(node),
    };
    if let Some(most) = most.and_then(|node| most_redirects(reader, node)) {
        options.max_redirects = most;
    }
}

pub(super) fn most_redirects(reader: &mut Reader, node: &Node) -> Option<u32> {
    reader.integer(node, 0, MOST_REDIRECTS).and_then(|most| u32::try_from(most).ok())
}

fn codings(reader: &mut Reader, node: &Node) -> Vec<Coding> {
    const ALL: [Coding; 4] = [Coding::Gzip, Coding::Brotli, Coding::Zstd, Coding::Deflate];
    if let Value::Bool(all) = node.value {
        return if all { ALL.to_vec() } else { Vec::new() };
    }
    let words = ALL.map(|coding| (coding.as_str(), Some(coding)));
    reader.items(Some(node)).into_iter().filter_map(|node| reader.choice(Some(node), &words, None)).collect()
}

fn network(reader: &mut Reader, object: &Object<'_>) -> Network {
    let families = [
        ("any", AddressFamily::Any),
        ("ipv4", AddressFamily::Ipv4),
        ("ipv6", AddressFamily::Ipv6),
        ("ipv4_first", AddressFamily::Ipv4First),
        ("ipv6_first", AddressFamily::Ipv6First),
    ];
    let family = reader.choice(object.get("addresses"), &families, AddressFamily::Any);
    let source = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| "write an IP address of the agent's machine");
    let bind = reader.items(object.get("bind"));
    let bind = bind.into_iter().filter_map(|node| reader.parsed(node, "an IP address", source)).collect();
    let mut resolve = Vec::new();
    for (name, node) in reader.named(object.get("resolve"), "hosts with addresses") {
        let addresses = reader.items(Some(node));
        let addresses: Vec<_> =
            addresses.into_iter().filter_map(|node| reader.parsed(node, "an address", value::address)).collect();
        match host_and_port(&name.text) {
            Some((host, port)) => resolve.push(Mapping { host, port, addresses }),
            None => reader.problem_with_hint(
                name.place,
                format!("`{}` is not a host", name.text),
                "write it like example.com or example.com:443",
            ),
        }
    }
    Network { resolve, bind, family }
}

/// As a URL would write it, with the port where one was given.
fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    // http's own port would be left out of a URL; 0 of the scheme below never is.
    let url = Url::parse(&format!("resolve://{text}/")).ok()?;
    let plain = url.path() == "/" && url.username().is_empty() && url.query().is_none();
    plain.then(|| Some((url.host_str()?.to_lowercase(), url.port())))?
}

fn tls(reader: &mut Reader, node: &Node, source: &PlanSource) -> TlsOptions {
    let Some(object) = reader.object(node, &TLS) else { return TlsOptions::default() };
    let authorities = object.get("ca").and_then(|node| certificates(reader, node, source));
    let (certificate, key) = (object.get("certificate"), object.get("key"));
    for (given, other, missing) in [(certificate, key, "key"), (key, certificate, "certificate")] {
        if let (Some(node), None) = (given, other) {
            reader.problem(node.place, format!("a client certificate needs `{missing}` as well"));
        }
    }
    let chain = certificate.and_then(|node| certificates(reader, node, source));
    let key = key.and_then(|node| private_key(reader, node, source));
    let versions = [("1.2", false), ("1.3", true)];
    TlsOptions {
        insecure: false,
        authorities,
        identity: chain.zip(key).map(|(chain, key)| Identity { chain, key }),
        server_name: object.get("server_name").and_then(|node| reader.text(node)),
        only_1_3: reader.choice(object.get("min_version"), &versions, false),
    }
}

fn certificates(reader: &mut Reader, node: &Node, source: &PlanSource) -> Option<Arc<[u8]>> {
    let pem = reader.file(node, source)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let some = all.is_ok_and(|certificates| !certificates.is_empty());
    pem_if(reader, some, pem, node.place, "it holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")
}

fn private_key(reader: &mut Reader, node: &Node, source: &PlanSource) -> Option<Arc<[u8]>> {
    let pem = reader.file(node, source)?;
    let some = PrivateKeyDer::from_pem_slice(&pem).is_ok();
    pem_if(reader, some, pem, node.place, "it holds no private key in PEM (-----BEGIN PRIVATE KEY-----)")
}

fn pem_if(reader: &mut Reader, fine: bool, pem: Arc<[u8]>, place: Place, problem: &str) -> Option<Arc<[u8]>> {
    if !fine {
        reader.problem(place, problem);
    }
    fine.then_some(pem)
}

fn proxy(reader: &mut Reader, node: &Node) -> Option<Url> {
    const HINT: &str =
        "write it like http://127.0.0.1:3128, socks5://127.0.0.1:1080, or socks5h:// to let it look names up";
    let text = reader.text(node)?;
    match Url::parse(&text) {
        Ok(url) if matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h") && url.host_str().is_some() => {
            Some(url)
        }
        _ => {
            reader.problem_with_hint(node.place, format!("`{text}` is not the URL of a proxy"), HINT);
            None
        }
    }
}
