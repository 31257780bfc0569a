//! The rules: from what is known of an attempt to its outcome and cause (design section 5).
//!
//! Outcome (what the application got) and cause (why) are judged apart. Better evidence wins; at equal
//! evidence the order of the table in `verdict.rs` decides. Wrong is worse than unknown: where the
//! evidence does not reach, no cause is given.

use std::time::Duration;

use super::attempt::Verdict;
use super::open::Open;
use super::tenancy::{Tenancy, TenancyKey};
use super::tracker::Tracker;
use super::verdict::{Cause, Evidence, Outcome, Side};
use crate::capture::observation::Mono;

/// When the first retransmission of a SYN is due (RFC 6298, 2.1).
const FIRST_RETRANSMISSION: Duration = Duration::from_secs(1);

/// The judgement of an attempt and what it rests on.
pub(super) struct Judgement {
    pub verdict: Verdict,
    pub ended: Mono,
    /// The tenant that explains it, or the one before it.
    pub owner: Option<TenancyKey>,
    pub reused: bool,
    pub reuse_possible: bool,
    pub lossy: bool,
}

/// What the application got, and when.
fn outcome(open: &Open, errors_seen: bool, flush: bool) -> (Outcome, Mono) {
    if let Some(time) = open.established {
        return (Outcome::Established, time);
    }
    if let Some(time) = open.closed {
        let outcome = match (open.errno, open.gave_up, open.refused) {
            (Some(errno), ..) => by_errno(errno),
            (None, Some(_), _) => Outcome::TimedOut,
            (None, None, Some(_)) => Outcome::Refused,
            // Where the kernel tells of errors, a close without one is the application's own.
            (None, None, None) if errors_seen => Outcome::Aborted,
            (None, None, None) => Outcome::Failed,
        };
        return (outcome, time);
    }
    if open.client.is_some() {
        // Its socket is open still, or its end was lost.
        let outcome = if flush { Outcome::Pending } else { Outcome::Failed };
        return (outcome, open.touched);
    }
    if let Some(server) = &open.server {
        return (Outcome::Established, server.established);
    }
    if let Some(time) = open.refused {
        return (Outcome::Refused, time);
    }
    match open.syn_ack {
        Some(syn_ack) => (Outcome::Established, syn_ack.time),
        None if flush => (Outcome::Pending, open.touched),
        None => (Outcome::Failed, open.touched),
    }
}

/// The outcome of an error number that ended a connect() (errno(3)).
fn by_errno(errno: i32) -> Outcome {
    const ENETDOWN: i32 = 100;
    const ENETUNREACH: i32 = 101;
    const ETIMEDOUT: i32 = 110;
    const ECONNREFUSED: i32 = 111;
    const EHOSTDOWN: i32 = 112;
    const EHOSTUNREACH: i32 = 113;
    match errno {
        ECONNREFUSED => Outcome::Refused,
        ETIMEDOUT => Outcome::TimedOut,
        ENETDOWN | ENETUNREACH | EHOSTDOWN | EHOSTUNREACH => Outcome::Unreachable,
        _ => Outcome::Failed,
    }
}

/// Judges an attempt. `flush` says that the tracker ends and not the attempt.
pub(super) fn judge(tracker: &Tracker, open: &Open, flush: bool) -> Judgement {
    let (outcome, ended) = outcome(open, tracker.options.errors_seen, flush);
    let lossy = tracker.last_lost.is_some_and(|lost| lost >= open.started);
    let previous = previous_tenant(tracker, open);
    let reused = previous.is_some();
    let mut owner = previous.map(|(key, _)| key);
    let mut held: Vec<(Cause, Evidence)> = Vec::new();
    let mut reuse_possible = false;
    let silent = !open.answered();
    let over = !matches!(outcome, Outcome::Established | Outcome::Pending);

    if let Some(stale) = open.stale {
        match stale_owner(tracker, open, stale) {
            Some((key, evidence)) => {
                owner = Some(key);
                held.push((Cause::SourcePortReuse, evidence));
            }
            None => held.push((Cause::UnexpectedAck, Evidence::None)),
        }
    }
    let refused = outcome == Outcome::Refused && open.refused.is_some();
    // An application that closed before anything was due saw nothing wrong.
    let hasty = outcome == Outcome::Aborted && open.syns() <= 1 && ended.since(open.started) < FIRST_RETRANSMISSION;
    let mut suspected = false;
    if over && reused && open.stale.is_none() && (silent || refused) && !hasty {
        let destination = open.destination();
        if tracker.destinations.answered_others(destination, &open.syn_times) {
            suspected = tracker.destinations.fresh_fare_better(destination);
            if suspected {
                held.push((Cause::SourcePortReuseSuspected, Evidence::Tuple));
            }
        } else {
            reuse_possible = silent;
        }
    }
    if hasty && silent {
        held.push((Cause::ClientAborted, Evidence::Kernel));
    } else if over && silent && !suspected {
        if dropped(tracker, open, lossy) {
            held.push((Cause::DroppedInNode, Evidence::Absence));
        } else if open.left_node() && !lossy {
            held.push((Cause::NoResponse, Evidence::Absence));
        }
    }
    if refused && !suspected {
        // The kernel's own word, where it was heard; else the numbers of the RST.
        let evidence = if open.errno.is_some() { Evidence::Kernel } else { Evidence::Exact };
        held.push((Cause::ConnectionRefused, evidence));
    }
    let waited = open.syns() > 1 && matches!(outcome, Outcome::Established | Outcome::Refused);
    if waited && open.stale.is_none() && !open.own_ack && !suspected {
        held.push((Cause::SynLost, Evidence::Absence));
    }
    held.sort_by_key(|&(cause, evidence)| (evidence, cause.rank()));
    let first = held.first().copied();
    let evidence = first.map_or(Evidence::None, |(_, evidence)| evidence);
    let verdict = Verdict {
        outcome,
        errno: open.errno,
        cause: first.map(|(cause, _)| cause),
        also: held.iter().skip(1).map(|&(cause, _)| cause).collect(),
        evidence,
        responsible: first.and_then(|(cause, evidence)| side(open, cause, evidence)),
    };
    Judgement { verdict, ended, owner, reused, reuse_possible: reuse_possible && !suspected, lossy }
}

/// The responsible side. Where no NAT took part, the port was the client's own choice.
fn side(open: &Open, cause: Cause, evidence: Evidence) -> Option<Side> {
    let own_choice = matches!(cause, Cause::SourcePortReuse | Cause::SourcePortReuseSuspected)
        && open.outer().is_none_or(|wire| wire.src == open.inner().src);
    if own_choice { Some(Side::Client) } else { cause.side(evidence) }
}

/// The latest tenant of any of the attempt's tuples, if it was there within the reuse window.
fn previous_tenant<'a>(tracker: &'a Tracker, open: &Open) -> Option<(TenancyKey, &'a Tenancy)> {
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
            if earlier(tenancy, since) && tenancy.ended_at(ack) {
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

/// Whether the SYN was dropped inside the node: it entered, at least two of it never left, and a witness
/// went the same way.
fn dropped(tracker: &Tracker, open: &Open, lossy: bool) -> bool {
    let Some(entry) = open.entry(tracker.options.host_netns) else { return false };
    let first = open.first_syn();
    !lossy
        && !open.left()
        && open.syns() >= 2
        && tracker.witnesses.speaks(entry, open.inner().dst.addr, first, tracker.last_lost)
}
