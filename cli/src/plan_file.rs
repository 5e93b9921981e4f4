//! Reads a plan file and the data files that it names.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};
use groundswell_scenario::file::{MAX_DATA_BYTES, MAX_PLAN_BYTES};
use groundswell_scenario::{Plan, PlanSource};

use crate::Failure;

/// The plan with its source, which is what is sent to a coordinator.
pub(crate) fn load(path: &Path) -> Result<(PlanSource, Plan), Failure> {
    let source = read(path).map_err(Failure::usage)?;
    let plan = Plan::compile(&source)
        .map_err(|problems| Failure::usage(anyhow::anyhow!("the plan is invalid\n\n{problems}")))?;
    Ok((source, plan))
}

fn read(path: &Path) -> anyhow::Result<PlanSource> {
    let bytes =
        read_at_most(path, MAX_PLAN_BYTES).with_context(|| format!("can't read the plan {}", path.display()))?;
    let Ok(text) = String::from_utf8(bytes) else { bail!("{}: the plan is not UTF-8 text", path.display()) };
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut files = BTreeMap::new();
    for name in PlanSource::referenced_files(&text) {
        let content = read_at_most(&folder.join(&name), MAX_DATA_BYTES).map_err(|error| format!("{error:#}"));
        files.insert(name, content);
    }
    Ok(PlanSource { name: path.display().to_string(), text, files, search_level: None })
}

/// Reads a file up to a limit, without taking more of it into memory.
fn read_at_most(path: &Path, most: usize) -> anyhow::Result<Vec<u8>> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        bail!("it is a folder");
    }
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        bail!("it is larger than the limit of {} MiB", most >> 20);
    }
    Ok(bytes)
}
