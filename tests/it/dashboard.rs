//! The dashboard: what is served, and what a real browser makes of it (`tests/browser/dashboard.py`).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Api, Daemon, Groundswell, agent, folder, free_port, python, repository, serve, serve_on};

/// Where the pictures are to be kept; a folder that is removed otherwise.
const PICTURES: &str = "GROUNDSWELL_TEST_SCREENSHOTS";

fn target() -> anyhow::Result<(Daemon, String)> {
    let mut target = Groundswell::new(["-v", "demo-target", "--listen", "127.0.0.1:0"]).start("target")?;
    let line = target.wait_for("http://")?;
    let url = line.split_whitespace().find(|word| word.starts_with("http://")).context("no URL")?.to_owned();
    Ok((target, url))
}

pub(crate) fn browser(what: &str, coordinator: &str, more: &str, pictures: &Path) -> anyhow::Result<Daemon> {
    let script = repository().join("tests/browser/dashboard.py");
    Daemon::spawn("browser", Command::new(python()).arg(script).args([what, coordinator, more]).arg(pictures))
}

/// Ends well, or says why not.
pub(crate) fn ends_well(mut browser: Daemon) -> anyhow::Result<()> {
    let code = browser.wait()?;
    ensure!(code == Some(0), "{}", browser.said());
    Ok(())
}

/// A folder for pictures: the one that was asked for, or the temporary one.
pub(crate) fn pictures(temporary: &Path) -> anyhow::Result<PathBuf> {
    let Some(wanted) = std::env::var_os(PICTURES) else { return Ok(temporary.to_owned()) };
    std::fs::create_dir_all(&wanted)?;
    Ok(wanted.into())
}

/// Runs are started, watched, read, compared and stopped from the pages.
pub(crate) fn from_start_to_comparison() -> anyhow::Result<()> {
    let (_target, url) = target()?;
    let (_coordinator, address) = serve()?;
    let _agents = [agent(&address, "one", None)?, agent(&address, "two", None)?];
    let temporary = folder()?;
    ends_well(browser("journey", &address, &url, &pictures(temporary.path())?)?)
}

/// Whatever a plan, an agent or a target calls itself is shown as it is, and does nothing.
pub(crate) fn markup_stays_text() -> anyhow::Result<()> {
    let (_target, url) = target()?;
    let (_coordinator, address) = serve()?;
    // The same as in the script.
    let _agent = agent(&address, r#"<img src="/pwned" onerror="alert(1)"><script>alert(2)</script><b>&lt;"#, None)?;
    let temporary = folder()?;
    ends_well(browser("markup", &address, &url, &pictures(temporary.path())?)?)
}

/// A page that watches a run finds a coordinator that was killed and started again, and then misses nothing.
pub(crate) fn watched_over_a_restart() -> anyhow::Result<()> {
    let (_target, url) = target()?;
    let data = tempfile::tempdir()?;
    let port = format!("127.0.0.1:{}", free_port()?);
    let (mut coordinator, address) = serve_on(&port, data.path())?;
    let _agent = agent(&address, "a", None)?;
    let plan = format!(
        "name: restarted\nmax_send_lag: 10s\ntarget: {url}\nscenarios:\n  arrive:\n    load: {{ rate: 50/s, for: 30s }}\n    \
         flow: [ {{ get: /health, name: health }} ]\n"
    );
    let submission = json!({ "plan": { "name": "restarted.yaml", "text": plan }, "agents": 1 });
    let accepted = Api::of(&address)?.post("/runs", Some(&submission))?.json()?;
    let temporary = folder()?;
    let run = accepted["id"].as_str().context("no id")?;
    let mut browser = browser("restart", &address, run, &pictures(temporary.path())?)?;
    browser.wait_for("watching")?;
    coordinator.signal(Signal::KILL)?;
    coordinator.wait()?;
    browser.wait_for("lost")?;
    let (_restarted, _) = serve_on(&port, data.path())?;
    ends_well(browser)
}

/// Every file has its type and the policy, a browser that has it is told so, and there is nothing else.
pub(crate) fn served_with_its_policy() -> anyhow::Result<()> {
    let (_coordinator, address) = serve()?;
    let api = Api::of(&address)?;
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/assets/app.css", "text/css; charset=utf-8"),
        ("/assets/app.js", "text/javascript; charset=utf-8"),
        ("/assets/icon.svg", "image/svg+xml"),
    ] {
        let answer = api.raw("GET", path, &[], b"")?;
        ensure!(answer.status == 200 && !answer.body.is_empty(), "{path}: {answer:?}");
        for (name, value) in [
            ("content-type", kind),
            ("cache-control", "no-cache"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            (
                "content-security-policy",
                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                 base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
            ),
        ] {
            let got = answer.headers.get(name).map_or("", String::as_str);
            ensure!(got == value, "{path}: {name} is {got}");
        }
        let etag = answer.headers["etag"].as_str();
        let again = api.raw("GET", path, &[("if-none-match", etag)], b"")?;
        ensure!(again.status == 304 && again.body.is_empty(), "{path} again: {again:?}");
    }
    for path in ["/assets/", "/assets/nothing.js", "/assets/..%2F..%2Fmod.rs", "/assets/index.html", "/index.html"] {
        api.raw("GET", path, &[], b"")?.problem(404)?;
    }
    Ok(())
}
