//! The closed lists of a verdict: outcome, cause, evidence, responsible side.
//!
//! Causes have a file of their own, [`super::causes`].

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

pub use super::causes::{CAUSES, Cause, CauseEntry};

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
