//! The report for a pull request: the verdict and the thresholds at a glance, the rest folded away.

use super::cells::sockets::{
    BROADCAST_HEADER, CLOSING_HEADER, CONNECTION_HEADER, DELIVERY_HEADER, RECOVERY_HEADER, TRAFFIC_HEADER,
    broadcast_cells, broadcast_notes, closing_cells, connection_cells, delivery_cells, recovery_cells, traffic_cells,
};
use super::cells::{
    errors, extent, label, latency, ledger_lines, level_cells, levels_by_scenario, percent, plain, provenance,
    reason_head, seconds, step_rows, stop_note, threshold_figure,
};
use super::explain::classes;
use super::format::{count, millis, rate};
use super::{Report, Status, ThresholdResult};

/// The report as GitHub-flavoured Markdown. Strings of the plan and the target are inert in it: they make no markup,
/// no HTML, no mention and no further cell.
pub fn markdown(report: &Report) -> String {
    let mut page = String::new();
    page.push_str(&verdict(report));
    page.push_str(&thresholds(&report.thresholds));
    page.push_str(&details("Steps", &steps(report)));
    for (scenario, rows) in levels_by_scenario(&report.levels) {
        let header = ["level", "step", "throughput", "p50", "p95", "p99", "errors"];
        let rows = rows.iter().map(|level| escaped_cells(level_cells(level), 2)).collect();
        let bends = report.bends.iter().filter(|bend| bend.scenario == scenario);
        let bends: String = bends.map(|bend| format!("\n{}\n", escape(&bend.message))).collect();
        let content = format!("{}{bends}", table(&header, 2, rows));
        page.push_str(&details(&format!("Levels of {}", escape_html(scenario)), &content));
    }
    page.push_str(&details("WebSocket connections", &connections(report)));
    page.push_str(&details("Broadcasts", &broadcasts(report)));
    page.push_str(&details("Errors", &error_table(report)));
    page.push_str(&details("Agents", &agents(report)));
    page.push_str(&details("What happened to them", &marks(report)));
    page.push_str(&details("Ledger", &ledger(report)));
    page.push_str(&details("Warnings", &warnings(report)));
    page
}

fn verdict(report: &Report) -> String {
    let mark = match report.verdict.status {
        Status::Passed => "✅",
        Status::Failed | Status::Invalid => "❌",
        Status::Degraded | Status::Aborted => "⚠️",
    };
    let run = &report.run;
    let insecure = if run.insecure { " (certificates not checked)" } else { "" };
    let transport = if run.transport == "direct" { "" } else { " over reqwest" };
    let mut text = format!("### {mark} {} {}\n\n", report.verdict.status.as_str(), code(&run.name));
    text += &format!("{} against {}{transport}{insecure}\n", extent(report), code(&run.target));
    if !report.verdict.reasons.is_empty() {
        text.push('\n');
    }
    for reason in &report.verdict.reasons {
        text += &format!("- **{}**: {}\n", escape(&reason_head(reason)), escape(&reason.message));
    }
    text
}

fn thresholds(thresholds: &[ThresholdResult]) -> String {
    let rows = thresholds.iter().map(|threshold| {
        let outcome = if threshold.passed { "✓ ok" } else { "✗ **BROKEN**" };
        vec![format!("{outcome}{}", stop_note(threshold)), code(&threshold.text), escape(&threshold_figure(threshold))]
    });
    let table = table(&["", "threshold", "figure"], 2, rows.collect());
    if table.is_empty() { table } else { format!("\n{table}") }
}

fn steps(report: &Report) -> String {
    let header = [
        "step",
        "issued",
        "rate",
        "errors",
        "min",
        "p50",
        "p90",
        "p95",
        "p99",
        "p99.9",
        "max",
        "service p50",
        "service p99",
    ];
    let rows = step_rows(report).into_iter().map(|row| {
        let (response, service) = (&row.response_ms, &row.service_ms);
        let mut cells = vec![code(&label(row)), count(row.issued), rate(row.rate_per_s), escape(&errors(row))];
        let figures = [
            response.min,
            response.p50,
            response.p90,
            response.p95,
            response.p99,
            response.p999,
            response.max,
            service.p50,
            service.p99,
        ];
        cells.extend(figures.map(latency));
        cells
    });
    table(&header, 1, rows.collect())
}

fn connections(report: &Report) -> String {
    let rows = report.connections.iter().map(|row| escaped_cells(connection_cells(row), 1));
    let mut text = table(&CONNECTION_HEADER, 1, rows.collect());
    let traffic = report.connections.iter().map(|row| escaped_cells(traffic_cells(row), 1)).collect();
    let closings = report.connections.iter().flat_map(closing_cells);
    let closings = closings.map(|cells| escaped_cells(cells, 1)).collect();
    let recoveries = report.connections.iter().flat_map(recovery_cells);
    let recoveries = recoveries.map(|cells| escaped_cells(cells, 1)).collect();
    for table in [
        table(&TRAFFIC_HEADER, 1, traffic),
        table(&CLOSING_HEADER, 3, closings),
        table(&RECOVERY_HEADER, 2, recoveries),
    ] {
        if !table.is_empty() {
            text += &format!("\n{table}");
        }
    }
    text
}

fn broadcasts(report: &Report) -> String {
    let rows = report.broadcasts.iter().map(|row| escaped_cells(broadcast_cells(row), 1));
    let mut text = table(&BROADCAST_HEADER, 1, rows.collect());
    let deliveries = report.broadcasts.iter().filter_map(delivery_cells);
    let deliveries = table(&DELIVERY_HEADER, 1, deliveries.map(|cells| escaped_cells(cells, 1)).collect());
    let notes = report.broadcasts.iter().flat_map(broadcast_notes);
    let notes: String = notes.map(|note| format!("- {}\n", escape(&note))).collect();
    for part in [deliveries, notes].iter().filter(|part| !part.is_empty()) {
        text += &format!("\n{part}");
    }
    text
}

fn error_table(report: &Report) -> String {
    let rows = classes(report).into_iter().map(|class| {
        let steps: Vec<String> = class.steps.iter().map(|step| code(step)).collect();
        vec![code(class.class), steps.join(", "), escape(class.explanation), count(class.count)]
    });
    table(&["class", "steps", "explanation", "count"], 3, rows.collect())
}

fn agents(report: &Report) -> String {
    let rows = report.agents.iter().map(|agent| {
        vec![
            code(&agent.name),
            escape(&percent(agent.share)),
            count(agent.issued),
            count(agent.errors),
            latency(agent.send_lag_ms.p99),
            format!("{:.0} %", agent.cpu * 100.0),
            format!("±{}", millis(agent.clock_bound_ms)),
            agent.lost_at_s.map_or_else(|| "-".to_owned(), seconds),
        ]
    });
    table(&["agent", "share", "issued", "errors", "send lag p99", "CPU", "clock bound", "lost at"], 1, rows.collect())
}

fn marks(report: &Report) -> String {
    report.marks.iter().map(|mark| format!("- {}: {}\n", seconds(mark.t_s), escape(&mark.text))).collect()
}

fn ledger(report: &Report) -> String {
    let lines: String = ledger_lines(&report.ledger).iter().map(|line| format!("- {}\n", escape(line))).collect();
    format!("{lines}\n{}\n", escape(&provenance(&report.run)))
}

fn warnings(report: &Report) -> String {
    let warnings = report.warnings.iter();
    warnings.map(|warning| format!("- **{}**: {}\n", escape(&warning.code), escape(&warning.message))).collect()
}

/// A part that opens at a click; nothing where it is empty. The title is HTML; Markdown inside HTML needs blank lines.
fn details(title: &str, content: &str) -> String {
    if content.is_empty() {
        return String::new();
    }
    format!("\n<details><summary>{title}</summary>\n\n{content}\n</details>\n")
}

/// Some columns of text, then figures; nothing where there are no rows. The cells are Markdown already.
fn table(header: &[&str], texts: usize, rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let alignments = (0..header.len()).map(|index| if index < texts { "---" } else { "---:" });
    // A line break is for the narrow columns of a terminal.
    let header: Vec<String> = header.iter().map(|name| name.trim_start().replace('\n', " ")).collect();
    let lines = [header.join(" | "), alignments.collect::<Vec<_>>().join(" | ")];
    let rows = rows.into_iter().map(|row| row.join(" | "));
    lines.into_iter().chain(rows).map(|line| format!("| {line} |\n")).collect()
}

/// The first cells are names, the others figures.
fn escaped_cells(cells: Vec<String>, names: usize) -> Vec<String> {
    let escaped = |(index, cell): (usize, String)| if index < names { code(&cell) } else { escape(&cell) };
    cells.into_iter().enumerate().map(escaped).collect()
}

/// A name as a code span, in which nothing is markup, a mention or a link. A backtick would end the span and a pipe the
/// cell; both are replaced by characters that look alike.
fn code(name: &str) -> String {
    let name: String = plain(name)
        .chars()
        .map(|c| match c {
            '`' => 'ˋ',
            '|' => '¦',
            other => other,
        })
        .collect();
    if name.trim().is_empty() { String::new() } else { format!("`{name}`") }
}

/// A sentence as text, in which nothing is markup.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in plain(text).chars() {
        match c {
            '|' | '\\' | '`' | '*' | '_' | '~' | '[' | ']' | '!' | '#' => escaped.extend(['\\', c]),
            other => push_html(&mut escaped, other),
        }
    }
    escaped
}

/// A sentence inside an HTML element, where backslashes escape nothing.
fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    plain(text).chars().for_each(|c| push_html(&mut escaped, c));
    escaped
}

/// An invisible character after `@` keeps it from calling somebody.
fn push_html(escaped: &mut String, c: char) {
    match c {
        '&' => escaped.push_str("&amp;"),
        '<' => escaped.push_str("&lt;"),
        '>' => escaped.push_str("&gt;"),
        '@' => escaped.push_str("@&#8203;"),
        other => escaped.push(other),
    }
}
