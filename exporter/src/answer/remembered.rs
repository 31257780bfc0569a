//! An attempt as it is remembered: compact, and words only once it is asked for.

use std::sync::Arc;
use std::time::Duration;

use super::line::{AttemptRow, End, Ends, OwnerRow};
use crate::capture::observation::Mono;
use crate::capture::tuple::{Endpoint, Tuple};
use crate::identify::Identity;
use crate::identify::clock::Utc;
use crate::identify::describe::Described;
use crate::names::attribute::K8S_POD_NAME;
use crate::track::attempt::{Attempt, Role};
use crate::track::trace_id::TraceId;
use crate::track::verdict::{Cause, ClosedBy, Evidence, Outcome, ServerState, Side};

/// What stays of an attempt.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// Its serial.
    pub serial: u64,
    /// When it ended.
    pub ended: Mono,
    /// See [`super::recent::is_trouble`].
    pub trouble: bool,
    /// Before NAT.
    pub tuple: Option<Tuple>,
    /// After NAT: the last.
    pub wire: Option<Tuple>,
    /// Who had the port before.
    pub owner: Option<Box<Owner>>,
    /// What the application got.
    pub outcome: Outcome,
    /// Why.
    pub cause: Option<Cause>,
    /// Who connected.
    pub client: Option<Arc<Identity>>,
    /// File name of its executable.
    pub executable: Option<Arc<str>>,
    /// Its trace.
    pub trace: TraceId,
    /// When it began, in nanoseconds since 1970.
    pub began: u64,
    role: Role,
    server: Option<Arc<Identity>>,
    destination: Option<Endpoint>,
    duration: Duration,
    errno: Option<i32>,
    also: Box<[Cause]>,
    evidence: Evidence,
    responsible: Option<Side>,
    syns: u32,
    failed: bool,
    late: bool,
    reused: bool,
}

/// What stays of a previous owner.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The serial of its attempt.
    pub serial: u64,
    /// In which state the server holds its connection.
    pub server_state: ServerState,
    client: Option<Arc<Identity>>,
    tuple: Tuple,
    wire: Option<Tuple>,
    gap: Option<Duration>,
    closed_by: ClosedBy,
    trace: TraceId,
}

impl Remembered {
    /// What stays of a described attempt; `trouble` is what [`super::recent::is_trouble`] says of it.
    pub fn new(described: &Described, trouble: bool) -> Self {
        let attempt: &Attempt = &described.attempt;
        Self {
            serial: attempt.serial,
            ended: attempt.ended,
            trouble,
            tuple: attempt.client_tuple(),
            wire: attempt.wire.last().copied(),
            owner: attempt.previous_owner.as_ref().map(|owner| {
                Box::new(Owner {
                    serial: owner.serial,
                    server_state: owner.server_state,
                    client: described.previous_owner.clone(),
                    tuple: owner.tuple,
                    wire: owner.wire,
                    gap: owner.gap,
                    closed_by: owner.closed_by,
                    trace: owner.trace,
                })
            }),
            outcome: attempt.verdict.outcome,
            cause: attempt.verdict.cause,
            client: described.client.clone(),
            executable: described.executable.clone(),
            trace: attempt.trace,
            began: described.clock.unix_nanos(attempt.started),
            role: attempt.role,
            server: described.server.clone().or_else(|| described.peer.clone()),
            destination: attempt.destination(),
            duration: attempt.duration(),
            errno: attempt.verdict.errno,
            also: attempt.verdict.also.as_slice().into(),
            evidence: attempt.verdict.evidence,
            responsible: attempt.verdict.responsible,
            syns: attempt.syns,
            failed: attempt.failed(),
            late: attempt.slow(),
            reused: attempt.reused,
        }
    }

    /// The memory that it takes. Identities are shared, and held elsewhere too.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.owner.as_ref().map_or(0, |_| size_of::<Owner>()) + size_of_val(&*self.also)
    }

    /// In words.
    pub fn row(&self) -> AttemptRow {
        AttemptRow {
            time: Utc::new(self.began).rfc3339(),
            role: match self.role {
                Role::Client => "client",
                Role::Server => "server",
                Role::Transit => "transit",
            }
            .to_owned(),
            client: end(self.client.as_deref(), self.executable.as_deref(), self.tuple.map(|tuple| tuple.src)),
            server: end(self.server.as_deref(), None, self.destination),
            outcome: self.outcome.as_str().to_owned(),
            errno: self.errno,
            duration_s: self.duration.as_secs_f64(),
            syns: self.syns,
            cause: self.cause.map(|cause| cause.as_str().to_owned()),
            also: self.also.iter().map(|cause| cause.as_str().to_owned()).collect(),
            evidence: self.evidence.as_str().to_owned(),
            responsible: self.responsible.map(|side| side.as_str().to_owned()),
            failed: self.failed,
            late: self.late,
            reused: self.reused,
            tuple: self.tuple.map(ends),
            wire: self.wire.map(ends),
            previous_owner: self.owner.as_ref().map(|owner| OwnerRow {
                client: end(owner.client.as_deref(), None, Some(owner.tuple.src)),
                wire: owner.wire.map(ends),
                gap_s: owner.gap.map(|gap| gap.as_secs_f64()),
                closed_by: owner.closed_by.as_str().to_owned(),
                server_state: owner.server_state.as_str().to_owned(),
                trace_id: owner.trace.to_string(),
            }),
            trace_id: self.trace.to_string(),
        }
    }
}

/// An end of a connection in words.
pub fn end(identity: Option<&Identity>, executable: Option<&str>, address: Option<Endpoint>) -> End {
    End {
        name: identity.and_then(Identity::display_name),
        pod: identity.and_then(|identity| identity.get(K8S_POD_NAME)).map(str::to_owned),
        executable: executable.map(str::to_owned),
        address: address.map(|end| end.to_string()),
    }
}

/// A tuple in words.
pub fn ends(tuple: Tuple) -> Ends {
    Ends { client: tuple.src.to_string(), server: tuple.dst.to_string() }
}
