//! Two pods of one Deployment on two nodes, one of them with two containers, and beside them another workload: what is
//! counted of them, and at last the first source port that is used again.
//!
//! It goes on in stages. After each the lab says what was attempted so far, in a line of JSON, and waits for a line on
//! standard input, so that a backend can be asked between them. The pods are a cluster's (scripts/lab-kubernetes.sh),
//! with `vehicle-control-2` among them (tests/kubernetes/extra/replica.yaml). Both agents know the names of all pods, and
//! each attempt between the nodes is seen by both.

use std::io::BufRead;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::{Context, Error, Result, lab};
use crate::load::{Tally, bed};
use crate::net::leftovers::Mark;
use crate::scenario::agents::{Agents, Watch};
use crate::tap;
use crate::topology::{Masquerade, Node, Topology};
use crate::worker::client::Worker;
use crate::worker::protocol::{Accept, Command, ConnectHow, Connected, Done};
use crate::world::World;

const NODES: [&str; 2] = ["node-a", "node-b"];
const CART: &str = "cart";
const FIRST: &str = "vehicle-control";
const SECOND: &str = "vehicle-control-2";
const ACCOUNT: &str = "account";
const SERVER: &str = "server";
/// The first pod's other container.
const SIDECAR: &str = "istio-proxy";
const PORT: u16 = 8080;
const CLOSED_PORT: u16 = 9_000;
const DARK_PORT: u16 = 9_100;
/// Where every connection of the first node has the same source port, once it is translated.
const CASE_PORT: u16 = 8443;
const WIRE_PORT: u16 = 46_994;
const PATIENCE: Duration = Duration::from_secs(60);
const PROOF_PATIENCE: Duration = Duration::from_secs(5);
/// An application that nobody answers waits so long: a SYN is sent again meanwhile.
const GIVES_UP: u64 = 1_300;
/// How often everybody makes all its attempts, so that totals grow while they are sent.
const ROUNDS: u16 = 2;

/// Who connects, and how often in a round: to the server, to the pod of the other workload, to a closed port of the
/// server, to one where nobody answers. All numbers differ, so that none is taken for another.
struct Caller {
    pod: &'static str,
    container: Option<&'static str>,
    taken: u16,
    between: u16,
    refused: u16,
    dark: u16,
}

const CALLERS: [Caller; 4] = [
    Caller { pod: FIRST, container: None, taken: 97, between: 41, refused: 13, dark: 5 },
    Caller { pod: FIRST, container: Some(SIDECAR), taken: 61, between: 29, refused: 7, dark: 3 },
    Caller { pod: SECOND, container: None, taken: 83, between: 31, refused: 11, dark: 4 },
    Caller { pod: CART, container: None, taken: 53, between: 23, refused: 9, dark: 2 },
];

/// What becomes of an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Taken,
    Refused,
    Dark,
    Reused,
}

impl End {
    /// What the application gets, and the outcome and the cause that are to be told.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Taken => ("ok", "established", ""),
            Self::Refused => ("ECONNREFUSED", "refused", "connection_refused"),
            Self::Dark => ("timeout", "aborted", "no_response"),
            Self::Reused => ("ETIMEDOUT", "timed_out", "source_port_reuse"),
        }
    }
}

/// What was attempted so far, as the lab says it.
#[derive(Serialize)]
struct Said<'a> {
    stage: &'a str,
    attempts: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    /// The pod's address.
    address: IpAddr,
    outcome: String,
    cause: String,
    count: u64,
}

/// Runs it, with agents that send to `forward`.
///
/// # Errors
/// Where the lab could not do its part.
pub fn run(program: &Path, agent: &Path, forward: SocketAddr) -> Result<()> {
    let mut lab = Lab::build(program, agent, forward)?;
    for _ in 0..ROUNDS {
        for number in 0..CALLERS.len() {
            lab.round(number)?;
        }
    }
    lab.say("plain")?;
    lab.reuse()?;
    lab.say("reuse")?;
    lab.agents.stop()?;
    eprintln!("{}", lab.agents.logs());
    lab.say("ended")
}

struct Lab {
    sidecar: Worker,
    world: World,
    agents: Agents,
    server: IpAddr,
    done: Tally,
    /// The next source port of each caller.
    next: [u16; CALLERS.len()],
}

/// A node that translates every pod's source, by these rules first.
fn node(name: &str, pods: [&str; 2], first: Vec<String>) -> Node {
    bed::node(name, &pods, Some(Masquerade { first, ..Masquerade::default() }))
}

impl Lab {
    fn build(program: &Path, agent: &Path, forward: SocketAddr) -> Result<Self> {
        let one_port = format!("{{ip}} daddr {{{SERVER}}} tcp dport {CASE_PORT} masquerade to :{WIRE_PORT}");
        let nodes = vec![node(NODES[0], [CART, FIRST], vec![one_port]), node(NODES[1], [ACCOUNT, SECOND], Vec::new())];
        let topology = Topology { nodes, servers: vec![SERVER.to_owned()], services: Vec::new() };
        let mut world = World::build(&topology, program)?;
        let key = format!("{FIRST}/{SIDECAR}");
        let Some(cgroup) = world.cluster().and_then(|cluster| cluster.cgroups.get(&key)).cloned() else {
            return lab("this needs a cluster with that Deployment: run it by scripts/lab-kubernetes.sh");
        };
        let cgroup = world.cgroup(&format!("{}/{cgroup}", NODES[0]))?;
        let sidecar = Worker::start(SIDECAR, program, &Mark::name(FIRST), Some(&cgroup))?;
        let server = bed::address(&world, SERVER)?;
        let account = bed::address(&world, ACCOUNT)?;
        listen(&mut world, SERVER, SocketAddr::new(server, PORT), Accept::Serve)?;
        listen(&mut world, ACCOUNT, SocketAddr::new(account, PORT), Accept::Serve)?;
        listen(&mut world, SERVER, SocketAddr::new(server, CASE_PORT), Accept::Keep)?;
        bed::darken(&world, SERVER, DARK_PORT)?;
        let watch = Watch { agent: Some(agent.to_owned()), forward: Some(forward), captures: None, console: false };
        let mut agents = Agents::new(&world, watch)?;
        for node in NODES {
            agents.start(&world, node)?;
        }
        let next = [10_000, 15_000, 20_000, 25_000];
        Ok(Self { sidecar, world, agents, server, done: Tally::default(), next })
    }

    /// Everything that a caller attempts in a round.
    fn round(&mut self, number: usize) -> Result<()> {
        let Caller { taken, between, refused, dark, .. } = CALLERS[number];
        let account = bed::address(&self.world, ACCOUNT)?;
        for (to, port, count, end) in [
            (self.server, PORT, taken, End::Taken),
            (account, PORT, between, End::Taken),
            (self.server, CLOSED_PORT, refused, End::Refused),
            (self.server, DARK_PORT, dark, End::Dark),
        ] {
            self.many(number, SocketAddr::new(to, port), count, end)?;
        }
        Ok(())
    }

    fn many(&mut self, number: usize, to: SocketAddr, count: u16, end: End) -> Result<()> {
        let Caller { pod, container, .. } = CALLERS[number];
        let first = self.next[number];
        self.next[number] += count;
        let timeout_ms = Some(if end == End::Dark { GIVES_UP } else { 20_000 });
        let how = ConnectHow { from_port: Some(first), timeout_ms, blocking: false, way: Default::default() };
        let socket = format!("c{first}");
        let command = Command::ConnectMany { socket, to, count, how, close: true, at: None, cpu: 0 };
        let worker = if container.is_some() { &mut self.sidecar } else { self.world.worker(pod)? };
        let connected = connected(worker.ask(command, PATIENCE)?, end)?;
        self.count(pod, end, connected.len());
        Ok(())
    }

    /// The first workload connects and closes, the server's application does not, and the node gives the port to the
    /// second one. The server's answer is of the old connection, and the client's RST to it is lost.
    fn reuse(&mut self) -> Result<()> {
        let to = SocketAddr::new(self.server, CASE_PORT);
        // SYNs leave at 0, 1 and 2 seconds, and the kernel gives up at 4; below 6.5 there is no linear part.
        let netns = self.world.netns(FIRST)?;
        let _ = netns.sysctl(&[("net/ipv4/tcp_syn_linear_timeouts", "1")]);
        netns.sysctl(&[("net/ipv4/tcp_syn_retries", "1")])?;
        let connect = |socket: &str| Command::Connect { socket: socket.into(), to, how: ConnectHow::default() };
        connected(self.world.worker(CART)?.ask(connect("old"), PATIENCE)?, End::Taken)?;
        self.count(CART, End::Taken, 1);
        self.world.worker(CART)?.ask(Command::Close { socket: "old".into(), reset: false }, PATIENCE)?;
        self.held()?;
        self.world.forget_connections(NODES[0])?;
        self.world.netns("router")?.nft(&format!(
            "table inet loss {{ chain forward {{ type filter hook forward priority 0; policy accept;\n  \
             ip daddr {} tcp dport {CASE_PORT} tcp flags & rst != 0 drop\n}}\n}}",
            self.server
        ))?;
        let since = Instant::now();
        let ends = connected(self.world.worker(FIRST)?.ask(connect("reused"), PATIENCE)?, End::Reused)?;
        let Some(local) = ends.first().and_then(|connected| connected.local) else {
            return lab("where the connect came from is not known");
        };
        let tap = self.world.tap(NODES[0])?;
        tap.wait_quiet(Duration::from_millis(100));
        if tap::stale_ack(&tap.of_client(local, since)).is_none() {
            return lab("no stale ACK answered the connect");
        }
        self.count(FIRST, End::Reused, 1);
        Ok(())
    }

    /// Waits until the server holds one connection that its application has not closed.
    fn held(&self) -> Result<()> {
        let filter = format!("= :{CASE_PORT}");
        let deadline = Instant::now() + PROOF_PATIENCE;
        loop {
            let args = ["-t", "-n", "-H", "state", "close-wait", "sport", &filter];
            let held = self.world.netns(SERVER)?.run("ss", &args)?;
            if held.lines().count() == 1 {
                return Ok(());
            }
            if Instant::now() > deadline {
                return lab(format!("the server should hold one connection in CLOSE_WAIT, and holds:\n{held}"));
            }
            sleep(Duration::from_millis(20));
        }
    }

    fn count(&mut self, pod: &str, end: End, count: usize) {
        let (_, outcome, cause) = end.words();
        let key = (pod.to_owned(), outcome.to_owned(), cause.to_owned(), false);
        self.done.add(key, u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// Says what was attempted, and waits until it may go on.
    fn say(&self, stage: &str) -> Result<()> {
        let mut attempts = Vec::new();
        for ((pod, outcome, cause, _), &count) in &self.done.0 {
            let address = bed::address(&self.world, pod)?;
            attempts.push(Row { address, outcome: outcome.clone(), cause: cause.clone(), count });
        }
        let line = serde_json::to_string(&Said { stage, attempts }).map_err(|error| Error::Lab(error.to_string()))?;
        println!("{line}");
        let read = std::io::stdin().lock().read_line(&mut String::new()).context("read standard input")?;
        if read == 0 { lab("standard input ended before the lab was told to go on") } else { Ok(()) }
    }
}

fn listen(world: &mut World, on: &str, at: SocketAddr, accept: Accept) -> Result<()> {
    let socket = format!("s{}", at.port());
    let command = Command::Listen { socket, at, backlog: 4096, accept, way: Default::default() };
    world.worker(on)?.ask(command, PATIENCE).map(drop)
}

/// What came of connects that must all end alike.
fn connected(done: Done, end: End) -> Result<Vec<Connected>> {
    let Done::Connected(all) = done else { return lab("a worker did not say what came of its connects") };
    match all.iter().find(|connected| connected.result != end.words().0) {
        Some(other) => lab(format!("{end:?}: a connect ended with {}", other.result)),
        None => Ok(all),
    }
}
