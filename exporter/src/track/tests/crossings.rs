//! Ways that cross: ICMP errors that the application is told of aside, SYNs of both ends, several attempts on one
//! tuple, and answers that tell of a translation that nobody else does.

use super::world::{Conn, NODE, POD_A, POD_B, World, end, tuple};
use crate::capture::observation::{
    Direction, Flags, IcmpError, KnownFlow, SocketNumbers, SocketStep, Step, TcpState, What,
};
use crate::track::verdict::{Cause, Evidence, Outcome, Side};

fn host_unreachable(world: &mut World, conn: &Conn) {
    let from = end("192.168.50.1:0").addr;
    for (ifindex, direction, tuple) in [(NODE, Direction::Ingress, conn.wire), (POD_A, Direction::Egress, conn.inner)] {
        world.see(What::Icmp(IcmpError { ifindex, direction, from, tuple, seq: conn.isn, kind: 3, code: 1 }));
    }
}

#[test]
fn an_application_told_of_an_icmp_error_closes_because_of_it() {
    for (told, patience, outcome, errno) in [
        (true, 0, Outcome::Unreachable, Some(113)),
        (true, 3_000, Outcome::Aborted, None),
        (false, 0, Outcome::Aborted, None),
    ] {
        let mut world = World::new();
        let conn = world.conn(1, POD_A, 40_001, 40_001);
        world.connect(&conn);
        world.syn(&conn, 0, true);
        host_unreachable(&mut world, &conn);
        if told {
            world.error(&conn, 0);
        }
        world.wait_ms(patience);
        world.closed_unopened(&conn);
        let verdict = world.only().verdict;
        assert_eq!((verdict.outcome, verdict.errno), (outcome, errno), "told {told}, {patience} ms");
        assert_eq!((verdict.cause, verdict.responsible), (Some(Cause::Unreachable), Some(Side::Network)));
    }
}

#[test]
fn being_told_to_look_is_no_error_by_itself() {
    let mut world = World::new();
    let conn = world.conn(1, POD_A, 40_001, 40_001);
    world.connect(&conn);
    world.syn(&conn, 0, true);
    world.error(&conn, 0);
    world.syn_ack(&conn, 0);
    world.established(&conn);
    let verdict = world.only().verdict;
    assert_eq!((verdict.outcome, verdict.cause, verdict.errno), (Outcome::Established, None, None));
}

#[test]
fn two_syns_that_cross_are_two_attempts_that_came_up() {
    let mut world = World::new();
    let there = tuple("10.244.1.11:40000", "10.244.1.12:40001");
    let one = Conn { inner: there, wire: there, ..world.conn(1, POD_A, 1, 1) };
    let other = Conn { inner: there.reversed(), wire: there.reversed(), pod: POD_B, ..world.conn(2, POD_B, 1, 1) };
    let ends = [(&one, POD_A, POD_B), (&other, POD_B, POD_A)];
    for (conn, _, _) in ends {
        world.connect(conn);
    }
    for (conn, from, to) in ends {
        world.segment((from, Direction::Ingress), conn.inner, Flags::SYN, conn.isn, 0, Some((conn.tsval, 0)));
        world.segment((to, Direction::Egress), conn.inner, Flags::SYN, conn.isn, 0, Some((conn.tsval, 0)));
    }
    for ((conn, from, to), answered) in ends.into_iter().zip([&other, &one]) {
        let (flags, ack) = (Flags::SYN | Flags::ACK, answered.isn + 1);
        world.segment((from, Direction::Ingress), conn.inner, flags, conn.isn, ack, None);
        world.segment((to, Direction::Egress), conn.inner, flags, conn.isn, ack, None);
    }
    for (conn, pod, _) in ends {
        let step = Step::PassiveEstablished;
        let numbers = SocketNumbers { snd_nxt: conn.isn + 1, snd_una: conn.isn + 1, ..Default::default() };
        let netns = u64::from(pod);
        world.see(What::Socket(SocketStep { cookie: conn.cookie, netns, tuple: conn.inner, step, numbers }));
    }
    world.wait_ms(5_000);
    let attempts = world.findings();
    assert_eq!(attempts.len(), 2);
    for attempt in attempts {
        assert_eq!((attempt.verdict.outcome, attempt.verdict.cause), (Outcome::Established, None));
        assert!(attempt.client.is_some() && attempt.server.is_none(), "a connect, and nothing was accepted");
    }
}

/// A translation by a program behind the uplink's hook: SYNs are seen before it, answers too, but the wrong way.
#[test]
fn the_next_attempt_on_a_tuple_that_only_answers_tell_of() {
    let mut world = World::new();
    let seen = |conn: &Conn| Conn { wire: conn.inner, ..*conn };
    let first = world.conn(1, POD_A, 40_001, 46_994);
    let second = Conn { wire: first.wire, ..world.conn(2, POD_B, 40_001, 46_994) };
    world.connect(&first);
    world.syn(&seen(&first), 0, true);
    world.syn_ack(&first, 0);
    world.established(&first);
    world.close(&seen(&first), 100, false);
    world.connect(&second);
    world.syn(&seen(&second), 0, true);
    world.answer(&second, Flags::ACK, first.server_isn + 1, first.isn + 102, None);
    world.wait_ms(10);
    world.syn(&seen(&second), 10, true);
    world.syn_ack(&second, 10);
    world.established(&second);
    world.wait_ms(1_000);
    let attempts = world.findings();
    let late = attempts.last().expect("both are over");
    assert!(late.wire.contains(&second.wire), "its tuple is learned");
    assert_eq!((late.verdict.cause, late.verdict.evidence), (Some(Cause::SourcePortReuse), Evidence::Exact));
    assert_eq!(late.verdict.responsible, Some(Side::Node));
}

#[test]
fn an_owner_that_is_open_still_is_proven_by_the_numbers_it_was_asked_for() {
    for (acked, next, ack, evidence) in
        [(700, 900, 700, Evidence::Exact), (700, 900, 900, Evidence::Exact), (700, 900, 800, Evidence::Window)]
    {
        let mut world = World::new();
        let owner = world.conn(1, POD_A, 40_001, 46_994);
        world.open(&owner);
        world.only();
        let late = Conn { wire: owner.wire, ..world.conn(2, POD_B, 40_001, 46_994) };
        world.connect(&late);
        world.syn(&late, 0, true);
        world.answer(&late, Flags::ACK, owner.server_isn + 1, owner.isn + ack, None);
        world.see(What::Flow(KnownFlow {
            tuple: owner.inner,
            wire: Some(owner.wire),
            cookie: owner.cookie,
            server_socket: false,
            netns: u64::from(POD_A),
            client_acked: Some(owner.isn + acked),
            client_next: Some(owner.isn + next),
            server_next: None,
            numbers: None,
            over: false,
        }));
        world.gave_up(&late);
        let verdict = world.only().verdict;
        assert_eq!((verdict.cause, verdict.evidence), (Some(Cause::SourcePortReuse), evidence), "{ack}");
    }
}

#[test]
fn a_reset_for_a_used_port_while_fresh_ones_are_answered_at_once_is_suspected() {
    for fresh in [true, false] {
        let mut world = World::new();
        let old = world.conn(1, POD_A, 40_001, 46_994);
        world.open(&old);
        world.close(&old, 10, true);
        world.only();
        let dead = Conn { wire: old.wire, ..world.conn(2, POD_B, 40_002, 46_994) };
        world.connect(&dead);
        world.syn(&dead, 0, true);
        world.answer(&dead, Flags::RST | Flags::ACK, 0, dead.isn + 1, None);
        world.step(&dead, Step::State { from: TcpState::SynSent, to: TcpState::Close }, SocketNumbers::default());
        world.error(&dead, 111);
        if fresh {
            // Answered within a moment, and over only after the other is judged.
            let other = world.conn(3, POD_A, 40_003, 40_003);
            world.connect(&other);
            world.syn(&other, 0, true);
            world.syn_ack(&other, 0);
        }
        world.wait_ms(150);
        let attempts = world.findings();
        let attempt = attempts.iter().find(|attempt| attempt.verdict.outcome == Outcome::Refused).expect("judged");
        let expected = if fresh { Cause::SourcePortReuseSuspected } else { Cause::ConnectionRefused };
        assert_eq!(attempt.verdict.cause, Some(expected));
    }
}

#[test]
fn an_error_taken_before_it_could_be_read_is_no_close_of_the_applications_own() {
    let mut world = World::new();
    let conn = world.conn(1, POD_A, 40_001, 40_001);
    world.connect(&conn);
    world.syn(&conn, 0, true);
    world.closed_unopened(&conn);
    world.error(&conn, 0);
    let verdict = world.only().verdict;
    assert_eq!((verdict.outcome, verdict.cause), (Outcome::Failed, Some(Cause::NoResponse)));
}
