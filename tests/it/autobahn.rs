//! Autobahn's fuzzing server: what the WebSocket standard says, case by case.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Deserialize;
use tokio_tungstenite::tungstenite;

use crate::harness::{Autobahn, Prepared, Report, write};

/// Every message goes back as it came, until the server closes, and however it does.
const PLAN: &str = "
target: TARGET
max_send_lag: 10s
http: { timeout: 60s }
data: { cases: { csv: cases.csv, at_end: stop } }
scenarios:
  cases:
    load: { iterations: COUNT, users: 8 }
    flow:
      - websocket: '/runCase?case={{ cases.case }}&agent=groundswell'
        name: case
        on_message: { echo: true }
        flow: [ { closed: { codes: any, within: 60s }, name: ended } ]
";
/// The server writes a case down some time after its connection has ended.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the server makes of a case.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Judgement {
    behavior: String,
    behavior_close: String,
}

/// Passes every case but those of performance (9, and 12 and 13, which are those of compression).
pub(crate) fn every_case() -> anyhow::Result<()> {
    let server = Autobahn::start()?;
    let count: u32 = ask(&server.url("/getCaseCount"))?.context("no count")?.parse()?;
    let prepared = Prepared::new(&PLAN.replace("COUNT", &count.to_string()), &server.http_url())?;
    let rows: String = (1..=count).map(|case| format!("{case}\n")).collect();
    write(prepared.folder(), "cases.csv", &format!("case\n{rows}"))?;
    let run = prepared.call("run", &["--plain"]).finish()?;
    let report: Report = prepared.report().with_context(|| format!("{run:?}"))?;
    ensure!(report.ledger.balanced && report.total.errors == 0, "{}", run.stdout);
    let cases = judgements(&server, count as usize)?;
    ensure!(cases.len() == count as usize && count > 200, "{} of {count} cases", cases.len());
    let is_fine = |word: &str| matches!(word, "OK" | "NON-STRICT" | "INFORMATIONAL");
    let wrong: Vec<_> =
        cases.iter().filter(|(_, case)| !is_fine(&case.behavior) || !is_fine(&case.behavior_close)).collect();
    ensure!(wrong.is_empty(), "{wrong:?}");
    Ok(())
}

/// The server's report, as soon as it has every case.
fn judgements(server: &Autobahn, count: usize) -> anyhow::Result<BTreeMap<String, Judgement>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        ask(&server.url("/updateReports?agent=groundswell"))?;
        let cases = read(&server.reports())?;
        if cases.len() >= count || Instant::now() > deadline {
            return Ok(cases);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn read(folder: &Path) -> anyhow::Result<BTreeMap<String, Judgement>> {
    let text = std::fs::read_to_string(folder.join("index.json")).context("no report")?;
    let mut agents: BTreeMap<String, BTreeMap<String, Judgement>> = serde_json::from_str(&text)?;
    agents.remove("groundswell").context("the report has no groundswell")
}

/// The first text that the server says before it closes.
fn ask(url: &str) -> anyhow::Result<Option<String>> {
    let (mut socket, _) = tungstenite::connect(url)?;
    let mut said = None;
    loop {
        match socket.read() {
            Ok(tungstenite::Message::Text(text)) => said = said.or(Some(text.to_string())),
            Ok(_) => {}
            Err(tungstenite::Error::ConnectionClosed) => return Ok(said),
            Err(error) => return Err(error.into()),
        }
    }
}
