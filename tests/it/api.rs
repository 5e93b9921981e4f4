//! The HTTP API of a coordinator: what it answers, to whom, and what it refuses. Every answer is held against the
//! description that the coordinator serves.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Api, Report, agent, demo_target, free_port, labelled_agent, serve, serve_on};

const PLAN: &str = "
name: api
max_send_lag: 10s
target: TARGET
scenarios:
  arrive:
    load: { rate: 50/s, for: SECONDSs }
    flow: [ { get: /health } ]
thresholds:
  - health.error_rate < 1%
";

fn plan(target: &str, seconds: u32) -> Value {
    let text = PLAN
        .replace("TARGET", target)
        .replace("SECONDS", &seconds.to_string())
        .replace("{ get: /health }", "{ get: /health, name: health }");
    json!({ "name": "api.yaml", "text": text })
}

fn id_of(accepted: &Value) -> anyhow::Result<String> {
    Ok(accepted["id"].as_str().context("no id")?.to_owned())
}

/// Submitted, listed, watched to its end, reported in every form, and described in every answer.
pub(crate) fn a_run_from_submission_to_report() -> anyhow::Result<()> {
    let (_target, url) = demo_target()?;
    let (_coordinator, address) = serve()?;
    let _agent = agent(&address, "a", None)?;
    let api = Api::of(&address)?;
    ensure!(api.get("/health")?.json()?["status"] == "ok", "not well");
    let agents = api.get("/agents")?.json()?;
    ensure!(agents[0]["name"] == "a" && agents[0]["state"] == "free", "{agents}");

    let submission = json!({ "plan": plan(&url, 3), "agents": 1, "labels": { "branch": "main" }, "submission": "one" });
    let accepted = api.post("/runs", Some(&submission))?;
    ensure!(accepted.status == 201, "{accepted:?}");
    let id = id_of(&accepted.json()?)?;
    let again = api.post("/runs", Some(&submission))?;
    ensure!(again.status == 200 && id_of(&again.json()?)? == id, "the same submission made another run");

    let mut events = api.events(&id)?;
    let opening = events.wait_for("run")?;
    ensure!(opening["name"] == "api" && opening["steps"][0]["step"] == "health", "{opening}");
    let mut frames = BTreeMap::new();
    let end = loop {
        let (name, data) = events.next()?;
        match name.as_str() {
            "frames" => frames.extend(by_start(&data)?),
            "finished" => break data,
            _ => {}
        }
    };
    ensure!(end["exit_code"] == 0, "{end}");
    let report: Report = serde_json::from_slice(&api.get(&format!("/runs/{id}/report"))?.body)?;
    let stored = by_start(&api.get(&format!("/runs/{id}/frames"))?.json()?)?;
    ensure!(stored.values().sum::<u64>() == report.total.issued, "{stored:?}");
    ensure!(frames.values().sum::<u64>() <= report.total.issued && !frames.is_empty(), "{frames:?}");

    let text = api.get(&format!("/runs/{id}/report?format=text"))?;
    ensure!(String::from_utf8_lossy(&text.body).contains("PASSED"), "{text:?}");
    for format in ["md", "junit", "csv", "csv-steps", "html", "hlog", "hgrm"] {
        let report = api.get(&format!("/runs/{id}/report?format={format}"))?;
        ensure!(report.status == 200 && report.body.len() > 100, "{format}: {report:?}");
    }
    let unknown = api.get(&format!("/runs/{id}/report?format=pdf"))?.problem(400)?;
    ensure!(unknown.contains("there is no \"pdf\"") && unknown.contains("hlog"), "{unknown}");
    let file = api.get(&format!("/runs/{id}/export"))?;
    let gzip = [("content-type", "application/gzip")];
    let known = api.raw("POST", "/api/v1/runs/import", &gzip, &file.body)?;
    ensure!(known.status == 200 && known.json()?["new"] == false, "{known:?}");
    let compared = api.get(&format!("/compare?base={id}&run={id}&format=json"))?;
    ensure!(compared.status == 200 && compared.json()?["schema"] == "groundswell.comparison/v1", "{compared:?}");
    ensure!(api.get(&format!("/compare?base=&run={id}"))?.problem(400)?.contains("base"), "compared with nothing");
    ensure!(api.get(&format!("/compare?base={id}&run=nothing"))?.problem(404)?.contains("no run"), "compared nothing");
    let (_elsewhere, other) = serve()?;
    let elsewhere = Api::of(&other)?;
    ensure!(elsewhere.raw("POST", "/api/v1/runs/import", &gzip, &file.body)?.status == 201, "not imported");
    let there = elsewhere.get(&format!("/runs/{id}/report"))?;
    ensure!(there.body == api.get(&format!("/runs/{id}/report"))?.body, "another report");
    let broken = elsewhere.raw("POST", "/api/v1/runs/import", &gzip, &file.body[..100])?;
    ensure!(broken.problem(422)?.contains("no run that can be imported"), "half a run was imported");
    let curves = api.get(&format!("/runs/{id}/percentiles"))?.json()?;
    ensure!(curves[0]["count"] == report.total.issued && curves[0]["step"] == "total", "{curves}");
    ensure!(api.get(&format!("/runs/{id}/plan"))?.json()?["text"] == submission["plan"]["text"], "another plan");
    let status = api.get(&format!("/runs/{id}"))?.json()?;
    ensure!(status["state"] == "finished" && status["summary"]["status"] == "passed", "{status}");
    let found = api.get("/runs?search=branch%3Dma&limit=5")?.json()?;
    ensure!(found[0]["id"] == id.as_str() && found[0]["summary"]["issued"] == report.total.issued, "{found}");
    ensure!(api.get("/runs?label=branch%3Dother")?.json()? == json!([]), "found by another label");
    ensure!(
        api.post(&format!("/runs/{id}/cancel"), None)?.problem(409)?.contains("is over"),
        "cancelled after its end"
    );
    Ok(())
}

/// Operations issued in each interval.
fn by_start(frames: &Value) -> anyhow::Result<BTreeMap<u64, u64>> {
    let frames = frames["frames"].as_array().context("no frames")?.iter();
    frames
        .map(|frame| {
            let issued = frame["total"]["issued"].as_u64().context("no issued")?;
            Ok((frame["t_s"].as_f64().context("no t_s")? as u64, issued))
        })
        .collect()
}

/// Runs that want other agents go side by side; one that wants those that are at work waits, or is told so at once.
pub(crate) fn runs_choose_their_agents() -> anyhow::Result<()> {
    let (_target, url) = demo_target()?;
    let (_coordinator, address) = serve()?;
    let _agents = [labelled_agent(&address, "east", "zone=east")?, labelled_agent(&address, "west", "zone=west")?];
    let api = Api::of(&address)?;
    let submit = |zone: &str, wait_s: u32, seconds: u32| {
        let selector = json!({ "zone": zone });
        api.post(
            "/runs",
            Some(&json!({ "plan": plan(&url, seconds), "agents": 1, "wait_s": wait_s, "selector": selector })),
        )
    };
    let first = id_of(&submit("east", 0, 60)?.json()?)?;
    let refused = submit("east", 0, 1)?.problem(409)?;
    ensure!(refused.contains("east works for run") && refused.contains(&first), "{refused}");
    let queued = id_of(&submit("east", 600, 1)?.json()?)?;
    // Its agents are others, so it overtakes the one that waits.
    let beside = id_of(&submit("west", 600, 1)?.json()?)?;
    ensure!(api.events(&beside)?.wait_for("finished")?["exit_code"] == 0, "the run on the west failed");
    let waiting = api.get(&format!("/runs/{queued}"))?.json()?;
    ensure!(waiting["state"] == "waiting" && waiting["detail"] == "0 of 1 agents are there", "{waiting}");
    ensure!(api.post(&format!("/runs/{first}/cancel"), None)?.status == 202, "not cancelled");
    ensure!(api.events(&first)?.wait_for("finished")?["exit_code"] == 130, "a run that was cancelled ends as such");
    ensure!(api.events(&queued)?.wait_for("finished")?["exit_code"] == 0, "what waited did not run");
    let agents: Report = serde_json::from_slice(&api.get(&format!("/runs/{queued}/report"))?.body)?;
    ensure!(agents.agents.iter().map(|agent| agent.name.as_str()).eq(["east"]), "{:?}", agents.agents);
    Ok(())
}

/// What is wrong is refused with a problem that says what and what to do, and nothing comes of it.
pub(crate) fn bad_input() -> anyhow::Result<()> {
    let (_coordinator, address) = serve()?;
    let api = Api::of(&address)?;
    let long = json!({ "plan": { "text": "x".repeat(49 << 20) } }).to_string();
    let json_type = [("content-type", "application/json")];
    let posted = |body: &[u8], headers: &[(&str, &str)]| api.raw("POST", "/api/v1/runs", headers, body);
    ensure!(posted(long.as_bytes(), &json_type)?.status == 413, "too large a body was taken");
    ensure!(posted(b"{}", &[("content-type", "text/plain")])?.problem(415)?.contains("Content-Type"), "another type");
    ensure!(posted(b"{\"plan\":", &json_type)?.problem(400)?.contains("line 1"), "half a body");
    ensure!(posted(b"{\"plan\":{}}", &json_type)?.problem(422)?.contains("text"), "a plan without a text");
    ensure!(posted(b"{\"paln\":{}}", &json_type)?.problem(422)?.contains("paln"), "an unknown key");
    let invalid =
        json!({ "plan": { "name": "x.yaml", "text": "target: http://127.0.0.1:1\nscenarios: {}\nfoo: 1\n" } });
    let detail = api.post("/runs", Some(&invalid))?.problem(422)?;
    ensure!(detail.contains("x.yaml") && detail.contains("foo"), "{detail}");
    let wait = json!({ "plan": { "text": "" }, "wait_s": -1 });
    ensure!(api.post("/runs", Some(&wait))?.problem(400)?.contains("wait_s is -1"), "a negative time");
    let labels = json!({ "plan": { "text": "" }, "labels": { "a\u{7}": "b" } });
    ensure!(api.post("/runs", Some(&labels))?.problem(400)?.contains("labels"), "a bell in a label");
    let file = json!({ "plan": { "text": "", "files": { "a.csv": { "base64": "?" } } } });
    ensure!(api.post("/runs", Some(&file))?.problem(400)?.contains("a.csv"), "no base64");
    for id in ["nothing", "..%2F..%2Fetc%2Fpasswd", "%00", "%F0%9F%8C%8A", &"x".repeat(5_000)] {
        for what in ["", "/events", "/report", "/frames", "/percentiles", "/plan"] {
            let answer = api.get(&format!("/runs/{id}{what}"))?;
            ensure!(answer.problem(404)?.contains("there is no run"), "{id}{what}: {answer:?}");
        }
        ensure!(api.post(&format!("/runs/{id}/cancel"), None)?.status == 404, "{id} was cancelled");
    }
    ensure!(api.get("/runs?limit=many")?.problem(400)?.contains("limit"), "many is a number");
    ensure!(api.get("/runs?colour=red")?.problem(400)?.contains("colour"), "an unknown parameter");
    ensure!(api.raw("DELETE", "/api/v1/runs", &[], b"")?.problem(405)?.contains("takes no DELETE"), "deleted");
    ensure!(api.get("/nothing")?.problem(404)?.contains("there is no GET"), "found nothing");
    ensure!(api.get("/runs")?.json()? == json!([]), "something came of it");
    Ok(())
}

/// A coordinator that is restarted in the middle goes on, and who watches again sees all that was measured.
pub(crate) fn watched_over_a_restart() -> anyhow::Result<()> {
    let (_target, url) = demo_target()?;
    let data = tempfile::tempdir()?;
    let port = format!("127.0.0.1:{}", free_port()?);
    let (mut coordinator, address) = serve_on(&port, data.path())?;
    let _agent = agent(&address, "a", None)?;
    let api = Api::of(&address)?;
    let id = id_of(&api.post("/runs", Some(&json!({ "plan": plan(&url, 15), "agents": 1 })))?.json()?)?;
    let mut events = api.events(&id)?;
    while events.wait_for("progress")?["issued"].as_u64().unwrap_or(0) < 100 {}
    coordinator.signal(Signal::KILL)?;
    coordinator.wait()?;
    let (_restarted, _) = serve_on(&port, data.path())?;
    let mut events = api.events(&id)?;
    let mut frames = BTreeMap::new();
    loop {
        let (name, data) = events.next()?;
        match name.as_str() {
            "frames" if data["whole"] == true => frames = by_start(&data)?,
            "frames" => frames.extend(by_start(&data)?),
            "finished" => break,
            _ => {}
        }
    }
    let report: Report = serde_json::from_slice(&api.get(&format!("/runs/{id}/report"))?.body)?;
    let stored = by_start(&api.get(&format!("/runs/{id}/frames"))?.json()?)?;
    ensure!(stored.values().sum::<u64>() == report.total.issued, "a hole: {stored:?}");
    // The last deltas come with the end; all that was shown before is as it is stored.
    let last = *frames.keys().last().context("no frames")?;
    let shown: Vec<_> = frames.range(..last.saturating_sub(1)).collect();
    ensure!(shown == stored.range(..last.saturating_sub(1)).collect::<Vec<_>>(), "{frames:?} is not {stored:?}");
    ensure!(report.ledger.balanced, "{:?}", report.ledger);
    Ok(())
}

/// A hundred who watch, and one who hardly reads, change neither the load nor the account.
pub(crate) fn watchers_change_nothing() -> anyhow::Result<()> {
    let (_target, url) = demo_target()?;
    let (coordinator, address) = serve()?;
    let _agent = agent(&address, "a", None)?;
    let api = Api::of(&address)?;
    let id = id_of(&api.post("/runs", Some(&json!({ "plan": plan(&url, 12), "agents": 1 })))?.json()?)?;
    let watchers: Vec<_> = (0..100).map(|_| api.events(&id)).collect::<anyhow::Result<_>>()?;
    let slow = std::thread::spawn({
        let mut slow = api.events(&id)?;
        move || -> anyhow::Result<()> {
            // About 1 kB a second for a quarter of a minute.
            for _ in 0..30 {
                slow.read_some(512)?;
                std::thread::sleep(Duration::from_millis(500));
            }
            Ok(())
        }
    });
    for mut watcher in watchers {
        ensure!(watcher.wait_for("finished")?["exit_code"] == 0, "the run failed");
    }
    let report: Report = serde_json::from_slice(&api.get(&format!("/runs/{id}/report"))?.body)?;
    ensure!(report.ledger.balanced && report.ledger.issued == 600, "{:?}", report.ledger);
    ensure!(coordinator.peak_memory_kib()? < 400 << 10, "watchers took {} KiB", coordinator.peak_memory_kib()?);
    slow.join().ok().context("the slow one failed")??;
    Ok(())
}
