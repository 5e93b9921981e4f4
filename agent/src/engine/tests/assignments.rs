//! Assignments that begin, end, and come late.

use super::*;

const RATE: &str = "  a: { load: { rate: 100/s, for: 10s }, flow: [ { get: / } ] }";

/// An agent is gone at 5 s, and another one has its share from then on: in no 100 ms is more offered than planned, and all
/// of the plan is.
#[tokio::test(start_paused = true)]
async fn a_take_over_keeps_to_the_plan() {
    in_a_worker_thread(async {
        let plan = plan(NOBODY, RATE);
        let mut lost = Worker::start(&plan, assignment(0, half(0), 0.0, None)).await;
        let mut survivor = Worker::start(&plan, assignment(0, half(1), 0.0, None)).await;
        let mut offered = Vec::new();
        for window in 1_u32..101 {
            let moment = f64::from(window) / 10.0 - 0.005;
            let sum = lost.sealed_at(moment).await.issued + survivor.sealed_at(moment).await.issued;
            offered.push(sum);
            if window == 42 {
                lost.end_assignment(0, 5.0).await;
                survivor.assign(assignment(1, half(0), 5.0, None)).await;
            }
        }
        assert_eq!(offered, [10; 100]);
        assert_eq!((lost.told.decided(0), survivor.told.decided(0), survivor.told.decided(1)), (250, 500, 250));
        let ended = lost.ended().await;
        assert!(lost.seal().await.finished && ended < 10.1, "{ended}");
        assert_eq!(survivor.seal().await.not_generated_in_all(), 0);
    })
    .await;
}

/// What ends has ended when its end comes, whatever was waited for, and not before.
#[tokio::test(start_paused = true)]
async fn an_assignment_ends_at_its_end() {
    let loads = [
        "  a: { load: { rate: 1/m, for: 10m }, flow: [ { get: / } ] }",
        "  a: { load: { users: 3, for: 10m }, flow: [ { get: / }, { think: 5m } ] }",
        "  a: { load: { users: 3, for: 10m }, every: 5m, flow: [ { get: / } ] }",
        "  a: { load: { users: 3, for: 10m }, start: 2m, flow: [ { get: / } ] }",
    ];
    in_a_worker_thread(async {
        for load in loads {
            let mut worker = Worker::start(&plan(NOBODY, load), Assignment::whole_run(0, Share::whole())).await;
            worker.at(1.0).await;
            worker.end_assignment(0, 30.0).await;
            worker.end_assignment(0, 40.0).await;
            worker.end_assignment(7, 2.0).await;
            let ended = worker.ended().await;
            assert!((30.0..30.1).contains(&ended), "{load}: {ended}");
            let told = worker.seal().await;
            assert!(told.finished && !told.lease_expired && told.users == 0, "{load}");
            assert_eq!(told.counters.scheduled, told.counters.issued, "{load}");
        }
    })
    .await;
}

/// Users of a closed load leave at the end of an assignment, and go on where it is taken over, under their numbers.
#[tokio::test(start_paused = true)]
async fn users_leave_and_are_taken_over() {
    in_a_worker_thread(async {
        let load = "  a: { load: { users: 4, for: 10s }, every: 1s, flow: [ { get: / } ] }";
        let plan = plan(NOBODY, load);
        let mut giver = Worker::start(&plan, assignment(0, half(0), 0.0, None)).await;
        let mut taker = Worker::start(&plan, assignment(0, half(1), 0.0, None)).await;
        giver.at(3.2).await;
        giver.end_assignment(0, 4.5).await;
        taker.assign(assignment(1, half(0), 4.5, None)).await;
        assert_eq!((giver.sealed_at(4.4).await.users, taker.sealed_at(4.4).await.users), (2, 2));
        assert_eq!((giver.sealed_at(4.6).await.users, taker.sealed_at(4.6).await.users), (0, 4));
        taker.at(11.0).await;
        // 0, 1, … 4 s; 0 … 9 s; 4.5 … 9.5 s.
        assert_eq!((giver.seal().await.counters.issued, taker.seal().await.counters.issued), (2 * 5, 2 * 10 + 2 * 6));
        assert!(giver.told.finished && taker.told.finished);
    })
    .await;
}

/// An assignment that comes after its beginning starts with what is due next: the rest is counted, never sent.
#[tokio::test(start_paused = true)]
async fn a_late_assignment_starts_at_the_current_ordinal() {
    in_a_worker_thread(async {
        let loads = "  a: { load: { rate: 100/s, for: 10s, warm_up: 2s }, flow: [ { get: / } ] }\n\
            \x20 b: { load: { rate: 100/s, for: 10s }, start: 2500ms, flow: [ { get: / } ] }\n\
            \x20 c: { load: { rate: 100/s, for: 10s }, start: 6s, flow: [ { get: / } ] }";
        let plan = plan(NOBODY, loads);
        let mut worker = Worker::start(&plan, assignment(0, half(0), 0.0, None)).await;
        worker.at(3.001).await;
        worker.assign(assignment(1, half(1), 1.0, None)).await;
        let told = worker.sealed_at(3.005).await;
        // The half of `a` from 1 s to 3 s and of `b` from 2.5 s to 3 s; `c` begins later.
        assert_eq!((told.not_generated("late_assign"), told.decided(1)), (100 + 25, 100 + 25));
        let offered = worker.sealed_at(3.095).await.issued;
        assert_eq!(offered, 9 + 9, "what is due after 3.001 s, without a burst");
        let told = worker.sealed_at(17.0).await;
        assert_eq!((told.decided(0), told.decided(1)), (1500, 1450));
        assert_eq!(told.counters.issued, 1500 + 1450 - 125);
        assert_eq!(told.not_generated_in_all(), 125);
        assert_eq!(told.counters.scheduled, told.counters.issued + 125);
    })
    .await;
}

/// A user that is assigned late is due when it comes: what it did not do before is no wait of its target's.
#[tokio::test(start_paused = true)]
async fn a_late_user_starts_when_it_comes() {
    in_a_worker_thread(async {
        let plan = plan(NOBODY, "  a: { load: { users: 4, for: 10s }, every: 1s, flow: [ { get: / } ] }");
        let mut worker = Worker::start(&plan, assignment(0, half(0), 0.0, None)).await;
        worker.at(6.5).await;
        worker.assign(assignment(1, half(1), 2.0, None)).await;
        let told = worker.sealed_at(11.0).await;
        // 0 … 9 s; 6.5, 7.5, 8.5, 9.5 s.
        assert_eq!(told.counters.issued, 2 * 10 + 2 * 4);
    })
    .await;
}

/// One that joins begins in the middle, also where it hears of the start after it.
#[tokio::test(start_paused = true)]
async fn one_that_joins_begins_in_the_middle() {
    in_a_worker_thread(async {
        let plan = plan(NOBODY, RATE);
        let mut early = Worker::start(&plan, assignment(3, half(1), 5.0, None)).await;
        assert_eq!(early.sealed_at(4.995).await.counters.scheduled, 0);
        let told = early.sealed_at(11.0).await;
        assert_eq!((told.counters.issued, told.decided(3), told.not_generated_in_all()), (250, 250, 0));
        let t0 = Instant::now() - seconds(6.0);
        let mut late = Worker::start_at(&plan, assignment(4, half(1), 5.0, None), t0).await;
        let told = late.sealed_at(11.0).await;
        assert_eq!((told.issued, told.decided(4), told.not_generated("late_assign")), (200, 250, 50));
    })
    .await;
}

/// A worker that has ended may get more.
#[tokio::test(start_paused = true)]
async fn what_has_finished_may_begin_again() {
    in_a_worker_thread(async {
        let plan = plan(NOBODY, RATE);
        let mut worker = Worker::start(&plan, assignment(0, Share::whole(), 0.0, Some(2.0))).await;
        worker.ended().await;
        assert!(worker.sealed_at(3.0).await.finished);
        worker.assign(assignment(1, half(0), 4.0, Some(6.0))).await;
        worker.assign(assignment(2, half(1), 5.0, None)).await;
        assert!(!worker.seal().await.finished);
        let ended = worker.ended().await;
        assert!((9.9..10.1).contains(&ended), "{ended}");
        let told = worker.seal().await;
        assert!(told.finished);
        assert_eq!([0, 1, 2].map(|generation| told.decided(generation)), [200, 100, 250]);
    })
    .await;
}

/// What has no place on the run's time is done by whom it was given before the start, to its end, and by nobody else.
#[tokio::test(start_paused = true)]
async fn a_fixed_total_is_not_handed_on() {
    in_a_worker_thread(async {
        let loads = "  a: { load: { iterations: 100, users: 4 }, every: 500ms, flow: [ { get: / } ] }\n\
            \x20 b: { after: a, load: { rate: 10/s, for: 3s }, flow: [ { get: / } ] }";
        let plan = plan(NOBODY, loads);
        let mut worker = Worker::start(&plan, assignment(0, half(0), 0.0, Some(5.0))).await;
        worker.at(3.0).await;
        worker.assign(assignment(1, half(1), 4.0, None)).await;
        let ended = worker.ended().await;
        // 25 iterations of each of two users, and then a half of 10/s for 3 s.
        assert!((14.9..15.6).contains(&ended), "{ended}");
        let told = worker.seal().await;
        assert_eq!((told.counters.issued, told.decided(0), told.decided(1)), (50 + 15, 50 + 15, 0));
    })
    .await;
}

/// Stopped, all that is left is counted with the reason; withdrawn, it is left to others.
#[tokio::test(start_paused = true)]
async fn a_stop_counts_what_is_left_and_a_withdrawal_does_not() {
    in_a_worker_thread(async {
        let plan = plan(NOBODY, RATE);
        for (rest, left) in [(Rest::Counted, 150 + 350), (Rest::HandedOn, 0)] {
            let mut worker = Worker::start(&plan, assignment(0, half(0), 0.0, Some(6.0))).await;
            worker.at(1.0).await;
            worker.assign(assignment(1, half(1), 3.0, None)).await;
            worker.at(2.995).await;
            worker.stop("agent_left", rest).await;
            worker.ended().await;
            let told = worker.seal().await;
            assert_eq!(told.counters.issued, 150);
            assert_eq!(told.not_generated("agent_left"), left);
            assert_eq!((told.decided(0), told.decided(1)), if left > 0 { (300, 350) } else { (150, 0) });
            assert!(!told.lease_expired);
        }
    })
    .await;
}

/// The account's words.
#[test]
fn reasons_of_a_stop_are_known() {
    let known = [
        "interrupted",
        "threshold",
        "agent_lost",
        "agent_left",
        "coordinator_lost",
        "client_gone",
        "start_failed",
        "lease_expired",
        "aborted",
    ];
    for (said, counted) in known.into_iter().map(|word| (word, word)).chain([("of the future", "stopped")]) {
        let stop = crate::engine::context::StopSignal::default();
        stop.stop(said, Rest::Counted);
        stop.stop("interrupted", Rest::HandedOn);
        assert_eq!((stop.reason(), stop.rest()), (Some(counted), Rest::Counted));
    }
}
