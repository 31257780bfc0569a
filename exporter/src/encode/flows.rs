//! Flows as log records: the event `synspan.flow`.

use super::attributes::Attributes;
use super::facts;
use super::ids;
use super::logs::{Event, Severity};
use crate::capture::observation::Mono;
use crate::identify::describe::DescribedFlow;
use crate::names::{attribute, event};
use crate::track::flow::FlowSide;
use crate::track::trace_id::IdKey;

/// The record of a flow, as a LogRecord's bytes.
pub fn record(described: &DescribedFlow, key: &IdKey, sampled: bool) -> Vec<u8> {
    let DescribedFlow { flow, clock, own, peer, destination, .. } = described;
    let mut attributes = Attributes::with_capacity(28);
    facts::put_transport(&mut attributes, flow.tuple.dst.addr);
    match flow.side {
        FlowSide::Client => {
            attributes.endpoint(attribute::SERVER_ADDRESS, attribute::SERVER_PORT, *destination);
            facts::put_own_ends(&mut attributes, flow.tuple);
            if let Some(tuple) = flow.wire {
                facts::put_wire_ends(&mut attributes, tuple);
            }
        }
        FlowSide::Server => {
            attributes.endpoint(attribute::CLIENT_ADDRESS, attribute::CLIENT_PORT, flow.socket.src);
            attributes.endpoint(attribute::SERVER_ADDRESS, attribute::SERVER_PORT, flow.socket.dst);
            facts::put_own_ends(&mut attributes, flow.socket.reversed());
        }
    }
    if let Some(peer) = peer {
        facts::put_peer(&mut attributes, peer);
    }
    let totals = flow.totals;
    attributes.str(attribute::SYNSPAN_FLOW_SIDE, flow.side.as_str());
    attributes.int(attribute::SYNSPAN_FLOW_SEQUENCE, flow.sequence);
    attributes.bool(attribute::SYNSPAN_FLOW_FINAL, flow.end.is_some());
    attributes.opt_str(attribute::SYNSPAN_FLOW_CLOSED_BY, flow.end.map(|by| by.as_str()));
    let duration = flow.opened.map(|opened: Mono| flow.at.since(opened).as_secs_f64());
    if let Some(seconds) = duration {
        attributes.double(attribute::SYNSPAN_FLOW_DURATION, seconds);
    }
    for (name, count) in [
        (attribute::SYNSPAN_FLOW_SENT_BYTES, totals.sent_bytes),
        (attribute::SYNSPAN_FLOW_RECEIVED_BYTES, totals.received_bytes),
        (attribute::SYNSPAN_FLOW_SENT_SEGMENTS, totals.sent_segments),
        (attribute::SYNSPAN_FLOW_RECEIVED_SEGMENTS, totals.received_segments),
        (attribute::SYNSPAN_FLOW_RETRANSMISSIONS, totals.retransmissions),
    ] {
        attributes.int(name, i64::try_from(count).unwrap_or(i64::MAX));
    }
    if let Some(rtt) = flow.rtt {
        attributes.double(attribute::SYNSPAN_FLOW_RTT, rtt.as_secs_f64());
    }
    let who = own.display_name().unwrap_or_else(|| "?".to_owned());
    let far = peer.as_ref().and_then(|peer| peer.display_name());
    let (way, end) = match flow.side {
        FlowSide::Client => ("->", destination.to_string()),
        FlowSide::Server => ("<-", flow.socket.src.to_string()),
    };
    let far = far.map_or_else(|| end.clone(), |name| format!("{name} ({end})"));
    let state = match flow.end {
        Some(by) => format!("closed by {}", by.as_str()),
        None => "still open".to_owned(),
    };
    let age = duration.map(|seconds| format!(" after {seconds:.3} s")).unwrap_or_default();
    let body = format!(
        "tcp flow {who} {way} {far} {state}{age}: sent {} bytes, received {}, {} segments sent again",
        totals.sent_bytes, totals.received_bytes, totals.retransmissions
    );
    let event = Event {
        name: event::SYNSPAN_FLOW,
        severity: Severity::Info,
        time: clock.unix_nanos(flow.at),
        body,
        span: flow.trace.map(|trace| (trace, ids::connect(key, trace))),
        sampled,
    };
    event.record(&[&attributes])
}
