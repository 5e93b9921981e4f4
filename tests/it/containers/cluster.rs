//! The cluster of `deploy/compose.yaml`, under a name of its own.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use super::image::{Image, output};
use crate::harness::{Daemon, Groundswell, Report, compose, folder, own_port, repository, write};

/// Nothing that a test waits for takes so long.
const PATIENCE: Duration = Duration::from_secs(180);

/// Everything of it goes when it is dropped: containers, networks, volumes, image.
pub(super) struct Cluster {
    project: String,
    port: u16,
    /// Plans go in, reports come out.
    folder: TempDir,
    image: Image,
}

/// A run under way.
pub(super) struct Begun<'a> {
    cluster: &'a Cluster,
    run: Daemon,
}

impl Cluster {
    /// Builds the image; nothing is started.
    pub(super) fn prepare() -> anyhow::Result<Self> {
        let image = Image::build()?;
        let folder = folder()?;
        // The containers' user is nobody's here.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
        write(folder.path(), "plan.yaml", &shipped_plan("deploy/compose/plan.yaml")?)?;
        let project = image.tag.replace(':', "-");
        Ok(Cluster { project, port: own_port()?, folder, image })
    }

    /// Starts coordinator, agents and target.
    pub(super) fn up(&self) -> anyhow::Result<()> {
        output(&mut self.compose(&["up", "--detach"])).map(drop)
    }

    /// The one command of the guide; the agents and all else are started by it.
    pub(super) fn run_shipped_plan(&self) -> anyhow::Result<(Option<i32>, Report)> {
        Begun { cluster: self, run: Daemon::spawn("run", &mut self.run_command())? }.end()
    }

    /// The other command of the guide, which ends with what `run` prints.
    pub(super) fn up_to_the_report(&self) -> anyhow::Result<String> {
        output(&mut self.compose(&["up", "--scale", "agent=4", "run"]))
    }

    /// Submits a plan to all four agents.
    pub(super) fn begin(&self, plan: &str) -> anyhow::Result<Begun<'_>> {
        write(self.folder.path(), "plan.yaml", plan)?;
        Ok(Begun { cluster: self, run: Daemon::spawn("run", &mut self.run_command())? })
    }

    /// Only `--out` is not in the guide; what is mounted for it is the test's.
    fn run_command(&self) -> Command {
        let out = format!("{}:/out", self.folder.path().display());
        let call = ["run", "--rm", "-T", "--volume", &out, "run", "/plans/plan.yaml", "--wait-agents", "4"];
        self.compose(&[&call[..], &["--wait", "120", "--out", "/out/report.json"]].concat())
    }

    /// Ids of a service's containers.
    pub(super) fn containers(&self, service: &str) -> anyhow::Result<Vec<String>> {
        let ids = output(&mut self.compose(&["ps", "--quiet", service]))?;
        Ok(ids.lines().map(str::to_owned).collect())
    }

    /// Cuts an agent off from the coordinator, not from the target.
    pub(super) fn disconnect(&self, id: &str) -> anyhow::Result<()> {
        docker(&["network", "disconnect", &format!("{}_control", self.project), id])
    }

    pub(super) fn reconnect(&self, id: &str) -> anyhow::Result<()> {
        docker(&["network", "connect", &format!("{}_control", self.project), id])
    }

    /// SIGKILL. Nobody starts it again.
    pub(super) fn kill(&self, id: &str) -> anyhow::Result<()> {
        docker(&["kill", "--signal", "KILL", id])
    }

    pub(super) fn start(&self, id: &str) -> anyhow::Result<()> {
        docker(&["start", id])
    }

    /// SIGTERM, and the exit code.
    pub(super) fn stop(&self, id: &str) -> anyhow::Result<i32> {
        docker(&["stop", "--time", "60", id])?;
        Ok(output(Command::new("docker").args(["inspect", "--format", "{{.State.ExitCode}}", id]))?.parse()?)
    }

    /// What the target has counted.
    pub(super) fn requests(&self) -> anyhow::Result<u64> {
        let target = self.containers("target")?.pop().context("no target")?;
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let address = output(Command::new("docker").args(["inspect", "--format", format, &target]))?;
        let answer = ask(&format!("{address}:8088"), "/stats")?;
        let body = answer.split_once("\r\n\r\n").context("no body")?.1;
        let stats: serde_json::Value = serde_json::from_str(body)?;
        stats["requests"].as_u64().context("no number of requests")
    }

    /// Waits until the target has counted so many.
    pub(super) fn wait_for_requests(&self, least: u64) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.requests()? < least {
            if Instant::now() > deadline {
                bail!("no load; containers say:\n{}", self.logs());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// As the kernel has it: an ordinary user without capabilities that can't get any, on a root that it can't write.
    pub(super) fn has_no_rights(&self) -> anyhow::Result<()> {
        for service in ["agent", "coordinator", "target"] {
            let id = self.containers(service)?.pop().context("no container")?;
            let pid = output(Command::new("docker").args(["inspect", "--format", "{{.State.Pid}}", &id]))?;
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            for line in [
                "Uid:\t65532\t65532\t65532\t65532",
                "CapEff:\t0000000000000000",
                "CapBnd:\t0000000000000000",
                "NoNewPrivs:\t1",
            ] {
                ensure!(status.contains(line), "{service}: not {line} but\n{status}");
            }
            let mounts = fs::read_to_string(format!("/proc/{pid}/mounts"))?;
            let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).context("no root")?;
            ensure!(root.split(' ').nth(3).is_some_and(|options| options.starts_with("ro")), "{service}: {root}");
        }
        Ok(())
    }

    /// Whether somebody outside, who has a `GET /health`, is reached from a network that Docker makes by default, and from the
    /// containers of each service.
    pub(super) fn reach(&self, url: &str) -> anyhow::Result<Vec<(&'static str, bool)>> {
        let mut reach = Vec::new();
        let mut ask = |from, call: &mut Command| -> anyhow::Result<()> {
            let asked = call.args(["health", url]).output()?;
            reach.push((from, asked.status.success()));
            Ok(())
        };
        ask("bridge", Command::new("docker").args(["run", "--rm", "--network", "bridge", &self.image.tag]))?;
        for service in ["agent", "coordinator", "target"] {
            let id = self.containers(service)?.pop().context("no container")?;
            ask(service, Command::new("docker").args(["exec", &id, "/groundswell"]))?;
        }
        ask("run", &mut self.compose(&["run", "--rm", "-T", "--no-deps", "--entrypoint", "/groundswell", "run"]))?;
        Ok(reach)
    }

    /// What people open, from this machine.
    pub(super) fn is_published(&self) -> anyhow::Result<()> {
        let ca = output(&mut self.compose(&["run", "--rm", "-T", "certs", "ca"]))?;
        let ca = write(self.folder.path(), "ca.pem", &ca)?.display().to_string();
        let url = format!("https://127.0.0.1:{}", self.port);
        let health = Groundswell::new(["health", "--ready", &url, "--ca", &ca]).finish()?;
        ensure!(health.code == Some(0), "{health:?}");
        Ok(())
    }

    fn logs(&self) -> String {
        output(&mut self.compose(&["logs", "--no-color", "--tail", "20"])).unwrap_or_else(|error| error.to_string())
    }

    fn compose(&self, arguments: &[&str]) -> Command {
        let mut command = compose();
        command
            .args(["--project-name", &self.project, "--file"])
            .arg(repository().join("deploy/compose.yaml"))
            .env("GROUNDSWELL_IMAGE", &self.image.tag)
            .env("GROUNDSWELL_PORT", self.port.to_string())
            .env("GROUNDSWELL_PLANS", self.folder.path())
            .args(arguments);
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = output(&mut self.compose(&["down", "--volumes", "--timeout", "2"]));
    }
}

impl Begun<'_> {
    /// Its exit code, and its report.
    pub(super) fn end(&mut self) -> anyhow::Result<(Option<i32>, Report)> {
        let code = self.run.wait()?;
        let report = fs::read_to_string(self.cluster.folder.path().join("report.json"));
        let said = || format!("the run said:\n{}\ncontainers say:\n{}", self.run.said(), self.cluster.logs());
        Ok((code, serde_json::from_str(&report.with_context(said)?)?))
    }
}

/// A plan that is deployed with the cluster, made shorter. How late a debug build is on a busy machine is not what is tested.
pub(crate) fn shipped_plan(path: &str) -> anyhow::Result<String> {
    let plan = fs::read_to_string(repository().join(path))?;
    let plan = plan.replace("for: 30s", "for: 5s").replace("< 250ms", "< 60s");
    Ok(format!("{plan}\nmax_send_lag: 60s\nmax_start_skew: 5s\n"))
}

/// The name that an agent has in reports: its host's, and its process id there.
pub(super) fn name_of(id: &str) -> String {
    format!("{}-1", &id[..12])
}

fn docker(arguments: &[&str]) -> anyhow::Result<()> {
    output(Command::new("docker").args(arguments)).map(drop)
}

/// A request to a container.
fn ask(address: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
