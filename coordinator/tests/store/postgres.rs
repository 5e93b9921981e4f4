//! The same on PostgreSQL, and what only a server can do. One test, because a server takes a while to start.

use groundswell_coordinator::store::{Location, Store, StoreError};

use crate::cluster::Cluster;
use crate::common::{delta, event, finish, new_run, open, read, write};
use crate::tools::{postgres_programs, skipped};

#[tokio::test]
async fn postgres() {
    let Some(programs) = postgres_programs() else {
        skipped("postgres", "needs PostgreSQL's server (Debian: postgresql)", true);
        return;
    };
    let mut cluster = Cluster::start(programs).await;
    suite(&cluster).await;
    a_session_that_ends_lets_the_next_one_in_and_keeps_the_old_one_out(&cluster).await;
    a_newer_database_is_refused(&cluster).await;
    another_schema_may_live_beside_ours(&cluster).await;
    crate::kill::killed_writers_lose_nothing(&cluster.url("killed"), cluster.database("killed").await, 5).await;
    over_tls(&cluster).await;
    for name in ["taken", "newer", "shared", "killed"] {
        cluster.drop_database(name).await;
    }
    a_killed_server_loses_nothing(&mut cluster).await;
}

macro_rules! on {
    ($cluster:ident, $($name:ident),* $(,)?) => {
        $(
            println!("on PostgreSQL: {}", stringify!($name));
            crate::suite::$name($cluster.database(stringify!($name)).await).await;
            $cluster.drop_database(stringify!($name)).await;
        )*
    };
}

async fn suite(cluster: &Cluster) {
    crate::parts!(on, cluster);
}

/// The lock goes with its session. Whoever then starts has the higher term, and the old one can't write any more.
async fn a_session_that_ends_lets_the_next_one_in_and_keeps_the_old_one_out(cluster: &Cluster) {
    let location = cluster.database("taken").await;
    let old = open(&location).await;
    old.create_run(&new_run("r")).await.unwrap();
    let refused = Store::open(&location).await.unwrap_err();
    assert!(matches!(refused, StoreError::InUse { .. }), "{refused}");
    let mut connection = cluster.connect("taken").await.unwrap();
    sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        .execute(&mut connection)
        .await
        .unwrap();
    let new = open(&location).await;
    let error = write(&old, vec![event("r", 1, b"old")]).await.unwrap_err();
    assert!(matches!(error, StoreError::TakenOver { term: 1, newest: 2, .. }), "{error}");
    write(&new, vec![event("r", 1, b"new")]).await.unwrap();
    assert_eq!(read(&new, "r").await.unwrap(), [event("r", 1, b"new")]);
}

async fn a_newer_database_is_refused(cluster: &Cluster) {
    let location = cluster.database("newer").await;
    open(&location).await.close().await;
    let mut connection = cluster.connect("newer").await.unwrap();
    sqlx::query(
        "INSERT INTO groundswell.groundswell_migrations (version, description, success, checksum, execution_time) \
         VALUES (99, 'later', true, '\\x00', 0)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    let error = Store::open(&location).await.unwrap_err();
    assert!(matches!(error, StoreError::Newer { version: 99, .. }), "{error}");
    assert!(error.to_string().contains("newer"), "{error}");
}

async fn another_schema_may_live_beside_ours(cluster: &Cluster) {
    let location = cluster.database("shared").await;
    let mut connection = cluster.connect("shared").await.unwrap();
    sqlx::query("CREATE TABLE runs (what TEXT)").execute(&mut connection).await.unwrap();
    let store = open(&location).await;
    store.create_run(&new_run("r")).await.unwrap();
    let theirs: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM public.runs").fetch_one(&mut connection).await.unwrap();
    assert_eq!(theirs, 0);
}

/// What was reported is there after the server was killed; whoever was connected says why it stopped.
async fn a_killed_server_loses_nothing(cluster: &mut Cluster) {
    let location = cluster.database("restarted").await;
    let store = open(&location).await;
    store.create_run(&new_run("r")).await.unwrap();
    let entries: Vec<_> = (1..=500).map(|n| delta("r", n, "a", 1, n)).collect();
    write(&store, entries.clone()).await.unwrap();
    store.finish_run(&finish("r", 1, 5)).await.unwrap();
    cluster.kill();
    let error = write(&store, vec![event("r", 501, b"")]).await.unwrap_err();
    assert!(error.to_string().contains(&location.to_string()), "{error}");
    cluster.run().await;
    let again = open(&location).await;
    assert_eq!(read(&again, "r").await.unwrap(), entries);
    assert!(again.run("r").await.unwrap().report.is_some());
}

async fn over_tls(cluster: &Cluster) {
    if !cluster.tls {
        skipped("postgres over_tls", "needs openssl", true);
        return;
    }
    cluster.database("tls").await;
    let certificate = cluster.certificate();
    let url = |mode: &str| {
        let (port, certificate) = (cluster.port, certificate.display());
        Location::parse(&format!(
            "postgres://groundswell@127.0.0.1:{port}/tls?sslmode={mode}&sslrootcert={certificate}"
        ))
    };
    let store = open(&url("verify-full").unwrap()).await;
    let mut connection = cluster.connect("tls").await.unwrap();
    let plain: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
         WHERE NOT ssl AND application_name LIKE 'groundswell%'",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!(plain, 0, "a connection without TLS");
    store.close().await;
}
