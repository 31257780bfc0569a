//! Attempts that hang are told of once, and change nothing by it.

use super::world::{NODE, POD_A, POD_B, World, tuple};
use crate::capture::observation::{Direction, Flags, SocketNumbers, Step};
use crate::track::Options;
use crate::track::attempt::{Attempt, Finding};
use crate::track::verdict::Outcome;

fn found(world: &mut World) -> (Vec<Attempt>, Vec<Attempt>) {
    let (mut stalled, mut over) = (Vec::new(), Vec::new());
    while let Some(finding) = world.tracker.next_finding() {
        match finding {
            Finding::Stalled(attempt) => stalled.push(*attempt),
            Finding::Attempt(attempt) => over.push(*attempt),
            other => panic!("{other:?}"),
        }
    }
    (stalled, over)
}

fn resend(world: &mut World, conn: &super::world::Conn, after_ms: u64) {
    world.wait_ms(after_ms);
    world.step(conn, Step::Rto { gave_up: false }, SocketNumbers::default());
    world.syn(conn, after_ms as u32, true);
}

#[test]
fn one_that_hangs_is_told_once() {
    let mut world = World::new();
    let conn = world.conn(1, POD_A, 34_732, 46_994);
    world.connect(&conn);
    world.syn(&conn, 0, true);
    world.wait_ms(900);
    assert!(found(&mut world).0.is_empty(), "one SYN is not too many");
    resend(&mut world, &conn, 100);
    world.wait_ms(50);
    assert!(found(&mut world).0.is_empty(), "its answer may be on its way");
    let before = world.tracker.counts();
    world.wait_ms(60);
    let (stalled, over) = found(&mut world);
    assert_eq!((stalled.len(), over.len()), (1, 0));
    assert_eq!((stalled[0].verdict.outcome, stalled[0].syns), (Outcome::Pending, 2));
    assert_eq!(stalled[0].wire, [conn.wire]);
    assert_eq!(world.tracker.counts(), before, "it stays open and changes nothing");
    for ms in [2_000, 4_000] {
        resend(&mut world, &conn, ms);
        world.wait_ms(500);
    }
    world.syn_ack(&conn, 6_000);
    world.established(&conn);
    world.wait_ms(200);
    let (again, over) = found(&mut world);
    assert_eq!((again.len(), over.len()), (0, 1));
    assert_eq!((over[0].serial, over[0].trace), (stalled[0].serial, stalled[0].trace));
}

#[test]
fn one_that_comes_up_or_ends_meanwhile_is_not() {
    let mut world = World::new();
    let (late, closed) = (world.conn(1, POD_A, 34_732, 46_994), world.conn(2, POD_B, 34_733, 46_995));
    for conn in [&late, &closed] {
        world.connect(conn);
        world.syn(conn, 0, true);
    }
    for conn in [&late, &closed] {
        resend(&mut world, conn, 30);
    }
    world.syn_ack(&late, 1);
    world.established(&late);
    world.closed_unopened(&closed);
    world.wait_ms(300);
    let (stalled, over) = found(&mut world);
    assert_eq!((stalled.len(), over.len()), (0, 2));
}

#[test]
fn only_this_nodes_own_clients_hang() {
    let mut world = World::with(Options { quiet_pid: Some(4000 + POD_A), ..Options::default() });
    let own = world.conn(1, POD_A, 34_732, 46_994);
    world.connect(&own);
    world.syn(&own, 0, true);
    resend(&mut world, &own, 1_000);
    let from_outside = tuple("198.51.100.7:40000", "10.244.1.12:8080");
    for (ms, tsval) in [(0, 5), (1_000, 1_005)] {
        world.wait_ms(ms);
        for point in [(NODE, Direction::Ingress), (POD_B, Direction::Egress)] {
            world.segment(point, from_outside, Flags::SYN, 7_000, 0, Some((tsval, 0)));
        }
    }
    world.wait_ms(300);
    assert!(found(&mut world).0.is_empty());
}

#[test]
fn with_no_socket_in_sight_the_wire_tells() {
    for wire_only in [false, true] {
        let mut world = World::with(Options { wire_only, ..Options::default() });
        let conn = world.conn(1, POD_A, 34_732, 46_994);
        world.syn(&conn, 0, true);
        world.wait_ms(1_000);
        world.syn(&conn, 1_000, true);
        world.wait_ms(200);
        assert_eq!(found(&mut world).0.len(), usize::from(!wire_only), "captures are told at their end");
    }
}
