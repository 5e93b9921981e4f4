//! TLS servers that are wrong in one way each, made with OpenSSL: every mistake has a class of its own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::harness::{Daemon, Nginx, Prepared, PythonServer, Report, folder, free_port, wait_until_listening};

const PLAN: &str = "
target: TARGET
max_send_lag: 10s
scenarios:
  one:
    load: { iterations: 3 }
    flow: [ { get: /, name: x } ]
";

fn openssl(folder: &Path, arguments: &str) -> anyhow::Result<()> {
    let status = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    ensure!(status.success(), "openssl {arguments}: {status}");
    Ok(())
}

/// An authority, one that nobody knows, and certificates by them: `NAME.pem` with `NAME.key`.
fn authority() -> anyhow::Result<TempDir> {
    let folder = folder()?;
    let path = folder.path();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(path, &format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=authority -days 2"))?;
    openssl(path, &format!("req -x509 {key} -keyout own.key -out own.pem -subj /CN=localhost -days 2"))?;
    openssl(path, &format!("req -x509 {key} -keyout unknown.key -out unknown.pem -subj /CN=unknown -days 2"))?;
    let leaves = [
        ("good", "ca", "localhost", "2"),
        ("other", "ca", "elsewhere.test", "2"),
        ("expired", "ca", "localhost", "-1"),
        ("stranger", "unknown", "localhost", "2"),
    ];
    for (name, by, host, days) in leaves {
        std::fs::write(path.join("names"), format!("subjectAltName=DNS:{host}"))?;
        openssl(path, &format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={host}"))?;
        let signed = format!("-CA {by}.pem -CAkey {by}.key -CAcreateserial -days {days} -extfile names");
        openssl(path, &format!("x509 -req -in {name}.csr {signed} -out {name}.pem"))?;
    }
    Ok(folder)
}

/// A server with a certificate; it answers every request with a page about the connection.
fn server(folder: &Path, name: &str, more: &[&str]) -> anyhow::Result<(Daemon, String)> {
    let port = free_port()?;
    let mut command = Command::new("openssl");
    let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
    let accept = format!("127.0.0.1:{port}");
    command.args(["s_server", "-accept", &accept, "-cert", &certificate, "-key", &key, "-www"]);
    command.args(more).current_dir(folder);
    let daemon = Daemon::spawn("openssl s_server", &mut command)?;
    wait_until_listening(port, "openssl s_server")?;
    Ok((daemon, format!("https://localhost:{port}")))
}

/// Runs the plan with the authority as the only one that this machine knows.
fn run(authority: &Path, target: &str, plan: &str) -> anyhow::Result<Report> {
    let prepared = Prepared::new(plan, target)?;
    let run = prepared.call("run", &[]).env("SSL_CERT_FILE", &authority.join("ca.pem")).finish()?;
    prepared.report().with_context(|| format!("{run:?}"))
}

pub(crate) fn every_mistake_has_its_class() -> anyhow::Result<()> {
    let authority = authority()?;
    let path = authority.path();
    let version = |flag| [flag, "-cipher", "ALL:@SECLEVEL=0"];
    let (older, old) = (version("-tls1"), version("-tls1_1"));
    let cases: [(&str, &[&str], &str, &str); 6] = [
        ("expired", &[], "tls_certificate_expired", "expired"),
        ("other", &[], "tls_wrong_host", "another host"),
        ("own", &[], "tls_self_signed", "is self-signed"),
        ("stranger", &[], "tls_unknown_issuer", "does not know"),
        ("good", &old, "tls_version", "TLS 1.2"),
        ("good", &older, "tls_version", "TLS 1.2"),
    ];
    for (name, more, class, says) in cases {
        let (_server, url) = server(path, name, more)?;
        fails_on_both(path, &url, class, says).with_context(|| format!("{name} {more:?}"))?;
    }
    for moment in [Moment::Connected, Moment::Greeted, Moment::HalfAnswered] {
        fails_on_both(path, &closing(moment)?, "tls_closed", "plain text").with_context(|| format!("{moment:?}"))?;
    }
    Ok(())
}

fn fails_on_both(authority: &Path, url: &str, class: &str, says: &str) -> anyhow::Result<()> {
    for transport in ["direct", "reqwest"] {
        let plan = format!("{PLAN}http: {{ transport: {transport} }}\n");
        fails_with(&run(authority, url, &plan)?, class, says).context(transport)?;
    }
    Ok(())
}

/// When in the handshake a server closes the connection.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Moment {
    Connected,
    /// It has read the client's first message.
    Greeted,
    /// And sent a part of its own.
    HalfAnswered,
}

/// A server that closes every connection at a moment. It ends with the test's process.
fn closing(moment: Moment) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("https://localhost:{}", listener.local_addr()?.port());
    std::thread::spawn(move || listener.incoming().map_while(Result::ok).try_for_each(|stream| close(stream, moment)));
    Ok(url)
}

fn close(mut stream: TcpStream, moment: Moment) -> std::io::Result<()> {
    if moment == Moment::Connected {
        return Ok(());
    }
    // A record with its length in the last two of five bytes (RFC 8446, section 5.1): all of it is read, because bytes
    // that nobody read would make a reset of the close.
    let mut start = [0; 5];
    stream.read_exact(&mut start)?;
    stream.read_exact(&mut vec![0; usize::from(u16::from_be_bytes([start[3], start[4]]))])?;
    if moment == Moment::HalfAnswered {
        // A record of 122 bytes with a ServerHello, of which 11 come.
        stream.write_all(&[22, 3, 3, 0, 122, 2, 0, 0, 118, 3, 3, 1, 2, 3, 4, 5])?;
    }
    Ok(())
}

/// The same mistakes with a server that people run.
pub(crate) fn mistakes_with_nginx() -> anyhow::Result<()> {
    let authority = authority()?;
    let path = authority.path();
    let cases = [
        ("expired", "", "tls_certificate_expired", "expired"),
        ("other", "", "tls_wrong_host", "another host"),
        ("own", "", "tls_self_signed", "is self-signed"),
        ("stranger", "", "tls_unknown_issuer", "does not know"),
        ("good", "ssl_protocols TLSv1.1; ssl_ciphers ALL:@SECLEVEL=0;", "tls_version", "TLS 1.2"),
    ];
    for (name, more, class, says) in cases {
        let nginx = Nginx::start_tls(path, name, more)?;
        fails_with(&run(path, &nginx.tls_url(), PLAN)?, class, says).with_context(|| name.to_owned())?;
    }
    Ok(())
}

/// HTTP/2 over TLS, with the plan's own authority and a client certificate that the server asks for, whoever owns the
/// connections: the server's count is ours.
pub(crate) fn http2_with_client_certificates() -> anyhow::Result<()> {
    let authority = authority()?;
    let path = authority.path();
    let asks = format!("ssl_client_certificate {}/ca.pem; ssl_verify_client on;", path.display());
    let nginx = Nginx::start_tls(path, "good", &asks)?;
    let files = format!("ca: {0}/ca.pem, certificate: {0}/good.pem, key: {0}/good.key", path.display());
    let mut wanted = 0;
    for transport in ["direct", "reqwest"] {
        for owner in ["per_user", "shared", "per_request", "{ shared: 3 }"] {
            if transport == "reqwest" && owner.starts_with('{') {
                continue;
            }
            let plan = format!(
                "target: TARGET\nmax_send_lag: 10s\nhttp: {{ transport: {transport}, connections: {owner}, tls: {{ \
                 {files} }} }}\nscenarios:\n  s: {{ load: {{ iterations: 200, users: 10 }}, flow: [ {{ get: /, expect: {{ \
                 header: {{ x-protocol: HTTP/2.0 }} }} }} ] }}\n"
            );
            let prepared = Prepared::new(&plan, &nginx.tls_url())?;
            let run = prepared.call("run", &[]).finish()?;
            let report: Report = prepared.report().with_context(|| format!("{run:?}"))?;
            wanted += 200;
            let seen: u64 = nginx.requests()?.values().sum();
            let row = report.steps.first().context("no row")?;
            ensure!(row.ok == 200, "{transport} {owner}: {:?}", row.error_classes);
            ensure!(seen == wanted, "{transport} {owner}: nginx logged {seen} in all, not {wanted}");
            if owner.starts_with('{') {
                ensure!(row.connect_ms.count <= 6, "a pool of 3, at least one for each worker: {row:?}");
            }
        }
    }
    let without = PLAN.to_owned() + &format!("http: {{ tls: {{ ca: {}/ca.pem }} }}\n", path.display());
    fails_with(&run(path, &nginx.tls_url(), &without)?, "status_400", "not well-formed")
}

/// Another name than the URL's, and a version that the server does not have.
pub(crate) fn server_name_and_version() -> anyhow::Result<()> {
    let authority = authority()?;
    let path = authority.path();
    let nginx = Nginx::start_tls(path, "good", "ssl_protocols TLSv1.2;")?;
    let by_address = nginx.tls_url().replace("localhost", "127.0.0.1");
    let named = PLAN.to_owned() + "http: { tls: { server_name: localhost } }\n";
    let report = run(path, &by_address, &named)?;
    ensure!(report.total.ok == 3, "{:?}", report.steps);
    fails_with(&run(path, &by_address, PLAN)?, "tls_wrong_host", "another host")?;
    let newer = PLAN.to_owned() + "http: { tls: { min_version: 1.3 } }\n";
    fails_with(&run(path, &nginx.tls_url(), &newer)?, "tls_version", "TLS 1.2")
}

fn fails_with(report: &Report, class: &str, says: &str) -> anyhow::Result<()> {
    let row = report.steps.first().context("no row")?;
    let first = row.error_classes.first().with_context(|| format!("no errors: {row:?}"))?;
    ensure!(first.class == class && first.count == 3 && first.explanation.contains(says), "{first:?}");
    ensure!(report.ledger.balanced, "{:?}", report.ledger);
    Ok(())
}

pub(crate) fn a_good_certificate_and_insecure() -> anyhow::Result<()> {
    let authority = authority()?;
    let path = authority.path();
    let (_server, url) = server(path, "good", &[])?;
    let report = run(path, &url, PLAN)?;
    let row = report.steps.first().context("no row")?;
    ensure!(row.ok == 3 && row.tls_ms.count > 0 && row.connect_ms.count == row.tls_ms.count, "{row:?}");
    let (_server, url) = server(path, "own", &[])?;
    let report = run(path, &url, &format!("{PLAN}http: {{ insecure: true }}\n"))?;
    ensure!(report.total.ok == 3 && report.run.insecure, "{:?}", report.total);
    Ok(())
}

const SOCKETS: &str = "
target: TARGET
max_send_lag: 10s
http: { OPTIONS }
scenarios:
  one:
    load: { iterations: 3 }
    flow:
      - websocket: /echo
        name: open
        flow: [ { send: hello, name: say }, { receive: hello, name: hear } ]
";

/// A WebSocket over TLS is checked as a request is, by the same options.
pub(crate) fn sockets() -> anyhow::Result<()> {
    let authority = authority()?;
    let path = |name: &str| authority.path().join(name).display().to_string();
    let cases = [
        ("good", format!("tls: {{ ca: \"{}\" }}", path("ca.pem")), None),
        ("other", format!("tls: {{ ca: \"{}\", server_name: elsewhere.test }}", path("ca.pem")), None),
        ("own", "insecure: true".to_owned(), None),
        ("own", "tls: { min_version: 1.3 }".to_owned(), Some("tls_self_signed")),
        ("other", format!("tls: {{ ca: \"{}\" }}", path("ca.pem")), Some("tls_wrong_host")),
    ];
    for (name, options, class) in cases {
        let (certificate, key) = (path(&format!("{name}.pem")), path(&format!("{name}.key")));
        let server = PythonServer::start_on("rooms_websockets.py", free_port()?, &["", &certificate, &key])?;
        let target = format!("https://localhost:{}", server.port());
        let report = run(authority.path(), &target, &SOCKETS.replace("OPTIONS", &options))?;
        let row = |step: &str| report.steps.iter().find(|row| row.step == step).context("no row");
        match class {
            None => {
                ensure!((row("open")?.ok, row("hear")?.ok) == (3, 3), "{name} {options}: {:?}", report.total);
                ensure!(row("open")?.tls_ms.count == 3, "{:?}", row("open")?);
                ensure!(server.counts_when(|counts| counts.get("closed_1000") == Some(&3))?["received"] == 3);
            }
            Some(class) => {
                let classes: Vec<&str> = row("open")?.error_classes.iter().map(|row| row.class.as_str()).collect();
                ensure!(classes == [class], "{name} {options}: {classes:?}");
            }
        }
    }
    Ok(())
}
