//! Makes the log of a finished run smaller.

use groundswell_proto::v1;
use groundswell_stats::Delta;

use crate::store::{Compacted, Merged, Span, Store, StoreError};

/// Deltas of so much of a run's time become one.
const INTERVAL_US: u64 = 10_000_000;

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
