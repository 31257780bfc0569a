//! The records that the eBPF programs write into the ring buffer.
//!
//! Every record starts with a [`Header`] whose `kind` tells the rest. Integers are in the
//! machine's byte order, ports included; addresses are 16 bytes in network order, IPv4 in its
//! v4-mapped form (`::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2). Fields are laid out by size so
//! that no compiler adds padding; the asserts at the end hold this on both sides of the boundary.

use core::mem::{align_of, offset_of, size_of};

/// [`Header::kind`] of a [`ProcessRecord`].
pub const KIND_PROCESS: u16 = 1;
/// [`Header::kind`] of a [`SocketRecord`].
pub const KIND_SOCKET: u16 = 2;
/// [`Header::kind`] of a [`SegmentRecord`].
pub const KIND_SEGMENT: u16 = 3;
/// [`Header::kind`] of an [`ErrorRecord`].
pub const KIND_ERROR: u16 = 4;

/// [`Header::kind`] of a [`DroppedRecord`].
pub const KIND_DROP: u16 = 5;
/// [`Header::kind`] of a [`CallRecord`].
pub const KIND_CALL: u16 = 6;
/// [`Header::kind`] of an [`IcmpRecord`].
pub const KIND_ICMP: u16 = 7;

/// [`SocketRecord::step`]: the first SYN is about to leave; `snd_nxt` is its ISN.
pub const STEP_CONNECT: u8 = 1;
/// [`SocketRecord::step`]: an active open was answered (`BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB`).
pub const STEP_ACTIVE_ESTABLISHED: u8 = 2;
/// [`SocketRecord::step`]: a passive open is complete (`BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB`).
pub const STEP_PASSIVE_ESTABLISHED: u8 = 3;
/// [`SocketRecord::step`]: the retransmission timer ran out before the socket was established;
/// `args` are those of `BPF_SOCK_OPS_RTO_CB` (retransmissions so far, RTO in jiffies, 1 if the kernel gives up now).
pub const STEP_RTO: u8 = 4;
/// [`SocketRecord::step`]: the state changed; `state_old`, `state_new` are `TCP_*` of the kernel.
pub const STEP_STATE: u8 = 5;

/// [`SegmentRecord::flags`]: the FIN bit of the TCP header.
pub const TCP_FIN: u8 = 0x01;
/// [`SegmentRecord::flags`]: the SYN bit of the TCP header.
pub const TCP_SYN: u8 = 0x02;
/// [`SegmentRecord::flags`]: the RST bit of the TCP header.
pub const TCP_RST: u8 = 0x04;
/// [`SegmentRecord::flags`]: the ACK bit of the TCP header.
pub const TCP_ACK: u8 = 0x10;

/// [`SegmentRecord::options`]: the segment carries a timestamp option (RFC 7323).
pub const OPTION_TIMESTAMP: u8 = 0x01;
/// [`SegmentRecord::options`]: the option area could not be read whole, so an absent option proves nothing.
pub const OPTION_CUT: u8 = 0x02;
/// [`SegmentRecord::options`]: the segment carries a window scale option (RFC 7323), in `wscale`.
pub const OPTION_WSCALE: u8 = 0x04;

/// [`SegmentRecord::direction`]: seen on ingress of the interface.
pub const INGRESS: u8 = 0;
/// [`SegmentRecord::direction`]: seen on egress of the interface.
pub const EGRESS: u8 = 1;

/// Kind of an interface, in the map `KINDS`: the host side of a pod's interface.
pub const POINT_POD: u32 = 1;
/// Kind of an interface: it leads out of the node.
pub const POINT_NODE: u32 = 2;
/// Kind of an interface: a tunnel.
pub const POINT_OVERLAY: u32 = 3;

/// [`DroppedRecord::reason`] where the kernel gives none (below 5.17).
pub const NO_REASON: u32 = u32::MAX;

/// The start of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// `CLOCK_MONOTONIC` in nanoseconds (`bpf_ktime_get_ns`).
    pub time_ns: u64,
    /// One of the `KIND_*` constants.
    pub kind: u16,
    /// Bytes of the whole record, header included.
    pub size: u16,
    /// Zero.
    pub reserved: u32,
}

/// A process asked for a connection: cgroup `connect4` and `connect6`, before any address rewriting
/// by programs of cgroups further up.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessRecord {
    /// Time, kind and size.
    pub header: Header,
    /// The socket's cookie, unique on the machine.
    pub cookie: u64,
    /// The cookie of the socket's network namespace.
    pub netns_cookie: u64,
    /// The cgroup v2 id of the calling task.
    pub cgroup_id: u64,
    /// Process id (the kernel's tgid), as the initial pid namespace numbers it.
    pub pid: u32,
    /// Thread id (the kernel's pid).
    pub tid: u32,
    /// The address asked for, v4-mapped for IPv4.
    pub address: [u8; 16],
    /// Name of the calling thread, NUL-padded.
    pub comm: [u8; 16],
    /// The port asked for.
    pub port: u16,
    /// The source port already bound, 0 if none.
    pub bound_port: u16,
    /// `AF_INET` or `AF_INET6` as the caller said; v4-mapped callers say `AF_INET6`.
    pub family: u16,
    /// Zero.
    pub reserved: u16,
}

/// A step in a TCP socket's life, from `sock_ops`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketRecord {
    /// Time, kind and size.
    pub header: Header,
    /// The socket's cookie, unique on the machine.
    pub cookie: u64,
    /// The cookie of the socket's network namespace; 0 below kernel 5.15.
    pub netns_cookie: u64,
    /// Payload bytes acknowledged by the peer (`tcp_info.tcpi_bytes_acked`).
    pub bytes_acked: u64,
    /// Payload bytes received (`tcp_info.tcpi_bytes_received`).
    pub bytes_received: u64,
    /// The socket's own address, v4-mapped for IPv4.
    pub local_address: [u8; 16],
    /// The peer's address, v4-mapped for IPv4.
    pub remote_address: [u8; 16],
    /// The socket's own port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
    /// One of the `STEP_*` constants.
    pub step: u8,
    /// State before, for [`STEP_STATE`]; else the current state.
    pub state_old: u8,
    /// State after, for [`STEP_STATE`]; else the current state.
    pub state_new: u8,
    /// Zero.
    pub reserved: u8,
    /// Next sequence number to be sent; the ISN at [`STEP_CONNECT`].
    pub snd_nxt: u32,
    /// Oldest sequence number not yet acknowledged.
    pub snd_una: u32,
    /// Next sequence number expected.
    pub rcv_nxt: u32,
    /// Smoothed round-trip time in microseconds (the kernel's `srtt_us` shifted right by three).
    pub srtt_us: u32,
    /// Segments retransmitted in the socket's life.
    pub total_retrans: u32,
    /// Segments received.
    pub segs_in: u32,
    /// Segments sent.
    pub segs_out: u32,
    /// The callback's arguments, where the step has any.
    pub args: [u32; 3],
}

/// A TCP segment at an observation point, from tcx or clsact.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentRecord {
    /// Time, kind and size.
    pub header: Header,
    /// The sending socket's cookie where the segment still carries one, else 0. Good for SYNs only.
    pub cookie: u64,
    /// Source address, v4-mapped for IPv4.
    pub source_address: [u8; 16],
    /// Destination address, v4-mapped for IPv4.
    pub destination_address: [u8; 16],
    /// Interface index in the agent's network namespace.
    pub ifindex: u32,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number, as it stands in the header, whatever the ACK bit says.
    pub ack: u32,
    /// Timestamp value, if `options` says there is one.
    pub tsval: u32,
    /// Timestamp echo reply, if `options` says there is one.
    pub tsecr: u32,
    /// Payload bytes, from the IP header's length; for BIG TCP's zero length from the packet's own
    /// (`OPTION_CUT` is set then).
    pub payload: u32,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Window, unscaled.
    pub window: u16,
    /// Maximum segment size option of a SYN, 0 if none.
    pub mss: u16,
    /// The TCP header's flag byte (`TCP_*`).
    pub flags: u8,
    /// [`INGRESS`] or [`EGRESS`].
    pub direction: u8,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Bits of `OPTION_*`.
    pub options: u8,
    /// Window scale of a SYN, if `options` says there is one.
    pub wscale: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// The error that a socket's owner gets, from `sock/inet_sk_error_report`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorRecord {
    /// Time, kind and size.
    pub header: Header,
    /// The socket's cookie.
    pub cookie: u64,
    /// The error number, positive (`ECONNREFUSED` and so on); zero when the owner of a connecting socket was
    /// only told to look.
    pub errno: u32,
    /// Zero.
    pub reserved: u32,
}

/// A segment that the kernel dropped, from `skb/kfree_skb`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DroppedRecord {
    /// Time, kind and size.
    pub header: Header,
    /// The cookie of the network namespace of its device, or else of its socket; 0 if there is neither.
    pub netns_cookie: u64,
    /// The address in the kernel where it was dropped.
    pub location: u64,
    /// Source address, v4-mapped for IPv4.
    pub source_address: [u8; 16],
    /// Destination address, v4-mapped for IPv4.
    pub destination_address: [u8; 16],
    /// Its device's index in that network namespace, 0 if it has none.
    pub ifindex: u32,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number, as it stands in the header.
    pub ack: u32,
    /// `enum skb_drop_reason` of the running kernel, or [`NO_REASON`].
    pub reason: u32,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// The TCP header's flag byte (`TCP_*`).
    pub flags: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// A connect() that returned an error, from `syscalls/sys_exit_connect`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallRecord {
    /// Time, kind and size.
    pub header: Header,
    /// Process id (the kernel's tgid), as the initial pid namespace numbers it.
    pub pid: u32,
    /// Thread id (the kernel's pid).
    pub tid: u32,
    /// The error number, positive.
    pub errno: u32,
    /// Zero.
    pub reserved: u32,
}

/// An ICMP or ICMPv6 error about a TCP segment, from tcx or clsact.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpRecord {
    /// Time, kind and size.
    pub header: Header,
    /// Who sent the error, v4-mapped for IPv4.
    pub from_address: [u8; 16],
    /// Source address of the quoted segment.
    pub source_address: [u8; 16],
    /// Destination address of the quoted segment.
    pub destination_address: [u8; 16],
    /// Interface index in the agent's network namespace.
    pub ifindex: u32,
    /// The quoted sequence number.
    pub seq: u32,
    /// The quoted source port.
    pub source_port: u16,
    /// The quoted destination port.
    pub destination_port: u16,
    /// ICMP type, by the family of the addresses.
    pub icmp_type: u8,
    /// ICMP code.
    pub code: u8,
    /// [`INGRESS`] or [`EGRESS`].
    pub direction: u8,
    /// Zero.
    pub reserved: u8,
}

/// A slot of the per-CPU array `SUMS`: SYNs from outside to one listener that were not reported one by one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InboundSum {
    /// The listener's address, v4-mapped for IPv4.
    pub address: [u8; 16],
    /// The listener's port; 0 in a slot that was never used.
    pub port: u32,
    /// When the slot was last added to, in units of 2^30 ns.
    pub last: u32,
    /// SYNs since the slot became this listener's.
    pub syns: u64,
}

/// Indexes into the per-CPU array of counters.
pub mod counter {
    /// Records that found the ring buffer full.
    pub const LOST_RING: u32 = 0;
    /// Pending SYNs whose slot was taken by another tuple before they were answered.
    pub const PENDING_OVERWRITTEN: u32 = 1;
    /// Segments whose headers could not be read.
    pub const UNREADABLE: u32 = 2;
    /// Callback flags that had to be set again because another program overwrote them.
    pub const FLAGS_REASSERTED: u32 = 3;
    /// Records of attempts from outside that found their ring buffer full, or no room in the budget.
    pub const LOST_INBOUND: u32 = 4;
    /// Drops of segments beyond the budget for them.
    pub const DROPS_UNTOLD: u32 = 5;
    /// SYNs from outside that were only summed.
    pub const SUMMED: u32 = 6;
    /// Those of them whose listener found no slot.
    pub const SUMMED_UNPLACED: u32 = 7;
    /// How many counters there are.
    pub const COUNT: u32 = 8;
}

const _: () = {
    assert!(size_of::<Header>() == 16 && align_of::<Header>() == 8);
    assert!(size_of::<ProcessRecord>() == 88 && align_of::<ProcessRecord>() == 8);
    assert!(offset_of!(ProcessRecord, address) == 48 && offset_of!(ProcessRecord, port) == 80);
    assert!(size_of::<SocketRecord>() == 128 && align_of::<SocketRecord>() == 8);
    assert!(offset_of!(SocketRecord, local_address) == 48 && offset_of!(SocketRecord, snd_nxt) == 88);
    assert!(size_of::<SegmentRecord>() == 96 && align_of::<SegmentRecord>() == 8);
    assert!(offset_of!(SegmentRecord, ifindex) == 56 && offset_of!(SegmentRecord, flags) == 88);
    assert!(size_of::<ErrorRecord>() == 32 && align_of::<ErrorRecord>() == 8);
    assert!(size_of::<DroppedRecord>() == 88 && align_of::<DroppedRecord>() == 8);
    assert!(offset_of!(DroppedRecord, ifindex) == 64 && offset_of!(DroppedRecord, flags) == 84);
    assert!(size_of::<CallRecord>() == 32 && align_of::<CallRecord>() == 8);
    assert!(size_of::<IcmpRecord>() == 80 && align_of::<IcmpRecord>() == 8);
    assert!(offset_of!(IcmpRecord, ifindex) == 64 && offset_of!(IcmpRecord, icmp_type) == 76);
    assert!(size_of::<InboundSum>() == 32 && align_of::<InboundSum>() == 8);
};
