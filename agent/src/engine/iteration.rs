//! One user's way through the flow of its scenario: accounting, pauses, steps.

mod body;
mod pace;
mod request;
mod walk;
mod websocket;

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use groundswell_scenario::flow::{Step, Think, Timed};
use groundswell_stats::{Outcome, StepId};
use minijinja::Value;
use minijinja::value::Serde;
use rand::RngExt;
use tokio::time::Instant;

use super::phase::Phase;
use super::recording::{Operation, Recording};
use super::render::Variables;
use super::socket::UserSocket;
use crate::clock::micros;
use crate::transport::{Client, Failure};
use walk::Places;

/// Pause after an iteration that issued nothing: without it a user whose every step is skipped would spin.
const EMPTY_ITERATION_PAUSE: Duration = Duration::from_millis(100);

/// A user that a limit of this machine kept from sending waits so long before it goes on.
const OWN_LIMIT_PAUSE: Duration = Duration::from_millis(100);

/// Number of a user within its scenario, over the whole cluster: template variable `user`.
#[derive(Debug, Clone, Copy)]
pub(super) struct UserNumber(pub(super) u64);

/// A virtual user: its cookies, connections and variables.
pub(super) struct User {
    number: UserNumber,
    client: Client,
    /// What every iteration starts with.
    constants: Variables,
    variables: Variables,
    /// Operations of its iteration that are scheduled but not yet accounted for, by slot. Its own, so that no iteration
    /// allocates it anew.
    left: Vec<u64>,
    /// Where it is in the flow; its own for the same reason.
    places: Places,
}

/// How the operations of an iteration enter the account.
#[derive(Debug, Clone, Copy)]
pub(super) enum Accounting {
    /// Closed load: an operation is scheduled when its turn comes; the user leaves at `until`.
    AsIssued {
        /// No operation starts at or after this, nor after the end of the assignment.
        until: Instant,
    },
    /// The whole iteration was scheduled when it arrived; what it does not issue is counted as not generated.
    Scheduled {
        /// When a place in flight was free for it, where it had to wait for one.
        queued_until: Option<Instant>,
    },
}

impl User {
    pub(super) fn new(phase: &Phase, number: UserNumber) -> Self {
        let context = &phase.context;
        let mut constants: Variables = context
            .plan
            .vars
            .iter()
            .filter(|(name, _)| context.templates.uses(phase.scenario, name))
            .map(|(name, value)| (Arc::from(name.as_str()), Value::from(Serde(value))))
            .collect();
        constants.insert("user".into(), Value::from(number.0));
        let client = context.clients.client(number.0);
        User { number, client, variables: Variables::new(), constants, left: Vec::new(), places: Places::default() }
    }

    /// Takes the next row of each data set that the scenario uses; false when one has run out.
    pub(super) fn draw_data(&mut self, phase: &Phase) -> bool {
        let context = &phase.context;
        context.data.iter().filter(|feed| context.templates.uses(phase.scenario, &feed.name)).all(|feed| {
            feed.draw().is_some_and(|row| {
                self.constants.insert(Arc::clone(&feed.name), row);
                true
            })
        })
    }

    /// Runs the flow once. The first operation is intended at `due`; returns when the user is due again.
    pub(super) async fn iterate(
        &mut self,
        phase: &Rc<Phase>,
        number: u64,
        due: Instant,
        accounting: Accounting,
    ) -> Instant {
        if phase.context.templates.has_names(phase.scenario) {
            self.variables.clone_from(&self.constants);
            self.variables.insert("iteration".into(), Value::from(number));
        }
        self.left.clear();
        self.places.clear();
        if let Accounting::Scheduled { .. } = accounting {
            self.left.extend(operations_per_iteration(phase));
        }
        let first_step = phase.first_step_at(due);
        let mut iteration = Iteration {
            phase,
            user: self,
            due,
            first_step,
            accounting,
            sockets: phase.scenario().sockets.iter().map(|_| None).collect(),
            issued: 0,
        };
        iteration.flow(&phase.scenario().flow).await;
        iteration.close_all().await;
        let (issued, due) = (iteration.issued, iteration.due);
        drop(iteration);
        if issued == 0 {
            let pause = Instant::now() + EMPTY_ITERATION_PAUSE;
            phase.context.pause_until(pause).await;
            tracing::debug!(user = self.number.0, "an iteration issued no operation");
            return due.max(pause);
        }
        due
    }
}

fn operations_per_iteration(phase: &Phase) -> impl Iterator<Item = u64> {
    let first = phase.first_step_at(phase.origin);
    let per_iteration =
        move |slot| phase.context.plan.step(StepId(first.0 + slot)).map_or(0, |step| step.per_iteration);
    (0..phase.scenario().timed_steps).map(per_iteration)
}

/// Whether the iteration goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Step,
    /// The run or the user's time is over.
    Leave,
}

struct Iteration<'a> {
    phase: &'a Rc<Phase>,
    user: &'a mut User,
    /// When the next operation is intended to start.
    due: Instant,
    /// [`StepId`] of slot 0 for what was scheduled with the iteration.
    first_step: StepId,
    accounting: Accounting,
    /// Its open WebSockets, by number.
    sockets: Vec<Option<Rc<UserSocket>>>,
    issued: u64,
}

impl Drop for Iteration<'_> {
    /// Whatever was scheduled but not reached, also when the task is cut off.
    fn drop(&mut self) {
        let reason = self.phase.context.stop.reason().unwrap_or("cut_off");
        for (slot, left) in (0..).zip(&self.user.left) {
            if *left > 0 {
                self.phase.context.recording.not_generated(self.step_id(slot), reason, *left);
            }
        }
    }
}

type BoxedNext<'a> = Pin<Box<dyn Future<Output = Next> + 'a>>;

impl Iteration<'_> {
    fn recording(&self) -> &Rc<Recording> {
        &self.phase.context.recording
    }

    /// The series of an operation that is due now. In a closed load each operation belongs to the warm-up or not by its
    /// own time, because one iteration (a socket that stays open) may last as long as the load.
    fn step_id(&self, slot: u32) -> StepId {
        let first = match self.accounting {
            Accounting::AsIssued { .. } => self.phase.first_step_at(self.due),
            Accounting::Scheduled { .. } => self.first_step,
        };
        StepId(first.0 + slot)
    }

    async fn flow(&mut self, steps: &[Step]) -> Next {
        let outer = self.user.places.enter();
        while let Some(step) = self.user.places.next(outer, steps) {
            self.take_captured();
            if self.is_over() || self.is_paced() && self.may_begin_step(step).await == Next::Leave {
                return Next::Leave;
            }
            if self.step(step).await == Next::Leave {
                return Next::Leave;
            }
        }
        Next::Step
    }

    /// A flow of a user that has sockets. It may wait here for as long as the load lasts, so the state of a request, which
    /// is by far the largest of any step, is kept out of it.
    async fn flow_with_sockets(&mut self, steps: &[Step]) -> Next {
        let outer = self.user.places.enter();
        while let Some(step) = self.user.places.next(outer, steps) {
            self.take_captured();
            if self.is_over() || self.is_paced() && self.may_begin_step(step).await == Next::Leave {
                return Next::Leave;
            }
            let next = match step {
                Step::Http(timed) => Box::pin(self.http(timed)).await,
                other => self.no_request(other).await,
            };
            if next == Next::Leave {
                return Next::Leave;
            }
        }
        Next::Step
    }

    /// When the user of a closed load leaves, by now.
    fn leaving(&self) -> Option<Instant> {
        match self.accounting {
            Accounting::AsIssued { until } => Some(self.phase.leaving(until)),
            Accounting::Scheduled { .. } => None,
        }
    }

    /// Waits until then, or until the user leaves; false when the run was stopped before it.
    async fn pause_until(&self, deadline: Instant) -> bool {
        let wake = || Some(self.leaving().map_or(deadline, |leaving| leaving.min(deadline)));
        self.phase.context.pause(wake).await
    }

    fn is_over(&self) -> bool {
        self.leaving().is_some_and(|leaving| self.due >= leaving) || self.phase.context.stop.reason().is_some()
    }

    async fn step(&mut self, step: &Step) -> Next {
        match step {
            Step::Http(timed) => self.http(timed).await,
            other => self.no_request(other).await,
        }
    }

    /// Any step but a request.
    async fn no_request(&mut self, step: &Step) -> Next {
        match step {
            // Both callers have done it, and the way through the flow goes into the others.
            Step::Http(_) | Step::Repeat { .. } | Step::Group { .. } => {}
            Step::OnSocket(timed) => return self.on_socket(timed).await,
            Step::Listen { socket, length } => return self.listen(*socket, *length).await,
            Step::Subscribe(subscribe) => self.subscribe(subscribe),
            Step::Think(think) => return self.think(*think).await,
            Step::Websocket(timed) => return self.websocket(timed).await,
        }
        Next::Step
    }

    /// The flow of a socket, within that of the user: boxed, because a future can't contain itself.
    fn flow_of_socket<'a>(&'a mut self, steps: &'a [Step]) -> BoxedNext<'a> {
        Box::pin(self.flow_with_sockets(steps))
    }

    async fn think(&mut self, think: Think) -> Next {
        let pause = match think {
            Think::Fixed(pause) => pause,
            Think::Between(low, high) => {
                Duration::from_micros(rand::rng().random_range(micros(low)..=micros(high).max(micros(low))))
            }
            // The inverse of its distribution function; 1 - u is never 0.
            Think::Exponential(mean) => mean.mul_f64(-(1.0 - rand::rng().random::<f64>()).ln()),
        };
        self.due += pause;
        if self.pause_until(self.due).await { Next::Step } else { Next::Leave }
    }

    /// Without this pause a closed load would try again at once, over and over.
    async fn wait_for_own_limit(&mut self) {
        self.due += OWN_LIMIT_PAUSE;
        self.phase.context.pause_until(self.due).await;
    }

    /// Starts an operation that is due now; none where nothing may be issued any more. The user then leaves, and what was
    /// scheduled of its iteration is counted as it is dropped.
    fn begin(&mut self, slot: u32) -> Option<Operation> {
        // One reading says when it is sent and whether it may be.
        let sent = Instant::now();
        if !self.phase.context.may_issue(sent) {
            return None;
        }
        self.take(slot);
        self.issued += 1;
        let operation = self.recording().begin(self.step_id(slot), self.due, sent);
        Some(match &mut self.accounting {
            // Only the first operation of the iteration waited.
            Accounting::Scheduled { queued_until } => match queued_until.take() {
                Some(free) => operation.queued_until(free),
                None => operation,
            },
            Accounting::AsIssued { .. } => operation,
        })
    }

    /// Takes one operation out of what is left to account for.
    fn take(&mut self, slot: u32) {
        match self.accounting {
            Accounting::AsIssued { .. } => self.recording().scheduled(self.step_id(slot), 1),
            Accounting::Scheduled { .. } => {
                if !self.take_left(slot, 1) {
                    self.recording().scheduled(self.step_id(slot), 1);
                }
            }
        }
    }

    /// Takes operations out of those scheduled with the iteration; false where there were fewer, as with messages of a
    /// shared rate, which are scheduled as they come.
    fn take_left(&mut self, slot: u32, operations: u64) -> bool {
        let Some(left) = self.user.left.get_mut(slot as usize) else { return false };
        let is_left = *left >= operations;
        if is_left {
            *left -= operations;
        }
        is_left
    }

    fn skip(&mut self, slot: u32, reason: &'static str, why: &dyn std::fmt::Display) {
        tracing::debug!(reason, %why, "operation not generated");
        self.take(slot);
        self.recording().not_generated(self.step_id(slot), reason, 1);
    }

    /// Counts every operation of a flow that can't be done without its socket.
    fn skip_flow(&mut self, steps: &[Step], times: u64, reason: &'static str) {
        for step in steps {
            match step {
                Step::Http(Timed { slot, .. }) => self.skip_many(*slot, times, reason),
                Step::OnSocket(timed) => {
                    self.skip_many(timed.slot, times * self.operations(&timed.spec.action), reason)
                }
                Step::Websocket(timed) => {
                    self.skip_many(timed.slot, times, reason);
                    self.skip_flow(&timed.spec.flow, times, reason);
                }
                Step::Think(_) | Step::Listen { .. } | Step::Subscribe(_) => {}
                Step::Repeat { times: inner, flow } => self.skip_flow(flow, times * u64::from(*inner), reason),
                Step::Group { flow, .. } => self.skip_flow(flow, times, reason),
            }
        }
    }

    fn skip_many(&mut self, slot: u32, operations: u64, reason: &'static str) {
        let step = self.step_id(slot);
        match self.accounting {
            Accounting::AsIssued { .. } => self.recording().scheduled(step, operations),
            Accounting::Scheduled { .. } => {
                if !self.take_left(slot, operations) {
                    self.recording().scheduled(step, operations);
                }
            }
        }
        self.recording().not_generated(step, reason, operations);
    }
}

pub(super) fn outcome_of(failure: Failure) -> Outcome {
    match failure {
        Failure::Timeout => Outcome::Timeout,
        Failure::Unsent(class) => Outcome::Unsent(class),
        Failure::Error(class) => Outcome::Error(class),
    }
}
