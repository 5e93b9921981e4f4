//! What will be too small on this machine, said before any load is sent.

use groundswell_scenario::planned::Needs;
use groundswell_scenario::{Plan, Share};

use crate::machine::{local_ports, memory_available, raise_open_files};

/// Descriptors of an agent beside its connections: session, timers, reactors, logs.
const OWN_DESCRIPTORS: u64 = 32;
/// How long Linux keeps the port of a closed connection (TIME_WAIT).
const PORT_REST_S: f64 = 60.0;
/// Operations a second that one worker thread makes with ease; `docs/accuracy.md` says how it was measured.
const WORKER_OPERATIONS_PER_S: u64 = 5_000;
/// Memory of a user with its connection, about; `docs/accuracy.md` has the measurement.
const CONNECTION_BYTES: u64 = 32 << 10;
/// Memory of the figures of one timed step on one worker, about.
const SERIES_BYTES: u64 = 500 << 10;

/// What this machine is to a share of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// What the share needs at its greatest moment.
    pub needs: Needs,
    /// Memory that it may take, in bytes.
    pub memory_bytes: u64,
    /// Agents like this one that would do for the share.
    pub agents: u64,
    /// What this machine lacks for it: one sentence each, with what to do.
    pub lacks: Vec<String>,
}

/// Foretells how a share of a plan fits this machine with so many worker threads. Raises this process's limit of open
/// files as far as it may.
pub fn foresee(plan: &Plan, share: &Share, workers: u32) -> Forecast {
    let needs = plan.needs(share);
    let series = plan.steps.len() as u64 * u64::from(workers) * SERIES_BYTES;
    let memory_bytes = series.saturating_add(needs.connections.saturating_mul(CONNECTION_BYTES));
    let mut forecast = Forecast { needs, memory_bytes, agents: 1, lacks: Vec::new() };
    let descriptors = needs.connections.saturating_add(OWN_DESCRIPTORS);
    if let Some(most) = raise_open_files() {
        forecast.need(descriptors, most, |agents| {
            format!(
                "may need {descriptors} open files but may have {most}; raise the limit (ulimit -n), or use {agents}"
            )
        });
    }
    // What is open, and what was closed within the last minute, each holds a port.
    let ports = needs.connections.max((needs.connects_per_s * PORT_REST_S).ceil() as u64);
    if let Some(most) = local_ports() {
        // Each source address has all of them.
        let most = most.saturating_mul(plan.http.network.bind.len().max(1) as u64);
        forecast.need(ports, most, |agents| {
            format!(
                "may need {ports} local ports but has {most}; widen net.ipv4.ip_local_port_range, keep connections \
                 (http.connections: per_user), add source addresses (http.bind), or use {agents}"
            )
        });
    }
    if let Some(most) = memory_available() {
        let mib = |bytes: u64| bytes >> 20;
        forecast.need(memory_bytes, most, |agents| {
            format!("may need {} MiB of memory but has {} MiB; use {agents}", mib(memory_bytes), mib(most))
        });
    }
    let rate = needs.operations_per_s.ceil() as u64;
    forecast.need(rate, u64::from(workers) * WORKER_OPERATIONS_PER_S, |agents| {
        format!("{rate} operations a second are much for {workers} worker threads; use more cores, or {agents}")
    });
    forecast
}

impl Forecast {
    fn need(&mut self, wanted: u64, most: u64, text: impl FnOnce(String) -> String) {
        let agents = wanted.div_ceil(most.max(1)).max(1);
        if agents > 1 {
            self.agents = self.agents.max(agents);
            self.lacks.push(text(format!("{agents} agents or more")));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeMap;

    use groundswell_scenario::PlanSource;

    use super::*;

    fn plan(load: &str) -> Plan {
        let text = format!("target: http://127.0.0.1:1\nscenarios:\n  s: {{ load: {load}, flow: [ {{ get: / }} ] }}\n");
        Plan::compile(&PlanSource { name: "p.yaml".into(), text, files: BTreeMap::new(), search_level: None }).unwrap()
    }

    #[test]
    fn what_is_too_much_for_one_machine_is_said_with_what_to_do() {
        let forecast = foresee(&plan("{ rate: 60000/s, for: 10s, max_in_flight: 1000000 }"), &Share::whole(), 2);
        let says = |text: &str| forecast.lacks.iter().any(|lack| lack.contains(text));
        assert!(says("local ports") && says("60000 operations a second are much for 2 worker threads"), "{forecast:?}");
        assert!(forecast.agents >= 6 && forecast.lacks.iter().all(|lack| lack.contains("agents or more")));
        let small = foresee(&plan("{ users: 5, for: 10s }"), &Share::whole(), 1);
        assert_eq!((small.agents, small.lacks.len(), small.needs.connections), (1, 0, 5));
    }

    #[test]
    fn a_share_needs_its_part_only() {
        assert!(foresee(&plan("{ rate: 6000/s, for: 10s }"), &Share::nth_of(0, 3), 1).lacks.is_empty());
    }
}
