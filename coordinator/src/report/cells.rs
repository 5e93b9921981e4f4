//! What the renderings for people have in common: names, figures and sentences of a report, without control characters.

pub(super) mod sections;
pub(super) mod sockets;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::format::{count, millis, rate};
use super::{AgentFigures, Ledger, LevelFigures, Report, RunInfo, StepFigures, ThresholdResult};

/// A row for each step, and the total where it says more than they do.
pub(super) fn step_rows(report: &Report) -> Vec<&StepFigures> {
    let total = (report.steps.len() > 1).then_some(&report.total);
    report.steps.iter().chain(total).collect()
}

/// Scenario and step, without control characters.
pub(super) fn label(row: &StepFigures) -> String {
    if row.scenario.is_empty() { plain(&row.step) } else { plain(&format!("{}/{}", row.scenario, row.step)) }
}

/// Errors with their part of what was issued.
pub(super) fn errors(row: &StepFigures) -> String {
    if row.errors == 0 { "0".to_owned() } else { format!("{} ({})", count(row.errors), percent(row.error_rate)) }
}

/// The levels of each scenario, in the report's order.
pub(super) fn levels_by_scenario(levels: &[LevelFigures]) -> Vec<(&str, Vec<&LevelFigures>)> {
    let mut scenarios: Vec<(&str, Vec<&LevelFigures>)> = Vec::new();
    for level in levels {
        match scenarios.iter_mut().find(|(scenario, _)| *scenario == level.figures.scenario) {
            Some((_, rows)) => rows.push(level),
            None => scenarios.push((&level.figures.scenario, vec![level])),
        }
    }
    scenarios
}

/// Level, step, throughput, p50, p95, p99, errors.
pub(super) fn level_cells(level: &LevelFigures) -> Vec<String> {
    let figures = &level.figures;
    let response = &figures.response_ms;
    let texts = [plain(&level.level), plain(&figures.step), rate(figures.throughput_per_s)];
    let latencies = [response.p50, response.p95, response.p99].map(latency);
    texts.into_iter().chain(latencies).chain([errors(figures)]).collect()
}

/// Agent, share, issued, errors, p99 send lag, CPU, clock bound.
pub(super) fn agent_cells(agent: &AgentFigures) -> Vec<String> {
    vec![
        plain(&agent.name),
        percent(agent.share),
        count(agent.issued),
        count(agent.errors),
        latency(agent.send_lag_ms.p99),
        format!("{:.0} %", agent.cpu * 100.0),
        format!("±{}", millis(agent.clock_bound_ms)),
    ]
}

/// Length, agents and operations of a run, and its target.
pub(super) fn summary(report: &Report) -> String {
    let run = &report.run;
    let insecure = if run.insecure { " (certificates not checked)" } else { "" };
    let transport = if run.transport == "direct" { "" } else { " over reqwest" };
    format!("{} against {}{transport}{insecure}", extent(report), plain(&run.target))
}

/// Length, agents and operations of a run.
pub(super) fn extent(report: &Report) -> String {
    let (agents, issued) = (report.run.agents, report.ledger.issued);
    let agents = format!("{agents} {}", if agents == 1 { "agent" } else { "agents" });
    let operations = format!("{} {}", count(issued), if issued == 1 { "operation" } else { "operations" });
    format!("{}, {agents}, {operations}", seconds(report.run.duration_s))
}

/// What the run was, for finding it again.
pub(super) fn provenance(run: &RunInfo) -> String {
    let started = run.started_at.as_ref().map_or_else(|| "load never started".to_owned(), |at| format!("started {at}"));
    let mut text = format!("run {}, {started}, plan {}, groundswell {}", run.id, run.plan_hash, run.version);
    for (index, (key, value)) in run.labels.iter().enumerate() {
        let lead = if index == 0 { ", labels" } else { "" };
        // Writing to a string does not fail.
        let _ = write!(text, "{lead} {key}={value}");
    }
    plain(&text)
}

/// Code, agent and time range of a reason.
pub(super) fn reason_head(reason: &super::Reason) -> String {
    let range = match (reason.from_s, reason.to_s) {
        (Some(from), Some(to)) => Some(format!("{} to {}", seconds(from), seconds(to))),
        (Some(from), None) => Some(format!("from {}", seconds(from))),
        (None, Some(to)) => Some(format!("to {}", seconds(to))),
        (None, None) => None,
    };
    let details: Vec<String> = reason.agent.as_deref().map(plain).into_iter().chain(range).collect();
    let details = if details.is_empty() { String::new() } else { format!(" ({})", details.join(", ")) };
    format!("{}{details}", plain(&reason.code))
}

/// The figure of a threshold in its unit.
pub(super) fn threshold_figure(threshold: &ThresholdResult) -> String {
    match (threshold.value, threshold.unit.as_str()) {
        (None, _) => "no figure".to_owned(),
        (Some(value), "ms") => millis(value),
        (Some(value), "ratio") => percent(value),
        (Some(value), "/s") => rate(value),
        // Counts are whole, and exact in a float up to 2^53.
        (Some(value), "count") => count(value as u64),
        (Some(value), unit) => format!("{value} {}", plain(unit)),
    }
}

/// When a threshold stopped the run; empty where it did not.
pub(super) fn stop_note(threshold: &ThresholdResult) -> String {
    let stopped = threshold.aborted_at_s.map(|at| format!(" (stopped the run at {})", seconds(at)));
    stopped.unwrap_or_default()
}

/// The two equations of the account, each with its outcome, and the warm-up where there was one.
pub(super) fn ledger_lines(ledger: &Ledger) -> Vec<String> {
    let ended = sum([ledger.ok, ledger.errors, ledger.timeout, ledger.aborted]) + sum(ledger.unsent.values().copied());
    let accounted =
        sum([ledger.issued]) + sum(ledger.shed.values().copied()) + sum(ledger.not_generated.values().copied());
    let (offered_gap, ended_gap) = (sum([ledger.scheduled]) - accounted, sum([ledger.issued]) - ended);
    let offered_outcome = match offered_gap {
        0 => "balanced".to_owned(),
        missing if missing > 0 => format!("NOT BALANCED, {} without a counter", whole(missing)),
        extra => format!("NOT BALANCED, {} more than scheduled", whole(extra)),
    };
    // What has no end may be in flight at a lost agent, but no more than is known to be.
    let explained = (0..=i128::from(ledger.unknown_max)).contains(&ended_gap) && (ledger.balanced || offered_gap != 0);
    let ended_outcome = match ended_gap {
        _ if explained => "balanced".to_owned(),
        extra if extra < 0 => format!("NOT BALANCED, {} more ended than issued", whole(extra)),
        missing => format!("NOT BALANCED, {} without an end", whole(missing)),
    };
    let unknown = if explained { ended_gap } else { 0 };
    let unheard = i128::from(ledger.unknown_max) - unknown;
    let unheard = if unheard > 0 {
        format!("; lost agents may have issued up to {} more that nobody counted", whole(unheard))
    } else {
        String::new()
    };
    let unsent = match ledger.unsent.is_empty() {
        true => String::new(),
        false => format!(" + unsent {}", by_reason(&ledger.unsent)),
    };
    let mut lines = vec![
        format!(
            "scheduled {} = issued {} + shed {} + not generated {}: {offered_outcome}",
            count(ledger.scheduled),
            count(ledger.issued),
            by_reason(&ledger.shed),
            by_reason(&ledger.not_generated)
        ),
        format!(
            "issued {} = ok {} + errors {} + timeout {} + aborted {}{unsent} + unknown {}: {ended_outcome}{unheard}",
            count(ledger.issued),
            count(ledger.ok),
            count(ledger.errors),
            count(ledger.timeout),
            count(ledger.aborted),
            whole(unknown)
        ),
    ];
    if ledger.warm_up > 0 {
        lines.push(format!(
            "{} of those issued belong to the warm-up and are in no other figure",
            count(ledger.warm_up)
        ));
    }
    lines
}

pub(super) fn by_reason(counts: &BTreeMap<String, u64>) -> String {
    let reasons: Vec<String> = counts.iter().map(|(word, n)| format!("{} {}", plain(word), count(*n))).collect();
    let total = whole(sum(counts.values().copied()));
    if reasons.is_empty() { total } else { format!("{total} ({})", reasons.join(", ")) }
}

/// Wide enough for any sum of counters and its difference.
pub(super) fn sum(counts: impl IntoIterator<Item = u64>) -> i128 {
    counts.into_iter().map(i128::from).sum()
}

/// The size of a difference.
pub(super) fn whole(difference: i128) -> String {
    count(u64::try_from(difference.unsigned_abs()).unwrap_or(u64::MAX))
}

/// A latency, or a dash where there is no sample.
pub(super) fn latency(ms: Option<f64>) -> String {
    ms.map_or_else(|| "-".to_owned(), millis)
}

/// A time in seconds of the run.
pub(super) fn seconds(seconds: f64) -> String {
    format!("{seconds:.1} s")
}

/// A ratio in percent. Some is never shown as none, nor nearly all as all.
pub(crate) fn percent(ratio: f64) -> String {
    let percent = ratio * 100.0;
    match percent {
        0.0 => "0 %".to_owned(),
        few if few < 0.01 => "<0.01 %".to_owned(),
        some if some < 9.995 => format!("{some:.2} %"),
        most if most < 99.95 => format!("{most:.1} %"),
        nearly if nearly < 100.0 => ">99.9 %".to_owned(),
        all => format!("{all:.0} %"),
    }
}

/// A string of a plan, a target or an agent on one line, without what could steer a terminal: control characters, and
/// the marks that reorder text.
pub(crate) fn plain(text: &str) -> String {
    let reorders = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}');
    let spaced = text.chars().map(|c| if matches!(c, '\n' | '\r' | '\t') { ' ' } else { c });
    spaced.filter(|c| !c.is_control() && !reorders(*c)).collect()
}
