//! What holds for every store, whatever its database.

use std::collections::BTreeMap;

use groundswell_coordinator::store::{Created, EntryBody, Figures, Location, NewRun, RunState, StoreError};

pub(crate) use crate::compaction::{
    compaction_keeps_order_keys_and_content, compaction_that_fails_or_is_cut_short_changes_nothing,
    pruning_deletes_what_is_old,
};

use crate::common::{delta, event, finish, new_run, open, read, write};

pub(crate) async fn terms_rise(location: Location) {
    for term in 1..=3 {
        let store = open(&location).await;
        assert_eq!(store.term(), term);
        store.close().await;
    }
}

pub(crate) async fn incarnations_are_durable_and_rise(location: Location) {
    let store = open(&location).await;
    let first = store.incarnation("a", u64::MAX).await.unwrap();
    let other = store.incarnation("b", u64::MAX).await.unwrap();
    let second = store.incarnation("a", 5).await.unwrap();
    assert!(first < second && other != first && other != second, "{first} {other} {second}");
    store.close().await;
    let store = open(&location).await;
    assert_eq!(store.incarnation("a", u64::MAX).await.unwrap(), first, "the same boot is the same incarnation");
    assert_eq!(store.incarnation("a", 5).await.unwrap(), second);
    assert!(store.incarnation("a", 6).await.unwrap() > second);
    store.close().await;
}

pub(crate) async fn a_submission_makes_one_run(location: Location) {
    let store = open(&location).await;
    let first = new_run("r1");
    let created = store.create_run(&first).await.unwrap();
    assert_eq!(created, Created { id: "r1".into(), new: true });
    let again = NewRun { id: "r2".into(), ..first.clone() };
    assert_eq!(store.create_run(&again).await.unwrap(), Created { id: "r1".into(), new: false });
    let other = NewRun { plan_hash: "other".into(), ..again };
    let error = store.create_run(&other).await.unwrap_err();
    assert!(matches!(&error, StoreError::OtherPlan { run, .. } if run == "r1"), "{error}");
    let taken = NewRun { submission: "another".into(), ..first.clone() };
    assert!(matches!(store.create_run(&taken).await.unwrap_err(), StoreError::Duplicate { .. }));
    store.close().await;

    let store = open(&location).await;
    let run = store.run("r1").await.unwrap();
    assert_eq!((run.plan, run.submission, run.agents_wanted, run.wait_ms), (first.plan, first.submission, 3, 60_000));
    assert_eq!((run.row.name, run.row.labels, run.row.plan_hash), (first.name, first.labels, first.plan_hash));
    assert_eq!((run.row.state, run.report), (RunState::Unfinished, None));
    assert!(matches!(store.run("r2").await.unwrap_err(), StoreError::NoRun { run } if run == "r2"));
    store.close().await;
}

pub(crate) async fn a_run_remembers_which_agents_it_takes(location: Location) {
    let store = open(&location).await;
    let selector = BTreeMap::from([("zone".to_owned(), "eu".to_owned())]);
    store.create_run(&NewRun { selector: selector.clone(), attached: false, ..new_run("r") }).await.unwrap();
    let stored = store.run("r").await.unwrap();
    assert_eq!((stored.selector, stored.attached), (selector, false));
    store.close().await;
}

pub(crate) async fn runs_are_listed_newest_first(location: Location) {
    let store = open(&location).await;
    for (id, at) in [("old", 1), ("new", 3), ("middle", 2), ("as-new", 3)] {
        store.create_run(&NewRun { submitted_at_us: at, ..new_run(id) }).await.unwrap();
    }
    store.finish_run(&finish("middle", 1, 50)).await.unwrap();
    let runs = store.runs().await.unwrap();
    assert_eq!(runs.iter().map(|run| run.id.as_str()).collect::<Vec<_>>(), ["as-new", "new", "middle", "old"]);
    let state = RunState::Finished { revision: 1, exit_code: 0, finished_at_us: 50 };
    assert_eq!(runs.iter().map(|run| run.state).collect::<Vec<_>>()[1..3], [RunState::Unfinished, state]);
    store.close().await;
}

pub(crate) async fn entries_come_back_as_written(location: Location) {
    let store = open(&location).await;
    store.create_run(&new_run("r")).await.unwrap();
    store.create_run(&new_run("s")).await.unwrap();
    // More than a page and than the longest statement, and two runs in one commit.
    let of_r = (1..=150).map(|n| if n % 3 == 1 { event("r", n, b"start") } else { delta("r", n, "a", 1, n) });
    let of_s = (1..=150).map(|n| delta("s", n, "a", 1, n));
    let (of_r, of_s): (Vec<_>, Vec<_>) = (of_r.collect(), of_s.collect());
    let mixed = of_r.iter().zip(&of_s).flat_map(|(one, other)| [one.clone(), other.clone()]).collect();
    write(&store, mixed).await.unwrap();
    write(&store, vec![event("r", 151, b"")]).await.unwrap();
    store.close().await;

    let store = open(&location).await;
    let entries = read(&store, "r").await.unwrap();
    assert_eq!((&entries[..150], &entries[150]), (&of_r[..], &event("r", 151, b"")));
    assert_eq!(read(&store, "s").await.unwrap(), of_s);
    let (mut log, mut events) = (store.events("r").await.unwrap(), Vec::new());
    while let Some(entry) = log.next().await.unwrap() {
        events.push(entry);
    }
    assert!(events.iter().eq(entries.iter().filter(|entry| matches!(entry.body, EntryBody::Event(_)))), "{events:?}");
    assert!(matches!(read(&store, "t").await.unwrap_err(), StoreError::NoRun { .. }));
    store.close().await;
}

/// Each breaks a rule; none of it is stored, and the store stops writing and says why.
pub(crate) async fn the_database_refuses_what_does_not_follow(location: Location) {
    let store = open(&location).await;
    store.create_run(&new_run("r")).await.unwrap();
    let start = vec![event("r", 1, b"start"), delta("r", 2, "a", 1, 1), delta("r", 3, "b", 2, 1)];
    write(&store, start.clone()).await.unwrap();
    store.close().await;
    type Is = fn(&StoreError) -> bool;
    let wrong: [(&str, Vec<_>, Is); 5] = [
        ("a delta twice", vec![delta("r", 4, "a", 1, 1)], |error| matches!(error, StoreError::Duplicate { .. })),
        ("a delta twice in one commit", vec![delta("r", 4, "c", 3, 1), delta("r", 5, "c", 3, 1)], |error| {
            matches!(error, StoreError::Duplicate { .. })
        }),
        ("a gap", vec![event("r", 5, b"")], |error| matches!(error, StoreError::OutOfOrder { n: 5, expected: 4, .. })),
        ("an entry twice", vec![event("r", 3, b"")], |error| {
            matches!(error, StoreError::OutOfOrder { n: 3, expected: 4, .. })
        }),
        ("an unknown run", vec![event("x", 1, b"")], |error| matches!(error, StoreError::NoRun { .. })),
    ];
    for (what, entries, is) in wrong {
        let store = open(&location).await;
        let error = write(&store, entries).await.unwrap_err();
        assert!(is(&error), "{what}: {error}");
        let error = write(&store, vec![event("r", 4, b"")]).await.unwrap_err();
        assert!(matches!(&error, StoreError::Stopped(why) if is(why)), "{what}: {error}");
        assert!(matches!(store.incarnation("n", 1).await.unwrap_err(), StoreError::Stopped(_)), "{what}");
        assert_eq!(read(&store, "r").await.unwrap(), start, "{what}");
        store.close().await;
    }
}

pub(crate) async fn reports_never_change(location: Location) {
    let store = open(&location).await;
    store.create_run(&new_run("r")).await.unwrap();
    let first = finish("r", 1, 10);
    assert!(matches!(store.finish_run(&finish("r", 2, 10)).await.unwrap_err(), StoreError::Revision { .. }));
    assert!(matches!(store.finish_run(&finish("x", 1, 10)).await.unwrap_err(), StoreError::NoRun { .. }));
    store.finish_run(&first).await.unwrap();
    store.finish_run(&first).await.unwrap();
    let mut other = first.clone();
    other.exit_code = 1;
    assert!(matches!(store.finish_run(&other).await.unwrap_err(), StoreError::Revision { revision: 1, .. }));
    let mut second = finish("r", 2, 20);
    second.report = Err("the plan can't be read".to_owned());
    second.exit_code = 99;
    store.finish_run(&second).await.unwrap();
    store.close().await;
    let store = open(&location).await;
    let report = store.run("r").await.unwrap().report.unwrap();
    assert_eq!((report.revision, report.exit_code, report.finished_at_us), (2, 99, 20));
    assert_eq!(report.report, second.report);
    store.close().await;
}

pub(crate) async fn figures_stand_beside_the_newest_report(location: Location) {
    let store = open(&location).await;
    store.create_run(&new_run("r")).await.unwrap();
    assert_eq!(store.distributions("r").await.unwrap(), None);
    for revision in 1..=2 {
        let mut answer = finish("r", revision, 10);
        let figures = Figures { summary: format!("{{\"n\":{revision}}}"), distributions: vec![0, revision as u8] };
        answer.figures = Some(figures);
        store.finish_run(&answer).await.unwrap();
        store.finish_run(&answer).await.unwrap();
    }
    assert_eq!(store.distributions("r").await.unwrap(), Some(vec![0, 2]));
    assert_eq!(store.runs().await.unwrap()[0].summary.as_deref(), Some("{\"n\":2}"));
    assert_eq!(store.prune(11).await.unwrap(), ["r"]);
    assert_eq!(store.distributions("r").await.unwrap(), None);
    store.close().await;
}

pub(crate) async fn a_second_coordinator_is_refused(location: Location) {
    use groundswell_coordinator::store::Store;
    let store = open(&location).await;
    let error = Store::open(&location).await.unwrap_err();
    let StoreError::InUse { holder, .. } = &error else { panic!("{error}") };
    assert!(holder.contains(&format!("process {}", std::process::id())), "{error}");
    assert!(error.to_string().contains(&location.to_string()), "{error}");
    store.incarnation("a", 1).await.unwrap();
    store.close().await;
    let next = open(&location).await;
    assert_eq!(next.term(), 2, "who was refused has not counted");
    next.close().await;
}
