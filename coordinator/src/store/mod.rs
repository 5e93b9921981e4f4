//! The durable store: what a coordinator must still know after it was killed.
//!
//! A run is a function of its log. Whatever changes a run is appended to the log, committed, and only then fed to the
//! run's state machine; a restart replays the log. The database is the write-ahead log: SQLite in a folder by default,
//! PostgreSQL by URL, and no log format of our own. Two things hold the promise:
//!
//! - [`Writer`] commits entries in the order in which they came, many at once, and reports them after the commit. After
//!   a failure it writes nothing more, so that what is reported never has a hole.
//! - Each row has a checksum, each log is read without a gap, and what is damaged is refused by name.
//!
//! # Layout
//! - [`Location`]: where a store is, without showing a password
//! - [`Store`]: opening, terms; `register.rs` has incarnations, `runs.rs` submissions and reports, `log.rs` reads logs
//! - [`Writer`]: the task that commits
//! - `compact.rs`: making old runs small, deleting them
//! - `database.rs`: SQLite and PostgreSQL behind the same queries; `lock.rs`, `wal.rs`: who may, and whether it is whole

mod checksum;
mod compact;
mod database;
mod entry;
mod error;
mod figures;
mod insert;
mod location;
mod lock;
mod log;
mod register;
mod runs;
mod wal;
mod writer;

use std::sync::{Arc, OnceLock};

pub use compact::{Compacted, Merged, Span};
pub use entry::{Entry, EntryBody, Hash};
pub use error::StoreError;
pub use figures::Figures;
pub use location::{DatabaseUrl, Location};
pub use log::Log;
pub use runs::{Created, Finish, NewRun, Report, RunRow, RunState, StoredRun};
pub use writer::{Committed, Writer};

use checksum::checksum;
use database::{Database, Guard, reading, writing};
use error::{Trouble, classified};
use register::Registrations;

/// An open store. Clones are the same store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    database: Database,
    guard: Guard,
    /// The file or database, for messages.
    name: String,
    term: u64,
    id: u64,
    /// Why nothing is written any more.
    stopped: OnceLock<Arc<StoreError>>,
    registrations: Registrations,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Store({}, term {})", self.inner.name, self.inner.term)
    }
}

impl Store {
    /// Opens a store, makes it where there is none, and raises its term; the new term is durable when this returns.
    ///
    /// The structure of the database is checked, which reads a SQLite database once.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another coordinator has it open, [`StoreError::Newer`] when a newer release wrote it,
    /// [`StoreError::Damaged`] when it is not what was written, and others when it can't be reached or written.
    pub async fn open(location: &Location) -> Result<Store, StoreError> {
        let (database, guard, name) = match location {
            Location::Folder(folder) => {
                let (database, guard, file) = database::open_folder(folder).await?;
                (database, guard, file.display().to_string())
            }
            Location::Postgres(url) => {
                let (database, guard) = database::open_postgres(url).await?;
                (database, guard, url.to_string())
            }
        };
        let (stopped, registrations) = (OnceLock::new(), Registrations::default());
        let mut inner = Inner { database, guard, name, term: 0, id: 0, stopped, registrations };
        inner.id = inner.identity().await?;
        inner.term = inner.raise_term().await?;
        Ok(Store { inner: Arc::new(inner) })
    }

    /// How many coordinators have started on this store, this one included: 1, 2, 3 …
    pub fn term(&self) -> u64 {
        self.inner.term
    }

    /// A number that tells this store from any other.
    pub fn id(&self) -> u64 {
        self.inner.id
    }

    /// Something in a run is not what was written, as whoever understands it finds.
    pub fn damaged(&self, run: &str, what: impl std::fmt::Display) -> StoreError {
        self.inner.damaged(format!("run {run}: {what}"))
    }

    /// Closes all connections and gives the store to whoever opens it next. Writers are to be closed before.
    pub async fn close(&self) {
        match &self.inner.database {
            Database::Sqlite(pools) => {
                pools.read.close().await;
                pools.write.close().await;
            }
            Database::Postgres(pools) => {
                pools.read.close().await;
                pools.write.close().await;
            }
        }
        self.inner.guard.release().await;
    }
}

impl Inner {
    async fn identity(&self) -> Result<u64, StoreError> {
        const ADD: &str =
            "INSERT INTO identity (one, number, checksum) VALUES (1, $1, $2) ON CONFLICT (one) DO NOTHING";
        let inner = self;
        let drawn = rand::random::<u64>().cast_signed();
        let sum = |number: i64| checksum(&["identity".into(), number.into()]);
        match &inner.database {
            Database::Sqlite(pools) => {
                sqlx::query(ADD).bind(drawn).bind(sum(drawn)).execute(&pools.write).await.map(drop)
            }
            Database::Postgres(pools) => {
                sqlx::query(ADD).bind(drawn).bind(sum(drawn)).execute(&pools.write).await.map(drop)
            }
        }
        .map_err(|error| classified("begin the store", &inner.name, &error))?;
        let (number, stored): (i64, i64) = reading!(inner, "read the store's identity", pool => {
            Ok::<_, Trouble>(sqlx::query_as("SELECT number, checksum FROM identity").fetch_one(pool).await?)
        })?;
        self.compare(stored, sum(number), || "the store's identity".to_owned())?;
        Ok(number.cast_unsigned())
    }

    async fn raise_term(&self) -> Result<u64, StoreError> {
        const ADD: &str = "INSERT INTO store (one, term, checksum) VALUES (1, 0, $1) ON CONFLICT (one) DO NOTHING";
        let inner = self;
        match &inner.database {
            Database::Sqlite(pools) => sqlx::query(ADD).bind(sum_of_term(0)).execute(&pools.write).await.map(drop),
            Database::Postgres(pools) => sqlx::query(ADD).bind(sum_of_term(0)).execute(&pools.write).await.map(drop),
        }
        .map_err(|error| classified("begin the store", &inner.name, &error))?;
        writing!(inner, "raise the term", transaction => {
            let term: i64 =
                sqlx::query_scalar("SELECT term + 1 FROM store").fetch_one(&mut *transaction).await?;
            sqlx::query("UPDATE store SET term = $1, checksum = $2")
                .bind(term).bind(sum_of_term(term)).execute(&mut *transaction).await?;
            Ok::<u64, Trouble>(term.unsigned_abs())
        })
    }

    /// That this is still the newest coordinator; one that is just starting has no term yet.
    fn check_term(&self, (term, stored): (i64, i64)) -> Result<(), StoreError> {
        self.compare(stored, sum_of_term(term), || format!("term {term}"))?;
        if self.term == 0 || term.unsigned_abs() == self.term {
            return Ok(());
        }
        Err(StoreError::TakenOver { store: self.name.clone(), term: self.term, newest: term.unsigned_abs() })
    }

    fn check_stopped(&self) -> Result<(), StoreError> {
        self.stopped.get().map_or(Ok(()), |why| Err(StoreError::Stopped(Arc::clone(why))))
    }

    fn compare(&self, stored: i64, found: i64, what: impl FnOnce() -> String) -> Result<(), StoreError> {
        if stored == found {
            return Ok(());
        }
        Err(self.damaged(format!("{} is not what was written (its checksum differs)", what())))
    }

    fn damaged(&self, what: String) -> StoreError {
        StoreError::Damaged { file: self.name.clone(), what }
    }

    fn error(&self, doing: &'static str, trouble: Trouble) -> StoreError {
        match trouble {
            Trouble::Ours(error) => error,
            // A value that can't be read as what it was written as.
            Trouble::Sql(error @ (sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_))) => {
                self.damaged(error.to_string())
            }
            Trouble::Sql(error) => classified(doing, &self.name, &error),
        }
    }
}

fn sum_of_term(term: i64) -> i64 {
    checksum(&["term".into(), term.into()])
}
