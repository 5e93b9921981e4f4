//! A comparison as JUnit XML, which CI servers show as tests: a suite for each request, a case for each figure.
//!
//! There is no standard; this keeps to what the schema of Jenkins' xUnit plugin has (junit-10.xsd).

use std::fmt::Write as _;

use super::comparison::{Comparison, Decision, FigureComparison, RequestComparison};
use crate::report::markup::escaped;

impl Comparison {
    /// As JUnit XML: a regression is a failure, what can't be told is skipped with the advice.
    pub fn junit(&self) -> String {
        let counts = &self.counts;
        let mut page = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned();
        // Writing to a string does not fail.
        let _ = writeln!(
            page,
            "<testsuites name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\">",
            escaped(&format!("groundswell compare {}", self.run.name)),
            counts.total(),
            counts.regression,
            counts.cannot_tell
        );
        self.requests.iter().for_each(|request| page.push_str(&suite(request)));
        page + "</testsuites>\n"
    }
}

fn suite(request: &RequestComparison) -> String {
    let (name, rows) = (escaped(&request.label()), &request.figures);
    let of = |decision| rows.iter().filter(|row| row.decision == decision).count();
    let (failures, skipped) = (of(Decision::Regression), of(Decision::CannotTell));
    let cases: String = rows.iter().map(|row| case(&name, row)).collect();
    let head = format!("tests=\"{}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\"", rows.len());
    format!("  <testsuite name=\"{name}\" {head}>\n{cases}  </testsuite>\n")
}

fn case(request: &str, row: &FigureComparison) -> String {
    let head = format!("    <testcase classname=\"{request}\" name=\"{}\"", row.metric.as_str());
    let line = escaped(&row.line());
    match row.decision {
        Decision::Regression => format!("{head}>\n      <failure message=\"{line}\"/>\n    </testcase>\n"),
        Decision::CannotTell => {
            let advice = escaped(row.advice.as_deref().unwrap_or_default());
            format!("{head}>\n      <skipped message=\"{advice}; {line}\"/>\n    </testcase>\n")
        }
        Decision::Improvement | Decision::NoDifference => {
            format!("{head}>\n      <system-out>{line}</system-out>\n    </testcase>\n")
        }
    }
}
