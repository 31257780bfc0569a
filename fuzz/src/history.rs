//! Bytes as a history of observations: few tuples and few numbers, so that joins, collisions and reuse happen all
//! the time. An observation takes [`CHUNK`] bytes, so that a changed byte changes one of them.

use std::sync::Arc;

use synspan::capture::flow::{FlowAnswer, FlowNumbers};
use synspan::capture::observation::{
    CallFailed, ConntrackState, Direction, Dropped, Flags, IcmpError, InboundCount, Interface, InterfaceChange,
    KnownFlow, ListenerState, Lost, Mono, NatAnswer, NatEntry, Observation, PointKind, Process, ProcessStep, Segment,
    SnatPorts, SocketError, SocketNumbers, SocketStep, Step, TcpState, Timestamps, What,
};
use synspan::capture::tuple::{Addr, Endpoint, Tuple};

use crate::bytes::Bytes;

/// Bytes of an observation: kind, time (2), tuple, and what the kind makes of the rest.
const CHUNK: usize = 14;
/// Most observations of one history; what is behind them is not read.
const MOST: usize = 400;
/// When histories begin.
const START: u64 = 1_000_000_000_000;

/// Interfaces of two pods and the node's own, as the tracker is told of them before a history.
pub const POD_A: u32 = 11;
/// See [`POD_A`].
pub const POD_B: u32 = 12;
/// See [`POD_A`].
pub const NODE: u32 = 2;

/// The history that the bytes stand for. Time may step back, and long silences occur.
pub fn read(data: &[u8]) -> Vec<Observation> {
    let mut now = START;
    data.chunks(CHUNK)
        .take(MOST)
        .map(|chunk| {
            let mut bytes = Bytes::new(chunk);
            let kind = bytes.byte();
            now = step(now, bytes.byte(), bytes.byte());
            Observation { time: Mono(now), what: what(kind, &mut bytes) }
        })
        .collect()
}

fn step(now: u64, how: u8, by: u8) -> u64 {
    let by = u64::from(by);
    match how % 8 {
        0..=3 => now + by * 10_000,
        4 => now + by * 1_000_000,
        5 => now + by * 20_000_000,
        6 => now.saturating_sub(by * 4_000_000),
        _ => now + by * 10_000_000_000,
    }
}

fn what(kind: u8, bytes: &mut Bytes<'_>) -> What {
    match kind % 32 {
        0..=9 => segment(bytes),
        10..=15 => socket(bytes),
        16 | 17 => What::Process(ProcessStep {
            asked: tuple(bytes).dst,
            cookie: cookie(bytes),
            netns: u64::from(bytes.byte() % 3),
            process: Process { pid: 7, tid: u32::from(bytes.byte() % 3) + 7, ..Process::default() },
            bound_port: bytes.pick(&[0, 0, 46_994]),
        }),
        18 | 19 => What::Error(SocketError { cookie: cookie(bytes), errno: errno(bytes) }),
        20 => What::CallFailed(CallFailed { pid: 7, tid: u32::from(bytes.byte() % 3) + 7, errno: errno(bytes) }),
        21 | 22 => What::Dropped(Dropped {
            tuple: tuple(bytes),
            netns: u64::from(bytes.byte() % 4),
            ifindex: u32::from(bytes.byte() % 3),
            flags: flags(bytes),
            seq: number(bytes),
            ack: number(bytes),
            reason: bytes.maybe(|b| {
                Arc::from(b.pick(&["NETFILTER_DROP", "TCP_LISTEN_OVERFLOW", "NEIGH_FAILED", "NOT_SPECIFIED", ""]))
            }),
            place: bytes.maybe(|b| Arc::from(b.pick(&["nf_hook_slow", "tcp_conn_request", "__nf_conntrack_confirm"]))),
        }),
        23 => {
            let tuple = tuple(bytes);
            What::Icmp(IcmpError {
                ifindex: interface(bytes),
                direction: direction(bytes),
                from: bytes.maybe(|b| endpoint(b).addr).unwrap_or(tuple.dst.addr),
                tuple,
                seq: number(bytes),
                kind: bytes.byte(),
                code: bytes.byte(),
            })
        }
        24 => What::Nat(NatAnswer {
            asked: tuple(bytes),
            entry: bytes.maybe(|b| NatEntry { original: tuple(b), reply: tuple(b), zone: 0, mark: 0 }),
        }),
        25 => What::Conntrack(ConntrackState {
            entries: u64::from(bytes.byte()),
            limit: u64::from(bytes.byte()),
            insert_failed: u64::from(bytes.byte()),
            dropped: u64::from(bytes.byte()),
            early_drop: u64::from(bytes.byte()),
        }),
        26 => {
            let tuple = tuple(bytes);
            What::SnatPorts(SnatPorts {
                egress: tuple.src.addr,
                destination: tuple.dst,
                used: number(bytes),
                range: bytes.maybe(|b| (u16::from(b.byte()) << 8, u16::from(b.byte()) << 8)),
            })
        }
        27 => What::Listener(ListenerState {
            endpoint: tuple(bytes).dst,
            netns: u64::from(bytes.byte() % 4),
            listens: bytes.flag(),
            queue: u32::from(bytes.byte()),
            limit: u32::from(bytes.byte()),
            overflows: u64::from(bytes.byte()),
            drops: u64::from(bytes.byte()),
        }),
        28 => What::Flow(KnownFlow {
            tuple: tuple(bytes),
            wire: bytes.maybe(tuple),
            cookie: cookie(bytes),
            server_socket: bytes.flag(),
            netns: 1,
            client_acked: bytes.maybe(number),
            client_next: bytes.maybe(number),
            server_next: bytes.maybe(number),
            numbers: None,
            over: bytes.flag(),
        }),
        29 => What::Inbound(InboundCount { listener: tuple(bytes).dst, syns: u64::from(bytes.byte()) + 1 }),
        30 => What::Interface(InterfaceChange {
            ifindex: interface(bytes),
            now: bytes.maybe(|b| Interface {
                name: Arc::from("x"),
                kind: b.pick(&[PointKind::PodNic, PointKind::NodeNic, PointKind::Overlay]),
            }),
        }),
        _ => match bytes.byte() {
            200.. => What::FlowNumbers(FlowAnswer { cookie: cookie(bytes), netns: 1, numbers: counted(bytes) }),
            count => What::Lost(Lost { count: u64::from(count), inbound: bytes.flag() }),
        },
    }
}

fn segment(bytes: &mut Bytes<'_>) -> What {
    What::Segment(Segment {
        tuple: tuple(bytes),
        ifindex: interface(bytes),
        direction: direction(bytes),
        flags: flags(bytes),
        seq: number(bytes),
        ack: number(bytes),
        timestamps: bytes.maybe(|b| {
            let both = b.byte();
            Timestamps { val: u32::from(both & 15), ecr: u32::from(both >> 4) }
        }),
        cookie: bytes.maybe(cookie).filter(|cookie| *cookie != 0),
        payload: u32::from(bytes.byte() % 3),
        window: 64_240,
        mss: 1460,
        wscale: Some(7),
        ttl: 63,
    })
}

fn socket(bytes: &mut Bytes<'_>) -> What {
    let tuple = tuple(bytes);
    let cookie = cookie(bytes);
    let step = match bytes.byte() % 8 {
        0..=2 => Step::Connect,
        3 => Step::ActiveEstablished,
        4 => Step::PassiveEstablished,
        5 => Step::Rto { gave_up: bytes.flag() },
        _ => Step::State { from: state(bytes), to: state(bytes) },
    };
    let numbers = SocketNumbers {
        snd_nxt: number(bytes),
        snd_una: number(bytes),
        rcv_nxt: number(bytes),
        srtt_us: number(bytes),
        ..SocketNumbers::default()
    };
    let numbers = SocketNumbers {
        bytes_acked: u64::from(numbers.snd_una % 2_000),
        bytes_received: u64::from(numbers.rcv_nxt % 2_000),
        segs_out: numbers.snd_nxt,
        segs_in: numbers.rcv_nxt,
        ..numbers
    };
    What::Socket(SocketStep { cookie, netns: u64::from(bytes.byte() % 3), tuple, step, numbers })
}

fn counted(bytes: &mut Bytes<'_>) -> FlowNumbers {
    FlowNumbers {
        state: state(bytes),
        bytes_acked: u64::from(number(bytes) % 2_000),
        bytes_received: u64::from(number(bytes) % 2_000),
        segs_out: number(bytes),
        segs_in: number(bytes),
        total_retrans: number(bytes),
        srtt_us: number(bytes),
    }
}

fn state(bytes: &mut Bytes<'_>) -> TcpState {
    bytes.pick(&[
        TcpState::Close,
        TcpState::Established,
        TcpState::SynSent,
        TcpState::FinWait1,
        TcpState::FinWait2,
        TcpState::CloseWait,
        TcpState::LastAck,
        TcpState::TimeWait,
        TcpState::SynRecv,
        TcpState::Closing,
    ])
}

fn endpoint(bytes: &mut Bytes<'_>) -> Endpoint {
    let v4 = |last: [u8; 4]| Addr([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, last[0], last[1], last[2], last[3]]);
    let v6 = |last: u8| Addr([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    bytes.pick(&[
        Endpoint { addr: v4([192, 168, 50, 20]), port: 8443 },
        Endpoint { addr: v4([192, 168, 50, 21]), port: 8443 },
        Endpoint { addr: v4([127, 0, 0, 1]), port: 8443 },
        Endpoint { addr: v6(0x20), port: 8443 },
    ])
}

fn tuple(bytes: &mut Bytes<'_>) -> Tuple {
    let which = bytes.byte();
    let dst = endpoint(&mut Bytes::new(&[which >> 3]));
    let port = 46_994 + u16::from(which >> 5 & 1);
    let v4 = |a, b, c, d| Addr([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]);
    let src = [v4(10, 244, 1, 11), v4(10, 244, 1, 12), v4(192, 168, 50, 10), v4(127, 0, 0, 1)][usize::from(which & 3)];
    let forth = Tuple::new(Endpoint { addr: src, port }, dst);
    if which & 4 != 0 { forth.reversed() } else { forth }
}

fn number(bytes: &mut Bytes<'_>) -> u32 {
    match bytes.byte() {
        small @ 0..=127 => 1000 + u32::from(small),
        other @ 128..=191 => 5000 + u32::from(other - 128),
        192 => 0,
        193 => u32::MAX,
        194 => 1 << 31,
        far => u32::from(far) << 24,
    }
}

fn cookie(bytes: &mut Bytes<'_>) -> u64 {
    u64::from(bytes.byte() % 6)
}

fn errno(bytes: &mut Bytes<'_>) -> i32 {
    bytes.pick(&[110, 111, 113, 101, 99, 98, 1, 13, 104, 0, -1, i32::MIN, i32::MAX])
}

fn interface(bytes: &mut Bytes<'_>) -> u32 {
    bytes.pick(&[POD_A, NODE, POD_B, 99])
}

fn direction(bytes: &mut Bytes<'_>) -> Direction {
    bytes.pick(&[Direction::Ingress, Direction::Egress])
}

fn flags(bytes: &mut Bytes<'_>) -> Flags {
    const KNOWN: [u8; 6] =
        [Flags::SYN, Flags::SYN | Flags::ACK, Flags::ACK, Flags::RST, Flags::RST | Flags::ACK, Flags::FIN | Flags::ACK];
    let which = bytes.byte();
    Flags(KNOWN.get(usize::from(which % 8)).copied().unwrap_or(which))
}
