//! The simulated network: delay, loss, and what a broken connection takes with it.

use rand::RngExt;

use crate::wire::{Down, Up};
use crate::world::{Event, MS, SECOND, World};

impl World {
    pub(crate) fn delay(&mut self) -> u64 {
        let slow = self.profile.slow_permille;
        if !self.healed && self.rng.random_range(0..1_000) < slow {
            return self.rng.random_range(0..3 * SECOND);
        }
        self.rng.random_range(MS / 2..self.profile.delay_us)
    }

    /// A copy, or two, or none, of a message, each with the time at which it arrives.
    pub(crate) fn arrivals(&mut self, session: usize, up: bool) -> Vec<u64> {
        let lossy = self.profile.lossy && !self.healed;
        let copies = if lossy { [0, 1, 1, 1, 1, 1, 1, 2][self.rng.random_range(0..8)] } else { 1 };
        let mut arrivals = Vec::with_capacity(copies);
        for _ in 0..copies {
            let mut arrival = self.now + self.delay();
            let name = self.processes[self.sessions[session].process].name;
            for (cut, until) in &self.partitioned {
                if *cut == name && *until > self.now {
                    arrival = arrival.max(*until);
                }
            }
            let session = &mut self.sessions[session];
            let last = if up { &mut session.last_up } else { &mut session.last_down };
            if !lossy {
                arrival = arrival.max(*last + 1);
            }
            *last = (*last).max(arrival);
            arrivals.push(arrival);
        }
        arrivals
    }

    pub(crate) fn send_up(&mut self, session: usize, ups: Vec<Up>) {
        for up in ups {
            for arrival in self.arrivals(session, true) {
                self.at(arrival, Event::ToCoordinator { session, up: up.clone() });
            }
        }
    }

    /// Where messages are lost one by one, those of a session that is over may still arrive.
    pub(crate) fn delivers(&mut self, session: usize) -> bool {
        self.sessions[session].open || (self.profile.lossy && !self.healed && self.rng.random_bool(0.5))
    }

    pub(crate) fn at_coordinator(&mut self, session: usize, up: Up) -> Result<(), String> {
        if self.coordinator.down || !self.delivers(session) {
            return Ok(());
        }
        let at = self.moment();
        let todo = self.coordinator.receive(session, up, &self.setup, at);
        self.carry_out(todo)
    }

    pub(crate) fn at_agent(&mut self, session: usize, term: u64, down: Down) -> Result<(), String> {
        let (process, life) = (self.sessions[session].process, self.sessions[session].life);
        if self.processes[process].dead || !self.delivers(session) {
            return Ok(());
        }
        if let Some(thaw) = self.frozen(process) {
            self.at(thaw, Event::ToAgent { session, term, down });
            return Ok(());
        }
        let clock = self.processes[process].clock;
        let of = &mut self.processes[process].lives[life];
        let current = of.session == Some(session);
        if matches!(down, Down::Welcome { .. }) && (!current || of.welcomed) {
            return Ok(());
        }
        let was_acting = of.acting;
        let asks = matches!(down, Down::Welcome { .. });
        let (mut said, noted) = of.receive(term, down, clock, self.now);
        let (acting, id) = (of.acting, of.id);
        if let (true, true, Some(id)) = (asks && acting, self.processes[process].draining, id) {
            said.push(Up::Leave { id });
        }
        self.note(process, life, noted)?;
        self.send_up(session, said);
        if was_acting && !acting {
            self.new_life(process);
        }
        self.plan_work(process);
        Ok(())
    }
}
