//! What the tests of faults share: a target that writes everything down, a coordinator that can be killed, a plan whose
//! every operation has a number, and the account at the end.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use groundswell_coordinator::report::Status;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{Daemon, Oracle, Prepared, Report, folder, own_port, serve_on};

/// Operations a second of every plan here.
pub(super) const RATE: u64 = 100;

/// A plan that asks for `/k/0`, `/k/1`, … for so many seconds, with further keys.
pub(super) fn plan(seconds: u64, more: &str) -> String {
    format!(
        "
target: TARGET
max_send_lag: 60s
max_start_skew: 500ms
{more}
scenarios:
  arrive:
    load: {{ rate: {RATE}/s, for: {seconds}s, max_in_flight: 10000 }}
    flow: [ {{ get: '/k/{{{{ iteration }}}}', name: k, timeout: 60s }} ]
"
    )
}

/// A coordinator that is killed and started again, on one port and one store.
pub(super) struct Coordinator {
    data: PathBuf,
    _folder: TempDir,
    address: String,
    daemon: Daemon,
}

impl Coordinator {
    pub(super) fn start() -> anyhow::Result<Self> {
        let folder = folder()?;
        let data = folder.path().to_owned();
        Self::start_in(data, folder)
    }

    /// One with a store in this folder, which may be the temporary one or not.
    pub(super) fn start_in(data: PathBuf, folder: TempDir) -> anyhow::Result<Self> {
        let address = format!("127.0.0.1:{}", own_port()?);
        let (daemon, _) = serve_on(&address, &data)?;
        Ok(Coordinator { data, _folder: folder, address, daemon })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    pub(super) fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.daemon.signal(Signal::KILL)?;
        self.daemon.wait()?;
        Ok(())
    }

    /// Starts it again after [`Coordinator::kill`].
    pub(super) fn restart(&mut self) -> anyhow::Result<()> {
        self.daemon = serve_on(&self.address, &self.data)?.0;
        Ok(())
    }
}

/// A run under way.
pub(super) struct Begun {
    prepared: Prepared,
    run: Daemon,
}

/// How it ended.
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) report: Report,
}

/// Submits a plan to a coordinator with so many agents and waits until some load has been seen.
pub(super) fn begin(plan: &str, oracle: &Oracle, coordinator: &str, agents: usize) -> anyhow::Result<Begun> {
    let prepared = Prepared::new(plan, &oracle.url())?;
    let run = prepared.call_on("run", coordinator, &agents.to_string()).start("run")?;
    let mut begun = Begun { prepared, run };
    begun.wait_for_load(oracle, RATE)?;
    Ok(begun)
}

impl Begun {
    /// Waits until the target has seen so many requests.
    pub(super) fn wait_for_load(&mut self, oracle: &Oracle, least: u64) -> anyhow::Result<()> {
        let seen = oracle.wait_for(least);
        seen.with_context(|| format!("the run said: {}", self.run.said()))
    }

    pub(super) fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    pub(super) fn run(&mut self) -> &mut Daemon {
        &mut self.run
    }

    pub(super) fn end(mut self) -> anyhow::Result<Ended> {
        let code = self.run.wait()?;
        let report = self.prepared.report().with_context(|| self.run.said())?;
        Ok(Ended { code, report })
    }
}

impl Ended {
    pub(super) fn marks(&self, kind: &str) -> usize {
        self.report.marks.iter().filter(|mark| mark.kind == kind).count()
    }

    /// The account is closed over so many seconds of load, nothing was asked for twice or too early, and the target saw
    /// what was reported and at most what nobody knows of.
    pub(super) fn account_holds(&self, oracle: &Oracle, seconds: u64) -> anyhow::Result<()> {
        let (ledger, seen) = (&self.report.ledger, oracle.count());
        let context = || format!("{:?} {:?} {:?}", self.report.verdict, ledger, self.report.marks);
        ensure!(ledger.balanced && ledger.scheduled == RATE * seconds, "{}", context());
        oracle.nothing_twice().with_context(context)?;
        let reported = ledger.issued..=ledger.issued + ledger.unknown_max;
        ensure!(reported.contains(&seen), "the target saw {seen}: {}", context());
        let started = self.report.run.started_at.as_deref().context("no start")?;
        let bound = self.report.agents.iter().map(|agent| agent.clock_bound_ms).fold(0.0, f64::max);
        let tolerance = Duration::from_millis(50) + Duration::from_secs_f64(bound / 1e3);
        let started = instant_of(started)?;
        oracle.nothing_early(started, RATE as f64, tolerance)?;
        oracle.never_more_than_planned(started, RATE as f64, tolerance)
    }

    /// Nothing was lost at all: passed, and everything was asked for exactly once.
    pub(super) fn nothing_was_lost(&self, oracle: &Oracle, seconds: u64) -> anyhow::Result<()> {
        let context = || format!("{:?} {:?} {:?}", self.report.verdict, self.report.ledger, self.report.marks);
        ensure!(self.code == Some(0) && self.report.verdict.status == Status::Passed, "{:?} {}", self.code, context());
        self.account_holds(oracle, seconds)?;
        oracle.everything_once(RATE * seconds).with_context(context)?;
        ensure!(self.report.ledger.issued == RATE * seconds && self.report.ledger.unknown_max == 0, "{}", context());
        Ok(())
    }

    /// Part of the load was not offered because this agent was lost.
    pub(super) fn lost(&self, name: &str) -> anyhow::Result<()> {
        let verdict = &self.report.verdict;
        ensure!(self.code == Some(3) && verdict.status == Status::Degraded, "{:?} {verdict:?}", self.code);
        let lost = |reason: &&groundswell_coordinator::report::Reason| reason.code == "agent_lost";
        let reason = verdict.reasons.iter().find(lost).context("no reason")?;
        ensure!(reason.agent.as_deref() == Some(name), "{verdict:?}");
        Ok(())
    }
}

fn instant_of(rfc3339: &str) -> anyhow::Result<SystemTime> {
    Ok(humantime::parse_rfc3339(rfc3339)?)
}
