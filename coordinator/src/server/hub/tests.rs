//! The hub without sockets: agents say what a test has them say, and the log shows what was kept of it.
#![allow(clippy::unwrap_used, reason = "tests")]

use groundswell_proto::limits::MAX_TEXT_BYTES;
use groundswell_proto::v1::agent_message::Kind as Said;
use tempfile::TempDir;

use super::*;
use crate::server::wire;
use crate::store::{EntryBody, Location};

const A: AgentId = AgentId(1);
const B: AgentId = AgentId(2);

/// A coordinator with a store in a folder, and what agents have heard of it.
struct Scene {
    hub: Hub,
    heard: HashMap<AgentId, mpsc::Receiver<Result<v1::CoordinatorMessage, Status>>>,
    folder: TempDir,
}

impl Scene {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let hub = hub(&folder).await;
        Scene { hub, heard: HashMap::new(), folder }
    }

    /// With a run whose two agents are ready.
    async fn prepared() -> (Self, String) {
        let mut scene = Scene::new().await;
        scene.join(A, "a").await;
        scene.join(B, "b").await;
        let run = scene.begin(2).await;
        scene.say(A, ready(&run, Vec::new()));
        scene.say(B, ready(&run, Vec::new()));
        scene.settle().await;
        (scene, run)
    }

    /// The coordinator ends as it stands, and is started again.
    async fn restart(&mut self) {
        let hub = hub(&self.folder);
        self.hub.store.close().await;
        self.hub = hub.await;
        self.hub.restore().await.unwrap();
        self.settle().await;
    }

    async fn join(&mut self, agent: AgentId, name: &str) {
        self.join_with(agent, name, &[]).await;
    }

    async fn join_with(&mut self, agent: AgentId, name: &str, held: &[Part]) {
        let (out, heard) = mpsc::channel(1_024);
        let hello = Hello { name: name.to_owned(), boot: agent.0, weight: 1, ..Hello::default() };
        let incarnation = self.hub.store.incarnation(name, agent.0).await.unwrap();
        assert_eq!(incarnation, agent.0, "agents get their numbers in order");
        self.hub.join(&hello, held, agent, out).await.unwrap();
        self.heard.insert(agent, heard);
    }

    /// Submits a run for so many agents, and returns its id when they have been asked to prepare.
    async fn begin(&mut self, agents: usize) -> String {
        let text = "target: http://127.0.0.1:9\nscenarios:\n  one:\n    load: { rate: 10/s, for: 4s }\n    flow: [ { get: /x, name: x } ]\n";
        let source =
            PlanSource { name: "plan.yaml".into(), text: text.into(), files: BTreeMap::new(), search_level: None };
        let (answer, answered) = oneshot::channel();
        let submission = Submission {
            plan: Plan::compile(&source).unwrap(),
            source,
            agents,
            wait: Duration::ZERO,
            labels: BTreeMap::new(),
            selector: BTreeMap::new(),
            submission: "s".into(),
            attached: false,
            answer,
        };
        self.hub.submit(submission).await;
        self.settle().await;
        answered.await.unwrap().unwrap().id
    }

    /// An agent says something, which comes in as any message does.
    fn say(&mut self, agent: AgentId, said: Said) {
        self.hub.heard(agent, wire::heard(said).unwrap());
    }

    /// Until everything that was logged is durable, and runs have heard of it.
    async fn settle(&mut self) {
        while self.hub.runs.iter().any(|running| running.undecided > 0) || !self.hub.backlog.is_empty() {
            let committed = self.hub.committed.recv().await.unwrap();
            self.hub.committed(committed);
            while !self.hub.durable.is_empty() {
                self.hub.merge_some();
            }
            self.hub.work_off_backlog();
        }
    }

    /// What the store says of an agent that says that it holds something of a run.
    async fn looked_up(&self, run: &str, incarnation: AgentId, name: &str) -> Option<Part> {
        let held = v1::Held { run_id: run.to_owned(), incarnation: incarnation.0, last_seq: 1 };
        Part::look_up(&self.hub.store, name, held).await.unwrap()
    }

    /// Until the answers of runs that are over are stored.
    async fn stored(&mut self) {
        self.settle().await;
        self.hub.tasks.close();
        self.hub.tasks.wait().await;
        self.hub.tasks.reopen();
        assert!(self.hub.runs.is_empty(), "a run is not over");
    }

    /// Was it asked that since the last time?
    fn was_told(&mut self, agent: AgentId, what: impl Fn(&Tell) -> bool) -> bool {
        let mut told = false;
        while let Ok(message) = self.heard.get_mut(&agent).unwrap().try_recv() {
            told |= message.unwrap().kind.is_some_and(|kind| what(&kind));
        }
        told
    }

    /// The events in the log of a run.
    async fn logged(&self, run: &str) -> Vec<Vec<u8>> {
        let mut log = self.hub.store.log(run).await.unwrap();
        let mut events = Vec::new();
        while let Some(entry) = log.next().await.unwrap() {
            if let EntryBody::Event(bytes) = entry.body {
                events.push(bytes);
            }
        }
        events
    }
}

async fn hub(folder: &TempDir) -> Hub {
    let store = Store::open(&Location::Folder(folder.path().to_owned())).await.unwrap();
    let options = ServerOptions { outlives: true, ..ServerOptions::default() };
    Hub::new(Clock::new(), options, store, TaskTracker::new())
}

/// As much as a message can hold, of characters of two bytes.
fn long_text() -> String {
    format!("x{}", "ü".repeat(4 << 20))
}

fn ready(run: &str, warnings: Vec<String>) -> Said {
    Said::Ready(v1::Ready { run_id: run.to_owned(), warnings, ..v1::Ready::default() })
}

fn checked(run: &str, problem: &str) -> Said {
    Said::TargetChecked(v1::TargetChecked { run_id: run.to_owned(), problem: problem.to_owned() })
}

fn started(run: &str, clock_bound_us: u64) -> Said {
    Said::Started(v1::Started { run_id: run.to_owned(), clock_bound_us, problem: String::new() })
}

/// Everything that an agent could say at this moment, at length.
fn flood(scene: &mut Scene, agent: AgentId, run: &str) {
    for _ in 0..3 {
        scene.say(agent, ready(run, vec![long_text()]));
        scene.say(agent, checked(run, &long_text()));
        scene.say(agent, Said::Started(v1::Started { run_id: run.into(), clock_bound_us: 1, problem: long_text() }));
        let until_run_us = 1_000_000;
        scene.say(
            agent,
            Said::Released(v1::Released { run_id: run.into(), generation: 1, until_run_us, accepted: true }),
        );
    }
}

/// A hostile agent fills no disk: of what it says that answers nothing, nothing is logged, and no text is kept whole.
#[tokio::test]
async fn what_was_not_asked_is_not_logged() {
    let mut scene = Scene::new().await;
    scene.join(A, "a").await;
    scene.join(B, "b").await;
    let run = scene.begin(2).await;
    // The first Ready of B is the one that was asked for.
    flood(&mut scene, B, &run);
    scene.settle().await;
    flood(&mut scene, B, &run);
    scene.say(A, ready(&run, Vec::new()));
    scene.settle().await;
    flood(&mut scene, B, &run);
    scene.settle().await;
    let logged = scene.logged(&run).await;
    assert_eq!(logged.len(), 3, "the agents, and one Ready of each");
    let longest = logged.iter().map(Vec::len).max().unwrap();
    assert!((MAX_TEXT_BYTES..MAX_TEXT_BYTES + 100).contains(&longest), "{longest} bytes");
}

/// Another agent of the run neither ends it nor begins it in place of the one that was asked to look at the target.
#[tokio::test]
async fn another_agent_does_not_speak_for_the_target() {
    let (mut scene, run) = Scene::prepared().await;
    assert!(scene.was_told(A, |told| matches!(told, Tell::CheckTarget(_))));
    assert!(!scene.was_told(B, |told| matches!(told, Tell::CheckTarget(_))));
    scene.say(B, checked(&run, "it is down"));
    scene.say(B, checked(&run, ""));
    scene.settle().await;
    assert_eq!((scene.hub.runs.len(), scene.logged(&run).await.len()), (1, 3));
    assert!(!scene.was_told(B, |told| matches!(told, Tell::Start(_))));
    scene.say(A, checked(&run, ""));
    scene.settle().await;
    assert!(scene.was_told(B, |told| matches!(told, Tell::Start(_))));
}

/// A coordinator that was started again knows what it had asked, and still takes the answer once.
#[tokio::test]
async fn what_was_asked_before_a_restart_can_be_answered_after_it() {
    let (mut scene, run) = Scene::prepared().await;
    scene.say(A, checked(&run, ""));
    scene.settle().await;
    scene.say(A, started(&run, 1));
    scene.settle().await;
    scene.restart().await;
    scene.join(A, "a").await;
    scene.join(B, "b").await;
    scene.settle().await;
    let before = scene.logged(&run).await.len();
    for _ in 0..3 {
        scene.say(A, started(&run, 1));
        scene.say(B, started(&run, 1));
    }
    scene.settle().await;
    assert_eq!(scene.logged(&run).await.len(), before + 1, "that of B");
    assert!(scene.hub.runs[0].run.wants_more(3), "it runs");
}

/// A run that is over is made anew from its log for an agent that may still bring something of it, and for nobody else.
#[tokio::test]
async fn a_run_is_taken_up_again_for_its_own_agents_only() {
    let mut scene = Scene::new().await;
    scene.join(A, "a").await;
    scene.join(B, "b").await;
    let run = scene.begin(1).await;
    scene.say(A, Said::Ready(v1::Ready { run_id: run.clone(), problem: "no room".into(), ..v1::Ready::default() }));
    scene.stored().await;
    assert!(scene.looked_up(&run, A, "b").await.is_none(), "the incarnation of another agent");
    assert!(scene.looked_up(&run, B, "b").await.is_none(), "it did not take part");
    assert!(scene.looked_up("00000000", A, "a").await.is_none(), "there is no such run");
    let part = scene.looked_up(&run, A, "a").await.unwrap();
    scene.join_with(A, "a", &[part]).await;
    assert_eq!(scene.hub.runs.len(), 1);
    let resumed = |told: &Tell| matches!(told, Tell::Welcome(welcome) if welcome.resume.len() == 1);
    assert!(scene.was_told(A, resumed));
}

/// Nor for one that has brought everything: it may forget the run.
#[tokio::test]
async fn a_run_is_not_taken_up_again_for_an_agent_that_had_ended() {
    let mut scene = Scene::new().await;
    scene.join(A, "a").await;
    let run = scene.begin(1).await;
    for said in [ready(&run, Vec::new()), checked(&run, ""), started(&run, 1)] {
        scene.say(A, said);
        scene.settle().await;
    }
    let done = v1::Done { run_id: run.clone(), incarnation: A.0, ..v1::Done::default() };
    scene.say(A, Said::Done(done));
    scene.stored().await;
    let part = scene.looked_up(&run, A, "a").await.unwrap();
    scene.join_with(A, "a", &[part]).await;
    assert!(scene.hub.runs.is_empty());
}
