//! Between the wire and the state machines.

use std::time::{Duration, SystemTime};

use groundswell_proto::WireError;
use groundswell_proto::limits::MAX_TEXT_BYTES;
use groundswell_proto::v1;
use groundswell_proto::v1::agent_message::Kind as Said;
use groundswell_stats::Delta;

use super::clock::calendar_us;
use crate::report::{Distributions, Report, Summary};
use crate::run::{Health, Measured, Outcome};
use crate::store::{Figures, Finish};

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
    /// A delta.
    Delivered(Box<Delivered>),
    /// An assignment ends as asked, or not.
    Released { run_id: String, generation: u32, at: Duration, accepted: bool },
    /// It was asked to end.
    Leaving(String),
    /// A life's part has ended with this seq; why, if early.
    Done { run_id: String, incarnation: u64, last_seq: u64, early: Option<String> },
}

/// A delta with its key.
pub(super) struct Delivered {
    pub(super) run_id: String,
    pub(super) incarnation: u64,
    pub(super) seq: u64,
    pub(super) hash: [u8; 16],
    /// As it came.
    pub(super) bytes: Vec<u8>,
    pub(super) measured: Box<Measured>,
}

pub(super) fn heard(said: Said) -> Result<Heard, WireError> {
    Ok(match said {
        // A second Hello changes nothing.
        Said::Hello(_) => Heard::Alive,
        Said::Ready(ready) => {
            let warnings = ready.warnings.into_iter().take(MOST_WARNINGS).map(cut).collect();
            Heard::Ready(ready.run_id, none_or(ready.problem).map(|()| warnings))
        }
        Said::TargetChecked(checked) => Heard::TargetChecked(checked.run_id, none_or(checked.problem)),
        Said::Started(started) => {
            let bound_us = started.clock_bound_us;
            Heard::Started(started.run_id, none_or(started.problem).map(|()| bound_us))
        }
        Said::Delta(delta) => {
            let hash = delta.checked_hash()?;
            let measured = Box::new(measured(delta.seq, &delta.figures)?);
            let v1::Delta { run_id, incarnation, seq, figures, .. } = delta;
            let bytes = figures.into();
            Heard::Delivered(Box::new(Delivered { run_id, incarnation, seq, hash, bytes, measured }))
        }
        Said::Released(released) => Heard::Released {
            run_id: released.run_id,
            generation: released.generation,
            at: Duration::from_micros(released.until_run_us),
            accepted: released.accepted,
        },
        Said::Leaving(leaving) => Heard::Leaving(leaving.run_id),
        Said::Done(done) => Heard::Done {
            run_id: done.run_id,
            incarnation: done.incarnation,
            last_seq: done.last_seq,
            early: none_or(done.problem).err(),
        },
    })
}

fn none_or(problem: String) -> Result<(), String> {
    if problem.is_empty() { Ok(()) } else { Err(cut(problem)) }
}

/// A text of an agent, no longer than what is kept of one: it goes into the log of its run.
pub(super) fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
    text
}

/// Reads the packed figures of a delta, from an agent or from the store.
pub(super) fn measured(seq: u64, packed: &[u8]) -> Result<Measured, WireError> {
    let wire = v1::Figures::unpack(packed)?;
    let health = wire.health.unwrap_or_default();
    let cursors = wire
        .cursors
        .iter()
        .map(|cursor| ((cursor.generation, cursor.scenario as usize, cursor.phase as usize), cursor.decided));
    Ok(Measured {
        seq,
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
            clock_bound_us: health.clock_bound_us,
            clock_skew_us: health.clock_skew_us,
            held_operations: health.held_operations,
        },
    })
}

/// The end of a run as the store keeps it.
pub(super) fn finish(run: &str, revision: u64, finished_at: SystemTime, outcome: &Outcome) -> Finish {
    let (report, figures, exit_code) = match outcome {
        Outcome::NoReport { problem, exit_code } => (Err(problem.clone()), None, *exit_code),
        Outcome::Report { report, distributions } => match packed(report, distributions) {
            Ok((json, figures)) => (Ok(json), Some(figures), report.verdict.status.exit_code()),
            Err(error) => (Err(format!("the report can't be written: {error}")), None, 3),
        },
    };
    let (run, finished_at_us) = (run.to_owned(), calendar_us(finished_at));
    Finish { run, revision, exit_code: exit_code.into(), finished_at_us, report, figures }
}

fn packed(report: &Report, distributions: &Distributions) -> std::io::Result<(Vec<u8>, Figures)> {
    let summary = serde_json::to_string(&Summary::from(report))?;
    Ok((serde_json::to_vec(report)?, Figures { summary, distributions: distributions.pack()? }))
}
