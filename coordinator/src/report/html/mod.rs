//! The report as a page: one file that opens from disk, asks no host for anything and has no script.
//!
//! # Layout
//! - this file: the page and its tables
//! - `charts.rs`: which charts there are; `chart.rs`, `heatmap.rs`: lines and heat maps as SVG
//! - `series.rs`: figures over time; `scale.rs`: axes
//! - `style.css`: light, dark, on a phone and on paper

mod chart;
mod charts;
mod heatmap;
mod scale;
mod series;

use super::cells::sections::{Part, Section, Table, requests, sections};
use super::cells::{plain, reason_head, stop_note, summary, threshold_figure};
use super::markup::escaped;
use super::{RenderError, Rendered, Report, Status};

const STYLE: &str = include_str!("style.css");

/// Nothing but the style that is in the page itself.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// The whole page.
pub(super) fn page(of: &Rendered<'_>) -> Result<String, RenderError> {
    let report = of.report;
    let title = escaped(&format!("{} {}", report.verdict.status.as_str(), report.run.name));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
    );
    page += &header(report);
    page += &thresholds(report);
    page += &headed("Requests", &table(&requests(report)));
    page += &headed("Charts", &(charts::of_run(of)? + &notes(of)));
    page += &headed("Each step over time", &charts::of_steps(of)?);
    for (index, section) in sections(report).iter().enumerate() {
        let charts = section.levels_of.as_ref().map(|scenario| charts::of_levels(report, scenario, index));
        page += &headed(&section.title, &(charts.unwrap_or_default() + &parts(section)));
    }
    Ok(page + "</body>\n</html>\n")
}

/// The verdict with its reasons.
fn header(report: &Report) -> String {
    let status = report.verdict.status;
    let class = match status {
        Status::Passed => "good",
        Status::Failed | Status::Invalid => "bad",
        Status::Degraded | Status::Aborted => "middling",
    };
    let reasons = report.verdict.reasons.iter().map(|reason| {
        format!("<li><b>{}</b>: {}</li>", escaped(&reason_head(reason)), escaped(&plain(&reason.message)))
    });
    format!(
        "<header>\n<h1><span class=\"verdict {class}\">{}</span> {}</h1>\n<p>{}</p>\n<ul>{}</ul>\n</header>\n",
        status.as_str(),
        escaped(&plain(&report.run.name)),
        escaped(&summary(report)),
        reasons.collect::<String>()
    )
}

fn thresholds(report: &Report) -> String {
    let rows = report.thresholds.iter().map(|threshold| {
        let (class, outcome) = if threshold.passed { ("good", "✓ ok") } else { ("bad", "✗ BROKEN") };
        format!(
            "<tr><td class=\"{class}\">{outcome}{}</td><th>{}</th><td>{}</td></tr>\n",
            stop_note(threshold),
            escaped(&plain(&threshold.text)),
            escaped(&threshold_figure(threshold))
        )
    });
    let rows: String = rows.collect();
    let head = "<tr><th></th><th class=\"text\">threshold</th><th>figure</th></tr>\n";
    headed("Thresholds", &if rows.is_empty() { rows } else { scrolling(&format!("<table>{head}{rows}</table>")) })
}

/// What has to be known to read the charts.
fn notes(of: &Rendered<'_>) -> String {
    let mut notes = Vec::new();
    if of.distributions.is_none() {
        notes.push("Charts of the latency over time are left out: the run's histograms are not beside this report.");
    }
    if !of.report.marks.is_empty() {
        notes.push("Numbers above a chart are the lines of “What happened to them”, in their order.");
    }
    if of.report.ledger.warm_up > 0 {
        notes.push("Throughput shows the warm-up too; everything else is without it.");
    }
    notes.iter().map(|note| format!("<p class=\"note\">{note}</p>\n")).collect()
}

/// A part of the page; nothing where it has no content.
fn headed(title: &str, content: &str) -> String {
    if content.is_empty() {
        return String::new();
    }
    format!("<section>\n<h2>{}</h2>\n{content}</section>\n", escaped(title))
}

fn parts(section: &Section) -> String {
    section.parts.iter().map(part).collect()
}

fn part(part: &Part) -> String {
    match part {
        Part::Table(of) => table(of),
        Part::Lines(lines) => {
            let items: String = lines.iter().map(|line| format!("<li>{}</li>", escaped(line))).collect();
            format!("<ul>{items}</ul>\n")
        }
    }
}

fn table(table: &Table) -> String {
    if table.rows.is_empty() {
        return String::new();
    }
    let head = |(index, name): (usize, &String)| {
        let class = if index < table.texts { " class=\"text\"" } else { "" };
        format!("<th{class}>{}</th>", escaped(name))
    };
    let header: String = table.header.iter().enumerate().map(head).collect();
    let cell = |(index, cell): (usize, &String)| match index {
        0 => format!("<th>{}</th>", escaped(cell)),
        text if text < table.texts => format!("<td class=\"text\">{}</td>", escaped(cell)),
        _ => format!("<td>{}</td>", escaped(cell)),
    };
    let row = |row: &Vec<String>| format!("<tr>{}</tr>\n", row.iter().enumerate().map(cell).collect::<String>());
    let rows: String = table.rows.iter().map(row).collect();
    scrolling(&format!("<table><tr>{header}</tr>\n{rows}</table>"))
}

/// What is wider than a phone scrolls by itself.
fn scrolling(content: &str) -> String {
    format!("<div class=\"scroll\">{content}</div>\n")
}
