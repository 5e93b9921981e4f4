//! What the store costs: deltas a second, a commit, a run-hour on disk, reading it back, opening. Prints figures, asserts
//! nothing.
//!
//! `cargo bench -p groundswell-coordinator --bench store [-- FOLDER-OR-URL]`; without one, in a folder under `target/`,
//! so on this disk. What it makes in a database it leaves there.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints figures")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use groundswell_coordinator::store::{Committed, Entry, EntryBody, Finish, Location, Merged, NewRun, Store, Writer};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// A delta of 20 series at some 1,000 operations a second, compressed.
const DELTA_BYTES: usize = 2_500;

#[tokio::main]
async fn main() {
    let place = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let place = place.unwrap_or_else(|| folder.path().join("store").display().to_string());
    let location = Location::parse(&place).unwrap();
    println!("{location}");
    let mut bench = Bench::open(&location).await;
    bench.one_at_a_time().await;
    bench.paced(1_000, 5).await;
    bench.saturated(100_000).await;
    bench.read_back().await;
    bench.run_hour(&location).await;
    bench.store.close().await;
    let size = size(&location);
    let started = Instant::now();
    let store = Store::open(&location).await.unwrap();
    print("open, with the check of the structure", started.elapsed().as_secs_f64() * 1e3, "ms");
    if let Some(size) = size {
        print("  of", size as f64 / 1e6, "MB");
    }
    store.close().await;
}

struct Bench {
    store: Store,
    writer: Writer<Instant>,
    done: mpsc::Receiver<Committed<Instant>>,
    run: String,
    n: u64,
    /// Distinguishes the runs of one invocation from those of others in the same database.
    salt: u64,
}

impl Bench {
    async fn open(location: &Location) -> Bench {
        let store = Store::open(location).await.unwrap();
        let (sender, done) = mpsc::channel(1_024);
        let writer = store.writer(4_096, sender);
        let salt = store.term();
        let mut bench = Bench { store, writer, done, run: String::new(), n: 0, salt };
        bench.begin("parts").await;
        bench
    }

    async fn begin(&mut self, name: &str) {
        self.run = format!("{name}-{}", self.salt);
        self.n = 0;
        let run = NewRun {
            id: self.run.clone(),
            submission: self.run.clone(),
            name: name.to_owned(),
            plan_hash: String::new(),
            plan: vec![],
            labels: BTreeMap::new(),
            agents_wanted: 0,
            wait_ms: 0,
            selector: BTreeMap::new(),
            attached: true,
            submitted_at_us: 0,
        };
        self.store.create_run(&run).await.unwrap();
    }

    fn next(&mut self, agents: u64) -> Entry {
        self.n += 1;
        let (agent, seq) = (self.n % agents, self.n.div_ceil(agents));
        let body = EntryBody::Delta {
            agent: format!("agent-{agent}"),
            incarnation: self.salt * 100_000 + agent,
            seq,
            hash: [agent as u8; 16],
            bytes: noise(self.n),
        };
        Entry { run: self.run.clone(), n: self.n, monotonic_us: self.n, calendar_us: 0, body }
    }

    /// What an acknowledgement waits for when nothing else goes on.
    async fn one_at_a_time(&mut self) {
        let mut times = Vec::new();
        for _ in 0..1_000 {
            let entry = self.next(3);
            self.writer.write(entry, Instant::now()).await.unwrap();
            let committed = self.done.recv().await.unwrap();
            committed.result.unwrap();
            times.extend(committed.tokens.iter().map(Instant::elapsed));
        }
        quantiles("a commit of one delta", times);
    }

    /// So many agents, each once a second, spread over the second as their clocks happen to be.
    async fn paced(&mut self, agents: u64, seconds: u64) {
        self.begin("paced").await;
        let (mut times, mut commits) = (Vec::new(), 0);
        let (start, cpu) = (Instant::now(), cpu_time());
        let mut left = agents * seconds;
        let mut sent = 0;
        let (mut look, mut looks) = (tokio::time::interval(Duration::from_millis(100)), Vec::new());
        while left > 0 {
            let due = start + Duration::from_secs(1) * sent as u32 / agents as u32;
            tokio::select! {
                biased;
                committed = self.done.recv() => {
                    let committed = committed.unwrap();
                    committed.result.unwrap();
                    commits += 1;
                    left -= committed.tokens.len() as u64;
                    times.extend(committed.tokens.iter().map(Instant::elapsed));
                }
                () = tokio::time::sleep_until(due), if sent < agents * seconds => {
                    let entry = self.next(agents);
                    self.writer.try_write(entry, Instant::now()).unwrap();
                    sent += 1;
                }
                asked = look.tick() => {
                    self.store.runs().await.unwrap();
                    self.store.run(&self.run).await.unwrap();
                    looks.push(asked.elapsed());
                }
            }
        }
        println!("{agents} agents, a delta a second each:");
        print("  deltas in a commit, on average", (agents * seconds) as f64 / f64::from(commits), "");
        if let (Some(before), Some(after)) = (cpu, cpu_time()) {
            print("  CPU time, of one core", 100.0 * (after - before) / start.elapsed().as_secs_f64(), "%");
        }
        quantiles("  from the queue to the disk", times);
        quantiles("  meanwhile, to list runs and read one", looks);
    }

    async fn saturated(&mut self, deltas: u64) {
        self.begin("saturated").await;
        let entries: Vec<Entry> = (0..deltas).map(|_| self.next(1_000)).collect();
        let start = Instant::now();
        let cpu = cpu_time();
        let (mut left, mut commits) = (deltas, 0);
        let mut entries = entries.into_iter();
        let mut next = entries.next();
        while left > 0 {
            if let Some(entry) = next.take() {
                match self.writer.try_write(entry, start) {
                    Ok(()) => {
                        next = entries.next();
                        continue;
                    }
                    Err(full) => {
                        next = match *full {
                            mpsc::error::TrySendError::Full((entry, _)) => Some(entry),
                            mpsc::error::TrySendError::Closed(_) => panic!("the writer is gone"),
                        }
                    }
                }
            }
            let committed = self.done.recv().await.unwrap();
            committed.result.unwrap();
            left -= committed.tokens.len() as u64;
            commits += 1;
        }
        let seconds = start.elapsed().as_secs_f64();
        println!("as fast as it goes, {deltas} deltas of {DELTA_BYTES} bytes:");
        print("  deltas a second", deltas as f64 / seconds, "");
        print("  deltas in a commit, on average", deltas as f64 / f64::from(commits), "");
        print("  time of such a commit, on average", seconds * 1e3 / f64::from(commits), "ms");
        if let (Some(before), Some(after)) = (cpu, cpu_time()) {
            print("  CPU time of a delta", (after - before) * 1e6 / deltas as f64, "us");
        }
    }

    async fn read_back(&mut self) {
        let start = Instant::now();
        let mut log = self.store.log(&self.run).await.unwrap();
        let mut entries = 0_u64;
        while log.next().await.unwrap().is_some() {
            entries += 1;
        }
        print("read back, entries a second", entries as f64 / start.elapsed().as_secs_f64(), "");
    }

    /// Three agents for an hour, and the same compacted ten to one.
    async fn run_hour(&mut self, location: &Location) {
        self.begin("hour").await;
        let before = self.settled_size(location).await;
        for _ in 0..3 * 3_600 {
            let entry = self.next(3);
            self.writer.write(entry, Instant::now()).await.unwrap();
            while let Ok(committed) = self.done.try_recv() {
                committed.result.unwrap();
            }
        }
        let after = self.settled_size(location).await;
        let finish = Finish {
            run: self.run.clone(),
            revision: 1,
            exit_code: 0,
            finished_at_us: 1,
            report: Ok(vec![b'x'; 20_000]),
            figures: None,
        };
        self.store.finish_run(&finish).await.unwrap();
        let started = Instant::now();
        let merged = |span: &groundswell_coordinator::store::Span| {
            let groups = span.deltas.chunks(10);
            Ok(groups.map(|group| Merged { deltas: group.len(), bytes: group[0].clone() }).collect())
        };
        self.store.compact(&self.run, merged).await.unwrap();
        let took = started.elapsed();
        let compacted = self.settled_size(location).await;
        println!("an hour of 3 agents, 10800 deltas of {DELTA_BYTES} bytes:");
        if let (Some(before), Some(after), Some(compacted)) = (before, after, compacted) {
            print("  on disk", (after - before) as f64 / 1e6, "MB");
            print("  for each delta", (after - before) as f64 / 10_800.0, "bytes");
            print("  compacted ten to one", (compacted as f64 - before as f64) / 1e6, "MB");
        }
        print("  compacting took", took.as_secs_f64(), "s");
    }

    /// All that was written is committed, and in the database itself: closing empties the log beside it. Unknown for a
    /// server.
    async fn settled_size(&mut self, location: &Location) -> Option<u64> {
        let (sender, done) = mpsc::channel(1);
        let writer = std::mem::replace(&mut self.writer, self.store.writer(1, sender));
        let mut old = std::mem::replace(&mut self.done, done);
        let ((), ()) = tokio::join!(writer.close(), async { while old.recv().await.is_some() {} });
        self.store.close().await;
        let size = size(location);
        let (sender, done) = mpsc::channel(1_024);
        self.store = Store::open(location).await.unwrap();
        (self.writer, self.done) = (self.store.writer(4_096, sender), done);
        size
    }
}

fn size(location: &Location) -> Option<u64> {
    let Location::Folder(folder) = location else { return None };
    Some(folder.join("groundswell.db").metadata().unwrap().len())
}

/// What doesn't compress, as deltas that are compressed already.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let words = (0..DELTA_BYTES.div_ceil(8)).flat_map(|_| {
        // SplitMix64 (Steele, Lea and Flood, 2014).
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let value = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (value ^ (value >> 31)).to_le_bytes()
    });
    words.take(DELTA_BYTES).collect()
}

/// CPU seconds of this process, in steps of 10 ms; only on Linux.
fn cpu_time() -> Option<f64> {
    let text = std::fs::read_to_string(Path::new("/proc/self/stat")).ok()?;
    // The name of the program, in brackets, may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / 100.0)
}

fn quantiles(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!("{what:<42}{:>10.2} ms in the median, {:.2} ms at the 99th percentile", at(0.5), at(0.99));
}

fn print(what: &str, value: f64, unit: &str) {
    println!("{what:<42}{value:>10.1} {unit}");
}
