//! Who held a port.

use super::world::{POD_A, POD_B, World};
use crate::track::Options;
use crate::track::holders::Horizon;
use crate::track::verdict::ClosedBy;

#[test]
fn both_tenants_of_a_port_are_found_before_and_after_nat() {
    let mut world = World::new();
    let cart = world.conn(1, POD_A, 40_001, 46_994);
    world.open(&cart);
    world.close(&cart, 500, true);
    let first = world.only();
    let control = world.conn(2, POD_B, 34_732, 46_994);
    world.open(&control);
    let second = world.only();
    let other = world.conn(3, POD_B, 34_733, 46_995);
    world.open(&other);

    let held = world.tracker.holders_of(46_994, 10);
    assert_eq!((held.found.len(), held.more), (2, 0));
    let [latest, earlier] = &held.found[..] else { panic!("two") };
    assert_eq!((latest.serial, latest.trace), (second.serial, second.trace));
    assert_eq!((latest.tuple, latest.wire, latest.closed), (control.inner, Some(control.wire), None));
    assert_eq!((earlier.serial, earlier.trace), (first.serial, first.trace));
    assert_eq!((earlier.tuple, earlier.wire, earlier.closed_by), (cart.inner, Some(cart.wire), ClosedBy::Client));
    assert!(earlier.closed.is_some_and(|closed| closed > earlier.opened && closed < latest.opened));
    assert_eq!(earlier.process.as_ref().map(|process| process.pid), Some(4000 + POD_A));

    let by_inner = world.tracker.holders_of(34_732, 10);
    assert_eq!(by_inner.found.iter().map(|holder| holder.serial).collect::<Vec<_>>(), [second.serial]);
    assert_eq!(world.tracker.holders_of(1, 10).found, []);
    assert_eq!(world.tracker.holders_of(8443, 10).found, [], "a destination's port is nobody's source port");
}

#[test]
fn an_attempt_under_way_holds_its_ports() {
    let mut world = World::new();
    let pending = world.conn(1, POD_A, 40_001, 46_994);
    world.connect(&pending);
    world.syn(&pending, 0, true);
    for port in [40_001, 46_994] {
        let held = world.tracker.holders_of(port, 10);
        let [holder] = &held.found[..] else { panic!("one of {port}: {held:?}") };
        assert!(!holder.established && holder.closed.is_none());
        assert_eq!((holder.tuple, holder.wire), (pending.inner, Some(pending.wire)));
        assert_eq!(holder.process.as_ref().map(|process| process.pid), Some(4000 + POD_A));
    }
    world.gave_up(&pending);
    world.findings();
    assert_eq!(world.tracker.holders_of(46_994, 10).found, [], "it never had a connection");
}

#[test]
fn the_answer_is_bounded_and_says_how_far_back_it_reaches() {
    let mut world = World::with(Options { max_tenancies: 4, ..Options::default() });
    let started = world.tracker.holders_of(46_994, 10);
    assert_eq!(started.because, Horizon::AgentStart);
    for cookie in 1..=6 {
        let conn = world.conn(cookie, POD_A, 40_000 + cookie as u16, 46_994);
        world.open(&conn);
        world.close(&conn, 10, true);
        world.findings();
    }
    let held = world.tracker.holders_of(46_994, 3);
    assert_eq!((held.found.len(), held.more), (3, 1));
    assert!(held.found.is_sorted_by(|a, b| a.opened > b.opened));
    assert_eq!(held.because, Horizon::Memory, "two had to be forgotten");
    assert!(held.remembers_since > started.remembers_since);
    world.wait_ms(700_000);
    let later = world.tracker.holders_of(46_994, 3);
    assert_eq!((later.found.len(), later.because), (0, Horizon::Window));
}
