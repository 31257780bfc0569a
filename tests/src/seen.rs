//! What the agents sent, in a form that is easy to ask.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};

/// Attributes as text: numbers and truth values as they are written, lists joined by commas.
pub type Attributes = BTreeMap<String, String>;

/// A span.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Span {
    /// The node whose agent sent it.
    pub node: String,
    /// Resource attributes.
    pub resource: Attributes,
    /// Name.
    pub name: String,
    /// OTLP's number of its kind.
    pub kind: i32,
    /// Trace id in hexadecimal digits.
    pub trace: String,
    /// Span id in hexadecimal digits.
    pub id: String,
    /// Parent's span id, empty for a root.
    pub parent: String,
    /// W3C's tracestate.
    pub state: String,
    /// W3C's trace flags, and OTLP's own beside them.
    pub flags: u32,
    /// Start, in nanoseconds since 1970.
    pub start: u64,
    /// End.
    pub end: u64,
    /// Attributes.
    pub attributes: Attributes,
    /// Events: name and attributes.
    pub events: Vec<(String, Attributes)>,
    /// Links.
    pub links: Vec<Link>,
    /// OTLP's number of the status: 0 unset, 1 ok, 2 error.
    pub status: i32,
    /// The status' message.
    pub message: String,
}

/// A link.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Link {
    /// Trace id.
    pub trace: String,
    /// Span id.
    pub span: String,
    /// Attributes.
    pub attributes: Attributes,
}

impl Span {
    /// An attribute.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }

    /// The workload's name.
    pub fn service(&self) -> &str {
        self.resource.get("service.name").map_or("", String::as_str)
    }

    /// Whether it is of this name.
    pub fn is(&self, name: &str) -> bool {
        self.name == name
    }

    /// The links of a `synspan.link.type`.
    pub fn links_of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Link> {
        self.links.iter().filter(move |link| link.attributes.get("synspan.link.type").is_some_and(|is| is == kind))
    }
}

/// A log record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Resource attributes.
    pub resource: Attributes,
    /// The event's name.
    pub event: String,
    /// Attributes.
    pub attributes: Attributes,
}

impl Record {
    /// An attribute that is a number; 0 where it is not there, or none.
    pub fn number(&self, name: &str) -> u64 {
        self.attributes.get(name).and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

/// The log records of a request.
pub fn records(request: ExportLogsServiceRequest) -> Vec<Record> {
    let mut all = Vec::new();
    for group in request.resource_logs {
        let resource = group.resource.map(|resource| attributes(resource.attributes)).unwrap_or_default();
        all.extend(group.scope_logs.into_iter().flat_map(|scope| scope.log_records).map(|record| Record {
            resource: resource.clone(),
            event: record.event_name,
            attributes: attributes(record.attributes),
        }));
    }
    all
}

/// The spans of a request.
pub fn spans(node: &str, request: ExportTraceServiceRequest) -> Vec<Span> {
    let mut all = Vec::new();
    for group in request.resource_spans {
        let resource = group.resource.map(|resource| attributes(resource.attributes)).unwrap_or_default();
        for span in group.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let (status, message) = span.status.map(|status| (status.code, status.message)).unwrap_or_default();
            all.push(Span {
                node: node.to_owned(),
                resource: resource.clone(),
                name: span.name,
                kind: span.kind,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                state: span.trace_state,
                flags: span.flags,
                start: span.start_time_unix_nano,
                end: span.end_time_unix_nano,
                attributes: attributes(span.attributes),
                events: span.events.into_iter().map(|event| (event.name, attributes(event.attributes))).collect(),
                links: span
                    .links
                    .into_iter()
                    .map(|link| Link {
                        trace: hex(&link.trace_id),
                        span: hex(&link.span_id),
                        attributes: attributes(link.attributes),
                    })
                    .collect(),
                status,
                message,
            });
        }
    }
    all
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(list: Vec<KeyValue>) -> Attributes {
    list.into_iter().map(|pair| (pair.key, pair.value.map(text).unwrap_or_default())).collect()
}

fn text(value: AnyValue) -> String {
    match value.value {
        Some(Value::StringValue(text)) => text,
        Some(Value::BoolValue(truth)) => truth.to_string(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::ArrayValue(list)) => list.values.into_iter().map(text).collect::<Vec<_>>().join(","),
        Some(Value::BytesValue(bytes)) => hex(&bytes),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use opentelemetry_proto::tonic::trace::v1 as otlp;

    #[test]
    fn a_request_becomes_spans() {
        let pair = |key: &str, value: Value| KeyValue {
            key: key.into(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        };
        let link = otlp::span::Link {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            attributes: vec![pair("synspan.link.type", Value::StringValue("previous_owner".into()))],
            ..otlp::span::Link::default()
        };
        let span = otlp::Span {
            name: "tcp connect".into(),
            trace_id: vec![0xab; 16],
            span_id: vec![0xcd; 8],
            attributes: vec![pair("synspan.syns", Value::IntValue(2))],
            links: vec![link],
            status: Some(otlp::Status { code: 2, message: "late".into() }),
            ..otlp::Span::default()
        };
        let request = ExportTraceServiceRequest {
            resource_spans: vec![otlp::ResourceSpans {
                resource: Some(Resource {
                    attributes: vec![pair("service.name", Value::StringValue("cart".into()))],
                    ..Resource::default()
                }),
                scope_spans: vec![otlp::ScopeSpans { spans: vec![span], ..otlp::ScopeSpans::default() }],
                ..otlp::ResourceSpans::default()
            }],
        };
        let spans = spans("node-a", request);
        assert_eq!(spans.len(), 1);
        assert_eq!((spans[0].service(), spans[0].get("synspan.syns"), spans[0].status), ("cart", Some("2"), 2));
        assert_eq!(spans[0].trace, "ab".repeat(16));
        assert_eq!(spans[0].parent, "");
        assert_eq!(
            spans[0].links_of("previous_owner").map(|link| link.span.as_str()).collect::<Vec<_>>(),
            ["02".repeat(8)]
        );
        assert_eq!(spans[0].links_of("syn_retry").count(), 0);
    }
}
