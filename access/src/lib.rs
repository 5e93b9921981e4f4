//! Who may join a coordinator, read what it keeps, and steer it: certificates, tokens, and the TLS that both need.
//!
//! # Layout
//! - `role`: what somebody may do
//! - `token`: tokens as text: what people copy
//! - `tokens`: the tokens of a coordinator, as hashes in a file
//! - `authority`: the certificate authority of a coordinator
//! - `identity`: a certificate with its key, and what a certificate says
//! - `revoked`: certificates that count no more
//! - `folder`: the files behind all of it
//! - `gate`: what a running coordinator asks
//! - `secrets`: what plans name and nobody sees
//! - `tls`: TLS of both sides

mod authority;
mod folder;
mod gate;
mod identity;
mod revoked;
mod role;
mod secrets;
#[cfg(test)]
mod tests;
mod tls;
mod token;
mod tokens;

pub use authority::{Authority, Issued};
pub use folder::AccessFolder;
pub use gate::{Denied, Gate, Grant, StaticToken};
pub use identity::{Identity, Request, Subject};
pub use revoked::Revocation;
pub use role::Role;
pub use secrets::{SecretSource, Secrets};
pub use tls::{Trust, client_config, server_config};
pub use token::{BadToken, Fingerprint, Token};
pub use tokens::{NewToken, TokenEntry};

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Why something about access failed.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A file can't be read or written.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A certificate can't be made or used.
    #[error("{what}: {why}")]
    Certificate {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        why: String,
    },
    /// A token is none.
    #[error(transparent)]
    Token(#[from] BadToken),
    /// There is no such token or certificate.
    #[error("{0}")]
    NotThere(String),
}

impl AccessError {
    fn file(path: &Path, why: impl std::fmt::Display) -> Self {
        AccessError::File { path: path.to_owned(), why: why.to_string() }
    }

    fn certificate(what: &'static str) -> impl Fn(rcgen::Error) -> Self {
        move |error| AccessError::Certificate { what, why: error.to_string() }
    }
}

/// Seconds since 1970 (UTC).
fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// SHA-256.
fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    hash
}
