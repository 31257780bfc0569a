//! What the socket of a connection has counted: bytes, segments, retransmissions, round-trip time.

use super::observation::{SocketNumbers, TcpState};

/// A socket's counters at one moment, as the kernel keeps them: not yet the application's bytes.
///
/// `bytes_acked` counts the client's SYN and each side's own FIN as a byte once they are acknowledged, and
/// `bytes_received` the peer's FIN (`net/ipv4/tcp_input.c`: `tcp_snd_una_update`, `tcp_rcv_nxt_update`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowNumbers {
    /// The socket's state at that moment.
    pub state: TcpState,
    /// Sequence numbers that the peer has acknowledged.
    pub bytes_acked: u64,
    /// Sequence numbers taken in, in order.
    pub bytes_received: u64,
    /// Segments sent, those without data included; wraps. Of an accepted socket, without its SYN-ACK.
    pub segs_out: u32,
    /// Segments received, those without data included; wraps.
    pub segs_in: u32,
    /// Segments sent again, those of the handshake included; wraps.
    pub total_retrans: u32,
    /// Smoothed round-trip time in microseconds, 0 if it was never measured.
    pub srtt_us: u32,
}

impl FlowNumbers {
    /// The counters that `sock_ops` tells, of a socket in a state.
    pub fn of_step(state: TcpState, numbers: &SocketNumbers) -> Self {
        Self {
            state,
            bytes_acked: numbers.bytes_acked,
            bytes_received: numbers.bytes_received,
            segs_out: numbers.segs_out,
            segs_in: numbers.segs_in,
            total_retrans: numbers.total_retrans,
            srtt_us: numbers.srtt_us,
        }
    }
}

/// The counters of an open connection that were asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowAnswer {
    /// The socket's cookie.
    pub cookie: u64,
    /// The cookie of its network namespace, 0 if not known.
    pub netns: u64,
    /// What it has counted.
    pub numbers: FlowNumbers,
}
