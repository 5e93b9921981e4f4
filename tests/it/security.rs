//! Who gets in: agents by certificate, people by token. Rows 62, 63 and 74 of the fault matrix.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use groundswell_access::{Identity, Trust, client_config};
use rustls::ClientConfig;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::{Code, Status};

use crate::harness::{Api, Daemon, Finished, Groundswell, Report, demo_target, join_with, write};

/// A coordinator that lets in only whom it knows, with its folder.
pub(crate) struct Guarded {
    daemon: Daemon,
    pub(crate) url: String,
    folder: TempDir,
}

impl Guarded {
    pub(crate) fn start() -> anyhow::Result<Self> {
        Self::start_with(&[])
    }

    fn start_with(more: &[&str]) -> anyhow::Result<Self> {
        Self::start_in(tempfile::tempdir()?, &[], more, &[])
    }

    fn start_in(folder: TempDir, before: &[&str], more: &[&str], variables: &[(&str, &str)]) -> anyhow::Result<Self> {
        let (data, access) = (folder.path().join("data"), folder.path().join("access"));
        let (data, access) = (data.display().to_string(), access.display().to_string());
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--data-dir", &data, "--access", &access];
        let call = Groundswell::new([before, &arguments, more].concat());
        let mut daemon = variables.iter().fold(call, |call, (name, value)| call.env(name, value)).start("serve")?;
        let line = daemon.wait_for("coordinator listening on https://")?;
        let url = line.rsplit(' ').next().context("no URL")?.to_owned();
        daemon.wait_for("run a plan")?;
        Ok(Guarded { daemon, url, folder })
    }

    /// A command about its access folder.
    fn command(&self, arguments: &[&str]) -> anyhow::Result<Finished> {
        let access = self.folder.path().join("access").display().to_string();
        Groundswell::new([arguments, &["--access", &access]].concat()).finish()
    }

    pub(crate) fn token(&self, role: &str, more: &[&str]) -> anyhow::Result<String> {
        let created = self.command(&[&["tokens", "create", role], more].concat())?;
        ensure!(created.code == Some(0), "{created:?}");
        Ok(created.stdout.trim().to_owned())
    }

    /// An identity of `certs agent`.
    fn identity(&self, name: &str, more: &[&str]) -> anyhow::Result<Identity> {
        let out = self.folder.path().join(name);
        let issued = self.command(&[&["certs", "agent", name, "--out", &out.display().to_string()], more].concat())?;
        ensure!(issued.code == Some(0), "{issued:?}");
        Identity::load(&out)?.context("no identity")
    }

    fn trust(&self) -> anyhow::Result<Trust> {
        Ok(Trust::from_pem(&std::fs::read_to_string(self.folder.path().join("access/ca.pem"))?)?)
    }

    /// What an agent is told that says it has this name and shows this certificate.
    fn says(&self, name: &str, identity: Option<&Identity>) -> anyhow::Result<Status> {
        let config: Arc<ClientConfig> = Arc::new(client_config(&self.trust()?, identity)?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match runtime.block_on(join_with(&self.url, Some(config), name, 1, Vec::new())) {
            Ok(_) => Ok(Status::ok("let in")),
            Err(error) => error.downcast::<Status>().or_else(|error| Ok(Status::unavailable(format!("{error:?}")))),
        }
    }
}

fn agent(url: &str, name: &str, more: &[&str]) -> Groundswell {
    let arguments = ["-v", "agent", "--coordinator", url, "--name", name, "--workers", "1"];
    Groundswell::new([&arguments, more].concat())
}

/// Row 62: no credential, a wrong, an expired and a revoked one. Row 63: a good one under another's name.
pub(crate) fn agents_need_a_certificate() -> anyhow::Result<()> {
    let guarded = Guarded::start()?;
    let nobody = guarded.says("a", None)?;
    ensure!(nobody.code() == Code::Unauthenticated && nobody.message().contains("--join"), "{nobody:?}");
    let identity = guarded.identity("a", &[])?;
    ensure!(guarded.says("a", Some(&identity))?.code() == Code::Ok, "a good certificate");
    let posing = guarded.says("b", Some(&identity))?;
    ensure!(posing.code() == Code::PermissionDenied && posing.message().contains("\"a\""), "{posing:?}");

    let elsewhere = Guarded::start()?;
    let stranger = guarded.says("a", Some(&elsewhere.identity("a", &[])?))?;
    ensure!(stranger.code() != Code::Ok, "of another CA: {stranger:?}");
    let expired = guarded.identity("short", &["--for", "1s"])?;
    std::thread::sleep(Duration::from_secs(3));
    let expired = guarded.says("short", Some(&expired))?;
    ensure!(expired.code() != Code::Ok, "expired: {expired:?}");

    // A running agent whose certificate is revoked ends, and can't come back with it.
    let kept = guarded.folder.path().join("a").display().to_string();
    let mut running = agent(&guarded.url, "a", &["--identity", &kept]).start("a")?;
    running.wait_for("joined")?;
    let revoked = guarded.command(&["certs", "revoke", "a"])?;
    ensure!(revoked.code == Some(0), "{revoked:?}");
    ensure!(running.wait()? == Some(2) && running.said().contains("revoked"), "{}", running.said());
    let revoked = guarded.says("a", Some(&identity))?;
    ensure!(revoked.code() == Code::Unauthenticated && revoked.message().contains("revoked"), "{revoked:?}");
    let join = guarded.token("join", &[])?;
    let again = agent(&guarded.url, "a", &["--join", &join]).finish()?;
    ensure!(again.code == Some(2) && again.stderr.contains("groundswell certs agent a"), "{again:?}");
    let anew = guarded.identity("a", &[])?;
    ensure!(guarded.says("a", Some(&anew))?.code() == Code::Ok, "a new certificate of the coordinator's user");
    Ok(())
}

/// A token gives a certificate, as often as it says; a wrong one, and a coordinator that is not the token's, do not.
pub(crate) fn agents_join_with_a_token() -> anyhow::Result<()> {
    let guarded = Guarded::start()?;
    let once = guarded.token("join", &["--uses", "1"])?;
    let kept = guarded.folder.path().join("kept").display().to_string();
    let mut first = agent(&guarded.url, "first", &["--join", &once, "--identity", &kept]).start("first")?;
    first.wait_for("joined")?;
    let posing = agent(&guarded.url, "first", &["--join", &guarded.token("join", &[])?]).finish()?;
    ensure!(posing.code == Some(2) && posing.stderr.contains("already there"), "{posing:?}");
    let second = agent(&guarded.url, "second", &["--join", &once]).finish()?;
    ensure!(second.code == Some(2) && second.stderr.contains("unknown, revoked or expired"), "{second:?}");
    // Started again, it has its certificate.
    first.signal(rustix::process::Signal::TERM)?;
    first.wait()?;
    agent(&guarded.url, "first", &["--identity", &kept]).start("first")?.wait_for("joined")?;

    let expired = guarded.token("join", &["--for", "0s"])?;
    let late = agent(&guarded.url, "late", &["--join", &expired]).finish()?;
    ensure!(late.code == Some(2) && late.stderr.contains("expired"), "{late:?}");
    let of_another_role = guarded.token("view", &[])?;
    let wrong = agent(&guarded.url, "wrong", &["--join", &of_another_role]).finish()?;
    ensure!(wrong.code == Some(2) && wrong.stderr.contains("role join is needed"), "{wrong:?}");
    let elsewhere = Guarded::start()?;
    let of_another = elsewhere.token("join", &[])?;
    let misled = agent(&guarded.url, "misled", &["--join", &of_another]).finish()?;
    ensure!(misled.code == Some(2) && misled.stderr.contains("invalid peer certificate"), "{misled:?}");

    for (more, hint) in [(&[][..], "--join TOKEN"), (&["--join", "nonsense"], "--ca")] {
        let hintless = agent(&guarded.url, "x", more).finish()?;
        ensure!(hintless.code == Some(2) && hintless.stderr.contains(hint), "{hintless:?}");
    }
    let readable = agent("http://192.0.2.77:7710", "x", &[]).finish()?;
    ensure!(readable.code == Some(2) && readable.stderr.contains("--insecure"), "{readable:?}");
    Ok(())
}

/// Whoever made every token count no more gets none that was not asked for.
pub(crate) fn no_tokens_unasked() -> anyhow::Result<()> {
    let guarded = Guarded::start()?;
    let listed = guarded.command(&["tokens", "list"])?.stdout;
    let ids: Vec<&str> = listed.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    ensure!(ids.len() == 2, "the tokens of the first start: {listed}");
    for id in ids {
        ensure!(guarded.command(&["tokens", "revoke", id])?.code == Some(0), "{id}");
    }
    let Guarded { daemon, folder, .. } = guarded;
    drop(daemon);
    let mut again = Guarded::start_in(folder, &[], &[], &[])?;
    let said = again.daemon.said();
    ensure!(said.contains("groundswell tokens create admin") && !said.contains("gs.admin"), "{said}");
    Ok(())
}

/// Tokens in files, as Kubernetes has them; the CA as a file beside them.
pub(crate) fn tokens_of_files() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let join = write(folder.path(), "join", "a secret of a cluster, long enough\n")?;
    let run = write(folder.path(), "run", "another secret of that cluster\n")?;
    let (join, run) = (join.display().to_string(), run.display().to_string());
    let guarded = Guarded::start_with(&["--token", &format!("join={join}"), "--token", &format!("run={run}")])?;
    let ca = guarded.folder.path().join("access/ca.pem").display().to_string();
    agent(&guarded.url, "a", &["--join-file", &join, "--ca", &ca]).start("a")?.wait_for("joined")?;
    let short = write(folder.path(), "short", "too short")?.display().to_string();
    let refused = Groundswell::new(["serve", "--listen", "127.0.0.1:0", "--token", &format!("run={short}")]);
    let refused = refused.env("GROUNDSWELL_DATA_DIR", folder.path()).finish()?;
    ensure!(refused.code == Some(2) && refused.stderr.contains("at least 20 characters"), "{refused:?}");
    Ok(())
}

const PLAN: &str = "
max_send_lag: 10s
target: TARGET
scenarios:
  arrive:
    load: { rate: 50/s, for: 1s }
    flow: [ { get: /health } ]
";

/// Every answer wants a token of the right role; a run of the command line with one is a run as any other.
pub(crate) fn people_need_a_token() -> anyhow::Result<()> {
    let guarded = Guarded::start()?;
    let (_target, target) = demo_target()?;
    let join = guarded.token("join", &[])?;
    let _agent = {
        let mut agent = agent(&guarded.url, "a", &["--join", &join]).start("a")?;
        agent.wait_for("joined")?;
        agent
    };
    let (view, run) = (guarded.token("view", &[])?, guarded.token("run", &[])?);
    let viewer = Api::with_token(&guarded.url, &view)?;
    let nobody = viewer.as_other(None);
    for path in ["/runs", "/agents", "/health", "/runs/x/report"] {
        ensure!(nobody.get(path)?.problem(401)?.contains("a token is needed"), "{path}");
        ensure!(viewer.as_other(Some(&join)).get(path)?.status == 403, "{path} with a token to join");
        ensure!(viewer.as_other(Some("gs.view.x")).get(path)?.status == 401, "{path} with nonsense");
    }
    for (path, status) in [("/metrics", 401), ("/health", 200), ("/ready", 200), ("/", 200)] {
        ensure!(nobody.raw("GET", path, &[], b"")?.status == status, "{path}");
    }
    ensure!(viewer.raw("GET", "/metrics", &[], b"")?.status == 200, "metrics");
    let submission = json!({ "plan": { "name": "p.yaml", "text": PLAN.replace("TARGET", &target) } });
    ensure!(viewer.post("/runs", Some(&submission))?.problem(403)?.contains("role run is needed"), "submitted to view");
    let runner = viewer.as_other(Some(&run));
    let import = runner.raw("POST", "/api/v1/runs/import", &[], b"x")?;
    ensure!(import.problem(403)?.contains("role admin"), "{import:?}");

    let plan = write(guarded.folder.path(), "plan.yaml", &PLAN.replace("TARGET", &target))?.display().to_string();
    let submit = |token: &str| {
        let call = Groundswell::new(["run", &plan, "--coordinator", &guarded.url, "--plain"]);
        call.env("GROUNDSWELL_TOKEN", token).finish()
    };
    let passed = submit(&run)?;
    ensure!(passed.code == Some(0) && passed.stdout.contains("PASSED"), "{passed:?}");
    ensure!(!passed.stdout.contains("--insecure"), "{passed:?}");
    let refused = submit(&view)?;
    ensure!(refused.code == Some(2) && refused.stderr.contains("role run is needed"), "{refused:?}");
    let id = run.split('.').nth(2).context("no id")?;
    let listed = guarded.command(&["tokens", "list"])?;
    ensure!(listed.stdout.contains(id) && !listed.stdout.contains(&run), "{listed:?}");
    guarded.command(&["tokens", "revoke", id])?;
    std::thread::sleep(Duration::from_millis(1_500));
    ensure!(runner.get("/runs")?.status == 401, "a revoked token");

    let audit = std::fs::read_to_string(guarded.folder.path().join("access/audit.jsonl"))?;
    for who in ["\"joined\"", "\"submitted\"", id, &target] {
        ensure!(audit.contains(who), "{who} is not in the audit log: {audit}");
    }
    for secret in [&join, &view, &run] {
        let secret = secret.split('.').nth(3).context("no secret")?;
        for file in files(guarded.folder.path())? {
            let text = String::from_utf8_lossy(&std::fs::read(&file)?).into_owned();
            ensure!(!text.contains(secret), "a token stands in {}", file.display());
        }
    }
    Ok(())
}

const SECRET_PLAN: &str = "
max_send_lag: 10s
target: TARGET
secrets: [api_key, password]
http: { headers: { x-key: '{{ secrets.api_key }}' }, timeout: 5s }
scenarios:
  calls:
    load: { rate: 20/s, for: 2s }
    flow:
      - { get: '/get?key={{ secrets.api_key }}', name: query, auth: { basic: { user: me, password: '{{ secrets.password }}' } } }
      - { post: /post, name: body, json: { key: '{{ secrets.api_key }}' }, expect: { contains: nothing of that } }
      - { get: '/{{ secrets.password }}/{{ user }}' }
      - { get: '/{{ secrets.password }}/{{ random_string(70000) }}', name: too long }
      - { get: '/{{ {} | dictsort(**{secrets.password: 1}) }}', name: no such argument }
      - { get: '/{{ \"/\" ~ secrets.password }}.example.com/', name: another host }
";

/// Answers everything with what was asked, as an error, and counts the requests that have both.
fn echo(secret: &'static str) -> anyhow::Result<(String, Arc<AtomicU64>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    let seen = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&seen);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let counted = Arc::clone(&counted);
            std::thread::spawn(move || {
                let mut buffer = [0; 8192];
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    let asked = String::from_utf8_lossy(&buffer[..read]).into_owned();
                    counted.fetch_add(u64::from(asked.contains(secret)), Ordering::Relaxed);
                    let answer =
                        format!("HTTP/1.1 500 {secret}\r\nx-echo: {secret}\r\ncontent-length: {read}\r\n\r\n{asked}");
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok((url, seen))
}

/// Row 74: a secret reaches the target, which sends it back in every way, and stands nowhere else: not in logs at their
/// fullest, the store, reports, the API, metrics, audit logs, or the arguments of processes.
pub(crate) fn secrets_stay_secret() -> anyhow::Result<()> {
    const KEY: &str = "canary-7f3c9a1e";
    const PASSWORD: &str = "canary-55d0b2f4";
    let (target, seen) = echo(KEY)?;
    let guarded =
        Guarded::start_in(tempfile::tempdir()?, &["-vv"], &["--secret", "api_key=env:TEST_KEY"], &[("TEST_KEY", KEY)])?;
    let folder = guarded.folder.path();
    let (join, admin) = (guarded.token("join", &[])?, guarded.token("admin", &[])?);
    let plan = write(folder, "plan.yaml", &SECRET_PLAN.replace("TARGET", &target))?.display().to_string();
    let run = |name: &str| {
        let outs = ["json", "txt", "md", "html", "xml", "csv", "steps.csv", "hlog"]
            .map(|end| format!("{}/{name}.{end}", folder.display()));
        let outs = outs.iter().flat_map(|out| ["--out", out.as_str()]).collect::<Vec<_>>();
        let arguments =
            [&["-vv", "run", &plan, "--coordinator", &guarded.url, "--plain", "--wait", "5"][..], &outs].concat();
        Groundswell::new(arguments).env("GROUNDSWELL_TOKEN", &admin).finish()
    };
    let file = write(folder, "password", PASSWORD)?;
    let mut lacking = agent(&guarded.url, "lacking", &["--join", &join]).start("lacking")?;
    lacking.wait_for("joined")?;
    let refused = run("refused")?;
    ensure!(
        refused.code == Some(3) && refused.stderr.contains("lacking") && refused.stderr.contains("no secret password"),
        "{refused:?}"
    );
    drop(lacking);
    std::fs::remove_file(folder.join("password"))?;
    let outside = tempfile::tempdir()?;
    let file = write(outside.path(), file.file_name().and_then(|name| name.to_str()).context("no name")?, PASSWORD)?;
    let source = format!("password=file:{}", file.display());
    let mut agent = agent(&guarded.url, "a", &["-vv", "--join", &join, "--secret", &source]).start("a")?;
    agent.wait_for("joined")?;
    let command = std::fs::read(format!("/proc/{}/cmdline", agent.id()))?;
    let ended = run("report")?;
    // It answers nothing but errors, so the run is DEGRADED.
    ensure!(ended.code == Some(3) && seen.load(Ordering::Relaxed) >= 40, "{ended:?}");

    let api = Api::with_token(&guarded.url, &admin)?;
    let runs = api.get("/runs")?.json()?;
    let id = runs[0]["id"].as_str().context("no run")?.to_owned();
    let mut texts = vec![
        ("stdout", ended.stdout),
        ("stderr", ended.stderr),
        ("agent", agent.said()),
        ("arguments", String::from_utf8_lossy(&command).into_owned()),
    ];
    for path in ["report", "frames", "plan", "percentiles", ""] {
        texts.push((
            "api",
            String::from_utf8_lossy(&api.get(format!("/runs/{id}/{path}").trim_end_matches('/'))?.body).into_owned(),
        ));
    }
    texts.push(("metrics", String::from_utf8_lossy(&api.raw("GET", "/metrics", &[], b"")?.body).into_owned()));
    let export = api.get(&format!("/runs/{id}/export"))?;
    let mut unpacked = String::new();
    flate2::read::GzDecoder::new(export.body.as_slice()).read_to_string(&mut unpacked)?;
    texts.push(("export", unpacked));
    let mut guarded = guarded;
    texts.push(("coordinator", guarded.daemon.said()));
    for (what, text) in &texts {
        ensure!(!text.contains(KEY) && !text.contains(PASSWORD), "a secret stands in {what}: {text}");
    }
    for file in files(guarded.folder.path())? {
        let text = String::from_utf8_lossy(&std::fs::read(&file)?).into_owned();
        ensure!(!text.contains(KEY) && !text.contains(PASSWORD), "a secret stands in {}", file.display());
    }
    Ok(())
}

fn files(folder: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

/// An open address without TLS has to be wanted, and stands in the report.
pub(crate) fn open_is_said() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (_target, target) = demo_target()?;
    let data = folder.path().join("data").display().to_string();
    let arguments = ["serve", "--listen", "0.0.0.0:0", "--data-dir", &data];
    let mut open = Groundswell::new([&arguments[..], &["--insecure"]].concat()).start("serve")?;
    let line = open.wait_for("coordinator listening on http://")?;
    let port = line.rsplit(':').next().context("no port")?.to_owned();
    let url = format!("http://127.0.0.1:{port}");
    let mut agent = agent(&url, "a", &[]).start("a")?;
    agent.wait_for("joined")?;
    let plan = write(folder.path(), "plan.yaml", &PLAN.replace("TARGET", &target))?.display().to_string();
    let out = folder.path().join("report.json").display().to_string();
    let run = Groundswell::new(["run", &plan, "--coordinator", &url, "--plain", "--out", &out]).finish()?;
    ensure!(run.code == Some(0) && run.stdout.contains("--insecure"), "{run:?}");
    let report: Report = serde_json::from_slice(&std::fs::read(&out)?)?;
    ensure!(report.warnings.iter().any(|warning| warning.code == "insecure"), "{:?}", report.warnings);
    drop(open);

    let mut closed = Groundswell::new(arguments).start("serve")?;
    let line = closed.wait_for("coordinator listening on ")?;
    ensure!(line.contains("https://"), "{line}");
    let port = line.rsplit(':').next().context("no port")?.to_owned();
    if let Ok(answer) = Api::elsewhere(&format!("127.0.0.1:{port}")).raw("GET", "/api/v1/runs", &[], b"") {
        bail!("an answer without TLS: {answer:?}");
    }
    Ok(())
}

/// A run that agents from elsewhere join: the command that it shows is all that they need.
pub(crate) fn a_run_that_others_join() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (_target, target) = demo_target()?;
    let plan = write(folder.path(), "plan.yaml", &PLAN.replace("TARGET", &target))?.display().to_string();
    let out = folder.path().join("report.json").display().to_string();
    let data = folder.path().join("data").display().to_string();
    let arguments = ["run", &plan, "--listen", "0.0.0.0:0", "--wait-agents", "1", "--agents", "1", "--data-dir", &data];
    let arguments = [&arguments[..], &["--plain", "--out", &out]].concat();
    let mut run = Groundswell::new(arguments).start("run")?;
    let line = run.wait_for("waiting for 1 agents: ")?;
    let words: Vec<&str> = line.split("groundswell ").nth(1).context("no command")?.split(' ').collect();
    let mut agent =
        Groundswell::new([&["-v"], &words[..], &["--workers", "1", "--name", "elsewhere"]].concat()).start("a")?;
    agent.wait_for("joined")?;
    ensure!(run.wait()? == Some(0), "{}", run.said());
    let report: Value = serde_json::from_slice(&std::fs::read(&out)?)?;
    let names: Vec<&str> =
        report["agents"].as_array().context("no agents")?.iter().filter_map(|agent| agent["name"].as_str()).collect();
    ensure!(names.contains(&"elsewhere") && names.len() == 2, "{names:?}");
    let left = Groundswell::new(["tokens", "list", "--data-dir", &data]).finish()?;
    ensure!(left.code == Some(0) && left.stdout.lines().count() == 1, "tokens outlive their run: {left:?}");
    ensure!(
        report["warnings"].as_array().is_some_and(|all| all.iter().all(|warning| warning["code"] != "insecure")),
        "{report}"
    );
    Ok(())
}
