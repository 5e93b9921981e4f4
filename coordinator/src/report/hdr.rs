//! The report in HdrHistogram's own formats, for its tools and readers.
//!
//! Both are in the units of those tools' output when they are told that values are microseconds
//! (`HistogramLogProcessor -outputValueUnitRatio 1000`): histograms hold microseconds, figures beside them are
//! milliseconds.

use std::fmt::Write as _;
use std::io::{Cursor, Read as _};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::read::ZlibDecoder;
use groundswell_stats::{Distribution, Layout};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};

use super::{Distributions, Interval, RenderError, Rendered, Report, StepDistributions};

/// Microseconds in the unit of the figures beside a histogram.
const US_PER_MS: f64 = 1e3;
/// Lines for each halving of the distance to 100 %, as HdrHistogram's tools write by default.
const TICKS_PER_HALF_DISTANCE: u32 = 5;
/// Cookie and length in front of the deflated bytes.
const DEFLATE_HEADER_BYTES: usize = 8;
/// More than any histogram of the run's layout takes when inflated: nine bytes for each bin.
const MOST_INFLATED_BYTES: u64 = 1 << 18;

/// The interval log: a line for each step and interval with samples, without the warm-up. Each sample is in one line.
pub(super) fn log(report: &Report, distributions: &Distributions) -> Result<String, RenderError> {
    let tags = tags(&distributions.steps);
    let measured = distributions.steps.iter().zip(&tags).filter(|(step, _)| !step.warm_up);
    let mut lines: Vec<(&Interval, &str)> =
        measured.flat_map(|(step, tag)| step.intervals.iter().map(move |interval| (interval, tag.as_str()))).collect();
    lines.retain(|(interval, _)| interval.response.count > 0);
    lines.sort_by_key(|(interval, _)| interval.from_s);
    let start = report.run.started_at.as_deref().and_then(|at| humantime::parse_rfc3339(at).ok());
    let start = start.unwrap_or(SystemTime::UNIX_EPOCH);
    let (mut bytes, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    let failed = |error: &dyn std::fmt::Display| RenderError::Histogram(error.to_string());
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment(&format!("[groundswell {}; response times in microseconds]", report.run.version))
        .with_start_time(start)
        .with_base_time(start)
        .with_max_value_divisor(US_PER_MS)
        .begin_log_with(&mut bytes, &mut serializer)
        .map_err(|error| failed(&error))?;
    for (interval, tag) in lines {
        let (from, length) = (Duration::from_secs(interval.from_s), Duration::from_secs(interval.length_s));
        let histogram = Distribution::of([&interval.response]).map_err(|error| failed(&error))?.histogram();
        log.write_histogram(&histogram, from, length, Tag::new(tag)).map_err(|error| failed(&error))?;
    }
    String::from_utf8(bytes).map_err(|error| failed(&error))
}

/// A tag for each step, none twice: scenario, step and level, with what a tag may not have replaced.
fn tags(steps: &[StepDistributions]) -> Vec<String> {
    let mut tags: Vec<String> = Vec::with_capacity(steps.len());
    for step in steps {
        let level = step.level.as_ref().map(|level| format!("@{level}")).unwrap_or_default();
        let name = format!("{}/{}{level}", step.scenario, step.step);
        let plain: String =
            name.chars().map(|c| if c.is_whitespace() || c.is_control() || c == ',' { '_' } else { c }).collect();
        let taken = |tag: &String| tags.iter().zip(steps).any(|(other, of)| other == tag && of.warm_up == step.warm_up);
        let mut numbered = (2..).map(|n| format!("{plain}~{n}"));
        let mut tag = plain.clone();
        while taken(&tag) {
            tag = numbered.next().unwrap_or_default();
        }
        tags.push(tag);
    }
    tags
}

/// The percentile distribution of all response times, in milliseconds, as HdrHistogram's tools print it
/// (`outputPercentileDistribution` of `AbstractHistogram`).
pub(super) fn percentiles(of: &Rendered<'_>) -> Result<String, RenderError> {
    let histogram = histogram(&of.report.total.response_histogram)?;
    let mut page = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut total = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        total += step.count_since_last_iteration();
        let (ms, quantile) = (step.value_iterated_to() as f64 / US_PER_MS, step.quantile_iterated_to());
        // Writing to a string does not fail.
        let _ = write!(page, "{ms:12.3} {quantile:2.12} {total:10}");
        let _ = match quantile < 1.0 {
            true => writeln!(page, " {:14.2}", 1.0 / (1.0 - quantile)),
            false => writeln!(page),
        };
    }
    let (mean, deviation) = (histogram.mean() / US_PER_MS, histogram.stdev() / US_PER_MS);
    let buckets = u64::from(histogram.buckets());
    let sub_buckets = 2 * histogram.distinct_values() as u64 / (buckets + 1);
    let footer = [
        format!("#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]"),
        format!("#[Max     = {:12.3}, Total count    = {:12}]", histogram.max() as f64 / US_PER_MS, histogram.len()),
        format!("#[Buckets = {buckets:12}, SubBuckets     = {sub_buckets:12}]\n"),
    ];
    Ok(page + &footer.join("\n"))
}

/// What [`super::StepFigures::response_histogram`] holds. A report may come from a file, and the crate makes room for
/// whatever a header asks for, so only a header of the run's layout gets to it.
///
/// # Errors
/// [`RenderError::Histogram`] when it is not that.
pub(super) fn histogram(packed: &str) -> Result<Histogram<u64>, RenderError> {
    let failed = |what: &dyn std::fmt::Display| RenderError::Histogram(what.to_string());
    let bytes = BASE64.decode(packed).map_err(|error| failed(&error))?;
    let deflated = bytes.get(DEFLATE_HEADER_BYTES..).ok_or_else(|| failed(&"it has no header"))?;
    let mut inflated = Vec::new();
    let mut inflating = ZlibDecoder::new(deflated).take(MOST_INFLATED_BYTES);
    inflating.read_to_end(&mut inflated).map_err(|error| failed(&error))?;
    let Layout { low_us, high_us, digits } = Layout::STANDARD;
    // After cookie, length and index offset, four bytes each: digits, least and greatest value, big-endian.
    let layout = [&u32::from(digits).to_be_bytes()[..], &low_us.to_be_bytes(), &high_us.to_be_bytes()].concat();
    if inflated.get(12..12 + layout.len()) != Some(layout.as_slice()) {
        return Err(failed(&"it has another layout than groundswell's"));
    }
    Deserializer::new().deserialize(&mut Cursor::new(inflated)).map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use groundswell_stats::Series;

    use super::*;

    fn step(scenario: &str, name: &str, level: Option<&str>) -> StepDistributions {
        StepDistributions {
            scenario: scenario.to_owned(),
            level: level.map(str::to_owned),
            step: name.to_owned(),
            kind: "http".to_owned(),
            warm_up: false,
            response: Series::default(),
            service: Series::default(),
            intervals: Vec::new(),
        }
    }

    #[test]
    fn tags_are_legal_and_tell_steps_apart() {
        let steps = [step("a", "GET /x, y", None), step("a", "GET_/x__y", None), step("a", "s", Some("5 users"))];
        assert_eq!(tags(&steps), ["a/GET_/x__y", "a/GET_/x__y~2", "a/s@5_users"]);
        assert!(tags(&steps).iter().all(|tag| Tag::new(tag).is_some()));
    }

    #[test]
    fn a_histogram_of_another_layout_is_refused_before_room_is_made_for_it() {
        use hdrhistogram::serialization::Serializer as _;
        let huge = Histogram::<u64>::new_with_bounds(1, u64::MAX, 5).unwrap();
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(&huge, &mut bytes).unwrap();
        let error = histogram(&BASE64.encode(bytes)).unwrap_err();
        assert!(error.to_string().contains("another layout"), "{error}");
        for nothing in ["", "HISTFAAA", "no base64!"] {
            assert!(histogram(nothing).is_err(), "{nothing}");
        }
    }
}
