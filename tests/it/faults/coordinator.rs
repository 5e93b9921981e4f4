//! Coordinators that die, come back, stay away, meet a second one, or have no room left.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use groundswell_coordinator::report::Status;
use groundswell_proto::v1::agent_message::Kind as Say;
use groundswell_proto::v1::{Done, Held};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::scene::{Coordinator, Ended, RATE, begin, plan};
use crate::harness::{
    ByHand, Groundswell, Oracle, Prepared, Report, agent, agent_through, folder, measured, serve_on, write,
};

/// SIGKILL at twenty random moments of one run, each time started again at once: nothing is lost, nothing twice, and the
/// command that submitted the run sees its report.
pub(crate) fn killed_twenty_times() -> anyhow::Result<()> {
    const SECONDS: u64 = 32;
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut moments: Vec<f64> = (0..20).map(|_| random.random_range(0.2..SECONDS as f64 - 2.0)).collect();
    moments.sort_by(f64::total_cmp);
    let oracle = Oracle::start()?;
    let mut coordinator = Coordinator::start()?;
    let url = coordinator.url();
    let _agents = [agent(&url, "a", None)?, agent(&url, "b", None)?, agent(&url, "c", None)?];
    let mut begun = begin(&plan(SECONDS, "lease: 60s"), &oracle, &url, 3)?;
    let began = Instant::now();
    for moment in moments {
        sleep((began + Duration::from_secs_f64(moment)).saturating_duration_since(Instant::now()));
        coordinator.kill()?;
        ensure!(!begun.run().has_ended()?, "the command went away: {}", begun.run().said());
        coordinator.restart()?;
    }
    let ended = begun.end().with_context(|| format!("seed {seed}"))?;
    ended.nothing_was_lost(&oracle, SECONDS).with_context(|| format!("seed {seed}"))?;
    ensure!(ended.marks("coordinator_restarted") > 0, "{:?}", ended.report.marks);
    Ok(())
}

/// Away for longer than the lease: the agents stop by themselves, nobody sends anything twice, and the report shows it.
pub(crate) fn away_for_longer_than_the_lease() -> anyhow::Result<()> {
    let oracle = Oracle::start()?;
    let mut coordinator = Coordinator::start()?;
    let url = coordinator.url();
    let _agents = [agent(&url, "a", None)?, agent(&url, "b", None)?];
    let begun = begin(&plan(20, "lease: 3s"), &oracle, &url, 2)?;
    coordinator.kill()?;
    // However slow the machine is: when nothing has come for two seconds, the agents have stopped.
    let mut before = oracle.count();
    loop {
        sleep(Duration::from_secs(2));
        let now = oracle.count();
        if now == before {
            break;
        }
        before = now;
    }
    ensure!(before < RATE * 20, "the agents went on to the end");
    coordinator.restart()?;
    let ended = begun.end()?;
    ended.account_holds(&oracle, 20)?;
    ensure!(ended.code == Some(3) && ended.report.verdict.status == Status::Degraded, "{:?}", ended.report.verdict);
    ensure!(ended.marks("agent_lost") >= 2 && ended.marks("coordinator_restarted") == 1, "{:?}", ended.report.marks);
    Ok(())
}

/// A second coordinator on a store that is in use.
pub(crate) fn two_on_one_store() -> anyhow::Result<()> {
    let coordinator = Coordinator::start()?;
    let folder = coordinator.data().display().to_string();
    let second = Groundswell::new(["serve", "--listen", "127.0.0.1:0", "--data-dir", &folder]).finish()?;
    ensure!(second.code == Some(2) && second.stderr.contains(&folder), "{second:?}");
    // The first one goes on.
    agent(&coordinator.url(), "a", None)?;
    Ok(())
}

/// A coordinator of an earlier start answers under the address of a later one: a copy of its store that was made before.
/// No agent obeys it, and with the right one back nothing is lost.
pub(crate) fn a_ghost_is_not_obeyed() -> anyhow::Result<()> {
    let oracle = Oracle::start()?;
    let mut coordinator = Coordinator::start()?;
    let (url, ghosts) = (coordinator.url(), folder()?);
    coordinator.kill()?;
    copy(coordinator.data(), ghosts.path())?;
    // The copy's next start is the second one, and so is this; the one after it is the third.
    coordinator.restart()?;
    coordinator.kill()?;
    coordinator.restart()?;
    let mut agent = agent(&url, "a", None)?;
    let begun = begin(&plan(14, "lease: 60s"), &oracle, &url, 1)?;
    coordinator.kill()?;
    let address = url.trim_start_matches("http://");
    let (ghost, _) = serve_on(address, ghosts.path())?;
    agent.wait_for("an older coordinator answered; it is not obeyed")?;
    drop(ghost);
    coordinator.restart()?;
    begun.end()?.nothing_was_lost(&oracle, 14)
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    for file in std::fs::read_dir(from)? {
        let file = file?;
        std::fs::copy(file.path(), to.join(file.file_name()))?;
    }
    Ok(())
}

/// SIGKILL at moments from the agent's last word on, one of which is likely to be while the report is made or stored: it
/// is there afterwards, and it is the same.
pub(crate) fn killed_while_it_reports() -> anyhow::Result<()> {
    const MOMENTS: u64 = 6;
    std::thread::scope(|scope| {
        let moment = |nth| move || killed_after(Duration::from_micros(700 * nth)).with_context(|| format!("{nth}"));
        let scenes: Vec<_> = (0..MOMENTS).map(|nth| scope.spawn(moment(nth))).collect();
        let ended = scenes.into_iter().map(|scene| scene.join().map_err(|_| anyhow::anyhow!("it panicked"))?);
        let failed: Vec<String> = ended.filter_map(Result::err).map(|error| format!("{error:#}")).collect();
        ensure!(failed.is_empty(), "{}", failed.join("\n"));
        Ok(())
    })
}

fn killed_after(pause: Duration) -> anyhow::Result<()> {
    const BOOT: u64 = 42;
    let mut coordinator = Coordinator::start()?;
    let url = coordinator.url();
    let mut agent = ByHand::join(&url, BOOT, Vec::new())?;
    let prepared = Prepared::new(&plan(1, "lease: 10m"), "http://127.0.0.1:9")?;
    let mut run = prepared.call_on("run", &url, "1").start("run")?;
    let run_id = agent.take_part()?;
    sleep(Duration::from_secs(3));
    agent.deliver(&run_id, 1, measured(0, RATE, 900).pack())?;
    agent.acknowledged(1)?;
    let done = || {
        let (run_id, incarnation) = (run_id.clone(), agent.incarnation);
        Say::Done(Done { run_id, last_seq: 1, problem: String::new(), incarnation })
    };
    agent.say(done())?;
    sleep(pause);
    coordinator.kill()?;
    coordinator.restart()?;
    let held = Held { run_id: run_id.clone(), incarnation: agent.incarnation, last_seq: 1 };
    // It may have been the last word of all, so it is said again.
    let again = ByHand::join(&url, BOOT, vec![held])?;
    again.say(done())?;
    let code = run.wait()?;
    let report: Report = prepared.report().with_context(|| run.said())?;
    ensure!(code == Some(0) && report.verdict.status == Status::Passed, "{code:?} {:?}", report.verdict);
    ensure!(report.ledger.balanced && report.ledger.ok == RATE, "{:?}", report.ledger);
    Ok(())
}

/// The coordinator moves to another address under the same name, and for a while its name is unknown: agents and the
/// command that follows the run ask for it anew, and nothing is lost.
pub(crate) fn its_name_gets_another_address() -> anyhow::Result<()> {
    let oracle = Oracle::start()?;
    let mut coordinator = Coordinator::start()?;
    let port = coordinator.url().rsplit(':').next().context("no port")?.to_owned();
    let names = folder()?;
    let hosts = write(names.path(), "hosts", "127.0.0.1 coordinator\n")?;
    // Nobody else is asked: a name server that is not there answers at once.
    let servers = write(names.path(), "resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")?;
    let (hosts, servers) = (hosts.display().to_string(), servers.display().to_string());
    let script = "mount --bind \"$0\" /etc/hosts && mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"";
    let own = ["-m", "sh", "-c", script, &hosts, &servers];
    let url = format!("http://coordinator:{port}");
    let mut agent = agent_through(&url, "a", &[], "unshare", &own)?;
    let prepared = Prepared::new(&plan(14, "lease: 60s"), &oracle.url())?;
    let call = prepared.call_on("run", &url, "1").env("GROUNDSWELL_INSECURE", "true");
    let mut run = call.through("unshare", &own).start("run")?;
    oracle.wait_for(RATE).with_context(|| run.said())?;
    coordinator.kill()?;
    std::fs::write(&hosts, "127.0.0.1 localhost\n")?;
    agent.wait_for("no session with the coordinator")?;
    agent.wait_for("no session with the coordinator")?;
    std::fs::write(&hosts, "127.0.0.2 coordinator\n")?;
    let _moved = serve_on(&format!("127.0.0.2:{port}"), coordinator.data())?;
    let code = run.wait()?;
    let report = prepared.report().with_context(|| run.said())?;
    Ended { code, report }.nothing_was_lost(&oracle, 14)
}

/// The plan's file changes while the run goes on, and the coordinator is started again: the accepted plan counts.
pub(crate) fn restarted_with_an_edited_plan() -> anyhow::Result<()> {
    let oracle = Oracle::start()?;
    let mut coordinator = Coordinator::start()?;
    let url = coordinator.url();
    let _agent = agent(&url, "a", None)?;
    let begun = begin(&plan(6, ""), &oracle, &url, 1)?;
    write(begun.prepared().folder(), "plan.yaml", "target: http://127.0.0.1:9\nscenarios: {}\n")?;
    coordinator.kill()?;
    coordinator.restart()?;
    begun.end()?.nothing_was_lost(&oracle, 6)
}

/// Coordinator and agents die in the middle of a run: what is stored becomes a report that says what it does not know.
pub(crate) fn recovered_without_anybody() -> anyhow::Result<()> {
    let oracle = Oracle::start()?;
    let mut coordinator = Coordinator::start()?;
    let url = coordinator.url();
    let mut agents = [agent(&url, "a", None)?, agent(&url, "b", None)?];
    let mut begun = begin(&plan(20, "lease: 3s"), &oracle, &url, 2)?;
    begun.wait_for_load(&oracle, RATE * 3)?;
    coordinator.kill()?;
    for agent in &mut agents {
        agent.signal(rustix::process::Signal::KILL)?;
        agent.wait()?;
    }
    let data = coordinator.data().display().to_string();
    let listed = Groundswell::new(["runs", "--data-dir", &data]).finish()?;
    let row = listed.stdout.lines().find(|line| line.contains("unfinished")).with_context(|| format!("{listed:?}"))?;
    let run = row.split_whitespace().next().context("no id")?;
    let folder = begun.prepared().folder();
    let call = ["runs", "recover", run, "--data-dir", &data, "--out", "recovered.json"];
    let recovered = Groundswell::new(call).current_dir(folder).finish()?;
    let report: Report = serde_json::from_str(&std::fs::read_to_string(folder.join("recovered.json"))?)
        .with_context(|| format!("{recovered:?}"))?;
    let (ledger, seen) = (&report.ledger, oracle.count());
    ensure!(recovered.code == Some(3) && report.verdict.status == Status::Degraded, "{:?}", report.verdict);
    ensure!(ledger.balanced && ledger.scheduled == RATE * 20 && ledger.unknown_max > 0, "{ledger:?}");
    ensure!((ledger.issued..=ledger.issued + ledger.unknown_max).contains(&seen), "the target saw {seen}: {ledger:?}");
    oracle.nothing_twice()
}

/// A file system of four megabytes in memory; it goes with this value.
struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    fn mount(at: &Path) -> anyhow::Result<Self> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "none"]).arg(at).status()?;
        ensure!(mounted.success(), "it can't be mounted");
        Ok(SmallDisk { at: at.to_owned() })
    }

    /// Leaves no room at all.
    fn fill(&self) -> anyhow::Result<PathBuf> {
        let path = self.at.join("filler");
        let mut file = std::fs::File::create(&path)?;
        while file.write_all(&[0; 4096]).is_ok() {}
        Ok(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What is still open in it goes with its process.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

/// The disk of the store is full: the coordinator ends and says why, the agents keep what they measure, and with room
/// again a restart makes everything whole.
pub(crate) fn disk_full() -> anyhow::Result<()> {
    let oracle = Oracle::start()?;
    let folder = folder()?;
    let data = folder.path().join("data");
    std::fs::create_dir(&data)?;
    let disk = SmallDisk::mount(&data)?;
    let mut coordinator = Coordinator::start_in(data.clone(), folder)?;
    let url = coordinator.url();
    let _agents = [agent(&url, "a", None)?, agent(&url, "b", None)?];
    let begun = begin(&plan(12, "lease: 60s"), &oracle, &url, 2)?;
    let filler = disk.fill()?;
    let code = coordinator.daemon().wait()?;
    let said = coordinator.daemon().said();
    ensure!(code == Some(3) && said.contains(&data.display().to_string()), "{code:?} {said}");
    std::fs::remove_file(filler)?;
    coordinator.restart()?;
    let ended = begun.end()?;
    coordinator.kill()?;
    ended.nothing_was_lost(&oracle, 12)
}
