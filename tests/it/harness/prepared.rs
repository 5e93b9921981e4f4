//! A plan in a folder of its own, with the report that its run leaves there.

use anyhow::Context;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use super::process::Groundswell;
use super::{folder, write};

/// A plan that is ready to be run.
pub(crate) struct Prepared {
    folder: TempDir,
}

impl Prepared {
    /// Writes a plan; `TARGET` in it becomes the target's URL.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) fn new(plan: &str, target: &str) -> anyhow::Result<Self> {
        let folder = folder()?;
        write(folder.path(), "plan.yaml", &plan.replace("TARGET", target))?;
        Ok(Prepared { folder })
    }

    /// Where it lies.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// A call of `run` or `search` on it, with further arguments.
    pub(crate) fn call(&self, command: &str, more: &[&str]) -> Groundswell {
        let arguments = [&[command, "plan.yaml", "--out", "report.json"], more].concat();
        Groundswell::new(arguments).current_dir(self.folder.path())
    }

    /// The same on a coordinator, as soon as so many agents are there.
    pub(crate) fn call_on(&self, command: &str, coordinator: &str, agents: &str) -> Groundswell {
        self.call(command, &["--coordinator", coordinator, "--wait-agents", agents])
    }

    /// The report that it left.
    ///
    /// # Errors
    /// When there is none, or it is not what it should be.
    pub(crate) fn report<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        let text = std::fs::read_to_string(self.folder.path().join("report.json")).context("no report")?;
        Ok(serde_json::from_str(&text)?)
    }
}
