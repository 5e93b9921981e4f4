//! The report for a terminal or a log: the verdict first, then what led to it.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table};

use super::cells::sockets::{
    BROADCAST_HEADER, CLOSING_HEADER, CONNECTION_HEADER, DELIVERY_HEADER, RECOVERY_HEADER, TRAFFIC_HEADER,
    broadcast_cells, broadcast_notes, closing_cells, connection_cells, delivery_cells, recovery_cells, traffic_cells,
};
use super::cells::{
    agent_cells, errors, label, latency, ledger_lines, level_cells, levels_by_scenario, plain, provenance, reason_head,
    seconds, step_rows, stop_note, summary, threshold_figure,
};
use super::explain::classes;
use super::format::{count, rate};
use super::{Bend, Latency, Ledger, LevelFigures, Report, Status, StepFigures, ThresholdResult};

/// Below this width, tables leave columns out and say so.
const FULL_WIDTH: usize = 110;
const INDENT: &str = "  ";

const BOLD: &str = "1";
const RED: &str = "1;31";
const GREEN: &str = "1;32";
const YELLOW: &str = "1;33";

/// Figures of a latency table, with the name of each column.
type Column = (&'static str, fn(&Latency) -> Option<f64>);

const RESPONSE_FULL: &[Column] = &[
    ("min", |latency| latency.min),
    ("p50", |latency| latency.p50),
    ("p90", |latency| latency.p90),
    ("p95", |latency| latency.p95),
    ("p99", |latency| latency.p99),
    ("p99.9", |latency| latency.p999),
    ("max", |latency| latency.max),
];
const RESPONSE_NARROW: &[Column] = &[
    ("p50", |latency| latency.p50),
    ("p95", |latency| latency.p95),
    ("p99", |latency| latency.p99),
    ("max", |latency| latency.max),
];
/// Latencies that only some steps have, each with its columns.
type Part = (&'static str, fn(&StepFigures) -> &Latency);

const PARTS: &[Part] = &[
    ("queue", |row| &row.queue_ms),
    ("DNS", |row| &row.dns_ms),
    ("connect", |row| &row.connect_ms),
    ("TLS", |row| &row.tls_ms),
    ("first byte", |row| &row.first_byte_ms),
    ("body", |row| &row.body_ms),
];
const SERVICE: &[Column] = &[("service\np50", |latency| latency.p50), ("service\np99", |latency| latency.p99)];

/// How the text is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextOptions {
    /// Columns of the terminal; made for 80 and more.
    pub width: usize,
    /// Colours by ANSI escape sequences. Without them there is no escape sequence at all.
    pub color: bool,
}

/// The report as text. Sections without content are left out; strings of the plan and the target lose their control
/// characters, so that they can't take over a terminal.
pub fn text(report: &Report, options: &TextOptions) -> String {
    let mut page = Page { out: String::new(), options: *options };
    page.verdict(report);
    page.thresholds(&report.thresholds);
    page.operations(report);
    page.latencies(report);
    page.parts(report);
    page.levels(&report.levels, &report.bends);
    page.connections(report);
    page.broadcasts(report);
    page.errors(report);
    page.agents(report);
    page.marks(report);
    page.ledger(&report.ledger);
    page.warnings(report);
    page.out
}

/// The text as far as it is written.
struct Page {
    out: String,
    options: TextOptions,
}

impl Page {
    fn verdict(&mut self, report: &Report) {
        let status = report.verdict.status;
        let color = match status {
            Status::Passed => GREEN,
            Status::Failed | Status::Invalid => RED,
            Status::Degraded | Status::Aborted => YELLOW,
        };
        let word = self.painted(status.as_str(), color);
        let name = plain(&report.run.name);
        self.line(&format!("{word}  {name}  {}", summary(report)));
        for reason in &report.verdict.reasons {
            self.wrapped(INDENT, &format!("{}: {}", reason_head(reason), plain(&reason.message)));
        }
        self.wrapped(INDENT, &provenance(&report.run));
    }

    fn thresholds(&mut self, thresholds: &[ThresholdResult]) {
        self.heading("Thresholds", thresholds.is_empty());
        let rows = thresholds.iter().map(|threshold| {
            let outcome = if threshold.passed { "✓ ok" } else { "✗ BROKEN" };
            vec![format!("{outcome}{}", stop_note(threshold)), plain(&threshold.text), threshold_figure(threshold)]
        });
        for line in self.table(&["", "threshold", "figure"], 2, rows.collect()) {
            let color = match line.trim_start() {
                ok if ok.starts_with('✓') => GREEN,
                broken if broken.starts_with('✗') => RED,
                _ => "",
            };
            let painted = self.painted(&line, color);
            self.line(&painted);
        }
    }

    fn operations(&mut self, report: &Report) {
        let rows = step_rows(report);
        self.heading("Operations", rows.is_empty());
        let columns = operation_columns(&rows);
        let (columns, left_out): (Vec<_>, Vec<_>) =
            columns.into_iter().partition(|column| !self.is_narrow() || !column.only_wide);
        let header: Vec<&str> = std::iter::once("step").chain(columns.iter().map(|column| column.name)).collect();
        let cells = rows
            .iter()
            .map(|row| std::iter::once(label(row)).chain(columns.iter().map(|column| (column.figure)(row))).collect());
        self.lines(&header, 1, cells.collect());
        let left_out: Vec<String> = left_out.iter().map(|column| column.name.replace('\n', " ")).collect();
        self.left_out(&left_out.iter().map(String::as_str).collect::<Vec<_>>());
    }

    fn latencies(&mut self, report: &Report) {
        let mut rows = step_rows(report);
        rows.retain(|row| row.response_ms.count > 0);
        self.heading("Response time (from the intended start) and service time (from the hand-over)", rows.is_empty());
        let response = if self.is_narrow() { RESPONSE_NARROW } else { RESPONSE_FULL };
        // Names of one line stand on the second, beside those of two.
        let response_names = response.iter().map(|(name, _)| format!("\n{name}"));
        let service_names = SERVICE.iter().map(|(name, _)| (*name).to_owned());
        let header: Vec<String> =
            std::iter::once("\nstep".to_owned()).chain(response_names).chain(service_names).collect();
        let cells = rows.iter().map(|row| {
            let response = response.iter().map(|(_, figure)| latency(figure(&row.response_ms)));
            let service = SERVICE.iter().map(|(_, figure)| latency(figure(&row.service_ms)));
            std::iter::once(label(row)).chain(response).chain(service).collect()
        });
        self.lines(&header.iter().map(String::as_str).collect::<Vec<_>>(), 1, cells.collect());
        let shown = |name: &str| response.iter().any(|(shown, _)| *shown == name);
        let left_out: Vec<&str> = RESPONSE_FULL.iter().map(|(name, _)| *name).filter(|name| !shown(name)).collect();
        if !rows.is_empty() {
            self.left_out(&left_out);
        }
        let clamped = report.total.response_ms.clamped;
        if clamped > 0 {
            let note = format!("{} response times were above 1 h and count as 1 h in the percentiles", count(clamped));
            self.wrapped(INDENT, &note);
        }
    }

    /// Where the time went: only the parts that some step has.
    fn parts(&mut self, report: &Report) {
        let rows: Vec<&StepFigures> =
            report.steps.iter().filter(|row| PARTS.iter().any(|(_, part)| part(row).count > 0)).collect();
        let parts: Vec<&Part> = PARTS.iter().filter(|(_, part)| rows.iter().any(|row| part(row).count > 0)).collect();
        self.heading("Where the time went", rows.is_empty());
        let names =
            parts.iter().flat_map(|(name, _)| ["count", "p50", "p99"].map(|figure| format!("{name}\n{figure}")));
        let header: Vec<String> = std::iter::once("\nstep".to_owned()).chain(names).collect();
        let cells = rows.iter().map(|row| {
            let figures = parts.iter().flat_map(|(_, part)| {
                let part = part(row);
                let times = [part.p50, part.p99].map(latency);
                std::iter::once(count(part.count)).chain(times)
            });
            std::iter::once(label(row)).chain(figures).collect()
        });
        self.lines(&header.iter().map(String::as_str).collect::<Vec<_>>(), 1, cells.collect());
    }

    fn levels(&mut self, levels: &[LevelFigures], bends: &[Bend]) {
        for (scenario, rows) in levels_by_scenario(levels) {
            self.heading(&format!("Levels of {}", plain(scenario)), rows.is_empty());
            let header = ["level", "step", "throughput", "p50", "p95", "p99", "errors"];
            self.lines(&header, 2, rows.iter().map(|level| level_cells(level)).collect());
            for bend in bends.iter().filter(|bend| bend.scenario == scenario) {
                self.wrapped(INDENT, &plain(&bend.message));
            }
        }
    }

    fn connections(&mut self, report: &Report) {
        let rows = &report.connections;
        self.heading("WebSocket connections", rows.is_empty());
        self.lines(&CONNECTION_HEADER, 1, rows.iter().map(connection_cells).collect());
        self.heading("What went over them, on the wire", rows.is_empty());
        self.lines(&TRAFFIC_HEADER, 1, rows.iter().map(traffic_cells).collect());
        let closings: Vec<Vec<String>> = rows.iter().flat_map(closing_cells).collect();
        self.heading("How connections ended", closings.is_empty());
        self.lines(&CLOSING_HEADER, 3, closings);
        let recoveries: Vec<Vec<String>> = rows.iter().flat_map(recovery_cells).collect();
        self.heading("Connections lost and opened again", recoveries.is_empty());
        self.lines(&RECOVERY_HEADER, 2, recoveries);
    }

    fn broadcasts(&mut self, report: &Report) {
        let rows = &report.broadcasts;
        self.heading("Broadcasts", rows.is_empty());
        self.lines(&BROADCAST_HEADER, 1, rows.iter().map(broadcast_cells).collect());
        for note in rows.iter().flat_map(broadcast_notes) {
            self.hanging(INDENT, "    ", &note);
        }
        let deliveries: Vec<Vec<String>> = rows.iter().filter_map(delivery_cells).collect();
        self.heading("Delivery of broadcasts (from the publication to the arrival)", deliveries.is_empty());
        self.lines(&DELIVERY_HEADER, 1, deliveries);
    }

    fn warnings(&mut self, report: &Report) {
        self.heading("Warnings", report.warnings.is_empty());
        for warning in &report.warnings {
            self.hanging(INDENT, "    ", &format!("{}: {}", plain(&warning.code), plain(&warning.message)));
        }
    }

    fn errors(&mut self, report: &Report) {
        let classes = classes(report);
        self.heading("Errors", classes.is_empty());
        let width = classes.iter().map(|class| count(class.count).len()).max().unwrap_or(0);
        let margin = format!("{INDENT}{:width$}{INDENT}", "");
        for class in &classes {
            let first = format!("{INDENT}{:>width$}{INDENT}", count(class.count));
            self.hanging(&first, &margin, &format!("{} in {}", plain(class.class), class.steps.join(", ")));
            self.wrapped(&margin, &plain(class.explanation));
        }
    }

    fn agents(&mut self, report: &Report) {
        self.heading("Agents", report.agents.is_empty());
        let any_lost = report.agents.iter().any(|agent| agent.lost_at_s.is_some());
        let mut header = vec!["\nagent", "\nshare", "\nissued", "\nerrors", "send lag\np99", "\nCPU", "clock\nbound"];
        header.extend(any_lost.then_some("\nlost at"));
        let rows = report.agents.iter().map(|agent| {
            let mut row = agent_cells(agent);
            row.extend(any_lost.then(|| agent.lost_at_s.map_or_else(|| "-".to_owned(), seconds)));
            row
        });
        self.lines(&header, 1, rows.collect());
    }

    fn marks(&mut self, report: &Report) {
        self.heading("What happened to them", report.marks.is_empty());
        let width = report.marks.iter().map(|mark| seconds(mark.t_s).len()).max().unwrap_or(0);
        for mark in &report.marks {
            self.hanging(&format!("{INDENT}{:>width$}{INDENT}", seconds(mark.t_s)), "    ", &plain(&mark.text));
        }
    }

    fn ledger(&mut self, ledger: &Ledger) {
        self.heading("Ledger", false);
        for line in ledger_lines(ledger) {
            self.hanging(INDENT, "    ", &line);
        }
    }

    fn is_narrow(&self) -> bool {
        self.options.width < FULL_WIDTH
    }

    fn heading(&mut self, title: &str, empty: bool) {
        if !empty {
            let title = self.painted(title, BOLD);
            self.line(&format!("\n{title}"));
        }
    }

    fn lines(&mut self, header: &[&str], texts: usize, rows: Vec<Vec<String>>) {
        for line in self.table(header, texts, rows) {
            self.line(&line);
        }
    }

    /// A table without borders: some columns of text, which wrap where there is no room, then figures.
    fn table(&self, header: &[&str], texts: usize, rows: Vec<Vec<String>>) -> Vec<String> {
        if rows.is_empty() {
            return Vec::new();
        }
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(u16::try_from(self.options.width - INDENT.len().min(self.options.width)).unwrap_or(u16::MAX));
        table.set_header(header.iter().copied()).add_rows(rows);
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if index >= texts {
                column.set_cell_alignment(CellAlignment::Right);
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        table.lines().map(|line| format!("{INDENT}{}", line.trim_end())).collect()
    }

    fn left_out(&mut self, names: &[&str]) {
        if !names.is_empty() {
            let width = self.options.width;
            self.wrapped(
                INDENT,
                &format!("left out at {width} columns: {}; the JSON report has them", names.join(", ")),
            );
        }
    }

    fn wrapped(&mut self, margin: &str, text: &str) {
        self.hanging(margin, margin, text);
    }

    /// Breaks a text between words; its further lines start with a margin of their own.
    fn hanging(&mut self, first: &str, margin: &str, text: &str) {
        let mut line = first.to_owned();
        let mut has_words = false;
        for word in text.split_whitespace() {
            if has_words && line.chars().count() + 1 + word.chars().count() > self.options.width {
                self.line(&line);
                margin.clone_into(&mut line);
                has_words = false;
            }
            if has_words {
                line.push(' ');
            }
            line.push_str(word);
            has_words = true;
        }
        self.line(&line);
    }

    fn line(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push('\n');
    }

    fn painted(&self, text: &str, color: &str) -> String {
        if self.options.color && !color.is_empty() { format!("\x1b[{color}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Figures of one step in the table of operations.
struct OperationColumn {
    name: &'static str,
    only_wide: bool,
    figure: fn(&StepFigures) -> String,
}

/// The columns with something to say: shed, not generated and messages only where there are any.
fn operation_columns(rows: &[&StepFigures]) -> Vec<OperationColumn> {
    let any = |figure: fn(&StepFigures) -> u64| rows.iter().any(|row| figure(row) > 0);
    let column = |name, only_wide, figure| OperationColumn { name, only_wide, figure };
    let mut columns = vec![
        column("issued", false, |row| count(row.issued)),
        column("rate", false, |row| rate(row.rate_per_s)),
        column("ok", false, |row| count(row.ok)),
        column("errors", false, errors),
    ];
    columns.extend(any(|row| row.unsent).then(|| column("unsent", false, |row| count(row.unsent))));
    columns.extend(any(|row| row.shed).then(|| column("shed", false, |row| count(row.shed))));
    let not_generated = || column("not generated", false, |row| count(row.not_generated));
    columns.extend(any(|row| row.not_generated).then(not_generated));
    if any(|row| row.messages_sent + row.messages_received) {
        columns.push(column("messages sent", true, |row| count(row.messages_sent)));
        columns.push(column("received", true, |row| count(row.messages_received)));
    }
    columns
}
