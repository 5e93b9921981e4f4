//! The task that commits what changes runs. While one commit waits for the disk the next entries gather, and go into
//! the next commit together; so a busy coordinator pays for the disk once for many, and an idle one waits for nobody.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{SendError, TrySendError};
use tokio::task::JoinSet;

use super::database::writing;
use super::entry::{Entry, RowOf};
use super::error::Trouble;
use super::insert::insert_rows;
use super::{Inner, Store, StoreError};

/// Entries in one commit at most.
const MOST_ENTRIES: usize = 1024;
/// Bytes in one commit after which no further entry joins it.
const MOST_BYTES: usize = 8 << 20;

/// What became of entries that were written together.
#[derive(Debug)]
pub struct Committed<T> {
    /// What the writer was given with each, in the order of writing.
    pub tokens: Vec<T>,
    /// Whether they are durable. After an error they may be there or not, and so may nothing that was written later.
    pub result: Result<(), Arc<StoreError>>,
}

/// The way to the log. Dropped without [`Writer::close`], it is as if the process had been killed at that moment.
#[derive(Debug)]
pub struct Writer<T> {
    queue: mpsc::Sender<(Entry, T)>,
    task: JoinSet<()>,
}

impl Store {
    /// Starts a task that commits entries in the order in which they are written, and tells `done` after each commit.
    /// One at a time for each run.
    ///
    /// After the first failure nothing more is written to this store: each later entry is answered with
    /// [`StoreError::Stopped`], which says why. A new start finds everything that was reported, and perhaps more.
    ///
    /// `capacity` is how many entries may wait. The task waits for room in `done`, so whoever empties `done` must not
    /// wait in [`Writer::write`] meanwhile.
    pub fn writer<T: Send + 'static>(&self, capacity: usize, done: mpsc::Sender<Committed<T>>) -> Writer<T> {
        let (queue, inbox) = mpsc::channel(capacity);
        let mut task = JoinSet::new();
        task.spawn(work(Arc::clone(&self.inner), inbox, done));
        Writer { queue, task }
    }
}

impl<T> Writer<T> {
    /// Hands over an entry, waiting for room.
    ///
    /// # Errors
    /// Gives it back if the task is gone.
    pub async fn write(&self, entry: Entry, token: T) -> Result<(), SendError<(Entry, T)>> {
        self.queue.send((entry, token)).await
    }

    /// Hands over an entry if there is room.
    ///
    /// # Errors
    /// Gives it back if there is none, or the task is gone.
    pub fn try_write(&self, entry: Entry, token: T) -> Result<(), Box<TrySendError<(Entry, T)>>> {
        self.queue.try_send((entry, token)).map_err(Box::new)
    }

    /// Waits until all that was written is committed and reported.
    pub async fn close(self) {
        let Writer { queue, mut task } = self;
        drop(queue);
        while task.join_next().await.is_some() {}
    }
}

async fn work<T>(store: Arc<Inner>, mut inbox: mpsc::Receiver<(Entry, T)>, done: mpsc::Sender<Committed<T>>) {
    while let Some((first, token)) = inbox.recv().await {
        let mut bytes = first.body.bytes().len();
        let (mut entries, mut tokens) = (vec![first], vec![token]);
        while entries.len() < MOST_ENTRIES
            && bytes < MOST_BYTES
            && let Ok((entry, token)) = inbox.try_recv()
        {
            bytes += entry.body.bytes().len();
            entries.push(entry);
            tokens.push(token);
        }
        let result = match store.check_stopped() {
            Ok(()) => store.append(&entries).await.map_err(Arc::new),
            Err(stopped) => Err(Arc::new(stopped)),
        };
        if let Err(error) = &result {
            // A disk that has failed to sync may say at the second try that all is well, with the data gone.
            let _ = store.stopped.set(Arc::clone(error));
        }
        // Nobody has to listen.
        let _ = done.send(Committed { tokens, result }).await;
    }
}

impl Inner {
    /// Commits entries, in order, all or none.
    async fn append(&self, entries: &[Entry]) -> Result<(), StoreError> {
        let store = self;
        let mut runs: BTreeMap<&str, Vec<RowOf<'_>>> = BTreeMap::new();
        for entry in entries {
            runs.entry(&entry.run).or_default().push(RowOf::new(entry)?);
        }
        writing!(store, "store what agents sent", transaction => {
            for (run, rows) in &runs {
                let found: Option<(i64, i64, i64)> = sqlx::query_as(
                    "SELECT log, compacted, (SELECT COALESCE(MAX(n), 0) FROM entries WHERE entries.log = runs.log) \
                     FROM runs WHERE id = $1",
                ).bind(*run).fetch_optional(&mut *transaction).await?;
                let (log, last) = follows(run, found, rows)?;
                debug_assert!(rows.iter().zip(last + 1..).all(|(row, n)| row.n == n));
                insert_rows!(transaction, log, rows);
            }
            Ok::<(), Trouble>(())
        })
    }
}

/// The number of the run's log and of its last entry, if the rows follow it.
fn follows(run: &str, found: Option<(i64, i64, i64)>, rows: &[RowOf<'_>]) -> Result<(i64, i64), StoreError> {
    let run = || run.to_owned();
    let (log, compacted, last) = found.ok_or_else(|| StoreError::NoRun { run: run() })?;
    if compacted != 0 {
        return Err(StoreError::Compacted { run: run() });
    }
    for (row, due) in rows.iter().zip(last + 1..) {
        if row.n != due {
            return Err(StoreError::OutOfOrder { run: run(), n: row.n.unsigned_abs(), expected: due.unsigned_abs() });
        }
    }
    Ok((log, last))
}
