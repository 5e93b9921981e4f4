//! The coordinator's process in the simulated world: its log's writer, its crashes.

use rand::RngExt;

use crate::coordinator::{Coordinator, Do};
use crate::faults::Careless;
use crate::world::{Event, MS, World};

impl World {
    pub(crate) fn carry_out(&mut self, todo: Vec<Do>) -> Result<(), String> {
        for what in todo {
            match what {
                Do::Log(entry) => {
                    self.writing.push_back(entry);
                    if !self.write_is_due {
                        self.write_is_due = true;
                        let after = self.rng.random_range(MS..50 * MS);
                        self.after(after, Event::Write);
                    }
                }
                Do::Send(session, down) => {
                    let term = self.coordinator.term;
                    for arrival in self.arrivals(session, false) {
                        self.at(arrival, Event::ToAgent { session, term, down: down.clone() });
                    }
                }
                Do::GiveUp(id) => self.oracle.gave_up(id),
                Do::Broken(why) => return Err(why),
            }
        }
        Ok(())
    }

    /// The writer makes a batch durable; the coordinator hears of it a little later, if it lives.
    pub(crate) fn write(&mut self) {
        self.write_is_due = false;
        if self.coordinator.down {
            return;
        }
        for entry in self.writing.drain(..) {
            self.oracle.durable(&entry);
            self.log.push(entry);
        }
        let (term, upto) = (self.coordinator.term, self.log.len());
        let after = self.rng.random_range(0..2 * MS);
        self.after(after, Event::Committed { term, upto });
    }

    pub(crate) fn committed(&mut self, term: u64, upto: usize) -> Result<(), String> {
        if self.coordinator.down || self.coordinator.term != term {
            return Ok(());
        }
        let at = self.moment();
        let entries = &self.log[self.coordinator.applied.min(upto)..upto];
        let todo = self.coordinator.committed(entries, &self.setup, at);
        self.carry_out(todo)
    }

    pub(crate) fn tick(&mut self, term: u64) -> Result<(), String> {
        if self.coordinator.down || self.coordinator.term != term {
            return Ok(());
        }
        self.after(100 * MS, Event::Tick { term });
        let at = self.moment();
        let todo = self.coordinator.tick(&self.setup, at);
        self.carry_out(todo)
    }

    pub(crate) fn kill_coordinator(&mut self, for_us: u64) {
        if self.coordinator.down {
            return;
        }
        self.coordinator.down = true;
        // What was handed to the writer may be durable in part: a batch is one transaction, but there may be several.
        let kept = if self.rng.random_bool(0.5) { 0 } else { self.rng.random_range(0..=self.writing.len()) };
        for entry in self.writing.drain(..).take(kept) {
            self.oracle.durable(&entry);
            self.log.push(entry);
        }
        for session in 0..self.sessions.len() {
            self.break_session(session);
        }
        self.after(for_us, Event::CoordinatorUp);
    }

    pub(crate) fn coordinator_up(&mut self) -> Result<(), String> {
        let (term, now) = (self.coordinator.term + 1, self.host.now(self.now));
        self.coordinator = Coordinator::start(term, &self.log, &self.setup, now)?;
        if self.profile.careless == Some(Careless::RunClockFromLog) {
            let decided = self.coordinator.state.merged.values().flat_map(|figures| figures.decided.values());
            self.run_clock = Some((decided.max().copied().unwrap_or(0), self.now));
        }
        self.oracle.restarted(self.coordinator.state.lost.keys().copied());
        self.tick_soon(term);
        Ok(())
    }

    pub(crate) fn tick_soon(&mut self, term: u64) {
        self.after(MS, Event::Tick { term });
    }
}
