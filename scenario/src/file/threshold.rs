//! Thresholds: `search.error_rate < 1% over 10s after 30s, stop`.
//!
//! ```text
//! threshold  = figure comparison limit [ "over" duration ] [ "after" duration ] [ "," "stop" ]
//! figure     = [ subject "." ] [ latency "." ] metric
//! subject    = scenario | step | scenario "/" step            every step where there is none
//! latency    = "response" | "service" | "send_lag" | "delivery"    response where there is none
//! metric     = "p50" … "p99.99" | "min" | "mean" | "max" | "error_rate" | "errors" | "checks"
//!            | "throughput" | "rate" | "count" | "shed" | "missing" | "duplicated" | "out_of_order"
//! comparison = "<" | "<=" | ">" | ">=" | "=="
//! ```

use std::time::Duration;

use groundswell_stats::StepId;

use super::node::Node;
use super::reader::Reader;
use super::value::{self, nearest};
use crate::Scenario;
use crate::plan::TimedStep;
use crate::threshold::{Latency, Metric, Ordering, Threshold};

const HELP: &str = "write it like `search.p95 < 50ms`, `search.error_rate < 1% over 10s, stop` or `throughput > 100/s`";
/// Shortest and longest `over`.
const WINDOW_S: std::ops::RangeInclusive<u64> = 1..=60;
const METRICS: &[&str] = &[
    "p50",
    "p90",
    "p95",
    "p99",
    "p99.9",
    "p99.99",
    "min",
    "mean",
    "max",
    "error_rate",
    "errors",
    "checks",
    "throughput",
    "rate",
    "count",
    "shed",
    "missing",
    "duplicated",
    "out_of_order",
];

pub(super) fn read(
    reader: &mut Reader,
    node: Option<&Node>,
    scenarios: &[Scenario],
    steps: &[TimedStep],
) -> Vec<Threshold> {
    let Some(node) = node else { return Vec::new() };
    let mut thresholds = Vec::new();
    for node in reader.list(node, "a list of thresholds") {
        thresholds.extend(threshold(reader, node, scenarios, steps));
    }
    thresholds
}

fn threshold(reader: &mut Reader, node: &Node, scenarios: &[Scenario], steps: &[TimedStep]) -> Option<Threshold> {
    let text = reader.text(node)?;
    let (rest, stop) = match text.rsplit_once(',') {
        Some((rest, word)) if word.trim() == "stop" => (rest, true),
        _ => (text.as_str(), false),
    };
    let (rest, after) = clause(rest, " after ");
    let (rest, over) = clause(rest, " over ");
    let Some((figure, comparison, limit)) = split(rest) else {
        reader.problem_with_hint(node.place, format!("`{text}` is not a threshold"), HELP);
        return None;
    };
    let over = match over {
        Some(window) => Some(self::over(reader, node, window)?),
        None => None,
    };
    let after = match after {
        Some(after) => self::after(reader, node, after)?,
        None => Duration::ZERO,
    };
    let (subject, metric) = metric(reader, node, figure)?;
    if metric.is_of_broadcasts() && (!subject.is_empty() || over.is_some() || stop) {
        let hint = "write it without a step, `over` and `stop`, like `missing == 0` or `delivery.p99 < 200ms`";
        reader.problem_with_hint(node.place, "figures of broadcasts are those of all rooms and the whole run", hint);
        return None;
    }
    let limit = limit_of(reader, node, metric, limit)?;
    let steps = subject_steps(reader, node, subject, scenarios, steps)?;
    Some(Threshold { text, steps, metric, comparison, limit, over, after, stop })
}

/// What follows a word, and what stands before it.
fn clause<'t>(text: &'t str, word: &str) -> (&'t str, Option<&'t str>) {
    match text.rsplit_once(word) {
        Some((rest, value)) => (rest, Some(value)),
        None => (text, None),
    }
}

/// Figure, comparison and limit.
fn split(text: &str) -> Option<(&str, Ordering, &str)> {
    let operators = [
        ("<=", Ordering::LessOrEqual),
        (">=", Ordering::GreaterOrEqual),
        ("==", Ordering::Equal),
        ("<", Ordering::Less),
        (">", Ordering::Greater),
    ];
    // Step names may hold anything, also these signs: the last one counts.
    let at = text.rfind(['<', '>', '='])?;
    let start = if text[..at].ends_with(['<', '>', '=']) { at - 1 } else { at };
    let (operator, comparison) = operators.into_iter().find(|(operator, _)| text[start..].starts_with(operator))?;
    let (figure, limit) = (text[..start].trim(), text[start + operator.len()..].trim());
    (!figure.is_empty() && !limit.is_empty()).then_some((figure, comparison, limit))
}

fn over(reader: &mut Reader, node: &Node, window: &str) -> Option<Duration> {
    let parsed = value::duration(window);
    let whole = parsed.ok().filter(|window| window.subsec_nanos() == 0 && WINDOW_S.contains(&window.as_secs()));
    if whole.is_none() {
        let message = format!("`over {}` must be 1s to 60s, in whole seconds", window.trim());
        reader.problem(node.place, message);
    }
    whole
}

fn after(reader: &mut Reader, node: &Node, text: &str) -> Option<Duration> {
    let parsed = value::duration(text);
    if let Err(help) = parsed {
        reader.problem_with_hint(node.place, format!("`after {}` is not a duration", text.trim()), help);
    }
    parsed.ok()
}

/// Subject and metric of `search.service.p95`.
fn metric<'t>(reader: &mut Reader, node: &Node, figure: &'t str) -> Option<(&'t str, Metric)> {
    for (at, _) in figure.rmatch_indices('.').chain([(usize::MAX, "")]) {
        let (subject, name) = if at == usize::MAX { ("", figure) } else { (&figure[..at], &figure[at + 1..]) };
        let words = [
            ("service", Latency::Service),
            ("send_lag", Latency::SendLag),
            ("delivery", Latency::Delivery),
            ("response", Latency::Response),
        ];
        for (word, latency) in words {
            let inner = subject.strip_suffix(word).filter(|left| left.is_empty() || left.ends_with('.'));
            if let (Some(left), Some(metric)) = (inner, named(name, latency)) {
                return Some((left.trim_end_matches('.'), metric));
            }
        }
        if let Some(metric) = named(name, Latency::Response) {
            return Some((subject, metric));
        }
    }
    let last = figure.rsplit('.').next().unwrap_or(figure);
    let hint = match nearest(last, METRICS.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("figures: {}", METRICS.join(", ")),
    };
    reader.problem_with_hint(node.place, format!("`{last}` is not a figure that can be judged"), hint);
    None
}

fn named(name: &str, latency: Latency) -> Option<Metric> {
    Some(match name {
        "min" => Metric::Min(latency),
        "mean" => Metric::Mean(latency),
        "max" => Metric::Max(latency),
        "p999" => Metric::Quantile(latency, 0.999),
        "p9999" => Metric::Quantile(latency, 0.9999),
        "error_rate" => Metric::ErrorRate,
        "errors" => Metric::Errors,
        "throughput" => Metric::Throughput,
        "rate" => Metric::Rate,
        "count" => Metric::Count,
        "shed" => Metric::Shed,
        "checks" => Metric::Checks,
        "missing" => Metric::Missing,
        "duplicated" => Metric::Duplicated,
        "out_of_order" => Metric::OutOfOrder,
        _ => {
            let percent: f64 = name.strip_prefix('p')?.parse().ok()?;
            let valid = percent > 0.0 && percent < 100.0 && name.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
            valid.then_some(Metric::Quantile(latency, percent / 100.0))?
        }
    })
}

/// The limit in the metric's unit: ms, ratio, per second, count.
fn limit_of(reader: &mut Reader, node: &Node, metric: Metric, text: &str) -> Option<f64> {
    let (limit, hint) = match metric {
        Metric::Quantile(..) | Metric::Min(_) | Metric::Mean(_) | Metric::Max(_) => {
            let limit = value::duration(text).ok().map(|limit| limit.as_secs_f64() * 1e3);
            (limit, "a latency is compared with a duration, like 50ms")
        }
        Metric::ErrorRate | Metric::Checks => {
            let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
            let ratio = percent.map(|percent| percent / 100.0).or_else(|| text.parse().ok());
            (
                ratio.filter(|ratio| (0.0..=1.0).contains(ratio)),
                "a part of the operations is a percentage like 1%, or a ratio like 0.01",
            )
        }
        Metric::Throughput | Metric::Rate => (value::rate(text).ok(), "a rate is compared with a rate, like 100/s"),
        Metric::Errors | Metric::Count | Metric::Shed | Metric::Missing | Metric::Duplicated | Metric::OutOfOrder => {
            let count = text.parse::<u64>().ok().map(|count| count as f64);
            (count, "a number of operations is compared with a whole number")
        }
    };
    if limit.is_none() {
        reader.problem_with_hint(node.place, format!("`{text}` is no limit for this figure"), hint);
    }
    limit
}

/// The steps of a subject: a scenario, `scenario/step`, a step name in any scenario, or everything.
fn subject_steps(
    reader: &mut Reader,
    node: &Node,
    subject: &str,
    scenarios: &[Scenario],
    steps: &[TimedStep],
) -> Option<Vec<StepId>> {
    let select = |fits: &dyn Fn(&TimedStep) -> bool| -> Vec<StepId> {
        (0..).zip(steps).filter(|(_, step)| !step.warm_up && fits(step)).map(|(index, _)| StepId(index)).collect()
    };
    let name_of = |step: &TimedStep| scenarios.get(step.scenario).map_or("", |scenario| scenario.name.as_str());
    let candidates = [
        select(&|_| subject.is_empty() || subject == "all"),
        select(&|step| name_of(step) == subject),
        select(&|step| subject.strip_prefix(name_of(step)).and_then(|rest| rest.strip_prefix('/')) == Some(&step.name)),
        select(&|step| step.name == subject),
    ];
    if let Some(found) = candidates.into_iter().find(|steps| !steps.is_empty()) {
        return Some(found);
    }
    // A scenario whose own problem keeps it out of the plan needs no second one here.
    if scenarios.is_empty() || steps.is_empty() {
        return None;
    }
    let known =
        scenarios.iter().map(|scenario| scenario.name.as_str()).chain(steps.iter().map(|step| step.name.as_str()));
    let mut known: Vec<&str> = known.collect();
    known.sort_unstable();
    known.dedup();
    let hint = match nearest(subject, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("scenarios and steps: {}", known.join(", ")),
    };
    reader.problem_with_hint(node.place, format!("`{subject}` is no scenario and no step"), hint);
    None
}
