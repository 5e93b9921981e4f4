//! The files behind a coordinator's access: readable by its user alone, replaced as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::AccessError;

/// The folder of a coordinator's access.
#[derive(Debug, Clone)]
pub struct AccessFolder {
    at: PathBuf,
}

impl AccessFolder {
    /// The folder at that path, made with mode 0700 when it is not there.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn open(at: &Path) -> Result<Self, AccessError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(at)
            .map_err(|error| AccessError::file(at, format!("can't make this folder: {error}")))?;
        Ok(AccessFolder { at: at.to_owned() })
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
        let path = self.path(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(AccessError::file(&path, error)),
        }
    }

    /// Replaces a file as a whole, mode 0600: whoever reads it sees the old text or the new one.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<(), AccessError> {
        let path = self.path(name);
        // A named temporary file has mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(&self.at).map_err(|error| AccessError::file(&path, error))?;
        file.write_all(text.as_bytes()).map_err(|error| AccessError::file(&path, error))?;
        file.as_file().sync_all().map_err(|error| AccessError::file(&path, error))?;
        file.persist(&path).map_err(|error| AccessError::file(&path, error.error))?;
        Ok(())
    }

    /// A JSON file; the default when it is not there.
    pub(crate) fn json<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T, AccessError> {
        let Some(text) = self.read(name)? else { return Ok(T::default()) };
        serde_json::from_str(&text).map_err(|error| AccessError::file(&self.path(name), error))
    }

    /// Changes a JSON file; nobody else changes one meanwhile, in this process or another.
    pub(crate) fn change<T, A>(
        &self,
        name: &str,
        change: impl FnOnce(&mut T) -> Result<A, AccessError>,
    ) -> Result<A, AccessError>
    where
        T: Serialize + DeserializeOwned + Default,
    {
        let _lock = self.lock()?;
        let mut value = self.json(name)?;
        let answer = change(&mut value)?;
        let text = serde_json::to_string_pretty(&value).map_err(|error| AccessError::file(&self.path(name), error))?;
        self.write(name, &format!("{text}\n"))?;
        Ok(answer)
    }

    /// Held until it is dropped.
    pub(crate) fn lock(&self) -> Result<File, AccessError> {
        let path = self.path("lock");
        let locked = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let locked = locked.and_then(|file| file.lock().map(|()| file));
        locked.map_err(|error| AccessError::file(&path, error))
    }

    /// When a file was changed last: a value that differs after every change; none when it is not there.
    pub(crate) fn stamp(&self, name: &str) -> Option<(std::time::SystemTime, u64)> {
        let of = fs::metadata(self.path(name)).ok()?;
        Some((of.modified().ok()?, of.len()))
    }
}
