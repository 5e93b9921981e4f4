//! Archives of runs that fit together but for what an input changes in them.

use std::collections::BTreeMap;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use groundswell_scenario::PlanSource;
use serde_json::Value;

/// The file that a plain text stands for. Where the report and the histograms are JSON and not text, they are made what the
/// file has in their place, and the plan's hash is made right: no fuzzer gets through DEFLATE, base64 and a hash.
pub(super) fn packed(text: &[u8]) -> Vec<u8> {
    let Ok(mut archive) = serde_json::from_slice::<Value>(text) else { return zipped(text) };
    let id = archive["id"].clone();
    let hash = hash(&archive["plan"]);
    if let (Some(hash), Some(plan)) = (&hash, archive["plan"].as_object_mut()) {
        plan.insert("hash".to_owned(), hash.as_str().into());
    }
    if let Some(answer) = archive["answer"].as_object_mut() {
        if let Some(report) = answer.get_mut("report").filter(|report| report.is_object()) {
            if let (Some(run), Some(hash)) = (report["run"].as_object_mut(), hash) {
                run.extend([("id".to_owned(), id), ("plan_hash".to_owned(), hash.into())]);
            }
            *report = report.to_string().into();
        }
        if let Some(histograms) = answer.get_mut("distributions").filter(|histograms| histograms.is_object()) {
            let mut out = ZlibEncoder::new(Vec::new(), Compression::fast());
            // Into memory: this can't fail.
            let _ = out.write_all(histograms.to_string().as_bytes());
            *histograms = BASE64.encode(out.finish().unwrap_or_default()).into();
        }
    }
    zipped(archive.to_string().as_bytes())
}

fn hash(plan: &Value) -> Option<String> {
    let mut files = BTreeMap::new();
    for (path, content) in plan["files"].as_object()? {
        files.insert(path.clone(), Ok(BASE64.decode(content.as_str()?).ok()?));
    }
    let search_level = plan["search_level"].as_str().and_then(|level| level.parse().ok());
    let text = |key: &str| plan[key].as_str().map(str::to_owned);
    Some(PlanSource { name: text("name")?, text: text("text")?, files, search_level }.hash())
}

fn zipped(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    // Into memory: this can't fail.
    let _ = out.write_all(bytes);
    out.finish().unwrap_or_default()
}
