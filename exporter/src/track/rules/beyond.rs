//! Beyond this node: nothing came back, it came late, or somebody out there said no.

use super::{Held, Known, node, server};
use crate::track::causes::Cause;
use crate::track::extra::Extra;
use crate::track::open::Open;
use crate::track::tracker::Tracker;
use crate::track::verdict::{Evidence, Outcome, Side};

/// The error numbers by which the kernel tells of an unreachable destination (errno(3)).
const UNREACHABLE: std::ops::RangeInclusive<i32> = 112..=113;
const ENETUNREACH: i32 = 101;

/// Causes that explain why nothing came back, or why it came late.
const EXPLAIN: &[Cause] = &[
    Cause::SnatPortExhausted,
    Cause::SnatRace,
    Cause::ConntrackTableFull,
    Cause::DroppedInNode,
    Cause::ReplyDroppedInNode,
    Cause::PolicyDenied,
    Cause::Unreachable,
    Cause::AcceptQueueOverflow,
    Cause::SynUnansweredByServer,
];

/// Adds what holds.
pub fn judge(_tracker: &Tracker, open: &Open, known: &Known, held: &mut Held) {
    unreachable(open, known, held);
    let explained = held.any(EXPLAIN);
    if known.hasty && known.silent && !explained {
        // With no socket in sight it may be a scanner's or a spoofed SYN, and it is nobody's fault that is known.
        if !open.wire_only {
            held.add(Cause::ClientAborted, Evidence::Kernel);
        }
    } else if known.over && known.silent && !held.suspected && !explained && open.left_node() && !known.lossy {
        held.add(Cause::NoResponse, Evidence::Absence);
    }
    if known.refused && !held.suspected && !held.any(&[Cause::PolicyDenied]) {
        // The kernel's own word, where it was heard; else the numbers of the RST.
        let evidence = if open.errno.is_some() { Evidence::Kernel } else { Evidence::Exact };
        held.add(Cause::ConnectionRefused, evidence);
    }
    let waited = open.syns() > 1 && matches!(known.outcome, Outcome::Established | Outcome::Refused);
    let own = open.stale.is_some() || open.own_ack || held.suspected || explained;
    // One that entered this node and did not leave it was lost here.
    if waited && !own && open.all_left() && !server::answered_late(open, known.outcome) {
        held.add(Cause::SynLost, Evidence::Absence);
    }
}

/// An ICMP error that quotes the SYN, or the kernel's own word that there is no way.
fn unreachable(open: &Open, known: &Known, held: &mut Held) {
    if !known.over || held.any(&[Cause::PolicyDenied]) || open.never_sent.is_some() {
        return;
    }
    let empty = Extra::default();
    let extra = open.extra.as_deref().unwrap_or(&empty);
    let neighbour = extra.syn_drop.as_ref().filter(|drop| drop.is_neighbour());
    if let Some(icmp) = extra.icmp {
        held.facts.icmp = Some(icmp.fact);
        let side = if icmp.from_outside {
            // A host that answers for itself, as firewalls on hosts do, or somebody on the way.
            if icmp.fact.from == open.destination().addr { Some(Side::Server) } else { Some(Side::Network) }
        } else if neighbour.is_some() {
            Some(Side::Network)
        } else if open.wire_only && says_no_host(icmp.fact.kind, icmp.fact.code, icmp.fact.from.is_v4()) {
            None // a route of the node, or a next hop that does not answer: packets do not tell
        } else {
            Some(Side::Node)
        };
        held.rest_on(neighbour);
        let denied = node::says_denied(icmp.fact.kind, icmp.fact.code, icmp.fact.from.is_v4());
        let evidence = if open.errno.is_some() && !denied { Evidence::Kernel } else { Evidence::Exact };
        match side {
            Some(side) => held.add_with(Cause::Unreachable, evidence, side),
            None => held.add_unnamed(Cause::Unreachable, evidence),
        }
        return;
    }
    let told = open.errno.is_some_and(|errno| errno == ENETUNREACH || UNREACHABLE.contains(&errno));
    if told && known.silent {
        held.rest_on(neighbour);
        let side = if neighbour.is_some() { Side::Network } else { Side::Node };
        held.add_with(Cause::Unreachable, Evidence::Kernel, side);
    }
}

/// Host unreachable (RFC 792), address unreachable (RFC 4443, 3.1).
fn says_no_host(kind: u8, code: u8, v4: bool) -> bool {
    (kind, code) == if v4 { (3, 1) } else { (1, 3) }
}
