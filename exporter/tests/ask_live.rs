//! What is asked of the real kernel, and its answers. Needs root, BPF, cgroup2, and `ip`, `nft`, `iptables`,
//! `nsenter`, `python3`: where one is missing these tests fail and say so. Each builds network namespaces and a cgroup
//! of its own, and takes them away again.
#![cfg(feature = "live")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that unwraps fails with the reason")]

#[allow(dead_code, reason = "it serves another test program too")]
mod live_support;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use live_support::{Node, Seen, run, wait_for, within};
use synspan::capture::live::{Capture, Features, Sink};
use synspan::capture::netlink::{Protocol, Socket, conntrack, put, put_nested, sock_diag};
use synspan::capture::observation::{ConntrackState, KnownFlow, ListenerState, Mono, NatAnswer, Observation};
use synspan::capture::observation::{SnatPorts, What};
use synspan::capture::question::Question;
use synspan::capture::tuple::{Endpoint, Tuple};

/// Takes observations, and asks what it is told to.
#[derive(Clone, Default)]
struct Asking {
    seen: Seen,
    questions: Arc<Mutex<VecDeque<Question>>>,
}

impl Sink for Asking {
    fn observations(&mut self, batch: &[Observation]) {
        self.seen.observations(batch);
    }

    fn tick(&mut self, now: Mono) {
        self.seen.tick(now);
    }

    fn question(&mut self) -> Option<Question> {
        self.questions.lock().unwrap().pop_front()
    }
}

impl Asking {
    fn all<T>(&self, take: impl Fn(&What) -> Option<T>) -> Vec<T> {
        self.seen.filter(take)
    }

    /// Asks, and waits for one more answer that fits.
    fn ask<T>(&self, question: Question, take: impl Fn(&What) -> Option<T>) -> T {
        let before = self.all(&take).len();
        self.questions.lock().unwrap().push_back(question);
        wait_for(&format!("an answer to {question:?}"), || self.all(&take).len() > before);
        self.all(take).pop().unwrap()
    }
}

fn nat(what: &What) -> Option<NatAnswer> {
    if let What::Nat(answer) = what { Some(*answer) } else { None }
}

fn state(what: &What) -> Option<ConntrackState> {
    if let What::Conntrack(state) = what { Some(*state) } else { None }
}

fn ports(what: &What) -> Option<SnatPorts> {
    if let What::SnatPorts(ports) = what { Some(*ports) } else { None }
}

fn listener(what: &What) -> Option<ListenerState> {
    if let What::Listener(state) = what { Some(*state) } else { None }
}

fn flow(what: &What) -> Option<KnownFlow> {
    if let What::Flow(flow) = what { Some(*flow) } else { None }
}

/// A node whose pod reaches a server outside through masquerade to the ports 20000 to 20009.
struct Net {
    node: Node,
    outside: String,
}

const SERVERS: [&str; 2] = ["10.8.0.2:8443", "[fd08::2]:8443"];

impl Net {
    fn new(name: &str) -> Self {
        let node = Node::new(name);
        let (n, o) = (node.name().to_owned(), format!("{}o", node.name()));
        run(&format!(
            "ip netns add {o} && ip -n {n} link add out0 type veth peer name out0 netns {o} && \
             ip -n {n} link set out0 up && ip -n {o} link set out0 up && ip -n {o} link set lo up && \
             ip -n {n} addr add 10.8.0.1/24 dev out0 && ip -n {o} addr add 10.8.0.2/24 dev out0 && \
             ip -n {n} addr add fd08::1/64 dev out0 nodad && ip -n {o} addr add fd08::2/64 dev out0 nodad && \
             ip -n {n} addr add fd09::1/64 dev pod0 nodad && ip -n {n}p addr add fd09::2/64 dev pod0p nodad && \
             ip -n {n}p link set lo up && ip -n {n}p route add default via 10.9.0.1 && \
             ip -n {n}p route add default via fd09::1 && ip -n {n} route add default via 10.8.0.2 && \
             nsenter --net=/run/netns/{n} sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1"
        ));
        let net = Self { node, outside: o };
        net.rules("oifname out0 meta l4proto tcp masquerade to :20000-20009");
        net
    }

    fn rules(&self, masquerade: &str) {
        self.node.tool(&format!(
            "nft 'table inet n; delete table inet n; table inet n {{ chain post {{ \
             type nat hook postrouting priority 100; {masquerade}; }}; chain pre {{ \
             type filter hook prerouting priority -300; }}; }}'"
        ));
    }

    fn listen(&self, at: &str) -> TcpListener {
        within(&self.outside, || TcpListener::bind(at).unwrap())
    }

    /// Connects from the pod.
    fn connect(&self, to: &str) -> std::io::Result<TcpStream> {
        let to: SocketAddr = to.parse().unwrap();
        within(&format!("{}p", self.node.name()), || TcpStream::connect_timeout(&to, Duration::from_millis(500)))
    }

    fn start(&self) -> (Capture, Features, Asking) {
        let asking = Asking::default();
        let with = asking.clone();
        let (capture, features) = self.node.within(|| Capture::start(self.node.options(), with)).unwrap();
        (capture, features, asking)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.outside]).status();
    }
}

fn tuple(stream: &TcpStream) -> Tuple {
    Tuple::new(stream.local_addr().unwrap().into(), stream.peer_addr().unwrap().into())
}

fn end(text: &str) -> Endpoint {
    text.parse::<SocketAddr>().unwrap().into()
}

#[test]
fn translation_is_looked_up() {
    let net = Net::new("nat");
    let servers = SERVERS.map(|at| net.listen(at));
    let (capture, features, asking) = net.start();
    assert!(features.can.conntrack.is_present(), "{}", features.can.conntrack);
    for at in SERVERS {
        let stream = net.connect(at).unwrap();
        let own = tuple(&stream);
        let answer = asking.ask(Question::Nat(own), nat);
        let entry = answer.entry.expect("an entry");
        assert_eq!((answer.asked, entry.original, entry.zone), (own, own, 0));
        let translated = entry.translated();
        assert_eq!(translated.dst, own.dst);
        assert!((20_000..=20_009).contains(&translated.src.port), "{translated}");
        assert!(["10.8.0.1", "fd08::1"].contains(&translated.src.addr.to_string().as_str()), "{translated}");
        let mut other = own;
        other.src.port ^= 1;
        assert_eq!(asking.ask(Question::Nat(other), nat), NatAnswer { asked: other, entry: None });
        // The other way round it is no connection's own tuple.
        assert_eq!(asking.ask(Question::Nat(translated), nat).entry, None);
    }
    // In a zone that was not seen before, which the first look into it finds.
    net.node.tool("nft 'add rule inet n pre ct zone set 7'");
    net.node.tool(
        "nft 'add chain inet n out { type filter hook output priority -300; }; add rule inet n out ct zone set 7'",
    );
    std::thread::sleep(Duration::from_millis(300));
    let stream = net.connect(SERVERS[0]).unwrap();
    wait_for("an entry in zone 7", || {
        asking.ask(Question::Nat(tuple(&stream)), nat).entry.is_some_and(|entry| entry.zone == 7)
    });
    drop(servers);
    capture.stop();
}

#[test]
fn ports_in_use_are_counted_and_a_full_range_moves_the_statistics() {
    let net = Net::new("snat");
    let server = net.listen(SERVERS[0]);
    let (capture, _, asking) = net.start();
    wait_for("the state at the start", || !asking.all(state).is_empty());
    let first = asking.all(state)[0];
    assert!(first.limit > 0, "{first:?}");
    let question = Question::SnatPorts { from: end("10.9.0.2:0").addr, destination: end(SERVERS[0]) };
    let mut streams: Vec<TcpStream> = (0..4).map(|_| net.connect(SERVERS[0]).unwrap()).collect();
    let four = asking.ask(question, ports);
    assert_eq!((four.used, four.range, four.destination), (4, Some((20_000, 20_009)), end(SERVERS[0])));
    assert_eq!(four.egress.to_string(), "10.8.0.1");
    // Closed by both ends, and still remembered.
    drop(server.accept().unwrap());
    let mut rest = Vec::new();
    streams[0].read_to_end(&mut rest).unwrap();
    drop(streams.remove(0));
    assert_eq!(asking.ask(question, ports).used, 4);
    // Newer kernels give the remembered one's port away, if the new sequence number is beyond the old.
    streams.extend((0..8).filter_map(|_| net.connect(SERVERS[0]).ok()));
    assert!((9..=10).contains(&streams.len()), "{}", streams.len());
    assert_eq!(asking.ask(question, ports).used, 10);
    wait_for("the statistics to move by themselves", || {
        asking.all(state).iter().any(|s| s.insert_failed > first.insert_failed && s.dropped > first.dropped)
    });
    let last = asking.ask(Question::Conntrack, state);
    assert!(last.entries >= 10, "{last:?}");
    // Without a port in the rule it is all that clients may have; with two rules it cannot be told.
    net.rules("oifname out0 masquerade");
    assert_eq!(asking.ask(question, ports).range, Some((1024, 65535)));
    net.node.tool("nft 'add rule inet n post meta l4proto tcp snat ip to 10.8.0.1:3000-4000'");
    assert_eq!(asking.ask(question, ports).range, None);
    net.node.tool("nft 'flush chain inet n post; add rule inet n post meta l4proto tcp snat ip to 10.8.0.9:3000-4000; add rule inet n post masquerade'");
    assert_eq!(asking.ask(question, ports).range, Some((1024, 65535)), "a rule for another address");
    // Rules by iptables, of the newer kind, and of the older, which cannot be read.
    net.node.tool("nft delete table inet n");
    net.node.tool("iptables-nft -t nat -A POSTROUTING -p tcp -j MASQUERADE --to-ports 3000-4000");
    assert_eq!(asking.ask(question, ports).range, Some((3000, 4000)));
    net.node.tool("iptables-legacy -t nat -A POSTROUTING -p tcp -j MASQUERADE --to-ports 5000-6000");
    assert_eq!(asking.ask(question, ports).range, None);
    capture.stop();
}

#[test]
fn a_full_accept_queue_is_seen_in_the_pods_namespace() {
    let net = Net::new("queue");
    let pod = format!("{}p", net.node.name());
    let (full, idle) =
        within(&pod, || (TcpListener::bind("[::]:9000").unwrap(), TcpListener::bind("10.9.0.2:9001").unwrap()));
    // SAFETY: listen takes no pointers; on a socket that listens it changes the length of its queue.
    assert_eq!(unsafe { libc::listen(full.as_raw_fd(), 1) }, 0);
    let (capture, features, asking) = net.start();
    assert!(features.can.sock_diag.is_present() && features.can.namespaces.is_present(), "{features:?}");
    let to: SocketAddr = "10.9.0.2:9000".parse().unwrap();
    let at = Endpoint::from(to);
    let before = asking.ask(Question::Listener(at), listener);
    assert_eq!((before.listens, before.queue, before.limit), (true, 0, 1));
    assert_ne!(before.netns, 0);
    let open = net.node.within(|| {
        (0..4)
            .map(|_| TcpStream::connect_timeout(&to, Duration::from_millis(300)))
            .filter_map(Result::ok)
            .collect::<Vec<_>>()
    });
    assert!(open.len() >= 2);
    let after = asking.ask(Question::Listener(at), listener);
    assert_eq!((after.queue, after.limit, after.netns), (2, 1, before.netns));
    assert!(after.overflows > before.overflows && after.drops > before.drops, "{before:?} {after:?}");
    let six = asking.ask(Question::Listener(end("[fd09::2]:9000")), listener);
    assert_eq!((six.listens, six.queue), (true, 2));
    let other = asking.ask(Question::Listener(end("10.9.0.2:9001")), listener);
    assert_eq!((other.listens, other.queue), (true, 0));
    let none = asking.ask(Question::Listener(end("10.9.0.2:9002")), listener);
    assert_eq!((none.listens, none.queue, none.limit), (false, 0, 0));
    // The server outside is in a namespace of this machine, and no part of this node.
    let _server = net.listen(SERVERS[0]);
    let told = asking.all(listener).len();
    asking.questions.lock().unwrap().push_back(Question::Listener(end(SERVERS[0])));
    asking.ask(Question::Listener(end("10.9.0.1:80")), listener);
    assert_eq!(asking.all(listener).len(), told + 1, "{:?}", asking.all(listener).last());
    drop(idle);
    capture.stop();
}

#[test]
fn what_was_open_before_is_known_with_its_numbers() {
    let net = Net::new("seed");
    let server = net.listen(SERVERS[0]);
    let inbound = within(&format!("{}p", net.node.name()), || TcpListener::bind("[::]:9000").unwrap());
    let mut open = net.connect(SERVERS[0]).unwrap();
    let own = tuple(&open);
    let (mut accepted, _) = server.accept().unwrap();
    let closed = net.connect(SERVERS[0]).unwrap();
    let past = tuple(&closed);
    let (other_end, _) = server.accept().unwrap();
    // The client closes first, so that its socket stays as TIME_WAIT.
    closed.shutdown(Shutdown::Both).unwrap();
    drop((closed, other_end));
    let into_pod = net.node.within(|| TcpStream::connect("10.9.0.2:9000").unwrap());
    let (capture, features, asking) = net.start();
    assert!(features.can.numbers.is_present(), "{}", features.can.numbers);
    let of = |tuple: Tuple, server: bool| {
        move |what: &What| flow(what).filter(|f| f.tuple == tuple && f.server_socket == server)
    };
    wait_for("the open connection", || !asking.all(of(own, false)).is_empty());
    let seeded = asking.all(of(own, false))[0];
    let wire = seeded.wire.expect("an entry");
    assert!((20_000..=20_009).contains(&wire.src.port) && wire.dst == own.dst, "{seeded:?}");
    assert!(!seeded.over && seeded.cookie != 0 && seeded.netns != 0);
    wait_for("the one in TIME_WAIT", || asking.all(of(past, false)).iter().any(|f| f.over));
    let both = |server| asking.all(of(tuple(&into_pod), server)).pop();
    wait_for("both ends of the one into the pod", || both(false).is_some() && both(true).is_some());
    let (client, server_end) = (both(false).unwrap(), both(true).unwrap());
    assert_ne!(client.cookie, server_end.cookie);
    assert_eq!(server_end.netns, seeded.netns, "the pod's");
    assert_ne!(client.netns, seeded.netns);
    // One flow for each socket, and none of another namespace.
    assert_eq!(asking.all(of(own, true)).len(), 0);

    let numbers = |netns| asking.ask(Question::Numbers { tuple: own, netns }, of(own, false));
    let before = numbers(0);
    assert_eq!((before.cookie, before.wire), (seeded.cookie, seeded.wire));
    open.write_all(&[7; 1000]).unwrap();
    accepted.write_all(&[7; 300]).unwrap();
    accepted.read_exact(&mut [0; 1000]).unwrap();
    open.read_exact(&mut [0; 300]).unwrap();
    wait_for("the acknowledgement", || {
        let after = numbers(seeded.netns);
        after.client_acked.unwrap() == before.client_acked.unwrap().wrapping_add(1000)
            && after.server_next.unwrap() == before.server_next.unwrap().wrapping_add(300)
    });
    drop(inbound);
    capture.stop();
}

/// Processor time of this thread.
fn cpu() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

fn measured<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let (start, used) = (Instant::now(), cpu());
    let result = run();
    println!("{what}: {:?}, processor {:?}", start.elapsed(), cpu() - used);
    result
}

/// Not a test by itself: what the questions cost, with 50,000 entries.
#[test]
#[ignore = "a measurement: run it with --ignored --nocapture, built for release"]
fn what_questions_cost() {
    const ENTRIES: u32 = 50_000;
    let net = Net::new("cost");
    let server = net.listen(SERVERS[0]);
    let stream = net.connect(SERVERS[0]).unwrap();
    net.node.within(|| {
        let mut socket = Socket::open(Protocol::Netfilter, 0).unwrap();
        let entry = |number: u32| {
            let client =
                Endpoint::new(std::net::Ipv4Addr::from(0x0a64_0000 + number / 1000), 2000 + (number % 1000) as u16);
            Tuple::new(client, end(if number.is_multiple_of(10) { "10.8.0.2:443" } else { "10.8.0.3:443" }))
        };
        for number in 0..ENTRIES {
            let mut body = conntrack::lookup(entry(number), 0);
            let reply = conntrack::lookup(entry(number).reversed(), 0);
            // CTA_TUPLE_REPLY with what CTA_TUPLE_ORIG holds; CTA_TIMEOUT; CTA_PROTOINFO: ESTABLISHED.
            put_nested(&mut body, 2, |tuple| tuple.extend_from_slice(&reply[8..]));
            put(&mut body, 7, &600_u32.to_be_bytes());
            put_nested(&mut body, 4, |info| put_nested(info, 1, |tcp| put(tcp, 1, &[3])));
            // IPCTNL_MSG_CT_NEW with NLM_F_CREATE and NLM_F_EXCL.
            socket.request(1 << 8, 0x600, &body).unwrap();
        }
        let dump = |socket: &mut Socket, body: Vec<u8>| {
            socket
                .dump(conntrack::GET, &body, |found: &mut Vec<_>, payload| found.extend(conntrack::entry(payload)))
                .unwrap()
                .len()
        };
        for _ in 0..3 {
            let all = measured("dump of all", || dump(&mut socket, conntrack::all(false)));
            assert!(all as u32 > ENTRIES, "{all}");
            let some =
                measured("dump towards one destination", || dump(&mut socket, conntrack::towards(end("10.8.0.2:443"))));
            assert_eq!(some as u32, ENTRIES / 10, "filtered in the kernel, or the reader's filter would be needed");
        }
        measured("1000 look-ups that find", || {
            for number in 0..1000 {
                let mut found = 0;
                socket.ask(conntrack::GET, &conntrack::lookup(entry(number), 0), &mut |_, _| found += 1).unwrap();
                assert_eq!(found, 1);
            }
        });
        measured("1000 times the statistics", || {
            for _ in 0..1000 {
                socket.dump(conntrack::GET_STATS_CPU, &conntrack::plain(), |(): &mut (), _| ()).unwrap();
                socket.ask(conntrack::GET_STATS, &conntrack::plain(), &mut |_, _| ()).unwrap();
            }
        });
    });
    let own = tuple(&stream);
    within(&format!("{}p", net.node.name()), || {
        measured("1000 look-ups of a socket, a netlink socket opened for each", || {
            for _ in 0..1000 {
                let mut socket = Socket::open(Protocol::SockDiag, 0).unwrap();
                socket.ask(sock_diag::BY_FAMILY, &sock_diag::one(own), &mut |_, _| ()).unwrap();
            }
        });
    });
    let asking = Asking::default();
    let with = asking.clone();
    let start = Instant::now();
    let (capture, _) = net.node.within(|| Capture::start(net.node.options(), with)).unwrap();
    wait_for("the seeds", || asking.all(flow).len() as u32 > ENTRIES);
    println!("seeded with {} flows in {:?}", asking.all(flow).len(), start.elapsed());
    let before = asker_cpu();
    for _ in 0..400 {
        asking.questions.lock().unwrap().push_back(Question::Numbers { tuple: own, netns: 0 });
    }
    let had = asking.all(flow).len();
    wait_for("the numbers", || asking.all(flow).len() >= had + 400);
    println!("400 questions for numbers: processor {:?}", asker_cpu().saturating_sub(before));
    drop(server);
    capture.stop();
}

/// Processor time of the asking thread, as the scheduler counts it.
fn asker_cpu() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let ours = tasks
        .map(|task| task.path())
        .find(|task| std::fs::read_to_string(task.join("comm")).unwrap_or_default().trim() == "synspan-ask");
    let stat = std::fs::read_to_string(ours.unwrap().join("schedstat")).unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}
