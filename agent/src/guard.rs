//! What the operator of an agent lets it do, whatever a coordinator asks of it.

use std::sync::Arc;
use std::time::Duration;

use groundswell_scenario::planned::Needs;
use groundswell_scenario::{Assignment, Plan, Share};

use crate::allow::Allowlist;
use crate::audit::Audit;
use crate::session::Limits;

/// What an agent may do; by default load goes to its own machine only, without other limits.
#[derive(Debug, Clone)]
pub struct Guard {
    /// Targets that it may send to.
    pub allow: Allowlist,
    /// Most connections that it has open for load at the same time, of all runs together; none for no limit.
    pub max_connections: Option<u32>,
    /// Longest load of a run; none for no limit.
    pub max_duration: Option<Duration>,
    /// Whether requests say which run they are of.
    pub run_header: bool,
    /// Where it writes down what it did.
    pub audit: Option<Arc<Audit>>,
}

impl Default for Guard {
    fn default() -> Self {
        Guard { allow: Allowlist::default(), max_connections: None, max_duration: None, run_header: true, audit: None }
    }
}

/// Is the load of these assignments, at each moment of the run, within what the agent takes on? A coordinator keeps to that
/// by itself; this is for one that does not.
pub(crate) fn within_limits<'a>(
    plan: &Plan,
    limits: Limits,
    assignments: impl Iterator<Item = &'a Assignment>,
) -> Result<(), String> {
    let part = greatest_part(&assignments.collect::<Vec<_>>());
    let Needs { operations_per_s, users, .. } = plan.needs(&Share::whole());
    let asked = [
        ("operations a second", "--max-rate", operations_per_s * part, limits.rate_per_s),
        ("users", "--max-users", users as f64 * part, limits.users.map(f64::from)),
    ];
    for (what, flag, asked, most) in asked {
        // A share of exactly the limit may come out above it by rounding.
        if let Some(most) = most.filter(|most| asked > most * (1.0 + 1e-9)) {
            return Err(format!("it was to take on {asked:.1} {what}, and takes on {most} at the most ({flag})"));
        }
    }
    Ok(())
}

/// The greatest part of the whole load that assignments make together at any moment.
fn greatest_part(assignments: &[&Assignment]) -> f64 {
    let at = |moment: Duration| {
        let is_held = |held: &&&Assignment| held.from <= moment && held.until.is_none_or(|until| moment < until);
        assignments.iter().filter(is_held).map(|held| part_of(&held.share)).sum::<f64>()
    };
    assignments.iter().map(|held| at(held.from)).fold(0.0, f64::max)
}

/// A share as a part of the whole.
pub(crate) fn part_of(share: &Share) -> f64 {
    share.slots().len() as f64 / f64::from(share.of())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeMap;

    use groundswell_scenario::PlanSource;

    use super::*;

    fn held(generation: u32, of: u32, from: u64, until: Option<u64>) -> Assignment {
        Assignment {
            generation,
            share: Share::nth_of(0, of),
            from: Duration::from_secs(from),
            until: until.map(Duration::from_secs),
        }
    }

    #[test]
    fn a_coordinator_that_asks_for_more_is_told_so() {
        let text = "target: http://127.0.0.1:1\nscenarios:\n  s: { load: { rate: 100/s, for: 9s, max_in_flight: 40 }, \
                    flow: [ { get: / } ] }\n";
        let source =
            PlanSource { name: "p.yaml".into(), text: text.into(), files: BTreeMap::new(), search_level: None };
        let plan = Plan::compile(&source).unwrap();
        let within = |rate: f64, users, assignments: &[Assignment]| {
            within_limits(&plan, Limits { rate_per_s: Some(rate), users: Some(users) }, assignments.iter()).is_ok()
        };
        let half = held(0, 2, 0, None);
        assert!(within(50.0, 20, std::slice::from_ref(&half)));
        assert!(!within(49.0, 20, std::slice::from_ref(&half)) && !within(50.0, 19, std::slice::from_ref(&half)));
        // One after the other is no more than either; both at once are.
        let (first, second) = (held(0, 2, 0, Some(3)), held(1, 2, 3, None));
        assert!(within(50.0, 20, &[first, second.clone()]));
        assert!(!within(50.0, 20, &[half, second]));
        assert!(within(0.1, 1, &[held(0, 1, 9, Some(9))]), "nothing is owned");
    }
}
