//! A coordinator that asks for more than it may: what the agent answers, without a session.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use groundswell_proto::v1;
use groundswell_scenario::{Plan, PlanSource, Share};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tonic::transport::Endpoint;

use super::*;
use crate::guard::Guard;
use crate::session::Limits;

const RATE: &str = "scenarios:\n  s: { load: { rate: 60/s, for: 9s, max_in_flight: 6 }, flow: [ { get: / } ] }\n";

fn agent(limits: Limits) -> Agent {
    let options = AgentOptions {
        coordinator: "http://127.0.0.1:1".into(),
        name: "a".into(),
        workers: 1,
        weight: 1,
        limits,
        guard: Guard::default(),
        labels: BTreeMap::new(),
        secrets: groundswell_access::Secrets::default(),
        raw_samples: None,
        once: false,
        tls: None,
    };
    let connect: crate::session::Connect = Arc::new(|endpoint| Box::pin(async move { endpoint.connect().await }));
    Agent::new(options, Dialler { connect, endpoint: Endpoint::from_static("http://127.0.0.1:1") })
}

fn assignment(until: Option<u64>) -> Assignment {
    Assignment { generation: 1, share: Share::whole(), from: Duration::ZERO, until: until.map(Duration::from_secs) }
}

/// Arms a run; the agent's problem with it.
async fn arm(agent: &mut Agent, run: &str, text: &str, until: Option<u64>) -> String {
    let source = PlanSource { name: "p.yaml".into(), text: text.into(), files: BTreeMap::new(), search_level: None };
    let hash = Plan::compile(&source).unwrap_or_else(|problems| panic!("{problems}")).hash;
    let plan = v1::Plan { hash, ..v1::Plan::from(&source) };
    let assignment = Some(v1::Assignment::from(&assignment(until)));
    agent.armed(Arm { run_id: run.into(), plan: Some(plan), assignment, secrets: [].into() }).await.problem
}

fn plan(more: &str) -> String {
    format!("target: http://127.0.0.1:1\n{more}")
}

/// Runs under names of their own do not each have the agent's limits.
#[tokio::test]
async fn runs_together_keep_to_the_limits() {
    let mut agent = agent(Limits { rate_per_s: Some(100.0), users: None });
    assert_eq!(arm(&mut agent, "one", &plan(RATE), None).await, "");
    for run in ["two", "one"] {
        let problem = arm(&mut agent, run, &plan(RATE), None).await;
        assert!(problem.contains("60.0 operations a second beside 60.0 of other runs"), "{problem}");
    }
    // What is added to a run counts beside the others as well.
    let small = RATE.replace("60/s", "30/s");
    assert_eq!(arm(&mut agent, "three", &plan(&small), None).await, "");
    let more = v1::Assignment { generation: 2, ..v1::Assignment::from(&assignment(None)) };
    agent.hear(Heard::Assign(v1::Assign { run_id: "three".into(), assignment: Some(more) })).await.unwrap();
    agent.hear(Heard::Release(v1::Release { run_id: "three".into(), incarnation: 0 })).await.unwrap();
    assert_eq!(arm(&mut agent, "four", &plan(&small), None).await, "", "what was given up takes nothing any more");
}

/// An end before the beginning does not make less of what is worked off whole.
#[tokio::test]
async fn a_fixed_number_of_iterations_counts_whole() {
    let mut agent = agent(Limits { rate_per_s: None, users: Some(10) });
    let text = plan("scenarios:\n  s: { load: { iterations: 100, users: 11 }, flow: [ { get: / } ] }\n");
    let problem = arm(&mut agent, "one", &text, Some(0)).await;
    assert!(problem.contains("11.0 users"), "{problem}");
}

/// A target that leads elsewhere, with the number of requests that it has seen.
async fn target(tasks: &mut JoinSet<()>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            while stream.read(&mut [0; 4096]).await.is_ok_and(|length| length > 0) {
                count.fetch_add(1, Ordering::Relaxed);
                let answer = "HTTP/1.1 302 Found\r\nlocation: http://192.0.2.1/\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    (url, seen)
}

/// The readiness check sends too: once for each run, and nowhere but where the agent may send to.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_is_checked_once_and_within_the_allowlist() {
    let mut tasks = JoinSet::new();
    let (url, seen) = target(&mut tasks).await;
    let mut agent = agent(Limits::default());
    let ready = format!(
        "target: {url}\nready: {{ get: /up, within: 400ms }}\nhttp: {{ redirects: {{ hosts: ['192.0.2.1'] }} }}\n{RATE}"
    );
    assert_eq!(arm(&mut agent, "one", &ready, None).await, "");
    for _ in 0..3 {
        agent.hear(Heard::CheckTarget(v1::CheckTarget { run_id: "one".into() })).await.unwrap();
    }
    let (_, due) = first_due(&mut agent.jobs).await;
    let Due::Checked(Err(problem)) = &due else { panic!("it was ready") };
    assert!(problem.contains("--allow"), "{problem}");
    agent.act(0, due).await.unwrap();
    let tries = seen.load(Ordering::Relaxed);
    assert!(tries > 0);
    agent.hear(Heard::CheckTarget(v1::CheckTarget { run_id: "one".into() })).await.unwrap();
    let again = tokio::time::timeout(Duration::from_millis(600), first_due(&mut agent.jobs)).await;
    assert!(again.is_err() && seen.load(Ordering::Relaxed) == tries, "it was checked again");
}
