//! Packets of every shape, whole and cut.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::capture::observation::Direction;
use crate::capture::replay::craft::{self, SYN, Seg, seg};
use crate::capture::replay::{link, tcp};

const V4: Seg<'static> = Seg {
    from: "10.244.1.12:34732",
    to: "192.168.50.20:8443",
    flags: SYN,
    seq: 225_467_756,
    ack: 0,
    stamps: Some((77, 0)),
    payload: 0,
};

fn v6() -> Seg<'static> {
    Seg { from: "[fd00::12]:34732", to: "[fd00::20]:8443", ..V4 }
}

fn looked(packet: &[u8]) -> Option<Found<'_>> {
    let kind = if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
    find(kind, packet, packet.len() as u32)
}

#[track_caller]
fn expect(found: Option<Found<'_>>, made: &Seg<'_>, tunnel: Option<Tunnel>) {
    let found = found.expect("something");
    assert_eq!(found.tunnel, tunnel);
    let What::Segment(raw) = found.what else { panic!("{found:?}") };
    let head = tcp::head(&raw).expect("a header");
    let segment = tcp::segment(&raw, head, 3, Direction::Egress);
    assert_eq!(segment.tuple.to_string(), format!("{} > {}", made.from, made.to));
    assert_eq!((segment.seq, segment.ack, segment.flags.0), (made.seq, made.ack, made.flags));
    assert_eq!(segment.payload as usize, made.payload);
    assert_eq!(segment.timestamps.map(|stamps| (stamps.val, stamps.ecr)), made.stamps);
    assert_eq!((segment.mss, segment.wscale, segment.ttl, segment.window), (1460, Some(7), 64, 0xfaf0));
}

#[test]
fn every_link_type() {
    for made in [V4, v6()] {
        let packet = made.ip();
        let family = if made.from.starts_with('[') { 30 } else { 2 };
        let frames: [(i32, Vec<u8>); 13] = [
            (0, craft::null(u32::to_le_bytes(family), &packet)),
            (0, craft::null(u32::to_be_bytes(family), &packet)),
            (108, craft::null(u32::to_be_bytes(family), &packet)),
            (1, craft::ethernet(&[], &packet)),
            (1, craft::ethernet(&[(0x8100, 100)], &packet)),
            (1, craft::ethernet(&[(0x88a8, 7), (0x8100, 100)], &packet)),
            (12, packet.clone()),
            (14, packet.clone()),
            (101, packet.clone()),
            (113, craft::cooked(4, &packet)),
            (276, craft::cooked2(5, 0, &packet)),
            (if family == 2 { 228 } else { 229 }, packet.clone()),
            // Padding behind a short packet is no payload.
            (1, [craft::ethernet(&[], &packet), vec![0; 6]].concat()),
        ];
        for (link, frame) in frames {
            assert!(link::is_known(link));
            let carried = link::packet(link, &frame).unwrap_or_else(|| panic!("link type {link}"));
            let length = (frame.len() - carried.before) as u32;
            expect(find(carried.kind, carried.bytes, length), &made, None);
        }
    }
    assert!(!link::is_known(127) && link::packet(127, &[0; 100]).is_none());
}

#[test]
fn link_layers_tell_interface_direction_and_tags() {
    let packet = V4.ip();
    let frame = craft::cooked2(5, 4, &packet);
    let cooked = link::packet(276, &frame).unwrap();
    assert_eq!((cooked.ifindex, cooked.direction), (Some(5), Some(Direction::Egress)));
    let frame = craft::cooked(0, &packet);
    assert_eq!(link::packet(113, &frame).unwrap().direction, Some(Direction::Ingress));
    let frame = craft::cooked(3, &packet);
    assert_eq!(link::packet(113, &frame).unwrap().direction, None);
    let tagged = |tags: &[(u16, u16)]| link::packet(1, &craft::ethernet(tags, &packet)).unwrap().vlans;
    let all = [tagged(&[]), tagged(&[(0x8100, 0)]), tagged(&[(0x8100, 100)]), tagged(&[(0x88a8, 7), (0x8100, 100)])];
    for (at, one) in all.iter().enumerate() {
        assert!(all.iter().skip(at + 1).all(|other| other != one), "{all:?}");
    }
}

#[test]
fn ipv4_options_and_ipv6_extension_headers() {
    let mut packet = craft::ipv4(Ipv4Addr::new(10, 244, 1, 12), Ipv4Addr::new(192, 168, 50, 20), 6, &[]);
    packet.extend([1; 8]);
    packet[0] = 0x47;
    packet.extend(V4.tcp());
    let total = packet.len() as u16;
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    expect(looked(&packet), &V4, None);

    let (from, to): (Ipv6Addr, Ipv6Addr) = ("fd00::12".parse().unwrap(), "fd00::20".parse().unwrap());
    let hop = [&[60, 0][..], &[0; 6]].concat();
    let destination = [&[43, 1][..], &[0; 14]].concat();
    let routing = [&[44, 0][..], &[0; 6]].concat();
    let first_fragment = [51, 0, 0, 1, 0, 0, 0, 9];
    let authentication = [&[6, 4][..], &[0; 22]].concat();
    let chain = [hop, destination, routing, first_fragment.to_vec(), authentication, v6().tcp()].concat();
    expect(looked(&craft::ipv6(from, to, 0, &chain)), &v6(), None);
    let later_fragment = [&[6, 0, 0, 8, 0, 0, 0, 9][..], &v6().tcp()].concat();
    assert_eq!(looked(&craft::ipv6(from, to, 44, &later_fragment)), None);
}

#[test]
fn an_ipv4_address_in_an_ipv6_header_is_not_taken_for_ipv4() {
    let (mapped, other): (Ipv6Addr, Ipv6Addr) = ("::ffff:10.0.0.1".parse().unwrap(), "fd00::20".parse().unwrap());
    for (from, to) in [(mapped, other), (other, mapped), (mapped, mapped)] {
        assert_eq!(looked(&craft::ipv6(from, to, 6, &v6().tcp())), None);
    }
}

#[test]
fn only_the_first_fragment_has_a_header() {
    let mut packet = Seg { payload: 600, ..V4 }.ip();
    packet[6..8].copy_from_slice(&0x2000_u16.to_be_bytes());
    expect(looked(&packet), &Seg { payload: 600, ..V4 }, None);
    packet[6..8].copy_from_slice(&0x2040_u16.to_be_bytes());
    assert_eq!(looked(&packet), None);
}

#[test]
fn a_snap_length_that_leaves_the_headers_leaves_the_segment() {
    let made = Seg { payload: 1_000, ..V4 };
    let packet = made.ip();
    expect(find(0x0800, &packet[..60], 1_060), &made, None);
    let cut = find(0x0800, &packet[..59], 1_060).unwrap();
    assert_eq!(cut.what, What::Cut);
    assert_eq!(find(0x0800, &packet[..30], 1_060).unwrap().what, What::Cut);
    assert_eq!(find(0x0800, &packet[..19], 1_060), None);
}

#[test]
fn segments_merged_beyond_what_the_header_can_say_have_the_length_of_the_wire() {
    let made = Seg { payload: 1_000, ..V4 };
    let mut packet = made.ip();
    packet[2..4].fill(0);
    expect(find(0x0800, &packet, packet.len() as u32), &made, None);
    let made = Seg { payload: 1_000, ..v6() };
    let mut packet = made.ip();
    packet[4..6].fill(0);
    expect(find(0x86dd, &packet, packet.len() as u32), &made, None);
}

#[test]
fn tunnels_are_looked_into() {
    let (a, b) = (Ipv4Addr::new(172, 16, 0, 1), Ipv4Addr::new(172, 16, 0, 2));
    for made in [V4, v6()] {
        let inner = made.ip();
        let bridged = craft::ethernet(&[], &inner);
        let kind = if made.from.starts_with('[') { [0x86, 0xdd] } else { [0x08, 0x00] };
        let vxlan = [&[8, 0, 0, 0, 0, 0, 42, 0][..], &bridged].concat();
        let geneve = [&[1, 0, 0x65, 0x58, 0, 0, 43, 0][..], &[0; 4], &bridged].concat();
        let geneve_ip = [&[0, 0, kind[0], kind[1], 0, 0, 44, 0][..], &inner].concat();
        let gre = [&[0x20, 0, kind[0], kind[1], 0, 0, 0, 9][..], &inner].concat();
        let protocol = if made.from.starts_with('[') { 41 } else { 4 };
        for (packet, tunnel) in [
            (craft::ipv4(a, b, 17, &craft::udp(4789, &vxlan)), Tunnel::Vxlan(42)),
            (craft::ipv4(a, b, 17, &craft::udp(8472, &vxlan)), Tunnel::Vxlan(42)),
            (craft::ipv4(a, b, 17, &craft::udp(6081, &geneve)), Tunnel::Geneve(43)),
            (craft::ipv4(a, b, 17, &craft::udp(6081, &geneve_ip)), Tunnel::Geneve(44)),
            (craft::ipv4(a, b, 47, &gre), Tunnel::Gre),
            (craft::ipv4(a, b, protocol, &inner), Tunnel::Ip),
            (craft::ipv6(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, protocol, &inner), Tunnel::Ip),
        ] {
            expect(looked(&packet), &made, Some(tunnel));
        }
        assert_eq!(looked(&craft::ipv4(a, b, 17, &craft::udp(53, &vxlan))), None);
    }
    let mut nested = V4.ip();
    for _ in 0..20 {
        nested = craft::ipv4(a, b, 4, &nested);
    }
    assert_eq!(looked(&nested), None, "so deep that nobody means it");
}

#[test]
fn icmp_errors_quote_a_segment() {
    let quote = V4.ip();
    let router = Ipv4Addr::new(192, 168, 50, 1);
    let error = [&[3, 1, 0, 0, 0, 0, 0, 0][..], &quote[..28]].concat();
    let packet = craft::ipv4(router, Ipv4Addr::new(10, 244, 1, 12), 1, &error);
    let Some(Found { what: What::Icmp(icmp), .. }) = looked(&packet) else { panic!() };
    assert_eq!((icmp.kind, icmp.code, icmp.seq), (3, 1, V4.seq));
    assert_eq!(icmp.tuple.to_string(), format!("{} > {}", V4.from, V4.to));
    assert_eq!(icmp.from.to_string(), "192.168.50.1");
    let echo = [&[8, 0, 0, 0, 0, 0, 0, 0][..], &quote].concat();
    assert_eq!(looked(&craft::ipv4(router, router, 1, &echo)), None);

    let error = [&[1, 4, 0, 0, 0, 0, 0, 0][..], &v6().ip()].concat();
    let packet = craft::ipv6("fd00::1".parse().unwrap(), "fd00::12".parse().unwrap(), 58, &error);
    let Some(Found { what: What::Icmp(icmp), .. }) = looked(&packet) else { panic!() };
    assert_eq!((icmp.kind, icmp.code, icmp.seq), (1, 4, V4.seq));
    let redirect = [&[137, 0, 0, 0, 0, 0, 0, 0][..], &v6().ip()].concat();
    assert_eq!(looked(&craft::ipv6(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, 58, &redirect)), None);
}

#[test]
fn options_that_lie_about_their_length_end_the_options() {
    let mut segment = seg("10.0.0.1:1", "10.0.0.2:2", SYN, 1, 0);
    segment.stamps = Some((5, 6));
    let packet = segment.ip();
    for (at, with) in [(41, 0), (41, 1), (41, 200), (47, 9), (47, 255)] {
        let mut packet = packet.clone();
        packet[at] = with;
        let Some(Found { what: What::Segment(raw), .. }) = looked(&packet) else { panic!() };
        let head = tcp::head(&raw).unwrap();
        assert_eq!(tcp::segment(&raw, head, 1, Direction::Ingress).timestamps, None, "{at} {with}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(link in -1_i32..300, bytes in prop::collection::vec(any::<u8>(), 0..200), length: u32) {
        if let Some(packet) = link::packet(link, &bytes) {
            prop_assert!(packet.before <= bytes.len());
            if let Some(Found { what: What::Segment(raw), .. }) = find(packet.kind, packet.bytes, length) {
                let head = tcp::head(&raw).expect("whole headers");
                tcp::segment(&raw, head, 1, Direction::Ingress);
            }
        }
    }

    #[test]
    fn any_change_of_a_good_packet_is_survived(
        which in 0_usize..4,
        changes in prop::collection::vec((0_usize..200, any::<u8>()), 1..6),
        cut in 0_usize..250,
        length: u32,
    ) {
        let vxlan = [&[8, 0, 0, 0, 0, 0, 42, 0][..], &craft::ethernet(&[(0x8100, 3)], &v6().ip())].concat();
        let lo = Ipv4Addr::LOCALHOST;
        let mut packet = match which {
            0 => V4.ip(),
            1 => v6().ip(),
            2 => craft::ipv4(lo, lo, 17, &craft::udp(4789, &vxlan)),
            _ => craft::ipv4(lo, lo, 1, &[&[3, 1, 0, 0, 0, 0, 0, 0][..], &V4.ip()].concat()),
        };
        for (at, with) in changes {
            let at = at % packet.len();
            packet[at] = with;
        }
        packet.truncate(cut);
        for kind in [0x0800, 0x86dd] {
            if let Some(Found { what: What::Segment(raw), .. }) = find(kind, &packet, length) {
                prop_assert!(tcp::head(&raw).is_some());
            }
        }
    }
}
