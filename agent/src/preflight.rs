//! What will be too small on this machine, said before any load is sent.

use groundswell_scenario::{Plan, Share};

use crate::machine::{local_ports, raise_open_files};

/// Descriptors of an agent beside its connections: session, timers, reactors, logs.
const OWN_DESCRIPTORS: u64 = 32;
/// How long Linux keeps the port of a closed connection (TIME_WAIT).
const PORT_REST_S: f64 = 60.0;
/// Operations a second that one worker thread makes with ease; `docs/sizing.md` says how it was measured.
const WORKER_OPERATIONS_PER_S: f64 = 5_000.0;

/// What this machine lacks for a share of a plan with so many worker threads: one sentence each, with what to do.
/// Raises this process's limit of open files as far as it may.
pub fn foresee(plan: &Plan, share: &Share, workers: u32) -> Vec<String> {
    let needs = plan.needs(share);
    let mut warnings = Vec::new();
    let descriptors = needs.connections.saturating_add(OWN_DESCRIPTORS);
    if let Some(most) = raise_open_files().filter(|most| *most < descriptors) {
        warnings.push(format!(
            "may need {descriptors} open files but may have {most}; raise the limit (ulimit -n), or use {} agents or more",
            parts(needs.connections, most.saturating_sub(OWN_DESCRIPTORS))
        ));
    }
    if let Some(ports) = local_ports() {
        // What is open, and what was closed within the last minute, each holds a port.
        let resting = (needs.connects_per_s * PORT_REST_S).ceil() as u64;
        let wanted = needs.connections.max(resting);
        if wanted > ports {
            warnings.push(format!(
                "may need {wanted} local ports but has {ports}; widen net.ipv4.ip_local_port_range, keep connections \
                 (http.connections: per_user), or use {} agents or more",
                parts(wanted, ports)
            ));
        }
    }
    let wanted = (needs.operations_per_s / WORKER_OPERATIONS_PER_S).ceil();
    if wanted > f64::from(workers) {
        warnings.push(format!(
            "{:.0} operations a second are much for {workers} worker threads; {wanted:.0} would have it easy, on more cores \
             or more agents",
            needs.operations_per_s
        ));
    }
    warnings
}

/// Agents among which a need has to be divided.
fn parts(need: u64, each: u64) -> u64 {
    need.div_ceil(each.max(1))
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
        let warnings = foresee(&plan("{ rate: 60000/s, for: 10s, max_in_flight: 1000000 }"), &Share::whole(), 2);
        assert!(warnings.iter().any(|warning| warning.contains("local ports") && warning.contains("agents or more")));
        assert!(warnings.iter().any(|warning| warning.contains("12 would have it easy")), "{warnings:?}");
        assert_eq!(foresee(&plan("{ users: 5, for: 10s }"), &Share::whole(), 1), Vec::<String>::new());
    }

    #[test]
    fn a_share_needs_its_part_only() {
        let warnings = foresee(&plan("{ rate: 6000/s, for: 10s }"), &Share::nth_of(0, 3), 1);
        assert_eq!(warnings, Vec::<String>::new());
    }
}
