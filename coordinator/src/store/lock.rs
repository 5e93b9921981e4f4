//! The folder of a store and the lock on it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::StoreError;

/// Name of the SQLite database in the folder.
pub(super) const DATABASE: &str = "groundswell.db";
/// Name of the file whose lock means that a coordinator is at work.
const LOCK: &str = "lock";

/// A folder that is ours as long as this lives. The kernel gives the lock back when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct FolderLock {
    lock: File,
}

impl FolderLock {
    /// Makes the folder if it isn't there and takes it; returns also the path of the database, which is there then.
    /// What is made is for this user only: plans hold credentials.
    pub(super) fn take(folder: &Path) -> Result<(FolderLock, PathBuf), StoreError> {
        private_folder(folder).map_err(|error| failed("make the folder", folder, &error))?;
        let path = folder.join(LOCK);
        let mut lock = private_file(&path).map_err(|error| failed("open the lock file", &path, &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(folder, &mut lock)),
            Err(TryLockError::Error(error)) => return Err(failed("lock", &path, &error)),
        }
        // Only for the message of whoever comes second.
        let _ = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
        let database = folder.join(DATABASE);
        private_file(&database).map_err(|error| failed("open the database", &database, &error))?;
        Ok((FolderLock { lock }, database))
    }

    pub(super) fn release(&self) {
        // A lock that can't be given back goes with the file.
        let _ = self.lock.unlock();
    }
}

/// Makes names of new files in the folder durable; without it a power failure could take a file with all that was
/// synced into it.
pub(super) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed("sync the folder", folder, &error))
}

fn in_use(folder: &Path, lock: &mut File) -> StoreError {
    let mut text = String::new();
    let holder = match lock.read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => format!("process {}", text.trim()),
        _ => "process unknown".to_owned(),
    };
    StoreError::InUse { store: folder.display().to_string(), holder }
}

pub(super) fn failed(doing: &'static str, path: &Path, error: &std::io::Error) -> StoreError {
    let (store, why) = (path.display().to_string(), error.to_string());
    match error.kind() {
        std::io::ErrorKind::StorageFull => StoreError::Full { doing, store, why },
        _ => StoreError::Failed { doing, store, why },
    }
}

fn private_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// SQLite gives its -wal and -shm files the mode of the database.
fn private_file(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
