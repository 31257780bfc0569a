//! A history of healthy connections behind NAT, for the benches.

use std::net::Ipv4Addr;
use std::sync::Arc;

use synspan::capture::observation::{
    Direction, Flags, Interface, InterfaceChange, Mono, Observation, PointKind, Process, ProcessStep, Segment,
    SocketNumbers, SocketStep, Step, TcpState, Timestamps, What,
};
use synspan::capture::tuple::{Endpoint, Tuple};
use synspan::track::{Options, Tracker};

const POD: u32 = 11;
const NODE: u32 = 2;
/// A connection each 50 us: 20,000 a second.
const SPACING_NS: u64 = 50_000;

/// What is seen of connection number `n`, whose source port is one of `ports`.
pub fn connection(n: u64, ports: u16, into: &mut Vec<Observation>) {
    let port = 1024 + (n % u64::from(ports)) as u16;
    let server = Endpoint::new(Ipv4Addr::new(192, 168, 50, 20), 8443);
    let inner = Tuple::new(Endpoint::new(Ipv4Addr::new(10, 244, 1, 11), port), server);
    let wire = Tuple::new(Endpoint::new(Ipv4Addr::new(192, 168, 50, 10), port), server);
    let mut time = n * SPACING_NS;
    let mut see = |what| {
        time += 500;
        into.push(Observation { time: Mono(time), what });
    };
    let isn = (n as u32).wrapping_mul(2_654_435_761);
    let server_isn = isn.wrapping_add(1 << 30);
    let segment = |ifindex, direction, tuple, flags, seq, ack, val, ecr| {
        What::Segment(Segment {
            ifindex,
            direction,
            tuple,
            flags: Flags(flags),
            seq,
            ack,
            timestamps: Some(Timestamps { val, ecr }),
            payload: 0,
            window: 64_240,
            mss: 1460,
            wscale: Some(7),
            ttl: 64,
            cookie: None,
        })
    };
    let socket = |step, snd_nxt, rcv_nxt| {
        let numbers = SocketNumbers { snd_nxt, snd_una: snd_nxt, rcv_nxt, ..Default::default() };
        What::Socket(SocketStep { cookie: n + 1, netns: 5, tuple: inner, step, numbers })
    };
    let process = Process { cgroup: 77, pid: 4000, tid: 4000, comm: *b"client\0\0\0\0\0\0\0\0\0\0" };
    see(What::Process(ProcessStep { cookie: n + 1, netns: 5, process, asked: server, bound_port: 0 }));
    see(socket(Step::Connect, isn, 0));
    let (syn, syn_ack, fin) = (Flags::SYN, Flags::SYN | Flags::ACK, Flags::FIN | Flags::ACK);
    let ts = n as u32;
    see(segment(POD, Direction::Ingress, inner, syn, isn, 0, ts, 0));
    see(segment(NODE, Direction::Egress, wire, syn, isn, 0, ts, 0));
    see(segment(NODE, Direction::Ingress, wire.reversed(), syn_ack, server_isn, isn.wrapping_add(1), 9, ts));
    see(segment(POD, Direction::Egress, inner.reversed(), syn_ack, server_isn, isn.wrapping_add(1), 9, ts));
    see(socket(Step::ActiveEstablished, isn.wrapping_add(1), server_isn.wrapping_add(1)));
    let end = isn.wrapping_add(101);
    see(segment(POD, Direction::Ingress, inner, fin, end, server_isn.wrapping_add(1), ts, 9));
    see(segment(NODE, Direction::Egress, wire, fin, end, server_isn.wrapping_add(1), ts, 9));
    let theirs = server_isn.wrapping_add(101);
    see(segment(NODE, Direction::Ingress, wire.reversed(), fin, theirs, end.wrapping_add(1), 9, ts));
    see(segment(POD, Direction::Egress, inner.reversed(), fin, theirs, end.wrapping_add(1), 9, ts));
    let closed = Step::State { from: TcpState::FinWait2, to: TcpState::Close };
    see(socket(closed, end.wrapping_add(1), theirs.wrapping_add(1)));
}

/// A tracker that knows the two interfaces.
pub fn tracker() -> Tracker {
    let mut tracker = Tracker::new(Options { errors_seen: true, ..Options::default() }, Mono(0));
    for (ifindex, name, kind) in [(POD, "veth-a", PointKind::PodNic), (NODE, "eth0", PointKind::NodeNic)] {
        let now = Some(Interface { name: Arc::from(name), kind });
        tracker.observe(&Observation { time: Mono(0), what: What::Interface(InterfaceChange { ifindex, now }) });
    }
    tracker
}
