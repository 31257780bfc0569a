//! The facts of an attempt as attributes, alike in every signal.

use super::attributes::Attributes;
use super::ids;
use super::names::{facts, otel, owner, resource, verdict, wire};
use super::verdict_text::{error_type, explanation};
use crate::capture::observation::Direction;
use crate::capture::tuple::{Addr, Tuple};
use crate::identify::Identity;
use crate::identify::describe::Described;
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
    attributes.str(otel::NETWORK_TRANSPORT, "tcp");
    attributes.str(otel::NETWORK_TYPE, if address.is_v4() { "ipv4" } else { "ipv6" });
}

/// The ends of a client: asked for, the socket's own, at the node's interface.
pub fn put_client_ends(attributes: &mut Attributes, attempt: &Attempt) {
    if let Some(destination) = attempt.destination() {
        attributes.endpoint(otel::SERVER_ADDRESS, otel::SERVER_PORT, destination);
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
    attributes.endpoint(wire::LOCAL_ADDRESS, wire::LOCAL_PORT, tuple.src);
    attributes.endpoint(wire::PEER_ADDRESS, wire::PEER_PORT, tuple.dst);
}

/// A socket's own ends: `tuple` runs from itself to its peer.
pub fn put_own_ends(attributes: &mut Attributes, tuple: Tuple) {
    attributes.endpoint(otel::NETWORK_LOCAL_ADDRESS, otel::NETWORK_LOCAL_PORT, tuple.src);
    attributes.endpoint(otel::NETWORK_PEER_ADDRESS, otel::NETWORK_PEER_PORT, tuple.dst);
}

/// The verdict, and the marks that say how far it can be trusted.
pub fn put_verdict(attributes: &mut Attributes, described: &Described) {
    let attempt = &described.attempt;
    let judged = &attempt.verdict;
    attributes.str(verdict::OUTCOME, judged.outcome.as_str());
    attributes.opt_str(otel::ERROR_TYPE, error_type(attempt));
    if let Some(errno) = judged.errno {
        attributes.int(verdict::ERRNO, errno);
    }
    if let Some(cause) = judged.cause {
        attributes.str(verdict::CAUSE, cause.as_str());
        attributes.str(verdict::EVIDENCE, judged.evidence.as_str());
    }
    if !judged.also.is_empty() {
        attributes.strings(verdict::CAUSES, judged.cause.iter().chain(&judged.also).map(|cause| cause.as_str()));
    }
    attributes.opt_str(verdict::RESPONSIBLE, judged.responsible.map(|side| side.as_str()));
    attributes.opt_str(verdict::EXPLANATION, explanation(described).as_deref());
    put_facts(attributes, attempt);
    attributes.int(verdict::SYNS, attempt.syns);
    attributes.strings(verdict::POINTS, points(attempt));
    attributes.mark(verdict::REUSED, attempt.reused);
    attributes.mark(verdict::REUSE_POSSIBLE, attempt.reuse_possible);
    attributes.mark(verdict::LEDGER_PARTIAL, attempt.ledger_partial);
    attributes.mark(verdict::LOSSY, attempt.lossy);
    attributes.mark(verdict::PROXIED, attempt.proxied);
    if !attempt.trace_survives_nat {
        attributes.bool(verdict::TRACE_SURVIVES_NAT, false);
    }
}

/// What the verdict rests on beside the segments.
fn put_facts(attributes: &mut Attributes, attempt: &Attempt) {
    let known = &attempt.facts;
    if let Some(drop) = &known.drop {
        attributes.opt_str(facts::DROP_REASON, drop.reason.as_deref());
        attributes.opt_str(facts::DROP_PLACE, drop.place.as_deref());
        attributes.mark(facts::DROP_ANSWER, drop.answer);
    }
    if let Some(icmp) = known.icmp {
        attributes.int(facts::ICMP_TYPE, icmp.kind);
        attributes.int(facts::ICMP_CODE, icmp.code);
        attributes.str(facts::ICMP_FROM, &icmp.from.to_string());
    }
    if let Some(snat) = known.snat {
        attributes.int(facts::SNAT_USED, snat.used);
        if let Some((low, high)) = snat.range {
            attributes.int(facts::SNAT_LIMIT, u32::from(high.saturating_sub(low)) + 1);
        }
    }
    if let Some(competitor) = &known.competitor {
        attributes.endpoint(facts::COMPETITOR_ADDRESS, facts::COMPETITOR_PORT, competitor.tuple.src);
        attributes.str(facts::COMPETITOR_TRACE_ID, &competitor.trace.to_string());
    }
    attributes.mark(facts::GUARD, known.guard);
    if let Some(listener) = known.listener {
        attributes.int(facts::LISTENER_QUEUE, listener.queue);
        attributes.int(facts::LISTENER_LIMIT, listener.limit);
        attributes.int(facts::LISTENER_OVERFLOWS, i64::try_from(listener.overflows).unwrap_or(i64::MAX));
    }
}

/// Where an attempt was seen, in order.
pub fn points(attempt: &Attempt) -> Vec<String> {
    let socket = attempt.client.is_some().then(|| "socket".to_owned());
    socket.into_iter().chain(attempt.sightings.iter().map(point)).collect()
}

fn point(sighting: &Sighting) -> String {
    format!("{}:{}:{}", sighting.kind.as_str(), sighting.interface, direction(sighting.direction))
}

/// The far side's names.
pub fn put_peer(attributes: &mut Attributes, peer: &Identity) {
    if let Some(name) = peer.get(resource::SERVICE_NAME) {
        attributes.str(otel::SERVICE_PEER_NAME, name);
        attributes.str(otel::PEER_SERVICE, name);
    }
    attributes.opt_str(otel::SERVICE_PEER_NAMESPACE, peer.get(resource::SERVICE_NAMESPACE));
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
            (owner::SERVICE_NAME, resource::SERVICE_NAME),
            (owner::SERVICE_NAMESPACE, resource::SERVICE_NAMESPACE),
            (owner::K8S_POD_NAME, resource::K8S_POD_NAME),
            (owner::K8S_NAMESPACE_NAME, resource::K8S_NAMESPACE_NAME),
        ];
        for (name, of) in names {
            attributes.opt_str(name, identity.get(of));
        }
    }
    attributes.endpoint(owner::LOCAL_ADDRESS, owner::LOCAL_PORT, previous.tuple.src);
    if let Some(tuple) = previous.wire {
        attributes.endpoint(owner::WIRE_ADDRESS, owner::WIRE_PORT, tuple.src);
    }
    if let Some(gap) = previous.gap {
        attributes.double(owner::GAP, gap.as_secs_f64());
    }
    match previous.closed {
        Some(closed) => attributes.double(owner::DURATION, closed.since(previous.opened).as_secs_f64()),
        None => attributes.bool(owner::OPEN, true),
    }
    attributes.str(owner::CLOSED_BY, previous.closed_by.as_str());
    attributes.str(owner::SERVER_STATE, previous.server_state.as_str());
    // One that was open before the agent started has no span.
    if previous.serial != 0 {
        attributes.str(owner::TRACE_ID, &previous.trace.to_string());
        attributes.str(owner::SPAN_ID, &ids::connect(key, previous.trace).to_string());
    }
}
