//! Links between agents and their coordinator that stall, break, delay and corrupt.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::Signal;

use super::scene::{Begun, Ended, RATE, begin, plan};
use crate::harness::{Daemon, Oracle, Proxy, agent, serve};

struct Linked {
    oracle: Oracle,
    _coordinator: Daemon,
    _a: Daemon,
    /// The agent behind the proxy.
    b: Daemon,
    proxy: Proxy,
    begun: Begun,
}

/// Two agents, one of them behind a proxy, in the second second of a load.
fn linked(plan: &str) -> anyhow::Result<Linked> {
    let oracle = Oracle::start()?;
    let (coordinator, url) = serve()?;
    let proxy = Proxy::before(&url)?;
    let (a, b) = (agent(&url, "a", None)?, agent(&proxy.url(), "b", None)?);
    let begun = begin(plan, &oracle, &url, 2)?;
    Ok(Linked { oracle, _coordinator: coordinator, _a: a, b, proxy, begun })
}

fn never_lost(ended: &Ended) -> anyhow::Result<()> {
    ensure!(ended.marks("agent_lost") == 0, "{:?}", ended.report.marks);
    Ok(())
}

/// Nothing goes through for three seconds, less than the lease.
pub(crate) fn held_for_less_than_the_lease() -> anyhow::Result<()> {
    let linked = linked(&plan(8, ""))?;
    linked.proxy.hold();
    sleep(Duration::from_secs(3));
    linked.proxy.repair();
    let ended = linked.begun.end()?;
    ended.nothing_was_lost(&linked.oracle, 8)?;
    never_lost(&ended)
}

/// Nothing goes through for longer than the lease: the agent stops by its own clock, the other takes over, and what the
/// first had measured comes when the link is back.
pub(crate) fn held_for_longer_than_the_lease() -> anyhow::Result<()> {
    let linked = linked(&plan(18, "lease: 4s"))?;
    linked.proxy.hold();
    sleep(Duration::from_secs(8));
    linked.proxy.repair();
    let ended = linked.begun.end()?;
    ended.account_holds(&linked.oracle, 18)?;
    ended.lost("b")?;
    ensure!(ended.marks("load_moved") > 0, "{:?}", ended.report.marks);
    Ok(())
}

/// Nobody takes a share over with `continue`: the agent goes on behind a link that is dead for a minute, keeps what it
/// measures in a memory that does not grow with the outage, and hands it in when the link is back. Both ends notice a link
/// that is silent though its connections stay open.
pub(crate) fn held_with_continue() -> anyhow::Result<()> {
    const OUTAGE: Duration = Duration::from_secs(60);
    let mut linked = linked(&plan(70, "on_agent_loss: continue\ncoordinator_timeout: 5m"))?;
    linked.begun.wait_for_load(&linked.oracle, RATE * 2)?;
    let before = linked.b.peak_memory_kib()?;
    let held = Instant::now();
    linked.proxy.hold();
    linked.b.wait_for("no session with the coordinator")?;
    sleep(OUTAGE.saturating_sub(held.elapsed()));
    let after = linked.b.peak_memory_kib()?;
    linked.proxy.repair();
    let ended = linked.begun.end()?;
    ended.nothing_was_lost(&linked.oracle, 70)?;
    never_lost(&ended)?;
    ensure!(ended.marks("agent_away") > 0 && ended.marks("agent_back") > 0, "{:?}", ended.report.marks);
    // One delta that waits and eight that were sent; a second's recorders of its five series alone are twice 0.9 MiB.
    ensure!(after < before + 8_192, "its memory grew from {before} to {after} KiB");
    Ok(())
}

/// A link of 64 kbit/s: heartbeats are in time, and the load does not know of it.
pub(crate) fn slow() -> anyhow::Result<()> {
    let linked = linked(&plan(8, ""))?;
    linked.proxy.limit(8_000);
    let ended = linked.begun.end()?;
    ended.nothing_was_lost(&linked.oracle, 8)?;
    never_lost(&ended)
}

/// SIGKILL when the agent has sealed figures and none of them have arrived: nobody will ever know them, and the report says
/// how many they are at the most.
pub(crate) fn killed_before_its_figures_arrive() -> anyhow::Result<()> {
    killed(Proxy::hold)
}

/// SIGKILL when its figures are safe and it has not heard of it: they are in the report, once.
pub(crate) fn killed_before_it_is_acknowledged() -> anyhow::Result<()> {
    killed(Proxy::hold_answers)
}

fn killed(hold: fn(&Proxy)) -> anyhow::Result<()> {
    let mut linked = linked(&plan(12, "lease: 3s"))?;
    hold(&linked.proxy);
    // So long that two deltas are sealed meanwhile, and shorter than the lease, so that it goes on.
    linked.begun.wait_for_load(&linked.oracle, linked.oracle.count() + RATE * 2)?;
    linked.b.signal(Signal::KILL)?;
    linked.b.wait()?;
    linked.proxy.repair();
    let ended = linked.begun.end()?;
    ended.account_holds(&linked.oracle, 12)?;
    ended.lost("b")?;
    ensure!(ended.report.ledger.unknown_max > 0, "{:?}", ended.report.ledger);
    Ok(())
}

/// Acknowledgements do not come through: the agent sends again after the next dial, and nothing is counted twice.
pub(crate) fn answers_held() -> anyhow::Result<()> {
    let linked = linked(&plan(10, "lease: 30s"))?;
    for _ in 0..2 {
        linked.proxy.hold_answers();
        sleep(Duration::from_secs(2));
        linked.proxy.cut();
        linked.proxy.repair();
        sleep(Duration::from_secs(1));
    }
    let ended = linked.begun.end()?;
    ended.nothing_was_lost(&linked.oracle, 10)?;
    never_lost(&ended)
}

/// Every connection is reset once a second, ten times.
pub(crate) fn cut_every_second() -> anyhow::Result<()> {
    let linked = linked(&plan(14, "lease: 30s"))?;
    for _ in 0..10 {
        linked.proxy.cut();
        sleep(Duration::from_secs(1));
    }
    let ended = linked.begun.end()?;
    ended.nothing_was_lost(&linked.oracle, 14)?;
    never_lost(&ended)?;
    ensure!(ended.marks("agent_back") > 0, "{:?}", ended.report.marks);
    Ok(())
}

/// Each piece takes 100 to 300 ms: nobody is taken for dead, and the bound of the common start says it.
pub(crate) fn delayed() -> anyhow::Result<()> {
    let oracle = Oracle::start()?;
    let (_coordinator, url) = serve()?;
    let proxy = Proxy::before(&url)?;
    proxy.delay_ms(100..300);
    let (_a, _b) = (agent(&url, "a", None)?, agent(&proxy.url(), "b", None)?);
    let ended = begin(&plan(6, ""), &oracle, &url, 2)?.end()?;
    ended.nothing_was_lost(&oracle, 6)?;
    never_lost(&ended)?;
    let b = ended.report.agents.iter().find(|row| row.name == "b").context("no row")?;
    ensure!(b.clock_bound_ms >= 100.0 && b.clock_skew_ms.abs() <= b.clock_bound_ms, "{b:?}");
    Ok(())
}

/// A bit of a delta flips on its way: the delta is refused by its hash, sent again, and counted once.
pub(crate) fn corrupted() -> anyhow::Result<()> {
    let mut linked = linked(&plan(10, "lease: 30s"))?;
    linked.proxy.flip(1);
    linked.begun.wait_for_load(&linked.oracle, RATE * 4)?;
    ensure!(linked.proxy.flips_left() == 0, "no delta came by");
    let ended = linked.begun.end()?;
    linked.oracle.everything_once(RATE * 10)?;
    ended.nothing_was_lost(&linked.oracle, 10)
}
