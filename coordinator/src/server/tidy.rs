//! Keeps a store small: deletes old runs, and makes the logs of those that are over smaller.

use std::time::{Duration, SystemTime};

use groundswell_proto::v1;
use groundswell_stats::Delta;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::clock::calendar_us;
use crate::store::{Compacted, Merged, RunState, Span, Store, StoreError};

/// Deltas of so much of a run's time become one.
const INTERVAL_US: u64 = 10_000_000;
/// A coordinator looks so often whether there is something to tidy.
const EVERY: Duration = Duration::from_secs(3_600);
/// Agents that were lost have so long to come back with what they measured.
const LATE_FIGURES: Duration = Duration::from_secs(24 * 3_600);

/// Which runs are kept. Unfinished ones always are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Retention {
    /// Those that ended within so many days.
    pub days: Option<u32>,
    /// The newest so many.
    pub newest: Option<u32>,
}

impl Retention {
    /// Deletes the others. Returns their ids.
    ///
    /// # Errors
    /// When the store fails. What was deleted up to then stays deleted.
    pub async fn apply(&self, store: &Store) -> Result<Vec<String>, StoreError> {
        let days = self.days.map(|days| ago(Duration::from_secs(u64::from(days) * 24 * 3_600)));
        let newest = match self.newest {
            Some(newest) => nth_newest(store, newest).await?,
            None => None,
        };
        match days.into_iter().chain(newest).max() {
            Some(limit) => store.prune(limit).await,
            None => Ok(Vec::new()),
        }
    }
}

/// Tidies a coordinator's store now and then, until its shutdown.
pub(super) async fn keep_tidy(store: Store, retention: Retention, shutdown: CancellationToken) {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = shutdown.cancelled() => return,
        }
        if let Err(error) = tidy_once(&store, retention).await {
            tracing::error!(%error, "the store can't be tidied");
        }
    }
}

async fn tidy_once(store: &Store, retention: Retention) -> Result<(), StoreError> {
    let deleted = retention.apply(store).await?;
    if !deleted.is_empty() {
        tracing::info!(runs = deleted.join(", "), "old runs deleted");
    }
    let limit = ago(LATE_FIGURES);
    let is_due = |state| matches!(state, RunState::Finished { finished_at_us, .. } if finished_at_us < limit);
    for row in store.runs().await?.iter().filter(|row| !row.compacted && is_due(row.state)) {
        merge_deltas(store, &row.id).await?;
    }
    Ok(())
}

/// In microseconds since 1970 (UTC).
fn ago(time: Duration) -> i64 {
    SystemTime::now().checked_sub(time).map_or(i64::MIN, calendar_us)
}

/// When the last of the newest so many runs ended; none where there are fewer.
async fn nth_newest(store: &Store, n: u32) -> Result<Option<i64>, StoreError> {
    let ended = store.runs().await?.into_iter().filter_map(|row| match row.state {
        RunState::Finished { finished_at_us, .. } => Some(finished_at_us),
        RunState::Unfinished => None,
    });
    let mut ended: Vec<i64> = ended.collect();
    ended.sort_unstable_by_key(|at| std::cmp::Reverse(*at));
    Ok((n as usize).checked_sub(1).and_then(|last| ended.get(last).copied()))
}

/// Merges the deltas of a finished run to one for ten seconds of each agent. Its report stays as it is stored; figures
/// that come late are not taken any more.
///
/// # Errors
/// When the store fails, or the run has no report yet.
pub async fn merge_deltas(store: &Store, run: &str) -> Result<Compacted, StoreError> {
    store.compact(run, merged).await
}

fn merged(span: &Span) -> Result<Vec<Merged>, String> {
    let mut groups: Vec<(u64, v1::Figures, Delta, usize)> = Vec::new();
    for bytes in &span.deltas {
        let figures = v1::Figures::unpack(bytes).map_err(|error| error.to_string())?;
        let delta = Delta::try_from(&figures).map_err(|error| error.to_string())?;
        let interval = delta.to_us.saturating_sub(1) / INTERVAL_US;
        match groups.last_mut().filter(|group| group.0 == interval) {
            Some((_, last, sum, count)) => {
                sum.add(&delta).map_err(|error| error.to_string())?;
                // Of what an agent says of itself, the latest stands for the interval.
                last.health = figures.health;
                last.cursors = figures.cursors;
                *count += 1;
            }
            None => groups.push((interval, figures, delta, 1)),
        }
    }
    let merged = groups.into_iter().map(|(_, last, sum, deltas)| {
        let together =
            v1::Figures { health: last.health, cursors: last.cursors, source: last.source, ..v1::Figures::from(&sum) };
        Merged { deltas, bytes: together.pack() }
    });
    Ok(merged.collect())
}
