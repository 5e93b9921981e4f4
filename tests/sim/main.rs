//! The delivery protocol under a seeded scheduler: the agent's and the coordinator's state machines as the product uses
//! them, in a world where messages are lost, doubled, late and overtaken, where either side is killed after any step or
//! frozen, and where clocks drift. What really happened is compared with what the coordinator knows of it.
//!
//! A failure names its test and its seed. `GROUNDSWELL_SIM_SEED=<seed>` runs only that one and prints each of its steps;
//! `GROUNDSWELL_SIM_SEEDS=<number>` runs more of them.

#![allow(clippy::disallowed_types, reason = "how long a test takes is real time")]

mod agent;
mod central;
mod clock;
mod coordinator;
mod faults;
#[cfg(feature = "mutants")]
mod mutants;
mod network;
mod oracle;
mod processes;
mod wire;
mod world;

use std::time::Instant;

use faults::{Careless, Profile, Victim};
use world::{Summary, World, say};

/// Schedules of each kind in one run of the test.
const SEEDS: u64 = 250;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn schedule(seed: u64, lossy: bool, trace: bool) -> Result<Summary, String> {
    let mut world = World::new(seed, |rng| Profile::any(rng, lossy))?;
    world.trace = trace;
    world.run()
}

/// Runs all seeds of a kind, and says how much that was.
fn sweep(kind: &str, lossy: bool) {
    if let Some(seed) = number("GROUNDSWELL_SIM_SEED") {
        let outcome = schedule(seed, lossy, true);
        assert!(outcome.is_ok(), "{kind}, seed {seed}: {outcome:?}");
        return;
    }
    let (began, seeds) = (Instant::now(), number("GROUNDSWELL_SIM_SEEDS").unwrap_or(SEEDS));
    let (mut steps, mut issued, mut planned) = (0, 0, 0);
    for seed in 0..seeds {
        match schedule(seed, lossy, false) {
            Ok(summary) => {
                steps += summary.steps;
                issued += summary.issued as u64;
                planned += summary.total;
            }
            Err(why) => panic!("{kind}, seed {seed}: {why}"),
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    say(format_args!(
        "{kind}: {seeds} schedules, {steps} steps, {issued} of {planned} ordinals issued, {seconds:.1} s"
    ));
}

#[test]
fn streams_that_break() {
    sweep("streams that break", false);
}

#[test]
fn messages_that_are_lost_doubled_and_overtaken() {
    sweep("messages that are lost", true);
}

fn killed_at_each_step(victim: Victim) {
    let calm = |step| {
        let mut world = World::new(1, Profile::calm)?;
        world.kill_at = Some((victim, step));
        world.after(4_000_000, world::Event::ProcessUp { name: 3 });
        world.run()
    };
    let Ok(Summary { steps: last, .. }) = calm(u64::MAX) else { panic!("{:?}", calm(u64::MAX)) };
    let mut steps = 0;
    for step in 1..=last {
        match calm(step) {
            Ok(summary) => steps += summary.steps,
            Err(why) => panic!("{victim:?} killed after step {step}: {why}"),
        }
    }
    say(format_args!("{victim:?} killed after each of {last} steps: {steps} steps"));
}

#[test]
fn the_coordinator_killed_at_each_step() {
    killed_at_each_step(Victim::Coordinator);
}

#[test]
fn an_agent_killed_at_each_step() {
    killed_at_each_step(Victim::Agent);
}

/// What the machines rely on is really needed: without it the simulator finds something.
#[test]
fn careless_callers_are_found_out() {
    for careless in [Careless::ClocksApart, Careless::RunClockFromLog, Careless::CountsWithoutLease] {
        let outcome = |seed| {
            let careless = |profile| Profile { careless: Some(careless), ..profile };
            World::new(seed, |rng| careless(Profile::any(rng, false)))?.run()
        };
        let found = (0..SEEDS * 4).find_map(|seed| Some((seed, outcome(seed).err()?)));
        let Some((seed, why)) = found else { panic!("{careless:?} was not found") };
        let why: String = why.chars().take(90).collect();
        say(format_args!("{careless:?}: schedule {}: {why}", seed + 1));
    }
}
