//! What holds for any set of objects that makes a cluster of groundswell, whoever rendered it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::commands;
use crate::network::{Labels, Pod, allowed, labels, selects};
use crate::objects::Object;

/// Secrets that people make, with their keys; `deploy/kubernetes/secrets.sh` makes these.
const SECRETS: [(&str, &[&str]); 3] = [
    ("groundswell-coordinator", &["ca.pem", "ca.key", "join", "run", "view", "admin"]),
    ("groundswell-agent", &["ca.pem", "join"]),
    ("groundswell-run", &["ca.pem", "run"]),
];

/// Each rule on each object.
///
/// # Errors
/// Names the object and the rule.
pub(crate) fn hold(objects: &[Object]) -> anyhow::Result<()> {
    for object in objects {
        let rule = || object.id();
        if let Some(template) = object.template() {
            selects_its_pods(object, template).with_context(rule)?;
            is_restricted(&template["spec"]).with_context(rule)?;
            has_what_it_mounts(&template["spec"], objects).with_context(rule)?;
            container(&template["spec"]["containers"][0]).with_context(rule)?;
            match object.component() {
                "agent" => agent(&template["spec"], objects).with_context(rule)?,
                "coordinator" => coordinator(&object.value["spec"], objects).with_context(rule)?,
                "run" => run(&object.value["spec"]).with_context(rule)?,
                _ => {}
            }
        }
        match object.kind() {
            "Service" => service(object, objects).with_context(rule)?,
            "PodDisruptionBudget" => budget(object, objects).with_context(rule)?,
            _ => {}
        }
    }
    Ok(())
}

/// It counts pods, and none of a Job: those have no number of replicas, and where one is selected nothing is evicted at all.
fn budget(object: &Object, objects: &[Object]) -> anyhow::Result<()> {
    let selector = &object.value["spec"]["selector"];
    ensure!(templates(objects).any(|template| selects(selector, &labels_of(template))), "it selects no pods");
    for template in templates(objects) {
        let mut of_job = labels_of(template);
        of_job.insert("batch.kubernetes.io/job-name".to_owned(), "any".to_owned());
        ensure!(!selects(selector, &of_job), "it selects pods of a Job");
    }
    Ok(())
}

/// Who reaches whom.
///
/// # Errors
/// Names the connection.
pub(crate) fn network(objects: &[Object]) -> anyhow::Result<()> {
    let policies: Vec<&Object> = objects.iter().filter(|object| object.kind() == "NetworkPolicy").collect();
    ensure!(!policies.is_empty(), "there is no network policy");
    let pod = |component: &str| -> Pod {
        let own = objects.iter().find(|object| object.template().is_some() && object.component() == component);
        let of_template = own.and_then(Object::template).map(labels_of);
        // A part that is not in this set looks as the others do.
        let of_other = || {
            let mut labels = templates(objects).next().map(labels_of).unwrap_or_default();
            labels.insert("app.kubernetes.io/component".to_owned(), component.to_owned());
            labels
        };
        Pod { labels: of_template.unwrap_or_else(of_other), namespace: None }
    };
    let (coordinator, agent, run) = (pod("coordinator"), pod("agent"), pod("run"));
    let here = |text| Pod { labels: labels(text), namespace: None };
    let there = |text, namespace| Pod { labels: labels(text), namespace: Some(labels(namespace)) };
    let dns = there("k8s-app=kube-dns", "kubernetes.io/metadata.name=kube-system");
    let target = there("app=shop,groundswell/target=true", "kubernetes.io/metadata.name=shop");
    let stranger = there("app=shop", "kubernetes.io/metadata.name=shop");
    let people = there("app=ingress", "groundswell/access=true");
    let table = [
        ("an agent joins", &agent, &coordinator, 7710, true),
        ("an agent loads its target", &agent, &target, 443, true),
        ("an agent loads what is no target", &agent, &stranger, 443, false),
        ("an agent reaches another port of the coordinator", &agent, &coordinator, 22, false),
        ("an agent reaches an agent", &agent, &agent, 7710, false),
        ("a run submits its plan", &run, &coordinator, 7710, true),
        ("a run reaches a target", &run, &target, 443, false),
        ("people come through", &people, &coordinator, 7710, true),
        ("a stranger comes through", &stranger, &coordinator, 7710, false),
        ("a stranger of this namespace comes through", &here("app=shop"), &coordinator, 7710, false),
        ("a target calls back", &target, &coordinator, 7710, false),
        ("anybody reaches an agent", &people, &agent, 7710, false),
        ("the coordinator dials an agent", &coordinator, &agent, 7710, false),
        ("the coordinator dials a target", &coordinator, &target, 443, false),
        ("an agent looks up a name", &agent, &dns, 53, true),
        ("the coordinator looks up a name", &coordinator, &dns, 53, true),
        ("a run looks up a name", &run, &dns, 53, true),
        ("an agent reaches another port of the name server", &agent, &dns, 80, false),
    ];
    for (what, from, to, port, wanted) in table {
        let name = if port == 7710 { "https" } else { "" };
        ensure!(allowed(&policies, from, to, port, name) == wanted, "{what}: that should be {wanted}");
    }
    Ok(())
}

fn templates(objects: &[Object]) -> impl Iterator<Item = &Value> {
    objects.iter().filter_map(Object::template)
}

fn labels_of(template: &Value) -> Labels {
    let labels = template["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    labels.into_iter().filter_map(|(key, value)| Some((key, value.as_str()?.to_owned()))).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A Job finds its pods by itself.
fn selects_its_pods(object: &Object, template: &Value) -> anyhow::Result<()> {
    if object.kind() == "Job" {
        return Ok(());
    }
    let selector = &object.value["spec"]["selector"];
    ensure!(selector["matchLabels"].as_object().is_some_and(|labels| !labels.is_empty()), "it has no selector");
    ensure!(selects(selector, &labels_of(template)), "its selector is not that of its pods");
    Ok(())
}

/// Pod Security Standards, level "restricted", and a root that can't be written.
fn is_restricted(pod: &Value) -> anyhow::Result<()> {
    let of_pod = &pod["securityContext"];
    ensure!(of_pod["runAsNonRoot"] == true && of_pod["runAsUser"] == 65532, "its user is not its own: {of_pod}");
    ensure!(of_pod["seccompProfile"]["type"] == "RuntimeDefault", "no seccomp profile");
    ensure!(pod["automountServiceAccountToken"] == false, "it has a token of Kubernetes' API");
    // Otherwise a Service called groundswell would be in its variables.
    ensure!(pod["enableServiceLinks"] == false, "it has variables of Services");
    for shared in ["hostNetwork", "hostPID", "hostIPC"] {
        ensure!(pod.get(shared).is_none(), "{shared}");
    }
    for sysctl in list(&of_pod["sysctls"]) {
        ensure!(sysctl["name"] == "net.ipv4.ip_local_port_range", "{sysctl} is not among those that are safe");
    }
    for container in list(&pod["containers"]) {
        let own = &container["securityContext"];
        ensure!(own["allowPrivilegeEscalation"] == false && own["readOnlyRootFilesystem"] == true, "{own}");
        ensure!(own["capabilities"]["drop"] == serde_json::json!(["ALL"]), "{own}");
        ensure!(own.get("privileged").is_none() && own["capabilities"].get("add").is_none(), "{own}");
    }
    for volume in list(&pod["volumes"]) {
        ensure!(volume.get("hostPath").is_none(), "{volume} is the node's");
    }
    Ok(())
}

/// Every mount has a volume, every volume a mount, and what is in it is there.
fn has_what_it_mounts(pod: &Value, objects: &[Object]) -> anyhow::Result<()> {
    let names = |list: &[Value]| -> BTreeSet<String> {
        list.iter().filter_map(|one| one["name"].as_str().map(str::to_owned)).collect()
    };
    let mounted: BTreeSet<String> =
        list(&pod["containers"]).iter().flat_map(|one| names(list(&one["volumeMounts"]))).collect();
    // The claims of a StatefulSet are volumes too.
    let claims: BTreeSet<String> = objects
        .iter()
        .filter(|object| object.template().is_some_and(|template| std::ptr::eq(&template["spec"], pod)))
        .flat_map(|object| list(&object.value["spec"]["volumeClaimTemplates"]))
        .filter_map(|claim| claim["metadata"]["name"].as_str().map(str::to_owned))
        .collect();
    let volumes: BTreeSet<String> = names(list(&pod["volumes"])).union(&claims).cloned().collect();
    ensure!(mounted == volumes, "it mounts {mounted:?} and has {volumes:?}");
    for volume in list(&pod["volumes"]) {
        if let Some(secret) = volume.get("secret") {
            let name = secret["secretName"].as_str().unwrap_or_default();
            let (_, keys) =
                SECRETS.iter().find(|(known, _)| *known == name).with_context(|| format!("secret {name}?"))?;
            let wanted: BTreeSet<&str> =
                list(&secret["items"]).iter().filter_map(|item| item["key"].as_str()).collect();
            ensure!(wanted.iter().all(|key| keys.contains(key)), "{name} has {keys:?}, not {wanted:?}");
            // Readable for the group, which is the pod's fsGroup, and for nobody else.
            ensure!(secret["defaultMode"] == 0o440, "{name}: mode {}", secret["defaultMode"]);
        }
        if let Some(map) = volume.get("configMap") {
            let there = objects.iter().any(|one| one.kind() == "ConfigMap" && one.name() == map["name"]);
            ensure!(there, "there is no ConfigMap {}", map["name"]);
        }
    }
    Ok(())
}

/// Arguments and variables are groundswell's; what it may use is said.
fn container(container: &Value) -> anyhow::Result<()> {
    let arguments: Vec<String> =
        list(&container["args"]).iter().filter_map(|one| one.as_str().map(str::to_owned)).collect();
    ensure!(container.get("command").is_none(), "the image has a command of its own");
    commands::accepted(&arguments)?;
    for variable in list(&container["env"]) {
        let name = variable["name"].as_str().unwrap_or_default();
        if name.starts_with("GROUNDSWELL") {
            commands::reads(&arguments, name)?;
        }
    }
    let resources = &container["resources"];
    for (kind, what) in [("requests", "cpu"), ("requests", "memory"), ("limits", "memory")] {
        ensure!(resources[kind].get(what).is_some(), "{kind} say nothing of {what}");
    }
    Ok(())
}

fn variables(container: &Value) -> BTreeMap<&str, &Value> {
    list(&container["env"]).iter().filter_map(|one| Some((one["name"].as_str()?, one))).collect()
}

fn agent(pod: &Value, objects: &[Object]) -> anyhow::Result<()> {
    let container = &pod["containers"][0];
    ensure!(container.get("ports").is_none() && container.get("livenessProbe").is_none(), "agents listen on nothing");
    ensure!(pod["terminationGracePeriodSeconds"].as_u64() >= Some(60), "no time to hand its load over");
    let apart = &pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"];
    ensure!(list(apart).len() == 2, "agents keep away from each other and from targets: {apart}");
    let (requests, limits) = (&container["resources"]["requests"], &container["resources"]["limits"]);
    ensure!(requests == limits, "its CPUs are not its own: {requests} {limits}");
    let whole = requests["cpu"].as_str().is_some_and(|cpus| cpus.parse::<u32>().is_ok_and(|cpus| cpus > 0));
    ensure!(whole, "{} are no whole CPUs", requests["cpu"]);
    let variables = variables(container);
    let workers = variables.get("GROUNDSWELL_WORKERS").context("no number of workers")?;
    ensure!(workers["valueFrom"]["resourceFieldRef"]["resource"] == "requests.cpu", "{workers}");
    let name = variables.get("GROUNDSWELL_NAME").context("no name")?;
    ensure!(name["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name", "{name}");
    coordinator_is_there(&variables, objects)
}

/// The coordinator's URL is that of a Service, where that is in the same set.
fn coordinator_is_there(variables: &BTreeMap<&str, &Value>, objects: &[Object]) -> anyhow::Result<()> {
    let url = variables.get("GROUNDSWELL_COORDINATOR").context("no coordinator")?["value"].as_str().unwrap_or_default();
    let mut services = objects.iter().filter(|object| object.kind() == "Service").peekable();
    if services.peek().is_some() {
        ensure!(services.any(|service| url == format!("https://{}:7710", service.name())), "{url} is no Service here");
    }
    ensure!(url.starts_with("https://"), "{url} is not encrypted");
    Ok(())
}

fn coordinator(spec: &Value, objects: &[Object]) -> anyhow::Result<()> {
    ensure!(spec["replicas"] == 1, "two coordinators on one store refuse each other");
    let headless = objects.iter().find(|object| object.kind() == "Service" && object.name() == spec["serviceName"]);
    ensure!(headless.is_some_and(|service| service.value["spec"]["clusterIP"] == "None"), "no headless Service");
    let container = &spec["template"]["spec"]["containers"][0];
    for (probe, path) in [("startupProbe", "/health"), ("livenessProbe", "/health"), ("readinessProbe", "/ready")] {
        let get = &container[probe]["httpGet"];
        ensure!(get["path"] == path && get["scheme"] == "HTTPS" && get["port"] == "https", "{probe}: {get}");
    }
    let variables = variables(container);
    let names = variables.get("GROUNDSWELL_NAMES").context("no names")?["value"].as_str().unwrap_or_default();
    for service in objects.iter().filter(|object| object.kind() == "Service" && object.component() == "coordinator") {
        let is_reached = service.value["spec"].get("clusterIP").is_none();
        let named = names.split(',').any(|name| name == service.name());
        ensure!(!is_reached || named, "{} is not in its certificate: {names}", service.name());
    }
    keeps_what_changes(container, &variables)?;
    let tokens = variables.get("GROUNDSWELL_TOKENS").context("no tokens")?["value"].as_str().unwrap_or_default();
    ensure!(tokens.split(',').count() == 4, "{tokens}");
    Ok(())
}

/// Revocations and the audit log outlive the pod: they are in the access folder or, where that is a Secret, in that of the
/// data, and one of the two is on the claim.
fn keeps_what_changes(container: &Value, variables: &BTreeMap<&str, &Value>) -> anyhow::Result<()> {
    let is_on_claim = |variable: &str| {
        let path = variables.get(variable).and_then(|one| one["value"].as_str());
        let mounts = list(&container["volumeMounts"]);
        mounts
            .iter()
            .any(|one| one["name"] == "data" && one["mountPath"].as_str() == path && one.get("readOnly").is_none())
    };
    let keeps = is_on_claim("GROUNDSWELL_DATA_DIR") || is_on_claim("GROUNDSWELL_ACCESS");
    ensure!(keeps, "nothing keeps revocations and the audit log: {}", container["volumeMounts"]);
    Ok(())
}

fn run(spec: &Value) -> anyhow::Result<()> {
    ensure!(spec["backoffLimit"] == 0, "a verdict is asked for again");
    ensure!(spec["template"]["spec"]["restartPolicy"] == "Never", "a verdict is asked for again");
    Ok(())
}

/// It leads to pods, at a port that they have.
fn service(object: &Object, objects: &[Object]) -> anyhow::Result<()> {
    let spec = &object.value["spec"];
    let selector = serde_json::json!({ "matchLabels": spec["selector"] });
    let led_to: Vec<&Value> = templates(objects).filter(|template| selects(&selector, &labels_of(template))).collect();
    ensure!(led_to.len() == 1, "it leads to {} kinds of pods", led_to.len());
    let of_container = list(&led_to[0]["spec"]["containers"][0]["ports"]);
    for port in list(&spec["ports"]) {
        let there =
            of_container.iter().any(|one| one["name"] == port["targetPort"] && one["containerPort"] == port["port"]);
        ensure!(there, "{port} leads to no port of {of_container:?}");
    }
    Ok(())
}
