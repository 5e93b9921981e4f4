//! `compare:` what a difference between two runs has to exceed.

use super::node::Node;
use super::reader::{Object, Reader};
use super::shape::{COMPARE, TOLERANCE};
use super::value;
use crate::compare::Tolerances;

pub(super) fn read(reader: &mut Reader, node: Option<&Node>) -> Tolerances {
    let mut tolerances = Tolerances::default();
    let Some(object) = node.and_then(|node| reader.object(node, &COMPARE)) else { return tolerances };
    if let Some(object) = object.get("tolerance").and_then(|node| reader.object(node, &TOLERANCE)) {
        tolerances = read_parts(reader, &object, tolerances);
    }
    if let Some(least) = object.get("least_difference").and_then(|node| reader.duration_or_zero(node)) {
        tolerances.least_difference_ms = least.as_secs_f64() * 1e3;
    }
    tolerances
}

fn read_parts(reader: &mut Reader, object: &Object<'_>, default: Tolerances) -> Tolerances {
    let mut part = |key: &str, default: f64| {
        let part = object.get(key).and_then(|node| reader.parsed(node, "a tolerance", value::part));
        part.unwrap_or(default)
    };
    Tolerances {
        p50: part("p50", default.p50),
        p90: part("p90", default.p90),
        p95: part("p95", default.p95),
        p99: part("p99", default.p99),
        throughput: part("throughput", default.throughput),
        error_rate: part("error_rate", default.error_rate),
        ..default
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeMap;

    use crate::compare::Tolerances;
    use crate::{Plan, PlanSource};

    const PLAN: &str = "target: http://localhost\n\
        scenarios:\n  one:\n    load: { users: 1, for: 1s }\n    flow: [ { get: /x } ]\n";

    fn plan(text: &str) -> Plan {
        let (name, text) = ("plan.yaml".to_owned(), text.to_owned());
        Plan::compile(&PlanSource { name, text, files: BTreeMap::new(), search_level: None }).unwrap()
    }

    #[test]
    fn what_is_not_said_is_the_default() {
        assert_eq!(plan(PLAN).tolerances, Tolerances::default());
        let said = "compare: { tolerance: { p99: 15%, throughput: 0.02, error_rate: 0.1% }, least_difference: 2ms }\n";
        let tolerances = Tolerances {
            p99: 0.15,
            throughput: 0.02,
            error_rate: 0.001,
            least_difference_ms: 2.0,
            ..Tolerances::default()
        };
        assert_eq!(plan(&format!("{PLAN}{said}")).tolerances, tolerances);
    }

    #[test]
    fn the_hash_of_the_load_is_that_of_what_is_sent() {
        let hash = |text: &str| plan(text).load_hash;
        let same = [
            format!("# a comment\nname: other\n{PLAN}"),
            format!("{PLAN}compare: {{ tolerance: {{ p50: 1% }} }}\nthresholds: [ 'p95 < 1s' ]\n"),
            format!("{PLAN}seed: 1\nready: {{ get: /health }}\nlease: 20s\n"),
            PLAN.replace("localhost", "elsewhere:8080"),
            PLAN.replace("{ users: 1, for: 1s }", "\n      users: 1\n      for: 1s"),
        ];
        for text in same {
            assert_eq!(hash(&text), hash(PLAN), "{text}");
        }
        let other = [
            PLAN.replace("users: 1", "users: 2"),
            PLAN.replace("/x", "/y"),
            format!("{PLAN}seed: 2\n"),
            format!("{PLAN}vars: {{ tenant: acme }}\n"),
            format!("{PLAN}http: {{ timeout: 1s }}\n"),
        ];
        for text in other {
            assert_ne!(hash(&text), hash(PLAN), "{text}");
        }
    }
}
