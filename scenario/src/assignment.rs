//! What an agent owns of a run, and from when to when.

use std::ops::Range;
use std::time::Duration;

use crate::{Schedule, Share};

/// A share for a part of the run's time. Within a phase that begins at `origin`, it owns the ordinals of its share that
/// are intended from `from` on and before `until`, and the users of its share in that time.
///
/// An agent begins with one assignment and may get more: shares of agents that were lost, left, or gave some of theirs to
/// one that joined. At no moment do two assignments own the same ordinal.
///
/// What has no place on the run's time stays whole with the assignment made before the start, whatever its `until` says:
/// iterations of a fixed total, because nobody knows which of them a lost agent had done, and scenarios that begin when
/// others have ended, because each agent begins them at a moment of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Number within the run, in the order in which they were made; unique.
    pub generation: u32,
    /// The share.
    pub share: Share,
    /// From this moment of the run on.
    pub from: Duration,
    /// Until then; to the plan's end where none is said.
    pub until: Option<Duration>,
}

impl Assignment {
    /// A share for the whole run.
    pub fn whole_run(generation: u32, share: Share) -> Self {
        Assignment { generation, share, from: Duration::ZERO, until: None }
    }

    /// The part of worker `worker` (from 0) of `workers`.
    pub fn split(&self, worker: u32, workers: u32) -> Self {
        Assignment { share: self.share.split(worker, workers), ..*self }
    }

    /// Is it one that was made before the start? Only such a one takes iterations of a fixed total.
    pub fn is_initial(&self) -> bool {
        self.from.is_zero()
    }

    /// The part of a phase's time that it owns. `origin` is where the phase begins, from the start of the run; none for a
    /// phase of a scenario without a common origin. None where it owns nothing of such a phase.
    pub fn window(&self, origin: Option<Duration>) -> Option<Window> {
        match origin {
            Some(origin) => Some(Window {
                from: self.from.saturating_sub(origin),
                until: self.until.map(|until| until.saturating_sub(origin)),
            }),
            None => self.is_initial().then_some(Window::ALWAYS),
        }
    }
}

/// A part of a phase's time, as offsets from the phase's start: from `from` on and before `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its first moment.
    pub from: Duration,
    /// The first moment after it; none where it lasts as long as the phase.
    pub until: Option<Duration>,
}

impl Window {
    /// All of a phase.
    pub const ALWAYS: Window = Window { from: Duration::ZERO, until: None };

    /// The part of it before a moment.
    pub fn before(self, moment: Duration) -> Self {
        Window { until: Some(self.until.map_or(moment, |until| until.min(moment))), ..self }
    }

    /// The part of it from a moment on.
    pub fn starting_at(self, moment: Duration) -> Self {
        Window { from: self.from.max(moment), ..self }
    }

    /// Which of the ordinals of a share are intended in it: the numbers that [`Share::nth`] takes.
    pub fn turns(self, schedule: &Schedule, share: &Share) -> Range<u64> {
        let due_before = |offset| share.count_below(schedule.count_before(offset));
        let end = self.until.map_or_else(|| share.count_below(schedule.total()), due_before);
        due_before(self.from).min(end)..end
    }

    /// The part of an interval (from, to) that lies in it; none where that is empty.
    pub fn clip(self, (from, to): (Duration, Duration)) -> Option<(Duration, Duration)> {
        let to = self.until.map_or(to, |until| to.min(until));
        let from = from.max(self.from);
        (from < to).then_some((from, to))
    }
}

#[cfg(test)]
mod tests;
