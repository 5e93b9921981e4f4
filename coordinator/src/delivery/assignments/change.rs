//! Changes that have to wait for live agents: what one of them owns goes to another only after its release.

use std::collections::BTreeMap;
use std::time::Duration;

use groundswell_scenario::Assignment;

use super::super::mutants::{self, Mutant};
use super::dealing::{self, Claim};
use super::{Assignments, Holding, OnAgentLoss, Order};

/// A change that begins when the one before it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish<A> {
    Join(A),
    Leave(A),
}

impl<A: Copy> Wish<A> {
    pub(super) fn agent(self) -> A {
        match self {
            Wish::Join(agent) | Wish::Leave(agent) => agent,
        }
    }
}

/// One that is under way.
#[derive(Debug, Clone)]
pub(super) struct Change<A> {
    /// Who gets what is released; everybody who stays, where it is nobody in particular.
    to: Option<A>,
    /// One that leaves is asked until it can be told in time; who gives to one that joins is asked once.
    asks_again: bool,
    pending: Vec<Release<A>>,
    /// Released, by the moment from which on nobody owns it.
    freed: BTreeMap<Duration, Vec<u32>>,
}

/// An assignment that was asked to end.
#[derive(Debug, Clone)]
struct Release<A> {
    agent: A,
    generation: u32,
    at: Duration,
    /// Slots that it gives away.
    gives: Vec<u32>,
    /// What its owner owns instead.
    keeps: Option<Kept>,
}

#[derive(Debug, Clone)]
struct Kept {
    assignment: Assignment,
    slots: Vec<u32>,
}

impl<A: Copy> Release<A> {
    fn order(&self) -> Order<A> {
        let instead = self.keeps.as_ref().map(|kept| kept.assignment.clone());
        Order::End { agent: self.agent, generation: self.generation, at: self.at, instead }
    }
}

impl<A: Copy + Ord> Change<A> {
    pub(super) fn freed(&self) -> impl Iterator<Item = (&Duration, &Vec<u32>)> {
        self.freed.iter()
    }

    /// Slots that this agent will get by it.
    pub(super) fn promised(&self, agent: A) -> usize {
        if self.to != Some(agent) {
            return 0;
        }
        let pending: usize = self.pending.iter().map(|release| release.gives.len()).sum();
        pending + self.freed.values().map(Vec::len).sum::<usize>()
    }
}

impl<A: Copy + Ord> Assignments<A> {
    /// Carries on until something has to be waited for.
    pub(super) fn settle(&mut self, at: Duration) -> Vec<Order<A>> {
        let mut orders = Vec::new();
        loop {
            if self.change.as_ref().is_some_and(|change| !change.pending.is_empty()) {
                return orders;
            }
            if let Some(change) = self.change.take() {
                orders.extend(self.finish(change));
            }
            match self.wishes.pop_front() {
                Some(Wish::Join(agent)) => orders.extend(self.begin_join(agent, at)),
                Some(Wish::Leave(agent)) => orders.extend(self.begin_leave(agent, at)),
                None => return orders,
            }
        }
    }

    /// What is still to be answered by an agent.
    pub(super) fn pending(&self, agent: A) -> impl Iterator<Item = Order<A>> + '_ {
        let pending = self.change.iter().flat_map(|change| &change.pending);
        pending.filter(move |release| release.agent == agent).map(Release::order)
    }

    /// A lost agent answers no more. It may have ended what it was asked to, or not: in either case it owned at the most
    /// what it had before, until its end.
    pub(super) fn forget_releases_of(&mut self, agent: A) {
        let Some(change) = &mut self.change else { return };
        let (gone, pending) = change.pending.drain(..).partition(|release| release.agent == agent);
        change.pending = pending;
        if change.to == Some(agent) {
            change.to = None;
        }
        let gone: Vec<Release<A>> = gone;
        for release in gone {
            self.void(release);
        }
    }

    /// What an agent was to own instead never comes into force. It stays in the history, because figures may come in its
    /// name.
    fn void(&mut self, release: Release<A>) {
        if let Some(Kept { mut assignment, slots }) = release.keeps {
            assignment.until = Some(assignment.from);
            self.history.push(Holding { owner: Some(release.agent), assignment, slots });
        }
    }

    pub(super) fn answered(
        &mut self,
        agent: A,
        generation: u32,
        asked: Duration,
        ok: bool,
        at: Duration,
    ) -> Vec<Order<A>> {
        let Some(change) = &mut self.change else { return Vec::new() };
        // The same assignment may be asked for again, and an answer to the first question may come twice.
        let same = |release: &Release<A>| {
            let asked = release.at == asked || mutants::is(Mutant::AnyAnswer);
            release.agent == agent && release.generation == generation && asked
        };
        let Some(index) = change.pending.iter().position(same) else { return Vec::new() };
        if !ok && change.asks_again {
            // It stays the owner until then.
            let release = &mut change.pending[index];
            release.at = at;
            return vec![release.order()];
        }
        let release = change.pending.remove(index);
        if !ok {
            self.void(release);
            return Vec::new();
        }
        let freed = change.freed.entry(release.at).or_default();
        *freed = dealing::union([std::mem::take(freed), release.gives]);
        if let Some(holding) = self.history.iter_mut().find(|holding| holding.assignment.generation == generation) {
            holding.assignment.until = Some(release.at);
        }
        if let Some(Kept { assignment, slots }) = release.keeps {
            self.history.push(Holding { owner: Some(agent), assignment, slots });
        }
        Vec::new()
    }

    fn finish(&mut self, change: Change<A>) -> Vec<Order<A>> {
        let mut orders = Vec::new();
        let to = change.to.filter(|agent| self.staying().any(|(staying, _)| staying == *agent));
        for (from, slots) in change.freed {
            match to {
                Some(agent) => orders.push(self.give(agent, slots, from)),
                None => orders.extend(self.deal(slots, from)),
            }
        }
        orders
    }

    fn begin_leave(&mut self, agent: A, at: Duration) -> Vec<Order<A>> {
        let own = self.history.iter().filter(|holding| holding.is_running(Some(agent)));
        let release = |holding: &Holding<A>| Release {
            agent,
            generation: holding.assignment.generation,
            at,
            gives: holding.slots.clone(),
            keeps: None,
        };
        let pending: Vec<Release<A>> = own.map(release).collect();
        let orders = pending.iter().map(Release::order).collect();
        self.change = Some(Change { to: None, asks_again: true, pending, freed: BTreeMap::new() });
        orders
    }

    fn begin_join(&mut self, agent: A, at: Duration) -> Vec<Order<A>> {
        let may_take_unowned = self.on_loss == OnAgentLoss::Redistribute;
        let nobodys = if may_take_unowned { self.end_all(None, at) } else { Vec::new() };
        let owners: Vec<A> = self.staying().map(|(staying, _)| staying).collect();
        let there: usize = nobodys.len() + owners.iter().map(|owner| self.owned(*owner)).sum::<usize>();
        let claims: Vec<Claim> = owners.iter().map(|owner| self.fair(*owner)).collect();
        // What each would own if all that is there were dealt out anew.
        let fair: BTreeMap<A, usize> = owners.iter().copied().zip(dealing::quotas(there, &claims)).collect();
        let fair_of = |owner: A| fair.get(&owner).copied().unwrap_or(0);
        let want = fair_of(agent).saturating_sub(self.owned(agent));

        let mut parts = dealing::part(&nobodys, &[want.min(nobodys.len())]).into_iter();
        let taken = parts.next().unwrap_or_default();
        let want = want - taken.len();
        let mut orders = Vec::new();
        if !taken.is_empty() {
            orders.push(self.give(agent, taken, at));
        }
        self.leave_unowned(parts.flatten().collect(), at);

        let pending = self.ask(agent, want, at, fair_of);
        orders.extend(pending.iter().map(Release::order));
        self.change = Some(Change { to: Some(agent), asks_again: false, pending, freed: BTreeMap::new() });
        if mutants::is(Mutant::LostRelease) {
            let asked: Vec<(A, u32)> =
                self.change.iter().flat_map(|change| &change.pending).map(|r| (r.agent, r.generation)).collect();
            for (owner, generation) in asked {
                self.answered(owner, generation, at, true, at);
            }
        }
        orders
    }

    /// A claim on everything, as if nothing were owned yet.
    fn fair(&self, agent: A) -> Claim {
        let part = self.members.get(&agent);
        part.map_or(Claim { weight: 0, most: 0 }, |part| Claim { weight: u64::from(part.weight), most: part.most })
    }

    /// Asks for `want` slots: of each owner in proportion to what it owns above its fair part.
    fn ask(&mut self, joins: A, want: usize, at: Duration, fair_of: impl Fn(A) -> usize) -> Vec<Release<A>> {
        let above = |owner: A| self.owned(owner).saturating_sub(fair_of(owner));
        let others = self.staying().map(|(owner, _)| owner).filter(|owner| *owner != joins);
        let excess: BTreeMap<A, usize> = others.map(|owner| (owner, above(owner))).collect();
        let running: Vec<usize> = (0..self.history.len())
            .filter(|index| self.history[*index].assignment.until.is_none())
            .filter(|index| self.history[*index].owner.is_some_and(|owner| excess.contains_key(&owner)))
            .collect();
        let claim = |index: &usize| {
            let holding = &self.history[*index];
            let excess = holding.owner.and_then(|owner| excess.get(&owner)).copied().unwrap_or(0);
            let size = holding.slots.len();
            Claim { weight: excess as u64 * size as u64, most: size }
        };
        let claims: Vec<Claim> = running.iter().map(claim).collect();
        let quotas = dealing::quotas(want, &claims);
        let mut releases = Vec::new();
        for (index, quota) in running.into_iter().zip(quotas).filter(|(_, quota)| *quota > 0) {
            let Holding { owner: Some(agent), slots, assignment } = self.history[index].clone() else { continue };
            let mut parts = dealing::part(&slots, &[quota]).into_iter();
            let gives = parts.next().unwrap_or_default();
            let kept: Vec<u32> = parts.flatten().collect();
            let keeps = (!kept.is_empty()).then(|| Kept { assignment: self.assignment(&kept, at), slots: kept });
            releases.push(Release { agent, generation: assignment.generation, at, gives, keeps });
        }
        releases
    }
}
