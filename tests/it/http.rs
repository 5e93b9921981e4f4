//! HTTP against servers that nobody here wrote: httpbin for what people use of HTTP, nginx for HTTP/2 over TLS and for
//! connections that end at random, a proxy of another make.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use groundswell_coordinator::report::StepFigures;

use crate::harness::{Nginx, Prepared, PythonModule, Report};

/// Every step of it with what must become of it: `ok`, or the class of its failure, and the requests beyond the first.
const HTTPBIN: &[(&str, &str, u64, &str)] = &[
    ("relative", "ok", 3, "get: /relative-redirect/3"),
    ("absolute", "ok", 2, "get: /absolute-redirect/2"),
    ("left", "ok", 0, "get: /redirect/2, redirects: 0, expect: { status: 302 }"),
    ("circle", "redirect_limit", 10, "get: /redirect/12"),
    ("elsewhere", "redirect_refused", 0, "get: '/redirect-to?url=http://example.test/'"),
    (
        "form_elsewhere",
        "ok",
        1,
        "post: '/redirect-to?url=/anything&status_code=307', form: { a: b }, \
      expect: { json: { $.form.a: b, $.method: POST } }",
    ),
    (
        "see_other",
        "ok",
        1,
        "post: '/redirect-to?url=/anything&status_code=303', form: { a: b }, \
      expect: { json: { $.method: GET } }",
    ),
    ("set_cookie", "ok", 1, "get: /cookies/set?flavour=oat, expect: { json: { $.cookies.flavour: oat } }"),
    ("keep_cookie", "ok", 0, "get: /cookies, expect: { json: { $.cookies.flavour: oat } }"),
    ("basic", "ok", 0, "get: /basic-auth/me/secret, auth: { basic: { user: me, password: secret } }"),
    ("basic_wrong", "status_401", 0, "get: /basic-auth/me/secret, auth: { basic: { user: me, password: guess } }"),
    ("bearer", "ok", 0, "get: /bearer, auth: { bearer: 'token-{{ user }}' }, expect: { json: { $.token: token-0 } }"),
    ("digest", "ok", 1, "get: /digest-auth/auth/me/secret/MD5, auth: { digest: { user: me, password: secret } }"),
    (
        "digest_sha",
        "ok",
        1,
        "get: /digest-auth/auth/you/secret/SHA-256, auth: { digest: { user: you, password: secret } }",
    ),
    (
        "digest_wrong",
        "status_401",
        1,
        "get: /digest-auth/auth/us/secret/MD5, auth: { digest: { user: us, password: guess } }",
    ),
    ("gzip", "ok", 0, "get: /gzip, expect: { json: { $.gzipped: true } }"),
    ("deflate", "ok", 0, "get: /deflate, expect: { json: { $.deflated: true } }"),
    ("brotli", "ok", 0, "get: /brotli, expect: { json: { $.brotli: true } }"),
    ("delay", "ok", 0, "get: /delay/1"),
    ("too_late", "timeout", 0, "get: /delay/3, timeout: 500ms"),
    ("drip", "ok", 0, "get: '/drip?duration=1&numbytes=4&delay=0'"),
    ("teapot", "ok", 0, "get: /status/418, expect: { status: 418 }"),
    ("broken", "status_503", 0, "get: /status/503"),
    ("stream", "ok", 0, "get: /stream/20, expect: { contains: '\"id\": 19' }"),
    ("stream_bytes", "ok", 0, "get: /stream-bytes/100000"),
    ("json", "ok", 0, "post: /post, json: { n: 7 }, expect: { json: { $.json.n: 7 } }"),
    (
        "multipart",
        "ok",
        0,
        "post: /post, multipart: { words: hello, upload: { file: plan.yaml } }, \
      expect: { json: { $.form.words: hello, $.files.upload: '~ scenarios' } }",
    ),
    ("file", "ok", 0, "put: /put, file: plan.yaml, expect: { json: { $.data: '~ scenarios' } }"),
    (
        "streamed",
        "ok",
        0,
        "post: /post, stream: { file: plan.yaml, chunk: 100B }, \
      expect: { json: { $.data: '~ scenarios', '$.headers[\"Transfer-Encoding\"]': chunked } }",
    ),
    (
        "another_host",
        "ok",
        0,
        "get: /headers, headers: { Host: shop.test }, expect: { json: { $.headers.Host: shop.test } }",
    ),
    ("patch", "ok", 0, "patch: /patch, text: hi, expect: { json: { $.data: hi } }"),
    ("delete", "ok", 0, "delete: /delete"),
    ("head", "ok", 0, "head: /get"),
];

pub(crate) fn httpbin() -> anyhow::Result<()> {
    let httpbin = PythonModule::start("gunicorn", |port| {
        ["--bind", &format!("127.0.0.1:{port}"), "--threads", "4", "httpbin:app"].map(str::to_owned).to_vec()
    })?;
    let steps: String =
        HTTPBIN.iter().map(|(name, _, _, step)| format!("      - {{ name: {name}, {step} }}\n")).collect();
    for transport in ["direct", "reqwest"] {
        let plan = format!(
            "target: TARGET\nmax_send_lag: 10s\nhttp: {{ transport: {transport}, compression: true }}\nscenarios:\n  \
             all:\n    load: {{ iterations: 1 }}\n    flow:\n{steps}"
        );
        let prepared = Prepared::new(&plan, &httpbin.url())?;
        let run = prepared.call("run", &[]).finish()?;
        let report: Report = prepared.report().with_context(|| format!("{run:?}"))?;
        ensure!(report.run.transport == transport, "{}", report.run.transport);
        let rows: BTreeMap<&str, &StepFigures> = report.steps.iter().map(|row| (row.step.as_str(), row)).collect();
        for (name, becomes, follow_ups, _) in HTTPBIN {
            let row = rows.get(name).with_context(|| format!("no row {name}"))?;
            let became = row.error_classes.first().map_or("ok", |class| class.class.as_str());
            ensure!(row.issued == 1 && became == *becomes, "{transport} {name}: {became}\n{row:?}");
            ensure!(row.follow_ups == *follow_ups, "{transport} {name}: {} follow-ups", row.follow_ups);
        }
        let least = |name: &str, of: fn(&StepFigures) -> Option<f64>| rows.get(name).copied().and_then(of);
        ensure!(least("delay", |row| row.first_byte_ms.min) > Some(990.0), "{:?}", rows["delay"]);
        ensure!(least("drip", |row| row.body_ms.min) > Some(500.0), "{:?}", rows["drip"]);
        ensure!(rows["stream_bytes"].bytes_received == 100_000, "{:?}", rows["stream_bytes"]);
    }
    Ok(())
}

/// A proxy for HTTP and SOCKS5: the requests arrive, and the report says that reqwest carried them.
pub(crate) fn proxies() -> anyhow::Result<()> {
    let nginx = Nginx::start()?;
    let proxy = PythonModule::start("pproxy", |port| vec!["-l".to_owned(), format!("http+socks5://127.0.0.1:{port}")])?;
    for (seen, scheme) in [(20, "http"), (40, "socks5")] {
        let url = proxy.url().replace("http://", &format!("{scheme}://"));
        let plan = format!(
            "target: TARGET\nmax_send_lag: 10s\nhttp: {{ proxy: '{url}' }}\nscenarios:\n  s: {{ load: {{ iterations: 20, \
             users: 4 }}, flow: [ {{ get: /a }} ] }}\n"
        );
        let prepared = Prepared::new(&plan, &nginx.url())?;
        let run = prepared.call("run", &[]).finish()?;
        let report: Report = prepared.report().with_context(|| format!("{run:?}"))?;
        ensure!(report.total.ok == 20 && report.run.transport == "reqwest", "{scheme}: {:?}", report.total);
        ensure!(run.stdout.contains("over reqwest"), "{}", run.stdout);
        ensure!(nginx.requests()?.values().sum::<u64>() == seen, "{scheme}");
    }
    Ok(())
}

/// A server that ends connections after a few requests, and idle ones after a moment that pauses hit now and then. It has
/// seen what was issued, but for the requests that met the end of a kept connection: those are told, and sent only once.
pub(crate) fn connections_that_end() -> anyhow::Result<()> {
    for version in ["1.1", "2"] {
        let nginx = ending(version)?;
        let (mut issued, mut stale) = (0, 0);
        for (transport, owner) in [
            ("direct", "per_user"),
            ("direct", "shared"),
            ("direct", "{ shared: 3 }"),
            ("direct", "per_request"),
            ("reqwest", "per_user"),
            ("reqwest", "shared"),
        ] {
            let http = format!("transport: {transport}, connections: {owner}, version: {version}");
            let report = browse(&nginx, &http)?;
            let total = &report.total;
            ensure!(total.issued == BROWSED && total.follow_ups == 0, "{http}: {total:?}");
            for class in &report.steps[0].error_classes {
                ensure!(TOLD.contains(&class.class.as_str()), "{http}: {class:?}");
            }
            if transport == "direct" {
                // Users alone would need one each.
                let opened = report.steps[0].connect_ms.count;
                ensure!(opened > 5 * USERS, "{http}: {opened} connections");
            }
            issued += total.issued;
            stale += total.errors;
            let seen: u64 = nginx.requests()?.values().sum();
            ensure!(seen == issued - stale, "{http}: {issued} issued, {seen} seen, {stale} stale");
        }
    }
    Ok(())
}

/// Where the plan wants stale requests sent again, none is seen that is not counted.
pub(crate) fn connections_that_end_with_retries() -> anyhow::Result<()> {
    let nginx = ending("1.1")?;
    let report = browse(&nginx, "retry_stale: true")?;
    let total = &report.total;
    let seen: u64 = nginx.requests()?.values().sum();
    ensure!(total.issued == BROWSED, "{total:?}");
    ensure!(seen >= total.ok && seen <= total.issued + total.follow_ups, "{seen} seen: {total:?}");
    Ok(())
}

/// Requests of [`browse`].
const BROWSED: u64 = 2_000;
/// Users of [`browse`].
const USERS: u64 = 20;
/// What may be told of the end of a kept connection.
const TOLD: &[&str] = &["stale_connection", "connection_closed", "connection_reset", "http2_goaway", "http2_refused"];

fn ending(version: &str) -> anyhow::Result<Nginx> {
    let settings = "keepalive_requests 7; keepalive_timeout 20ms;";
    if version == "2" { Nginx::start_http2_with(settings) } else { Nginx::start_with(settings) }
}

/// Users that ask and pause, with these settings.
fn browse(nginx: &Nginx, http: &str) -> anyhow::Result<Report> {
    let plan = format!(
        "target: TARGET\nmax_send_lag: 10s\nhttp: {{ {http} }}\nscenarios:\n  s:\n    load: {{ iterations: {BROWSED}, \
         users: {USERS} }}\n    flow: [ {{ get: /a }}, {{ think: 1ms..40ms }} ]\n"
    );
    let prepared = Prepared::new(&plan, &nginx.url())?;
    let run = prepared.call("run", &[]).finish()?;
    prepared.report().with_context(|| format!("{run:?}"))
}

/// Steps of one name share a row of the report, not their requests.
pub(crate) fn steps_of_one_name() -> anyhow::Result<()> {
    let nginx = Nginx::start()?;
    let plan = "target: TARGET\nmax_send_lag: 10s\nscenarios:\n  s: { load: { iterations: 5 }, flow: [ { get: /a, name: page }, \
                { get: /b, name: page } ] }\n";
    let prepared = Prepared::new(plan, &nginx.url())?;
    let run = prepared.call("run", &[]).finish()?;
    let report: Report = prepared.report().with_context(|| format!("{run:?}"))?;
    let seen = nginx.requests()?;
    ensure!(report.steps.len() == 1 && report.total.ok == 10, "{:?}", report.total);
    ensure!(seen.get("GET /a") == Some(&5) && seen.get("GET /b") == Some(&5), "{seen:?}");
    Ok(())
}
