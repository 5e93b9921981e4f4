//! stdout, stderr and files. stdout is the report's alone; everything else goes to stderr.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the one place that prints")]

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use comfy_table::{Table, presets};
use groundswell_coordinator::report::{self, Report, TextOptions};
use groundswell_coordinator::search::SearchReport;
use tracing_subscriber::EnvFilter;

/// Width of the report where stdout is no terminal, or does not tell.
const DEFAULT_WIDTH: usize = 140;

/// Logs go to stderr; `GROUNDSWELL_LOG` overrides what is logged.
pub(crate) fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("GROUNDSWELL_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("warn,groundswell={level},groundswell_agent={level},groundswell_coordinator={level},groundswell_demo_target={level}")));
    // A second subscriber (tests that run in one process) changes nothing.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init();
}

/// One line for people, beside the report.
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}

/// An error with its causes.
pub(crate) fn error(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

/// Text on stdout. A reader that went away (`| head`) is no error.
pub(crate) fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes());
    let _ = stdout.flush();
}

/// The final report on stdout.
pub(crate) fn report(report: &Report) {
    let terminal = std::io::stdout().is_terminal();
    let width = if terminal { terminal_width() } else { DEFAULT_WIDTH };
    let color = terminal && std::env::var_os("NO_COLOR").is_none();
    print(&report::text(report, &TextOptions { width, color }));
}

/// A table without lines.
pub(crate) fn plain_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table
}

/// The report of a search on stdout.
pub(crate) fn search_report(report: &SearchReport) {
    print(&report.text());
}

fn terminal_width() -> usize {
    let columns = terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0));
    columns.unwrap_or(DEFAULT_WIDTH).clamp(60, 200)
}

/// A file that gets the report.
#[derive(Debug, Clone)]
pub(crate) struct OutFile {
    path: PathBuf,
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Markdown,
    Text,
}

impl OutFile {
    /// Checks ending and directory before any load is sent, so that a typing error does not cost a run.
    pub(crate) fn new(path: &Path) -> anyhow::Result<Self> {
        let format = match path.extension().and_then(|ending| ending.to_str()) {
            Some("json") => Format::Json,
            Some("md") => Format::Markdown,
            Some("txt") => Format::Text,
            _ => bail!("--out {}: the ending chooses the format, and must be .json, .md or .txt", path.display()),
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            bail!("--out {}: there is no folder {}", path.display(), folder.display());
        }
        Ok(OutFile { path: path.to_owned(), format })
    }

    /// Writes the report.
    pub(crate) fn write(&self, report: &Report) -> anyhow::Result<()> {
        let content = match self.format {
            Format::Json => report::json(report)?,
            Format::Markdown => report::markdown(report),
            Format::Text => report::text(report, &TextOptions { width: DEFAULT_WIDTH, color: false }),
        };
        self.keep(&content)
    }

    /// Writes the report of a search.
    pub(crate) fn write_search(&self, report: &SearchReport) -> anyhow::Result<()> {
        self.keep(&match self.format {
            Format::Json => report.json()?,
            Format::Markdown => report.markdown(),
            Format::Text => report.text(),
        })
    }

    fn keep(&self, content: &str) -> anyhow::Result<()> {
        std::fs::write(&self.path, content).with_context(|| format!("can't write {}", self.path.display()))
    }
}
