//! What clients bring: runs to begin, to follow, to stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use groundswell_proto::v1;
use prost::Message as _;

use super::running::{Running, tell_the_end};
use super::{Follower, Hub, Submission};
use crate::fleet::AgentId;
use crate::run::{Candidate, Event, Outcome, Run, StopReason};
use crate::server::clock::calendar_us;
use crate::server::wire;
use crate::store::{NewRun, RunState};

/// A run that nobody follows stops after this long, because nobody would see its report.
const CLIENT_PATIENCE: Duration = Duration::from_secs(10);
/// A run that was taken up for what comes late stays in memory for so long.
const TAKEN_UP: Duration = Duration::from_secs(60);

impl Hub {
    pub(super) async fn submit(&mut self, submission: Submission) {
        let now = self.clock.now();
        let Submission { plan, source, agents, wait, labels, submission, follower, answer } = submission;
        let wire_plan = v1::Plan { hash: plan.hash.clone(), ..v1::Plan::from(&source) };
        let new = NewRun {
            id: format!("{:08x}", rand::random::<u32>()),
            submission,
            name: plan.name.clone(),
            plan_hash: plan.hash.clone(),
            plan: wire_plan.encode_to_vec(),
            labels: labels.clone(),
            agents_wanted: agents as u64,
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            selector: BTreeMap::new(),
            submitted_at_us: calendar_us(now.calendar),
        };
        let created = match self.store.create_run(&new).await {
            Ok(created) => created,
            Err(error) => {
                let _ = answer.send(Err(error));
                return;
            }
        };
        let _ = answer.send(Ok(()));
        if created.new {
            tracing::info!(run = %created.id, "run submitted");
            let run = Run::new(created.id.clone(), Arc::new(plan), labels, self.options.local);
            self.runs.push(Running::new(created.id.clone(), run, wire_plan, agents, wait, now.monotonic));
        }
        self.follow(&created.id, follower).await;
        self.assign();
    }

    /// Adds somebody who follows a run, or shows the end of one that is over. False where there is no such run.
    pub(super) async fn follow(&mut self, run_id: &str, follower: Follower) -> bool {
        let _ = follower.try_send(Ok(wire::accepted(run_id)));
        if let Some(index) = self.index_of(run_id) {
            self.runs[index].followed = self.clock.monotonic();
            self.runs[index].followers.push(follower);
            return true;
        }
        let Ok(stored) = self.store.run(run_id).await else { return false };
        let Some(report) = stored.report else { return false };
        let exit_code = u8::try_from(report.exit_code).unwrap_or(3);
        let _ = follower.try_send(Ok(wire::finished(report.report, exit_code)));
        true
    }

    /// Gives free agents to the runs that wait, first come, first served; then to those that lack some.
    pub(super) fn assign(&mut self) {
        for index in 0..self.runs.len() {
            if !self.runs[index].run.is_waiting() || self.runs[index].undecided > 0 {
                continue;
            }
            let mut free = self.fleet.free();
            let wanted = self.runs[index].agents_wanted;
            if free.len() < wanted.max(1) {
                // A later run must not take the agents that an earlier one collects.
                return;
            }
            if wanted > 0 {
                free.truncate(wanted);
            }
            let candidates = free.into_iter().filter_map(|id| self.take_agent(id, index)).collect();
            self.log(index, Event::Assigned(candidates), None);
        }
        for index in 0..self.runs.len() {
            let Running { run, agents_wanted, undecided, .. } = &self.runs[index];
            if *undecided == 0
                && run.wants_more(*agents_wanted)
                && let Some(id) = self.fleet.free().first().copied()
                && let Some(candidate) = self.take_agent(id, index)
            {
                self.log(index, Event::Joined(candidate), None);
            }
        }
    }

    /// An agent becomes one of a run's.
    fn take_agent(&mut self, id: AgentId, index: usize) -> Option<Candidate> {
        let agent = self.fleet.get(id)?.clone();
        let (now, running) = (self.clock.monotonic(), &mut self.runs[index]);
        running.names.insert(id, agent.name.clone());
        if !running.leases.grant(id, now) {
            return None;
        }
        self.fleet.assign(id, Some(&self.runs[index].id));
        let (weight, max_rate_per_s, max_users) = (agent.weight, agent.max_rate_per_s, agent.max_users);
        Some(Candidate { id, name: agent.name, weight, max_rate_per_s, max_users })
    }

    /// Takes an agent back from a run, if it has it.
    fn let_go(&mut self, agent: AgentId, run_id: &str) {
        if self.fleet.get(agent).is_some_and(|known| known.run.as_deref() == Some(run_id)) {
            self.fleet.assign(agent, None);
        }
    }

    /// Forgets runs that were taken up again and for which nothing more has come.
    pub(super) fn forget_taken_up(&mut self, now: Duration) {
        let is_over = |running: &Running| {
            running.run.is_closed() && running.undecided == 0 && now.saturating_sub(running.followed) > TAKEN_UP
        };
        self.runs.retain(|running| !is_over(running));
    }

    pub(super) fn give_up_waiting(&mut self, now: Duration) {
        let late = |running: &Running| running.run.is_waiting() && running.undecided == 0 && now > running.wait_until;
        while let Some(index) = self.runs.iter().position(late) {
            let running = &self.runs[index];
            let problem = format!(
                "{} agents were wanted but {} were free after {} s; start agents with `groundswell agent --coordinator \
                 URL --name NAME`",
                running.agents_wanted.max(1),
                self.fleet.free().len(),
                running.wait.as_secs()
            );
            self.finish(index, &Outcome::NoReport { problem, exit_code: 3 });
        }
    }

    pub(super) fn send_progress(&mut self) {
        let now = self.clock.now();
        let free = self.fleet.free().len();
        let mut gone = Vec::new();
        for (index, running) in self.runs.iter_mut().enumerate().filter(|(_, running)| !running.run.is_closed()) {
            let detail = if running.run.is_waiting() {
                format!("{free} of {} agents are there", running.agents_wanted.max(1))
            } else {
                String::new()
            };
            if let Ok(progress) = running.run.progress(running.ahead.run_time(now)) {
                running.tell(&wire::progress(&progress, detail), now.monotonic);
            }
            if running.undecided == 0 && now.monotonic.saturating_sub(running.followed) > CLIENT_PATIENCE {
                running.followed = now.monotonic;
                gone.push(index);
            }
        }
        for index in gone {
            self.log(index, Event::Stop(StopReason::ClientGone), None);
        }
    }

    /// A run is over: its answer is stored, then told.
    pub(super) fn finish(&mut self, index: usize, outcome: &Outcome) {
        let mut running = self.runs.remove(index);
        tracing::info!(run = %running.id, "run finished");
        // One that is lost is nobody's any more: if it comes back, the run is taken up again for what it brings.
        let agents: Vec<AgentId> = running.names.keys().copied().collect();
        agents.into_iter().for_each(|agent| self.let_go(agent, &running.id));
        let finish = wire::finish(&running.id, running.revision + 1, self.clock.now().calendar, outcome);
        let (store, followers) = (self.store.clone(), std::mem::take(&mut running.followers));
        self.tasks.spawn(async move {
            if let Err(error) = store.finish_run(&finish).await {
                tracing::error!(run = %finish.run, %error, "the report could not be stored");
            }
            let exit_code = u8::try_from(finish.exit_code).unwrap_or(3);
            tell_the_end(followers, wire::finished(finish.report, exit_code)).await;
        });
    }
}

/// Has a run an answer?
pub(super) fn is_finished(state: RunState) -> bool {
    matches!(state, RunState::Finished { .. })
}
