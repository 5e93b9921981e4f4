//! Every format of the report behind one function.

use std::path::Path;

use groundswell_scenario::Plan;

use super::{Distributions, Report, TextOptions, hdr, html, json, junit, markdown, tables, text};

/// Columns of the text in a file.
const TEXT_WIDTH: usize = 140;

/// A format of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// As on a terminal, without colours.
    Text,
    /// For a pull request.
    Markdown,
    /// For scripts; `docs/report.schema.json` describes it.
    Json,
    /// For CI servers: a testcase for the verdict, for each threshold and for the expectations of each step.
    Junit,
    /// A row for each step and interval of the run.
    Csv,
    /// A row for each step, with every figure.
    CsvSteps,
    /// A page with charts.
    Html,
    /// HdrHistogram's interval log, V2: a histogram for each step and interval.
    Hlog,
    /// HdrHistogram's percentile distribution, of all response times.
    Hgrm,
}

/// What a report is rendered from.
#[derive(Debug, Clone, Copy)]
pub struct Rendered<'a> {
    /// The merged answer.
    pub report: &'a Report,
    /// The histograms behind it. Without them there is no [`Format::Hlog`], and [`Format::Html`] lacks the charts that
    /// are made of them.
    pub distributions: Option<&'a Distributions>,
    /// What was to be done, for the rate that open loads wanted; without it, [`Format::Html`] does not show it.
    pub plan: Option<&'a Plan>,
}

/// Why a report has no rendering in a format.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The format consists of the run's histograms.
    #[error(
        "{0} is made of the histograms of the run, and this report has none beside it: it is of a release that kept \
         none, or of a run that never began"
    )]
    NoDistributions(&'static str),
    /// A figure that JSON can't express.
    #[error("the report can't be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A histogram that HdrHistogram's own code does not take, or sums that do not fit.
    #[error("a histogram of the run can't be written: {0}")]
    Histogram(String),
}

/// The report in a format.
///
/// # Errors
/// See [`RenderError`]; of [`Format::Text`], [`Format::Markdown`], [`Format::Junit`] and the two CSVs there are none.
pub fn render(format: Format, of: &Rendered<'_>) -> Result<Vec<u8>, RenderError> {
    let report = of.report;
    let page = match format {
        Format::Text => text(report, &TextOptions { width: TEXT_WIDTH, color: false }),
        Format::Markdown => markdown(report),
        Format::Json => json(report)?,
        Format::Junit => junit::junit(report),
        Format::Csv => tables::timeline(report),
        Format::CsvSteps => tables::steps(report),
        Format::Html => html::page(of)?,
        Format::Hlog => hdr::log(report, of.distributions.ok_or(RenderError::NoDistributions(Format::Hlog.name()))?)?,
        Format::Hgrm => hdr::percentiles(of)?,
    };
    Ok(page.into_bytes())
}

impl Format {
    /// All of them, in the order in which help lists them.
    pub const ALL: [Format; 9] = [
        Format::Text,
        Format::Markdown,
        Format::Json,
        Format::Junit,
        Format::Csv,
        Format::CsvSteps,
        Format::Html,
        Format::Hlog,
        Format::Hgrm,
    ];

    /// The word that people and scripts use for it.
    pub fn name(self) -> &'static str {
        match self {
            Format::Text => "text",
            Format::Markdown => "md",
            Format::Json => "json",
            Format::Junit => "junit",
            Format::Csv => "csv",
            Format::CsvSteps => "csv-steps",
            Format::Html => "html",
            Format::Hlog => "hlog",
            Format::Hgrm => "hgrm",
        }
    }

    /// The ending of its files, without the first dot.
    pub fn ending(self) -> &'static str {
        match self {
            Format::Text => "txt",
            Format::Markdown => "md",
            Format::Json => "json",
            Format::Junit => "xml",
            Format::Csv => "csv",
            Format::CsvSteps => "steps.csv",
            Format::Html => "html",
            Format::Hlog => "hlog",
            Format::Hgrm => "hgrm",
        }
    }

    /// Its media type, for HTTP.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text | Format::Hlog | Format::Hgrm => "text/plain; charset=utf-8",
            Format::Markdown => "text/markdown; charset=utf-8",
            Format::Json => "application/json",
            Format::Junit => "application/xml",
            Format::Csv | Format::CsvSteps => "text/csv; charset=utf-8; header=present",
            Format::Html => "text/html; charset=utf-8",
        }
    }

    /// The format of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Format::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The format that a file's ending asks for: the longest that fits.
    pub fn of_file(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let fits = |format: &Format| name.strip_suffix(format.ending()).is_some_and(|stem| stem.ends_with('.'));
        Format::ALL.into_iter().filter(fits).max_by_key(|format| format.ending().len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn names_and_endings_lead_back_to_their_format() {
        for format in Format::ALL {
            assert_eq!(Format::of_name(format.name()), Some(format));
            let file = format!("folder.d/a.b.{}", format.ending());
            assert_eq!(Format::of_file(Path::new(&file)), Some(format), "{file}");
        }
    }

    #[test]
    fn other_names_and_endings_have_no_format() {
        assert_eq!(Format::of_name("JSON"), None);
        for file in ["report", "json", "report.yaml", "report.json.gz", ".."] {
            assert_eq!(Format::of_file(Path::new(file)), None, "{file}");
        }
    }
}
