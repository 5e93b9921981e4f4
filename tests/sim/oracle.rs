//! What really happened, and whether what the coordinator knows is that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::agent::{Load, Process};
use crate::coordinator::{Setup, State};
use crate::wire::{Entry, Id};

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// Who issued each ordinal.
    issued: BTreeMap<u32, Id>,
    given_up: BTreeSet<Id>,
    /// Deltas of each life that are in the log.
    durable: BTreeMap<Id, u64>,
}

impl Oracle {
    pub(crate) fn issued_at_all(&self) -> usize {
        self.issued.len()
    }

    pub(crate) fn gave_up(&mut self, id: Id) {
        self.given_up.insert(id);
    }

    /// A loss that is not in the log is forgotten with a crash, and the agent may go on: its share has no other owner.
    pub(crate) fn restarted(&mut self, lost: impl IntoIterator<Item = Id>) {
        self.given_up = lost.into_iter().collect();
    }

    /// An ordinal went to the target. `since_grant_us` is real time since the heartbeat that the newest grant answers.
    pub(crate) fn issue(&mut self, k: u32, id: Id, since_grant_us: u64, setup: &Setup) -> Result<(), String> {
        if let Some(before) = self.issued.insert(k, id) {
            return Err(format!("{id:?} issued {k}, which {before:?} had issued"));
        }
        if self.given_up.contains(&id) {
            return Err(format!("{id:?} issued {k} after it had been given up"));
        }
        let longest = setup.lease.as_micros() as u64;
        // A clock that is too slow by 500 ppm makes a lease longer.
        if since_grant_us > longest + longest / 1_000 {
            return Err(format!("{id:?} issued {k} {since_grant_us} µs after the heartbeat of its newest grant"));
        }
        Ok(())
    }

    /// The log's writer made this durable.
    pub(crate) fn durable(&mut self, entry: &Entry) {
        if let Entry::Delta { id, .. } = entry {
            *self.durable.entry(*id).or_default() += 1;
        }
    }

    pub(crate) fn acknowledged(&self, id: Id, upto: u64) -> Result<(), String> {
        let durable = self.durable.get(&id).copied().unwrap_or(0);
        if durable < upto {
            return Err(format!("delta {upto} of {id:?} was acknowledged, but only {durable} are durable"));
        }
        Ok(())
    }

    /// The live state is what a restart would make of the log so far.
    pub(crate) fn replay(&self, live: &State, applied: &[Entry], setup: &Setup) -> Result<(), String> {
        let replayed = State::replay(applied, setup);
        if replayed.merged != live.merged {
            return Err("what is merged is not what the log has".to_owned());
        }
        let history = |state: &State| state.assignments.as_ref().map(|assignments| assignments.history().to_vec());
        if history(&replayed) != history(live) {
            return Err("a replay of the log makes other assignments".to_owned());
        }
        Ok(())
    }

    /// Everything at the end of a run.
    pub(crate) fn close(&self, state: &State, log: &[Entry], alive: &[Process], load: Load) -> Result<(), String> {
        self.sequences(log)?;
        for life in alive.iter().flat_map(|process| &process.lives) {
            let Some(id) = life.id else { continue };
            let merged = state.merged.get(&id).cloned().unwrap_or_default();
            if merged != life.sealed {
                return Err(format!("{id:?} sealed {:?} but merged is {merged:?}", life.sealed));
            }
        }
        self.account(state, load)
    }

    fn sequences(&self, log: &[Entry]) -> Result<(), String> {
        let mut last: BTreeMap<Id, u64> = BTreeMap::new();
        for entry in log {
            if let Entry::Delta { id, seq, .. } = entry {
                let last = last.entry(*id).or_default();
                if *seq != *last + 1 {
                    return Err(format!("the log has delta {seq} of {id:?} after {last}"));
                }
                *last = *seq;
            }
        }
        Ok(())
    }

    /// Every ordinal was issued, or skipped with a reason, or nobody's, or of somebody that was lost; and only one of it.
    fn account(&self, state: &State, load: Load) -> Result<(), String> {
        let mut told: BTreeMap<u32, (Id, bool)> = BTreeMap::new();
        for (id, figures) in &state.merged {
            let issued = figures.issued.iter().map(|k| (*k, true));
            for (k, issued) in issued.chain(figures.skipped.iter().map(|k| (*k, false))) {
                if let Some((other, _)) = told.insert(k, (*id, issued)) {
                    return Err(format!("{k} is in the figures of {other:?} and of {id:?}"));
                }
                if issued != (self.issued.get(&k) == Some(id)) {
                    return Err(format!("{id:?} says of {k} that issued is {issued}, which is not so"));
                }
            }
        }
        let Some(assignments) = &state.assignments else { return Ok(()) };
        let unowned = assignments.unowned();
        for k in 0..load.total {
            let intended = Duration::from_micros(load.intended(k));
            let in_force = |from: Duration, until: Option<Duration>| {
                from <= intended && until.is_none_or(|until| intended < until)
            };
            let held = assignments.history().iter().filter(|holding| {
                holding.owner.is_some()
                    && in_force(holding.assignment.from, holding.assignment.until)
                    && holding.assignment.share.owns(k)
            });
            let owners: Vec<(Id, u32)> =
                held.filter_map(|holding| Some((holding.owner?, holding.assignment.generation))).collect();
            let nobodys = unowned.iter().filter(|it| in_force(it.from, it.until) && it.share.owns(k)).count();
            if owners.len() + nobodys != 1 {
                return Err(format!("{k} at {intended:?} belongs to {owners:?} and {nobodys} times to nobody"));
            }
            let told = told.get(&(k as u32));
            self.explained(k as u32, intended, owners.first().copied(), told.map(|told| told.0), state)?;
        }
        Ok(())
    }

    fn explained(
        &self,
        k: u32,
        at: Duration,
        owner: Option<(Id, u32)>,
        told: Option<Id>,
        state: &State,
    ) -> Result<(), String> {
        match (owner, told) {
            (Some((owner, _)), Some(told)) if owner == told => return Ok(()),
            (_, Some(told)) => return Err(format!("{told:?} decided {k}, which belongs to {owner:?}")),
            (None, None) if self.issued.contains_key(&k) => {
                return Err(format!("{k} was issued but belongs to nobody"));
            }
            (None, None) => return Ok(()),
            (Some(_), None) => {}
        }
        let Some((owner, generation)) = owner else { return Ok(()) };
        let Some(end) = state.lost.get(&owner) else {
            return Err(format!("{owner:?} owns {k} at {at:?} and is not lost, but says nothing of it"));
        };
        let heard = state.merged.get(&owner).and_then(|figures| figures.decided.get(&generation));
        let heard = heard.map(|us| Duration::from_micros(*us));
        let unheard = self.issued.get(&k);
        if unheard.is_some_and(|by| *by != owner) {
            return Err(format!("{k} belongs to {owner:?} but was issued by {unheard:?}"));
        }
        // Where figures were lost with an agent, they are of the time between what was last heard of it and its end.
        let known = heard.is_none_or(|heard| heard < at) && at <= *end;
        if unheard.is_some() && !known {
            return Err(format!("{k} at {at:?} was issued unheard, outside of {heard:?} to {end:?}"));
        }
        Ok(())
    }
}
