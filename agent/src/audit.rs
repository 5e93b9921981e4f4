//! The agent's own log of what it was asked to do and what it did: one JSON object a line, appended and never changed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use groundswell_stats::Counters;
use serde_json::{Map, Value, json};

/// An open log.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    file: Mutex<File>,
}

impl Audit {
    /// Opens a log, made where it is not there, for its owner only.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(Audit { path: path.to_owned(), file: Mutex::new(options.open(path)?) })
    }

    fn append(&self, record: &Value) -> Result<(), String> {
        let mut line = record.to_string();
        line.push('\n');
        // In one piece, so that the lines of several agents with one file stay whole.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(line.as_bytes())
            .map_err(|error| format!("its audit log {} can't be written: {error}", self.path.display()))
    }
}

/// The lines of one run. Whatever becomes of the run, the last one says that it ended.
#[derive(Debug)]
pub(crate) struct Trail {
    audit: Option<Arc<Audit>>,
    /// What every line has.
    of: Map<String, Value>,
    counters: Counters,
    is_open: bool,
}

impl Trail {
    /// `of` is what every line has.
    pub(crate) fn new(audit: Option<Arc<Audit>>, of: Value) -> Self {
        let of = if let Value::Object(of) = of { of } else { Map::new() };
        Trail { audit, of, counters: Counters::default(), is_open: false }
    }

    /// Something that every later line has too.
    pub(crate) fn also(&mut self, key: &str, value: Value) {
        self.of.insert(key.to_owned(), value);
    }

    /// The agent takes part.
    pub(crate) fn armed(&mut self, wanted: &Value) -> Result<(), String> {
        self.write("armed", wanted)?;
        self.is_open = true;
        Ok(())
    }

    /// It does not.
    pub(crate) fn refused(&self, reason: &str) -> Result<(), String> {
        self.write("refused", &json!({ "reason": reason }))
    }

    /// Something in between.
    pub(crate) fn wrote(&self, event: &str, more: &Value) -> Result<(), String> {
        self.write(event, more)
    }

    /// Operations that were counted.
    pub(crate) fn counted(&mut self, counters: &Counters) {
        // Sums that do not fit end the run elsewhere.
        let _ = self.counters.add(counters);
    }

    /// The run is over.
    pub(crate) fn ended(&mut self, reason: &str) {
        if !std::mem::take(&mut self.is_open) {
            return;
        }
        let Counters { scheduled, issued, ok, errors, timeout, aborted, bytes_sent, bytes_received, .. } =
            self.counters;
        let counts = json!({
            "scheduled": scheduled,
            "issued": issued,
            "ok": ok,
            "errors": errors,
            "timeout": timeout,
            "aborted": aborted,
            "unsent": self.counters.unsent_in_all(),
            "shed": self.counters.shed_in_all(),
            "not_generated": self.counters.not_generated_in_all(),
            "follow_ups": self.counters.follow_ups,
            "messages_sent": self.counters.messages_sent,
            "bytes_sent": bytes_sent,
            "bytes_received": bytes_received,
        });
        if let Err(error) = self.write("ended", &json!({ "reason": reason, "counts": counts })) {
            tracing::error!(%error, "the end of a run is not in the audit log");
        }
    }

    fn write(&self, event: &str, more: &Value) -> Result<(), String> {
        let Some(audit) = &self.audit else { return Ok(()) };
        let mut record = Map::new();
        record.insert("time".to_owned(), humantime::format_rfc3339_millis(SystemTime::now()).to_string().into());
        record.insert("event".to_owned(), event.into());
        let more = more.as_object().into_iter().flatten();
        record.extend(self.of.iter().chain(more).map(|(key, value)| (key.clone(), value.clone())));
        audit.append(&Value::Object(record))
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        self.ended("the run was given up before its load had ended");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn lines_are_added_for_the_owner_only_and_the_last_one_says_the_end() {
        let folder = std::env::temp_dir().join(format!("groundswell-audit-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("audit.log");
        std::fs::write(&path, "earlier\n").unwrap();
        std::fs::remove_file(&path).unwrap();
        for _ in 0..2 {
            let audit = Arc::new(Audit::open(&path).unwrap());
            let mut trail = Trail::new(Some(audit), json!({ "run": "a\nb" }));
            trail.refused("no").unwrap();
            trail.armed(&json!({ "users": 3 })).unwrap();
            trail.counted(&Counters { issued: 7, ok: 7, ..Counters::default() });
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let events: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
        assert_eq!(events, ["refused", "armed", "ended", "refused", "armed", "ended"]);
        assert!(lines.iter().all(|line| line["run"] == "a\nb" && line["time"].is_string()));
        assert_eq!((&lines[1]["users"], &lines[2]["counts"]["ok"]), (&json!(3), &json!(7)));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_log_that_can_not_be_written_is_an_error() {
        assert!(Audit::open(Path::new("/nowhere/audit.log")).is_err());
        if let Ok(audit) = Audit::open(Path::new("/dev/full")) {
            let mut trail = Trail::new(Some(Arc::new(audit)), json!({}));
            let error = trail.armed(&json!({})).unwrap_err();
            assert!(error.contains("/dev/full"), "{error}");
        }
    }
}
