//! Agents that die, freeze, leave, or come late.

use std::thread::sleep;
use std::time::Duration;

use anyhow::ensure;
use rustix::process::Signal;

use super::scene::{Begun, RATE, begin, plan};
use crate::harness::{Daemon, Groundswell, Oracle, agent, serve};

struct Three {
    oracle: Oracle,
    _coordinator: Daemon,
    url: String,
    b: Daemon,
    _others: [Daemon; 2],
    begun: Begun,
}

/// Three agents in the second second of a load.
fn three(plan: &str) -> anyhow::Result<Three> {
    let oracle = Oracle::start()?;
    let (coordinator, url) = serve()?;
    let (a, b, c) = (agent(&url, "a", None)?, agent(&url, "b", None)?, agent(&url, "c", None)?);
    let begun = begin(plan, &oracle, &url, 3)?;
    Ok(Three { oracle, _coordinator: coordinator, url, b, _others: [a, c], begun })
}

/// SIGKILL; the agent never comes back.
pub(crate) fn killed_for_good() -> anyhow::Result<()> {
    let three = three(&plan(12, "lease: 3s"))?;
    three.b.signal(Signal::KILL)?;
    let ended = three.begun.end()?;
    ended.account_holds(&three.oracle, 12)?;
    ended.lost("b")?;
    ensure!(ended.marks("agent_lost") == 1 && ended.marks("load_moved") > 0, "{:?}", ended.report.marks);
    Ok(())
}

/// SIGKILL, and another one of its name comes at once: it gets a part of the load, and its predecessor's figures stay.
pub(crate) fn killed_and_replaced() -> anyhow::Result<()> {
    let mut three = three(&plan(14, "lease: 3s"))?;
    // By then it has handed in something, which must stay.
    three.oracle.wait_for(RATE * 3)?;
    three.b.signal(Signal::KILL)?;
    three.b.wait()?;
    let _again = agent(&three.url, "b", None)?;
    let ended = three.begun.end()?;
    ended.account_holds(&three.oracle, 14)?;
    ended.lost("b")?;
    let rows: Vec<u64> = ended.report.agents.iter().filter(|row| row.name == "b").map(|row| row.issued).collect();
    ensure!(rows.len() == 2 && rows.iter().all(|issued| *issued > 0), "{:?}", ended.report.agents);
    Ok(())
}

/// SIGSTOP for longer than the lease. Woken up, the agent sends nothing of its old share, hands in what it had measured,
/// and comes back as another one.
pub(crate) fn frozen_for_longer_than_its_lease() -> anyhow::Result<()> {
    let mut three = three(&plan(16, "lease: 3s"))?;
    three.b.signal(Signal::STOP)?;
    sleep(Duration::from_secs(6));
    three.b.signal(Signal::CONT)?;
    let ended = three.begun.end()?;
    ended.account_holds(&three.oracle, 16)?;
    ended.lost("b")?;
    three.b.signal(Signal::TERM)?;
    three.b.wait()?;
    // Nothing comes after the end either, and what it had sent before it froze is in the report.
    ended.account_holds(&three.oracle, 16)?;
    let rows = ended.report.agents.iter().filter(|row| row.name == "b");
    let issued: u64 = rows.map(|row| row.issued).sum();
    ensure!(issued > 0, "{:?}", ended.report.agents);
    Ok(())
}

/// SIGSTOP for less than the lease: late, and complete.
pub(crate) fn frozen_for_less_than_its_lease() -> anyhow::Result<()> {
    let three = three(&plan(6, ""))?;
    three.b.signal(Signal::STOP)?;
    sleep(Duration::from_secs(2));
    three.b.signal(Signal::CONT)?;
    let ended = three.begun.end()?;
    ended.nothing_was_lost(&three.oracle, 6)?;
    ensure!(ended.marks("agent_lost") == 0, "{:?}", ended.report.marks);
    // The report shows the freeze where it belongs: as lateness of the agent.
    let lag = ended.report.total.send_lag_ms.max.unwrap_or(0.0);
    ensure!(lag > 1_000.0, "{:?}", ended.report.total.send_lag_ms);
    Ok(())
}

/// SIGTERM: its share has another owner before it ends, and nothing is left out between the two.
pub(crate) fn asked_to_end() -> anyhow::Result<()> {
    let mut three = three(&plan(10, ""))?;
    three.b.signal(Signal::TERM)?;
    ensure!(three.b.wait()? == Some(0), "the agent did not end well");
    let ended = three.begun.end()?;
    ended.nothing_was_lost(&three.oracle, 10)?;
    ensure!(ended.marks("agent_left") == 1 && ended.marks("load_moved") > 0, "{:?}", ended.report.marks);
    Ok(())
}

/// An agent that comes when the run has begun, after another was lost: it takes a share from a moment ahead, and what was
/// due before is not sent late.
pub(crate) fn joins_late() -> anyhow::Result<()> {
    let three = three(&plan(16, "lease: 3s"))?;
    three.b.signal(Signal::KILL)?;
    three.oracle.wait_for(RATE * 3)?;
    let _late = agent(&three.url, "late", None)?;
    let ended = three.begun.end()?;
    ended.account_holds(&three.oracle, 16)?;
    ended.lost("b")?;
    ensure!(ended.marks("agent_joined") == 1, "{:?}", ended.report.marks);
    let late = ended.report.agents.iter().find(|row| row.name == "late");
    ensure!(late.is_some_and(|late| late.joined_at_s.is_some() && late.issued > 0), "{:?}", ended.report.agents);
    ensure!(ended.report.ledger.not_generated.contains_key("agent_lost"), "{:?}", ended.report.ledger);
    Ok(())
}

/// The same binary with the same name twice: the second one is refused, and there is no double load.
pub(crate) fn started_twice() -> anyhow::Result<()> {
    let three = three(&plan(5, ""))?;
    let arguments = ["agent", "--coordinator", &three.url, "--name", "b", "--workers", "1"];
    let second = Groundswell::new(arguments).finish()?;
    ensure!(second.code == Some(2) && second.stderr.contains("already there"), "{second:?}");
    three.begun.end()?.nothing_was_lost(&three.oracle, 5)
}
