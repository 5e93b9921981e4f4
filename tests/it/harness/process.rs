//! Processes of a test.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Nothing that a test waits for takes so long, on however slow a machine; then it hangs.
const PATIENCE: Duration = Duration::from_secs(600);

/// One call of the binary under test.
pub(crate) struct Groundswell {
    command: Command,
}

/// What a call left behind.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Exit code; none where a signal ended it.
    pub(crate) code: Option<i32>,
    /// Everything on stdout.
    pub(crate) stdout: String,
    /// Everything on stderr.
    pub(crate) stderr: String,
}

impl Groundswell {
    /// A call with these arguments; nothing of the environment changes its behaviour.
    pub(crate) fn new<I: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = I>) -> Self {
        let mut command = Command::new(binary());
        command.args(arguments).stdin(Stdio::null());
        let ours = std::env::vars_os().map(|(name, _)| name).filter(|name| {
            name.to_str().is_some_and(|name| name.starts_with("GROUNDSWELL_") && !name.starts_with("GROUNDSWELL_TEST"))
        });
        for name in ours {
            command.env_remove(name);
        }
        for name in [
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "OTEL_METRIC_EXPORT_INTERVAL",
            "GITHUB_ACTIONS",
            "GITLAB_CI",
            "JENKINS_URL",
            "CIRCLECI",
            "BUILDKITE",
        ] {
            command.env_remove(name);
        }
        Groundswell { command }
    }

    /// The same call through another program, which gets the binary and its arguments after its own.
    pub(crate) fn through(self, program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).arg(self.command.get_program()).args(self.command.get_args()).stdin(Stdio::null());
        if let Some(folder) = self.command.get_current_dir() {
            command.current_dir(folder);
        }
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Groundswell { command }
    }

    /// Sets a variable of its environment.
    pub(crate) fn env(mut self, name: &str, value: &(impl AsRef<std::ffi::OsStr> + ?Sized)) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it in this folder.
    pub(crate) fn current_dir(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it can't be started or hangs.
    pub(crate) fn finish(mut self) -> anyhow::Result<Finished> {
        let mut child = self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let stdout = collect(child.stdout.take().context("no stdout")?);
        let stderr = collect(child.stderr.take().context("no stderr")?);
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                child.kill()?;
                bail!("groundswell hangs; stderr so far: {}", stderr.recv().unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        Ok(Finished { code: status.code(), stdout: stdout.recv()?, stderr: stderr.recv()? })
    }

    /// Leaves it running beside the test.
    ///
    /// # Errors
    /// When it can't be started.
    pub(crate) fn start(mut self, name: &str) -> anyhow::Result<Daemon> {
        Daemon::spawn(name, &mut self.command)
    }
}

/// The binary under test.
pub(crate) fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_groundswell-under-test"))
}

fn collect(mut stream: impl Read + Send + 'static) -> Receiver<String> {
    let (done, collected) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is still worth showing.
        let _ = stream.read_to_end(&mut bytes);
        let _ = done.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    collected
}

/// A process beside the test; killed by its id when dropped.
pub(crate) struct Daemon {
    name: String,
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    /// Its files; they go when it has gone.
    folder: Option<TempDir>,
}

impl Daemon {
    /// Starts a command.
    ///
    /// # Errors
    /// When it can't be started.
    pub(crate) fn spawn(name: &str, command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("can't start {name}"))?;
        let stderr = BufReader::new(child.stderr.take().context("no stderr")?);
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Daemon { name: name.to_owned(), child, lines, seen: Vec::new(), folder: None })
    }

    /// Waits for a line on its stderr that contains `text`, and returns it.
    ///
    /// # Errors
    /// When the process ends or hangs before that; the error shows what it said.
    pub(crate) fn wait_for(&mut self, text: &str) -> anyhow::Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return Ok(line);
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    bail!("{} did not say {text:?}; it said:\n{}", self.name, self.seen.join("\n"))
                }
            }
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).context("no process id")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Has it ended?
    ///
    /// # Errors
    /// When the process can't be asked.
    pub(crate) fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Everything on its stderr so far.
    pub(crate) fn said(&mut self) -> String {
        self.seen.extend(self.lines.try_iter());
        self.seen.join("\n")
    }

    /// The most memory that it ever had, in KiB.
    ///
    /// # Errors
    /// When it is gone.
    pub(crate) fn peak_memory_kib(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = peak.and_then(|peak| peak.split_whitespace().next()).context("no VmHWM")?;
        Ok(number.parse()?)
    }

    /// Waits until it has ended and returns its exit code.
    ///
    /// # Errors
    /// When it hangs.
    pub(crate) fn wait(&mut self) -> anyhow::Result<Option<i32>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            if Instant::now() > deadline {
                bail!("{} does not end", self.name);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A demo target of its own, with its URL.
///
/// # Errors
/// When it does not come up.
pub(crate) fn demo_target() -> anyhow::Result<(Daemon, String)> {
    target_of(Groundswell::new(["-v", "demo-target", "--listen", "127.0.0.1:0"]))
}

/// The target that this call starts, with its URL.
///
/// # Errors
/// When it does not come up.
pub(crate) fn target_of(call: Groundswell) -> anyhow::Result<(Daemon, String)> {
    let mut target = call.start("target")?;
    let line = target.wait_for("http://")?;
    let url = line.split_whitespace().find(|word| word.starts_with("http://")).context("no URL")?.to_owned();
    Ok((target, url))
}

/// A coordinator on a free port, and its URL.
///
/// # Errors
/// When it does not come up.
pub(crate) fn serve() -> anyhow::Result<(Daemon, String)> {
    let folder = tempfile::tempdir()?;
    let (mut daemon, url) = serve_on("127.0.0.1:0", folder.path())?;
    daemon.folder = Some(folder);
    Ok((daemon, url))
}

/// A coordinator on an address with a store of its own or of another's before it, and its URL.
///
/// # Errors
/// When it does not come up.
pub(crate) fn serve_on(address: &str, data: &Path) -> anyhow::Result<(Daemon, String)> {
    // Without TLS; `security.rs` has the tests with it.
    let arguments = ["serve", "--insecure", "--listen", address, "--data-dir"].map(AsRef::as_ref);
    let mut daemon = Groundswell::new(arguments.into_iter().chain([data.as_os_str()])).start("serve")?;
    let line = daemon.wait_for("coordinator listening on ")?;
    let url = line.rsplit(' ').next().context("no URL")?.to_owned();
    Ok((daemon, url))
}

/// An agent of one worker that has joined.
///
/// # Errors
/// When it does not join.
pub(crate) fn agent(coordinator: &str, name: &str, raw_samples: Option<&Path>) -> anyhow::Result<Daemon> {
    match raw_samples {
        Some(folder) => agent_with(coordinator, name, &["--raw-samples", &folder.display().to_string()]),
        None => agent_with(coordinator, name, &[]),
    }
}

/// The same with a label.
///
/// # Errors
/// When it does not join.
pub(crate) fn labelled_agent(coordinator: &str, name: &str, label: &str) -> anyhow::Result<Daemon> {
    agent_with(coordinator, name, &["--label", label])
}

/// One with further arguments that has joined through another program, which gets the binary and its arguments after its
/// own.
///
/// # Errors
/// When it does not join.
pub(crate) fn agent_through(
    coordinator: &str,
    name: &str,
    more: &[&str],
    program: &str,
    arguments: &[&str],
) -> anyhow::Result<Daemon> {
    // It may reach the coordinator from another network.
    let own = [&agent_arguments(coordinator, name)[..], &["--insecure"], more].concat();
    joined(Groundswell::new(own).through(program, arguments), name)
}

/// One with further arguments.
///
/// # Errors
/// When it does not join.
pub(crate) fn agent_with(coordinator: &str, name: &str, more: &[&str]) -> anyhow::Result<Daemon> {
    joined(Groundswell::new([&agent_arguments(coordinator, name), more].concat()), name)
}

fn agent_arguments<'a>(coordinator: &'a str, name: &'a str) -> [&'a str; 8] {
    ["-v", "agent", "--coordinator", coordinator, "--name", name, "--workers", "1"]
}

fn joined(call: Groundswell, name: &str) -> anyhow::Result<Daemon> {
    let mut daemon = call.start(name)?;
    daemon.wait_for("joined")?;
    Ok(daemon)
}
