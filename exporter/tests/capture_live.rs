//! Live capture against the real kernel. Needs root, BPF, cgroup2, and `ip`, `tc`, `nsenter`, `bash`:
//! where one is missing these tests fail and say so. Each builds network namespaces and a cgroup of its
//! own, and takes them away again.
#![cfg(feature = "live")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that unwraps fails with the reason")]

mod live_faults;
#[allow(dead_code, reason = "it serves another test program too")]
mod live_support;

use std::collections::HashSet;
use std::time::Duration;

use live_support::{Foreign, Node, Seen, wait_for};
use synspan::capture::live::{AttachMode, Options, StartError};
use synspan::capture::observation::{Direction, PointKind, Segment, SocketStep, Step, TcpState, What};

/// A filter of somebody else, that matches nothing.
const FOREIGN_FILTER: &str = "tc filter add dev pod0 ingress pref 7 protocol all bpf bytecode '1,6 0 0 0' flowid 1:1";

fn segments(seen: &Seen) -> Vec<Segment> {
    seen.filter(|w| if let What::Segment(s) = w { Some(*s) } else { None })
}

fn steps(seen: &Seen) -> Vec<SocketStep> {
    seen.filter(|w| if let What::Socket(s) = w { Some(*s) } else { None })
}

#[test]
fn a_connection_is_seen_by_process_socket_and_interface() {
    let node = Node::new("all");
    let seen = Seen::default();
    let (capture, features) = node.start(node.options(), seen.clone()).unwrap();
    assert_ne!(features.attach, AttachMode::Auto);
    wait_for("both sides of the pod's interface", || capture.counters().attached_points == 2);
    node.connect(80);
    wait_for("the end of the client's socket", || {
        steps(&seen).iter().any(|s| matches!(s.step, Step::State { to: TcpState::Close, .. }))
    });
    capture.stop();

    let connects: Vec<SocketStep> = steps(&seen).into_iter().filter(|s| s.step == Step::Connect).collect();
    assert_eq!(connects.len(), 1, "{connects:?}");
    let connect = connects[0];
    assert_eq!(connect.tuple.dst.to_string(), "10.9.0.1:80");
    let process = seen.filter(|w| if let What::Process(p) = w { Some(p.clone()) } else { None });
    assert_eq!(process.len(), 1);
    assert_eq!((process[0].cookie, process[0].asked), (connect.cookie, connect.tuple.dst));
    assert!(process[0].process.comm.starts_with(b"bash\0"));

    let syns: Vec<Segment> = segments(&seen).into_iter().filter(|s| s.flags.syn() && !s.flags.ack()).collect();
    assert_eq!(syns.len(), 1, "{syns:?}");
    let syn = syns[0];
    assert_eq!(syn.seq, connect.numbers.snd_nxt, "the socket's number is the wire's");
    assert_eq!((syn.cookie, syn.tuple, syn.direction), (Some(connect.cookie), connect.tuple, Direction::Ingress));
    assert!(syn.timestamps.is_some() && syn.mss > 0 && syn.wscale.is_some() && syn.payload == 0);
    let answer = segments(&seen).into_iter().find(|s| s.flags.syn() && s.flags.ack()).unwrap();
    assert_eq!(
        (answer.ack, answer.tuple, answer.direction),
        (syn.seq.wrapping_add(1), syn.tuple.reversed(), Direction::Egress)
    );
    assert!(segments(&seen).iter().all(|s| s.flags.syn() || s.flags.fin() || s.flags.rst()), "no ordinary segment");

    let first = seen.position(|w| matches!(w, What::Segment(_))).unwrap();
    let interface = seen.position(|w| matches!(w, What::Interface(c) if c.ifindex == syn.ifindex)).unwrap();
    assert!(interface < first, "an interface is told before its segments");
    assert!(seen.ticks() > 10);
}

#[test]
fn a_refused_connection_gives_its_error() {
    let node = Node::new("err");
    let seen = Seen::default();
    let (capture, features) = node.start(node.options(), seen.clone()).unwrap();
    assert!(features.error_tracepoint.is_present(), "{}", features.error_tracepoint);
    node.connect(81);
    wait_for("ECONNREFUSED of our socket", || {
        let ours: HashSet<u64> = steps(&seen).iter().map(|s| s.cookie).collect();
        seen.position(|w| matches!(w, What::Error(e) if ours.contains(&e.cookie) && e.errno == 111)).is_some()
    });
    capture.stop();
}

#[test]
fn packets_of_every_build_are_read() {
    let node = Node::new("odd");
    let seen = Seen::default();
    let (capture, _) = node.start(node.options(), seen.clone()).unwrap();
    wait_for("both sides of the pod's interface", || capture.counters().attached_points == 2);
    node.tool("ip link set pod0 mtu 9000");
    node.send_odd_packets();
    let by_port = |port: u16| segments(&seen).into_iter().find(move |s| s.tuple.src.port == port);
    wait_for("the last packet", || by_port(1099).is_some());
    let counters = capture.counters();
    capture.stop();

    let options = by_port(1001).expect("IPv4 options, padded to the smallest frame");
    assert_eq!((options.payload, options.seq, options.tuple.dst.port), (0, 0x0102_0304, 80));
    let extensions = by_port(1002).expect("IPv6 with extension headers");
    assert_eq!((extensions.payload, extensions.tuple.src.to_string().as_str()), (3, "[fd00::2]:1002"));
    let tagged = by_port(1003).expect("a VLAN tag in the frame");
    assert_eq!(tagged.tuple.src.addr.to_string(), "10.9.0.2");
    let merged = by_port(1004).expect("headers outside the linear part, FIN on data");
    assert_eq!((merged.payload, merged.flags.fin(), merged.timestamps.map(|t| t.val)), (6000, true, Some(7)));
    assert!(by_port(1005).is_none(), "not the first fragment");
    assert_eq!(by_port(1006).expect("BIG TCP's zero length").payload, 100);
    let unusual = by_port(1007).expect("options in an unusual order");
    let timestamps = unusual.timestamps.unwrap();
    assert_eq!((timestamps.val, timestamps.ecr, unusual.mss, unusual.wscale), (7, 8, 1300, Some(9)));
    assert!(by_port(1008).expect("a RST").flags.rst());
    assert!(by_port(1009).is_none(), "an ordinary segment");
    assert_eq!(by_port(1010).expect("options beyond the packet's end").timestamps, None);
    assert_eq!(counters.unreadable, 1);
    assert!(by_port(1011).expect("a first fragment").flags.syn());
}

#[test]
fn what_the_ring_cannot_hold_is_counted_to_the_last() {
    let node = Node::new("loss");
    let seen = Seen::default();
    let (capture, _) = node.start(Options { ring_bytes: 4096, ..node.options() }, seen.clone()).unwrap();
    wait_for("the interface", || capture.counters().attached_points == 2);
    let held = seen.hold();
    for _ in 0..40 {
        node.connect(80);
    }
    wait_for("a loss", || capture.counters().lost > 0);
    drop(held);
    let counters = capture.counter_reader();
    capture.stop();
    let told: u64 = seen.filter(|w| if let What::Lost(l) = w { Some(l.count) } else { None }).iter().sum();
    assert_eq!(told, counters.read().lost);
}

#[test]
fn a_second_agent_is_refused_and_names_the_first() {
    let node = Node::new("two");
    let (capture, _) = node.start(node.options(), Seen::default()).unwrap();
    let error = node.start(node.options(), Seen::default()).unwrap_err();
    let StartError::Held { holder, .. } = &error else { panic!("{error}") };
    assert!(holder.as_ref().unwrap().contains(&format!("pid {}", std::process::id())), "{holder:?}");
    capture.stop();
    node.start(node.options(), Seen::default()).unwrap().0.stop();
}

#[test]
fn a_foreign_program_that_lets_pass_does_not_blind_us() {
    let node = Node::new("tcx");
    // Returns 0, TCX_PASS: nothing behind it runs.
    let _foreign = Foreign::tcx(&node, &[(0xb7, 0, 0), (0x95, 0, 0)]);
    let seen = Seen::default();
    let options = Options { attach: AttachMode::Tcx, ..node.options() };
    let (capture, _) = node.start(options, seen.clone()).unwrap();
    wait_for("both sides of the pod's interface", || capture.counters().attached_points == 2);
    node.connect(80);
    wait_for("the SYN", || segments(&seen).iter().any(|s| s.flags.syn() && !s.flags.ack()));
    capture.stop();
}

#[test]
fn callback_flags_that_another_overwrote_are_set_again() {
    let node = Node::new("ops");
    let seen = Seen::default();
    let (capture, _) = node.start(node.options(), seen.clone()).unwrap();
    // Attached after ours, so it runs after ours: bpf_sock_ops_cb_flags_set(ctx, 0); return 1.
    let _foreign = Foreign::sock_ops(&node, &[(0xb7, 2, 0), (0x85, 0, 59), (0xb7, 0, 1), (0x95, 0, 0)]);
    node.connect(80);
    wait_for("the flags", || capture.counters().flags_reasserted > 0);
    wait_for("the connect", || steps(&seen).iter().any(|s| s.step == Step::Connect));
    capture.stop();
}

#[test]
fn interfaces_come_and_go() {
    let node = Node::new("late");
    let seen = Seen::default();
    let (capture, _) = node.start(node.options(), seen.clone()).unwrap();
    wait_for("the first interface", || capture.counters().attached_points == 2);
    node.add_pod("late0");
    wait_for("the new interface", || capture.counters().attached_points == 4);
    let index = seen
        .filter(|w| match w {
            What::Interface(c) => c.now.as_ref().filter(|i| &*i.name == "late0").map(|i| (c.ifindex, i.kind)),
            _ => None,
        })
        .pop()
        .unwrap();
    assert_eq!(index.1, PointKind::PodNic);
    node.remove("late0");
    wait_for("its end", || {
        seen.position(|w| matches!(w, What::Interface(c) if c.ifindex == index.0 && c.now.is_none())).is_some()
    });
    assert_eq!(capture.counters().attached_points, 2);
    // Gone before its turn comes.
    for round in 0..5 {
        node.add_pod(&format!("brief{round}"));
        node.remove(&format!("brief{round}"));
    }
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(capture.counters().attached_points, 2);
    capture.stop();
    assert!(!node.tool("bpftool net show").contains("synspan_"));
}

#[test]
fn clsact_takes_the_first_free_place_and_leaves_others_alone() {
    let node = Node::new("cls");
    node.tool("tc qdisc add dev pod0 clsact");
    node.tool(FOREIGN_FILTER);
    let seen = Seen::default();
    let options = Options { attach: AttachMode::Clsact, ..node.options() };
    let (capture, features) = node.start(options, seen.clone()).unwrap();
    assert_eq!(features.attach, AttachMode::Clsact);
    wait_for("both sides of the pod's interface", || capture.counters().attached_points == 2);
    let filters = node.tool("tc filter show dev pod0 ingress");
    assert!(filters.contains("pref 1 ") && filters.contains("synspan_ingress"), "{filters}");
    node.connect(80);
    wait_for("the SYN", || segments(&seen).iter().any(|s| s.flags.syn() && !s.flags.ack()));
    // One that runs is not taken for a leftover.
    assert_eq!(node.clean(), [] as [String; 0]);
    capture.stop();
    let filters = node.tool("tc filter show dev pod0 ingress");
    assert!(!filters.contains("synspan_") && filters.contains("pref 7 "), "{filters}");
    assert!(node.tool("tc qdisc show dev pod0").contains("clsact"), "the qdisc stays");
}

#[test]
fn what_a_killed_agent_left_is_taken_away() {
    let node = Node::new("kill");
    let mut agent = node.agent_of_another_process("agent_that_is_killed");
    wait_for("its filters", || node.tool("tc filter show dev pod0 egress").contains("synspan_egress"));
    node.tool(FOREIGN_FILTER);
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert!(node.tool("tc filter show dev pod0 ingress").contains("synspan_ingress"), "it outlives the agent");
    let removed = node.clean();
    assert_eq!(removed.len(), 2, "{removed:?}");
    assert!(removed.iter().all(|line| line.contains("synspan_") && line.contains("on pod0")));
    let filters = node.tool("tc filter show dev pod0 ingress");
    assert!(!filters.contains("synspan_") && filters.contains("pref 7 "), "{filters}");
    assert_eq!(node.clean(), [] as [String; 0]);
}

/// `synspan clean` with the capabilities of a container that may not look programs up by their ids.
fn clean_in_a_container(node: &Node, arguments: &str) -> String {
    let cgroup = node.cgroup.display();
    let config = std::env::temp_dir().join(format!("{}.yaml", node.name()));
    std::fs::write(&config, format!("capture: {{cgroup: {cgroup}}}\n")).unwrap();
    let said = node.tool(&format!(
        "setpriv --bounding-set=-all,+bpf,+net_admin,+sys_ptrace --inh-caps=-all --ambient-caps=-all --no-new-privs \
         {} clean --config {} {arguments}",
        env!("CARGO_BIN_EXE_synspan"),
        config.display()
    ));
    std::fs::remove_file(&config).unwrap();
    said
}

#[test]
fn what_a_killed_agent_left_is_taken_away_without_looking_programs_up() {
    let node = Node::new("kill2");
    let mut agent = node.agent_of_another_process("agent_that_is_killed");
    wait_for("its filters", || node.tool("tc filter show dev pod0 egress").contains("synspan_egress"));
    node.tool(FOREIGN_FILTER);
    let said = clean_in_a_container(&node, "");
    assert_eq!(said.matches("left alone: filter synspan_").count(), 2, "{said}");
    assert!(said.contains(&format!("on pod0 ingress, preference 1: process {} uses it", agent_of(&node))), "{said}");
    agent.kill().unwrap();
    agent.wait().unwrap();
    let said = clean_in_a_container(&node, "");
    assert_eq!(said.matches("removed filter synspan_").count(), 2, "{said}");
    let filters = node.tool("tc filter show dev pod0 ingress");
    assert!(!filters.contains("synspan_") && filters.contains("pref 7 "), "{filters}");
}

/// The process that holds the lock on the node's cgroup.
fn agent_of(node: &Node) -> u32 {
    let cgroup = synspan::capture::probe::cgroup::lock_of(&node.cgroup).unwrap();
    let synspan::capture::probe::cgroup::Lock::Held { pid: Some(pid), .. } = cgroup else { panic!("{cgroup:?}") };
    pid
}

#[test]
fn the_filters_of_an_agent_that_runs_are_taken_away_before_its_end() {
    let node = Node::new("pre");
    node.tool("tc qdisc add dev pod0 clsact");
    node.tool(FOREIGN_FILTER);
    let seen = Seen::default();
    let options = Options { attach: AttachMode::Clsact, ..node.options() };
    let (capture, _) = node.start(options, seen.clone()).unwrap();
    wait_for("both sides of the pod's interface", || capture.counters().attached_points == 2);
    let said = clean_in_a_container(&node, "");
    assert!(said.contains("nothing of a killed agent is left here"), "{said}");
    assert_eq!(clean_in_a_container(&node, "--running --dry-run").matches("would remove filter synspan_").count(), 2);
    // What another of the same kind took away changes nothing, and is not taken for ours.
    node.tool("tc filter del dev pod0 ingress pref 7");
    node.tool(FOREIGN_FILTER);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!((capture.counters().attached_points, capture.counters().blind_points), (2, 0));

    let said = clean_in_a_container(&node, "--running");
    assert_eq!(said.matches("removed filter synspan_").count(), 2, "{said}");
    let ours = |direction: &str| node.tool(&format!("tc filter show dev pod0 {direction}")).contains("synspan_");
    assert!(!ours("ingress") && !ours("egress"));
    // The agent knows that it sees nothing there any more, and rests no verdict on that.
    wait_for("the agent's notice", || capture.counters().blind_points == 2);
    wait_for("the word that segments went unseen", || {
        seen.position(|what| matches!(what, What::Lost(lost) if lost.count == 0 && !lost.inbound)).is_some()
    });
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(capture.counters().attached_points, 0, "it does not attach again");
    assert!(!ours("ingress") && !ours("egress"));
    let said = clean_in_a_container(&node, "--running");
    assert!(said.contains("no filter of an agent is here"), "{said}");
    capture.stop();
    assert!(node.tool("tc filter show dev pod0 ingress").contains("pref 7 "), "the foreign filter stays");
    assert!(node.tool("tc qdisc show dev pod0").contains("clsact"), "the qdisc stays");
}

#[test]
fn a_queueing_discipline_that_goes_takes_our_filters_along_and_is_noticed() {
    let node = Node::new("qd");
    let options = Options { attach: AttachMode::Clsact, ..node.options() };
    let (capture, _) = node.start(options, Seen::default()).unwrap();
    wait_for("both sides of the pod's interface", || capture.counters().attached_points == 2);
    node.tool("tc qdisc del dev pod0 clsact");
    wait_for("the agent's notice", || capture.counters().blind_points == 2);
    // An interface that goes as a whole is no such thing.
    node.add_pod("brief");
    wait_for("the new pod's interface", || capture.counters().attached_points == 2);
    node.remove("brief");
    wait_for("its end", || capture.counters().attached_points == 0);
    assert_eq!(capture.counters().blind_points, 2);
    capture.stop();
}

/// Not a test by itself: the process that `what_a_killed_agent_left_is_taken_away` kills.
#[test]
#[ignore = "started by another test"]
fn agent_that_is_killed() {
    let Some(cgroup) = std::env::var_os("SYNSPAN_TEST_CGROUP") else { return };
    let options = Options { attach: AttachMode::Clsact, cgroup: Some(cgroup.into()), ..Options::default() };
    let _running = synspan::capture::live::Capture::start(options, Seen::default()).unwrap();
    std::thread::sleep(Duration::from_secs(30));
}
