//! Everything at once, at random, by a seed: `GROUNDSWELL_CHAOS_SECONDS` says for how long and `GROUNDSWELL_CHAOS_SEED`
//! which; CONTRIBUTING.md has the command.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;

use super::scene::{Coordinator, begin, plan};
use crate::harness::{Daemon, Oracle, Proxy, agent};

/// So long where nothing else is said.
const SECONDS: u64 = 25;

/// An agent behind a proxy of its own.
struct Place {
    proxy: Proxy,
    agent: Daemon,
}

struct Nemesis {
    random: StdRng,
    coordinator: Coordinator,
    places: Vec<Place>,
    names: u32,
    did: Vec<String>,
}

pub(crate) fn chaos() -> anyhow::Result<()> {
    let from = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = from("GROUNDSWELL_CHAOS_SECONDS").unwrap_or(SECONDS);
    let seed = from("GROUNDSWELL_CHAOS_SEED").unwrap_or_else(rand::random);
    println!("GROUNDSWELL_CHAOS_SEED={seed} GROUNDSWELL_CHAOS_SECONDS={seconds}");
    let oracle = Oracle::start()?;
    let coordinator = Coordinator::start()?;
    let url = coordinator.url();
    let random = StdRng::seed_from_u64(seed);
    let mut nemesis = Nemesis { random, coordinator, places: Vec::new(), names: 0, did: Vec::new() };
    for _ in 0..3 {
        let proxy = Proxy::before(&url)?;
        let agent = nemesis.newcomer(&proxy)?;
        nemesis.places.push(Place { proxy, agent });
    }
    let begun = begin(&plan(seconds, "lease: 4s"), &oracle, &url, 3)?;
    let until = Instant::now() + Duration::from_secs(seconds.saturating_sub(4));
    while Instant::now() < until {
        nemesis.strike()?;
        let pause = nemesis.random.random_range(100..1_200);
        sleep(Duration::from_millis(pause));
    }
    let held = begun.end().and_then(|ended| {
        ended.account_holds(&oracle, seconds)?;
        println!("{:?} {:?}", ended.report.verdict.status, ended.report.ledger);
        ensure!(ended.code == Some(ended.report.verdict.status.exit_code().into()), "{:?}", ended.code);
        Ok(())
    });
    held.with_context(|| format!("seed {seed}:\n{}", nemesis.did.join("\n")))
}

impl Nemesis {
    fn newcomer(&mut self, proxy: &Proxy) -> anyhow::Result<Daemon> {
        self.names += 1;
        agent(&proxy.url(), &format!("agent-{}", self.names), None)
    }

    /// Does one thing and undoes it.
    fn strike(&mut self) -> anyhow::Result<()> {
        let what = self.random.random_range(0..7);
        let place = self.random.random_range(0..self.places.len());
        // Half of them are longer than the lease.
        let while_ms = if self.random.random() { 500..2_500 } else { 4_500..6_500 };
        let length = Duration::from_millis(self.random.random_range(while_ms));
        self.did.push(format!("{what} at {place} for {length:?}"));
        let Place { proxy, agent } = &mut self.places[place];
        match what {
            0 | 1 => {
                self.coordinator.kill()?;
                if what == 1 {
                    sleep(length / 2);
                }
                self.coordinator.restart()?;
            }
            2 => proxy.cut(),
            3 => {
                proxy.hold();
                sleep(length);
                proxy.repair();
            }
            4 => {
                proxy.delay_ms(0..200);
                sleep(length / 2);
                proxy.repair();
            }
            5 => {
                agent.signal(Signal::STOP)?;
                sleep(length);
                agent.signal(Signal::CONT)?;
            }
            _ => {
                agent.signal(Signal::KILL)?;
                agent.wait()?;
                let proxy = Proxy::before(&self.coordinator.url())?;
                let agent = self.newcomer(&proxy)?;
                self.places[place] = Place { proxy, agent };
            }
        }
        Ok(())
    }
}
