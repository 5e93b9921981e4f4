//! What can go wrong with a store, said so that whoever runs it knows which file and what to do.

use std::sync::Arc;

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// What should say where the store is doesn't.
    #[error("store: {why}")]
    Location {
        /// In words; without a password.
        why: String,
    },
    /// Another coordinator works with it.
    #[error(
        "{store} is in use by another coordinator ({holder}): stop that one first, or give this one a store of its own"
    )]
    InUse {
        /// The folder or database.
        store: String,
        /// What is known of the other one: its process number, for PostgreSQL also its machine.
        holder: String,
    },
    /// Another coordinator has been started on it since, so this one may not write any more.
    #[error("another coordinator has taken over {store} (term {newest}, this one has {term}): this one must stop")]
    TakenOver {
        /// The folder or database.
        store: String,
        /// This coordinator's term.
        term: u64,
        /// The term in the store.
        newest: u64,
    },
    /// Its schema has a migration that this release doesn't know.
    #[error(
        "{store} was written by a newer release (migration {version}, unknown to this one): use that release, or give this one a store of its own"
    )]
    Newer {
        /// The folder or database.
        store: String,
        /// The number of the first unknown migration.
        version: i64,
    },
    /// Something in it is not what was written. Nothing of it is skipped or repaired.
    #[error("{file} is damaged: {what}")]
    Damaged {
        /// The file or database.
        file: String,
        /// What, where, and what can be done.
        what: String,
    },
    /// No room left.
    #[error("can't {doing}: no space left for {store}: {why}")]
    Full {
        /// What was to be done.
        doing: &'static str,
        /// The file or database.
        store: String,
        /// The database's words.
        why: String,
    },
    /// The operating system or the database refused.
    #[error("can't {doing} ({store}): {why}")]
    Failed {
        /// What was to be done.
        doing: &'static str,
        /// The file or database.
        store: String,
        /// The words of who refused.
        why: String,
    },
    /// An earlier write failed, and since then nothing more is written.
    #[error("the store has stopped writing: {0}")]
    Stopped(Arc<StoreError>),
    /// There is no such run.
    #[error("no run {run} in the store")]
    NoRun {
        /// Its id.
        run: String,
    },
    /// A submission came again with another plan, name or request.
    #[error("submission {submission} is already run {run} with another plan")]
    OtherPlan {
        /// The client's id.
        submission: String,
        /// The run that it became.
        run: String,
    },
    /// The run's log is compacted and takes no more entries.
    #[error("run {run} is compacted: its log is closed")]
    Compacted {
        /// Its id.
        run: String,
    },
    /// Compaction of a run that has no report yet.
    #[error("run {run} has no report yet: only what is finished can be compacted")]
    Unfinished {
        /// Its id.
        run: String,
    },
    /// An entry that doesn't follow the last one.
    #[error("run {run}: entry {n} where {expected} is due")]
    OutOfOrder {
        /// The run's id.
        run: String,
        /// The entry's number.
        n: u64,
        /// The number that follows what is stored.
        expected: u64,
    },
    /// The database has it already.
    #[error("already stored: {what}")]
    Duplicate {
        /// What, in the database's words or ours.
        what: String,
    },
    /// A revision that isn't the next one, or one that exists with other content.
    #[error("run {run}: revision {revision} of the report {why}")]
    Revision {
        /// The run's id.
        run: String,
        /// The revision.
        revision: u64,
        /// In words.
        why: String,
    },
    /// A run was compacted or deleted while its log was read.
    #[error("run {run} was compacted or deleted while it was read: read it again")]
    Changed {
        /// The run's id.
        run: String,
    },
    /// A number that doesn't fit the database.
    #[error("{what} is {value}: more than 2^63 - 1")]
    TooLarge {
        /// Which number.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// Who merges deltas for compaction could not.
    #[error("run {run}: can't merge deltas: {why}")]
    Merge {
        /// The run's id.
        run: String,
        /// In the words of who merges.
        why: String,
    },
}

/// What goes wrong inside of a query: the database's own error, or ours. [`StoreError`] is made from it where it is
/// known what was being done.
#[derive(Debug)]
pub(super) enum Trouble {
    Sql(sqlx::Error),
    Ours(StoreError),
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        Trouble::Sql(error)
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Trouble::Ours(error)
    }
}

/// What an error of either database means.
pub(super) fn classified(doing: &'static str, store: &str, error: &sqlx::Error) -> StoreError {
    let store = store.to_owned();
    let why = match error {
        sqlx::Error::PoolTimedOut => "no connection to it in time; is it running?".to_owned(),
        error => error.to_string(),
    };
    let Some(code) = error.as_database_error().and_then(sqlx::error::DatabaseError::code) else {
        // A device that can't say it is full says so when its files are opened or extended.
        let full = matches!(error, sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::StorageFull);
        return if full { StoreError::Full { doing, store, why } } else { StoreError::Failed { doing, store, why } };
    };
    // SQLite's extended result codes are numbers (https://www.sqlite.org/rescode.html); PostgreSQL's have five
    // characters (https://www.postgresql.org/docs/current/errcodes-appendix.html).
    let sqlite = (code.len() < 5).then(|| code.parse::<u32>().ok()).flatten();
    match (sqlite.map(|code| code & 0xff), code.as_ref()) {
        (Some(13), _) | (None, "53100") => StoreError::Full { doing, store, why },
        (Some(11 | 26), _) | (None, "XX001" | "XX002") => StoreError::Damaged {
            file: store,
            what: format!("{why}; restore it from a copy, or start with a new store"),
        },
        _ if error.as_database_error().is_some_and(|error| error.is_unique_violation()) => {
            StoreError::Duplicate { what: why }
        }
        _ => StoreError::Failed { doing, store, why },
    }
}
