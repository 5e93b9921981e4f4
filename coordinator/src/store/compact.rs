//! Making old runs small, and deleting them.
//!
//! Compaction writes a run's log anew, with fewer and longer deltas, beside the old one, and then turns the run over to
//! it in one transaction. The old log is deleted afterwards, a few entries at a time, so that running runs wait for
//! none of it. Killed at any moment, the run has one log or the other; what is left over is deleted the next time.

use super::database::{reading, writing};
use super::entry::{Entry, EntryBody, Hash, RowOf};
use super::error::Trouble;
use super::insert::insert_rows;
use super::{Inner, Store, StoreError};

/// Entries that one transaction writes or deletes: some milliseconds for which acknowledgements wait.
const CHUNK: i64 = 256;

/// Deltas of one incarnation that followed each other without an event of the run between them; deltas of other agents
/// may have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Name of the agent.
    pub agent: String,
    /// The agent's incarnation.
    pub incarnation: u64,
    /// The number of the first delta.
    pub first_seq: u64,
    /// The deltas, in order.
    pub deltas: Vec<Vec<u8>>,
}

/// Some of the deltas of a span, merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// How many it takes of those that the one before it has left, at least one.
    pub deltas: usize,
    /// What they are together.
    pub bytes: Vec<u8>,
}

/// What compaction brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// Entries before.
    pub before: u64,
    /// Entries after.
    pub after: u64,
}

impl Store {
    /// Makes the log of a finished run smaller and closes it for good: call it when no incarnation can send any more.
    ///
    /// `merge` gets the deltas of one agent between two events and answers how they are to be grouped, and what each
    /// group is. It decides what stays distinguishable: if the report is to be derivable again, it must not merge
    /// across what the report tells apart. Events stay as they are, in their places among the deltas; a group takes the
    /// place of its last delta. The numbers of the entries begin at 1 again. The hash of each delta is kept, so a
    /// duplicate is still told from something new. Reports are untouched.
    ///
    /// # Errors
    /// [`StoreError::Unfinished`] without a report, [`StoreError::Compacted`] the second time, [`StoreError::Merge`]
    /// when `merge` fails or loses count; the log is then as it was.
    pub async fn compact(
        &self,
        run: &str,
        mut merge: impl FnMut(&Span) -> Result<Vec<Merged>, String>,
    ) -> Result<Compacted, StoreError> {
        let inner = &*self.inner;
        inner.check_stopped()?;
        self.sweep().await?;
        let log = inner.begin_compaction(run).await?;
        let mut rewriting = Rewriting { run: run.to_owned(), open: Vec::new(), ready: Vec::new(), written: 0 };
        let mut reader = self.log(run).await?;
        let mut before = 0;
        while let Some(entry) = reader.next().await? {
            before += 1;
            rewriting.take(entry, &mut merge)?;
            inner.write_ready(log, &mut rewriting, CHUNK as usize).await?;
        }
        rewriting.flush(&mut merge)?;
        inner.write_ready(log, &mut rewriting, 1).await?;
        inner.end_compaction(run, log).await?;
        self.sweep().await?;
        Ok(Compacted { before, after: rewriting.written })
    }

    /// Deletes the runs whose newest answer is older than a time (microseconds since 1970, UTC), with logs and reports.
    /// Unfinished runs stay. Returns their ids.
    ///
    /// # Errors
    /// When the database fails. What was deleted up to then stays deleted; the rest is for the next time.
    pub async fn prune(&self, finished_before_us: i64) -> Result<Vec<String>, StoreError> {
        let inner = &*self.inner;
        inner.check_stopped()?;
        let old: Vec<(String, i64)> = reading!(inner, "look for old runs", pool => {
            Ok(sqlx::query_as(
                "SELECT id, log FROM runs WHERE (SELECT MAX(finished_at_us) FROM reports WHERE run = id) < $1 \
                 ORDER BY submitted_at_us",
            ).bind(finished_before_us).fetch_all(pool).await?)
        })?;
        for (run, log) in &old {
            writing!(inner, "delete a run", transaction => {
                sqlx::query("DELETE FROM figures WHERE run = $1").bind(run).execute(&mut *transaction).await?;
                sqlx::query("DELETE FROM reports WHERE run = $1").bind(run).execute(&mut *transaction).await?;
                sqlx::query("DELETE FROM runs WHERE id = $1").bind(run).execute(&mut *transaction).await?;
                sqlx::query("INSERT INTO dropped_logs (log) VALUES ($1)").bind(log).execute(&mut *transaction).await?;
                Ok::<(), Trouble>(())
            })?;
        }
        self.sweep().await?;
        Ok(old.into_iter().map(|(run, _)| run).collect())
    }

    /// Deletes the entries of logs that no run has.
    async fn sweep(&self) -> Result<(), StoreError> {
        let inner = &*self.inner;
        let logs: Vec<i64> = reading!(inner, "look for old logs", pool => {
            Ok::<_, Trouble>(sqlx::query_scalar("SELECT log FROM dropped_logs ORDER BY log").fetch_all(pool).await?)
        })?;
        for log in logs {
            while !inner.drop_some(log).await? {}
        }
        inner.shrink().await
    }
}

impl Inner {
    /// A number for the new log, which counts as dropped as long as it isn't the run's.
    async fn begin_compaction(&self, run: &str) -> Result<i64, StoreError> {
        let inner = self;
        writing!(inner, "begin the compaction of a run", transaction => {
            let found: Option<(i64, i64)> = sqlx::query_as(
                "SELECT compacted, (SELECT COUNT(*) FROM reports WHERE run = id) FROM runs WHERE id = $1",
            ).bind(run).fetch_optional(&mut *transaction).await?;
            let name = || run.to_owned();
            match found {
                None => Err(StoreError::NoRun { run: name() })?,
                Some((compacted, _)) if compacted != 0 => Err(StoreError::Compacted { run: name() })?,
                Some((_, 0)) => Err(StoreError::Unfinished { run: name() })?,
                Some(_) => {}
            }
            let log: i64 = sqlx::query_scalar(
                "SELECT COALESCE(MAX(log), 0) + 1 FROM \
                 (SELECT log FROM runs UNION ALL SELECT log FROM dropped_logs) AS logs",
            ).fetch_one(&mut *transaction).await?;
            sqlx::query("INSERT INTO dropped_logs (log) VALUES ($1)").bind(log).execute(&mut *transaction).await?;
            Ok::<i64, Trouble>(log)
        })
    }

    /// Writes what is ready, once it is at least so many entries.
    async fn write_ready(&self, log: i64, rewriting: &mut Rewriting, least: usize) -> Result<(), StoreError> {
        let inner = self;
        if rewriting.ready.len() < least.max(1) {
            return Ok(());
        }
        for chunk in rewriting.ready.chunks(CHUNK as usize) {
            let rows: Vec<RowOf<'_>> = chunk.iter().map(RowOf::new).collect::<Result<_, _>>()?;
            writing!(inner, "write a compacted log", transaction => {
                insert_rows!(transaction, log, &rows);
                Ok::<(), Trouble>(())
            })?;
        }
        rewriting.ready.clear();
        Ok(())
    }

    /// The one moment at which the new log becomes that of the run.
    async fn end_compaction(&self, run: &str, log: i64) -> Result<(), StoreError> {
        let inner = self;
        writing!(inner, "end the compaction of a run", transaction => {
            sqlx::query("DELETE FROM dropped_logs WHERE log = $1").bind(log).execute(&mut *transaction).await?;
            sqlx::query("INSERT INTO dropped_logs (log) SELECT log FROM runs WHERE id = $1")
                .bind(run).execute(&mut *transaction).await?;
            sqlx::query("UPDATE runs SET log = $1, compacted = 1 WHERE id = $2")
                .bind(log).bind(run).execute(&mut *transaction).await?;
            Ok::<(), Trouble>(())
        })
    }

    /// Deletes some entries of a dropped log, and at last its number; returns whether it is gone.
    async fn drop_some(&self, log: i64) -> Result<bool, StoreError> {
        let inner = self;
        writing!(inner, "delete an old log", transaction => {
            let first: Option<i64> = sqlx::query_scalar("SELECT MIN(n) FROM entries WHERE log = $1")
                .bind(log).fetch_one(&mut *transaction).await?;
            match first {
                Some(first) => {
                    sqlx::query("DELETE FROM entries WHERE log = $1 AND n < $2")
                        .bind(log).bind(first + CHUNK).execute(&mut *transaction).await?;
                }
                None => {
                    sqlx::query("DELETE FROM dropped_logs WHERE log = $1").bind(log).execute(&mut *transaction).await?;
                }
            }
            Ok::<bool, Trouble>(first.is_none())
        })
    }

    /// Gives free pages back to the file system, a few at a time. PostgreSQL does it by itself.
    async fn shrink(&self) -> Result<(), StoreError> {
        let super::database::Database::Sqlite(pools) = &self.database else { return Ok(()) };
        let failed = |error| self.error("give room back to the disk", Trouble::Sql(error));
        let mut free = i64::MAX;
        loop {
            let now: i64 = sqlx::query_scalar("PRAGMA freelist_count").fetch_one(&pools.write).await.map_err(failed)?;
            if now == 0 || now >= free {
                return Ok(());
            }
            free = now;
            sqlx::query("PRAGMA incremental_vacuum(256)").fetch_all(&pools.write).await.map_err(failed)?;
        }
    }
}

/// A log being written anew.
struct Rewriting {
    run: String,
    /// Deltas since the last event, by incarnation.
    open: Vec<Open>,
    /// Entries of the new log that are to be written.
    ready: Vec<Entry>,
    /// The number of the last entry in the new log.
    written: u64,
}

/// The deltas of one incarnation since the last event.
struct Open {
    span: Span,
    hashes: Vec<Hash>,
    /// For each: its old number and its times.
    places: Vec<(u64, u64, i64)>,
}

impl Rewriting {
    fn take(
        &mut self,
        entry: Entry,
        merge: &mut impl FnMut(&Span) -> Result<Vec<Merged>, String>,
    ) -> Result<(), StoreError> {
        let place = (entry.n, entry.monotonic_us, entry.calendar_us);
        let EntryBody::Delta { agent, incarnation, seq, hash, bytes } = entry.body else {
            self.flush(merge)?;
            self.push(place, entry.body);
            return Ok(());
        };
        let follows = |open: &Open| {
            let span = &open.span;
            span.incarnation == incarnation && span.agent == agent && span.first_seq + span.deltas.len() as u64 == seq
        };
        if !self.open.iter().any(follows) {
            let span = Span { agent: agent.clone(), incarnation, first_seq: seq, deltas: Vec::new() };
            self.open.push(Open { span, hashes: Vec::new(), places: Vec::new() });
        }
        if let Some(open) = self.open.iter_mut().find(|open| follows(open)) {
            open.span.deltas.push(bytes);
            open.hashes.push(hash);
            open.places.push(place);
            if open.span.deltas.len() < LONGEST_SPAN {
                return Ok(());
            }
        }
        self.flush(merge)
    }

    /// Merges what is open and puts it into the order of its last deltas.
    fn flush(&mut self, merge: &mut impl FnMut(&Span) -> Result<Vec<Merged>, String>) -> Result<(), StoreError> {
        let mut entries = Vec::new();
        for open in std::mem::take(&mut self.open) {
            let wrong = |why: String| StoreError::Merge { run: self.run.clone(), why };
            let groups = merge(&open.span).map_err(wrong)?;
            let covered: usize = groups.iter().map(|group| group.deltas).sum();
            if covered != open.span.deltas.len() || groups.iter().any(|group| group.deltas == 0) {
                return Err(wrong(format!("{} deltas went in, {covered} came out", open.span.deltas.len())));
            }
            let mut from = 0;
            for group in groups {
                let to = from + group.deltas;
                let last = open.places.get(to - 1).copied().unwrap_or_default();
                entries.push((last, open.group(from, to, group.bytes)));
                from = to;
            }
        }
        entries.sort_by_key(|(place, _)| place.0);
        for (place, body) in entries {
            self.push(place, body);
        }
        Ok(())
    }

    fn push(&mut self, (_, monotonic_us, calendar_us): (u64, u64, i64), body: EntryBody) {
        self.written += 1;
        self.ready.push(Entry { run: self.run.clone(), n: self.written, monotonic_us, calendar_us, body });
    }
}

impl Open {
    fn group(&self, from: usize, to: usize, bytes: Vec<u8>) -> EntryBody {
        let (agent, incarnation) = (self.span.agent.clone(), self.span.incarnation);
        let first_seq = self.span.first_seq + from as u64;
        match self.hashes.get(from..to).unwrap_or_default() {
            [hash] => EntryBody::Delta { agent, incarnation, seq: first_seq, hash: *hash, bytes },
            hashes => EntryBody::Interval { agent, incarnation, first_seq, hashes: hashes.to_vec(), bytes },
        }
    }
}

/// Deltas of one incarnation that are merged in one go at most; more would only cost memory.
const LONGEST_SPAN: usize = 60;
