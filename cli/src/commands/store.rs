//! Where runs are kept.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use groundswell_coordinator::store::{Location, Store, StoreError};
use tempfile::TempDir;

use crate::Failure;
use crate::args::StoreArgs;

/// Opens the store that the arguments say.
pub(super) async fn open(args: &StoreArgs) -> Result<(Location, Store), Failure> {
    let location = location(args)?;
    let store = Store::open(&location).await.map_err(failure)?;
    Ok((location, store))
}

/// Where the arguments say that it is.
pub(super) fn location(args: &StoreArgs) -> Result<Location, Failure> {
    match &args.data_dir {
        Some(text) => Location::parse(text).map_err(Failure::usage),
        None => Ok(Location::Folder(default_folder().map_err(Failure::usage)?)),
    }
}

/// A store for one run: where nobody says where it is to be kept, it goes when the run is over.
pub(super) struct OneRun {
    pub(super) store: Store,
    pub(super) location: Location,
    /// Deleted when it is dropped.
    _folder: Option<TempDir>,
}

pub(super) async fn for_one_run(data_dir: Option<&str>) -> Result<OneRun, Failure> {
    let (location, folder) = match data_dir {
        Some(text) => (Location::parse(text).map_err(Failure::usage)?, None),
        None => {
            let folder = tempfile::Builder::new().prefix("groundswell-").tempdir();
            let folder = folder.context("can't make a folder for the run").map_err(Failure::incomplete)?;
            (Location::Folder(folder.path().join("store")), Some(folder))
        }
    };
    let store = Store::open(&location).await.map_err(failure)?;
    Ok(OneRun { store, location, _folder: folder })
}

fn failure(error: StoreError) -> Failure {
    match error {
        StoreError::InUse { .. } | StoreError::Newer { .. } | StoreError::Location { .. } => Failure::usage(error),
        _ => Failure::incomplete(error),
    }
}

/// `$XDG_STATE_HOME/groundswell`, by default `~/.local/state/groundswell` (XDG Base Directory Specification).
fn default_folder() -> anyhow::Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local").join("state")));
    state.map(|state| state.join("groundswell")).ok_or_else(|| anyhow!("there is no home folder; say --data-dir DIR"))
}
