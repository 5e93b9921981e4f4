//! Programs that read what is in `deploy/`. No distribution has all of them, so a missing one is never a failure.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// A program.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tool {
    Kubectl,
    /// In the PATH, or where `GROUNDSWELL_TEST_HELM` says.
    Helm,
    Compose,
    SystemdAnalyze,
}

impl Tool {
    /// A call of it.
    pub(crate) fn command(self) -> Command {
        match self {
            Tool::Kubectl => Command::new("kubectl"),
            Tool::Helm => Command::new(std::env::var("GROUNDSWELL_TEST_HELM").unwrap_or_else(|_| "helm".to_owned())),
            Tool::Compose if succeeds(Command::new("docker").args(["compose", "version"])) => {
                let mut command = Command::new("docker");
                command.arg("compose");
                command
            }
            Tool::Compose => Command::new("docker-compose"),
            Tool::SystemdAnalyze => Command::new("systemd-analyze"),
        }
    }

    /// Is it here?
    pub(crate) fn is_here(self) -> bool {
        let mut command = self.command();
        match self {
            Tool::Kubectl => command.args(["version", "--client"]),
            Tool::Helm | Tool::Compose => command.arg("version"),
            Tool::SystemdAnalyze => command.arg("--version"),
        };
        succeeds(&mut command)
    }

    /// Name for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Tool::Kubectl => "kubectl",
            Tool::Helm => "helm (or GROUNDSWELL_TEST_HELM)",
            Tool::Compose => "docker compose",
            Tool::SystemdAnalyze => "systemd-analyze",
        }
    }

    /// What it prints when it is called with these arguments.
    ///
    /// # Errors
    /// When it refuses; the error has what it said.
    pub(crate) fn prints<A: AsRef<std::ffi::OsStr>>(self, arguments: &[A]) -> anyhow::Result<String> {
        let done = self.command().args(arguments).output().with_context(|| format!("can't start {}", self.name()))?;
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        ensure!(done.status.success(), "{} refused: {said}", self.name());
        Ok(String::from_utf8(done.stdout)?)
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// A path in `deploy/`.
pub(crate) fn deploy(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}
