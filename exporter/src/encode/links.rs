//! Span links, each with its type.

use super::attributes::Attributes;
use super::{ids, wire};
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
/// `links` in Span.
const LINKS: u32 = 13;

/// Writes the links of an attempt's own `tcp connect`, and returns how many more there were: to the previous owner, and
/// to the traces of its later SYNs.
pub fn of_attempt(attempt: &Attempt, key: &IdKey, out: &mut Vec<u8>) -> u32 {
    if let Some(owner) = attempt.previous_owner.as_ref().filter(|owner| owner.serial != 0) {
        to(owner.trace, link_type::PREVIOUS_OWNER, key, out);
    }
    if attempt.retry_traces.is_empty() && attempt.answered_trace.is_none() {
        return 0;
    }
    let mut later: Vec<TraceId> = attempt.retry_traces.clone();
    later.extend(attempt.answered_trace);
    let mut seen = vec![attempt.trace];
    later.retain(|trace| {
        let new = !seen.contains(trace);
        seen.push(*trace);
        new
    });
    let dropped = later.len().saturating_sub(MAX_LINKS - 1);
    later.into_iter().take(MAX_LINKS - 1).for_each(|trace| to(trace, link_type::SYN_RETRY, key, out));
    u32::try_from(dropped).unwrap_or(u32::MAX)
}

/// Writes a link to a trace's `tcp connect`. All of them are of attempts of this node. Of Link `trace_id` is field 1,
/// `span_id` 2, `attributes` 4, `flags` 6.
pub fn to(trace: TraceId, kind: &str, key: &IdKey, out: &mut Vec<u8>) {
    let mut attributes = Attributes::with_capacity(1);
    attributes.str(attribute::SYNSPAN_LINK_TYPE, kind);
    let mut link = Vec::with_capacity(96);
    wire::bytes(&mut link, 1, &trace.0);
    wire::bytes(&mut link, 2, &ids::connect(key, trace).0);
    attributes.write(4, &mut link);
    wire::fixed32(&mut link, 6, TRACE_FLAGS | HAS_IS_REMOTE);
    wire::framed(out, LINKS, &link);
}
