//! Agents that can't be abused: where they send to, how much, in whose name, and what they write down of it. Each is held
//! against what the servers saw that must not be sent to: nothing.

use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use anyhow::{Context, ensure};
use groundswell_coordinator::report::Status;
use serde_json::Value;

use crate::harness::{
    Daemon, Finished, Groundswell, Prepared, Recorder, Report, agent_through, agent_with, folder, serve, write,
};

/// A few requests of one user; FLOW is what it does.
const PLAN: &str = "
target: TARGET
max_send_lag: 10s
scenarios:
  few:
    load: { iterations: 3 }
    flow: [ FLOW ]
";

fn plan(target: &str, flow: &str) -> anyhow::Result<Prepared> {
    Prepared::new(&PLAN.replace("FLOW", flow), target)
}

/// Runs a plan on one agent with these arguments.
fn run_on(arguments: &[&str], prepared: &Prepared) -> anyhow::Result<Finished> {
    let (_coordinator, url) = serve()?;
    let _agent = agent_with(&url, "guarded", arguments)?;
    prepared.call_on("run", &url, "1").finish()
}

/// The run ended before any load, and the text says who refused what and how to allow it.
fn was_refused(run: &Finished, says: &[&str]) -> anyhow::Result<()> {
    ensure!(run.code == Some(3), "{run:?}");
    for text in ["agent guarded can't take part: "].iter().chain(says) {
        ensure!(run.stderr.contains(text), "{text} is not in {run:?}");
    }
    Ok(())
}

/// The target, a step or a WebSocket that is not on the list: refused before anything is sent to anybody.
pub(crate) fn refused_at_submit() -> anyhow::Result<()> {
    let (listed, other) = (Recorder::start()?, Recorder::start()?);
    let port = other.port();
    let allow = ["--allow", &listed.address()];
    for (target, flow) in [
        (other.url(), "{ get: / }".to_owned()),
        // Other words for the same address.
        (format!("http://2130706433:{port}"), "{ get: / }".to_owned()),
        (format!("http://[::ffff:7f00:1]:{port}"), "{ get: / }".to_owned()),
        (format!("http://localhost:{port}"), "{ get: / }".to_owned()),
        (listed.url(), format!("{{ get: / }}, {{ get: 'http://0x7f.1:{port}/' }}")),
        (listed.url(), format!("{{ get: / }}, {{ get: 'http://127.0.0.1:{port}/{{{{ iteration }}}}' }}")),
        (listed.url(), format!("{{ get: / }}, {{ websocket: 'ws://127.0.0.1:{port}/' }}")),
    ] {
        let run = run_on(&allow, &plan(&target, &flow)?)?;
        let rule = if target.contains("localhost") { "localhost" } else { "127.0.0.1" };
        was_refused(&run, &[&format!("--allow {rule}:{port}"), &format!("It allows {}", listed.address())])
            .with_context(|| flow)?;
    }
    // A plan can't say that a name that is allowed has this address.
    let mapped = format!("{PLAN}http: {{ resolve: {{ shop.example.com: '127.0.0.1:{port}' }} }}\n");
    let mapped = Prepared::new(&mapped.replace("FLOW", "{ get: / }"), "http://shop.example.com")?;
    was_refused(&run_on(&["--allow", "shop.example.com"], &mapped)?, &[&format!("--allow 127.0.0.1:{port}")])?;
    // Without a list, only this machine.
    let outside = plan("http://192.0.2.1", "{ get: / }")?;
    was_refused(&run_on(&[], &outside)?, &["192.0.2.1:80", "this machine only", "--allow 192.0.2.1:80"])?;
    let metadata = plan("http://169.254.169.254", "{ get: / }")?;
    was_refused(&run_on(&["--allow", "0.0.0.0/0"], &metadata)?, &["metadata", "--allow 169.254.169.254:80"])?;
    ensure!(listed.connections() + other.connections() == 0, "something was sent");
    let allowed = run_on(&allow, &plan(&listed.url(), "{ get: / }")?)?;
    ensure!(allowed.code == Some(0) && listed.heads().len() == 3, "{allowed:?}");
    Ok(())
}

/// Operations that would have gone elsewhere were not sent, and the verdict names the agent.
fn was_kept(run: &Finished, report: &Report, operations: u64) -> anyhow::Result<()> {
    ensure!(run.code == Some(3) && report.verdict.status == Status::Invalid, "{run:?}");
    let reason = report.verdict.reasons.first().context("no reason")?;
    ensure!(reason.code == "not_allowed" && reason.agent.as_deref() == Some("guarded"), "{reason:?}");
    ensure!(reason.message.contains("--allow"), "{reason:?}");
    ensure!(report.ledger.unsent.get("not_allowed") == Some(&operations), "{:?}", report.ledger);
    ensure!(report.ledger.balanced && report.total.errors == 0, "{:?}", report.ledger);
    Ok(())
}

/// Redirects and hosts that templates make, through both transports and for WebSockets.
pub(crate) fn refused_at_connect() -> anyhow::Result<()> {
    let other = Recorder::start()?;
    let port = other.port();
    let redirecting = Recorder::redirecting_to(&format!("http://localhost:{port}/"))?;
    let rule = redirecting.address();
    let made = "vars: { host: 127.0.0.1 }\n";
    for (flow, more, asked) in [
        ("{ get: / }".to_owned(), "http: { redirects: { hosts: ['*'] }, transport: TRANSPORT }\n", 3),
        (format!("{{ get: 'http://{{{{ host }}}}:{port}/' }}"), "http: { transport: TRANSPORT }\n", 0),
        (format!("{{ websocket: 'ws://{{{{ host }}}}:{port}/' }}"), "", 0),
    ] {
        for transport in ["direct", "reqwest"] {
            let before = redirecting.heads().len();
            let text = PLAN.replace("FLOW", &flow) + made + &more.replace("TRANSPORT", transport);
            let prepared = Prepared::new(&text, &redirecting.url())?;
            let run = run_on(&["--allow", &rule], &prepared)?;
            let report: Report = prepared.report().with_context(|| format!("{run:?}"))?;
            was_kept(&run, &report, 3).with_context(|| format!("{flow} {transport}"))?;
            ensure!(redirecting.heads().len() == before + asked, "{flow}: {:?}", redirecting.heads());
            ensure!(report.total.issued - 3 + report.total.follow_ups == asked as u64, "{:?}", report.total);
        }
    }
    ensure!(other.connections() == 0, "{:?}", other.heads());
    Ok(())
}

/// A name server that says one thing when the plan is let in and another when the load begins.
struct TwoFaced {
    address: String,
    asked: Arc<AtomicU32>,
}

impl TwoFaced {
    /// The first question for an IPv4 address gets `first`, all later ones `then`.
    /// Each test has one of its own, of this number.
    fn start(number: u8, first: [u8; 4], then: [u8; 4]) -> anyhow::Result<Self> {
        // Resolvers ask at port 53, and loopback has addresses on which nobody else has it.
        let address = format!("127.{}.53.{number}", 64 + std::process::id() % 64);
        let socket = UdpSocket::bind((address.as_str(), 53)).with_context(|| address.clone())?;
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                if let Some(answer) = answer(&question[..length], |nth| if nth == 0 { first } else { then }, &count) {
                    // Who asked may have gone.
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Ok(TwoFaced { address, asked })
    }
}

/// Answer to a question with one name in it (RFC 1035, section 4); none for what is no question.
fn answer(question: &[u8], address: impl Fn(u32) -> [u8; 4], asked: &AtomicU32) -> Option<Vec<u8>> {
    let name = question.get(12..)?.iter().position(|byte| *byte == 0)?;
    let end = 12 + name + 1 + 4;
    let is_a = question.get(end - 4..end)? == [0, 1, 0, 1];
    let mut answer = question.get(..2)?.to_vec();
    // An answer without an error, to one question.
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    answer.extend(question.get(12..end)?);
    if is_a {
        // The name of the question, for no time at all.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend(address(asked.fetch_add(1, Ordering::Relaxed)));
    }
    Some(answer)
}

/// DNS rebinding: the name stood for an allowed address when the plan was let in, and stands for this machine when the
/// load begins.
pub(crate) fn rebinding() -> anyhow::Result<()> {
    let other = Recorder::start()?;
    let port = other.port();
    let names = TwoFaced::start(53, [192, 0, 2, 1], [127, 0, 0, 1])?;
    let files = folder()?;
    let servers = format!("nameserver {}\noptions timeout:2 attempts:2\n", names.address);
    let servers = write(files.path(), "resolv.conf", &servers)?.display().to_string();
    let own = ["-m", "sh", "-c", "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"", &servers];
    for (transport, rule) in [
        ("direct", "shop.example.com".to_owned()),
        ("reqwest", format!("*.example.com:{port}")),
        ("direct", "192.0.2.1".to_owned()),
    ] {
        names.asked.store(0, Ordering::Relaxed);
        let text = PLAN.replace("FLOW", "{ get: / }, { websocket: /ws }");
        let prepared = Prepared::new(
            &format!("{text}http: {{ transport: {transport} }}\n"),
            &format!("http://shop.example.com:{port}"),
        )?;
        let (_coordinator, url) = serve()?;
        let _agent = agent_through(&url, "guarded", &["--allow", &rule], "unshare", &own)?;
        let run = prepared.call_on("run", &url, "1").finish()?;
        let report: Report = prepared.report().with_context(|| format!("{run:?}"))?;
        was_kept(&run, &report, 6).context(rule)?;
        ensure!(names.asked.load(Ordering::Relaxed) >= 2, "the name was not asked for again");
    }
    ensure!(other.connections() == 0, "{:?}", other.heads());
    Ok(())
}

/// Names that can't be allowed are not asked for, and others only so often: a name server elsewhere hears nothing of what a
/// template makes of a host name.
pub(crate) fn look_ups() -> anyhow::Result<()> {
    let listed = Recorder::start()?;
    let names = TwoFaced::start(54, [203, 0, 113, 1], [203, 0, 113, 1])?;
    let files = folder()?;
    let servers = format!("nameserver {}\noptions timeout:2 attempts:2\n", names.address);
    let servers = write(files.path(), "resolv.conf", &servers)?.display().to_string();
    let own = ["-m", "sh", "-c", "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"", &servers];
    let text = "target: TARGET\nmax_send_lag: 10s\nscenarios:\n  s:\n    load: { iterations: { per_user: 1 }, users: 150 }\n    \
                flow: [ { get: 'http://{{ uuid() }}.victim.example/' } ]\n";
    for (rule, class, asks) in [("shop.example.com", "not_allowed", false), ("192.0.2.0/24", "too_many_look_ups", true)]
    {
        names.asked.store(0, Ordering::Relaxed);
        let prepared = Prepared::new(text, &listed.url())?;
        let (_coordinator, url) = serve()?;
        let allow = ["--allow", &listed.address(), "--allow", rule];
        let begun = Instant::now();
        let _agent = agent_through(&url, "guarded", &allow, "unshare", &own)?;
        let run = prepared.call_on("run", &url, "1").finish()?;
        let report: Report = prepared.report().with_context(|| format!("{run:?}"))?;
        ensure!(run.code == Some(3) && report.ledger.unsent.contains_key(class), "{rule}: {:?}", report.ledger);
        let asked = names.asked.load(Ordering::Relaxed);
        let most = if asks { 100 + 10 * (begun.elapsed().as_secs() as u32 + 1) } else { 0 };
        ensure!(asked <= most && (asked > 0) == asks, "{rule}: {asked} look-ups of {most}");
    }
    ensure!(listed.connections() == 0, "{:?}", listed.heads());
    Ok(())
}

fn value_of(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned()))
}

/// Every request and every upgrade says who sends it and for which run; only the agent, or who runs a plan alone, can
/// leave that away.
pub(crate) fn headers() -> anyhow::Result<()> {
    let flow = "{ get: / }, { websocket: /ws }, { get: /own, headers: { user-agent: shopper, groundswell-run: mine } }";
    for transport in ["direct", "reqwest"] {
        for (is_local, off) in [(false, false), (false, true), (true, false), (true, true)] {
            let target = Recorder::start()?;
            let text = format!("{}http: {{ transport: {transport} }}\n", PLAN.replace("FLOW", flow));
            let prepared = Prepared::new(&text, &target.url())?;
            let more: &[&str] = if off { &["--no-run-header"] } else { &[] };
            let run = if is_local { prepared.call("run", more).finish()? } else { run_on(more, &prepared)? };
            let report: Report = prepared.report().with_context(|| format!("{run:?}"))?;
            let heads = target.heads();
            ensure!(heads.len() == 9, "{heads:?}");
            for head in heads {
                let is_own = head.starts_with("get /own ");
                let wanted = if off { is_own.then(|| "mine".to_owned()) } else { Some(report.run.id.to_lowercase()) };
                ensure!(value_of(&head, "groundswell-run") == wanted, "{head} {}", report.run.id);
                let agent = value_of(&head, "user-agent").context("nobody")?;
                let is_named = agent.starts_with("groundswell/") && agent.contains("(+https://");
                ensure!(if is_own { agent == "shopper" } else { is_named }, "{head}");
            }
        }
    }
    Ok(())
}

/// The longest load and the most connections are the operator's.
pub(crate) fn caps() -> anyhow::Result<()> {
    let target = Recorder::start()?;
    let long =
        "target: TARGET\nmax_send_lag: 10s\nscenarios:\n  s: { load: { users: 1, for: 1h }, flow: [ { get: / } ] }\n";
    let run = run_on(&["--max-duration", "10m"], &Prepared::new(long, &target.url())?)?;
    was_refused(&run, &["the load lasts 1h", "10m", "--max-duration"])?;
    ensure!(target.connections() == 0, "something was sent");
    // How long iterations take is known only when they are done: they end at the limit.
    let endless = "target: TARGET\nmax_send_lag: 10s\nscenarios:\n  s:\n    load: { iterations: 1000000, for: 1h }\n    \
                   flow: [ { get: / }, { think: 20ms } ]\n";
    let prepared = Prepared::new(endless, &target.url())?;
    let run = run_on(&["--max-duration", "2s"], &prepared)?;
    let report: Report = prepared.report().with_context(|| format!("{run:?}"))?;
    ensure!(run.code == Some(3) && report.ledger.not_generated.contains_key("max_duration"), "{:?}", report.ledger);
    ensure!(report.total.issued > 0 && report.ledger.balanced, "{:?}", report.ledger);
    ensure!(run.stderr.contains("--max-duration") || run.stdout.contains("--max-duration"), "{run:?}");
    // Users wait for their turn, however fast the target is.
    let closed = "target: TARGET\nscenarios:\n  s: { load: { users: 50, for: 3s }, flow: [ { get: / } ] }\n";
    let (capped, prepared) = (Recorder::start()?, Prepared::new(closed, "TARGET")?);
    write(prepared.folder(), "plan.yaml", &closed.replace("TARGET", &capped.url()))?;
    let run = run_on(&["--max-rate", "20"], &prepared)?;
    let report: Report = prepared.report().with_context(|| format!("{run:?}"))?;
    let (seen, most) = (capped.heads().len(), (20.0 * report.run.duration_s).ceil() as usize + 2);
    ensure!(seen as u64 == report.total.issued && seen <= most, "{seen} of {most}");
    let warning = report.warnings.iter().find(|warning| warning.code == "max_rate").context("no warning")?;
    ensure!(warning.agent.as_deref() == Some("guarded") && warning.message.contains("waited"), "{warning:?}");
    ensure!(!report.verdict.reasons.iter().any(|reason| reason.code == "generator"), "{:?}", report.verdict);
    let many = "target: TARGET\nmax_send_lag: 10s\nscenarios:\n  s:\n    load: { users: 20, for: 1s }\n    \
                flow: [ { get: / }, { think: 100ms } ]\n";
    let (few, prepared) = (Recorder::start()?, Prepared::new(many, "TARGET")?);
    write(prepared.folder(), "plan.yaml", &many.replace("TARGET", &few.url()))?;
    let run = run_on(&["--max-connections", "5"], &prepared)?;
    let report: Report = prepared.report().with_context(|| format!("{run:?}"))?;
    ensure!(run.code == Some(3) && report.ledger.unsent.contains_key("max_connections"), "{:?}", report.ledger);
    ensure!(report.ledger.balanced && report.total.errors == 0 && report.total.ok > 0, "{:?}", report.ledger);
    ensure!(few.connections() == 5, "{} connections", few.connections());
    Ok(())
}

fn lines(log: &Path) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(log)?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// What the agent was asked to do and what it did is in its own log; without one it does nothing.
pub(crate) fn audit() -> anyhow::Result<()> {
    let (target, other, files) = (Recorder::start()?, Recorder::start()?, folder()?);
    let log = files.path().join("audit.jsonl");
    let path = log.display().to_string();
    let (_coordinator, url) = serve()?;
    let arguments = ["--audit", &path, "--allow", &target.address()];
    let _agent = agent_with(&url, "guarded", &arguments)?;
    let prepared = plan(&target.url(), "{ get: / }")?;
    let run = prepared.call_on("run", &url, "1").finish()?;
    let report: Report = prepared.report().with_context(|| format!("{run:?}"))?;
    let refused = plan(&other.url(), "{ get: / }")?.call_on("run", &url, "1").finish()?;
    was_refused(&refused, &["--allow"])?;
    let lines = lines(&log)?;
    let events: Vec<&str> = lines.iter().filter_map(|line| line["event"].as_str()).collect();
    ensure!(events == ["armed", "started", "ended", "refused"], "{lines:?}");
    for line in &lines[..3] {
        ensure!(line["run"] == report.run.id.as_str() && line["plan_hash"] == report.run.plan_hash.as_str(), "{line}");
        ensure!(
            line["agent"] == "guarded" && line["coordinator"] == url.as_str() && line["time"].is_string(),
            "{line}"
        );
    }
    ensure!(lines[0]["targets"][0]["addresses"][0] == target.address().as_str(), "{}", lines[0]);
    ensure!(lines[2]["counts"]["ok"] == 3 && lines[2]["counts"]["issued"] == 3, "{}", lines[2]);
    ensure!(lines[3]["reason"].as_str().is_some_and(|reason| reason.contains(&other.address())), "{}", lines[3]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        ensure!(std::fs::metadata(&log)?.permissions().mode() & 0o777 == 0o600, "others can read it");
    }
    // A log that can't be opened is wrong usage; one that is full lets nothing through.
    let nowhere = Groundswell::new(["agent", "--coordinator", &url, "--audit", "/nowhere/audit.jsonl"]).finish()?;
    ensure!(nowhere.code == Some(2) && nowhere.stderr.contains("/nowhere/audit.jsonl"), "{nowhere:?}");
    if Path::new("/dev/full").exists() {
        let before = target.connections();
        let full = run_on(&["--audit", "/dev/full"], &plan(&target.url(), "{ get: / }")?)?;
        was_refused(&full, &["audit log /dev/full can't be written"])?;
        ensure!(target.connections() == before, "something was sent");
    }
    Ok(())
}

/// Rules from the command line and the environment; a wrong one says what to write.
pub(crate) fn wrong_rules() -> anyhow::Result<()> {
    for (rule, says) in [("10.0.0.1/8", "10.0.0.0/8"), ("*", "0.0.0.0/0"), ("http://a.example.com", "no scheme")] {
        let agent = Groundswell::new(["agent", "--allow", rule]).finish()?;
        ensure!(agent.code == Some(2) && agent.stderr.contains(says), "{agent:?}");
    }
    let (_coordinator, url) = serve()?;
    let mut agent: Daemon = Groundswell::new(["agent", "--coordinator", &url])
        .env("GROUNDSWELL_ALLOW", "shop.example.com:443,10.0.0.0/8")
        .start("agent")?;
    agent.wait_for("sends load to shop.example.com:443, 10.0.0.0/8")?;
    Ok(())
}
