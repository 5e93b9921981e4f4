//! The examples do what they say.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use groundswell_coordinator::report::Status;
use regex::Regex;

use crate::harness::{Groundswell, Report, folder, repository};

fn examples() -> anyhow::Result<Vec<PathBuf>> {
    let mut plans: Vec<PathBuf> = Vec::new();
    for file in std::fs::read_dir(repository().join("examples"))? {
        let path = file?.path();
        if path.extension().is_some_and(|ending| ending == "yaml") {
            plans.push(path);
        }
    }
    plans.sort();
    ensure!(plans.len() >= 10, "only {} examples were found", plans.len());
    Ok(plans)
}

/// The same plan in less time, against a port of its own: every duration of a load becomes a second at most, every
/// count of iterations ten at most.
fn shortened(text: &str, port: u16) -> anyhow::Result<String> {
    let replace = |text: String, pattern: &str, with: &str| -> anyhow::Result<String> {
        Ok(Regex::new(pattern)?.replace_all(&text, with).into_owned())
    };
    // How late a debug build is on a busy machine is not what is tested here.
    let text = text.replace("127.0.0.1:8088", &format!("127.0.0.1:{port}")) + "\nmax_send_lag: 10s\n";
    let text = replace(text, r"\bfor: *[0-9]+(s|m|h)\b", "for: 1s")?;
    let text = replace(text, r"\bwithin: *[0-9]+s\b", "within: 2s")?;
    let text = replace(text, r"\blisten: *[0-9]{2,}s\b", "listen: 3s")?;
    let text = replace(text, r"\bdrop: \{ every: *[0-9]+s\b", "drop: { every: 1s")?;
    let text = replace(text, r"\bwithin: *[0-9]+%", "within: 60%")?;
    let text = replace(text, r"\bto: *10000/s\b", "to: 400/s")?;
    let text = replace(text, r"\bwarm_up: *[0-9]+s\b", "warm_up: 200ms")?;
    let text = replace(text, r"\b(shared|iterations|per_user): *[0-9]{2,}", "$1: 10")?;
    replace(text, r"\bthink: .*?( *[,}]|$)", "think: 10ms$1")
}

/// Runs every example, shortened, on the built-in target: nothing is lost, and its report fits the published schema.
pub(crate) fn run_shortened() -> anyhow::Result<()> {
    let schema = |name: &str| -> anyhow::Result<_> {
        let schema = std::fs::read_to_string(repository().join("docs").join(name))?;
        Ok(jsonschema::validator_for(&serde_json::from_str(&schema)?)?)
    };
    let (of_runs, of_searches) = (schema("report.schema.json")?, schema("search.schema.json")?);
    for example in examples()? {
        let name = example.display().to_string();
        let run = run_one(&example).with_context(|| name.clone())?;
        let schema = if run["schema"] == "groundswell.search/v1" { &of_searches } else { &of_runs };
        let valid: Vec<String> = schema.iter_errors(&run).map(|error| error.to_string()).collect();
        ensure!(valid.is_empty(), "{name}: {valid:?}");
    }
    Ok(())
}

fn run_one(example: &Path) -> anyhow::Result<serde_json::Value> {
    let folder = folder()?;
    for file in std::fs::read_dir(repository().join("examples"))? {
        let path = file?.path();
        if path.extension().is_some_and(|ending| ending == "csv") {
            std::fs::copy(&path, folder.path().join(path.file_name().context("no name")?))?;
        }
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    std::fs::write(folder.path().join("plan.yaml"), shortened(&std::fs::read_to_string(example)?, port)?)?;
    let command = if example.ends_with("search.yaml") { "search" } else { "run" };
    let arguments =
        [command, "plan.yaml", "--demo-target", "--agents", "2", "--out", "report.json", "--out", "report.md"];
    let run = Groundswell::new(arguments).current_dir(folder.path()).finish()?;
    let json = std::fs::read_to_string(folder.path().join("report.json")).with_context(|| format!("{run:?}"))?;
    if command == "search" {
        let report: serde_json::Value = serde_json::from_str(&json)?;
        let steps = report["steps"].as_array().context("no steps")?;
        // Where the limit of a debug build on a busy machine lies is not what is tested here.
        ensure!(steps.len() > 1 && matches!(run.code, Some(0 | 1)), "{run:?}");
        ensure!(std::fs::metadata(folder.path().join("report.md"))?.len() > 0, "empty Markdown");
        return Ok(report);
    }
    let report: Report = serde_json::from_str(&json)?;
    // A slow machine may break a threshold of a shortened run; nothing else may go wrong.
    let fine = matches!(report.verdict.status, Status::Passed | Status::Failed);
    ensure!(fine && matches!(run.code, Some(0 | 1)), "{:?} {:?}", run.code, report.verdict);
    ensure!(report.ledger.balanced && report.ledger.issued > 0, "{:?}", report.ledger);
    for scenario in &report.run.scenarios {
        let issued: u64 = report.steps.iter().filter(|row| row.scenario == *scenario).map(|row| row.issued).sum();
        ensure!(issued > 0, "scenario {scenario} did nothing");
    }
    ensure!(std::fs::metadata(folder.path().join("report.md"))?.len() > 0, "empty Markdown");
    Ok(serde_json::from_str(&json)?)
}

/// The schema that editors load beside the examples is the one that the binary prints.
pub(crate) fn schema_is_current() -> anyhow::Result<()> {
    let printed = Groundswell::new(["schema"]).finish()?;
    ensure!(printed.code == Some(0), "{printed:?}");
    let kept = std::fs::read_to_string(repository().join("examples/groundswell.schema.json"))?;
    ensure!(printed.stdout == kept, "run: groundswell schema > examples/groundswell.schema.json");
    for example in examples()? {
        let text = std::fs::read_to_string(&example)?;
        let names_it = text.starts_with("# yaml-language-server: $schema=groundswell.schema.json");
        ensure!(names_it, "{}: its first line does not name the schema", example.display());
    }
    Ok(())
}

/// The reference knows every object and key of the language.
pub(crate) fn reference_is_complete() -> anyhow::Result<()> {
    let page = std::fs::read_to_string(repository().join("docs/plan.md"))?;
    let schema: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(repository().join("examples/groundswell.schema.json"))?)?;
    let objects = schema["$defs"].as_object().context("no definitions")?;
    for (name, object) in objects.iter().map(|(name, object)| (name.as_str(), object)).chain([("plan", &schema)]) {
        let section = page.split("\n### ").find(|section| section.starts_with(&format!("{name}\n")));
        let section = section.with_context(|| format!("docs/plan.md has no section {name}"))?;
        for (key, value) in object["properties"].as_object().context("no properties")? {
            let described = value["description"].as_str().context("no description")?;
            let row = section.lines().find(|line| line.starts_with(&format!("| `{key}`")));
            ensure!(
                row.is_some_and(|row| row.contains(described)),
                "docs/plan.md: {name}.{key} is not as in the schema"
            );
        }
    }
    Ok(())
}
