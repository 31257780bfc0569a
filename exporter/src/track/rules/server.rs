//! The server's side, where the server is a pod or a process of this node.

use super::{Held, Known};
use crate::track::attempt::Role;
use crate::track::causes::Cause;
use crate::track::open::Open;
use crate::track::tracker::Tracker;
use crate::track::verdict::{Evidence, Outcome, Side};
use crate::track::witness::Entry;

/// Adds what holds.
pub fn judge(tracker: &Tracker, open: &Open, known: &Known, held: &mut Held) {
    overflow(open, held);
    let overflowed = held.any(&[Cause::AcceptQueueOverflow]);
    match open.handshake_reset {
        Some(true) if !open.came_up() => held.add_with(Cause::HandshakeReset, Evidence::Exact, Side::Client),
        Some(false) if open.server.is_none() => held.add(Cause::HandshakeReset, Evidence::Exact),
        _ => {}
    }
    if overflowed || !known.over || known.lossy || open.came_up() {
        return;
    }
    if unanswered(tracker, open) {
        let kernel = open.extra.as_ref().and_then(|extra| extra.server_drop.as_ref());
        held.rest_on(kernel);
        let evidence = if kernel.is_some() { Evidence::Kernel } else { Evidence::Absence };
        held.add(Cause::SynUnansweredByServer, evidence);
    }
    let answered_in_vain = open.syn_acks_again > 0 && !open.client_acked && open.handshake_reset.is_none();
    if open.role() == Role::Server && answered_in_vain && !held.any(&[Cause::ReplyDroppedInNode]) {
        held.add(Cause::SynAckUnanswered, Evidence::Absence);
    }
}

/// The listener's queue was full: the kernel says so by a drop's reason, the queue or its counter. It must
/// also have touched this attempt.
fn overflow(open: &Open, held: &mut Held) {
    let Some(extra) = &open.extra else { return };
    let dropped = extra.server_drop.as_ref().filter(|drop| drop.is_overflow());
    let fact = extra.listener_fact();
    let full = fact.is_some_and(|fact| fact.queue > fact.limit || fact.overflows > 0);
    let reached = open.server_nic().map_or(0, |(_, syns)| syns);
    let touched =
        reached > 1 && open.syn_ack.is_none() || open.syn_acks_again > 0 || open.handshake_reset == Some(false);
    if dropped.is_some() || full && touched {
        held.facts.listener = fact;
        held.rest_on(dropped);
        held.add(Cause::AcceptQueueOverflow, Evidence::Kernel);
    }
}

/// The SYN went in to the pod at least twice, and no answer came out where answers of others come out.
fn unanswered(tracker: &Tracker, open: &Open) -> bool {
    let Some((ifindex, syns)) = open.server_nic() else { return false };
    let silent = !open.answered() && open.extra.as_ref().is_none_or(|extra| extra.icmp.is_none());
    let family = open.inner().dst.addr.unspecified();
    let dropped_there = open.extra.as_ref().is_some_and(|extra| extra.server_drop.is_some());
    silent
        && syns >= 2
        && (dropped_there
            || tracker.witnesses.speaks(Entry::Answers(ifindex), family, open.first_syn(), tracker.last_lost))
}

/// Whether the wait for an answer is the server's: the first SYN reached it, and only a later one was
/// answered.
pub fn answered_late(open: &Open, outcome: Outcome) -> bool {
    outcome == Outcome::Established && open.server_nic().is_some_and(|(_, syns)| syns > 1)
}
