//! Closed model: each user starts its next iteration when its last has ended.

use std::rc::Rc;

use groundswell_scenario::load::Load;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Phase, all_ended, drain, joined};
use crate::engine::iteration::Accounting;

/// Runs all users of an assignment.
pub(super) async fn run(phase: &Rc<Phase>) {
    let Load::Users { curve } = phase.load() else { return };
    let mut tasks = JoinSet::new();
    // A user that was taken over goes on under its number.
    for (number, intervals) in phase.described().assigned_users(&phase.assigned.now(), phase.run_origin()) {
        let phase = Rc::clone(phase);
        tasks.spawn_local(async move {
            for (from, to) in intervals {
                attend(&phase, number, phase.origin + from, phase.origin + to).await;
            }
        });
    }
    let end = phase.origin + curve.length();
    tokio::select! {
        _ = phase.context.pause(|| Some(phase.leaving(end))) => {}
        () = all_ended(&mut tasks) => {
            phase.context.pause(|| Some(phase.leaving(end))).await;
        }
    }
    drain(phase, tasks).await;
}

/// One user from its joining to its leaving.
async fn attend(phase: &Rc<Phase>, number: u32, from: Instant, until: Instant) {
    let Some(mut user) = joined(phase, number, from, || from < phase.leaving(until)).await else { return };
    phase.context.recording.user_joined();
    // A user that was assigned late was not there before, so it is due now.
    let mut due = if phase.is_late(from) { from.max(Instant::now()) } else { from };
    for iteration in 0.. {
        if due >= phase.leaving(until) || phase.context.stop.reason().is_some() || !user.draw_data(phase) {
            break;
        }
        let ended = user.iterate(phase, iteration, due, Accounting::AsIssued { until }).await;
        due = phase.due_again(due, ended);
        if due > ended && !phase.context.pause(|| Some(phase.leaving(until).min(due))).await {
            break;
        }
    }
    phase.context.recording.user_left();
}
