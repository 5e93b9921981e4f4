//! The report of a search for people and for scripts.

use std::fmt::Write as _;

use super::{Limit, SearchReport, SearchStep, StepOutcome};
use crate::report::format::{millis, rate};
use crate::report::markdown::escape;

/// Length of the longest bar of the curve.
const BAR: f64 = 48.0;

impl StepOutcome {
    fn word(self) -> &'static str {
        match self {
            StepOutcome::Kept => "kept",
            StepOutcome::Broken => "broken",
            StepOutcome::Generator => "generator",
            StepOutcome::Interrupted => "interrupted",
            StepOutcome::Incomplete => "incomplete",
        }
    }
}

impl SearchStep {
    /// The step in one line.
    pub fn line(&self) -> String {
        let why = self.reasons.first().map_or_else(String::new, |reason| format!(": {reason}"));
        format!("{}  {}  p95 {}{why}", self.label, self.outcome.word(), latency(self.p95_ms))
    }
}

impl SearchReport {
    /// What the command exits with: 0 found a level, 1 no level keeps the thresholds, 3 the generator was the limit or
    /// an agent was lost, 130 interrupted.
    pub fn exit_code(&self) -> u8 {
        match (self.limit, self.level) {
            (Limit::Target | Limit::Range, Some(_)) => 0,
            (Limit::Target | Limit::Range, None) => 1,
            (Limit::Generator | Limit::Incomplete, _) => 3,
            (Limit::Interrupted, _) => 130,
        }
    }

    /// As JSON, indented.
    ///
    /// # Errors
    /// When a figure can't be written, which does not happen for what a search makes.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }

    /// As text.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n\nSteps\n", self.headline());
        let header = ["level", "outcome", "rate", "throughput", "errors", "p50", "p95", "p99"];
        let rows: Vec<[String; 8]> = self.steps.iter().map(cells).collect();
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([header[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..header.len()).map(width).collect();
        for row in std::iter::once(header.map(str::to_owned)).chain(rows.clone()) {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
                1 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            let _ = writeln!(text, "  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
        text.push_str("\nCurve (p95 response time over the level)\n");
        for line in self.curve() {
            let _ = writeln!(text, "  {line}");
        }
        text
    }

    /// As Markdown.
    pub fn markdown(&self) -> String {
        let mark = if self.exit_code() == 0 { "✅" } else { "⚠️" };
        let mut page = format!("### {mark} {}\n\n", escape(&self.headline()));
        page.push_str("| level | outcome | rate | throughput | errors | p50 | p95 | p99 |\n");
        page.push_str("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n");
        for step in &self.steps {
            let _ = writeln!(page, "| {} |", cells(step).map(|cell| escape(&cell)).join(" | "));
        }
        let _ = write!(page, "\n```\n{}\n```\n", self.curve().join("\n"));
        page
    }

    fn headline(&self) -> String {
        let plain = |text: &str| text.chars().filter(|c| !c.is_control()).collect::<String>();
        format!("{}: {}", plain(&self.plan), plain(&self.message))
    }

    /// One bar for each level, the least first, in proportion to the logarithm of p95.
    fn curve(&self) -> Vec<String> {
        let mut steps: Vec<&SearchStep> = self.steps.iter().filter(|step| step.p95_ms.is_some()).collect();
        steps.sort_by(|a, b| a.level.total_cmp(&b.level));
        let values = || steps.iter().filter_map(|step| step.p95_ms).map(|ms| ms.max(1e-3));
        let least = values().fold(f64::INFINITY, f64::min) / 2.0;
        let most = values().fold(0.0, f64::max);
        let label = steps.iter().map(|step| step.label.chars().count()).max().unwrap_or(0);
        let bar = |ms: f64| {
            let part = (ms.max(1e-3) / least).ln() / (most / least).ln();
            "█".repeat((part * BAR).round() as usize)
        };
        let line = |step: &&SearchStep| {
            let ms = step.p95_ms.unwrap_or(0.0);
            format!("{:>label$}  {} {}  {}", step.label, bar(ms), millis(ms), step.outcome.word())
        };
        steps.iter().map(line).collect()
    }
}

fn cells(step: &SearchStep) -> [String; 8] {
    [
        step.label.clone(),
        step.outcome.word().to_owned(),
        rate(step.rate_per_s),
        rate(step.throughput_per_s),
        format!("{:.2} %", step.error_rate * 100.0),
        latency(step.p50_ms),
        latency(step.p95_ms),
        latency(step.p99_ms),
    ]
}

fn latency(ms: Option<f64>) -> String {
    ms.map_or_else(|| "-".to_owned(), millis)
}
