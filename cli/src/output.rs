//! stdout, stderr and files. stdout is the report's alone; everything else goes to stderr.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the one place that prints")]

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use comfy_table::{Table, presets};
use groundswell_coordinator::compare::Comparison;
use groundswell_coordinator::report::{self, Format, Rendered, Report, TextOptions, render};
use groundswell_coordinator::search::SearchReport;
use groundswell_coordinator::server::AUDIT;
use tracing_subscriber::EnvFilter;

/// Width of the report where stdout is no terminal, or does not tell.
const DEFAULT_WIDTH: usize = 140;

/// Logs go to stderr; `GROUNDSWELL_LOG` overrides what is logged, but for what an audit log could not be told.
pub(crate) fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("GROUNDSWELL_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("warn,groundswell={level},groundswell_agent={level},groundswell_coordinator={level},groundswell_demo_target={level}")));
    let filter = match format!("{AUDIT}=info").parse() {
        Ok(audit) => filter.add_directive(audit),
        Err(_) => filter,
    };
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

/// Text on stdout.
pub(crate) fn print(text: &str) {
    print_bytes(text.as_bytes());
}

/// What is to go to stdout as it is. A reader that went away (`| head`) is no error.
pub(crate) fn print_bytes(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(bytes);
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

/// Formats of the report of a search.
const OF_SEARCHES: [Format; 3] = [Format::Json, Format::Markdown, Format::Text];

impl OutFile {
    /// The files of `--out`. Ending and folder of each are checked before any load is sent, so that a typing error does
    /// not cost a run.
    pub(crate) fn all(paths: &[PathBuf]) -> anyhow::Result<Vec<Self>> {
        paths.iter().map(|path| OutFile::new(path, &Format::ALL)).collect()
    }

    /// The same for the report of a search, which has fewer formats.
    pub(crate) fn all_of_search(paths: &[PathBuf]) -> anyhow::Result<Vec<Self>> {
        paths.iter().map(|path| OutFile::new(path, &OF_SEARCHES)).collect()
    }

    /// The same for a comparison.
    pub(crate) fn all_of_comparison(paths: &[PathBuf]) -> anyhow::Result<Vec<Self>> {
        paths.iter().map(|path| OutFile::new(path, &Comparison::FORMATS)).collect()
    }

    fn new(path: &Path, formats: &[Format]) -> anyhow::Result<Self> {
        let format = Format::of_file(path).filter(|format| formats.contains(format)).ok_or_else(|| {
            let endings: Vec<String> = formats.iter().map(|format| format!(".{}", format.ending())).collect();
            let shown = path.display();
            anyhow!("--out {shown}: the ending chooses the format, and must be one of {}", endings.join(", "))
        })?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            bail!("--out {}: there is no folder {}", path.display(), folder.display());
        }
        Ok(OutFile { path: path.to_owned(), format })
    }

    /// Writes the report.
    pub(crate) fn write(&self, of: &Rendered<'_>) -> anyhow::Result<()> {
        self.keep(&render(self.format, of)?)
    }

    /// Writes the report of a search.
    pub(crate) fn write_search(&self, report: &SearchReport) -> anyhow::Result<()> {
        let page = match self.format {
            Format::Json => report.json()?,
            Format::Markdown => report.markdown(),
            _ => report.text(),
        };
        self.keep(page.as_bytes())
    }

    /// Writes a comparison.
    pub(crate) fn write_comparison(&self, comparison: &Comparison) -> anyhow::Result<()> {
        self.keep(comparison.render(self.format)?.as_bytes())
    }

    fn keep(&self, content: &[u8]) -> anyhow::Result<()> {
        std::fs::write(&self.path, content).with_context(|| format!("can't write {}", self.path.display()))
    }
}
