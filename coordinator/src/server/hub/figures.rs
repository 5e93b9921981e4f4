//! What monitoring systems are told.

use std::time::Duration;

use super::Hub;
use crate::export::Snapshot;

/// Totals of a run that ended are told for so long, so that a scraper that comes every minute sees its last ones.
const TOLD_FOR: Duration = Duration::from_secs(300);
/// Most ended runs that are told of.
const MOST_ENDED: usize = 100;

impl Hub {
    pub(super) fn figures(&mut self) -> Snapshot {
        let now = self.clock.now();
        self.ended.retain(|(at, _)| now.monotonic.saturating_sub(*at) < TOLD_FOR);
        let mut snapshot = Snapshot {
            term: self.store.term(),
            entries: self.entries,
            backlog: self.backlog.len() as u64,
            ..Snapshot::default()
        };
        let present = self.present();
        for agent in present.agents {
            *snapshot.agents.entry(agent.state).or_default() += 1;
        }
        for (state, _) in present.runs.into_values() {
            *snapshot.runs.entry(state).or_default() += 1;
        }
        let open = self.runs.iter().filter(|running| !running.run.is_closed());
        // Figures that can't be added end their run; there is nothing to tell of it.
        let figures = open.filter_map(|running| running.run.figures_for_export(running.ahead.run_time(now)).ok());
        snapshot.figures = figures.chain(self.ended.iter().map(|(_, figures)| figures.clone())).collect();
        snapshot
    }

    /// Keeps the totals of a run that has just ended.
    pub(super) fn keep_figures(&mut self, index: usize) {
        let now = self.clock.now();
        let running = &self.runs[index];
        if let Ok(figures) = running.run.figures_for_export(running.ahead.run_time(now)) {
            self.ended.retain(|(_, known)| known.run != figures.run);
            self.ended.truncate(MOST_ENDED - 1);
            self.ended.insert(0, (now.monotonic, figures));
        }
    }
}
