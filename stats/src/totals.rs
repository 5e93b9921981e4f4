//! What the coordinator has merged.

use std::collections::BTreeMap;

use crate::series::Sums;
use crate::{Counters, Delta, Distribution, Kind, Overflow, Room, Sockets, StepDelta, StepId};

/// The figures of a run so far: by step over all agents, and by agent.
///
/// By agent there are the counters of each step, but latencies only over all steps, and only response times and send lag:
/// what tells a slow agent from the others, at the cost of two series an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals {
    steps: Vec<StepDelta>,
    agents: BTreeMap<usize, AgentTotals>,
    rooms: BTreeMap<String, BTreeMap<usize, Room>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct AgentTotals {
    counters: BTreeMap<StepId, Counters>,
    /// Over all steps, whatever the outcome.
    response: Distribution,
    send_lag: Distribution,
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
        self.fits(agent, delta)?;
        let of_agent = self.agents.entry(agent).or_default();
        for (id, step) in &delta.steps {
            self.steps[id.0 as usize].add_checked(step);
            of_agent.counters.entry(*id).or_default().add_checked(&step.counters);
            of_agent.send_lag.add_checked(step.series(Kind::SendLag));
            Kind::RESPONSE.into_iter().for_each(|kind| of_agent.response.add_checked(step.series(kind)));
        }
        for (name, room) in &delta.rooms {
            self.rooms.entry(name.clone()).or_default().entry(agent).or_default().add_checked(room);
        }
        Ok(())
    }

    /// Looks at every sum before any is made, so that nothing has to be taken back.
    fn fits(&self, agent: usize, delta: &Delta) -> Result<(), AbsorbError> {
        let known = self.agents.get(&agent);
        // An agent's series are over all steps, so each step's comes to those of the steps before.
        let mut response = known.map_or_else(Sums::default, |known| known.response.sums());
        let mut send_lag = known.map_or_else(Sums::default, |known| known.send_lag.sums());
        for (id, step) in &delta.steps {
            let unknown = AbsorbError::UnknownStep { step: id.0, steps: self.steps.len() };
            self.steps.get(id.0 as usize).ok_or(unknown)?.fits(step)?;
            let counters = known.and_then(|known| known.counters.get(id));
            counters.map_or(Ok(()), |counters| counters.fits(&step.counters))?;
            send_lag = send_lag.plus(step.series(Kind::SendLag).sums())?;
            for kind in Kind::RESPONSE {
                response = response.plus(step.series(kind).sums())?;
            }
        }
        for (name, room) in &delta.rooms {
            let known = self.rooms.get(name).and_then(|agents| agents.get(&agent));
            known.map_or(Ok(()), |known| known.fits(room))?;
        }
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

    /// The response times of one agent over all steps, whatever the outcome; none where it has told nothing.
    pub fn agent_response(&self, agent: usize) -> Option<&Distribution> {
        self.agents.get(&agent).map(|agent| &agent.response)
    }

    /// The send lag of one agent over all steps; none where it has told nothing.
    pub fn agent_send_lag(&self, agent: usize) -> Option<&Distribution> {
        self.agents.get(&agent).map(|agent| &agent.send_lag)
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
    use crate::testing::{STEPS, delta_of, samples, series_of};
    use crate::{Closer, Closing, ErrorClass, Series};

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

    #[test]
    fn steps_that_fit_one_by_one_but_not_together_in_their_agents_series_are_refused() {
        let step = |sum_us| {
            let mut step = StepDelta::default();
            step.series[Kind::SendLag as usize] = Series { sum_us, ..series_of(&[7]) };
            step
        };
        let delta = |first, second| Delta {
            steps: [(StepId(0), step(first)), (StepId(1), step(second))].into(),
            ..Delta::default()
        };
        let mut totals = Totals::new(2);
        totals.absorb(0, &delta(1, 1)).unwrap();
        let before = totals.clone();
        let too_much = delta(u64::MAX / 2, u64::MAX / 2 + 1);
        assert_eq!(totals.absorb(0, &too_much), Err(AbsorbError::Overflow(Overflow { figure: "sum_us" })));
        assert_eq!(totals, before);
        totals.absorb(1, &delta(1, 1)).unwrap();
    }

    /// Brings one figure of a step to its end.
    fn filled(step: &mut StepDelta, place: usize) {
        let Counters { ok, bytes_received, errors_by_class, shed, .. } = &mut step.counters;
        match place {
            0 => *ok = u64::MAX,
            1 => *bytes_received = u64::MAX,
            2 => drop(errors_by_class.insert(ErrorClass::new("a"), u64::MAX)),
            3 => drop(shed.insert("max_in_flight".into(), u64::MAX)),
            4 => step.sockets.traffic.frames_sent = u64::MAX,
            5 => drop(step.sockets.closed.insert(Closing { by: Closer::Target, code: 1000 }, u64::MAX)),
            6 => step.series[Kind::Service as usize] = Series { sum_us: u64::MAX, ..series_of(&[7]) },
            _ => step.series[Kind::Body as usize] = Series { clamped: u64::MAX, ..series_of(&[7]) },
        }
    }

    proptest! {
        // Each case records several traces into histograms of 94 KB.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn a_delta_that_is_refused_changes_nothing(
            traces in prop::collection::vec(samples(40), 1..4), refused in samples(40), place in 0_usize..8, agents in 1_usize..3,
        ) {
            // Of the last step, so that those before it would have been merged already.
            let last = StepId(STEPS as u32 - 1);
            let full = || {
                let mut delta = delta_of(&refused);
                filled(delta.steps.entry(last).or_default(), place);
                delta
            };
            let mut totals = Totals::new(STEPS);
            totals.absorb(0, &Delta { steps: [(last, full().steps[&last].clone())].into(), ..Delta::default() }).unwrap();
            for (index, trace) in traces.iter().enumerate() {
                // What does not fit beside the full figure changes nothing either.
                let before = totals.clone();
                if totals.absorb(index % agents, &delta_of(trace)).is_err() {
                    prop_assert_eq!(&totals, &before);
                }
            }
            let before = totals.clone();
            for agent in 0..3 {
                let mut delta = full();
                delta.rooms.insert("room".to_owned(), Room { published_at_us: vec![1], ..Room::default() });
                prop_assert!(totals.absorb(agent, &delta).is_err());
                prop_assert_eq!(&totals, &before);
            }
        }

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
                latencies.merge(totals.agent_response(agent).unwrap()).unwrap();
            }
            prop_assert_eq!(latencies.count(), all.ok + all.failed());
            let lags = totals.agents().map(|agent| totals.agent_send_lag(agent).unwrap().count()).sum::<u64>();
            prop_assert_eq!(lags, all.ok + all.failed());
            prop_assert_eq!(latencies, totals.distribution(totals.steps(), &Kind::RESPONSE).unwrap());
        }
    }
}
