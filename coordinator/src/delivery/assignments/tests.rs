//! Histories of assignments: that nobody owns anything twice, and that what nobody owns is known.

#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

type Told = Order<u32>;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn member(agent: u32) -> Member<u32> {
    Member { agent, weight: 1, limit: None }
}

fn start(members: &[Member<u32>]) -> Assignments<u32> {
    Assignments::initial(members, OnAgentLoss::Redistribute).unwrap().0
}

fn three() -> Assignments<u32> {
    start(&[member(1), member(2), member(3)])
}

/// The owner of each slot at a moment; fails where one has two, or where it has none and that is not known.
fn owners(assignments: &Assignments<u32>, at: Duration) -> Vec<Option<u32>> {
    let in_force = |from: Duration, until: Option<Duration>| from <= at && until.is_none_or(|until| at < until);
    let owned = assignments.history().iter().filter(|holding| holding.owner.is_some());
    let owned = owned.map(|holding| (holding.owner, &holding.assignment));
    let owned: Vec<_> = owned.filter(|(_, assignment)| in_force(assignment.from, assignment.until)).collect();
    let unowned: Vec<_> =
        assignments.unowned().into_iter().filter(|unowned| in_force(unowned.from, unowned.until)).collect();
    let owner_of = |k: u64| {
        let of_agents = owned.iter().filter(|(_, assignment)| assignment.share.owns(k)).map(|(owner, _)| *owner);
        let of_nobody = unowned.iter().filter(|unowned| unowned.share.owns(k)).map(|_| None);
        let all: Vec<Option<u32>> = of_agents.chain(of_nobody).collect();
        assert_eq!(all.len(), 1, "slot {k} at {at:?} belongs to {all:?}");
        all[0]
    };
    (0..assignments.cycle.length() as u64).map(owner_of).collect()
}

/// The thousandths of the load that an agent owns at a moment.
fn permille(assignments: &Assignments<u32>, at: Duration, agent: u32) -> usize {
    let owners = owners(assignments, at);
    owners.iter().filter(|owner| **owner == Some(agent)).count() * 1000 / owners.len()
}

fn generations_to_end(orders: &[Told], of: u32) -> Vec<u32> {
    let end = |order: &Told| match order {
        Order::End { agent, generation, .. } if *agent == of => Some(*generation),
        Order::End { .. } | Order::Give { .. } => None,
    };
    orders.iter().filter_map(end).collect()
}

fn given_to(orders: &[Told], to: u32) -> Vec<&Assignment> {
    let given = |order| match order {
        &Order::Give { agent, ref assignment } if agent == to => Some(assignment),
        Order::End { .. } | Order::Give { .. } => None,
    };
    orders.iter().filter_map(given).collect()
}

#[test]
fn the_first_shares_are_those_of_the_weights() {
    let weights = [2, 1, 1];
    let members: Vec<_> = (1..).zip(weights).map(|(agent, weight)| Member { weight, ..member(agent) }).collect();
    let (_, orders) = Assignments::initial(&members, OnAgentLoss::Redistribute).unwrap();
    let shares: Vec<Share> = (0..3).map(|index| Share::weighted(index, &weights).unwrap()).collect();
    let given: Vec<Share> = (1..=3).map(|agent| given_to(&orders, agent)[0].share.clone()).collect();
    assert_eq!(given, shares);
}

#[test]
fn limits_hold_from_the_start_and_what_nobody_may_take_is_known() {
    let limited = |agent, limit| Member { limit: Some(limit), ..member(agent) };
    let assignments = start(&[limited(1, 0.1), member(2), limited(3, 0.2)]);
    let parts = [1, 2, 3].map(|agent| permille(&assignments, s(0), agent));
    assert_eq!(parts, [100, 700, 200]);
    let assignments = start(&[limited(1, 0.1), limited(3, 0.2)]);
    assert_eq!(assignments.unowned().len(), 1);
    assert_eq!(owners(&assignments, s(0)).iter().filter(|owner| owner.is_none()).count(), 504);
}

#[test]
fn a_lost_share_is_dealt_out_from_a_moment_ahead() {
    let mut assignments = three();
    let orders = assignments.lost(2, s(20));
    assert_eq!(orders.len(), 2);
    let of_one = given_to(&orders, 1);
    assert_eq!((of_one[0].share.slots(), of_one[0].share.of(), of_one[0].from), (&[1][..], 6, s(20)));
    assert_eq!([1, 2, 3].map(|agent| permille(&assignments, s(19), agent)), [333, 333, 333]);
    assert_eq!([1, 2, 3].map(|agent| permille(&assignments, s(20), agent)), [500, 0, 500]);
    assert!(assignments.lost(2, s(30)).is_empty(), "once");
}

#[test]
fn survivors_take_no_more_than_they_may() {
    let mut assignments = start(&[member(1), Member { limit: Some(0.4), ..member(2) }, member(3)]);
    assignments.lost(3, s(20));
    assert_eq!([1, 2].map(|agent| permille(&assignments, s(20), agent)), [600, 400]);
    assignments.lost(1, s(30));
    assert_eq!(permille(&assignments, s(30), 2), 400);
    assert_eq!(assignments.unowned().iter().map(|unowned| unowned.from).collect::<Vec<_>>(), [s(30)]);
    // Whoever joins takes what nobody has, and there is nobody to wait for.
    let orders = assignments.join(member(4), s(40));
    assert!(!assignments.is_changing() || generations_to_end(&orders, 2).is_empty());
    assert_eq!([2, 4].map(|agent| permille(&assignments, s(40), agent)), [400, 600]);
}

#[test]
fn where_nobody_may_take_over_nobody_does() {
    for policy in [OnAgentLoss::Continue, OnAgentLoss::Abort] {
        let (mut assignments, _) = Assignments::initial(&[member(1), member(2)], policy).unwrap();
        assert!(assignments.lost(1, s(20)).is_empty());
        assert_eq!(assignments.unowned().len(), 1);
        let orders = assignments.join(member(3), s(30));
        let [generation] = generations_to_end(&orders, 2)[..] else { panic!("{orders:?}") };
        assignments.released(2, generation, s(30), true, s(40));
        assert_eq!([2, 3].map(|agent| permille(&assignments, s(30), agent)), [250, 250]);
    }
}

#[test]
fn one_that_leaves_is_asked_first_and_there_is_no_gap() {
    let mut assignments = three();
    let orders = assignments.leave(1, s(20));
    assert_eq!(orders.len(), 1, "nobody gets anything yet: {orders:?}");
    let orders = assignments.released(1, 1, s(20), true, s(25));
    assert_eq!(orders.len(), 2);
    assert!(orders.iter().all(|order| matches!(order, Order::Give { assignment, .. } if assignment.from == s(20))));
    assert_eq!([1, 2, 3].map(|agent| permille(&assignments, s(20), agent)), [0, 500, 500]);
}

#[test]
fn one_that_leaves_but_was_asked_too_late_is_asked_again() {
    let mut assignments = three();
    assignments.leave(1, s(20));
    let orders = assignments.released(1, 1, s(20), false, s(25));
    assert_eq!(orders, [Order::End { agent: 1, generation: 1, at: s(25), instead: None }]);
    assert_eq!(permille(&assignments, s(30), 1), 333);
    assert!(assignments.released(1, 1, s(20), false, s(26)).is_empty(), "the same answer again");
    assignments.released(1, 1, s(25), true, s(30));
    assert_eq!([1, 2, 3].map(|agent| permille(&assignments, s(24), agent)), [333, 333, 333]);
    assert_eq!([1, 2, 3].map(|agent| permille(&assignments, s(25), agent)), [0, 500, 500]);
}

#[test]
fn one_that_joins_waits_for_all_releases() {
    let mut assignments = start(&[member(1), member(2)]);
    let orders = assignments.join(member(3), s(20));
    assert_eq!((orders.len(), given_to(&orders, 3).len()), (2, 0));
    assert_eq!(assignments.orders(1).len(), 2, "told again: what it owns, and what is to end");
    assert!(assignments.released(1, 1, s(20), true, s(21)).is_empty());
    owners(&assignments, s(20));
    let orders = assignments.released(2, 2, s(20), true, s(22));
    let [given] = given_to(&orders, 3)[..] else { panic!("{orders:?}") };
    assert_eq!((given.from, given.share.slots().len() * 3), (s(20), given.share.of() as usize));
    assert_eq!([1, 2, 3].map(|agent| permille(&assignments, s(20), agent)), [333, 333, 333]);
}

#[test]
fn an_owner_that_was_asked_too_late_keeps_what_it_has() {
    let mut assignments = start(&[member(1), member(2)]);
    assignments.join(member(3), s(20));
    assignments.released(1, 1, s(20), false, s(21));
    assignments.released(2, 2, s(20), true, s(22));
    assert_eq!([1, 2, 3].map(|agent| permille(&assignments, s(20), agent)), [500, 333, 166]);
    assert_eq!(assignments.history().iter().filter(|holding| holding.is_void()).count(), 1);
}

#[test]
fn an_owner_that_is_lost_before_it_answers_owns_all_of_it_until_its_end() {
    let mut assignments = start(&[member(1), member(2)]);
    assignments.join(member(3), s(20));
    assignments.released(2, 2, s(20), true, s(21));
    assignments.lost(1, s(40));
    assert_eq!([1, 2, 3].map(|agent| permille(&assignments, s(30), agent)), [500, 333, 166]);
    assert_eq!([1, 2, 3].map(|agent| permille(&assignments, s(40), agent)), [0, 583, 416]);
    assert!(assignments.released(1, 1, s(20), true, s(41)).is_empty(), "too late");
    owners(&assignments, s(50));
}

#[test]
fn what_was_released_for_one_that_is_lost_goes_to_the_others() {
    let mut assignments = start(&[member(1), member(2)]);
    assignments.join(member(3), s(20));
    assignments.released(1, 1, s(20), true, s(21));
    assignments.lost(3, s(40));
    assignments.released(2, 2, s(20), true, s(45));
    assert_eq!([1, 2].map(|agent| permille(&assignments, s(45), agent)), [500, 500]);
}

#[test]
fn one_that_leaves_gives_nothing_to_a_lost_one_that_joined_and_is_asked_anew() {
    let mut assignments = three();
    assignments.join(member(4), s(20));
    assignments.leave(1, s(21));
    assignments.lost(4, s(22));
    assert!(assignments.released(1, 1, s(20), false, s(25)).is_empty(), "it keeps all of generation 1");
    assignments.released(2, 2, s(20), true, s(26));
    let orders = assignments.released(3, 3, s(20), true, s(27));
    assert_eq!(generations_to_end(&orders, 1), [1]);
    assert_eq!(permille(&assignments, s(40), 1), 333);
}

#[test]
fn changes_wait_for_each_other_but_a_loss_waits_for_nobody() {
    let mut assignments = three();
    assignments.join(member(4), s(20));
    assert!(assignments.join(member(5), s(21)).is_empty());
    assert!(assignments.leave(2, s(22)).is_empty());
    let orders = assignments.lost(3, s(30));
    assert_eq!(given_to(&orders, 2).len(), 0, "it is leaving");
    assignments.released(1, 1, s(20), true, s(31));
    let orders = assignments.released(2, 2, s(20), true, s(32));
    assert!(!given_to(&orders, 4).is_empty() && !generations_to_end(&orders, 1).is_empty(), "the next begins");
    owners(&assignments, s(60));
}

#[test]
fn histories_do_not_make_shares_longer_without_end() {
    let mut assignments = start(&[member(1), member(2), member(3)]);
    for round in 0..60 {
        let (now, gone) = (s(u64::from(round) * 10 + 10), round % 3 + 1 + round / 3 * 10);
        assignments.lost(gone, now);
        let mut orders = assignments.join(member(gone + 10), now + s(5));
        while let Some(Order::End { agent, generation, at, .. }) =
            orders.iter().find(|order| matches!(order, Order::End { .. })).cloned()
        {
            orders.retain(|order| !matches!(order, Order::End { generation: same, .. } if *same == generation));
            orders.extend(assignments.released(agent, generation, at, true, now + s(5)));
        }
    }
    let live = assignments.history().iter().filter(|holding| holding.assignment.until.is_none()).count();
    assert!(live <= 30, "{live} assignments in force");
    let longest = assignments.history().iter().map(|holding| holding.assignment.share.of()).max();
    assert_eq!(longest, Some(720));
    owners(&assignments, s(10_000));
}

/// What may happen, with small numbers that are reduced to what there is.
#[derive(Debug, Clone)]
enum Happens {
    Join { weight: u32, limit: Option<f64> },
    Leave(usize),
    Lost(usize),
    Answer { which: usize, ok: bool },
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        2 => (0_u32..4, prop::option::of(0.0..1.0)).prop_map(|(weight, limit)| Happens::Join { weight, limit }),
        1 => any::<usize>().prop_map(Happens::Leave),
        2 => any::<usize>().prop_map(Happens::Lost),
        6 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(which, ok)| Happens::Answer { which, ok }),
    ]
}

/// Drives a history; answers come for orders that were told and for ones that are no longer waited for.
struct Driven {
    assignments: Assignments<u32>,
    members: Vec<Member<u32>>,
    asked: Vec<(u32, u32, Duration)>,
    moments: Vec<Duration>,
    next: u32,
}

impl Driven {
    fn new(weights: &[u32]) -> Option<Driven> {
        let members: Vec<_> =
            (1..).zip(weights).map(|(agent, weight)| Member { weight: *weight, ..member(agent) }).collect();
        let (assignments, _) = Assignments::initial(&members, OnAgentLoss::Redistribute).ok()?;
        let next = members.len() as u32 + 1;
        Some(Driven { assignments, members, asked: Vec::new(), moments: vec![s(0)], next })
    }

    fn step(&mut self, happens: &Happens, after: u64) {
        let at = *self.moments.last().unwrap() + s(after);
        self.moments.push(at);
        let orders = match happens {
            Happens::Join { weight, limit } => {
                let member = Member { agent: self.next, weight: *weight, limit: *limit };
                self.next += 1;
                self.members.push(member);
                self.assignments.join(member, at)
            }
            Happens::Leave(which) => match self.pick(*which) {
                Some(agent) => self.assignments.leave(agent, at),
                None => return,
            },
            Happens::Lost(which) => match self.pick(*which) {
                Some(agent) => {
                    self.members.retain(|member| member.agent != agent);
                    self.assignments.lost(agent, at)
                }
                None => return,
            },
            Happens::Answer { which, ok } if !self.asked.is_empty() => {
                let (agent, generation, asked) = self.asked[which % self.asked.len()];
                self.assignments.released(agent, generation, asked, *ok, at)
            }
            Happens::Answer { .. } => return,
        };
        self.asked.extend(orders.iter().filter_map(|order| match order {
            Order::End { agent, generation, at, .. } => Some((*agent, *generation, *at)),
            Order::Give { .. } => None,
        }));
    }

    fn pick(&self, which: usize) -> Option<u32> {
        let at = which.checked_rem(self.members.len())?;
        self.members.get(at).map(|member| member.agent)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn whatever_happens_each_ordinal_has_one_owner_or_is_known_to_have_none(
        weights in prop::collection::vec(0_u32..4, 1..6),
        histories in prop::collection::vec((happens(), 0_u64..4), 0..24),
    ) {
        let Some(mut driven) = Driven::new(&weights) else { return Ok(()) };
        for (happens, after) in &histories {
            driven.step(happens, *after);
        }
        for moment in driven.moments.clone() {
            let owners = owners(&driven.assignments, moment);
            for member in driven.members.iter().filter(|member| member.limit.is_some()) {
                let owned = owners.iter().filter(|owner| **owner == Some(member.agent)).count();
                prop_assert!(owned as f64 <= member.limit.unwrap() * owners.len() as f64, "{member:?} owns {owned}");
            }
        }
    }

    #[test]
    fn the_same_events_give_the_same_history(
        weights in prop::collection::vec(1_u32..4, 1..6),
        histories in prop::collection::vec((happens(), 0_u64..4), 0..24),
    ) {
        let (Some(mut one), Some(mut other)) = (Driven::new(&weights), Driven::new(&weights)) else { return Ok(()) };
        for (happens, after) in &histories {
            one.step(happens, *after);
            other.step(happens, *after);
        }
        prop_assert_eq!(one.assignments.history(), other.assignments.history());
        prop_assert_eq!(one.asked, other.asked);
    }
}
