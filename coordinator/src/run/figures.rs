//! A run's totals for monitoring systems.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use groundswell_stats::{Counters, Distribution, Kind, Overflow};

use super::judge::RESPONSE;
use super::report::timeout_class;
use super::{Member, MemberState, Now, Run};
use crate::export::{AgentHealth, RunFigures, StepTotals};

impl Run {
    /// Its totals so far.
    ///
    /// # Errors
    /// When the figures of all agents together do not fit.
    pub fn figures_for_export(&self, now: Now) -> Result<RunFigures, Overflow> {
        let counters = self.totals.merged_counters(self.every_step())?;
        let sockets = self.totals.sockets(self.every_step())?;
        let started = self.started_at.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        Ok(RunFigures {
            run: self.id.clone(),
            plan: self.plan.name.clone(),
            labels: self.labels.clone(),
            started_unix_ns: u64::try_from(started.as_nanos()).unwrap_or(0),
            wanted_per_s: self.wanted_per_s(self.elapsed(now)),
            users: self.members.iter().map(|member| member.health.users).sum(),
            in_flight: counters.in_flight().unwrap_or(0),
            open_sockets: sockets.opened.saturating_sub(sockets.closed_in_all()),
            agents: self
                .members
                .iter()
                .enumerate()
                .map(|(index, member)| self.agent_health(index, member))
                .collect::<Result<_, _>>()?,
            steps: self.step_totals()?,
        })
    }

    fn agent_health(&self, index: usize, member: &Member) -> Result<AgentHealth, Overflow> {
        Ok(AgentHealth {
            name: member.name.clone(),
            cpu: f64::from(member.health.cpu_permille) / 1e3,
            send_lag: self.totals.agent_send_lag(index).cloned().unwrap_or_default().into_series(),
            clock_bound_s: member.clock_bound_us as f64 / 1e6,
            lost: member.state == MemberState::Lost,
        })
    }

    fn step_totals(&self) -> Result<Vec<StepTotals>, Overflow> {
        let mut steps = Vec::with_capacity(self.plan.steps.len());
        for (id, timed) in self.every_step().zip(&self.plan.steps) {
            let counters = self.totals.merged_counters([id])?;
            let series = |kinds: &[Kind]| self.totals.distribution([id], kinds).map(Distribution::into_series);
            let scenario = &self.plan.scenarios[timed.scenario];
            steps.push(StepTotals {
                scenario: scenario.name.clone(),
                level: scenario.phases[timed.phase].level.clone().unwrap_or_default(),
                step: timed.name.clone(),
                warm_up: timed.warm_up,
                issued: counters.issued,
                ok: counters.ok,
                failures: failures(&counters, timeout_class(timed.kind)),
                not_issued: not_issued(&counters),
                response: series(&RESPONSE)?,
                service: series(&[Kind::Service])?,
            });
        }
        Ok(steps)
    }
}

fn failures(counters: &Counters, timeout_class: &str) -> BTreeMap<String, u64> {
    let by_class = counters.errors_by_class.iter().map(|(class, count)| (class.as_str(), *count));
    let all = by_class.chain([(timeout_class, counters.timeout), ("aborted", counters.aborted)]);
    all.filter(|(_, count)| *count > 0).map(|(class, count)| (class.to_owned(), count)).collect()
}

fn not_issued(counters: &Counters) -> BTreeMap<String, u64> {
    let all = counters.shed.iter().chain(&counters.not_generated);
    all.map(|(reason, count)| (reason.to_string(), *count)).collect()
}
