//! Inputs that are kept, and mutations of them, without a fuzzer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Most changes of one mutation.
const MOST_CHANGES: u32 = 6;

/// A folder of the repository.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// Names and bytes of all files, in an order that is the same everywhere.
pub(crate) fn inputs(folders: &[PathBuf]) -> Vec<(String, Vec<u8>)> {
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap()).map(|file| file.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.is_file()).collect();
    files.sort();
    assert!(files.len() >= 10, "{} inputs in {folders:?}", files.len());
    files.into_iter().map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect()
}

/// Checks each input, and so many mutations of them unless the environment says how many.
pub(crate) fn try_all(seeds: &[(String, Vec<u8>)], rounds: u64, check: impl Fn(&[u8])) {
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
