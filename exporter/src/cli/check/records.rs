//! One record of each signal that says it is a test.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data, number_data_point::Value as Number,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, span::SpanKind};

use crate::config::Config;
use crate::deliver::{Parcel, Priority, Signal};
use crate::encode::envelope::scope;
use crate::names::{attribute, event, metric as names, span as spans};

/// A record of that signal, and what to look for in the backend.
pub fn test(config: &Config, signal: Signal) -> (Parcel, String) {
    // An id of zeros is not valid.
    let mark = rand::random::<u128>().max(1);
    match signal {
        Signal::Traces => (span(config, mark), format!("the span `synspan check`, trace {mark:032x}")),
        Signal::Logs => (record(config, mark), format!("the record `synspan.check`, trace {mark:032x}")),
        Signal::Metrics => (metric(config), "a point of the gauge `synspan.check`".to_owned()),
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn resource(config: &Config) -> Option<Resource> {
    let own = [text(attribute::SERVICE_NAME, "synspan")].into_iter();
    let common = config.resource_attributes.iter().map(|(key, value)| text(key, value));
    Some(Resource { attributes: own.chain(common).collect(), ..Resource::default() })
}

fn is_test() -> Vec<KeyValue> {
    let value = Some(AnyValue { value: Some(Value::BoolValue(true)) });
    vec![KeyValue { key: attribute::SYNSPAN_CHECK.to_owned(), value, ..KeyValue::default() }]
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0))
}

fn span(config: &Config, trace: u128) -> Parcel {
    let span = Span {
        trace_id: trace.to_be_bytes().to_vec(),
        span_id: rand::random::<u64>().max(1).to_be_bytes().to_vec(),
        name: spans::SYNSPAN_CHECK.to_owned(),
        kind: SpanKind::Internal as i32,
        start_time_unix_nano: now(),
        end_time_unix_nano: now(),
        attributes: is_test(),
        ..Span::default()
    };
    let scopes = vec![ScopeSpans { scope: scope(), spans: vec![span], ..ScopeSpans::default() }];
    let spans = ResourceSpans { resource: resource(config), scope_spans: scopes, ..ResourceSpans::default() };
    Parcel::traces(Priority::Failure, vec![spans])
}

fn record(config: &Config, trace: u128) -> Parcel {
    let body = "a test of `synspan check --send`".to_owned();
    let record = LogRecord {
        time_unix_nano: now(),
        observed_time_unix_nano: now(),
        severity_number: SeverityNumber::Info.into(),
        severity_text: "INFO".to_owned(),
        body: Some(AnyValue { value: Some(Value::StringValue(body)) }),
        attributes: is_test().into_iter().chain([text(attribute::EVENT_NAME, event::SYNSPAN_CHECK)]).collect(),
        trace_id: trace.to_be_bytes().to_vec(),
        event_name: event::SYNSPAN_CHECK.to_owned(),
        ..LogRecord::default()
    };
    let scopes = vec![ScopeLogs { scope: scope(), log_records: vec![record], ..ScopeLogs::default() }];
    let logs = ResourceLogs { resource: resource(config), scope_logs: scopes, ..ResourceLogs::default() };
    Parcel::logs(Priority::Failure, vec![logs])
}

fn metric(config: &Config) -> Parcel {
    let point = NumberDataPoint { time_unix_nano: now(), value: Some(Number::AsInt(1)), ..NumberDataPoint::default() };
    let metric = Metric {
        name: names::SYNSPAN_CHECK.name.to_owned(),
        unit: names::SYNSPAN_CHECK.unit.to_owned(),
        description: names::SYNSPAN_CHECK.description.to_owned(),
        data: Some(Data::Gauge(Gauge { data_points: vec![point] })),
        ..Metric::default()
    };
    let scopes = vec![ScopeMetrics { scope: scope(), metrics: vec![metric], ..ScopeMetrics::default() }];
    let metrics = ResourceMetrics { resource: resource(config), scope_metrics: scopes, ..ResourceMetrics::default() };
    Parcel::metrics(vec![metrics])
}
