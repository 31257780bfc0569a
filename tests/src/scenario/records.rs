//! Every record of a run, of all signals, against the registry of telemetry.

use std::collections::BTreeMap;

use synspan_schema::{Registry, otlp};

use crate::error::{Error, Result};
use crate::receiver::Kept;

/// What the registry does not allow, each once with how often it was, and what is missing as a whole: where there are
/// spans there are metrics too.
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
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};

    use super::*;

    #[test]
    fn an_unknown_attribute_is_found_and_counted() {
        let text = |key: &str, text: &str| KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(Value::StringValue(text.to_owned())) }),
            ..KeyValue::default()
        };
        let attributes = vec![text("synspan.verdict", "refused")];
        let span = Span { name: "tcp connect".to_owned(), attributes, ..Span::default() };
        let scope = ScopeSpans { spans: vec![span.clone(), span], ..ScopeSpans::default() };
        let resource = Some(Resource { attributes: vec![text("service.name", "a")], ..Resource::default() });
        let group = ResourceSpans { resource, scope_spans: vec![scope], ..ResourceSpans::default() };
        let kept = Kept { traces: vec![ExportTraceServiceRequest { resource_spans: vec![group] }], ..Kept::default() };
        let wrong = wrong(&kept).expect("a registry");
        assert!(wrong.iter().any(|text| text.contains("2 times") && text.contains("`synspan.verdict`")), "{wrong:#?}");
        assert!(wrong.iter().any(|text| text.contains("no metrics")), "{wrong:#?}");
    }
}
