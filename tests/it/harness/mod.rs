//! The harness of the black-box tests: starts real processes, waits for what they say, ends them by their id.

mod api;
mod by_hand;
mod groups;
mod namespace;
mod oracle;
mod prepared;
mod process;
mod proxy;
mod recorder;
mod report;
mod servers;

pub(crate) use api::{Answer, Api};
pub(crate) use by_hand::{ByHand, join, join_with, measured};
pub(crate) use groups::CpuGroup;
pub(crate) use namespace::{Namespace, To};
pub(crate) use oracle::Oracle;
pub(crate) use prepared::Prepared;
pub(crate) use process::{
    Daemon, Finished, Groundswell, agent, agent_through, agent_with, binary, demo_target, labelled_agent, serve,
    serve_on,
};
pub(crate) use proxy::Proxy;
pub(crate) use recorder::Recorder;
pub(crate) use report::{Report, oracle, response_histogram};
pub(crate) use servers::{
    Autobahn, Nginx, PythonModule, PythonServer, Tool, compose, free_port, own_port, python, read_with_python,
    wait_until_listening,
};

use std::path::{Path, PathBuf};

/// Root of the repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// A folder of its own for a test, removed at its end.
///
/// # Errors
/// When it can't be made.
pub(crate) fn folder() -> anyhow::Result<tempfile::TempDir> {
    Ok(tempfile::Builder::new().prefix("groundswell-test-").tempdir()?)
}

/// Writes a file into a folder.
///
/// # Errors
/// When it can't be written.
pub(crate) fn write(folder: &Path, name: &str, content: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join(name);
    std::fs::write(&path, content)?;
    Ok(path)
}

/// Snapshot settings: one folder for all, no expression in the file.
pub(crate) fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}
