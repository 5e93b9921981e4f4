//! What an agent may say that is late, doubled, contradictory or no figures at all.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, ensure};
use groundswell_coordinator::report::Status;
use groundswell_proto::v1::coordinator_message::Kind as Heard;
use groundswell_proto::v1::{Figures, Held, Series, StepDelta};

use super::scene::{RATE, plan};
use crate::harness::{ByHand, Daemon, Prepared, Report, measured, serve};

const BOOT: u64 = 42;

struct Scene {
    _coordinator: Daemon,
    url: String,
    agent: ByHand,
    run_id: String,
    prepared: Prepared,
    run: Daemon,
}

/// A run of three seconds on one agent that is made by hand, when they are over. Nothing is sent to any target.
fn scene() -> anyhow::Result<Scene> {
    let scene = scene_of(3, "lease: 10m")?;
    // The start lies two seconds ahead, and what is not due yet is not believed.
    sleep(Duration::from_secs(5));
    Ok(scene)
}

/// A run of so many seconds that is about to start.
fn scene_of(seconds: u64, keys: &str) -> anyhow::Result<Scene> {
    let (coordinator, url) = serve()?;
    let mut agent = ByHand::join(&url, BOOT, Vec::new())?;
    let prepared = Prepared::new(&plan(seconds, keys), "http://127.0.0.1:9")?;
    let run = prepared.call_on("run", &url, "1").start("run")?;
    let run_id = agent.take_part()?;
    Ok(Scene { _coordinator: coordinator, url, agent, run_id, prepared, run })
}

impl Scene {
    fn report(mut self) -> anyhow::Result<(Option<i32>, Report)> {
        let code = self.run.wait()?;
        let report = self.prepared.report().with_context(|| self.run.said())?;
        Ok((code, report))
    }

    fn passes(self) -> anyhow::Result<()> {
        let (code, report) = self.report()?;
        ensure!(code == Some(0) && report.verdict.status == Status::Passed, "{code:?} {:?}", report.verdict);
        ensure!(report.ledger.balanced && report.ledger.issued == 3 * RATE, "{:?}", report.ledger);
        ensure!(report.total.response_ms.count == 3 * RATE, "{:?}", report.total.response_ms);
        Ok(())
    }
}

/// A delta that comes again is acknowledged again and counted once; after a gap the missing one is asked for.
pub(crate) fn replayed_and_missing() -> anyhow::Result<()> {
    let mut scene = scene()?;
    let second = |nth| measured(nth, RATE, 900).pack();
    let Scene { agent, run_id, .. } = &mut scene;
    agent.deliver(run_id, 1, second(0))?;
    agent.acknowledged(1)?;
    for _ in 0..3 {
        agent.deliver(run_id, 1, second(0))?;
        agent.acknowledged(1)?;
    }
    agent.deliver(run_id, 3, second(2))?;
    let expected = agent.until(|heard| match heard {
        Heard::Expected(expected) => Some(expected.seq),
        _ => None,
    })?;
    ensure!(expected == 2, "{expected} was asked for");
    agent.deliver(run_id, 2, second(1))?;
    agent.deliver(run_id, 3, second(2))?;
    agent.acknowledged(3)?;
    agent.done(run_id, 3)?;
    scene.passes()
}

/// Two contents under one number: the first stays, the agent is sent away, and the run is not trusted.
pub(crate) fn two_contents_under_one_number() -> anyhow::Result<()> {
    let mut scene = scene()?;
    let Scene { agent, run_id, .. } = &mut scene;
    agent.deliver(run_id, 1, measured(0, RATE, 900).pack())?;
    agent.acknowledged(1)?;
    agent.deliver(run_id, 1, measured(0, RATE, 100).pack())?;
    let refusal = agent.refused()?;
    ensure!(refusal.code() == tonic::Code::InvalidArgument, "{refusal:?}");
    let (code, report) = scene.report()?;
    ensure!(code == Some(3) && report.verdict.status == Status::Invalid, "{code:?} {:?}", report.verdict);
    ensure!(report.verdict.reasons.iter().any(|reason| reason.code == "tainted"), "{:?}", report.verdict);
    let total = &report.total;
    ensure!(total.issued == RATE && total.response_ms.max > Some(0.8), "{total:?}");
    Ok(())
}

/// Bytes that are no figures, each named and refused; the same agent may come back, and none of it is in the totals.
pub(crate) fn refused_before_they_are_merged() -> anyhow::Result<()> {
    let mut scene = scene()?;
    for (what, bytes) in bad_figures() {
        scene.agent.deliver(&scene.run_id, 1, bytes)?;
        let refusal = scene.agent.refused().with_context(|| what.to_owned())?;
        ensure!(refusal.code() == tonic::Code::InvalidArgument, "{what}: {refusal:?}");
        let held = Held { run_id: scene.run_id.clone(), incarnation: scene.agent.incarnation, last_seq: 1 };
        let again = ByHand::join(&scene.url, BOOT, vec![held])?;
        ensure!(again.incarnation == scene.agent.incarnation, "{what}: it came back as another one");
        scene.agent = again;
    }
    for nth in 0..3 {
        scene.agent.deliver(&scene.run_id, nth + 1, measured(nth, RATE, 900).pack())?;
    }
    scene.agent.acknowledged(3)?;
    scene.agent.done(&scene.run_id, 3)?;
    scene.passes()
}

fn bad_figures() -> Vec<(&'static str, Vec<u8>)> {
    let changed = |change: fn(&mut Figures)| {
        let mut figures = measured(0, RATE, 900);
        change(&mut figures);
        figures.pack()
    };
    let mut cut_short = measured(0, RATE, 900).pack();
    cut_short.truncate(cut_short.len() / 2);
    // 17 MiB of zeros, which are a few kilobytes on the wire.
    let zeros = Series { histogram: vec![0; 17 << 20], ..Series::default() };
    let bomb = Figures { steps: vec![StepDelta { series: vec![zeros], ..StepDelta::default() }], ..Figures::default() };
    vec![
        ("noise", vec![0x5a; 300]),
        ("cut short", cut_short),
        ("a bomb", bomb.pack()),
        ("a window that ends before it begins", changed(|figures| figures.from_run_us = u64::MAX)),
        ("a step twice", changed(|figures| figures.steps.push(figures.steps[0].clone()))),
        (
            "a series twice",
            changed(|figures| {
                let series = figures.steps[0].series[0].clone();
                figures.steps[0].series.push(series);
            }),
        ),
        (
            "bytes after a histogram",
            changed(|figures| {
                let mut bytes = figures.steps[0].series[0].histogram.to_vec();
                bytes.extend([1, 2, 3]);
                figures.steps[0].series[0].histogram = bytes;
            }),
        ),
        ("another count than the buckets have", changed(|figures| figures.steps[0].series[0].count += 1)),
        (
            "counters that overflow",
            changed(|figures| {
                if let Some(counters) = &mut figures.steps[0].counters {
                    (counters.errors, counters.timeout) = (u64::MAX, u64::MAX);
                }
            }),
        ),
        (
            "more samples than operations",
            changed(|figures| {
                if let Some(counters) = &mut figures.steps[0].counters {
                    counters.ok -= 1;
                }
            }),
        ),
    ]
}

/// An agent that claims more than its share of the plan: it is sent away, and what it claims is in no figure.
pub(crate) fn more_than_was_planned() -> anyhow::Result<()> {
    is_not_believed(scene_of(3, "lease: 10m")?, 3 * RATE + 1)
}

/// The same of one that claims in the first second what is due in a minute.
pub(crate) fn more_than_is_due_by_now() -> anyhow::Result<()> {
    is_not_believed(scene_of(60, "lease: 10s")?, 60 * RATE)
}

fn is_not_believed(mut scene: Scene, claimed: u64) -> anyhow::Result<()> {
    let Scene { agent, run_id, .. } = &mut scene;
    agent.deliver(run_id, 1, measured(0, claimed, 900).pack())?;
    let refusal = agent.refused()?;
    ensure!(refusal.message().contains("were due"), "{refusal:?}");
    let (code, report) = scene.report()?;
    ensure!(code == Some(3) && report.verdict.status == Status::Invalid, "{code:?} {:?}", report.verdict);
    let reason = report.verdict.reasons.iter().find(|reason| reason.code == "tainted").context("not tainted")?;
    ensure!(reason.agent.as_deref() == Some("by-hand") && reason.message.contains("were due"), "{reason:?}");
    ensure!(report.ledger.balanced && report.ledger.issued == 0, "{:?}", report.ledger);
    Ok(())
}
