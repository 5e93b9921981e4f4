//! The image under test.
//!
//! A release of its own, linked statically, would take CI a quarter of an hour. So what `deploy/static.sh` lays out is laid
//! out here around the ordinary binary of this build with the libraries that the loader finds for it; Dockerfile, user,
//! folders and command are those that are shipped. That the static binary runs on `scratch`, names and all, was tried by hand
//! (docs/deploy/static.md).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, ensure};

use crate::harness::{binary, folder, repository};

static NEXT: AtomicU32 = AtomicU32::new(0);
/// One image at a time is built or removed: with an image go those that it was made from and that nothing else is made from
/// yet, also where another build is about to.
static ENGINE: Mutex<()> = Mutex::new(());

/// Goes when it is dropped.
pub(super) struct Image {
    pub(super) tag: String,
}

impl Image {
    /// Builds it.
    ///
    /// # Errors
    /// What the engine says.
    pub(super) fn build() -> anyhow::Result<Self> {
        let context = folder()?;
        lay_out(context.path())?;
        let tag = format!("groundswell-test:{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dockerfile = repository().join("deploy/Dockerfile");
        let mut build = Command::new("docker");
        build.args(["build", "--quiet", "--target", "prebuilt", "--tag", &tag, "--file"]).arg(dockerfile);
        let _one = ENGINE.lock().unwrap_or_else(PoisonError::into_inner);
        output(build.arg(context.path()))?;
        Ok(Image { tag })
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _one = ENGINE.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = output(Command::new("docker").args(["rmi", "--force", &self.tag]));
    }
}

/// As `deploy/static.sh` does it.
fn lay_out(context: &Path) -> anyhow::Result<()> {
    let root = context.join("root");
    for (folder, mode) in
        [("root", 0o755), ("root/tmp", 0o1777), ("own/data", 0o700), ("own/tokens", 0o700), ("own/identity", 0o700)]
    {
        let path = context.join(folder);
        fs::create_dir_all(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    fs::copy(binary(), root.join("groundswell"))?;
    for library in libraries(&binary())? {
        let inside = root.join(library.strip_prefix("/")?);
        fs::create_dir_all(inside.parent().context("a library in no folder")?)?;
        fs::copy(&library, inside)?;
    }
    Ok(())
}

/// What the loader needs for a program: itself and libraries, by the paths under which it looks for them.
fn libraries(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let listed = output(Command::new("ldd").arg(program))?;
    let paths = listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
    let paths: Vec<PathBuf> = paths.filter(|path| path != program).collect();
    ensure!(!paths.is_empty(), "ldd: {listed}");
    Ok(paths)
}

/// What a command prints.
///
/// # Errors
/// When it fails; with what it said.
pub(super) fn output(command: &mut Command) -> anyhow::Result<String> {
    let name = format!("{command:?}");
    let done = command.output().with_context(|| name.clone())?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    ensure!(done.status.success(), "{name}: {said}");
    Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}
