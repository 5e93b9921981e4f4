//! Whether this agent takes part in a run: whose plan it is, where it sends to, how long, how much. Decided by the agent
//! alone, before anything is sent.

use std::net::SocketAddr;
use std::time::Duration;

use groundswell_scenario::{Assignment, Destination, Plan, PlanSource};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::AgentOptions;
use crate::allow::{Allowlist, Refused};
use crate::guard::{Taken, part_of, within_limits};
use crate::transport::{Barred, Gate, Resolver};

/// The name service has so long; what it does not know by then is decided when load is sent.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(5);

/// What is known of a plan that was let in.
pub(super) struct Admitted {
    /// What is foreseen to go wrong, in sentences for people.
    pub(super) warnings: Vec<String>,
    /// What the audit log says of it.
    pub(super) wanted: Value,
}

/// Lets a plan in, or says why not. `others` is what other runs take. Blocks while it looks up names.
pub(super) fn admit(
    plan: &Plan,
    source: &PlanSource,
    assignment: &Assignment,
    gate: &Gate,
    others: Taken,
    options: &AgentOptions,
) -> Result<Admitted, String> {
    let guard = &options.guard;
    within_limits(options.limits, others, Taken::by(plan, std::iter::once(assignment)))?;
    let mut warnings = Vec::new();
    if let Some(most) = guard.max_duration {
        let (most_text, longest) = (humantime::format_duration(most), plan.longest());
        match plan.duration() {
            Some(length) if length > most => {
                let length = humantime::format_duration(length);
                return Err(format!(
                    "the load lasts {length}, and this agent's at the most {most_text} (--max-duration)"
                ));
            }
            None if longest > most => {
                let longest = humantime::format_duration(longest);
                warnings.push(format!("stops after {most_text} (--max-duration); the load may last up to {longest}"));
            }
            _ => {}
        }
    }
    let needs = plan.needs(&assignment.share);
    if let Some(most) = guard.max_connections.filter(|most| needs.connections > u64::from(*most)) {
        warnings.push(format!(
            "may need {} connections and opens {most} at the most (--max-connections); raise that, or use more agents",
            needs.connections
        ));
    }
    let targets = match &guard.allow {
        // The user's own plan, and the user was told where it sends to.
        Allowlist::Plan { hash } => {
            is_the_plan(plan, source, hash)?;
            Vec::new()
        }
        Allowlist::Rules(_) => targets(plan, gate, &guard.allow)?,
    };
    let wanted = json!({
        "targets": targets,
        "rate_per_s": needs.operations_per_s,
        "users": needs.users,
        "connections": needs.connections,
        "duration_s": plan.longest().as_secs_f64(),
    });
    Ok(Admitted { warnings, wanted })
}

/// A coordinator in the user's process may take plans from others too.
fn is_the_plan(plan: &Plan, source: &PlanSource, hash: &str) -> Result<(), String> {
    let same = match source.search_level {
        None => plan.hash == hash,
        Some(_) => {
            Plan::compile(&PlanSource { search_level: None, ..source.clone() }).is_ok_and(|plan| plan.hash == hash)
        }
    };
    if same { Ok(()) } else { Err("it runs the plan that it was started with, and no other".to_owned()) }
}

/// The plan's targets with their addresses, or the first one that is not allowed.
fn targets(plan: &Plan, gate: &Gate, allow: &Allowlist) -> Result<Vec<Value>, String> {
    let resolver = Resolver::new(plan.http.network.clone(), gate.clone());
    let proxy = plan.http.proxy.as_ref().and_then(Destination::of);
    let looks_up = plan.http.proxy.as_ref().is_none_or(|proxy| proxy.scheme() == "socks5");
    let mut targets = Vec::new();
    for to in proxy.iter().chain(&plan.destinations()) {
        let is_proxy = proxy.as_ref() == Some(to);
        if to.is_name && !looks_up && !is_proxy {
            gate.decide_unseen(&to.host, to.port).map_err(|refused| {
                let port = to.port;
                let rule = format!("{}:{port}", to.host);
                refusal(&format!("{}:{port} through a proxy", to.host), &rule, refused, allow)
            })?;
            targets.push(json!({ "host": to.host, "port": to.port, "through": "proxy" }));
            continue;
        }
        let (addresses, by_plan) = match addresses(&resolver, to) {
            Err(Barred::NotAllowed) => {
                let known_as = format!("{}:{}", to.host, to.port);
                return Err(refusal(&known_as, &known_as, Refused::NotListed, allow));
            }
            // What is not known by now is decided when load is sent.
            Err(Barred::TooManyLookUps) => (Vec::new(), false),
            Ok(known) => known,
        };
        decide(gate, allow, to, &addresses, by_plan)?;
        let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
        targets.push(json!({ "host": to.host, "port": to.port, "addresses": addresses }));
    }
    Ok(targets)
}

/// Addresses of a host, and whether they are only the plan's word; none where it is not known so soon.
fn addresses(resolver: &Resolver, to: &Destination) -> Result<(Vec<SocketAddr>, bool), Barred> {
    Handle::current().block_on(async {
        let known = timeout(LOOK_UP_LIMIT, resolver.addresses(&to.host, to.port)).await;
        known.unwrap_or_else(|_| Ok(Default::default()))
    })
}

/// Refuses a host none of whose addresses is allowed. One without addresses is an error of the run like any other.
fn decide(
    gate: &Gate,
    allow: &Allowlist,
    to: &Destination,
    addresses: &[SocketAddr],
    by_plan: bool,
) -> Result<(), String> {
    let host = (!by_plan).then_some(to.host.as_str());
    let mut refused = None;
    for address in addresses {
        match gate.decide(host, *address) {
            Ok(()) => return Ok(()),
            Err(why) => refused = refused.or(Some((*address, why))),
        }
    }
    let Some((address, why)) = refused else { return Ok(()) };
    let known_as = format!("{}:{}", to.host, to.port);
    let what = if to.is_name { format!("{known_as} ({address})") } else { address.to_string() };
    let rule = Allowlist::remedy(host.unwrap_or(&address.ip().to_string()), address);
    Err(refusal(&what, &rule, why, allow))
}

fn refusal(what: &str, rule: &str, why: Refused, allow: &Allowlist) -> String {
    format!("it may not send to {what}: {why}. It allows {allow}; to allow this too, start it with --allow {rule}")
}

/// What the audit log says of load that came later.
pub(super) fn assigned(plan: &Plan, assignment: &Assignment) -> Value {
    let Assignment { share, from, .. } = assignment;
    let needs = plan.needs(share);
    json!({
        "part": part_of(share),
        "from_s": from.as_secs_f64(),
        "rate_per_s": needs.operations_per_s,
        "users": needs.users,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_local_agent_takes_its_own_plan_at_every_level_and_no_other() {
        let source = |text: &str, search_level| PlanSource {
            name: "p.yaml".into(),
            text: text.into(),
            files: BTreeMap::new(),
            search_level,
        };
        let own = "target: http://127.0.0.1:1\nscenarios:\n  s:\n    load: { search: { users: { from: 1, to: 9 } }, for: 1s }\n    \
                   flow: [ { get: / } ]\nthresholds: [ 'error_rate < 1%' ]\n";
        let hash = Plan::compile(&source(own, None)).unwrap_or_else(|problems| panic!("{problems}")).hash;
        let is_own = |source: PlanSource| is_the_plan(&Plan::compile(&source).unwrap(), &source, &hash).is_ok();
        assert!(is_own(source(own, None)) && is_own(source(own, Some(5.0))));
        let other = own.replace("127.0.0.1", "192.0.2.1");
        assert!(!is_own(source(&other, None)) && !is_own(source(&other, Some(5.0))));
    }
}
