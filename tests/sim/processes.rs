//! The agents' processes in the simulated world: sessions, timers, work.

use rand::RngExt;

use crate::agent::{Life, Noted, Process};
use crate::clock::Clock;
use crate::faults::Careless;
use crate::wire::Up;
use crate::world::{Event, MS, SECOND, Session, World};

impl World {
    pub(crate) fn frozen(&self, process: usize) -> Option<u64> {
        let until = self.processes[process].frozen_until;
        (until > self.now).then_some(until)
    }

    pub(crate) fn process_up(&mut self, name: u32) {
        if self.processes.iter().any(|process| process.name == name && !process.dead) {
            return;
        }
        let apart = if self.profile.careless == Some(Careless::ClocksApart) { 5_000_000 } else { 5_000 };
        let clock = Clock {
            zero_us: self.rng.random_range(0..SECOND * 100_000),
            ppm: self.rng.random_range(-500..=500),
            skew_us: self.rng.random_range(-apart..=apart),
        };
        let process = self.processes.len();
        self.processes.push(Process {
            name,
            clock,
            dead: false,
            frozen_until: 0,
            draining: false,
            lives: Vec::new(),
            wakes_at: None,
        });
        self.new_life(process);
        self.after(SECOND, Event::Heartbeat(process));
        self.after(SECOND, Event::Seal(process));
    }

    /// Whoever was given up registers as somebody new.
    pub(crate) fn new_life(&mut self, process: usize) {
        if self.processes[process].draining {
            return;
        }
        self.boots += 1;
        let lives = &mut self.processes[process].lives;
        lives.push(Life::new(self.boots, self.setup.lease));
        let life = lives.len() - 1;
        self.after(MS, Event::Connect { process, life });
    }

    pub(crate) fn connect(&mut self, process: usize, life: usize) {
        if self.processes[process].dead || self.processes[process].lives[life].session.is_some() {
            return;
        }
        let name = self.processes[process].name;
        let cut = self.partitioned.iter().any(|(cut, until)| *cut == name && *until > self.now);
        if self.coordinator.down || cut || self.frozen(process).is_some() {
            let after = self.rng.random_range(100 * MS..SECOND);
            self.after(after, Event::Connect { process, life });
            return;
        }
        let session = self.sessions.len();
        self.sessions.push(Session { process, life, open: true, last_up: self.now, last_down: self.now });
        let of = &mut self.processes[process].lives[life];
        of.session = Some(session);
        of.welcomed = false;
        let hello = Up::Hello { name, boot: of.boot };
        self.send_up(session, vec![hello]);
    }

    /// The connection is gone; the agent notices at once or later.
    pub(crate) fn break_session(&mut self, session: usize) {
        if std::mem::replace(&mut self.sessions[session].open, false) {
            let after = self.rng.random_range(0..SECOND);
            self.after(after, Event::SessionLost { session });
        }
    }

    pub(crate) fn any_session(&mut self) -> Option<usize> {
        let open: Vec<usize> = (0..self.sessions.len()).filter(|session| self.sessions[*session].open).collect();
        (!open.is_empty()).then(|| open[self.rng.random_range(0..open.len())])
    }

    pub(crate) fn sessions_of(&self, name: u32) -> Vec<usize> {
        let of = |session: &usize| self.processes[self.sessions[*session].process].name == name;
        (0..self.sessions.len()).filter(of).collect()
    }

    pub(crate) fn session_lost(&mut self, session: usize) {
        let (process, life) = (self.sessions[session].process, self.sessions[session].life);
        let of = &mut self.processes[process].lives[life];
        if of.session != Some(session) {
            return;
        }
        of.session = None;
        of.welcomed = false;
        of.outbox.session_lost();
        let after = self.rng.random_range(MS..SECOND);
        self.after(after, Event::Connect { process, life });
    }

    pub(crate) fn note(&mut self, process: usize, life: usize, noted: Vec<Noted>) -> Result<(), String> {
        let of = &self.processes[process].lives[life];
        let Some(id) = of.id else { return Ok(()) };
        let since = self.now - of.granted_real;
        for what in noted {
            match what {
                Noted::Issued(k) => self.oracle.issue(k, id, since, &self.setup)?,
                Noted::Acknowledged(upto) => self.oracle.acknowledged(id, upto)?,
                Noted::LowerTermObeyed => return Err(format!("{id:?} obeyed an earlier coordinator")),
                Noted::Broken(why) => return Err(format!("{id:?}: {why}")),
            }
        }
        Ok(())
    }

    pub(crate) fn work(&mut self, process: usize) -> Result<(), String> {
        if self.processes[process].dead {
            return Ok(());
        }
        if let Some(thaw) = self.frozen(process) {
            self.at(thaw, Event::Work(process));
            return Ok(());
        }
        let (clock, now, load) = (self.processes[process].clock, self.now, self.load);
        let careless = self.profile.careless == Some(Careless::CountsWithoutLease);
        for life in 0..self.processes[process].lives.len() {
            let noted = self.processes[process].lives[life].work(load, clock, now, careless);
            self.note(process, life, noted)?;
        }
        self.plan_work(process);
        Ok(())
    }

    /// A worker wakes up for the next ordinal; one that wakes too often does nothing.
    pub(crate) fn plan_work(&mut self, process: usize) {
        let of = &mut self.processes[process];
        // Without a lease there is nothing to do before the next grant.
        let acts = |life: &&Life| life.acting && life.tenure.holds(of.clock.now(self.now));
        let Some(life) = of.lives.last().filter(acts) else { return };
        let (Some(t0), Some(due)) = (life.t0, life.next_due(self.load)) else { return };
        let at = of.clock.real(t0, due).max(self.now + 1);
        if of.wakes_at.is_none_or(|wakes| wakes <= self.now || wakes > at) {
            of.wakes_at = Some(at);
            self.at(at, Event::Work(process));
        }
    }

    pub(crate) fn heartbeat(&mut self, process: usize) {
        if self.processes[process].dead {
            return;
        }
        if let Some(thaw) = self.frozen(process) {
            self.at(thaw, Event::Heartbeat(process));
            return;
        }
        let (clock, now) = (self.processes[process].clock, self.now);
        for life in 0..self.processes[process].lives.len() {
            let of = &mut self.processes[process].lives[life];
            let said = of.heartbeat(clock, now);
            let Some(session) = of.session else { continue };
            let stuck = !of.welcomed && self.profile.lossy;
            self.send_up(session, said);
            if stuck && self.rng.random_bool(0.3) {
                // The hello or the welcome may be lost, and nobody says so.
                self.break_session(session);
            }
        }
        let every = self.profile.heartbeat_us;
        self.after(every, Event::Heartbeat(process));
    }

    pub(crate) fn seal(&mut self, process: usize) -> Result<(), String> {
        if self.processes[process].dead {
            return Ok(());
        }
        if let Some(thaw) = self.frozen(process) {
            self.at(thaw, Event::Seal(process));
            return Ok(());
        }
        self.work(process)?;
        let (clock, now, load) = (self.processes[process].clock, self.now, self.load);
        for life in 0..self.processes[process].lives.len() {
            let of = &mut self.processes[process].lives[life];
            of.seal(load, clock, now);
            let said = of.send();
            if let Some(session) = of.session {
                self.send_up(session, said);
            }
        }
        self.after(SECOND, Event::Seal(process));
        Ok(())
    }

    pub(crate) fn drain(&mut self, process: usize) {
        self.processes[process].draining = true;
        let life = self.processes[process].lives.last();
        let (Some(id), Some(session)) = (life.and_then(|life| life.id), life.and_then(|life| life.session)) else {
            return;
        };
        self.send_up(session, vec![Up::Leave { id }]);
    }
}
