//! What tests read out of a report.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use groundswell_coordinator::report;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;

/// The report of a run, from its JSON file.
pub(crate) type Report = report::Report;

/// The response times of a row, decoded by HdrHistogram's own code.
///
/// # Errors
/// When the row holds none.
pub(crate) fn response_histogram(row: &report::StepFigures) -> anyhow::Result<Histogram<u64>> {
    let bytes = BASE64.decode(&row.response_histogram)?;
    Deserializer::new().deserialize(&mut Cursor::new(bytes)).map_err(|error| anyhow::anyhow!("{error:?}"))
}

/// One histogram of every raw sample that agents logged into a folder, by step number: no merging, no wire.
///
/// # Errors
/// When a log can't be read.
pub(crate) fn oracle(folder: &Path) -> anyhow::Result<BTreeMap<usize, Histogram<u64>>> {
    let mut steps: BTreeMap<usize, Histogram<u64>> = BTreeMap::new();
    for file in std::fs::read_dir(folder)? {
        let path = file?.path();
        for line in std::fs::read_to_string(&path)?.lines() {
            let fields: Vec<&str> = line.split(',').collect();
            ensure!(fields.len() == 5, "{}: {line:?}", path.display());
            let histogram = match steps.entry(fields[0].parse()?) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(Histogram::new_with_bounds(1, 3_600_000_000, 3)?)
                }
            };
            histogram.record(fields[2].parse().context("response time")?)?;
        }
    }
    Ok(steps)
}
