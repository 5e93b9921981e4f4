//! Agents that take part, join later, leave, are away for a while, or are lost.

use std::time::Duration;

use groundswell_scenario::Share;

use super::mark::{Mark, MarkKind};
use super::{Action, Candidate, EXIT_INCOMPLETE, Lost, Member, MemberState, Now, Run, Stage, StopReason};
use crate::delivery::{self, Assignments, OnAgentLoss, Order};
use crate::fleet::AgentId;

/// A change of who offers the load comes into force so much later than it is decided: an order needs time to arrive.
const CHANGE_AHEAD: Duration = Duration::from_secs(2);
/// The same where every agent is in this process.
const CHANGE_AHEAD_LOCAL: Duration = Duration::from_millis(500);

impl Run {
    pub(super) fn assigned(&mut self, candidates: Vec<Candidate>, now: Now) -> Vec<Action> {
        if self.stage != Stage::Waiting || candidates.is_empty() {
            return Vec::new();
        }
        self.members = candidates
            .into_iter()
            .map(|candidate| {
                let limit = self.limit_of(&candidate);
                Member::new(candidate, limit)
            })
            .collect();
        let members: Vec<delivery::Member<AgentId>> = self.members.iter().map(Member::claim).collect();
        let on_loss = self.plan.continuity.on_agent_loss;
        let (assignments, orders) = match Assignments::initial(&members, on_loss) {
            Ok(dealt) => dealt,
            Err(error) => return self.never_started(format!("the load can't be shared: {error}"), EXIT_INCOMPLETE),
        };
        if !assignments.unowned().is_empty() {
            let problem =
                "the agents' limits (--max-rate, --max-users) together are below what the plan asks for; add \
                           agents, raise their limits, or lower the load"
                    .to_owned();
            return self.never_started(problem, EXIT_INCOMPLETE);
        }
        self.assignments = Some(assignments);
        self.stage = Stage::Arming { since: now.monotonic };
        let armed = |order| match order {
            Order::Give { agent, assignment } => Some(Action::Arm(agent, assignment)),
            Order::End { .. } => None,
        };
        orders.into_iter().filter_map(armed).collect()
    }

    /// The part of the whole load that an agent takes on at the most.
    fn limit_of(&self, candidate: &Candidate) -> Option<f64> {
        let needs = self.plan.needs(&Share::whole());
        let part = |most: f64, whole: f64| if whole > most { Some(most / whole) } else { None };
        let of_rate = candidate.max_rate_per_s.and_then(|most| part(most, needs.operations_per_s));
        let of_users = candidate.max_users.and_then(|most| part(f64::from(most), needs.users as f64));
        [of_rate, of_users].into_iter().flatten().reduce(f64::min)
    }

    /// An agent wants to take part in a run that has begun. Its load comes when it has prepared.
    pub(super) fn joined(&mut self, candidate: Candidate, now: Now) -> Vec<Action> {
        if self.stage != Stage::Running || self.stopped.is_some() {
            return vec![Action::Release(candidate.id)];
        }
        let (id, limit, at) = (candidate.id, self.limit_of(&candidate), self.elapsed(now));
        let mut member = Member::new(candidate, limit);
        member.joined = Some(at);
        self.members.push(member);
        // It owns nothing so far; its place is what its data rows are drawn by.
        let place = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        vec![Action::Arm(
            id,
            groundswell_scenario::Assignment {
                generation: 0,
                share: Share::nth_of(place - 1, place),
                from: self.plan.longest(),
                until: Some(self.plan.longest()),
            },
        )]
    }

    /// An agent that joined later has prepared and keeps the run's time.
    pub(super) fn takes_part(&mut self, agent: AgentId, now: Now) -> Vec<Action> {
        let at = self.moment_ahead(now);
        let Some(member) = self.members.iter().find(|member| member.id == agent) else { return Vec::new() };
        let (claim, text) = (member.claim(), format!("agent {} joined", member.name));
        self.mark(now, MarkKind::AgentJoined, Some(agent), text);
        let orders = self.assignments.as_mut().map(|assignments| assignments.join(claim, at)).unwrap_or_default();
        self.carry_out(orders, now)
    }

    /// An agent was asked to end. It goes on until its load has another owner.
    pub(super) fn leaving(&mut self, agent: AgentId, now: Now) -> Vec<Action> {
        let elapsed = self.elapsed(now);
        let stays = |member: &&Member| member.id != agent && !member.is_over() && member.leaving.is_none();
        let anybody_stays = self.members.iter().filter(stays).count() > 0;
        let may_move = self.plan.continuity.on_agent_loss == OnAgentLoss::Redistribute;
        let Some(member) = self.members.iter_mut().find(|member| member.id == agent) else { return Vec::new() };
        if self.stage != Stage::Running || member.is_over() || member.leaving.is_some() {
            return Vec::new();
        }
        member.leaving = Some(elapsed);
        let text = format!("agent {} was asked to stop", member.name);
        self.mark(now, MarkKind::AgentLeft, Some(agent), text);
        if !anybody_stays || !may_move || self.stopped.is_some() {
            return vec![Action::Stop(agent, "agent_left", super::STOP_GRACE)];
        }
        let at = self.moment_ahead(now);
        let orders = self.assignments.as_mut().map(|assignments| assignments.leave(agent, at)).unwrap_or_default();
        self.carry_out(orders, now)
    }

    pub(super) fn released(
        &mut self,
        agent: AgentId,
        generation: u32,
        asked: Duration,
        accepted: bool,
        now: Now,
    ) -> Vec<Action> {
        if self.stage != Stage::Running {
            return Vec::new();
        }
        let at = self.moment_ahead(now);
        let orders = self
            .assignments
            .as_mut()
            .map(|assignments| assignments.released(agent, generation, asked, accepted, at))
            .unwrap_or_default();
        self.carry_out(orders, now)
    }

    pub(super) fn done(&mut self, agent: AgentId, last_seq: u64, early: Option<String>, now: Now) -> Vec<Action> {
        let Some(member) = self.members.iter_mut().find(|member| member.id == agent) else { return Vec::new() };
        if last_seq != member.last_seq || member.state == MemberState::Done {
            return Vec::new();
        }
        let was_asked_to_end = member.leaving.is_some() || self.stopped.is_some();
        match (early, &mut member.lost) {
            // What was measured before the loss has come after it.
            (_, Some(lost)) => {
                let is_new = !std::mem::replace(&mut lost.delivered, true);
                if self.stage == Stage::Closed && is_new {
                    return self.revised(agent, now);
                }
                if is_new {
                    return vec![Action::Release(agent)];
                }
                return Vec::new();
            }
            (Some(why), None) if !was_asked_to_end => {
                let mut actions = self.lost(agent, why, now);
                actions.extend(self.done(agent, last_seq, None, now));
                return actions;
            }
            (_, None) => member.state = MemberState::Done,
        }
        self.close_when_over(now)
    }

    pub(super) fn lost(&mut self, agent: AgentId, why: String, now: Now) -> Vec<Action> {
        let elapsed = self.elapsed(now);
        let taken_over = self.moment_ahead(now).max(self.unwatched_until.unwrap_or_default());
        let Some(member) = self.members.iter_mut().find(|member| member.id == agent) else { return Vec::new() };
        match self.stage {
            Stage::Waiting | Stage::Closed => Vec::new(),
            Stage::Arming { .. } | Stage::Checking { .. } | Stage::Starting => {
                let problem = format!("agent {} was lost before the start: {why}", member.name);
                self.never_started(problem, EXIT_INCOMPLETE)
            }
            Stage::Running if member.is_over() => Vec::new(),
            Stage::Running => {
                member.state = MemberState::Lost;
                member.lost = Some(Lost {
                    at: elapsed,
                    until: self.unwatched_until.unwrap_or(elapsed).max(elapsed),
                    taken_over,
                    why: why.clone(),
                    delivered: false,
                });
                let text = format!("agent {} was lost: {why}", member.name);
                self.mark(now, MarkKind::AgentLost, Some(agent), text);
                let orders = self
                    .assignments
                    .as_mut()
                    .map(|assignments| assignments.lost(agent, taken_over))
                    .unwrap_or_default();
                let mut actions = self.carry_out(orders, now);
                actions.extend(self.close_when_over(now));
                actions
            }
        }
    }

    pub(super) fn away(&mut self, agent: AgentId, why: String, now: Now) -> Vec<Action> {
        let elapsed = self.elapsed(now);
        let Some(member) = self.members.iter_mut().find(|member| member.id == agent) else { return Vec::new() };
        match self.stage {
            Stage::Arming { .. } | Stage::Checking { .. } | Stage::Starting => self.lost(agent, why, now),
            Stage::Running if member.state == MemberState::Arming || member.state == MemberState::Ready => {
                self.lost(agent, why, now)
            }
            Stage::Running if !member.is_over() => {
                member.away = Some((elapsed, why));
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn back(&mut self, agent: AgentId, now: Now) -> Vec<Action> {
        let Some(member) = self.members.iter_mut().find(|member| member.id == agent) else { return Vec::new() };
        if let Some((since, why)) = member.away.take() {
            let text = format!("agent {} was away ({why}) and came back", member.name);
            self.marks.push(Mark { at: since, kind: MarkKind::AgentAway, agent: Some(agent), text: text.clone() });
            self.mark(now, MarkKind::AgentBack, Some(agent), text);
        }
        Vec::new()
    }

    pub(super) fn tainted(&mut self, agent: AgentId, why: String, now: Now) -> Vec<Action> {
        let Some(member) = self.members.iter_mut().find(|member| member.id == agent) else { return Vec::new() };
        if member.tainted.is_none() {
            member.tainted = Some(why.clone());
        }
        let mut actions = vec![Action::Expel(agent, why.clone())];
        actions.extend(self.lost(agent, why, now));
        actions
    }

    pub(super) fn restarted(&mut self, now: Now) -> Vec<Action> {
        self.was_restarted = true;
        match self.stage {
            Stage::Waiting | Stage::Closed => Vec::new(),
            // Agents forget a run that had not begun when their session breaks.
            Stage::Arming { .. } | Stage::Checking { .. } => {
                let problem = "the coordinator was restarted before the start; no load was sent".to_owned();
                self.never_started(problem, EXIT_INCOMPLETE)
            }
            Stage::Starting | Stage::Running => {
                self.mark(now, MarkKind::CoordinatorRestarted, None, "the coordinator was restarted".to_owned());
                Vec::new()
            }
        }
    }

    /// Why the run has to stop because of who is left.
    pub(super) fn must_stop(&self) -> Option<StopReason> {
        let any_lost = self.members.iter().any(|member| member.state == MemberState::Lost);
        let aborts = self.plan.continuity.on_agent_loss == OnAgentLoss::Abort;
        (any_lost && aborts).then_some(StopReason::AgentLost)
    }

    /// Is there nothing left that it could do for the run? One that joined and got no load never has.
    pub(super) fn has_nothing_to_do(&self, member: &Member) -> bool {
        if member.is_over() {
            return true;
        }
        let owns = |assignments: &Assignments<AgentId>| {
            let mut own = assignments.history().iter().filter(|holding| holding.owner == Some(member.id));
            own.any(|holding| !holding.is_void())
        };
        let waits = self.assignments.as_ref().is_some_and(|assignments| assignments.is_changing() || owns(assignments));
        member.joined.is_some() && !waits
    }

    /// What an agent whose session began anew has to hear: it may have missed any of it.
    pub fn orders_for(&self, agent: AgentId) -> Vec<Action> {
        let Some(member) = self.members.iter().find(|member| member.id == agent) else { return Vec::new() };
        if self.stage != Stage::Running || member.is_over() {
            return Vec::new();
        }
        let orders = self.assignments.as_ref().map(|assignments| assignments.orders(agent)).unwrap_or_default();
        let mut actions: Vec<Action> = orders.into_iter().map(action).collect();
        if let Some(stopped) = self.stopped {
            actions.push(Action::Stop(agent, stopped.reason.word(), super::STOP_GRACE));
        }
        actions
    }

    /// Agents that may still issue load, or hold figures that have not come.
    pub fn at_work(&self) -> impl Iterator<Item = AgentId> + '_ {
        self.members.iter().filter(|member| !member.is_over()).map(|member| member.id)
    }

    /// Does it take a further agent: one of those that it wanted is gone, or it takes all that come?
    pub fn wants_more(&self, wanted: usize) -> bool {
        let there = self.members.iter().filter(|member| !member.is_over() && member.leaving.is_none()).count();
        let may_move = self.plan.continuity.on_agent_loss == OnAgentLoss::Redistribute;
        self.stage == Stage::Running && self.stopped.is_none() && may_move && (wanted == 0 || there < wanted)
    }

    /// The run's moment at which a change that is decided now comes into force: in whole milliseconds, because an agent's
    /// answer is known by the moment that it names, and the wire has no fractions of a microsecond.
    fn moment_ahead(&self, now: Now) -> Duration {
        let ahead = if self.place.local { CHANGE_AHEAD_LOCAL } else { CHANGE_AHEAD };
        let moment = (self.elapsed(now) + ahead).as_millis();
        Duration::from_millis(u64::try_from(moment).unwrap_or(u64::MAX))
    }

    fn carry_out(&mut self, orders: Vec<Order<AgentId>>, now: Now) -> Vec<Action> {
        for order in &orders {
            if let Order::Give { agent, assignment } = order {
                let part = assignment.share.slots().len() as f64 / f64::from(assignment.share.of()) * 100.0;
                let name = self.name_of(*agent);
                let text = format!(
                    "{part:.1} % of the load goes to agent {name} from {:.1} s on",
                    assignment.from.as_secs_f64()
                );
                self.mark(now, MarkKind::LoadMoved, Some(*agent), text);
            }
        }
        orders.into_iter().map(action).collect()
    }

    /// What a lost agent had measured has come after the report: the account is better known now.
    fn revised(&mut self, agent: AgentId, now: Now) -> Vec<Action> {
        let mut actions = vec![Action::Release(agent)];
        match self.answer(now) {
            Ok(answer) => actions.push(Action::Finish(answer)),
            Err(overflow) => tracing::error!(%overflow, "the report can't be revised"),
        }
        actions
    }

    /// The coordinator will never hear more of this run: what it has becomes the report. It last heard something at
    /// `last`, and its agents may have gone on until `now`.
    pub fn give_up(&mut self, last: Now, now: Now) -> super::Outcome {
        self.unwatched_until = Some(self.elapsed(now).min(self.plan.longest()));
        let finished = |actions: Vec<Action>| {
            actions.into_iter().find_map(|action| match action {
                Action::Finish(outcome) => Some(outcome),
                _ => None,
            })
        };
        let at_work: Vec<AgentId> = self.at_work().collect();
        let why = "the run was closed before it had handed in everything";
        let mut outcome = None;
        for agent in at_work {
            outcome = outcome.or(finished(self.lost(agent, why.to_owned(), last)));
        }
        let problem = "no load was sent".to_owned();
        outcome.unwrap_or(super::Outcome::NoReport { problem, exit_code: EXIT_INCOMPLETE })
    }

    pub(super) fn name_of(&self, agent: AgentId) -> &str {
        self.members.iter().find(|member| member.id == agent).map_or("?", |member| &member.name)
    }

    pub(super) fn mark(&mut self, now: Now, kind: MarkKind, agent: Option<AgentId>, text: String) {
        self.marks.push(Mark { at: self.elapsed(now), kind, agent, text });
    }
}

impl Member {
    fn claim(&self) -> delivery::Member<AgentId> {
        delivery::Member { agent: self.id, weight: self.weight, limit: self.limit }
    }
}

fn action(order: Order<AgentId>) -> Action {
    match order {
        Order::Give { agent, assignment } => Action::Give(agent, assignment),
        Order::End { agent, generation, at, instead } => Action::End { agent, generation, at, instead },
    }
}
