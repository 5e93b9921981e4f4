//! The verdict: whether the figures can be trusted, and whether they pass.

use std::time::Duration;

use groundswell_scenario::Share;
use groundswell_stats::{Kind, Overflow, StepId};

use super::loss::{MissingUsers, Shortfall, Shortfalls, owned_by};
use super::member::{Lost, Member};
use super::{Run, StopReason};
use crate::fleet::AgentId;
use crate::report::{Reason, Report, Status, StepFigures, Verdict, explain};

/// Operations of an agent that may lie in doubtful windows, as a part: fewer can't move a p99.
const DOUBT_ALLOWED: f64 = 0.01;
/// Figures that come later than this are worth a warning; one second and the way are usual.
const TELEMETRY_LATE: Duration = Duration::from_secs(5);

impl Run {
    /// The verdict with its reasons, the weightiest first. What puts the figures themselves in doubt outweighs a
    /// threshold; load that was not offered for any other reason does not.
    pub(super) fn verdict(&self, report: &Report, shortfalls: &Shortfalls, length: Duration) -> Verdict {
        let mut reasons: Vec<(Status, Reason)> = Vec::new();
        reasons.extend(self.unbalanced(report, shortfalls).map(|reason| (Status::Invalid, reason)));
        reasons.extend(self.tainted_agents().map(|reason| (Status::Invalid, reason)));
        reasons.extend(self.interrupted().map(|reason| (Status::Aborted, reason)));
        reasons.extend(self.generator_limits(report).into_iter().map(|reason| (Status::Invalid, reason)));
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
    pub(super) fn unplanned(&self, shortfalls: &Shortfalls) -> Result<Option<(String, u64, u64)>, Overflow> {
        for phase in self.plan.scenarios.iter().flat_map(|scenario| &scenario.phases) {
            let Some(planned) = phase.planned_iterations(&Share::whole(), self.plan.seed) else { continue };
            for (first, iterations) in phase.parts(planned) {
                for step in (first.0..).map(StepId).take(self.timed_steps_of(first)) {
                    let Some(timed) = self.plan.step(step) else { continue };
                    let planned = iterations * timed.per_iteration;
                    let missing = |shortfall: &Shortfall| shortfall.never_scheduled.get(&step).copied().unwrap_or(0);
                    let scheduled =
                        self.totals.merged_counters([step])?.scheduled + shortfalls.all().map(missing).sum::<u64>();
                    if scheduled != planned && !(timed.as_they_come && scheduled > planned) {
                        return Ok(Some((timed.name.clone(), planned, scheduled)));
                    }
                }
            }
        }
        Ok(None)
    }

    /// What already stands against the figures while the run goes on.
    pub(super) fn standing_reasons(&self, elapsed: Duration) -> Vec<Reason> {
        let shortfalls = self.shortfalls();
        self.tainted_agents().chain(self.losses(&shortfalls, elapsed)).collect()
    }

    fn unbalanced(&self, report: &Report, shortfalls: &Shortfalls) -> Option<Reason> {
        let ledger = &report.ledger;
        if ledger.balanced {
            return None;
        }
        let accounted = ledger.issued + ledger.shed.values().sum::<u64>() + ledger.not_generated.values().sum::<u64>();
        let unsent: u64 = ledger.unsent.values().sum();
        let ended = ledger.ok + ledger.errors + ledger.timeout + ledger.aborted + unsent;
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

    /// Agents that can't be believed.
    fn tainted_agents(&self) -> impl Iterator<Item = Reason> + '_ {
        self.members.iter().filter_map(|member| {
            let why = member.tainted.as_ref()?;
            let message =
                format!("agent {} can't be believed: {why}; its figures up to then are in the report", member.name);
            Some(Reason { agent: Some(member.name.clone()), ..reason("tainted", message) })
        })
    }

    fn interrupted(&self) -> Option<Reason> {
        let stopped = self.stopped.filter(|stopped| stopped.reason != StopReason::Threshold)?;
        let at = self.t0.map_or(Duration::ZERO, |t0| stopped.at.saturating_sub(t0)).as_secs_f64();
        let who = match stopped.reason {
            StopReason::ClientGone => "the command that submitted the run went away",
            StopReason::AgentLost => "stopped because an agent was lost (on_agent_loss: abort)",
            StopReason::Interrupted | StopReason::Threshold => "interrupted by the user",
        };
        let message = format!("{who} at {at:.1} s; the figures cover the time before it");
        Some(Reason { from_s: Some(at), ..reason("interrupted", message) })
    }

    fn losses<'a>(&'a self, shortfalls: &'a Shortfalls, length: Duration) -> impl Iterator<Item = Reason> + 'a {
        shortfalls.lost.iter().filter_map(move |(index, shortfall)| {
            let member = &self.members[*index];
            let lost = member.lost.as_ref()?;
            let (from, heard) = (lost.at.as_secs_f64(), member.merged_to_us as f64 / 1e6);
            let missing = missing_text(shortfall);
            let rest = self.taken_over(member.id, lost);
            let message = format!(
                "agent {} was lost at {from:.1} s ({}); its figures count up to {heard:.1} s. Not offered: {missing}{rest}",
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

    /// Who goes on with what a lost agent owned, and from when on.
    fn taken_over(&self, agent: AgentId, lost: &Lost) -> String {
        let Some(assignments) = &self.assignments else { return String::new() };
        let owned_to_the_end = owned_by(assignments, agent).iter().any(|own| own.until == Some(lost.taken_over));
        let taken = assignments.history().iter().filter(|holding| holding.assignment.from == lost.taken_over);
        let mut takers: Vec<&str> = taken.filter_map(|holding| Some(self.name_of(holding.owner?))).collect();
        takers.dedup();
        if takers.is_empty() || !owned_to_the_end {
            return String::new();
        }
        format!("; from {:.1} s on its load went to {}", lost.taken_over.as_secs_f64(), takers.join(", "))
    }

    fn timed_steps_of(&self, first: StepId) -> usize {
        let scenario = self.plan.step(first).and_then(|timed| self.plan.scenarios.get(timed.scenario));
        scenario.map_or(0, |scenario| scenario.timed_steps as usize)
    }

    /// Where the generator was the bottleneck: by agent, with window and cause.
    fn generator_limits(&self, report: &Report) -> Vec<Reason> {
        let mut reasons = Vec::new();
        for (index, member) in self.members.iter().enumerate() {
            let doubted = member.trust.doubted();
            if doubted as f64 > member.trust.judged as f64 * DOUBT_ALLOWED {
                reasons.extend(doubt_reason(member));
            }
            let Ok(counters) = self.totals.agent_counters(index) else { continue };
            reasons.extend(counters.unsent.iter().map(|(class, count)| Reason {
                agent: Some(member.name.clone()),
                from_s: Some(0.0),
                to_s: Some(report.run.duration_s),
                ..reason(
                    if class.as_str() == "not_allowed" { "not_allowed" } else { "client_limit" },
                    format!("agent {} did not send {count} operations: {}", member.name, explain(class.as_str())),
                )
            }));
        }
        reasons
    }

    /// Operations that waited for a place in flight, though none of them may have been shed.
    fn queued(&self) -> Option<Reason> {
        let queue = self.totals.distribution(self.measured_steps(), &[Kind::Queue]).ok()?;
        (queue.count() > 0).then(|| {
            let p99 = queue.quantile_us(0.99) as f64 / 1e3;
            let message = format!(
                "{} operations waited for a place in flight (p99 {p99:.1} ms): max_in_flight was reached, or the message \
                 before on the same WebSocket was still being sent; the target was slow, or the limit is low for the rate",
                queue.count()
            );
            reason("queued", message)
        })
    }

    /// What does not change the verdict but should be known.
    pub(super) fn warnings(&self) -> Vec<Reason> {
        let mut warnings: Vec<Reason> = self.queued().into_iter().collect();
        if self.place.open {
            let message = "the coordinator was open (--insecure): whoever reached it could join, read and steer, and its \
                           connections were not encrypted";
            warnings.push(reason("insecure", message.to_owned()));
        }
        for member in &self.members {
            let of_member = |code, message| Reason { agent: Some(member.name.clone()), ..reason(code, message) };
            warnings.extend(
                member.warnings.iter().map(|text| of_member("preflight", format!("agent {} {text}", member.name))),
            );
            let doubted = member.trust.doubted();
            if doubted > 0 && doubted as f64 <= member.trust.judged as f64 * DOUBT_ALLOWED {
                warnings.extend(doubt_reason(member));
            }
            if member.trust.crowded as f64 > member.trust.judged as f64 * DOUBT_ALLOWED {
                let part = member.trust.crowded as f64 / member.trust.judged.max(1) as f64 * 100.0;
                let message = format!(
                    "others took CPU from agent {} during {part:.0} % of its operations; nothing was late for it, but the \
                     target may look slower than it is: give the agent a machine of its own",
                    member.name
                );
                warnings.push(of_member("machine_busy", message));
            }
            if member.held_operations > 0 {
                let message = format!(
                    "agent {} was held at its --max-rate: {} operations waited for their turn, which is in no latency, so less \
                     was sent than the target would have let it; raise the limit, or use more agents",
                    member.name, member.held_operations
                );
                warnings.push(of_member("max_rate", message));
            }
            if member.telemetry_lag > TELEMETRY_LATE {
                let late = member.telemetry_lag.as_secs_f64();
                let message = format!(
                    "figures of agent {} came up to {late:.1} s late, so live figures and thresholds that stop were late too; \
                     look at the link between it and the coordinator",
                    member.name
                );
                warnings.push(of_member("telemetry_late", message));
            }
        }
        warnings
    }
}

/// The doubtful windows of an agent in one sentence: the likeliest of its causes, and when.
fn doubt_reason(member: &Member) -> Option<Reason> {
    let doubts = &member.trust.doubts;
    // The window with the greatest lag may be a short one that shows no cause of its own.
    let worst = doubts.iter().min_by_key(|doubt| (doubt.cause, std::cmp::Reverse(doubt.lag_us)))?;
    let (first, last) = (doubts.first()?, doubts.last()?);
    let (from_s, to_s) = (first.from_us as f64 / 1e6, last.to_us as f64 / 1e6);
    let part = member.trust.doubted() as f64 / member.trust.judged.max(1) as f64 * 100.0;
    let message = format!(
        "agent {} was the bottleneck for {part:.1} % of its operations between {from_s:.1} s and {to_s:.1} s: {}",
        member.name,
        worst.text()
    );
    Some(Reason {
        agent: Some(member.name.clone()),
        from_s: Some(from_s),
        to_s: Some(to_s),
        ..reason("generator", message)
    })
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
    let stated = ["agent_lost", "lease_expired", stop_word.unwrap_or_default()];
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
        "late_assign" => "they were due before their new agent had heard that they were its".to_owned(),
        "agent_limits" => "no agent may take them: together their limits are below what the plan asks for".to_owned(),
        "max_duration" => "the load lasted longer than the operator of their agent allows (--max-duration)".to_owned(),
        "agent_left" => "their agent was asked to stop, and no other one took its load over in time".to_owned(),
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
