//! What the coordinator has merged.

use std::collections::BTreeMap;

use crate::{Counters, Delta, Distribution, Kind, Overflow, Room, Series, Sockets, StepDelta, StepId};

/// The figures of a run so far: by step over all agents, and by agent.
///
/// By agent there are the counters of each step, but latencies only over all steps: what tells a slow agent from the
/// others, at the cost of a few series an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals {
    steps: Vec<StepDelta>,
    agents: BTreeMap<usize, AgentTotals>,
    rooms: BTreeMap<String, BTreeMap<usize, Room>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct AgentTotals {
    counters: BTreeMap<StepId, Counters>,
    /// Over all steps, by `Kind as usize`.
    series: [Series; Kind::COUNT],
}

/// Why a delta can't be merged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AbsorbError {
    /// A sum does not fit.
    #[error(transparent)]
    Overflow(#[from] Overflow),
    /// A step that the plan doesn't have.
    #[error("step {step} is not in the plan, which has {steps} steps")]
    UnknownStep {
        /// The step.
        step: u32,
        /// Steps of the plan.
        steps: usize,
    },
}

impl Totals {
    /// Nothing yet, for the steps `0..steps`.
    pub fn new(steps: usize) -> Self {
        Totals { steps: vec![StepDelta::default(); steps], agents: BTreeMap::new(), rooms: BTreeMap::new() }
    }

    /// Merges a delta of an agent: all of it, or on an error nothing.
    pub fn absorb(&mut self, agent: usize, delta: &Delta) -> Result<(), AbsorbError> {
        let mut agent_totals = self.agents.get(&agent).cloned().unwrap_or_default();
        let mut steps = Vec::with_capacity(delta.steps.len());
        for (id, step) in &delta.steps {
            let unknown = AbsorbError::UnknownStep { step: id.0, steps: self.steps.len() };
            steps.push((id.0 as usize, self.steps.get(id.0 as usize).ok_or(unknown)?.clone().plus(step)?));
            agent_totals.counters.entry(*id).or_default().add(&step.counters)?;
            for (series, others) in agent_totals.series.iter_mut().zip(&step.series) {
                series.merge(others)?;
            }
        }
        let none = Room::default();
        let mut rooms = Vec::with_capacity(delta.rooms.len());
        for (name, room) in &delta.rooms {
            let known = self.rooms.get(name).and_then(|agents| agents.get(&agent)).unwrap_or(&none);
            rooms.push((name, known.sums(room)?, room));
        }
        for (index, step) in steps {
            self.steps[index] = step;
        }
        for (name, sums, room) in rooms {
            self.rooms.entry(name.clone()).or_default().entry(agent).or_default().apply(sums, room);
        }
        self.agents.insert(agent, agent_totals);
        Ok(())
    }

    /// Steps of the plan.
    pub fn steps(&self) -> impl Iterator<Item = StepId> + use<> {
        (0..u32::try_from(self.steps.len()).unwrap_or(u32::MAX)).map(StepId)
    }

    /// Agents that a delta came from.
    pub fn agents(&self) -> impl Iterator<Item = usize> + '_ {
        self.agents.keys().copied()
    }

    /// The account of a step; none for a step that the plan doesn't have.
    pub fn counters(&self, step: StepId) -> Option<&Counters> {
        self.steps.get(step.0 as usize).map(|step| &step.counters)
    }

    /// The account of a step at one agent; none where the agent has told nothing of it.
    pub fn counters_of(&self, agent: usize, step: StepId) -> Option<&Counters> {
        self.agents.get(&agent)?.counters.get(&step)
    }

    /// The account of these steps together.
    pub fn merged_counters(&self, steps: impl IntoIterator<Item = StepId>) -> Result<Counters, Overflow> {
        add_up(steps.into_iter().filter_map(|step| self.counters(step)))
    }

    /// The account of one agent over all steps.
    pub fn agent_counters(&self, agent: usize) -> Result<Counters, Overflow> {
        add_up(self.agents.get(&agent).into_iter().flat_map(|agent| agent.counters.values()))
    }

    /// The WebSockets of these steps together.
    pub fn sockets(&self, steps: impl IntoIterator<Item = StepId>) -> Result<Sockets, Overflow> {
        let mut all = Sockets::default();
        let steps = steps.into_iter().filter_map(|step| self.steps.get(step.0 as usize));
        steps.map(|step| &step.sockets).try_for_each(|sockets| all.add(sockets))?;
        Ok(all)
    }

    /// Each room with what each agent saw of it.
    pub fn rooms(&self) -> &BTreeMap<String, BTreeMap<usize, Room>> {
        &self.rooms
    }

    /// The latencies of these steps and kinds together.
    pub fn distribution(
        &self,
        steps: impl IntoIterator<Item = StepId>,
        kinds: &[Kind],
    ) -> Result<Distribution, Overflow> {
        let steps = steps.into_iter().filter_map(|step| self.steps.get(step.0 as usize));
        Distribution::of(steps.flat_map(|step| kinds.iter().map(|kind| step.series(*kind))))
    }

    /// The latencies of one agent over all steps.
    pub fn agent_distribution(&self, agent: usize, kinds: &[Kind]) -> Result<Distribution, Overflow> {
        let agent = self.agents.get(&agent).into_iter();
        Distribution::of(agent.flat_map(|agent| kinds.iter().map(|kind| &agent.series[*kind as usize])))
    }
}

fn add_up<'a>(counters: impl IntoIterator<Item = &'a Counters>) -> Result<Counters, Overflow> {
    let mut all = Counters::default();
    counters.into_iter().try_for_each(|counters| all.add(counters))?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{STEPS, delta_of, samples};

    #[test]
    fn a_delta_is_merged_whole_or_not_at_all() {
        let step = |issued| StepDelta { counters: Counters { issued, ..Counters::default() }, ..StepDelta::default() };
        let mut totals = Totals::new(2);
        totals
            .absorb(0, &Delta { steps: [(StepId(0), step(1)), (StepId(1), step(1))].into(), ..Delta::default() })
            .unwrap();
        let before = totals.clone();
        let overflow = Delta { steps: [(StepId(0), step(1)), (StepId(1), step(u64::MAX))].into(), ..Delta::default() };
        assert_eq!(totals.absorb(1, &overflow), Err(AbsorbError::Overflow(Overflow { figure: "issued" })));
        assert_eq!(totals, before);
        let unknown = Delta { steps: [(StepId(0), step(1)), (StepId(2), step(1))].into(), ..Delta::default() };
        assert_eq!(totals.absorb(1, &unknown), Err(AbsorbError::UnknownStep { step: 2, steps: 2 }));
        assert_eq!(totals, before);
    }

    proptest! {
        // Each case records several traces into histograms of 94 KB.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_order_of_deltas_gives_the_figures_of_one(
            traces in prop::collection::vec(samples(40), 1..6), order in Just((0..6_usize).collect::<Vec<_>>()).prop_shuffle(), agents in 1_usize..4,
        ) {
            let mut single = Totals::new(STEPS);
            single.absorb(0, &delta_of(&traces.concat())).unwrap();
            let mut totals = Totals::new(STEPS);
            for index in order.into_iter().filter(|index| *index < traces.len()) {
                totals.absorb(index % agents, &delta_of(&traces[index])).unwrap();
            }
            prop_assert_eq!(&totals.steps, &single.steps);
            let all = totals.merged_counters(totals.steps()).unwrap();
            let by_agent: Vec<_> = totals.agents().map(|agent| totals.agent_counters(agent).unwrap()).collect();
            prop_assert_eq!(add_up(&by_agent).unwrap(), all.clone());
            prop_assert_eq!((all.unaccounted(), all.in_flight()), (0, Some(0)));
            let mut latencies = Distribution::default();
            for agent in totals.agents() {
                latencies.merge(&totals.agent_distribution(agent, &Kind::RESPONSE).unwrap()).unwrap();
            }
            prop_assert_eq!(latencies.count(), all.ok + all.failed());
            prop_assert_eq!(latencies, totals.distribution(totals.steps(), &Kind::RESPONSE).unwrap());
        }
    }
}
