//! Who held a source port: what the ledger and the table of open attempts know of it.

use super::ledger::SharedProcess;
use super::trace_id::TraceId;
use super::tracker::Tracker;
use super::verdict::ClosedBy;
use crate::capture::observation::Mono;
use crate::capture::tuple::Tuple;

/// One connection, or open attempt, that has or had a source port. Times are monotonic; tuples run from
/// client to server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Serial of its attempt; 0 if that was not seen.
    pub serial: u64,
    /// Its trace.
    pub trace: TraceId,
    /// Before NAT: the client's own tuple.
    pub tuple: Tuple,
    /// After NAT, where the node's outward interface saw it.
    pub wire: Option<Tuple>,
    /// The client's process, if it is of this node.
    pub process: Option<SharedProcess>,
    /// Since when: the connection's start; of an attempt that is not established, the attempt's.
    pub opened: Mono,
    /// Until when; none if it has the port still.
    pub closed: Option<Mono>,
    /// Which end closed first.
    pub closed_by: ClosedBy,
    /// Whether the connection came up; false for an attempt under way.
    pub established: bool,
}

/// Who had a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holders {
    /// Those found, the latest first.
    pub found: Vec<Holder>,
    /// How many more there were, all opened before those.
    pub more: usize,
    /// Nothing that ended later is missing.
    pub remembers_since: Mono,
    /// Why not further.
    pub because: Horizon,
}

/// What ends the ledger's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Horizon {
    /// Before, this agent did not run.
    AgentStart,
    /// What ended before is forgotten by its age (`tracking.reuse_window`).
    Window,
    /// Memory was short (`tracking.max_tenancies`).
    Memory,
}

impl Horizon {
    /// The word for machines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AgentStart => "agent_start",
            Self::Window => "window",
            Self::Memory => "memory",
        }
    }
}

impl Tracker {
    /// Who has or had `port` as the client's source port, before or after NAT: at most `limit`, the
    /// latest first.
    ///
    /// It looks at each tenancy in turn, since an index by port would cost memory and time on every
    /// connection for a question that is seldom asked; docs/architecture.md has the time it takes.
    pub fn holders_of(&self, port: u16, limit: usize) -> Holders {
        let has = |tuple: Tuple| tuple.src.port == port;
        let past = self.ledger.tenancies().filter(|held| has(held.inner) || held.wire.is_some_and(has));
        let mut found: Vec<Holder> = past
            .map(|held| Holder {
                serial: held.serial,
                trace: held.trace,
                tuple: held.inner,
                wire: held.wire,
                process: held.process.clone(),
                opened: held.opened,
                closed: held.closed,
                closed_by: held.closed_by,
                established: true,
            })
            .collect();
        // One that is established has its tenancy, and is told by it.
        let under_way =
            self.open.iter().map(|(_, open)| open).filter(|open| open.tenancy.is_none() && open.tuples().any(has));
        found.extend(under_way.map(|open| {
            Holder {
                serial: open.serial,
                trace: open.seed(self.options.boot_id).trace_id(&self.options.id_key),
                tuple: open.inner(),
                wire: open
                    .wire
                    .iter()
                    .rev()
                    .map(|&(tuple, _)| tuple)
                    .find(|&tuple| has(tuple))
                    .or_else(|| open.outer()),
                process: open
                    .client
                    .as_ref()
                    .and_then(|client| client.process.as_ref())
                    .map(|process| SharedProcess::new(process.clone())),
                opened: open.started,
                closed: None,
                closed_by: ClosedBy::Unknown,
                established: false,
            }
        }));
        found.sort_by_key(|holder| std::cmp::Reverse((holder.opened, holder.serial)));
        let more = found.len().saturating_sub(limit);
        found.truncate(limit);
        let (remembers_since, because) = self.horizon();
        Holders { found, more, remembers_since, because }
    }

    /// From when on nothing that ended is missing in the ledger, and why not from earlier.
    fn horizon(&self) -> (Mono, Horizon) {
        let ends = [
            (self.now.minus(self.options.reuse_window), Horizon::Window),
            (self.ledger.horizon(), Horizon::Memory),
            (self.started, Horizon::AgentStart),
        ];
        ends.into_iter().max_by_key(|&(since, _)| since).unwrap_or((self.started, Horizon::AgentStart))
    }
}
