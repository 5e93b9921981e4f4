//! Agents that are lost, leave, join, come late.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use groundswell_coordinator::report::Status;
use groundswell_coordinator::run::{Action, Event, Now, StopReason};

use super::driver::*;

/// Agent B hands in one second and dies: what it still had to do is counted, by whom and since when.
#[test]
fn what_a_lost_agent_did_not_offer_is_counted() {
    let mut history = History::started(&format!("on_agent_loss: continue\n{OPEN}"), &[A, B]);
    for second in 1..=4 {
        history.measured(A, second, second * 5, 5, 0);
        if second == 1 {
            history.measured(B, 1, 5, 5, 0);
            history.now = history.t0 + Duration::from_millis(1_500);
            assert!(history.step(Event::Lost(B, "its connection broke".into())).is_empty());
        }
    }
    let report = report(history.done(A));
    assert_eq!(report.verdict.status, Status::Degraded);
    let reason = &report.verdict.reasons[0];
    assert_eq!((reason.code.as_str(), reason.agent.as_deref()), ("agent_lost", Some("agent-2")));
    assert_eq!(reason.from_s, Some(1.0));
    assert_eq!(report.ledger.not_generated, BTreeMap::from([("agent_lost".to_owned(), 15)]));
    assert_eq!((report.ledger.scheduled, report.ledger.issued), (40, 25));
    assert!(report.ledger.balanced);
    // Between its last delta and its loss it may have issued what was due in that half second.
    assert!((1..=3).contains(&report.ledger.unknown_max), "{}", report.ledger.unknown_max);
    assert_eq!(report.agents[1].lost_at_s, Some(1.5));
}

/// The others take over what a lost agent had, from a moment ahead; what nobody offered meanwhile is counted.
#[test]
fn a_lost_share_is_taken_over() {
    let mut history = History::started(OPEN, &[A, B]);
    history.measured(A, 1, 5, 5, 0);
    history.measured(B, 1, 5, 5, 0);
    history.now = history.t0 + Duration::from_millis(1_500);
    let given = history.step(Event::Lost(B, "its lease ran out".into()));
    let [Action::Give(A, assignment)] = &given[..] else { panic!("{given:?}") };
    assert_eq!((assignment.generation, assignment.from), (3, Duration::from_millis(3_500)));
    assert_eq!((assignment.share.slots(), assignment.share.of()), (&[1][..], 2));
    for second in 2..=4 {
        history.measured(A, second, second * 5, 5, 0);
    }
    // 35, 37 and 39 were due from 3.5 s on.
    let seq = history.seqs[&A] + 1;
    history.seqs.insert(A, seq);
    history.step(Event::Measured(A, Box::new(measured_of(3, 1, seq, 4, 3, 3, 0))));
    let report = report(history.done(A));
    assert_eq!(report.verdict.status, Status::Degraded);
    assert!(
        report.verdict.reasons[0].message.ends_with("; from 3.5 s on its load went to agent-1"),
        "{:?}",
        report.verdict
    );
    assert_eq!((report.ledger.scheduled, report.ledger.issued, report.ledger.balanced), (40, 28, true));
    assert_eq!(report.ledger.not_generated, BTreeMap::from([("agent_lost".to_owned(), 12)]));
    let kinds: Vec<(f64, &str)> = report.marks.iter().map(|mark| (mark.t_s, mark.kind.as_str())).collect();
    assert_eq!(kinds, [(1.5, "agent_lost"), (1.5, "load_moved")]);
}

/// What a lost agent had measured counts when it comes, also after the report, which then has another revision.
#[test]
fn what_comes_late_still_counts() {
    let mut history = History::started(&format!("on_agent_loss: continue\n{OPEN}"), &[A, B]);
    for second in 1..=4 {
        history.measured(A, second, second * 5, 5, 0);
    }
    history.measured(B, 1, 5, 5, 0);
    history.now = history.t0 + Duration::from_millis(1_500);
    history.step(Event::Lost(B, "gone".into()));
    let first = report(history.done(A));
    assert_eq!((first.ledger.issued, first.ledger.balanced), (25, true));
    assert!(first.ledger.unknown_max > 0);
    // Seven of its arrivals were due before it stopped.
    history.measured(B, 2, 7, 2, 0);
    let second = report(history.step(Event::Done(B, 2, Some("its lease ran out".into()))));
    assert_eq!((second.ledger.issued, second.ledger.unknown_max, second.ledger.balanced), (27, 0, true));
    assert_eq!(second.ledger.not_generated, BTreeMap::from([("agent_lost".to_owned(), 13)]));
}

/// An agent that is asked to stop hands its load over without a gap, and the run passes.
#[test]
fn an_agent_that_leaves_hands_over() {
    let mut history = History::started(OPEN, &[A, B]);
    history.measured(A, 1, 5, 5, 0);
    history.measured(B, 1, 5, 5, 0);
    history.now = history.t0 + Duration::from_secs(1);
    let asked = history.step(Event::Leaving(B));
    let [Action::End { agent: B, generation: 2, at, instead: None }] = asked[..] else { panic!("{asked:?}") };
    assert_eq!(at, Duration::from_secs(3));
    let given = history.step(Event::Released(B, 2, at, true));
    let [Action::Give(A, assignment)] = &given[..] else { panic!("{given:?}") };
    assert_eq!(assignment.from, at);
    for second in 2..=3 {
        history.measured(A, second, second * 5, 5, 0);
        history.measured(B, second, second * 5, 5, 0);
    }
    assert!(history.step(Event::Done(B, 3, Some("the agent was asked to stop".into()))).is_empty());
    history.measured(A, 4, 20, 5, 0);
    let seq = history.seqs[&A] + 1;
    history.seqs.insert(A, seq);
    history.step(Event::Measured(A, Box::new(measured_of(3, 1, seq, 4, 5, 5, 0))));
    let report = report(history.done(A));
    assert_eq!(report.verdict.status, Status::Passed, "{:?}", report.verdict);
    assert_eq!((report.ledger.issued, report.ledger.balanced), (40, true));
}

/// An agent that joins later gets its part when the others have let go of it, and never before.
#[test]
fn an_agent_that_joins_waits_for_releases() {
    let mut history = History::started(OPEN, &[A]);
    history.measured(A, 1, 10, 10, 0);
    let armed = history.step(Event::Joined(candidates(&[B])[0].clone()));
    assert!(matches!(armed[..], [Action::Arm(B, _)]), "{armed:?}");
    assert!(matches!(history.step(Event::Ready(B, Ok(Vec::new())))[..], [Action::Start(B, _)]));
    let asked = history.step(Event::Started(B, Ok(100)));
    let [Action::End { agent: A, generation: 1, at, instead: Some(kept) }] = &asked[..] else { panic!("{asked:?}") };
    let given = history.step(Event::Released(A, 1, *at, true));
    let [Action::Give(B, assignment)] = &given[..] else { panic!("{given:?}") };
    assert!((0..100).all(|k| assignment.share.owns(k) != kept.share.owns(k)), "{given:?} {kept:?}");
}

/// With `abort` a loss stops everybody.
#[test]
fn a_loss_may_stop_the_run() {
    let mut history = History::started(&format!("on_agent_loss: abort\n{OPEN}"), &[A, B]);
    history.measured(A, 1, 5, 5, 0);
    history.step(Event::Lost(B, "gone".into()));
    let now = Now { monotonic: history.now, calendar: SystemTime::UNIX_EPOCH };
    assert_eq!(history.run.due(now), [Event::Stop(StopReason::AgentLost)]);
    let stops = history.step(Event::Stop(StopReason::AgentLost));
    assert!(matches!(stops[..], [Action::Stop(A, "aborted", _)]), "{stops:?}");
}

/// The same events in the same order make the same run: that is what a restart lives on.
#[test]
fn a_run_is_a_function_of_its_events() {
    let drive = || {
        let mut history = History::started(OPEN, &[A, B]);
        for second in 1..=4 {
            history.measured(A, second, second * 5, 5, 0);
            match second {
                1 => drop(history.measured(B, 1, 5, 4, 1)),
                2 => drop(history.step(Event::Lost(B, "gone".into()))),
                _ => drop(history.step(Event::Restarted)),
            }
        }
        report(history.done(A))
    };
    assert_eq!(drive(), drive());
}

/// An agent that says two things under one number can't be believed, and the run says so.
#[test]
fn an_agent_that_contradicts_itself_taints_the_run() {
    let mut history = History::started(OPEN, &[A, B]);
    history.measured(A, 1, 5, 5, 0);
    history.measured(B, 1, 5, 5, 0);
    let actions = history.step(Event::Tainted(B, "it sent two different deltas as number 1".into()));
    assert!(matches!(&actions[0], Action::Expel(B, _)), "{actions:?}");
    for second in 2..=4 {
        history.measured(A, second, second * 5, 5, 0);
    }
    let report = report(history.done(A));
    assert_eq!(report.verdict.status, Status::Invalid);
    assert_eq!(report.verdict.reasons[0].code, "tainted");
}

#[test]
fn an_agent_that_never_ends_is_lost_in_the_end() {
    let mut history = History::started(OPEN, &[A]);
    history.measured(A, 1, 10, 10, 0);
    history.now += Duration::from_secs(3_600);
    let now = Now { monotonic: history.now, calendar: SystemTime::UNIX_EPOCH };
    let due = history.run.due(now);
    assert_eq!(due.len(), 1);
    let report = report(due.into_iter().flat_map(|event| history.step(event)).collect());
    assert_eq!(report.verdict.status, Status::Degraded);
    assert!(report.verdict.reasons[0].message.contains("did not end in time"), "{:?}", report.verdict);
}
