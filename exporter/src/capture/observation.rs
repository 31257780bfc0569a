//! What capture hands to the tracker: one thing the kernel saw, with its monotonic time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::flow::FlowAnswer;
pub use super::told::{ConntrackState, KnownFlow, ListenerState, NatAnswer, NatEntry, SnatPorts};
use super::tuple::{Addr, Endpoint, Tuple};

/// A monotonic time: nanoseconds of the kernel's `CLOCK_MONOTONIC`, or of a capture file's clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Mono(pub u64);

impl Mono {
    /// Time since `earlier`; zero if `earlier` is later, since observations may come out of order.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This time and `by` more.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// This time less `by`, never below zero.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// One thing the kernel saw.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Observation {
    /// When.
    pub time: Mono,
    /// What.
    pub what: What,
}

/// The kinds of observation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// A process called connect().
    Process(ProcessStep),
    /// A TCP socket took a step.
    Socket(SocketStep),
    /// A TCP segment passed an observation point.
    Segment(Segment),
    /// The error a socket's owner got.
    Error(SocketError),
    /// connect() returned an error at once, before any SYN.
    CallFailed(CallFailed),
    /// The kernel dropped a segment of an attempt.
    Dropped(Dropped),
    /// An ICMP error that answers a segment of an attempt passed an observation point.
    Icmp(IcmpError),
    /// What connection tracking says of a tuple that was asked for.
    Nat(NatAnswer),
    /// The state of the node's connection tracking.
    Conntrack(ConntrackState),
    /// Source ports in use towards a destination.
    SnatPorts(SnatPorts),
    /// The state of a listening socket that was asked for.
    Listener(ListenerState),
    /// A connection that was open before capture began, or whose numbers were asked for.
    Flow(KnownFlow),
    /// What an open connection has counted, where that was asked for.
    FlowNumbers(FlowAnswer),
    /// Inbound SYNs that were only counted.
    Inbound(InboundCount),
    /// An interface came under watch, changed, or went.
    Interface(InterfaceChange),
    /// Observations were lost before this time.
    Lost(Lost),
}

/// A process called connect() (cgroup connect4, connect6).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProcessStep {
    /// The socket's cookie.
    pub cookie: u64,
    /// The cookie of the socket's network namespace.
    pub netns: u64,
    /// Who called.
    pub process: Process,
    /// The address asked for, before any rewriting by a socket-level load balancer.
    pub asked: Endpoint,
    /// The source port that the socket had bound before, 0 if none.
    pub bound_port: u16,
}

/// The process behind a socket.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Process {
    /// The cgroup v2 id of the process.
    pub cgroup: u64,
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// The thread that called; its name is `comm`.
    pub tid: u32,
    /// Name of the calling thread, NUL-padded; the process's own name only where `tid` equals `pid`.
    pub comm: [u8; 16],
}

/// States of a TCP socket that the tracker tells apart (`include/net/tcp_states.h`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[allow(missing_docs, reason = "the kernel's names say it")]
pub enum TcpState {
    Established = 1,
    SynSent = 2,
    SynRecv = 3,
    FinWait1 = 4,
    FinWait2 = 5,
    TimeWait = 6,
    Close = 7,
    CloseWait = 8,
    LastAck = 9,
    Listen = 10,
    Closing = 11,
    NewSynRecv = 12,
}

impl TcpState {
    /// The state with the kernel's number; none if there is no such state.
    pub fn of_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Established,
            2 => Self::SynSent,
            3 => Self::SynRecv,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Close,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            12 => Self::NewSynRecv,
            _ => return None,
        })
    }
}

/// A step of a TCP socket (sock_ops).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketStep {
    /// The socket's cookie.
    pub cookie: u64,
    /// The cookie of the socket's network namespace, 0 where the kernel cannot tell.
    pub netns: u64,
    /// From the socket's own end (`src`) to its peer (`dst`), whichever of the two is the client.
    pub tuple: Tuple,
    /// Which step.
    pub step: Step,
    /// The socket's numbers at that time.
    pub numbers: SocketNumbers,
}

/// The steps of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The first SYN is about to leave; `numbers.snd_nxt` is its ISN.
    Connect,
    /// The connect() succeeded.
    ActiveEstablished,
    /// A connection was accepted by the stack; `numbers.rcv_nxt - 1` is the client's ISN.
    PassiveEstablished,
    /// The retransmission timer ran out while connecting; `gave_up` if the kernel ends the attempt now.
    Rto {
        /// Whether the kernel gives up now: the application gets ETIMEDOUT.
        gave_up: bool,
    },
    /// The state changed.
    State {
        /// Before.
        from: TcpState,
        /// After.
        to: TcpState,
    },
}

/// A socket's counters (`struct bpf_sock_ops`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the kernel's names say it")]
pub struct SocketNumbers {
    pub snd_nxt: u32,
    pub snd_una: u32,
    pub rcv_nxt: u32,
    pub srtt_us: u32,
    pub total_retrans: u32,
    pub segs_in: u32,
    pub segs_out: u32,
    pub bytes_acked: u64,
    pub bytes_received: u64,
}

/// A side of an interface.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Direction {
    /// Into this network namespace by the interface.
    Ingress,
    /// Out of this network namespace by the interface.
    Egress,
}

impl Direction {
    /// The other way.
    pub fn opposite(self) -> Self {
        match self {
            Self::Ingress => Self::Egress,
            Self::Egress => Self::Ingress,
        }
    }
}

/// What an interface is to the node (design: observation point).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PointKind {
    /// The host side of a pod's veth.
    PodNic,
    /// An interface that leads out of the node.
    NodeNic,
    /// A tunnel device: vxlan, geneve, ipip, wireguard.
    Overlay,
}

impl PointKind {
    /// The word used in telemetry and on the console.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PodNic => "pod_nic",
            Self::NodeNic => "node_nic",
            Self::Overlay => "overlay",
        }
    }
}

/// TCP flags of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags(pub u8);

#[allow(missing_docs, reason = "the names of the bits say it (RFC 9293, 3.1)")]
impl Flags {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const ACK: u8 = 0x10;

    pub fn fin(self) -> bool {
        self.0 & Self::FIN != 0
    }
    pub fn syn(self) -> bool {
        self.0 & Self::SYN != 0
    }
    pub fn rst(self) -> bool {
        self.0 & Self::RST != 0
    }
    pub fn ack(self) -> bool {
        self.0 & Self::ACK != 0
    }
}

/// A TCP segment at an observation point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Interface index in the agent's network namespace, or the number of a capture file.
    pub ifindex: u32,
    /// Which side of the interface.
    pub direction: Direction,
    /// From sender to receiver, as it stands at this point.
    pub tuple: Tuple,
    /// Flags.
    pub flags: Flags,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number (meaningful if the ACK flag is set).
    pub ack: u32,
    /// Timestamp value and echo reply, if the option is there (RFC 7323).
    pub timestamps: Option<Timestamps>,
    /// Payload bytes.
    pub payload: u32,
    /// Window, unscaled.
    pub window: u16,
    /// Maximum segment size option, 0 if none.
    pub mss: u16,
    /// Window scale option.
    pub wscale: Option<u8>,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// The sending socket's cookie where known; good for SYNs only.
    pub cookie: Option<u64>,
}

/// The timestamp option of a segment (RFC 7323, 3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timestamps {
    /// Timestamp value.
    pub val: u32,
    /// Timestamp echo reply.
    pub ecr: u32,
}

/// The error a socket's owner got (`sock/inet_sk_error_report`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketError {
    /// The socket's cookie.
    pub cookie: u64,
    /// The error number, positive; zero when the owner was only told to look, as the kernel does with an ICMP
    /// error that finds a connecting socket in use.
    pub errno: i32,
}

/// An interface came under watch, changed, or went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InterfaceChange {
    /// Its index.
    pub ifindex: u32,
    /// Its state now; none when it went.
    pub now: Option<Interface>,
}

/// A watched interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Its name.
    pub name: Arc<str>,
    /// What it is to the node.
    pub kind: PointKind,
}

/// Observations were lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lost {
    /// How many since the last such observation; 0 if that is not known.
    pub count: u64,
    /// Only observations of attempts from outside: nothing of this node's own attempts is in doubt.
    pub inbound: bool,
}

/// connect() returned an error (`sys_exit_connect`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CallFailed {
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// The thread that called: its call is the last [`ProcessStep`] of the same `tid` before this.
    pub tid: u32,
    /// The error number, positive.
    pub errno: i32,
}

/// The kernel dropped a segment (`skb/kfree_skb`): a SYN that waits for its answer, or what answers it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dropped {
    /// The cookie of the network namespace where it was dropped, 0 if not known.
    pub netns: u64,
    /// The interface that the segment was at, in that namespace; 0 if none.
    pub ifindex: u32,
    /// From sender to receiver, as it stood when it was dropped.
    pub tuple: Tuple,
    /// Flags.
    pub flags: Flags,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// The kernel's name for the reason, without its prefix, as `NETFILTER_DROP` (enum skb_drop_reason);
    /// none where the kernel gives none (below 5.17).
    pub reason: Option<Arc<str>>,
    /// The kernel function that dropped it, where symbols can be read.
    pub place: Option<Arc<str>>,
}

/// An ICMP error at an observation point (RFC 792, RFC 4443).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IcmpError {
    /// Interface index in the agent's network namespace, or the number of a capture file.
    pub ifindex: u32,
    /// Which side of the interface.
    pub direction: Direction,
    /// Who sent the error.
    pub from: Addr,
    /// The tuple of the segment that it is about, as quoted: from its sender to its receiver.
    pub tuple: Tuple,
    /// The quoted sequence number.
    pub seq: u32,
    /// ICMP type, by the family of `tuple`.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
}

/// SYNs from outside to one listener that were counted and not reported one by one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InboundCount {
    /// Where they went.
    pub listener: Endpoint,
    /// How many since the last such observation.
    pub syns: u64,
}

impl From<Endpoint> for SocketAddr {
    fn from(endpoint: Endpoint) -> Self {
        Self::new(endpoint.addr.ip(), endpoint.port)
    }
}
