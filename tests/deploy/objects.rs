//! Objects of Kubernetes, read into the types of its own API, in which nothing may stand that those don't have.

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// One object.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    /// All of it.
    pub(crate) value: Value,
}

impl Object {
    /// Its kind.
    pub(crate) fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap_or_default()
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.value["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// Kind and name.
    pub(crate) fn id(&self) -> String {
        format!("{}/{}", self.kind(), self.name())
    }

    /// What its pods are made from, if it makes some.
    pub(crate) fn template(&self) -> Option<&Value> {
        let makes_pods = matches!(self.kind(), "Deployment" | "StatefulSet" | "Job");
        makes_pods.then(|| &self.value["spec"]["template"])
    }

    /// The label that says what part of groundswell it is.
    pub(crate) fn component(&self) -> &str {
        self.value["metadata"]["labels"]["app.kubernetes.io/component"].as_str().unwrap_or_default()
    }
}

/// The objects of a text, each as Kubernetes knows it.
///
/// # Errors
/// Names the object, and what Kubernetes would ignore or refuse.
pub(crate) fn read(text: &str) -> anyhow::Result<Vec<Object>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)?;
    let objects: Vec<Object> =
        documents.into_iter().filter(|value| !value.is_null()).map(|value| Object { value }).collect();
    ensure!(!objects.is_empty(), "there is no object in it");
    for object in &objects {
        known(object).with_context(|| object.id())?;
    }
    Ok(objects)
}

fn known(object: &Object) -> anyhow::Result<()> {
    match object.kind() {
        "ConfigMap" => strict::<ConfigMap>(object),
        "Deployment" => strict::<Deployment>(object),
        "Job" => strict::<Job>(object),
        "Namespace" => strict::<Namespace>(object),
        "NetworkPolicy" => strict::<NetworkPolicy>(object),
        "PodDisruptionBudget" => strict::<PodDisruptionBudget>(object),
        "Secret" => strict::<Secret>(object),
        "Service" => strict::<Service>(object),
        "StatefulSet" => strict::<StatefulSet>(object),
        other => bail!("{other:?}: which type is that?"),
    }
}

/// The types ignore what they don't know, as Kubernetes does; here that is an error.
fn strict<T: DeserializeOwned>(object: &Object) -> anyhow::Result<()> {
    let mut unknown = Vec::new();
    serde_ignored::deserialize::<_, _, T>(&object.value, |path| unknown.push(path.to_string()))?;
    ensure!(unknown.is_empty(), "Kubernetes has no such fields: {unknown:?}");
    Ok(())
}

/// The values of a YAML file that is none of Kubernetes' own.
///
/// # Errors
/// When it is no YAML.
pub(crate) fn yaml<T: for<'de> Deserialize<'de>>(text: &str) -> anyhow::Result<T> {
    Ok(serde_saphyr::from_str(text)?)
}

/// What this check is for: a word that is misspelt anywhere.
pub(crate) fn unknown_fields_are_found() -> anyhow::Result<()> {
    let good = "
apiVersion: v1
kind: Service
metadata: { name: a }
spec: { ports: [ { port: 1, targetPort: x } ] }
";
    ensure!(read(good)?.len() == 1, "a good one");
    for (from, to, named) in [
        ("targetPort", "targetport", "targetport"),
        ("name: a", "nam: a", "nam"),
        ("port: 1", "port: one", "one"),
        ("kind: Service", "kind: Servic", "Servic"),
        ("spec:", "specs:", "specs"),
    ] {
        let Err(error) = read(&good.replace(from, to)) else { bail!("{to} was not found") };
        ensure!(format!("{error:?}").contains(named), "{to}: {error:?}");
    }
    Ok(())
}
