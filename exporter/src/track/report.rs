//! From an open attempt to the plain facts of a finished one.

use super::attempt::{Attempt, PreviousOwner, Verdict};
use super::flow::Flow;
use super::judge::{self, Judgement};
use super::open::Open;
use super::tenancy::TenancyKey;
use super::trace_id::{Seed, TraceId};
use super::tracker::Tracker;
use super::verdict::{Cause, Evidence, Outcome, ServerState};

/// Judges an attempt that left the table, and notes what it says of its destination.
pub(super) fn report(tracker: &mut Tracker, open: Open, flush: bool) -> Attempt {
    let judgement = judge::judge(tracker, &open, flush);
    let Judgement { verdict, reused, .. } = &judgement;
    let reused = *reused;
    let answered = open.syn_ack.is_some() || open.established.is_some() || open.server.is_some();
    if verdict.outcome != Outcome::Pending && !open.proxied && open.never_sent.is_none() {
        let syn = open.syn_times.last().copied().unwrap_or(open.started);
        tracker.destinations.record(open.destination(), syn, answered, reused);
        let known_owner = verdict.cause == Some(Cause::SourcePortReuse);
        if !reused && !known_owner && (answered || open.stale.is_some()) {
            tracker.destinations.record_false(open.destination(), open.stale.is_some());
        }
    }
    if reused && verdict.outcome == Outcome::Established {
        tracker.counts.reuses += 1;
    }
    describe(tracker, open, judgement)
}

/// What is known of an attempt that is open: nothing is noted, and it stays as it is.
pub(super) fn snapshot(tracker: &Tracker, open: &Open) -> Attempt {
    describe(tracker, open.clone(), judge::judge(tracker, open, true))
}

/// The facts of an attempt with its judgement.
fn describe(tracker: &Tracker, mut open: Open, judgement: Judgement) -> Attempt {
    let Judgement { verdict, ended, owner, reused, reuse_possible, lossy, facts } = judgement;
    let seed = open.seed(tracker.options.boot_id);
    let trace = seed.trace_id(&tracker.options.id_key);
    let of = |tsval: u32| Seed::Fingerprint { isn: open.isn, tsval }.trace_id(&tracker.options.id_key);
    let retry_traces: Vec<TraceId> = open.tsvals.iter().skip(1).map(|&tsval| of(tsval)).collect();
    // A stale ACK answered the first SYN, so the far node saw that one.
    let answered_trace = open
        .syn_ack
        .and_then(|syn_ack| syn_ack.echo)
        .filter(|echo| open.stale.is_none() && open.tsvals.iter().skip(1).any(|tsval| tsval == echo))
        .map(of);
    let previous_owner = owner.and_then(|key| previous_owner(tracker, &open, key));
    let ledger_partial =
        ended.since(tracker.remembers_since()) < tracker.options.reuse_window && leans_on_ledger(&verdict, reused);
    open.story.sort_by_key(|step| step.time);
    Attempt {
        serial: open.serial,
        role: open.role(),
        started: open.started,
        ended: ended.max(open.started),
        verdict,
        trace,
        trace_survives_nat: seed.survives_nat(),
        retry_traces,
        answered_trace,
        syns: open.syns(),
        wire: open.wire.iter().map(|&(tuple, _)| tuple).collect(),
        steps_dropped: open.story_dropped,
        previous_owner,
        reused,
        reuse_possible,
        ledger_partial,
        lossy,
        proxied: open.proxied,
        closed_without_data: open.extra.as_ref().is_some_and(|extra| carried_nothing(&extra.flows)),
        facts,
        client: open.client,
        server: open.server,
        sightings: open.sightings,
        steps: open.story,
    }
}

/// Whether a connection has ended, and each socket that told of it says that it carried no payload.
fn carried_nothing(flows: &[Flow]) -> bool {
    flows.iter().any(|flow| flow.end.is_some()) && flows.iter().all(|flow| flow.totals.is_empty())
}

/// Whether a longer memory could have changed the verdict: an owner missed, or another one named.
fn leans_on_ledger(verdict: &Verdict, reused: bool) -> bool {
    match verdict.cause {
        Some(Cause::SourcePortReuse) => verdict.evidence != Evidence::Exact,
        Some(Cause::UnexpectedAck | Cause::SourcePortReuseSuspected) => true,
        Some(Cause::NoResponse | Cause::ConnectionRefused) => !reused,
        _ => false,
    }
}

fn previous_owner(tracker: &Tracker, open: &Open, key: TenancyKey) -> Option<PreviousOwner> {
    let tenancy = tracker.ledger.get(key)?;
    let since = open
        .wire
        .iter()
        .rev()
        .find(|&&(tuple, _)| Some(tuple) == tenancy.wire)
        .map_or(open.first_syn(), |&(_, first)| first);
    let server_state = open.stale.map_or(ServerState::Unknown, |stale| tenancy.server_state(stale));
    // Where it ended may leave the node only if it has ended: for a live connection the numbers would
    // help an attacker.
    let ended = tenancy.closed.is_some() && tenancy.end_known;
    Some(PreviousOwner {
        serial: tenancy.serial,
        process: tenancy.process.as_deref().cloned(),
        netns: tenancy.netns,
        tuple: tenancy.inner,
        wire: tenancy.wire,
        trace: tenancy.trace,
        opened: tenancy.opened,
        closed: tenancy.closed,
        gap: tenancy.closed.map(|closed| since.since(closed)),
        closed_by: tenancy.closed_by,
        server_state,
        client_end: ended.then_some(tenancy.client_end),
        server_end: ended.then_some(tenancy.server_end),
    })
}
