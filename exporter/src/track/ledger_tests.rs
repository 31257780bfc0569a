//! The ledger by itself, against the plainest model.

use super::*;
use proptest::prelude::*;
use std::net::Ipv4Addr;

fn tuple(port: u16) -> Tuple {
    Tuple::new(
        Endpoint::new(Ipv4Addr::new(192, 168, 50, 10), port),
        Endpoint::new(Ipv4Addr::new(192, 168, 50, 20), 8443),
    )
}

fn tenancy(serial: u64, port: u16, translated: bool) -> Tenancy {
    let inner = if translated { tuple(port.wrapping_add(1)) } else { tuple(port) };
    Tenancy { wire: Some(tuple(port)), cookie: serial, ..Tenancy::just_opened(serial, inner, Mono(serial)) }
}

fn close(ledger: &mut Ledger, key: TenancyKey, time: u64, end: u32) {
    ledger.update(key, |tenancy| {
        tenancy.client_segment(Mono(time), end, 0, true, false);
        tenancy.server_segment(Mono(time), 9, None, 0, true, false);
    });
}

#[test]
fn the_last_tenant_of_a_translated_tuple_outlives_the_rest() {
    let mut ledger = Ledger::new(3, Duration::from_secs(600), 0);
    let plain = ledger.open(tenancy(1, 1000, false));
    let earlier = ledger.open(tenancy(2, 2000, true));
    close(&mut ledger, plain, 10, 5);
    close(&mut ledger, earlier, 11, 6);
    let last = ledger.open(tenancy(3, 2000, true));
    close(&mut ledger, last, 12, 7);
    let first_new = ledger.open(tenancy(4, 3000, true));
    assert!(ledger.get(plain).is_none(), "never translated and closed cleanly goes first");
    let _second_new = ledger.open(tenancy(5, 3001, true));
    assert!(ledger.get(earlier).is_none(), "then what has a later tenant");
    assert!(ledger.get(last).is_some() && ledger.get(first_new).is_some());
    assert_eq!(ledger.evicted(), 2);
    assert_eq!(ledger.horizon(), Mono(11));
}

#[test]
fn a_tenancy_is_small() {
    // A node may hold 300,000 of them (design, section 12).
    assert!(size_of::<Tenancy>() <= 184 && size_of::<Slot>() <= 200);
}

#[test]
fn an_end_is_found_with_its_fin_and_without() {
    let mut ledger = Ledger::new(10, Duration::from_secs(600), 0);
    let key = ledger.open(tenancy(1, 1000, true));
    close(&mut ledger, key, 10, u32::MAX);
    for number in [u32::MAX, 0] {
        let found: Vec<_> = ledger.ended_at(tuple(1000).dst, number).map(|(key, _)| key).collect();
        assert_eq!(found, [key], "{number}");
    }
    assert_eq!(ledger.ended_at(tuple(1000).dst, 1).count(), 0);
}

#[test]
fn what_ended_before_the_window_is_forgotten_and_what_is_open_is_not() {
    let mut ledger = Ledger::new(10, Duration::from_nanos(100), 0);
    let closed = ledger.open(tenancy(1, 1000, true));
    let open = ledger.open(tenancy(2, 1001, true));
    close(&mut ledger, closed, 50, 1);
    ledger.expire(Mono(149));
    assert!(ledger.get(closed).is_some());
    ledger.expire(Mono(151));
    assert!(ledger.get(closed).is_none() && ledger.get(open).is_some());
    assert_eq!((ledger.len(), ledger.evicted()), (1, 0));
}

proptest! {
    /// Against the plainest model: a list.
    #[test]
    fn the_indexes_agree_with_a_list(steps in proptest::collection::vec((0..5_u8, 0..6_u16, 0..40_usize, any::<bool>()), 1..200)) {
        let mut ledger = Ledger::new(12, Duration::from_nanos(60), 3);
        let mut keys: Vec<TenancyKey> = Vec::new();
        for (now, (what, port, pick, flag)) in steps.into_iter().enumerate() {
            let time = now as u64 + 1;
            let picked = keys.get(pick % keys.len().max(1)).copied();
            match (what, picked) {
                (0 | 1, _) => keys.push(ledger.open(tenancy(time, 1000 + port, flag))),
                (2, Some(key)) => close(&mut ledger, key, time, u32::from(port)),
                (3, Some(key)) => ledger.update(key, |tenancy| tenancy.wire = Some(tuple(2000 + port))),
                (4, Some(key)) => ledger.set_server_cookie(key, 10_000 + time),
                _ => {}
            }
            ledger.expire(Mono(time));
            prop_assert!(ledger.len() <= 12);
            let live: Vec<(TenancyKey, Tenancy)> =
                keys.iter().filter_map(|&key| Some((key, ledger.get(key)?.clone()))).collect();
            prop_assert_eq!(live.len(), ledger.len());
            for (key, tenancy) in &live {
                prop_assert!(ledger.tenants(tenancy.tuple()).any(|(found, _)| found == *key), "by tuple");
                prop_assert_eq!(ledger.of_cookie(tenancy.cookie), Some(*key));
                if tenancy.server_cookie != 0 {
                    prop_assert_eq!(ledger.of_cookie(tenancy.server_cookie), Some(*key));
                }
                let ended = ledger.ended_at(tenancy.tuple().dst, tenancy.client_end).any(|(found, _)| found == *key);
                prop_assert_eq!(ended, tenancy.end_known);
            }
            for port in (1000..1006).chain(2000..2006) {
                for (key, tenancy) in ledger.tenants(tuple(port)) {
                    prop_assert_eq!(tenancy.tuple(), tuple(port));
                    prop_assert!(live.iter().any(|(known, _)| *known == key));
                }
            }
        }
    }
}
