//! Which figures there are.

use std::collections::BTreeMap;

use groundswell_stats::Series;

use super::{AgentHealth, Family, Histogram, Kind, RunFigures, Sample, Snapshot, StepTotals, Value};

/// Every figure of a snapshot.
pub fn families(snapshot: &Snapshot) -> Vec<Family> {
    let mut all = of_the_coordinator(snapshot);
    all.extend(of_runs(&snapshot.figures));
    all.extend(of_agents(&snapshot.figures));
    all.extend(of_steps(&snapshot.figures));
    all
}

fn of_the_coordinator(snapshot: &Snapshot) -> Vec<Family> {
    let by_state = |states: &BTreeMap<String, u64>| {
        states.iter().map(|(state, count)| number(vec![("state", state.clone())], *count as f64)).collect()
    };
    let one = |value: f64| vec![number(Vec::new(), value)];
    let version = ("version", env!("CARGO_PKG_VERSION").to_owned());
    vec![
        gauge("groundswell_info", "Version of the coordinator.", "1", vec![number(vec![version], 1.0)]),
        gauge("groundswell_term", "How often a coordinator has started on this store.", "1", one(snapshot.term as f64)),
        gauge("groundswell_agents", "Agents by state.", "{agent}", by_state(&snapshot.agents)),
        gauge("groundswell_runs", "Runs without an answer yet, by state.", "{run}", by_state(&snapshot.runs)),
        counter(
            "groundswell_store_entries_total",
            "Deltas and events that were made durable.",
            "{entry}",
            one(snapshot.entries as f64),
        ),
        gauge(
            "groundswell_store_backlog",
            "Deltas and events that wait for the store.",
            "{entry}",
            one(snapshot.backlog as f64),
        ),
    ]
}

fn of_runs(runs: &[RunFigures]) -> Vec<Family> {
    let each = |value: fn(&RunFigures) -> f64| {
        runs.iter()
            .map(|run| Sample { since_unix_ns: run.started_unix_ns, ..number(of_run(run), value(run)) })
            .collect()
    };
    let info = |run: &RunFigures| {
        let labels: Vec<String> = run.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        number([of_run(run), vec![("labels", labels.join(","))]].concat(), 1.0)
    };
    vec![
        gauge("groundswell_run_info", "A run and its labels.", "1", runs.iter().map(info).collect()),
        gauge(
            "groundswell_wanted_per_second",
            "Iterations a second that the open loads want now.",
            "{iteration}/s",
            each(|run| run.wanted_per_s),
        ),
        gauge("groundswell_users", "Users at work.", "{user}", each(|run| f64::from(run.users))),
        gauge("groundswell_in_flight", "Operations in flight.", "{operation}", each(|run| run.in_flight as f64)),
        gauge("groundswell_open_sockets", "WebSockets open.", "{socket}", each(|run| run.open_sockets as f64)),
    ]
}

fn of_agents(runs: &[RunFigures]) -> Vec<Family> {
    let each = |value: &dyn Fn(&AgentHealth) -> Value| {
        let of_run = |run| move |agent: &AgentHealth| (of_agent(run, agent), run.started_unix_ns, value(agent));
        let samples = runs.iter().flat_map(|run| run.agents.iter().map(of_run(run)));
        samples.map(|(labels, since_unix_ns, value)| Sample { labels, since_unix_ns, value }).collect()
    };
    vec![
        gauge(
            "groundswell_agent_cpu",
            "CPU of the agent's busiest worker in the last second, 0 to 1.",
            "1",
            each(&|agent| Value::Number(agent.cpu)),
        ),
        gauge(
            "groundswell_agent_clock_bound_seconds",
            "Bound of the difference between the agent's time of the run and the coordinator's.",
            "s",
            each(&|agent| Value::Number(agent.clock_bound_s)),
        ),
        gauge(
            "groundswell_agent_lost",
            "Whether the agent was lost: 1 or 0.",
            "1",
            each(&|agent| Value::Number(f64::from(u8::from(agent.lost)))),
        ),
        histogram(
            "groundswell_agent_send_lag_seconds",
            "The generator's own delay: from the intended start to the hand-over to the transport.",
            each(&|agent| Value::Histogram(Histogram::of(&agent.send_lag))),
        ),
    ]
}

fn of_steps(runs: &[RunFigures]) -> Vec<Family> {
    let steps = || runs.iter().flat_map(|run| run.steps.iter().map(move |step| (run, step)));
    let each = |value: &dyn Fn(&StepTotals) -> Value| {
        let sample = |(run, step): (&RunFigures, &StepTotals)| Sample {
            labels: of_step(run, step),
            since_unix_ns: run.started_unix_ns,
            value: value(step),
        };
        steps().map(sample).collect()
    };
    let by = |label: &'static str, counts: fn(&StepTotals) -> Vec<(String, u64)>| {
        let samples = steps().flat_map(|(run, step)| {
            counts(step).into_iter().map(move |(word, count)| Sample {
                since_unix_ns: run.started_unix_ns,
                ..number([of_step(run, step), vec![(label, word)]].concat(), count as f64)
            })
        });
        samples.collect()
    };
    let of = |series: fn(&StepTotals) -> &Series| {
        each(&move |step: &StepTotals| Value::Histogram(Histogram::of(series(step))))
    };
    vec![
        counter(
            "groundswell_issued_total",
            "Operations handed to the transport.",
            "{operation}",
            each(&|step| Value::Number(step.issued as f64)),
        ),
        counter(
            "groundswell_ok_total",
            "Operations that ended well.",
            "{operation}",
            each(&|step| Value::Number(step.ok as f64)),
        ),
        counter(
            "groundswell_failed_total",
            "Operations that failed, by class.",
            "{operation}",
            by("class", |step| pairs(&step.failures)),
        ),
        counter(
            "groundswell_not_issued_total",
            "Operations whose time came and that were not issued, by reason.",
            "{operation}",
            by("reason", |step| pairs(&step.not_issued)),
        ),
        histogram(
            "groundswell_response_seconds",
            "From the intended start to the end of an operation.",
            of(|step| &step.response),
        ),
        histogram(
            "groundswell_service_seconds",
            "From the hand-over to the transport to the end of an operation.",
            of(|step| &step.service),
        ),
    ]
}

fn pairs(counts: &BTreeMap<String, u64>) -> Vec<(String, u64)> {
    counts.iter().map(|(word, count)| (word.clone(), *count)).collect()
}

fn of_run(run: &RunFigures) -> Vec<(&'static str, String)> {
    vec![("run", run.run.clone()), ("plan", run.plan.clone())]
}

fn of_agent(run: &RunFigures, agent: &AgentHealth) -> Vec<(&'static str, String)> {
    [of_run(run), vec![("agent", agent.name.clone())]].concat()
}

fn of_step(run: &RunFigures, step: &StepTotals) -> Vec<(&'static str, String)> {
    let own = vec![
        ("scenario", step.scenario.clone()),
        ("step", step.step.clone()),
        ("level", step.level.clone()),
        ("warm_up", step.warm_up.to_string()),
    ];
    [of_run(run), own].concat()
}

fn number(labels: Vec<(&'static str, String)>, value: f64) -> Sample {
    Sample { labels, since_unix_ns: 0, value: Value::Number(value) }
}

fn gauge(name: &'static str, help: &'static str, unit: &'static str, samples: Vec<Sample>) -> Family {
    Family { name, help, kind: Kind::Gauge, unit, samples }
}

fn counter(name: &'static str, help: &'static str, unit: &'static str, samples: Vec<Sample>) -> Family {
    Family { name, help, kind: Kind::Counter, unit, samples }
}

fn histogram(name: &'static str, help: &'static str, samples: Vec<Sample>) -> Family {
    Family { name, help, kind: Kind::Histogram, unit: "s", samples }
}
