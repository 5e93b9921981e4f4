//! Whole engines, with threads and a target that notes what it was asked for.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::thread;

use super::*;
use crate::engine::{Engine, EngineOptions, SealError, Sealed};

/// Answers everything and notes each path. Its threads end with the connections.
struct Target {
    address: String,
    paths: Arc<Mutex<Vec<String>>>,
}

impl Target {
    fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let paths = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&paths);
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let noted = Arc::clone(&noted);
                thread::spawn(move || answer(connection, &noted));
            }
        });
        Target { address, paths }
    }

    fn ordinals(&self) -> Vec<u64> {
        let paths = self.paths.lock().unwrap();
        let mut ordinals: Vec<u64> = paths.iter().map(|path| path.trim_start_matches('/').parse().unwrap()).collect();
        ordinals.sort_unstable();
        ordinals
    }
}

fn answer(connection: TcpStream, noted: &Mutex<Vec<String>>) {
    let mut answers = connection.try_clone().unwrap();
    let mut path = None;
    for line in BufReader::new(connection).lines().map_while(Result::ok) {
        if let Some(asked) = line.strip_prefix("GET ") {
            path = asked.split(' ').next().map(str::to_owned);
        } else if line.is_empty() {
            noted.lock().unwrap().extend(path.take());
            if answers.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_err() {
                return;
            }
        }
    }
}

struct Agent {
    engine: Engine,
    counters: Counters,
}

impl Agent {
    fn prepare(plan: &Arc<Plan>, first: &Assignment) -> Self {
        let options = EngineOptions {
            workers: 2,
            agent: "a".into(),
            secrets: Secrets::default(),
            raw_samples: None,
            gate: Gate::new(plan, Allowlist::default(), Budget::new(None, None)),
            run: None,
            max_duration: None,
        };
        let engine = Engine::prepare(Arc::clone(plan), first, &options).unwrap();
        Agent { engine, counters: Counters::default() }
    }

    fn not_generated(&self, reason: &str) -> u64 {
        self.counters.not_generated.get(reason).copied().unwrap_or(0)
    }

    async fn end(&mut self) -> Sealed {
        loop {
            self.engine.worker_finished().await;
            let sealed = self.engine.seal(0).await.unwrap();
            sealed.delta.steps.values().for_each(|step| self.counters.add(&step.counters).unwrap());
            if sealed.finished {
                return sealed;
            }
        }
    }
}

/// Of three agents one leaves and one is cut off from its coordinator; the third one gets what they leave: the target is
/// asked for each ordinal once, but for those that were counted as assigned too late on a machine that is too slow.
#[tokio::test]
async fn a_share_that_changes_hands_is_offered_once() {
    let target = Target::listen();
    let load = "  a: { load: { rate: 300/s, for: 3s }, flow: [ { get: \"/{{ iteration }}\" } ] }";
    let plan = plan(&target.address, load);
    let whole = |index| Assignment::whole_run(index, Share::nth_of(index, 3));
    let [mut gives, mut cut_off, mut takes] = [0, 1, 2].map(|index| Agent::prepare(&plan, &whole(index)));
    let t0 = Instant::now() + seconds(0.3);
    // All that has to be known in time is told before the start, so that no slow machine can fail this.
    gives.engine.end_assignment(0, seconds(1.2)).await;
    takes.engine.assign(&assignment(3, Share::nth_of(0, 3), 1.2, None)).await;
    cut_off.engine.lease(Some(t0 + seconds(1.0)));
    for agent in [&gives, &cut_off, &takes] {
        agent.engine.start(t0).await;
    }
    let expired = cut_off.end().await;
    assert!(expired.lease_expired);
    let decided = expired.cursors.get(&(1, 0, 0)).copied().unwrap_or(0);
    takes.engine.assign(&assignment(4, Share::nth_of(1, 3), 1.5, None)).await;
    assert!(!gives.end().await.lease_expired);
    let sealed = takes.end().await;
    assert_eq!(sealed.cursors.get(&(2, 0, 0)), Some(&300));
    assert_eq!(sealed.cursors.get(&(3, 0, 0)), Some(&180));
    assert_eq!(sealed.cursors.get(&(4, 0, 0)), Some(&150));

    let ordinals = target.ordinals();
    assert!(ordinals.windows(2).all(|pair| pair[0] < pair[1]), "something was asked for twice");
    let expired = cut_off.not_generated("lease_expired");
    // What the agent that was cut off had of the time up to 1.5 s and did not decide is the coordinator's to count.
    let unclaimed = 150 - decided;
    assert_eq!(ordinals.len() as u64 + takes.not_generated("late_assign") + expired + unclaimed, 900);
    let issued: u64 = [&gives, &cut_off, &takes].iter().map(|agent| agent.counters.issued).sum();
    assert_eq!(issued, ordinals.len() as u64);
}

/// An engine whose lease has run out tells from the cursors what it leaves.
#[tokio::test]
async fn an_engine_without_a_lease_leaves_the_rest_to_others() {
    let target = Target::listen();
    let load = "  a: { load: { rate: 100/s, for: 60s }, flow: [ { get: \"/{{ iteration }}\" } ] }";
    let plan = plan(&target.address, load);
    let mut agent = Agent::prepare(&plan, &Assignment::whole_run(0, Share::whole()));
    let t0 = Instant::now() + seconds(0.2);
    agent.engine.start(t0).await;
    sleep_until(t0 + seconds(0.3)).await;
    agent.engine.lease(Some(Instant::now()));
    let sealed = agent.end().await;
    let decided = sealed.cursors.values().sum::<u64>();
    assert!(decided < 6000 && sealed.lease_expired, "{decided}");
    assert_eq!(target.ordinals().len() as u64 + agent.not_generated("lease_expired"), decided);
}

/// What is taken over uses rows of the agent that takes it, never those that the agent before may have used.
#[tokio::test]
async fn a_take_over_uses_no_row_twice() {
    let target = Target::listen();
    let scenarios = "  a: { load: { rate: 50/s, for: 2s }, flow: [ { get: \"/{{ rows.n }}\" } ] }\n\
        data: { rows: { csv: rows.csv, at_end: stop } }";
    let rows = (0..120).fold("n\n".to_owned(), |rows, row| format!("{rows}{row}\n"));
    let plan = plan_with(&target.address, scenarios, [("rows.csv".to_owned(), Ok(rows.into_bytes()))].into());
    let [mut gives, mut takes] =
        [0, 1].map(|index| Agent::prepare(&plan, &assignment(0, half(index), 0.0, (index == 0).then_some(1.0))));
    takes.engine.assign(&assignment(1, half(0), 1.0, None)).await;
    let t0 = Instant::now() + seconds(0.3);
    gives.engine.start(t0).await;
    takes.engine.start(t0).await;
    gives.end().await;
    takes.end().await;
    let rows = target.ordinals();
    assert!(rows.windows(2).all(|pair| pair[0] < pair[1]), "a row was used twice");
    // 25 of the agent that gave, 60 rows of the agent that took: 15 of its 75 iterations found none.
    assert_eq!(rows.len() as u64 + takes.not_generated("late_assign"), 25 + 60);
    assert_eq!(takes.not_generated("data_exhausted"), 15);
}

/// Whoever hears that the load has ended finds every operation that was cut off in the account.
#[tokio::test]
async fn what_is_cut_off_is_counted_before_the_end_is_told() {
    // Takes connections, as many as its queue has room for, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let load = "  a: { load: { users: 400, for: 60s }, flow: [ { get: / } ] }";
    let plan = plan(&format!("http://{}", silent.local_addr().unwrap()), load);
    for _ in 0..3 {
        let mut agent = Agent::prepare(&plan, &Assignment::whole_run(0, Share::whole()));
        let t0 = Instant::now() + seconds(0.6);
        agent.engine.start(t0).await;
        sleep_until(t0 + seconds(0.2)).await;
        agent.engine.stop("interrupted", Duration::ZERO).await;
        agent.end().await;
        let Counters { scheduled, issued, aborted, .. } = agent.counters;
        assert_eq!((issued, aborted), (scheduled, scheduled));
    }
}

/// A worker that panics is no quiet end of its part of the load: no later window is reported as if it were whole.
#[tokio::test]
async fn a_worker_that_panics_is_told() {
    let load = "  a: { load: { rate: 300/s, for: 30s }, flow: [ { get: / } ] }";
    let plan = plan(NOBODY, load);
    let mut agent = Agent::prepare(&plan, &Assignment::whole_run(1, Share::whole()));
    agent.engine.start(Instant::now()).await;
    agent.engine.seal(0).await.unwrap();
    agent.engine.workers[1].commands.send(Command::Panic).await.unwrap();
    assert_eq!(agent.engine.seal(1).await.unwrap_err(), SealError::WorkerPanicked);
}
