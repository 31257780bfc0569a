//! The state of the node: what pends, and the source ports in use.

use super::world::{POD_A, POD_B, World, end};
use crate::capture::observation::{ConntrackState, SnatPorts, What};
use crate::capture::question::Question;
use crate::track::Options;
use crate::track::survey::SnatUse;

#[test]
fn what_pends_is_counted_by_age() {
    let mut world = World::with(Options { quiet_pid: Some(4000 + POD_B), ..Options::default() });
    for (cookie, wait) in [(1, 60_000), (2, 9_000), (3, 1_000), (4, 0), (5, 100)] {
        let conn = world.conn(cookie, POD_A, 30_000 + cookie as u16, 40_000 + cookie as u16);
        world.connect(&conn);
        world.syn(&conn, 0, true);
        world.wait_ms(wait);
    }
    let quiet = world.conn(6, POD_B, 1, 1);
    world.connect(&quiet);
    let up = world.conn(7, POD_A, 2, 2);
    world.open(&up);
    let survey = world.tracker.survey();
    assert_eq!(survey.pending, [2, 1, 1, 1]);
    assert_eq!(survey.conntrack, None);
    assert_eq!(survey.ledger_reaches.as_secs(), 71);
}

#[test]
fn ports_are_counted_while_they_are_taken() {
    let mut world = World::new();
    for cookie in 1..=5 {
        let conn = world.conn(cookie, POD_A, 30_000 + cookie as u16, 40_000 + cookie as u16);
        world.open(&conn);
        if cookie <= 2 {
            world.close(&conn, 10, true);
        }
    }
    // The port of the third again, by another pod, while the first owner was not seen to close; and one that is not
    // translated.
    let again = world.conn(8, POD_B, 30_008, 40_003);
    world.open(&again);
    let plain = world.conn(9, POD_A, 30_009, 1);
    world.open(&super::world::Conn { wire: plain.inner, ..plain });
    world.findings();
    let (egress, destination) = (end("192.168.50.10:1").addr, end("192.168.50.20:8443"));
    let ports = |used, range| vec![SnatUse { egress, destination, used, range }];
    assert_eq!(world.tracker.survey().snat, ports(5, None));
    let question = std::iter::from_fn(|| world.tracker.next_question()).collect::<Vec<_>>();
    assert_eq!(question, [Question::SnatPorts { from: end("10.244.1.11:1").addr, destination }]);

    world.see(What::SnatPorts(SnatPorts { egress, destination, used: 900, range: Some((1_024, 2_047)) }));
    world.see(What::Conntrack(ConntrackState { entries: 5, limit: 9, ..Default::default() }));
    world.wait_ms(10_000);
    let survey = world.tracker.survey();
    assert_eq!(survey.snat, ports(900, Some((1_024, 2_047))));
    assert_eq!(survey.conntrack.map(|state| (state.entries, state.limit)), Some((5, 9)));
    assert!(world.tracker.next_question().is_none(), "it was told lately");
    world.wait_ms(25_000);
    assert_eq!(world.tracker.survey().snat[0].used, 900);
    assert!(world.tracker.next_question().is_some(), "it grows old");
    world.wait_ms(90_000);
    assert_eq!(world.tracker.survey().snat, ports(3, None), "that count is too old, and two ports are free again");
}

#[test]
fn the_most_used_come_first_and_the_rest_is_left_out() {
    let mut world = World::new();
    let mut cookie = 0;
    for server in 0..250_u16 {
        for port in 0..=u16::from(server >= 246) {
            cookie += 1;
            let mut conn = world.conn(cookie, POD_A, 30_000 + port, 40_000 + port);
            conn.inner.dst.port = 1_000 + server;
            conn.wire.dst.port = 1_000 + server;
            world.open(&conn);
        }
    }
    world.findings();
    let snat = world.tracker.survey().snat;
    assert_eq!(snat.len(), 200);
    let first: Vec<(u16, u32)> = snat[..5].iter().map(|entry| (entry.destination.port, entry.used)).collect();
    assert_eq!(first, [(1_246, 2), (1_247, 2), (1_248, 2), (1_249, 2), (1_000, 1)]);
    let asked = std::iter::from_fn(|| world.tracker.next_question()).count();
    assert_eq!(asked, 4);
}
