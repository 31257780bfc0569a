//! The judgement: from what is known of an attempt to its outcome and cause (design section 5).
//!
//! Outcome (what the application got) and cause (why) are judged apart. Better evidence wins; at equal
//! evidence the order of the table in `causes.rs` decides. Wrong is worse than unknown: where the
//! evidence does not reach, no cause is given. The rules themselves are in `rules/`.

use std::time::Duration;

use super::attempt::{Facts, Verdict};
use super::causes::Cause;
use super::errno;
use super::open::Open;
use super::rules::{self, Held, Known};
use super::tenancy::TenancyKey;
use super::tracker::Tracker;
use super::verdict::{Evidence, Outcome};
use crate::capture::observation::Mono;
use crate::track::attempt::Role;

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
    pub facts: Facts,
}

/// What the application got, and when.
pub(super) fn outcome(tracker: &Tracker, open: &Open, flush: bool) -> (Outcome, Mono) {
    if let Some(time) = open.established {
        return (Outcome::Established, time);
    }
    if let Some(time) = open.closed {
        let number = open.errno.or_else(|| told_errno(open, time));
        let outcome = match (number, open.gave_up, open.refused) {
            (Some(errno), ..) => errno::outcome(errno),
            (None, ..) if open.never_sent.is_some() => Outcome::Failed,
            (None, Some(_), _) => Outcome::TimedOut,
            (None, None, Some(_)) => Outcome::Refused,
            // The error that ended it was taken before it could be read.
            (None, None, None) if open.extra.as_ref().and_then(|extra| extra.told).is_some_and(|told| told >= time) => {
                Outcome::Failed
            }
            // Where the kernel tells of errors, a close without one is the application's own.
            (None, None, None) if tracker.options.errors_seen => Outcome::Aborted,
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
    let overdue = open.wire_only && open.overdue(tracker.now);
    match open.syn_ack {
        Some(_) if flush && open.handshake_reset.is_none() && !completed_unseen(tracker, open) && !overdue => {
            (Outcome::Pending, open.touched)
        }
        Some(syn_ack) if completed_unseen(tracker, open) => (Outcome::Established, syn_ack.time),
        Some(_) => (Outcome::Failed, open.touched),
        None if flush && !overdue => (Outcome::Pending, open.touched),
        None => (Outcome::Failed, open.touched),
    }
}

/// Whether a SYN-ACK means that the connection came up, where the end itself is in nobody's sight. The
/// handshake's last segment is not captured; where accepted sockets of that listener are in sight, one
/// that was not seen was not accepted.
fn completed_unseen(tracker: &Tracker, open: &Open) -> bool {
    if open.wire_only {
        return open.wire_complete();
    }
    let own_server = open.role() == Role::Server;
    let in_sight = || open.tuples().any(|tuple| tracker.accepting.contains(&tuple.dst));
    let unfinished = open.syn_acks_again > 0 && !open.client_acked;
    !(open.handshake_reset.is_some() || own_server && (in_sight() || unfinished))
}

/// The error number that the application found when the kernel told it to look at its socket's error queue
/// after an ICMP error, if it closed upon that. The kernel does so where an ICMP error finds a connecting
/// socket in use (`net/ipv4/tcp_ipv4.c: tcp_v4_err`), and gives `SO_ERROR` the number.
fn told_errno(open: &Open, closed: Mono) -> Option<i32> {
    let extra = open.extra.as_deref()?;
    let told = extra.told.filter(|told| closed.since(*told) < FIRST_RETRANSMISSION);
    let fact = told.and(extra.icmp)?.fact;
    errno::of_icmp(fact.kind, fact.code, fact.from.is_v4())
}

/// Judges an attempt. `flush` says that the tracker ends and not the attempt.
pub(super) fn judge(tracker: &Tracker, open: &Open, flush: bool) -> Judgement {
    let (outcome, ended) = outcome(tracker, open, flush);
    let since = |lost: Option<Mono>| lost.is_some_and(|lost| lost >= open.started);
    let lossy = since(tracker.last_lost) || (open.role() != Role::Client && since(tracker.last_lost_inbound));
    let previous = rules::reuse::previous_tenant(tracker, open);
    let known = Known {
        outcome,
        lossy,
        reused: previous.is_some(),
        over: !matches!(outcome, Outcome::Established | Outcome::Pending),
        silent: !open.answered(),
        refused: outcome == Outcome::Refused && open.refused.is_some(),
        // An application that closed before anything was due saw nothing wrong. On the wire alone it is the one
        // that sent no second SYN.
        hasty: open.syns() <= 1
            && open.never_sent.is_none()
            && (open.wire_only && open.refused.is_none()
                || outcome == Outcome::Aborted && ended.since(open.started) < FIRST_RETRANSMISSION),
    };
    let mut held = Held::new(previous.map(|(key, _)| key));
    rules::reuse::judge(tracker, open, &known, &mut held);
    if outcome != Outcome::Pending {
        rules::call::judge(open, &mut held);
        rules::node::judge(tracker, open, &known, &mut held);
        rules::server::judge(tracker, open, &known, &mut held);
        rules::beyond::judge(tracker, open, &known, &mut held);
    }
    let Held { mut causes, owner, reuse_possible, suspected, facts } = held;
    causes.sort_by_key(|held| (held.evidence, held.cause.rank()));
    causes.dedup_by_key(|held| held.cause);
    let first = causes.first().copied();
    let evidence = first.map_or(Evidence::None, |held| held.evidence);
    let verdict = Verdict {
        outcome,
        errno: open.errno.or_else(|| told_errno(open, open.closed?)),
        cause: first.map(|held| held.cause),
        also: causes.iter().skip(1).map(|held| held.cause).collect::<Vec<Cause>>(),
        evidence,
        responsible: first.and_then(|held| held.side.unwrap_or_else(|| held.cause.side(held.evidence))),
    };
    let reuse_possible = reuse_possible && !suspected;
    Judgement { verdict, ended, owner, reused: known.reused, reuse_possible, lossy, facts }
}
