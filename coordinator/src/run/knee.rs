//! Where the target bends: the level of a sweep after which more load brings little more throughput.
//!
//! The method is Kneedle (Satopää, Albrecht, Irwin, Raghavan: Finding a "Kneedle" in a Haystack, ICDCS workshops 2011)
//! on throughput over level: both axes are scaled to 0..1, and the knee is where the curve is farthest above the straight
//! line from its first to its last point. Nothing is smoothed: each point is the mean of a whole level.

use groundswell_scenario::Plan;
use groundswell_scenario::load::Load;

use crate::report::{Bend, LevelFigures};

/// A curve with fewer points has no knee worth the name.
const LEAST_LEVELS: usize = 3;
/// Least height of the knee above the line, of the whole range: a curve nearer to the line than this is straight.
const LEAST_HEIGHT: f64 = 0.1;

/// One level, all steps of the scenario together.
struct Point {
    level: String,
    load: f64,
    throughput: f64,
    /// p95 of its slowest step, in milliseconds.
    p95_ms: f64,
}

/// A row for each sweep with enough levels.
pub(super) fn bends(plan: &Plan, levels: &[LevelFigures]) -> Vec<Bend> {
    let sweeps = plan.scenarios.iter().filter(|scenario| scenario.phases.len() >= LEAST_LEVELS);
    let bend = |scenario: &groundswell_scenario::Scenario| {
        let points: Vec<Point> = scenario
            .phases
            .iter()
            .filter_map(|phase| point(&scenario.name, phase.level.as_deref()?, &phase.load, levels))
            .collect();
        bend(&scenario.name, &points)
    };
    sweeps.filter_map(bend).collect()
}

fn point(scenario: &str, level: &str, load: &Load, levels: &[LevelFigures]) -> Option<Point> {
    let value = match load {
        Load::Users { curve } | Load::Rate { curve, .. } => curve.peak(),
        Load::Iterations { .. } => return None,
    };
    let of_level = levels.iter().filter(|row| row.figures.scenario == scenario && row.level == level);
    let rows: Vec<&LevelFigures> = of_level.filter(|row| row.figures.issued > 0).collect();
    let p95_ms = rows.iter().filter_map(|row| row.figures.response_ms.p95).fold(0.0, f64::max);
    let throughput = rows.iter().map(|row| row.figures.throughput_per_s).sum();
    (!rows.is_empty()).then(|| Point { level: level.to_owned(), load: value, throughput, p95_ms })
}

fn bend(scenario: &str, points: &[Point]) -> Option<Bend> {
    let (first, last) = (points.first()?, points.last()?);
    if points.len() < LEAST_LEVELS || last.load <= first.load {
        return None;
    }
    let Some(knee) = knee(points) else {
        let message = format!(
            "{scenario}: throughput grows with the load up to {} ({:.0}/s); the target's limit lies beyond, sweep further",
            last.level, last.throughput
        );
        return Some(Bend { scenario: scenario.to_owned(), level: None, throughput_per_s: last.throughput, message });
    };
    let more_load = (last.load / knee.load - 1.0) * 100.0;
    let more_throughput = (last.throughput / knee.throughput - 1.0) * 100.0;
    let message = format!(
        "{scenario}: the target bends at about {} ({:.0}/s, p95 {:.1} ms): {more_load:.0} % more load brings \
         {more_throughput:+.0} % throughput and a p95 of {:.1} ms; plan for no more than {}",
        knee.level, knee.throughput, knee.p95_ms, last.p95_ms, knee.level
    );
    Some(Bend {
        scenario: scenario.to_owned(),
        level: Some(knee.level.clone()),
        throughput_per_s: knee.throughput,
        message,
    })
}

fn knee(points: &[Point]) -> Option<&Point> {
    let first = points.first()?;
    let last = points.last()?;
    let least = points.iter().map(|point| point.throughput).fold(f64::INFINITY, f64::min);
    let most = points.iter().map(|point| point.throughput).fold(0.0, f64::max);
    if most <= least {
        return None;
    }
    let height = |point: &Point| {
        let x = (point.load - first.load) / (last.load - first.load);
        (point.throughput - least) / (most - least) - x
    };
    let inner = &points[1..points.len() - 1];
    let knee = inner.iter().max_by(|a, b| height(a).total_cmp(&height(b)))?;
    (height(knee) >= LEAST_HEIGHT).then_some(knee)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn points(curve: &[(f64, f64, f64)]) -> Vec<Point> {
        let point = |(load, throughput, p95_ms): &(f64, f64, f64)| Point {
            level: format!("{load} users"),
            load: *load,
            throughput: *throughput,
            p95_ms: *p95_ms,
        };
        curve.iter().map(point).collect()
    }

    #[test]
    fn a_target_that_saturates_bends_where_it_does() {
        let curve = points(&[(5.0, 500.0, 10.0), (10.0, 990.0, 11.0), (20.0, 1010.0, 22.0), (50.0, 1000.0, 60.0)]);
        let bend = bend("s", &curve).unwrap();
        assert_eq!(bend.level.as_deref(), Some("10 users"));
        insta::assert_snapshot!(bend.message, @"s: the target bends at about 10 users (990/s, p95 11.0 ms): 400 % more load brings +1 % throughput and a p95 of 60.0 ms; plan for no more than 10 users");
    }

    #[test]
    fn a_target_that_keeps_up_does_not_bend() {
        let bend = bend("s", &points(&[(5.0, 500.0, 9.0), (10.0, 995.0, 9.0), (20.0, 1990.0, 9.0)])).unwrap();
        assert_eq!(bend.level, None);
        insta::assert_snapshot!(bend.message, @"s: throughput grows with the load up to 20 users (1990/s); the target's limit lies beyond, sweep further");
    }

    #[test]
    fn a_curve_that_says_nothing_gives_no_row() {
        assert_eq!(bend("s", &points(&[(5.0, 500.0, 9.0), (10.0, 995.0, 9.0)])), None);
        assert_eq!(bend("s", &points(&[(5.0, 1.0, 9.0), (5.0, 1.0, 9.0), (5.0, 1.0, 9.0)])), None);
    }

    #[test]
    fn a_target_that_collapses_bends_at_its_peak() {
        let curve = points(&[(5.0, 500.0, 9.0), (10.0, 900.0, 11.0), (20.0, 600.0, 80.0), (40.0, 100.0, 900.0)]);
        assert_eq!(bend("s", &curve).unwrap().level.as_deref(), Some("10 users"));
    }
}
