//! Targets that send without end: what each is called, and that the process which reads them stays small.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::harness::{Daemon, Prepared, Report};

/// Most that an agent with its coordinator may hold. It has 40 floods at once, each of which would alone be more.
const MOST_RESIDENT_KB: u64 = 200 << 10;
/// What one connection is sent at most, so that a fault in groundswell does not take the machine with it.
const FLOOD: usize = 256 << 20;

/// What is sent: a start, then the same again and again.
struct Flood {
    name: &'static str,
    /// What it must be called.
    class: &'static str,
    http: &'static str,
    /// What the plan expects, and so keeps, of a body.
    expect: &'static str,
    start: Vec<u8>,
    again: Vec<u8>,
}

pub(crate) fn memory_stays_bounded() -> anyhow::Result<()> {
    for transport in ["direct", "reqwest"] {
        for flood in floods()? {
            // reqwest reads interim responses for as long as they come, so with 40 such floods its worker does nothing
            // else; docs/plan.md says so.
            if flood.name == "interim" && transport == "reqwest" {
                continue;
            }
            let Flood { name, class, http, expect, .. } = flood;
            let (port, sent) = serve(flood)?;
            let plan = format!(
                "target: http://127.0.0.1:{port}\nmax_send_lag: 10s\nhttp: {{ transport: {transport}, timeout: 5s, {http} \
                 }}\nscenarios:\n  s: {{ load: {{ iterations: 80, users: 40 }}, flow: [ {{ get: /{expect} }} ] }}\n"
            );
            let prepared = Prepared::new(&plan, "")?;
            let mut run = prepared.call("run", &["--plain"]).start(name)?;
            let most = peak_kb(&mut run)?;
            let report: Report = prepared.report().with_context(|| format!("{transport} {name}"))?;
            let total = &report.total;
            let called: u64 = total.error_classes.iter().filter(|row| row.class == class).map(|row| row.count).sum();
            ensure!(total.issued == 80 && called == 80, "{transport} {name}: {total:?}");
            let sent_kb = sent.load(Ordering::Relaxed) >> 10;
            ensure!(most > 0 && most < MOST_RESIDENT_KB, "{transport} {name}: {most} kB after {sent_kb} kB were sent");
        }
    }
    Ok(())
}

/// Waits for the end of a run; returns the most memory that it had.
fn peak_kb(run: &mut Daemon) -> anyhow::Result<u64> {
    let mut most = 0;
    while let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", run.id())) {
        // An ended process has no memory any more; then its end is collected.
        let Some(peak) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) else { break };
        most = most.max(peak.trim().trim_end_matches(" kB").parse()?);
        std::thread::sleep(Duration::from_millis(20));
    }
    run.wait()?;
    Ok(most)
}

/// A body that is kept has this expectation, which can't hold.
const KEPT: &str = ", expect: { contains: x }";

fn floods() -> anyhow::Result<Vec<Flood>> {
    let ok = |headers: &str| format!("HTTP/1.1 200 OK\r\n{headers}").into_bytes();
    let encoded = |coding: &str, body: Vec<u8>| {
        let head = format!("content-encoding: {coding}\r\ncontent-length: {}\r\n\r\n", body.len());
        [ok(&head), body].concat()
    };
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..256 {
        bomb.write_all(&vec![0; 1 << 20])?;
    }
    let flood = |name, class, http, expect, start, again| Flood { name, class, http, expect, start, again };
    let length = ok("content-length: 999999999999\r\n\r\n");
    let piece = vec![b'x'; 64 << 10];
    let chunk = [&b"10000\r\n"[..], &piece, b"\r\n"].concat();
    let interim = b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1_000);
    let unpacked = "max_body: 1MB, compression: true";
    Ok(vec![
        flood("body", "body_too_large", "max_body: 1MB", KEPT, length.clone(), piece.clone()),
        flood("body that is not kept", "body_too_large", "max_body: 1MB", "", length, piece.clone()),
        flood("chunked", "body_too_large", "max_body: 1MB", KEPT, ok("transfer-encoding: chunked\r\n\r\n"), chunk),
        flood("header", "headers_too_large", "max_body: 1MB", KEPT, ok("long: "), piece),
        flood("interim", "headers_too_large", "max_body: 1MB", KEPT, Vec::new(), interim),
        flood("gzip", "body_too_large", unpacked, KEPT, encoded("gzip", bomb.finish()?), Vec::new()),
        flood("zstd", "body_too_large", unpacked, KEPT, encoded("zstd", zstd_bomb()), Vec::new()),
        flood("zstd window", "decode_failed", unpacked, KEPT, encoded("zstd", zstd_window()), Vec::new()),
    ])
}

/// 256 MiB of zeros in blocks of 128 KiB, each a byte that is said once (RFC 8878, section 3.1.1.2).
fn zstd_bomb() -> Vec<u8> {
    let block = (0..2_048_u32).flat_map(|nth| {
        let is_last = u32::from(nth == 2_047);
        let [low, middle, high, _] = ((128 << 10) << 3 | 0b010 | is_last).to_le_bytes();
        [low, middle, high, 0]
    });
    // No content size; a window of 8 MiB.
    [0x28, 0xb5, 0x2f, 0xfd, 0, 13 << 3].into_iter().chain(block).collect()
}

/// The same in one segment of 1 TiB, which a decoder would have to hold as a whole.
fn zstd_window() -> Vec<u8> {
    let frame = zstd_bomb();
    [&frame[..4], &[0xe0], &(1_u64 << 40).to_le_bytes(), &frame[6..]].concat()
}

/// A target that takes connections and says nothing: no more of them are open than the plan allows, what waits is shed
/// when it is too much, what was sent ends at its limit, and memory stays where it is.
pub(crate) fn silence() -> anyhow::Result<()> {
    for transport in ["direct", "reqwest"] {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let most_open = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&most_open);
        // Ends with the test process.
        std::thread::spawn(move || say_nothing(&listener, &counter));
        let plan = format!(
            "target: http://127.0.0.1:{port}\nmax_send_lag: 10s\nhttp: {{ transport: {transport}, timeout: 1s }}\n\
             scenarios:\n  s: {{ load: {{ rate: 200/s, for: 3s, max_in_flight: {IN_FLIGHT}, queue: 10 }}, flow: [ {{ get: / \
             }} ] }}\n"
        );
        let prepared = Prepared::new(&plan, "")?;
        let mut run = prepared.call("run", &["--plain", "--workers", "2"]).start("silence")?;
        let most = peak_kb(&mut run)?;
        let report: Report = prepared.report().context(transport)?;
        let (total, ledger) = (&report.total, &report.ledger);
        let most_open = most_open.load(Ordering::Relaxed);
        // reqwest leaves the end of a connection to a task of its own, so the next one may be opened before.
        let may_be_open = if transport == "direct" { IN_FLIGHT } else { 2 * IN_FLIGHT };
        ensure!(most_open > 0 && most_open <= may_be_open, "{transport}: {most_open} connections at once");
        ensure!(ledger.timeout > 0 && ledger.ok + ledger.errors == 0, "{transport}: {total:?}");
        ensure!(ledger.shed.get("max_in_flight").is_some_and(|shed| *shed > 0), "{transport}: {ledger:?}");
        ensure!(ledger.balanced && ledger.scheduled == 600, "{transport}: {ledger:?}");
        // 600 arrivals, of which three rounds of 20 are in flight until they time out, and the last ones that wait.
        ensure!(total.issued <= 6 * IN_FLIGHT, "{transport}: {total:?}");
        ensure!(most > 0 && most < MOST_RESIDENT_KB, "{transport}: {most} kB");
    }
    Ok(())
}

/// Counts the connections that are open whenever another one comes.
fn say_nothing(listener: &TcpListener, most: &AtomicU64) {
    let mut open: Vec<TcpStream> = Vec::new();
    for stream in listener.incoming().map_while(Result::ok) {
        open.push(stream);
        open.retain_mut(|stream| {
            // The client closed those that have an end.
            stream.set_nonblocking(true).is_ok()
                && loop {
                    match stream.read(&mut [0; 4096]) {
                        Ok(0) => break false,
                        Ok(_) => {}
                        Err(error) => break error.kind() == ErrorKind::WouldBlock,
                    }
                }
        });
        most.fetch_max(open.len() as u64, Ordering::Relaxed);
    }
}

/// Most operations at once of [`silence`].
const IN_FLIGHT: u64 = 20;

/// A server of one flood on a free port, and how much it has sent. Its threads end with the test process.
fn serve(flood: Flood) -> anyhow::Result<(u16, Arc<AtomicU64>)> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    let (flood, sent) = (Arc::new(flood), Arc::new(AtomicU64::new(0)));
    let counter = Arc::clone(&sent);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (flood, counter) = (Arc::clone(&flood), Arc::clone(&counter));
            std::thread::spawn(move || pour(stream, &flood, &counter));
        }
    });
    Ok((port, sent))
}

/// Sends until the other side has had enough.
fn pour(mut stream: TcpStream, flood: &Flood, sent: &AtomicU64) {
    let mut request = [0; 4096];
    while stream.read(&mut request).is_ok_and(|read| read > 0) {
        let pieces = FLOOD.checked_div(flood.again.len()).unwrap_or(0);
        let rest = std::iter::repeat_n(&flood.again, pieces);
        for piece in std::iter::once(&flood.start).chain(rest) {
            if stream.write_all(piece).is_err() {
                return;
            }
            sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    }
}
