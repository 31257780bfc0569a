//! The server's side, each with what it must not be taken for.

use super::world::{Conn, NODE, POD_A, POD_B, World, end, tuple};
use crate::capture::observation::{
    Direction, Flags, InboundCount, KnownFlow, ListenerState, SocketNumbers, SocketStep, Step, What,
};
use crate::capture::question::Question;
use crate::track::attempt::{Attempt, Finding, Role};
use crate::track::verdict::{Cause, Evidence, Outcome, Side};

const CLIENT: &str = "198.51.100.7:40000";

/// An attempt from outside to the first pod.
fn inbound(world: &World, cookie: u64) -> Conn {
    let there = tuple(&format!("198.51.100.7:{}", 40_000 + cookie), "10.244.1.11:8443");
    Conn { inner: there, wire: there, ..world.conn(cookie, POD_A, 1, 1) }
}

fn syn(world: &mut World, conn: &Conn, again: u32) {
    let ts = Some((conn.tsval + again, 0));
    world.segment((NODE, Direction::Ingress), conn.inner, Flags::SYN, conn.isn, 0, ts);
    world.segment((POD_A, Direction::Egress), conn.inner, Flags::SYN, conn.isn, 0, ts);
}

fn syn_ack(world: &mut World, conn: &Conn) {
    let (flags, ack, ts) = (Flags::SYN | Flags::ACK, conn.isn + 1, Some((9, conn.tsval)));
    world.segment((POD_A, Direction::Ingress), conn.inner.reversed(), flags, conn.server_isn, ack, ts);
    world.segment((NODE, Direction::Egress), conn.inner.reversed(), flags, conn.server_isn, ack, ts);
}

fn accepted(world: &mut World, conn: &Conn) {
    let numbers = SocketNumbers { rcv_nxt: conn.isn + 1, snd_nxt: conn.server_isn + 1, ..Default::default() };
    world.see(What::Socket(SocketStep {
        cookie: 900 + conn.cookie,
        netns: 11,
        tuple: conn.inner.reversed(),
        step: Step::PassiveEstablished,
        numbers,
    }));
}

/// A healthy one first: its answer is a witness, its socket says that accepted ones are in sight.
fn healthy(world: &mut World) -> Attempt {
    let conn = inbound(world, 9);
    syn(world, &conn, 0);
    syn_ack(world, &conn);
    accepted(world, &conn);
    let attempt = world.only();
    assert_eq!((attempt.verdict.outcome, attempt.verdict.cause), (Outcome::Established, None));
    assert_eq!(attempt.role, Role::Server);
    attempt
}

fn late(world: &mut World) -> Attempt {
    world.wait_ms(21_000);
    world.only()
}

fn listener(queue: u32, overflows: u64) -> What {
    let endpoint = end("10.244.1.11:8443");
    What::Listener(ListenerState { endpoint, netns: 11, listens: true, queue, limit: 1, overflows, drops: 0 })
}

#[test]
fn a_syn_that_reached_the_pod_and_was_not_answered() {
    let mut world = World::new();
    healthy(&mut world);
    let conn = inbound(&world, 1);
    syn(&mut world, &conn, 0);
    syn(&mut world, &conn, 1_000);
    assert_eq!(world.tracker.next_question(), Some(Question::Listener(end("10.244.1.11:8443"))));
    world.see(listener(0, 5));
    let attempt = late(&mut world);
    assert_eq!(attempt.verdict.cause, Some(Cause::SynUnansweredByServer));
    assert_eq!((attempt.verdict.evidence, attempt.verdict.responsible), (Evidence::Absence, Some(Side::Server)));
}

#[test]
fn without_a_witness_nothing_is_said_of_the_server() {
    let mut world = World::new();
    let conn = inbound(&world, 1);
    syn(&mut world, &conn, 0);
    syn(&mut world, &conn, 1_000);
    let attempt = late(&mut world);
    assert_eq!((attempt.verdict.outcome, attempt.verdict.cause), (Outcome::Failed, None));
}

#[test]
fn a_full_accept_queue_by_its_length_or_its_counter() {
    for (first, second) in [(listener(2, 5), None), (listener(0, 5), Some(listener(0, 6)))] {
        let mut world = World::new();
        healthy(&mut world);
        let conn = inbound(&world, 1);
        syn(&mut world, &conn, 0);
        syn(&mut world, &conn, 1_000);
        world.see(first);
        second.into_iter().for_each(|answer| world.see(answer));
        let attempt = late(&mut world);
        assert_eq!(attempt.verdict.cause, Some(Cause::AcceptQueueOverflow));
        assert_eq!((attempt.verdict.evidence, attempt.verdict.responsible), (Evidence::Kernel, Some(Side::Server)));
        assert!(attempt.facts.listener.is_some());
    }
}

#[test]
fn syn_acks_again_are_no_fault_where_the_client_answered() {
    let mut world = World::new();
    healthy(&mut world);
    let conn = inbound(&world, 1);
    syn(&mut world, &conn, 0);
    syn_ack(&mut world, &conn);
    world.wait_ms(1_000);
    syn_ack(&mut world, &conn);
    let (seq, ack) = (conn.isn + 1, conn.server_isn + 1);
    world.segment((POD_A, Direction::Egress), conn.inner, Flags::ACK, seq, ack, None);
    world.see(listener(0, 5));
    world.wait_ms(1_000);
    accepted(&mut world, &conn);
    let attempt = world.only();
    assert_eq!((attempt.verdict.outcome, attempt.verdict.cause), (Outcome::Established, None), "deferred accept");
}

#[test]
fn syn_acks_that_nobody_answers() {
    let mut world = World::new();
    healthy(&mut world);
    let conn = inbound(&world, 1);
    syn(&mut world, &conn, 0);
    for _ in 0..3 {
        syn_ack(&mut world, &conn);
        world.wait_ms(1_000);
    }
    let attempt = late(&mut world);
    assert_eq!((attempt.verdict.outcome, attempt.verdict.cause), (Outcome::Failed, Some(Cause::SynAckUnanswered)));
    assert_eq!(attempt.verdict.responsible, Some(Side::BeyondNode));
}

#[test]
fn a_reset_handshake_names_the_side() {
    let mut world = World::new();
    healthy(&mut world);
    let scan = inbound(&world, 1);
    syn(&mut world, &scan, 0);
    syn_ack(&mut world, &scan);
    world.segment((NODE, Direction::Ingress), scan.inner, Flags::RST, scan.isn + 1, 0, None);
    let attempt = late(&mut world);
    assert_eq!((attempt.verdict.cause, attempt.verdict.responsible), (Some(Cause::HandshakeReset), Some(Side::Client)));

    let refused = inbound(&world, 2);
    syn(&mut world, &refused, 0);
    syn_ack(&mut world, &refused);
    let flags = Flags::RST;
    world.segment((POD_A, Direction::Ingress), refused.inner.reversed(), flags, refused.server_isn + 1, 0, None);
    let attempt = late(&mut world);
    assert_eq!((attempt.verdict.cause, attempt.verdict.responsible), (Some(Cause::HandshakeReset), Some(Side::Server)));
}

#[test]
fn a_reset_after_the_end_takes_no_handshake_back() {
    for (ended, cause) in [(false, Some(Cause::HandshakeReset)), (true, None)] {
        let mut world = World::new();
        let conn = world.conn(7, POD_A, 40_001, 40_001);
        world.open(&conn);
        if ended {
            world.close(&conn, 0, true);
        }
        // What a host says to a late copy of the handshake's last segment: the number that this acknowledged.
        world.answer(&conn, Flags::RST, conn.server_isn + 1, 0, None);
        let attempt = world.only();
        assert_eq!((attempt.verdict.outcome, attempt.verdict.cause), (Outcome::Established, cause));
    }
}

#[test]
fn a_health_check_that_connects_and_resets_is_no_fault() {
    let mut world = World::new();
    let conn = inbound(&world, 1);
    syn(&mut world, &conn, 0);
    syn_ack(&mut world, &conn);
    accepted(&mut world, &conn);
    world.segment((NODE, Direction::Ingress), conn.inner, Flags::RST | Flags::ACK, conn.isn + 1, 7, None);
    let attempt = world.only();
    assert_eq!((attempt.verdict.outcome, attempt.verdict.cause), (Outcome::Established, None));
    assert_eq!(attempt.client, None, "nothing of {CLIENT} is here");
}

#[test]
fn a_flood_is_one_summary_and_costs_no_attempt_of_our_own() {
    let mut world = World::new();
    let own = world.conn(77, POD_A, 40_001, 40_001);
    world.connect(&own);
    world.syn(&own, 0, true);
    for n in 0..50_000_u32 {
        let there = tuple(&format!("203.0.{}.{}:1024", n / 250 % 250, n % 250 + 1), "10.244.1.11:8443");
        let conn = Conn { inner: there, wire: there, isn: 5 + n * 7, ..own };
        world.segment((NODE, Direction::Ingress), conn.inner, Flags::SYN, conn.isn, 0, None);
        world.segment((POD_A, Direction::Egress), conn.inner, Flags::SYN, conn.isn, 0, None);
    }
    world.see(What::Inbound(InboundCount { listener: end("10.244.1.11:8443"), syns: 950_000 }));
    assert!(world.tracker.counts().open_attempts <= 16_384 + 1);
    world.syn_ack(&own, 0);
    world.established(&own);
    world.wait_ms(200);
    let found: Vec<Finding> = std::iter::from_fn(|| world.tracker.next_finding()).collect();
    assert_eq!(found.len(), 1, "only our own");
    world.wait_ms(30_000);
    world.wait_ms(30_000);
    let found: Vec<Finding> = std::iter::from_fn(|| world.tracker.next_finding()).collect();
    let sums: Vec<_> =
        found.iter().filter_map(|f| if let Finding::Inbound(sum) = f { Some(sum) } else { None }).collect();
    assert_eq!(sums.len(), 1, "{sums:?}");
    assert_eq!((sums[0].syns, sums[0].counted), (1_000_000, 950_000));
    assert_eq!(found.len(), 1, "none is told by itself once there is a sum");
}

#[test]
fn an_owner_from_before_the_start_is_known_and_has_no_span() {
    let mut world = World::new();
    let conn = world.conn(2, POD_A, 40_002, 46_994);
    let old = tuple("10.244.1.12:50000", "192.168.50.20:8443");
    world.see(What::Flow(KnownFlow {
        tuple: old,
        wire: Some(conn.wire),
        cookie: 0,
        server_socket: false,
        netns: 0,
        client_acked: None,
        client_next: None,
        server_next: None,
        numbers: None,
        over: true,
    }));
    world.connect(&conn);
    world.syn(&conn, 0, true);
    world.answer(&conn, Flags::ACK, 1, 4_000_000_000, None);
    world.gave_up(&conn);
    let attempt = world.only();
    assert_eq!((attempt.verdict.cause, attempt.verdict.evidence), (Some(Cause::SourcePortReuse), Evidence::Tuple));
    let owner = attempt.previous_owner.expect("an owner");
    assert_eq!((owner.serial, owner.tuple), (0, old));
    assert!(attempt.ledger_partial);
}

#[test]
fn a_client_of_this_node_whose_server_never_takes_it() {
    for full in [true, false] {
        let mut world = World::new();
        healthy(&mut world);
        let there = tuple("10.244.1.12:40001", "10.244.1.11:8443");
        let conn = Conn { inner: there, wire: there, pod: POD_B, ..world.conn(1, POD_B, 1, 1) };
        world.connect(&conn);
        let ts = Some((conn.tsval, 0));
        world.segment((POD_B, Direction::Ingress), there, Flags::SYN, conn.isn, 0, ts);
        world.segment((POD_A, Direction::Egress), there, Flags::SYN, conn.isn, 0, ts);
        let answer = |world: &mut World| {
            let (flags, ack, ts) = (Flags::SYN | Flags::ACK, conn.isn + 1, Some((9, conn.tsval)));
            world.segment((POD_A, Direction::Ingress), there.reversed(), flags, conn.server_isn, ack, ts);
            world.segment((POD_B, Direction::Egress), there.reversed(), flags, conn.server_isn, ack, ts);
        };
        answer(&mut world);
        world.established(&conn);
        assert!(world.findings().is_empty(), "its server may yet say something");
        world.wait_ms(1_000);
        answer(&mut world);
        world.see(listener(if full { 2 } else { 0 }, 5));
        world.wait_ms(2_000);
        let attempt = world.only();
        assert_eq!(attempt.verdict.outcome, Outcome::Established);
        assert_eq!(attempt.verdict.cause, full.then_some(Cause::AcceptQueueOverflow));
        assert_eq!(attempt.duration().as_secs(), 0, "the client waited for nothing");
    }
}
