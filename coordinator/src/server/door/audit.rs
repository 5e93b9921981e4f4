//! Who did what: a line of JSON for everything that changes something, appended to `audit.jsonl` in the access folder, or in
//! that of the data where the former can't be written. Where there is neither, it goes into the log, whatever that leaves out.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde_json::{Value, json};

/// Target of lines in the log that are there instead of a file; every filter lets them through.
pub const AUDIT: &str = "groundswell_audit";

/// The log; none where everybody gets in, since nobody is known there.
#[derive(Debug)]
pub(in crate::server) struct Audit {
    to: To,
}

#[derive(Debug)]
enum To {
    Nowhere,
    File(Mutex<File>),
    Log,
}

impl Audit {
    pub(super) fn none() -> Self {
        Audit { to: To::Nowhere }
    }

    /// Appends to that file. Where it can't be written, the coordinator's own log has to do.
    pub(super) fn to(path: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        if let Err(error) = &file {
            tracing::warn!(path = %path.display(), %error, "the audit log can't be written there, so it is in this log");
        }
        Audit { to: file.map_or(To::Log, |file| To::File(Mutex::new(file))) }
    }

    /// Says who did what, from where. `more` has what belongs to it, and no secret.
    pub(in crate::server) fn say(&self, who: &str, from: Option<std::net::SocketAddr>, what: &str, more: &Value) {
        let at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let line = json!({ "at": at, "who": who, "from": from.map(|from| from.to_string()), "what": what, "of": more });
        match &self.to {
            To::Nowhere => tracing::info!(who, what, of = %more, "audit"),
            To::Log => tracing::info!(target: AUDIT, %line, "audit"),
            To::File(file) => {
                tracing::info!(who, what, of = %more, "audit");
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                // One write for one line, so that lines of two processes do not mix.
                if let Err(error) = file.write_all(format!("{line}\n").as_bytes()) {
                    tracing::error!(target: AUDIT, %error, %line, "the audit log can't be written");
                }
            }
        }
    }
}
