//! Telemetry for tests.

use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};

use super::parcel::{Parcel, Priority};

/// Spans of a service, each with a name of that many bytes.
pub(super) fn spans(service: &str, count: usize, name: usize) -> ResourceSpans {
    let value = Some(AnyValue { value: Some(Value::StringValue(service.to_owned())) });
    let attribute = KeyValue { key: "service.name".to_owned(), value, ..KeyValue::default() };
    let spans = (0..count).map(|_| Span { name: "n".repeat(name), ..Span::default() }).collect();
    let scope = InstrumentationScope { name: "synspan".to_owned(), ..InstrumentationScope::default() };
    ResourceSpans {
        resource: Some(Resource { attributes: vec![attribute], ..Resource::default() }),
        scope_spans: vec![ScopeSpans { scope: Some(scope), spans, schema_url: "schema".to_owned() }],
        schema_url: "schema".to_owned(),
    }
}

/// A parcel of such spans.
pub(super) fn parcel(priority: Priority, service: &str, count: usize, name: usize) -> Parcel {
    Parcel::traces(priority, vec![spans(service, count, name)])
}
