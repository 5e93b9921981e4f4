//! The Compose file.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::commands;
use crate::objects;
use crate::tools::{Tool, deploy};

#[derive(Deserialize)]
struct Compose {
    services: BTreeMap<String, Value>,
    networks: BTreeMap<String, Value>,
}

fn file() -> anyhow::Result<Compose> {
    objects::yaml(&std::fs::read_to_string(deploy("compose.yaml"))?)
}

/// Words of a command line, as a list or as text.
fn words(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => text.split_whitespace().map(str::to_owned).collect(),
        Value::Array(all) => all.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

/// Nothing of the machine is theirs, and nobody else reaches them.
pub(crate) fn every_service() -> anyhow::Result<()> {
    let compose = file()?;
    for (name, service) in &compose.services {
        check(name, service).with_context(|| name.clone())?;
    }
    ensure!(compose.services["agent"]["scale"] == 4, "four agents");
    // The CA's key and the runs are the coordinator's; agents and runs have one token each.
    let mounts = |service: &str| words(&compose.services[service]["volumes"]);
    ensure!(mounts("agent") == ["join:/tokens:ro"], "{:?}", mounts("agent"));
    ensure!(mounts("run")[0] == "run:/tokens:ro", "{:?}", mounts("run"));
    Ok(())
}

/// Nothing that is started here reaches anything outside, whatever it is told to: a network has no way out or, where a port is
/// published on it, none by which answers come back.
pub(crate) fn no_way_out() -> anyhow::Result<()> {
    let compose = file()?;
    for (name, network) in &compose.networks {
        let masquerades = &network["driver_opts"]["com.docker.network.bridge.enable_ip_masquerade"];
        ensure!(network["internal"] == true || masquerades == "false", "{name} leads outside");
    }
    let internal = |name: &String| compose.networks.get(name).is_some_and(|network| network["internal"] == true);
    for (name, service) in &compose.services {
        let networks = words(&service["networks"]);
        ensure!(!networks.is_empty() || service["network_mode"] == "none", "{name} is on Compose's default network");
        // A port can't be published on an internal network, and nobody else needs another one.
        let publishes = service.get("ports").is_some();
        ensure!(publishes != networks.iter().all(internal), "{name}: {networks:?}");
    }
    ensure!(words(&compose.services["agent"]["networks"]) == ["control", "load"], "what agents reach");
    ensure!(words(&compose.services["run"]["networks"]) == ["control"], "what runs reach");
    // It has an account that everybody knows.
    let grafana = &compose.services["grafana"]["environment"];
    for (variable, value) in [("GF_AUTH_BASIC_ENABLED", "false"), ("GF_AUTH_DISABLE_LOGIN_FORM", "true")] {
        ensure!(grafana[variable] == value, "{variable}: {}", grafana[variable]);
    }
    Ok(())
}

fn check(name: &str, service: &Value) -> anyhow::Result<()> {
    ensure!(service["cap_drop"] == serde_json::json!(["ALL"]), "it has capabilities");
    ensure!(service["read_only"] == true, "its root can be written");
    ensure!(words(&service["security_opt"]).contains(&"no-new-privileges:true".to_owned()), "it may gain rights");
    ensure!(
        service.get("privileged").is_none() && service.get("network_mode").is_none_or(|mode| mode == "none"),
        "rights"
    );
    for port in words(&service["ports"]) {
        ensure!(port.starts_with("127.0.0.1:"), "{port} is open to everybody");
    }
    // Images of others have command lines of their own.
    if !service["image"].as_str().is_some_and(|image| image.contains("GROUNDSWELL_IMAGE")) {
        return Ok(());
    }
    let entry = words(&service["entrypoint"]);
    let arguments = [entry.get(1..).unwrap_or_default(), &words(&service["command"])].concat();
    commands::accepted(&arguments)?;
    for variable in service["environment"].as_object().into_iter().flatten().map(|(variable, _)| variable) {
        commands::reads(&arguments, variable)?;
    }
    let has_check = service["healthcheck"].get("test").is_some();
    let is_off = service["healthcheck"]["disable"] == true;
    ensure!(has_check || is_off, "{name} has the health check of a coordinator");
    if has_check {
        commands::accepted(&words(&service["healthcheck"]["test"])[2..])?;
    }
    Ok(())
}

/// The commands that `containers` in `tests/it` follows to a report are those of the guide.
pub(crate) fn guide_has_the_first_report() -> anyhow::Result<()> {
    let guide = std::fs::read_to_string(deploy("../docs/deploy/docker.md"))?;
    for call in ["run --rm run", "up --scale agent=4 run"] {
        let line = format!("\ndocker compose -f deploy/compose.yaml {call}\n");
        ensure!(guide.contains(&line), "the guide has no {line}");
    }
    Ok(())
}

/// The tool takes it.
pub(crate) fn as_the_tool_reads_it() -> anyhow::Result<()> {
    let path = deploy("compose.yaml").display().to_string();
    Tool::Compose.prints(&["-f", &path, "config"]).map(drop)
}
