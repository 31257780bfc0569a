//! The cases of the design, each with its healthy control.

use super::world::{Conn, HOST_NETNS, NODE, POD_A, POD_B, World, end, tuple};
use crate::capture::observation::{Direction, Flags, SocketNumbers, Step, TcpState};
use crate::track::Options;
use crate::track::attempt::{Attempt, Role, StoryStep};
use crate::track::verdict::{Cause, ClosedBy, Evidence, Outcome, ServerState, Side};

fn verdict(attempt: &Attempt) -> (Outcome, Option<Cause>, Evidence) {
    (attempt.verdict.outcome, attempt.verdict.cause, attempt.verdict.evidence)
}

/// A past connection by the first pod on port 46994, of which the server still holds its end, and the
/// second pod's SYN on the same port.
fn reuse(world: &mut World, answered: bool) -> (Conn, Conn, Attempt) {
    let cart = world.conn(1, POD_A, 40_001, 46_994);
    world.open(&cart);
    world.close(&cart, 500, answered);
    let owner = world.only();
    let control = world.conn(2, POD_B, 34_732, 46_994);
    world.wait_ms(162);
    world.connect(&control);
    world.syn(&control, 0, true);
    (cart, control, owner)
}

#[test]
fn reuse_after_snat_is_proven_and_names_the_other_pod() {
    let mut world = World::new();
    let (cart, control, owner) = reuse(&mut world, false);
    let stale_ack = cart.isn + 502;
    world.answer(&control, Flags::ACK, cart.server_isn + 1, stale_ack, Some((5, 6)));
    world.send(&control, Flags::RST, stale_ack, 0);
    world.wait_ms(10);
    world.syn(&control, 10, true);
    world.syn_ack(&control, 10);
    world.established(&control);
    let attempt = world.only();
    assert_eq!(verdict(&attempt), (Outcome::Established, Some(Cause::SourcePortReuse), Evidence::Exact));
    assert_eq!(attempt.verdict.responsible, Some(Side::Node));
    assert_eq!(attempt.syns, 2);
    assert_eq!(attempt.wire, [control.wire]);
    assert_eq!(attempt.role, Role::Client);
    assert_eq!(attempt.answered_trace, None, "the far node saw the first SYN: it answered it");
    let previous = attempt.previous_owner.expect("an owner");
    assert_eq!(previous.serial, owner.serial);
    assert_eq!(previous.trace, owner.trace);
    assert_eq!(previous.tuple, cart.inner);
    assert_eq!(previous.wire, Some(cart.wire));
    assert_eq!(previous.server_state, ServerState::NeverClosed);
    assert_eq!(previous.closed_by, ClosedBy::Client);
    assert_eq!(previous.client_end, Some(cart.isn + 501));
    assert_eq!(previous.process.map(|process| process.pid), Some(4000 + POD_A));
    assert!(previous.gap.is_some_and(|gap| gap.as_millis() >= 162));
    assert!(attempt.steps.iter().any(|s| matches!(s.step, StoryStep::StaleAck { ack, .. } if ack == stale_ack)));
}

#[test]
fn reuse_that_worked_is_counted_and_is_no_fault() {
    let mut world = World::new();
    let (_, control, _) = reuse(&mut world, true);
    world.syn_ack(&control, 0);
    world.established(&control);
    let attempt = world.only();
    assert_eq!(verdict(&attempt), (Outcome::Established, None, Evidence::None));
    assert!(attempt.reused);
    assert_eq!(world.tracker.counts().reuses, 1);
}

#[test]
fn the_clients_rst_alone_is_proof() {
    let mut world = World::new();
    let (cart, control, _) = reuse(&mut world, false);
    world.send(&control, Flags::RST, cart.isn + 502, 0);
    world.gave_up(&control);
    let attempt = world.only();
    assert_eq!(verdict(&attempt), (Outcome::TimedOut, Some(Cause::SourcePortReuse), Evidence::Exact));
}

#[test]
fn without_its_fin_the_server_is_cut_off() {
    let mut world = World::new();
    let (cart, control, _) = reuse(&mut world, false);
    world.answer(&control, Flags::ACK, cart.server_isn + 1, cart.isn + 501, None);
    world.wait_ms(3000);
    world.closed_unopened(&control);
    let attempt = world.only();
    assert_eq!(verdict(&attempt), (Outcome::Aborted, Some(Cause::SourcePortReuse), Evidence::Exact));
    assert_eq!(attempt.previous_owner.map(|owner| owner.server_state), Some(ServerState::CutOff));
}

#[test]
fn inside_the_window_and_beyond_it() {
    for (offset, evidence) in [(300, Evidence::Window), (1 << 25, Evidence::Tuple)] {
        let mut world = World::new();
        let cart = world.conn(1, POD_A, 40_001, 46_994);
        world.open(&cart);
        // Destroyed with 400 bytes that nobody acknowledged.
        let numbers = SocketNumbers {
            snd_nxt: cart.isn + 401,
            snd_una: cart.isn + 1,
            rcv_nxt: cart.server_isn + 1,
            ..Default::default()
        };
        world.step(&cart, Step::State { from: TcpState::Established, to: TcpState::Close }, numbers);
        world.only();
        let control = world.conn(2, POD_B, 34_732, 46_994);
        world.connect(&control);
        world.syn(&control, 0, true);
        world.answer(&control, Flags::ACK, 9, cart.isn + 1 + offset, None);
        world.gave_up(&control);
        assert_eq!(verdict(&world.only()), (Outcome::TimedOut, Some(Cause::SourcePortReuse), evidence));
    }
}

#[test]
fn a_stale_ack_of_nobody_and_one_of_another_tuple_have_no_owner() {
    let mut world = World::new();
    let cart = world.conn(1, POD_A, 40_001, 46_994);
    world.open(&cart);
    world.close(&cart, 500, false);
    world.only();
    for ack in [123_456_789, cart.isn + 502] {
        let control = world.conn(u64::from(ack % 7) + 3, POD_B, 34_732, 50_000);
        world.connect(&control);
        world.syn(&control, 0, true);
        world.answer(&control, Flags::ACK, 9, ack, None);
        world.gave_up(&control);
        let attempt = world.only();
        assert_eq!(verdict(&attempt), (Outcome::TimedOut, Some(Cause::UnexpectedAck), Evidence::None), "{ack}");
        assert!(attempt.ledger_partial, "the owner may be from before the agent's start");
        assert_eq!(attempt.previous_owner, None);
    }
}

#[test]
fn an_owner_whose_wire_tuple_was_never_known_is_found_by_where_it_ended() {
    let mut world = World::new();
    let cart = world.conn(1, POD_A, 40_001, 46_994);
    world.connect(&cart);
    world.syn(&cart, 0, false);
    world.established(&cart);
    let numbers = SocketNumbers { snd_nxt: cart.isn + 302, snd_una: cart.isn + 302, rcv_nxt: 1, ..Default::default() };
    world.step(&cart, Step::State { from: TcpState::LastAck, to: TcpState::Close }, numbers);
    world.only();
    let control = world.conn(2, POD_B, 34_732, 46_994);
    world.connect(&control);
    world.syn(&control, 0, true);
    world.answer(&control, Flags::ACK, 9, cart.isn + 302, None);
    world.gave_up(&control);
    assert_eq!(verdict(&world.only()).1, Some(Cause::SourcePortReuse));
}

#[test]
fn an_ack_of_this_very_connection_is_no_reuse() {
    let mut world = World::new();
    let (_, control, _) = reuse(&mut world, false);
    world.answer(&control, Flags::ACK, 9, control.isn + 1, None);
    world.answer(&control, Flags::ACK, 9, 1_234_567_890, Some((4, control.tsval)));
    world.established(&control);
    assert_eq!(verdict(&world.only()), (Outcome::Established, None, Evidence::None));
}

#[test]
fn refused_only_by_a_rst_that_acknowledges_the_syn() {
    let mut world = World::new();
    let client = world.conn(1, POD_A, 40_001, 50_001);
    world.connect(&client);
    world.syn(&client, 0, true);
    world.answer(&client, Flags::RST | Flags::ACK, 0, client.isn + 1, None);
    world.closed_unopened(&client);
    world.error(&client, 111);
    let attempt = world.only();
    assert_eq!(verdict(&attempt), (Outcome::Refused, Some(Cause::ConnectionRefused), Evidence::Kernel));
    assert_eq!(attempt.verdict.responsible, Some(Side::Server));

    let client = world.conn(2, POD_A, 40_002, 50_002);
    world.connect(&client);
    world.syn(&client, 0, true);
    world.answer(&client, Flags::RST | Flags::ACK, 0, client.isn + 7, None);
    world.gave_up(&client);
    assert_eq!(
        verdict(&world.only()),
        (Outcome::TimedOut, None, Evidence::None),
        "answered, but by nothing of its own"
    );
}

#[test]
fn a_black_hole_is_one_attempt_however_many_syns() {
    let mut world = World::new();
    let client = world.conn(1, POD_A, 40_001, 50_001);
    world.connect(&client);
    for resent in 0..5 {
        world.syn(&client, resent * 1000, true);
        world.wait_ms(1000);
    }
    world.gave_up(&client);
    let attempt = world.only();
    assert_eq!(verdict(&attempt), (Outcome::TimedOut, Some(Cause::NoResponse), Evidence::Absence));
    assert_eq!(attempt.verdict.responsible, Some(Side::BeyondNode));
    assert_eq!(attempt.syns, 5);
    assert_eq!(attempt.retry_traces.len(), 4);
}

#[test]
fn an_application_that_gives_up_after_three_seconds_has_the_same_cause() {
    let mut world = World::new();
    let client = world.conn(1, POD_A, 40_001, 50_001);
    world.connect(&client);
    for resent in 0..3 {
        world.syn(&client, resent * 1000, true);
        world.wait_ms(1000);
    }
    world.closed_unopened(&client);
    assert_eq!(verdict(&world.only()), (Outcome::Aborted, Some(Cause::NoResponse), Evidence::Absence));
}

#[test]
fn a_client_that_closes_at_once_saw_nothing_wrong() {
    let mut world = World::new();
    let client = world.conn(1, POD_A, 40_001, 50_001);
    world.connect(&client);
    world.syn(&client, 0, true);
    world.wait_ms(300);
    world.closed_unopened(&client);
    assert_eq!(verdict(&world.only()), (Outcome::Aborted, Some(Cause::ClientAborted), Evidence::Kernel));
}

#[test]
fn a_lost_first_syn_names_the_trace_that_was_answered() {
    let mut world = World::new();
    let client = world.conn(1, POD_A, 40_001, 50_001);
    world.connect(&client);
    world.syn(&client, 0, true);
    world.wait_ms(1000);
    world.syn(&client, 1000, true);
    world.syn_ack(&client, 1000);
    world.established(&client);
    let attempt = world.only();
    assert_eq!(verdict(&attempt), (Outcome::Established, Some(Cause::SynLost), Evidence::Absence));
    assert_eq!(attempt.answered_trace, Some(attempt.retry_traces[0]));
    assert_ne!(attempt.answered_trace, Some(attempt.trace));
}

/// SYNs that enter the node and never leave it, with or without a witness before them.
fn drop_in_node(world: &mut World, witness: bool) -> Attempt {
    if witness {
        let other = world.conn(8, POD_A, 40_008, 50_008);
        world.open(&other);
        world.only();
    }
    let client = world.conn(9, POD_A, 40_009, 50_009);
    world.connect(&client);
    for resent in 0..3 {
        world.syn(&client, resent * 1000, false);
        world.wait_ms(1000);
    }
    world.gave_up(&client);
    world.only()
}

#[test]
fn absence_needs_a_witness() {
    let attempt = drop_in_node(&mut World::new(), true);
    assert_eq!(verdict(&attempt), (Outcome::TimedOut, Some(Cause::DroppedInNode), Evidence::Absence));
    assert_eq!(attempt.verdict.responsible, Some(Side::Node));
    let attempt = drop_in_node(&mut World::new(), false);
    assert_eq!(verdict(&attempt), (Outcome::TimedOut, None, Evidence::None));
}

#[test]
fn no_absence_is_claimed_after_a_loss_of_observations() {
    let mut world = World::new();
    let other = world.conn(8, POD_A, 40_008, 50_008);
    world.open(&other);
    world.only();
    world.lose(3);
    let attempt = drop_in_node(&mut world, false);
    assert_eq!(verdict(&attempt).1, None);
    assert!(!attempt.lossy, "the loss was before it");
    assert_eq!(world.tracker.counts().lost, 3);
}

#[test]
fn what_came_up_was_never_dropped() {
    let mut world = World::new();
    let other = world.conn(8, POD_A, 40_008, 50_008);
    world.open(&other);
    world.only();
    let client = world.conn(9, POD_A, 40_009, 50_009);
    world.connect(&client);
    world.syn(&client, 0, false);
    world.syn(&client, 1000, false);
    world.established(&client);
    let attempt = world.only();
    assert_ne!(verdict(&attempt).1, Some(Cause::DroppedInNode));
}

/// A reused port to a server that does not answer it; `alive` says whether it answers fresh ones meanwhile.
fn silent_reuse(world: &mut World, alive: bool) -> Attempt {
    let (_, control, _) = reuse(world, true);
    for round in 0..3_u64 {
        if round > 0 {
            world.syn(&control, round as u32 * 1000, true);
        }
        world.wait_ms(500);
        if alive {
            let fresh = world.conn(20 + round, POD_A, 41_000 + round as u16, 51_000 + round as u16);
            world.open(&fresh);
        }
        world.wait_ms(500);
    }
    world.drain();
    world.gave_up(&control);
    world.only()
}

#[test]
fn silence_to_a_reused_port_is_suspicious_only_if_others_are_answered() {
    let attempt = silent_reuse(&mut World::new(), true);
    assert_eq!(verdict(&attempt), (Outcome::TimedOut, Some(Cause::SourcePortReuseSuspected), Evidence::Tuple));
    assert!(attempt.previous_owner.is_some());
    let attempt = silent_reuse(&mut World::new(), false);
    assert_eq!(verdict(&attempt), (Outcome::TimedOut, Some(Cause::NoResponse), Evidence::Absence));
    assert!(attempt.reuse_possible);
}

#[test]
fn a_server_gone_dark_is_never_taken_for_reuse() {
    let mut world = World::new();
    for n in 0..50_u64 {
        let conn = world.conn(100 + n, POD_A, 40_000 + n as u16, 50_000 + n as u16);
        world.open(&conn);
        world.close(&conn, 10, true);
    }
    world.findings();
    let dark: Vec<Conn> =
        (0..50_u64).map(|n| world.conn(300 + n, POD_B, 42_000 + n as u16, 50_000 + n as u16)).collect();
    for conn in &dark {
        world.connect(conn);
    }
    for resent in 0..3 {
        dark.iter().for_each(|conn| world.syn(conn, resent * 1000, true));
        world.wait_ms(1000);
    }
    dark.iter().for_each(|conn| world.gave_up(conn));
    let found = world.findings();
    assert_eq!(found.len(), 50);
    for attempt in found {
        assert_eq!(verdict(&attempt), (Outcome::TimedOut, Some(Cause::NoResponse), Evidence::Absence));
        assert!(attempt.reuse_possible && attempt.reused);
    }
}

#[test]
fn a_changed_port_gives_a_second_wire_tuple() {
    let mut world = World::new();
    let (cart, control, _) = reuse(&mut world, false);
    world.answer(&control, Flags::ACK, 9, cart.isn + 502, None);
    world.send(&control, Flags::RST, cart.isn + 502, 0);
    let moved = Conn { wire: tuple("192.168.50.10:40123", "192.168.50.20:8443"), ..control };
    world.syn(&moved, 10, true);
    world.syn_ack(&moved, 10);
    world.established(&moved);
    let attempt = world.only();
    assert_eq!(verdict(&attempt), (Outcome::Established, Some(Cause::SourcePortReuse), Evidence::Exact));
    assert_eq!(attempt.wire, [control.wire, moved.wire]);
}

#[test]
fn host_processes_without_nat_choose_their_own_ports() {
    let mut world = World::new();
    let host = |cookie: u64, world: &World| {
        let conn = world.conn(cookie, NODE, 46_994, 46_994);
        let inner = tuple("192.168.50.10:46994", "192.168.50.20:8443");
        Conn { inner, wire: inner, ..conn }
    };
    let first = host(1, &world);
    world.open(&first);
    world.close(&first, 10, false);
    world.only();
    let second = host(2, &world);
    world.connect(&second);
    world.syn(&second, 0, true);
    world.answer(&second, Flags::ACK, 9, first.isn + 12, None);
    world.gave_up(&second);
    let attempt = world.only();
    assert_eq!(verdict(&attempt), (Outcome::TimedOut, Some(Cause::SourcePortReuse), Evidence::Exact));
    assert_eq!(attempt.verdict.responsible, Some(Side::Client));
    assert_eq!(attempt.client.map(|client| client.netns), Some(HOST_NETNS));
}

#[test]
fn the_servers_node_joins_its_socket_to_the_syn() {
    let mut world = World::new();
    let client_to_server = tuple("10.1.0.5:40001", "10.244.1.11:8443");
    let ts = Some((77, 0));
    world.segment((NODE, Direction::Ingress), client_to_server, Flags::SYN, 5000, 0, ts);
    world.segment((POD_A, Direction::Egress), client_to_server, Flags::SYN, 5000, 0, ts);
    let back = client_to_server.reversed();
    world.segment((POD_A, Direction::Ingress), back, Flags::SYN | Flags::ACK, 900, 5001, Some((1, 77)));
    world.segment((NODE, Direction::Egress), back, Flags::SYN | Flags::ACK, 900, 5001, Some((1, 77)));
    let accepted = Conn { inner: back, ..world.conn(7, POD_A, 1, 1) };
    world.step(
        &accepted,
        Step::PassiveEstablished,
        SocketNumbers { rcv_nxt: 5001, snd_nxt: 901, ..Default::default() },
    );
    let attempt = world.only();
    assert_eq!(attempt.role, Role::Server);
    assert_eq!(attempt.verdict.outcome, Outcome::Established);
    assert_eq!(attempt.server.map(|server| server.tuple), Some(client_to_server));
    assert_eq!(attempt.sightings.len(), 2);
}

#[test]
fn a_flood_from_outside_evicts_no_attempt_of_this_node() {
    let mut world = World::with(Options { max_attempts: 64, errors_seen: true, ..Options::default() });
    let client = world.conn(1, POD_A, 40_001, 50_001);
    world.connect(&client);
    world.syn(&client, 0, true);
    for n in 0..10_000_u32 {
        let from = tuple(&format!("203.0.113.{}:{}", n % 250, 1024 + n % 60_000), "10.244.1.11:80");
        world.segment((NODE, Direction::Ingress), from, Flags::SYN, n.wrapping_mul(2_654_435_761), 0, None);
    }
    let counts = world.tracker.counts();
    assert!(counts.open_attempts <= 17, "{counts:?}");
    assert!(counts.evicted_attempts >= 9_900);
    world.drain();
    world.syn_ack(&client, 0);
    world.established(&client);
    let found = world.findings();
    assert!(found.iter().any(|a| a.role == Role::Client && a.verdict.outcome == Outcome::Established));
}

#[test]
fn loopback_is_quiet_and_counted() {
    let mut world = World::new();
    let inner = tuple("127.0.0.1:4000", "127.0.0.1:80");
    let conn = Conn { inner, wire: inner, ..world.conn(1, NODE, 1, 1) };
    world.connect(&conn);
    world.established(&conn);
    assert!(world.findings().is_empty());
    assert_eq!(world.tracker.counts().quiet_loopback, 1);
}

#[test]
fn the_agents_start_gives_no_false_verdict() {
    let mut world = World::new();
    // Connections from before: their ends, late segments and a SYN that is not the first.
    let old = world.conn(1, POD_A, 40_001, 50_001);
    world.close(&old, 10, true);
    world.established(&old);
    let connecting = world.conn(2, POD_A, 40_002, 50_002);
    world.syn(&connecting, 1000, true);
    world.syn_ack(&connecting, 1000);
    world.established(&connecting);
    let attempt = world.only();
    assert_eq!(verdict(&attempt), (Outcome::Established, None, Evidence::None));
    assert!(!attempt.ledger_partial, "a clean attempt leans on nothing");
}

#[test]
fn what_is_open_at_the_end_is_pending() {
    let mut world = World::new();
    let client = world.conn(1, POD_A, 40_001, 50_001);
    world.connect(&client);
    world.syn(&client, 0, true);
    world.tracker.finish_all();
    let found = world.drain();
    assert_eq!(verdict(&found[0]), (Outcome::Pending, None, Evidence::None));
    assert_eq!(found[0].client.as_ref().and_then(|client| client.asked), Some(end("192.168.50.20:8443")));
}

#[test]
fn a_ledger_that_had_to_forget_says_so() {
    let options = Options { max_tenancies: 4, errors_seen: true, ..Options::default() };
    for (connections, partial) in [(3, false), (20, true)] {
        let mut world = World::with(options.clone());
        world.wait_ms(700_000);
        for n in 0..connections {
            let conn = world.conn(n + 1, POD_A, 40_000 + n as u16, 50_000 + n as u16);
            world.open(&conn);
            world.close(&conn, 10, true);
        }
        world.findings();
        let control = world.conn(99, POD_B, 34_732, 46_994);
        world.connect(&control);
        world.syn(&control, 0, true);
        world.answer(&control, Flags::ACK, 9, 123_456_789, None);
        world.gave_up(&control);
        let attempt = world.only();
        assert_eq!(attempt.verdict.cause, Some(Cause::UnexpectedAck));
        assert_eq!(attempt.ledger_partial, partial, "after {connections}");
    }
}
