//! The simulated world: time, the network, processes that die and freeze, and the log's writer.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::io::Write as _;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::agent::{Load, Process};
use crate::clock::Clock;
use crate::coordinator::{Coordinator, Moment, Setup};
use crate::faults::{Fault, Profile, Victim};
use crate::oracle::Oracle;
use crate::wire::{Down, Entry, Up};

pub(crate) const MS: u64 = 1_000;
pub(crate) const SECOND: u64 = 1_000 * MS;
/// Far more than any schedule needs.
const MOST_STEPS: u64 = 200_000;

/// What happens at a moment. Processes and sessions are never numbered anew, so what comes for a dead one finds nobody.
#[derive(Debug)]
pub(crate) enum Event {
    ToCoordinator { session: usize, up: Up },
    ToAgent { session: usize, term: u64, down: Down },
    Work(usize),
    Heartbeat(usize),
    Seal(usize),
    Connect { process: usize, life: usize },
    SessionLost { session: usize },
    Write,
    Committed { term: u64, upto: usize },
    Tick { term: u64 },
    CoordinatorUp,
    ProcessUp { name: u32 },
    Fault,
}

/// An event and when it happens; of those at the same time the one that was planned first.
#[derive(Debug)]
struct Scheduled {
    time: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.time, self.number).cmp(&(other.time, other.number))
    }
}

/// A stream in both directions between one life and the coordinator.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) process: usize,
    pub(crate) life: usize,
    pub(crate) open: bool,
    /// Nothing overtakes: when the last message of each direction arrives.
    pub(crate) last_up: u64,
    pub(crate) last_down: u64,
}

pub(crate) struct World {
    pub(crate) rng: ChaCha8Rng,
    pub(crate) now: u64,
    pub(crate) profile: Profile,
    pub(crate) processes: Vec<Process>,
    pub(crate) coordinator: Coordinator,
    pub(crate) steps: u64,
    /// For the tests that kill somebody at each step: whom, and at which.
    pub(crate) kill_at: Option<(Victim, u64)>,
    pub(crate) healed: bool,
    pub(crate) trace: bool,
    pub(crate) partitioned: Vec<(u32, u64)>,
    queue: BinaryHeap<Reverse<Scheduled>>,
    sent: u64,
    pub(crate) setup: Setup,
    pub(crate) load: Load,
    pub(crate) sessions: Vec<Session>,
    pub(crate) log: Vec<Entry>,
    pub(crate) writing: VecDeque<Entry>,
    pub(crate) write_is_due: bool,
    pub(crate) host: Clock,
    pub(crate) oracle: Oracle,
    pub(crate) boots: u64,
    /// For a careless coordinator: the run's time that it took at a restart, and when that was.
    pub(crate) run_clock: Option<(u64, u64)>,
}

/// What a schedule came to.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) steps: u64,
    pub(crate) issued: usize,
    pub(crate) total: u64,
}

impl World {
    pub(crate) fn new(seed: u64, profile_of: impl FnOnce(&mut ChaCha8Rng) -> Profile) -> Result<World, String> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let profile = profile_of(&mut rng);
        let host =
            Clock { zero_us: rng.random_range(0..SECOND * 1_000), ppm: rng.random_range(-500..=500), skew_us: 0 };
        let setup = Setup {
            lease: Duration::from_micros(profile.lease_us),
            lead: Duration::from_micros(profile.lead_us),
            on_loss: profile.on_loss,
            wait_for: profile.agents as usize,
            declared: profile.declared.clone(),
            tells_again: profile.lossy,
        };
        let mut world = World {
            coordinator: Coordinator::start(1, &[], &setup, host.now(0))?,
            load: Load { period_us: profile.period_us, total: profile.length_us / profile.period_us },
            rng,
            now: 0,
            profile,
            processes: Vec::new(),
            steps: 0,
            kill_at: None,
            healed: false,
            trace: false,
            partitioned: Vec::new(),
            queue: BinaryHeap::new(),
            sent: 0,
            setup,
            sessions: Vec::new(),
            log: Vec::new(),
            writing: VecDeque::new(),
            write_is_due: false,
            host,
            oracle: Oracle::default(),
            boots: 0,
            run_clock: None,
        };
        for name in 0..world.profile.agents {
            let after = world.rng.random_range(0..200 * MS);
            world.after(after, Event::ProcessUp { name });
        }
        world.after(100 * MS, Event::Tick { term: 1 });
        if world.profile.fault_every_us > 0 {
            let first = world.rng.random_range(0..5 * SECOND);
            world.after(first, Event::Fault);
        }
        Ok(world)
    }

    /// Runs until everything is over, and checks that the account is right.
    pub(crate) fn run(mut self) -> Result<Summary, String> {
        let faults_end = self.profile.length_us + 4 * SECOND;
        // So long after the last fault and the last ordinal every lease has ended, and whoever lives has reconnected and
        // delivered.
        let rest = self.profile.lease_us * 3 + 15 * SECOND;
        while let Some(Reverse(Scheduled { time, event, .. })) = self.queue.pop() {
            self.now = time;
            if time > faults_end && !self.healed {
                self.heal();
            }
            let last_ordinal = self.coordinator.state.t0.map_or(0, |t0| t0 + self.profile.length_us);
            if time > last_ordinal.max(faults_end) + rest {
                break;
            }
            self.steps += 1;
            if self.steps > MOST_STEPS {
                return Err("it goes on and on".to_owned());
            }
            self.step(event)?;
            self.maybe_kill();
            if self.steps.is_multiple_of(512) {
                self.check_replay()?;
            }
        }
        self.close()
    }

    fn close(self) -> Result<Summary, String> {
        if self.coordinator.applied != self.log.len() || !self.writing.is_empty() {
            return Err("the writer did not come to an end".to_owned());
        }
        self.check_replay()?;
        let alive: Vec<Process> = self.processes.into_iter().filter(|process| !process.dead).collect();
        for life in alive.iter().flat_map(|process| &process.lives) {
            if life.id.is_some() && !life.outbox.is_drained() {
                return Err(format!("{:?} still has {} deltas", life.id, life.outbox.unacknowledged()));
            }
        }
        self.oracle.close(&self.coordinator.state, &self.log, &alive, self.load)?;
        Ok(Summary { steps: self.steps, issued: self.oracle.issued_at_all(), total: self.load.total })
    }

    fn check_replay(&self) -> Result<(), String> {
        if self.coordinator.down {
            return Ok(());
        }
        self.oracle.replay(&self.coordinator.state, &self.log[..self.coordinator.applied], &self.setup)
    }

    pub(crate) fn at(&mut self, time: u64, event: Event) {
        self.sent += 1;
        self.queue.push(Reverse(Scheduled { time: time.max(self.now), number: self.sent, event }));
    }

    pub(crate) fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    fn step(&mut self, event: Event) -> Result<(), String> {
        if self.trace {
            self.print(&event);
        }
        match event {
            Event::ToCoordinator { session, up } => self.at_coordinator(session, up),
            Event::ToAgent { session, term, down } => self.at_agent(session, term, down),
            Event::Work(process) => self.work(process),
            Event::Heartbeat(process) => {
                self.heartbeat(process);
                Ok(())
            }
            Event::Seal(process) => self.seal(process),
            Event::Connect { process, life } => {
                self.connect(process, life);
                Ok(())
            }
            Event::SessionLost { session } => {
                self.session_lost(session);
                Ok(())
            }
            Event::Write => {
                self.write();
                Ok(())
            }
            Event::Committed { term, upto } => self.committed(term, upto),
            Event::Tick { term } => self.tick(term),
            Event::CoordinatorUp => self.coordinator_up(),
            Event::ProcessUp { name } => {
                self.process_up(name);
                Ok(())
            }
            Event::Fault => {
                self.fault();
                Ok(())
            }
        }
    }

    pub(crate) fn moment(&self) -> Moment {
        let run_us = match self.run_clock {
            Some((run_us, since)) => run_us + self.now - since,
            None => self.coordinator.state.t0.map_or(0, |t0| self.host.run_us(t0, self.now)),
        };
        Moment { now: self.host.now(self.now), run: Duration::from_micros(run_us), real: self.now }
    }

    fn fault(&mut self) {
        if !self.healed {
            let fault = Fault::draw(self);
            if self.trace {
                self.print(&fault);
            }
            fault.strike(self);
            let after = self.profile.fault_every_us;
            let after = self.rng.random_range(0..after * 2);
            self.after(after, Event::Fault);
        }
    }

    fn print(&self, what: &dyn std::fmt::Debug) {
        let seconds = self.now as f64 / SECOND as f64;
        say(format_args!("{seconds:>10.6} #{:<5} {what:?}", self.steps));
    }
}

/// Past the test harness, which keeps what is printed for failures only.
pub(crate) fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
