//! What has to hold whatever the input. The fuzz targets call these, and so does the test that goes over the corpus on
//! every build (`tests/corpus`).

mod api;
mod certificates;

use std::collections::BTreeMap;

use groundswell_proto::v1;
use groundswell_scenario::{Plan, PlanSource, Share};
use groundswell_stats::{Delta, Distribution, Kind, Totals};
use prost::Message;

pub use api::api;
pub use certificates::certificate;

/// Steps of the plan that a delta is merged into.
const STEPS: usize = 8;

/// The bytes of an agent's figures are refused, or they are figures: told again they are the same, they are merged whole
/// or not at all, and every percentile lies between its neighbours.
///
/// # Panics
/// When that does not hold.
pub fn delta(bytes: &[u8]) {
    // No fuzzer gets far through DEFLATE, so the same bytes are tried without it too.
    let packed = v1::Figures::unpack(bytes).ok();
    let plain = v1::Figures::decode(bytes).ok();
    for figures in [packed, plain].into_iter().flatten() {
        if let Ok(delta) = Delta::try_from(&figures) {
            taken(&delta);
        }
    }
}

fn taken(delta: &Delta) {
    let again = Delta::try_from(&v1::Figures::from(delta));
    assert_eq!(again.as_ref().ok(), Some(delta), "{again:?}");
    let mut totals = Totals::new(STEPS);
    for agent in 0..2 {
        let before = totals.clone();
        if totals.absorb(agent, delta).is_err() {
            assert!(totals == before, "a delta that was refused left something");
            return;
        }
    }
    for step in totals.steps() {
        for kind in Kind::ALL {
            if let Ok(distribution) = totals.distribution([step], &[kind]) {
                in_order(&distribution);
            }
        }
    }
}

fn in_order(distribution: &Distribution) {
    assert_eq!(distribution.buckets().total(), distribution.count());
    if distribution.count() == 0 {
        return;
    }
    let quantiles = [0.0, 0.5, 0.9, 0.99, 0.999, 1.0].map(|q| distribution.quantile_us(q));
    let ends = [distribution.min_us(), distribution.max_us()];
    assert!(quantiles.is_sorted() && quantiles[0] >= ends[0] && quantiles[5] <= ends[1], "{quantiles:?} {ends:?}");
}

/// A text is a plan or has problems that can be told, and what a plan asks for can be computed.
///
/// # Panics
/// When that does not hold.
pub fn plan(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let wanted = PlanSource::referenced_files(text);
    let files: BTreeMap<_, _> = wanted.into_iter().map(|name| (name, Ok(b"word\nsurf\n".to_vec()))).collect();
    let source = PlanSource { name: "plan.yaml".into(), text: text.to_owned(), files, search_level: None };
    match Plan::compile(&source) {
        Ok(plan) => asks_for_something(&plan),
        Err(problems) => assert!(!problems.to_string().is_empty(), "refused without a word"),
    }
}

fn asks_for_something(plan: &Plan) {
    let (length, needs) = (plan.longest(), plan.needs(&Share::whole()));
    assert!(needs.operations_per_s.is_finite(), "{needs:?}");
    for phase in plan.scenarios.iter().flat_map(|scenario| &scenario.phases) {
        let Some(schedule) = phase.schedule(plan.seed) else { continue };
        let offsets = [0, schedule.total() / 2, schedule.total().saturating_sub(1)].map(|k| schedule.offset(k));
        let due: Vec<_> = offsets.into_iter().flatten().collect();
        assert!(due.is_sorted() && due.iter().all(|due| *due <= length), "{due:?} in {length:?}");
    }
}
