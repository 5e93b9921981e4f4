//! Where a store is. A password in it is never shown.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

use super::StoreError;

/// Where a store is.
#[derive(Debug, Clone)]
pub enum Location {
    /// A folder with a SQLite database in it. It is made if it isn't there, and belongs to one coordinator at a time.
    Folder(PathBuf),
    /// A PostgreSQL database.
    Postgres(DatabaseUrl),
}

impl Location {
    /// Reads what a user wrote: `postgres://user:password@host:port/database?sslmode=verify-full`, or else a path.
    ///
    /// # Errors
    /// [`StoreError::Location`] when it is empty, or a URL that is no PostgreSQL URL.
    pub fn parse(text: &str) -> Result<Location, StoreError> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return DatabaseUrl::parse(text).map(Location::Postgres);
        }
        let wrong = |why: String| Err(StoreError::Location { why });
        match text.split_once("://") {
            Some((scheme, _)) => wrong(format!("{scheme}:// is neither postgres:// nor the path of a folder")),
            None if text.is_empty() => wrong("the path is empty".to_owned()),
            None => Ok(Location::Folder(PathBuf::from(text))),
        }
    }
}

impl FromStr for Location {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Location, StoreError> {
        Location::parse(text)
    }
}

/// For people: the folder, or the URL without password and parameters.
impl fmt::Display for Location {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Folder(path) => write!(out, "{}", path.display()),
            Location::Postgres(url) => write!(out, "{url}"),
        }
    }
}

/// A PostgreSQL URL that keeps its password to itself.
#[derive(Clone)]
pub struct DatabaseUrl {
    options: Box<PgConnectOptions>,
}

impl DatabaseUrl {
    /// # Errors
    /// [`StoreError::Location`] when it is no PostgreSQL URL; the message doesn't repeat it.
    pub fn parse(text: &str) -> Result<DatabaseUrl, StoreError> {
        let options: PgConnectOptions = text.parse().map_err(|error: sqlx::Error| StoreError::Location {
            why: format!("not a PostgreSQL URL, postgres://user:password@host:port/database: {error}"),
        })?;
        Ok(DatabaseUrl { options: Box::new(options) })
    }

    pub(super) fn options(&self) -> PgConnectOptions {
        (*self.options).clone()
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = &*self.options;
        let database = options.get_database().unwrap_or(options.get_username());
        match options.get_socket() {
            Some(socket) => {
                write!(out, "postgres:///{database}?host={}&port={}", socket.display(), options.get_port())
            }
            None => {
                let (user, host, port) = (options.get_username(), options.get_host(), options.get_port());
                write!(out, "postgres://{user}@{host}:{port}/{database}")
            }
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "DatabaseUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let texts = [
            "postgres://me:hunter2@db.example:5433/load?sslmode=require",
            "postgresql://me@db.example/load?password=hunter2",
            "postgres://me:hunter2@%2Frun%2Fpostgresql/load",
        ];
        for text in texts {
            let location = Location::parse(text).unwrap();
            let shown = format!("{location} {location:?} {location:#?}");
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(shown.contains("load"), "{shown}");
        }
        for text in [
            "postgres://me:hunter2@host:99999/db",
            "postgres://me:hunter2@host/db?sslmode=hunter",
            "mysql://a:hunter2@b",
        ] {
            let error = Location::parse(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn anything_else_is_a_path() {
        for path in ["/var/lib/groundswell", "data", "./a b"] {
            assert!(matches!(Location::parse(path).unwrap(), Location::Folder(folder) if folder.as_os_str() == path));
        }
        assert!(Location::parse("").is_err());
    }
}
