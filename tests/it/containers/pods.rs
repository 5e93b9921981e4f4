//! The pods of `deploy/kubernetes`, as far as an engine alone can be a node: their arguments, variables, Secrets, folders and
//! rights, without a scheduler, probes and policies.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::image::{Image, output};
use crate::harness::{Groundswell, folder, repository, write};

/// A node with one network. Everything of it goes when it is dropped.
pub(super) struct Node {
    name: String,
    pods: Vec<String>,
    /// Secrets and ConfigMaps, a folder each.
    objects: TempDir,
    image: Image,
}

impl Node {
    /// One with the Secrets that `deploy/kubernetes/secrets.sh` would make, and this plan.
    pub(super) fn new(plan: &str) -> anyhow::Result<Self> {
        let image = Image::build()?;
        let objects = folder()?;
        // As kubelet mounts them: the pod's user, who is nobody here, may read them and nobody may write.
        fs::set_permissions(objects.path(), fs::Permissions::from_mode(0o755))?;
        secrets(objects.path())?;
        let map = objects.path().join("groundswell-plan");
        fs::create_dir(&map)?;
        readable(&write(&map, "plan.yaml", plan)?)?;
        let name = image.tag.replace(':', "-");
        output(Command::new("docker").args(["network", "create", &name]))?;
        Ok(Node { name, pods: Vec::new(), objects, image })
    }

    /// Starts a pod of what this file of `deploy/kubernetes` makes pods of; `name` is how others find it.
    pub(super) fn start(&mut self, file: &str, name: &str) -> anyhow::Result<String> {
        let id = output(&mut self.call(file, name, &["--detach"])?)?;
        self.pods.push(id.clone());
        Ok(id)
    }

    /// Runs one to its end: its exit code, and what it printed.
    pub(super) fn run(&mut self, file: &str, name: &str) -> anyhow::Result<(Option<i32>, String)> {
        let done = self.call(file, name, &["--rm"])?.output()?;
        let said = [done.stdout, done.stderr].concat();
        Ok((done.status.code(), String::from_utf8_lossy(&said).into_owned()))
    }

    /// What `kubectl exec` runs in a pod.
    pub(super) fn exec(&self, pod: &str, arguments: &[&str]) -> anyhow::Result<String> {
        output(Command::new("docker").args(["exec", pod, "/groundswell"]).args(arguments))
    }

    /// A file of a pod, on what outlives it.
    pub(super) fn file(&self, pod: &str, path: &str) -> anyhow::Result<String> {
        let copy = self.objects.path().join("copy");
        output(Command::new("docker").arg("cp").arg(format!("{pod}:{path}")).arg(&copy))?;
        Ok(fs::read_to_string(copy)?)
    }

    /// Waits for the end of a pod, and returns what it said.
    pub(super) fn ended(&self, pod: &str) -> anyhow::Result<String> {
        output(Command::new("docker").args(["wait", pod]))?;
        let said = Command::new("docker").args(["logs", pod]).output()?;
        Ok(String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned())
    }

    fn call(&self, file: &str, name: &str, how: &[&str]) -> anyhow::Result<Command> {
        let text = fs::read_to_string(repository().join("deploy/kubernetes").join(file))?;
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text)?;
        let owner =
            objects.iter().find(|object| object["spec"]["template"].is_object()).context("nothing makes pods")?;
        let pod = &owner["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let mut call = Command::new("docker");
        call.arg("run").args(how).args(["--network", &self.name, "--network-alias", name]);
        call.args(["--user", "65532:65532", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]);
        for sysctl in list(&pod["securityContext"]["sysctls"]) {
            call.arg("--sysctl").arg(format!("{}={}", text_of(&sysctl["name"]), text_of(&sysctl["value"])));
        }
        for (variable, value) in variables(container, name)? {
            call.arg("--env").arg(format!("{variable}={value}"));
        }
        for mount in list(&container["volumeMounts"]) {
            let (volume, path) = (text_of(&mount["name"]), text_of(&mount["mountPath"]));
            match self.source(pod, volume) {
                Some(source) => call.arg("--volume").arg(format!("{}:{path}:ro", source.display())),
                // Folders that are empty at the start.
                None if list(&pod["volumes"]).iter().any(|one| one["name"] == volume) => {
                    call.args(["--tmpfs", &format!("{path}:uid=65532,gid=65532,mode=0700")])
                }
                // A claim.
                None => call.arg("--volume").arg(path),
            };
        }
        call.arg(&self.image.tag).args(list(&container["args"]).iter().map(text_of));
        Ok(call)
    }

    /// The folder of a Secret or a ConfigMap.
    fn source(&self, pod: &Value, volume: &str) -> Option<PathBuf> {
        let volume = list(&pod["volumes"]).iter().find(|one| one["name"] == volume)?;
        let object = volume["secret"]["secretName"].as_str().or(volume["configMap"]["name"].as_str())?;
        Some(self.objects.path().join(object))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for pod in &self.pods {
            let _ = output(Command::new("docker").args(["rm", "--force", "--volumes", pod]));
        }
        let _ = output(Command::new("docker").args(["network", "rm", &self.name]));
    }
}

/// What kubelet would put into the environment of a pod of this name.
fn variables(container: &Value, pod: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    for variable in list(&container["env"]) {
        let from = &variable["valueFrom"];
        let value = match (variable["value"].as_str(), from["fieldRef"]["fieldPath"].as_str()) {
            (Some(value), _) => {
                known.iter().fold(value.to_owned(), |value, (name, with)| value.replace(&format!("$({name})"), with))
            }
            (None, Some("metadata.name")) => pod.to_owned(),
            (None, Some("metadata.namespace")) => "groundswell".to_owned(),
            (None, _) if from["resourceFieldRef"]["resource"] == "requests.cpu" => "1".to_owned(),
            (None, _) if from["configMapKeyRef"]["name"] == "groundswell-agent" => "groundswell-target:8088".to_owned(),
            other => anyhow::bail!("{variable}: what is {other:?}?"),
        };
        known.insert(text_of(&variable["name"]).to_owned(), value);
    }
    Ok(known)
}

/// A folder for each Secret.
fn secrets(at: &Path) -> anyhow::Result<()> {
    let made = folder()?;
    let init = Groundswell::new(["certs", "init", "--access", &made.path().display().to_string()]).finish()?;
    ensure!(init.code == Some(0), "{init:?}");
    for role in ["join", "run", "view", "admin"] {
        write(made.path(), role, &format!("{role}-{:032x}", rand::random::<u128>()))?;
    }
    let all: [(&str, &[&str]); 3] = [
        ("groundswell-coordinator", &["ca.pem", "ca.key", "join", "run", "view", "admin"]),
        ("groundswell-agent", &["ca.pem", "join"]),
        ("groundswell-run", &["ca.pem", "run"]),
    ];
    for (name, keys) in all {
        let secret = at.join(name);
        fs::create_dir(&secret)?;
        for key in keys {
            fs::copy(made.path().join(key), secret.join(key))?;
            readable(&secret.join(key))?;
        }
    }
    Ok(())
}

fn readable(file: &Path) -> anyhow::Result<()> {
    Ok(fs::set_permissions(file, fs::Permissions::from_mode(0o444))?)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
