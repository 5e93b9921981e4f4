//! Disks that are full or don't sync: what was reported stays, nothing more is reported, and the error says why.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use groundswell_coordinator::store::{Entry, EntryBody, Location, StoreError};

use crate::common::{Writing, event, new_run, open, read};
use crate::tools::{is_root, skipped};

/// A file system of a few megabytes.
struct Small {
    folder: tempfile::TempDir,
}

impl Small {
    fn mount() -> Option<Small> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(folder.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Small { folder })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.folder.path()).status();
    }
}

fn large(n: u64) -> Entry {
    let mut entry = event("r", n, &[]);
    entry.body = EntryBody::Event(vec![n as u8; 30_000]);
    entry
}

#[tokio::test]
async fn a_full_disk_stops_the_store_and_takes_nothing() {
    const TEST: &str = "failing::a_full_disk_stops_the_store_and_takes_nothing";
    let Some(small) = is_root().then(Small::mount).flatten() else {
        skipped(TEST, "needs root, to mount a small file system", false);
        return;
    };
    let folder = small.path().join("store");
    // Something to delete later, as people do.
    std::fs::write(small.path().join("ballast"), vec![0; 600_000]).unwrap();
    let store = open(&Location::Folder(folder.clone())).await;
    store.create_run(&new_run("r")).await.unwrap();
    let Writing { writer, mut done } = Writing::on(&store);
    let mut reported = 0;
    let mut error = None;
    for n in 1..=200 {
        writer.write(large(n), n).await.unwrap();
        let committed = done.recv().await.unwrap();
        match committed.result {
            Ok(()) if error.is_none() => reported = n,
            Ok(()) => panic!("entry {n} was reported after a failure"),
            Err(why) => {
                error.get_or_insert(why);
            }
        }
    }
    let error = error.expect("200 entries of 30 KB fit into 3 MB");
    assert!(matches!(&*error, StoreError::Full { .. }), "{error}");
    assert!(error.to_string().contains(folder.to_str().unwrap()), "{error}");
    assert!(reported > 10, "{reported}");
    writer.close().await;
    // It can still be read, here and now, and somewhere else, and here when there is room again.
    assert!(read(&store, "r").await.unwrap().len() as u64 >= reported);
    let elsewhere = tempfile::tempdir().unwrap();
    for name in ["groundswell.db", "groundswell.db-wal"] {
        std::fs::copy(folder.join(name), elsewhere.path().join(name)).unwrap();
    }
    store.close().await;
    std::fs::remove_file(small.path().join("ballast")).unwrap();
    for folder in [elsewhere.path().to_owned(), folder] {
        let store = open(&Location::Folder(folder)).await;
        let entries = read(&store, "r").await.unwrap();
        assert!(entries.len() as u64 >= reported, "{reported} reported, {} there", entries.len());
        assert!(entries.iter().zip(1..).all(|(entry, n)| *entry == large(n)));
        store.close().await;
    }
}

/// Makes every sync fail from the moment a file is there.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
static int fails(void) { const char *file = getenv("SYNC_FAILS_WITH"); return file && access(file, F_OK) == 0; }
int fsync(int fd) { if (fails()) { errno = EIO; return -1; } return syscall(SYS_fsync, fd); }
int fdatasync(int fd) { if (fails()) { errno = EIO; return -1; } return syscall(SYS_fdatasync, fd); }
"#;
const WHERE: &str = "GROUNDSWELL_TEST_FAILING_STORE";

/// Not a test of its own: what a test starts with a library that makes syncs fail.
#[tokio::test]
async fn child() {
    let Ok(place) = std::env::var(WHERE) else { return };
    let place = PathBuf::from(place);
    let store = open(&Location::Folder(place.clone())).await;
    store.create_run(&new_run("r")).await.unwrap();
    let Writing { writer, mut done } = Writing::on(&store);
    for n in 1..=20 {
        if n == 11 {
            std::fs::write(place.join("fail"), "").unwrap();
        }
        // The disk recovers, and the store must not believe it.
        if n == 15 {
            std::fs::remove_file(place.join("fail")).unwrap();
        }
        writer.write(large(n), n).await.unwrap();
        let committed = done.recv().await.unwrap();
        let as_text = committed.result.map_or_else(|error| error.to_string(), |()| "committed".to_owned());
        std::fs::write(place.join(format!("result-{n}")), as_text).unwrap();
    }
    std::process::exit(0);
}

#[tokio::test]
async fn a_failed_sync_stops_the_store() {
    const TEST: &str = "failing::a_failed_sync_stops_the_store";
    let folder = tempfile::tempdir().unwrap();
    let (source, library) = (folder.path().join("shim.c"), folder.path().join("shim.so"));
    std::fs::write(&source, SHIM).unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).output();
    if !built.is_ok_and(|output| output.status.success()) {
        skipped(TEST, "needs a C compiler (cc)", true);
        return;
    }
    let place = folder.path().join("store");
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "failing::child", "--nocapture"])
        .env(WHERE, &place)
        .env("LD_PRELOAD", &library)
        .env("SYNC_FAILS_WITH", place.join("fail"))
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let result = |n: u64| std::fs::read_to_string(place.join(format!("result-{n}"))).unwrap();
    for n in 1..=10 {
        assert_eq!(result(n), "committed");
    }
    let first = result(11);
    assert!(first.contains("groundswell.db") && first.contains("disk I/O error"), "{first}");
    for n in 12..=20 {
        assert_eq!(result(n), format!("the store has stopped writing: {first}"));
    }
    let store = open(&Location::Folder(place)).await;
    let entries = read(&store, "r").await.unwrap();
    assert!((10..=11).contains(&entries.len()), "{}", entries.len());
    assert!(entries.iter().zip(1..).all(|(entry, n)| *entry == large(n)));
}
