//! A thousand agents on one coordinator: what it takes of a core and of memory while every delta is made durable, merged
//! and acknowledged, and how long meanwhile a question takes. Prints figures; the only thing asserted is that the run
//! that they are of is right.
//!
//! `cargo bench -p groundswell-tests --bench fleet [-- AGENTS SECONDS SAMPLES VARIANTS STEPS]`: so many agents, which
//! report for so many seconds five series with so many samples each, of so many steps; at each second agents share so
//! many variants of figures. Without numbers: 1,000 agents, 60 s, 500 samples, 16 variants, 4 steps.
#![allow(clippy::print_stdout, reason = "a benchmark prints figures")]

mod agent;
#[path = "../common/api.rs"]
mod api;
mod coordinator;
mod follower;
#[path = "../common/samples.rs"]
mod samples;
mod script;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use groundswell_coordinator::api::{Accepted, PlanFiles, Submission};
use groundswell_coordinator::report::{Report, Status};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use agent::Fleet;
use coordinator::Coordinator;
use follower::Follower;
use script::{SERIES, Script};

/// What comes before and after the load takes no longer.
const PATIENCE: Duration = Duration::from_secs(180);
/// Agents that join at the same moment; `faults::crowd` is the test of more.
const AT_A_TIME: usize = 64;
/// Deltas come just after the full second, so this is when none is on its way.
const BETWEEN: Duration = Duration::from_millis(500);

/// What the numbers on the command line say.
struct Size {
    agents: u64,
    seconds: u64,
    samples: u64,
    variants: u64,
    steps: u32,
}

/// What was measured.
struct Measured {
    joined: Duration,
    idle_mib: f64,
    /// CPU time of program and kernel, in seconds, from the first delta to the last acknowledgement.
    cpu_s: (f64, f64),
    /// How long that took.
    wall: Duration,
    /// From the agents' end to the report.
    reported: Duration,
    acknowledged: Vec<Duration>,
    questions: Vec<Duration>,
    store: (u64, u64),
    report: Report,
}

fn main() -> anyhow::Result<()> {
    let size = Size::from_arguments()?;
    raise_descriptors()?;
    let before = load_average()?;
    let script = Script::new(size.seconds, size.steps, size.samples, size.variants)?;
    let bytes = script.mean_bytes();
    let coordinator = Coordinator::start()?;
    println!("coordinator: process {}", coordinator.id());
    let fleet = Arc::new(Fleet {
        url: coordinator.url.clone(),
        script,
        agents: size.agents,
        zero: Instant::now(),
        t0: watch::Sender::new(None),
        joining: Semaphore::new(AT_A_TIME),
        joined: watch::Sender::new(0),
        may_end: CancellationToken::new(),
        sent: AtomicU64::new(0),
        acknowledged: AtomicU64::new(0),
    });
    // The other core is the coordinator's.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let limit = PATIENCE + Duration::from_secs(size.seconds);
    let measured = runtime
        .block_on(async { timeout(limit, measure(&fleet, &coordinator)).await.context("it takes too long")? })?;
    let counts = [&fleet.sent, &fleet.acknowledged].map(|count| count.load(Ordering::Relaxed));
    size.print(&measured, counts, bytes);
    println!("{:<44}{:>10.1} MiB at its peak", "  memory of the coordinator", coordinator.memory_mib("VmHWM")?);
    println!("{:<44}{before} before, {} after", "load average of the machine", load_average()?);
    size.check(&measured.report, counts)
}

/// One run, from the first agent to the report.
async fn measure(fleet: &Arc<Fleet>, coordinator: &Coordinator) -> anyhow::Result<Measured> {
    let address = coordinator.url.trim_start_matches("http://");
    let begun = Instant::now();
    let mut agents = JoinSet::new();
    for nth in 0..fleet.agents {
        agents.spawn(agent::work(Arc::clone(fleet), nth));
    }
    let all_there = async {
        let mut joined = fleet.joined.subscribe();
        joined.wait_for(|joined| *joined == fleet.agents).await.map(drop).context("nobody joins")
    };
    or_failed(&mut agents, all_there).await?;
    let (joined, idle_mib) = (begun.elapsed(), coordinator.memory_mib("VmRSS")?);
    let submission = serde_json::to_string(&submission(fleet))?;
    let accepted: Accepted = api::ask(TcpStream::connect(address).await?, "/runs", Some(&submission)).await?;
    let starts = async {
        let mut t0 = fleet.t0.subscribe();
        let known = t0.wait_for(Option::is_some).await.map(|t0| *t0);
        known.ok().flatten().context("it does not start")
    };
    let t0 = or_failed(&mut agents, starts).await?;
    let questions = Follower::start(address, &accepted.id);
    let _does_not_read = follower::who_does_not_read(address, &accepted.id)?;
    sleep_until(t0 + BETWEEN).await;
    let (cpu, store, from) = (coordinator.cpu_s()?, coordinator.store_bytes()?, Instant::now());
    let loaded = async {
        let deltas = fleet.agents * fleet.script.seconds();
        sleep_until(t0 + Duration::from_secs(fleet.script.seconds()) + BETWEEN).await;
        while fleet.acknowledged.load(Ordering::Relaxed) < deltas {
            sleep(Duration::from_millis(10)).await;
        }
        anyhow::Ok(())
    };
    or_failed(&mut agents, loaded).await?;
    let (cpu_now, wall) = (coordinator.cpu_s()?, from.elapsed());
    let (questions, ended) = (questions.stop()?, Instant::now());
    fleet.may_end.cancel();
    let mut acknowledged = Vec::new();
    while let Some(worked) = agents.join_next().await {
        acknowledged.extend(worked??);
    }
    Ok(Measured {
        joined,
        idle_mib,
        cpu_s: (cpu_now.0 - cpu.0, cpu_now.1 - cpu.1),
        wall,
        acknowledged,
        questions,
        store: (store, coordinator.store_bytes()?),
        report: report(address, &accepted.id).await?,
        reported: ended.elapsed(),
    })
}

/// Waits for something unless an agent fails before.
async fn or_failed<T>(
    agents: &mut JoinSet<anyhow::Result<Vec<Duration>>>,
    wait: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::select! {
        waited = wait => waited,
        Some(ended) = agents.join_next() => match ended? {
            Ok(_) => bail!("an agent was released before the end"),
            Err(error) => Err(error),
        }
    }
}

/// So many iterations for each agent and second, of so many steps.
fn submission(fleet: &Fleet) -> Submission {
    let seconds = fleet.script.seconds();
    let rate = fleet.agents * fleet.script.samples;
    let steps: Vec<String> = (0..fleet.script.steps).map(|step| format!("{{ get: /{step} }}")).collect();
    let text = format!(
        "target: http://127.0.0.1:9\nmax_start_skew: 1s\nscenarios:\n  fleet: {{ load: {{ rate: {rate}/s, for: {seconds}s }}, \
         flow: [ {} ] }}\n",
        steps.join(", ")
    );
    let plan = PlanFiles { name: "fleet.yaml".into(), text, files: [].into(), search_level: None };
    let agents = u32::try_from(fleet.agents).unwrap_or(u32::MAX);
    Submission { plan, agents, wait_s: 60.0, labels: [].into(), selector: [].into(), submission: None, attached: false }
}

async fn report(address: &str, run: &str) -> anyhow::Result<Report> {
    loop {
        let asked = api::ask(TcpStream::connect(address).await?, &format!("/runs/{run}/report"), None).await;
        match asked {
            Ok(report) => return Ok(report),
            Err(error) if error.to_string().contains("no report yet") => sleep(Duration::from_millis(100)).await,
            Err(error) => return Err(error),
        }
    }
}

impl Size {
    fn from_arguments() -> anyhow::Result<Self> {
        let given: Vec<u64> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
        let at = |place: usize, otherwise: u64| given.get(place).copied().unwrap_or(otherwise).max(1);
        Ok(Size {
            agents: at(0, 1_000),
            seconds: at(1, 60),
            samples: at(2, 500),
            variants: at(3, 16),
            steps: u32::try_from(at(4, 4))?,
        })
    }

    fn print(&self, measured: &Measured, [sent, acknowledged]: [u64; 2], bytes: f64) {
        let Size { agents, seconds, samples, steps, .. } = self;
        let series = SERIES * u64::from(*steps);
        println!("{agents} agents, {seconds} s, a delta a second each of {series} series with {samples} samples");
        let line = |what: &str, figures: String| println!("  {what:<42}{figures}");
        let (program, kernel) = measured.cpu_s;
        let part = |cpu_s: f64| 100.0 * cpu_s / measured.wall.as_secs_f64();
        let each_us = 1e6 * (program + kernel) / sent as f64;
        line("all agents there after", format!("{:>10.1} s", measured.joined.as_secs_f64()));
        line("deltas", format!("{sent:>10} sent, {acknowledged} acknowledged, {bytes:.0} bytes each"));
        line(
            "CPU time of the coordinator, of one core",
            format!(
                "{:>10.1} %, {:.1} of it the kernel's; {each_us:.0} us for each delta",
                part(program + kernel),
                part(kernel)
            ),
        );
        line("memory of the coordinator", format!("{:>10.1} MiB before the run", measured.idle_mib));
        line("from a delta's sending to its answer", quantiles(&measured.acknowledged));
        line(
            "to ask where the run stands",
            format!("{}, of {}", quantiles(&measured.questions), measured.questions.len()),
        );
        line("from the agents' end to the report", format!("{:>10.1} s", measured.reported.as_secs_f64()));
        let (before, after) = measured.store;
        let each = after.saturating_sub(before) as f64 / sent as f64;
        line("store", format!("{:>10.1} MB, {each:.0} bytes more for each delta", after as f64 / 1e6));
        let Report { verdict, ledger, .. } = &measured.report;
        let balanced = if ledger.balanced { "balanced" } else { "not balanced" };
        line("verdict", format!("{:?}, account {balanced}, {} operations", verdict.status, ledger.issued));
    }

    /// Of a run that is not right no figure counts.
    fn check(&self, report: &Report, counts: [u64; 2]) -> anyhow::Result<()> {
        let deltas = self.agents * self.seconds;
        let operations = deltas * self.samples * u64::from(self.steps);
        ensure!(counts == [deltas, deltas], "{counts:?} deltas sent and acknowledged, not {deltas}");
        ensure!(report.ledger.balanced && report.ledger.issued == operations, "{:?}", report.ledger);
        ensure!(report.verdict.status == Status::Passed, "{:?}", report.verdict);
        Ok(())
    }
}

fn quantiles(times: &[Duration]) -> String {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at =
        |part: f64| times.get(((times.len().max(1) - 1) as f64 * part) as usize).map_or(0.0, Duration::as_secs_f64);
    let [median, p99, most] = [0.5, 0.99, 1.0].map(|part| 1e3 * at(part));
    format!("{median:>10.1} ms in the median, p99 {p99:.1}, at most {most:.1}")
}

/// Two connections for each agent.
fn raise_descriptors() -> anyhow::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

fn load_average() -> anyhow::Result<String> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    Ok(text.split_whitespace().next().unwrap_or_default().to_owned())
}
