//! Many attempts of a known mix, and whether spans, records and metrics each tell all of them. Beside it, a pair of
//! nodes that keep the same part of them, and a storm that is more than anybody wants to be told of.
//!
//! Three workloads connect to one server: most are taken, some refused, some answered by nobody, and some use the port
//! again that another workload's connection had a moment ago. The lab counts what it did; the counts must be found in
//! each signal that came, in the lab's own receiver or in what a Collector wrote.

pub mod bed;
pub mod command;
mod judge;
pub mod pair;
pub mod storm;
mod tally;

use std::net::SocketAddr;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use crate::error::{Result, lab};
use crate::scenario::agents::{Agents, Watch};
use crate::topology::{Masquerade, Topology};
use crate::world::World;

use bed::{AT_ONCE, Burst, GIVES_UP};
pub use judge::{Judgement, of_kept};
pub use tally::{Kind, Tally, Truth};

const NODE: &str = "node-a";
const PODS: [&str; 3] = ["cart", "vehicle-control", "billing"];
const SERVER: &str = "server";
const FIRST_PORT: u16 = 8_443;
const PORTS: u16 = 10;
const CLOSED_PORT: u16 = 9_000;
const DARK_PORT: u16 = 9_100;
const AGAIN_PORT: u16 = 9_200;
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

/// Makes the attempts, watched by an agent. Gives what was done, and the agents
/// with what came of them.
///
/// # Errors
/// Where the lab could not do its part.
pub fn run(mix: Mix, program: &Path, watch: Watch) -> Result<(Truth, Agents)> {
    let node = bed::node(NODE, &PODS, Some(Masquerade::default()));
    let topology = Topology { nodes: vec![node], servers: vec![SERVER.to_owned()], services: Vec::new() };
    let mut world = World::build(&topology, program)?;
    let server = bed::address(&world, SERVER)?;
    bed::listen(&mut world, SERVER, (FIRST_PORT..FIRST_PORT + PORTS).chain([AGAIN_PORT]))?;
    bed::darken(&world, SERVER, DARK_PORT)?;
    let mut agents = Agents::new(&world, watch)?;
    agents.start(&world, NODE)?;
    let mut load = Load { world, server, truth: Truth::default(), next: [0; PODS.len()], before_restart: 0 };
    load.all(mix, mix.restart.then_some(|world: &World| agents.restart(world, NODE)))?;
    // What the agent counts began anew with it.
    let since = load.truth.tally().total() - load.before_restart;
    bed::settle(&agents, &load.world, NODE, since)?;
    agents.stop()?;
    Ok((load.truth, agents))
}

struct Load {
    world: World,
    server: std::net::IpAddr,
    truth: Truth,
    /// How many connects of each pod had a port of their own so far.
    next: [u32; PODS.len()],
    /// Attempts before the agent's end in the middle.
    before_restart: u64,
}

impl Load {
    /// All of them; `between` is done in the middle, while none is open.
    fn all(&mut self, mix: Mix, between: Option<impl FnOnce(&World) -> Result<()>>) -> Result<()> {
        let Some(taken) = mix.attempts.checked_sub(mix.refused + mix.dark + 2 * mix.again) else {
            return lab("there are more attempts of one kind than in all");
        };
        // Those that use a port again need as many before them, which are of the taken.
        self.many(mix.dark, Kind::Dark)?;
        self.many(taken / 2, Kind::Taken)?;
        self.many(mix.refused / 2, Kind::Refused)?;
        if let Some(restart) = between {
            self.before_restart = self.truth.tally().total();
            restart(&self.world)?;
        }
        self.many(taken - taken / 2, Kind::Taken)?;
        self.many(mix.refused - mix.refused / 2, Kind::Refused)?;
        self.again(mix.again)
    }

    fn many(&mut self, mut count: u32, kind: Kind) -> Result<()> {
        let mut pod = 0;
        while count > 0 {
            let now = u16::try_from(count).unwrap_or(AT_ONCE).min(AT_ONCE);
            count -= u32::from(now);
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
                Kind::Lost => return lab("nothing is lost here"),
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
            let now = u16::try_from(count).unwrap_or(AT_ONCE).min(AT_ONCE);
            count -= u32::from(now);
            self.connect(0, Kind::Taken, AGAIN_PORT, first, now)?;
            // Until the last FIN is acknowledged.
            sleep(Duration::from_millis(300));
            self.world.forget_connections(NODE)?;
            self.connect(1, Kind::Again, AGAIN_PORT, first, now)?;
            first += AT_ONCE;
        }
        Ok(())
    }

    fn connect(&mut self, pod: usize, kind: Kind, port: u16, first: u16, count: u16) -> Result<()> {
        let expected = match kind {
            Kind::Taken | Kind::Again | Kind::Lost => "ok",
            Kind::Refused => "ECONNREFUSED",
            Kind::Dark => "timeout",
        };
        let made = bed::connect(
            &mut self.world,
            Burst {
                from: PODS[pod],
                to: SocketAddr::new(self.server, port),
                first,
                count,
                timeout_ms: if kind == Kind::Dark { GIVES_UP } else { 20_000 },
                expected,
            },
        )?;
        self.truth.add(PODS[pod], kind, made);
        Ok(())
    }
}
