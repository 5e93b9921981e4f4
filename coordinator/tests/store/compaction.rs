//! Old runs become small and go, and nothing else changes.

use std::time::Duration;

use groundswell_coordinator::store::{
    Compacted, Entry, EntryBody, Location, Merged, RunState, Span, Store, StoreError,
};

use crate::common::{delta, event, finish, hash, new_run, open, read, write};

/// A run with two agents whose deltas alternate, and an event now and then.
fn log() -> Vec<Entry> {
    let mut seqs = [0, 0];
    let nth = |n: u64| {
        if n % 25 == 1 {
            return event("r", n, format!("event {n}").as_bytes());
        }
        let agent = usize::from(n.is_multiple_of(2));
        seqs[agent] += 1;
        delta("r", n, ["a", "b"][agent], agent as u64 + 1, seqs[agent])
    };
    (1..=400).map(nth).collect()
}

/// Groups of up to five.
fn by_five(span: &Span) -> Result<Vec<Merged>, String> {
    Ok(span.deltas.chunks(5).map(|group| Merged { deltas: group.len(), bytes: group.concat() }).collect())
}

/// What a replay would see: between two events, all that each agent said.
fn seen(entries: &[Entry]) -> Vec<(String, String, String)> {
    let mut seen = vec![(String::new(), String::new(), String::new())];
    for entry in entries {
        let mut last = seen.pop().unwrap();
        match &entry.body {
            EntryBody::Event(bytes) => {
                seen.push(last);
                last = (String::from_utf8(bytes.clone()).unwrap(), String::new(), String::new());
            }
            EntryBody::Delta { agent, bytes, .. } | EntryBody::Interval { agent, bytes, .. } => {
                let of = if agent == "a" { &mut last.1 } else { &mut last.2 };
                of.push_str(std::str::from_utf8(bytes).unwrap());
            }
        }
        seen.push(last);
    }
    seen
}

/// The keys and hashes of all deltas, sorted.
fn keys(entries: &[Entry]) -> Vec<(u64, u64, [u8; 16])> {
    let mut keys: Vec<_> = entries
        .iter()
        .flat_map(|entry| match &entry.body {
            EntryBody::Event(_) => vec![],
            EntryBody::Delta { incarnation, seq, hash, .. } => vec![(*incarnation, *seq, *hash)],
            EntryBody::Interval { incarnation, first_seq, hashes, .. } => {
                hashes.iter().zip(*first_seq..).map(|(hash, seq)| (*incarnation, seq, *hash)).collect()
            }
        })
        .collect();
    keys.sort_unstable();
    keys
}

async fn finished(location: &Location) -> Store {
    let store = open(location).await;
    store.create_run(&new_run("r")).await.unwrap();
    write(&store, log()).await.unwrap();
    store.finish_run(&finish("r", 1, 50)).await.unwrap();
    store
}

pub(crate) async fn compaction_keeps_order_keys_and_content(location: Location) {
    let store = open(&location).await;
    store.create_run(&new_run("unfinished")).await.unwrap();
    let error = store.compact("unfinished", by_five).await.unwrap_err();
    assert!(matches!(error, StoreError::Unfinished { .. }), "{error}");
    store.close().await;
    let store = finished(&location).await;
    let before = read(&store, "r").await.unwrap();
    let report = store.run("r").await.unwrap().report;
    let mut half_read = store.log("r").await.unwrap();
    half_read.next().await.unwrap();

    let compacted = store.compact("r", by_five).await.unwrap();
    assert_eq!(compacted.before, 400);
    assert!(compacted.after < 120, "{compacted:?}");
    let error = loop {
        match half_read.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a log that was replaced came to an end as if it were whole"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Changed { .. }), "{error}");
    store.close().await;

    let store = open(&location).await;
    let after = read(&store, "r").await.unwrap();
    assert_eq!(after.len() as u64, compacted.after);
    assert!(after.iter().zip(1..).all(|(entry, n)| entry.n == n));
    assert_eq!(seen(&after), seen(&before));
    assert_eq!(keys(&after), keys(&before));
    assert_eq!(keys(&before)[0], (1, 1, hash(1, 1)));
    assert_eq!(store.run("r").await.unwrap().report, report);
    assert!(store.run("r").await.unwrap().row.compacted);
    let error = store.compact("r", by_five).await.unwrap_err();
    assert!(matches!(error, StoreError::Compacted { .. }), "{error}");
    let error = write(&store, vec![event("r", compacted.after + 1, b"late")]).await.unwrap_err();
    assert!(matches!(error, StoreError::Compacted { .. }), "{error}");
    store.close().await;
}

pub(crate) async fn compaction_that_fails_or_is_cut_short_changes_nothing(location: Location) {
    let store = finished(&location).await;
    let before = read(&store, "r").await.unwrap();
    let mut left = 3;
    let fails = |span: &Span| {
        left -= 1;
        if left == 0 { Err("no idea".to_owned()) } else { by_five(span) }
    };
    let error = store.compact("r", fails).await.unwrap_err();
    assert_eq!(error.to_string(), "run r: can't merge deltas: no idea");
    let loses_one = |span: &Span| Ok(vec![Merged { deltas: span.deltas.len() - 1, bytes: vec![] }]);
    let error = store.compact("r", loses_one).await.unwrap_err();
    assert!(matches!(error, StoreError::Merge { .. }), "{error}");
    assert_eq!(read(&store, "r").await.unwrap(), before);
    // Dropped at any moment, as when the process is killed.
    // What was committing at that moment may still become true a little later.
    for millis in (0..).step_by(3) {
        assert_eq!(seen(&settled(&store).await), seen(&before), "cut short after {millis} ms");
        match tokio::time::timeout(Duration::from_millis(millis), store.compact("r", by_five)).await {
            Err(_) => {}
            Ok(Ok(compacted)) => {
                assert!(matches!(compacted, Compacted { before: 400, after: 20..120 }), "{compacted:?}");
                break;
            }
            Ok(Err(error)) => {
                assert!(matches!(error, StoreError::Compacted { .. }), "{error}");
                break;
            }
        }
    }
    let after = settled(&store).await;
    assert!(after.len() < 120, "{}", after.len());
    assert_eq!((seen(&after), keys(&after)), (seen(&before), keys(&before)));
    store.close().await;
}

async fn settled(store: &Store) -> Vec<Entry> {
    loop {
        match read(store, "r").await {
            Err(StoreError::Changed { .. }) => {}
            entries => return entries.unwrap(),
        }
    }
}

pub(crate) async fn pruning_deletes_what_is_old(location: Location) {
    let store = finished(&location).await;
    for id in ["recent", "revised", "unfinished"] {
        store.create_run(&new_run(id)).await.unwrap();
        write(&store, vec![event(id, 1, b"x")]).await.unwrap();
    }
    store.finish_run(&finish("recent", 1, 100)).await.unwrap();
    store.finish_run(&finish("revised", 1, 50)).await.unwrap();
    store.finish_run(&finish("revised", 2, 100)).await.unwrap();
    assert_eq!(store.prune(50).await.unwrap(), Vec::<String>::new(), "exactly as old is not older");
    assert_eq!(store.prune(51).await.unwrap(), ["r"]);
    assert!(matches!(read(&store, "r").await.unwrap_err(), StoreError::NoRun { .. }));
    assert_eq!(store.runs().await.unwrap().len(), 3);
    // Its log's number may be given again, and nothing of the old one is in it.
    store.create_run(&new_run("next")).await.unwrap();
    assert_eq!(read(&store, "next").await.unwrap(), []);
    write(&store, vec![event("next", 1, b"y")]).await.unwrap();
    store.close().await;
    let store = open(&location).await;
    let state = store.run("revised").await.unwrap().row.state;
    assert!(matches!(state, RunState::Finished { revision: 2, .. }), "{state:?}");
    assert_eq!(read(&store, "next").await.unwrap(), [event("next", 1, b"y")]);
    store.close().await;
}

/// Room that pruning makes goes back to the disk.
#[tokio::test]
async fn the_file_shrinks() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::Folder(folder.path().to_owned());
    let store = open(&location).await;
    store.create_run(&new_run("r")).await.unwrap();
    write(&store, (1..=300).map(|n| event("r", n, &[1; 20_000])).collect()).await.unwrap();
    store.finish_run(&finish("r", 1, 1)).await.unwrap();
    store.close().await;
    let size = || folder.path().join("groundswell.db").metadata().unwrap().len();
    let before = size();
    assert!(before > 6_000_000, "{before}");
    let store = open(&location).await;
    store.prune(2).await.unwrap();
    store.close().await;
    assert!(size() < 1_000_000, "{} of {before} bytes are left", size());
}
