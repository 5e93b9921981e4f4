//! Which ordinals belong to which agent and worker.

/// Most slots that weights may make of one cycle: a share travels as the list of its slots.
const MOST_SLOTS: u64 = 1 << 20;

/// The exact part of a schedule that one agent or worker owns: ordinals `k` with `k mod of` among `slots`.
///
/// Owners take turns, so that no owner's operations bunch on one instant. The shares of a cycle part every schedule,
/// whatever its length, without a lost remainder.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Share {
    /// Ascending, each once, below `of`.
    slots: Vec<u32>,
    /// Length of the cycle, at least 1.
    of: u32,
}

/// Why something is no [`Share`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidShare {
    /// A cycle of no slots.
    #[error("share has a cycle of 0 slots")]
    NoCycle,
    /// A slot outside of the cycle.
    #[error("share owns slot {slot}, but its cycle has {of} slots")]
    OutsideCycle {
        /// The slot.
        slot: u32,
        /// Slots of the cycle.
        of: u32,
    },
    /// Slots must ascend.
    #[error("share lists slot {slot} after slot {after}; slots must ascend")]
    Unsorted {
        /// The slot.
        slot: u32,
        /// The one listed before it.
        after: u32,
    },
    /// No weight for this owner.
    #[error("share {index} of {owners} weighted owners does not exist")]
    NoSuchOwner {
        /// Number of the owner.
        index: usize,
        /// Number of weights.
        owners: usize,
    },
    /// Weights too great for a cycle.
    #[error("weights make a cycle of {slots} slots; at most {MOST_SLOTS} are allowed")]
    TooManySlots {
        /// Sum of the weights in lowest terms.
        slots: u64,
    },
}

impl Share {
    /// Everything.
    pub fn whole() -> Self {
        Share { slots: vec![0], of: 1 }
    }

    /// The part of owner `index` (from 0) of `owners` equal ones. An owner beyond them owns nothing.
    pub fn nth_of(index: u32, owners: u32) -> Self {
        let slots = if index < owners { vec![index] } else { Vec::new() };
        Share { slots, of: owners.max(1) }
    }

    /// The part of owner `index` (from 0) where each owns in proportion to its weight. An owner of weight 0 owns nothing.
    pub fn weighted(index: usize, weights: &[u32]) -> Result<Self, InvalidShare> {
        if index >= weights.len() {
            return Err(InvalidShare::NoSuchOwner { index, owners: weights.len() });
        }
        // In lowest terms, so that equal weights make the shortest cycle.
        let divisor = weights.iter().copied().fold(0, gcd);
        if divisor == 0 {
            return Err(InvalidShare::NoCycle);
        }
        let cycle = weights.iter().map(|weight| u64::from(weight / divisor)).sum();
        let of = u32::try_from(cycle).ok().filter(|_| cycle <= MOST_SLOTS);
        let of = of.ok_or(InvalidShare::TooManySlots { slots: cycle })?;
        // Turn j of an owner with w turns stands at (2j + 1) / 2w of the cycle, so that its turns spread over all of it.
        let turns = |(owner, weight): (usize, &u32)| {
            let turns = u64::from(weight / divisor);
            (0..turns).map(move |turn| (2 * turn + 1, turns, owner))
        };
        let mut order: Vec<(u64, u64, usize)> = weights.iter().enumerate().flat_map(turns).collect();
        // A stable sort: of turns at the same place, the first owner's comes first.
        order.sort_by(|left, right| (left.0 * right.1).cmp(&(right.0 * left.1)));
        let own = (0..of).zip(&order).filter(|(_, (_, _, owner))| *owner == index);
        let slots = own.map(|(slot, _)| slot).collect();
        Ok(Share { slots, of })
    }

    /// The part of worker `worker` (from 0) of `workers`: every `workers`-th of the ordinals of this share. The parts of
    /// all workers together are this share. A worker beyond them owns nothing.
    pub fn split(&self, worker: u32, workers: u32) -> Self {
        // Where the longer cycle can't be numbered, fewer workers share the same ordinals and the others own nothing.
        let workers = workers.clamp(1, u32::MAX / self.of);
        if worker >= workers {
            return Share { slots: Vec::new(), of: self.of };
        }
        self.part(&Share::nth_of(worker, workers))
    }

    /// The part of owner `index` (from 0) of this share, where each gets turns of it in proportion to its weight. The parts
    /// of all owners together are this share. An owner of weight 0 gets nothing.
    ///
    /// Shares that are handed on again and again have longer and longer cycles; where the weights would make one of too
    /// many slots, owners with any weight get equal parts instead.
    ///
    /// # Errors
    /// Those of [`Share::weighted`] with these weights, so never for some of the weights that it took before, unless all
    /// of them are 0.
    pub fn split_weighted(&self, index: usize, weights: &[u32]) -> Result<Self, InvalidShare> {
        let turns = Share::weighted(index, weights)?;
        // The same for every owner, so that all of them part the share in the same way.
        let slots = self.slots.len() as u64 * u64::from(turns.of);
        if self.of.checked_mul(turns.of).is_some() && slots <= MOST_SLOTS {
            return Ok(self.part(&turns));
        }
        let owners = |weights: &[u32]| weights.iter().filter(|weight| **weight > 0).count();
        let all = u32::try_from(owners(weights)).unwrap_or(u32::MAX);
        let before = u32::try_from(owners(&weights[..index])).unwrap_or(u32::MAX);
        Ok(if weights[index] > 0 { self.split(before, all) } else { Share { slots: Vec::new(), of: self.of } })
    }

    /// Those of its ordinals whose turns another share owns. The product of the two cycles must be a u32.
    fn part(&self, turns: &Share) -> Self {
        // Over as many of its cycles as the other has slots, the other's cycle comes round once for each slot of its own.
        let count = self.slots.len() as u64 * turns.slots.len() as u64;
        let slots = (0..count).filter_map(|turn| u32::try_from(self.nth(turns.nth(turn))).ok());
        Share { slots: slots.collect(), of: self.of * turns.of }
    }

    /// Does ordinal `k` belong to it?
    pub fn owns(&self, k: u64) -> bool {
        self.slots.binary_search(&self.slot_of(k)).is_ok()
    }

    /// Its `i`-th ordinal (from 0); `u64::MAX` where it has none so far.
    pub fn nth(&self, i: u64) -> u64 {
        let turns = self.slots.len() as u64;
        if turns == 0 {
            return u64::MAX;
        }
        let start = (i / turns).saturating_mul(u64::from(self.of));
        // A remainder of a division by the length is below it.
        start.saturating_add(u64::from(self.slots[(i % turns) as usize]))
    }

    /// How many of the ordinals `0..n` belong to it.
    pub fn count_below(&self, n: u64) -> u64 {
        let slot = self.slot_of(n);
        let begun = self.slots.partition_point(|owned| *owned < slot) as u64;
        // Never above n: it owns at most `of` of every `of` ordinals.
        n / u64::from(self.of) * self.slots.len() as u64 + begun
    }

    /// Slots of the cycle that it owns, ascending.
    pub fn slots(&self) -> &[u32] {
        &self.slots
    }

    /// Length of the cycle.
    pub fn of(&self) -> u32 {
        self.of
    }

    fn slot_of(&self, k: u64) -> u32 {
        // A remainder of a division by a u32 is one.
        (k % u64::from(self.of)) as u32
    }
}

impl TryFrom<(Vec<u32>, u32)> for Share {
    type Error = InvalidShare;

    /// A share of these slots in a cycle of so many.
    fn try_from((slots, of): (Vec<u32>, u32)) -> Result<Self, Self::Error> {
        if of == 0 {
            return Err(InvalidShare::NoCycle);
        }
        if let Some(pair) = slots.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(InvalidShare::Unsorted { slot: pair[1], after: pair[0] });
        }
        match slots.last() {
            Some(&slot) if slot >= of => Err(InvalidShare::OutsideCycle { slot, of }),
            _ => Ok(Share { slots, of }),
        }
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    /// Whose each of the first `n` ordinals is; fails where one has no owner or two.
    fn owners(shares: &[Share], n: u64) -> Vec<usize> {
        let owners_of = |k| (0..shares.len()).filter(move |owner| shares[*owner].owns(k)).collect::<Vec<_>>();
        (0..n)
            .map(|k| match owners_of(k).as_slice() {
                [owner] => *owner,
                owners => panic!("ordinal {k} belongs to {owners:?}"),
            })
            .collect()
    }

    fn weighted(weights: &[u32]) -> Vec<Share> {
        (0..weights.len()).map(|index| Share::weighted(index, weights).unwrap()).collect()
    }

    #[test]
    fn weighted_owners_take_turns_in_proportion() {
        assert_eq!(owners(&weighted(&[2, 1]), 6), [0, 1, 0, 0, 1, 0]);
        assert_eq!(owners(&weighted(&[1, 3]), 4), [1, 0, 1, 1]);
        assert_eq!(owners(&weighted(&[3, 3]), 4), [0, 1, 0, 1]);
        assert_eq!(owners(&weighted(&[4, 0, 2]), 3), [0, 2, 0]);
        assert_eq!(weighted(&[5, 5, 5]), (0..3).map(|index| Share::nth_of(index, 3)).collect::<Vec<_>>());
    }

    #[test]
    fn weights_that_make_no_share_are_refused() {
        assert_eq!(Share::weighted(2, &[1, 1]), Err(InvalidShare::NoSuchOwner { index: 2, owners: 2 }));
        assert_eq!(Share::weighted(0, &[0, 0]), Err(InvalidShare::NoCycle));
        let slots = u64::from(u32::MAX) + 1;
        assert_eq!(Share::weighted(0, &[u32::MAX, 1]), Err(InvalidShare::TooManySlots { slots }));
    }

    #[test]
    fn parts_from_outside_are_checked() {
        assert_eq!(Share::try_from((vec![0, 2], 3)).map(|share| share.nth(3)), Ok(5));
        assert_eq!(Share::try_from((vec![], 0)), Err(InvalidShare::NoCycle));
        assert_eq!(Share::try_from((vec![0, 3], 3)), Err(InvalidShare::OutsideCycle { slot: 3, of: 3 }));
        assert_eq!(Share::try_from((vec![1, 1], 3)), Err(InvalidShare::Unsorted { slot: 1, after: 1 }));
    }

    #[test]
    fn extremes_neither_overflow_nor_lose_an_ordinal() {
        let last = Share::nth_of(u32::MAX - 1, u32::MAX);
        assert_eq!(last.nth(u64::MAX), u64::MAX);
        assert_eq!((last.split(0, 16), last.split(1, 16).count_below(u64::MAX)), (last.clone(), 0));
        assert_eq!(Share::whole().count_below(u64::MAX), u64::MAX);
        let nobody = Share::nth_of(0, 0);
        assert_eq!((nobody.nth(0), nobody.count_below(u64::MAX), nobody.owns(0)), (u64::MAX, 0, false));
        assert_eq!(nobody.split(0, 4).count_below(100), 0);
    }

    /// Where a cycle gets too long for the weights, the parts are equal, and still the share.
    #[test]
    fn a_share_that_was_handed_on_too_often_is_still_parted() {
        let share = Share::nth_of(5, 1 << 30);
        let parts: Vec<Share> = (0..3).map(|index| share.split_weighted(index, &[2, 0, 3]).unwrap()).collect();
        let count = |n| parts.iter().map(|part| part.count_below(n)).collect::<Vec<_>>();
        assert_eq!(count(4 << 30), [2, 0, 2]);
        let last = Share::nth_of(u32::MAX - 1, u32::MAX);
        assert_eq!(last.split_weighted(0, &[1, 2]).unwrap(), last);
        assert_eq!(last.split_weighted(1, &[1, 2]).unwrap().count_below(u64::MAX), 0);
        assert_eq!(share.split_weighted(0, &[0, 0]), Err(InvalidShare::NoCycle));
    }

    fn any_owners() -> impl Strategy<Value = Vec<Share>> {
        prop_oneof![
            (1_u32..=16).prop_map(|owners| (0..owners).map(|index| Share::nth_of(index, owners)).collect()),
            prop::collection::vec(0_u32..8, 1..=16)
                .prop_filter("somebody owns", |weights| weights.iter().any(|weight| *weight > 0))
                .prop_map(|weights| weighted(&weights)),
        ]
    }

    proptest! {
        #[test]
        fn shares_of_agents_and_of_their_workers_part_every_schedule(agents in any_owners(), workers in 1_u32..=5, n in 0_u64..2000) {
            let of_agents = owners(&agents, n);
            let split: Vec<Share> =
                agents.iter().flat_map(|agent| (0..workers).map(|worker| agent.split(worker, workers))).collect();
            let of_workers = owners(&split, n);
            for (agent, worker) in of_agents.into_iter().zip(of_workers) {
                prop_assert_eq!(worker / workers as usize, agent);
            }
        }

        /// However often shares are handed on, the parts are the share again.
        #[test]
        fn weighted_parts_of_a_share_are_the_share(
            agents in any_owners(),
            hands in prop::collection::vec(prop::collection::vec(0_u32..5, 1..6), 1..6),
            n in 0_u64..2000,
        ) {
            let of_agents = owners(&agents, n);
            let mut parts: Vec<(usize, Share)> = agents.into_iter().enumerate().collect();
            for weights in hands.iter().filter(|weights| weights.iter().any(|weight| *weight > 0)) {
                // One part of each agent at most, so that there are not too many of them.
                let agent = weights.len() % (parts.len().min(7));
                let (owner, share) = parts.swap_remove(agent);
                parts.extend((0..weights.len()).map(|index| (owner, share.split_weighted(index, weights).unwrap())));
            }
            let shares: Vec<Share> = parts.iter().map(|(_, share)| share.clone()).collect();
            let of_parts = owners(&shares, n).into_iter().map(|part| parts[part].0).collect::<Vec<_>>();
            prop_assert_eq!(of_parts, of_agents);
        }

        #[test]
        fn weighted_parts_are_in_proportion(agents in any_owners(), weights in prop::collection::vec(1_u32..8, 1..6)) {
            let total: u32 = weights.iter().sum();
            for share in &agents {
                let parts = (0..weights.len()).map(|index| share.split_weighted(index, &weights).unwrap());
                for (part, weight) in parts.zip(&weights) {
                    let wanted = share.count_below(5000) as f64 * f64::from(*weight) / f64::from(total);
                    let off = part.count_below(5000) as f64 - wanted;
                    prop_assert!(off.abs() <= 1.0 + f64::from(*weight), "{}", off);
                }
            }
        }

        #[test]
        fn workers_take_turns_in_their_agents_part(agents in any_owners(), workers in 1_u32..=5) {
            for agent in &agents {
                for i in (0..200).filter(|_| !agent.slots().is_empty()) {
                    let worker = u32::try_from(i % u64::from(workers)).unwrap();
                    prop_assert_eq!(agent.split(worker, workers).nth(i / u64::from(workers)), agent.nth(i));
                }
            }
        }

        #[test]
        fn counting_and_numbering_agree_with_owning(agents in any_owners(), n in 0_u64..500) {
            for share in &agents {
                let owned: Vec<u64> = (0..n).filter(|k| share.owns(*k)).collect();
                prop_assert_eq!(share.count_below(n), owned.len() as u64);
                for (i, k) in owned.into_iter().enumerate() {
                    prop_assert_eq!(share.nth(i as u64), k);
                }
            }
        }

        #[test]
        fn weights_are_kept_to_all_along_the_schedule(weights in prop::collection::vec(1_u32..8, 1..=16), n in 0_u64..3000) {
            let total: u32 = weights.iter().sum();
            for (share, weight) in weighted(&weights).iter().zip(&weights) {
                // Every owner is at most half a turn ahead or behind.
                let part = f64::from(*weight) / f64::from(total);
                let off = share.count_below(n) as f64 - n as f64 * part;
                prop_assert!(off.abs() <= 1.0 + part * weights.len() as f64 / 2.0, "{}", off);
            }
        }

        #[test]
        fn a_share_survives_the_wire(agents in any_owners()) {
            for share in agents {
                prop_assert_eq!(Share::try_from((share.slots().to_vec(), share.of())), Ok(share));
            }
        }
    }
}
