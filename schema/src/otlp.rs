//! OTLP checked against the registry. For tests, of the encoders and of the lab: everything that leaves an agent in a
//! scenario is checked by it.

use crate::{Data, Registry, Value};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Proto;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::ResourceLogs;
use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, metric};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};

/// The resource of synspan's own telemetry.
const AGENT: &str = "synspan.agent";

/// OTLP's attributes as the registry takes them.
fn values(attributes: &[KeyValue]) -> Vec<(String, Value)> {
    let value = |pair: &KeyValue| match pair.value.as_ref().and_then(|any| any.value.as_ref()) {
        Some(Proto::StringValue(text)) => Value::Str(text.clone()),
        Some(Proto::IntValue(number)) => Value::Int(*number),
        Some(Proto::DoubleValue(number)) => Value::Double(*number),
        Some(Proto::BoolValue(value)) => Value::Bool(*value),
        Some(Proto::ArrayValue(list)) => {
            let texts: Option<Vec<String>> = list.values.iter().map(text).collect();
            texts.map_or(Value::Other, Value::Strs)
        }
        _ => Value::Other,
    };
    attributes.iter().map(|pair| (pair.key.clone(), value(pair))).collect()
}

fn text(any: &AnyValue) -> Option<String> {
    match &any.value {
        Some(Proto::StringValue(text)) => Some(text.clone()),
        _ => None,
    }
}

fn of_resource(registry: &Registry, resource: Option<&Resource>) -> Vec<String> {
    let attributes = resource.map(|resource| values(&resource.attributes)).unwrap_or_default();
    registry.check_resource(&attributes)
}

/// Everything in spans that the registry does not allow, in words.
pub fn of_spans(registry: &Registry, groups: &[ResourceSpans]) -> Vec<String> {
    let mut found = Vec::new();
    for group in groups {
        found.extend(of_resource(registry, group.resource.as_ref()));
        for span in group.scope_spans.iter().flat_map(|scope| &scope.spans) {
            of_span(registry, span, &mut found);
        }
    }
    found
}

fn of_span(registry: &Registry, span: &Span, found: &mut Vec<String>) {
    let kind = match span.kind() {
        SpanKind::Client => "client",
        SpanKind::Server => "server",
        SpanKind::Internal => "internal",
        _ => "another",
    };
    found.extend(registry.check_span(&span.name, kind, &values(&span.attributes)));
    for event in &span.events {
        found.extend(registry.check_span_event(&span.name, &event.name, &values(&event.attributes)));
    }
    for link in &span.links {
        found.extend(registry.check_link(&values(&link.attributes)));
    }
}

/// Everything in log records that the registry does not allow, in words.
pub fn of_logs(registry: &Registry, groups: &[ResourceLogs]) -> Vec<String> {
    let mut found = Vec::new();
    for group in groups {
        found.extend(of_resource(registry, group.resource.as_ref()));
        let attributes = group.resource.as_ref().map(|resource| values(&resource.attributes)).unwrap_or_default();
        let own = registry.resource_of(&attributes).is_some_and(|kind| kind.name == AGENT);
        for record in group.scope_logs.iter().flat_map(|scope| &scope.log_records) {
            // A line of the agent's own log: no event, and with what its place in the program has to say.
            if own && record.event_name.is_empty() && record.body.is_some() {
                continue;
            }
            found.extend(registry.check_log(&record.event_name, &values(&record.attributes)));
        }
    }
    found
}

/// Everything in metrics that the registry does not allow, in words.
pub fn of_metrics(registry: &Registry, groups: &[ResourceMetrics]) -> Vec<String> {
    let mut found = Vec::new();
    for group in groups {
        found.extend(of_resource(registry, group.resource.as_ref()));
        for metric in group.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            of_metric(registry, metric, &mut found);
        }
    }
    found
}

fn of_metric(registry: &Registry, metric: &Metric, found: &mut Vec<String>) {
    let mut check = |data, attributes: &[KeyValue]| {
        found.extend(registry.check_metric(&metric.name, &metric.unit, data, &values(attributes)));
    };
    match &metric.data {
        Some(metric::Data::Sum(sum)) => {
            let data = Data::Sum { monotonic: sum.is_monotonic };
            sum.data_points.iter().for_each(|point| check(data, &point.attributes));
        }
        Some(metric::Data::Gauge(gauge)) => {
            gauge.data_points.iter().for_each(|point| check(Data::Gauge, &point.attributes));
        }
        Some(metric::Data::Histogram(histogram)) => {
            histogram.data_points.iter().for_each(|point| check(Data::Histogram, &point.attributes));
        }
        Some(metric::Data::ExponentialHistogram(histogram)) => {
            histogram.data_points.iter().for_each(|point| check(Data::Histogram, &point.attributes));
        }
        Some(metric::Data::Summary(_)) | None => {
            found.push(format!("metric `{}`: a kind that is not ours", metric.name))
        }
    }
}
