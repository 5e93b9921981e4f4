//! A cluster of separate processes: what it reports is what the target saw and what its agents measured.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};

use crate::harness::{Nginx, Prepared, Report, agent, folder, oracle, response_histogram, serve};

const PLAN: &str = "
name: cluster
max_send_lag: 10s
target: TARGET
scenarios:
  browse:
    load: { users: 7, for: 2s }
    flow:
      - get: /a
        name: a
        capture: { id: $.id }
      - get: '/b/{{ id }}'
        name: b
  arrive:
    load: { rate: 150/s, for: 2s }
    flow:
      - post: /c
        name: c
        json: { k: '{{ iteration }}' }
      - get: /missing
        name: missing
  count:
    load: { iterations: 50, users: 4 }
    flow:
      - get: /d
        name: d
";

/// Three agents, a coordinator, a client, nginx: requests in its access log equal issued; the merged histogram equals
/// one histogram of the agents' raw samples; the agents' rows add up to the total row.
pub(crate) fn access_log_equals_issued() -> anyhow::Result<()> {
    let nginx = Nginx::start()?;
    let raw = folder()?;
    let (_coordinator, url) = serve()?;
    let _agents =
        ["a", "b", "c"].map(|name| agent(&url, name, Some(raw.path()))).into_iter().collect::<Result<Vec<_>, _>>()?;
    let prepared = Prepared::new(PLAN, &nginx.url())?;
    let run = prepared.call_on("run", &url, "3").finish()?;
    // Every request to /missing fails, and the verdict says so.
    ensure!(run.code == Some(3), "{run:?}");
    let report: Report = prepared.report()?;
    same_as_access_log(&report, &nginx.requests()?)?;
    same_as_raw_samples(&report, raw.path())?;
    agents_add_up(&report)?;
    ensure!(report.ledger.balanced && report.ledger.unknown_max == 0, "{:?}", report.ledger);
    let arrivals = report.steps.iter().find(|row| row.step == "c").context("no row c")?;
    ensure!(arrivals.scheduled == 300 && arrivals.issued == 300, "{arrivals:?}");
    let counted = report.steps.iter().find(|row| row.step == "d").context("no row d")?;
    ensure!(counted.scheduled == 50 && counted.issued == 50, "{counted:?}");
    Ok(())
}

fn same_as_access_log(report: &Report, requests: &BTreeMap<String, u64>) -> anyhow::Result<()> {
    let logged: u64 = requests.values().sum();
    ensure!(logged == report.ledger.issued, "nginx logged {logged}, the report says {}", report.ledger.issued);
    for (step, request) in
        [("a", "GET /a"), ("b", "GET /b/n1"), ("c", "POST /c"), ("missing", "GET /missing"), ("d", "GET /d")]
    {
        let row = report.steps.iter().find(|row| row.step == step).with_context(|| format!("no row {step}"))?;
        let logged = requests.get(request).copied().unwrap_or(0);
        ensure!(row.issued == logged && logged > 0, "{step}: nginx logged {logged}, the report says {}", row.issued);
    }
    Ok(())
}

fn same_as_raw_samples(report: &Report, raw: &std::path::Path) -> anyhow::Result<()> {
    let oracle = oracle(raw)?;
    ensure!(oracle.len() == report.steps.len(), "{} steps in the raw logs", oracle.len());
    for (step, row) in report.steps.iter().enumerate() {
        let wanted = oracle.get(&step).with_context(|| format!("no raw samples of step {step}"))?;
        let merged = response_histogram(row)?;
        let counts = |histogram: &hdrhistogram::Histogram<u64>| -> Vec<(u64, u64)> {
            histogram.iter_recorded().map(|bin| (bin.value_iterated_to(), bin.count_at_value())).collect()
        };
        ensure!(counts(&merged) == counts(wanted), "the buckets of {} differ from its raw samples", row.step);
        ensure!(row.response_ms.count == wanted.len(), "{}: {} samples", row.step, row.response_ms.count);
    }
    Ok(())
}

fn agents_add_up(report: &Report) -> anyhow::Result<()> {
    ensure!(report.agents.len() == 3, "{:?}", report.agents);
    let sum = |of: fn(&groundswell_coordinator::report::AgentFigures) -> u64| report.agents.iter().map(of).sum::<u64>();
    ensure!(sum(|agent| agent.issued) == report.total.issued, "issued: {:?}", report.agents);
    ensure!(sum(|agent| agent.ok) == report.total.ok, "ok: {:?}", report.agents);
    ensure!(sum(|agent| agent.errors) == report.total.errors, "errors: {:?}", report.agents);
    ensure!(sum(|agent| agent.response_ms.count) == report.total.response_ms.count, "samples: {:?}", report.agents);
    ensure!(report.agents.iter().all(|agent| agent.issued > 0), "an agent did nothing: {:?}", report.agents);
    let rows: u64 = report.steps.iter().map(|row| row.issued).sum();
    ensure!(rows == report.total.issued, "the rows add up to {rows}, the total is {}", report.total.issued);
    Ok(())
}

/// The number of agents changes who offers the load, not the load.
pub(crate) fn one_agent_and_four_offer_the_same() -> anyhow::Result<()> {
    let nginx = Nginx::start()?;
    let plan = "
max_send_lag: 10s
target: TARGET
scenarios:
  arrive:
    load: { rate: { from: 50/s, to: 150/s }, for: 2s, arrivals: poisson }
    flow: [ { get: /x } ]
  count:
    load: { iterations: { per_user: 7 }, users: 5 }
    flow: [ { get: /y } ]
";
    for agents in ["1", "4"] {
        let prepared = Prepared::new(plan, &nginx.url())?;
        let run = prepared.call("run", &["--agents", agents]).finish()?;
        ensure!(run.code == Some(0), "{run:?}");
        let report: Report = prepared.report()?;
        let issued: Vec<u64> = report.steps.iter().map(|row| row.issued).collect();
        ensure!(issued == [200, 35], "{agents} agents issued {issued:?}: {:?} {:?}", report.ledger, report.verdict);
    }
    Ok(())
}

/// Whatever owns the connections and whichever version they speak: the target's log has what was issued.
pub(crate) fn every_version_and_owner_of_connections() -> anyhow::Result<()> {
    let plan = "
target: TARGET
max_send_lag: 10s
http: { version: VERSION, connections: OWNER, transport: TRANSPORT }
scenarios:
  browse:
    load: { iterations: 300, users: 10 }
    flow: [ { get: /a }, { post: /b, json: { n: '{{ iteration }}' } } ]
";
    for version in ["1.1", "2"] {
        let nginx = if version == "2" { Nginx::start_http2()? } else { Nginx::start()? };
        let mut wanted = 0;
        for owner in ["per_user", "shared", "per_request", "{ shared: 3 }"] {
            for transport in ["direct", "reqwest"] {
                // reqwest has no limit for its connections.
                if transport == "reqwest" && owner.starts_with('{') {
                    continue;
                }
                let plan = plan.replace("VERSION", version).replace("OWNER", owner).replace("TRANSPORT", transport);
                let prepared = Prepared::new(&plan, &nginx.url())?;
                let run = prepared.call("run", &["--agents", "2"]).finish()?;
                let report: Report = prepared.report().with_context(|| format!("{run:?}"))?;
                wanted += 600;
                let seen: u64 = nginx.requests()?.values().sum();
                let case = format!("HTTP/{version} {owner} {transport}");
                ensure!(report.ledger.issued == 600 && report.total.ok == 600, "{case}: {:?}", report.ledger);
                ensure!(seen == wanted, "{case}: nginx logged {seen} in all, not {wanted}");
            }
        }
    }
    Ok(())
}
