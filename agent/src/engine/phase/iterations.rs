//! A fixed number of iterations, divided over users.

use std::cell::Cell;
use std::rc::Rc;

use groundswell_scenario::load::{Load, Sharing};
use groundswell_scenario::planned::{Planned, iterations_of, owned_users};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Phase, all_ended, drain, joined};
use crate::engine::iteration::Accounting;

/// Runs the iterations of an assignment.
pub(super) async fn run(phase: &Rc<Phase>) {
    let Load::Iterations { total, sharing, users, limit } = *phase.load() else { return };
    // Nobody knows which of them a lost agent had done, so they are never taken over.
    if !phase.assigned.is_initial() {
        return;
    }
    let numbers: Vec<u32> = owned_users(phase.share(), users).collect();
    let pool = Rc::new(Cell::new(numbers.iter().map(|number| iterations_of(*number, total, users)).sum::<u64>()));
    let until = phase.origin + limit;
    let mut tasks = JoinSet::new();
    for number in numbers {
        let left = match sharing {
            Sharing::Shared => Rc::clone(&pool),
            Sharing::PerUser => Rc::new(Cell::new(iterations_of(number, total, users))),
        };
        let (phase, pool) = (Rc::clone(phase), Rc::clone(&pool));
        tasks.spawn_local(async move { work_off(&phase, number, &left, &pool, sharing, until).await });
    }
    tokio::select! {
        () = all_ended(&mut tasks) => {}
        () = phase.context.stop.stopped() => drain(phase, tasks).await,
    }
    phase.rest(Planned { warm_up: 0, measured: pool.get() }, "time_limit");
}

/// One user that takes iterations from `left` until there are none.
async fn work_off(
    phase: &Rc<Phase>,
    number: u32,
    left: &Cell<u64>,
    pool: &Cell<u64>,
    sharing: Sharing,
    until: Instant,
) {
    let Some(mut user) = joined(phase, number, phase.origin, || true).await else { return };
    phase.context.recording.user_joined();
    let mut due = phase.origin;
    let mut iteration = 0;
    while left.get() > 0 && due < until && phase.context.stop.reason().is_none() && user.draw_data(phase) {
        left.set(left.get() - 1);
        if sharing == Sharing::PerUser {
            pool.set(pool.get() - 1);
        }
        phase.scheduled(phase.first_step_at(due), 1);
        let ended = user.iterate(phase, iteration, due, Accounting::Scheduled { queued_until: None }).await;
        due = phase.due_again(due, ended);
        if due > ended && !phase.context.pause_until(due).await {
            break;
        }
        iteration += 1;
    }
    phase.context.recording.user_left();
}
