//! Nothing is issued beyond the lease, whoever finds out.

use tokio::time::advance;

use super::*;

/// Loads of every kind, each with a second operation of an iteration that the end of the lease may keep from starting.
const LOADS: [&str; 5] = [
    "  a: { load: { rate: 100/s, for: 60s, warm_up: 2s }, flow: [ { get: / }, { think: 200ms }, { get: /then } ] }",
    "  a: { load: { users: 5, for: 60s }, flow: [ { get: / }, { think: 90ms }, { get: /then }, { think: 10ms } ] }",
    "  a: { load: { users: 5, for: 60s }, every: 100ms, flow: [ { get: / } ] }",
    "  a: { load: { iterations: 100000, users: 5, for: 60s }, every: 100ms, flow: [ { get: / }, { think: 50ms }, { get: /then } ] }",
    "  a: { load: { iterations: { per_user: 9000 }, users: 5, for: 60s }, every: 100ms, flow: [ { get: / } ] }",
];

/// The process is held back beyond its lease. No code of the session has run since, and yet nothing is sent when it goes
/// on; what is left of the plan is not entered, because others get it.
#[tokio::test(start_paused = true)]
async fn held_back_beyond_the_lease_nothing_is_sent() {
    in_a_worker_thread(async {
        for load in LOADS {
            let mut worker = Worker::start(&plan(NOBODY, load), Assignment::whole_run(0, Share::whole())).await;
            worker.lease.set(Some(worker.t0 + seconds(5.0)));
            let before = worker.sealed_at(3.005).await;
            let (issued, decided) = (before.counters.issued, before.decided(0));
            assert!(issued > 100 && !before.finished, "{load}: {issued}");
            advance(seconds(10.0)).await;
            let ended = worker.ended().await;
            assert!((13.0..13.1).contains(&ended), "{load}: {ended}");
            let after = worker.seal().await;
            assert_eq!(after.issued, 0, "{load}");
            assert!(after.finished && after.lease_expired, "{load}");
            assert_eq!(after.decided(0), decided, "{load}");
            assert_eq!(after.not_generated("lease_expired"), after.not_generated_in_all(), "{load}");
            assert_eq!(after.counters.scheduled, issued + after.not_generated("lease_expired"), "{load}");
        }
    })
    .await;
}

/// What was in flight ends by itself, and the operation that would follow it at once is not sent; nor is an iteration that
/// waited for a place in flight.
#[tokio::test(start_paused = true)]
async fn what_ends_after_the_lease_is_followed_by_nothing() {
    // It takes connections and never answers, so that operations are in flight until their time limit: here they come
    // to it before the worker looks at the lease by itself.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    in_a_worker_thread(async {
        let flow = "flow: [ { get: /, timeout: 700ms }, { get: /, timeout: 700ms } ]";
        for load in
            ["users: 5, for: 60s", "rate: 10/s, for: 60s, max_in_flight: 3, queue: 3", "iterations: 900, users: 5"]
        {
            let load = format!("  a: {{ load: {{ {load} }}, {flow} }}");
            let mut worker = Worker::start(&plan(&address, &load), Assignment::whole_run(0, Share::whole())).await;
            worker.lease.set(Some(worker.t0 + seconds(5.0)));
            let before = worker.sealed_at(3.405).await;
            let in_flight = before.counters.in_flight();
            let waiting = before.counters.unaccounted();
            assert!(in_flight > Some(0), "{load}");
            advance(seconds(10.0)).await;
            worker.ended().await;
            let after = worker.seal().await;
            assert_eq!((after.issued, after.counters.in_flight()), (0, Some(0)), "{load}");
            assert_eq!(i128::from(after.not_generated("lease_expired")), waiting, "{load}");
            assert_eq!(after.counters.unaccounted(), 0, "{load}");
        }
    })
    .await;
}

/// The last arrival before the lease ends is issued, none at its end or after it, though the worker is awake.
#[tokio::test(start_paused = true)]
async fn a_lease_ends_at_its_moment() {
    in_a_worker_thread(async {
        let load = "  a: { load: { rate: 100/s, for: 60s }, flow: [ { get: / } ] }";
        let mut worker = Worker::start(&plan(NOBODY, load), Assignment::whole_run(0, Share::whole())).await;
        worker.lease.set(Some(worker.t0 + seconds(2.0)));
        worker.at(1.5).await;
        worker.lease.set(Some(worker.t0 + seconds(5.0)));
        worker.ended().await;
        let told = worker.seal().await;
        assert_eq!((told.counters.scheduled, told.counters.issued, told.decided(0)), (500, 500, 500));
        assert!(told.lease_expired);
        // Found out, it is expired for good.
        worker.lease.set(None);
        worker.assign(assignment(1, Share::whole(), 20.0, None)).await;
        let told = worker.sealed_at(30.0).await;
        assert_eq!((told.issued, told.counters.scheduled, told.decided(1)), (0, 500, 0));
        assert!(told.finished && told.lease_expired);
    })
    .await;
}

/// A worker whose users all think finds out too.
#[tokio::test(start_paused = true)]
async fn an_idle_worker_ends_with_its_lease() {
    in_a_worker_thread(async {
        let load = "  a: { load: { users: 3, for: 60s }, flow: [ { get: / }, { think: 50s } ] }";
        let mut worker = Worker::start(&plan(NOBODY, load), Assignment::whole_run(0, Share::whole())).await;
        worker.at(2.0).await;
        worker.lease.set(Some(worker.t0 + seconds(4.0)));
        let ended = worker.ended().await;
        assert!((4.0..5.1).contains(&ended), "{ended}");
        let told = worker.seal().await;
        assert_eq!((told.counters.scheduled, told.counters.issued, told.users), (3, 3, 0));
    })
    .await;
}

/// One worker that finds the lease expired ends it for all, whatever the session says after it.
#[tokio::test(start_paused = true)]
async fn an_expired_lease_is_not_revived() {
    let lease = Lease::unlimited();
    let now = Instant::now();
    assert!(lease.allows(now + seconds(1e6)));
    lease.set(Some(now + seconds(1.0)));
    assert!(lease.allows(now + Duration::from_nanos(999_999_999)));
    lease.set(Some(now + seconds(2.0)));
    assert!(lease.allows(now + seconds(1.5)), "it was extended in time");
    assert!(!lease.clone().allows(now + seconds(2.0)));
    lease.set(Some(now + seconds(9.0)));
    assert!(!lease.allows(now + seconds(2.5)));
    lease.set(None);
    assert!(!lease.allows(now));
    let passed = Lease::unlimited();
    advance(seconds(1.0)).await;
    passed.set(Some(now));
    assert!(!passed.allows(Instant::now()));
}
