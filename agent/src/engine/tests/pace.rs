//! No more operations a second than the agent begins, whatever load asks for them.

use super::*;

const CAP: f64 = 10.0;

/// Workers of one agent, one for each plan, that begin at the same moment.
async fn workers(plans: &[&str], rate_per_s: Option<f64>) -> Vec<Worker> {
    let (budget, t0) = (Budget::new(None, rate_per_s), Instant::now() + Duration::from_secs(1));
    let mut workers = Vec::new();
    for scenarios in plans {
        let first = Assignment::whole_run(0, Share::whole());
        workers.push(Worker::start_within(&plan(NOBODY, scenarios), first, t0, budget.clone()).await);
    }
    workers
}

/// Operations that each has issued by then.
async fn issued(workers: &mut [Worker], run: f64) -> Vec<u64> {
    let mut issued = Vec::new();
    for worker in workers {
        issued.push(worker.sealed_at(run).await.counters.issued);
    }
    issued
}

const USERS: &str = "  a: { load: { users: 50, for: 60s }, flow: [ { get: / }, { get: /then }, { think: 100ms } ] }";
const FIXED: &str = "  a: { load: { iterations: 100000, users: 50, for: 60s }, flow: [ { get: / }, { get: /then }, { think: 100ms } ] }";

#[tokio::test(start_paused = true)]
async fn closed_loads_of_all_workers_and_runs_wait_for_their_turn() {
    in_a_worker_thread(async {
        for plans in [&[USERS][..], &[FIXED], &[USERS, USERS, FIXED]] {
            let mut workers = workers(plans, Some(CAP)).await;
            for run in [5.0, 20.0] {
                let issued: u64 = issued(&mut workers, run).await.into_iter().sum();
                let most = (CAP * run) as u64 + 1;
                assert!((most - 10..=most).contains(&issued), "{plans:?}: {issued} in {run} s");
            }
            for worker in &mut workers {
                let told = worker.seal().await;
                assert!(told.held > 0 && told.held <= told.counters.issued, "{plans:?}: {}", told.held);
                worker.stop("interrupted", Rest::Counted).await;
            }
            for worker in &mut workers {
                let ended = worker.ended().await;
                assert!(ended < 22.0, "{plans:?}: those that wait leave at once, not at {ended}");
                let told = worker.seal().await;
                assert_eq!(told.counters.unaccounted(), 0, "{plans:?}");
                // Nobody was late: the wait is in no latency.
                assert!(told.most_lag_us < 100_000, "{plans:?}: {} us", told.most_lag_us);
            }
        }
    })
    .await;
}

/// Open loads keep their schedule, and closed ones beside them get what is left.
#[tokio::test(start_paused = true)]
async fn open_loads_do_not_wait_but_count() {
    in_a_worker_thread(async {
        let open = "  a: { load: { rate: 3/s, for: 60s }, flow: [ { get: / }, { get: /then }, { think: 100ms } ] }";
        let mut workers = workers(&[open, USERS], Some(CAP)).await;
        let issued = issued(&mut workers, 30.0).await;
        assert!((176..=182).contains(&issued[0]), "{issued:?}");
        assert!((110..=122).contains(&issued[1]), "{issued:?}");
        assert_eq!(workers[0].seal().await.held, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_stays_below_the_limit_does_not_wait() {
    in_a_worker_thread(async {
        let slow = "  a: { load: { users: 4, for: 60s }, every: 1s, flow: [ { get: / } ] }";
        for rate in [Some(100.0), None] {
            let mut workers = workers(&[slow], rate).await;
            let issued = issued(&mut workers, 20.5).await;
            assert!((80..=84).contains(&issued[0]), "{issued:?}");
            assert_eq!(workers[0].seal().await.held, 0, "{rate:?}");
        }
    })
    .await;
}
