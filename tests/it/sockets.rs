//! Every WebSocket step beside the server's own count, and servers that refuse, lie or attack.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::harness::{Prepared, PythonServer, Report, write};

const EVERY_STEP: &str = r#"
max_send_lag: 10s
target: TARGET
scenarios:
  live:
    load: { iterations: { per_user: 2 }, users: 10 }
    flow:
      - websocket: /echo
        name: open
        as: main
        flow:
          - { send: { json: { op: ping, id: "{{ message_id }}" } }, name: ping message }
          - { receive: { json: { $.op: pong, $.id: "{{ message_id }}" } }, name: pong message }
          - { send: { binary: AAECAw== }, name: bytes }
          - { receive: any, name: bytes back }
          - { send: { file: payload.bin }, name: file }
          - { receive: any, name: file back }
          - { ping: 30s, name: ping }
          - websocket: /push
            name: open push
            as: pushed
            flow:
              - { send: { json: { op: push, count: 20 } }, name: push }
              - { receive: { json: { $.number: exists }, count: 20, order: $.number, within: 30s }, name: twenty }
              - { send: { json: { op: push, count: 7 } }, name: push }
              - { listen: { messages: 7, within: 30s }, name: seven }
              - { send: still here, name: outer, on: main }
              - { receive: still here, name: outer back, on: main }
              - listen: 50ms
          - send: { json: { op: ping, id: "{{ message_id }}" }, rate: 100/s, for: 300ms, reply: $.id, within: 30s }
            name: replies
          - send: { text: tick, rate: 50/s, for: 100ms }
            name: ticks
          - { send: { text: tick, rate: 100/s, for: 250ms, shared: true }, name: shared ticks }
          - { close: { code: 4000, reason: done, expect: [1000, 4000] }, name: close }
      - websocket: /goodbye
        name: open goodbye
        flow:
          - { send: x, name: bye }
          - { closed: 4001, name: closed }
      - websocket: /push
        name: background
        as: feed
        background: true
        on_open: [ { json: { op: push, count: 3 } } ]
        on_message:
          - { json: { $.number: 2 }, count: twos, capture: { two: $.number }, reply: { json: { op: push, count: 0 } } }
      - { listen: 500ms, on: feed }
      - { send: { json: { op: push, count: "{{ two }}" } }, on: feed, name: captured }
      - { receive: { json: { $.number: 2 } }, on: feed, name: two more }
"#;

pub(crate) fn every_step_with_websockets() -> anyhow::Result<()> {
    let (report, counted) = every_step("rooms_websockets.py", EVERY_STEP)?;
    let sent: u64 = report.connections.iter().map(|row| row.frames_sent).sum();
    let received: u64 = report.connections.iter().map(|row| row.frames_received).sum();
    ensure!((sent, received) == (counted["frames_received"], counted["frames_sent"]), "{sent} {received} {counted:?}");
    // Some messages came in pieces.
    ensure!(received > report.total.messages_received + 1_000, "{received}");
    Ok(())
}

/// aiohttp serves HTTP too, so a user can ask for something while its socket stays open.
pub(crate) fn every_step_with_aiohttp() -> anyhow::Result<()> {
    let plan = EVERY_STEP.replace(
        "          - { ping: 30s, name: ping }\n",
        "          - { ping: 30s, name: ping }\n          - { get: /plain, name: get }\n",
    );
    let (_, counted) = every_step("rooms_aiohttp.py", &plan)?;
    ensure!(counted["requests"] == 20, "{counted:?}");
    Ok(())
}

fn every_step(script: &str, plan: &str) -> anyhow::Result<(Report, BTreeMap<String, u64>)> {
    let server = PythonServer::start(script)?;
    let prepared = Prepared::new(plan, &server.url())?;
    write(prepared.folder(), "payload.bin", &"payload".repeat(500))?;
    let run = prepared.call("run", &["--agents", "2"]).finish()?;
    let report: Report = prepared.report().with_context(|| format!("{run:?}"))?;
    let counted = server.counts_when(|counts| counts.get("closed_1000") == Some(&40))?;
    ensure!(run.code == Some(0) && report.total.errors == 0, "{}", run.stdout);
    let row = |name: &str| report.steps.iter().find(|row| row.step == name).with_context(|| format!("no row {name}"));
    let counts =
        [("ping message", 20), ("twenty", 20), ("seven", 20), ("replies", 600), ("ticks", 100), ("shared ticks", 50)];
    for (name, count) in counts {
        ensure!(row(name)?.ok == count, "{name}: {:?}", row(name)?);
    }
    for name in ["ping", "outer back", "file back", "close", "closed", "captured", "two more"] {
        ensure!(row(name)?.ok == 20, "{name}: {:?}", row(name)?);
    }
    // The handler saw the number 2 of the opening push and of the one after it.
    ensure!(row("twos")?.messages_received == 40, "{:?}", row("twos")?);
    ensure!(report.total.messages_sent == counted["received"], "{} {counted:?}", report.total.messages_sent);
    ensure!(report.total.messages_received == counted["sent"], "{} {counted:?}", report.total.messages_received);
    let over_sockets = report.connections.iter().map(|row| (row.messages_sent, row.messages_received));
    let over_sockets = over_sockets.fold((0, 0), |all, row| (all.0 + row.0, all.1 + row.1));
    ensure!(over_sockets == (counted["received"], counted["sent"]), "{over_sockets:?} {counted:?}");
    let all = |figure: fn(&groundswell_coordinator::report::ConnectionFigures) -> u64| -> u64 {
        report.connections.iter().map(figure).sum()
    };
    ensure!(all(|row| row.opened) == counted["connections"] && all(|row| row.closed) == 80, "{counted:?}");
    ensure!(all(|row| row.pings_sent) == 20 && counted["pings"] == 20, "{counted:?}");
    ensure!(all(|row| row.pongs_received) == 20, "{:?}", report.connections);
    let closed = |by: &str, code: u16| -> u64 {
        let closings = report.connections.iter().flat_map(|row| &row.closings);
        closings.filter(|closing| closing.by == by && closing.code == code).map(|closing| closing.count).sum()
    };
    ensure!(closed("agent", 1000) == counted["closed_1000"], "{counted:?}");
    ensure!(closed("agent", 4000) == counted["closed_4000"] && closed("agent", 4000) == 20, "{counted:?}");
    ensure!(closed("target", 4001) == counted["closed_4001"] && closed("target", 4001) == 20, "{counted:?}");
    let ledger = &report.ledger;
    ensure!(ledger.balanced && ledger.not_generated.is_empty() && ledger.issued == ledger.ok, "{ledger:?}");
    Ok((report, counted))
}

/// What a server does with a connection.
type Serve = Arc<dyn Fn(TcpStream) -> std::io::Result<()> + Send + Sync>;

/// A server on a free port; its threads end with the test process.
fn server(serve: Serve) -> anyhow::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = Arc::clone(&serve);
            // An error is the client's end of the connection.
            std::thread::spawn(move || serve(stream));
        }
    });
    Ok(port)
}

/// Reads the head of the handshake.
fn request(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? > 0 {
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Upgrades as the standard says (RFC 6455, section 4.2.2).
fn upgrade(stream: &mut TcpStream) -> std::io::Result<()> {
    let head = request(stream)?;
    let key = head
        .lines()
        .find_map(|line| line.to_lowercase().starts_with("sec-websocket-key").then(|| line.split(": ").nth(1)));
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(
        key.flatten().unwrap_or_default().trim().as_bytes(),
    );
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes())
}

/// Runs a small plan against a server and returns its report and the greatest memory of the process in kB.
fn attacked(name: &str, serve: Serve, flow: &str) -> anyhow::Result<(Report, u64)> {
    let port = server(serve)?;
    let plan = format!(
        "target: http://127.0.0.1:{port}\nmax_send_lag: 10s\nhttp: {{ timeout: 2s }}\nscenarios:\n  s:\n    load: {{ iterations: 4, users: 4 }}\n    flow:\n      - websocket: /ws\n        name: open\n        flow: {flow}\n"
    );
    let prepared = Prepared::new(&plan, "")?;
    let mut run = prepared.call("run", &["--plain"]).start(name)?;
    let mut most = 0;
    while let Ok(status) = std::fs::read_to_string(Path::new("/proc").join(run.id().to_string()).join("status")) {
        let Some(peak) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) else { break };
        most = most.max(peak.trim().trim_end_matches(" kB").parse()?);
        std::thread::sleep(Duration::from_millis(20));
    }
    run.wait()?;
    let report: Report = prepared.report().with_context(|| name.to_owned())?;
    ensure!(report.ledger.balanced && report.run.duration_s < 120.0, "{name}: {:?}", report.ledger);
    Ok((report, most))
}

fn classes(report: &Report, step: &str) -> Vec<(String, u64)> {
    let rows = report.steps.iter().filter(|row| row.step == step).flat_map(|row| &row.error_classes);
    rows.map(|row| (row.class.clone(), row.count)).collect()
}

pub(crate) fn refused_upgrades() -> anyhow::Result<()> {
    let answers: [(&str, &[u8]); 6] = [
        ("ws_upgrade_refused_404", b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"),
        ("ws_upgrade_refused_401", b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"),
        ("ws_upgrade_refused_426", b"HTTP/1.1 426 Upgrade Required\r\ncontent-length: 0\r\n\r\n"),
        ("ws_upgrade_refused_503", b"HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\n\r\n"),
        ("ws_upgrade_refused_200", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
        ("ws_handshake", b"\x00\x01 this is no HTTP \xff\r\n\r\n"),
    ];
    let mut explanations = Vec::new();
    for (class, answer) in answers {
        let serve: Serve = Arc::new(move |mut stream| {
            request(&mut stream)?;
            stream.write_all(answer)
        });
        let (report, _) = attacked(class, serve, "[ { listen: 1s } ]")?;
        ensure!(classes(&report, "open") == [(class.to_owned(), 4)], "{class}: {:?}", classes(&report, "open"));
        explanations.extend(report.total.error_classes.iter().map(|row| row.explanation.clone()));
    }
    explanations.sort();
    explanations.dedup();
    ensure!(explanations.len() == 6, "{explanations:#?}");
    Ok(())
}

/// What comes after the upgrade, what it is called where a step waits, and the close code that the server is told.
const FRAMES: &[(&str, &[u8], &str, Option<u16>)] = &[
    ("masked", &[0x81, 0x81, 1, 2, 3, 4, b'x' ^ 1], "ws_masked_frame", Some(1002)),
    ("reserved bits", &[0xc1, 1, b'x'], "ws_reserved_bits", Some(1002)),
    ("no UTF-8", &[0x81, 2, 0xc3, 0x28], "ws_bad_utf8", Some(1007)),
    ("control frame in pieces", &[0x09, 1, b'x'], "ws_bad_control_frame", Some(1002)),
    ("close with 1005", &[0x88, 2, 0x03, 0xed], "ws_bad_close_code", Some(1002)),
    ("close with 1006", &[0x88, 2, 0x03, 0xee], "ws_bad_close_code", Some(1002)),
    ("a frame of 2^63 bytes", &[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], "ws_message_too_large", Some(1009)),
    ("a frame of 2^40 bytes", &[0x82, 127, 0, 0, 1, 0, 0, 0, 0, 0], "ws_message_too_large", Some(1009)),
    ("an unknown frame", &[0x83, 1, b'x'], "ws_protocol", Some(1002)),
    ("garbage", &[b'H'; 300], "ws_reserved_bits", Some(1002)),
];

const WAIT: &str = "[ { receive: any, name: wait } ]";
/// An agent and its coordinator, with four connections.
const MOST_RESIDENT_KB: u64 = 250 << 10;

pub(crate) fn hostile_servers() -> anyhow::Result<()> {
    // They mostly wait, so they wait side by side.
    let attacks = FRAMES
        .iter()
        .map(|(name, frame, class, told)| std::thread::spawn(move || wrong_frame(name, frame, class, *told)));
    for attack in attacks.collect::<Vec<_>>() {
        attack.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
    }
    wrong_accept_key()?;
    floods()
}

fn wrong_frame(name: &str, frame: &'static [u8], class: &str, told: Option<u16>) -> anyhow::Result<()> {
    let (answers, answered) = std::sync::mpsc::channel();
    let serve: Serve = Arc::new(move |mut stream| {
        upgrade(&mut stream)?;
        stream.write_all(frame)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let _ = answers.send(answer);
        Ok(())
    });
    let (report, most) = attacked(name, serve, WAIT)?;
    ensure!(classes(&report, "wait") == [(class.to_owned(), 4)], "{name}: {:?}", classes(&report, "wait"));
    ensure!(most < MOST_RESIDENT_KB, "{name}: {most} kB");
    for answer in answered.try_iter() {
        let code = close_code(&answer);
        ensure!(told.is_none() || code == told, "{name}: told {code:?} by {answer:?}");
    }
    Ok(())
}

/// The code of a masked close frame.
fn close_code(frame: &[u8]) -> Option<u16> {
    let [0x88, _, m0, m1, _, _, high, low, ..] = frame else { return None };
    Some(u16::from_be_bytes([high ^ m0, low ^ m1]))
}

fn wrong_accept_key() -> anyhow::Result<()> {
    let serve: Serve = Arc::new(|mut stream| {
        request(&mut stream)?;
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: AAAA\r\n\r\n")
    });
    let (report, _) = attacked("wrong accept key", serve, WAIT)?;
    ensure!(classes(&report, "open") == [("ws_handshake".to_owned(), 4)], "{:?}", classes(&report, "open"));
    Ok(())
}

/// Frames without end.
fn floods() -> anyhow::Result<()> {
    let fragment = [&[0x02, 126, 0xff, 0xff][..], &vec![0; 0xffff]].concat();
    let mut more = fragment.clone();
    more[0] = 0x00;
    let ping = [0x89, 1, b'x'].repeat(1_000);
    let floods = [
        ("endless fragments", fragment, more, "ws_message_too_large"),
        ("ping flood", Vec::new(), ping, "ws_receive_timeout"),
        ("endless head", b"HTTP/1.1 101 x\r\n".to_vec(), b"x: y\r\n".repeat(1_000), "ws_handshake"),
    ];
    for (name, first, again, class) in floods {
        let in_head = class == "ws_handshake";
        let serve: Serve = Arc::new(move |mut stream| {
            if in_head {
                request(&mut stream)?;
            } else {
                upgrade(&mut stream)?;
            }
            stream.write_all(&first)?;
            // A second of what a loopback carries, or until the client has had enough.
            for _ in 0..20_000 {
                stream.write_all(&again)?;
            }
            Ok(())
        });
        let flow = "[ { receive: { contains: never, within: 3s }, name: wait } ]";
        let (report, most) = attacked(name, serve, flow)?;
        let step = if in_head { "open" } else { "wait" };
        ensure!(classes(&report, step) == [(class.to_owned(), 4)], "{name}: {:?}", classes(&report, step));
        ensure!(most < MOST_RESIDENT_KB, "{name}: {most} kB");
    }
    Ok(())
}

/// What is sent stays in the socket until it is full; then the send runs into its limit, and the rest has no socket.
pub(crate) fn a_server_that_stops_reading() -> anyhow::Result<()> {
    let serve: Serve = Arc::new(|mut stream| {
        upgrade(&mut stream)?;
        std::thread::sleep(Duration::from_secs(60));
        Ok(())
    });
    let flow = "[ { send: { text: \"{{ 'x' * 1000000 }}\", rate: 20/s, for: 2s }, name: flood }, { send: after, name: after } ]";
    let (report, most) = attacked("stops reading", serve, flow)?;
    let row = report.steps.iter().find(|row| row.step == "flood").context("no row")?;
    ensure!(row.errors > 0 && row.ok > 0 && row.scheduled == 160, "{row:?}");
    ensure!(most < MOST_RESIDENT_KB, "{most} kB");
    // The generator was ready all the time: what waited, waited for the server.
    ensure!(row.send_lag_ms.p99.is_some_and(|lag| lag < 1_500.0), "{row:?}");
    Ok(())
}
