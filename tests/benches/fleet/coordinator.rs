//! The coordinator: a process of its own, so that its CPU time and its memory are nobody else's.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context, bail};
use tempfile::TempDir;

/// A coordinator with a store on this disk; both are gone when it is dropped.
pub(crate) struct Coordinator {
    process: Child,
    pub(crate) url: String,
    store: TempDir,
}

impl Coordinator {
    /// Starts one on a port of its own choice.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let store = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let mut process = Command::new(env!("CARGO_BIN_EXE_groundswell-under-test"))
            .args(["serve", "--insecure", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(store.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(process.stderr.take().context("no stderr")?).lines().map_while(Result::ok);
        let url = lines.find_map(|line| Some(line.split_once("listening on ")?.1.trim().to_owned()));
        // What it says later has to be read by somebody.
        thread::spawn(move || lines.for_each(drop));
        match url {
            Some(url) => Ok(Coordinator { process, url, store }),
            None => bail!("the coordinator did not start"),
        }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// CPU time so far, in seconds: of its programs, and of the kernel for it.
    pub(crate) fn cpu_s(&self) -> anyhow::Result<(f64, f64)> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.id()))?;
        // The name of the program, in brackets, may hold anything.
        let fields: Vec<&str> = text.rsplit_once(')').context("no stat")?.1.split_whitespace().collect();
        // Linux counts in hundredths of a second there, whatever the kernel's own tick.
        let seconds = |field: usize| anyhow::Ok(fields.get(field).context("no field")?.parse::<f64>()? / 100.0);
        Ok((seconds(11)?, seconds(12)?))
    }

    /// A line of its status in MiB: `VmRSS`, `VmHWM`.
    pub(crate) fn memory_mib(&self, line: &str) -> anyhow::Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let found = text.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
        let kib: f64 = found.and_then(|text| text.split_whitespace().next()).context("no such line")?.parse()?;
        Ok(kib / 1024.0)
    }

    /// Size of its store on the disk in bytes, the write-ahead log among it.
    pub(crate) fn store_bytes(&self) -> anyhow::Result<u64> {
        size(self.store.path())
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        // That it is gone already is no error.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn size(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() { size(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}
