//! The fuzz targets' checks on every input that is kept, and on mutations of them, without a fuzzer: what once broke
//! something can't break it again unnoticed. `fuzz/` has the targets themselves.
//!
//! `GROUNDSWELL_FUZZ_ROUNDS` says how many mutations, `GROUNDSWELL_FUZZ_SEED` which.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "tests; a seed must be seen to be used again")]

#[allow(unreachable_pub, reason = "in fuzz/ they are a library's")]
#[path = "../../fuzz/src/lib.rs"]
mod checks;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use groundswell_proto::v1;
use prost::Message as _;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Mutations where nothing else is said: a few seconds of an unoptimised build. A plan takes longer than a delta.
const DELTAS: u64 = 4_000;
const PLANS: u64 = 300;
/// Most changes of one mutation.
const MOST_CHANGES: u32 = 6;

#[test]
fn whatever_an_agent_sends_as_figures() {
    let seeds = inputs(&[folder("fuzz/corpus/delta")]);
    let taken = seeds.iter().filter(|(_, bytes)| {
        let figures = v1::Figures::decode(&bytes[..]);
        figures.is_ok_and(|figures| !figures.steps.is_empty() && groundswell_stats::Delta::try_from(&figures).is_ok())
    });
    assert!(taken.count() >= 3, "the corpus has no figures that are taken, so nothing behind the refusals is tried");
    let packed_too = |bytes: &[u8]| {
        checks::delta(bytes);
        if let Ok(figures) = v1::Figures::decode(bytes) {
            checks::delta(&figures.pack());
        }
    };
    try_all(&seeds, DELTAS, packed_too);
}

#[test]
fn whatever_is_given_as_a_plan() {
    try_all(&inputs(&[folder("fuzz/corpus/plan"), folder("examples")]), PLANS, checks::plan);
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// Names and bytes of all files, in an order that is the same everywhere.
fn inputs(folders: &[PathBuf]) -> Vec<(String, Vec<u8>)> {
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap()).map(|file| file.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.is_file()).collect();
    files.sort();
    assert!(files.len() >= 10, "{} inputs in {folders:?}", files.len());
    files.into_iter().map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect()
}

fn try_all(seeds: &[(String, Vec<u8>)], rounds: u64, check: impl Fn(&[u8])) {
    for (name, bytes) in seeds {
        try_one(&check, bytes, name);
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (rounds, seed) =
        (number("GROUNDSWELL_FUZZ_ROUNDS").unwrap_or(rounds), number("GROUNDSWELL_FUZZ_SEED").unwrap_or(1));
    println!("GROUNDSWELL_FUZZ_SEED={seed} GROUNDSWELL_FUZZ_ROUNDS={rounds}");
    let mut random = StdRng::seed_from_u64(seed);
    for round in 0..rounds {
        let (name, bytes) = &seeds[random.random_range(0..seeds.len())];
        let (_, other) = &seeds[random.random_range(0..seeds.len())];
        let mut bytes = bytes.clone();
        for _ in 0..random.random_range(1..=MOST_CHANGES) {
            mutate(&mut bytes, other, &mut random);
        }
        try_one(&check, &bytes, &format!("round {round} of seed {seed}, from {name}"));
    }
}

/// A panic is a finding: it is told with the input that caused it.
fn try_one(check: &impl Fn(&[u8]), bytes: &[u8], what: &str) {
    if catch_unwind(AssertUnwindSafe(|| check(bytes))).is_err() {
        let path = std::env::temp_dir().join(format!("groundswell-finding-{}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        panic!("{what}: see above; the input is in {}", path.display());
    }
}

fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut StdRng) {
    const TELLING: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'\n', b':', b'9'];
    let place = random.random_range(0..=bytes.len());
    let end = random.random_range(place..=bytes.len().min(place + 64));
    match random.random_range(0..6) {
        0 if place < bytes.len() => bytes[place] ^= 1 << random.random_range(0..8),
        1 if place < bytes.len() => bytes[place] = TELLING[random.random_range(0..TELLING.len())],
        2 => bytes.truncate(place),
        3 => drop(bytes.drain(place..end)),
        4 => {
            let copy = bytes[place..end].to_vec();
            bytes.splice(place..place, copy);
        }
        _ if !other.is_empty() => {
            let from = random.random_range(0..other.len());
            let to = other.len().min(from + random.random_range(1..=64));
            bytes.splice(place..end, other[from..to].iter().copied());
        }
        _ => {}
    }
}
