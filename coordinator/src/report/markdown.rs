//! The report for a pull request: the verdict and the thresholds at a glance, the rest folded away.

use super::cells::sections::{Part, Section, Table, requests, sections};
use super::cells::{extent, plain, reason_head, stop_note, threshold_figure};
use super::{Report, Status, ThresholdResult};

/// Rows of the table of requests; a plan with more of them has all below.
const MOST_REQUESTS: usize = 20;
/// Characters that a page may have: a comment on GitHub takes 65,536, and somebody may want to write a sentence before it.
const MOST_CHARACTERS: usize = 60_000;

/// The report as GitHub-flavoured Markdown: what decides first, the rest folded away. Strings of the plan and the target
/// are inert in it: they make no markup, no HTML, no mention and no further cell.
pub fn markdown(report: &Report) -> String {
    let mut page = verdict(report);
    page.push_str(&thresholds(&report.thresholds));
    page.push_str(&first_requests(report));
    let mut left_out = Vec::new();
    for section in sections(report) {
        let details = details(&section);
        if page.chars().count() + details.chars().count() <= MOST_CHARACTERS {
            page.push_str(&details);
        } else {
            left_out.push(escape(&section.title));
        }
    }
    if !left_out.is_empty() {
        page += &format!("\nLeft out, because a comment takes no more: {}.\n", left_out.join(", "));
    }
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
    let table = lines(&["", "threshold", "figure"].map(str::to_owned), 2, rows.collect());
    if table.is_empty() { table } else { format!("\n{table}") }
}

fn first_requests(report: &Report) -> String {
    let mut requests = requests(report);
    let all = requests.rows.len();
    if all > MOST_REQUESTS {
        // The last one is the total.
        requests.rows.drain(MOST_REQUESTS - 1..all - 1);
    }
    let more = match all - requests.rows.len() {
        0 => String::new(),
        more => format!("\n{more} more steps are below.\n"),
    };
    let table = table(&requests);
    if table.is_empty() { table } else { format!("\n{table}{more}") }
}

/// A part that opens at a click. Markdown inside HTML needs blank lines.
fn details(section: &Section) -> String {
    let parts: Vec<String> = section.parts.iter().map(part).collect();
    folded(&escape_html(&section.title), &parts.join("\n"))
}

/// The same of a title that is HTML and a content that is Markdown.
pub(crate) fn folded(title: &str, content: &str) -> String {
    format!("\n<details><summary>{title}</summary>\n\n{content}\n</details>\n")
}

fn part(part: &Part) -> String {
    match part {
        Part::Table(of) => table(of),
        Part::Lines(lines) => lines.iter().map(|line| format!("- {}\n", escape(line))).collect(),
    }
}

fn table(table: &Table) -> String {
    let cells = |row: &Vec<String>| {
        row.iter()
            .enumerate()
            .map(|(index, cell)| if index < table.names { code(cell) } else { escape(cell) })
            .collect::<Vec<_>>()
    };
    lines(&table.header, table.texts, table.rows.iter().map(cells).collect())
}

/// Some columns of text, then figures; nothing where there are no rows. The cells are Markdown already.
pub(crate) fn lines(header: &[String], texts: usize, rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let alignments = (0..header.len()).map(|index| if index < texts { "---" } else { "---:" });
    let lines = [header.join(" | "), alignments.collect::<Vec<_>>().join(" | ")];
    let rows = rows.into_iter().map(|row| row.join(" | "));
    lines.into_iter().chain(rows).map(|line| format!("| {line} |\n")).collect()
}

/// A name as a code span, in which nothing is markup, a mention or a link. A backtick would end the span and a pipe the
/// cell; both are replaced by characters that look alike.
pub(crate) fn code(name: &str) -> String {
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
