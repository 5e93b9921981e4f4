//! Servers of other makes that tests send load to.

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use super::groups::CpuGroup;
use super::process::Daemon;
use super::{folder, write};

/// A server gets so long to listen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Something that a test needs and that may not be on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    /// nginx.
    Nginx,
    /// OpenSSL's command.
    OpenSsl,
    /// Prometheus.
    Prometheus,
    /// Python with this module.
    Python(&'static str),
    /// Autobahn's WebSocket test suite.
    Autobahn,
    /// Chromium.
    Chromium,
    /// Docker's engine, and what reads Compose files.
    Docker,
    /// Network namespaces of our own: root, and `unshare` and `ip`.
    NetworkNamespace,
    /// File systems of our own: root.
    Mount,
    /// A control group for CPU time that we may make groups in: root.
    CpuGroup,
}

impl Tool {
    /// Is it here?
    pub(crate) fn is_here(self) -> bool {
        let mut command = match self {
            Tool::OpenSsl => {
                let mut command = Command::new("openssl");
                command.arg("version");
                command
            }
            Tool::Prometheus => {
                let mut command = Command::new("prometheus");
                command.arg("--version");
                command
            }
            Tool::CpuGroup => return CpuGroup::with_quota(Duration::from_millis(50)).is_ok(),
            Tool::Mount => {
                let mut command = Command::new("unshare");
                command.args(["-m", "mount", "-t", "tmpfs", "-o", "size=4m", "none", "/tmp"]);
                command
            }
            Tool::NetworkNamespace => {
                let mut command = Command::new("unshare");
                command.args(["-n", "ip", "link", "set", "lo", "up"]);
                command
            }
            Tool::Nginx => {
                let mut command = Command::new("nginx");
                command.arg("-v");
                command
            }
            Tool::Chromium => {
                let mut command = Command::new("chromium");
                command.arg("--version");
                command
            }
            Tool::Docker => {
                if !succeeds(Command::new("docker").arg("info")) {
                    return false;
                }
                let mut command = compose();
                command.arg("version");
                command
            }
            Tool::Autobahn => {
                let mut command = Command::new(wstest());
                command.arg("--help");
                command
            }
            Tool::Python(module) => {
                let mut command = Command::new(python());
                command.args(["-c", &format!("import {module}")]);
                command
            }
        };
        succeeds(&mut command)
    }

    /// Would installing something help? Not where it is a right that this process does not have, a service that has to run,
    /// nor where it needs a CPython that distributions have no more.
    pub(crate) fn can_be_installed(self) -> bool {
        matches!(self, Tool::Nginx | Tool::OpenSsl | Tool::Chromium | Tool::Prometheus | Tool::Python(_))
    }

    /// Name for people.
    pub(crate) fn name(self) -> String {
        match self {
            Tool::Nginx => "nginx".to_owned(),
            Tool::OpenSsl => "openssl".to_owned(),
            Tool::Prometheus => "prometheus".to_owned(),
            Tool::Chromium => "chromium".to_owned(),
            Tool::Docker => "Docker's engine and Compose".to_owned(),
            Tool::Autobahn => "Autobahn's wstest (CPython 2.7)".to_owned(),
            Tool::Python(module) => format!("Python's {module}"),
            Tool::Mount => "root and mount".to_owned(),
            Tool::NetworkNamespace => "network namespaces (root, unshare, ip)".to_owned(),
            Tool::CpuGroup => "a control group for CPU time (root)".to_owned(),
        }
    }
}

/// What reads Compose files: the plugin, or the program of before.
pub(crate) fn compose() -> Command {
    let mut plugin = Command::new("docker");
    plugin.arg("compose");
    if succeeds(Command::new("docker").args(["compose", "version"])) { plugin } else { Command::new("docker-compose") }
}

fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The interpreter with the test servers' modules; `GROUNDSWELL_TEST_PYTHON` names another.
pub(crate) fn python() -> String {
    std::env::var("GROUNDSWELL_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// What `tests/readers/SCRIPT` prints about something, in JSON.
///
/// # Errors
/// When it does not like what it reads.
pub(crate) fn read_with_python(script: &str, arguments: &[&str]) -> anyhow::Result<serde_json::Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("readers").join(script);
    let output = Command::new(python()).arg(path).args(arguments).output()?;
    ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The command of Autobahn's test suite; `GROUNDSWELL_TEST_WSTEST` names another.
fn wstest() -> String {
    std::env::var("GROUNDSWELL_TEST_WSTEST").unwrap_or_else(|_| "wstest".to_owned())
}

/// A port that was free a moment ago, for servers that can't say which one they got.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A port that stays free while nobody listens on it: below those that the kernel gives away.
///
/// # Errors
/// When there is none.
pub(crate) fn own_port() -> anyhow::Result<u16> {
    // Each call of a process has another one, and processes begin at others.
    static CALLS: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() * 16 % 10_000)? + CALLS.fetch_add(1, Ordering::Relaxed);
    let mut free = (first..32_000).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.next().context("no free port")
}

pub(crate) fn wait_until_listening(port: u16, name: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > deadline {
            bail!("{name} does not listen on port {port}");
        }
        std::thread::sleep(Duration::from_millis(30));
    }
    Ok(())
}

/// nginx that answers everything at once and logs every request.
pub(crate) struct Nginx {
    folder: TempDir,
    port: u16,
    _daemon: Daemon,
}

impl Nginx {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) fn start() -> anyhow::Result<Self> {
        Nginx::listening("", "")
    }

    /// Starts one with more settings for its HTTP.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) fn start_with(settings: &str) -> anyhow::Result<Self> {
        Nginx::listening("", settings)
    }

    /// Starts one that speaks HTTP/2 only, without TLS.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) fn start_http2() -> anyhow::Result<Self> {
        Nginx::listening("http2", "")
    }

    /// Starts one that speaks HTTP/2 only, with more settings.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) fn start_http2_with(settings: &str) -> anyhow::Result<Self> {
        Nginx::listening("http2", settings)
    }

    fn listening(how: &str, settings: &str) -> anyhow::Result<Self> {
        let settings = if settings.is_empty() { "keepalive_requests 1000000;" } else { settings };
        let folder = folder()?;
        let port = free_port()?;
        let root = folder.path().display();
        let config = format!(
            "daemon off; master_process off; pid {root}/pid; error_log {root}/error.log;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\n\
               log_format path '$request_method $uri'; access_log {root}/access.log path;\n\
               client_body_temp_path {root}/body; proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/fastcgi;\n\
               uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi; {settings}\n\
               server {{ listen 127.0.0.1:{port} {how}; location /missing {{ return 404; }}\n\
                 location / {{ default_type application/json; return 200 '{{\"id\":\"n1\"}}'; }} }}\n\
             }}\n"
        );
        let path = write(folder.path(), "nginx.conf", &config)?;
        let daemon = Daemon::spawn("nginx", Command::new("nginx").arg("-c").arg(path).arg("-p").arg(folder.path()))?;
        wait_until_listening(port, "nginx")?;
        Ok(Nginx { folder, port, _daemon: daemon })
    }

    /// Starts one that speaks TLS, and HTTP/2 over it, with a certificate of a folder.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) fn start_tls(certificates: &Path, name: &str, more: &str) -> anyhow::Result<Self> {
        let path = certificates.display();
        let settings = format!(
            "ssl_certificate {path}/{name}.pem; ssl_certificate_key {path}/{name}.key; \
             add_header x-protocol $server_protocol; {more}"
        );
        Nginx::listening("ssl http2", &settings)
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its base URL with TLS.
    pub(crate) fn tls_url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// Requests it has logged so far, by "METHOD path".
    ///
    /// # Errors
    /// When the log can't be read.
    pub(crate) fn requests(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let mut requests = BTreeMap::new();
        for line in std::fs::read_to_string(self.folder.path().join("access.log"))?.lines() {
            *requests.entry(line.to_owned()).or_default() += 1;
        }
        Ok(requests)
    }
}

/// A server from PyPI, started as a module.
pub(crate) struct PythonModule {
    port: u16,
    _daemon: Daemon,
}

impl PythonModule {
    /// Starts `python -m MODULE` with arguments for a port.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) fn start(module: &str, arguments: impl FnOnce(u16) -> Vec<String>) -> anyhow::Result<Self> {
        let port = free_port()?;
        let daemon = Daemon::spawn(module, Command::new(python()).args(["-m", module]).args(arguments(port)))?;
        wait_until_listening(port, module)?;
        Ok(PythonModule { port, _daemon: daemon })
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// A server written in Python beside the tests.
pub(crate) struct PythonServer {
    folder: TempDir,
    port: u16,
    daemon: Daemon,
}

impl PythonServer {
    /// Starts `tests/servers/SCRIPT PORT COUNTS_FILE`.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) fn start(script: &str) -> anyhow::Result<Self> {
        Self::start_on(script, free_port()?, &[])
    }

    /// Starts `tests/servers/SCRIPT PORT COUNTS_FILE MORE…`.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) fn start_on(script: &str, port: u16, more: &[&str]) -> anyhow::Result<Self> {
        let folder = folder()?;
        let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers").join(script);
        let counts = folder.path().join("counts.json");
        let daemon =
            Daemon::spawn(script, Command::new(python()).arg(path).arg(port.to_string()).arg(counts).args(more))?;
        wait_until_listening(port, script)?;
        Ok(PythonServer { folder, port, daemon })
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// When it can't be waited for.
    pub(crate) fn ended(&mut self) -> anyhow::Result<()> {
        self.daemon.wait()?;
        Ok(())
    }

    /// A file that it wrote beside its counts.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn file(&self, name: &str) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.folder.path().join(name))?)
    }

    /// What it has counted, as soon as it has counted this: it hears of a closed connection after us.
    ///
    /// # Errors
    /// When it never does.
    pub(crate) fn counts_when(
        &self,
        done: impl Fn(&BTreeMap<String, u64>) -> bool,
    ) -> anyhow::Result<BTreeMap<String, u64>> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match self.counts() {
                Ok(counts) if done(&counts) => return Ok(counts),
                Ok(counts) if Instant::now() > deadline => anyhow::bail!("the server counted {counts:?}"),
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// What it has counted; it writes the file whenever a connection ends.
    ///
    /// # Errors
    /// When it has not counted anything.
    pub(crate) fn counts(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        Ok(serde_json::from_str(&std::fs::read_to_string(self.folder.path().join("counts.json"))?)?)
    }
}

/// Autobahn's fuzzing server, without its cases of performance.
pub(crate) struct Autobahn {
    folder: TempDir,
    port: u16,
    _daemon: Daemon,
}

impl Autobahn {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let folder = folder()?;
        let port = free_port()?;
        let spec = serde_json::json!({
            "url": format!("ws://127.0.0.1:{port}"),
            "outdir": folder.path().join("reports"),
            "cases": ["*"],
            "exclude-cases": ["9.*", "12.*", "13.*"],
            "exclude-agent-cases": {},
        });
        let path = write(folder.path(), "spec.json", &spec.to_string())?;
        let mut command = Command::new(wstest());
        command.args(["--mode", "fuzzingserver", "--spec"]).arg(path).current_dir(folder.path());
        let daemon = Daemon::spawn("wstest", &mut command)?;
        wait_until_listening(port, "wstest")?;
        Ok(Autobahn { folder, port, _daemon: daemon })
    }

    /// A URL of it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("ws://127.0.0.1:{}{path}", self.port)
    }

    /// Its base URL as a plan names it.
    pub(crate) fn http_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where it writes its reports.
    pub(crate) fn reports(&self) -> PathBuf {
        self.folder.path().join("reports")
    }
}
