//! Runs that the store has: those that were going on when the coordinator ended, and those for which something comes late.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use groundswell_proto::v1::{self, Held, Resume};
use groundswell_scenario::{Plan, PlanSource};
use prost::Message as _;

use super::Hub;
use super::running::Running;
use super::runs::is_finished;
use super::unanswered::Unanswered;
use crate::delivery::{Intake, Leases};
use crate::fleet::{AgentId, Labels, Newcomer};
use crate::run::{Action, Candidate, Event, Now, Outcome, Place, Run};
use crate::server::clock::calendar;
use crate::server::wire;
use crate::store::{EntryBody, Store, StoreError, StoredRun};

/// A run as its log makes it.
pub(in crate::server) struct Restored {
    pub(in crate::server) run: Run,
    pub(in crate::server) wire_plan: v1::Plan,
    /// How it ended, if it did.
    pub(in crate::server) outcome: Option<Outcome>,
    entries: u64,
    /// When the last entry was written.
    pub(in crate::server) last: Option<Now>,
    candidates: BTreeMap<AgentId, Candidate>,
    deltas: BTreeMap<AgentId, Vec<(u64, [u8; 16])>>,
    unanswered: Unanswered,
}

/// What an agent says that it holds of a run, looked up in the run's log.
pub(in crate::server) struct Part {
    held: Held,
    /// Everything of it is here.
    complete: bool,
}

impl Part {
    /// None where no agent of that name took part in the run as this incarnation: what one agent measured is no other's
    /// to say, and a run is not made anew from its log for whoever names it.
    ///
    /// # Errors
    /// When the log can't be read.
    pub(in crate::server) async fn look_up(store: &Store, name: &str, held: Held) -> Result<Option<Self>, StoreError> {
        let mut log = match store.events(&held.run_id).await {
            Err(StoreError::NoRun { .. }) => return Ok(None),
            log => log?,
        };
        let (of, mut took_part, mut complete) = (AgentId(held.incarnation), false, false);
        while let Some(entry) = log.next().await? {
            let EntryBody::Event(bytes) = entry.body else { continue };
            let event: Event = serde_json::from_slice(&bytes).map_err(|error| store.damaged(&held.run_id, error))?;
            took_part |= event.candidates().iter().any(|candidate| candidate.id == of && candidate.name == name);
            complete |= matches!(event, Event::Done(agent, ..) if agent == of);
        }
        Ok(took_part.then_some(Part { held, complete }))
    }
}

/// Feeds a run its log.
///
/// # Errors
/// When the log or the plan is not what was written.
pub(in crate::server) async fn replay(store: &Store, stored: &StoredRun, place: Place) -> Result<Restored, StoreError> {
    let id = &stored.row.id;
    let broken = |what: String| store.damaged(id, what);
    let wire_plan = v1::Plan::decode(stored.plan.as_slice()).map_err(|error| broken(format!("its plan: {error}")))?;
    let plan = Plan::compile(&PlanSource::from(wire_plan.clone())).map_err(|error| broken(error.to_string()))?;
    let mut restored = Restored {
        run: Run::new(id.clone(), Arc::new(plan), stored.row.labels.clone(), place),
        wire_plan,
        outcome: None,
        entries: 0,
        last: None,
        candidates: BTreeMap::new(),
        deltas: BTreeMap::new(),
        unanswered: Unanswered::default(),
    };
    let mut log = store.log(id).await?;
    while let Some(entry) = log.next().await? {
        let monotonic = Duration::from_micros(entry.monotonic_us);
        let now = Now { monotonic, calendar: calendar(entry.calendar_us) };
        restored.take(entry.n, entry.body, now).map_err(|what| broken(format!("entry {}: {what}", entry.n)))?;
    }
    Ok(restored)
}

impl Restored {
    fn take(&mut self, n: u64, body: EntryBody, now: Now) -> Result<(), String> {
        let event = match body {
            EntryBody::Event(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string())?,
            EntryBody::Delta { incarnation, seq, hash, bytes, .. } => {
                self.deltas.entry(AgentId(incarnation)).or_default().push((seq, hash));
                let measured = wire::measured(seq, &bytes).map_err(|error| error.to_string())?;
                Event::Measured(AgentId(incarnation), Box::new(measured))
            }
            EntryBody::Interval { incarnation, first_seq, hashes, bytes, .. } => {
                let last = first_seq + hashes.len() as u64 - 1;
                self.deltas.entry(AgentId(incarnation)).or_default().extend((first_seq..).zip(hashes));
                let measured = wire::measured(last, &bytes).map_err(|error| error.to_string())?;
                Event::Measured(AgentId(incarnation), Box::new(measured))
            }
        };
        self.candidates.extend(event.candidates().iter().map(|candidate| (candidate.id, candidate.clone())));
        self.unanswered.take(&event);
        for action in self.run.step(event, now) {
            self.unanswered.ask(&action);
            if let Action::Finish(outcome) = action {
                self.outcome = Some(outcome);
            }
        }
        (self.entries, self.last) = (n, Some(now));
        Ok(())
    }
}

impl Hub {
    /// Takes up every run that has no answer yet.
    ///
    /// # Errors
    /// When the store is not what was written.
    pub(in crate::server) async fn restore(&mut self) -> Result<(), StoreError> {
        let unfinished = self.store.runs().await?.into_iter().filter(|row| !is_finished(row.state)).map(|row| row.id);
        // The list begins with the newest.
        let mut unfinished: Vec<String> = unfinished.collect();
        unfinished.reverse();
        for id in unfinished {
            let stored = self.store.run(&id).await?;
            let restored = replay(&self.store, &stored, self.options.place()).await?;
            let outcome = self.take_up(&stored, restored)?;
            let index = self.runs.len() - 1;
            match outcome {
                // It ended, and the coordinator did before it could say so.
                Some(outcome) => self.finish(index, &outcome),
                None => self.log(index, Event::Restarted, None),
            }
        }
        Ok(())
    }

    /// What is here of a run that an agent still holds something of; none where it may forget it.
    pub(super) async fn resume(&mut self, name: &str, part: &Part) -> Option<Resume> {
        let Held { run_id, incarnation, .. } = &part.held;
        if self.index_of(run_id).is_none() && !part.complete {
            self.take_up_again(run_id).await;
        }
        let running = &self.runs[self.index_of(run_id)?];
        running.names.get(&AgentId(*incarnation)).filter(|known| *known == name)?;
        let acknowledged = running.intakes.get(&AgentId(*incarnation)).map_or(0, Intake::acked);
        Some(Resume { run_id: run_id.clone(), incarnation: *incarnation, acknowledged })
    }

    /// Takes up a run that has an answer, because an agent that was lost has come with what it measured.
    async fn take_up_again(&mut self, run_id: &str) {
        let Ok(stored) = self.store.run(run_id).await else { return };
        if stored.row.compacted || !is_finished(stored.row.state) {
            return;
        }
        let taken = match replay(&self.store, &stored, self.options.place()).await {
            Ok(restored) => self.take_up(&stored, restored).map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = taken {
            tracing::error!(run = run_id, %error, "a run can't be taken up again");
        }
    }

    /// How it ended, if it did.
    fn take_up(&mut self, stored: &StoredRun, restored: Restored) -> Result<Option<Outcome>, StoreError> {
        let now = self.clock.monotonic();
        let wanted = usize::try_from(stored.agents_wanted).unwrap_or(usize::MAX);
        let wait = Duration::from_millis(stored.wait_ms);
        let id = stored.row.id.clone();
        let Restored { run, wire_plan, outcome, entries, last, candidates, deltas, unanswered } = restored;
        let mut running = Running::new(id.clone(), run, wire_plan, wanted, wait, now);
        (running.attached, running.selector) = (stored.attached, stored.selector.clone());
        (running.logged, running.unanswered) = (entries, unanswered);
        running.revision = stored.report.as_ref().map_or(0, |report| report.revision);
        running.ahead = last.map(|last| self.clock.ahead_of(last)).unwrap_or_default();
        for (agent, seqs) in deltas {
            let intake = Intake::restore(seqs).map_err(|error| self.store.damaged(&id, error.to_string()))?;
            running.intakes.insert(agent, intake);
        }
        let limit = running.run.plan().continuity.issue_limit();
        let at_work: Vec<AgentId> = running.run.at_work().collect();
        running.leases = Leases::restarted(limit, at_work.iter().copied(), now);
        for (agent, candidate) in candidates {
            running.names.insert(agent, candidate.name.clone());
            if at_work.contains(&agent) && outcome.is_none() {
                let Candidate { name, weight, max_rate_per_s, max_users, machine, .. } = candidate;
                // What it has not said yet in this life of the coordinator, it says when it comes back.
                let labels = Labels::new();
                let newcomer =
                    Newcomer { id: agent, name, boot: 0, weight, max_rate_per_s, max_users, labels, machine };
                self.fleet.expect(newcomer, &id, now);
            } else {
                running.leases.give_up(agent);
            }
        }
        self.runs.push(running);
        Ok(outcome)
    }
}
