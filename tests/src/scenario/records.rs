//! Every record of a run, of all signals, against the registry of telemetry.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use synspan_schema::{Registry, otlp};

use crate::error::{Error, Result};
use crate::receiver::Kept;

/// What the registry does not allow, each once with how often it was, and what is missing as a whole: where there are
/// spans there are metrics too, and the agents tell of themselves.
pub fn wrong(kept: &Kept) -> Result<Vec<String>> {
    let registry = Registry::embedded().map_err(|error| Error::Lab(format!("the registry of telemetry: {error}")))?;
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    let mut add = |found: Vec<String>| found.into_iter().for_each(|text| *times.entry(text).or_default() += 1);
    kept.traces.iter().for_each(|request| add(otlp::of_spans(&registry, &request.resource_spans)));
    kept.logs.iter().for_each(|request| add(otlp::of_logs(&registry, &request.resource_logs)));
    kept.metrics.iter().for_each(|request| add(otlp::of_metrics(&registry, &request.resource_metrics)));
    let mut wrong: Vec<String> =
        times.into_iter().map(|(text, times)| format!("not as the registry says, {times} times: {text}")).collect();
    if !kept.traces.is_empty() && kept.metrics.is_empty() {
        wrong.push("there are spans, and no metrics".to_owned());
    }
    let is_own = |resource: Option<&Resource>| {
        let pairs = resource.map(|resource| resource.attributes.as_slice()).unwrap_or_default();
        pairs.iter().any(|pair| pair.key == "service.name" && pair.value == Some(text("synspan")))
    };
    if !kept.metrics.iter().flat_map(|request| &request.resource_metrics).any(|group| is_own(group.resource.as_ref())) {
        wrong.push("no agent sent metrics of its own".to_owned());
    }
    if !kept.logs.iter().flat_map(|request| &request.resource_logs).any(|group| is_own(group.resource.as_ref())) {
        wrong.push("no agent sent its log".to_owned());
    }
    Ok(wrong)
}

fn text(text: &str) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(text.to_owned())) }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::KeyValue;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};

    use super::*;

    #[test]
    fn an_unknown_attribute_is_found_and_counted() {
        let pair =
            |key: &str, value: &str| KeyValue { key: key.to_owned(), value: Some(text(value)), ..KeyValue::default() };
        let attributes = vec![pair("synspan.verdict", "refused")];
        let span = Span { name: "tcp connect".to_owned(), attributes, ..Span::default() };
        let scope = ScopeSpans { spans: vec![span.clone(), span], ..ScopeSpans::default() };
        let resource = Some(Resource { attributes: vec![pair("service.name", "a")], ..Resource::default() });
        let group = ResourceSpans { resource, scope_spans: vec![scope], ..ResourceSpans::default() };
        let kept = Kept { traces: vec![ExportTraceServiceRequest { resource_spans: vec![group] }], ..Kept::default() };
        let wrong = wrong(&kept).expect("a registry");
        assert!(wrong.iter().any(|text| text.contains("2 times") && text.contains("`synspan.verdict`")), "{wrong:#?}");
        assert!(wrong.iter().any(|text| text.contains("no metrics")), "{wrong:#?}");
        assert!(wrong.iter().any(|text| text.contains("metrics of its own")), "{wrong:#?}");
    }
}
