//! The report for CI servers: JUnit's XML, as Ant's JUnitReport task writes it and Jenkins reads it.
//!
//! It fits both schemas in use, Windy Road's (the stricter: which attributes there must be, and in which order elements
//! come) and that of Jenkins' xUnit plugin.

use super::cells::{reason_head, stop_note, threshold_figure};
use super::format::count;
use super::markup::escaped;
use super::{Report, Status, StepFigures, TextOptions, text};

/// When a suite began whose load never started: the schema wants a time.
const NEVER: &str = "1970-01-01T00:00:00";

/// How a testcase ended.
enum Ending {
    Passed,
    Skipped,
    /// What was tested does not hold: kind and message.
    Failure(String, String),
    /// It could not be tested: kind and message.
    Error(String, String),
}

struct Case {
    name: String,
    time_s: f64,
    ending: Ending,
}

/// The report as JUnit XML: a suite for the plan with its verdict and thresholds, and one for each scenario with the
/// expectations of its steps.
pub(super) fn junit(report: &Report) -> String {
    let name = named(&report.run.name);
    let mut suites = vec![suite(report, 0, &name, &plan_cases(report), true)];
    for (index, scenario) in report.run.scenarios.iter().enumerate() {
        let cases: Vec<Case> = report
            .steps
            .iter()
            .filter(|step| step.scenario == *scenario)
            .map(|step| Case {
                name: named(&step.step),
                time_s: step.response_ms.mean.unwrap_or_default() / 1e3,
                ending: expectations(report, step),
            })
            .collect();
        suites.push(suite(report, index + 1, &format!("{name}.{}", named(scenario)), &cases, false));
    }
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n{}</testsuites>\n", suites.concat())
}

/// The verdict, then the thresholds.
fn plan_cases(report: &Report) -> Vec<Case> {
    let verdict = Case { name: "verdict".to_owned(), time_s: report.run.duration_s, ending: verdict(report) };
    let thresholds = report.thresholds.iter().map(|threshold| Case {
        name: named(&threshold.text),
        time_s: 0.0,
        ending: match threshold.passed {
            true => Ending::Passed,
            false => Ending::Failure(
                "threshold".to_owned(),
                format!("it was {}{}", threshold_figure(threshold), stop_note(threshold)),
            ),
        },
    });
    std::iter::once(verdict).chain(thresholds).collect()
}

/// A failure where the target or the load fell short; an error where the figures say nothing.
fn verdict(report: &Report) -> Ending {
    let status = report.verdict.status;
    let reasons = report.verdict.reasons.iter();
    let reasons: Vec<String> = reasons.map(|reason| format!("{}: {}", reason_head(reason), reason.message)).collect();
    let (kind, message) = (status.as_str().to_lowercase(), format!("{} {}", status.as_str(), reasons.join("; ")));
    match status {
        Status::Passed => Ending::Passed,
        Status::Failed | Status::Degraded => Ending::Failure(kind, message),
        Status::Invalid | Status::Aborted => Ending::Error(kind, message),
    }
}

/// Whether the answers of a step were what the plan expects.
fn expectations(report: &Report, step: &StepFigures) -> Ending {
    let broken: Vec<_> = step.error_classes.iter().filter(|class| is_of_expectations(&class.class)).collect();
    let n: u64 = broken.iter().map(|class| class.count).sum();
    if step.ok + n == 0 {
        return Ending::Skipped;
    }
    if n == 0 || report.thresholds.iter().any(|threshold| threshold.passed && allows_errors(&threshold.text, step)) {
        return Ending::Passed;
    }
    let classes = broken.iter().map(|class| format!("{} ({}): {}", class.class, count(class.count), class.explanation));
    let message = format!("{} of {} answers were not what the plan expects", count(n), count(step.ok + n));
    let kind = broken.first().map_or("expectation", |class| class.class.as_str());
    Ending::Failure(kind.to_owned(), std::iter::once(message).chain(classes).collect::<Vec<_>>().join("; "))
}

fn is_of_expectations(class: &str) -> bool {
    class.starts_with("expect_") || class.starts_with("status_") || class == "capture_missing"
}

/// Does a threshold, as the plan says it, judge how many operations of a step may fail? Then it decides, here as in the
/// verdict.
fn allows_errors(threshold: &str, step: &StepFigures) -> bool {
    let figure = threshold.split(['<', '>', '=']).next().unwrap_or_default().trim();
    let (of, figure) = figure.rsplit_once('.').unwrap_or(("", figure));
    ["errors", "error_rate", "checks"].contains(&figure) && (of.is_empty() || of == step.scenario || of == step.step)
}

fn suite(report: &Report, id: usize, name: &str, cases: &[Case], whole: bool) -> String {
    let failures = cases.iter().filter(|case| matches!(case.ending, Ending::Failure(..))).count();
    let errors = cases.iter().filter(|case| matches!(case.ending, Ending::Error(..))).count();
    let skipped = cases.iter().filter(|case| matches!(case.ending, Ending::Skipped)).count();
    // The schema takes no time zone; it is UTC.
    let started = report.run.started_at.as_deref().and_then(|at| at.get(..NEVER.len())).unwrap_or(NEVER);
    let mut xml = format!(
        "<testsuite name=\"{}\" package=\"{}\" id=\"{id}\" timestamp=\"{}\" hostname=\"localhost\" tests=\"{}\" \
         failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\" time=\"{:.3}\">\n",
        escaped(name),
        escaped(&named(&report.run.name)),
        escaped(started),
        cases.len(),
        report.run.duration_s,
    );
    xml.push_str(&properties(report, whole));
    cases.iter().for_each(|case| xml.push_str(&testcase(name, case)));
    let page = if whole { text(report, &TextOptions { width: 120, color: false }) } else { String::new() };
    let lines: Vec<String> = page.lines().map(escaped).collect();
    xml + &format!("<system-out>{}</system-out>\n<system-err></system-err>\n</testsuite>\n", lines.join("\n"))
}

fn properties(report: &Report, whole: bool) -> String {
    let run = &report.run;
    let of_run = [("run", &run.id), ("target", &run.target), ("plan_hash", &run.plan_hash), ("version", &run.version)];
    let labels = run.labels.iter().map(|(key, value)| (format!("label.{key}"), value));
    let all = of_run.map(|(key, value)| (key.to_owned(), value)).into_iter().chain(labels).filter(|_| whole);
    let lines =
        all.map(|(key, value)| format!("<property name=\"{}\" value=\"{}\"/>\n", escaped(&key), escaped(value)));
    format!("<properties>\n{}</properties>\n", lines.collect::<String>())
}

fn testcase(class: &str, case: &Case) -> String {
    let open = format!(
        "<testcase name=\"{}\" classname=\"{}\" time=\"{:.3}\"",
        escaped(&case.name),
        escaped(class),
        case.time_s
    );
    let wrong = |element: &str, kind: &str, message: &str| {
        let (kind, message) = (escaped(kind), escaped(message));
        format!("{open}>\n<{element} type=\"{kind}\" message=\"{message}\">{message}</{element}>\n</testcase>\n")
    };
    match &case.ending {
        Ending::Passed => format!("{open}/>\n"),
        Ending::Skipped => format!("{open}>\n<skipped/>\n</testcase>\n"),
        Ending::Failure(kind, message) => wrong("failure", kind, message),
        Ending::Error(kind, message) => wrong("error", kind, message),
    }
}

/// A name that is one: the schemas want at least a character that is no blank.
fn named(name: &str) -> String {
    if name.trim().is_empty() { "unnamed".to_owned() } else { name.to_owned() }
}
