//! The source port was in use before: proven by the stale acknowledgement, or suspected.

use super::{Held, Known};
use crate::capture::observation::{Mono, PointKind};
use crate::track::causes::Cause;
use crate::track::open::Open;
use crate::track::tenancy::{Tenancy, TenancyKey};
use crate::track::tracker::Tracker;
use crate::track::verdict::{Evidence, Side};

/// Adds what holds.
pub fn judge(tracker: &Tracker, open: &Open, known: &Known, held: &mut Held) {
    if let Some(stale) = open.stale {
        // A guard against floods answers first SYNs falsely, whoever sends them: it is another number of
        // hops away than the server, or does so to fresh tuples as well.
        held.facts.guard = open.answer_ttl.differ() || tracker.destinations.guards(open.destination());
        match stale_owner(tracker, open, stale) {
            Some((_, Evidence::Tuple)) if held.facts.guard => held.add(Cause::UnexpectedAck, Evidence::None),
            Some((key, evidence)) => {
                held.owner = Some(key);
                add(open, held, Cause::SourcePortReuse, evidence);
            }
            None => held.add(Cause::UnexpectedAck, Evidence::None),
        }
    }
    let explained = open.extra.as_ref().is_some_and(|extra| extra.icmp.is_some() || extra.syn_drop.is_some());
    let unanswered = known.silent || known.refused;
    if known.over && known.reused && open.stale.is_none() && unanswered && !known.hasty && !explained {
        let destination = open.destination();
        if tracker.destinations.answered_others(destination, &open.syn_times) {
            held.suspected = tracker.destinations.fresh_fare_better(destination);
            if held.suspected {
                add(open, held, Cause::SourcePortReuseSuspected, Evidence::Tuple);
            }
        } else {
            held.reuse_possible = known.silent;
        }
    }
}

/// Where no NAT took part, the port was the client's own choice.
fn add(open: &Open, held: &mut Held, cause: Cause, evidence: Evidence) {
    // Where only the node's outward interface was seen, NAT before it cannot be told from none.
    let nat_unseen = open.wire_only && open.sightings.iter().all(|sighting| sighting.kind == PointKind::NodeNic);
    if nat_unseen && open.outer().is_none_or(|wire| wire.src == open.inner().src) {
        held.add_unnamed(cause, evidence);
    } else if open.outer().is_none_or(|wire| wire.src == open.inner().src) {
        held.add_with(cause, evidence, Side::Client);
    } else {
        held.add(cause, evidence);
    }
}

/// The latest tenant of any of the attempt's tuples, if it was there within the reuse window.
pub(in crate::track) fn previous_tenant<'a>(tracker: &'a Tracker, open: &Open) -> Option<(TenancyKey, &'a Tenancy)> {
    open.tenures().iter().rev().find_map(|&(tuple, since)| {
        let earliest = since.minus(tracker.options.reuse_window);
        tracker
            .ledger
            .tenants(tuple)
            .find(|(_, tenancy)| tenancy.serial != open.serial && tenancy.opened <= since)
            .filter(|(_, tenancy)| tenancy.closed.is_none_or(|closed| closed >= earliest))
    })
}

/// Whose connection a stale answer belongs to, and how sure that is.
fn stale_owner(tracker: &Tracker, open: &Open, ack: u32) -> Option<(TenancyKey, Evidence)> {
    let tenures = open.tenures();
    let earlier = |tenancy: &Tenancy, since: Mono| tenancy.serial != open.serial && tenancy.opened <= since;
    for &(tuple, since) in tenures.iter().rev() {
        for (key, tenancy) in tracker.ledger.tenants(tuple) {
            if earlier(tenancy, since) && (tenancy.ended_at(ack) || tenancy.stands_at(ack)) {
                return Some((key, Evidence::Exact));
            }
        }
    }
    // An owner whose own wire tuple was never known can be found by where it ended; one whose tuple is
    // known and differs is no owner of this tuple.
    let known = open.outer().is_some();
    for destination in [open.destination(), open.inner().dst] {
        for (key, tenancy) in tracker.ledger.ended_at(destination, ack) {
            if earlier(tenancy, open.first_syn()) && (tenancy.wire.is_none() || !known) {
                return Some((key, Evidence::Exact));
            }
        }
    }
    let (key, tenancy) = previous_tenant(tracker, open)?;
    let evidence = if tenancy.near(ack) { Evidence::Window } else { Evidence::Tuple };
    Some((key, evidence))
}
