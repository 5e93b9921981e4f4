//! Tools that a test needs and a machine may not have.

use std::path::PathBuf;
use std::process::Command;

/// What a test needs and doesn't find: with `GROUNDSWELL_TESTS_NEED_ALL` that is a failure if it could be installed.
pub(crate) fn skipped(test: &str, why: &str, can_be_installed: bool) {
    let need_all = std::env::var_os("GROUNDSWELL_TESTS_NEED_ALL").is_some();
    assert!(!(need_all && can_be_installed), "{test}: {why}");
    println!("skipped: {test}: {why}");
}

pub(crate) fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout == b"0\n")
}

/// The folder of PostgreSQL's own programs, which Debian keeps off the path; the newest if there are several.
pub(crate) fn postgres_programs() -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    folders.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.splice(0..0, std::env::split_paths(&path));
    folders.into_iter().rev().find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
}
