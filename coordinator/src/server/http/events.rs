//! What happens in a run, as server-sent events (HTML Living Standard, 9.2).
//!
//! Events: `run` first, then `progress` and `frames` as they come, `finished` at the end. Whoever comes again, or reads
//! too slowly to hear everything, gets all of it anew, so that no curve has a hole.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{Stream, unfold};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::super::Services;
use super::super::hub::{Update, Watch, finished};
use super::problem::{Path, Problem};

/// A comment so often tells both ends that the other is there.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Between a run's end and its report in the store there is a moment; so long is waited for it.
const STORING: Duration = Duration::from_millis(50);
const STORING_TRIES: u32 = 100;

/// A stream of events.
struct Watching {
    services: Services,
    run: String,
    waiting: VecDeque<Event>,
    /// None when there is nothing more to come.
    next: Option<broadcast::Receiver<Update>>,
}

pub(super) async fn events(
    State(services): State<Services>,
    Path(run): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let mut watching = Watching { services, run, waiting: VecDeque::new(), next: None };
    watching.begin().await?;
    let events = unfold(watching, |mut watching| async {
        let event = watching.event().await?;
        Some((Ok(event), watching))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

impl Watching {
    /// Everything anew.
    async fn begin(&mut self) -> Result<(), Problem> {
        self.waiting.clear();
        for _ in 0..STORING_TRIES {
            if let Some(Watch { opening, now, next }) = self.services.watch(&self.run).await? {
                self.waiting.push_back(Event::default().event("run").data(opening));
                self.waiting.extend(now.iter().map(event));
                self.next = Some(next);
                return Ok(());
            }
            if let Some(answer) = self.services.store.run(&self.run).await?.report {
                self.waiting.push_back(event(&finished(answer.exit_code, answer.report.err())));
                self.next = None;
                return Ok(());
            }
            tokio::time::sleep(STORING).await;
        }
        Err(Problem::not_found(format!("run {} is not going on and has no answer", self.run)))
    }

    /// The next event; none at the end.
    async fn event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            match self.next.as_mut()?.recv().await {
                Ok(update) => {
                    if matches!(update, Update::Finished(_)) {
                        self.next = None;
                    }
                    return Some(event(&update));
                }
                Err(RecvError::Lagged(_)) => self.begin().await.ok()?,
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

fn event(update: &Update) -> Event {
    let (name, json) = match update {
        Update::Progress(json) => ("progress", json),
        Update::Frames(json) => ("frames", json),
        Update::Finished(json) => ("finished", json),
    };
    Event::default().event(name).data(json)
}
