//! How the slots of a cycle are dealt out.
//!
//! All shares of a run are sets of slots of one cycle whose length stays what it was at the start, so that however often
//! they are parted and put together, a share never needs more than the cycle's slots.

use groundswell_scenario::Share;

use super::super::mutants::{self, Mutant};

/// A cycle is at least so long: what one slot more or less makes of the load is below 0.15 %.
const LEAST_SLOTS: u32 = 720;
/// The start's cycle is made longer by one of these factors. They have many divisors, so that equal parts come out even.
const FACTORS: &[u32] = &[1, 2, 4, 6, 12, 24, 36, 48, 60, 120, 180, 240, 360, LEAST_SLOTS];

/// The cycle that all shares of a run have slots of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cycle {
    length: u32,
}

impl Cycle {
    /// One in which shares of this cycle can be expressed.
    pub(super) fn over(of: u32) -> Self {
        let long_enough = |factor: &&u32| of.saturating_mul(**factor) >= LEAST_SLOTS;
        let factor = FACTORS.iter().find(long_enough).copied().unwrap_or(1);
        Cycle { length: of.saturating_mul(factor) }
    }

    pub(super) fn length(self) -> usize {
        self.length as usize
    }

    /// The slots of a share whose own cycle divides this one.
    pub(super) fn slots(self, share: &Share) -> Vec<u32> {
        let below = share.count_below(u64::from(self.length));
        (0..below).filter_map(|nth| u32::try_from(share.nth(nth)).ok()).collect()
    }

    /// The share with these ascending slots, in its shortest cycle.
    pub(super) fn share(self, slots: &[u32]) -> Share {
        let mut of = self.length;
        let mut owned = slots.len();
        let mut prime = 2;
        while prime <= of {
            let shorter = of / prime;
            let repeats = of.is_multiple_of(prime) && owned.is_multiple_of(prime as usize) && {
                let period = owned / prime as usize;
                (period..owned).all(|index| slots[index] == slots[index - period] + shorter)
            };
            if repeats {
                (of, owned) = (shorter, owned / prime as usize);
            } else {
                prime += 1;
            }
        }
        // Ascending and within the cycle, so it is one; owning nothing is what does no harm.
        Share::try_from((slots[..owned].to_vec(), of)).unwrap_or_else(|_| Share::nth_of(1, 1))
    }
}

/// What somebody would take of what is dealt out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    /// In relation to the others'.
    pub(super) weight: u64,
    /// More than so many slots are never taken.
    pub(super) most: usize,
}

/// How many of `slots` slots each claim gets: in proportion to the weights, as far as each may take them.
pub(super) fn quotas(slots: usize, claims: &[Claim]) -> Vec<usize> {
    let mut quotas = vec![0; claims.len()];
    let mut left = slots;
    let mut open: Vec<usize> = (0..claims.len()).filter(|index| claims[*index].weight > 0).collect();
    loop {
        let total: u128 = open.iter().map(|index| u128::from(claims[*index].weight)).sum();
        if total == 0 {
            return quotas;
        }
        let part = |index: &usize| left as u128 * u128::from(claims[*index].weight);
        let (full, rest): (Vec<usize>, Vec<usize>) =
            open.iter().partition(|index| part(index) >= claims[**index].most as u128 * total);
        if full.is_empty() {
            // Whole slots first; what remains goes one by one to those who miss the most.
            for index in &rest {
                quotas[*index] = usize::try_from(part(index) / total).unwrap_or(0);
            }
            let dealt: usize = rest.iter().map(|index| quotas[*index]).sum();
            let mut missing = rest;
            missing.sort_by_key(|index| std::cmp::Reverse(part(index) % total));
            for index in missing.into_iter().take(left - dealt) {
                quotas[index] += 1;
            }
            return quotas;
        }
        for index in full {
            quotas[index] = claims[index].most;
            left -= claims[index].most;
        }
        open = rest;
    }
}

/// Parts ascending slots: a part for each quota, and last what is left. The turns of each part spread over all of the
/// slots, so that nobody's operations bunch.
pub(super) fn part(slots: &[u32], quotas: &[usize]) -> Vec<Vec<u32>> {
    let left = slots.len().saturating_sub(quotas.iter().sum());
    let sizes = quotas.iter().copied().chain([left]);
    let mut turns: Vec<(u64, u64, usize)> = Vec::with_capacity(slots.len());
    for (owner, size) in sizes.enumerate() {
        // Turn j of an owner with n turns stands at (2j + 1) / 2n of the way.
        turns.extend((0..size as u64).map(|turn| (2 * turn + 1, size as u64, owner)));
    }
    // A stable sort: of turns at the same place, the first owner's comes first.
    turns.sort_by(|one, other| (one.0 * other.1).cmp(&(other.0 * one.1)));
    let mut parts = vec![Vec::new(); quotas.len() + 1];
    for (slot, (_, _, owner)) in slots.iter().zip(turns) {
        parts[owner].push(*slot);
    }
    if mutants::is(Mutant::WrongStripe) && parts[0].len() > 1 {
        // Every other turn of the first part is somebody else's.
        parts[0] = slots.iter().take(parts[0].len()).copied().collect();
    }
    parts
}

/// Puts sets of slots together.
pub(super) fn union(sets: impl IntoIterator<Item = Vec<u32>>) -> Vec<u32> {
    let mut slots: Vec<u32> = sets.into_iter().flatten().collect();
    slots.sort_unstable();
    slots
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(weight: u64, most: usize) -> Claim {
        Claim { weight, most }
    }

    #[test]
    fn a_cycle_keeps_the_shares_of_the_start() {
        for of in [1, 2, 3, 5, 7, 16, 719, 720, 1 << 20] {
            let cycle = Cycle::over(of);
            assert!(cycle.length() >= 720 && cycle.length().is_multiple_of(of as usize), "{of}");
            let share = Share::nth_of(of - 1, of);
            assert_eq!(cycle.share(&cycle.slots(&share)), share);
        }
    }

    #[test]
    fn parts_of_parts_come_out_in_their_shortest_cycle() {
        let cycle = Cycle::over(3);
        let lost = cycle.slots(&Share::nth_of(1, 3));
        let parts = part(&lost, &quotas(lost.len(), &[claim(1, usize::MAX), claim(1, usize::MAX)]));
        let shares: Vec<Share> = parts.iter().map(|slots| cycle.share(slots)).collect();
        assert_eq!((shares[0].slots(), shares[0].of()), (&[1][..], 6));
        assert_eq!((shares[1].slots(), shares[1].of()), (&[4][..], 6));
        assert!(shares[2].slots().is_empty());
        assert_eq!(cycle.share(&union(parts)), Share::nth_of(1, 3));
    }

    #[test]
    fn nobody_gets_more_than_it_may_and_the_others_get_the_rest() {
        assert_eq!(quotas(90, &[claim(1, 10), claim(1, 90), claim(1, 90)]), [10, 40, 40]);
        assert_eq!(quotas(90, &[claim(1, 10), claim(1, 20)]), [10, 20], "60 stay");
        assert_eq!(quotas(90, &[claim(0, 90), claim(2, 90), claim(1, 90)]), [0, 60, 30]);
        assert_eq!(quotas(10, &[claim(1, 90), claim(1, 90), claim(1, 90)]), [4, 3, 3]);
        assert_eq!(quotas(90, &[claim(0, 90)]), [0]);
        assert_eq!(quotas(0, &[claim(1, 0)]), [0]);
    }

    proptest! {
        #[test]
        fn quotas_deal_out_all_that_may_be_taken(
            slots in 0_usize..3000, claims in prop::collection::vec((0_u64..9, 0_usize..1500), 0..8),
        ) {
            let claims: Vec<Claim> = claims.into_iter().map(|(weight, most)| claim(weight, most)).collect();
            let quotas = quotas(slots, &claims);
            let may: usize = claims.iter().filter(|claim| claim.weight > 0).map(|claim| claim.most).sum();
            prop_assert_eq!(quotas.iter().sum::<usize>(), slots.min(may));
            prop_assert!(quotas.iter().zip(&claims).all(|(quota, claim)| *quota <= claim.most));
        }

        #[test]
        fn parts_are_the_whole_and_stay_in_proportion_all_along(sizes in prop::collection::vec(0_usize..200, 0..6)) {
            let all: usize = sizes.iter().sum();
            let slots: Vec<u32> = (0_u32..).step_by(3).take(all).collect();
            let parts = part(&slots, &sizes);
            prop_assert_eq!(union(parts.clone()), slots.clone());
            for (part, size) in parts.iter().zip(&sizes) {
                prop_assert_eq!(part.len(), *size);
                for (turn, slot) in part.iter().enumerate() {
                    let place = (*slot / 3) as f64 / all as f64 * *size as f64;
                    prop_assert!((place - turn as f64).abs() <= sizes.len() as f64 + 1.0);
                }
            }
        }
    }
}
