//! `deploy/namespaces.sh`: several machines on one, without containers.

use std::process::{Command, Stdio};

use anyhow::ensure;
use groundswell_coordinator::report::Status;

use crate::containers::shipped_plan;
use crate::harness::{Report, binary, folder, repository, write};

/// One command starts everything, runs a plan on four agents and ends with its verdict; then nothing of it is left.
pub(crate) fn the_first_report() -> anyhow::Result<()> {
    let folder = folder()?;
    let plan = write(folder.path(), "plan.yaml", &shipped_plan("deploy/compose/plan.yaml")?)?;
    let out = folder.path().join("report.json");
    let mut command = Command::new(repository().join("deploy/namespaces.sh"));
    command.arg(plan).args(["--plain", "--out"]).arg(&out).env("GROUNDSWELL", binary());
    let script = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let prefix = format!("groundswell-{}-", script.id());
    let ended = script.wait_with_output()?;
    ensure!(ended.status.code() == Some(0), "{ended:?}");
    let report: Report = serde_json::from_slice(&std::fs::read(&out)?)?;
    ensure!(report.verdict.status == Status::Passed && report.ledger.balanced, "{:?}", report.verdict);
    let mut names: Vec<&str> = report.agents.iter().map(|agent| agent.name.as_str()).collect();
    names.sort_unstable();
    ensure!(names == ["agent-1", "agent-2", "agent-3", "agent-4"], "{names:?}");
    ensure!(report.agents.iter().all(|agent| agent.issued > 0), "{:?}", report.agents);
    let left = Command::new("ip").args(["netns", "list"]).output()?;
    ensure!(!String::from_utf8_lossy(&left.stdout).contains(&prefix), "namespaces are left: {left:?}");
    Ok(())
}
