//! Which charts a report has.

use std::collections::BTreeMap;

use groundswell_scenario::Scenario;

use super::chart::{Axis, COLORS, Chart, Line, greatest};
use super::heatmap;
use super::scale::Scale;
use super::series::{Grid, measured, milliseconds, percentiles, seconds_of_the_run};
use crate::report::cells::{label, levels_by_scenario};
use crate::report::format::rate;
use crate::report::{
    Distributions, LevelFigures, LoadPoint, RenderError, Rendered, Report, StepDistributions, StepFigures,
    TimelinePoint, hdr,
};

/// Most points of a line: more can't be told apart.
const MOST_POINTS: usize = 180;
/// The same in the charts of single steps, of which there are many.
const MOST_POINTS_OF_A_STEP: usize = 90;
/// Steps that get charts of their own.
const MOST_STEPS: usize = 24;

/// A place for charts side by side.
pub(super) fn grid_of(figures: &[String]) -> String {
    let figures = figures.concat();
    if figures.is_empty() { figures } else { format!("<div class=\"charts\">{figures}</div>\n") }
}

/// The charts of the run as a whole, and the throughput of each scenario where there are several.
pub(super) fn of_run(of: &Rendered<'_>) -> Result<String, RenderError> {
    let report = of.report;
    let grid = Grid::of(report, MOST_POINTS);
    let mut figures = vec![throughput(of, &grid, "throughput", None)];
    if let Some(distributions) = of.distributions {
        let columns = grid.distributions(measured(distributions))?;
        let title = "Response time";
        figures.push(latencies(report, &grid, title, percentiles(&grid, &columns)).figure("percentiles"));
        figures.push(heatmap::figure_of("heat", "Response time, every operation", &grid, &columns));
    }
    figures.push(errors(report, &grid).figure("errors"));
    figures.push(distribution(of)?.figure("distribution"));
    figures.push(load(report, &grid).figure("load"));
    figures.push(connections(report).figure("connections"));
    if report.run.scenarios.len() > 1 {
        let of_scenario =
            |(index, scenario): (usize, &String)| throughput(of, &grid, &format!("throughput-{index}"), Some(scenario));
        figures.extend(report.run.scenarios.iter().enumerate().map(of_scenario));
    }
    Ok(grid_of(&figures))
}

/// A fold for each step with its latency over time; nothing without histograms.
pub(super) fn of_steps(of: &Rendered<'_>) -> Result<String, RenderError> {
    let Some(distributions) = of.distributions else { return Ok(String::new()) };
    let grid = Grid::of(of.report, MOST_POINTS_OF_A_STEP);
    let mut folds = String::new();
    for (index, step) in of.report.steps.iter().take(MOST_STEPS).enumerate() {
        let of_step = |other: &&StepDistributions| (&other.scenario, &other.step) == (&step.scenario, &step.step);
        let columns = grid.distributions(measured(distributions).filter(of_step))?;
        let lines = percentiles(&grid, &columns);
        let figures = [
            latencies(of.report, &grid, "Response time", lines).figure(&format!("step-{index}")),
            heatmap::figure_of(&format!("heat-{index}"), "Every operation", &grid, &columns),
        ];
        let charts = grid_of(&figures);
        if !charts.is_empty() {
            let name = crate::report::markup::escaped(&label(step));
            folds += &format!("<details><summary>{name}</summary>{charts}</details>\n");
        }
    }
    Ok(folds)
}

/// Throughput and p95 of each scenario's levels.
pub(super) fn of_levels(report: &Report, scenario: &str, id: usize) -> String {
    let levels = levels_by_scenario(&report.levels);
    let Some((_, rows)) = levels.into_iter().find(|(name, _)| *name == scenario) else { return String::new() };
    let mut words: Vec<String> = Vec::new();
    for row in &rows {
        if !words.contains(&row.level) {
            words.push(row.level.clone());
        }
    }
    let places: Vec<(f64, String)> = words.iter().enumerate().map(|(at, word)| (at as f64, word.clone())).collect();
    let chart = |title: &str, show, of: fn(&StepFigures) -> Option<f64>| {
        let lines = level_lines(&rows, &places, of);
        Chart {
            title: title.to_owned(),
            x: Axis {
                name: "level",
                scale: Scale::from_zero(places.len().saturating_sub(1) as f64),
                show: |_| String::new(),
            },
            y: Axis { name: "figure", scale: Scale::from_zero(greatest(&lines)), show },
            lines,
            marks: Vec::new(),
            words: places.clone(),
            table: true,
        }
    };
    let throughput = chart("Throughput by level", rate, |figures| Some(figures.throughput_per_s));
    let p95 = chart("p95 of the response time by level", milliseconds, |figures| figures.response_ms.p95);
    grid_of(&[throughput.figure(&format!("level-{id}")), p95.figure(&format!("level-p95-{id}"))])
}

/// A line for each step.
fn level_lines(rows: &[&LevelFigures], places: &[(f64, String)], of: fn(&StepFigures) -> Option<f64>) -> Vec<Line> {
    let mut steps: Vec<&str> = Vec::new();
    for row in rows {
        if !steps.contains(&row.figures.step.as_str()) {
            steps.push(&row.figures.step);
        }
    }
    let line = |step: &&str| {
        let value = |level: &String| {
            rows.iter().find(|row| row.level == *level && row.figures.step == **step).and_then(|row| of(&row.figures))
        };
        Line::new(step, places.iter().map(|(at, level)| (*at, value(level))).collect())
    };
    steps.iter().take(COLORS).map(line).collect()
}

/// Operations a second: wanted, issued and ended well.
fn throughput(of: &Rendered<'_>, grid: &Grid, id: &str, scenario: Option<&String>) -> String {
    let points = || of.report.timeline.iter().filter(|point| scenario.is_none_or(|name| point.scenario == *name));
    let rate_of = |name, figure: fn(&TimelinePoint) -> u64| Line::new(name, grid.rate(points(), figure));
    let mut lines = vec![rate_of("issued", |point| point.issued), rate_of("ended well", |point| point.ok)];
    let is_meant = |of: &Scenario| scenario.is_none_or(|name| of.name == *name);
    if let Some(wanted) = of.plan.and_then(|plan| grid.wanted(plan, is_meant)) {
        lines.push(Line { dashed: true, ..Line::new("wanted", wanted) });
    }
    let title = scenario.map_or_else(|| "Throughput".to_owned(), |name| format!("Throughput of {name}"));
    over_time(of.report, grid, &title, "operations a second", rate, lines).figure(id)
}

/// A line for each class of failures, the most frequent first.
fn errors(report: &Report, grid: &Grid) -> Chart {
    let measured = || report.timeline.iter().filter(|point| !point.warm_up);
    let mut classes: BTreeMap<&str, u64> = BTreeMap::new();
    for (class, count) in measured().flat_map(|point| &point.errors_by_class) {
        *classes.entry(class).or_default() += count;
    }
    let mut classes: Vec<(&str, u64)> = classes.into_iter().collect();
    classes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let lines = classes.iter().take(COLORS).map(|(class, _)| {
        let of_class = |point: &TimelinePoint| point.errors_by_class.get(*class).copied().unwrap_or(0);
        Line::new(class, grid.rate(measured(), of_class))
    });
    over_time(report, grid, "Errors by class", "errors a second", rate, lines.collect())
}

/// Users at work, and operations in flight.
fn load(report: &Report, grid: &Grid) -> Chart {
    let of = |figure: fn(&LoadPoint) -> f64| grid.mean(report.load.iter().map(|point| (point.t_s, figure(point))));
    let lines = vec![
        Line::new("users at work", of(|point| point.users)),
        Line::new("operations in flight", of(|point| point.in_flight as f64)),
    ];
    let show = |count: f64| crate::report::format::count(count.round() as u64);
    over_time(report, grid, "Load", "users and operations", show, lines)
}

fn latencies(report: &Report, grid: &Grid, title: &str, lines: Vec<Line>) -> Chart {
    over_time(report, grid, title, "response time", milliseconds, lines)
}

fn over_time(
    report: &Report,
    grid: &Grid,
    title: &str,
    name: &'static str,
    show: fn(f64) -> String,
    lines: Vec<Line>,
) -> Chart {
    Chart {
        title: title.to_owned(),
        x: seconds_of_the_run(grid),
        y: Axis { name, scale: Scale::from_zero(greatest(&lines) * 1.05), show },
        lines,
        marks: report.marks.iter().map(|mark| mark.t_s).collect(),
        words: Vec::new(),
        table: true,
    }
}

/// Connections open over time, a line for each WebSocket step.
fn connections(report: &Report) -> Chart {
    let grid = Grid::of(report, MOST_POINTS);
    let line = |row: &crate::report::ConnectionFigures| {
        let points = row.open.iter().map(|point| (point.t_s, Some(point.open as f64))).collect();
        Line::new(&format!("{}/{}", row.scenario, row.step), points)
    };
    let lines = report.connections.iter().take(COLORS).map(line).collect();
    let show = |open: f64| crate::report::format::count(open as u64);
    // Their points lie at the intervals of each step, so a table can't hold them side by side.
    Chart { table: false, ..over_time(report, &grid, "WebSocket connections open", "connections", show, lines) }
}

/// Response times by percentile, as HdrHistogram's plots have them: each nine takes the same room.
fn distribution(of: &Rendered<'_>) -> Result<Chart, RenderError> {
    let report = of.report;
    let mut lines = Vec::new();
    if report.steps.len() > 1 {
        let rows = report.steps.iter().take(COLORS - 2);
        lines.extend(rows.filter_map(|row| quantile_line(&label(row), row)));
    }
    lines.extend(quantile_line("all", &report.total));
    if let Some(distributions) = of.distributions {
        lines.extend(service_line(distributions)?);
    }
    let most = lines.iter().flat_map(|line| &line.points).map(|(at, _)| *at).fold(10.0, f64::max);
    Ok(Chart {
        title: "Response time by percentile".to_owned(),
        x: Axis { name: "percentile", scale: Scale::logarithmic(1.0, most), show: percentile },
        y: Axis { name: "response time", scale: Scale::from_zero(greatest(&lines) * 1.05), show: milliseconds },
        lines,
        marks: Vec::new(),
        words: Vec::new(),
        table: false,
    })
}

/// A histogram that can't be read makes no line; the tables have its figures.
fn quantile_line(name: &str, row: &StepFigures) -> Option<Line> {
    let histogram = hdr::histogram(&row.response_histogram).ok().filter(|histogram| !histogram.is_empty())?;
    Some(Line::new(name, quantile_points(&histogram)))
}

/// What the target took once asked, beside what its callers waited.
fn service_line(distributions: &Distributions) -> Result<Option<Line>, RenderError> {
    let overflow = |error: groundswell_stats::Overflow| RenderError::Histogram(error.to_string());
    let all = groundswell_stats::Distribution::of(measured(distributions).map(|step| &step.service));
    let all = all.map_err(overflow)?;
    let line = Line { dashed: true, ..Line::new("all, service time", quantile_points(&all.histogram())) };
    Ok((all.count() > 0).then_some(line))
}

fn quantile_points(histogram: &hdrhistogram::Histogram<u64>) -> Vec<(f64, Option<f64>)> {
    let last = histogram.len() as f64;
    let point = |step: hdrhistogram::iterators::IterationValue<u64>| {
        let rest = 1.0 - step.quantile_iterated_to();
        // The greatest value has no rest; it stands where one operation is all of it.
        let at = if rest * last > 1.0 { 1.0 / rest } else { last };
        (at, Some(step.value_iterated_to() as f64 / 1e3))
    };
    histogram.iter_quantiles(2).map(point).collect()
}

/// The percentile at 1/(1 - q).
fn percentile(inverse: f64) -> String {
    let percent = 100.0 * (1.0 - 1.0 / inverse);
    let text = format!("{percent:.6}");
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}
