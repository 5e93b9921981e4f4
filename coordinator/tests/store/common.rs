//! What the tests of the store share.

use std::collections::BTreeMap;

use groundswell_coordinator::store::{
    Committed, Entry, EntryBody, Finish, Location, NewRun, Store, StoreError, Writer,
};
use tokio::sync::mpsc;

pub(crate) async fn open(location: &Location) -> Store {
    Store::open(location).await.unwrap()
}

pub(crate) fn new_run(id: &str) -> NewRun {
    NewRun {
        id: id.to_owned(),
        submission: format!("submission of {id}"),
        name: format!("name of {id}"),
        plan_hash: "abc".to_owned(),
        plan: vec![0, 255, 7],
        labels: BTreeMap::from([("branch".to_owned(), "main".to_owned())]),
        agents_wanted: 3,
        wait_ms: 60_000,
        selector: BTreeMap::new(),
        attached: true,
        submitted_at_us: 1_700_000_000_000_000,
    }
}

pub(crate) fn finish(run: &str, revision: u64, at_us: i64) -> Finish {
    let report = Ok(format!("{{\"revision\":{revision}}}").into_bytes());
    Finish { run: run.to_owned(), revision, exit_code: 0, finished_at_us: at_us, report, figures: None }
}

pub(crate) fn event(run: &str, n: u64, bytes: &[u8]) -> Entry {
    entry(run, n, EntryBody::Event(bytes.to_vec()))
}

/// A delta whose content and hash follow from its key.
pub(crate) fn delta(run: &str, n: u64, agent: &str, incarnation: u64, seq: u64) -> Entry {
    let bytes = format!("{agent} {incarnation} {seq};").into_bytes();
    let hash = hash(incarnation, seq);
    entry(run, n, EntryBody::Delta { agent: agent.to_owned(), incarnation, seq, hash, bytes })
}

pub(crate) fn hash(incarnation: u64, seq: u64) -> [u8; 16] {
    let mut hash = [7; 16];
    hash[..8].copy_from_slice(&incarnation.to_le_bytes());
    hash[8..].copy_from_slice(&seq.to_le_bytes());
    hash
}

fn entry(run: &str, n: u64, body: EntryBody) -> Entry {
    Entry { run: run.to_owned(), n, monotonic_us: n * 1_000, calendar_us: 1_700_000_000_000_000 + n as i64, body }
}

/// A writer and what it reports.
pub(crate) struct Writing {
    pub(crate) writer: Writer<u64>,
    pub(crate) done: mpsc::Receiver<Committed<u64>>,
}

impl Writing {
    pub(crate) fn on(store: &Store) -> Writing {
        let (sender, done) = mpsc::channel(10_000);
        Writing { writer: store.writer(10_000, sender), done }
    }

    /// Writes all and waits until they are reported; the first error ends it.
    pub(crate) async fn all(mut self, entries: Vec<Entry>) -> Result<(), StoreError> {
        for entry in entries {
            let n = entry.n;
            self.writer.write(entry, n).await.unwrap();
        }
        self.writer.close().await;
        while let Some(committed) = self.done.recv().await {
            committed.result.map_err(|error| (*error).clone())?;
        }
        Ok(())
    }
}

pub(crate) async fn write(store: &Store, entries: Vec<Entry>) -> Result<(), StoreError> {
    Writing::on(store).all(entries).await
}

/// The whole log of a run.
pub(crate) async fn read(store: &Store, run: &str) -> Result<Vec<Entry>, StoreError> {
    let mut log = store.log(run).await?;
    let mut entries = Vec::new();
    while let Some(entry) = log.next().await? {
        entries.push(entry);
    }
    Ok(entries)
}
