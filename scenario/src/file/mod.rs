//! The plan file: from YAML text to a [`Plan`], or every problem at once.
//!
//! # Layout
//! - `node`: YAML as a tree in which every value knows its place
//! - [`problem`]: what is wrong, where, and what to do
//! - `shape`: the table of every object and key of the plan file; decoder and JSON Schema both follow it
//! - `reader`: reads values out of the tree and collects problems
//! - `whole`, `load`, `flow`, `expect`, `data`, `threshold`: the plan, part by part
//! - [`template`]: names and syntax of templates
//! - [`schema`]: the JSON Schema

mod data;
mod expect;
mod flow;
mod load;
mod node;
pub mod problem;
mod reader;
pub mod schema;
mod shape;
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
    /// Paths of the data files that a plan names, as written in it. A plan with problems names what can be read of it.
    pub fn referenced_files(text: &str) -> Vec<String> {
        let Ok(root) = node::parse(text) else { return Vec::new() };
        let sets = root.get("data").map(node::Node::entries).unwrap_or_default();
        let paths = sets.iter().filter_map(|(_, set)| set.get("csv")?.as_text().map(str::to_owned));
        paths.collect()
    }
}
