//! Machines of their own, as far as Docker makes them: the image of `deploy/Dockerfile` from nothing but this build, the
//! cluster of `deploy/compose.yaml`, and what befalls it.

mod cluster;
mod image;
mod pods;

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, ensure};
use groundswell_coordinator::report::Status;

use crate::harness::Namespace;
use cluster::Cluster;
pub(crate) use cluster::shipped_plan;
use pods::Node;

/// What somebody new does: one command starts everything, runs a plan on four agents and ends with its verdict.
pub(crate) fn the_first_report() -> anyhow::Result<()> {
    let cluster = Cluster::prepare()?;
    let (code, report) = cluster.run_shipped_plan()?;
    ensure!(code == Some(0) && report.verdict.status == Status::Passed, "{code:?} {:?}", report.verdict);
    ensure!(report.agents.len() == 4 && report.agents.iter().all(|agent| agent.issued > 0), "{:?}", report.agents);
    ensure!(report.ledger.balanced && report.ledger.unknown_max == 0, "{:?}", report.ledger);
    cluster.has_no_rights()?;
    cluster.is_published()?;
    // Asked to stop, everybody ends well: agents drain, the coordinator closes its store.
    for service in ["agent", "coordinator", "target"] {
        for id in cluster.containers(service)? {
            ensure!(cluster.stop(&id)? == 0, "{service} {id} did not end well");
        }
    }
    Ok(())
}

/// The same with `up`: as many agents as it says, and the report on the terminal.
pub(crate) fn the_first_report_of_up() -> anyhow::Result<()> {
    let cluster = Cluster::prepare()?;
    let said = cluster.up_to_the_report()?;
    ensure!(said.contains("PASSED") && said.contains("4 agents"), "{said}");
    ensure!(cluster.containers("agent")?.len() == 4, "{said}");
    Ok(())
}

/// A machine of the network around is reached by whatever Docker starts without being told more, and by nobody of the cluster.
pub(crate) fn no_way_out() -> anyhow::Result<()> {
    let cluster = Cluster::prepare()?;
    cluster.up()?;
    let outside = Namespace::new()?;
    let (_somebody, url) = outside.target()?;
    let reach = cluster.reach(&url)?;
    let expected = [("bridge", true), ("agent", false), ("coordinator", false), ("target", false), ("run", false)];
    ensure!(reach == expected, "{reach:?}");
    cluster.is_published()
}

/// A rate of 100 operations a second, each of them in one counter whatever happens.
const RATE: u64 = 100;
const SECONDS: u64 = 45;

/// In the middle of a run one agent loses its network for longer than its lease, another is killed, and the coordinator is
/// killed and started again. The account holds against what the target has counted.
pub(crate) fn a_run_through_faults() -> anyhow::Result<()> {
    let cluster = Cluster::prepare()?;
    cluster.up()?;
    let plan = format!(
        "
target: http://target:8088
max_send_lag: 60s
max_start_skew: 5s
lease: 6s
scenarios:
  arrive:
    load: {{ rate: {RATE}/s, for: {SECONDS}s, max_in_flight: 10000 }}
    flow: [ {{ get: /health, name: health, timeout: 60s }} ]
"
    );
    let mut run = cluster.begin(&plan)?;
    cluster.wait_for_requests(3 * RATE)?;
    let agents = cluster.containers("agent")?;
    let [parted, killed, ..] = &agents[..] else { anyhow::bail!("agents: {agents:?}") };
    let coordinator = cluster.containers("coordinator")?.pop().context("no coordinator")?;

    cluster.disconnect(parted)?;
    // So long that its share has had another owner for several seconds: were it still sending, the target would see both.
    sleep(Duration::from_secs(18));
    cluster.reconnect(parted)?;
    cluster.kill(killed)?;
    sleep(Duration::from_secs(2));
    cluster.kill(&coordinator)?;
    sleep(Duration::from_secs(1));
    cluster.start(&coordinator)?;

    let (code, report) = run.end()?;
    let context = || format!("{:?} {:?} {:?}", report.verdict, report.ledger, report.marks);
    ensure!(code == Some(3) && report.verdict.status == Status::Degraded, "{code:?} {}", context());
    let lost = |id: &str| {
        let name = cluster::name_of(id);
        report.agents.iter().any(|agent| agent.name == name && agent.lost_at_s.is_some())
    };
    ensure!(lost(parted) && lost(killed), "{parted} {killed} {:?} {}", report.agents, context());
    let marks = |kind: &str| report.marks.iter().filter(|mark| mark.kind == kind).count();
    ensure!(marks("coordinator_restarted") == 1 && marks("load_moved") > 0, "{}", context());
    let ledger = &report.ledger;
    ensure!(ledger.balanced && ledger.scheduled == RATE * SECONDS, "{}", context());
    let seen = cluster.requests()?;
    let reported = ledger.issued..=ledger.issued + ledger.unknown_max;
    ensure!(reported.contains(&seen), "the target saw {seen}: {}", context());
    // Without the others, half of the load would have been lost with the two for most of the time.
    ensure!(ledger.issued > RATE * SECONDS * 7 / 10, "{}", context());
    Ok(())
}

/// What Kubernetes would start: the coordinator with its CA and tokens from Secrets that can't be written, four agents that
/// join by them, the target, and the Job, whose exit code is the verdict.
pub(crate) fn the_pods_of_kubernetes() -> anyhow::Result<()> {
    let mut node = Node::new(&cluster::shipped_plan("deploy/kubernetes/run/plan.yaml")?)?;
    let coordinator = node.start("base/coordinator.yaml", "groundswell-coordinator")?;
    node.start("demo/target.yaml", "groundswell-target")?;
    let mut agents = Vec::new();
    for agent in ["groundswell-agent-a", "groundswell-agent-b", "groundswell-agent-c", "groundswell-agent-d"] {
        agents.push(node.start("base/agents.yaml", agent)?);
    }
    let (code, said) = node.run("run/run.yaml", "groundswell-run")?;
    ensure!(code == Some(0) && said.contains("PASSED") && said.contains("4 agents"), "{code:?} {said}");
    ensure!(said.contains("groundswell-agent-d"), "agents have the names of their pods: {said}");
    node.exec(&coordinator, &["health", "--ready", "https://localhost:7710", "--ca", "/access/ca.pem"])?;
    // As the guide turns an agent out.
    node.exec(&coordinator, &["certs", "revoke", "groundswell-agent-d"])?;
    let last = node.ended(agents.last().context("no agents")?)?;
    ensure!(last.contains("revoked"), "{last}");
    let audit = node.file(&coordinator, "/data/access/audit.jsonl")?;
    for entry in ["\"who\":\"file join\"", "groundswell-agent-d", "\"who\":\"file run\"", "\"submitted\""] {
        ensure!(audit.contains(entry), "{entry} is not in the audit log: {audit}");
    }
    Ok(())
}
