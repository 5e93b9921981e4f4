//! The report of a run, from what was merged: figures, ledger, verdict.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use groundswell_scenario::flow::StepKind;
use groundswell_stats::{Counters, Distribution, Kind, Overflow, Point, StepId};
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};

use super::distributions::failures;
use super::judge::{RESPONSE, active, error_rate};
use super::knee::bends;
use super::loss::{Shortfall, Shortfalls, owned_by};
use super::mark::Mark;
use super::{Now, Run};
use crate::report::{
    AgentFigures, ErrorClassCount, Latency, Ledger, LevelFigures, MarkFigures, Report, RunInfo, SCHEMA, Status,
    StepFigures, TimelinePoint, Verdict, explain,
};

impl Run {
    /// The report, with the account closed.
    pub(super) fn report(&self, now: Now) -> Result<Report, Overflow> {
        let shortfalls = self.shortfalls();
        let length = self.length(now);
        let thresholds = self.judge.results(&self.plan, &self.totals, &self.all_broadcasts()?, length)?;
        let all: Vec<StepId> = self.measured_steps().collect();
        let mut total = self.figures(&all, length, &shortfalls)?;
        (total.scenario, total.step, total.kind) = (String::new(), "total".to_owned(), "all".to_owned());
        let steps = self.step_rows(length, &shortfalls)?;
        let ledger = self.ledger(&shortfalls)?;
        let levels = self.level_rows(length, &shortfalls)?;
        let mut report = Report {
            schema: SCHEMA.to_owned(),
            run: self.run_info(length),
            verdict: Verdict { status: Status::Passed, reasons: Vec::new() },
            ledger,
            total,
            steps,
            bends: bends(&self.plan, &levels),
            levels,
            connections: self.connection_rows()?,
            broadcasts: self.broadcast_rows()?,
            agents: self.agent_rows()?,
            thresholds,
            timeline: self.timeline_rows()?,
            load: self.load_rows(),
            marks: self.mark_rows(),
            warnings: self.warnings(),
        };
        report.verdict = self.verdict(&report, &shortfalls, length);
        Ok(report)
    }

    pub(super) fn shortfalls(&self) -> Shortfalls {
        let of = |assignments| Shortfalls::of(&self.plan, &self.totals, &self.members, assignments);
        self.assignments.as_ref().map(of).unwrap_or_default()
    }

    /// From T0 to the end of the load: the last figures, at the least what a lost agent got to see.
    fn length(&self, now: Now) -> Duration {
        let merged = self.members.iter().map(|member| Duration::from_micros(member.merged_to_us));
        let planned = self.plan.longest();
        let lost = self.members.iter().filter_map(|member| Some(member.lost.as_ref()?.at.min(planned)));
        merged.chain(lost).max().unwrap_or_else(|| self.elapsed(now))
    }

    fn run_info(&self, length: Duration) -> RunInfo {
        RunInfo {
            id: self.id.clone(),
            name: self.plan.name.clone(),
            target: self.plan.target.to_string(),
            started_at: self.started_at.map(|at| humantime::format_rfc3339_millis(at).to_string()),
            duration_s: length.as_secs_f64(),
            agents: self.members.len(),
            plan_hash: self.plan.hash.clone(),
            load_hash: self.plan.load_hash.clone(),
            tolerances: self.plan.tolerances,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            labels: self.labels.clone(),
            scenarios: self.plan.scenarios.iter().map(|scenario| scenario.name.clone()).collect(),
            insecure: self.plan.http.tls.insecure,
            transport: self.plan.http.transport.as_str().to_owned(),
        }
    }

    /// One row for each (scenario, step name), the levels of a sweep together.
    fn step_rows(&self, length: Duration, shortfalls: &Shortfalls) -> Result<Vec<StepFigures>, Overflow> {
        self.rows_of_steps().iter().map(|steps| self.figures(steps, length, shortfalls)).collect()
    }

    /// The steps that a row is about: one step name of a scenario, at every level.
    pub(super) fn rows_of_steps(&self) -> Vec<Vec<StepId>> {
        let mut rows = Vec::new();
        for scenario in &self.plan.scenarios {
            for slot in 0..scenario.timed_steps {
                rows.push(scenario.phases.iter().map(|phase| StepId(phase.first_step.0 + slot)).collect());
            }
        }
        rows
    }

    fn level_rows(&self, length: Duration, shortfalls: &Shortfalls) -> Result<Vec<LevelFigures>, Overflow> {
        let mut rows = Vec::new();
        for scenario in &self.plan.scenarios {
            for phase in &scenario.phases {
                let Some(level) = &phase.level else { continue };
                for slot in 0..scenario.timed_steps {
                    let figures = self.figures(&[StepId(phase.first_step.0 + slot)], length, shortfalls)?;
                    rows.push(LevelFigures { level: level.clone(), figures });
                }
            }
        }
        Ok(rows)
    }

    /// Figures of some steps together, named after the first.
    fn figures(&self, steps: &[StepId], length: Duration, shortfalls: &Shortfalls) -> Result<StepFigures, Overflow> {
        let counters = self.totals.merged_counters(steps.iter().copied())?;
        let distribution = |kinds: &[Kind]| self.totals.distribution(steps.iter().copied(), kinds);
        let timed = steps.first().and_then(|step| self.plan.step(*step));
        let kind = timed.map(|timed| timed.kind);
        let response = distribution(&RESPONSE)?;
        let on = active(&self.plan, steps, length);
        let failed = counters.failed();
        let missing = |of: fn(&Shortfall) -> &BTreeMap<StepId, u64>| -> u64 {
            let of_steps = |shortfall| steps.iter().filter_map(|step| of(shortfall).get(step)).sum::<u64>();
            shortfalls.all().map(of_steps).sum()
        };
        Ok(StepFigures {
            scenario: timed.map_or_else(String::new, |timed| self.plan.scenarios[timed.scenario].name.clone()),
            step: timed.map_or_else(String::new, |timed| timed.name.clone()),
            kind: kind.map_or("all", StepKind::as_str).to_owned(),
            scheduled: counters.scheduled + missing(|shortfall| &shortfall.never_scheduled),
            issued: counters.issued,
            ok: counters.ok,
            errors: failed,
            error_classes: error_classes(&counters, self.timeout_class_of(steps, kind)),
            unsent: counters.unsent_in_all(),
            shed: counters.shed_in_all(),
            not_generated: counters.not_generated_in_all() + missing(|shortfall| &shortfall.not_generated),
            rate_per_s: per_second(counters.issued, on),
            throughput_per_s: per_second(counters.ok, on),
            error_rate: error_rate(&counters).unwrap_or(0.0),
            messages_sent: counters.messages_sent,
            messages_received: counters.messages_received,
            follow_ups: counters.follow_ups,
            bytes_sent: counters.bytes_sent,
            bytes_received: counters.bytes_received,
            response_ms: latency(&response),
            response_ok_ms: latency(&distribution(&[Kind::ResponseOk])?),
            response_failed_ms: latency(&distribution(&[Kind::ResponseFailed])?),
            service_ms: latency(&distribution(&[Kind::Service])?),
            send_lag_ms: latency(&distribution(&[Kind::SendLag])?),
            queue_ms: latency(&distribution(&[Kind::Queue])?),
            dns_ms: latency(&distribution(&[Kind::Dns])?),
            connect_ms: latency(&distribution(&[Kind::Connect])?),
            tls_ms: latency(&distribution(&[Kind::Tls])?),
            first_byte_ms: latency(&distribution(&[Kind::FirstByte])?),
            body_ms: latency(&distribution(&[Kind::Body])?),
            response_histogram: histogram(&response),
        })
    }

    fn timeout_class_of(&self, steps: &[StepId], kind: Option<StepKind>) -> &'static str {
        let alike = |kind| steps.iter().all(|step| self.plan.step(*step).is_some_and(|timed| timed.kind == kind));
        kind.filter(|kind| alike(*kind)).map_or("timeout", timeout_class)
    }

    fn ledger(&self, shortfalls: &Shortfalls) -> Result<Ledger, Overflow> {
        let counters = self.totals.merged_counters(self.every_step())?;
        let warm_up = self.every_step().filter(|step| self.plan.step(*step).is_some_and(|timed| timed.warm_up));
        let words = |map: &BTreeMap<Cow<'static, str>, u64>| {
            map.iter().map(|(word, count)| (word.to_string(), *count)).collect::<BTreeMap<String, u64>>()
        };
        let of_shortfalls = |of: fn(&Shortfall) -> &BTreeMap<StepId, u64>| -> u64 {
            shortfalls.all().flat_map(|shortfall| of(shortfall).values()).sum()
        };
        let mut not_generated = words(&counters.not_generated);
        let shed = words(&counters.shed);
        let of_lost: u64 = shortfalls.lost.values().flat_map(|shortfall| shortfall.not_generated.values()).sum();
        let has_limits = self.members.iter().any(|member| member.limit.is_some());
        let reasons = [
            ("agent_lost", of_lost),
            (if has_limits { "agent_limits" } else { "agent_lost" }, shortfalls.unowned.not_generated.values().sum()),
            ("late_assign", shortfalls.late.not_generated.values().sum()),
        ];
        for (reason, operations) in reasons.into_iter().filter(|(_, operations)| *operations > 0) {
            *not_generated.entry(reason.to_owned()).or_default() += operations;
        }
        let in_flight = of_shortfalls(|shortfall| &shortfall.in_flight);
        let unheard: u64 = shortfalls.all().map(|shortfall| shortfall.unheard_max).sum();
        let scheduled = counters.scheduled + of_shortfalls(|shortfall| &shortfall.never_scheduled);
        let accounted = counters.issued + shed.values().sum::<u64>() + not_generated.values().sum::<u64>();
        let ended = counters.ok + counters.failed() + counters.unsent_in_all();
        Ok(Ledger {
            scheduled,
            issued: counters.issued,
            ok: counters.ok,
            errors: counters.errors,
            timeout: counters.timeout,
            aborted: counters.aborted,
            unsent: counters.unsent.iter().map(|(class, count)| (class.to_string(), *count)).collect(),
            balanced: scheduled == accounted
                && counters.issued == ended + in_flight
                && self.unplanned(shortfalls)?.is_none(),
            shed,
            not_generated,
            unknown_max: in_flight + unheard,
            warm_up: self.totals.merged_counters(warm_up)?.issued,
        })
    }

    fn agent_rows(&self) -> Result<Vec<AgentFigures>, Overflow> {
        let row = |(index, member): (usize, &super::Member)| {
            let counters = self.totals.agent_counters(index)?;
            Ok(AgentFigures {
                name: member.name.clone(),
                machine: member.machine.clone(),
                share: self.first_share(member),
                issued: counters.issued,
                ok: counters.ok,
                errors: counters.failed(),
                response_ms: self.totals.agent_response(index).map(latency).unwrap_or_default(),
                send_lag_ms: self.totals.agent_send_lag(index).map(latency).unwrap_or_default(),
                cpu: f64::from(member.cpu_permille_max) / 1000.0,
                clock_bound_ms: member.clock_bound_us as f64 / 1000.0,
                clock_skew_ms: member.clock_skew_us as f64 / 1000.0,
                joined_at_s: member.joined.map(|at| at.as_secs_f64()),
                left_at_s: member.leaving.map(|at| at.as_secs_f64()),
                lost_at_s: member.lost.as_ref().map(|lost| lost.at.as_secs_f64()),
            })
        };
        self.members.iter().enumerate().map(row).collect()
    }

    /// The part of the schedule that an agent began with.
    fn first_share(&self, member: &super::Member) -> f64 {
        let owned = self.assignments.as_ref().map(|assignments| owned_by(assignments, member.id)).unwrap_or_default();
        owned.first().map_or(0.0, |first| first.share.slots().len() as f64 / f64::from(first.share.of()))
    }

    pub(super) fn mark_rows(&self) -> Vec<MarkFigures> {
        let row = |mark: &Mark| MarkFigures {
            t_s: mark.at.as_secs_f64(),
            kind: mark.kind.word().to_owned(),
            agent: mark.agent.map(|agent| self.name_of(agent).to_owned()),
            text: mark.text.clone(),
        };
        let mut rows: Vec<MarkFigures> = self.marks.iter().map(row).collect();
        rows.sort_by(|one, other| one.t_s.total_cmp(&other.t_s));
        rows
    }

    fn timeline_rows(&self) -> Result<Vec<TimelinePoint>, Overflow> {
        let row = |point: Point<'_>| {
            let timed = self.plan.step(point.step)?;
            let of = |series| Distribution::of([series]);
            let (response, service) = match (of(point.response), of(point.service)) {
                (Ok(response), Ok(service)) => (response, service),
                (Err(overflow), _) | (_, Err(overflow)) => return Some(Err(overflow)),
            };
            let scenario = &self.plan.scenarios[timed.scenario];
            Some(Ok(TimelinePoint {
                t_s: point.from_s as f64,
                length_s: point.length_s as f64,
                scenario: scenario.name.clone(),
                level: scenario.phases[timed.phase].level.clone(),
                warm_up: timed.warm_up,
                step: timed.name.clone(),
                issued: point.issued,
                ok: point.ok,
                errors: point.failed,
                errors_by_class: failures(&point, timed.kind),
                response_ms: latency(&response),
                service_ms: latency(&service),
            }))
        };
        self.timeline.points().filter_map(row).collect()
    }
}

/// What a step that ran into its limit did not get.
pub(super) fn timeout_class(kind: StepKind) -> &'static str {
    match kind {
        StepKind::Receive => "ws_receive_timeout",
        StepKind::Request => "ws_reply_timeout",
        StepKind::Listen => "ws_too_few_messages",
        StepKind::Ping => "ws_no_pong",
        StepKind::Closed => "ws_not_closed",
        _ => "timeout",
    }
}

pub(super) fn error_classes(counters: &Counters, timeout_class: &str) -> Vec<ErrorClassCount> {
    let by_class = counters.errors_by_class.iter().map(|(class, count)| (class.as_str(), *count));
    let others = [(timeout_class, counters.timeout), ("aborted", counters.aborted)];
    class_counts(by_class.chain(others))
}

/// Classes with what they mean, most frequent first.
pub(super) fn class_counts<'c>(counts: impl Iterator<Item = (&'c str, u64)>) -> Vec<ErrorClassCount> {
    let mut classes: Vec<ErrorClassCount> = counts
        .filter(|(_, count)| *count > 0)
        .map(|(class, count)| ErrorClassCount { class: class.to_owned(), count, explanation: explain(class) })
        .collect();
    classes.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.class.cmp(&b.class)));
    classes
}

pub(super) fn per_second(operations: u64, on: Duration) -> f64 {
    if on.is_zero() { 0.0 } else { operations as f64 / on.as_secs_f64() }
}

pub(super) fn latency(distribution: &Distribution) -> Latency {
    if distribution.count() == 0 {
        return Latency::default();
    }
    let ms = |us: u64| Some(us as f64 / 1e3);
    let quantile = |q: f64| ms(distribution.quantile_us(q));
    Latency {
        count: distribution.count(),
        min: ms(distribution.min_us()),
        mean: Some(distribution.mean_us() / 1e3),
        p50: quantile(0.5),
        p90: quantile(0.9),
        p95: quantile(0.95),
        p99: quantile(0.99),
        p999: quantile(0.999),
        p9999: quantile(0.9999),
        max: ms(distribution.max_us()),
        clamped: distribution.clamped(),
    }
}

/// The V2 form, deflated, in base64, as HdrHistogram's own tools read it.
fn histogram(distribution: &Distribution) -> String {
    let mut bytes = Vec::new();
    match V2DeflateSerializer::new().serialize(&distribution.histogram(), &mut bytes) {
        Ok(_) => BASE64.encode(bytes),
        Err(error) => {
            // Writing to memory does not fail; were it to, the report's figures still stand.
            tracing::error!(?error, "the response histogram can't be written");
            String::new()
        }
    }
}
