//! What the operator of an agent lets it do, whatever a coordinator asks of it.

use std::sync::Arc;
use std::time::Duration;

use groundswell_scenario::planned::Span;
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

/// What load takes of an agent's limits at its greatest moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Taken {
    operations_per_s: f64,
    users: f64,
}

impl Taken {
    /// By these assignments of a run together. One that was made before the start has all of what stays whole with it,
    /// whatever its end.
    pub(crate) fn by<'a>(plan: &Plan, assignments: impl Iterator<Item = &'a Assignment>) -> Self {
        let (held, whole): (Vec<&Assignment>, Share) = (assignments.collect(), Share::whole());
        let spans: Vec<Span> = plan.spans(&whole).collect();
        let part = |span: &Span, moment: Duration| {
            let is_held = |held: &&&Assignment| match span.stays_whole {
                true => held.is_initial(),
                false => held.from <= moment && held.until.is_none_or(|until| moment < until),
            };
            held.iter().filter(is_held).map(|held| part_of(&held.share)).sum::<f64>()
        };
        let at = |moment: Duration| {
            let lasting = spans.iter().filter(|span| span.lasts(moment));
            lasting.fold(Taken::default(), |sum, span| {
                let part = part(span, moment);
                sum.and(Taken {
                    operations_per_s: span.needs.operations_per_s * part,
                    users: span.needs.users as f64 * part,
                })
            })
        };
        // It grows only where a scenario or an assignment begins.
        let moments = spans.iter().map(|span| span.from).chain(held.iter().map(|held| held.from));
        moments.map(at).fold(Taken::default(), |most, taken| Taken {
            operations_per_s: most.operations_per_s.max(taken.operations_per_s),
            users: most.users.max(taken.users),
        })
    }

    /// Both at once.
    pub(crate) fn and(self, other: Taken) -> Taken {
        Taken { operations_per_s: self.operations_per_s + other.operations_per_s, users: self.users + other.users }
    }
}

/// Is the load of a run, beside what its other runs take of an agent, within what that takes on? A coordinator keeps to
/// that by itself; this is for one that does not.
pub(crate) fn within_limits(limits: Limits, others: Taken, asked: Taken) -> Result<(), String> {
    let asked = [
        ("operations a second", "--max-rate", asked.operations_per_s, others.operations_per_s, limits.rate_per_s),
        ("users", "--max-users", asked.users, others.users, limits.users.map(f64::from)),
    ];
    for (what, flag, asked, others, most) in asked {
        // A share of exactly the limit may come out above it by rounding.
        if let Some(most) = most.filter(|most| asked > 0.0 && asked + others > most * (1.0 + 1e-9)) {
            let beside = if others > 0.0 { format!(" beside {others:.1} of other runs") } else { String::new() };
            return Err(format!(
                "it was to take on {asked:.1} {what}{beside}, and takes on {most} at the most ({flag})"
            ));
        }
    }
    Ok(())
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

    fn plan(scenarios: &str) -> Plan {
        let text = format!("target: http://127.0.0.1:1\nscenarios:\n{scenarios}");
        let source = PlanSource { name: "p.yaml".into(), text, files: BTreeMap::new(), search_level: None };
        Plan::compile(&source).unwrap()
    }

    const OPEN: &str = "  s: { load: { rate: 100/s, for: 9s, max_in_flight: 40 }, flow: [ { get: / } ] }\n";

    fn limits(rate: f64, users: u32) -> Limits {
        Limits { rate_per_s: Some(rate), users: Some(users) }
    }

    #[test]
    fn a_coordinator_that_asks_for_more_is_told_so() {
        let plan = plan(OPEN);
        let within = |rate, users, assignments: &[Assignment]| {
            within_limits(limits(rate, users), Taken::default(), Taken::by(&plan, assignments.iter())).is_ok()
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

    /// Iterations of a fixed total, and scenarios after others, are worked off whole by an assignment that begins with the
    /// run, so an early end makes no less of them.
    #[test]
    fn what_stays_whole_with_an_assignment_is_counted_whole() {
        let fixed = plan("  s: { load: { iterations: 900, users: 40 }, flow: [ { get: / } ] }\n");
        let after = plan(
            "  a: { load: { iterations: 1 }, flow: [ { get: / } ] }\n\
             \x20 s: { after: a, load: { rate: 100/s, for: 9s, max_in_flight: 40 }, flow: [ { get: / } ] }\n",
        );
        for plan in [&fixed, &after] {
            let taken = |held: &[Assignment]| Taken::by(plan, held.iter());
            for until in [Some(0), Some(1), None] {
                assert!(taken(&[held(0, 1, 0, until)]).users >= 40.0, "{until:?}");
            }
            assert!(within_limits(limits(99.0, 39), Taken::default(), taken(&[held(0, 1, 0, Some(0))])).is_err());
            // A share that others have parts of by now, and what was taken over, are no more than the first.
            let less = [held(0, 2, 0, Some(3)), held(1, 4, 3, None), held(2, 4, 3, None)];
            let first = taken(&less[..1]);
            assert!(taken(&less).users <= first.users && first.users <= 20.5);
        }
        assert_eq!(Taken::by(&plan(OPEN), [held(0, 1, 0, Some(0))].iter()), Taken::default());
    }

    #[test]
    fn runs_share_the_limits() {
        let half = Taken::by(&plan(OPEN), [held(0, 2, 0, None)].iter());
        assert!(within_limits(limits(100.0, 40), half, half).is_ok());
        let refused = within_limits(limits(100.0, 40), half.and(half), half).unwrap_err();
        assert!(refused.contains("50.0 operations a second beside 100.0 of other runs"), "{refused}");
        assert!(within_limits(limits(100.0, 59), half.and(half), half).is_err());
        assert!(within_limits(limits(100.0, 40), half.and(half), Taken::default()).is_ok(), "it takes nothing");
    }
}
