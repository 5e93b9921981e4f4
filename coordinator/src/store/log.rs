//! Reading a run's log.

use std::collections::VecDeque;

use super::database::reading;
use super::entry::{self, Entry, Row};
use super::error::Trouble;
use super::{Store, StoreError};

/// Entries that are in memory at once. A delta is a few KB; the largest an agent may send makes this 128 MB.
const PAGE: i64 = 32;

/// The log of a run, from its beginning, read as it goes.
pub struct Log {
    store: Store,
    run: String,
    /// Its number in the database.
    log: i64,
    last: i64,
    /// Deltas are left out.
    only_events: bool,
    page: VecDeque<Entry>,
}

impl Store {
    /// The log of a run, to be read from its first entry on.
    ///
    /// # Errors
    /// [`StoreError::NoRun`].
    pub async fn log(&self, run: &str) -> Result<Log, StoreError> {
        let log = self.number_of_log(run).await?.ok_or_else(|| StoreError::NoRun { run: run.to_owned() })?;
        Ok(Log { store: self.clone(), run: run.to_owned(), log, last: 0, only_events: false, page: VecDeque::new() })
    }

    /// The same without the deltas, which are nearly all of it.
    ///
    /// # Errors
    /// [`StoreError::NoRun`].
    pub async fn events(&self, run: &str) -> Result<Log, StoreError> {
        Ok(Log { only_events: true, ..self.log(run).await? })
    }

    async fn number_of_log(&self, run: &str) -> Result<Option<i64>, StoreError> {
        let inner = &*self.inner;
        reading!(inner, "read a run", pool => {
            Ok(sqlx::query_scalar("SELECT log FROM runs WHERE id = $1").bind(run).fetch_optional(pool).await?)
        })
    }
}

impl Log {
    /// The next entry; none after the last one that is stored.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when an entry is missing or is not what was written: it names the entry, and nothing
    /// behind it is read. [`StoreError::Changed`] when the run was compacted or deleted meanwhile.
    pub async fn next(&mut self) -> Result<Option<Entry>, StoreError> {
        if self.page.is_empty() {
            self.fetch().await?;
        }
        Ok(self.page.pop_front())
    }

    async fn fetch(&mut self) -> Result<(), StoreError> {
        let inner = &*self.store.inner;
        let (log, last, deltas_too) = (self.log, self.last, !self.only_events);
        let rows: Vec<Row> = reading!(inner, "read the log of a run", pool => {
            Ok::<_, Trouble>(sqlx::query_as(
                "SELECT n, monotonic_us, calendar_us, agent, incarnation, first_seq, seq, hashes, bytes, checksum \
                 FROM entries WHERE log = $1 AND n > $2 AND (agent IS NULL OR $4) ORDER BY n LIMIT $3",
            ).bind(log).bind(last).bind(PAGE).bind(deltas_too).fetch_all(pool).await?)
        })?;
        if self.store.number_of_log(&self.run).await? != Some(log) {
            return Err(StoreError::Changed { run: self.run.clone() });
        }
        for row in rows {
            let due = if self.only_events { row.0 } else { self.last + 1 };
            if row.0 != due {
                let what = format!("run {}: entry {due} is missing, {} follows", self.run, row.0);
                return Err(self.store.inner.damaged(what));
            }
            self.page.push_back(entry::read(&self.run, row).map_err(|what| self.store.inner.damaged(what))?);
            self.last = due;
        }
        Ok(())
    }
}
