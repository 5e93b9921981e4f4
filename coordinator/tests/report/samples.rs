//! Reports that have everything in them that a report can have.

use std::collections::BTreeMap;

use groundswell_coordinator::fleet::Machine;
use groundswell_coordinator::report::{
    self, AgentFigures, Bend, BroadcastFigures, ClosingCount, ConnectionFigures, ErrorClassCount, Latency, Ledger,
    LevelFigures, MarkFigures, OpenPoint, Reason, RecoveryFigures, Report, RunInfo, SCHEMA, Status, StepFigures,
    ThresholdResult, TimelinePoint, Verdict, explain,
};
use serde_json::Value;

/// min, mean, p50, p90, p95, p99, p99.9, p99.99, max.
fn latency(count: u64, ms: [f64; 9]) -> Latency {
    if count == 0 {
        return Latency::default();
    }
    let [min, mean, p50, p90, p95, p99, p999, p9999, max] = ms.map(Some);
    Latency { count, min, mean, p50, p90, p95, p99, p999, p9999, max, clamped: 0 }
}

fn lag(count: u64) -> Latency {
    latency(count, [0.004, 0.031, 0.021, 0.052, 0.084, 0.412, 0.9, 1.1, 1.3])
}

/// A step of which everything went well; its service times are 80 % of its response times.
fn step(scenario: &str, step: &str, kind: &str, issued: u64, duration_s: f64, ms: [f64; 9]) -> StepFigures {
    let response_ms = latency(issued, ms);
    StepFigures {
        scenario: scenario.to_owned(),
        step: step.to_owned(),
        kind: kind.to_owned(),
        scheduled: issued,
        issued,
        ok: issued,
        errors: 0,
        error_classes: Vec::new(),
        unsent: 0,
        shed: 0,
        not_generated: 0,
        rate_per_s: issued as f64 / duration_s,
        throughput_per_s: issued as f64 / duration_s,
        error_rate: 0.0,
        messages_sent: 0,
        messages_received: 0,
        bytes_sent: issued * 120,
        bytes_received: issued * 4_096,
        response_ms,
        response_ok_ms: response_ms,
        response_failed_ms: Latency::default(),
        service_ms: latency(issued, ms.map(|ms| ms * 0.8)),
        send_lag_ms: lag(issued),
        queue_ms: Latency::default(),
        connect_ms: latency(issued.min(20), [0.05, 0.09, 0.08, 0.12, 0.14, 0.2, 0.2, 0.2, 0.2]),
        dns_ms: Latency::default(),
        tls_ms: Latency::default(),
        body_ms: Latency::default(),
        follow_ups: 0,
        first_byte_ms: latency(issued, ms.map(|ms| ms * 0.7)),
        response_histogram: "HISTFAAAAA==".to_owned(),
    }
}

/// Makes some of the issued operations fail.
fn failing(mut figures: StepFigures, classes: &[(&str, u64)], in_flight: u64) -> StepFigures {
    let class = |(class, count): &(&str, u64)| ErrorClassCount {
        class: (*class).to_owned(),
        count: *count,
        explanation: explain(class),
    };
    figures.error_classes = classes.iter().map(class).collect();
    figures.errors = classes.iter().map(|(_, count)| count).sum();
    figures.throughput_per_s *= (figures.issued - figures.errors - in_flight) as f64 / figures.issued as f64;
    figures.ok = figures.issued - figures.errors - in_flight;
    figures.error_rate = figures.errors as f64 / figures.issued as f64;
    figures
}

fn agent(name: &str, share: f64, issued: u64, errors: u64, lost_at_s: Option<f64>) -> AgentFigures {
    AgentFigures {
        name: name.to_owned(),
        machine: Machine { version: "0.1.0".into(), system: "Linux 6.1.0 x86_64".into(), cores: 2, workers: 2 },
        share,
        issued,
        ok: issued - errors,
        errors,
        response_ms: latency(issued, [0.834, 3.4, 2.1, 6.2, 9.9, 24.6, 61.0, 75.2, 80.1]),
        send_lag_ms: lag(issued),
        cpu: 0.31,
        clock_skew_ms: -0.012,
        joined_at_s: None,
        left_at_s: None,
        clock_bound_ms: 0.084,
        lost_at_s,
    }
}

fn mark(t_s: f64, kind: &str, agent: Option<&str>, text: &str) -> MarkFigures {
    MarkFigures { t_s, kind: kind.to_owned(), agent: agent.map(str::to_owned), text: text.to_owned() }
}

fn reason(code: &str, message: &str) -> Reason {
    Reason { code: code.to_owned(), message: message.to_owned(), agent: None, from_s: None, to_s: None }
}

fn threshold(text: &str, value: Option<f64>, unit: &str, passed: bool) -> ThresholdResult {
    ThresholdResult { text: text.to_owned(), value, unit: unit.to_owned(), passed, aborted_at_s: None }
}

fn run(name: &str, agents: usize, duration_s: f64, scenarios: &[&str]) -> RunInfo {
    RunInfo {
        id: "2026-01-02-graph-api-7f3a".to_owned(),
        name: name.to_owned(),
        target: "http://127.0.0.1:8088".to_owned(),
        started_at: Some("2026-01-02T03:04:05.678Z".to_owned()),
        duration_s,
        agents,
        plan_hash: "9c1185a5c5e9fc54".to_owned(),
        load_hash: "51c2a5d90f3be471".to_owned(),
        tolerances: Default::default(),
        version: "0.1.0".to_owned(),
        labels: BTreeMap::new(),
        scenarios: scenarios.iter().map(|name| (*name).to_owned()).collect(),
        insecure: false,
        transport: "direct".into(),
    }
}

fn point(t_s: f64, level: Option<&str>, figures: &StepFigures) -> TimelinePoint {
    TimelinePoint {
        t_s,
        length_s: 1.0,
        scenario: figures.scenario.clone(),
        level: level.map(str::to_owned),
        warm_up: t_s == 0.0,
        step: figures.step.clone(),
        issued: 300,
        ok: 300,
        errors: 0,
        errors_by_class: BTreeMap::new(),
        response_ms: figures.response_ms,
        service_ms: figures.service_ms,
    }
}

/// Two steps, everything well.
pub(super) fn passing() -> Report {
    let search = step("search", "search", "http", 6_345, 30.0, [0.834, 3.4, 2.1, 6.2, 9.9, 24.6, 61.0, 75.2, 80.1]);
    let traverse =
        step("search", "traverse", "http", 6_000, 30.0, [1.204, 8.1, 6.0, 14.2, 19.8, 52.9, 130.4, 1_180.0, 1_240.0]);
    let total = step("", "total", "all", 12_345, 30.0, [0.834, 5.7, 4.2, 11.6, 15.1, 44.2, 118.0, 980.0, 1_240.0]);
    Report {
        schema: SCHEMA.to_owned(),
        run: RunInfo {
            labels: [("branch".to_owned(), "main".to_owned())].into(),
            ..run("graph-api", 3, 30.0, &["search"])
        },
        verdict: Verdict { status: Status::Passed, reasons: Vec::new() },
        ledger: Ledger { scheduled: 12_345, issued: 12_345, ok: 12_345, balanced: true, ..Ledger::default() },
        load: Vec::new(),
        timeline: vec![point(0.0, None, &search), point(1.0, None, &traverse)],
        steps: vec![search, traverse],
        total,
        levels: Vec::new(),
        bends: Vec::new(),
        connections: Vec::new(),
        broadcasts: Vec::new(),
        marks: Vec::new(),
        warnings: Vec::new(),
        agents: ["agent-a", "agent-b", "agent-c"].map(|name| agent(name, 1.0 / 3.0, 4_115, 0, None)).into(),
        thresholds: vec![
            threshold("search.p95 < 50ms", Some(9.9), "ms", true),
            threshold("search.error_rate < 1%", Some(0.0), "ratio", true),
            threshold("throughput > 100/s", Some(411.5), "/s", true),
        ],
    }
}

/// A server that restarted under its sockets.
fn connections() -> ConnectionFigures {
    let closing = |by: &str, code, count| ClosingCount {
        by: by.to_owned(),
        code,
        meaning: report::meaning_of_close(code),
        count,
    };
    let failed = ErrorClassCount {
        class: "connection_refused".to_owned(),
        count: 4_211,
        explanation: report::explain("connection_refused"),
    };
    ConnectionFigures {
        scenario: "live".to_owned(),
        step: "open".to_owned(),
        opened: 1_997,
        closed: 1_997,
        most_open: 1_000,
        closings: vec![closing("target", 1006, 1_000), closing("agent", 1000, 997)],
        pings_sent: 3_000,
        pongs_received: 2_999,
        pings_received: 12,
        unread: 0,
        messages_sent: 12_000,
        messages_received: 1_498_520,
        frames_sent: 17_009,
        frames_received: 1_502_528,
        wire_bytes_sent: 812_345,
        wire_bytes_received: 123_456_789,
        recoveries: vec![RecoveryFigures {
            cycle: 0,
            lost: 1_000,
            restored: 997,
            given_up: 3,
            failed_attempts: vec![failed],
            handshake_ms: latency(997, [1.0, 3.0, 2.0, 5.0, 6.0, 9.0, 12.0, 12.5, 13.0]),
            outage_ms: latency(997, [3_000.0, 3_200.0, 3_100.0, 3_500.0, 3_600.0, 4_000.0, 4_100.0, 4_200.0, 4_210.0]),
        }],
        open: vec![OpenPoint { t_s: 1.0, open: 1_000 }, OpenPoint { t_s: 2.0, open: 0 }],
    }
}

/// A room with everything wrong that can be, and one whose agents' clocks are too far apart.
fn broadcasts() -> Vec<BroadcastFigures> {
    let lobby = BroadcastFigures {
        room: "lobby".to_owned(),
        published: 5_000,
        subscribers: 300,
        expected: 1_500_000,
        delivered: 1_498_500,
        missing: 1_500,
        while_disconnected: 900,
        duplicated: 7,
        out_of_order: 3,
        outside: 12,
        misdirected: 1,
        in_doubt: 40,
        exact: false,
        delivery_ms: latency(1_498_500, [0.5, 1.4, 1.2, 2.2, 2.9, 6.1, 11.0, 30.0, 31.0]),
        clock_bound_ms: 0.05,
    };
    let untimed = Latency { count: 10, ..Latency::default() };
    let quiet = BroadcastFigures {
        room: "quiet".to_owned(),
        published: 10,
        subscribers: 1,
        expected: 10,
        delivered: 10,
        missing: 0,
        while_disconnected: 0,
        duplicated: 0,
        out_of_order: 0,
        outside: 0,
        misdirected: 0,
        in_doubt: 0,
        exact: true,
        delivery_ms: untimed,
        clock_bound_ms: 4.0,
    };
    vec![lobby, quiet]
}

/// A lost agent, a broken threshold that stopped the run, a sweep, a WebSocket, errors of several classes, shed and not
/// generated operations, operations of unknown fate.
pub(super) fn degraded() -> Report {
    let ms = [0.912, 48.0, 12.3, 88.0, 240.0, 1_240.0, 9_400.0, 9_940.0, 10_000.0];
    let http =
        step("scaling", "GET /api/graph/stats?depth={{ depth }}&include=edges,labels,weights", "http", 9_000, 30.0, ms);
    let mut http = failing(http, &[("status_503", 500), ("timeout", 60), ("connection_reset", 10)], 30);
    (http.scheduled, http.shed, http.not_generated) = (10_000, 300, 700);
    let mut pong = step("live", "receive pong", "receive", 2_000, 30.0, ms.map(|ms| ms / 10.0));
    pong = failing(pong, &[("ws_receive_timeout", 50), ("ws_closed_1006", 6), ("aborted", 4)], 0);
    (pong.messages_sent, pong.messages_received) = (0, 2_150);
    let total = step("", "total", "all", 11_000, 30.0, ms);
    let classes =
        [("status_503", 500), ("timeout", 110), ("connection_reset", 10), ("ws_closed_1006", 6), ("aborted", 4)];
    let mut total = failing(total, &classes, 30);
    (total.scheduled, total.shed, total.not_generated, total.messages_received) = (12_000, 300, 700, 2_150);
    total.response_ms.clamped = 2;
    let levels =
        [("5 users", 2_000, 0), ("10 users", 3_800, 20), ("20 users", 3_200, 550)].map(|(level, issued, errors)| {
            let figures = step("scaling", &http.step, "http", issued, 10.0, ms.map(|ms| ms * issued as f64 / 2_000.0));
            LevelFigures { level: level.to_owned(), figures: failing(figures, &[("status_503", errors)], 0) }
        });
    let lost = "agent agent-c was lost at 12.0 s (no heartbeat for 3 s); its figures count up to 11.0 s. Not offered: 700 \
                scheduled operations";
    let lost = reason("agent_lost", lost);
    let broken = reason("threshold", "scaling.error_rate < 1% over 10s, stop does not hold: it was 6.33 %");
    let stopped = Some(28.0);
    Report {
        schema: SCHEMA.to_owned(),
        run: RunInfo { insecure: true, ..run("nightly", 3, 28.4, &["scaling", "live"]) },
        verdict: Verdict {
            status: Status::Degraded,
            reasons: vec![
                Reason { agent: Some("agent-c".to_owned()), from_s: Some(11.0), to_s: Some(28.4), ..lost },
                Reason { from_s: stopped, ..broken },
                reason("shed", "300 operations were shed: too many were in flight already"),
            ],
        },
        ledger: Ledger {
            scheduled: 12_000,
            issued: 11_000,
            ok: 10_340,
            errors: 516,
            timeout: 110,
            aborted: 4,
            unsent: BTreeMap::new(),
            shed: [("max_in_flight".to_owned(), 300)].into(),
            not_generated: [("agent_lost".to_owned(), 700)].into(),
            unknown_max: 130,
            warm_up: 1_200,
            balanced: true,
        },
        load: Vec::new(),
        timeline: vec![point(0.0, Some("5 users"), &http), point(0.0, None, &pong)],
        steps: vec![http, pong],
        total,
        levels: levels.into(),
        connections: vec![connections()],
        broadcasts: broadcasts(),
        bends: vec![Bend {
            scenario: "scaling".to_owned(),
            level: Some("10 users".to_owned()),
            throughput_per_s: 378.0,
            message: "scaling: the target bends at about 10 users (378/s, p95 456.0 ms): 100 % more load brings -30 % \
                      throughput and a p95 of 384.0 ms; plan for no more than 10 users"
                .to_owned(),
        }],
        marks: vec![
            mark(6.3, "coordinator_restarted", None, "the coordinator was restarted"),
            mark(12.0, "agent_lost", Some("agent-c"), "agent agent-c was lost: nothing was heard of it for 10 s"),
            mark(12.0, "load_moved", Some("agent-a"), "10.0 % of the load goes to agent agent-a from 14.0 s on"),
        ],
        warnings: vec![
            reason(
                "preflight",
                "agent agent-a may need 1064 open files but may have 1024; raise the limit (ulimit -n)",
            ),
            reason("telemetry_late", "figures of agent agent-b came up to 6.1 s late"),
        ],
        agents: vec![
            agent("agent-a", 0.4, 4_800, 300, None),
            agent("agent-b", 0.4, 4_700, 310, None),
            agent("agent-c", 0.2, 1_500, 20, Some(12.0)),
        ],
        thresholds: vec![
            ThresholdResult {
                aborted_at_s: stopped,
                ..threshold("scaling.error_rate < 1% over 10s, stop", Some(0.0633), "ratio", false)
            },
            threshold("live.p99 < 2s", Some(124.0), "ms", true),
            threshold("checkout.errors < 5", None, "count", false),
        ],
    }
}

/// Nothing was issued, and the account does not add up.
pub(super) fn empty() -> Report {
    let total = StepFigures { scheduled: 5, ..step("", "total", "all", 0, 1.0, [0.0; 9]) };
    Report {
        schema: SCHEMA.to_owned(),
        run: RunInfo { started_at: None, ..run("empty", 1, 0.0, &[]) },
        verdict: Verdict {
            status: Status::Invalid,
            reasons: vec![reason("ledger", "the account does not add up: 5 operations scheduled but 0 accounted for")],
        },
        ledger: Ledger { scheduled: 5, ..Ledger::default() },
        total,
        steps: Vec::new(),
        levels: Vec::new(),
        bends: Vec::new(),
        connections: Vec::new(),
        broadcasts: Vec::new(),
        marks: Vec::new(),
        warnings: Vec::new(),
        agents: vec![agent("agent-a", 1.0, 0, 0, None)],
        thresholds: Vec::new(),
        load: Vec::new(),
        timeline: Vec::new(),
    }
}

/// Appends a text to every string and to every key that is data.
pub(super) fn with_hostile_strings(report: &Report, text: &str) -> Report {
    fn spoil(key: &str, value: Value, text: &str) -> Value {
        match value {
            Value::String(old) if !["schema", "status"].contains(&key) => Value::String(old + text),
            Value::Array(items) => items.into_iter().map(|item| spoil(key, item, text)).collect(),
            Value::Object(object) => {
                let data = ["labels", "unsent", "shed", "not_generated"].contains(&key);
                let name = |name: String| if data { name + text } else { name };
                object.into_iter().map(|(key, value)| (name(key.clone()), spoil(&key, value, text))).collect()
            }
            other => other,
        }
    }
    serde_json::from_value(spoil("", serde_json::to_value(report).unwrap(), text)).unwrap()
}
