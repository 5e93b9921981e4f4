//! A PostgreSQL server of a test's own.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use groundswell_coordinator::store::Location;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::tools::is_root;

const USER: &str = "groundswell";

/// A server on a socket in a temporary folder, and with certificates also on a port of the loopback.
pub(crate) struct Cluster {
    programs: PathBuf,
    folder: tempfile::TempDir,
    server: Option<Child>,
    pub(crate) port: u16,
    /// Whether it has a certificate.
    pub(crate) tls: bool,
}

impl Cluster {
    pub(crate) async fn start(programs: PathBuf) -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut cluster = Cluster { programs, folder, server: None, port, tls: false };
        let data = cluster.data();
        std::fs::create_dir(&data).unwrap();
        cluster.own(&data);
        let done = cluster
            .command("initdb")
            .args(["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", "--username", USER, "--pgdata"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        cluster.tls = cluster.make_certificate();
        cluster.run().await;
        cluster
    }

    /// For the loopback's address, signed by itself.
    fn make_certificate(&self) -> bool {
        let (key, certificate) = (self.data().join("server.key"), self.certificate());
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output();
        if !made.is_ok_and(|output| output.status.success()) {
            return false;
        }
        self.own(&key);
        self.own(&certificate);
        true
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.data().join("server.crt")
    }

    pub(crate) async fn run(&mut self) {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(self.data());
        command.args(["-p", &self.port.to_string(), "-c", "max_connections=40", "-c", "listen_addresses=127.0.0.1"]);
        command.args(["-c", if self.tls { "ssl=on" } else { "ssl=off" }]);
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        self.server = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        for _ in 0..300 {
            if self.connect("postgres").await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{}", std::fs::read_to_string(self.folder.path().join("log")).unwrap());
    }

    /// As a power failure would end it, but for what the kernel still writes.
    pub(crate) fn kill(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        // The server itself and what it has started; each is a process of its own.
        let children = Command::new("pgrep").args(["-P", &server.id().to_string()]).output();
        server.kill().unwrap();
        server.wait().unwrap();
        if let Ok(children) = children {
            for child in String::from_utf8_lossy(&children.stdout).lines() {
                let _ = Command::new("kill").args(["-9", child]).status();
            }
        }
        // A lock file whose process is gone is no hindrance, but the number may have been given to another one.
        let _ = std::fs::remove_file(self.data().join("postmaster.pid"));
    }

    pub(crate) async fn connect(&self, database: &str) -> Result<PgConnection, sqlx::Error> {
        let options = PgConnectOptions::new_without_pgpass().socket(self.data()).port(self.port);
        PgConnection::connect_with(&options.username(USER).database(database)).await
    }

    /// Makes a database and says where it is.
    pub(crate) async fn database(&self, name: &str) -> Location {
        let mut connection = self.connect("postgres").await.unwrap();
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        Location::parse(&self.url(name)).unwrap()
    }

    /// Recovery after a crash syncs each file of each database.
    pub(crate) async fn drop_database(&self, name: &str) {
        let mut connection = self.connect("postgres").await.unwrap();
        let drop = AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"));
        sqlx::query(drop).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres:///{database}?host={}&port={}&user={USER}", self.data().display(), self.port)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Gives a file to the server's user.
    fn own(&self, path: &Path) {
        if is_root() {
            let nobody = nobody();
            chown(path, Some(nobody), Some(nobody)).unwrap();
        }
        let mode = if path.is_dir() { 0o700 } else { 0o600 };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// PostgreSQL refuses to run as root.
    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        if !is_root() {
            return Command::new(program);
        }
        let nobody = nobody().to_string();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"]).arg(program);
        command.current_dir("/");
        command
    }
}

fn nobody() -> u32 {
    let id = Command::new("id").args(["-u", "nobody"]).output().unwrap();
    String::from_utf8_lossy(&id.stdout).trim().parse().unwrap()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
    }
}
