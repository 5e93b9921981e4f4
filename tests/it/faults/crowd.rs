//! More sessions than usual, and such that say nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use groundswell_proto::v1::AgentMessage;
use groundswell_proto::v1::Hello;
use groundswell_proto::v1::agent_message::Kind as Say;
use groundswell_proto::v1::agent_service_client::AgentServiceClient;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::scene::Coordinator;
use crate::harness::{agent, join, serve};

/// Nothing that a test waits for takes so long.
const PATIENCE: Duration = Duration::from_secs(120);
/// The most memory that a coordinator takes for such crowds; one without agents has some 13 MiB.
const MOST_MEMORY_KIB: u64 = 192 << 10;

fn runtime() -> anyhow::Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}

/// Five hundred agents join at once, and again when the coordinator was killed and is back: without the jitter that real
/// ones have, which only makes it worse. Each is let in as who it was.
pub(crate) fn five_hundred_at_once() -> anyhow::Result<()> {
    let runtime = runtime()?;
    let mut coordinator = Coordinator::start()?;
    let url = coordinator.url();
    let all = || runtime.block_on(async { timeout(PATIENCE, everybody(&url)).await.context("they wait")? });
    let before = all()?;
    coordinator.kill()?;
    coordinator.restart()?;
    let again = all()?;
    ensure!(before == again && before.len() == 500, "{} before, {} again", before.len(), again.len());
    let peak = coordinator.daemon().peak_memory_kib()?;
    ensure!(peak < MOST_MEMORY_KIB, "the coordinator took {peak} KiB");
    Ok(())
}

/// The incarnations of all, by boot.
async fn everybody(url: &str) -> anyhow::Result<Vec<(u64, u64)>> {
    let mut joining = JoinSet::new();
    for boot in 1..=500 {
        let url = url.to_owned();
        joining.spawn(async move { Ok((boot, join(&url, &format!("agent-{boot}"), boot, Vec::new()).await?)) });
    }
    let joined = joining.join_all().await.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let mut incarnations: Vec<_> = joined.iter().map(|(boot, joined)| (*boot, joined.incarnation)).collect();
    incarnations.sort_unstable();
    Ok(incarnations)
}

/// Connections that say nothing, streams without a first word, and a Hello that is too long: each stream is ended with its
/// reason, and an agent that comes meanwhile is let in.
pub(crate) fn streams_without_a_word() -> anyhow::Result<()> {
    let runtime = runtime()?;
    let (coordinator, url) = serve()?;
    let address = url.trim_start_matches("http://");
    let mut silent: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(address)).collect::<Result<_, _>>()?;
    // Half of them begin what could be HTTP/2, and say no more.
    for stream in silent.iter_mut().skip(100) {
        stream.write_all(b"PRI * HTTP/2.0")?;
    }
    let refusals = runtime.block_on(async {
        let mut waiting = JoinSet::new();
        for nth in 0..120 {
            let url = url.clone();
            waiting.spawn(async move { if nth % 2 == 0 { no_hello(&url).await } else { no_probe(&url).await } });
        }
        // Here, while all of them wait.
        let _agent = agent(&url, "a", None)?;
        let refusals = timeout(PATIENCE, waiting.join_all()).await.context("they still wait")?;
        refusals.into_iter().collect::<anyhow::Result<Vec<Status>>>()
    })?;
    let ended = refusals.iter().filter(|refusal| refusal.code() == Code::DeadlineExceeded).count();
    ensure!(ended == 120, "{ended} of 120: {:?}", refusals.first());
    let refusal = runtime.block_on(too_long_a_hello(&url))?;
    ensure!(refusal.code() == Code::OutOfRange, "{refusal:?}");
    let peak = coordinator.peak_memory_kib()?;
    ensure!(peak < MOST_MEMORY_KIB, "the coordinator took {peak} KiB");
    for stream in &mut silent {
        stream.set_read_timeout(Some(PATIENCE))?;
        match stream.read(&mut [0; 64]) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => bail!("a connection that says nothing stays: {other:?}"),
        }
    }
    agent(&url, "b", None)?;
    Ok(())
}

/// How a session ends whose agent never says who it is.
async fn no_hello(url: &str) -> anyhow::Result<Status> {
    let (_out, outbound) = mpsc::channel(1);
    let ended = AgentServiceClient::connect(url.to_owned()).await?.session(ReceiverStream::new(outbound)).await;
    ended.err().context("it was let in without a word")
}

/// How a stream of heartbeats ends that never has one.
async fn no_probe(url: &str) -> anyhow::Result<Status> {
    let (_out, outbound) = mpsc::channel(1);
    let ended = AgentServiceClient::connect(url.to_owned()).await?.beat(ReceiverStream::new(outbound)).await;
    ended.err().context("it was let in without a word")
}

/// What is answered to a Hello of nine megabytes.
async fn too_long_a_hello(url: &str) -> anyhow::Result<Status> {
    let (out, outbound) = mpsc::channel(1);
    let hello = Hello { name: "x".repeat(9 << 20), ..Hello::default() };
    out.send(AgentMessage { kind: Some(Say::Hello(hello)) }).await?;
    let mut client = AgentServiceClient::connect(url.to_owned()).await?;
    client.session(ReceiverStream::new(outbound)).await.err().context("it was let in")
}
