//! A flow: what one socket of this node has carried, from the socket's own counters to the application's bytes.

use std::time::Duration;

use super::tenancy::Tenancy;
use super::trace_id::TraceId;
use super::verdict::ClosedBy;
use crate::capture::flow::FlowNumbers;
use crate::capture::observation::{Mono, Process, SocketNumbers, TcpState};
use crate::capture::tuple::Tuple;

/// Whose socket tells of a flow. Where both ends are on this node, each tells.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FlowSide {
    /// The client's.
    Client,
    /// The server's: the accepted one.
    Server,
}

impl FlowSide {
    /// The word used in telemetry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// What a connection has carried, as one of its sockets tells: at its end, and from time to time while it is long
/// open. Times are monotonic; tuples run from client to server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flow {
    /// Serial of the attempt that opened it; 0 if that was not seen.
    pub serial: u64,
    /// Its trace; none where the attempt was not seen.
    pub trace: Option<TraceId>,
    /// Whose socket tells.
    pub side: FlowSide,
    /// The client's own tuple, before NAT, as far as it is known.
    pub tuple: Tuple,
    /// At the node's outward interface, after NAT, where that was seen.
    pub wire: Option<Tuple>,
    /// The ends as the telling socket has them.
    pub socket: Tuple,
    /// The client's process, where its own socket tells and the process is known.
    pub process: Option<Process>,
    /// The cookie of the telling socket's network namespace, 0 if not known.
    pub netns: u64,
    /// When it was established; none if that was before capture began.
    pub opened: Option<Mono>,
    /// The time of the numbers.
    pub at: Mono,
    /// Which record of this socket it is, 0 for the first.
    pub sequence: u32,
    /// Who closed first, in the last record; none while it is open.
    pub end: Option<ClosedBy>,
    /// Since it opened. Of one from before the start of capture: since its own start, too, as far as the kernel's
    /// counters had not wrapped by then.
    pub totals: FlowTotals,
    /// Since the record before, or since it opened; of one from before the start of capture, since that start. All
    /// of a socket's deltas add up to what it carried in sight.
    pub delta: FlowTotals,
    /// The smoothed round-trip time; none if it was never measured.
    pub rtt: Option<Duration>,
}

/// What a socket has sent and received.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlowTotals {
    /// Payload that the peer has acknowledged, in bytes. What was sent and not acknowledged when the connection was
    /// cut off is not in it.
    pub sent_bytes: u64,
    /// Payload taken in, in order, in bytes, whether the application has read it or not. Exact but for one byte: in
    /// the last record of a socket that closed first, where the wire is not watched, it cannot be told whether the
    /// peer's FIN had come; it is taken to have.
    pub received_bytes: u64,
    /// Segments sent, those with no data included; of the server, without its SYN-ACK (RFC 4898,
    /// `tcpEStatsPerfSegsOut`, as the kernel counts it).
    pub sent_segments: u64,
    /// Segments received, those with no data included (`tcpEStatsPerfSegsIn`).
    pub received_segments: u64,
    /// Segments sent again, those of the handshake included.
    pub retransmissions: u64,
}

impl FlowTotals {
    /// What a socket has carried; `fins` says which FINs its byte counts hold. `before` is what was known of it last:
    /// nothing goes back, and counters of 32 bits go on from there.
    pub(super) fn of(numbers: &FlowNumbers, side: FlowSide, fins: Fins, before: &Self) -> Self {
        // Once it is acknowledged, the client's SYN has counted as a byte sent.
        let syn = u64::from(side == FlowSide::Client);
        let sent = numbers.bytes_acked.saturating_sub(syn + u64::from(fins.acked));
        let received = numbers.bytes_received.saturating_sub(u64::from(fins.received));
        Self {
            sent_bytes: sent.max(before.sent_bytes),
            received_bytes: received.max(before.received_bytes),
            sent_segments: extended(before.sent_segments, numbers.segs_out),
            received_segments: extended(before.received_segments, numbers.segs_in),
            retransmissions: extended(before.retransmissions, numbers.total_retrans),
        }
    }

    /// What came since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            sent_bytes: self.sent_bytes.saturating_sub(before.sent_bytes),
            received_bytes: self.received_bytes.saturating_sub(before.received_bytes),
            sent_segments: self.sent_segments.saturating_sub(before.sent_segments),
            received_segments: self.received_segments.saturating_sub(before.received_segments),
            retransmissions: self.retransmissions.saturating_sub(before.retransmissions),
        }
    }

    /// Whether no payload went either way.
    pub fn is_empty(&self) -> bool {
        self.sent_bytes == 0 && self.received_bytes == 0
    }
}

/// A counter of 32 bits carried on from its last value: by how far it has moved, which is less than half its range
/// between two looks. What seems to move back has not moved.
fn extended(before: u64, now: u32) -> u64 {
    let moved = now.wrapping_sub(before as u32);
    if before <= u64::from(u32::MAX) && u64::from(now) >= before {
        // The first look at a counter may be at any value.
        return u64::from(now);
    }
    if moved < 1 << 31 { before.saturating_add(u64::from(moved)) } else { before }
}

/// Which FINs a socket's byte counts hold, each as one byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fins {
    /// Its own, acknowledged.
    pub acked: bool,
    /// The peer's.
    pub received: bool,
}

impl Fins {
    /// Of a socket that is in a state (RFC 9293, 3.3.2).
    pub fn of_state(state: TcpState) -> Self {
        Self {
            acked: matches!(state, TcpState::FinWait2 | TcpState::TimeWait),
            received: matches!(state, TcpState::CloseWait | TcpState::LastAck | TcpState::Closing | TcpState::TimeWait),
        }
    }

    /// Of a socket that goes from a state to its end. `tenancy` is what is known of it without this step.
    pub fn at_close(tenancy: &Tenancy, side: FlowSide, from: TcpState, numbers: &SocketNumbers) -> Self {
        let fins = Self::of_state(from);
        match from {
            // The acknowledgement of its FIN ends it; so may a RST, or its timers, before.
            TcpState::LastAck | TcpState::Closing => Self { acked: numbers.snd_una == numbers.snd_nxt, ..fins },
            // The peer's FIN ends it, but so does the acknowledgement of its own where nobody holds it any more: the
            // kernel then goes on with less than a socket, which counts nothing.
            TcpState::FinWait2 => {
                let (own, peer, end) = match side {
                    FlowSide::Client => (tenancy.client_fin, tenancy.server_fin, tenancy.server_end),
                    FlowSide::Server => (tenancy.server_fin, tenancy.client_fin, tenancy.client_end),
                };
                let received = if peer { numbers.rcv_nxt == end.wrapping_add(1) } else { !own };
                Self { received, ..fins }
            }
            _ => fins,
        }
    }
}

#[cfg(test)]
#[path = "flow_tests.rs"]
mod tests;
