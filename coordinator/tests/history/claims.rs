//! What an agent says that it did, against what it was given to do.

use std::time::Duration;

use groundswell_coordinator::report::Status;
use groundswell_coordinator::run::{Action, Event, StopReason};

use super::driver::*;

/// An agent that says more is sent away by name, and none of that delta is in the figures.
fn is_refused(mut history: History, actions: &[Action], said: &str) {
    assert!(matches!(actions, [Action::Expel(A, why), ..] if why.contains(said)), "{actions:?}");
    history.now += Duration::from_secs(600);
    for second in 1..=4 {
        history.measured(B, second, second * 5, 5, 0);
    }
    let report = report(history.done(B));
    assert_eq!(report.verdict.status, Status::Invalid, "{:?}", report.verdict);
    let reason = report.verdict.reasons.iter().find(|reason| reason.code == "tainted").unwrap();
    assert!(reason.agent.as_deref() == Some("agent-1") && reason.message.contains(said), "{reason:?}");
    let row = report.agents.iter().find(|row| row.name == "agent-1").unwrap();
    assert_eq!(row.issued, 0, "{row:?}");
}

#[test]
fn more_than_the_share_of_the_plan_is_refused() {
    let mut history = History::started(OPEN, &[A, B]);
    // Twenty of the forty are its.
    history.now = history.t0 + Duration::from_secs(60);
    let actions = history.measured(A, 4, 21, 21, 0);
    is_refused(history, &actions, "issued 21 operations of x; at most 20 were due");
}

#[test]
fn more_than_is_due_by_now_is_refused() {
    let plan = "lease: 3s\nscenarios:\n  one:\n    load: { rate: 10/s, for: 1m }\n    flow: [ { get: /x, name: x } ]\n";
    let mut history = History::started(plan, &[A]);
    // The lease, and two seconds to which clocks are believed, beyond the second that has passed.
    assert!(history.measured(A, 1, 60, 60, 0).is_empty());
    let actions = history.measured(A, 2, 71, 11, 0);
    let said = "issued 71 operations of x; at most 70 were due";
    assert!(matches!(&actions[..], [Action::Expel(A, why), ..] if why.contains(said)), "{actions:?}");
}

/// An agent whose clock is ahead is no liar: its report has a column for that.
#[test]
fn a_clock_that_is_ahead_is_taken_into_account() {
    let plan = "lease: 3s\nscenarios:\n  one:\n    load: { rate: 10/s, for: 1m }\n    flow: [ { get: /x, name: x } ]\n";
    let mut history = History::started(plan, &[A]);
    history.now = history.t0 + Duration::from_secs(1);
    let mut ahead = measured(1, 1, 21, 210, 210, 0);
    ahead.health.clock_skew_us = -20_000_000;
    assert!(history.step(Event::Measured(A, Box::new(ahead))).is_empty());
}

#[test]
fn what_is_due_is_taken_late_and_merged() {
    let mut history = History::started(OPEN, &[A, B]);
    history.measured(A, 1, 5, 5, 0);
    history.now = history.t0 + Duration::from_secs(90);
    // One delta for all that a dead link held back.
    assert!(history.measured(A, 4, 20, 15, 0).is_empty());
    for second in 1..=4 {
        assert!(history.measured(B, second, second * 5, 5, 0).is_empty());
    }
    history.done(A);
    assert_eq!(report(history.done(B)).verdict.status, Status::Passed);
}

#[test]
fn more_ends_than_beginnings_are_refused() {
    let plan = "scenarios:\n  one:\n    load: { users: 2, for: 4s }\n    flow: [ { get: /x, name: x } ]\n";
    let mut history = History::started(plan, &[A]);
    let mut of_second = measured(1, 1, 1, 0, 5, 0);
    of_second.delta.steps.values_mut().for_each(|step| step.counters.issued = 4);
    let actions = history.step(Event::Measured(A, Box::new(of_second)));
    assert!(matches!(&actions[..], [Action::Expel(A, why), ..] if why.contains("have ended than")), "{actions:?}");
}

/// A closed load has as many operations as its target lets it have.
#[test]
fn a_closed_load_has_no_bound() {
    let plan = "scenarios:\n  one:\n    load: { users: 2, for: 4s }\n    flow: [ { get: /x, name: x } ]\n";
    let mut history = History::started(plan, &[A]);
    assert!(history.measured(A, 1, 0, 50_000, 0).is_empty());
    assert!(history.done(A).into_iter().any(|action| matches!(action, Action::Finish(_))));
}

/// After a stop an agent counts all that is left of its share at once, as not generated.
#[test]
fn the_rest_of_a_stopped_run_is_no_claim() {
    let mut history = History::started(OPEN, &[A]);
    history.measured(A, 1, 10, 10, 0);
    history.step(Event::Stop(StopReason::Interrupted));
    let mut rest = measured(1, 2, 2, 40, 0, 0);
    let step = rest.delta.steps.entry(groundswell_stats::StepId(0)).or_default();
    step.counters.scheduled = 30;
    step.counters.not_generated.insert("interrupted".into(), 30);
    assert!(history.step(Event::Measured(A, Box::new(rest))).is_empty());
    let report = report(history.step(Event::Done(A, 2, None)));
    assert_eq!(report.verdict.status, Status::Aborted, "{:?}", report.verdict);
}

/// What the clock says after a restart may come from the calendar; the share of the plan still holds.
#[test]
fn after_a_restart_only_the_plan_is_the_bound() {
    let mut history = History::started(OPEN, &[A]);
    history.step(Event::Restarted);
    assert!(history.measured(A, 1, 40, 40, 0).is_empty());
    let actions = history.measured(A, 2, 41, 1, 0);
    assert!(matches!(&actions[..], [Action::Expel(A, why), ..] if why.contains("at most 40")), "{actions:?}");
}

/// Who takes a share over may do what is due of it from then on, and no more.
#[test]
fn a_share_that_was_taken_over_counts_from_then_on() {
    let plan = "scenarios:\n  one:\n    load: { rate: 10/s, for: 20s }\n    flow: [ { get: /x, name: x } ]\n";
    let mut history = History::started(plan, &[A, B]);
    history.measured(B, 1, 5, 5, 0);
    history.now = history.t0 + Duration::from_secs(4);
    history.step(Event::Lost(A, "gone".into()));
    // From the sixth second on all ten a second are its: 5 × 20 and 5 × 14.
    assert!(history.measured(B, 20, 100, 165, 0).is_empty());
    let actions = history.measured(B, 21, 100, 1, 0);
    assert!(matches!(&actions[..], [Action::Expel(B, why), ..] if why.contains("at most 170")), "{actions:?}");
}
