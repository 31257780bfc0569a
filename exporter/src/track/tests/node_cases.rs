//! Faults inside the node, each with what it must not be taken for.

use std::sync::Arc;

use super::world::{Conn, HOST_NETNS, NODE, POD_A, POD_B, World, end};
use crate::capture::observation::{
    CallFailed, ConntrackState, Direction, Dropped, Flags, IcmpError, Process, ProcessStep, SnatPorts, What,
};
use crate::capture::question::Question;
use crate::capture::tuple::Tuple;
use crate::track::attempt::Attempt;
use crate::track::verdict::{Cause, Evidence, Outcome, Side};

fn said(attempt: &Attempt) -> (Outcome, Option<Cause>, Evidence, Option<Side>) {
    let verdict = &attempt.verdict;
    (verdict.outcome, verdict.cause, verdict.evidence, verdict.responsible)
}

fn drop_of(conn: &Conn, tuple: Tuple, netns: u64, reason: &str, place: &str) -> What {
    What::Dropped(Dropped {
        netns,
        ifindex: 0,
        tuple,
        flags: Flags(Flags::SYN),
        seq: conn.isn,
        ack: 0,
        reason: Some(Arc::from(reason)),
        place: Some(Arc::from(place)),
    })
}

fn conntrack(world: &mut World, entries: u64, insert_failed: u64) {
    world.see(What::Conntrack(ConntrackState { entries, limit: 100, insert_failed, ..Default::default() }));
}

fn questions(world: &mut World) -> Vec<Question> {
    std::iter::from_fn(|| world.tracker.next_question()).collect()
}

/// A SYN that netfilter drops once on its way out, and an application that waits in vain.
fn lost_in_node(world: &mut World, conn: &Conn, place: &str, insert_failed: bool) -> Attempt {
    conntrack(world, 50, 7);
    world.connect(conn);
    world.syn(conn, 0, false);
    world.see(drop_of(conn, conn.wire, HOST_NETNS, "NETFILTER_DROP", place));
    conntrack(world, 50, 7 + u64::from(insert_failed));
    world.wait_ms(1_000);
    world.syn(conn, 1_000, false);
    world.gave_up(conn);
    world.only()
}

#[test]
fn a_rule_that_drops_is_told_by_the_kernel_at_the_first_syn() {
    let mut world = World::new();
    let conn = world.conn(1, POD_A, 40_001, 40_001);
    let attempt = lost_in_node(&mut world, &conn, "nft_do_chain", false);
    assert_eq!(said(&attempt), (Outcome::TimedOut, Some(Cause::DroppedInNode), Evidence::Kernel, Some(Side::Node)));
    let drop = attempt.facts.drop.expect("the kernel's record");
    assert_eq!(drop.reason.as_deref(), Some("NETFILTER_DROP"));
    assert!(!drop.answer);
}

#[test]
fn a_drop_in_a_namespace_that_is_not_ours_is_none_of_ours() {
    let mut world = World::new();
    let conn = world.conn(1, POD_A, 40_001, 40_001);
    world.connect(&conn);
    world.syn(&conn, 0, true);
    world.see(drop_of(&conn, conn.wire, 4_711, "NETFILTER_DROP", "nft_do_chain"));
    world.gave_up(&conn);
    let attempt = world.only();
    assert_eq!(attempt.verdict.cause, Some(Cause::NoResponse));
    assert_eq!(attempt.facts.drop, None);
}

#[test]
fn ports_are_exhausted_where_nine_tenths_of_a_known_range_are_in_use() {
    for (used, range, cause) in [
        (1, Some((46_994, 46_994)), Cause::SnatPortExhausted),
        (959, Some((20_000, 20_999)), Cause::SnatPortExhausted),
        (100, Some((20_000, 20_999)), Cause::DroppedInNode),
        (1_000, None, Cause::DroppedInNode),
    ] {
        let mut world = World::new();
        let conn = world.conn(1, POD_A, 40_001, 46_994);
        world.see(What::SnatPorts(SnatPorts { egress: conn.wire.src.addr, destination: conn.wire.dst, used, range }));
        let attempt = lost_in_node(&mut world, &conn, "nf_hook_slow", true);
        assert_eq!(attempt.verdict.cause, Some(cause), "{used} of {range:?}");
        assert_eq!(attempt.facts.snat.map(|snat| snat.range), Some(range), "an unknown range is said to be unknown");
        assert_eq!(attempt.verdict.responsible, Some(Side::Node));
    }
}

#[test]
fn a_drop_on_the_way_out_raises_questions_once() {
    let mut world = World::new();
    let conn = world.conn(1, POD_A, 40_001, 46_994);
    world.connect(&conn);
    world.syn(&conn, 0, false);
    assert!(questions(&mut world).is_empty(), "a healthy attempt asks nothing");
    world.see(drop_of(&conn, conn.wire, HOST_NETNS, "NETFILTER_DROP", "nf_hook_slow"));
    let from = conn.inner.src.addr;
    assert_eq!(questions(&mut world), [Question::Conntrack, Question::SnatPorts { from, destination: conn.wire.dst }]);
    for n in 1..20 {
        world.syn(&conn, n, false);
    }
    assert!(questions(&mut world).len() <= 8, "bounded for one attempt");
}

/// With every port in use by the time somebody looks, for the winner has the last one.
#[test]
fn the_loser_of_a_race_names_the_winner() {
    for winner_seen_first in [true, false] {
        let mut world = World::new();
        let (there, egress) = (end("192.168.50.20:8443"), end("192.168.50.10:0").addr);
        world.see(What::SnatPorts(SnatPorts { egress, destination: there, used: 10, range: Some((20_000, 20_009)) }));
        let winner = world.conn(1, POD_A, 40_001, 40_001);
        let mut loser = world.conn(2, POD_B, 40_001, 40_001);
        loser.wire = winner.wire;
        conntrack(&mut world, 50, 7);
        world.connect(&winner);
        world.connect(&loser);
        let dropped = drop_of(&loser, winner.wire, HOST_NETNS, "NETFILTER_DROP", "nf_hook_slow");
        world.syn(&winner, 0, winner_seen_first);
        world.syn(&loser, 0, false);
        world.see(dropped);
        if !winner_seen_first {
            world.segment((NODE, Direction::Egress), winner.wire, Flags::SYN, winner.isn, 0, Some((winner.tsval, 0)));
        }
        conntrack(&mut world, 50, 8);
        world.syn_ack(&winner, 0);
        world.established(&winner);
        let first = world.only();
        assert_eq!(first.verdict.cause, None, "the winner is healthy");
        world.wait_ms(1_000);
        loser.wire = world.conn(2, POD_B, 40_001, 50_000).wire;
        world.syn(&loser, 1_000, true);
        world.syn_ack(&loser, 1_000);
        world.established(&loser);
        let attempt = world.only();
        assert_eq!(said(&attempt), (Outcome::Established, Some(Cause::SnatRace), Evidence::Kernel, Some(Side::Node)));
        let competitor = attempt.facts.competitor.expect("the winner");
        assert_eq!((competitor.serial, competitor.tuple), (first.serial, winner.inner));
        assert_eq!(competitor.trace, first.trace);
        assert!(!attempt.verdict.also.contains(&Cause::SynLost));
    }
}

#[test]
fn a_full_table_is_told_from_a_rule() {
    let mut world = World::new();
    let conn = world.conn(1, POD_A, 40_001, 40_001);
    world.connect(&conn);
    world.syn(&conn, 0, false);
    world.see(drop_of(&conn, conn.inner, HOST_NETNS, "NETFILTER_DROP", "nf_hook_slow"));
    conntrack(&mut world, 100, 7);
    world.gave_up(&conn);
    let attempt = world.only();
    assert_eq!(said(&attempt).1, Some(Cause::ConntrackTableFull));
    assert_eq!(attempt.verdict.evidence, Evidence::Kernel);
}

#[test]
fn a_table_that_was_full_is_so_until_a_sample_says_otherwise() {
    for (entries, failed, cause) in [
        (100, 7, Cause::ConntrackTableFull),
        (50, 7, Cause::DroppedInNode),
        // Whoever fills the table by hand makes inserts fail as well: no port was missing for that.
        (100, 8, Cause::ConntrackTableFull),
    ] {
        let mut world = World::new();
        conntrack(&mut world, 100, 7);
        conntrack(&mut world, entries, 7);
        world.wait_ms(20_000);
        let conn = world.conn(1, POD_A, 40_001, 40_001);
        world.connect(&conn);
        world.syn(&conn, 0, false);
        world.see(drop_of(&conn, conn.inner, HOST_NETNS, "NETFILTER_DROP", "nf_hook_slow"));
        if failed != 7 {
            conntrack(&mut world, entries, failed);
        }
        world.gave_up(&conn);
        assert_eq!(said(&world.only()).1, Some(cause), "{entries} entries, {failed} inserts failed");
    }
}

fn called(world: &mut World, cookie: u64, tid: u32, bound_port: u16) {
    world.see(What::Process(ProcessStep {
        cookie,
        netns: 11,
        process: Process { pid: 77, tid, ..Default::default() },
        asked: end("192.168.50.20:8443"),
        bound_port,
    }));
}

#[test]
fn what_connect_returned_before_any_syn() {
    for (errno, bound, outcome, cause, side) in [
        (99, 0, Outcome::Failed, Cause::EphemeralPortExhausted, Side::Client),
        (99, 4_000, Outcome::Failed, Cause::LocalPortConflict, Side::Client),
        (1, 0, Outcome::Failed, Cause::PolicyDenied, Side::Node),
        (13, 0, Outcome::Failed, Cause::PolicyDenied, Side::Node),
        (22, 0, Outcome::Failed, Cause::Unreachable, Side::Node),
        (101, 0, Outcome::Unreachable, Cause::Unreachable, Side::Node),
    ] {
        let mut world = World::new();
        called(&mut world, 5, 78, bound);
        world.see(What::CallFailed(CallFailed { pid: 77, tid: 78, errno }));
        let attempt = world.only();
        assert_eq!(said(&attempt), (outcome, Some(cause), Evidence::Kernel, Some(side)), "errno {errno}");
        assert_eq!((attempt.syns, attempt.verdict.errno), (0, Some(errno)));
        assert_eq!(attempt.destination(), Some(end("192.168.50.20:8443")));
    }
}

#[test]
fn two_failed_calls_have_two_traces_and_an_unwatched_one_has_no_cause() {
    let mut world = World::new();
    called(&mut world, 5, 78, 0);
    world.wait_ms(1_100);
    assert_eq!(questions(&mut world), [Question::WatchCalls]);
    called(&mut world, 6, 79, 0);
    world.see(What::CallFailed(CallFailed { pid: 77, tid: 79, errno: 99 }));
    let watched = world.only();
    world.wait_ms(9_000);
    let unwatched = world.only();
    assert_ne!(watched.trace, unwatched.trace);
    assert_eq!(said(&unwatched), (Outcome::Failed, None, Evidence::None, None));
}

#[test]
fn a_call_whose_syn_was_seen_is_no_failed_call() {
    let mut world = World::new();
    let conn = world.conn(1, POD_A, 40_001, 40_001);
    world.open(&conn);
    world.see(What::CallFailed(CallFailed { pid: 4000 + POD_A, tid: 4000 + POD_A, errno: 104 }));
    let attempt = world.only();
    assert_eq!(said(&attempt).0, Outcome::Established);
    assert_eq!(world.tracker.counts().failed_calls, 0);
}

fn icmp(conn: &Conn, point: (u32, Direction), tuple: Tuple, from: &str, kind: u8, code: u8) -> What {
    let (ifindex, direction) = point;
    What::Icmp(IcmpError { ifindex, direction, from: end(from).addr, tuple, seq: conn.isn, kind, code })
}

#[test]
fn who_says_that_it_is_unreachable() {
    let (pod, uplink) = ((POD_A, Direction::Egress), (NODE, Direction::Ingress));
    for (outside, from, code, cause, side) in [
        (true, "192.168.50.1:0", 1, Cause::Unreachable, Side::Network),
        (true, "192.168.50.20:0", 10, Cause::Unreachable, Side::Server),
        (true, "192.168.50.1:0", 13, Cause::Unreachable, Side::Network),
        (false, "169.254.1.1:0", 0, Cause::Unreachable, Side::Node),
        (false, "169.254.1.1:0", 3, Cause::PolicyDenied, Side::Node),
        (false, "169.254.1.1:0", 13, Cause::PolicyDenied, Side::Node),
    ] {
        let mut world = World::new();
        let conn = world.conn(1, POD_A, 40_001, 40_001);
        world.connect(&conn);
        world.syn(&conn, 0, outside);
        if outside {
            world.see(icmp(&conn, uplink, conn.wire, from, 3, code));
        }
        world.see(icmp(&conn, pod, conn.inner, from, 3, code));
        world.closed_unopened(&conn);
        world.error(&conn, 113);
        let attempt = world.only();
        let (outcome, found, evidence, responsible) = said(&attempt);
        assert_eq!((outcome, found, responsible), (Outcome::Unreachable, Some(cause), Some(side)), "{from} {code}");
        assert!(evidence <= Evidence::Exact);
        assert_eq!(attempt.facts.icmp.map(|icmp| icmp.code), Some(code));
    }
}

#[test]
fn a_rst_that_never_came_in_is_a_policy_only_where_others_leave() {
    for witness in [true, false] {
        let mut world = World::new();
        if witness {
            let other = world.conn(9, POD_A, 40_009, 40_009);
            world.open(&other);
            world.only();
        }
        let conn = world.conn(1, POD_A, 40_001, 40_001);
        world.connect(&conn);
        world.syn(&conn, 0, false);
        let (flags, ack) = (Flags::RST | Flags::ACK, conn.isn + 1);
        world.segment((POD_A, Direction::Egress), conn.inner.reversed(), flags, 0, ack, None);
        world.closed_unopened(&conn);
        world.error(&conn, 111);
        let attempt = world.only();
        let cause = if witness { Cause::PolicyDenied } else { Cause::ConnectionRefused };
        assert!(
            attempt.verdict.cause == Some(cause) || witness && attempt.verdict.also.contains(&cause),
            "{attempt:#?}"
        );
        assert_eq!(attempt.verdict.cause, Some(cause));
    }
}

#[test]
fn the_answer_that_reached_the_node_and_never_the_pod() {
    for witness in [true, false] {
        let mut world = World::new();
        if witness {
            let other = world.conn(9, POD_A, 40_009, 40_009);
            world.open(&other);
            world.only();
        }
        let conn = world.conn(1, POD_A, 40_001, 40_001);
        world.connect(&conn);
        for again in 0..2 {
            world.syn(&conn, again * 1_000, true);
            let (flags, ack) = (Flags::SYN | Flags::ACK, conn.isn + 1);
            let ts = Some((1, conn.tsval));
            world.segment((NODE, Direction::Ingress), conn.wire.reversed(), flags, conn.server_isn, ack, ts);
            world.wait_ms(1_000);
        }
        world.gave_up(&conn);
        let attempt = world.only();
        let cause = witness.then_some(Cause::ReplyDroppedInNode);
        assert_eq!(attempt.verdict.cause, cause);
    }
}

#[test]
fn a_dropped_answer_is_told_by_the_kernel_without_a_witness() {
    let mut world = World::new();
    let conn = world.conn(1, POD_A, 40_001, 40_001);
    world.connect(&conn);
    world.syn(&conn, 0, true);
    let (flags, ack) = (Flags::SYN | Flags::ACK, conn.isn + 1);
    world.segment((NODE, Direction::Ingress), conn.wire.reversed(), flags, conn.server_isn, ack, Some((1, conn.tsval)));
    world.see(What::Dropped(Dropped {
        netns: HOST_NETNS,
        ifindex: NODE,
        tuple: conn.inner.reversed(),
        flags: Flags(flags),
        seq: conn.server_isn,
        ack,
        reason: Some(Arc::from("NETFILTER_DROP")),
        place: None,
    }));
    world.gave_up(&conn);
    let attempt = world.only();
    assert_eq!(
        said(&attempt),
        (Outcome::TimedOut, Some(Cause::ReplyDroppedInNode), Evidence::Kernel, Some(Side::Node))
    );
    assert!(attempt.facts.drop.is_some_and(|drop| drop.answer));
}

/// A fresh tuple answered falsely, and the second SYN as it should be.
fn falsely_answered(world: &mut World, cookie: u64, port: u16) -> Attempt {
    let conn = world.conn(cookie, POD_A, port, port);
    world.connect(&conn);
    world.syn(&conn, 0, true);
    world.answer(&conn, Flags::ACK, 1, 9_000 * u32::from(port), None);
    world.send(&conn, Flags::RST, 9_000 * u32::from(port), 0);
    world.syn(&conn, 1_000, true);
    world.syn_ack(&conn, 1_000);
    world.established(&conn);
    world.only()
}

#[test]
fn a_guard_that_answers_fresh_tuples_falsely_is_no_reuse() {
    let mut world = World::new();
    for (cookie, port) in [(1, 50_001), (2, 50_002), (3, 50_003)] {
        let attempt = falsely_answered(&mut world, cookie, port);
        assert_eq!(attempt.verdict.cause, Some(Cause::UnexpectedAck));
        assert_eq!(attempt.facts.guard, cookie == 3, "a habit takes two");
    }
    // The first one's port again, long closed: the tuple matches, and it is the guard all the same.
    let first = world.conn(1, POD_A, 50_001, 50_001);
    world.close(&first, 100, true);
    world.findings();
    let attempt = falsely_answered(&mut world, 4, 50_001);
    assert!(attempt.reused);
    assert_eq!(attempt.verdict.cause, Some(Cause::UnexpectedAck), "{attempt:#?}");
}

#[test]
fn a_syn_that_left_and_was_dropped_by_the_servers_socket_is_no_drop_of_ours() {
    for netns in [0, HOST_NETNS] {
        let mut world = World::new();
        let conn = world.conn(1, POD_A, 40_001, 40_001);
        world.connect(&conn);
        world.syn(&conn, 0, true);
        world.see(drop_of(&conn, conn.wire, netns, "TCP_INVALID_SYN", "tcp_rcv_established"));
        world.gave_up(&conn);
        let attempt = world.only();
        assert_eq!(attempt.verdict.cause, Some(Cause::NoResponse));
        assert_eq!(attempt.facts.drop, None);
    }
}
