//! Targets that send without end: what each is called, and that the process which reads them stays small.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::harness::{Prepared, Report};

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
            let (name, class, http) = (flood.name, flood.class, flood.http);
            let (port, sent) = serve(flood)?;
            let plan = format!(
                "target: http://127.0.0.1:{port}\nmax_send_lag: 10s\nhttp: {{ transport: {transport}, timeout: 5s, {http} \
                 }}\nscenarios:\n  s: {{ load: {{ iterations: 80, users: 40 }}, flow: [ {{ get: /, expect: {{ contains: x }} }} ] }}\n"
            );
            let prepared = Prepared::new(&plan, "")?;
            let mut run = prepared.call("run", &["--plain"]).start(name)?;
            let mut most = 0;
            while let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", run.id())) {
                // An ended process has no memory any more; then its end is collected.
                let Some(peak) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) else { break };
                most = most.max(peak.trim().trim_end_matches(" kB").parse()?);
                std::thread::sleep(Duration::from_millis(20));
            }
            run.wait()?;
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

fn floods() -> anyhow::Result<Vec<Flood>> {
    let ok = |headers: &str| format!("HTTP/1.1 200 OK\r\n{headers}").into_bytes();
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..256 {
        bomb.write_all(&vec![0; 1 << 20])?;
    }
    let bomb = bomb.finish()?;
    let gzip = format!("content-encoding: gzip\r\ncontent-length: {}\r\n\r\n", bomb.len());
    Ok(vec![
        Flood {
            name: "body",
            class: "body_too_large",
            http: "max_body: 1MB",
            start: ok("content-length: 999999999999\r\n\r\n"),
            again: vec![b'x'; 64 << 10],
        },
        Flood {
            name: "header",
            class: "headers_too_large",
            http: "max_body: 1MB",
            start: ok("long: "),
            again: vec![b'x'; 64 << 10],
        },
        Flood {
            name: "interim",
            class: "headers_too_large",
            http: "max_body: 1MB",
            start: Vec::new(),
            again: b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1_000),
        },
        Flood {
            name: "bomb",
            class: "body_too_large",
            http: "max_body: 1MB, compression: true",
            start: [ok(&gzip), bomb].concat(),
            again: Vec::new(),
        },
    ])
}

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
