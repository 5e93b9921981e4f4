//! What Prometheus scrapes.
//!
//! Text: "Exposition formats", version 0.0.4, of Prometheus' documentation. Protobuf: `io.prometheus.client.MetricFamily` of
//! `prometheus/client_model`, each message after its length; it is the form that carries native histograms.

use std::fmt::Write as _;

use prost::Message;

use super::histogram::SCALE;
use super::{Family, Histogram, Kind, Sample, Value};

/// Media type of [`text`].
pub const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Media type of [`protobuf`].
pub const PROTOBUF: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// The text format, with classic histograms.
pub fn text(families: &[Family]) -> String {
    let mut out = String::new();
    for family in families.iter().filter(|family| !family.samples.is_empty()) {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let Family { name, help, .. } = family;
        // Writing to a string can't fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for sample in &family.samples {
            write_sample(&mut out, name, sample);
        }
    }
    out
}

fn write_sample(out: &mut String, name: &str, sample: &Sample) {
    let labels = |more: Option<&str>| {
        let own = sample.labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value)));
        let all: Vec<String> = own.chain(more.map(|bound| format!("le=\"{bound}\""))).collect();
        if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) }
    };
    let _ = match &sample.value {
        Value::Number(number) => writeln!(out, "{name}{} {number}", labels(None)),
        Value::Histogram(histogram) => {
            for (bound, count) in &histogram.classic {
                let _ = writeln!(out, "{name}_bucket{} {count}", labels(Some(&bound.to_string())));
            }
            let Histogram { count, sum_s, .. } = histogram;
            let _ = writeln!(out, "{name}_bucket{} {count}", labels(Some("+Inf")));
            let _ = writeln!(out, "{name}_sum{} {sum_s}", labels(None));
            writeln!(out, "{name}_count{} {count}", labels(None))
        }
    };
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The protobuf format, with classic and native histograms.
pub fn protobuf(families: &[Family]) -> Vec<u8> {
    let there = families.iter().filter(|family| !family.samples.is_empty());
    there.flat_map(|family| MetricFamily::from(family).encode_length_delimited_to_vec()).collect()
}

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    help: String,
    /// 0 counter (written even so, because the field is optional), 1 gauge, 4 histogram.
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Number>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Number>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<WireHistogram>,
}

#[derive(Clone, PartialEq, Message)]
struct LabelPair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Number {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct WireHistogram {
    #[prost(uint64, optional, tag = "1")]
    sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<Span>,
    /// Each count less the one before it.
    #[prost(sint64, repeated, tag = "13")]
    positive_delta: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    upper_bound: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(sint32, optional, tag = "1")]
    offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    length: Option<u32>,
}

impl From<&Family> for MetricFamily {
    fn from(family: &Family) -> Self {
        let kind = match family.kind {
            Kind::Counter => 0,
            Kind::Gauge => 1,
            Kind::Histogram => 4,
        };
        let metric = family.samples.iter().map(|sample| metric(family.kind, sample)).collect();
        MetricFamily { name: family.name.to_owned(), help: family.help.to_owned(), kind: Some(kind), metric }
    }
}

fn metric(kind: Kind, sample: &Sample) -> Metric {
    let pair = |(name, value): &(&'static str, String)| LabelPair { name: (*name).to_owned(), value: value.clone() };
    let label = sample.labels.iter().map(pair).collect();
    let none = Metric { label, gauge: None, counter: None, histogram: None };
    match &sample.value {
        Value::Number(number) if kind == Kind::Counter => {
            Metric { counter: Some(Number { value: Some(*number) }), ..none }
        }
        Value::Number(number) => Metric { gauge: Some(Number { value: Some(*number) }), ..none },
        Value::Histogram(histogram) => Metric { histogram: Some(histogram.into()), ..none },
    }
}

impl From<&Histogram> for WireHistogram {
    fn from(histogram: &Histogram) -> Self {
        let Histogram { count, sum_s, classic, exponential } = histogram;
        let bucket = |(bound, count): &(f64, u64)| Bucket { cumulative_count: Some(*count), upper_bound: Some(*bound) };
        let mut before = 0;
        let positive_delta = exponential.counts.iter().map(|count| {
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            count - std::mem::replace(&mut before, count)
        });
        let positive_delta: Vec<i64> = positive_delta.collect();
        // A histogram that is empty needs a span of nothing to be native at all.
        let length = u32::try_from(positive_delta.len()).unwrap_or(u32::MAX);
        WireHistogram {
            sample_count: Some(*count),
            sample_sum: Some(*sum_s),
            bucket: classic.iter().map(bucket).collect(),
            schema: Some(SCALE),
            zero_threshold: Some(f64::MIN_POSITIVE),
            zero_count: Some(exponential.zeros),
            positive_span: vec![Span { offset: Some(exponential.first), length: Some(length) }],
            positive_delta,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use groundswell_stats::Series;

    use super::*;

    fn family(value: Value) -> Family {
        let labels = vec![("plan", "a \"b\"\n\\".to_owned())];
        let sample = Sample { labels, since_unix_ns: 0, value };
        Family { name: "x_seconds", help: "What it is.", kind: Kind::Histogram, unit: "s", samples: vec![sample] }
    }

    #[test]
    fn what_plans_say_is_escaped() {
        let text = text(&[family(Value::Number(1.5))]);
        assert!(text.ends_with("x_seconds{plan=\"a \\\"b\\\"\\n\\\\\"} 1.5\n"), "{text}");
        assert_eq!(text.lines().count(), 3);
    }

    #[test]
    fn counts_of_native_buckets_are_told_as_differences() {
        let mut series = Series::default();
        [1_000_000, 1_000_000, 2_000_000].into_iter().for_each(|value| series.record(value));
        let bytes = protobuf(&[family(Value::Histogram(Histogram::of(&series)))]);
        let read = MetricFamily::decode_length_delimited(bytes.as_slice()).unwrap();
        let histogram = read.metric[0].histogram.clone().unwrap();
        assert_eq!(histogram.positive_span[0].length, Some(histogram.positive_delta.len() as u32));
        let counts: Vec<i64> = histogram
            .positive_delta
            .iter()
            .scan(0, |count, delta| {
                *count += delta;
                Some(*count)
            })
            .collect();
        assert_eq!((counts[0], counts.iter().sum::<i64>(), counts.last()), (2, 3, Some(&1)));
        assert_eq!((histogram.sample_count, histogram.sample_sum), (Some(3), Some(4.0)));
    }
}
