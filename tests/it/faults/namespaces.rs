//! Agents on machines of their own, as far as the kernel is concerned: each in a network namespace with a link to the
//! coordinator and one to the target, and a monotonic clock that counts from another day. The link to the coordinator is
//! taken down and up again, checked against the target's log.

use std::thread::sleep;
use std::time::Duration;

use anyhow::ensure;

use super::scene::{Begun, begin, plan};
use crate::harness::{Daemon, Namespace, Oracle, To, folder, serve_on};

struct Apart {
    oracle: Oracle,
    begun: Begun,
    // In the order in which they go: processes before what they are in.
    _agents: [Daemon; 2],
    _coordinator: Daemon,
    b: Namespace,
    _a: Namespace,
    _folder: tempfile::TempDir,
}

/// Two agents in the second second of a load.
fn apart(keys: &str, seconds: u64) -> anyhow::Result<Apart> {
    let (a, b) = (Namespace::new()?, Namespace::new()?);
    let target = a.host(To::Target);
    b.reaches(&target)?;
    let oracle = Oracle::start_on(&target)?;
    let folder = folder()?;
    let (coordinator, url) = serve_on("0.0.0.0:0", folder.path())?;
    let port = url.rsplit(':').next().unwrap_or_default();
    let join = |namespace: &Namespace, name| {
        namespace.agent(&format!("http://{}:{port}", namespace.host(To::Coordinator)), name, &target)
    };
    let agents = [join(&a, "a")?, join(&b, "b")?];
    let begun = begin(&plan(seconds, keys), &oracle, &format!("http://127.0.0.1:{port}"), 2)?;
    Ok(Apart { oracle, begun, _agents: agents, _coordinator: coordinator, b, _a: a, _folder: folder })
}

/// Down for longer than the lease: the agent stops by its own clock, the other one takes over, and what the first had
/// measured comes when the link is up again.
pub(crate) fn link_down() -> anyhow::Result<()> {
    let apart = apart("lease: 4s", 18)?;
    apart.b.down(To::Coordinator)?;
    sleep(Duration::from_secs(8));
    apart.b.up(To::Coordinator)?;
    let ended = apart.begun.end()?;
    ended.account_holds(&apart.oracle, 18)?;
    ended.lost("b")?;
    ensure!(ended.marks("load_moved") > 0, "{:?}", ended.report.marks);
    Ok(())
}

/// Down for less than the lease: nothing is lost, and nobody is taken for dead.
pub(crate) fn link_down_for_a_moment() -> anyhow::Result<()> {
    let apart = apart("lease: 30s", 8)?;
    apart.b.down(To::Coordinator)?;
    sleep(Duration::from_secs(3));
    apart.b.up(To::Coordinator)?;
    let ended = apart.begun.end()?;
    ended.nothing_was_lost(&apart.oracle, 8)?;
    ensure!(ended.marks("agent_lost") == 0, "{:?}", ended.report.marks);
    Ok(())
}
