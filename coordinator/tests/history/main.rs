//! The run state machine, driven through histories without sockets or clocks.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use groundswell_coordinator::report::Status;
use groundswell_coordinator::run::{Action, Event, Health, Measured, Now, StopReason};
use groundswell_coordinator::search::{Search, StepOutcome};
use groundswell_scenario::{Plan, PlanSource, Share};
use groundswell_stats::{Delta, ErrorClass, Kind, Outcome as Ended, Phases, Recorder, Sample, Series, StepId};

mod claims;
mod company;
mod driver;

use driver::*;

#[test]
fn agents_get_shares_that_partition_the_schedule() {
    let mut history = History::new(OPEN);
    let armed = history.step(Event::Assigned(candidates(&[A, B])));
    let shares: Vec<Share> = armed
        .into_iter()
        .map(|action| if let Action::Arm(_, assignment) = action { assignment.share } else { panic!("{action:?}") })
        .collect();
    for ordinal in 0..100 {
        assert_eq!(shares.iter().filter(|share| share.owns(ordinal)).count(), 1, "ordinal {ordinal}");
    }
    assert!(history.step(Event::Ready(A, Ok(Vec::new()))).is_empty(), "one is not all");
    let check = history.step(Event::Ready(B, Ok(Vec::new())));
    assert!(matches!(check[..], [Action::CheckTarget(A)]), "{check:?}");
}

#[test]
fn a_clean_run_passes_with_every_operation_accounted_for() {
    let mut history = History::started(OPEN, &[A, B]);
    assert!(history.t0 > history.now, "the start lies ahead");
    for second in 1..=4 {
        for agent in [A, B] {
            assert!(history.measured(agent, second, second * 5, 5, 0).is_empty());
        }
    }
    assert!(history.done(A).is_empty());
    let report = report(history.done(B));
    assert_eq!(report.verdict.status, Status::Passed, "{:?}", report.verdict);
    assert_eq!((report.ledger.scheduled, report.ledger.ok), (40, 40));
    assert!(report.ledger.balanced);
    assert_eq!(report.total.response_ms.count, 40);
    assert_eq!((report.total.response_ms.min, report.total.response_ms.max), (Some(1.0), Some(1.004)));
}

#[test]
fn nothing_is_sent_when_anything_is_not_ready() {
    let mut history = History::new(OPEN);
    history.step(Event::Assigned(candidates(&[A])));
    let (problem, exit_code) = no_report(history.step(Event::Ready(A, Err("no descriptors".into()))));
    assert!(problem.contains("agent-1") && problem.contains("no descriptors"), "{problem}");
    assert_eq!(exit_code, 3);

    let mut history = History::new(OPEN);
    history.step(Event::Assigned(candidates(&[A])));
    history.step(Event::Ready(A, Ok(Vec::new())));
    let (_, exit_code) = no_report(history.step(Event::TargetChecked(Some(A), Err("refused".into()))));
    assert_eq!(exit_code, 4);

    let mut history = History::new(OPEN);
    history.step(Event::Assigned(candidates(&[A])));
    history.step(Event::Ready(A, Ok(Vec::new())));
    history.step(Event::TargetChecked(Some(A), Ok(())));
    let (problem, _) = no_report(history.step(Event::Started(A, Ok(60_000))));
    assert!(problem.contains("60000 µs"), "{problem}");

    let mut history = History::new(OPEN);
    history.step(Event::Assigned(candidates(&[A])));
    let (problem, _) = no_report(history.step(Event::Lost(A, "gone".into())));
    assert!(problem.contains("lost before the start"), "{problem}");
}

/// The agent that was asked to look at the target says how it is, no other one; also when the log is read again.
#[test]
fn no_agent_speaks_for_the_one_that_checks_the_target() {
    let checking = || {
        let mut history = History::new(OPEN);
        history.step(Event::Assigned(candidates(&[A, B])));
        history.step(Event::Ready(A, Ok(Vec::new())));
        let asked = history.step(Event::Ready(B, Ok(Vec::new())));
        assert!(matches!(asked[..], [Action::CheckTarget(A)]), "{asked:?}");
        history
    };
    let logged = |event: &Event| serde_json::from_slice::<Event>(&serde_json::to_vec(event).unwrap()).unwrap();
    for of_another in [Event::TargetChecked(Some(B), Ok(())), Event::TargetChecked(Some(B), Err("down".into()))] {
        let mut history = checking();
        assert!(history.step(of_another.clone()).is_empty());
        assert!(history.step(logged(&of_another)).is_empty());
        assert_eq!(history.step(logged(&Event::TargetChecked(Some(A), Ok(())))).len(), 2);
    }
    // Logs of earlier releases have no agent there.
    for (earlier, actions) in [(r#"{"TargetChecked":{"Ok":null}}"#, 2), (r#"{"TargetChecked":{"Err":"down"}}"#, 3)] {
        let event: Event = serde_json::from_str(earlier).unwrap();
        assert_eq!(checking().step(event).len(), actions, "{earlier}");
    }
}

#[test]
fn a_delta_counts_once_and_in_order() {
    let mut history = History::started(OPEN, &[A]);
    history.measured(A, 1, 10, 10, 0);
    history.step(Event::Measured(A, Box::new(measured(1, 1, 1, 10, 10, 0))));
    history.step(Event::Measured(A, Box::new(measured(1, 3, 3, 30, 10, 0))));
    for second in 2..=4 {
        history.measured(A, second, second * 10, 10, 0);
    }
    assert_eq!(report(history.done(A)).ledger.issued, 40);
}

/// An agent is not done before its last delta is here.
#[test]
fn an_end_before_the_last_delta_is_none() {
    let mut history = History::started(OPEN, &[A]);
    history.measured(A, 1, 10, 10, 0);
    assert!(history.step(Event::Done(A, 4, None)).is_empty());
    for second in 2..=4 {
        history.measured(A, second, second * 10, 10, 0);
    }
    assert_eq!(report(history.step(Event::Done(A, 4, None))).verdict.status, Status::Passed);
}

/// Figures that are consistent with each other but not with the plan are a fault, and never pass.
#[test]
fn an_account_short_of_the_plan_is_invalid() {
    let mut history = History::started(OPEN, &[A]);
    history.measured(A, 1, 10, 10, 0);
    let report = report(history.done(A));
    assert_eq!(report.verdict.status, Status::Invalid);
    assert!(!report.ledger.balanced);
    assert!(
        report.verdict.reasons[0].message.contains("40 operations of x are planned but 10"),
        "{:?}",
        report.verdict
    );
}

#[test]
fn an_interrupt_stops_every_agent_once() {
    let plan = "scenarios:\n  one:\n    load: { users: 2, for: 1h }\n    flow: [ { get: /x, name: x } ]\n";
    let mut history = History::started(plan, &[A, B]);
    history.measured(A, 1, 0, 5, 0);
    history.measured(B, 1, 0, 5, 0);
    let stops = history.step(Event::Stop(StopReason::Interrupted));
    assert!(matches!(stops[..], [Action::Stop(A, "interrupted", _), Action::Stop(B, "interrupted", _)]), "{stops:?}");
    assert!(history.step(Event::Stop(StopReason::Interrupted)).is_empty());
    history.done(A);
    let report = report(history.done(B));
    assert_eq!(report.verdict.status, Status::Aborted);
    assert_eq!(report.verdict.status.exit_code(), 130);
    assert!(report.ledger.balanced);
}

#[test]
fn a_broken_threshold_fails_the_run_and_stop_ends_it() {
    let plan = "scenarios:\n  one:\n    load: { users: 1, for: 1h }\n    flow: [ { get: /x, name: x } ]\n\
                thresholds:\n  - one.error_rate < 10% over 2s, stop\n  - one.p95 < 1ms\n";
    let mut history = History::started(plan, &[A]);
    let mut stopped_at = None;
    for second in 1..=10 {
        history.measured(A, second, 0, 10, if second >= 4 { 10 } else { 0 });
        let now = Now { monotonic: history.now, calendar: SystemTime::UNIX_EPOCH };
        let due = history.run.due(now);
        let actions: Vec<Action> = due.into_iter().flat_map(|event| history.step(event)).collect();
        if actions.iter().any(|action| matches!(action, Action::Stop(A, "threshold", _))) {
            stopped_at = Some(second);
            break;
        }
    }
    assert_eq!(stopped_at, Some(4), "the window that ends with the fourth second holds the first errors");
    let report = report(history.done(A));
    assert_eq!(report.verdict.status, Status::Failed);
    let results: Vec<bool> = report.thresholds.iter().map(|result| result.passed).collect();
    assert_eq!(results, [false, false]);
    assert_eq!(report.thresholds[0].aborted_at_s, Some(4.0));
    assert!(report.verdict.reasons.iter().all(|reason| reason.code == "threshold"), "{:?}", report.verdict);
}

/// What puts the figures in doubt outweighs a threshold.
#[test]
fn a_lost_agent_outweighs_a_threshold() {
    let mut history =
        History::started(&format!("on_agent_loss: continue\n{OPEN}thresholds: [ one.p95 < 1us ]\n"), &[A, B]);
    history.measured(A, 1, 5, 5, 0);
    history.step(Event::Lost(B, "gone".into()));
    for second in 2..=4 {
        history.measured(A, second, second * 5, 5, 0);
    }
    let report = report(history.done(A));
    assert_eq!(report.verdict.status, Status::Degraded);
    let codes: Vec<&str> = report.verdict.reasons.iter().map(|reason| reason.code.as_str()).collect();
    assert_eq!(codes, ["agent_lost", "threshold"]);
}

#[test]
fn a_step_of_which_nothing_succeeded_is_named() {
    let mut history = History::started(OPEN, &[A]);
    for second in 1..=4 {
        history.measured(A, second, second * 10, 0, 10);
    }
    let report = report(history.done(A));
    assert_eq!(report.verdict.status, Status::Degraded);
    assert_eq!(report.verdict.reasons[0].code, "all_failed");
    assert_eq!(report.total.error_classes[0].class, "status_500");
}

/// An agent that sent late for a second of three: invalid, with agent, time and cause; a short hiccup is a warning.
#[test]
fn a_late_agent_makes_the_run_invalid_and_a_hiccup_does_not() {
    let late = |seconds_late: u64| {
        let mut history = History::started(
            "scenarios:\n  one:\n    load: { users: 2, for: 300s }\n    flow: [ { get: /x, name: x } ]\n",
            &[A],
        );
        for second in 1..=300 {
            let mut window = measured(1, second, second, second, 100, 0);
            if second > 300 - seconds_late {
                let lag = &mut window.delta.steps.get_mut(&StepId(0)).unwrap().series[Kind::SendLag as usize];
                *lag = lag_of(100, 40_000);
            }
            history.seqs.insert(A, second);
            history.now = history.t0 + Duration::from_secs(second);
            history.step(Event::Measured(A, Box::new(window)));
        }
        report(history.done(A))
    };
    let invalid = late(4);
    assert_eq!(invalid.verdict.status, Status::Invalid, "{:?}", invalid.verdict);
    let reason = &invalid.verdict.reasons[0];
    assert_eq!((reason.code.as_str(), reason.agent.as_deref()), ("generator", Some("agent-1")));
    assert_eq!((reason.from_s, reason.to_s), (Some(296.0), Some(300.0)));
    let warned = late(3);
    assert_eq!(warned.verdict.status, Status::Passed, "{:?}", warned.verdict);
    assert_eq!(warned.warnings.iter().map(|warning| warning.code.as_str()).collect::<Vec<_>>(), ["generator"]);
    assert!(late(0).warnings.is_empty());
}

/// An agent that makes users wait for its own limit: the report says so, and a search does not take it for the target's.
#[test]
fn operations_that_waited_for_an_agents_limit_are_said() {
    let held_to = |held: u64| {
        let mut history = History::started(
            "scenarios:\n  one:\n    load: { users: 2, for: 2s }\n    flow: [ { get: /x, name: x } ]\n",
            &[A],
        );
        for second in 1..=2 {
            let mut window = measured(1, second, second, second, 100, 0);
            window.health.held_operations = held;
            history.seqs.insert(A, second);
            history.now = history.t0 + Duration::from_secs(second);
            history.step(Event::Measured(A, Box::new(window)));
        }
        report(history.done(A))
    };
    let (free, held) = (held_to(0), held_to(21));
    assert!(free.warnings.is_empty(), "{:?}", free.warnings);
    assert_eq!(held.verdict.status, Status::Passed, "{:?}", held.verdict);
    let [warning] = &held.warnings[..] else { panic!("{:?}", held.warnings) };
    assert_eq!((warning.code.as_str(), warning.agent.as_deref()), ("max_rate", Some("agent-1")));
    assert!(warning.message.contains("42 operations waited"), "{}", warning.message);
    let text = "target: http://localhost\nscenarios:\n  s: { load: { search: { users: { from: 1, to: 9 } }, for: 5s }, flow: [ { get: / } ] }\n\
                thresholds: [ 'p95 < 1s' ]\n";
    let source = PlanSource { name: "p".into(), text: text.into(), files: BTreeMap::new(), search_level: None };
    let mut search = Search::of(&Plan::compile(&source).unwrap()).unwrap();
    assert_eq!(search.record(1.0, &free).outcome, StepOutcome::Kept);
    let step = search.record(2.0, &held);
    assert_eq!((step.outcome, &step.reasons[..]), (StepOutcome::Generator, &[warning.message.clone()][..]));
}

/// What a machine could not send is its own limit: no error of the target, no latency, but the run is invalid.
#[test]
fn operations_that_were_not_sent_are_no_errors_of_the_target() {
    let mut history = History::started(
        "scenarios:\n  one:\n    load: { users: 2, for: 1s }\n    flow: [ { get: /x, name: x } ]\n",
        &[A],
    );
    let mut recorder = Recorder::new(1);
    recorder.scheduled(StepId(0), 10);
    for _ in 0..10 {
        recorder.issued(StepId(0));
        recorder.finished(&Sample {
            step: StepId(0),
            response_us: 0,
            service_us: 0,
            send_lag_us: 0,
            phases: Phases::default(),
            outcome: Ended::Unsent(ErrorClass::new("no_free_port")),
            follow_ups: 0,
            bytes_sent: 0,
            bytes_received: 0,
        });
    }
    let delta = Delta { from_us: 0, to_us: 1_000_000, steps: recorder.seal(), ..Delta::default() };
    let window = Measured { seq: 1, delta, cursors: BTreeMap::new(), health: Health::default(), source: 0 };
    history.seqs.insert(A, 1);
    history.now = history.t0 + Duration::from_secs(1);
    history.step(Event::Measured(A, Box::new(window)));
    let report = report(history.done(A));
    assert_eq!(report.verdict.status, Status::Invalid);
    assert_eq!(report.verdict.reasons[0].code, "client_limit");
    assert!(report.verdict.reasons[0].message.contains("local ports"), "{:?}", report.verdict);
    assert_eq!((report.total.errors, report.total.unsent, report.total.error_rate), (0, 10, 0.0));
    assert_eq!((report.ledger.balanced, report.total.response_ms.count), (true, 0));
}

/// Shares are in proportion to the agents' weights, and part the schedule.
#[test]
fn a_heavier_agent_gets_a_greater_share() {
    let mut history = History::new(OPEN);
    let weights = [(A, 3), (B, 1)];
    let candidates = weights.map(|(id, weight)| candidate(id, weight));
    let armed = history.step(Event::Assigned(candidates.into()));
    let shares: Vec<Share> = armed
        .into_iter()
        .map(|action| match action {
            Action::Arm(_, assignment) => assignment.share,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(shares.iter().map(|share| share.count_below(40)).collect::<Vec<_>>(), [30, 10]);
    assert!((0..40).all(|k| shares.iter().filter(|share| share.owns(k)).count() == 1));
}

/// The warm-up is in the account and in no other figure, also of an agent that is lost within it.
#[test]
fn the_warm_up_is_accounted_for_but_not_measured() {
    let plan = "on_agent_loss: continue\n\
        scenarios:\n  one:\n    load: { rate: 10/s, for: 10s, warm_up: 4s }\n    flow: [ { get: /x, name: x } ]\n";
    let mut history = History::started(plan, &[A, B]);
    let warm = |steps, seq, second, decided| {
        let mut window = measured(steps, seq, second, decided, 5, 0);
        let of_warm_up = window.delta.steps.remove(&StepId(0)).unwrap();
        window.delta.steps.insert(StepId(1), of_warm_up);
        window
    };
    for second in 1..=10 {
        let window = if second <= 4 {
            warm(2, second, second, second * 5)
        } else {
            measured(2, second, second, second * 5, 5, 0)
        };
        history.now = history.t0 + Duration::from_secs(second);
        history.step(Event::Measured(A, Box::new(window)));
        if second == 1 {
            let mut of_b = warm(2, 1, 1, 5);
            of_b.cursors = BTreeMap::from([((2, 0, 0), 5)]);
            history.step(Event::Measured(B, Box::new(of_b)));
            history.step(Event::Lost(B, "killed".to_owned()));
        }
    }
    history.seqs.insert(A, 10);
    let report = report(history.done(A));
    assert_eq!((report.ledger.scheduled, report.ledger.issued, report.ledger.warm_up), (100, 55, 25));
    assert!(report.ledger.balanced, "{:?}", report.verdict);
    assert_eq!(report.ledger.not_generated["agent_lost"], 45);
    assert_eq!((report.total.scheduled, report.total.issued, report.total.not_generated), (60, 30, 30));
    assert!((report.total.rate_per_s - 5.0).abs() < 0.01, "{}", report.total.rate_per_s);
    assert!(report.timeline.iter().filter(|point| point.warm_up).all(|point| point.t_s < 4.0));
}

/// So many samples of one value.
fn lag_of(count: u64, lag_us: u64) -> Series {
    let mut recorder = Recorder::new(1);
    for _ in 0..count {
        recorder.finished(&Sample {
            step: StepId(0),
            response_us: 0,
            service_us: 0,
            send_lag_us: lag_us,
            phases: Phases::default(),
            outcome: Ended::Ok,
            follow_ups: 0,
            bytes_sent: 0,
            bytes_received: 0,
        });
    }
    recorder.seal()[&StepId(0)].series(Kind::SendLag).clone()
}

/// The calendar is for people: an hour back and a day ahead in the middle of a run, and the report is the same.
#[test]
fn the_calendar_says_nothing() {
    let hours = |n: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(3600 * n);
    let reported = |calendar: &dyn Fn(u64) -> SystemTime| {
        let mut history = History::started(OPEN, &[A, B]);
        history.now = history.t0;
        for second in 1..=4 {
            for agent in [A, B] {
                history.calendar = calendar(second);
                assert!(history.measured(agent, second, second * 5, 5, 0).is_empty());
                let now = Now { monotonic: history.now, calendar: history.calendar };
                assert!(history.run.due(now).is_empty(), "nobody is late");
            }
        }
        history.done(A);
        serde_json::to_value(report(history.done(B))).unwrap()
    };
    let steady = reported(&|_| hours(0));
    assert_eq!(steady["verdict"]["status"], "passed");
    assert_eq!(reported(&|second| hours(25 * (second % 2))), steady);
}
