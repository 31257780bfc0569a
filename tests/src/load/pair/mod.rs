//! Two nodes, each with an agent of its own that keeps a share of the successes: whether both keep the same traces.
//!
//! Pods of the first node connect through its source translation to a pod of the second, and a pod of the second to one
//! of the first. Most connects are taken; some are refused, some use a port again, and some lose their first SYN: at the
//! server itself, where both nodes have seen it, or between the nodes, where the second has not.

mod judge;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use super::bed::{self, AT_ONCE, Burst};
use super::tally::{Kind, Truth};
use crate::counters::Counters;
use crate::error::{Result, lab};
use crate::scenario::agents::{Agents, Watch};
use crate::topology::{Masquerade, Topology};
use crate::world::World;

pub use judge::{Agreement, judge};

/// The nodes, and the pods of each.
const NODES: [(&str, [&str; 2]); 2] = [("node-a", ["cart", "vehicle-control"]), ("node-b", ["web", "idle"])];
const OPEN: u16 = 8_443;
const CLOSED: u16 = 9_000;
/// The server takes the second SYN of each connection.
const DEAF: u16 = 9_200;
/// Between the nodes the first SYN of each connection is lost.
const LOSSY: u16 = 9_300;
const AGAIN: u16 = 9_400;

/// How many connects of each kind.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Connects {
    /// From the first node to the second, taken.
    #[arg(long, default_value_t = 5_000)]
    pub taken: u16,
    /// From the second node to the first, taken.
    #[arg(long, default_value_t = 1_000)]
    pub back: u16,
    /// From the first node to the second, refused.
    #[arg(long, default_value_t = 250)]
    pub refused: u16,
    /// Whose first SYN the server does not take.
    #[arg(long, default_value_t = 100)]
    pub deaf: u16,
    /// Whose first SYN is lost between the nodes.
    #[arg(long, default_value_t = 200)]
    pub lossy: u16,
    /// From a port that another pod's connection had a moment ago; as many before them are taken.
    #[arg(long, default_value_t = 200)]
    pub again: u16,
    /// The agents' `sampling.ratio`.
    #[arg(long, default_value_t = 0.1)]
    pub ratio: f64,
}

/// What was done, and what the agents counted.
#[derive(Debug)]
pub struct Outcome {
    /// How many of each kind.
    pub pair: Connects,
    /// As each signal must have it.
    pub truth: Truth,
    /// By node.
    pub counters: BTreeMap<String, Counters>,
}

/// The node of a pod.
fn node_of(pod: &str) -> Option<&'static str> {
    NODES.iter().find(|(_, pods)| pods.contains(&pod)).map(|(node, _)| *node)
}

/// Makes the connects.
///
/// # Errors
/// Where the lab could not do its part.
pub fn run(pair: Connects, program: &Path, watch: Watch) -> Result<(Outcome, Agents)> {
    let [(here, _), (there, _)] = NODES;
    // The first node's connects have its own address on the way to the second, as where pods' addresses are not routed.
    let between = [Some(Masquerade { between_nodes: true, ..Masquerade::default() }), None];
    let nodes = NODES.iter().zip(between).map(|((name, pods), between)| bed::node(name, pods, between)).collect();
    let topology = Topology { nodes, servers: Vec::new(), services: Vec::new() };
    let mut world = World::build(&topology, program)?;
    bed::listen(&mut world, "web", [OPEN, DEAF, LOSSY, AGAIN])?;
    bed::listen(&mut world, "cart", [OPEN])?;
    world.netns("web")?.nft(&first_lost("input", DEAF))?;
    world.netns("router")?.nft(&first_lost("forward", LOSSY))?;
    let mut agents = Agents::new(&world, watch)?;
    agents.start(&world, here)?;
    agents.start(&world, there)?;

    let mut load = Load { world, truth: Truth::default(), first: 10_000 };
    load.many("cart", "web", OPEN, Kind::Taken, pair.taken)?;
    load.many("idle", "cart", OPEN, Kind::Taken, pair.back)?;
    load.many("cart", "web", CLOSED, Kind::Refused, pair.refused)?;
    load.many("cart", "web", DEAF, Kind::Lost, pair.deaf)?;
    load.many("vehicle-control", "web", LOSSY, Kind::Lost, pair.lossy)?;
    let first = load.first;
    load.many("cart", "web", AGAIN, Kind::Taken, pair.again)?;
    // Until the last FIN is acknowledged; then the node forgets which port it gave to whom.
    sleep(Duration::from_millis(300));
    load.world.forget_connections(here)?;
    load.first = first;
    load.many("vehicle-control", "web", AGAIN, Kind::Again, pair.again)?;

    let Load { world, truth, .. } = load;
    for node in [here, there] {
        bed::settle(&agents, &world, node, truth.tally().total())?;
    }
    agents.stop()?;
    let counters = agents.counters()?;
    Ok((Outcome { pair, truth, counters }, agents))
}

/// Drops the first SYN of each connection to a port.
fn first_lost(hook: &str, port: u16) -> String {
    format!(
        "table inet lossy {{\n set seen {{ type ipv4_addr . inet_service; size 65536; flags dynamic; }}\n chain drops {{\n  \
         type filter hook {hook} priority 0;\n  tcp dport {port} tcp flags & (syn | ack) == syn \
         ip saddr . tcp sport != @seen add @seen {{ ip saddr . tcp sport }} drop\n }}\n}}\n"
    )
}

struct Load {
    world: World,
    truth: Truth,
    /// The next connect's port.
    first: u16,
}

impl Load {
    fn many(&mut self, from: &'static str, to: &str, port: u16, kind: Kind, mut count: u16) -> Result<()> {
        let to = SocketAddr::new(bed::address(&self.world, to)?, port);
        while count > 0 {
            let now = count.min(AT_ONCE);
            count -= now;
            let first = self.first;
            let Some(next) = first.checked_add(now) else { return lab("there are no more ports: 50,000 at most") };
            self.first = next;
            let expected = if kind == Kind::Refused { "ECONNREFUSED" } else { "ok" };
            let burst = Burst { from, to, first, count: now, timeout_ms: 20_000, expected };
            let made = bed::connect(&mut self.world, burst)?;
            self.truth.add(from, kind, made);
        }
        Ok(())
    }
}
