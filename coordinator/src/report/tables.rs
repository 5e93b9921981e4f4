//! The report as CSV (RFC 4180), for spreadsheets and notebooks.

use super::{Latency, LevelFigures, Report, StepFigures, TimelinePoint};

/// The figures of a latency, in the order of their columns.
type Column = (&'static str, fn(&Latency) -> Option<f64>);

const LATENCY: [Column; 9] = [
    ("min", |latency| latency.min),
    ("mean", |latency| latency.mean),
    ("p50", |latency| latency.p50),
    ("p90", |latency| latency.p90),
    ("p95", |latency| latency.p95),
    ("p99", |latency| latency.p99),
    ("p999", |latency| latency.p999),
    ("p9999", |latency| latency.p9999),
    ("max", |latency| latency.max),
];

/// A kind of latency, with the name of its columns.
type Kind = (&'static str, fn(&StepFigures) -> &Latency);

const KINDS: [Kind; 11] = [
    ("response", |row| &row.response_ms),
    ("response_ok", |row| &row.response_ok_ms),
    ("response_failed", |row| &row.response_failed_ms),
    ("service", |row| &row.service_ms),
    ("send_lag", |row| &row.send_lag_ms),
    ("queue", |row| &row.queue_ms),
    ("dns", |row| &row.dns_ms),
    ("connect", |row| &row.connect_ms),
    ("tls", |row| &row.tls_ms),
    ("first_byte", |row| &row.first_byte_ms),
    ("body", |row| &row.body_ms),
];

/// A row for each step and interval.
pub(super) fn timeline(report: &Report) -> String {
    const COUNTS: [&str; 11] = [
        "t_s",
        "length_s",
        "scenario",
        "level",
        "warm_up",
        "step",
        "issued",
        "ok",
        "errors",
        "errors_by_class",
        "rate_per_s",
    ];
    let latencies = ["response", "service"].into_iter().flat_map(columns);
    let mut table = line(COUNTS.map(str::to_owned).into_iter().chain(latencies));
    for point in &report.timeline {
        let TimelinePoint { t_s, length_s, issued, ok, errors, response_ms, service_ms, .. } = point;
        let rate = if *length_s > 0.0 { *issued as f64 / length_s } else { 0.0 };
        let classes: Vec<String> =
            point.errors_by_class.iter().map(|(class, count)| format!("{class}={count}")).collect();
        let counts = [
            t_s.to_string(),
            length_s.to_string(),
            name(&point.scenario),
            name(point.level.as_deref().unwrap_or_default()),
            point.warm_up.to_string(),
            name(&point.step),
            issued.to_string(),
            ok.to_string(),
            errors.to_string(),
            name(&classes.join(" ")),
            rate.to_string(),
        ];
        table += &line(counts.into_iter().chain([response_ms, service_ms].into_iter().flat_map(figures)));
    }
    table
}

/// A row for each step, the total, and each step at each level of a sweep, with every figure.
pub(super) fn steps(report: &Report) -> String {
    const COUNTS: [&str; 19] = [
        "scenario",
        "level",
        "step",
        "kind",
        "scheduled",
        "issued",
        "ok",
        "errors",
        "unsent",
        "shed",
        "not_generated",
        "rate_per_s",
        "throughput_per_s",
        "error_rate",
        "messages_sent",
        "messages_received",
        "follow_ups",
        "bytes_sent",
        "bytes_received",
    ];
    let latencies = KINDS.iter().flat_map(|(kind, _)| columns(kind));
    let mut table = line(COUNTS.map(str::to_owned).into_iter().chain(latencies));
    for row in report.steps.iter().chain([&report.total]) {
        table += &step(row, "");
    }
    for LevelFigures { level, figures } in &report.levels {
        table += &step(figures, level);
    }
    table
}

fn step(row: &StepFigures, level: &str) -> String {
    let names = [name(&row.scenario), name(level), name(&row.step), name(&row.kind)];
    let counts = [row.scheduled, row.issued, row.ok, row.errors, row.unsent, row.shed, row.not_generated];
    let rates = [row.rate_per_s, row.throughput_per_s, row.error_rate];
    let traffic = [row.messages_sent, row.messages_received, row.follow_ups, row.bytes_sent, row.bytes_received];
    let latencies = KINDS.iter().flat_map(|(_, of)| figures(of(row)));
    let cells = names.into_iter().chain(counts.map(|n| n.to_string())).chain(rates.map(|rate| rate.to_string()));
    line(cells.chain(traffic.map(|n| n.to_string())).chain(latencies))
}

/// The columns of a kind of latency.
fn columns(kind: &str) -> impl Iterator<Item = String> {
    let figures = LATENCY.iter().map(move |(figure, _)| format!("{kind}_{figure}_ms"));
    std::iter::once(format!("{kind}_count")).chain(figures)
}

/// Its cells; a figure is empty where there is no sample.
fn figures(latency: &Latency) -> impl Iterator<Item = String> + '_ {
    let figures = LATENCY.iter().map(|(_, of)| of(latency).map(|ms| ms.to_string()).unwrap_or_default());
    std::iter::once(latency.count.to_string()).chain(figures)
}

/// A name that no spreadsheet takes for a formula: an apostrophe before what begins one (OWASP, CSV injection). A
/// number is never one of ours that begins with a sign, so only names need it.
fn name(name: &str) -> String {
    if name.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) { format!("'{name}") } else { name.to_owned() }
}

/// Quoted where it has to be; lines end as the standard says.
fn line(cells: impl Iterator<Item = String>) -> String {
    let quoted = |cell: String| match cell.contains([',', '"', '\r', '\n']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell,
    };
    cells.map(quoted).collect::<Vec<_>>().join(",") + "\r\n"
}
