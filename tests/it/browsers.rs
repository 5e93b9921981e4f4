//! Browsers: who logs in, who guesses, and pages of elsewhere. Row 75 of the fault matrix.

use anyhow::{Context, ensure};
use groundswell_proto::v1::agent_message::Kind as Say;
use groundswell_proto::v1::{AgentMessage, Hello};
use prost::Message;
use serde_json::json;

use crate::dashboard::{browser, ends_well, pictures};
use crate::harness::{Answer, Api, folder, serve};
use crate::security::Guarded;

/// Logs a browser in. Returns its cookie as it sends it, and as it was told to keep it.
fn cookie(nobody: &Api, token: &str) -> anyhow::Result<(String, String)> {
    let entered = nobody.post("/login", Some(&json!({ "token": token })))?;
    let kept = entered.headers.get("set-cookie").context("no cookie")?.clone();
    Ok((kept.split(';').next().unwrap_or_default().to_owned(), kept))
}

/// A login gives a cookie that no script reads and no page of elsewhere uses.
pub(crate) fn a_login_is_a_cookie() -> anyhow::Result<()> {
    let guarded = Guarded::start()?;
    let run = guarded.token("run", &[])?;
    let nobody = Api::with_token(&guarded.url, &run)?.as_other(None);
    let (cookie, kept) = cookie(&nobody, &run)?;
    for wanted in ["__Host-", "; Secure", "; HttpOnly", "; SameSite=Strict", "; Path=/"] {
        ensure!(kept.contains(wanted), "{wanted} is not in {kept}");
    }
    ensure!(!kept.contains(&run), "the token stands in the cookie");
    let with = |method: &str, path: &str, more: &[(&str, &str)]| {
        nobody.raw(method, path, &[&[("cookie", cookie.as_str())][..], more].concat(), b"")
    };
    ensure!(with("GET", "/api/v1/runs", &[])?.status == 200, "with the cookie");
    ensure!(with("GET", "/api/v1/session", &[])?.json()? == json!({ "open": false, "role": "run" }), "who am I");
    let own = guarded.url.clone();
    ensure!(with("POST", "/api/v1/runs/x/cancel", &[("origin", &own)])?.status == 404, "its own page");
    let another_host = own.replace("127.0.0.1", "127.0.0.2");
    for origin in ["https://evil.example", "null", &own.replace("https", "http"), &another_host] {
        let cross = with("POST", "/api/v1/runs/x/cancel", &[("origin", origin)])?;
        ensure!(cross.problem(403)?.contains("a page of"), "{origin}: {cross:?}");
    }
    ensure!(with("GET", "/api/v1/runs", &[("host", "evil.example:7710")])?.status == 421, "a rebound name");
    ensure!(with("POST", "/api/v1/logout", &[("origin", &own)])?.status == 204, "logged out");
    ensure!(with("GET", "/api/v1/runs", &[])?.status == 401, "after the logout");
    Ok(())
}

/// Who guesses has to wait, wherever a token can be tried, and locks nobody else out; what strangers send is small.
pub(crate) fn who_guesses_waits() -> anyhow::Result<()> {
    let guarded = Guarded::start()?;
    let run = guarded.token("run", &[])?;
    let api = Api::with_token(&guarded.url, &run)?;
    let nobody = api.as_other(None);
    let login = |token: &str| nobody.post("/login", Some(&json!({ "token": token })));
    let guesses: Vec<u16> =
        (0..12).map(|_| Ok(login("gs.admin.00000000.nonsense.nonsense")?.status)).collect::<anyhow::Result<_>>()?;
    ensure!(guesses[0] == 401 && guesses[11] == 429, "{guesses:?}");
    for path in ["/session", "/runs"] {
        ensure!(nobody.as_other(Some("a guess of their own")).get(path)?.status == 429, "{path}");
    }
    ensure!(login(&run)?.status == 200 && api.get("/runs")?.status == 200, "a token that counts is locked out");
    for path in ["/login", "/join"] {
        let large = format!("{{\"token\": \"{}\"}}", "x".repeat(20 << 10));
        let answer =
            nobody.raw("POST", &format!("/api/v1{path}"), &[("content-type", "application/json")], large.as_bytes())?;
        ensure!(answer.status == 413, "{path} takes a large body: {answer:?}");
    }
    Ok(())
}

/// Row 75 where no token is wanted, a coordinator of one's own machine: pages of elsewhere and names that somebody points
/// here change nothing, read nothing, and are no agent.
pub(crate) fn pages_of_elsewhere() -> anyhow::Result<()> {
    let (_coordinator, url) = serve()?;
    let open = Api::of(&url)?;
    let rebound = [("host", "evil.example"), ("content-type", "application/json")];
    ensure!(open.raw("POST", "/api/v1/runs", &rebound, b"{}")?.status == 421, "a rebound name");
    ensure!(open.raw("GET", "/api/v1/runs", &rebound, b"")?.status == 421, "a rebound name reads");
    let cross = open.raw("POST", "/api/v1/runs", &[("origin", "http://evil.example")], b"{}")?;
    ensure!(cross.problem(403)?.contains("evil.example"), "{cross:?}");
    ensure!(open.raw("GET", "/api/v1/runs/x/cancel", &[], b"")?.status == 405, "nothing changes by GET");
    for kind in ["text/plain", "application/grpc"] {
        let joined = hello_of_a_page(&open, kind)?;
        ensure!(joined.problem(403)?.contains("only agents"), "{kind}: {joined:?}");
    }
    Ok(())
}

/// What a page sends that wants to be an agent: a stream as agents begin it, which needs no question before.
fn hello_of_a_page(api: &Api, kind: &str) -> anyhow::Result<Answer> {
    let hello = AgentMessage { kind: Some(Say::Hello(Hello { name: "page".to_owned(), ..Hello::default() })) };
    let hello = hello.encode_to_vec();
    let frame = [&[0][..], &u32::try_from(hello.len())?.to_be_bytes(), &hello].concat();
    let headers = [("origin", "http://evil.example"), ("host", "evil.example"), ("content-type", kind)];
    api.raw("POST", "/groundswell.v1.AgentService/Session", &headers, &frame)
}

/// The dashboard in a browser.
pub(crate) fn a_person_logs_in() -> anyhow::Result<()> {
    let guarded = Guarded::start()?;
    let view = guarded.token("view", &[])?;
    let temporary = folder()?;
    ends_well(browser("login", &guarded.url, &view, &pictures(temporary.path())?)?)
}
