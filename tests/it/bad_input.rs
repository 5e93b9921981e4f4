//! Things that go wrong before or instead of a run: each a clear error that says what, where and what to do.

use std::net::TcpListener;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use groundswell_proto::v1::agent_message::Kind;
use groundswell_proto::v1::agent_service_client::AgentServiceClient;
use groundswell_proto::v1::{AgentMessage, Hello};

use crate::harness::{Finished, Groundswell, Report, agent, folder, serve, snapshot, write};

const PLAN: &str = "
max_send_lag: 10s
target: TARGET
ready: READY
scenarios:
  one:
    load: { iterations: 3 }
    flow: [ { get: /x, name: x } ]
";

/// A port on which nobody listens.
fn closed_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn run(folder: &Path, target: &str, ready: &str, more: &[&str]) -> anyhow::Result<Finished> {
    write(folder, "plan.yaml", &PLAN.replace("TARGET", target).replace("READY", ready))?;
    let arguments = ["run", "plan.yaml", "--out", "report.json"].iter().chain(more);
    Groundswell::new(arguments).current_dir(folder).finish()
}

/// What a person sees, with what differs from run to run replaced.
fn seen(finished: &Finished) -> String {
    let mut text = format!("exit code {:?}\n{}", finished.code, finished.stderr);
    for (pattern, stands_for) in [
        (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
        (r"groundswell-test-\w+", "FOLDER"),
        (r"(?m)^\d+:\d\d of .*\n|^\d+:\d\d .*\n", ""),
    ] {
        // The patterns are constants of this function.
        if let Ok(regex) = regex::Regex::new(pattern) {
            text = regex.replace_all(&text, stands_for).into_owned();
        }
    }
    text
}

/// The run goes on and its report tells what happened: every operation refused, with the likely cause.
pub(crate) fn target_down() -> anyhow::Result<()> {
    let folder = folder()?;
    let plan = "max_send_lag: 10s\ntarget: TARGET\nscenarios:\n  one:\n    load: { iterations: 3 }\n    flow: [ { get: /x, name: x } ]\n";
    let target = format!("http://127.0.0.1:{}", closed_port()?);
    write(folder.path(), "plan.yaml", &plan.replace("TARGET", &target))?;
    let run = Groundswell::new(["run", "plan.yaml", "--out", "report.json"]).current_dir(folder.path()).finish()?;
    ensure!(run.code == Some(3), "{run:?}");
    let report: Report = serde_json::from_str(&std::fs::read_to_string(folder.path().join("report.json"))?)?;
    let class = report.total.error_classes.first().context("no class")?;
    ensure!(class.class == "connection_refused" && class.count == 3, "{class:?}");
    snapshot("target_down", &format!("{}: {}", report.verdict.status.as_str(), report.verdict.reasons[0].message));
    Ok(())
}

pub(crate) fn dns_failure() -> anyhow::Result<()> {
    let folder = folder()?;
    // `.invalid` never resolves (RFC 6761, section 6.4).
    let run = run(folder.path(), "http://nowhere.invalid", "{ get: /, within: 100ms }", &[])?;
    ensure!(!folder.path().join("report.json").exists(), "a report of a run that never started");
    snapshot("dns_failure", &seen(&run));
    Ok(())
}

pub(crate) fn never_ready() -> anyhow::Result<()> {
    let folder = folder()?;
    let target = format!("http://127.0.0.1:{}", closed_port()?);
    let run = run(folder.path(), &target, "{ get: /health, within: 300ms }", &[])?;
    ensure!(run.code == Some(4), "{run:?}");
    snapshot("never_ready", &seen(&run));
    Ok(())
}

pub(crate) fn port_in_use() -> anyhow::Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let served = Groundswell::new(["serve", "--listen", &address]).finish()?;
    let demo = Groundswell::new(["demo-target", "--listen", &address]).finish()?;
    let folder = folder()?;
    let run = run(folder.path(), &format!("http://{address}"), "{ get: /health }", &["--demo-target"])?;
    snapshot("port_in_use", &[seen(&served), seen(&demo), seen(&run)].join("\n"));
    Ok(())
}

/// An agent of another version is refused by name, and nothing else happens to the coordinator.
pub(crate) fn another_protocol_version() -> anyhow::Result<()> {
    let (_coordinator, url) = serve()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let refusal = runtime.block_on(async {
        let mut client = AgentServiceClient::connect(url.clone()).await?;
        let hello = Hello { protocol: 999, name: "old".into(), version: "0.0.1".into(), ..Hello::default() };
        let stream = tokio_stream::iter([AgentMessage { kind: Some(Kind::Hello(hello)) }]);
        match client.session(stream).await {
            Ok(_) => bail!("an agent of protocol 999 was let in"),
            Err(status) => Ok(status),
        }
    })?;
    ensure!(refusal.code() == tonic::Code::FailedPrecondition, "{refusal:?}");
    snapshot("another_protocol_version", refusal.message());
    agent(&url, "current", None)?;
    Ok(())
}

pub(crate) fn name_taken() -> anyhow::Result<()> {
    let (_coordinator, url) = serve()?;
    let _first = agent(&url, "same", None)?;
    let second = Groundswell::new(["agent", "--coordinator", &url, "--name", "same", "--workers", "1"]).finish()?;
    ensure!(second.code == Some(2), "{second:?}");
    snapshot("name_taken", &seen(&second));
    Ok(())
}

pub(crate) fn no_agents() -> anyhow::Result<()> {
    let (_coordinator, url) = serve()?;
    let folder = folder()?;
    write(folder.path(), "plan.yaml", &PLAN.replace("TARGET", "http://127.0.0.1:9").replace("READY", "{ get: / }"))?;
    let arguments = ["run", "plan.yaml", "--coordinator", &url, "--wait-agents", "2", "--wait", "1"];
    let run = Groundswell::new(arguments).current_dir(folder.path()).finish()?;
    ensure!(run.code == Some(3), "{run:?}");
    snapshot("no_agents", &seen(&run));
    let unreachable =
        Groundswell::new(["run", "plan.yaml", "--coordinator", &format!("http://127.0.0.1:{}", closed_port()?)])
            .current_dir(folder.path())
            .finish()?;
    ensure!(unreachable.code == Some(3), "{unreachable:?}");
    ensure!(unreachable.stderr.contains("can't reach the coordinator"), "{unreachable:?}");
    Ok(())
}

/// Exit code 2, every problem with its place, and not a single request.
pub(crate) fn invalid_plan() -> anyhow::Result<()> {
    let folder = folder()?;
    let plan = "target: http://127.0.0.1:9\nscenarios:\n  one:\n    load: { raet: 3/s, for: 10 }\n    flow: [ { get: '/{{ nmae }}' } ]\n";
    write(folder.path(), "plan.yaml", plan)?;
    let run = Groundswell::new(["run", "plan.yaml"]).current_dir(folder.path()).finish()?;
    ensure!(run.code == Some(2) && run.stdout.is_empty(), "{run:?}");
    snapshot("invalid_plan", &seen(&run));
    let check = Groundswell::new(["check", "plan.yaml"]).current_dir(folder.path()).finish()?;
    ensure!(check.code == Some(2) && check.stderr == run.stderr, "{check:?}");
    Ok(())
}

pub(crate) fn missing_files() -> anyhow::Result<()> {
    let folder = folder()?;
    let no_plan = Groundswell::new(["run", "nothing.yaml"]).current_dir(folder.path()).finish()?;
    write(folder.path(), "plan.yaml", &PLAN.replace("TARGET", "http://127.0.0.1:9").replace("READY", "{ get: / }"))?;
    let bad_ending =
        Groundswell::new(["run", "plan.yaml", "--out", "report.doc"]).current_dir(folder.path()).finish()?;
    let no_folder =
        Groundswell::new(["run", "plan.yaml", "--out", "no/report.json"]).current_dir(folder.path()).finish()?;
    snapshot("missing_files", &[seen(&no_plan), seen(&bad_ending), seen(&no_folder)].join("\n"));
    Ok(())
}
