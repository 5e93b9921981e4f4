//! The two databases behind one set of queries: connecting, migrations, and the transactions that everything goes
//! through.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::pool::PoolOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Pool, Postgres, SqlSafeStr, Sqlite};

use super::error::classified;
use super::lock::{FolderLock, sync_folder};
use super::{DatabaseUrl, StoreError, wal};

/// The schema, oldest first: number, name, text. What is released is never changed; a change is a new one.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "start", include_str!("migrations/0001_start.sql")),
    (2, "figures", include_str!("migrations/0002_figures.sql")),
];
/// Of ours, so that another program's migrations may live in the same PostgreSQL database.
const MIGRATIONS_TABLE: &str = "groundswell_migrations";
/// The schema of PostgreSQL that holds our tables.
const SCHEMA: &str = "groundswell";
/// "groundsw" in ASCII: the key of the lock that says that a coordinator is at work on this PostgreSQL database.
const ADVISORY_LOCK: i64 = 0x6772_6f75_6e64_7377;
/// Two seconds in all.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(100);
/// A delta of 20 series takes some 2.5 KB; in pages of 4 KB each would have one of its own.
/// docs/performance.md has the sizes.
const PAGE_BYTES: u32 = 16_384;
/// Beside the one connection that writes.
const READERS: u32 = 4;
/// For a connection to a server, or for the one connection that writes.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// One connection that writes, which puts all transactions in a row, and a few that read beside it.
pub(super) struct Pools<DB: sqlx::Database> {
    pub(super) write: Pool<DB>,
    pub(super) read: Pool<DB>,
}

/// The database of a store.
pub(super) enum Database {
    Sqlite(Pools<Sqlite>),
    Postgres(Pools<Postgres>),
}

/// What keeps a second coordinator out as long as it lives.
pub(super) enum Guard {
    Folder(FolderLock),
    /// The session that holds the advisory lock; never used for anything else. Should it break, a second coordinator
    /// can start, and then its higher term stops this one.
    Session(Mutex<Option<PgConnection>>),
}

impl Guard {
    /// Lets the next coordinator in.
    pub(super) async fn release(&self) {
        match self {
            Guard::Folder(lock) => lock.release(),
            Guard::Session(session) => {
                let session = session.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(mut session) = session {
                    // The server would take a moment to see that the session is gone. One that can't be spoken to is
                    // lost, and its lock with it.
                    let _ = sqlx::query("SELECT pg_advisory_unlock_all()").execute(&mut session).await;
                    let _ = session.close().await;
                }
            }
        }
    }
}

/// Runs queries on a connection for reading; `$doing` says in an error what was being done.
macro_rules! reading {
    ($store:expr, $doing:literal, $pool:ident => $body:block) => {{
        let done: Result<_, $crate::store::error::Trouble> = match &$store.database {
            $crate::store::database::Database::Sqlite(pools) => {
                let $pool = &pools.read;
                async { $body }.await
            }
            $crate::store::database::Database::Postgres(pools) => {
                let $pool = &pools.read;
                async { $body }.await
            }
        };
        done.map_err(|trouble| $store.error($doing, trouble))
    }};
}

/// Runs queries in one transaction and commits it; whatever goes wrong takes all of it back. The transaction fails when
/// another coordinator has raised the term: what this one would write, that one would never know of.
macro_rules! writing {
    ($store:expr, $doing:literal, $transaction:ident => $body:block) => {{
        let done: Result<_, $crate::store::error::Trouble> = match &$store.database {
            $crate::store::database::Database::Sqlite(pools) => {
                async {
                    let mut $transaction = pools.write.begin().await?;
                    let newest = sqlx::query_as("SELECT term, checksum FROM store").fetch_one(&mut *$transaction);
                    $store.check_term(newest.await?)?;
                    let value = $body?;
                    $transaction.commit().await?;
                    Ok(value)
                }
                .await
            }
            $crate::store::database::Database::Postgres(pools) => {
                async {
                    let mut $transaction = pools.write.begin().await?;
                    // The row stays locked to the end, so that a term is raised before this transaction or after it.
                    let newest =
                        sqlx::query_as("SELECT term, checksum FROM store FOR SHARE").fetch_one(&mut *$transaction);
                    $store.check_term(newest.await?)?;
                    let value = $body?;
                    $transaction.commit().await?;
                    Ok(value)
                }
                .await
            }
        };
        done.map_err(|trouble| $store.error($doing, trouble))
    }};
}

pub(super) use {reading, writing};

/// Opens the SQLite database of a folder: its lock, its write-ahead log, its structure, its schema.
pub(super) async fn open_folder(folder: &Path) -> Result<(Database, Guard, PathBuf), StoreError> {
    let (lock, file) = FolderLock::take(folder)?;
    wal::check(&file)?;
    let name = file.display().to_string();
    let options = SqliteConnectOptions::new()
        .filename(&file)
        // For a checkpoint by hand with another program; of coordinators there is one.
        .busy_timeout(Duration::from_secs(5))
        .disable_statement_logging();
    let reading = options.clone().read_only(true);
    let options = options
        .page_size(PAGE_BYTES)
        // So that pruning gives room back to the disk.
        .auto_vacuum(SqliteAutoVacuum::Incremental)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        // macOS's fsync doesn't reach the disk; elsewhere these say nothing.
        .pragma("fullfsync", "ON")
        .pragma("checkpoint_fullfsync", "ON")
        .foreign_keys(true);
    let opened = |error: sqlx::Error| classified("open the database", &name, &error);
    let write = one_writer().test_before_acquire(false).connect_with(options).await.map_err(opened)?;
    check_structure(&write, &name).await?;
    migrate(&write, &name, MIGRATIONS.iter().map(|(number, title, sql)| migration(*number, title, (*sql).to_owned())))
        .await?;
    sync_folder(folder)?;
    let read = readers().test_before_acquire(false).connect_lazy_with(reading);
    Ok((Database::Sqlite(Pools { write, read }), Guard::Folder(lock), file))
}

/// Opens a PostgreSQL database: our schema in it, the lock, the tables.
pub(super) async fn open_postgres(url: &DatabaseUrl) -> Result<(Database, Guard), StoreError> {
    let name = url.to_string();
    let opened = |error: sqlx::Error| classified("open the database", &name, &error);
    let options: PgConnectOptions = url
        .options()
        .application_name(&format!("groundswell coordinator, process {}", std::process::id()))
        // The server's own setting may give a commit out before it is on the disk.
        .options([("search_path", SCHEMA), ("synchronous_commit", "on")])
        .disable_statement_logging();
    let mut session = PgConnection::connect_with(&options).await.map_err(opened)?;
    take_advisory_lock(&mut session, &name).await?;
    make_schema(&mut session).await.map_err(opened)?;
    let write = one_writer().connect_with(options.clone()).await.map_err(opened)?;
    migrate(
        &write,
        &name,
        MIGRATIONS.iter().map(|(number, title, sql)| migration(*number, title, sql.replace(" BLOB", " BYTEA"))),
    )
    .await?;
    let read = readers().connect_lazy_with(options);
    Ok((Database::Postgres(Pools { write, read }), Guard::Session(Mutex::new(Some(session)))))
}

/// Connections stay: SQLite's hold the write-ahead log open, and a new one costs a server a process.
fn one_writer<DB: sqlx::Database>() -> PoolOptions<DB> {
    PoolOptions::new().max_connections(1).acquire_timeout(CONNECT_LIMIT).max_lifetime(None).idle_timeout(None)
}

fn readers<DB: sqlx::Database>() -> PoolOptions<DB> {
    one_writer().max_connections(READERS)
}

fn migration(number: i64, title: &'static str, sql: String) -> Migration {
    let sql = AssertSqlSafe(sql).into_sql_str();
    Migration::new(number, Cow::Borrowed(title), MigrationType::Simple, sql, false)
}

/// Brings the schema up to date; refuses one from the future.
async fn migrate<DB: sqlx::Database>(
    pool: &Pool<DB>,
    name: &str,
    migrations: impl Iterator<Item = Migration>,
) -> Result<(), StoreError>
where
    DB::Connection: sqlx::migrate::Migrate,
{
    use sqlx::migrate::MigrateError;
    let mut migrator = Migrator::with_migrations(migrations.collect());
    migrator.dangerous_set_table_name(MIGRATIONS_TABLE);
    let store = || name.to_owned();
    migrator.run(pool).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) => StoreError::Newer { store: store(), version },
        MigrateError::VersionMismatch(version) => StoreError::Damaged {
            file: store(),
            what: format!("its migration {version} is not that of this release; use the release that made it"),
        },
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            classified("set up the tables", name, &error)
        }
        error => StoreError::Failed { doing: "set up the tables", store: store(), why: error.to_string() },
    })
}

/// SQLite's own look at every page and every index. Content is checked where it is read, by checksum.
async fn check_structure(pool: &Pool<Sqlite>, name: &str) -> Result<(), StoreError> {
    let found: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check(3)")
        .fetch_all(pool)
        .await
        .map_err(|error| classified("check the database", name, &error))?;
    if found.len() == 1 && found[0] == "ok" {
        return Ok(());
    }
    let what = format!("{}; restore it from a copy, or start with a new store", found.join(", ").replace('\n', " "));
    Err(StoreError::Damaged { file: name.to_owned(), what })
}

async fn take_advisory_lock(session: &mut PgConnection, name: &str) -> Result<(), StoreError> {
    let failed = |error: sqlx::Error| classified("lock the database", name, &error);
    // A server takes a moment to see that a process that was killed is gone.
    for _ in 0..LOCK_TRIES {
        let locked = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(ADVISORY_LOCK);
        if locked.fetch_one(&mut *session).await.map_err(failed)? {
            return Ok(());
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
    // A key of 64 bits stands in two halves, with objsubid 1.
    let holder: Option<(String, String)> = sqlx::query_as(
        "SELECT application_name, COALESCE(host(client_addr), 'the server''s own machine') FROM pg_stat_activity \
         WHERE pid = (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted \
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
         AND classid = ($1 >> 32)::oid AND objid = ($1 & 4294967295)::oid)",
    )
    .bind(ADVISORY_LOCK)
    .fetch_optional(&mut *session)
    .await
    .map_err(failed)?;
    let holder = holder.map_or_else(|| "unknown".to_owned(), |(name, address)| format!("{name}, on {address}"));
    Err(StoreError::InUse { store: name.to_owned(), holder })
}

/// Only where it is missing, because even `IF NOT EXISTS` asks for a right that an administrator who has made it may
/// not have given us.
async fn make_schema(session: &mut PgConnection) -> Result<(), sqlx::Error> {
    let there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)")
        .bind(SCHEMA)
        .fetch_one(&mut *session)
        .await?;
    if !there {
        sqlx::query("CREATE SCHEMA groundswell").execute(session).await?;
    }
    Ok(())
}
