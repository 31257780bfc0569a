//! A small world to feed the tracker from: a pod behind NAT, its sockets and its segments.

use std::sync::Arc;

use crate::capture::observation::{
    Direction, Flags, Interface, InterfaceChange, Lost, Mono, Observation, PointKind, Process, ProcessStep, Segment,
    SocketError, SocketNumbers, SocketStep, Step, TcpState, Timestamps, What,
};
use crate::capture::tuple::{Endpoint, Tuple};
use crate::track::attempt::{Attempt, Finding};
use crate::track::{Options, Tracker};

pub const POD_A: u32 = 11;
pub const POD_B: u32 = 12;
pub const NODE: u32 = 2;
pub const HOST_NETNS: u64 = 1;

pub fn end(text: &str) -> Endpoint {
    text.parse::<std::net::SocketAddr>().unwrap().into()
}

pub fn tuple(src: &str, dst: &str) -> Tuple {
    Tuple::new(end(src), end(dst))
}

pub struct World {
    pub tracker: Tracker,
    pub now: u64,
}

/// One connection attempt of the world: its socket, numbers and tuples.
#[derive(Clone, Copy)]
pub struct Conn {
    pub cookie: u64,
    pub pod: u32,
    pub inner: Tuple,
    pub wire: Tuple,
    pub isn: u32,
    pub server_isn: u32,
    pub tsval: u32,
}

impl World {
    pub fn new() -> Self {
        Self::with(Options { errors_seen: true, host_netns: HOST_NETNS, ..Options::default() })
    }

    pub fn with(options: Options) -> Self {
        let mut world = Self { tracker: Tracker::new(options, Mono(0)), now: 1_000_000_000 };
        for (ifindex, name, kind) in [
            (POD_A, "veth-a", PointKind::PodNic),
            (POD_B, "veth-b", PointKind::PodNic),
            (NODE, "eth0", PointKind::NodeNic),
        ] {
            let now = Some(Interface { name: Arc::from(name), kind });
            world.see(What::Interface(InterfaceChange { ifindex, now }));
        }
        world
    }

    pub fn see(&mut self, what: What) {
        self.now += 1_000;
        self.tracker.observe(&Observation { time: Mono(self.now), what });
    }

    pub fn wait_ms(&mut self, ms: u64) {
        self.now += ms * 1_000_000;
        self.tracker.advance(Mono(self.now));
    }

    /// Waits until the next findings are due and takes them.
    pub fn findings(&mut self) -> Vec<Attempt> {
        self.wait_ms(200);
        self.drain()
    }

    pub fn drain(&mut self) -> Vec<Attempt> {
        std::iter::from_fn(|| self.tracker.next_finding())
            .filter_map(|finding| match finding {
                Finding::Attempt(attempt) => Some(*attempt),
                Finding::Inbound(_) | Finding::Flow(_) | Finding::Stalled(_) => None,
            })
            .collect()
    }

    pub fn only(&mut self) -> Attempt {
        let mut found = self.findings();
        assert_eq!(found.len(), 1, "{found:#?}");
        found.remove(0)
    }

    pub fn conn(&self, cookie: u64, pod: u32, source_port: u16, wire_port: u16) -> Conn {
        let address = format!("10.244.1.{pod}:{source_port}");
        Conn {
            cookie,
            pod,
            inner: tuple(&address, "192.168.50.20:8443"),
            wire: tuple(&format!("192.168.50.10:{wire_port}"), "192.168.50.20:8443"),
            isn: 1_000_000 * cookie as u32,
            server_isn: 3_000_000_000 + 1_000_000 * cookie as u32,
            tsval: 77_000 * cookie as u32,
        }
    }

    pub fn step(&mut self, conn: &Conn, step: Step, numbers: SocketNumbers) {
        let netns = if conn.pod == NODE { HOST_NETNS } else { u64::from(conn.pod) };
        self.see(What::Socket(SocketStep { cookie: conn.cookie, netns, tuple: conn.inner, step, numbers }));
    }

    pub fn connect(&mut self, conn: &Conn) {
        let netns = u64::from(conn.pod);
        let process = Process {
            cgroup: 500 + netns,
            pid: 4000 + conn.pod,
            tid: 4000 + conn.pod,
            comm: *b"client\0\0\0\0\0\0\0\0\0\0",
        };
        self.see(What::Process(ProcessStep {
            cookie: conn.cookie,
            netns,
            process,
            asked: conn.inner.dst,
            bound_port: 0,
        }));
        self.step(conn, Step::Connect, SocketNumbers { snd_nxt: conn.isn, ..Default::default() });
    }

    pub fn segment(
        &mut self,
        (ifindex, direction): (u32, Direction),
        tuple: Tuple,
        flags: u8,
        seq: u32,
        ack: u32,
        ts: Option<(u32, u32)>,
    ) {
        self.see(What::Segment(Segment {
            ifindex,
            direction,
            tuple,
            flags: Flags(flags),
            seq,
            ack,
            timestamps: ts.map(|(val, ecr)| Timestamps { val, ecr }),
            payload: 0,
            window: 64_240,
            mss: 1460,
            wscale: None,
            ttl: 64,
            cookie: None,
        }));
    }

    /// A SYN of `conn`, at its pod's interface and, if it leaves, at the node's. `resent` moves the timestamp.
    pub fn syn(&mut self, conn: &Conn, resent: u32, leaves: bool) {
        let ts = Some((conn.tsval + resent, 0));
        if conn.pod != NODE {
            self.segment((conn.pod, Direction::Ingress), conn.inner, Flags::SYN, conn.isn, 0, ts);
        }
        if leaves {
            self.segment((NODE, Direction::Egress), conn.wire, Flags::SYN, conn.isn, 0, ts);
        }
    }

    /// A segment from the server, at the node's interface and then at the pod's.
    pub fn answer(&mut self, conn: &Conn, flags: u8, seq: u32, ack: u32, ts: Option<(u32, u32)>) {
        self.segment((NODE, Direction::Ingress), conn.wire.reversed(), flags, seq, ack, ts);
        if conn.pod != NODE {
            self.segment((conn.pod, Direction::Egress), conn.inner.reversed(), flags, seq, ack, ts);
        }
    }

    /// A segment from the client, at the pod's interface and then at the node's.
    pub fn send(&mut self, conn: &Conn, flags: u8, seq: u32, ack: u32) {
        if conn.pod != NODE {
            self.segment((conn.pod, Direction::Ingress), conn.inner, flags, seq, ack, None);
        }
        self.segment((NODE, Direction::Egress), conn.wire, flags, seq, ack, None);
    }

    pub fn syn_ack(&mut self, conn: &Conn, echo: u32) {
        let ts = Some((1, conn.tsval + echo));
        self.answer(conn, Flags::SYN | Flags::ACK, conn.server_isn, conn.isn.wrapping_add(1), ts);
    }

    pub fn established(&mut self, conn: &Conn) {
        let numbers = SocketNumbers {
            snd_nxt: conn.isn + 1,
            snd_una: conn.isn + 1,
            rcv_nxt: conn.server_isn + 1,
            ..Default::default()
        };
        self.step(conn, Step::ActiveEstablished, numbers);
    }

    /// The whole healthy opening of a connection.
    pub fn open(&mut self, conn: &Conn) {
        self.connect(conn);
        self.syn(conn, 0, true);
        self.syn_ack(conn, 0);
        self.established(conn);
    }

    /// Closes a connection that sent `bytes`. The client says FIN; `answered` says whether the server does.
    pub fn close(&mut self, conn: &Conn, bytes: u32, answered: bool) {
        let end = conn.isn + 1 + bytes;
        let state = |from, to| Step::State { from, to };
        let numbers = |fin: u32, theirs: u32| SocketNumbers {
            snd_nxt: end + fin,
            snd_una: end + fin,
            rcv_nxt: conn.server_isn + 1 + theirs,
            ..Default::default()
        };
        self.step(conn, state(TcpState::Established, TcpState::FinWait1), numbers(0, 0));
        self.send(conn, Flags::FIN | Flags::ACK, end, conn.server_isn + 1);
        if answered {
            self.answer(conn, Flags::FIN | Flags::ACK, conn.server_isn + 1, end + 1, None);
        }
        self.step(conn, state(TcpState::FinWait2, TcpState::Close), numbers(1, u32::from(answered)));
    }

    pub fn closed_unopened(&mut self, conn: &Conn) {
        self.step(conn, Step::State { from: TcpState::SynSent, to: TcpState::Close }, SocketNumbers::default());
    }

    pub fn gave_up(&mut self, conn: &Conn) {
        self.step(conn, Step::Rto { gave_up: true }, SocketNumbers::default());
        self.closed_unopened(conn);
        self.error(conn, 110);
    }

    pub fn error(&mut self, conn: &Conn, errno: i32) {
        self.see(What::Error(SocketError { cookie: conn.cookie, errno }));
    }

    pub fn lose(&mut self, count: u64) {
        self.see(What::Lost(Lost { count, inbound: false }));
    }
}
