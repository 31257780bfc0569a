//! Many attempts of a known mix, and whether spans, records and metrics each tell all of them.
//!
//! Three workloads connect to one server: most are taken, some refused, some answered by nobody, and some use the port
//! again that another workload's connection had a moment ago. The lab counts what it did; the counts must be found in
//! each signal that came, in the lab's own receiver or in what a Collector wrote.

mod judge;
mod tally;

use std::net::SocketAddr;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use crate::error::{Result, lab};
use crate::scenario::agents::{Agents, Watch};
use crate::topology::{Family, Masquerade, Node, Topology};
use crate::worker::protocol::{Accept, Command, ConnectHow, Done};
use crate::world::World;

pub use judge::{Judgement, of_files, of_kept};
pub use tally::{Kind, Tally, Truth};

const NODE: &str = "node-a";
const PODS: [&str; 3] = ["cart", "vehicle-control", "billing"];
const SERVER: &str = "server";
const FIRST_PORT: u16 = 8_443;
const PORTS: u16 = 10;
const CLOSED_PORT: u16 = 9_000;
const DARK_PORT: u16 = 9_100;
const AGAIN_PORT: u16 = 9_200;
/// Connects made at once, each from a port of its own.
const AT_ONCE: u16 = 250;
const PATIENCE: Duration = Duration::from_secs(60);
/// An application that nobody answers waits so long: a SYN is sent again meanwhile.
const GIVES_UP: u64 = 1_300;

/// How many attempts of each kind, of all workloads together.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Mix {
    /// Attempts in all.
    #[arg(long, default_value_t = 10_000)]
    pub attempts: u32,
    /// Of them, refused.
    #[arg(long, default_value_t = 500)]
    pub refused: u32,
    /// Of them, answered by nobody.
    #[arg(long, default_value_t = 250)]
    pub dark: u32,
    /// Of them, with the port of another workload's connection of a moment ago.
    #[arg(long, default_value_t = 250)]
    pub again: u32,
    /// End the agent in the middle, and start it anew.
    #[arg(long)]
    pub restart: bool,
}

/// Makes the attempts, watched by an agent that sends to `forward` or to the lab. Gives what was done, and the agents
/// with what came of them.
///
/// # Errors
/// Where the lab could not do its part.
pub fn run(mix: Mix, program: &Path, agent: &Path, forward: Option<SocketAddr>) -> Result<(Truth, Agents)> {
    let node = Node {
        name: NODE.to_owned(),
        pods: PODS.map(str::to_owned).to_vec(),
        late_pods: Vec::new(),
        processes: Vec::new(),
        masquerade: Some(Masquerade::default()),
        late_agent: false,
        bridge: false,
    };
    let topology = Topology { nodes: vec![node], servers: vec![SERVER.to_owned()], services: Vec::new() };
    let mut world = World::build(&topology, program)?;
    let Some(server) = topology.address(SERVER, Family::V4) else { return lab("the server has no address") };
    for port in (FIRST_PORT..FIRST_PORT + PORTS).chain([AGAIN_PORT]) {
        let at = SocketAddr::new(server, port);
        let listen = Command::Listen {
            socket: format!("s{port}"),
            at,
            backlog: 4096,
            accept: Accept::Serve,
            way: Default::default(),
        };
        world.worker(SERVER)?.ask(listen, PATIENCE)?;
    }
    // Nobody answers there: neither the listener nor the kernel.
    world.netns(SERVER)?.nft(&format!(
        "table inet dark {{ chain in {{ type filter hook input priority 0; tcp dport {DARK_PORT} drop\n}}\n}}"
    ))?;
    let watch = Watch { agent: Some(agent.to_owned()), forward, captures: None, console: false };
    let mut agents = Agents::new(&world, watch)?;
    agents.start(&world, NODE)?;
    let mut load = Load { world, server, truth: Truth::default(), next: [0; PODS.len()] };
    load.all(mix, |world| if mix.restart { agents.restart(world, NODE) } else { Ok(()) })?;
    // What is settled late is told before the agent ends.
    sleep(Duration::from_secs(3));
    agents.stop()?;
    Ok((load.truth, agents))
}

struct Load {
    world: World,
    server: std::net::IpAddr,
    truth: Truth,
    /// How many connects of each pod had a port of their own so far.
    next: [u32; PODS.len()],
}

impl Load {
    /// All of them; `between` is done in the middle, while none is open.
    fn all(&mut self, mix: Mix, between: impl FnOnce(&World) -> Result<()>) -> Result<()> {
        let Some(taken) = mix.attempts.checked_sub(mix.refused + mix.dark + 2 * mix.again) else {
            return lab("there are more attempts of one kind than in all");
        };
        // Those that use a port again need as many before them, which are of the taken.
        self.many(mix.dark, Kind::Dark)?;
        self.many(taken / 2, Kind::Taken)?;
        self.many(mix.refused / 2, Kind::Refused)?;
        between(&self.world)?;
        self.many(taken - taken / 2, Kind::Taken)?;
        self.many(mix.refused - mix.refused / 2, Kind::Refused)?;
        self.again(mix.again)
    }

    fn many(&mut self, mut count: u32, kind: Kind) -> Result<()> {
        let mut pod = 0;
        while count > 0 {
            let now = count.min(AT_ONCE.into());
            count -= now;
            let number = self.next[pod];
            self.next[pod] += u32::from(AT_ONCE);
            // Ports of a pod are its own, so that no tuple comes twice: 16,000 for each port of the server.
            let turn = number / 16_000;
            let first = 10_000 + 16_000 * u16::try_from(pod).unwrap_or(0) + u16::try_from(number % 16_000).unwrap_or(0);
            let to = match kind {
                Kind::Taken if turn >= u32::from(PORTS) => return lab("there are no more tuples: 480,000 at most"),
                Kind::Taken => FIRST_PORT + u16::try_from(turn).unwrap_or(0),
                Kind::Refused => CLOSED_PORT + u16::try_from(turn).unwrap_or(0),
                Kind::Dark => DARK_PORT,
                Kind::Again => AGAIN_PORT,
            };
            self.connect(pod, kind, to, first, now)?;
            pod = (pod + 1) % PODS.len();
        }
        Ok(())
    }

    /// The first workload connects and closes, and is forgotten by the node; the second comes from the same ports.
    fn again(&mut self, mut count: u32) -> Result<()> {
        let mut first = 60_000;
        while count > 0 {
            let now = count.min(AT_ONCE.into());
            count -= now;
            self.connect(0, Kind::Taken, AGAIN_PORT, first, now)?;
            // Until the last FIN is acknowledged.
            sleep(Duration::from_millis(300));
            self.world.forget_connections(NODE)?;
            self.connect(1, Kind::Again, AGAIN_PORT, first, now)?;
            first += AT_ONCE;
        }
        Ok(())
    }

    fn connect(&mut self, pod: usize, kind: Kind, port: u16, first: u16, count: u32) -> Result<()> {
        let timeout_ms = Some(if kind == Kind::Dark { GIVES_UP } else { 20_000 });
        let how = ConnectHow { from_port: Some(first), timeout_ms, blocking: false, way: Default::default() };
        let command = Command::ConnectMany {
            socket: format!("c{port}-{first}-{pod}"),
            to: SocketAddr::new(self.server, port),
            count: u16::try_from(count).unwrap_or(u16::MAX),
            how,
            close: true,
            at: None,
            cpu: 0,
        };
        let Done::Connected(connected) = self.world.worker(PODS[pod])?.ask(command, PATIENCE)? else {
            return lab("a worker did not say what came of its connects");
        };
        for connected in &connected {
            let expected = match kind {
                Kind::Taken | Kind::Again => "ok",
                Kind::Refused => "ECONNREFUSED",
                Kind::Dark => "timeout",
            };
            if connected.result != expected {
                return lab(format!("{kind:?}: a connect from port {first} on ended with {}", connected.result));
            }
        }
        self.truth.add(PODS[pod], kind, u64::try_from(connected.len()).unwrap_or(0));
        Ok(())
    }
}
