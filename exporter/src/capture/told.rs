//! What the kernel tells when it is asked: connection tracking, source ports, listeners, connections.

use super::flow::FlowNumbers;
use super::tuple::{Addr, Endpoint, Tuple};

/// What connection tracking says of a tuple.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NatAnswer {
    /// The tuple that was asked for, client to server, before NAT.
    pub asked: Tuple,
    /// Its entry; none if there is none.
    pub entry: Option<NatEntry>,
}

/// An entry of connection tracking.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NatEntry {
    /// From the client to what it asked for.
    pub original: Tuple,
    /// As answers come: from the server to the client's translated address.
    pub reply: Tuple,
    /// Its zone.
    pub zone: u16,
    /// Its mark.
    pub mark: u32,
}

impl NatEntry {
    /// The tuple after NAT, client to server.
    pub fn translated(&self) -> Tuple {
        self.reply.reversed()
    }
}

/// The state of connection tracking in the node's network namespace. Counters are totals over all CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ConntrackState {
    /// Entries now.
    pub entries: u64,
    /// `nf_conntrack_max`; 0 means no limit.
    pub limit: u64,
    /// Entries that could not be inserted since another has the tuple.
    pub insert_failed: u64,
    /// Packets dropped, mostly since the table was full.
    pub dropped: u64,
    /// Entries ended early to make room.
    pub early_drop: u64,
}

/// Source ports in use from an egress address towards a destination, by connection tracking.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnatPorts {
    /// The address after NAT.
    pub egress: Addr,
    /// The destination after NAT.
    pub destination: Endpoint,
    /// Distinct ports in use.
    pub used: u32,
    /// The range of the rule in force, both ends included; none if it could not be told.
    pub range: Option<(u16, u16)>,
}

/// A listening socket (sock_diag).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenerState {
    /// The address and port that were asked for.
    pub endpoint: Endpoint,
    /// The cookie of its network namespace, 0 if not known.
    pub netns: u64,
    /// Whether a socket listens there; the numbers below are 0 where none does.
    pub listens: bool,
    /// Connections in its accept queue.
    pub queue: u32,
    /// The most it takes: one more than this is held.
    pub limit: u32,
    /// The namespace's `ListenOverflows`, total.
    pub overflows: u64,
    /// The namespace's `ListenDrops`, total.
    pub drops: u64,
}

/// A connection that capture did not see open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KnownFlow {
    /// The client's own tuple, client to server.
    pub tuple: Tuple,
    /// After NAT, where connection tracking told it.
    pub wire: Option<Tuple>,
    /// The cookie of its socket on this node, 0 if it has none here.
    pub cookie: u64,
    /// Whether that socket is the server's.
    pub server_socket: bool,
    /// The cookie of that socket's network namespace, 0 if not known.
    pub netns: u64,
    /// The client's next sequence number as the server knows it (the last one acknowledged), if known.
    pub client_acked: Option<u32>,
    /// The client's next sequence number as the client knows it: behind all that it has sent, if known.
    pub client_next: Option<u32>,
    /// The server's next sequence number, if known.
    pub server_next: Option<u32>,
    /// What its socket on this node has counted so far, if known: what comes later is counted from there.
    pub numbers: Option<FlowNumbers>,
    /// Whether it is over, and only connection tracking or a TIME_WAIT socket remembers it.
    pub over: bool,
}
