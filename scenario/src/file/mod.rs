//! The plan file: from YAML text to a [`Plan`], or every problem at once.
//!
//! # Layout
//! - `node`: YAML as a tree in which every value knows its place
//! - [`problem`]: what is wrong, where, and what to do
//! - `shape`: the table of every object and key of the plan file; decoder and JSON Schema both follow it
//! - `reader`: reads values out of the tree and collects problems
//! - `whole`, `http`, `load`, `flow`, `body`, `expect`, `data`, `threshold`, `compare`: the plan, part by part
//! - [`template`]: names and syntax of templates; `exposed`: those that must not use secrets
//! - [`schema`]: the JSON Schema

mod body;
mod compare;
mod data;
mod expect;
mod exposed;
mod flow;
mod http;
mod load;
mod node;
pub mod problem;
mod reader;
pub mod schema;
mod shape;
mod socket;
pub mod template;
mod threshold;
mod value;
mod whole;

use crate::{Plan, PlanSource, Problems};

/// Largest plan file, in bytes.
pub const MAX_PLAN_BYTES: usize = 1 << 20;
/// Largest data file, in bytes.
pub const MAX_DATA_BYTES: usize = 32 << 20;

impl Plan {
    /// Compiles a plan from its source.
    ///
    /// # Errors
    /// Every problem of the source, in the order of the file.
    pub fn compile(source: &PlanSource) -> Result<Self, Problems> {
        whole::compile(source)
    }
}

impl PlanSource {
    /// Paths of the files that a plan names, as written in it. A plan with problems names what can be read of it.
    pub fn referenced_files(text: &str) -> Vec<String> {
        let Ok(root) = node::parse(text) else { return Vec::new() };
        let mut paths: Vec<&str> = Vec::new();
        let sets = root.get("data").map(node::Node::entries).unwrap_or_default();
        paths.extend(sets.iter().filter_map(|(_, set)| set.get("csv")?.as_text()));
        let tls = root.get("http").and_then(|http| http.get("tls"));
        paths.extend(["ca", "certificate", "key"].iter().filter_map(|key| tls?.get(key)?.as_text()));
        let scenarios = root.get("scenarios").map(node::Node::entries).unwrap_or_default();
        scenarios.iter().for_each(|(_, scenario)| add_files_of_flow(scenario.get("flow"), &mut paths));
        paths.into_iter().map(str::to_owned).collect()
    }
}

fn add_files_of_flow<'n>(flow: Option<&'n node::Node>, paths: &mut Vec<&'n str>) {
    let Some(node::Value::List(steps)) = flow.map(|node| &node.value) else { return };
    for step in steps {
        paths.extend(step.get("file").and_then(node::Node::as_text));
        paths.extend(step.get("send").and_then(|send| send.get("file")?.as_text()));
        paths.extend(step.get("stream").and_then(|stream| stream.get("file")?.as_text()));
        let parts = step.get("multipart").map(node::Node::entries).unwrap_or_default();
        paths.extend(parts.iter().filter_map(|(_, part)| part.get("file")?.as_text()));
        add_files_of_flow(step.get("flow"), paths);
    }
}
