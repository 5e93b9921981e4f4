//! Broadcasts and recoveries: the report beside what the server saw.

use std::time::Duration;

use anyhow::{Context, ensure};

use crate::harness::{Prepared, PythonServer, Report, agent, free_port, own_port, serve};

/// Runs a plan on three agents that are processes of their own.
fn on_three_agents(plan: &str, target: &str) -> anyhow::Result<Report> {
    let (_coordinator, url) = serve()?;
    let _agents = [agent(&url, "a", None)?, agent(&url, "b", None)?, agent(&url, "c", None)?];
    let prepared = Prepared::new(plan, target)?;
    let run = prepared.call_on("run", &url, "3").finish()?;
    prepared.report().with_context(|| format!("{run:?}"))
}

fn plan(subscribers: u32, publishers: u32, rate: u32, length: u32) -> String {
    format!(
        "
max_send_lag: 10s
target: TARGET
scenarios:
  readers:
    load: {{ iterations: {{ per_user: 1 }}, users: {subscribers} }}
    flow:
      - websocket: /room/lobby
        name: join
        timeout: 60s
        flow:
          - {{ subscribe: {{ room: lobby, settle: 1s }} }}
          - {{ send: {{ binary: AA== }}, name: ready }}
          - {{ receive: {{ contains: the end, within: 10m }}, name: until the end }}
  writers:
    load: {{ iterations: {{ per_user: 1 }}, users: {publishers} }}
    flow:
      - websocket: '/room/lobby?silent&after={subscribers}&writers={publishers}'
        name: write
        timeout: 60s
        flow:
          - {{ receive: {{ contains: go, within: 10m }}, name: go }}
          - send: {{ json: {{ id: '{{{{ message_id }}}}', text: hello }}, publish: lobby, rate: {rate}/s, for: {length}s, \
         shared: true }}
            name: publish
          - {{ send: {{ binary: AA== }}, name: done }}
thresholds: [missing == 0, duplicated == 0, out_of_order == 0]
"
    )
}

/// Three agents, a room with 300 subscribers, 5,000 messages: each of 1,500,000 deliveries is accounted for.
pub(crate) fn everything_arrives() -> anyhow::Result<()> {
    let server = PythonServer::start("rooms_websockets.py")?;
    let report = on_three_agents(&plan(300, 10, 125, 40), &server.url())?;
    let counted = server.counts_when(|counts| counts.get("closed_1000") == Some(&310))?;
    let [room] = report.broadcasts.as_slice() else { anyhow::bail!("{:?}", report.broadcasts) };
    ensure!(room.published == 5_000 && counted["published"] == 5_000, "{room:?} {counted:?}");
    ensure!(room.subscribers == 300 && room.expected == 1_500_000, "{room:?}");
    ensure!(room.delivered == 1_500_000 && room.missing == 0 && room.exact, "{room:?}");
    ensure!((room.duplicated, room.out_of_order, room.outside, room.misdirected) == (0, 0, 0, 0), "{room:?}");
    ensure!(report.thresholds.iter().all(|threshold| threshold.passed), "{:?}", report.thresholds);
    ensure!(room.delivery_ms.count == 1_500_000, "{room:?}");
    // Nobody but the readers is in the room, so each arrival is a delivery.
    ensure!(report.total.messages_received == counted["sent"], "{} {counted:?}", report.total.messages_received);
    ensure!(report.ledger.balanced && report.ledger.not_generated.is_empty(), "{:?}", report.ledger);
    Ok(())
}

/// One delivery in a thousand goes wrong; the report has the number.
pub(crate) fn faults_are_caught() -> anyhow::Result<()> {
    let caught = ["drop", "double", "swap"].map(|fault| std::thread::spawn(move || fault_is_caught(fault)));
    for caught in caught {
        caught.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
    }
    Ok(())
}

fn fault_is_caught(fault: &str) -> anyhow::Result<()> {
    let server = PythonServer::start_on("rooms_websockets.py", free_port()?, &[fault])?;
    let report = on_three_agents(&plan(30, 1, 100, 10), &server.url())?;
    let counted = server.counts_when(|counts| counts.get("closed_1000") == Some(&31))?;
    let [room] = report.broadcasts.as_slice() else { anyhow::bail!("{:?}", report.broadcasts) };
    let of = |name: &str| counted.get(name).copied().unwrap_or(0);
    ensure!(room.published == 1_000 && room.expected == 30_000 && room.exact, "{fault}: {room:?}");
    let wrong = (room.missing, room.duplicated, room.out_of_order);
    // A message held back has no later one to come after where it was the last.
    let held = if fault == "swap" { 30_000 - room.delivered } else { 0 };
    ensure!(wrong == (of("dropped") + held, of("doubled"), of("swapped")), "{fault}: {wrong:?} {counted:?}");
    ensure!(of("dropped") + of("doubled") + of("swapped") + held == 30, "{fault}: {counted:?}");
    ensure!(room.delivered == 30_000 - room.missing, "{fault}: {room:?}");
    let broken = report.thresholds.iter().filter(|threshold| !threshold.passed).count();
    ensure!(broken == 1 + usize::from(held > 0), "{:?}", report.thresholds);
    Ok(())
}

const RESTART: &str = "
max_send_lag: 10s
target: TARGET
scenarios:
  readers:
    load: { iterations: { per_user: 1 }, users: 1000 }
    flow:
      - websocket: /room/lobby
        name: join
        timeout: 60s
        reconnect: { backoff: 100ms..500ms, max: 10000 }
        flow:
          - { subscribe: { room: lobby, settle: 1s } }
          - { send: { binary: AA== }, name: ready }
          # The first one is lost with the connection.
          - { receive: { contains: the end, within: 10m }, name: until the end }
          - { receive: { contains: the end, within: 10m }, name: until the end }
  writer:
    load: { iterations: 1, users: 1 }
    flow:
      - websocket: '/room/lobby?silent&after=1000'
        name: write
        timeout: 60s
        reconnect: { backoff: 10ms..20ms, max: 10000 }
        flow:
          - { receive: { contains: go, within: 10m }, name: go }
          - { send: { text: '{{ message_id }}', publish: lobby, rate: 2/s, for: 10s }, name: publish }
          - { send: { binary: AA== }, name: done }
";

/// The server dies under a thousand connections, by a kill of its own between two broadcasts, and comes again three
/// seconds later.
pub(crate) fn a_server_that_restarts() -> anyhow::Result<()> {
    let mut first = PythonServer::start_on("rooms_websockets.py", own_port()?, &["die"])?;
    let prepared = Prepared::new(RESTART, &first.url())?;
    let mut run = prepared.call("run", &["--agents", "2"]).start("run")?;
    first.ended()?;
    std::thread::sleep(Duration::from_secs(3));
    let second = PythonServer::start_on("rooms_websockets.py", first.port(), &["open"])?;
    run.wait()?;
    let report: Report = prepared.report()?;
    let counted = second.counts_when(|counts| counts.get("closed_1000") == Some(&1_001))?;
    let join = report.connections.iter().find(|row| row.step == "join").context("no row")?;
    let [recovery] = join.recoveries.as_slice() else { anyhow::bail!("{:?}", join.recoveries) };
    ensure!(join.opened == 2_000 && join.closed == 2_000 && join.most_open == 1_000, "{join:?}");
    ensure!(counted["connections"] == 1_001, "{counted:?}");
    ensure!((recovery.lost, recovery.restored, recovery.given_up) == (1_000, 1_000, 0), "{recovery:?}");
    let closed = |by: &str, code| join.closings.iter().find(|c| c.by == by && c.code == code).map_or(0, |c| c.count);
    ensure!(closed("target", 1006) == 1_000 && closed("agent", 1000) == 1_000, "{:?}", join.closings);
    ensure!(counted["closed_1000"] == 1_001, "{counted:?}");
    // It was away for three seconds and the time that Python takes to start.
    let (least, most) = (recovery.outage_ms.min.context("none")?, recovery.outage_ms.max.context("none")?);
    ensure!(least > 2_900.0 && most < 120_000.0, "{recovery:?}");
    let refused: u64 = recovery.failed_attempts.iter().map(|class| class.count).sum();
    ensure!(refused > 1_000, "{recovery:?}");
    // Each server wrote down to how many it sent each message.
    let sent = |server: &PythonServer| -> anyhow::Result<Vec<u64>> {
        Ok(server.file("broadcasts.log")?.lines().map(str::parse).collect::<Result<_, _>>()?)
    };
    let seen = [sent(&first)?, sent(&second)?].concat();
    let [room] = report.broadcasts.as_slice() else { anyhow::bail!("{:?}", report.broadcasts) };
    // What was written to a server that was dying was published all the same, however long it took to die.
    ensure!(room.published >= seen.len() as u64, "{room:?} {seen:?}");
    ensure!(room.expected == room.published * 1_000, "{room:?}");
    ensure!(room.delivered == seen.iter().sum::<u64>(), "{room:?} {seen:?}");
    ensure!(room.missing == room.expected - room.delivered && room.exact, "{room:?}");
    ensure!(room.missing <= room.while_disconnected, "{room:?}");
    ensure!(report.ledger.balanced, "{:?}", report.ledger);
    Ok(())
}

const STORM: &str = "
max_send_lag: 10s
target: TARGET
scenarios:
  readers:
    load: { iterations: { per_user: 1 }, users: 100 }
    flow:
      - websocket: /echo
        name: stay
        reconnect: { backoff: 50ms..100ms, max: 100 }
        drop: { every: 3s, share: 50% }
        flow: [ { listen: 8s } ]
";

/// Half of the connections is dropped twice, and every one comes back.
pub(crate) fn a_storm() -> anyhow::Result<()> {
    let server = PythonServer::start("rooms_websockets.py")?;
    let report = on_three_agents(STORM, &server.url())?;
    let counted = server.counts_when(|counts| counts.get("closed_1000") == Some(&100))?;
    let [row] = report.connections.as_slice() else { anyhow::bail!("{:?}", report.connections) };
    ensure!(row.recoveries.iter().map(|recovery| recovery.cycle).eq([1, 2]), "{:?}", row.recoveries);
    for recovery in &row.recoveries {
        ensure!((48..=52).contains(&recovery.lost) && recovery.restored == recovery.lost, "{recovery:?}");
        ensure!(recovery.handshake_ms.count == recovery.restored, "{recovery:?}");
    }
    let dropped: u64 = row.recoveries.iter().map(|recovery| recovery.lost).sum();
    ensure!(row.opened == 100 + dropped && counted["connections"] == row.opened, "{row:?} {counted:?}");
    ensure!(counted["closed_1006"] == dropped && counted["closed_1000"] == 100, "{counted:?}");
    Ok(())
}
