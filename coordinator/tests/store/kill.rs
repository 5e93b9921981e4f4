//! Processes that are killed while they write: what they had reported is there.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use groundswell_coordinator::store::{Entry, Location};

use crate::common::{Writing, delta, event, new_run, open, read};

/// Tells the child where to write.
const WHERE: &str = "GROUNDSWELL_TEST_STORE";

/// What the child writes as entry n: an event now and then, else deltas of three agents.
fn nth(n: u64) -> Entry {
    match n % 7 {
        0 => event("r", n, &n.to_le_bytes()),
        _ => delta("r", n, ["a", "b", "c"][(n % 3) as usize], 1 + n % 3, n),
    }
}

/// Not a test of its own: what a test starts, to kill it. Writes where the log ends and prints what is committed.
#[tokio::test]
async fn child() {
    let Ok(place) = std::env::var(WHERE) else { return };
    let store = open(&Location::parse(&place).unwrap()).await;
    store.create_run(&new_run("r")).await.unwrap();
    let last = read(&store, "r").await.unwrap().len() as u64;
    let Writing { writer, mut done } = Writing::on(&store);
    let mut out = std::fs::OpenOptions::new().append(true).open("/dev/stderr").unwrap();
    let mut n = last;
    loop {
        // A few at a time, so that commits have several entries and some wait while others are committed.
        for _ in 0..5 {
            n += 1;
            writer.write(nth(n), n).await.unwrap();
        }
        let committed = done.recv().await.unwrap();
        committed.result.unwrap();
        writeln!(out, "committed {}", committed.tokens.last().unwrap()).unwrap();
    }
}

/// Starts a child, kills it after a while that differs from round to round, and reads what it left.
pub(crate) async fn killed_writers_lose_nothing(place: &str, location: Location, rounds: u64) {
    let mut reported = 0;
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::child", "--nocapture"])
            .env(WHERE, place)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let reader = std::thread::spawn(move || {
            let numbers = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("committed ")?.parse().ok());
            numbers.last().unwrap_or(0_u64)
        });
        // From within the start to well into writing.
        tokio::time::sleep(Duration::from_millis(40 + round * 7919 % 331)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        reported = reader.join().unwrap().max(reported);
        let store = open(&location).await;
        if store.runs().await.unwrap().is_empty() {
            assert_eq!(reported, 0);
        } else {
            let entries = read(&store, "r").await.unwrap();
            assert!(entries.len() as u64 >= reported, "round {round}: {reported} reported, {} there", entries.len());
            assert!(entries.iter().zip(1..).all(|(entry, n)| *entry == nth(n)), "round {round}");
        }
        store.close().await;
    }
    assert!(reported > 0, "no child came far enough to report anything");
    println!("{reported} entries were reported by {rounds} killed processes, and all are there");
}

#[tokio::test]
async fn killed_writers_lose_nothing_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("store");
    killed_writers_lose_nothing(folder.to_str().unwrap(), Location::Folder(folder.clone()), 20).await;
}
