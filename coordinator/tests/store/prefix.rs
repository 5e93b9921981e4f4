//! Whatever is written by whom and whenever it ends: what is stored is a beginning of what was written, and all that
//! was reported is in it.

use std::time::Duration;

use groundswell_coordinator::store::{Entry, Location};
use proptest::prelude::*;

use crate::common::{Writing, delta, event, new_run, open, read};

/// How the process goes on.
#[derive(Debug, Clone)]
enum Step {
    /// One entry of one of three runs: an event, or the next delta of one of three agents.
    Write { run: u8, agent: Option<u8>, bytes: u16 },
    /// Waits for the next report.
    Wait,
    /// A tiny pause, so that the writer gets to a random place.
    Pause(u8),
    /// The process ends in the middle, and another one starts.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..3_u8, proptest::option::of(0..3_u8), 0..30_000_u16)
            .prop_map(|(run, agent, bytes)| Step::Write { run, agent, bytes }),
        2 => Just(Step::Wait),
        3 => (0..80_u8).prop_map(Step::Pause),
        1 => Just(Step::Crash),
    ]
}

#[derive(Default, Clone)]
struct Expected {
    written: Vec<Entry>,
    reported: usize,
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// One life of a process; returns what of the steps is left.
async fn live<'a>(location: &Location, steps: &'a [Step], expected: &mut [Expected; 3]) -> &'a [Step] {
    let store = open(location).await;
    for (run, expected) in expected.iter_mut().enumerate() {
        let id = format!("r{run}");
        store.create_run(&new_run(&id)).await.unwrap();
        let stored = read(&store, &id).await.unwrap();
        assert!(expected.written.starts_with(&stored), "{id} has what was never written");
        assert!(stored.len() >= expected.reported, "{id}: {} reported, {} there", expected.reported, stored.len());
        *expected = Expected { reported: stored.len(), written: stored };
    }
    let Writing { writer, mut done } = Writing::on(&store);
    let mut waiting = 0;
    for (place, step) in steps.iter().enumerate() {
        match step {
            Step::Write { run, agent, bytes } => {
                let (id, expected) = (format!("r{run}"), &mut expected[usize::from(*run)]);
                let n = expected.written.len() as u64 + 1;
                let entry = match agent {
                    None => event(&id, n, &vec![n as u8; usize::from(*bytes)]),
                    // A term is an incarnation, so that a process that starts again begins a new one.
                    Some(agent) => delta(&id, n, &format!("a{agent}"), store.term() * 10 + u64::from(*agent), n),
                };
                expected.written.push(entry.clone());
                writer.write(entry, u64::from(*run)).await.unwrap();
                waiting += 1;
            }
            Step::Wait if waiting > 0 => {
                let committed = done.recv().await.unwrap();
                committed.result.unwrap();
                waiting -= committed.tokens.len();
                committed.tokens.iter().for_each(|run| expected[*run as usize].reported += 1);
            }
            Step::Wait => {}
            Step::Pause(micros) => tokio::time::sleep(Duration::from_micros(u64::from(*micros) * 50)).await,
            Step::Crash => {
                // What was reported by now counts, whoever listened.
                while let Ok(committed) = done.try_recv() {
                    committed.result.unwrap();
                    committed.tokens.iter().for_each(|run| expected[*run as usize].reported += 1);
                }
                drop((writer, store));
                return &steps[place + 1..];
            }
        }
    }
    &[]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_stored_is_a_prefix_with_all_that_was_reported(steps in proptest::collection::vec(step(), 1..120)) {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::Folder(folder.path().to_owned());
        let mut expected = <[Expected; 3]>::default();
        let mut left = &steps[..];
        while !left.is_empty() {
            let runtime = runtime();
            left = runtime.block_on(live(&location, left, &mut expected));
            // Ends the writer's task wherever it is.
            drop(runtime);
        }
        runtime().block_on(live(&location, &[], &mut expected));
    }
}
