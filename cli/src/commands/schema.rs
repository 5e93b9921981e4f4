//! `groundswell schema`

use crate::{Exit, Failure, Outcome, output};

pub(crate) fn run() -> Outcome {
    let schema = groundswell_scenario::file::schema::json_schema();
    let text = serde_json::to_string_pretty(&schema).map_err(Failure::incomplete)?;
    output::print(&format!("{text}\n"));
    Ok(Exit::Success)
}
