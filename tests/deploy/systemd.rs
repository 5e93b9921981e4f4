//! The units for systemd.

use anyhow::{Context, ensure};

use crate::commands;
use crate::tools::{Tool, deploy};

const UNITS: [&str; 2] = ["groundswell-coordinator.service", "groundswell-agent@.service"];
/// Most exposure, of 10, that a unit may have by `systemd-analyze security`.
const MOST_EXPOSURE: f64 = 1.5;

fn unit(name: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(deploy(&format!("systemd/{name}"))).with_context(|| name.to_owned())
}

/// Its command is one, with variables that it reads.
pub(crate) fn every_unit() -> anyhow::Result<()> {
    for name in UNITS {
        let text = unit(name)?;
        let value = |key: &'static str| text.lines().filter_map(move |line| line.strip_prefix(key));
        let command = value("ExecStart=/usr/local/bin/groundswell ").next().context("no command")?;
        let arguments: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        commands::accepted(&arguments)?;
        for variable in value("Environment=").filter_map(|variable| variable.split_once('=')) {
            commands::reads(&arguments, variable.0)?;
        }
    }
    Ok(())
}

/// systemd takes it, and finds little that it could do to the machine.
pub(crate) fn verified() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    for name in UNITS {
        // The program is looked for, so it has to be one that is there.
        let here = std::env::current_exe()?.display().to_string();
        let file = folder.path().join(name);
        std::fs::write(&file, unit(name)?.replace("/usr/local/bin/groundswell", &here))?;
        let file = file.display().to_string();
        Tool::SystemdAnalyze.prints(&["verify", "--man=no", &file])?;
        let judged = Tool::SystemdAnalyze.prints(&["security", "--offline=yes", "--no-pager", &file])?;
        let level = judged.rsplit("exposure level for ").next().and_then(|rest| rest.split(": ").nth(1));
        let level: f64 = level.and_then(|rest| rest.split(' ').next()).context("no level")?.parse()?;
        ensure!(level <= MOST_EXPOSURE, "{name}: {level}\n{judged}");
    }
    Ok(())
}
