//! Between the wire and the state machines.

use groundswell_proto::WireError;
use groundswell_proto::v1::agent_message::Kind as Said;
use groundswell_proto::v1::run_event::Kind as EventKind;
use groundswell_proto::v1::{self, RunEvent};
use groundswell_stats::Delta;

use crate::run::{Health, Measured, Outcome, Progress};

/// Warnings that are taken from one agent.
const MOST_WARNINGS: usize = 16;

/// What an agent said, checked.
pub(super) enum Heard {
    /// It is alive.
    Alive,
    /// It is ready, or says why not.
    Ready(String, Result<Vec<String>, String>),
    /// The target is ready, or not.
    TargetChecked(String, Result<(), String>),
    /// It knows the start, with this clock bound in µs.
    Started(String, Result<u64, String>),
    /// Figures.
    Measured(String, Box<Measured>),
    /// Its part has ended with this seq; why, if early.
    Done(String, u64, Option<String>),
}

pub(super) fn heard(said: Said) -> Result<Heard, WireError> {
    Ok(match said {
        // A second Hello changes nothing.
        Said::Hello(_) | Said::Probe(_) => Heard::Alive,
        Said::Ready(ready) => {
            let warnings = ready.warnings.into_iter().take(MOST_WARNINGS).collect();
            Heard::Ready(ready.run_id, none_or(ready.problem).map(|()| warnings))
        }
        Said::TargetChecked(checked) => Heard::TargetChecked(checked.run_id, none_or(checked.problem)),
        Said::Started(started) => {
            let bound_us = started.clock_bound_us;
            Heard::Started(started.run_id, none_or(started.problem).map(|()| bound_us))
        }
        Said::Delta(delta) => {
            let measured = measured(&delta)?;
            Heard::Measured(delta.run_id, Box::new(measured))
        }
        Said::Done(done) => Heard::Done(done.run_id, done.last_seq, none_or(done.problem).err()),
    })
}

fn none_or(problem: String) -> Result<(), String> {
    if problem.is_empty() { Ok(()) } else { Err(problem) }
}

fn measured(delta: &v1::Delta) -> Result<Measured, WireError> {
    let wire = v1::Figures::unpack(&delta.figures)?;
    let health = wire.health.unwrap_or_default();
    let cursors = wire.cursors.iter().map(|cursor| ((cursor.scenario as usize, cursor.phase as usize), cursor.decided));
    Ok(Measured {
        seq: delta.seq,
        delta: Delta::try_from(&wire)?,
        cursors: cursors.collect(),
        source: wire.source,
        health: Health {
            cpu_permille: health.cpu_permille,
            cpu_wait_permille: health.cpu_wait_permille,
            steal_permille: health.steal_permille,
            throttled_permille: health.throttled_permille,
            machine_permille: health.machine_permille,
            users: health.users,
        },
    })
}

pub(super) fn accepted(run_id: &str) -> RunEvent {
    RunEvent { kind: Some(EventKind::Accepted(v1::Accepted { run_id: run_id.to_owned() })) }
}

pub(super) fn progress(progress: &Progress, detail: String) -> RunEvent {
    let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let [p50_us, p95_us, p99_us] = progress.response_us;
    let agent = |agent: &crate::run::AgentProgress| v1::AgentProgress {
        name: agent.name.clone(),
        state: agent.state.to_owned(),
        issued: agent.issued,
        cpu_permille: agent.cpu_permille,
    };
    RunEvent {
        kind: Some(EventKind::Progress(v1::Progress {
            state: progress.state.to_owned(),
            detail,
            elapsed_ms: millis(progress.elapsed),
            planned_ms: progress.planned.map_or(0, millis),
            rate_per_s: progress.rate_per_s,
            wanted_per_s: progress.wanted_per_s,
            issued: progress.issued,
            ok: progress.ok,
            failed: progress.failed,
            p50_us,
            p95_us,
            p99_us,
            users: progress.users,
            agents: progress.agents.iter().map(agent).collect(),
        })),
    }
}

pub(super) fn finished(outcome: &Outcome) -> RunEvent {
    let finished = match outcome {
        Outcome::NoReport { problem, exit_code } => {
            v1::Finished { report_json: Vec::new(), exit_code: u32::from(*exit_code), problem: problem.clone() }
        }
        Outcome::Report(report) => match serde_json::to_vec(report) {
            Ok(report_json) => v1::Finished {
                report_json,
                exit_code: u32::from(report.verdict.status.exit_code()),
                problem: String::new(),
            },
            Err(error) => v1::Finished {
                report_json: Vec::new(),
                exit_code: 3,
                problem: format!("the report can't be written as JSON: {error}"),
            },
        },
    };
    RunEvent { kind: Some(EventKind::Finished(finished)) }
}
