//! A simulated agent: the product's state machines, and a worker that issues ordinals.

use std::collections::BTreeMap;
use std::time::Duration;

use groundswell_agent::delivery::{Answer, Fence, Holdings, Outbox, Tenure};
use groundswell_coordinator::delivery::Order;

use crate::clock::Clock;
use crate::wire::{Down, Figures, Id, Up};

/// An ordinal that is due for longer than this is not issued any more.
const LATEST_US: u64 = 1_000_000;

/// The schedule of the run: ordinal k is intended at k times the period.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) period_us: u64,
    pub(crate) total: u64,
}

impl Load {
    pub(crate) fn intended(&self, k: u64) -> u64 {
        k * self.period_us
    }

    pub(crate) fn end_us(&self) -> u64 {
        self.total * self.period_us
    }

    /// Ordinals that are intended before this moment.
    fn count_before(&self, moment: Duration) -> u64 {
        (moment.as_micros() as u64).div_ceil(self.period_us)
    }
}

/// An operating system's process: what a crash or a freeze hits.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) name: u32,
    pub(crate) clock: Clock,
    pub(crate) dead: bool,
    pub(crate) frozen_until: u64,
    /// It was asked to end.
    pub(crate) draining: bool,
    /// The last is the one that may act.
    pub(crate) lives: Vec<Life>,
    /// When its worker wakes up.
    pub(crate) wakes_at: Option<u64>,
}

/// One registration of a process: what an incarnation is at the agent.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) boot: u64,
    pub(crate) id: Option<Id>,
    /// May it issue load at all?
    pub(crate) acting: bool,
    pub(crate) session: Option<usize>,
    pub(crate) welcomed: bool,
    pub(crate) outbox: Outbox<Figures>,
    pub(crate) tenure: Tenure,
    pub(crate) holdings: Holdings,
    pub(crate) fence: Fence,
    pub(crate) t0: Option<u64>,
    /// How many ordinals of each assignment were decided.
    cursors: BTreeMap<u32, u64>,
    pub(crate) recorder: Figures,
    /// All that was ever sealed, to compare with.
    pub(crate) sealed: Figures,
    /// For each heartbeat of which a grant came: when it was sent, in real time. Only the newest counts.
    pub(crate) granted_real: u64,
    pub(crate) heartbeats: BTreeMap<Duration, u64>,
}

/// What the oracle has to know.
#[derive(Debug)]
pub(crate) enum Noted {
    Issued(u32),
    Acknowledged(u64),
    LowerTermObeyed,
    Broken(String),
}

impl Life {
    pub(crate) fn new(boot: u64, lease: Duration) -> Self {
        Life {
            boot,
            id: None,
            acting: true,
            session: None,
            welcomed: false,
            outbox: Outbox::new(),
            tenure: Tenure::new(lease),
            holdings: Holdings::default(),
            fence: Fence::default(),
            t0: None,
            cursors: BTreeMap::new(),
            recorder: Figures::default(),
            sealed: Figures::default(),
            granted_real: 0,
            heartbeats: BTreeMap::new(),
        }
    }

    /// Decides all that is due.
    pub(crate) fn work(&mut self, load: Load, clock: Clock, real: u64, counts_without_lease: bool) -> Vec<Noted> {
        let (Some(t0), true) = (self.t0, self.acting) else { return Vec::new() };
        let now = clock.run_us(t0, real);
        let may_issue = self.tenure.holds(clock.now(real));
        if !may_issue && !counts_without_lease {
            // Without a lease it can't know whether these are still its own: neither does it count them as skipped. With
            // the next grant it does; and if none comes, the coordinator does.
            return Vec::new();
        }
        let mut noted = Vec::new();
        for held in self.holdings.assignments() {
            let first = || held.share.count_below(load.count_before(held.from));
            let cursor = self.cursors.entry(held.generation).or_insert_with(first);
            self.recorder.decided.insert(held.generation, now);
            loop {
                let k = held.share.nth(*cursor);
                if k >= load.total || load.intended(k) > now || ended(held.until, load.intended(k)) {
                    break;
                }
                *cursor += 1;
                if may_issue && now - load.intended(k) <= LATEST_US {
                    self.recorder.issued.push(k as u32);
                    noted.push(Noted::Issued(k as u32));
                } else {
                    self.recorder.skipped.push(k as u32);
                }
            }
        }
        noted
    }

    /// When the next ordinal is intended, in the run's time.
    pub(crate) fn next_due(&self, load: Load) -> Option<u64> {
        let due = self.holdings.assignments().filter_map(|held| {
            let cursor = self.cursors.get(&held.generation).copied();
            let cursor = cursor.unwrap_or_else(|| held.share.count_below(load.count_before(held.from)));
            let k = held.share.nth(cursor);
            (k < load.total && !ended(held.until, load.intended(k))).then(|| load.intended(k))
        });
        due.min()
    }

    pub(crate) fn seal(&mut self, load: Load, clock: Clock, real: u64) {
        let Some(t0) = self.t0 else { return };
        let now = clock.run_us(t0, real);
        let figures = std::mem::take(&mut self.recorder);
        let is_news = !figures.issued.is_empty() || !figures.skipped.is_empty() || now < load.end_us();
        if !is_news || (!self.acting && figures == Figures::default()) {
            return;
        }
        self.sealed.add(&figures);
        let Ok(()) = self.outbox.seal(figures);
    }

    pub(crate) fn send(&mut self) -> Vec<Up> {
        let Some(id) = self.id else { return Vec::new() };
        let next = || self.outbox.next(|seq, figures| figures.encode(seq));
        std::iter::from_fn(next).map(|(seq, bytes)| Up::Delta { id, seq, bytes }).collect()
    }

    pub(crate) fn heartbeat(&mut self, clock: Clock, real: u64) -> Vec<Up> {
        let (Some(id), true) = (self.id, self.welcomed) else { return Vec::new() };
        let sent_at = clock.now(real);
        if self.acting {
            self.heartbeats.insert(sent_at, real);
        }
        vec![Up::Heartbeat { id, sent_at }]
    }

    /// A message of a coordinator of this term came.
    pub(crate) fn receive(&mut self, term: u64, down: Down, clock: Clock, real: u64) -> (Vec<Up>, Vec<Noted>) {
        let known = self.fence.term();
        if !self.fence.admits(term) {
            return (Vec::new(), Vec::new());
        }
        let (mut said, mut noted) = (Vec::new(), Vec::new());
        if term < known {
            noted.push(Noted::LowerTermObeyed);
        }
        let mut torn = |result: Result<(), groundswell_agent::delivery::Torn>| {
            noted.extend(result.err().map(|torn| Noted::Broken(torn.to_string())));
        };
        match down {
            Down::Welcome { id, may_act, acked } => {
                self.welcomed = true;
                self.id = Some(id);
                self.acting &= may_act;
                torn(self.outbox.resumed(acked));
                said.extend(self.heartbeat(clock, real));
            }
            Down::Start { t0 } => self.t0 = Some(t0),
            Down::Grant { sent_at } => {
                self.tenure.granted(sent_at, clock.now(real));
                if let Some(sent) = self.heartbeats.get(&sent_at) {
                    self.granted_real = self.granted_real.max(*sent);
                }
            }
            Down::Ack { upto } => {
                torn(self.outbox.acknowledged(upto));
                noted.push(Noted::Acknowledged(upto));
            }
            Down::Expect { seq } => torn(self.outbox.expected(seq)),
            Down::Order(order) => said.extend(self.obey(order, clock, real)),
            Down::Fenced => self.acting = false,
        }
        said.extend(self.send());
        (said, noted)
    }

    fn obey(&mut self, order: Order<Id>, clock: Clock, real: u64) -> Option<Up> {
        let now = Duration::from_micros(clock.run_us(self.t0?, real));
        match order {
            Order::Give { assignment, .. } => {
                self.holdings.give(assignment);
                None
            }
            Order::End { agent, generation, at, instead } => {
                let ok = self.holdings.end(generation, at, instead, now) == Answer::Released;
                Some(Up::Answer { id: agent, generation, asked: at, ok })
            }
        }
    }
}

fn ended(until: Option<Duration>, intended_us: u64) -> bool {
    until.is_some_and(|until| Duration::from_micros(intended_us) >= until)
}
