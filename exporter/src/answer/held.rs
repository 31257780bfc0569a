//! Who held a port: the question's way to the ledger and back, and its words.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::line::{Held, HolderRow, HolderState};
use super::recent::Recent;
use super::remembered::{Remembered, end, ends};
use crate::identify::Identity;
use crate::identify::clock::{Utc, WallClock};
use crate::track::holders::{Holder, Holders};
use crate::track::verdict::{ClosedBy, Outcome, ServerState};

/// Most holders in one answer.
pub const MAX_HOLDERS: usize = 1_000;
/// Questions that may wait for the capture thread, which takes one each time it looks up from its work.
pub const MAX_LOOKUPS: usize = 8;

/// A question on its way to the ledger. Who gets it asks the tracker for at most [`MAX_HOLDERS`], and
/// sends the answer with names by `reply`.
#[derive(Debug)]
pub struct Lookup {
    /// The port.
    pub port: u16,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Named>,
}

/// Who had the port, with names.
#[derive(Debug)]
pub struct Named {
    /// What the tracker said.
    pub holders: Holders,
    /// Who each one is, in the same order.
    pub names: Vec<Name>,
    /// Wall-clock time for the times in it.
    pub clock: WallClock,
}

/// Who a holder is.
#[derive(Clone, Debug, Default)]
pub struct Name {
    /// The workload.
    pub identity: Option<Arc<Identity>>,
    /// File name of the process's executable.
    pub executable: Option<Arc<str>>,
}

/// The answer in words: those of the ledger, and the attempts of late from that port that came to
/// nothing, which the ledger does not have.
pub fn words(port: u16, named: &Named, recent: &Recent) -> (Vec<HolderRow>, Held) {
    let Named { holders, names, clock } = named;
    let on_port = |attempt: &Remembered| {
        let has = |tuple: Option<crate::capture::tuple::Tuple>| tuple.is_some_and(|tuple| tuple.src.port == port);
        attempt.outcome != Outcome::Established && (has(attempt.tuple) || has(attempt.wire))
    };
    let known: HashSet<u64> = holders.found.iter().map(|holder| holder.serial).collect();
    let failed = recent.all(|attempt| on_port(attempt) && !known.contains(&attempt.serial));
    let told = recent.all(|attempt| {
        attempt.owner.as_ref().is_some_and(|owner| {
            owner.serial != 0 && owner.server_state != ServerState::Unknown && known.contains(&owner.serial)
        })
    });
    let state_of = |serial: u64| {
        let owners = told.iter().rev().filter_map(|attempt| attempt.owner.as_ref());
        owners.filter(|owner| owner.serial == serial && serial != 0).map(|owner| owner.server_state).next()
    };
    let mut rows: Vec<(u64, HolderRow)> = holders
        .found
        .iter()
        .zip(names)
        .map(|(holder, name)| (clock.unix_nanos(holder.opened), row(holder, name, *clock, state_of(holder.serial))))
        .collect();
    rows.extend(failed.iter().filter_map(|attempt| Some((attempt.began, failed_row(attempt, *clock)?))));
    rows.sort_by_key(|&(opened, _)| std::cmp::Reverse(opened));
    let beyond = rows.len().saturating_sub(MAX_HOLDERS);
    rows.truncate(MAX_HOLDERS);
    let held = Held {
        port,
        more: (holders.more + beyond) as u64,
        remembers_since: Utc::new(clock.unix_nanos(holders.remembers_since)).rfc3339(),
        because: holders.because.as_str().to_owned(),
    };
    (rows.into_iter().map(|(_, row)| row).collect(), held)
}

fn row(holder: &Holder, name: &Name, clock: WallClock, server_state: Option<ServerState>) -> HolderRow {
    let state = match (holder.closed, holder.established) {
        (Some(_), _) => HolderState::Closed,
        (None, true) => HolderState::Open,
        (None, false) => HolderState::Connecting,
    };
    HolderRow {
        client: end(name.identity.as_deref(), name.executable.as_deref(), Some(holder.tuple.src)),
        tuple: ends(holder.tuple),
        wire: holder.wire.map(ends),
        opened: Utc::new(clock.unix_nanos(holder.opened)).rfc3339(),
        closed: holder.closed.map(|closed| Utc::new(clock.unix_nanos(closed)).rfc3339()),
        state,
        closed_by: holder
            .closed
            .filter(|_| holder.closed_by != ClosedBy::Unknown)
            .map(|_| holder.closed_by.as_str().to_owned()),
        outcome: None,
        cause: None,
        server_state: server_state.map(|state| state.as_str().to_owned()),
        trace_id: holder.trace.to_string(),
    }
}

fn failed_row(attempt: &Remembered, clock: WallClock) -> Option<HolderRow> {
    let tuple = attempt.tuple?;
    Some(HolderRow {
        client: end(attempt.client.as_deref(), attempt.executable.as_deref(), Some(tuple.src)),
        tuple: ends(tuple),
        wire: attempt.wire.map(ends),
        opened: Utc::new(attempt.began).rfc3339(),
        closed: Some(Utc::new(clock.unix_nanos(attempt.ended)).rfc3339()),
        state: HolderState::Failed,
        closed_by: None,
        outcome: Some(attempt.outcome.as_str().to_owned()),
        cause: attempt.cause.map(|cause| cause.as_str().to_owned()),
        server_state: None,
        trace_id: attempt.trace.to_string(),
    })
}
