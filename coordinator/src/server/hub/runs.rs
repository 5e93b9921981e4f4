//! What clients bring: runs to begin, to follow, to stop.

use std::sync::Arc;
use std::time::Duration;

use groundswell_proto::v1;
use prost::Message as _;

use super::running::Running;
use super::watch::{Watch, finished};
use super::{Hub, Present, Submission, SubmitError};
use crate::api::AgentStatus;
use crate::fleet::{Agent, AgentId, Labels, label_text};
use crate::run::{Candidate, Event, Outcome, Run, StopReason};
use crate::server::clock::calendar_us;
use crate::server::wire;
use crate::store::{Created, NewRun, RunState};

/// A run that nobody follows stops after this long, because nobody would see its report.
const CLIENT_PATIENCE: Duration = Duration::from_secs(10);
/// A run that was taken up for what comes late stays in memory for so long.
const TAKEN_UP: Duration = Duration::from_secs(60);

impl Hub {
    pub(super) async fn submit(&mut self, submission: Submission) {
        let now = self.clock.now();
        let Submission { plan, source, agents, wait, labels, selector, submission, attached, answer } = submission;
        if let Err(problem) = self.enough_agents(agents, wait, &selector) {
            let _ = answer.send(Err(SubmitError::NoAgents(problem)));
            return;
        }
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
            selector: selector.clone(),
            attached,
            submitted_at_us: calendar_us(now.calendar),
        };
        let created = self.store.create_run(&new).await;
        if let Ok(Created { id, new: true }) = &created {
            tracing::info!(run = %id, "run submitted");
            let run = Run::new(id.clone(), Arc::new(plan), labels, self.options.place());
            let running = Running::new(id.clone(), run, wire_plan, agents, wait, now.monotonic);
            self.runs.push(Running { selector, attached, ..running });
        }
        let _ = answer.send(created.map_err(SubmitError::Store));
        self.assign();
    }

    /// A run that may not wait is only taken where the agents that it wants are free.
    fn enough_agents(&self, wanted: usize, wait: Duration, selector: &Labels) -> Result<(), String> {
        let free = self.free_for(self.runs.len(), selector).len();
        if !wait.is_zero() || free >= wanted.max(1) {
            return Ok(());
        }
        let at_work: Vec<String> = self
            .fleet
            .agents()
            .filter(|(_, agent)| agent.has(selector))
            .filter_map(|(_, agent)| Some(format!("{} works for run {}", agent.name, agent.run.as_ref()?)))
            .collect();
        let others = if at_work.is_empty() { String::new() } else { format!(" ({})", at_work.join(", ")) };
        let with = if selector.is_empty() { String::new() } else { format!(" with {}", label_text(selector)) };
        Err(format!(
            "{} free agents{with} are wanted and {free} are there{others}; give wait_s to queue the run, or start more agents",
            wanted.max(1)
        ))
    }

    /// All that there is of a run that is at work, and what comes.
    pub(super) fn watch(&mut self, run_id: &str) -> Option<Watch> {
        let index = self.index_of(run_id)?;
        let detail = self.detail(index);
        let now = self.clock.now();
        let running = &mut self.runs[index];
        // One that was taken up again for what came late has its answer in the store.
        if running.run.is_closed() {
            return None;
        }
        running.followed = now.monotonic;
        Some(running.feed.watch(&mut running.run, run_id, running.ahead.run_time(now), detail))
    }

    pub(super) fn present(&mut self) -> Present {
        let now = self.clock.now();
        let at_work = |running: &Running| !running.run.is_closed();
        let indices: Vec<usize> = (0..self.runs.len()).filter(|index| at_work(&self.runs[*index])).collect();
        let state = |index: usize| {
            let running = &self.runs[index];
            let state = running.run.state(running.ahead.run_time(now)).to_owned();
            (running.id.clone(), (state, self.detail(index)))
        };
        Present {
            runs: indices.into_iter().map(state).collect(),
            agents: self.fleet.agents().map(|(_, agent)| status_of(agent, now.monotonic)).collect(),
        }
    }

    /// What a run waits for.
    fn detail(&self, index: usize) -> String {
        let running = &self.runs[index];
        if !running.run.is_waiting() {
            return String::new();
        }
        let free = self.free_for(index, &running.selector).len();
        format!("{free} of {} agents are there", running.agents_wanted.max(1))
    }

    /// Agents that a run may take: those with its labels that no earlier run collects.
    fn free_for(&self, index: usize, selector: &Labels) -> Vec<AgentId> {
        let earlier = self.runs.iter().take(index).filter(|running| running.run.is_waiting());
        let collected: Vec<&Labels> = earlier.map(|running| &running.selector).collect();
        let may_take = |id: &AgentId| {
            let agent = self.fleet.get(*id);
            agent.is_some_and(|agent| agent.has(selector) && !collected.iter().any(|earlier| agent.has(earlier)))
        };
        self.fleet.free().into_iter().filter(may_take).collect()
    }

    /// Gives free agents to the runs that wait, first come, first served; then to those that lack some.
    pub(super) fn assign(&mut self) {
        for index in 0..self.runs.len() {
            if !self.runs[index].run.is_waiting() || self.runs[index].undecided > 0 {
                continue;
            }
            let mut free = self.free_for(index, &self.runs[index].selector);
            let wanted = self.runs[index].agents_wanted;
            if free.len() < wanted.max(1) {
                continue;
            }
            if wanted > 0 {
                free.truncate(wanted);
            }
            let candidates = free.into_iter().filter_map(|id| self.take_agent(id, index)).collect();
            self.log(index, Event::Assigned(candidates), None);
        }
        for index in 0..self.runs.len() {
            let Running { run, agents_wanted, undecided, selector, .. } = &self.runs[index];
            if *undecided == 0
                && run.wants_more(*agents_wanted)
                && let Some(id) = self.free_for(self.runs.len(), selector).first().copied()
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
        Some(Candidate { id, name: agent.name, weight, max_rate_per_s, max_users, machine: agent.machine })
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
            let free = self.free_for(index, &running.selector).len();
            let with = if running.selector.is_empty() {
                String::new()
            } else {
                format!(" with {}", label_text(&running.selector))
            };
            let problem = format!(
                "{} agents{with} were wanted but {free} were free after {} s; start agents with `groundswell agent \
                 --coordinator URL --name NAME`",
                running.agents_wanted.max(1),
                running.wait.as_secs()
            );
            self.finish(index, &Outcome::NoReport { problem, exit_code: 3 });
        }
    }

    pub(super) fn send_progress(&mut self) {
        let now = self.clock.now();
        let mut gone = Vec::new();
        for index in 0..self.runs.len() {
            let detail = self.detail(index);
            let running = &mut self.runs[index];
            if running.run.is_closed() {
                continue;
            }
            if running.feed.is_watched() {
                running.followed = now.monotonic;
                running.feed.tell(&mut running.run, running.ahead.run_time(now), detail);
            } else if running.attached
                && running.undecided == 0
                && now.monotonic.saturating_sub(running.followed) > CLIENT_PATIENCE
            {
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
        self.keep_figures(index);
        let running = self.runs.remove(index);
        tracing::info!(run = %running.id, "run finished");
        // One that is lost is nobody's any more: if it comes back, the run is taken up again for what it brings.
        let agents: Vec<AgentId> = running.names.keys().copied().collect();
        agents.into_iter().for_each(|agent| self.let_go(agent, &running.id));
        let finish = wire::finish(&running.id, running.revision + 1, self.clock.now().calendar, outcome);
        let (store, watchers) = (self.store.clone(), running.feed.into_sender());
        self.tasks.spawn(async move {
            if let Err(error) = store.finish_run(&finish).await {
                tracing::error!(run = %finish.run, %error, "the report could not be stored");
            }
            // That nobody watches is no error.
            let _ = watchers.send(finished(finish.exit_code, finish.report.err()));
        });
    }
}

fn status_of(agent: &Agent, now: Duration) -> AgentStatus {
    let state = match (agent.session, &agent.run) {
        _ if agent.leaving => "leaving",
        (None, _) => "away",
        (Some(_), Some(_)) => "at_work",
        (Some(_), None) => "free",
    };
    AgentStatus {
        name: agent.name.clone(),
        state: state.to_owned(),
        run: agent.run.clone(),
        labels: agent.labels.clone(),
        weight: agent.weight,
        workers: agent.machine.workers,
        version: agent.machine.version.clone(),
        heard_s_ago: now.saturating_sub(agent.last_heard).as_secs_f64(),
        max_rate_per_s: agent.max_rate_per_s,
        max_users: agent.max_users,
    }
}

/// Has a run an answer?
pub(super) fn is_finished(state: RunState) -> bool {
    matches!(state, RunState::Finished { .. })
}
