//! The report of a run, from what was merged: figures, ledger, verdict.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use groundswell_scenario::Share;
use groundswell_scenario::flow::StepKind;
use groundswell_stats::{Counters, Distribution, Kind, Overflow, Point, StepId};
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};

use super::judge::{RESPONSE, active};
use super::loss::{MissingUsers, Shortfall, shortfall};
use super::{Now, Run, StopReason};
use crate::report::{
    AgentFigures, ErrorClassCount, Latency, Ledger, LevelFigures, Reason, Report, RunInfo, SCHEMA, Status, StepFigures,
    TimelinePoint, Verdict, explain,
};

impl Run {
    /// The report, with the account closed.
    pub(super) fn report(&self, now: Now) -> Result<Report, Overflow> {
        let shortfalls: BTreeMap<usize, Shortfall> = self
            .members
            .iter()
            .enumerate()
            .filter_map(|(index, member)| {
                let lost = member.lost.as_ref()?;
                Some((index, shortfall(&self.plan, &self.totals, index, member, lost)))
            })
            .collect();
        let length = self.length(now);
        let thresholds = self.judge.results(&self.plan, &self.totals, length)?;
        let all: Vec<StepId> = self.all_steps().collect();
        let mut total = self.figures(&all, length, &shortfalls)?;
        (total.scenario, total.step, total.kind) = (String::new(), "total".to_owned(), "all".to_owned());
        let steps = self.step_rows(length, &shortfalls)?;
        let ledger = self.ledger(&total, &shortfalls)?;
        let mut report = Report {
            schema: SCHEMA.to_owned(),
            run: self.run_info(length),
            verdict: Verdict { status: Status::Passed, reasons: Vec::new() },
            ledger,
            total,
            steps,
            levels: self.level_rows(length, &shortfalls)?,
            agents: self.agent_rows()?,
            thresholds,
            timeline: self.timeline_rows()?,
        };
        report.verdict = self.verdict(&report, &shortfalls, length);
        Ok(report)
    }

    /// From T0 to the end of the load: the last figures, at the least what a lost agent got to see.
    fn length(&self, now: Now) -> Duration {
        let merged = self.members.iter().map(|member| Duration::from_micros(member.merged_to_us));
        let lost = self.members.iter().filter_map(|member| Some(member.lost.as_ref()?.at));
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
            version: env!("CARGO_PKG_VERSION").to_owned(),
            labels: self.labels.clone(),
            scenarios: self.plan.scenarios.iter().map(|scenario| scenario.name.clone()).collect(),
            insecure: self.plan.http.insecure,
        }
    }

    /// One row for each (scenario, step name), the levels of a sweep together.
    fn step_rows(
        &self,
        length: Duration,
        shortfalls: &BTreeMap<usize, Shortfall>,
    ) -> Result<Vec<StepFigures>, Overflow> {
        let mut rows = Vec::new();
        for scenario in &self.plan.scenarios {
            for slot in 0..scenario.timed_steps {
                let steps: Vec<StepId> =
                    scenario.phases.iter().map(|phase| StepId(phase.first_step.0 + slot)).collect();
                rows.push(self.figures(&steps, length, shortfalls)?);
            }
        }
        Ok(rows)
    }

    fn level_rows(
        &self,
        length: Duration,
        shortfalls: &BTreeMap<usize, Shortfall>,
    ) -> Result<Vec<LevelFigures>, Overflow> {
        let mut rows = Vec::new();
        for scenario in &self.plan.scenarios {
            for phase in &scenario.phases {
                let Some(level) = &phase.level else { continue };
                for slot in 0..scenario.timed_steps {
                    let mut figures = self.figures(&[StepId(phase.first_step.0 + slot)], length, shortfalls)?;
                    let on = phase.load.limit().min(length);
                    figures.rate_per_s = per_second(figures.issued, on);
                    figures.throughput_per_s = per_second(figures.ok, on);
                    rows.push(LevelFigures { level: level.clone(), figures });
                }
            }
        }
        Ok(rows)
    }

    /// Figures of some steps together, named after the first.
    fn figures(
        &self,
        steps: &[StepId],
        length: Duration,
        shortfalls: &BTreeMap<usize, Shortfall>,
    ) -> Result<StepFigures, Overflow> {
        let counters = self.totals.merged_counters(steps.iter().copied())?;
        let distribution = |kinds: &[Kind]| self.totals.distribution(steps.iter().copied(), kinds);
        let timed = steps.first().and_then(|step| self.plan.step(*step));
        let kind = timed.map(|timed| timed.kind);
        let response = distribution(&RESPONSE)?;
        let on = active(&self.plan, steps, length);
        let failed = counters.failed();
        let missing = |of: fn(&Shortfall) -> &BTreeMap<StepId, u64>| -> u64 {
            let of_steps = |shortfall| steps.iter().filter_map(|step| of(shortfall).get(step)).sum::<u64>();
            shortfalls.values().map(of_steps).sum()
        };
        Ok(StepFigures {
            scenario: timed.map_or_else(String::new, |timed| self.plan.scenarios[timed.scenario].name.clone()),
            step: timed.map_or_else(String::new, |timed| timed.name.clone()),
            kind: kind.map_or("all", StepKind::as_str).to_owned(),
            scheduled: counters.scheduled + missing(|shortfall| &shortfall.never_scheduled),
            issued: counters.issued,
            ok: counters.ok,
            errors: failed,
            error_classes: error_classes(&counters, self.timeout_class(steps)),
            shed: counters.shed_in_all(),
            not_generated: counters.not_generated_in_all() + missing(|shortfall| &shortfall.not_generated),
            rate_per_s: per_second(counters.issued, on),
            throughput_per_s: per_second(counters.ok, on),
            error_rate: if counters.issued == 0 { 0.0 } else { failed as f64 / counters.issued as f64 },
            messages_sent: counters.messages_sent,
            messages_received: counters.messages_received,
            bytes_sent: counters.bytes_sent,
            bytes_received: counters.bytes_received,
            response_ms: latency(&response),
            response_ok_ms: latency(&distribution(&[Kind::ResponseOk])?),
            response_failed_ms: latency(&distribution(&[Kind::ResponseFailed])?),
            service_ms: latency(&distribution(&[Kind::Service])?),
            send_lag_ms: latency(&distribution(&[Kind::SendLag])?),
            response_histogram: histogram(&response),
        })
    }

    /// A receive step that times out did not get a message; any other operation did not get an answer.
    fn timeout_class(&self, steps: &[StepId]) -> &'static str {
        let all_receive =
            steps.iter().all(|step| self.plan.step(*step).is_some_and(|timed| timed.kind == StepKind::Receive));
        if all_receive { "ws_receive_timeout" } else { "timeout" }
    }

    fn ledger(&self, total: &StepFigures, shortfalls: &BTreeMap<usize, Shortfall>) -> Result<Ledger, Overflow> {
        let counters = self.totals.merged_counters(self.all_steps())?;
        let words = |map: &BTreeMap<Cow<'static, str>, u64>| {
            map.iter().map(|(word, count)| (word.to_string(), *count)).collect::<BTreeMap<String, u64>>()
        };
        let mut not_generated = words(&counters.not_generated);
        let shed = words(&counters.shed);
        let of_lost: u64 = shortfalls.values().flat_map(|shortfall| shortfall.not_generated.values()).sum();
        if of_lost > 0 {
            *not_generated.entry("agent_lost".to_owned()).or_default() += of_lost;
        }
        let in_flight: u64 = shortfalls.values().flat_map(|shortfall| shortfall.in_flight.values()).sum();
        let unheard: u64 = shortfalls.values().map(|shortfall| shortfall.unheard_max).sum();
        let accounted = counters.issued + shed.values().sum::<u64>() + not_generated.values().sum::<u64>();
        let ended = counters.ok + counters.errors + counters.timeout + counters.aborted;
        Ok(Ledger {
            scheduled: total.scheduled,
            issued: counters.issued,
            ok: counters.ok,
            errors: counters.errors,
            timeout: counters.timeout,
            aborted: counters.aborted,
            balanced: total.scheduled == accounted
                && counters.issued == ended + in_flight
                && self.unplanned(shortfalls)?.is_none(),
            shed,
            not_generated,
            unknown_max: in_flight + unheard,
        })
    }

    fn agent_rows(&self) -> Result<Vec<AgentFigures>, Overflow> {
        let row = |(index, member): (usize, &super::Member)| {
            let counters = self.totals.agent_counters(index)?;
            Ok(AgentFigures {
                name: member.name.clone(),
                share: member.share.slots().len() as f64 / f64::from(member.share.of()),
                issued: counters.issued,
                ok: counters.ok,
                errors: counters.failed(),
                response_ms: latency(&self.totals.agent_distribution(index, &RESPONSE)?),
                send_lag_ms: latency(&self.totals.agent_distribution(index, &[Kind::SendLag])?),
                cpu: f64::from(member.cpu_permille_max) / 1000.0,
                clock_bound_ms: member.clock_bound_us as f64 / 1000.0,
                lost_at_s: member.lost.as_ref().map(|lost| lost.at.as_secs_f64()),
            })
        };
        self.members.iter().enumerate().map(row).collect()
    }

    fn timeline_rows(&self) -> Result<Vec<TimelinePoint>, Overflow> {
        let row = |point: Point<'_>| {
            let timed = self.plan.step(point.step)?;
            let response = match Distribution::of([point.response]) {
                Ok(response) => response,
                Err(overflow) => return Some(Err(overflow)),
            };
            let scenario = &self.plan.scenarios[timed.scenario];
            Some(Ok(TimelinePoint {
                t_s: point.from_s as f64,
                length_s: point.length_s as f64,
                scenario: scenario.name.clone(),
                level: scenario.phases[timed.phase].level.clone(),
                step: timed.name.clone(),
                issued: point.issued,
                ok: point.ok,
                errors: point.failed,
                response_ms: latency(&response),
            }))
        };
        self.timeline.points().filter_map(row).collect()
    }

    /// The verdict with its reasons, the weightiest first. What puts the figures themselves in doubt outweighs a
    /// threshold; load that was not offered for any other reason does not.
    fn verdict(&self, report: &Report, shortfalls: &BTreeMap<usize, Shortfall>, length: Duration) -> Verdict {
        let mut reasons: Vec<(Status, Reason)> = Vec::new();
        reasons.extend(self.unbalanced(report, shortfalls).map(|reason| (Status::Invalid, reason)));
        reasons.extend(self.interrupted().map(|reason| (Status::Aborted, reason)));
        reasons.extend(self.losses(shortfalls, length).map(|reason| (Status::Degraded, reason)));
        reasons.extend(broken_thresholds(report).map(|reason| (Status::Failed, reason)));
        reasons.extend(
            not_offered(report, self.stopped.map(|stopped| stopped.reason.word()))
                .map(|reason| (Status::Degraded, reason)),
        );
        reasons.extend(all_failed(report).map(|reason| (Status::Degraded, reason)));
        let status = reasons.first().map_or(Status::Passed, |(status, _)| *status);
        Verdict { status, reasons: reasons.into_iter().map(|(_, reason)| reason).collect() }
    }

    /// The first timed step of an open load, or of a fixed number of iterations, whose account does not hold what the
    /// plan asks for: its name, what is planned, what is accounted for.
    fn unplanned(&self, shortfalls: &BTreeMap<usize, Shortfall>) -> Result<Option<(String, u64, u64)>, Overflow> {
        for phase in self.plan.scenarios.iter().flat_map(|scenario| &scenario.phases) {
            let Some(iterations) = phase.planned_iterations(&Share::whole(), self.plan.seed) else { continue };
            let steps = (phase.first_step.0..).map(StepId);
            let of_phase = |step: &StepId| {
                let timed = self.plan.step(*step)?;
                let first = self.plan.step(phase.first_step)?;
                (timed.scenario == first.scenario && timed.phase == first.phase).then_some(timed)
            };
            for (step, timed) in steps.map_while(|step| Some((step, of_phase(&step)?))) {
                let planned = iterations * timed.per_iteration;
                let missing = |shortfall: &Shortfall| shortfall.never_scheduled.get(&step).copied().unwrap_or(0);
                let scheduled =
                    self.totals.merged_counters([step])?.scheduled + shortfalls.values().map(missing).sum::<u64>();
                if scheduled != planned {
                    return Ok(Some((timed.name.clone(), planned, scheduled)));
                }
            }
        }
        Ok(None)
    }

    fn unbalanced(&self, report: &Report, shortfalls: &BTreeMap<usize, Shortfall>) -> Option<Reason> {
        let ledger = &report.ledger;
        if ledger.balanced {
            return None;
        }
        let accounted = ledger.issued + ledger.shed.values().sum::<u64>() + ledger.not_generated.values().sum::<u64>();
        let ended = ledger.ok + ledger.errors + ledger.timeout + ledger.aborted;
        let what = match self.unplanned(shortfalls) {
            Ok(Some((step, planned, scheduled))) => {
                format!("{planned} operations of {step} are planned but {scheduled} are accounted for")
            }
            _ => format!(
                "{} operations are scheduled but {accounted} accounted for, {} issued but {ended} ended",
                ledger.scheduled, ledger.issued
            ),
        };
        let message = format!("the account does not add up: {what}; this is a fault of groundswell, please report it");
        Some(reason("ledger", message))
    }

    fn interrupted(&self) -> Option<Reason> {
        let stopped = self.stopped.filter(|stopped| stopped.reason != StopReason::Threshold)?;
        let at = self.t0.map_or(Duration::ZERO, |t0| stopped.at.saturating_sub(t0)).as_secs_f64();
        let who = match stopped.reason {
            StopReason::ClientGone => "the command that submitted the run went away",
            StopReason::Interrupted | StopReason::Threshold => "interrupted by the user",
        };
        let message = format!("{who} at {at:.1} s; the figures cover the time before it");
        Some(Reason { from_s: Some(at), ..reason("interrupted", message) })
    }

    fn losses<'a>(
        &'a self,
        shortfalls: &'a BTreeMap<usize, Shortfall>,
        length: Duration,
    ) -> impl Iterator<Item = Reason> + 'a {
        shortfalls.iter().filter_map(move |(index, shortfall)| {
            let member = &self.members[*index];
            let lost = member.lost.as_ref()?;
            let (from, heard) = (lost.at.as_secs_f64(), member.merged_to_us as f64 / 1e6);
            let missing = missing_text(shortfall);
            let message = format!(
                "agent {} was lost at {from:.1} s ({}); its figures count up to {heard:.1} s. Not offered: {missing}",
                member.name, lost.why
            );
            Some(Reason {
                agent: Some(member.name.clone()),
                from_s: Some(heard.min(from)),
                to_s: Some(length.max(lost.at).as_secs_f64()),
                ..reason("agent_lost", message)
            })
        })
    }
}

fn missing_text(shortfall: &Shortfall) -> String {
    let operations: u64 = shortfall.not_generated.values().sum();
    let mut parts = Vec::new();
    if operations > 0 {
        parts.push(format!("{operations} scheduled operations"));
    }
    for MissingUsers { scenario, users, from, to } in &shortfall.missing_users {
        let (from, to) = (from.as_secs_f64(), to.as_secs_f64());
        parts.push(format!("{users} users of {scenario} from {from:.1} s to {to:.1} s"));
    }
    if parts.is_empty() { "nothing, its share was done".to_owned() } else { parts.join(", ") }
}

fn broken_thresholds(report: &Report) -> impl Iterator<Item = Reason> + '_ {
    report.thresholds.iter().filter(|result| !result.passed).map(|result| {
        let figure = match (result.value, result.unit.as_str()) {
            (None, _) => "there is no figure to judge".to_owned(),
            (Some(value), "ratio") => format!("it was {:.2} %", value * 100.0),
            (Some(value), "count") => format!("it was {value}"),
            (Some(value), unit) => format!("it was {value:.3} {unit}"),
        };
        let stopped = result.aborted_at_s.map_or_else(String::new, |at| format!("; the run was stopped at {at:.0} s"));
        Reason {
            from_s: result.aborted_at_s,
            ..reason("threshold", format!("{} does not hold: {figure}{stopped}", result.text))
        }
    })
}

/// Load that was not offered, unless the reason is in the verdict anyway.
fn not_offered(report: &Report, stop_word: Option<&str>) -> impl Iterator<Item = Reason> {
    let shed: u64 = report.ledger.shed.values().sum();
    let shed = (shed > 0).then(|| {
        let message = format!(
            "{shed} operations were shed: too many were in flight already, so the target did not keep up with the rate, \
             or max_in_flight is too low for it"
        );
        reason("shed", message)
    });
    let stated = ["agent_lost", stop_word.unwrap_or_default()];
    let others = report.ledger.not_generated.iter().filter(|(word, _)| !stated.contains(&word.as_str()));
    let others: Vec<Reason> = others
        .map(|(word, operations)| {
            reason("not_generated", format!("{operations} operations were not generated: {}", explain_word(word)))
        })
        .collect();
    shed.into_iter().chain(others)
}

fn explain_word(word: &str) -> String {
    match word {
        "socket_not_open" => "their WebSocket was not open, because its handshake failed or it was closed".to_owned(),
        "template_failed" => {
            "a template could not be rendered, most often because an earlier step did not capture its value".to_owned()
        }
        "time_limit" => "the scenario's time limit came before its iterations were done".to_owned(),
        "data_exhausted" => "the data set had no row left (at_end: stop)".to_owned(),
        "cut_off" => "their iteration was still going on when the drain ended".to_owned(),
        other => other.replace('_', " "),
    }
}

/// A step of which nothing succeeded: its latencies are those of failures.
fn all_failed(report: &Report) -> impl Iterator<Item = Reason> + '_ {
    let none_ok = |row: &&StepFigures| row.issued > 0 && row.ok == 0;
    report.steps.iter().filter(none_ok).map(|row| {
        let first = row.error_classes.first();
        let why = first.map_or_else(String::new, |class| format!(": {}", class.explanation));
        let message = format!("every operation of {}/{} failed{why}", row.scenario, row.step);
        reason("all_failed", message)
    })
}

fn reason(code: &str, message: String) -> Reason {
    Reason { code: code.to_owned(), message, agent: None, from_s: None, to_s: None }
}

fn error_classes(counters: &Counters, timeout_class: &str) -> Vec<ErrorClassCount> {
    let by_class = counters.errors_by_class.iter().map(|(class, count)| (class.as_str(), *count));
    let others = [(timeout_class, counters.timeout), ("aborted", counters.aborted)];
    let mut classes: Vec<ErrorClassCount> = by_class
        .chain(others)
        .filter(|(_, count)| *count > 0)
        .map(|(class, count)| ErrorClassCount { class: class.to_owned(), count, explanation: explain(class) })
        .collect();
    classes.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.class.cmp(&b.class)));
    classes
}

fn per_second(operations: u64, on: Duration) -> f64 {
    if on.is_zero() { 0.0 } else { operations as f64 / on.as_secs_f64() }
}

fn latency(distribution: &Distribution) -> Latency {
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
