//! What `--help` says.

use anyhow::ensure;

use crate::harness::{Groundswell, snapshot};

pub(crate) fn every_command_explains_itself() -> anyhow::Result<()> {
    let commands =
        ["", "run", "serve", "agent", "check", "schema", "demo-target", "runs", "report", "compare", "health"];
    let mut texts = Vec::new();
    for command in commands {
        let arguments = [command, "--help"];
        let help = Groundswell::new(arguments.iter().filter(|argument| !argument.is_empty())).finish()?;
        ensure!(help.code == Some(0), "{help:?}");
        texts.push(format!("$ groundswell {}\n{}", arguments.join(" ").trim(), help.stdout));
    }
    snapshot("help", &texts.join("\n"));
    Ok(())
}

/// A wrong flag is refused with what was meant.
pub(crate) fn wrong_usage() -> anyhow::Result<()> {
    let typo = Groundswell::new(["run", "plan.yaml", "--agent", "3"]).finish()?;
    ensure!(typo.code == Some(2) && typo.stderr.contains("--agents"), "{typo:?}");
    let both =
        Groundswell::new(["run", "plan.yaml", "--agents", "3", "--coordinator", "http://127.0.0.1:1"]).finish()?;
    ensure!(both.code == Some(2) && both.stderr.contains("cannot be used with"), "{both:?}");
    Ok(())
}
