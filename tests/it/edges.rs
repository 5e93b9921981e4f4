//! The structure of the workspace: who may depend on whom, and why anything is here at all.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::harness::repository;

/// What a crate must never depend on. ARCHITECTURE.md explains each line.
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "groundswell-access",
        &["tokio", "tonic", "groundswell-proto", "groundswell-agent", "groundswell-coordinator", "sqlx"],
    ),
    ("groundswell-proto", &["reqwest", "groundswell-agent", "groundswell-coordinator", "sqlx"]),
    ("groundswell-scenario", &["tokio", "tonic", "prost", "reqwest", "groundswell-proto", "sqlx"]),
    ("groundswell-stats", &["tokio", "tonic", "prost", "groundswell-scenario", "groundswell-proto", "sqlx"]),
    ("groundswell-agent", &["groundswell-coordinator", "groundswell-demo-target", "sqlx"]),
    ("groundswell-coordinator", &["groundswell-agent", "groundswell-demo-target", "reqwest"]),
    ("groundswell-demo-target", &["groundswell-agent", "groundswell-coordinator", "groundswell-scenario", "sqlx"]),
    ("groundswell", &["sqlx"]),
];

/// Modules that must not name the wire, whatever their crate depends on.
const NO_WIRE: &[&str] = &[
    "agent/src/delivery",
    "agent/src/engine",
    "agent/src/transport",
    "agent/src/clock.rs",
    "agent/src/timer.rs",
    "coordinator/src/delivery",
    "coordinator/src/run",
    "coordinator/src/fleet.rs",
    "coordinator/src/compare",
    "coordinator/src/report",
];

fn metadata() -> anyhow::Result<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(repository())
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Dependencies by package, without those of tests.
fn dependencies() -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
    let metadata = metadata()?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |package: &Value| {
        let all = package["dependencies"].as_array().cloned().unwrap_or_default();
        all.iter()
            .filter(|dependency| dependency["kind"] != "dev")
            .map(|dependency| text(&dependency["name"]))
            .collect()
    };
    Ok(packages.iter().map(|package| (text(&package["name"]), of(package))).collect())
}

pub(crate) fn crates_depend_only_on_what_they_may() -> anyhow::Result<()> {
    let dependencies = dependencies()?;
    for (package, forbidden) in FORBIDDEN {
        let has = dependencies.get(*package).with_context(|| format!("no package {package}"))?;
        let wrong: Vec<_> = forbidden.iter().filter(|name| has.contains(**name)).collect();
        ensure!(wrong.is_empty(), "{package} must not depend on {wrong:?}");
    }
    for path in NO_WIRE {
        for (file, text) in sources(&repository().join(path))? {
            let names_it = ["groundswell_proto", "tonic::", "prost::"].iter().any(|name| text.contains(name));
            ensure!(!names_it, "{file} names the wire");
        }
    }
    for (file, text) in sources(&repository().join("coordinator/src"))? {
        ensure!(file.contains("/store/") || !text.contains("sqlx"), "{file} names a database");
    }
    Ok(())
}

/// Every direct dependency stands in docs/dependencies.md with its reason.
pub(crate) fn every_dependency_has_its_reason() -> anyhow::Result<()> {
    let page = std::fs::read_to_string(repository().join("docs/dependencies.md"))?;
    let metadata = metadata()?;
    let mut missing = BTreeSet::new();
    for package in metadata["packages"].as_array().context("no packages")? {
        for dependency in package["dependencies"].as_array().context("no dependencies")? {
            let name = dependency["name"].as_str().unwrap_or_default();
            if !name.starts_with("groundswell") && !page.contains(&format!("`{name}`")) {
                missing.insert(name.to_owned());
            }
        }
    }
    ensure!(missing.is_empty(), "docs/dependencies.md does not say why these are here: {missing:?}");
    Ok(())
}

/// ring, and nothing beside it.
pub(crate) fn one_tls_provider() -> anyhow::Result<()> {
    let lock = std::fs::read_to_string(repository().join("Cargo.lock"))?;
    let has = |name: &str| lock.contains(&format!("name = \"{name}\"\n"));
    ensure!(has("ring"), "ring is gone: name the new provider here");
    for other in ["aws-lc-rs", "openssl", "native-tls", "boring"] {
        ensure!(!has(other), "{other} is in the tree beside ring");
    }
    ensure!(lock.matches("name = \"rustls\"\n").count() == 1, "more than one rustls");
    Ok(())
}

/// Each source file begins with what it is for, and none has outgrown a reader's patience.
pub(crate) fn every_file_says_what_it_is_for() -> anyhow::Result<()> {
    const MOST_LINES: usize = 550;
    for folder in ["proto", "scenario", "stats", "agent", "coordinator", "demo-target", "cli", "tests"] {
        for (file, text) in sources(&repository().join(folder))? {
            ensure!(text.starts_with("//!"), "{file} does not begin with //!");
            let lines = text.lines().count();
            ensure!(lines <= MOST_LINES, "{file} has {lines} lines; the limit is {MOST_LINES}");
        }
    }
    Ok(())
}

fn sources(path: &std::path::Path) -> anyhow::Result<Vec<(String, String)>> {
    if path.is_file() {
        return Ok(vec![(path.display().to_string(), std::fs::read_to_string(path)?)]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        if path.is_dir() || path.extension().is_some_and(|ending| ending == "rs") {
            files.extend(sources(&path)?);
        }
    }
    Ok(files)
}
