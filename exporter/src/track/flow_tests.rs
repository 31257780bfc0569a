//! From a socket's counters to the application's bytes.

use super::*;
use proptest::prelude::*;

fn numbers(state: TcpState, bytes_acked: u64, bytes_received: u64, segs: u32) -> FlowNumbers {
    FlowNumbers { state, bytes_acked, bytes_received, segs_out: segs, segs_in: segs, total_retrans: segs, srtt_us: 0 }
}

/// As measured on Linux 6.18, over loopback: 100 bytes to the server and 40 back, the client's FIN, 5 more back, and
/// the server's FIN.
#[test]
fn syn_and_fin_are_no_payload() {
    use FlowSide::{Client, Server};
    use TcpState::{CloseWait, Established, FinWait2};
    for (state, side, acked, received, payload) in [
        (Established, Client, 1, 0, (0, 0)),
        (Established, Server, 0, 0, (0, 0)),
        (Established, Client, 101, 40, (100, 40)),
        (Established, Server, 40, 100, (40, 100)),
        (FinWait2, Client, 102, 40, (100, 40)),
        (CloseWait, Server, 40, 101, (40, 100)),
        (FinWait2, Client, 102, 45, (100, 45)),
        (CloseWait, Server, 45, 101, (45, 100)),
    ] {
        let numbers = numbers(state, acked, received, 0);
        let totals = FlowTotals::of(&numbers, side, Fins::of_state(state), &FlowTotals::default());
        assert_eq!((totals.sent_bytes, totals.received_bytes), payload, "{state:?} {side:?}");
    }
}

/// As measured at the end of such connections, by `sock_ops`.
#[test]
fn at_the_end_the_state_before_says_what_is_no_payload() {
    use FlowSide::{Client, Server};
    use TcpState::{CloseWait, Closing, Established, FinWait1, LastAck};
    // The state before, whether all is acknowledged, and the bytes.
    for (from, all, side, acked, received, payload) in [
        (LastAck, true, Server, 41, 101, (40, 100)),
        (LastAck, true, Client, 102, 41, (100, 40)),
        (LastAck, false, Client, 101, 41, (100, 40)),
        (Closing, true, Client, 102, 41, (100, 40)),
        (Closing, false, Client, 101, 41, (100, 40)),
        (FinWait1, false, Client, 101, 40, (100, 40)),
        (CloseWait, true, Client, 101, 41, (100, 40)),
        (Established, true, Client, 101, 40, (100, 40)),
        (Established, true, Server, 47, 100, (47, 100)),
    ] {
        let tenancy = tenancy();
        let step = SocketNumbers { snd_nxt: 7, snd_una: if all { 7 } else { 6 }, ..SocketNumbers::default() };
        let fins = Fins::at_close(&tenancy, side, from, &step);
        let totals = FlowTotals::of(&numbers(from, acked, received, 0), side, fins, &FlowTotals::default());
        assert_eq!((totals.sent_bytes, totals.received_bytes), payload, "{from:?} {side:?} {all}");
    }
}

#[test]
fn whether_the_last_fin_came_is_told_by_the_wire() {
    for side in [FlowSide::Client, FlowSide::Server] {
        for (own, peer, rcv_nxt, received) in [
            (true, true, 51, true),
            (true, true, 50, false),
            (false, true, 51, true),
            (true, false, 50, false),
            // Nobody watched.
            (false, false, 50, true),
        ] {
            let mut tenancy = tenancy();
            (tenancy.client_end, tenancy.server_end) = (50, 50);
            (tenancy.client_fin, tenancy.server_fin) = match side {
                FlowSide::Client => (own, peer),
                FlowSide::Server => (peer, own),
            };
            let step = SocketNumbers { rcv_nxt, ..SocketNumbers::default() };
            let fins = Fins::at_close(&tenancy, side, TcpState::FinWait2, &step);
            assert_eq!(fins, Fins { acked: true, received }, "{side:?} {own} {peer} {rcv_nxt}");
        }
    }
}

fn tenancy() -> Tenancy {
    Tenancy { cookie: 1, server_cookie: 2, ..Tenancy::just_opened(1, Tuple::default(), Mono(1)) }
}

#[test]
fn counters_of_32_bits_go_on() {
    let look = |before: &FlowTotals, segs| {
        FlowTotals::of(
            &numbers(TcpState::Established, 0, 0, segs),
            FlowSide::Server,
            Fins::of_state(TcpState::Established),
            before,
        )
    };
    let first = look(&FlowTotals::default(), u32::MAX - 5);
    assert_eq!(first.sent_segments, u64::from(u32::MAX) - 5, "the first look may be anywhere");
    let second = look(&first, 10);
    assert_eq!(second.since(&first), FlowTotals { sent_bytes: 0, received_bytes: 0, ..segments(16) });
    let back = look(&second, 9);
    assert_eq!(back, second, "what was read earlier says nothing new");
    assert_eq!(look(&back, 11).since(&back), segments(1));
}

fn segments(count: u64) -> FlowTotals {
    FlowTotals { sent_segments: count, received_segments: count, retransmissions: count, ..FlowTotals::default() }
}

proptest! {
    #[test]
    fn a_wrapping_counter_is_followed(start: u32, steps in proptest::collection::vec(0_u32..1 << 31, 0..50)) {
        let (mut real, mut told) = (u64::from(start), u64::from(start));
        for step in steps {
            real += u64::from(step);
            told = extended(told, real as u32);
            prop_assert_eq!(told, real);
        }
    }

    #[test]
    fn nothing_goes_back(looks in proptest::collection::vec(any::<(u8, u64, u64, u32, u32, bool)>(), 0..20)) {
        let mut before = FlowTotals::default();
        let mut sum = 0_u64;
        for (state, acked, received, segs, retrans, client) in looks {
            let state = TcpState::of_number(state % 12 + 1).unwrap();
            let look = FlowNumbers { total_retrans: retrans, ..numbers(state, acked, received, segs) };
            let side = if client { FlowSide::Client } else { FlowSide::Server };
            let now = FlowTotals::of(&look, side, Fins::of_state(state), &before);
            let delta = now.since(&before);
            prop_assert!(now.sent_bytes >= before.sent_bytes && now.retransmissions >= before.retransmissions);
            prop_assert_eq!(delta.received_bytes + before.received_bytes, now.received_bytes);
            sum += delta.sent_segments;
            prop_assert_eq!(sum, now.sent_segments);
            before = now;
        }
    }
}
