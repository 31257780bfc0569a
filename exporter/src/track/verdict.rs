//! The closed lists of a verdict: outcome, cause, evidence, responsible side.
//!
//! Each cause is one entry of [`CAUSES`]: adding a cause means adding a variant and its entry here,
//! its rule in `judge.rs`, and one scenario with its control.

/// What the application got.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Outcome {
    /// Still open.
    Pending,
    /// The connection came up.
    Established,
    /// A RST answered the SYN: ECONNREFUSED.
    Refused,
    /// The kernel gave up: ETIMEDOUT.
    TimedOut,
    /// An ICMP error or the routing table ended it: EHOSTUNREACH, ENETUNREACH and their like.
    Unreachable,
    /// The application gave up and closed the socket.
    Aborted,
    /// It ended otherwise, or how it ended was not seen.
    Failed,
}

impl Outcome {
    /// The word used in telemetry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Established => "established",
            Self::Refused => "refused",
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
        }
    }
}

/// How sure a cause is, best first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Evidence {
    /// The kernel said so.
    Kernel,
    /// Sequence numbers match.
    Exact,
    /// Inside the previous owner's range of sequence numbers.
    Window,
    /// The same tuple, recently.
    Tuple,
    /// Seen here, never there, at a witnessed point.
    Absence,
    /// None.
    None,
}

impl Evidence {
    /// The word used in telemetry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Exact => "exact",
            Self::Window => "window",
            Self::Tuple => "tuple",
            Self::Absence => "absence",
            Self::None => "none",
        }
    }
}

/// The side responsible.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Side {
    /// The client's application.
    Client,
    /// The server's application or host.
    Server,
    /// The network between nodes.
    Network,
    /// This node's own network: NAT, netfilter, routing.
    Node,
    /// It left this node, and nobody over there could be asked.
    BeyondNode,
}

impl Side {
    /// The word used in telemetry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Network => "network",
            Self::Node => "node",
            Self::BeyondNode => "beyond_node",
        }
    }
}

/// Why an attempt went as it did.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each has its sentence in CAUSES")]
pub enum Cause {
    SourcePortReuse,
    UnexpectedAck,
    SourcePortReuseSuspected,
    DroppedInNode,
    NoResponse,
    SynLost,
    ConnectionRefused,
    ClientAborted,
}

/// The entry of a cause.
#[derive(Clone, Copy, Debug)]
pub struct CauseEntry {
    /// Which cause.
    pub cause: Cause,
    /// The word used in telemetry.
    pub name: &'static str,
    /// Responsible side by evidence; the first entry whose evidence matches, `None` matching any.
    pub sides: &'static [(Option<Evidence>, Side)],
    /// The evidence it can carry.
    pub evidence: &'static [Evidence],
    /// One sentence for people: what happened.
    pub sentence: &'static str,
    /// One sentence for people: what to do about it.
    pub advice: &'static str,
    /// Whether an attempt that ended with it counts as a failure of its own:
    /// false only where nothing was wrong (span status unset).
    pub fault: bool,
}

/// Every cause, in the order that decides between causes of equal evidence.
pub const CAUSES: &[CauseEntry] = &[
    CauseEntry {
        cause: Cause::SourcePortReuse,
        name: "source_port_reuse",
        // The tuple was given out again while the server held the old connection. With NAT the node
        // gave it out; the rule in `judge.rs` says client where no NAT took part.
        sides: &[(None, Side::Node)],
        evidence: &[Evidence::Exact, Evidence::Window, Evidence::Tuple],
        sentence: "the source port was used again for the same destination while the server still held the connection that had it before",
        advice: "widen the range of source ports or spread them (masquerade fully-random, more egress addresses), and mend what leaves the old connection behind on the server",
        fault: true,
    },
    CauseEntry {
        cause: Cause::UnexpectedAck,
        name: "unexpected_ack",
        sides: &[(None, Side::BeyondNode)],
        evidence: &[Evidence::None],
        sentence: "the SYN was answered by an acknowledgement of another connection, and nobody is known to have held this port",
        advice: "look for an owner from before the ledger's horizon, or for a guard against floods on the way that answers first SYNs with a false ACK",
        fault: true,
    },
    CauseEntry {
        cause: Cause::SourcePortReuseSuspected,
        name: "source_port_reuse_suspected",
        sides: &[(None, Side::Node)],
        evidence: &[Evidence::Tuple],
        sentence: "the destination did not accept a reused source port while it answered others",
        advice: "as for source_port_reuse; a firewall or load balancer on the way may remember the old connection",
        fault: true,
    },
    CauseEntry {
        cause: Cause::DroppedInNode,
        name: "dropped_in_node",
        sides: &[(None, Side::Node)],
        evidence: &[Evidence::Kernel, Evidence::Absence],
        sentence: "the SYN entered the node and never left it",
        advice: "look at the node's netfilter rules, routes and CNI policy for this destination",
        fault: true,
    },
    CauseEntry {
        cause: Cause::NoResponse,
        name: "no_response",
        sides: &[(None, Side::BeyondNode)],
        evidence: &[Evidence::Absence],
        sentence: "the SYN left the node and nothing came back",
        advice: "look at the path and at the server: firewall, route, a host that is down",
        fault: true,
    },
    CauseEntry {
        cause: Cause::SynLost,
        name: "syn_lost",
        sides: &[(None, Side::BeyondNode)],
        evidence: &[Evidence::Absence],
        sentence: "an answer came only after the SYN was sent again",
        advice: "look for loss on the path, and for a server too busy to answer first SYNs",
        fault: true,
    },
    CauseEntry {
        cause: Cause::ConnectionRefused,
        name: "connection_refused",
        sides: &[(None, Side::Server)],
        evidence: &[Evidence::Kernel, Evidence::Exact],
        sentence: "the server's side answered the SYN with a RST",
        advice: "look whether the server's process listens on that address and port",
        fault: true,
    },
    CauseEntry {
        cause: Cause::ClientAborted,
        name: "client_aborted",
        sides: &[(None, Side::Client)],
        evidence: &[Evidence::Kernel],
        sentence: "the application closed the socket before the first retransmission was due",
        advice: "nothing, if another address answered first (happy eyeballs); else look at the client's timer",
        fault: false,
    },
];

impl Cause {
    /// The cause's entry.
    pub fn entry(self) -> &'static CauseEntry {
        // Every variant has its entry: the test below holds it, and the first is never reached otherwise.
        CAUSES.iter().find(|entry| entry.cause == self).unwrap_or(&CAUSES[0])
    }

    /// The word used in telemetry.
    pub fn as_str(self) -> &'static str {
        self.entry().name
    }

    /// The responsible side, by evidence.
    pub fn side(self, evidence: Evidence) -> Option<Side> {
        let sides = self.entry().sides;
        sides.iter().find(|(with, _)| with.is_none_or(|e| e == evidence)).map(|&(_, side)| side)
    }

    /// Its place in the table: lower decides at equal evidence.
    pub fn rank(self) -> usize {
        CAUSES.iter().position(|entry| entry.cause == self).unwrap_or(CAUSES.len())
    }
}

/// In which state the server holds a previous owner's connection; the cure differs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ServerState {
    /// Its application never closed it: CLOSE_WAIT, a leak.
    NeverClosed,
    /// The client's end never reached it: still ESTABLISHED.
    CutOff,
    /// Closed and remembered: TIME_WAIT, or a load balancer's table.
    Remembered,
    /// Not known.
    Unknown,
}

impl ServerState {
    /// The word used in telemetry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NeverClosed => "never_closed",
            Self::CutOff => "cut_off",
            Self::Remembered => "closed_and_remembered",
            Self::Unknown => "unknown",
        }
    }

    /// One sentence for people.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::NeverClosed => "the server's application never closed it (CLOSE_WAIT)",
            Self::CutOff => "the server does not know that it ended (still ESTABLISHED)",
            Self::Remembered => "closed on both sides, and still remembered (TIME_WAIT)",
            Self::Unknown => "how the server holds it is not known",
        }
    }
}

/// Which end closed a connection first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ClosedBy {
    /// The client's FIN came first.
    Client,
    /// The server's FIN came first.
    Server,
    /// A RST, or the socket was destroyed.
    Reset,
    /// No end was seen.
    Unknown,
}

impl ClosedBy {
    /// The word used in telemetry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Reset => "reset",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_exactly_one_entry_with_a_side_for_each_evidence() {
        for entry in CAUSES {
            assert_eq!(CAUSES.iter().filter(|other| other.cause == entry.cause).count(), 1, "{}", entry.name);
            assert!(!entry.evidence.is_empty(), "{}", entry.name);
            for &evidence in entry.evidence {
                assert!(entry.cause.side(evidence).is_some(), "{} {evidence:?}", entry.name);
            }
            assert!(entry.name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{}", entry.name);
        }
    }
}
