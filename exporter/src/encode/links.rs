//! Span links, each with its type.

use opentelemetry_proto::tonic::trace::v1::span::Link;

use super::attributes::Attributes;
use super::ids;
use crate::names::attribute;
use crate::names::value::link_type;
use crate::track::attempt::Attempt;
use crate::track::trace_id::{IdKey, TraceId};

/// Sampled, and the trace id is random: W3C Trace Context level 2, trace-flags 0x01 and 0x02.
pub const TRACE_FLAGS: u32 = 0x03;
/// OTLP: whether the parent or linked span is remote is known.
pub const HAS_IS_REMOTE: u32 = 0x100;
/// OTLP: it is remote.
pub const IS_REMOTE: u32 = 0x200;

/// Most links of a span.
const MAX_LINKS: usize = 32;

/// The links of an attempt's own `tcp connect`, and how many more there were: to the previous owner,
/// and to the traces of its later SYNs.
pub fn of_attempt(attempt: &Attempt, key: &IdKey) -> (Vec<Link>, u32) {
    let mut later: Vec<TraceId> = attempt.retry_traces.clone();
    later.extend(attempt.answered_trace);
    let mut seen = vec![attempt.trace];
    later.retain(|trace| {
        let new = !seen.contains(trace);
        seen.push(*trace);
        new
    });
    let dropped = later.len().saturating_sub(MAX_LINKS - 1);
    let owner = attempt
        .previous_owner
        .as_ref()
        .filter(|owner| owner.serial != 0)
        .map(|owner| to(owner.trace, link_type::PREVIOUS_OWNER, key));
    let retries = later.into_iter().take(MAX_LINKS - 1).map(|trace| to(trace, link_type::SYN_RETRY, key));
    (owner.into_iter().chain(retries).collect(), u32::try_from(dropped).unwrap_or(u32::MAX))
}

/// A link to a trace's `tcp connect`. All of them are of attempts of this node.
pub fn to(trace: TraceId, kind: &str, key: &IdKey) -> Link {
    let mut attributes = Attributes::with_capacity(1);
    attributes.str(attribute::SYNSPAN_LINK_TYPE, kind);
    Link {
        trace_id: trace.0.to_vec(),
        span_id: ids::connect(key, trace).0.to_vec(),
        trace_state: String::new(),
        attributes: attributes.finish(),
        dropped_attributes_count: 0,
        flags: TRACE_FLAGS | HAS_IS_REMOTE,
    }
}
