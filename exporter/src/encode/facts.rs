//! The facts of an attempt as attributes, alike in every signal.

use super::attributes::{Attributes, Strings};
use super::ids;
use super::verdict_text::{error_type, explanation};
use crate::capture::observation::Direction;
use crate::capture::tuple::{Addr, Tuple};
use crate::identify::Identity;
use crate::identify::describe::Described;
use crate::names::attribute;
use crate::track::attempt::{Attempt, PreviousOwner, Sighting};
use crate::track::trace_id::IdKey;

/// The word for a side of an interface.
pub fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

/// Transport and family.
pub fn put_transport(attributes: &mut Attributes, address: Addr) {
    attributes.str(attribute::NETWORK_TRANSPORT, "tcp");
    attributes.str(attribute::NETWORK_TYPE, if address.is_v4() { "ipv4" } else { "ipv6" });
}

/// The ends of a client: asked for, the socket's own, at the node's interface.
pub fn put_client_ends(attributes: &mut Attributes, attempt: &Attempt) {
    if let Some(destination) = attempt.destination() {
        attributes.endpoint(attribute::SERVER_ADDRESS, attribute::SERVER_PORT, destination);
        put_transport(attributes, destination.addr);
    }
    if let Some(tuple) = attempt.client_tuple() {
        put_own_ends(attributes, tuple);
    }
    if let Some(&tuple) = attempt.wire.last() {
        put_wire_ends(attributes, tuple);
    }
}

/// The ends at the node's interface.
pub fn put_wire_ends(attributes: &mut Attributes, tuple: Tuple) {
    attributes.endpoint(attribute::SYNSPAN_WIRE_LOCAL_ADDRESS, attribute::SYNSPAN_WIRE_LOCAL_PORT, tuple.src);
    attributes.endpoint(attribute::SYNSPAN_WIRE_PEER_ADDRESS, attribute::SYNSPAN_WIRE_PEER_PORT, tuple.dst);
}

/// A socket's own ends: `tuple` runs from itself to its peer.
pub fn put_own_ends(attributes: &mut Attributes, tuple: Tuple) {
    attributes.endpoint(attribute::NETWORK_LOCAL_ADDRESS, attribute::NETWORK_LOCAL_PORT, tuple.src);
    attributes.endpoint(attribute::NETWORK_PEER_ADDRESS, attribute::NETWORK_PEER_PORT, tuple.dst);
}

/// The verdict, and the marks that say how far it can be trusted.
pub fn put_verdict(attributes: &mut Attributes, described: &Described) {
    let attempt = &described.attempt;
    let judged = &attempt.verdict;
    attributes.str(attribute::SYNSPAN_OUTCOME, judged.outcome.as_str());
    attributes.opt_str(attribute::ERROR_TYPE, error_type(attempt));
    if let Some(errno) = judged.errno {
        attributes.int(attribute::SYNSPAN_ERRNO, errno);
    }
    if let Some(cause) = judged.cause {
        attributes.str(attribute::SYNSPAN_CAUSE, cause.as_str());
        attributes.str(attribute::SYNSPAN_EVIDENCE, judged.evidence.as_str());
    }
    if !judged.also.is_empty() {
        attributes
            .strings(attribute::SYNSPAN_CAUSES, judged.cause.iter().chain(&judged.also).map(|cause| cause.as_str()));
    }
    attributes.opt_str(attribute::SYNSPAN_RESPONSIBLE, judged.responsible.map(|side| side.as_str()));
    attributes.opt_str(attribute::SYNSPAN_EXPLANATION, explanation(described).as_deref());
    put_facts(attributes, attempt);
    attributes.int(attribute::SYNSPAN_SYNS, attempt.syns);
    attributes.list(attribute::SYNSPAN_POINTS, |points| put_points(points, attempt));
    attributes.mark(attribute::SYNSPAN_REUSE, attempt.reused);
    attributes.mark(attribute::SYNSPAN_REUSE_POSSIBLE, attempt.reuse_possible);
    attributes.mark(attribute::SYNSPAN_LEDGER_PARTIAL, attempt.ledger_partial);
    attributes.mark(attribute::SYNSPAN_LOSSY, attempt.lossy);
    attributes.mark(attribute::SYNSPAN_PROXIED, attempt.proxied);
    if !attempt.trace_survives_nat {
        attributes.bool(attribute::SYNSPAN_TRACE_SURVIVES_NAT, false);
    }
}

/// What the verdict rests on beside the segments.
fn put_facts(attributes: &mut Attributes, attempt: &Attempt) {
    let known = &attempt.facts;
    if let Some(drop) = &known.drop {
        attributes.opt_str(attribute::SYNSPAN_DROP_REASON, drop.reason.as_deref());
        attributes.opt_str(attribute::SYNSPAN_DROP_PLACE, drop.place.as_deref());
        attributes.mark(attribute::SYNSPAN_DROP_ANSWER, drop.answer);
    }
    if let Some(icmp) = known.icmp {
        attributes.int(attribute::SYNSPAN_ICMP_TYPE, icmp.kind);
        attributes.int(attribute::SYNSPAN_ICMP_CODE, icmp.code);
        attributes.str(attribute::SYNSPAN_ICMP_FROM, &icmp.from.to_string());
    }
    if let Some(snat) = known.snat {
        attributes.int(attribute::SYNSPAN_SNAT_PORTS_USED, snat.used);
        if let Some((low, high)) = snat.range {
            attributes.int(attribute::SYNSPAN_SNAT_PORTS_LIMIT, u32::from(high.saturating_sub(low)) + 1);
        }
    }
    if let Some(competitor) = &known.competitor {
        attributes.endpoint(
            attribute::SYNSPAN_COMPETITOR_LOCAL_ADDRESS,
            attribute::SYNSPAN_COMPETITOR_LOCAL_PORT,
            competitor.tuple.src,
        );
        attributes.str(attribute::SYNSPAN_COMPETITOR_TRACE_ID, &competitor.trace.to_string());
    }
    attributes.mark(attribute::SYNSPAN_GUARD, known.guard);
    if let Some(listener) = known.listener {
        attributes.int(attribute::SYNSPAN_LISTENER_QUEUE, listener.queue);
        attributes.int(attribute::SYNSPAN_LISTENER_LIMIT, listener.limit);
        attributes.int(attribute::SYNSPAN_LISTENER_OVERFLOWS, i64::try_from(listener.overflows).unwrap_or(i64::MAX));
    }
}

/// Where an attempt was seen, in order.
fn put_points(points: &mut Strings, attempt: &Attempt) {
    if attempt.client.is_some() {
        points.push("socket");
    }
    let mut point = String::with_capacity(48);
    for Sighting { kind, interface, direction: way, .. } in &attempt.sightings {
        point.clear();
        point.extend([kind.as_str(), ":", interface, ":", direction(*way)]);
        points.push(&point);
    }
}

/// The far side's names.
pub fn put_peer(attributes: &mut Attributes, peer: &Identity) {
    if let Some(name) = peer.get(attribute::SERVICE_NAME) {
        attributes.str(attribute::SERVICE_PEER_NAME, name);
        attributes.str(attribute::PEER_SERVICE, name);
    }
    attributes.opt_str(attribute::SERVICE_PEER_NAMESPACE, peer.get(attribute::SERVICE_NAMESPACE));
}

/// Who held the wire tuple before.
pub fn put_previous_owner(
    attributes: &mut Attributes,
    previous: &PreviousOwner,
    identity: Option<&Identity>,
    key: &IdKey,
) {
    if let Some(identity) = identity {
        let names = [
            (attribute::SYNSPAN_PREVIOUS_OWNER_SERVICE_NAME, attribute::SERVICE_NAME),
            (attribute::SYNSPAN_PREVIOUS_OWNER_SERVICE_NAMESPACE, attribute::SERVICE_NAMESPACE),
            (attribute::SYNSPAN_PREVIOUS_OWNER_K8S_POD_NAME, attribute::K8S_POD_NAME),
            (attribute::SYNSPAN_PREVIOUS_OWNER_K8S_NAMESPACE_NAME, attribute::K8S_NAMESPACE_NAME),
        ];
        for (name, of) in names {
            attributes.opt_str(name, identity.get(of));
        }
    }
    attributes.endpoint(
        attribute::SYNSPAN_PREVIOUS_OWNER_LOCAL_ADDRESS,
        attribute::SYNSPAN_PREVIOUS_OWNER_LOCAL_PORT,
        previous.tuple.src,
    );
    if let Some(tuple) = previous.wire {
        attributes.endpoint(
            attribute::SYNSPAN_PREVIOUS_OWNER_WIRE_ADDRESS,
            attribute::SYNSPAN_PREVIOUS_OWNER_WIRE_PORT,
            tuple.src,
        );
    }
    if let Some(gap) = previous.gap {
        attributes.double(attribute::SYNSPAN_PREVIOUS_OWNER_GAP, gap.as_secs_f64());
    }
    match previous.closed {
        Some(closed) => {
            attributes.double(attribute::SYNSPAN_PREVIOUS_OWNER_DURATION, closed.since(previous.opened).as_secs_f64())
        }
        None => attributes.bool(attribute::SYNSPAN_PREVIOUS_OWNER_OPEN, true),
    }
    attributes.str(attribute::SYNSPAN_PREVIOUS_OWNER_CLOSED_BY, previous.closed_by.as_str());
    attributes.str(attribute::SYNSPAN_PREVIOUS_OWNER_SERVER_STATE, previous.server_state.as_str());
    // One that was open before the agent started has no span.
    if previous.serial != 0 {
        attributes.str(attribute::SYNSPAN_PREVIOUS_OWNER_TRACE_ID, &previous.trace.to_string());
        attributes.str(attribute::SYNSPAN_PREVIOUS_OWNER_SPAN_ID, &ids::connect(key, previous.trace).to_string());
    }
}
