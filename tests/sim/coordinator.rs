//! A simulated coordinator: the product's state machines, a log with its writer, and what a crash leaves of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use groundswell_coordinator::delivery::{Assignments, Incarnations, Intake, Leases, Member, Offer, OnAgentLoss, Order};

use crate::wire::{Down, Entry, Figures, Id, Up, hash};

/// What does not change in a run.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) lease: Duration,
    /// A change comes into force so long after it was decided.
    pub(crate) lead: Duration,
    pub(crate) on_loss: OnAgentLoss,
    /// How many agents the run waits for.
    pub(crate) wait_for: usize,
    /// What each agent declares.
    pub(crate) declared: Vec<(u32, Option<f64>)>,
    /// Messages get lost one by one, so what matters is told again.
    pub(crate) tells_again: bool,
}

/// What the log's entries make of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) assignments: Option<Assignments<Id>>,
    pub(crate) t0: Option<u64>,
    pub(crate) merged: BTreeMap<Id, Figures>,
    pub(crate) registered: BTreeMap<(u32, u64), Id>,
    pub(crate) joined: BTreeSet<Id>,
    pub(crate) lost: BTreeMap<Id, Duration>,
}

impl State {
    /// Deltas are merged where the intake says so; everything else happens when its entry is durable.
    pub(crate) fn apply(&mut self, entry: &Entry, setup: &Setup) -> Vec<Order<Id>> {
        match entry {
            Entry::Registered { name, boot, incarnation } => {
                self.registered.insert((*name, *boot), Id { name: *name, incarnation: *incarnation });
            }
            Entry::Started { members, t0 } => {
                self.t0 = Some(*t0);
                self.joined.extend(members.iter().map(|member| member.agent));
                let Ok((assignments, orders)) = Assignments::initial(members, setup.on_loss) else { return Vec::new() };
                self.assignments = Some(assignments);
                return orders;
            }
            Entry::Delta { .. } => {}
            Entry::Lost { id, at } => {
                self.lost.insert(*id, *at);
            }
            Entry::Joined { member, .. } => {
                self.joined.insert(member.agent);
            }
            Entry::Left { .. } | Entry::Released { .. } => {}
        }
        let Some(assignments) = &mut self.assignments else { return Vec::new() };
        match entry {
            Entry::Lost { id, at } => assignments.lost(*id, *at),
            Entry::Joined { member, at } => assignments.join(*member, *at),
            Entry::Left { id, at } => assignments.leave(*id, *at),
            Entry::Released { id, generation, asked, ok, at } => {
                assignments.released(*id, *generation, *asked, *ok, *at)
            }
            Entry::Registered { .. } | Entry::Started { .. } | Entry::Delta { .. } => Vec::new(),
        }
    }

    pub(crate) fn merge(&mut self, id: Id, bytes: &[u8]) {
        self.merged.entry(id).or_default().add(&Figures::decode(bytes));
    }

    /// What a restart would make of these entries.
    pub(crate) fn replay(entries: &[Entry], setup: &Setup) -> State {
        let mut state = State::default();
        for entry in entries {
            state.apply(entry, setup);
            if let Entry::Delta { id, bytes, .. } = entry {
                state.merge(*id, bytes);
            }
        }
        state
    }
}

/// The process. Everything but the log is gone with a crash.
#[derive(Debug)]
pub(crate) struct Coordinator {
    pub(crate) term: u64,
    pub(crate) down: bool,
    pub(crate) state: State,
    /// Entries of the log that were fed to the state.
    pub(crate) applied: usize,
    incarnations: Incarnations,
    leases: Leases<Id>,
    pub(crate) intakes: BTreeMap<Id, Intake>,
    /// Deltas on their way into the log.
    unmerged: BTreeMap<(Id, u64), Bytes>,
    /// The newest session of each life.
    pub(crate) sessions: BTreeMap<Id, usize>,
    /// Sessions whose registration is on its way into the log.
    waiting: Vec<(usize, u32, u64)>,
    joining: BTreeSet<Id>,
    starting: bool,
}

/// What the coordinator wants done.
#[derive(Debug)]
pub(crate) enum Do {
    Log(Entry),
    Send(usize, Down),
    /// Given up, and its share will have another owner.
    GiveUp(Id),
    Broken(String),
}

/// The coordinator's clocks at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Its monotonic clock.
    pub(crate) now: Duration,
    /// The run's time, or zero.
    pub(crate) run: Duration,
    pub(crate) real: u64,
}

impl Coordinator {
    /// A start, of the first or of a later term, on what the log has.
    pub(crate) fn start(term: u64, log: &[Entry], setup: &Setup, now: Duration) -> Result<Self, String> {
        let state = State::replay(log, setup);
        let mut incarnations = Incarnations::default();
        let mut deltas: BTreeMap<Id, Vec<(u64, [u8; 16])>> = BTreeMap::new();
        for entry in log {
            match entry {
                Entry::Registered { name, boot, incarnation } => incarnations
                    .restore(&name.to_string(), *boot, *incarnation)
                    .map_err(|error| format!("restart: {error}"))?,
                Entry::Delta { id, seq, hash, .. } => deltas.entry(*id).or_default().push((*seq, *hash)),
                _ => {}
            }
        }
        let restore = |(id, entries)| {
            let intake = Intake::restore(entries).map_err(|error| format!("restart: {id:?}: {error}"))?;
            Ok((id, intake))
        };
        let intakes = deltas.into_iter().map(restore).collect::<Result<_, String>>()?;
        let living = state.joined.iter().filter(|id| !state.lost.contains_key(id)).copied();
        let mut leases = Leases::restarted(setup.lease, living, now);
        for id in state.lost.keys() {
            leases.give_up(*id);
        }
        Ok(Coordinator {
            term,
            down: false,
            applied: log.len(),
            state,
            incarnations,
            leases,
            intakes,
            unmerged: BTreeMap::new(),
            sessions: BTreeMap::new(),
            waiting: Vec::new(),
            joining: BTreeSet::new(),
            starting: false,
        })
    }

    pub(crate) fn receive(&mut self, session: usize, up: Up, setup: &Setup, at: Moment) -> Vec<Do> {
        let lead = at.run + setup.lead;
        match up {
            Up::Hello { name, boot } => self.hello(session, name, boot, setup, at),
            Up::Heartbeat { id, sent_at } => self.heartbeat(session, id, sent_at, setup, at),
            Up::Delta { id, seq, bytes } => self.delta(session, id, seq, bytes),
            Up::Answer { id, generation, asked, ok } => {
                vec![Do::Log(Entry::Released { id, generation, asked, ok, at: lead })]
            }
            Up::Leave { id } => vec![Do::Log(Entry::Left { id, at: lead })],
        }
    }

    fn hello(&mut self, session: usize, name: u32, boot: u64, setup: &Setup, at: Moment) -> Vec<Do> {
        let registration = self.incarnations.register(&name.to_string(), boot);
        if let Some(id) = self.state.registered.get(&(name, boot)).copied() {
            return self.welcome(session, id, setup, at);
        }
        self.waiting.push((session, name, boot));
        let new = registration.is_new;
        let entry = Entry::Registered { name, boot, incarnation: registration.incarnation };
        new.then_some(Do::Log(entry)).into_iter().collect()
    }

    fn may_act(&self, id: Id) -> bool {
        self.incarnations.may_act(&id.name.to_string(), id.incarnation) && !self.leases.is_given_up(id)
    }

    fn welcome(&mut self, session: usize, id: Id, setup: &Setup, at: Moment) -> Vec<Do> {
        let newest = self.sessions.entry(id).or_insert(session);
        if *newest > session {
            return Vec::new();
        }
        *newest = session;
        let acked = self.intakes.entry(id).or_default().acked();
        let may_act = self.may_act(id);
        let mut todo = vec![Do::Send(session, Down::Welcome { id, may_act, acked })];
        todo.extend(self.tell(id));
        if may_act && self.state.t0.is_some() && !self.state.joined.contains(&id) && self.joining.insert(id) {
            let member = member(id, setup);
            todo.push(Do::Log(Entry::Joined { member, at: at.run + setup.lead }));
        }
        todo
    }

    /// All that an agent has to know of the run.
    fn tell(&self, id: Id) -> Vec<Do> {
        let (Some(session), Some(t0)) = (self.sessions.get(&id), self.state.t0) else { return Vec::new() };
        let orders = self.state.assignments.iter().flat_map(|assignments| assignments.orders(id));
        let told = [Down::Start { t0 }].into_iter().chain(orders.map(Down::Order));
        told.map(|down| Do::Send(*session, down)).collect()
    }

    fn heartbeat(&mut self, session: usize, id: Id, sent_at: Duration, setup: &Setup, at: Moment) -> Vec<Do> {
        let granted = self.incarnations.may_act(&id.name.to_string(), id.incarnation) && self.leases.grant(id, at.now);
        let answer = if granted { Down::Grant { sent_at } } else { Down::Fenced };
        let mut todo = vec![Do::Send(session, answer)];
        if setup.tells_again {
            let intake = self.intakes.entry(id).or_default();
            todo.push(Do::Send(session, Down::Ack { upto: intake.acked() }));
            todo.push(Do::Send(session, Down::Expect { seq: intake.last_logged() + 1 }));
            todo.extend(self.tell(id));
        }
        todo
    }

    fn delta(&mut self, session: usize, id: Id, seq: u64, bytes: Bytes) -> Vec<Do> {
        let hash = hash(&bytes);
        let intake = self.intakes.entry(id).or_default();
        let mut todo = match intake.offer(seq, hash) {
            Offer::Log => {
                self.unmerged.insert((id, seq), bytes.clone());
                vec![Do::Log(Entry::Delta { id, seq, hash, bytes })]
            }
            Offer::InFlight => Vec::new(),
            Offer::Duplicate { acked } => vec![Do::Send(session, Down::Ack { upto: acked })],
            Offer::Gap { expected } => vec![Do::Send(session, Down::Expect { seq: expected })],
            Offer::Equivocation { seq } => vec![Do::Broken(format!("{id:?} said two things in delta {seq}"))],
        };
        todo.extend(self.merge(id));
        todo
    }

    fn merge(&mut self, id: Id) -> Option<Do> {
        let intake = self.intakes.get_mut(&id)?;
        for seq in intake.to_merge() {
            match self.unmerged.remove(&(id, seq)) {
                Some(bytes) => self.state.merge(id, &bytes),
                None => return Some(Do::Broken(format!("delta {seq} of {id:?} is to be merged but never came"))),
            }
        }
        None
    }

    /// The writer says that these entries are durable.
    pub(crate) fn committed(&mut self, entries: &[Entry], setup: &Setup, at: Moment) -> Vec<Do> {
        let mut todo = Vec::new();
        for entry in entries {
            self.applied += 1;
            let orders = self.state.apply(entry, setup);
            match entry {
                Entry::Delta { id, seq, .. } => {
                    let intake = self.intakes.entry(*id).or_default();
                    intake.committed(*seq);
                    let upto = intake.acked();
                    todo.extend(self.merge(*id));
                    todo.extend(self.sessions.get(id).map(|session| Do::Send(*session, Down::Ack { upto })));
                }
                Entry::Registered { name, boot, .. } => todo.extend(self.registered(*name, *boot, setup, at)),
                Entry::Started { members, .. } => {
                    for member in members {
                        todo.extend(self.first_grant(member.agent, at));
                    }
                }
                Entry::Joined { member, .. } => todo.extend(self.first_grant(member.agent, at)),
                Entry::Lost { .. } | Entry::Left { .. } | Entry::Released { .. } => {}
            }
            todo.extend(orders.into_iter().filter_map(|order| {
                let (Order::Give { agent, .. } | Order::End { agent, .. }) = &order;
                self.sessions.get(agent).map(|session| Do::Send(*session, Down::Order(order.clone())))
            }));
        }
        todo
    }

    /// From here on its lease runs, whether it has heard of that or not.
    fn first_grant(&mut self, id: Id, at: Moment) -> Vec<Do> {
        let _given_up = !self.leases.grant(id, at.now);
        let (Some(session), Some(t0)) = (self.sessions.get(&id), self.state.t0) else { return Vec::new() };
        vec![Do::Send(*session, Down::Start { t0 })]
    }

    fn registered(&mut self, name: u32, boot: u64, setup: &Setup, at: Moment) -> Vec<Do> {
        let mut todo = Vec::new();
        let (served, waiting) = self.waiting.drain(..).partition(|(_, other, of)| (*other, *of) == (name, boot));
        self.waiting = waiting;
        let served: Vec<(usize, u32, u64)> = served;
        if let Some(id) = self.state.registered.get(&(name, boot)).copied() {
            for (session, _, _) in served {
                todo.extend(self.welcome(session, id, setup, at));
            }
        }
        if self.state.t0.is_none() && !self.starting {
            let ids: Vec<Id> = self.state.registered.values().filter(|id| self.may_act(**id)).copied().collect();
            if ids.len() >= setup.wait_for {
                self.starting = true;
                let members = ids.into_iter().map(|id| member(id, setup)).collect();
                todo.push(Do::Log(Entry::Started { members, t0: at.real + 2_000_000 }));
            }
        }
        todo
    }

    pub(crate) fn tick(&mut self, setup: &Setup, at: Moment) -> Vec<Do> {
        let mut todo = Vec::new();
        for id in self.leases.expired(at.now) {
            todo.push(Do::GiveUp(id));
            todo.push(Do::Log(Entry::Lost { id, at: at.run + setup.lead }));
        }
        todo
    }
}

fn member(id: Id, setup: &Setup) -> Member<Id> {
    let (weight, limit) = setup.declared[id.name as usize];
    Member { agent: id, weight, limit }
}
