//! What changed since the last seal.

use std::collections::BTreeMap;

use crate::{Counters, Kind, Overflow, Room, Series, Sockets, StepId};

/// Figures of one timed step in one window.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StepDelta {
    /// Its account.
    pub counters: Counters,
    /// Its latencies, by `Kind as usize`.
    pub series: [Series; Kind::COUNT],
    /// Its WebSockets.
    pub sockets: Sockets,
}

/// What changed at one agent in one window. Adding deltas is associative and commutative, so that any grouping, order
/// and number of recorders gives the same figures.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delta {
    /// Start of the window, in microseconds of the run.
    pub from_us: u64,
    /// End of the window, in microseconds of the run.
    pub to_us: u64,
    /// Figures of each timed step that changed.
    pub steps: BTreeMap<StepId, StepDelta>,
    /// What happened in each room, by its name.
    pub rooms: BTreeMap<String, Room>,
}

impl StepDelta {
    /// Adds the figures of another; on an error nothing was added.
    pub fn add(&mut self, other: &StepDelta) -> Result<(), Overflow> {
        self.fits(other)?;
        self.add_checked(other);
        Ok(())
    }

    /// Can the figures of another be added?
    pub(crate) fn fits(&self, other: &StepDelta) -> Result<(), Overflow> {
        self.counters.fits(&other.counters)?;
        self.sockets.fits(&other.sockets)?;
        self.series.iter().zip(&other.series).try_for_each(|(series, others)| series.fits(others))
    }

    /// Adds the figures of another that is known to fit.
    pub(crate) fn add_checked(&mut self, other: &StepDelta) {
        self.counters.add_checked(&other.counters);
        self.sockets.add_checked(&other.sockets);
        self.series.iter_mut().zip(&other.series).for_each(|(series, others)| series.add_checked(others));
    }

    /// The latencies of one kind.
    pub fn series(&self, kind: Kind) -> &Series {
        &self.series[kind as usize]
    }
}

impl Delta {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.rooms.is_empty()
    }

    /// Adds the figures of another; the window becomes the least one that holds both. On an error nothing was added.
    pub fn add(&mut self, other: &Delta) -> Result<(), Overflow> {
        for (id, step) in &other.steps {
            self.steps.get(id).map_or(Ok(()), |known| known.fits(step))?;
        }
        for (name, room) in &other.rooms {
            self.rooms.get(name).map_or(Ok(()), |known| known.fits(room))?;
        }
        for (id, step) in &other.steps {
            self.steps.entry(*id).or_default().add_checked(step);
        }
        for (name, room) in &other.rooms {
            self.rooms.entry(name.clone()).or_default().add_checked(room);
        }
        self.from_us = self.from_us.min(other.from_us);
        self.to_us = self.to_us.max(other.to_us);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{delta_of, samples};

    fn added(left: &Delta, right: &Delta) -> Delta {
        let mut sum = left.clone();
        sum.add(right).unwrap();
        sum
    }

    #[test]
    fn a_sum_that_does_not_fit_changes_no_step() {
        let wrong =
            StepDelta { counters: Counters { issued: u64::MAX, ..Counters::default() }, ..StepDelta::default() };
        let fine = StepDelta { counters: Counters { issued: 1, ..Counters::default() }, ..StepDelta::default() };
        let mut delta = Delta {
            from_us: 5,
            to_us: 6,
            steps: [(StepId(0), fine.clone()), (StepId(1), fine.clone())].into(),
            ..Delta::default()
        };
        let before = delta.clone();
        let other =
            Delta { from_us: 0, to_us: 9, steps: [(StepId(0), fine), (StepId(1), wrong)].into(), ..Delta::default() };
        assert_eq!(delta.add(&other), Err(Overflow { figure: "issued" }));
        assert_eq!(delta, before);
    }

    proptest! {
        // Each case records several traces into histograms of 94 KB.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn adding_is_associative_and_commutative(
            traces in prop::array::uniform3(samples(40)), windows in prop::array::uniform3((0_u64..1000, 0_u64..1000)),
        ) {
            let mut deltas = traces.map(|trace| delta_of(&trace));
            for (delta, (from_us, length)) in deltas.iter_mut().zip(windows) {
                (delta.from_us, delta.to_us) = (from_us, from_us + length);
            }
            let [a, b, c] = &deltas;
            prop_assert_eq!(added(a, b), added(b, a));
            prop_assert_eq!(added(&added(a, b), c), added(a, &added(b, c)));
        }
    }
}
