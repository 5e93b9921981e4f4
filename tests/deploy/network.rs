//! Network policies, read as Kubernetes reads them: a connection needs a rule at both of its ends, where a policy selects
//! that end at all.

use std::collections::BTreeMap;

use anyhow::ensure;
use serde_json::Value;

use crate::objects::{self, Object};

/// Labels.
pub(crate) type Labels = BTreeMap<String, String>;

/// A pod, as far as policies look at it.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) labels: Labels,
    /// Labels of its namespace; none where it is in that of the policies.
    pub(crate) namespace: Option<Labels>,
}

/// Labels from text: `a=b,c=d`.
pub(crate) fn labels(text: &str) -> Labels {
    text.split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// May one pod open a connection to this port of another? `name` is what the port is called there.
pub(crate) fn allowed(policies: &[&Object], from: &Pod, to: &Pod, port: u64, name: &str) -> bool {
    let one_way = |direction: &str, peers: &str, here: &Pod, there: &Pod| {
        // Policies select pods of their own namespace only.
        let selecting: Vec<_> =
            policies.iter().filter(|policy| here.namespace.is_none() && applies(policy, direction, here)).collect();
        selecting.is_empty()
            || selecting.iter().any(|policy| {
                let rules = list(&policy.value["spec"][direction.to_lowercase()]);
                rules.iter().any(|rule| has_peer(&rule[peers], there) && has_port(&rule["ports"], port, name))
            })
    };
    one_way("Egress", "to", from, to) && one_way("Ingress", "from", to, from)
}

fn applies(policy: &Object, direction: &str, pod: &Pod) -> bool {
    let spec = &policy.value["spec"];
    let types = list(&spec["policyTypes"]);
    types.iter().any(|kind| kind == direction) && selects(&spec["podSelector"], &pod.labels)
}

/// No peers are all peers.
fn has_peer(peers: &Value, pod: &Pod) -> bool {
    let peers = list(peers);
    peers.is_empty()
        || peers.iter().any(|peer| {
            let in_namespace = match (&pod.namespace, peer.get("namespaceSelector")) {
                (None, None) => true,
                (None, Some(selector)) => selects(selector, &Labels::new()),
                (Some(_), None) => false,
                (Some(labels), Some(selector)) => selects(selector, labels),
            };
            // No pod selector beside one of namespaces: all pods of those. Blocks of addresses are of no pod.
            let is_pod = peer
                .get("podSelector")
                .map_or(peer.get("ipBlock").is_none(), |selector| selects(selector, &pod.labels));
            in_namespace && is_pod
        })
}

/// No ports are all ports.
fn has_port(ports: &Value, port: u64, name: &str) -> bool {
    let ports = list(ports);
    ports.is_empty() || ports.iter().any(|one| one["port"] == port || one["port"] == name)
}

/// Does a selector select these labels? An empty one does.
pub(crate) fn selects(selector: &Value, labels: &Labels) -> bool {
    let by_labels = selector["matchLabels"]
        .as_object()
        .is_none_or(|wanted| wanted.iter().all(|(key, value)| labels.get(key).map(String::as_str) == value.as_str()));
    let by_expressions = list(&selector["matchExpressions"]).iter().all(|expression| {
        let value = expression["key"].as_str().and_then(|key| labels.get(key));
        if expression["operator"] == "DoesNotExist" {
            return value.is_none();
        }
        expression["operator"] == "In"
            && value.is_some_and(|value| list(&expression["values"]).iter().any(|one| one == value.as_str()))
    });
    by_labels && by_expressions
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The reading itself, on a small example.
pub(crate) fn policies_as_kubernetes_reads_them() -> anyhow::Result<()> {
    let policies = objects::read(
        "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: closed }
spec:
  podSelector: { matchLabels: { app: a } }
  policyTypes: [Ingress, Egress]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: b-to-a }
spec:
  podSelector: { matchLabels: { app: a } }
  policyTypes: [Ingress]
  ingress:
    - from: [ { podSelector: { matchExpressions: [ { key: app, operator: In, values: [b, c] } ] } } ]
      ports: [ { port: 80 } ]
    - from: [ { namespaceSelector: { matchLabels: { people: 'true' } } } ]
",
    )?;
    let policies: Vec<&Object> = policies.iter().collect();
    let pod = |app: &str| Pod { labels: labels(&format!("app={app}")), namespace: None };
    let elsewhere = |namespace: &str| Pod { labels: labels("app=b"), namespace: Some(labels(namespace)) };
    let table = [
        (pod("b"), pod("a"), 80, true),
        (pod("c"), pod("a"), 80, true),
        (pod("b"), pod("a"), 81, false),
        (pod("d"), pod("a"), 80, false),
        // Nothing selects b.
        (pod("d"), pod("b"), 80, true),
        // No rule lets a out.
        (pod("a"), pod("b"), 80, false),
        (elsewhere("people=true"), pod("a"), 9, true),
        (elsewhere("people=false"), pod("a"), 80, false),
    ];
    for (from, to, port, wanted) in table {
        ensure!(allowed(&policies, &from, &to, port, "") == wanted, "{from:?} to {to:?}, port {port}");
    }
    Ok(())
}
