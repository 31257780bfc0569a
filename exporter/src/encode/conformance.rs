//! What is encoded, checked against the registry of telemetry.

use opentelemetry_proto::tonic::common::v1::any_value::Value as Proto;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use synspan_schema::{Registry, Value};

/// The registry.
pub(crate) fn registry() -> Registry {
    Registry::embedded().expect("the registry")
}

/// OTLP's attributes as the registry takes them.
pub(crate) fn values(attributes: &[KeyValue]) -> Vec<(String, Value)> {
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

/// Everything in spans that the registry does not allow.
pub(crate) fn of_spans(registry: &Registry, groups: &[ResourceSpans]) -> Vec<String> {
    let mut found = Vec::new();
    for group in groups {
        let attributes = group.resource.as_ref().map(|resource| values(&resource.attributes)).unwrap_or_default();
        found.extend(registry.check_resource(&attributes));
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
