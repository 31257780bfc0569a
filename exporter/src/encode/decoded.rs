//! Records as the generated types, for tests: what a backend reads.

use std::sync::Arc;

use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use super::envelope::{Record, scope_bytes};

/// Spans, with one entry for each resource, in the order in which the resources came.
pub(crate) fn spans(records: &[Record]) -> Vec<ResourceSpans> {
    let scope = ScopeSpans::decode(&scope_bytes()[..]).expect("a scope");
    let grouped = grouped::<Span>(records).into_iter().map(|(resource, spans)| {
        let mut group = ResourceSpans::decode(&resource[..]).expect("a resource");
        group.scope_spans = vec![ScopeSpans { spans, ..scope.clone() }];
        group
    });
    grouped.collect()
}

/// Log records, with one entry for each resource, in the order in which the resources came.
pub(crate) fn logs(records: &[Record]) -> Vec<ResourceLogs> {
    let scope = ScopeLogs::decode(&scope_bytes()[..]).expect("a scope");
    let grouped = grouped::<LogRecord>(records).into_iter().map(|(resource, log_records)| {
        let mut group = ResourceLogs::decode(&resource[..]).expect("a resource");
        group.scope_logs = vec![ScopeLogs { log_records, ..scope.clone() }];
        group
    });
    grouped.collect()
}

fn grouped<M: Message + Default>(records: &[Record]) -> Vec<(Arc<[u8]>, Vec<M>)> {
    let mut groups: Vec<(Arc<[u8]>, Vec<M>)> = Vec::new();
    for Record { resource, bytes } in records {
        let message = M::decode(&bytes[..]).expect("a message");
        match groups.iter_mut().find(|(known, _)| known == resource) {
            Some((_, messages)) => messages.push(message),
            None => groups.push((Arc::clone(resource), vec![message])),
        }
    }
    groups
}
