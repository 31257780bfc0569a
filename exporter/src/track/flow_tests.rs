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
