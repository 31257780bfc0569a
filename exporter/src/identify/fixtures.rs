//! Hand-made attempts for the tests of every stage from here on.

use std::sync::Arc;
use std::time::Duration;

use super::Identity;
use super::clock::WallClock;
use super::describe::Described;
use super::node::Node;
use crate::capture::observation::{Direction, Mono, PointKind, Process};
use crate::capture::tuple::{Endpoint, Tuple};
use crate::track::attempt::{
    Attempt, ClientSocket, PreviousOwner, Role, ServerSocket, Sighting, StoryStep, TimedStep, Verdict,
};
use crate::track::trace_id::TraceId;
use crate::track::verdict::{Cause, ClosedBy, Evidence, Outcome, ServerState, Side};

/// When every attempt starts: 100 s after boot.
pub const START: Mono = Mono(100_000_000_000);
/// 2026-11-23 20:31:07.123 UTC, in nanoseconds.
pub const START_UNIX: u64 = 1_795_465_867_123_000_000;
/// Where the previous owner's streams ended, as the stale ACK of the case said.
pub const STALE: (u32, u32) = (1_092_224_145, 2_066_196_114);

pub fn endpoint(text: &str) -> Endpoint {
    text.parse::<std::net::SocketAddr>().expect("address and port").into()
}

pub fn tuple(src: &str, dst: &str) -> Tuple {
    Tuple::new(endpoint(src), endpoint(dst))
}

pub fn at(micros: u64) -> Mono {
    START.plus(Duration::from_micros(micros))
}

pub fn sighting(interface: &str, kind: PointKind, direction: Direction, tuple: Tuple, micros: u64) -> Sighting {
    let first = at(micros);
    Sighting { ifindex: 7, interface: Arc::from(interface), kind, direction, tuple, first, last: first, syns: 1 }
}

fn step(micros: u64, point: Option<usize>, step: StoryStep) -> TimedStep {
    TimedStep { time: at(micros), point, step }
}

pub fn identity(pairs: &[(&str, &str)]) -> Arc<Identity> {
    Arc::new(Identity::new(pairs.iter().copied()))
}

pub fn pod(namespace: &str, service: &str, pod: &str) -> Arc<Identity> {
    identity(&[
        ("service.namespace", namespace),
        ("service.name", service),
        ("k8s.namespace.name", namespace),
        ("k8s.pod.name", pod),
    ])
}

fn describe(attempt: Attempt) -> Described {
    let node = Node::new("node-1", true, &[]);
    let offset = i64::try_from(START_UNIX - START.0).expect("fits");
    Described {
        attempt: Box::new(attempt),
        clock: WallClock::fixed(offset),
        client: Some(pod("shop", "vehicle-control", "vehicle-control-5d8")),
        executable: Some(Arc::from("java")),
        server: None,
        peer: None,
        service: None,
        previous_owner: None,
        previous_owner_sent: None,
        node: Arc::new(node.network()),
        unknown: Arc::new(node.unknown()),
    }
}

/// A pod's attempt through SNAT to an outside server, established in 400 us.
pub fn clean() -> Described {
    let inside = tuple("10.244.1.12:34732", "192.168.50.20:8443");
    let outside = tuple("192.168.50.10:46994", "192.168.50.20:8443");
    describe(Attempt {
        serial: 42,
        role: Role::Client,
        started: START,
        ended: at(400),
        verdict: Verdict {
            outcome: Outcome::Established,
            errno: None,
            cause: None,
            also: vec![],
            evidence: Evidence::None,
            responsible: None,
        },
        client: Some(ClientSocket {
            cookie: 5,
            netns: 3,
            process: Some(Process { cgroup: 77, pid: 4711, tid: 4712, comm: *b"worker\0\0\0\0\0\0\0\0\0\0" }),
            asked: Some(inside.dst),
            tuple: inside,
        }),
        server: None,
        trace: TraceId([0x4f; 16]),
        trace_survives_nat: true,
        retry_traces: vec![],
        answered_trace: None,
        syns: 1,
        sightings: vec![
            sighting("veth-b", PointKind::PodNic, Direction::Ingress, inside, 20),
            sighting("eth0", PointKind::NodeNic, Direction::Egress, outside, 50),
        ],
        wire: vec![outside],
        steps: vec![
            step(20, Some(0), StoryStep::Syn { retry: 0, tuple: inside }),
            step(50, Some(1), StoryStep::Syn { retry: 0, tuple: outside }),
            step(380, Some(1), StoryStep::SynAck),
            step(390, Some(0), StoryStep::SynAck),
            step(400, None, StoryStep::Established),
        ],
        steps_dropped: 0,
        previous_owner: None,
        reused: false,
        reuse_possible: false,
        ledger_partial: false,
        lossy: false,
        proxied: false,
        closed_without_data: false,
        facts: Default::default(),
    })
}

fn owner() -> PreviousOwner {
    PreviousOwner {
        serial: 41,
        process: None,
        netns: 2,
        tuple: tuple("10.244.1.11:51544", "192.168.50.20:8443"),
        wire: Some(tuple("192.168.50.10:46994", "192.168.50.20:8443")),
        trace: TraceId([0x1c; 16]),
        opened: START.minus(Duration::from_millis(2_662)),
        closed: Some(START.minus(Duration::from_millis(162))),
        gap: Some(Duration::from_millis(162)),
        closed_by: ClosedBy::Client,
        server_state: ServerState::NeverClosed,
        client_end: Some(STALE.1),
        server_end: Some(STALE.0),
    }
}

/// The design's case: a stale ACK, a RST, the SYN again after a second, established late.
pub fn case() -> Described {
    let mut described = clean();
    described.previous_owner = Some(pod("shop", "cart", "cart-7f9c"));
    let attempt = &mut *described.attempt;
    let (inside, outside) = (attempt.sightings[0].tuple, attempt.sightings[1].tuple);
    attempt.ended = at(1_013_000);
    attempt.syns = 2;
    attempt.verdict.cause = Some(Cause::SourcePortReuse);
    attempt.verdict.also = vec![Cause::SynLost];
    attempt.verdict.evidence = Evidence::Exact;
    attempt.verdict.responsible = Some(Side::Node);
    attempt.retry_traces = vec![TraceId([0x50; 16])];
    attempt.previous_owner = Some(owner());
    attempt.reused = true;
    let stale = StoryStep::StaleAck { seq: STALE.0, ack: STALE.1 };
    let reset = StoryStep::Reset { by_client: true, seq: STALE.1 };
    for (sighting, last) in attempt.sightings.iter_mut().zip([1_002_020, 1_002_050]) {
        sighting.last = at(last);
        sighting.syns = 2;
    }
    attempt.steps = vec![
        step(20, Some(0), StoryStep::Syn { retry: 0, tuple: inside }),
        step(50, Some(1), StoryStep::Syn { retry: 0, tuple: outside }),
        step(400, Some(1), stale),
        step(420, Some(0), stale),
        step(440, Some(0), reset),
        step(460, Some(1), reset),
        step(1_002_020, Some(0), StoryStep::Syn { retry: 1, tuple: inside }),
        step(1_002_050, Some(1), StoryStep::Syn { retry: 1, tuple: outside }),
        step(1_012_500, Some(1), StoryStep::SynAck),
        step(1_012_520, Some(0), StoryStep::SynAck),
        step(1_013_000, None, StoryStep::Established),
    ];
    described
}

/// Refused by the server.
pub fn refused() -> Described {
    let mut described = clean();
    described.peer = Some(pod("shop", "account", "account-1"));
    let attempt = &mut *described.attempt;
    attempt.verdict = Verdict {
        outcome: Outcome::Refused,
        errno: Some(111),
        cause: Some(Cause::ConnectionRefused),
        also: vec![],
        evidence: Evidence::Kernel,
        responsible: Some(Side::Server),
    };
    let reset = StoryStep::Reset { by_client: false, seq: 0 };
    attempt.steps.truncate(2);
    attempt.steps.extend([step(380, Some(1), reset), step(390, Some(0), reset)]);
    described
}

/// Left the node, nothing came back, the kernel gave up.
pub fn no_response() -> Described {
    let mut described = clean();
    let attempt = &mut *described.attempt;
    let (inside, outside) = (attempt.sightings[0].tuple, attempt.sightings[1].tuple);
    attempt.ended = at(7_200_000);
    attempt.syns = 3;
    attempt.verdict = Verdict {
        outcome: Outcome::TimedOut,
        errno: Some(110),
        cause: Some(Cause::NoResponse),
        also: vec![],
        evidence: Evidence::Absence,
        responsible: Some(Side::BeyondNode),
    };
    attempt.retry_traces = vec![TraceId([0x50; 16]), TraceId([0x51; 16])];
    attempt.reuse_possible = true;
    attempt.ledger_partial = true;
    attempt.steps.truncate(2);
    for (retry, micros) in [(1, 1_020_000), (2, 3_100_000)] {
        attempt.steps.push(step(micros, Some(0), StoryStep::Syn { retry, tuple: inside }));
        attempt.steps.push(step(micros + 30, Some(1), StoryStep::Syn { retry, tuple: outside }));
    }
    attempt.steps.push(step(7_200_000, None, StoryStep::GaveUp));
    described
}

/// Entered the node by the pod's interface and never left.
pub fn dropped_in_node() -> Described {
    let mut described = no_response();
    let attempt = &mut *described.attempt;
    attempt.verdict.cause = Some(Cause::DroppedInNode);
    attempt.verdict.responsible = Some(Side::Node);
    attempt.reuse_possible = false;
    attempt.ledger_partial = false;
    attempt.sightings.truncate(1);
    attempt.sightings[0].last = at(3_100_000);
    attempt.wire.clear();
    attempt.steps.retain(|step| step.point != Some(1));
    described
}

/// The application gave up after three seconds with nothing heard.
pub fn aborted() -> Described {
    let mut described = no_response();
    let attempt = &mut *described.attempt;
    attempt.ended = at(3_000_000);
    attempt.syns = 2;
    attempt.verdict.outcome = Outcome::Aborted;
    attempt.verdict.errno = None;
    attempt.reuse_possible = false;
    attempt.ledger_partial = false;
    attempt.retry_traces.truncate(1);
    attempt.steps.truncate(4);
    attempt.steps.push(step(3_000_000, None, StoryStep::Closed));
    described
}

/// No answer on a reused port, while the destination answered others.
pub fn suspected() -> Described {
    let mut described = no_response();
    described.previous_owner = Some(pod("shop", "cart", "cart-7f9c"));
    let attempt = &mut *described.attempt;
    attempt.verdict.cause = Some(Cause::SourcePortReuseSuspected);
    attempt.verdict.also = vec![Cause::NoResponse];
    attempt.verdict.evidence = Evidence::Tuple;
    attempt.verdict.responsible = Some(Side::Node);
    attempt.reuse_possible = false;
    attempt.ledger_partial = false;
    attempt.reused = true;
    attempt.previous_owner =
        Some(PreviousOwner { closed_by: ClosedBy::Unknown, server_state: ServerState::Unknown, ..owner() });
    described
}

/// The same SYN as in [`clean`], as the server's node sees it: in by its interface, DNAT to a pod.
pub fn server_side() -> Described {
    let mut described = clean();
    let arrived = tuple("192.168.50.10:46994", "192.168.50.20:8443");
    let inside = tuple("192.168.50.10:46994", "10.245.0.9:443");
    described.client = None;
    described.executable = None;
    described.server = Some(pod("bank", "account", "account-1"));
    let attempt = &mut *described.attempt;
    attempt.role = Role::Server;
    attempt.client = None;
    attempt.server = Some(ServerSocket { cookie: 9, netns: 8, tuple: inside, established: at(300) });
    attempt.ended = at(300);
    attempt.sightings = vec![
        sighting("ens3", PointKind::NodeNic, Direction::Ingress, arrived, 0),
        sighting("veth-s", PointKind::PodNic, Direction::Egress, inside, 30),
    ];
    attempt.wire = vec![arrived];
    attempt.steps = vec![
        step(0, Some(0), StoryStep::Syn { retry: 0, tuple: arrived }),
        step(30, Some(1), StoryStep::Syn { retry: 0, tuple: inside }),
        step(100, Some(1), StoryStep::SynAck),
    ];
    described
}

/// A host process's attempt over IPv6 with no NAT.
pub fn ipv6() -> Described {
    let mut described = clean();
    described.client = Some(identity(&[("service.name", "backup"), ("host.name", "node-1")]));
    let ends = tuple("[2001:db8::10]:40000", "[2001:db8::20]:443");
    let attempt = &mut *described.attempt;
    if let Some(client) = &mut attempt.client {
        client.tuple = ends;
        client.asked = Some(ends.dst);
    }
    attempt.sightings = vec![sighting("eth0", PointKind::NodeNic, Direction::Egress, ends, 20)];
    attempt.wire = vec![ends];
    attempt.steps = vec![
        step(20, Some(0), StoryStep::Syn { retry: 0, tuple: ends }),
        step(380, Some(0), StoryStep::SynAck),
        step(400, None, StoryStep::Established),
    ];
    described
}
