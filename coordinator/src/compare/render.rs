//! A comparison for people: as text, and as Markdown for a pull request.

use comfy_table::{CellAlignment, ColumnConstraint, Table, presets};

use super::comparison::{
    ComparedRun, Comparison, Decision, FigureComparison, Interval, Metric, RequestComparison, Unmatched,
};
use crate::report::Format;
use crate::report::cells::{percent, plain};
use crate::report::format::{millis, rate};
use crate::report::markdown::{code, escape, folded, lines};

const HEADER: [&str; 8] = ["", "request", "figure", "baseline", "run", "difference", "interval", "tolerance"];
/// Columns of text before those of figures.
const TEXTS: usize = 3;

impl Comparison {
    /// What it can be written as.
    pub const FORMATS: [Format; 4] = [Format::Text, Format::Markdown, Format::Json, Format::Junit];

    /// In one of [`Comparison::FORMATS`]; as text in any other.
    ///
    /// # Errors
    /// As of [`Comparison::json`].
    pub fn render(&self, format: Format) -> Result<String, serde_json::Error> {
        Ok(match format {
            Format::Markdown => self.markdown(),
            Format::Json => self.json()?,
            Format::Junit => self.junit(),
            _ => self.text(),
        })
    }

    /// As text.
    pub fn text(&self) -> String {
        let mut text = format!("{}  {}\n", word(self.decision).to_uppercase(), self.headline());
        text += &format!("  run       {}\n", plain(&run_line(&self.run)));
        for baseline in &self.baselines {
            text += &format!("  baseline  {}\n", plain(&run_line(baseline)));
        }
        let rows: Vec<Vec<String>> = self.rows().into_iter().map(|(request, row)| cells(request, row)).collect();
        if !rows.is_empty() {
            text += &format!("\n{}\n", grid(rows));
        }
        text += &section("Can't tell", self.advice());
        text += &section("Not in every run", self.unmatched.iter().map(Unmatched::line).collect());
        text += &section("Notes", self.notes.clone());
        text
    }

    /// As GitHub-flavoured Markdown: what to act on first, the rest folded away. Strings of the plan are inert in it.
    pub fn markdown(&self) -> String {
        let mark = match self.decision {
            Decision::Regression => "❌",
            Decision::CannotTell => "⚠️",
            Decision::Improvement | Decision::NoDifference => "✅",
        };
        let mut page = format!("### {mark} {} {}\n\n", word(self.decision).to_uppercase(), code(&self.run.name));
        page += &format!("{}\n", escape(&self.headline()));
        let notes: String = self.notes.iter().map(|note| format!("- {}\n", escape(note))).collect();
        page += &if notes.is_empty() { notes } else { format!("\n{notes}") };
        let moved = |row: &FigureComparison| matches!(row.decision, Decision::Regression | Decision::Improvement);
        let (first, rest): (Vec<_>, Vec<_>) = self.rows().into_iter().partition(|(_, row)| moved(row));
        let first = markdown_table(&first);
        page += &if first.is_empty() { first } else { format!("\n{first}") };
        page += &section_of("Other figures", &markdown_table(&rest));
        page += &section_of("What would tell", &markdown_list(&self.advice()));
        let unmatched: Vec<String> = self.unmatched.iter().map(Unmatched::line).collect();
        page += &section_of("Not in every run", &markdown_list(&unmatched));
        let runs = self.baselines.iter().map(|run| format!("baseline {}", run_line(run)));
        let runs: Vec<String> = std::iter::once(format!("run {}", run_line(&self.run))).chain(runs).collect();
        page + &section_of("Runs", &markdown_list(&runs))
    }

    /// One sentence.
    pub(super) fn headline(&self) -> String {
        let counts = &self.counts;
        let figures = match counts.total() {
            0 => return "nothing could be compared: no request is in every run".to_owned(),
            total => format!("of {total} figures"),
        };
        let parts = [
            (counts.regression, "worse"),
            (counts.improvement, "better"),
            (counts.no_difference, "within the tolerance"),
            (counts.cannot_tell, "not to be told"),
        ];
        let parts = parts.iter().filter(|(count, _)| *count > 0).enumerate();
        let parts = parts.map(|(index, (count, what))| match index {
            0 => format!("{count} {figures} {what}"),
            _ => format!("{count} {what}"),
        });
        parts.collect::<Vec<_>>().join(", ")
    }

    /// Every figure, what matters most first.
    fn rows(&self) -> Vec<(&RequestComparison, &FigureComparison)> {
        let rows = self.requests.iter().flat_map(|request| request.figures.iter().map(move |row| (request, row)));
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|(_, row)| row.decision);
        rows
    }

    /// What to do about figures that can't be told, those of one advice together.
    fn advice(&self) -> Vec<String> {
        let mut advice: Vec<(&str, Vec<String>)> = Vec::new();
        for (request, row) in self.rows() {
            let Some(text) = row.advice.as_deref() else { continue };
            let name = format!("{} {}", request.label(), row.metric.as_str());
            match advice.iter_mut().find(|(known, _)| *known == text) {
                Some((_, names)) => names.push(name),
                None => advice.push((text, vec![name])),
            }
        }
        advice.into_iter().map(|(text, names)| format!("{}: {text}", names.join(", "))).collect()
    }
}

impl RequestComparison {
    /// `scenario/step`, with the level of a sweep.
    pub(super) fn label(&self) -> String {
        label(&self.scenario, self.level.as_deref(), &self.step)
    }
}

impl Unmatched {
    fn line(&self) -> String {
        let name = label(&self.scenario, self.level.as_deref(), &self.step);
        format!("{name} is not in {}", self.missing_in.join(", "))
    }
}

fn label(scenario: &str, level: Option<&str>, step: &str) -> String {
    let level = level.map_or_else(String::new, |level| format!(" at {level}"));
    plain(&format!("{scenario}/{step}{level}"))
}

fn word(decision: Decision) -> &'static str {
    match decision {
        Decision::CannotTell => "no regression found, but not everything can be told",
        Decision::Improvement => "no regression, and an improvement",
        Decision::NoDifference => "no regression",
        Decision::Regression => "regression",
    }
}

fn run_line(run: &ComparedRun) -> String {
    let started = run.started_at.as_deref().unwrap_or("never");
    let verdict = run.verdict.as_str();
    format!("{}, started {started}, {:.1} s, {verdict}, against {}", run.id, run.duration_s, run.target)
}

fn cells(request: &RequestComparison, row: &FigureComparison) -> Vec<String> {
    let mark = match row.decision {
        Decision::Regression => "✗ ",
        Decision::Improvement => "✓ ",
        Decision::CannotTell => "? ",
        Decision::NoDifference => "  ",
    };
    let in_unit = |figure: Option<f64>| figure.map_or_else(|| "-".to_owned(), |figure| row.in_unit(figure));
    vec![
        format!("{mark}{}", row.decision.as_str()),
        request.label(),
        row.metric.as_str().to_owned(),
        in_unit(row.baseline),
        in_unit(row.run),
        row.difference.map_or_else(|| "-".to_owned(), |difference| row.moved(difference)),
        row.range(row.interval),
        row.margin(),
    ]
}

impl FigureComparison {
    fn in_unit(&self, figure: f64) -> String {
        match self.metric {
            Metric::Throughput => rate(figure),
            Metric::ErrorRate => percent(figure),
            _ => millis(figure),
        }
    }

    /// A difference as a part of the baseline, or in percentage points.
    fn moved(&self, difference: f64) -> String {
        match (self.metric, self.baseline) {
            (Metric::ErrorRate, _) => format!("{:+.2} points", difference * 100.0),
            (_, Some(baseline)) if baseline > 0.0 => format!("{:+.1} %", difference / baseline * 100.0),
            _ => "-".to_owned(),
        }
    }

    fn range(&self, range: Option<Interval>) -> String {
        let range = range.map(|Interval { low, high }| format!("{} to {}", self.moved(low), self.moved(high)));
        range.unwrap_or_else(|| "-".to_owned())
    }

    /// The tolerance, which is as wide on both sides.
    fn margin(&self) -> String {
        let margin = self.tolerance.map(|Interval { high, .. }| self.moved(high).replacen('+', "±", 1));
        margin.unwrap_or_else(|| "-".to_owned())
    }

    /// The row in one line.
    pub(super) fn line(&self) -> String {
        let in_unit =
            |figure: Option<f64>| figure.map_or_else(|| "no figure".to_owned(), |figure| self.in_unit(figure));
        let moved = self.difference.map_or_else(|| "-".to_owned(), |difference| self.moved(difference));
        let (before, after) = (in_unit(self.baseline), in_unit(self.run));
        let (interval, tolerance) = (self.range(self.interval), self.margin());
        format!("{before} before, {after} now: {moved}, interval {interval}, tolerance {tolerance}")
    }
}

fn grid(rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(HEADER).add_rows(rows);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2)).set_constraint(ColumnConstraint::ContentWidth);
        if index >= TEXTS {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| format!("  {}", line.trim_end())).collect::<Vec<_>>().join("\n")
}

fn section(title: &str, lines: Vec<String>) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let lines: String = lines.iter().map(|line| format!("  {}\n", plain(line))).collect();
    format!("\n{title}\n{lines}")
}

fn markdown_table(rows: &[(&RequestComparison, &FigureComparison)]) -> String {
    let escaped = |(index, cell): (usize, String)| if index == 1 { code(&cell) } else { escape(cell.trim_start()) };
    let rows = rows.iter().map(|(request, row)| cells(request, row).into_iter().enumerate().map(escaped).collect());
    lines(&HEADER.map(str::to_owned), TEXTS, rows.collect())
}

/// A part of the Markdown that opens at a click; nothing where it is empty.
fn section_of(title: &str, content: &str) -> String {
    if content.is_empty() { String::new() } else { folded(title, content) }
}

fn markdown_list(lines: &[String]) -> String {
    lines.iter().map(|line| format!("- {}\n", escape(line))).collect()
}
