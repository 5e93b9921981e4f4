//! The manifests and the chart make the same objects, but for what has a reason to differ.

use std::collections::BTreeMap;
use std::ffi::OsString;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::kubernetes::chart;
use crate::objects::{self, Object};
use crate::tools::{Tool, deploy};

/// A chart does not make the namespace that it is installed in, and has no target: it is for one's own.
const NOT_OF_THE_CHART: [&str; 4] = [
    "ConfigMap/groundswell-agent",
    "Deployment/groundswell-target",
    "NetworkPolicy/groundswell-target",
    "Service/groundswell-target",
];
/// Labels by which Helm knows its own, and which tell its releases from each other.
const OF_HELM: [&str; 4] =
    ["app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "app.kubernetes.io/version", "helm.sh/chart"];
/// What a chart writes down, and kustomize takes from a ConfigMap or has Kubernetes put together.
const WRITTEN_ANOTHER_WAY: [&str; 3] = ["GROUNDSWELL_ALLOW", "GROUNDSWELL_NAMES", "POD_NAMESPACE"];

/// Compares all that the demo and the chart with a plan have in common.
pub(crate) fn kustomize_and_helm() -> anyhow::Result<()> {
    let path = deploy("kubernetes/demo");
    let manifests = objects::read(&Tool::Kubectl.prints(&[OsString::from("kustomize"), path.into()])?)?;
    let (manifests, chart) = (all(manifests), all(objects::read(&chart(&[])?)?));
    for (id, of_chart) in &chart {
        let of_manifests = manifests.get(id).with_context(|| format!("only the chart has {id}"))?;
        let same = of_manifests == of_chart;
        ensure!(same, "{id} differs:\n{of_manifests:#}\n in the manifests, and in the chart\n{of_chart:#}");
    }
    let more: Vec<&String> = manifests.keys().filter(|id| !chart.contains_key(*id)).collect();
    ensure!(more == NOT_OF_THE_CHART, "only the manifests have {more:?}");
    Ok(())
}

/// Specs by kind and name, in one spelling.
fn all(objects: Vec<Object>) -> BTreeMap<String, Value> {
    let objects = objects.into_iter().filter(|object| object.kind() != "Namespace");
    objects
        .map(|object| {
            let mut spec = object.value["spec"].clone();
            spell(&mut spec);
            (without_hash(&object.id()), spec)
        })
        .collect()
}

fn spell(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            OF_HELM.iter().for_each(|label| drop(fields.remove(*label)));
            // For an image with a version, what the chart says is what Kubernetes takes by default.
            if fields.get("imagePullPolicy") == Some(&json!("IfNotPresent")) {
                fields.remove("imagePullPolicy");
            }
            if let Some(Value::Array(variables)) = fields.get_mut("env") {
                variables.retain(|one| !WRITTEN_ANOTHER_WAY.iter().any(|name| one["name"] == *name));
            }
            if let Some(Value::Array(arguments)) = fields.get_mut("args") {
                let words = arguments.iter().filter_map(Value::as_str).flat_map(|word| word.split('='));
                *arguments = words.map(Value::from).collect();
            }
            if let Some(Value::String(name)) = fields.get_mut("configMap").and_then(|map| map.get_mut("name")) {
                *name = without_hash(name);
            }
            fields.values_mut().for_each(spell);
        }
        Value::Array(values) => values.iter_mut().for_each(spell),
        _ => {}
    }
}

/// Names of ConfigMaps end with a hash that kustomize makes of what is in them.
fn without_hash(name: &str) -> String {
    let is_hash = |end: &str| end.len() == 10 && end.chars().any(|one| one.is_ascii_digit());
    name.rsplit_once('-').filter(|(_, end)| is_hash(end)).map_or(name, |(start, _)| start).to_owned()
}
