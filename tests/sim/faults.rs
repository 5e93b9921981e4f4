//! What goes wrong, and how often.

use groundswell_coordinator::delivery::OnAgentLoss;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::world::{Event, MS, SECOND, World};

/// What a schedule is like; drawn from its seed.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    /// Agents that the run begins with.
    pub(crate) agents: u32,
    /// Weight and limit of each agent that may ever come, by name.
    pub(crate) declared: Vec<(u32, Option<f64>)>,
    pub(crate) on_loss: OnAgentLoss,
    pub(crate) period_us: u64,
    pub(crate) length_us: u64,
    pub(crate) lease_us: u64,
    pub(crate) lead_us: u64,
    pub(crate) heartbeat_us: u64,
    /// Greatest delay of most messages.
    pub(crate) delay_us: u64,
    /// Of so many thousandths of the messages the delay is up to seconds.
    pub(crate) slow_permille: u32,
    /// Messages are lost, doubled and overtaken one by one.
    pub(crate) lossy: bool,
    pub(crate) fault_every_us: u64,
    /// Somebody is killed after one in so many steps; never, where it is 0.
    pub(crate) kill_one_in: u32,
    pub(crate) careless: Option<Careless>,
}

/// What the machines rely on and can't see to themselves. With one of these their callers break it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Careless {
    /// The agents' clocks of the run are further apart than a change lies ahead.
    ClocksApart,
    /// A restarted coordinator goes on with the run's time where its log ends.
    RunClockFromLog,
    /// An agent without a lease counts what is due as not generated.
    CountsWithoutLease,
}

impl Profile {
    /// Any schedule. `lossy` says what becomes of single messages.
    pub(crate) fn any(rng: &mut ChaCha8Rng, lossy: bool) -> Profile {
        let agents = rng.random_range(2..=5);
        let mut declare = || {
            let limit = rng.random_bool(0.2).then(|| rng.random_range(0.1..0.9));
            (rng.random_range(1..=3), limit)
        };
        let declared = (0..agents + 2).map(|_| declare()).collect();
        let on_loss = if rng.random_bool(0.9) { OnAgentLoss::Redistribute } else { OnAgentLoss::Continue };
        Profile {
            agents,
            declared,
            on_loss,
            period_us: 40 * MS,
            length_us: rng.random_range(20..50) * SECOND,
            lease_us: rng.random_range(2..=8) * SECOND,
            lead_us: rng.random_range(800..2_500) * MS,
            heartbeat_us: rng.random_range(400..1_000) * MS,
            delay_us: [2 * MS, 20 * MS, 200 * MS][rng.random_range(0..3)],
            slow_permille: [0, 10, 100][rng.random_range(0..3)],
            lossy,
            fault_every_us: [SECOND, 3 * SECOND, 10 * SECOND][rng.random_range(0..3)],
            kill_one_in: [0, 300, 3_000][rng.random_range(0..3)],
            careless: None,
        }
    }

    /// A short run in which nothing goes wrong but what a test does; somebody joins and somebody leaves.
    pub(crate) fn calm(rng: &mut ChaCha8Rng) -> Profile {
        Profile {
            agents: 3,
            declared: vec![(1, None); 4],
            on_loss: OnAgentLoss::Redistribute,
            length_us: 12 * SECOND,
            lease_us: 2 * SECOND,
            lead_us: SECOND,
            heartbeat_us: SECOND / 2,
            delay_us: 20 * MS,
            slow_permille: 0,
            fault_every_us: 0,
            kill_one_in: 0,
            ..Profile::any(rng, false)
        }
    }
}

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Victim {
    Coordinator,
    Agent,
}

/// One thing that goes wrong. Processes are the index of one that lives.
#[derive(Debug)]
pub(crate) enum Fault {
    KillCoordinator { for_us: u64 },
    KillAgent { process: usize, back_after_us: Option<u64> },
    Freeze { process: usize, for_us: u64 },
    Break { session: usize },
    Partition { name: u32, for_us: u64, cut: bool },
    Drain { process: usize },
    Join { name: u32 },
    Nothing,
}

impl Fault {
    pub(crate) fn draw(world: &mut World) -> Fault {
        let outage = world.outage();
        match (world.rng.random_range(0..16), world.any_process(), world.any_session()) {
            (0..2, _, _) => Fault::KillCoordinator { for_us: outage },
            (2..5, Some(process), _) => world.kill_somebody(process),
            (5..8, Some(process), _) => Fault::Freeze { process, for_us: outage },
            (8..11, _, Some(session)) => Fault::Break { session },
            (11..13, Some(process), _) => {
                let name = world.processes[process].name;
                Fault::Partition { name, for_us: outage, cut: world.rng.random_bool(0.5) }
            }
            (13, Some(process), _) => Fault::Drain { process },
            (14..16, _, _) => Fault::Join { name: world.rng.random_range(0..world.profile.declared.len() as u32) },
            _ => Fault::Nothing,
        }
    }

    pub(crate) fn strike(self, world: &mut World) {
        match self {
            Fault::KillCoordinator { for_us } => world.kill_coordinator(for_us),
            Fault::KillAgent { process, back_after_us } => world.kill_agent(process, back_after_us),
            Fault::Freeze { process, for_us } => world.processes[process].frozen_until = world.now + for_us,
            Fault::Break { session } => world.break_session(session),
            Fault::Partition { name, for_us, cut } => {
                world.partitioned.retain(|(_, until)| *until > world.now);
                world.partitioned.push((name, world.now + for_us));
                // Otherwise it is held, and all arrives when it is over.
                for session in if cut { world.sessions_of(name) } else { Vec::new() } {
                    world.break_session(session);
                }
            }
            Fault::Drain { process } => world.drain(process),
            Fault::Join { name } => world.after(0, Event::ProcessUp { name }),
            Fault::Nothing => {}
        }
    }
}

impl World {
    /// Shorter than a lease as often as longer.
    pub(crate) fn outage(&mut self) -> u64 {
        let lease = self.profile.lease_us;
        if self.rng.random_bool(0.5) {
            self.rng.random_range(MS..lease)
        } else {
            self.rng.random_range(lease..lease * 2)
        }
    }

    fn any_process(&mut self) -> Option<usize> {
        let alive: Vec<usize> = (0..self.processes.len()).filter(|process| !self.processes[*process].dead).collect();
        (!alive.is_empty()).then(|| alive[self.rng.random_range(0..alive.len())])
    }

    fn kill_somebody(&mut self, process: usize) -> Fault {
        let back_after_us = self.rng.random_bool(0.7).then(|| self.outage());
        Fault::KillAgent { process, back_after_us }
    }

    fn kill_agent(&mut self, process: usize, back_after_us: Option<u64>) {
        self.processes[process].dead = true;
        let name = self.processes[process].name;
        for session in self.sessions_of(name) {
            self.break_session(session);
        }
        if let Some(after) = back_after_us {
            self.after(after, Event::ProcessUp { name });
        }
    }

    /// After any step.
    pub(crate) fn maybe_kill(&mut self) {
        if self.healed {
            return;
        }
        let victim = match self.kill_at {
            Some((victim, step)) if step == self.steps => victim,
            None if self.profile.kill_one_in > 0 && self.rng.random_range(0..self.profile.kill_one_in) == 0 => {
                if self.rng.random_bool(0.7) { Victim::Coordinator } else { Victim::Agent }
            }
            Some(_) | None => return,
        };
        let outage = self.outage();
        let fault = match (victim, self.any_process()) {
            (Victim::Agent, Some(process)) => self.kill_somebody(process),
            _ => Fault::KillCoordinator { for_us: outage },
        };
        fault.strike(self);
    }

    /// From here on nothing goes wrong any more.
    pub(crate) fn heal(&mut self) {
        self.healed = true;
        self.partitioned.clear();
    }
}
