//! Flows: right after their attempt, from time to time, at the end, and none where nobody told.

use std::time::Duration;

use super::world::{Conn, HOST_NETNS, NODE, POD_A, POD_B, World, end, tuple};
use crate::capture::flow::{FlowAnswer, FlowNumbers};
use crate::capture::observation::{Direction, Flags, KnownFlow, SocketNumbers, SocketStep, Step, TcpState, What};
use crate::capture::question::Question;
use crate::capture::tuple::Tuple;
use crate::track::Options;
use crate::track::attempt::{Attempt, Finding};
use crate::track::flow::{Flow, FlowSide, FlowTotals};
use crate::track::verdict::ClosedBy;

fn all(world: &mut World) -> Vec<Finding> {
    world.wait_ms(200);
    std::iter::from_fn(|| world.tracker.next_finding()).collect()
}

fn flows(world: &mut World) -> Vec<Flow> {
    let flow = |finding| match finding {
        Finding::Flow(flow) => Some(*flow),
        _ => None,
    };
    all(world).into_iter().filter_map(flow).collect()
}

fn attempt_and_flow(world: &mut World) -> (Attempt, Flow) {
    match <[Finding; 2]>::try_from(all(world)) {
        Ok([Finding::Attempt(attempt), Finding::Flow(flow)]) => (*attempt, *flow),
        other => panic!("{other:#?}"),
    }
}

fn counted(sent: u64, received: u64) -> SocketNumbers {
    SocketNumbers { bytes_acked: sent, bytes_received: received, segs_out: 9, segs_in: 7, ..Default::default() }
}

/// The client closes first. `fin` says whether the server's FIN came to its socket before that was gone, `seen` whether
/// the wire is watched.
fn close(world: &mut World, conn: &Conn, (sent, received): (u32, u32), fin: bool, seen: bool) {
    let (isn, theirs) = (conn.isn + 1 + sent, conn.server_isn + 1 + received);
    world.step(conn, Step::State { from: TcpState::Established, to: TcpState::FinWait1 }, SocketNumbers::default());
    if seen {
        world.send(conn, Flags::FIN | Flags::ACK, isn, theirs);
    }
    if seen && fin {
        world.answer(conn, Flags::FIN | Flags::ACK, theirs, isn + 1, None);
    }
    let numbers = SocketNumbers {
        snd_nxt: isn + 1,
        snd_una: isn + 1,
        rcv_nxt: theirs + u32::from(fin),
        srtt_us: 1_500,
        ..counted(u64::from(sent) + 2, u64::from(received) + u64::from(fin))
    };
    world.step(conn, Step::State { from: TcpState::FinWait2, to: TcpState::Close }, numbers);
    if seen && !fin {
        world.answer(conn, Flags::FIN | Flags::ACK, theirs, isn + 1, None);
    }
}

#[test]
fn a_short_one_is_told_right_after_its_attempt() {
    for fin in [true, false] {
        let mut world = World::new();
        let conn = world.conn(1, POD_A, 34_732, 46_994);
        world.open(&conn);
        close(&mut world, &conn, (100, 40), fin, true);
        let (attempt, flow) = attempt_and_flow(&mut world);
        assert_eq!((flow.serial, flow.trace, flow.side), (attempt.serial, Some(attempt.trace), FlowSide::Client));
        assert_eq!((flow.tuple, flow.wire, flow.socket), (conn.inner, Some(conn.wire), conn.inner));
        assert_eq!((flow.totals.sent_bytes, flow.totals.received_bytes), (100, 40), "FIN came: {fin}");
        assert_eq!((flow.totals.sent_segments, flow.totals.received_segments), (9, 7));
        assert_eq!((flow.delta, flow.sequence, flow.end), (flow.totals, 0, Some(ClosedBy::Client)));
        assert_eq!((flow.rtt, flow.netns), (Some(Duration::from_micros(1_500)), u64::from(POD_A)));
        assert!(flow.opened.is_some_and(|opened| opened < flow.at) && flow.process.is_some());
        assert!(!attempt.closed_without_data);
    }
}

#[test]
fn one_that_carried_nothing_says_so_on_its_attempt() {
    for (fin, seen) in [(true, true), (false, true), (true, false), (false, false)] {
        let mut world = World::new();
        let conn = world.conn(1, POD_A, 34_732, 46_994);
        world.open(&conn);
        close(&mut world, &conn, (0, 0), fin, seen);
        let (attempt, flow) = attempt_and_flow(&mut world);
        assert!(attempt.closed_without_data && flow.totals.is_empty(), "{fin} {seen} {flow:?}");
    }
    let mut world = World::new();
    let conn = world.conn(1, POD_A, 34_732, 46_994);
    world.open(&conn);
    assert!(!world.only().closed_without_data, "it is open");
}

#[test]
fn what_was_not_acknowledged_was_not_sent() {
    let mut world = World::new();
    let conn = world.conn(1, POD_A, 34_732, 46_994);
    world.open(&conn);
    // Data and FIN are on their way when the timers run out.
    let numbers = SocketNumbers { snd_una: conn.isn + 1 + 10, snd_nxt: conn.isn + 1 + 50 + 1, ..counted(11, 1) };
    world.step(&conn, Step::State { from: TcpState::LastAck, to: TcpState::Close }, numbers);
    let (_, flow) = attempt_and_flow(&mut world);
    assert_eq!((flow.totals.sent_bytes, flow.totals.received_bytes), (10, 0));
}

/// Lets time pass in steps of a second and answers questions about flows. With each record, how long it took.
fn play(world: &mut World, seconds: u64, mut numbers: impl FnMut(u64) -> FlowNumbers) -> Vec<(u64, Question, Flow)> {
    let mut told = Vec::new();
    for second in 0..seconds {
        world.wait_ms(1_000);
        while let Some(question) = world.tracker.next_question() {
            let Question::FlowNumbers { cookie, .. } = question else { continue };
            world.see(What::FlowNumbers(FlowAnswer { cookie, netns: 77, numbers: numbers(cookie) }));
            match world.tracker.next_finding() {
                Some(Finding::Flow(flow)) => told.push((second, question, *flow)),
                other => panic!("{other:?}"),
            }
        }
    }
    told
}

fn answer(acked: u64, segs_out: u32) -> FlowNumbers {
    FlowNumbers { segs_out, ..FlowNumbers::of_step(TcpState::Established, &counted(acked, 5)) }
}

#[test]
fn a_long_one_is_told_from_time_to_time() {
    let mut world = World::new();
    let conn = world.conn(1, POD_A, 34_732, 46_994);
    world.open(&conn);
    world.only();
    let mut looks = 0;
    let told = play(&mut world, 1_051, |_| {
        looks += 1;
        answer(1 + 1_000 * looks, (u32::MAX - 10).wrapping_add(7 * (looks as u32 - 1)))
    });
    assert_eq!(told.len(), 3, "{told:#?}");
    let times: Vec<u64> = told.iter().map(|(second, ..)| *second).collect();
    assert!((148..452).contains(&times[0]) && times[2] - times[1] == 300 || times[1] - times[0] == 300, "{times:?}");
    for (count, (_, question, flow)) in told.iter().enumerate() {
        let asked = Question::FlowNumbers { tuple: conn.inner, netns: u64::from(POD_A), cookie: 1 };
        assert_eq!(*question, asked);
        assert_eq!((flow.sequence as usize, flow.end, flow.netns), (count, None, 77));
        assert_eq!((flow.totals.sent_bytes, flow.delta.sent_bytes), (1_000 * (count as u64 + 1), 1_000));
    }
    assert_eq!(told[2].2.totals.sent_segments, u64::from(u32::MAX) + 4);
    let numbers = SocketNumbers { segs_out: 5, ..counted(4_001, 6) };
    world.step(&conn, Step::State { from: TcpState::CloseWait, to: TcpState::Close }, numbers);
    let last = flows(&mut world);
    assert_eq!(last.len(), 1);
    assert_eq!((last[0].sequence, last[0].totals.sent_bytes, last[0].delta.sent_bytes), (3, 4_000, 1_000));
    assert_eq!((last[0].totals.received_bytes, last[0].delta.received_bytes), (5, 0));
    assert_eq!((last[0].totals.sent_segments, last[0].delta.sent_segments), (u64::from(u32::MAX) + 6, 2));
    assert_eq!(world.tracker.flows.len(), 0);
    assert!(play(&mut world, 700, |_| answer(1, 1)).is_empty());
}

#[test]
fn zero_is_at_the_end_alone() {
    let options = Options { flow_interval: Duration::ZERO, ..Options::default() };
    let mut world = World::with(options);
    let conn = world.conn(1, POD_A, 34_732, 46_994);
    world.open(&conn);
    world.only();
    assert!(play(&mut world, 2_000, |_| answer(1, 1)).is_empty());
    close(&mut world, &conn, (1, 1), true, true);
    assert_eq!(flows(&mut world).len(), 1);
}

#[test]
fn questions_about_many_are_bounded_and_wait_for_the_others() {
    let mut world = World::with(Options { flow_interval: Duration::from_secs(60), ..Options::default() });
    for cookie in 1..=15_000 {
        let number = cookie as u32;
        let one = world.conn(1, POD_A, number as u16, number as u16);
        world.open(&Conn { cookie, isn: number * 10, server_isn: number, tsval: number, ..one });
    }
    world.findings();
    let mut asked = std::collections::HashMap::new();
    for _ in 0..300 {
        let mut now = 0;
        for _ in 0..100 {
            world.wait_ms(10);
            world.tracker.ask(Question::Conntrack);
            assert_eq!(world.tracker.next_question(), Some(Question::Conntrack));
            while let Some(Question::FlowNumbers { cookie, .. }) = world.tracker.next_question() {
                now += 1;
                *asked.entry(cookie).or_insert(0) += 1;
            }
        }
        assert!(now <= 201, "{now}");
    }
    // 200 a second for some 270 seconds: three times each.
    assert_eq!(asked.len(), 15_000);
    assert!(world.tracker.counts().questions_dropped > 0);
}

fn seed(conn: &Conn, numbers: Option<FlowNumbers>, server_socket: bool) -> What {
    What::Flow(KnownFlow {
        tuple: conn.inner,
        wire: Some(conn.wire),
        cookie: conn.cookie,
        server_socket,
        netns: 5,
        client_acked: None,
        client_next: None,
        server_next: None,
        numbers,
        over: false,
    })
}

#[test]
fn of_one_from_before_only_what_came_since_is_news() {
    let mut world = World::new();
    let known = world.conn(1, POD_A, 34_732, 46_994);
    let unknown = world.conn(2, POD_B, 34_733, 46_995);
    world.see(seed(&known, Some(answer(1_001, 4)), false));
    world.see(seed(&unknown, None, false));
    for conn in [&known, &unknown] {
        world.step(conn, Step::State { from: TcpState::Established, to: TcpState::Close }, counted(1_501, 7));
    }
    let told = flows(&mut world);
    assert_eq!(told.len(), 2);
    for flow in &told {
        assert_eq!((flow.serial, flow.trace, flow.opened, flow.sequence), (0, None, None, 0));
        assert_eq!((flow.totals.sent_bytes, flow.totals.received_bytes), (1_500, 7));
        assert_eq!(flow.end, Some(ClosedBy::Reset));
    }
    let delta = FlowTotals { sent_bytes: 500, received_bytes: 2, sent_segments: 5, ..FlowTotals::default() };
    assert_eq!((told[0].delta, told[1].delta), (delta, FlowTotals::default()));
}

#[test]
fn both_sockets_tell() {
    let mut world = World::new();
    let to = tuple("10.244.1.11:34732", "10.244.1.12:8080");
    let client = Conn { inner: to, wire: to, ..world.conn(1, POD_A, 34_732, 34_732) };
    world.connect(&client);
    world.syn(&client, 0, false);
    world.segment((POD_B, Direction::Egress), to, Flags::SYN, client.isn, 0, Some((client.tsval, 0)));
    world.established(&client);
    let server = |step, numbers| {
        What::Socket(SocketStep { cookie: 9, netns: u64::from(POD_B), tuple: to.reversed(), step, numbers })
    };
    world.see(server(Step::PassiveEstablished, SocketNumbers::default()));
    world.findings();
    let mut asked: Vec<Question> =
        play(&mut world, 451, |cookie| answer(cookie, 1)).into_iter().map(|(_, question, _)| question).collect();
    asked.dedup();
    asked.truncate(2);
    let question = |tuple, netns, cookie| Question::FlowNumbers { tuple, netns, cookie };
    assert_eq!(asked, [question(to, u64::from(POD_A), 1), question(to.reversed(), 0, 9)]);
    let closes = Step::State { from: TcpState::LastAck, to: TcpState::Close };
    world.see(server(closes, counted(41, 101)));
    world.step(&client, Step::State { from: TcpState::FinWait2, to: TcpState::Close }, counted(102, 41));
    let told = flows(&mut world);
    let of = |flow: &Flow| (flow.side, flow.socket, flow.netns, flow.process.is_some(), flow.totals.received_bytes);
    assert_eq!(of(&told[0]), (FlowSide::Server, to, u64::from(POD_B), false, 100));
    assert_eq!(of(&told[1]), (FlowSide::Client, to, u64::from(POD_A), true, 40));
    assert_eq!(told.len(), 2);
}

#[test]
fn it_waits_for_its_attempt_though_another_has_the_tuple() {
    let mut world = World::new();
    let to = tuple("192.168.50.20:46994", "192.168.50.10:8080");
    let server =
        |step, numbers| What::Socket(SocketStep { cookie: 9, netns: HOST_NETNS, tuple: to.reversed(), step, numbers });
    world.segment((NODE, Direction::Ingress), to, Flags::SYN, 1_000, 0, Some((1, 0)));
    world.segment((NODE, Direction::Egress), to.reversed(), Flags::SYN | Flags::ACK, 7_000, 1_001, Some((1, 1)));
    world.see(server(Step::PassiveEstablished, SocketNumbers::default()));
    world.segment((NODE, Direction::Ingress), to, Flags::SYN, 900_000, 0, Some((2, 0)));
    world.see(server(Step::State { from: TcpState::LastAck, to: TcpState::Close }, counted(1, 2)));
    let told = all(&mut world);
    let place = |is: fn(&Finding) -> bool| told.iter().position(is);
    let attempt = place(|f| matches!(f, Finding::Attempt(attempt) if attempt.serial == 1)).expect("the first attempt");
    let flow = place(|f| matches!(f, Finding::Flow(_))).expect("its flow");
    assert!(attempt < flow, "{told:#?}");
}

#[test]
fn an_accepted_socket_is_asked_for_by_its_own_tuple() {
    let mut world = World::new();
    // From outside to a node's port, which leads to a pod.
    let outside = tuple("198.51.100.7:40000", "192.168.50.10:30080");
    let inside = Tuple::new(outside.src, end("10.244.1.12:8080"));
    world.segment((NODE, Direction::Ingress), outside, Flags::SYN, 7_000, 0, Some((5, 0)));
    world.segment((POD_B, Direction::Egress), inside, Flags::SYN, 7_000, 0, Some((5, 0)));
    let step = Step::PassiveEstablished;
    let tuple = inside.reversed();
    let numbers = SocketNumbers { rcv_nxt: 7_001, ..Default::default() };
    world.see(What::Socket(SocketStep { cookie: 9, netns: 12, tuple, step, numbers }));
    world.findings();
    let told = play(&mut world, 451, |_| answer(10, 1));
    assert_eq!(told[0].1, Question::FlowNumbers { tuple, netns: 0, cookie: 9 });
    assert_eq!((told[0].2.socket, told[0].2.wire), (inside, Some(outside)));
    assert_eq!(told[0].2.totals.sent_bytes, 10, "a server sends no SYN that its own counters hold");
}

#[test]
fn the_agents_own_are_told_only_if_asked_for() {
    for report_own in [false, true] {
        let mut world = World::with(Options { quiet_pid: Some(4000 + POD_A), report_own, ..Options::default() });
        let conn = world.conn(1, POD_A, 34_732, 46_994);
        world.open(&conn);
        let asked = play(&mut world, 1, |_| answer(1, 1)).len();
        close(&mut world, &conn, (1, 1), true, true);
        let expected = if report_own { 2 } else { 0 };
        assert_eq!((asked, all(&mut world).len()), (0, expected));
    }
}

#[test]
fn loopback_is_told_only_if_asked_for() {
    for report_loopback in [false, true] {
        let mut world = World::with(Options { report_loopback, ..Options::default() });
        let to = tuple("127.0.0.1:34732", "127.0.0.1:8080");
        let conn = Conn { pod: NODE, inner: to, wire: to, ..world.conn(1, NODE, 34_732, 34_732) };
        world.connect(&conn);
        world.established(&conn);
        let accepted = SocketStep {
            cookie: 9,
            netns: HOST_NETNS,
            tuple: to.reversed(),
            step: Step::PassiveEstablished,
            numbers: SocketNumbers::default(),
        };
        world.see(What::Socket(accepted));
        for (cookie, tuple) in [(1, to), (9, to.reversed())] {
            let step = Step::State { from: TcpState::LastAck, to: TcpState::Close };
            world.see(What::Socket(SocketStep { cookie, tuple, step, numbers: counted(3, 3), ..accepted }));
        }
        assert_eq!(all(&mut world).len(), if report_loopback { 3 } else { 0 });
    }
}

#[test]
fn an_end_that_nobody_told_is_counted_and_not_made_up() {
    let mut world = World::with(Options { max_tenancies: 4, ..Options::default() });
    for cookie in 1..=10 {
        let conn = world.conn(cookie, POD_A, 1_000 + cookie as u16, 2_000 + cookie as u16);
        world.see(seed(&conn, Some(answer(1, 1)), cookie % 2 == 0));
    }
    assert!(flows(&mut world).is_empty());
    assert_eq!((world.tracker.counts().unended_flows, world.tracker.flows.len()), (6, 4));
    // The socket connects again, and nobody said that it had let go.
    let again = world.conn(10, POD_A, 1, 2);
    world.open(&again);
    assert_eq!(world.tracker.counts().unended_flows, 7);
    close(&mut world, &again, (1, 1), true, true);
    let told = flows(&mut world);
    assert_eq!((told.len(), told[0].sequence), (1, 0));
    assert_eq!(told[0].delta, told[0].totals);
}
