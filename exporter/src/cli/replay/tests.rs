//! From files to verdicts.

use std::convert::Infallible;
use std::io::{Cursor, Read};

use super::*;
use crate::capture::observation::{Mono, PointKind};
use crate::capture::replay::craft::{
    self, ACK, FIN, LITTLE, Pcap, PcapNg, RST, SYN, SYN_ACK, Seg, cooked, cooked2, ethernet, seg,
};
use crate::capture::replay::{OpenFile, PointRule};
use crate::track::attempt::{Attempt, Role};
use crate::track::verdict::{Cause, Evidence, Outcome, Side};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
/// When the captures begin.
const T0: u64 = 1_795_465_867 * SECOND;

type Input = (&'static str, Option<PointKind>, Vec<u8>);

fn attempts(files: Vec<Input>) -> Vec<Attempt> {
    let files = files.into_iter().map(|(stem, kind, bytes)| {
        let rules = kind.map(|kind| PointRule { kind, name: None }).into_iter().collect();
        let file: Box<dyn Read + Send> = Box::new(Cursor::new(bytes));
        OpenFile { name: stem.to_owned(), stem: stem.to_owned(), rules, file }
    });
    let mut replay = Replay::new(files.collect()).unwrap();
    let options = TrackOptions { wire_only: true, ..TrackOptions::default() };
    let mut tracker = Tracker::new(options, replay.start().unwrap_or_default());
    let mut all = Vec::new();
    drive(&mut replay, &mut tracker, |finding| {
        if let Finding::Attempt(attempt) = finding {
            all.push(*attempt);
        }
        Ok::<_, Infallible>(true)
    })
    .unwrap();
    all
}

/// A pcap of segments with their times in milliseconds.
fn ether(segments: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let frames: Vec<_> = segments.iter().map(|(at, packet)| (T0 + at * MS, ethernet(&[], packet))).collect();
    LITTLE.file(&frames)
}

/// One hop further: what a node does to a packet's time to live.
fn forwarded(mut packet: Vec<u8>) -> Vec<u8> {
    match packet[0] >> 4 {
        4 => packet[8] -= 1,
        _ => packet[7] -= 1,
    }
    packet
}

fn stamped<'a>(segment: Seg<'a>, val: u32, ecr: u32) -> Vec<u8> {
    Seg { stamps: Some((val, ecr)), ..segment }.ip()
}

const SERVER: &str = "192.168.50.20:8443";
const WIRE: &str = "192.168.50.10:46994";

/// A whole connection that the client closes first and the server acknowledges; its last number is 241.
fn owner(client: &str, at: u64) -> Vec<(u64, Vec<u8>)> {
    vec![
        (at, stamped(seg(client, SERVER, SYN, 100, 0), 1, 0)),
        (at + 1, stamped(seg(SERVER, client, SYN_ACK, 5_000, 101), 9, 1)),
        (at + 2, stamped(seg(client, SERVER, ACK, 101, 5_001), 2, 9)),
        (at + 3, stamped(Seg { payload: 140, ..seg(client, SERVER, ACK, 101, 5_001) }, 2, 9)),
        (at + 4, stamped(seg(SERVER, client, ACK, 5_001, 241), 10, 2)),
        (at + 5, stamped(seg(client, SERVER, FIN, 241, 5_001), 3, 10)),
        (at + 6, stamped(seg(SERVER, client, ACK, 5_001, 242), 11, 3)),
    ]
}

/// The port used again: the stale ACK, the RST, the SYN again, established.
fn reuse(client: &str, at: u64) -> Vec<(u64, Vec<u8>)> {
    vec![
        (at, stamped(seg(client, SERVER, SYN, 900_000, 0), 500, 0)),
        (at + 1, stamped(seg(SERVER, client, ACK, 5_001, 242), 12, 3)),
        (at + 2, Seg { stamps: None, ..seg(client, SERVER, RST, 242, 0) }.ip()),
        (at + 1_002, stamped(seg(client, SERVER, SYN, 900_000, 0), 1_502, 0)),
        (at + 1_003, stamped(seg(SERVER, client, SYN_ACK, 7_000, 900_001), 13, 1_502)),
        (at + 1_004, stamped(seg(client, SERVER, ACK, 900_001, 7_001), 1_503, 13)),
    ]
}

#[track_caller]
fn one(attempts: &[Attempt], client: &str) -> Attempt {
    let of: Vec<_> =
        attempts.iter().filter(|attempt| attempt.client_tuple().unwrap().src.to_string() == client).collect();
    assert_eq!(of.len(), 1, "{client}: {attempts:#?}");
    of[0].clone()
}

#[test]
fn a_bare_capture_of_one_point_proves_the_reuse_by_its_numbers() {
    for kind in [PointKind::NodeNic, PointKind::PodNic] {
        let all = attempts(vec![("x", Some(kind), ether(&[owner(WIRE, 0), reuse(WIRE, 60_000)].concat()))]);
        assert_eq!(all.len(), 2, "{all:#?}");
        let late = &all[1];
        assert_eq!(late.verdict.cause, Some(Cause::SourcePortReuse));
        assert_eq!((late.verdict.outcome, late.verdict.evidence), (Outcome::Established, Evidence::Exact));
        // At the pod's own interface it is its own choice; before the node's there may have been NAT.
        let side = (kind == PointKind::PodNic).then_some(Side::Client);
        assert_eq!(late.verdict.responsible, side);
        assert_eq!((late.role, late.syns), (Role::Client, 2));
        assert_eq!(late.started, Mono(T0 + 60 * SECOND), "the capture's own time");
        let owner = late.previous_owner.as_ref().unwrap();
        assert_eq!((owner.serial, owner.trace), (all[0].serial, all[0].trace));
        assert_eq!(owner.closed, Some(Mono(T0 + 5 * MS)), "when the client said goodbye");
        assert_eq!(all[0].verdict.cause, None);
    }
}

#[test]
fn files_of_one_moment_are_joined_and_nat_is_seen() {
    let (cart, control) = ("10.244.1.11:51544", "10.244.1.12:34732");
    let at_node = |segments: Vec<(u64, Vec<u8>)>| -> Vec<(u64, Vec<u8>)> {
        segments.into_iter().map(|(at, packet)| (at, forwarded(packet))).collect()
    };
    let all = attempts(vec![
        ("veth-cart", None, ether(&owner(cart, 0))),
        ("veth-control", None, ether(&reuse(control, 300))),
        ("eth0", None, ether(&at_node([owner(WIRE, 0), reuse(WIRE, 300)].concat()))),
    ]);
    assert_eq!(all.len(), 2, "{all:#?}");
    let late = one(&all, control);
    assert_eq!((late.verdict.cause, late.verdict.evidence), (Some(Cause::SourcePortReuse), Evidence::Exact));
    assert_eq!(late.verdict.responsible, Some(Side::Node));
    let points: Vec<_> =
        late.sightings.iter().map(|s| (&*s.interface, s.kind.as_str(), s.tuple.src.to_string())).collect();
    assert_eq!(points, [("veth-control", "pod_nic", control.to_owned()), ("eth0", "node_nic", WIRE.to_owned())]);
    let owner = late.previous_owner.unwrap();
    assert_eq!(owner.tuple.src.to_string(), cart);
    assert_eq!(owner.wire.unwrap().src.to_string(), WIRE);
}

#[test]
fn one_cooked_file_of_all_interfaces_is_several_points() {
    let pod = "10.244.1.12:34732";
    let frames = [
        (0, cooked2(5, 0, &stamped(seg(pod, SERVER, SYN, 100, 0), 1, 0))),
        (0, cooked2(2, 4, &forwarded(stamped(seg(WIRE, SERVER, SYN, 100, 0), 1, 0)))),
        (1, cooked2(2, 0, &stamped(seg(SERVER, WIRE, SYN_ACK, 7, 101), 9, 1))),
        (1, cooked2(5, 4, &stamped(seg(SERVER, pod, SYN_ACK, 7, 101), 9, 1))),
        (2, cooked2(5, 0, &stamped(seg(pod, SERVER, ACK, 101, 8), 2, 9))),
    ];
    let frames: Vec<_> = frames.into_iter().map(|(at, frame)| (T0 + at * MS, frame)).collect();
    let file = Pcap { link: 276, ..LITTLE }.file(&frames);
    let all = attempts(vec![("any", None, file)]);
    let names: Vec<_> = all[0].sightings.iter().map(|s| (s.interface.to_string(), s.direction)).collect();
    use crate::capture::observation::Direction::{Egress, Ingress};
    assert_eq!(names, [("if5".to_owned(), Ingress), ("if2".to_owned(), Egress)]);
    assert_eq!((all.len(), all[0].verdict.outcome, all[0].syns), (1, Outcome::Established, 1));

    let frames = [
        (0, cooked(0, &stamped(seg(pod, SERVER, SYN, 100, 0), 1, 0))),
        (0, cooked(4, &stamped(seg(pod, SERVER, SYN, 100, 0), 1, 0))),
    ];
    let frames: Vec<_> = frames.into_iter().map(|(at, frame)| (T0 + at * MS, frame)).collect();
    let all = attempts(vec![("any", None, Pcap { link: 113, ..LITTLE }.file(&frames))]);
    assert_eq!((all.len(), all[0].syns, all[0].sightings.len()), (1, 1, 2), "in and out are two points");
}

#[test]
fn a_vlan_parent_and_its_child_see_one_packet() {
    let syn = stamped(seg(WIRE, SERVER, SYN, 100, 0), 1, 0);
    let answer = stamped(seg(SERVER, WIRE, SYN_ACK, 7, 101), 9, 1);
    let tagged = |packet: &[u8]| ethernet(&[(0x8100, 100)], packet);
    let parent = LITTLE.file(&[(T0, tagged(&syn)), (T0 + MS, tagged(&answer))]);
    let child = LITTLE.file(&[(T0, ethernet(&[], &syn)), (T0 + MS, ethernet(&[], &answer))]);
    let both = LITTLE.file(&[(T0, ethernet(&[], &syn)), (T0 + 3_000, tagged(&syn)), (T0 + MS, tagged(&answer))]);
    for files in [vec![("eth0", None, parent), ("eth0.100", None, child)], vec![("mirror", None, both)]] {
        let all = attempts(files);
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].syns, all[0].sightings.len(), all[0].verdict.cause), (1, 2, None), "{all:#?}");
    }
}

/// The node's interface, and a pod's that has the server: what a SYN from outside comes to.
fn inbound(segments: &[(u64, Vec<u8>)]) -> Vec<Attempt> {
    // Answers pass the pod's interface first.
    let answers = |packet: &[u8]| packet[12..16] == [10, 244, 1, 12];
    let passed =
        |(at, packet): &(u64, Vec<u8>)| (if answers(packet) { at - 1 } else { at + 1 }, forwarded(packet.clone()));
    let inside: Vec<_> = segments.iter().map(passed).collect();
    attempts(vec![("eth0", None, ether(segments)), ("veth-web", None, ether(&inside))])
}

#[test]
fn a_handshake_is_complete_by_the_clients_part_of_it() {
    // It came over one hop, as what the node itself passes on: that it goes into a pod tells where from.
    let (client, web) = ("192.168.60.20:5000", "10.244.1.12:8080");
    let syn = |at| (at, forwarded(stamped(seg(client, web, SYN, 100, 0), 1, 0)));
    let answer = |at| (at, stamped(seg(web, client, SYN_ACK, 7, 101), 9, 1));
    let (a, b) = ("172.16.0.1".parse().unwrap(), "172.16.0.2".parse().unwrap());
    let other = |at| (at, craft::ipv4(a, b, 17, &craft::udp(9, &[])));
    let ack = (6, stamped(seg(client, web, ACK, 101, 8), 2, 9));
    let reset = (6, Seg { stamps: None, ..seg(client, web, RST, 101, 0) }.ip());
    let closed = (900, stamped(seg(client, web, FIN, 101, 8), 2, 9));
    let verdict = |segments: &[(u64, Vec<u8>)]| {
        let all = inbound(segments);
        assert_eq!(all.len(), 1, "{all:#?}");
        assert_eq!(all[0].role, Role::Server, "{all:#?}");
        (all[0].verdict.outcome, all[0].verdict.cause)
    };
    assert_eq!(verdict(&[syn(0), answer(5), ack]), (Outcome::Established, None));
    assert_eq!(
        verdict(&[syn(0), answer(5), closed]),
        (Outcome::Established, None),
        "tcpdump of SYN, FIN and RST alone"
    );
    assert_eq!(verdict(&[syn(0), answer(5)]), (Outcome::Pending, None));
    assert_eq!(verdict(&[syn(0), answer(5), other(5_000)]), (Outcome::Established, None), "nobody sent anything again");
    let cause = Some(Cause::HandshakeReset);
    assert_eq!(verdict(&[syn(0), answer(5), reset, other(9_000)]), (Outcome::Failed, cause));
    let vain = [syn(0), answer(5), answer(1_005), other(9_000)];
    assert_eq!(verdict(&vain), (Outcome::Failed, Some(Cause::SynAckUnanswered)));
    // One SYN and no more is nobody's fault that is known.
    assert_eq!(verdict(&[syn(0), other(9_000)]), (Outcome::Failed, None));
}

#[test]
fn what_leaves_by_the_interface_that_it_came_by_is_forwarded() {
    let (client, port, server, out) = ("10.0.0.1:5000", "172.16.0.1:30443", "172.16.0.9:8443", "172.16.0.1:5000");
    let hops = |n, packet: Vec<u8>| (0..n).fold(packet, |packet, _| forwarded(packet));
    let syn = |at, isn, val| (at, hops(2, stamped(seg(client, port, SYN, isn, 0), val, 0)));
    let on = |at, isn, val| (at, hops(3, stamped(seg(out, server, SYN, isn, 0), val, 0)));
    let all = attempts(vec![(
        "eth0",
        None,
        ether(&[
            syn(0, 100, 1),
            on(0, 100, 1),
            (1, stamped(seg(server, out, SYN_ACK, 7, 101), 9, 1)),
            (1, forwarded(stamped(seg(port, client, SYN_ACK, 7, 101), 9, 1))),
            (2, hops(2, stamped(seg(client, port, ACK, 101, 8), 2, 9))),
            // The next one is dropped on its way: the first shows that it would have been seen.
            syn(500, 900, 501),
            syn(1_500, 900, 1_501),
            (9_000, craft::ipv4("172.16.0.1".parse().unwrap(), "172.16.0.2".parse().unwrap(), 17, &craft::udp(9, &[]))),
        ]),
    )]);
    let told: Vec<_> = all.iter().map(|a| (a.role, a.verdict.outcome, a.verdict.cause, a.sightings.len())).collect();
    assert_eq!(
        told,
        [
            (Role::Transit, Outcome::Established, None, 2),
            (Role::Transit, Outcome::Failed, Some(Cause::DroppedInNode), 1),
        ]
    );
}

#[test]
fn a_syn_that_did_not_leave_was_not_lost_beyond() {
    let pod = "10.244.1.12:34732";
    let syn = |from: &str, val| stamped(seg(from, SERVER, SYN, 100, 0), val, 0);
    let pods = ether(&[
        (0, syn(pod, 1)),
        (1_000, syn(pod, 1_001)),
        (1_002, stamped(seg(SERVER, pod, SYN_ACK, 7, 101), 9, 1_001)),
        (1_003, stamped(seg(pod, SERVER, ACK, 101, 8), 1_004, 9)),
    ]);
    let answer = (1_001, stamped(seg(SERVER, WIRE, SYN_ACK, 7, 101), 9, 1_001));
    let second = (1_000, forwarded(syn(WIRE, 1_001)));
    let cause = |node: &[(u64, Vec<u8>)]| {
        let all = attempts(vec![("veth1", None, pods.clone()), ("eth0", None, ether(node))]);
        assert_eq!((all.len(), all[0].verdict.outcome, all[0].syns), (1, Outcome::Established, 2), "{all:#?}");
        all[0].verdict.cause
    };
    assert_eq!(cause(&[(0, forwarded(syn(WIRE, 1))), second.clone(), answer.clone()]), Some(Cause::SynLost));
    assert_eq!(cause(&[second, answer]), None);
}

#[test]
fn a_packet_captured_twice_is_sent_once() {
    let syn = stamped(seg(WIRE, SERVER, SYN, 100, 0), 1, 0);
    let answer = stamped(seg(SERVER, WIRE, SYN_ACK, 7, 101), 9, 1);
    let frames =
        [(T0, ethernet(&[], &syn)), (T0 + 9_000, ethernet(&[], &forwarded(syn))), (T0 + MS, ethernet(&[], &answer))];
    let all = attempts(vec![("mirror", None, LITTLE.file(&frames))]);
    assert_eq!((all.len(), all[0].syns, all[0].verdict.cause), (1, 1, None));
}

#[test]
fn tunnels_show_the_inside_at_an_overlay_point() {
    let pod = "10.244.1.12:34732";
    let wrap = |packet: Vec<u8>| {
        let vxlan = [&[8, 0, 0, 0, 0, 0, 42, 0][..], &ethernet(&[], &packet)].concat();
        let (a, b) = ("172.16.0.1".parse().unwrap(), "172.16.0.2".parse().unwrap());
        ethernet(&[], &craft::ipv4(a, b, 17, &craft::udp(8472, &vxlan)))
    };
    let syn = stamped(seg(pod, "10.244.2.9:80", SYN, 100, 0), 1, 0);
    let answer = stamped(seg("10.244.2.9:80", pod, SYN_ACK, 7, 101), 9, 1);
    let ack = stamped(seg(pod, "10.244.2.9:80", ACK, 101, 8), 2, 9);
    let node = LITTLE.file(&[(T0 + MS, wrap(forwarded(syn.clone()))), (T0 + 2 * MS, wrap(answer.clone()))]);
    let all = attempts(vec![("veth1", None, ether(&[(0, syn), (3, answer), (4, ack)])), ("eth0", None, node)]);
    assert_eq!(all.len(), 1);
    let points: Vec<_> = all[0].sightings.iter().map(|s| (s.interface.to_string(), s.kind)).collect();
    assert_eq!(points, [("veth1".to_owned(), PointKind::PodNic), ("eth0/vxlan42".to_owned(), PointKind::Overlay)]);
    assert_eq!(all[0].verdict.outcome, Outcome::Established);
}

#[test]
fn pcapng_names_its_interfaces_and_directions() {
    let mut file = PcapNg::new(true);
    file.interface(1, Some("veth-b"), Some(9), None);
    file.interface(101, Some("eth0"), Some(9), None);
    let pod = "[fd00:10:244:1::12]:34732";
    let (wire, server) = ("[fd00:50::10]:46994", "[fd00:60::20]:8443");
    file.packet(0, T0, Some(1), &ethernet(&[], &stamped(seg(pod, server, SYN, 100, 0), 1, 0)));
    file.packet(1, T0 + 50, Some(2), &stamped(seg(wire, server, SYN, 100, 0), 1, 0));
    file.packet(1, T0 + MS, Some(1), &Seg { stamps: None, ..seg(server, wire, RST | ACK, 0, 101) }.ip());
    let all = attempts(vec![("x", None, file.bytes)]);
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].verdict.outcome, all[0].verdict.cause), (Outcome::Refused, Some(Cause::ConnectionRefused)));
    assert_eq!(all[0].sightings.len(), 2);
}

#[test]
fn what_was_not_seen_is_not_judged() {
    // It starts in the middle: an answer, data and ends of connections whose SYN is not there.
    let client = "10.0.0.1:5000";
    let all = attempts(vec![(
        "eth0",
        None,
        ether(&[
            (0, stamped(seg(SERVER, client, SYN_ACK, 7, 101), 9, 1)),
            (1, stamped(Seg { payload: 40, ..seg(client, SERVER, ACK, 101, 8) }, 9, 1)),
            (2, stamped(seg(SERVER, client, FIN, 8, 141), 9, 1)),
            (3, Seg { stamps: None, ..seg(SERVER, "10.0.0.1:5001", RST, 8, 0) }.ip()),
        ]),
    )]);
    assert!(all.is_empty(), "{all:#?}");
}

#[test]
fn an_attempt_is_pending_while_its_client_may_still_try() {
    let syns = |times: &[u64]| -> Vec<(u64, Vec<u8>)> {
        times.iter().map(|&at| (at, stamped(seg(WIRE, SERVER, SYN, 100, 0), 1 + at as u32, 0))).collect()
    };
    let other = |at| (at, stamped(seg("192.168.50.10:50000", "192.168.50.99:80", ACK, 1, 1), 1, 1));
    let outcome = |segments: Vec<(u64, Vec<u8>)>| {
        let all = attempts(vec![("eth0", None, ether(&segments))]);
        assert_eq!(all.len(), 1);
        (all[0].verdict.outcome, all[0].verdict.cause, all[0].failed())
    };
    assert_eq!(outcome(syns(&[0])), (Outcome::Pending, None, false));
    assert_eq!(outcome(syns(&[0, 1_000, 3_000])), (Outcome::Pending, None, false));
    let early = [syns(&[0, 1_000, 3_000]), vec![other(7_000)]].concat();
    assert_eq!(outcome(early), (Outcome::Pending, None, false));
    let later = [syns(&[0, 1_000, 3_000]), vec![other(9_000)]].concat();
    assert_eq!(outcome(later), (Outcome::Failed, Some(Cause::NoResponse), true));
}

#[test]
fn a_pod_whose_syn_never_leaves_needs_a_witness_and_files_that_cover_the_moment() {
    let pod = |at: u64| (at, stamped(seg("10.244.1.12:40000", SERVER, SYN, 100, 0), 1 + at as u32, 0));
    let fine = |isn: u32, at: u64, host: bool| {
        let up = stamped(seg("10.244.1.12:40001", SERVER, SYN, isn, 0), isn, 0);
        let down = stamped(seg(SERVER, "10.244.1.12:40001", SYN_ACK, 7, isn + 1), 9, isn);
        vec![(at, if host { forwarded(up) } else { up }), (at + 1, down)]
    };
    let quiet = |at| (at, stamped(seg("10.244.1.12:50000", "192.168.50.99:80", ACK, 1, 1), 1, 1));
    let veth = [vec![pod(0), pod(1_000), pod(3_000)], fine(500, 4_000, false), vec![quiet(60_000)]].concat();
    let with = |node: Vec<(u64, Vec<u8>)>| {
        let all = attempts(vec![("veth1", None, ether(&veth)), ("eth0", None, ether(&node))]);
        one(&all, "10.244.1.12:40000").verdict.cause
    };
    let early = vec![quiet(0)];
    assert_eq!(with([early.clone(), fine(500, 4_000, true), vec![quiet(59_000)]].concat()), Some(Cause::DroppedInNode));
    assert_eq!(with(early), None, "no witness");
    assert_eq!(with([fine(500, 4_000, true), vec![quiet(59_000)]].concat()), None, "capture began too late there");
}

#[test]
fn an_icmp_error_and_odd_files_are_survived() {
    let quote = stamped(seg(WIRE, SERVER, SYN, 100, 0), 1, 0);
    let error = [&[3, 1, 0, 0, 0, 0, 0, 0][..], &quote[..28]].concat();
    let error = craft::ipv4("192.168.50.1".parse().unwrap(), "192.168.50.10".parse().unwrap(), 1, &error);
    let all = attempts(vec![("eth0", None, ether(&[(0, quote), (1, error)]))]);
    assert_eq!(all.len(), 1);
    assert!(attempts(vec![("eth0", None, LITTLE.file(&[]))]).is_empty());
}
