//! A coordinator whose keys are on a read-only mount, as Kubernetes mounts a Secret: agents are turned out and the audit log is
//! kept there all the same.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Daemon, Finished, Groundswell, folder, write};

/// Sees `$0` as a read-only mount, then is whatever follows.
const READ_ONLY: &str = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && exec \"$@\"";

/// The folders of a coordinator, and the token in a file by which agents join.
struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> anyhow::Result<Self> {
        let folder = folder()?;
        let scene = Scene { folder };
        let init = Groundswell::new(["certs", "init", "--access", &scene.path("keys")]).finish()?;
        ensure!(init.code == Some(0), "{init:?}");
        write(scene.folder.path(), "join", "a secret of a cluster, long enough\n")?;
        Ok(scene)
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn serve(&self) -> Groundswell {
        let join = format!("join={}", self.path("join"));
        let (data, keys) = (self.path("data"), self.path("keys"));
        Groundswell::new(["serve", "--listen", "127.0.0.1:0", "--data-dir", &data, "--access", &keys, "--token", &join])
    }

    /// A command about who gets in, as `kubectl exec` runs it beside the coordinator.
    fn beside(&self, arguments: &[&str]) -> anyhow::Result<Finished> {
        let (data, keys) = (self.path("data"), self.path("keys"));
        let call = Groundswell::new(arguments).env("GROUNDSWELL_ACCESS", &keys).env("GROUNDSWELL_DATA_DIR", &data);
        call.through("unshare", &["-m", "sh", "-c", READ_ONLY, &keys]).finish()
    }

    fn agent(&self, url: &str) -> anyhow::Result<Daemon> {
        let (ca, join) = (format!("{}/ca.pem", self.path("keys")), self.path("join"));
        let arguments = ["-v", "agent", "--coordinator", url, "--name", "a", "--workers", "1", "--ca", &ca];
        let mut agent = Groundswell::new([&arguments[..], &["--join-file", &join]].concat()).start("a")?;
        agent.wait_for("joined")?;
        Ok(agent)
    }
}

fn url_of(coordinator: &mut Daemon) -> anyhow::Result<String> {
    let line = coordinator.wait_for("coordinator listening on https://")?;
    coordinator.wait_for("run a plan")?;
    Ok(line.rsplit(' ').next().context("no URL")?.to_owned())
}

/// Whoever joined, and by which token.
fn joined(audit: &str) -> anyhow::Result<()> {
    let line = audit.lines().find(|line| line.contains("\"joined\"")).with_context(|| audit.to_owned())?;
    let line: Value = serde_json::from_str(line)?;
    ensure!(line["who"] == "file join" && line["of"]["agent"] == "a", "{line}");
    Ok(())
}

/// Revocations and the audit log are in the data folder then; a coordinator that is started again still has them.
pub(crate) fn keys_that_cannot_be_written() -> anyhow::Result<()> {
    let scene = Scene::new()?;
    let keys = scene.path("keys");
    let start = || scene.serve().through("unshare", &["-m", "sh", "-c", READ_ONLY, &keys]).start("serve");
    let mut coordinator = start()?;
    let url = url_of(&mut coordinator)?;
    let kept = scene.path("data/access");
    let mut agent = scene.agent(&url)?;
    let said = coordinator.said();
    ensure!(said.contains(&format!("revocations and the audit log are in {kept}")), "{said}");
    let revoked = scene.beside(&["certs", "revoke", "a"])?;
    ensure!(revoked.code == Some(0) && revoked.stderr.contains(&kept), "{revoked:?}");
    ensure!(agent.wait()? == Some(2) && agent.said().contains("revoked"), "{}", agent.said());
    joined(&fs::read_to_string(Path::new(&kept).join("audit.jsonl"))?)?;
    let listed = scene.beside(&["certs", "revoked"])?;
    ensure!(listed.stdout.starts_with("a: "), "{listed:?}");
    let given: Vec<_> = fs::read_dir(&keys)?.collect::<Result<_, _>>()?;
    ensure!(given.len() == 2 + usize::from(Path::new(&keys).join("lock").exists()), "{given:?}");
    Ok(())
}

/// Where no file can have it, the audit log is in the coordinator's own, whatever that is told to leave out.
pub(crate) fn an_audit_log_without_a_file() -> anyhow::Result<()> {
    for variable in ["", "error"] {
        let scene = Scene::new()?;
        fs::create_dir(Path::new(&scene.path("keys")).join("audit.jsonl"))?;
        let serve = scene.serve();
        let serve = if variable.is_empty() { serve } else { serve.env("GROUNDSWELL_LOG", variable) };
        let mut coordinator = serve.start("serve")?;
        let url = url_of(&mut coordinator)?;
        let _agent = scene.agent(&url)?;
        coordinator.signal(Signal::TERM)?;
        let line = coordinator.wait_for("\"joined\"")?;
        joined(line.split_once("line=").context("no line")?.1)?;
    }
    Ok(())
}
