//! Faults planted in the state machines, each of which the simulator must find; otherwise it would prove nothing.

use groundswell_agent::delivery::mutants as agent;
use groundswell_coordinator::delivery::mutants as coordinator;

use super::schedule;
use crate::world::say;

/// So many schedules of each kind are tried. Most faults show in one of the first; the rarest needs some hundreds.
const SEEDS: u64 = 1_500;

/// A fault of either side.
#[derive(Debug, Clone, Copy)]
enum Planted {
    Agent(agent::Mutant),
    Coordinator(coordinator::Mutant),
}

const ALL: &[Planted] = &[
    Planted::Agent(agent::Mutant::LeaseFromReceipt),
    Planted::Agent(agent::Mutant::ChangedAfterExposure),
    Planted::Agent(agent::Mutant::FreedBeforeAcknowledged),
    Planted::Agent(agent::Mutant::LateRelease),
    Planted::Agent(agent::Mutant::ForgetsRefusal),
    Planted::Agent(agent::Mutant::ObeysLowerTerm),
    Planted::Coordinator(coordinator::Mutant::NoDuplicateCheck),
    Planted::Coordinator(coordinator::Mutant::NoGapCheck),
    Planted::Coordinator(coordinator::Mutant::AcknowledgeBeforeCommit),
    Planted::Coordinator(coordinator::Mutant::MergeBeforeCommit),
    Planted::Coordinator(coordinator::Mutant::LostRelease),
    Planted::Coordinator(coordinator::Mutant::AnyAnswer),
    Planted::Coordinator(coordinator::Mutant::WrongStripe),
    Planted::Coordinator(coordinator::Mutant::StaleIncarnationActs),
    Planted::Coordinator(coordinator::Mutant::RestartForgetsLeases),
    Planted::Coordinator(coordinator::Mutant::NoMargin),
    Planted::Coordinator(coordinator::Mutant::IncarnationReused),
];

impl Planted {
    fn plant(self) {
        match self {
            Planted::Agent(mutant) => agent::plant(Some(mutant)),
            Planted::Coordinator(mutant) => coordinator::plant(Some(mutant)),
        }
    }
}

fn take_out() {
    agent::plant(None);
    coordinator::plant(None);
}

/// After how many schedules it is found, and what gives it away.
fn found(planted: Planted) -> Option<(u64, String)> {
    for tried in 0..SEEDS * 2 {
        // Some faults show where streams break, some only where messages overtake each other.
        planted.plant();
        let outcome = schedule(tried / 2, tried % 2 == 1, false);
        take_out();
        if let Err(why) = outcome {
            return Some((tried + 1, why));
        }
    }
    None
}

#[test]
fn every_planted_fault_is_found() {
    let mut missed = Vec::new();
    for planted in ALL {
        match found(*planted) {
            Some((tried, why)) => {
                let why: String = why.chars().take(90).collect();
                say(format_args!("{planted:?}: schedule {tried}: {why}"));
            }
            None => missed.push(planted),
        }
    }
    assert!(missed.is_empty(), "not found in {SEEDS} schedules of each kind: {missed:?}");
}
