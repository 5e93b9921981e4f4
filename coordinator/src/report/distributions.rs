//! The histograms behind a report, for each step and each interval of the run: what percentile plots, heat maps,
//! histogram logs and comparisons are made of.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};

use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use groundswell_stats::Series;
use groundswell_stats::codec::{Declared, InvalidSeries, decode, encode};
use serde::{Deserialize, Serialize};

use super::LoadPoint;

/// Most bytes that packed distributions may become: those of a run of 900 intervals and some hundred steps.
const MOST_BYTES: u64 = 512 << 20;

/// The histograms of one run, a row for each timed step at each level.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Distributions {
    /// In the order of the plan.
    pub steps: Vec<StepDistributions>,
    /// The load as a whole, interval by interval.
    pub load: Vec<LoadPoint>,
}

/// The histograms of one timed step at one level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepDistributions {
    /// Scenario.
    pub scenario: String,
    /// Level of a sweep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Name of the step.
    pub step: String,
    /// As in [`super::StepFigures::kind`].
    pub kind: String,
    /// Does it belong to the warm-up?
    pub warm_up: bool,
    /// Response times of the whole run.
    #[serde(with = "packed")]
    pub response: Series,
    /// Service times of the whole run.
    #[serde(with = "packed")]
    pub service: Series,
    /// What happened when; intervals in which nothing did are left out.
    pub intervals: Vec<Interval>,
}

/// One step in one interval, by the end of its operations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Start, in seconds of the run.
    pub from_s: u64,
    /// Length in seconds.
    pub length_s: u64,
    /// Operations issued.
    pub issued: u64,
    /// Operations that ended well.
    pub ok: u64,
    /// Operations that failed: errors, timeouts and aborted ones.
    pub failed: u64,
    /// Failures by class.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failures: BTreeMap<String, u64>,
    /// Response times, whatever the outcome.
    #[serde(with = "packed")]
    pub response: Series,
    /// Service times.
    #[serde(with = "packed")]
    pub service: Series,
}

/// Why bytes are no distributions.
#[derive(Debug, thiserror::Error)]
pub enum InvalidDistributions {
    /// They can't be inflated, or are no JSON of the right form.
    #[error("the histograms of the run can't be read: {0}")]
    Form(#[from] serde_json::Error),
    /// They become more than any run has.
    #[error("the histograms of the run take more than {MOST_BYTES} bytes")]
    TooLarge,
}

impl Distributions {
    /// For the store and for files: JSON, deflated (RFC 1950).
    ///
    /// # Errors
    /// Only if memory can't be written to.
    pub fn pack(&self) -> std::io::Result<Vec<u8>> {
        let mut out = ZlibEncoder::new(Vec::new(), Compression::fast());
        serde_json::to_writer(&mut out, self)?;
        out.flush()?;
        out.finish()
    }

    /// Reads what [`Distributions::pack`] wrote. Every series is checked.
    ///
    /// # Errors
    /// See [`InvalidDistributions`].
    pub fn unpack(bytes: &[u8]) -> Result<Self, InvalidDistributions> {
        let mut inflated = ZlibDecoder::new(bytes).take(MOST_BYTES);
        let read = serde_json::from_reader(std::io::BufReader::new(&mut inflated));
        if inflated.limit() == 0 {
            return Err(InvalidDistributions::TooLarge);
        }
        Ok(read?)
    }
}

/// A series as HdrHistogram's V2 bytes in base64, with its exact figures.
mod packed {
    use base64::Engine as _;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{BASE64, Declared, InvalidSeries, Series, decode, encode};

    #[derive(Serialize, Deserialize)]
    struct Packed {
        count: u64,
        sum_us: u64,
        min_us: u64,
        max_us: u64,
        #[serde(default, skip_serializing_if = "is_zero")]
        clamped: u64,
        hdr: String,
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
    fn is_zero(number: &u64) -> bool {
        *number == 0
    }

    pub(super) fn serialize<S: Serializer>(series: &Series, to: S) -> Result<S::Ok, S::Error> {
        let Series { count, sum_us, min_us, max_us, clamped, ref buckets } = *series;
        Packed { count, sum_us, min_us, max_us, clamped, hdr: BASE64.encode(encode(buckets)) }.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Series, D::Error> {
        let Packed { count, sum_us, min_us, max_us, clamped, hdr } = Packed::deserialize(from)?;
        let bytes = BASE64.decode(hdr).map_err(D::Error::custom)?;
        decode(&bytes, &Declared { count, sum_us, min_us, max_us, clamped })
            .map_err(|error: InvalidSeries| D::Error::custom(error))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn sample() -> Distributions {
        let mut series = Series::default();
        [1, 5_000, 5_000, 7_200_000_000].into_iter().for_each(|value| series.record(value));
        let interval = Interval {
            from_s: 3,
            length_s: 1,
            issued: 4,
            ok: 3,
            failed: 1,
            failures: BTreeMap::from([("timeout".to_owned(), 1)]),
            response: series.clone(),
            service: Series::default(),
        };
        let step = StepDistributions {
            scenario: "search".to_owned(),
            level: None,
            step: "query".to_owned(),
            kind: "http".to_owned(),
            warm_up: false,
            response: series,
            service: Series::default(),
            intervals: vec![interval],
        };
        Distributions { steps: vec![step], load: Vec::new() }
    }

    #[test]
    fn what_is_packed_comes_back() {
        let packed = sample().pack().unwrap();
        assert_eq!(Distributions::unpack(&packed).unwrap(), sample());
    }

    #[test]
    fn figures_that_do_not_belong_to_the_histogram_are_refused() {
        let json = serde_json::to_string(&sample()).unwrap().replacen("\"count\":4", "\"count\":5", 1);
        let mut out = ZlibEncoder::new(Vec::new(), Compression::fast());
        out.write_all(json.as_bytes()).unwrap();
        let error = Distributions::unpack(&out.finish().unwrap()).unwrap_err();
        assert!(error.to_string().contains("add up to 4, not to the declared count 5"), "{error}");
    }

    #[test]
    fn bytes_that_are_nothing_are_refused() {
        assert!(matches!(Distributions::unpack(b"no zlib"), Err(InvalidDistributions::Form(_))));
    }
}
