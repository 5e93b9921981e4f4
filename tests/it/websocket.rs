//! WebSocket servers of other makes.

use anyhow::{Context, ensure};

use crate::harness::{Nginx, Prepared, PythonServer, Report};

fn run(plan: &str, target: &str) -> anyhow::Result<(Option<i32>, String, Report)> {
    let prepared = Prepared::new(plan, target)?;
    let run = prepared.call("run", &["--agents", "2"]).finish()?;
    let report = prepared.report().with_context(|| format!("{run:?}"))?;
    Ok((run.code, run.stdout, report))
}

/// Python's `websockets` counts connections and messages; so do we.
pub(crate) fn counts() -> anyhow::Result<()> {
    let server = PythonServer::start("websockets_echo.py")?;
    let plan = "
max_send_lag: 10s
target: TARGET
scenarios:
  live:
    load: { iterations: { per_user: 2 }, users: 10 }
    flow:
      - websocket: /ws
        name: open
        flow:
          - repeat: 5
            flow:
              - send: { json: { op: ping, id: '{{ uuid() }}' } }
                name: ping
              - receive: { json: { $.op: pong }, within: 30s }
                name: pong
          - send: hello
            name: text
          - receive: hello
            name: echo
          - send: { binary: AAECAw== }
            name: bytes
          - receive: any
            name: bytes back
          - close: 1000
            name: close
";
    let (code, stdout, report) = run(plan, &server.url())?;
    ensure!(code == Some(0), "{code:?}\n{stdout}");
    let counted = server.counts()?;
    let row = |name: &str| report.steps.iter().find(|row| row.step == name).with_context(|| format!("no row {name}"));
    ensure!(row("open")?.ok == 20 && counted["connections"] == 20, "{counted:?}");
    ensure!(report.total.messages_sent == counted["received"], "{} {counted:?}", report.total.messages_sent);
    ensure!(report.total.messages_received == counted["sent"], "{} {counted:?}", report.total.messages_received);
    ensure!(counted["received"] == 20 * 7 && row("ping")?.ok == 100 && row("pong")?.ok == 100, "{counted:?}");
    ensure!(row("close")?.ok == 20 && counted["closed_1000"] == 20, "{counted:?}");
    ensure!(report.ledger.balanced, "{:?}", report.ledger);
    Ok(())
}

const PLAN: &str = "
max_send_lag: 10s
target: TARGET
scenarios:
  live:
    load: { iterations: 4, users: 2 }
    flow:
      - websocket: /missing
        name: open
        flow:
          - send: hello
          - receive: hello
";

pub(crate) fn refused_by_uvicorn() -> anyhow::Result<()> {
    refused(&PythonServer::start("uvicorn_plain.py")?.url())
}

pub(crate) fn refused_by_nginx() -> anyhow::Result<()> {
    refused(&Nginx::start()?.url())
}

fn refused(target: &str) -> anyhow::Result<()> {
    let (code, stdout, report) = run(PLAN, target)?;
    ensure!(code == Some(3), "{code:?}");
    let row = report.steps.iter().find(|row| row.step == "open").context("no row")?;
    let class = row.error_classes.first().context("no error class")?;
    ensure!(class.class == "ws_upgrade_refused_404" && class.count == 4, "{class:?}");
    ensure!(class.explanation.contains("refused the WebSocket upgrade with 404"), "{class:?}");
    ensure!(class.explanation.contains("no WebSocket library"), "{class:?}");
    ensure!(stdout.contains("ws_upgrade_refused_404") && !stdout.contains("panicked"), "{stdout}");
    // What could not be sent without a socket is in the account.
    ensure!(
        report.ledger.balanced && report.ledger.not_generated.get("socket_not_open") == Some(&8),
        "{:?}",
        report.ledger
    );
    Ok(())
}
