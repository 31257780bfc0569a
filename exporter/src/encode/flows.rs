//! Flows as log records: the event `synspan.flow`.

use std::fmt::Write as _;
use std::time::Duration;

use super::attributes::Attributes;
use super::facts;
use super::ids;
use super::logs::{Event, Severity, put_age, put_far};
use crate::capture::observation::Mono;
use crate::identify::describe::DescribedFlow;
use crate::names::{attribute, event};
use crate::track::flow::FlowSide;
use crate::track::trace_id::IdKey;

/// The record of a flow, as a LogRecord's bytes.
pub fn record(described: &DescribedFlow, key: &IdKey, sampled: bool) -> Vec<u8> {
    let DescribedFlow { flow, clock, peer, destination, .. } = described;
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
    let duration = flow.opened.map(|opened: Mono| flow.at.since(opened));
    if let Some(duration) = duration {
        attributes.double(attribute::SYNSPAN_FLOW_DURATION, duration.as_secs_f64());
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
    let event = Event {
        name: event::SYNSPAN_FLOW,
        severity: Severity::Info,
        time: clock.unix_nanos(flow.at),
        body: line(described, duration),
        span: flow.trace.map(|trace| (trace, ids::connect(key, trace))),
        sampled,
    };
    event.record(&[&attributes])
}

/// What a flow did in one line, which stands alone.
fn line(described: &DescribedFlow, duration: Option<Duration>) -> String {
    let DescribedFlow { flow, own, peer, destination, .. } = described;
    let mut line = String::with_capacity(160);
    line.push_str("tcp flow ");
    line.push_str(own.display_name().as_deref().unwrap_or("?"));
    let (way, end) = match flow.side {
        FlowSide::Client => (" -> ", *destination),
        FlowSide::Server => (" <- ", flow.socket.src),
    };
    line.push_str(way);
    put_far(&mut line, peer.as_ref(), Some(end));
    match flow.end {
        Some(by) => line.extend([" closed by ", by.as_str()]),
        None => line.push_str(" still open"),
    }
    if let Some(duration) = duration {
        put_age(&mut line, duration);
    }
    let totals = &flow.totals;
    // Writing to a string cannot fail.
    let _ = write!(
        line,
        ": sent {} bytes, received {}, {} segments sent again",
        totals.sent_bytes, totals.received_bytes, totals.retransmissions
    );
    line
}
