//! The manifests, what `kubectl kustomize` makes of them, and what `helm` makes of the chart.

use std::collections::BTreeSet;
use std::ffi::OsString;

use anyhow::{Context, ensure};
use groundswell_scenario::{Plan, PlanSource};
use serde::Deserialize;

use crate::commands;
use crate::objects::{self, Object};
use crate::rules;
use crate::tools::{Tool, deploy};

/// The folders that people apply.
const FOLDERS: [&str; 4] = ["base", "run", "demo", "agents-job"];

#[derive(Deserialize)]
struct Kustomization {
    resources: Vec<String>,
}

fn kustomization(folder: &str) -> anyhow::Result<Kustomization> {
    let file = deploy(&format!("kubernetes/{folder}/kustomization.yaml"));
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    objects::yaml(&text)
}

fn manifests(folder: &str) -> anyhow::Result<Vec<Object>> {
    let mut all = Vec::new();
    for resource in kustomization(folder)?.resources.iter().filter(|resource| resource.ends_with(".yaml")) {
        let file = deploy(&format!("kubernetes/{folder}/{resource}"));
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        all.extend(objects::read(&text).with_context(|| file.display().to_string())?);
    }
    Ok(all)
}

/// As they stand in the repository, without any tool. What kustomize makes (ConfigMaps) is not there yet.
pub(crate) fn every_manifest() -> anyhow::Result<()> {
    let mut of_demo = Vec::new();
    for folder in FOLDERS {
        let objects = manifests(folder)?;
        ensure!(!objects.is_empty(), "{folder} is empty");
        of_demo.extend(objects.into_iter().filter(|_| folder != "agents-job"));
    }
    let maps = objects::read(
        "{ apiVersion: v1, kind: ConfigMap, metadata: { name: groundswell-plan }, data: { plan.yaml: '' } }",
    )?;
    of_demo.extend(maps);
    rules::hold(&of_demo)?;
    rules::network(&of_demo)
}

/// A file that nobody lists is one that nobody applies.
pub(crate) fn kustomizations_list_every_file() -> anyhow::Result<()> {
    for folder in FOLDERS {
        let listed: BTreeSet<String> = kustomization(folder)?.resources.into_iter().collect();
        for file in std::fs::read_dir(deploy(&format!("kubernetes/{folder}")))? {
            let name = file?.file_name().to_string_lossy().into_owned();
            let is_listed = listed.contains(&name) || ["kustomization.yaml", "plan.yaml"].contains(&name.as_str());
            ensure!(is_listed, "{folder}/kustomization.yaml does not list {name}");
        }
    }
    Ok(())
}

/// As they are applied.
pub(crate) fn kustomize() -> anyhow::Result<()> {
    let rendered = |folder: &str| -> anyhow::Result<Vec<Object>> {
        let path = deploy(&format!("kubernetes/{folder}"));
        objects::read(&Tool::Kubectl.prints(&[OsString::from("kustomize"), path.into()])?)
    };
    for folder in FOLDERS {
        let objects = rendered(folder)?;
        rules::hold(&objects).with_context(|| folder.to_owned())?;
        for object in objects.iter().filter(|object| object.kind() != "Namespace") {
            ensure!(object.value["metadata"]["namespace"] == "groundswell", "{folder}: {}", object.id());
        }
        for object in objects.iter().filter_map(Object::template) {
            let image = &object["spec"]["containers"][0]["image"];
            ensure!(*image == format!("groundswell:{}", env!("CARGO_PKG_VERSION")), "{folder}: {image}");
        }
    }
    rules::network(&rendered("base")?)?;
    let demo = rendered("demo")?;
    rules::network(&demo)?;
    // The demo's agents may reach its target, which has the label that their network policy looks for.
    let allow =
        demo.iter().find(|object| object.kind() == "ConfigMap" && object.name().starts_with("groundswell-agent"));
    let allow =
        allow.context("no ConfigMap for agents")?.value["data"]["allow"].as_str().unwrap_or_default().to_owned();
    ensure!(allow == "groundswell-target:8088", "{allow}");
    let target = demo.iter().find(|object| object.kind() == "Deployment" && object.component() == "target");
    let label = &target.context("no target")?.value["spec"]["template"]["metadata"]["labels"]["groundswell/target"];
    ensure!(label == "true", "{label}");
    Ok(())
}

/// Renders the chart with these values.
///
/// # Errors
/// What helm says.
pub(crate) fn chart(values: &[&str]) -> anyhow::Result<String> {
    let mut arguments: Vec<OsString> = ["template", "groundswell"].into_iter().map(OsString::from).collect();
    arguments.push(deploy("helm/groundswell").into());
    arguments.extend(["--namespace", "load", "--kube-version", "1.33.0"].map(OsString::from));
    for value in values {
        arguments.extend([OsString::from("--set"), OsString::from(value)]);
    }
    let mut plan = OsString::from("run.plan=");
    plan.push(deploy("kubernetes/run/plan.yaml"));
    arguments.extend([OsString::from("--set-file"), plan]);
    Tool::Helm.prints(&arguments)
}

/// Every switch of the chart, in some combinations.
pub(crate) fn helm() -> anyhow::Result<()> {
    Tool::Helm.prints(&[OsString::from("lint"), "--strict".into(), deploy("helm/groundswell").into()])?;
    let plain = objects::read(&chart(&[])?)?;
    rules::hold(&plain)?;
    rules::network(&plain)?;
    let kinds: BTreeSet<&str> = plain.iter().map(Object::kind).collect();
    let wanted = ["ConfigMap", "Deployment", "Job", "NetworkPolicy", "PodDisruptionBudget", "Service", "StatefulSet"];
    ensure!(kinds == BTreeSet::from(wanted), "{kinds:?}");
    let combinations: [&[&str]; 3] = [
        &["agents.kind=Job", "agents.leaveAfter=10m", "agents.labels.zone=eu", "agents.cpus=4"],
        &[
            "coordinator.postgresSecret=pg",
            "coordinator.keep=3",
            "coordinator.keepDays=9",
            "coordinator.otlp=http://c:4317",
        ],
        &[
            "agents.allow={a.example.com:443,10.0.0.0/8}",
            "agents.maxRate=2.5",
            "agents.maxUsers=3000000",
            "agents.onePerNode=true",
        ],
    ];
    for values in combinations {
        let objects = objects::read(&chart(values)?).with_context(|| format!("{values:?}"))?;
        rules::hold(&objects).with_context(|| format!("{values:?}"))?;
        rules::network(&objects).with_context(|| format!("{values:?}"))?;
    }
    let open = objects::read(&chart(&["networkPolicy.enabled=false"])?)?;
    ensure!(open.iter().all(|object| object.kind() != "NetworkPolicy"), "policies that were switched off");
    let text = chart(&["agents.maxUsers=3000000", "agents.allow={a:1,b:2}"])?;
    for said in ["value: \"3000000\"", "value: \"a:1,b:2\"", "image: groundswell:0.1.0"] {
        ensure!(text.contains(said), "{said} is not in the chart's objects");
    }
    Ok(())
}

/// A value that is misspelt does not go by unnoticed.
pub(crate) fn helm_refuses() -> anyhow::Result<()> {
    for (value, named) in [
        ("agent.replicas=3", "agent"),
        ("agents.cpus=half", "cpus"),
        ("agents.kind=DaemonSet", "kind"),
        ("networkPolicy.enable=true", "enable"),
    ] {
        let refused = chart(&[value]).err().with_context(|| format!("{value} was taken"))?;
        ensure!(format!("{refused:#}").contains(named), "{value}: {refused:#}");
    }
    Ok(())
}

/// What the guide runs in a pod is a command, and the pod is there.
pub(crate) fn guide_runs_in_pods() -> anyhow::Result<()> {
    let guide = std::fs::read_to_string(deploy("../docs/deploy/kubernetes.md"))?;
    let calls: Vec<&str> = guide.lines().filter_map(|line| Some(line.split_once(" exec ")?.1)).collect();
    ensure!(calls.iter().any(|call| call.contains("certs revoke ")), "the guide turns no agent out: {calls:?}");
    let base = manifests("base")?;
    let set = base.iter().find(|object| object.kind() == "StatefulSet").context("no StatefulSet")?;
    for call in calls {
        let (pod, words) = call.split_once(" -- /groundswell ").context("no command of the image")?;
        ensure!(pod == format!("{}-0", set.name()), "{pod} is no pod of {}", set.id());
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        commands::accepted(&words)?;
        for variable in ["GROUNDSWELL_ACCESS", "GROUNDSWELL_DATA_DIR"] {
            commands::reads(&words, variable)?;
        }
    }
    Ok(())
}

/// The plans that are deployed with all of this.
pub(crate) fn plans_are_valid() -> anyhow::Result<()> {
    for name in ["kubernetes/run/plan.yaml", "compose/plan.yaml"] {
        let text = std::fs::read_to_string(deploy(name))?;
        let source = PlanSource { name: name.to_owned(), text, files: Default::default(), search_level: None };
        let plan = Plan::compile(&source);
        ensure!(plan.is_ok(), "{name}: {:?}", plan.err());
    }
    Ok(())
}
