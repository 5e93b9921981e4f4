//! Drives a run through a history.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use groundswell_coordinator::fleet::{AgentId, Machine};
use groundswell_coordinator::report::{Distributions, Report};
use groundswell_coordinator::run::{Action, Candidate, Event, Health, Measured, Now, Outcome, Place, Run};
use groundswell_scenario::{Plan, PlanSource};
use groundswell_stats::{Delta, ErrorClass, Outcome as Ended, Phases, Recorder, Sample, StepId};

/// A run with its agents, at a time that the test moves.
pub(super) struct History {
    pub(super) run: Run,
    pub(super) now: Duration,
    pub(super) calendar: SystemTime,
    pub(super) t0: Duration,
    pub(super) seqs: BTreeMap<AgentId, u64>,
    pub(super) steps: usize,
}

pub(super) const A: AgentId = AgentId(1);
pub(super) const B: AgentId = AgentId(2);

pub(super) const OPEN: &str =
    "scenarios:\n  one:\n    load: { rate: 10/s, for: 4s }\n    flow: [ { get: /x, name: x } ]\n";

impl History {
    pub(super) fn new(plan: &str) -> Self {
        let text = format!("target: http://localhost\n{plan}");
        let source = PlanSource { name: "plan.yaml".into(), text, files: BTreeMap::new(), search_level: None };
        let plan = Plan::compile(&source).unwrap();
        let steps = plan.steps.len();
        let run = Run::new("r".into(), Arc::new(plan), BTreeMap::new(), Place::default());
        History {
            run,
            now: Duration::ZERO,
            calendar: SystemTime::UNIX_EPOCH,
            t0: Duration::ZERO,
            seqs: BTreeMap::new(),
            steps,
        }
    }

    pub(super) fn step(&mut self, event: Event) -> Vec<Action> {
        self.run.step(event, Now { monotonic: self.now, calendar: self.calendar })
    }

    /// Brings the run to its start with these agents.
    pub(super) fn started(plan: &str, agents: &[AgentId]) -> Self {
        let mut history = History::new(plan);
        let armed = history.step(Event::Assigned(candidates(agents)));
        assert_eq!(armed.len(), agents.len());
        for agent in agents {
            history.step(Event::Ready(*agent, Ok(Vec::new())));
        }
        let starts = history.step(Event::TargetChecked(Some(agents[0]), Ok(())));
        assert_eq!(starts.len(), agents.len());
        let Action::Start(_, t0) = &starts[0] else { panic!("{starts:?}") };
        history.t0 = *t0;
        for agent in agents {
            assert!(history.step(Event::Started(*agent, Ok(100))).is_empty());
        }
        history
    }

    /// An agent hands in a second's figures: iterations decided so far, and operations that ended well and badly.
    pub(super) fn measured(&mut self, agent: AgentId, second: u64, decided: u64, ok: u64, failed: u64) -> Vec<Action> {
        let seq = self.seqs.get(&agent).copied().unwrap_or(0) + 1;
        self.seqs.insert(agent, seq);
        let generation = u32::try_from(agent.0).unwrap();
        let measured = measured_of(generation, self.steps, seq, second, decided, ok, failed);
        self.now = self.now.max(self.t0 + Duration::from_secs(second));
        self.step(Event::Measured(agent, Box::new(measured)))
    }

    pub(super) fn done(&mut self, agent: AgentId) -> Vec<Action> {
        let seq = self.seqs.get(&agent).copied().unwrap_or(0);
        self.step(Event::Done(agent, seq, None))
    }
}

pub(super) fn candidates(agents: &[AgentId]) -> Vec<Candidate> {
    agents.iter().map(|id| candidate(*id, 1)).collect()
}

pub(super) fn candidate(id: AgentId, weight: u32) -> Candidate {
    Candidate {
        id,
        name: format!("agent-{}", id.0),
        weight,
        max_rate_per_s: None,
        max_users: None,
        machine: Machine::default(),
    }
}

pub(super) fn measured(steps: usize, seq: u64, second: u64, decided: u64, ok: u64, failed: u64) -> Measured {
    measured_of(1, steps, seq, second, decided, ok, failed)
}

/// Figures of one assignment, by its generation.
pub(super) fn measured_of(
    generation: u32,
    steps: usize,
    seq: u64,
    second: u64,
    decided: u64,
    ok: u64,
    failed: u64,
) -> Measured {
    let mut recorder = Recorder::new(steps);
    recorder.scheduled(StepId(0), ok + failed);
    for n in 0..ok + failed {
        recorder.issued(StepId(0));
        let outcome = if n < ok { Ended::Ok } else { Ended::Error(ErrorClass::new("status_500")) };
        recorder.finished(&Sample {
            step: StepId(0),
            response_us: 1_000 + n,
            service_us: 900 + n,
            send_lag_us: 100,
            phases: Phases::default(),
            outcome,
            follow_ups: 0,
            bytes_sent: 0,
            bytes_received: 0,
        });
    }
    let delta = Delta {
        from_us: (second - 1) * 1_000_000,
        to_us: second * 1_000_000,
        steps: recorder.seal(),
        ..Delta::default()
    };
    let health = Health { cpu_permille: 10, users: 1, ..Health::default() };
    Measured { seq, delta, cursors: BTreeMap::from([((generation, 0, 0), decided)]), health, source: 0 }
}

pub(super) fn report(actions: Vec<Action>) -> Report {
    match actions.into_iter().last() {
        Some(Action::Finish(Outcome::Report { report, distributions })) => {
            agree(&report, &distributions);
            *report
        }
        other => panic!("no report but {other:?}"),
    }
}

/// The histograms beside a report are those that it was made from.
fn agree(report: &Report, distributions: &Distributions) {
    let measured = || distributions.steps.iter().filter(|step| !step.warm_up);
    let samples: u64 = measured().map(|step| step.response.count).sum();
    assert_eq!(samples, report.total.response_ms.count);
    assert_eq!(measured().map(|step| step.service.count).sum::<u64>(), report.total.service_ms.count);
    for step in &distributions.steps {
        let of_intervals: u64 = step.intervals.iter().map(|interval| interval.response.count).sum();
        assert_eq!(of_intervals, step.response.count, "{}", step.step);
    }
}

pub(super) fn no_report(actions: Vec<Action>) -> (String, u8) {
    match actions.into_iter().last() {
        Some(Action::Finish(Outcome::NoReport { problem, exit_code })) => (problem, exit_code),
        other => panic!("{other:?}"),
    }
}
