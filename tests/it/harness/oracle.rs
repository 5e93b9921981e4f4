//! A target that writes down who asked for what and when: the other half of every account.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail, ensure};

/// Nothing that a test waits for takes so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// The plan is kept to in every span of this length.
const SPAN: Duration = Duration::from_millis(100);

/// Requests for `/k/N`: for each N, when they came.
type Seen = BTreeMap<u64, Vec<SystemTime>>;

/// An HTTP server in a thread of the test. It answers everything at once and remembers each request for `/k/N`.
pub(crate) struct Oracle {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl Oracle {
    /// Starts it.
    ///
    /// # Errors
    /// When it finds no port.
    pub(crate) fn start() -> anyhow::Result<Self> {
        Self::start_on("127.0.0.1")
    }

    /// Starts one on this address.
    ///
    /// # Errors
    /// When that is not an address of this machine.
    pub(crate) fn start_on(address: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((address, 0))?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Mutex::new(Seen::new()));
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let seen = Arc::clone(&shared);
                // A connection that breaks is the agent's business; what it asked for before is written down.
                std::thread::spawn(move || drop(serve(&connection, &seen)));
            }
        });
        Ok(Oracle { address, seen })
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests so far.
    pub(crate) fn count(&self) -> u64 {
        lock(&self.seen).values().map(|times| times.len() as u64).sum()
    }

    /// Waits until it has seen so many.
    ///
    /// # Errors
    /// When they do not come.
    pub(crate) fn wait_for(&self, least: u64) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.count() < least {
            if Instant::now() > deadline {
                bail!("the target saw {} requests where {least} were to come", self.count());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Nobody asked for anything twice.
    ///
    /// # Errors
    /// Names what was asked for twice.
    pub(crate) fn nothing_twice(&self) -> anyhow::Result<()> {
        let seen = lock(&self.seen);
        let twice: Vec<u64> = seen.iter().filter(|(_, times)| times.len() > 1).map(|(k, _)| *k).collect();
        ensure!(twice.is_empty(), "asked for more than once: {twice:?}");
        Ok(())
    }

    /// Everything below `planned` was asked for exactly once, and nothing else.
    ///
    /// # Errors
    /// Names what is missing or too much.
    pub(crate) fn everything_once(&self, planned: u64) -> anyhow::Result<()> {
        self.nothing_twice()?;
        let seen = lock(&self.seen);
        let missing: Vec<u64> = (0..planned).filter(|k| !seen.contains_key(k)).collect();
        ensure!(missing.is_empty(), "never asked for: {missing:?}");
        ensure!(seen.len() as u64 == planned, "{} of {planned} planned", seen.len());
        Ok(())
    }

    /// With a constant rate, no request came before its time, so at no moment was more offered than planned.
    ///
    /// # Errors
    /// Names the first that came too early.
    pub(crate) fn nothing_early(&self, started: SystemTime, rate: f64, tolerance: Duration) -> anyhow::Result<()> {
        for (k, times) in lock(&self.seen).iter() {
            let due = started + Duration::from_secs_f64(*k as f64 / rate);
            let first = times.iter().min().context("no time")?;
            ensure!(*first + tolerance >= due, "{k} came {:?} early", due.duration_since(*first));
        }
        Ok(())
    }

    /// With a constant rate, in no span of 100 ms came more than a hundredth above the plan, left out what was due before
    /// the span began and came late: a slow machine may be late, but nobody may send what is another's or not yet due.
    /// Where a share changes hands this tells whether two had it at once.
    ///
    /// # Errors
    /// Names the first span with more.
    pub(crate) fn never_more_than_planned(
        &self,
        started: SystemTime,
        rate: f64,
        tolerance: Duration,
    ) -> anyhow::Result<()> {
        let mut came: Vec<(SystemTime, SystemTime)> = Vec::new();
        for (k, times) in lock(&self.seen).iter() {
            let due = started + Duration::from_secs_f64(*k as f64 / rate);
            came.extend(times.iter().map(|at| (*at, due)));
        }
        came.sort_unstable();
        // The clocks of the agents and of this process are compared by what the coordinator says of the start.
        let most = (rate * (SPAN + tolerance).as_secs_f64() * 1.01).ceil() as usize + 1;
        for (place, (from, _)) in came.iter().enumerate() {
            let in_span = came[place..].iter().take_while(|(at, _)| *at < *from + SPAN);
            let in_time = in_span.filter(|(_, due)| due >= from).count();
            ensure!(in_time <= most, "{in_time} requests in {SPAN:?} from {from:?} on, at most {most} are planned");
        }
        Ok(())
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(connection: &TcpStream, seen: &Mutex<Seen>) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let mut reader = BufReader::new(connection);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let at = SystemTime::now();
        let path = line.split(' ').nth(1).unwrap_or_default();
        if let Some(k) = path.strip_prefix("/k/").and_then(|k| k.parse().ok()) {
            lock(seen).entry(k).or_default().push(at);
        }
        // Requests of these tests have no body.
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
        }
        let mut writer = connection;
        writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
    }
}
