//! Operations and their account: every operation ends in exactly one counter, whatever becomes of its task.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::rc::Rc;

use groundswell_stats::{Outcome, Recorder, Room, Sample, Sockets, StepDelta, StepId};
use tokio::time::Instant;

use crate::clock::micros;
use crate::transport::Progress;

/// Iterations decided so far, by (generation of the assignment, scenario, phase).
pub(super) type Cursors = BTreeMap<(u32, usize, usize), u64>;

/// The recorder of one worker with what stands beside it.
pub(super) struct Recording {
    recorder: RefCell<Recorder>,
    cursors: RefCell<Cursors>,
    users: Cell<u32>,
    held: Cell<u64>,
    raw_samples: RefCell<Option<BufWriter<File>>>,
}

impl Recording {
    pub(super) fn new(steps: usize, raw_samples: Option<File>) -> Rc<Self> {
        Rc::new(Recording {
            recorder: RefCell::new(Recorder::new(steps)),
            cursors: RefCell::default(),
            users: Cell::new(0),
            held: Cell::new(0),
            raw_samples: RefCell::new(raw_samples.map(BufWriter::new)),
        })
    }

    /// Operations whose time has come.
    pub(super) fn scheduled(&self, step: StepId, operations: u64) {
        self.recorder.borrow_mut().scheduled(step, operations);
    }

    /// Operations given up because they could not start in time.
    pub(super) fn shed(&self, step: StepId, reason: &'static str, operations: u64) {
        self.recorder.borrow_mut().shed(step, reason, operations);
    }

    /// Operations that nobody tried to start.
    pub(super) fn not_generated(&self, step: StepId, reason: &'static str, operations: u64) {
        self.recorder.borrow_mut().not_generated(step, reason, operations);
    }

    pub(super) fn messages_sent(&self, step: StepId, messages: u64, bytes: u64) {
        self.recorder.borrow_mut().messages_sent(step, messages, bytes);
    }

    pub(super) fn messages_received(&self, step: StepId, messages: u64, bytes: u64) {
        self.recorder.borrow_mut().messages_received(step, messages, bytes);
    }

    /// Counts something of the WebSockets of a step.
    pub(super) fn sockets(&self, step: StepId, count: impl FnOnce(&mut Sockets)) {
        count(self.recorder.borrow_mut().sockets(step));
    }

    /// Counts something of a room.
    pub(super) fn room(&self, name: &str, count: impl FnOnce(&mut Room)) {
        count(self.recorder.borrow_mut().room(name));
    }

    /// Takes what happened in rooms since the last seal.
    pub(super) fn seal_rooms(&self) -> BTreeMap<String, Room> {
        self.recorder.borrow_mut().seal_rooms()
    }

    /// So many more iterations of an assignment were decided.
    pub(super) fn decided(&self, phase: (u32, usize, usize), iterations: u64) {
        *self.cursors.borrow_mut().entry(phase).or_default() += iterations;
    }

    /// Hands an operation to the transport, at a moment that has just been read.
    pub(super) fn begin(self: &Rc<Self>, step: StepId, intended: Instant, sent: Instant) -> Operation {
        self.recorder.borrow_mut().issued(step);
        Operation {
            recording: Rc::clone(self),
            step,
            intended,
            ready: intended,
            sent,
            progress: Progress { begun: Some(sent), ..Progress::default() },
            ended: false,
        }
    }

    pub(super) fn user_joined(&self) {
        self.users.set(self.users.get() + 1);
    }

    pub(super) fn user_left(&self) {
        self.users.set(self.users.get().saturating_sub(1));
    }

    pub(super) fn users(&self) -> u32 {
        self.users.get()
    }

    /// The agent's limit of operations made one wait.
    pub(super) fn held(&self) {
        self.held.set(self.held.get() + 1);
    }

    /// Takes how often it did since the last seal.
    pub(super) fn seal_held(&self) -> u64 {
        self.held.take()
    }

    pub(super) fn cursors(&self) -> Cursors {
        self.cursors.borrow().clone()
    }

    /// Takes the figures since the last seal.
    pub(super) fn seal(&self) -> BTreeMap<StepId, StepDelta> {
        if let Some(raw) = self.raw_samples.borrow_mut().as_mut()
            && let Err(error) = raw.flush()
        {
            tracing::error!(%error, "raw samples can't be written");
        }
        self.recorder.borrow_mut().seal()
    }

    fn finished(&self, sample: &Sample) {
        self.recorder.borrow_mut().finished(sample);
        if let Some(raw) = self.raw_samples.borrow_mut().as_mut() {
            let outcome = match &sample.outcome {
                Outcome::Ok => "ok",
                Outcome::Error(class) | Outcome::Unsent(class) => class.as_str(),
                Outcome::Timeout => "timeout",
                Outcome::Aborted => "aborted",
            };
            let written = writeln!(
                raw,
                "{},{outcome},{},{},{}",
                sample.step.0, sample.response_us, sample.service_us, sample.send_lag_us
            );
            if let Err(error) = written {
                tracing::error!(%error, "raw samples can't be written");
            }
        }
    }
}

/// An operation in flight. Dropped without an end (its task was cut off), it counts as aborted at its age.
pub(super) struct Operation {
    recording: Rc<Recording>,
    step: StepId,
    intended: Instant,
    /// When nothing but this generator held it back.
    ready: Instant,
    sent: Instant,
    progress: Progress,
    ended: bool,
}

impl Operation {
    /// Counts service time from an earlier moment: that of the message that this operation waits to see answered.
    pub(super) fn sent_at(mut self, sent: Instant) -> Self {
        self.sent = sent;
        self
    }

    /// It had to wait until then for a place in flight.
    pub(super) fn queued_until(mut self, free: Instant) -> Self {
        self.ready = free.max(self.intended);
        self.progress.phases.queue_us = Some(micros(self.ready.saturating_duration_since(self.intended)));
        self
    }

    /// How far it has come; recorded with it, however it ends.
    pub(super) fn progress(&mut self) -> &mut Progress {
        &mut self.progress
    }

    pub(super) fn intended(&self) -> Instant {
        self.intended
    }

    /// Ends it well or with a failure.
    pub(super) fn end(mut self, finished: Instant, outcome: Outcome) {
        self.record(finished, outcome);
    }

    fn record(&mut self, finished: Instant, outcome: Outcome) {
        self.ended = true;
        let Progress { phases, bytes_sent, bytes_received, follow_ups, .. } = self.progress;
        self.recording.finished(&Sample {
            step: self.step,
            response_us: micros(finished.saturating_duration_since(self.intended)),
            service_us: micros(finished.saturating_duration_since(self.sent)),
            send_lag_us: micros(self.sent.saturating_duration_since(self.ready)),
            phases,
            outcome,
            follow_ups,
            bytes_sent,
            bytes_received,
        });
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if !self.ended {
            self.record(Instant::now(), Outcome::Aborted);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::time::Duration;

    use groundswell_stats::Kind;
    use tokio::time::advance;

    use super::*;

    const STEP: StepId = StepId(0);

    /// An operation that the generator could not start for two seconds: response time and send lag show the stall, the
    /// service time does not, because it was not the target's.
    #[tokio::test(start_paused = true)]
    async fn a_stall_of_the_generator_shows_in_response_time() {
        let recording = Recording::new(1, None);
        let intended = Instant::now();
        advance(Duration::from_secs(2)).await;
        let operation = recording.begin(STEP, intended, Instant::now());
        advance(Duration::from_millis(5)).await;
        operation.end(Instant::now(), Outcome::Ok);
        let sealed = recording.seal();
        let step = &sealed[&STEP];
        let least = |kind| step.series(kind).min_us;
        assert_eq!(least(Kind::ResponseOk), 2_005_000);
        assert_eq!(least(Kind::SendLag), 2_000_000);
        assert_eq!(least(Kind::Service), 5_000);
    }

    /// A task that is cut off can't lose an operation: it ends as aborted, at its age.
    #[tokio::test(start_paused = true)]
    async fn a_dropped_operation_is_aborted_at_its_age() {
        let recording = Recording::new(1, None);
        recording.scheduled(STEP, 1);
        let operation = recording.begin(STEP, Instant::now(), Instant::now());
        advance(Duration::from_millis(700)).await;
        drop(operation);
        let sealed = recording.seal();
        let step = &sealed[&STEP];
        assert_eq!((step.counters.issued, step.counters.aborted), (1, 1));
        assert_eq!(step.counters.in_flight(), Some(0));
        assert_eq!(step.counters.unaccounted(), 0);
        assert_eq!(step.series(Kind::ResponseFailed).max_us, 700_000);
        assert!(recording.seal().values().all(|step| step.counters.issued == 0), "a second seal has nothing");
    }
}
