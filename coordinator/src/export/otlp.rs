//! OpenTelemetry's messages (`opentelemetry.proto.metrics.v1`), with exponential histograms, cumulative since the start of
//! each run.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::histogram::SCALE;
use super::{Family, Histogram, Kind, Sample, Value};

/// What a collector is sent at a moment, in nanoseconds since 1970 (UTC).
pub fn request(families: &[Family], now_unix_ns: u64) -> ExportMetricsServiceRequest {
    let there = families.iter().filter(|family| !family.samples.is_empty());
    let metrics = there.map(|family| metric(family, now_unix_ns)).collect();
    let version = env!("CARGO_PKG_VERSION");
    let scope =
        InstrumentationScope { name: "groundswell".to_owned(), version: version.to_owned(), ..Default::default() };
    let attributes = vec![attribute("service.name", "groundswell"), attribute("service.version", version)];
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource { attributes, ..Default::default() }),
            scope_metrics: vec![ScopeMetrics { scope: Some(scope), metrics, ..Default::default() }],
            ..Default::default()
        }],
    }
}

fn metric(family: &Family, now: u64) -> Metric {
    let cumulative = AggregationTemporality::Cumulative.into();
    let numbers = || family.samples.iter().filter_map(|sample| number(sample, now)).collect();
    let data = match family.kind {
        Kind::Counter => {
            Data::Sum(Sum { data_points: numbers(), aggregation_temporality: cumulative, is_monotonic: true })
        }
        Kind::Gauge => Data::Gauge(Gauge { data_points: numbers() }),
        Kind::Histogram => Data::ExponentialHistogram(ExponentialHistogram {
            data_points: family.samples.iter().filter_map(|sample| distribution(sample, now)).collect(),
            aggregation_temporality: cumulative,
        }),
    };
    Metric {
        name: otlp_name(family),
        description: family.help.to_owned(),
        unit: family.unit.to_owned(),
        data: Some(data),
        ..Default::default()
    }
}

/// OpenTelemetry writes names with dots and without units; a collector that feeds Prometheus adds the unit again.
fn otlp_name(family: &Family) -> String {
    let name = family.name.trim_end_matches("_total").trim_end_matches("_seconds").trim_end_matches("_per_second");
    name.replacen('_', ".", 1)
}

fn number(sample: &Sample, now: u64) -> Option<NumberDataPoint> {
    let Value::Number(value) = sample.value else { return None };
    Some(NumberDataPoint {
        attributes: attributes(sample),
        start_time_unix_nano: sample.since_unix_ns,
        time_unix_nano: now,
        value: Some(Number::AsDouble(value)),
        ..Default::default()
    })
}

fn distribution(sample: &Sample, now: u64) -> Option<ExponentialHistogramDataPoint> {
    let Value::Histogram(Histogram { count, sum_s, exponential, .. }) = &sample.value else { return None };
    Some(ExponentialHistogramDataPoint {
        attributes: attributes(sample),
        start_time_unix_nano: sample.since_unix_ns,
        time_unix_nano: now,
        count: *count,
        sum: Some(*sum_s),
        scale: SCALE,
        zero_count: exponential.zeros,
        // Theirs is numbered by its lower bound, ours by its upper one.
        positive: Some(Buckets { offset: exponential.first - 1, bucket_counts: exponential.counts.clone() }),
        ..Default::default()
    })
}

fn attributes(sample: &Sample) -> Vec<KeyValue> {
    sample.labels.iter().map(|(key, value)| attribute(key, value)).collect()
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Any::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..Default::default() }
}
