//! What those who watch a run are told: rendered once, whoever looks, and lost on whoever is too slow. A watcher that has
//! missed something asks for the whole again, so none can hold up the merge.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::broadcast;

use crate::api::{Finished, Opening};
use crate::report::Frame;
use crate::run::{Now, Run};

/// Updates that wait for a slow watcher: some ten seconds.
const UPDATES: usize = 32;

/// One thing that watchers are told, as JSON.
#[derive(Debug, Clone)]
pub(in crate::server) enum Update {
    /// Where the run stands: [`crate::run::Progress`].
    Progress(Arc<str>),
    /// Frames that changed, or all: [`crate::api::Frames`].
    Frames(Arc<str>),
    /// It is over: [`crate::api::Finished`].
    Finished(Arc<str>),
}

/// Everything that can be known of a run at a moment, and what comes after it.
pub(in crate::server) struct Watch {
    /// [`Opening`] as JSON.
    pub(in crate::server) opening: String,
    pub(in crate::server) now: Vec<Update>,
    pub(in crate::server) next: broadcast::Receiver<Update>,
}

/// The watchers of one run.
pub(super) struct Feed {
    updates: broadcast::Sender<Update>,
    /// The change of the run's figures over time that was rendered last.
    seen: u64,
    length_s: u64,
    /// Each frame as JSON, by its start.
    frames: BTreeMap<u64, String>,
    progress: Option<Arc<str>>,
}

impl Default for Feed {
    fn default() -> Self {
        let (updates, _) = broadcast::channel(UPDATES);
        Feed { updates, seen: 0, length_s: 0, frames: BTreeMap::new(), progress: None }
    }
}

impl Feed {
    pub(super) fn is_watched(&self) -> bool {
        self.updates.receiver_count() > 0
    }

    /// Tells the watchers where the run stands now.
    pub(super) fn tell(&mut self, run: &mut Run, now: Now, detail: String) {
        if !self.is_watched() {
            return;
        }
        let news = self.refresh(run, now, detail);
        for update in news {
            // That nobody is left is no error.
            let _ = self.updates.send(update);
        }
    }

    /// A further watcher, with all that there is now.
    pub(super) fn watch(&mut self, run: &mut Run, id: &str, now: Now, detail: String) -> Watch {
        // Who watches already hears of the changes that this finds, too.
        let next = self.updates.subscribe();
        let news = self.refresh(run, now, detail);
        if self.updates.receiver_count() > 1 {
            news.into_iter().for_each(|update| drop(self.updates.send(update)));
        }
        let opening = Opening {
            id: id.to_owned(),
            name: run.plan().name.clone(),
            target: run.plan().target.to_string(),
            labels: run.labels().clone(),
            steps: run.frame_steps(),
        };
        let progress = self.progress.clone().map(Update::Progress);
        let now = progress.into_iter().chain([Update::Frames(self.all_frames())]).collect();
        Watch { opening: json(&opening), now, next }
    }

    /// Whoever tells the watchers of the end.
    pub(super) fn into_sender(self) -> broadcast::Sender<Update> {
        self.updates
    }

    fn refresh(&mut self, run: &mut Run, now: Now, detail: String) -> Vec<Update> {
        let (changes, length_s) = run.changes();
        let since = if length_s == self.length_s { self.seen } else { 0 };
        // Figures that can't be added end the run, which is told in its own way.
        let (Ok(progress), Ok(frames)) = (run.progress(now, detail), run.frames_since(since)) else {
            return Vec::new();
        };
        let progress: Arc<str> = json(&progress).into();
        self.progress = Some(Arc::clone(&progress));
        let mut news = vec![Update::Progress(progress)];
        let regrown = length_s != self.length_s;
        if regrown {
            self.frames.clear();
        }
        (self.seen, self.length_s) = (changes, length_s);
        let fresh: Vec<String> = frames.iter().map(|frame| self.keep(frame)).collect();
        if regrown {
            news.push(Update::Frames(self.all_frames()));
        } else if !fresh.is_empty() {
            news.push(Update::Frames(frames_json(length_s, false, fresh.iter())));
        }
        news
    }

    fn keep(&mut self, frame: &Frame) -> String {
        let text = json(frame);
        self.frames.insert(frame.load.t_s as u64, text.clone());
        text
    }

    fn all_frames(&self) -> Arc<str> {
        frames_json(self.length_s, true, self.frames.values())
    }
}

/// [`crate::api::Frames`] of frames that are JSON already.
fn frames_json<'a>(length_s: u64, whole: bool, frames: impl Iterator<Item = &'a String>) -> Arc<str> {
    let frames: Vec<&str> = frames.map(String::as_str).collect();
    format!("{{\"length_s\":{length_s},\"whole\":{whole},\"frames\":[{}]}}", frames.join(",")).into()
}

/// The last word about a run.
pub(in crate::server) fn finished(exit_code: i32, problem: Option<String>) -> Update {
    Update::Finished(json(&Finished { exit_code, problem }).into())
}

/// What is told has no keys but texts and no float that JSON can't write, so that this can't fail.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
