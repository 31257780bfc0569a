//! What goes wrong, as capture sees it: drops, ICMP errors, failed calls, floods.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::live_support::{Node, Seen, wait_for};
use crate::{segments, steps};
use synspan::capture::live::Options;
use synspan::capture::observation::{CallFailed, Direction, Dropped, IcmpError, InboundCount, Segment, Step, What};
use synspan::capture::question::Question;

/// Held by tests that keep a CPU busy, so that they do not make each other's agent lose records.
static BUSY: Mutex<()> = Mutex::new(());

const PODS_INTERFACE: &str = "both sides of the pod's interface";

fn drops(seen: &Seen) -> Vec<Dropped> {
    seen.filter(|w| if let What::Dropped(d) = w { Some(d.clone()) } else { None })
}

fn errors(seen: &Seen) -> Vec<IcmpError> {
    seen.filter(|w| if let What::Icmp(e) = w { Some(*e) } else { None })
}

fn failed_calls(seen: &Seen) -> Vec<CallFailed> {
    seen.filter(|w| if let What::CallFailed(c) = w { Some(*c) } else { None })
}

fn syns(seen: &Seen) -> Vec<Segment> {
    segments(seen).into_iter().filter(|s| s.flags.syn() && !s.flags.ack()).collect()
}

/// A connect that gives up soon.
fn impatient(address: &str, port: u16) -> String {
    format!(
        "import socket\ntry:\n  socket.create_connection(('{address}', {port}), 0.4)\n  raise SystemExit('connected')\nexcept OSError: pass"
    )
}

#[test]
fn a_dropped_syn_is_told_with_reason_place_and_namespace() {
    let node = Node::new("drop");
    node.add_ipv6();
    let seen = Seen::default();
    let (capture, features) = node.start(node.options(), seen.clone()).unwrap();
    assert!(features.drops.is_present() && features.drop_reasons.is_present(), "{features:?}");
    wait_for(PODS_INTERFACE, || capture.counters().attached_points == 2);
    node.nft("add rule inet test input tcp dport 81 drop");
    node.pod_python(&impatient("10.9.0.1", 81));
    node.pod_python(&impatient("fd09::1", 81));
    wait_for("two drops", || drops(&seen).len() >= 2);
    // Nothing is told of what is no attempt's.
    node.nft("add rule inet test input udp dport 81 drop");
    node.pod_python(
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.sendto(b'x' * 60, ('10.9.0.1', 81))",
    );
    node.connect(80);
    capture.stop();

    let connects = steps(&seen).into_iter().filter(|s| s.step == Step::Connect && s.tuple.dst.port == 81);
    let isns: HashSet<u32> = connects.map(|s| s.numbers.snd_nxt).collect();
    let syns = syns(&seen);
    let netns = node.netns_cookie();
    for address in ["10.9.0.1:81", "[fd09::1]:81"] {
        let found: Vec<Dropped> = drops(&seen).into_iter().filter(|d| d.tuple.dst.to_string() == address).collect();
        let dropped = found.first().unwrap_or_else(|| panic!("no drop of {address}"));
        let syn = syns.iter().find(|s| s.tuple == dropped.tuple).expect("the SYN at the interface");
        assert_eq!(dropped.reason.as_deref(), Some("NETFILTER_DROP"));
        assert!(dropped.place.as_deref().is_some_and(|p| p.starts_with("nf")), "{:?}", dropped.place);
        assert_eq!((dropped.seq, dropped.ifindex, dropped.netns), (syn.seq, syn.ifindex, netns));
        assert!(dropped.flags.syn() && !dropped.flags.ack());
    }
    assert!(drops(&seen).iter().all(|d| isns.contains(&d.seq)), "{:?}", drops(&seen));
}

#[test]
fn a_syn_that_is_dropped_before_any_interface_is_told() {
    let node = Node::new("out");
    let seen = Seen::default();
    let (capture, _) = node.start(node.options(), seen.clone()).unwrap();
    node.pod_nft("add rule inet test output tcp dport 81 drop");
    node.pod_python(&impatient("10.9.0.1", 81));
    wait_for("the drop", || !drops(&seen).is_empty());
    capture.stop();
    let dropped = drops(&seen).remove(0);
    let connect = steps(&seen).into_iter().find(|s| s.step == Step::Connect).unwrap();
    assert_eq!((dropped.tuple, dropped.seq), (connect.tuple, connect.numbers.snd_nxt));
    assert_eq!(dropped.netns, connect.netns, "the pod's namespace");
    assert_eq!(dropped.reason.as_deref(), Some("NETFILTER_DROP"));
}

#[test]
fn an_icmp_error_that_answers_a_syn_is_told() {
    let node = Node::new("icmp");
    node.add_ipv6();
    let seen = Seen::default();
    let (capture, _) = node.start(node.options(), seen.clone()).unwrap();
    wait_for(PODS_INTERFACE, || capture.counters().attached_points == 2);
    node.nft("add rule inet test input tcp dport 82 reject with icmpx type admin-prohibited");
    node.nft("add rule inet test input udp dport 82 reject with icmpx type admin-prohibited");
    node.pod_python(
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.sendto(b'x' * 60, ('10.9.0.1', 82))",
    );
    node.pod_python(&impatient("10.9.0.1", 82));
    node.pod_python(&impatient("fd09::1", 82));
    wait_for("two errors", || errors(&seen).len() >= 2);
    capture.stop();
    for (address, from, kind, code) in [("10.9.0.1:82", "10.9.0.1", 3, 13), ("[fd09::1]:82", "fd09::1", 1, 1)] {
        let error = errors(&seen).into_iter().find(|e| e.tuple.dst.to_string() == address).unwrap();
        let syn = syns(&seen).into_iter().find(|s| s.tuple == error.tuple).unwrap();
        assert_eq!((error.seq, error.ifindex, error.direction), (syn.seq, syn.ifindex, Direction::Egress));
        assert_eq!((error.from.to_string().as_str(), error.kind, error.code), (from, kind, code));
    }
}

#[test]
fn what_connect_returns_is_told_only_after_it_was_asked_for() {
    let node = Node::new("call");
    let seen = Seen::default();
    let (capture, features) = node.start(node.options(), seen.clone()).unwrap();
    assert!(features.call_results.is_present(), "{}", features.call_results);
    assert!(!watched(), "attached before anybody asked");
    // The second of two on one port to one destination: EADDRNOTAVAIL, with no SYN.
    let conflict = "import socket, os, errno
def one():
  s = socket.socket()
  s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
  s.bind(('10.9.0.2', 5000))
  return s
a, b = one(), one()
a.connect(('10.9.0.1', 80))
assert b.connect_ex(('10.9.0.1', 80)) == errno.EADDRNOTAVAIL
c = socket.socket()
c.setblocking(False)
assert c.connect_ex(('10.9.0.1', 80)) == errno.EINPROGRESS
a.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))";
    node.pod_python(conflict);
    seen.ask(Question::WatchCalls);
    wait_for("the tracepoint", watched);
    node.pod_python(conflict);
    wait_for("the failed call", || !failed_calls(&seen).is_empty());
    node.pod_python_elsewhere(conflict);
    capture.stop();
    assert!(!watched(), "left attached");
    let calls = failed_calls(&seen);
    assert_eq!(calls.len(), 1, "neither EINPROGRESS, nor what another cgroup called: {calls:?}");
    assert_eq!(calls[0].errno, libc::EADDRNOTAVAIL);
    let processes = seen.filter(|w| if let What::Process(p) = w { Some(p.clone()) } else { None });
    let last = processes.iter().filter(|p| p.process.tid == calls[0].tid && p.bound_port == 5000).count();
    assert_eq!(last, 2, "both calls of that thread: {processes:?}");
}

/// Whether the tracepoint of connect()'s end has our program.
fn watched() -> bool {
    let output = std::process::Command::new("bpftool").args(["perf", "show"]).output().unwrap();
    let pid = format!("pid {} ", std::process::id());
    String::from_utf8_lossy(&output.stdout).lines().any(|l| l.starts_with(&pid) && l.contains("sys_exit_connect"))
}

#[test]
fn a_syn_ack_that_comes_again_shows_the_clients_answer() {
    let node = Node::new("again");
    let seen = Seen::default();
    let (capture, _) = node.start(node.options(), seen.clone()).unwrap();
    wait_for(PODS_INTERFACE, || capture.counters().attached_points == 2);
    // Healthy first: no ordinary segment is told.
    node.connect(80);
    wait_for("the end", || segments(&seen).iter().any(|s| s.flags.fin()));
    let bare =
        || segments(&seen).into_iter().filter(|s| s.flags.ack() && !s.flags.syn() && !s.flags.fin() && !s.flags.rst());
    assert_eq!(bare().count(), 0);
    // The server does not get the client's third segment.
    node.nft("add rule inet test input tcp dport 80 tcp flags & (syn | ack | fin) == ack drop");
    node.pod_python("import socket, time\ns = socket.create_connection(('10.9.0.1', 80), 2)\ntime.sleep(1.6)");
    wait_for("its answer to the second SYN-ACK", || bare().count() > 0);
    capture.stop();
    let answer = bare().next().unwrap();
    let syn = syns(&seen).pop().unwrap();
    assert_eq!((answer.tuple, answer.seq), (syn.tuple, syn.seq.wrapping_add(1)));
    let repeated = segments(&seen)
        .into_iter()
        .filter(|s| s.flags.syn() && s.flags.ack() && s.tuple == syn.tuple.reversed())
        .count();
    assert!(repeated >= 2, "the SYN-ACK was sent {repeated} times");
    assert!(bare().count() < repeated, "one for each that was sent again");
    let dropped = drops(&seen);
    assert!(dropped.iter().any(|d| d.tuple == syn.tuple && !d.flags.syn() && d.seq == answer.seq), "{dropped:?}");
}

#[test]
fn a_flood_from_outside_is_summed_and_takes_nothing_from_the_nodes_own() {
    const SENT: u64 = 200_000;
    const OWN: usize = 100;
    let _alone = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
    let node = Node::new("flood");
    let seen = Seen::default();
    // A default route makes the interface one that leads out.
    node.tool("ip route add default via 10.9.0.2 dev pod0 onlink");
    let _server = node.pod_server(8080);
    let (capture, _) = node.start(node.options(), seen.clone()).unwrap();
    wait_for("the interface", || capture.counters().attached_points == 2);
    let mut flood = node.flood(80, SENT);
    let mut own = 0;
    while flood.try_wait().unwrap().is_none() || own < OWN {
        node.node_python("import socket\nsocket.create_connection(('10.9.0.2', 8080), 5).close()");
        own += 1;
    }
    assert!(flood.wait().unwrap().success());
    let counters = capture.counters();
    capture.stop();

    let own_syns: Vec<Segment> = syns(&seen).into_iter().filter(|s| s.tuple.dst.port == 8080).collect();
    let connects = steps(&seen).into_iter().filter(|s| s.step == Step::Connect).count();
    let answers =
        segments(&seen).into_iter().filter(|s| s.flags.syn() && s.flags.ack() && s.tuple.src.port == 8080).count();
    println!("{counters:?}; own {own}, connects {connects}, SYNs {}, answers {answers}", own_syns.len());
    assert_eq!((connects, own_syns.len(), answers), (own, own, own), "every attempt of the node's own is whole");
    assert!(own_syns.iter().all(|s| s.cookie.is_some()));
    assert_eq!((counters.lost, counters.pending_overwritten), (0, 0));

    let told = syns(&seen).into_iter().filter(|s| s.tuple.dst.port == 80).count() as u64;
    let sums = seen.filter(|w| if let What::Inbound(c) = w { Some(*c) } else { None });
    let summed: u64 = sums.iter().map(|c: &InboundCount| c.syns).sum();
    println!("of {SENT}: told {told}, summed {summed} in {} observations", sums.len());
    assert!(sums.iter().all(|c| c.listener.to_string() == "10.9.0.1:80"), "{sums:?}");
    assert!(summed > 0 && sums.len() < 60);
    assert_eq!(summed, counters.summed);
    // Also SYN-ACKs may be among the lost, but no SYN is lost that is not counted.
    assert!(
        told + summed <= SENT && told + summed + counters.lost_inbound >= SENT,
        "each is told, summed or lost, once"
    );
    let lost: Vec<(u64, bool)> = seen.filter(|w| if let What::Lost(l) = w { Some((l.count, l.inbound)) } else { None });
    assert!(lost.iter().all(|(_, inbound)| *inbound), "{lost:?}");
}

#[test]
fn a_busy_server_gets_back_what_its_connections_took() {
    let _alone = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
    let node = Node::new("busy");
    let seen = Seen::default();
    node.tool("ip route add default via 10.9.0.2 dev pod0 onlink");
    let (capture, _) = node.start(Options { ring_bytes: 64 << 20, ..node.options() }, seen.clone()).unwrap();
    wait_for("the interface", || capture.counters().attached_points == 2);
    let _server = node.node_server(8080);
    // More than the budgets of two CPUs; the clients are nobody's on this node.
    node.pod_python_elsewhere(
        "import socket, struct\nfor i in range(20000):\n  s = socket.socket()\n  s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))\n  s.connect(('10.9.0.1', 8080))\n  s.close()",
    );
    let counters = capture.counters();
    capture.stop();
    assert_eq!((counters.summed, counters.lost_inbound, counters.lost), (0, 0, 0));
    // Where the server was slow to accept a SYN came again.
    let attempts: HashSet<_> = syns(&seen).iter().map(|s| (s.tuple, s.seq)).collect();
    assert_eq!(attempts.len(), 20_000);
    assert!(syns(&seen).iter().all(|s| s.cookie.is_none()), "told as from outside");
}
