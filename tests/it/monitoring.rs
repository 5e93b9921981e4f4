//! Figures for monitoring systems, read by those systems.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::harness::{
    Api, Daemon, Groundswell, PythonServer, Report, agent, demo_target, folder, free_port, serve, wait_until_listening,
    write,
};

const PLAN: &str = "
name: told
max_send_lag: 10s
target: TARGET
scenarios:
  arrive:
    load: { rate: 200/s, for: 8s }
    flow: [ { get: /api/graph/stats, name: stats } ]
";

/// Nothing that is waited for takes so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// The demo target, and a run on it that has ended.
struct Told {
    _target: Daemon,
    _agent: Daemon,
    report: Report,
}

fn told(coordinator: &str) -> anyhow::Result<Told> {
    let (target, url) = demo_target()?;
    let text = PLAN.replace("TARGET", &url);
    let agent = agent(coordinator, "a", None)?;
    let api = Api::of(coordinator)?;
    let submission =
        json!({ "plan": { "name": "told.yaml", "text": text }, "agents": 1, "labels": { "branch": "a\"b" } });
    let accepted = api.post("/runs", Some(&submission))?.json()?;
    let id = accepted["id"].as_str().context("no id")?;
    api.events(id)?.wait_for("finished")?;
    let report = serde_json::from_slice(&api.get(&format!("/runs/{id}/report"))?.body)?;
    Ok(Told { _target: target, _agent: agent, report })
}

/// Prometheus scrapes what is told and answers with the run's counts and its p99: within 4.4 % from native histograms,
/// and within the bucket from classic ones.
pub(crate) fn prometheus() -> anyhow::Result<()> {
    let (_coordinator, address) = serve()?;
    let native = Prometheus::scraping(&address, &["--enable-feature=native-histograms"])?;
    let classic = Prometheus::scraping(&address, &[])?;
    let Told { report, .. } = &told(&address)?;
    let issued = report.total.issued as f64;
    let p99_s = report.total.response_ms.p99.context("no p99")? / 1e3;
    for prometheus in [&native, &classic] {
        prometheus.wait_for("groundswell_issued_total", |value| value == issued)?;
        prometheus.wait_for("groundswell_ok_total", |value| value == report.total.ok as f64)?;
        prometheus.wait_for("groundswell_agents{state=\"free\"}", |value| value == 1.0)?;
    }
    let of_native = native.wait_for("histogram_quantile(0.99, groundswell_response_seconds)", |_| true)?;
    ensure!((of_native / p99_s - 1.0).abs() <= 0.045, "native: {of_native} s instead of {p99_s} s");
    let of_classic = classic.wait_for("histogram_quantile(0.99, groundswell_response_seconds_bucket)", |_| true)?;
    let bounds =
        [0.0, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
    let bucket = bounds.windows(2).find(|bucket| (bucket[0]..=bucket[1]).contains(&of_classic)).context("no bucket")?;
    // A bin may lie across the edge of a bucket.
    let (least, most) = (bucket[0] * 0.998, bucket[1] * 1.002);
    ensure!((least..=most).contains(&p99_s), "classic: {of_classic} s is not in the bucket of {p99_s} s");
    Ok(())
}

/// A collector of OpenTelemetry's own definitions gets the same figures.
pub(crate) fn opentelemetry() -> anyhow::Result<()> {
    let collector = PythonServer::start("otlp.py")?;
    let data = folder()?;
    let store = data.path().join("data").display().to_string();
    let url = collector.url();
    let arguments =
        ["serve", "--listen", "127.0.0.1:0", "--data-dir", &store, "--otlp", &url, "--otlp-interval", "200"];
    let mut coordinator = Groundswell::new(arguments).start("serve")?;
    let line = coordinator.wait_for("coordinator listening on ")?;
    let address = line.rsplit(' ').next().context("no URL")?.to_owned();
    let Told { report, .. } = &told(&address)?;
    let deadline = Instant::now() + PATIENCE;
    let metrics = loop {
        let message: Value =
            serde_json::from_str(&collector.file("metrics.json").unwrap_or_default()).unwrap_or_default();
        let metrics = message["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].clone();
        let issued = &point_of(&metrics, "groundswell.issued", "sum")["asDouble"];
        if issued.as_f64() == Some(report.total.issued as f64) {
            break metrics;
        }
        ensure!(Instant::now() < deadline, "never told: {issued}");
        std::thread::sleep(Duration::from_millis(100));
    };
    let histogram = point_of(&metrics, "groundswell.response", "exponentialHistogram");
    // Protobuf's JSON writes numbers of 64 bits as text.
    let issued = report.total.issued.to_string();
    ensure!(histogram["count"].as_str() == Some(&issued), "{histogram}");
    let p99_s = quantile(&histogram, 0.99)?;
    let expected = report.total.response_ms.p99.context("no p99")? / 1e3;
    ensure!((p99_s / expected - 1.0).abs() <= 0.045, "{p99_s} s instead of {expected} s");
    let attributes = histogram["attributes"].as_array().context("no attributes")?;
    let step = attributes.iter().find(|attribute| attribute["key"] == "step").context("no step")?;
    ensure!(step["value"]["stringValue"] == "stats", "{step}");
    Ok(())
}

fn point_of(metrics: &Value, name: &str, kind: &str) -> Value {
    let named = metrics.as_array().into_iter().flatten().find(|metric| metric["name"] == name);
    named.map(|metric| metric[kind]["dataPoints"][0].clone()).unwrap_or_default()
}

/// The upper end of the bucket that a quantile falls into: `base^(index + 1)` with `base = 2^(2^-scale)`
/// (opentelemetry.proto, `ExponentialHistogramDataPoint`).
fn quantile(point: &Value, q: f64) -> anyhow::Result<f64> {
    let number = |value: &Value| value.as_str().map_or_else(|| value.as_f64(), |text| text.parse().ok());
    let count = number(&point["count"]).context("no count")?;
    let scale = point["scale"].as_f64().context("no scale")?;
    let offset = point["positive"]["offset"].as_f64().unwrap_or(0.0);
    let counts = point["positive"]["bucketCounts"].as_array().context("no counts")?;
    let mut counted = 0.0;
    for (place, bucket) in counts.iter().enumerate() {
        counted += number(bucket).context("no number")?;
        if counted >= (q * count).ceil() {
            return Ok((2.0_f64.powf(-scale) * (offset + place as f64 + 1.0)).exp2());
        }
    }
    bail!("{point} has no such quantile")
}

/// A Prometheus of its own.
struct Prometheus {
    api: Api,
    _folder: tempfile::TempDir,
    _daemon: Daemon,
}

impl Prometheus {
    fn scraping(coordinator: &str, more: &[&str]) -> anyhow::Result<Self> {
        let folder = folder()?;
        let port = free_port()?;
        let target = coordinator.trim_start_matches("http://");
        let config = format!(
            "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - job_name: groundswell\n    static_configs: [ {{ targets: ['{target}'] }} ]\n"
        );
        write(folder.path(), "prometheus.yml", &config)?;
        let mut command = Command::new("prometheus");
        command.current_dir(folder.path()).args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"]);
        command.arg(format!("--web.listen-address=127.0.0.1:{port}")).args(more);
        let daemon = Daemon::spawn("prometheus", &mut command)?;
        wait_until_listening(port, "prometheus")?;
        Ok(Prometheus { api: Api::elsewhere(&format!("127.0.0.1:{port}")), _folder: folder, _daemon: daemon })
    }

    /// Asks until the answer is a number that will do.
    fn wait_for(&self, query: &str, is_it: impl Fn(f64) -> bool) -> anyhow::Result<f64> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let path = format!("/api/v1/query?query={encoded}");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.api.raw("GET", &path, &[], b"")?.json()?;
            let value = answer["data"]["result"][0]["value"][1].as_str().and_then(|text| text.parse().ok());
            match value.filter(|value: &f64| value.is_finite() && is_it(*value)) {
                Some(value) => return Ok(value),
                None if Instant::now() > deadline => bail!("{query}: {answer}"),
                None => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }
}
