//! Who owns what of a run, and from when to when.

mod change;
mod dealing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

pub use groundswell_scenario::continuity::OnAgentLoss;
use groundswell_scenario::share::InvalidShare;
use groundswell_scenario::{Assignment, Share};

use change::{Change, Wish};
use dealing::{Claim, Cycle};

/// An agent that takes part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Member<A> {
    /// One incarnation of an agent. One that was lost and comes back is another.
    pub agent: A,
    /// Its part of the load in relation to the others'.
    pub weight: u32,
    /// The fraction of the whole load that it may own at the most, from 0 to 1.
    pub limit: Option<f64>,
}

/// What an agent has to be told. An order may be told again at any time; agents know what they have heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order<A> {
    /// It owns this.
    Give {
        /// To whom.
        agent: A,
        /// What.
        assignment: Assignment,
    },
    /// An assignment is to end, and another one to begin in its place. The agent answers whether it could still do that,
    /// and then does both or nothing: [`Assignments::released`].
    End {
        /// Whose.
        agent: A,
        /// Which.
        generation: u32,
        /// From this moment of the run on it owns nothing under that generation.
        at: Duration,
        /// What it owns from that moment on instead.
        instead: Option<Assignment>,
    },
}

/// An assignment and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding<A> {
    /// Nobody owns what nobody may take: it is not generated.
    pub owner: Option<A>,
    /// One that ends when it begins never came into force.
    pub assignment: Assignment,
    /// The share as slots of the run's cycle.
    slots: Vec<u32>,
}

impl<A: PartialEq> Holding<A> {
    fn is_running(&self, owner: Option<A>) -> bool {
        self.owner == owner && self.assignment.until.is_none()
    }

    /// Did it never come into force?
    pub fn is_void(&self) -> bool {
        self.assignment.until.is_some_and(|until| until <= self.assignment.from)
    }
}

/// A share that nobody owns for a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unowned {
    /// The share.
    pub share: Share,
    /// From this moment of the run on.
    pub from: Duration,
    /// Until then; to the plan's end where none is said.
    pub until: Option<Duration>,
}

/// Who owns what of a run. At no moment of the run do two assignments own the same ordinal, and what none owns is known.
///
/// What is lost is dealt out from a moment ahead. What a live agent owns goes to another one only after it has said that
/// it stops in time. All times are the run's; `at` is always the earliest moment at which a change that is decided now can
/// come into force: later than now by what an order needs to arrive, and by what the agents' clocks may be apart.
#[derive(Debug, Clone)]
pub struct Assignments<A> {
    cycle: Cycle,
    on_loss: OnAgentLoss,
    members: BTreeMap<A, Part>,
    history: Vec<Holding<A>>,
    generations: u32,
    /// No change comes into force before one that was decided earlier, so whatever is running began before this.
    latest: Duration,
    /// The one that waits for releases; others wait for it.
    change: Option<Change<A>>,
    wishes: VecDeque<Wish<A>>,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    weight: u32,
    /// Slots that it may own at the most.
    most: usize,
    /// It is to own nothing more.
    leaving: bool,
}

impl<A: Copy + Ord> Assignments<A> {
    /// Everybody's first assignment. Where no limit stands against it, the shares are those of [`Share::weighted`].
    pub fn initial(members: &[Member<A>], on_loss: OnAgentLoss) -> Result<(Self, Vec<Order<A>>), InvalidShare> {
        let weights: Vec<u32> = members.iter().map(|member| member.weight).collect();
        let cycle = Cycle::over(Share::weighted(0, &weights)?.of());
        let parts = members.iter().map(|member| (member.agent, Part::of(member, cycle))).collect();
        let mut this = Assignments {
            cycle,
            on_loss,
            members: parts,
            history: Vec::new(),
            generations: 0,
            latest: Duration::ZERO,
            change: None,
            wishes: VecDeque::new(),
        };
        let (mut owned, mut excess) = (Vec::new(), Vec::new());
        for (index, member) in members.iter().enumerate() {
            let slots = cycle.slots(&Share::weighted(index, &weights)?);
            let within = slots.len().min(Part::of(member, cycle).most);
            let mut parts = dealing::part(&slots, &[within]).into_iter();
            owned.push(parts.next().unwrap_or_default());
            excess.extend(parts.flatten());
        }
        excess.sort_unstable();
        let room = |(member, owned): (&Member<A>, &Vec<u32>)| Claim {
            weight: u64::from(member.weight),
            most: Part::of(member, cycle).most - owned.len(),
        };
        let claims: Vec<Claim> = members.iter().zip(&owned).map(room).collect();
        let mut more = dealing::part(&excess, &dealing::quotas(excess.len(), &claims)).into_iter();
        let mut orders = Vec::new();
        for (member, owned) in members.iter().zip(owned) {
            let slots = dealing::union([owned, more.next().unwrap_or_default()]);
            orders.push(this.give(member.agent, slots, Duration::ZERO));
        }
        this.leave_unowned(more.next().unwrap_or_default(), Duration::ZERO);
        Ok((this, orders))
    }

    /// An agent was given up: its lease has certainly ended. What it owned ends at `at`; between the end of its lease and
    /// then nobody issues it.
    pub fn lost(&mut self, agent: A, at: Duration) -> Vec<Order<A>> {
        if self.members.remove(&agent).is_none() {
            return Vec::new();
        }
        let at = self.moment(at);
        self.wishes.retain(|wish| wish.agent() != agent);
        self.forget_releases_of(agent);
        let slots = self.end_all(Some(agent), at);
        let mut orders = match self.on_loss {
            OnAgentLoss::Redistribute => self.deal(slots, at),
            OnAgentLoss::Continue | OnAgentLoss::Abort => {
                self.leave_unowned(slots, at);
                Vec::new()
            }
        };
        orders.extend(self.settle(at));
        orders
    }

    /// An agent is to leave: it owns nothing from `at` on, and the others begin there, once it has said that it stops. Where
    /// the order reaches it too late, it is asked again for a later moment.
    pub fn leave(&mut self, agent: A, at: Duration) -> Vec<Order<A>> {
        match self.members.get_mut(&agent) {
            Some(part) if !part.leaving => part.leaving = true,
            Some(_) | None => return Vec::new(),
        }
        self.wishes.push_back(Wish::Leave(agent));
        let at = self.moment(at);
        self.settle(at)
    }

    /// An agent joins: it takes its part of what nobody owns from `at` on, and of what the others own once all of them have
    /// answered. Those who can't give in time keep what they have.
    pub fn join(&mut self, member: Member<A>, at: Duration) -> Vec<Order<A>> {
        if self.members.contains_key(&member.agent) {
            return Vec::new();
        }
        self.members.insert(member.agent, Part::of(&member, self.cycle));
        self.wishes.push_back(Wish::Join(member.agent));
        let at = self.moment(at);
        self.settle(at)
    }

    /// An agent answered an order to end an assignment at `asked`: `ok` says that it ends then. `at` is for what begins
    /// with this answer. Answers that come late or twice do nothing; that is why one has to say what it answers.
    pub fn released(&mut self, agent: A, generation: u32, asked: Duration, ok: bool, at: Duration) -> Vec<Order<A>> {
        let at = self.moment(at);
        let mut orders = self.answered(agent, generation, asked, ok, at);
        orders.extend(self.settle(at));
        orders
    }

    /// Everything that a member has to know, in order: for one whose session began anew.
    pub fn orders(&self, agent: A) -> Vec<Order<A>> {
        if !self.members.contains_key(&agent) {
            return Vec::new();
        }
        let own = self.history.iter().filter(|holding| holding.owner == Some(agent) && !holding.is_void());
        let given = own.map(|holding| Order::Give { agent, assignment: holding.assignment.clone() });
        given.chain(self.pending(agent)).collect()
    }

    /// Every assignment ever made, in order of generation.
    pub fn history(&self) -> &[Holding<A>] {
        &self.history
    }

    /// Every assignment that an agent was ever told of, whatever became of it.
    pub fn given_to(&self, agent: A) -> impl Iterator<Item = Assignment> {
        let given = self.history.iter().filter(move |holding| holding.owner == Some(agent));
        given.map(|holding| holding.assignment.clone())
    }

    /// What nobody owns, or nobody owned for a time. What was released and waits for the other releases is among it.
    pub fn unowned(&self) -> Vec<Unowned> {
        let nobodys = self.history.iter().filter(|holding| holding.owner.is_none() && !holding.is_void());
        let known = nobodys.map(|holding| Unowned {
            share: holding.assignment.share.clone(),
            from: holding.assignment.from,
            until: holding.assignment.until,
        });
        let freed = self.change.iter().flat_map(Change::freed);
        let limbo = freed.map(|(from, slots)| Unowned { share: self.cycle.share(slots), from: *from, until: None });
        known.chain(limbo).collect()
    }

    /// Is a change under way that waits for answers?
    pub fn is_changing(&self) -> bool {
        self.change.is_some()
    }

    fn moment(&mut self, at: Duration) -> Duration {
        self.latest = self.latest.max(at);
        self.latest
    }

    fn assignment(&mut self, slots: &[u32], from: Duration) -> Assignment {
        self.generations += 1;
        Assignment { generation: self.generations, share: self.cycle.share(slots), from, until: None }
    }

    fn give(&mut self, agent: A, slots: Vec<u32>, from: Duration) -> Order<A> {
        let assignment = self.assignment(&slots, from);
        self.history.push(Holding { owner: Some(agent), assignment: assignment.clone(), slots });
        Order::Give { agent, assignment }
    }

    fn leave_unowned(&mut self, slots: Vec<u32>, from: Duration) {
        if !slots.is_empty() {
            let assignment = self.assignment(&slots, from);
            self.history.push(Holding { owner: None, assignment, slots });
        }
    }

    /// Ends everything that this owner, or nobody, owns; returns it.
    fn end_all(&mut self, owner: Option<A>, at: Duration) -> Vec<u32> {
        let running = self.history.iter_mut().filter(|holding| holding.is_running(owner));
        dealing::union(running.map(|holding| {
            holding.assignment.until = Some(at);
            holding.slots.clone()
        }))
    }

    /// Deals slots that nobody owns out to everybody who stays; what nobody may take stays unowned.
    fn deal(&mut self, slots: Vec<u32>, from: Duration) -> Vec<Order<A>> {
        let staying: Vec<A> = self.staying().map(|(agent, _)| agent).collect();
        let claims: Vec<Claim> = staying.iter().map(|agent| self.claim(*agent)).collect();
        let mut parts = dealing::part(&slots, &dealing::quotas(slots.len(), &claims)).into_iter();
        let mut orders = Vec::new();
        for (agent, part) in staying.into_iter().zip(parts.by_ref()).filter(|(_, part)| !part.is_empty()) {
            orders.push(self.give(agent, part, from));
        }
        self.leave_unowned(parts.next().unwrap_or_default(), from);
        orders
    }

    fn staying(&self) -> impl Iterator<Item = (A, Part)> {
        self.members.iter().filter(|(_, part)| !part.leaving).map(|(agent, part)| (*agent, *part))
    }

    fn claim(&self, agent: A) -> Claim {
        let Some(part) = self.members.get(&agent) else { return Claim { weight: 0, most: 0 } };
        let promised = self.change.as_ref().map_or(0, |change| change.promised(agent));
        Claim { weight: u64::from(part.weight), most: part.most.saturating_sub(self.owned(agent) + promised) }
    }

    /// Slots that an agent owns.
    fn owned(&self, agent: A) -> usize {
        self.history.iter().filter(|holding| holding.is_running(Some(agent))).map(|holding| holding.slots.len()).sum()
    }
}

impl Part {
    fn of<A>(member: &Member<A>, cycle: Cycle) -> Self {
        let length = cycle.length();
        // Rounded down: a limit is not exceeded for a slot's sake. A cast of what is no number makes 0.
        let most = member.limit.map_or(length, |limit| ((limit * length as f64) as usize).min(length));
        Part { weight: member.weight, most, leaving: false }
    }
}
