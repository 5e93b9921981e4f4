//! The files behind a coordinator's access: readable by its user alone, replaced as a whole. Where its keys are mounted
//! read-only, as Kubernetes mounts a Secret, what changes is kept elsewhere, and what the mount has of it counts too.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::AccessError;

/// The folder of a coordinator's access.
#[derive(Debug, Clone)]
pub struct AccessFolder {
    at: PathBuf,
    /// Where what changes is kept; none: there too.
    changes: Option<PathBuf>,
}

/// What is kept in a file that changes.
pub(crate) trait Changing: Serialize + DeserializeOwned + Default {
    /// Adds what a folder that can't be written has of the same.
    fn add(&mut self, given: Self);
}

impl AccessFolder {
    /// The folder at that path, made with mode 0700 when it is not there.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn open(at: &Path) -> Result<Self, AccessError> {
        make(at)?;
        Ok(AccessFolder { at: at.to_owned(), changes: None })
    }

    /// The same. Where it is on a read-only mount, what changes is kept in the folder that `otherwise` has, if any. A folder
    /// that only this user can't write is no such mount: whoever may write it has the say there.
    ///
    /// # Errors
    /// When one of them can't be made.
    pub fn open_or(at: &Path, otherwise: impl FnOnce() -> Option<PathBuf>) -> Result<Self, AccessError> {
        let folder = AccessFolder::open(at)?;
        let is_read_only =
            tempfile::tempfile_in(at).is_err_and(|error| error.kind() == std::io::ErrorKind::ReadOnlyFilesystem);
        let Some(changes) = is_read_only.then(otherwise).flatten().filter(|changes| changes != at) else {
            return Ok(folder);
        };
        make(&changes)?;
        Ok(AccessFolder { changes: Some(changes), ..folder })
    }

    /// Where the files are that change: `tokens.json`, `revoked.json`, the audit log.
    pub fn changes(&self) -> &Path {
        self.changes.as_deref().unwrap_or(&self.at)
    }

    /// A file of it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.at.join(name)
    }

    /// Where it is.
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// The text of a file; none when it is not there.
    pub(crate) fn read(&self, name: &str) -> Result<Option<String>, AccessError> {
        read(&self.path(name))
    }

    /// Replaces a file as a whole, mode 0600: whoever reads it sees the old text or the new one.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<(), AccessError> {
        write(&self.at, name, text)
    }

    /// A JSON file; the default when it is not there.
    pub(crate) fn json<T: Changing>(&self, name: &str) -> Result<T, AccessError> {
        let mut value: T = json(&self.changes().join(name))?;
        if self.changes.is_some() {
            value.add(json(&self.path(name))?);
        }
        Ok(value)
    }

    /// Changes a JSON file; nobody else changes one meanwhile, in this process or another. What a read-only mount has of it
    /// is not there to be changed.
    pub(crate) fn change<T, A>(
        &self,
        name: &str,
        change: impl FnOnce(&mut T) -> Result<A, AccessError>,
    ) -> Result<A, AccessError>
    where
        T: Changing,
    {
        let folder = self.changes();
        let _lock = lock(folder)?;
        let path = folder.join(name);
        let mut value = json(&path)?;
        let answer = change(&mut value)?;
        let text = serde_json::to_string_pretty(&value).map_err(|error| AccessError::file(&path, error))?;
        write(folder, name, &format!("{text}\n"))?;
        Ok(answer)
    }

    /// Held until it is dropped.
    pub(crate) fn lock(&self) -> Result<File, AccessError> {
        lock(&self.at)
    }

    /// When a file was changed last: a value that differs after every change; none when it is not there.
    pub(crate) fn stamp(&self, name: &str) -> Option<(SystemTime, u64)> {
        let changed = stamp(&self.changes().join(name));
        let given = self.changes.is_some().then(|| stamp(&self.path(name))).flatten();
        let (Some(one), Some(other)) = (changed, given) else { return changed.or(given) };
        let mut both = DefaultHasher::new();
        (one, other).hash(&mut both);
        Some((one.0.max(other.0), both.finish()))
    }
}

fn make(folder: &Path) -> Result<(), AccessError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| AccessError::file(folder, format!("can't make this folder: {error}")))
}

fn read(path: &Path) -> Result<Option<String>, AccessError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(AccessError::file(path, error)),
    }
}

fn json<T: DeserializeOwned + Default>(path: &Path) -> Result<T, AccessError> {
    let Some(text) = read(path)? else { return Ok(T::default()) };
    serde_json::from_str(&text).map_err(|error| AccessError::file(path, error))
}

fn write(folder: &Path, name: &str, text: &str) -> Result<(), AccessError> {
    let path = folder.join(name);
    // A named temporary file has mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|error| AccessError::file(&path, error))?;
    file.write_all(text.as_bytes()).map_err(|error| AccessError::file(&path, error))?;
    file.as_file().sync_all().map_err(|error| AccessError::file(&path, error))?;
    file.persist(&path).map_err(|error| AccessError::file(&path, error.error))?;
    Ok(())
}

fn lock(folder: &Path) -> Result<File, AccessError> {
    let path = folder.join("lock");
    let locked = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
    let locked = locked.and_then(|file| file.lock().map(|()| file));
    locked.map_err(|error| AccessError::file(&path, error))
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let of = fs::metadata(path).ok()?;
    Some((of.modified().ok()?, of.len()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[derive(Debug, Default, PartialEq, Serialize, serde::Deserialize)]
    struct Words(Vec<String>);

    impl Changing for Words {
        fn add(&mut self, given: Self) {
            self.0.extend(given.0);
        }
    }

    fn with(folder: &AccessFolder, word: &str) {
        let add = |words: &mut Words| {
            words.0.push(word.to_owned());
            Ok(())
        };
        folder.change("words.json", add).unwrap();
    }

    /// What a read-only mount has counts, also when it changes; what is changed here goes beside it.
    #[test]
    fn what_changes_is_kept_beside_a_mount_that_cannot_be_written() {
        let (mount, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let changes = data.path().join("access");
        let given = AccessFolder::open(mount.path()).unwrap();
        let folder = AccessFolder { changes: Some(changes.clone()), ..given.clone() };
        make(&changes).unwrap();
        assert_eq!((folder.json::<Words>("words.json").unwrap(), folder.stamp("words.json")), (Words::default(), None));
        let mut stamps = Vec::new();
        let changed = [(&given, "given"), (&folder, "here"), (&given, "given later"), (&folder, "here later")];
        for (at, word) in changed {
            with(at, word);
            stamps.push(folder.stamp("words.json").unwrap());
        }
        stamps.dedup();
        assert_eq!(stamps.len(), 4, "each change is seen");
        let all = ["here", "here later", "given", "given later"].map(str::to_owned);
        assert_eq!(folder.json::<Words>("words.json").unwrap().0, all);
        assert_eq!(given.json::<Words>("words.json").unwrap().0, all[2..]);
        assert!(folder.changes().join("lock").exists());
    }

    #[test]
    fn a_folder_that_can_be_written_keeps_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let opened = AccessFolder::open_or(folder.path(), || panic!("nobody asks")).unwrap();
        assert_eq!(opened.changes(), folder.path());
    }
}
