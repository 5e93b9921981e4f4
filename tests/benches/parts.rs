//! What the parts of the path of a sample cost: schedule, recorder, seal, wire, merge. Prints figures, asserts nothing;
//! each is the least of several rounds, because what disturbs a round only makes it longer.
//!
//! `cargo bench -p groundswell-tests --bench parts`
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_types, reason = "a benchmark prints times")]

#[path = "common/samples.rs"]
mod samples;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use groundswell_proto::v1;
use groundswell_scenario::{Plan, PlanSource};
use groundswell_stats::{Delta, Recorder, Sample, Totals};

use samples::sample;

const ROUNDS: u32 = 7;
/// Four steps with five series each.
const STEPS: u32 = 4;

fn main() {
    for arrivals in ["uniform", "poisson"] {
        let plan = plan(arrivals);
        let schedule = plan.scenarios[0].phases[0].schedule(plan.seed).unwrap();
        let count = schedule.total();
        let time =
            least(|| (0..count).filter_map(|k| schedule.offset(k)).fold(Duration::ZERO, |_, offset| black_box(offset)));
        print(&format!("schedule, {arrivals}: an arrival"), time, count);
    }
    for operations in [2_000_u64, 10_000, 100_000] {
        let samples: Vec<Sample> = (0..operations).map(|nth| sample(nth, STEPS)).collect();
        let mut recorder = Recorder::new(STEPS as usize);
        let fill = |recorder: &mut Recorder| samples.iter().for_each(|sample| recorder.finished(sample));
        let title = format!("{operations} operations of {STEPS} steps, 5 series each");
        println!("{title}");
        let time = least_after(&mut recorder, |recorder| drop(recorder.seal()), fill);
        print("  record an operation", time, operations);
        let time = least_after(&mut recorder, fill, |recorder| drop(black_box(recorder.seal())));
        print("  seal a delta of 20 series", time, 1);
        fill(&mut recorder);
        let delta = Delta { from_us: 0, to_us: 1_000_000, steps: recorder.seal(), ..Delta::default() };
        let time = least(|| black_box(v1::Figures::from(&delta).pack()));
        print("  encode it", time, 1);
        let wire = v1::Figures::from(&delta).pack();
        println!("  {:<38}{:>10.1} KB", "on the wire", wire.len() as f64 / 1e3);
        let mut totals = Totals::new(STEPS as usize);
        let time = least(|| {
            let read = v1::Figures::unpack(&wire).unwrap();
            totals.absorb(0, &Delta::try_from(&read).unwrap()).unwrap();
        });
        print("  decode, check and merge it", time, 1);
    }
}

fn plan(arrivals: &str) -> Plan {
    let text = format!(
        "target: http://127.0.0.1:1\nscenarios:\n  s: {{ load: {{ rate: 10000/s, for: 60s, arrivals: {arrivals} }}, flow: \
         [ {{ get: / }} ] }}\n"
    );
    Plan::compile(&PlanSource { name: "p.yaml".into(), text, files: BTreeMap::new(), search_level: None }).unwrap()
}

fn least<T>(mut work: impl FnMut() -> T) -> Duration {
    let round = |_| {
        let started = Instant::now();
        black_box(work());
        started.elapsed()
    };
    (0..ROUNDS).map(round).min().unwrap_or_default()
}

/// Only what comes after the preparation counts.
fn least_after<S>(state: &mut S, mut prepare: impl FnMut(&mut S), mut work: impl FnMut(&mut S)) -> Duration {
    let round = |_| {
        prepare(state);
        let started = Instant::now();
        work(state);
        started.elapsed()
    };
    (0..ROUNDS).map(round).min().unwrap_or_default()
}

fn print(what: &str, time: Duration, of: u64) {
    println!("{what:<40}{:>10.3} us", time.as_secs_f64() * 1e6 / of as f64);
}
