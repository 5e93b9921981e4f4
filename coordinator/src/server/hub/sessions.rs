//! What agents bring: themselves, heartbeats, answers, deltas.

use std::collections::btree_map::Entry as Slot;

use groundswell_proto::limits::{MAX_LABELS, MAX_NAME_BYTES};
use groundswell_proto::v1::coordinator_message::Kind as Tell;
use groundswell_proto::v1::{self, Hello, Welcome};

use super::restore::Part;
use super::running::Packed;
use super::{Beat, Hub, Joined};
use crate::delivery::Offer;
use crate::fleet::{AgentId, JoinError, Machine, Newcomer};
use crate::run::Event;
use crate::server::ToAgent;
use crate::server::wire::{Delivered, Heard, cut};

impl Hub {
    pub(super) async fn join(
        &mut self,
        hello: &Hello,
        held: &[Part],
        id: AgentId,
        out: ToAgent,
    ) -> Result<Joined, JoinError> {
        let now = self.clock.monotonic();
        let newcomer = Newcomer {
            id,
            name: hello.name.clone(),
            boot: hello.boot,
            weight: hello.weight,
            max_rate_per_s: (hello.max_rate_per_s > 0.0).then_some(hello.max_rate_per_s),
            max_users: (hello.max_users > 0).then_some(hello.max_users),
            labels: hello.labels.iter().take(MAX_LABELS).map(|(key, value)| (key.clone(), value.clone())).collect(),
            machine: Machine {
                version: hello.version.chars().take(MAX_NAME_BYTES).collect(),
                system: hello.system.chars().take(MAX_NAME_BYTES).collect(),
                cores: hello.cores,
                workers: hello.workers,
            },
        };
        let session = self.fleet.join(newcomer, MAX_NAME_BYTES, now)?;
        self.sessions.insert(id, out);
        tracing::info!(agent = %hello.name, workers = hello.workers, version = %hello.version, "agent joined");
        let mut resume = Vec::new();
        for part in held {
            resume.extend(self.resume(&hello.name, part).await);
        }
        if let Some(index) = self.run_of(id) {
            self.log(index, Event::Back(id), None);
        }
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let (store, term) = (self.store.id(), self.store.term());
        let welcome = Welcome { agent: id.0, incarnation: id.0, version, store, term, resume };
        // Here, so that it is the first that the session says.
        self.send(id, Tell::Welcome(welcome));
        Ok(Joined { agent: id, session })
    }

    /// Says again what an agent may have missed.
    pub(super) fn say_orders(&mut self, agent: AgentId) {
        if let Some(index) = self.run_of(agent) {
            let run_id = self.runs[index].id.clone();
            let orders = self.runs[index].run.orders_for(agent);
            self.act(&run_id, orders);
        }
    }

    /// The place of the run that an agent works for.
    pub(super) fn run_of(&self, agent: AgentId) -> Option<usize> {
        self.fleet.get(agent)?.run.as_deref().and_then(|run_id| self.index_of(run_id))
    }

    /// A later life of the same agent that is here.
    pub(super) fn successor_of(&self, agent: AgentId) -> Option<AgentId> {
        let name = self.runs.iter().find_map(|running| running.names.get(&agent))?;
        self.sessions.keys().copied().find(|here| self.fleet.get(*here).is_some_and(|known| known.name == *name))
    }

    pub(super) fn beat(&mut self, Beat { agent, name, answer }: Beat) {
        // Nobody keeps another one's load going.
        let of_another = |name| self.fleet.get(agent).is_some_and(|known| known.name != name);
        if name.is_some_and(of_another) {
            let _ = answer.send(false);
            return;
        }
        let now = self.clock.monotonic();
        self.fleet.heard(agent, now);
        let may_go_on = match self.run_of(agent) {
            Some(index) => self.runs[index].leases.grant(agent, now),
            None => self.fleet.get(agent).is_some(),
        };
        let _ = answer.send(may_go_on);
    }

    pub(super) fn left(&mut self, agent: AgentId, session: u64, why: &str) {
        if !self.fleet.away(agent, session) {
            return;
        }
        self.sessions.remove(&agent);
        tracing::info!(agent = agent.0, why, "a session is over");
        if let Some(index) = self.run_of(agent) {
            self.log(index, Event::Away(agent, cut(why.to_owned())), None);
        }
    }

    pub(super) fn heard(&mut self, agent: AgentId, heard: Heard) {
        self.fleet.heard(agent, self.clock.monotonic());
        let (run_id, event) = match heard {
            Heard::Alive => return,
            Heard::Delivered(delivered) => return self.delivered(agent, *delivered),
            Heard::Done { run_id, incarnation, last_seq, early } => {
                return self.done(agent, &run_id, AgentId(incarnation), last_seq, early);
            }
            Heard::Ready(run_id, result) => (run_id, Event::Ready(agent, result)),
            Heard::TargetChecked(run_id, result) => (run_id, Event::TargetChecked(Some(agent), result)),
            Heard::Started(run_id, result) => (run_id, Event::Started(agent, result)),
            Heard::Released { run_id, generation, at, accepted } => {
                (run_id, Event::Released(agent, generation, at, accepted))
            }
            Heard::Leaving(run_id) => {
                // Once in a session is enough.
                if !self.fleet.is_leaving(agent) {
                    return;
                }
                (run_id, Event::Leaving(agent))
            }
        };
        // An agent speaks for the run it was given, no other.
        let Some(index) = self.run_of(agent).filter(|index| self.runs[*index].id == run_id) else { return };
        if self.runs[index].unanswered.take(&event) {
            self.log(index, event, None);
        } else {
            tracing::debug!(agent = agent.0, "an agent says what it was not asked");
        }
    }

    /// The run of what an agent says in the name of one of its lives; it is told to forget a run that is not here.
    fn speaks_for(&mut self, agent: AgentId, run_id: &str, incarnation: AgentId) -> Option<usize> {
        let name = &self.fleet.get(agent)?.name;
        let index = self.index_of(run_id);
        let its_own = index.filter(|index| self.runs[*index].names.get(&incarnation) == Some(name));
        if its_own.is_none() {
            let release = v1::Release { run_id: run_id.to_owned(), incarnation: incarnation.0 };
            self.send(agent, Tell::Release(release));
        }
        its_own
    }

    fn delivered(&mut self, agent: AgentId, delivered: Delivered) {
        let Delivered { run_id, incarnation, seq, hash, bytes, measured } = delivered;
        let incarnation = AgentId(incarnation);
        let Some(index) = self.speaks_for(agent, &run_id, incarnation) else { return };
        let intake = match self.runs[index].intakes.entry(incarnation) {
            Slot::Occupied(known) => known.into_mut(),
            Slot::Vacant(new) => new.insert(crate::delivery::Intake::default()),
        };
        let of = incarnation.0;
        match intake.offer(seq, hash) {
            Offer::Log => {
                self.log(index, Event::Measured(incarnation, measured), Some(Packed { seq, hash, bytes }));
            }
            Offer::InFlight => {}
            Offer::Duplicate { acked } => self.send(agent, Tell::Ack(v1::Ack { run_id, incarnation: of, upto: acked })),
            Offer::Gap { expected } => {
                self.send(agent, Tell::Expected(v1::Expected { run_id, incarnation: of, seq: expected }));
            }
            Offer::Equivocation { seq } => {
                let why = format!("it sent two different deltas as number {seq}");
                self.log(index, Event::Tainted(incarnation, why), None);
            }
        }
    }

    fn done(&mut self, agent: AgentId, run_id: &str, incarnation: AgentId, last_seq: u64, early: Option<String>) {
        let Some(index) = self.speaks_for(agent, run_id, incarnation) else { return };
        let running = &mut self.runs[index];
        let logged = running.intakes.get(&incarnation).map_or(0, crate::delivery::Intake::last_logged);
        if logged < last_seq {
            let run_id = run_id.to_owned();
            self.send(agent, Tell::Expected(v1::Expected { run_id, incarnation: incarnation.0, seq: logged + 1 }));
        } else if running.done.insert(incarnation) {
            self.log(index, Event::Done(incarnation, last_seq, early), None);
        }
    }
}
