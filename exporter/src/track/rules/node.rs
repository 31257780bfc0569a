//! Faults inside this node: the SYN or its answer was dropped, or a rule refused it.

use super::{Held, Known};
use crate::capture::observation::Mono;
use crate::track::attempt::{Competitor, Facts};
use crate::track::causes::Cause;
use crate::track::extra::{Extra, Where};
use crate::track::node;
use crate::track::open::Open;
use crate::track::tracker::Tracker;
use crate::track::verdict::{Evidence, Side};
use crate::track::witness::Entry;

/// How near in time the winner of a race came up.
const RACE: std::time::Duration = std::time::Duration::from_millis(1_000);

/// Adds what holds.
pub fn judge(tracker: &Tracker, open: &Open, known: &Known, held: &mut Held) {
    let empty = Extra::default();
    let extra = open.extra.as_deref().unwrap_or(&empty);
    denied(tracker, open, extra, known, held);
    if !held.any(&[Cause::PolicyDenied]) {
        dropped(tracker, open, extra, known, held);
    }
    reply_dropped(tracker, open, extra, known, held);
}

/// A rule refused it: an ICMP error of this node that says so, or a RST that never came in from outside.
fn denied(tracker: &Tracker, open: &Open, extra: &Extra, known: &Known, held: &mut Held) {
    if let Some(icmp) = extra.icmp
        && !icmp.from_outside
        && says_denied(icmp.fact.kind, icmp.fact.code, icmp.fact.from.is_v4())
        && known.over
    {
        held.facts.icmp = Some(icmp.fact);
        let evidence = if by_netfilter(extra) { Evidence::Kernel } else { Evidence::Exact };
        held.add(Cause::PolicyDenied, evidence);
        return;
    }
    let at_pod_only = open.reset_seen.out_pod && !open.reset_seen.in_outer && !open.reset_seen.in_pod;
    if !known.refused || !at_pod_only {
        return;
    }
    if by_netfilter(extra) {
        held.rest_on(extra.syn_drop.as_ref());
        held.add(Cause::PolicyDenied, Evidence::Kernel);
    } else if !known.lossy {
        let witnessed = if open.left_node() {
            // It left, so the answer should have come in where others' answers did.
            open.client_nic().is_some_and(|ifindex| {
                let family = open.inner().dst.addr.unspecified();
                tracker.witnesses.speaks(Entry::Replies(ifindex), family, open.first_syn(), tracker.last_lost)
            })
        } else {
            // Others to that address left: it is no address of the node itself, which may well refuse.
            witness(tracker, open)
        };
        if witnessed && (!open.left() || open.left_node()) {
            held.add(Cause::PolicyDenied, Evidence::Absence);
        }
    }
}

/// Whether netfilter dropped the SYN in the node, by the kernel's own record.
fn by_netfilter(extra: &Extra) -> bool {
    extra.syn_drop.as_ref().is_some_and(|drop| drop.place == Where::Node && drop.is("NETFILTER_DROP"))
}

/// ICMP errors that a rule or a route sends on purpose: administratively prohibited (RFC 1812, 5.2.7.1; RFC
/// 4443, 3.1), and port unreachable, netfilter's default, which no host sends for TCP.
pub fn says_denied(kind: u8, code: u8, v4: bool) -> bool {
    if v4 { kind == 3 && matches!(code, 3 | 9 | 10 | 13) } else { kind == 1 && matches!(code, 1 | 4 | 5 | 6) }
}

/// The SYN entered the node and never left it.
fn dropped(tracker: &Tracker, open: &Open, extra: &Extra, known: &Known, held: &mut Held) {
    let unanswered = known.over && known.silent && !held.suspected && !known.hasty;
    let said = extra.icmp.is_some();
    let drop = extra.syn_drop.as_ref().filter(|drop| open.left_since(drop.time).is_none() || !known.over);
    if let Some(drop) = drop {
        let came_up = open.came_up() && open.syns() > 1;
        if said || !(unanswered || came_up) || drop.is_neighbour() {
            return;
        }
        held.rest_on(Some(drop));
        match drop.place {
            Where::Node if drop.may_be_netfilter() && !drop.is_by_rule() => {
                on_insert(tracker, open, extra, drop.time, Evidence::Kernel, held);
            }
            Where::Client => held.add_with(Cause::DroppedInNode, Evidence::Kernel, Side::Client),
            _ => held.add(Cause::DroppedInNode, Evidence::Kernel),
        }
    } else if unanswered && !said && !known.lossy && !open.left() && open.syns() >= 2 && witness(tracker, open) {
        // An entry that was confirmed went on: it left by a way that is not watched.
        if extra.nat.is_none() {
            on_insert(tracker, open, extra, open.first_syn(), Evidence::Absence, held);
        }
    }
}

/// Which of the drops that look alike it is.
fn on_insert(tracker: &Tracker, open: &Open, extra: &Extra, time: Mono, evidence: Evidence, held: &mut Held) {
    let tuple = extra.syn_drop.as_ref().map(|drop| drop.tuple);
    let destination = tuple.map_or(open.inner().dst, |tuple| tuple.dst);
    if tracker.node.insert_failed_at(time) {
        held.facts.snat = tracker.node.ports_at(destination, time);
        let competitor = competitor(tracker, open, extra, time);
        // A SYN that was sent again found a port: where somebody took this one's first, that was the reason.
        let found_one = open.came_up() && competitor.is_some();
        if held.facts.snat.is_some_and(node::exhausted) && !found_one {
            return held.add(Cause::SnatPortExhausted, evidence);
        }
        if let Some(competitor) = competitor {
            held.facts = Facts { competitor: Some(competitor), ..std::mem::take(&mut held.facts) };
            return held.add(Cause::SnatRace, evidence);
        }
    }
    if tracker.node.full_at(open.first_syn(), time) {
        return held.add(Cause::ConntrackTableFull, evidence);
    }
    held.add(Cause::DroppedInNode, evidence);
}

/// Who took the wire tuple at the same moment: seen at once, or by the tenancy that came of it.
fn competitor(tracker: &Tracker, open: &Open, extra: &Extra, time: Mono) -> Option<Competitor> {
    if extra.competitor.is_some() {
        return extra.competitor.clone();
    }
    let drop = extra.syn_drop.as_ref()?;
    let (_, tenancy) = tracker
        .ledger
        .tenants(drop.tuple)
        .find(|(_, tenancy)| tenancy.serial != open.serial && tenancy.serial != 0)
        .filter(|(_, tenancy)| tenancy.opened.since(time).max(time.since(tenancy.opened)) <= RACE)?;
    Some(Competitor {
        serial: tenancy.serial,
        trace: tenancy.trace,
        process: tenancy.process.as_deref().cloned(),
        netns: tenancy.netns,
        tuple: tenancy.inner,
        wire: tenancy.wire,
    })
}

/// The answer reached the node's interface and never the pod's.
fn reply_dropped(tracker: &Tracker, open: &Open, extra: &Extra, known: &Known, held: &mut Held) {
    if !known.over || open.came_up() || open.handshake_reset == Some(true) {
        return;
    }
    if let Some(drop) = &extra.answer_drop
        && !open.syn_ack_seen.out_pod
    {
        held.rest_on(Some(drop));
        match drop.place {
            Where::Client => held.add_with(Cause::ReplyDroppedInNode, Evidence::Kernel, Side::Client),
            _ => held.add(Cause::ReplyDroppedInNode, Evidence::Kernel),
        }
        return;
    }
    let twice = open.syn_acks_again > 0 || open.syns() >= 2;
    if !open.syn_ack_seen.in_outer || open.syn_ack_seen.out_pod || known.lossy || !twice {
        return;
    }
    let family = open.inner().dst.addr.unspecified();
    let witnessed = match open.client_nic() {
        Some(ifindex) => tracker.witnesses.speaks(Entry::Replies(ifindex), family, open.first_syn(), tracker.last_lost),
        // A process of the node: its socket is the witness, and it got nothing.
        None => open.client.is_some() && open.entry(tracker.options.host_netns) == Some(Entry::Host),
    };
    if witnessed {
        held.add(Cause::ReplyDroppedInNode, Evidence::Absence);
    }
}

/// Whether others from the same entry to the same address were seen leaving.
fn witness(tracker: &Tracker, open: &Open) -> bool {
    open.entry(tracker.options.host_netns).is_some_and(|entry| {
        tracker.witnesses.speaks(entry, open.inner().dst.addr, open.first_syn(), tracker.last_lost)
    })
}
