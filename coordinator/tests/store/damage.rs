//! Files that are cut off, changed, full or someone else's. What was reported is there, or the store says what is wrong;
//! it never opens with less and keeps quiet.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use groundswell_coordinator::store::{Entry, Location, Store, StoreError};

use crate::common::{delta, event, finish, new_run, open, read, write};

const DATABASE: &str = "groundswell.db";
const LOG: &str = "groundswell.db-wal";

/// Files of a store whose newest commits are in the write-ahead log, as a killed process leaves them.
struct Left {
    folder: tempfile::TempDir,
    entries: Vec<Entry>,
    /// How long the log was after each commit, and how many entries were reported by then.
    commits: Vec<(u64, usize)>,
}

async fn left_behind() -> Left {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&Location::Folder(folder.path().join("store"))).await;
    store.create_run(&new_run("r")).await.unwrap();
    let log = folder.path().join("store").join(LOG);
    let mut entries = Vec::new();
    let mut commits = vec![(log.metadata().unwrap().len(), 0)];
    for commit in 0..8 {
        let first = entries.len() as u64 + 1;
        let batch: Vec<Entry> = (first..=first + commit % 3)
            .map(|n| if n % 4 == 0 { event("r", n, &[9; 20_000]) } else { delta("r", n, "a", 1, n) })
            .collect();
        write(&store, batch.clone()).await.unwrap();
        entries.extend(batch);
        commits.push((log.metadata().unwrap().len(), entries.len()));
    }
    // Copied while it is open: closing would empty the log into the database.
    let copy = folder.path().join("copy");
    copied(&folder.path().join("store"), &copy);
    store.close().await;
    Left { folder, entries, commits }
}

fn copied(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in [DATABASE, LOG] {
        if from.join(name).exists() {
            std::fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

impl Left {
    /// A fresh copy with a log of one's own making.
    fn with_log(&self, log: &[u8]) -> PathBuf {
        let folder = self.folder.path().join("changed");
        let _ = std::fs::remove_dir_all(&folder);
        copied(&self.folder.path().join("copy"), &folder);
        std::fs::write(folder.join(LOG), log).unwrap();
        folder
    }

    fn log(&self) -> Vec<u8> {
        std::fs::read(self.folder.path().join("copy").join(LOG)).unwrap()
    }
}

async fn entries_in(folder: &Path) -> Result<Vec<Entry>, StoreError> {
    let store = Store::open(&Location::Folder(folder.to_owned())).await?;
    let entries = read(&store, "r").await;
    store.close().await;
    entries
}

/// Where a process dies in the middle of a write, the log ends at any byte: all whole commits are there, and no more.
#[tokio::test]
async fn a_log_cut_off_anywhere_has_its_whole_commits() {
    let left = left_behind().await;
    let log = left.log();
    let page = u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
    let frame = page + 24;
    // Within a frame one place is like the other; so the ends of each, its header, and some in between.
    let places = (0..=log.len())
        .filter(|place| *place <= 33 || matches!((place - 32) % frame, 0 | 1 | 23 | 24 | 25) || place % 9_973 == 0)
        .chain([log.len() - 1, log.len()]);
    let start = left.commits[0].0 as usize;
    let mut tried = 0;
    for place in places.filter(|place| *place >= start) {
        let entries =
            entries_in(&left.with_log(&log[..place])).await.unwrap_or_else(|error| panic!("{place}: {error}"));
        let reported = left.commits.iter().filter(|(end, _)| *end as usize <= place).map(|(_, count)| *count).max();
        assert_eq!(entries, left.entries[..reported.unwrap()], "cut off at byte {place}");
        tried += 1;
    }
    assert!(tried > 50, "{tried}");
    // Before the run itself was committed there is a store without it, or none: both open.
    for place in [0, 1, 31, 32, 33, start / 2] {
        let folder = left.with_log(&log[..place]);
        let store = open(&Location::Folder(folder)).await;
        assert!(store.runs().await.unwrap().len() <= 1);
        store.close().await;
    }
}

/// A byte that changed in the middle is not the end of the log.
#[tokio::test]
async fn a_log_changed_in_the_middle_is_refused_by_name() {
    let left = left_behind().await;
    let log = left.log();
    let (last_but_one, _) = left.commits[left.commits.len() - 2];
    let mut refused = 0;
    for place in (0..log.len()).step_by(6_007).chain(0..56).chain([log.len() - 1]) {
        let mut changed = log.clone();
        changed[place] ^= 0xff;
        let folder = left.with_log(&changed);
        match entries_in(&folder).await {
            // The last commit can't be told from one that was being written.
            Ok(entries) if place as u64 >= last_but_one => {
                assert!(left.entries.starts_with(&entries), "{place}");
                assert!(entries.len() >= left.commits[left.commits.len() - 2].1, "{place}: {}", entries.len());
            }
            Ok(entries) => assert_eq!(entries, left.entries, "changed at byte {place}, and less came back"),
            Err(error) => {
                let StoreError::Damaged { file, what } = &error else { panic!("{place}: {error}") };
                assert!(file.ends_with(LOG) && what.contains("not what was written"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 50, "{refused}");
}

/// What the message advises works: what was stored before the damage is there again.
#[tokio::test]
async fn a_damaged_log_can_be_cut_off_where_the_message_says() {
    let left = left_behind().await;
    let mut log = left.log();
    let (end, count) = left.commits[4];
    log[end as usize + 100] ^= 1;
    let folder = left.with_log(&log);
    let error = entries_in(&folder).await.unwrap_err().to_string();
    assert!(error.contains(&format!("the frame at byte {end} ")), "{error}");
    assert!(error.contains(&format!("cut this file off at byte {end}")), "{error}");
    std::fs::OpenOptions::new().write(true).open(folder.join(LOG)).unwrap().set_len(end).unwrap();
    assert_eq!(entries_in(&folder).await.unwrap(), left.entries[..count]);
}

/// Whatever byte of the database changes: everything is read back as it was, or an error names what is wrong.
#[tokio::test]
async fn a_changed_database_is_refused_or_whole() {
    let folder = tempfile::tempdir().unwrap();
    let original = folder.path().join("original");
    let store = open(&Location::Folder(original.clone())).await;
    store.create_run(&new_run("r")).await.unwrap();
    let entries: Vec<Entry> =
        (1..=60).map(|n| if n % 4 == 0 { event("r", n, &[9; 2_000]) } else { delta("r", n, "a", 1, n) }).collect();
    write(&store, entries.clone()).await.unwrap();
    store.finish_run(&finish("r", 1, 5)).await.unwrap();
    let number = store.incarnation("a", 7).await.unwrap();
    let (term, runs, run) = (store.term(), store.runs().await.unwrap(), store.run("r").await.unwrap());
    store.close().await;
    let bytes = std::fs::read(original.join(DATABASE)).unwrap();
    let (mut refused, mut whole) = (0, 0);
    // A prime, so that every part of a page has its turn.
    for place in (0..bytes.len()).step_by(1_499).chain((0..100).step_by(9)) {
        let changed = folder.path().join("changed");
        let _ = std::fs::remove_dir_all(&changed);
        std::fs::create_dir(&changed).unwrap();
        let mut bytes = bytes.clone();
        bytes[place] ^= 0x41;
        std::fs::write(changed.join(DATABASE), bytes).unwrap();
        let location = Location::Folder(changed.clone());
        let found = async {
            let store = Store::open(&location).await?;
            let found = (
                read(&store, "r").await?,
                store.term(),
                store.runs().await?,
                store.run("r").await?.report,
                store.incarnation("a", 7).await?,
            );
            store.close().await;
            Ok::<_, StoreError>(found)
        };
        match found.await {
            Ok(found) => {
                let expected = (entries.clone(), term + 1, runs.clone(), run.report.clone(), number);
                assert_eq!(found, expected, "changed at byte {place}, and something else came back");
                whole += 1;
            }
            Err(error) => {
                assert!(error.to_string().contains(DATABASE), "{place}: {error}");
                refused += 1;
            }
        }
    }
    println!("{refused} changes were refused by name, {whole} changed nothing that is read");
    assert!(refused > 20, "{refused}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(DATABASE), [b'x'; 9_000]).unwrap();
    let error = Store::open(&Location::Folder(folder.path().to_owned())).await.unwrap_err();
    assert!(matches!(&error, StoreError::Damaged { file, .. } if file.ends_with(DATABASE)), "{error}");
}

#[tokio::test]
async fn a_newer_database_is_refused() {
    use sqlx::{Connection, SqliteConnection};
    let folder = tempfile::tempdir().unwrap();
    let location = Location::Folder(folder.path().to_owned());
    open(&location).await.close().await;
    let path = folder.path().join(DATABASE);
    let mut connection = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    sqlx::query(
        "INSERT INTO groundswell_migrations (version, description, success, checksum, execution_time) \
         VALUES (99, 'later', true, x'00', 0)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
    let error = Store::open(&location).await.unwrap_err();
    assert!(matches!(error, StoreError::Newer { version: 99, .. }), "{error}");
    assert!(error.to_string().contains("use that release"), "{error}");
}

/// Plans hold credentials.
#[tokio::test]
async fn nobody_else_may_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("new").join("store");
    let store = open(&Location::Folder(folder.clone())).await;
    store.create_run(&new_run("r")).await.unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for file in std::fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    store.close().await;
}
