//! The parts of a report that stand below its first screen, as tables and sentences; Markdown and HTML lay them out.

use super::sockets::{
    BROADCAST_HEADER, CLOSING_HEADER, CONNECTION_HEADER, DELIVERY_HEADER, RECOVERY_HEADER, TRAFFIC_HEADER,
    broadcast_cells, broadcast_notes, closing_cells, connection_cells, delivery_cells, recovery_cells, traffic_cells,
};
use super::{
    agent_cells, errors, label, latency, ledger_lines, level_cells, levels_by_scenario, plain, provenance, seconds,
    step_rows,
};
use crate::report::explain::classes;
use crate::report::format::{count, rate};
use crate::report::{Report, StepFigures};

/// A part with its title; strings of plans and targets are without control characters, but not yet escaped.
pub(in crate::report) struct Section {
    pub(in crate::report) title: String,
    /// The scenario whose levels it shows, as the plan names it.
    pub(in crate::report) levels_of: Option<String>,
    pub(in crate::report) parts: Vec<Part>,
}

pub(in crate::report) enum Part {
    Table(Table),
    Lines(Vec<String>),
}

/// First names, then text, then figures.
pub(in crate::report) struct Table {
    /// Of each column, without line breaks.
    pub(in crate::report) header: Vec<String>,
    /// Columns of names that plans, targets or agents chose.
    pub(in crate::report) names: usize,
    /// Columns of text, names among them.
    pub(in crate::report) texts: usize,
    pub(in crate::report) rows: Vec<Vec<String>>,
}

impl Table {
    pub(in crate::report) fn new(header: &[&str], names: usize, texts: usize, rows: Vec<Vec<String>>) -> Self {
        // A line break in a header is for the narrow columns of a terminal.
        let header = header.iter().map(|name| name.trim_start().replace('\n', " ")).collect();
        Table { header, names, texts, rows }
    }

    fn of(header: &[&str], names: usize, rows: impl Iterator<Item = Vec<String>>) -> Part {
        Part::Table(Table::new(header, names, names, rows.collect()))
    }
}

impl Part {
    fn is_empty(&self) -> bool {
        match self {
            Part::Table(table) => table.rows.is_empty(),
            Part::Lines(lines) => lines.is_empty(),
        }
    }
}

/// What a reader looks at first: a row for each request, with few columns, and the total.
pub(in crate::report) fn requests(report: &Report) -> Table {
    let row = |row: &StepFigures| {
        let response = &row.response_ms;
        let counts = [label(row), count(row.issued), rate(row.rate_per_s), errors(row)];
        let times = [response.p50, response.p95, response.p99, response.max].map(latency);
        counts.into_iter().chain(times).collect()
    };
    let rows = step_rows(report).into_iter().map(row).collect();
    Table::new(&["step", "issued", "rate", "errors", "p50", "p95", "p99", "max"], 1, 1, rows)
}

/// Everything below the first screen; parts and sections without content are left out.
pub(in crate::report) fn sections(report: &Report) -> Vec<Section> {
    let mut sections = vec![section("All figures of the steps", vec![steps(report)])];
    sections.extend(levels(report));
    sections.extend([
        section("WebSocket connections", connections(report)),
        section("Broadcasts", broadcasts(report)),
        section("Errors", vec![error_classes(report)]),
        section("Agents", vec![agents(report)]),
        section("What happened to them", vec![marks(report)]),
        section("Ledger", vec![Part::Lines(ledger_lines(&report.ledger)), Part::Lines(vec![provenance(&report.run)])]),
        section("Warnings", vec![warnings(report)]),
    ]);
    sections.retain(|section| !section.parts.is_empty());
    sections
}

fn section(title: &str, mut parts: Vec<Part>) -> Section {
    parts.retain(|part| !part.is_empty());
    Section { title: title.to_owned(), levels_of: None, parts }
}

fn steps(report: &Report) -> Part {
    const HEADER: [&str; 14] = [
        "step",
        "issued",
        "ok",
        "errors",
        "min",
        "mean",
        "p50",
        "p90",
        "p95",
        "p99",
        "p99.9",
        "max",
        "service p50",
        "service p99",
    ];
    let row = |row: &StepFigures| {
        let (response, service) = (&row.response_ms, &row.service_ms);
        let figures = [
            response.min,
            response.mean,
            response.p50,
            response.p90,
            response.p95,
            response.p99,
            response.p999,
            response.max,
            service.p50,
            service.p99,
        ];
        let counts = [label(row), count(row.issued), count(row.ok), errors(row)];
        counts.into_iter().chain(figures.map(latency)).collect()
    };
    Table::of(&HEADER, 1, step_rows(report).into_iter().map(row))
}

fn levels(report: &Report) -> impl Iterator<Item = Section> + '_ {
    levels_by_scenario(&report.levels).into_iter().map(|(scenario, rows)| {
        let header = ["level", "step", "throughput", "p50", "p95", "p99", "errors"];
        let table = Table::of(&header, 2, rows.into_iter().map(level_cells));
        let bends = report.bends.iter().filter(|bend| bend.scenario == scenario);
        let bends = bends.map(|bend| plain(&bend.message)).collect();
        let levels_of = Some(scenario.to_owned());
        Section { levels_of, ..section(&format!("Levels of {}", plain(scenario)), vec![table, Part::Lines(bends)]) }
    })
}

fn connections(report: &Report) -> Vec<Part> {
    let rows = || report.connections.iter();
    let closings = rows().flat_map(closing_cells).collect();
    vec![
        Table::of(&CONNECTION_HEADER, 1, rows().map(connection_cells)),
        Table::of(&TRAFFIC_HEADER, 1, rows().map(traffic_cells)),
        Part::Table(Table::new(&CLOSING_HEADER, 1, 3, closings)),
        Table::of(&RECOVERY_HEADER, 2, rows().flat_map(recovery_cells)),
    ]
}

fn broadcasts(report: &Report) -> Vec<Part> {
    let rows = || report.broadcasts.iter();
    vec![
        Table::of(&BROADCAST_HEADER, 1, rows().map(broadcast_cells)),
        Table::of(&DELIVERY_HEADER, 1, rows().filter_map(delivery_cells)),
        Part::Lines(rows().flat_map(broadcast_notes).collect()),
    ]
}

fn error_classes(report: &Report) -> Part {
    let rows = classes(report)
        .into_iter()
        .map(|class| vec![plain(class.class), class.steps.join(", "), plain(class.explanation), count(class.count)]);
    Part::Table(Table::new(&["class", "steps", "explanation", "count"], 2, 3, rows.collect()))
}

fn agents(report: &Report) -> Part {
    let rows = report.agents.iter().map(|agent| {
        let lost_at = agent.lost_at_s.map_or_else(|| "-".to_owned(), seconds);
        agent_cells(agent).into_iter().chain([lost_at]).collect()
    });
    let header = ["agent", "share", "issued", "errors", "send lag p99", "CPU", "clock bound", "lost at"];
    Table::of(&header, 1, rows)
}

fn marks(report: &Report) -> Part {
    let line = |mark: &crate::report::MarkFigures| format!("{}: {}", seconds(mark.t_s), plain(&mark.text));
    Part::Lines(report.marks.iter().map(line).collect())
}

fn warnings(report: &Report) -> Part {
    let line = |warning: &crate::report::Reason| format!("{}: {}", plain(&warning.code), plain(&warning.message));
    Part::Lines(report.warnings.iter().map(line).collect())
}
