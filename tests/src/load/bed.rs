//! What the loads have in common: listeners, places that do not answer, and connects from chosen ports.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::error::{Result, lab};
use crate::scenario::agents::Agents;
use crate::topology::{Family, Masquerade, Node};
use crate::worker::protocol::{Accept, Command, ConnectHow, Done};
use crate::world::World;

/// Connects made at once, each from a port of its own.
pub const AT_ONCE: u16 = 250;
/// Any command but a storm is done by then.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// An application that nobody answers waits so long: a SYN is sent again meanwhile.
pub const GIVES_UP: u64 = 1_300;
/// For so long an agent that has more to tell may be busy with something else.
const SETTLES: Duration = Duration::from_secs(5);

/// A node of these pods.
pub fn node(name: &str, pods: &[&str], masquerade: Option<Masquerade>) -> Node {
    Node {
        name: name.to_owned(),
        pods: pods.iter().map(|&pod| pod.to_owned()).collect(),
        late_pods: Vec::new(),
        processes: Vec::new(),
        masquerade,
        late_agent: false,
        bridge: false,
    }
}

/// The address of a pod or server.
pub fn address(world: &World, of: &str) -> Result<IpAddr> {
    let address = world.topology().address(of, Family::V4);
    address.map_or_else(|| lab(format!("`{of}` has no address")), Ok)
}

/// Makes a pod or server listen, and close what its clients close.
pub fn listen(world: &mut World, on: &str, ports: impl IntoIterator<Item = u16>) -> Result<()> {
    let address = address(world, on)?;
    for port in ports {
        let at = SocketAddr::new(address, port);
        let (accept, way) = (Accept::Serve, Default::default());
        let listen = Command::Listen { socket: format!("s{port}"), at, backlog: 4096, accept, way };
        world.worker(on)?.ask(listen, PATIENCE)?;
    }
    Ok(())
}

/// Nobody answers there: neither a listener nor the kernel.
pub fn darken(world: &World, on: &str, port: u16) -> Result<()> {
    let rule = format!("tcp dport {port} drop");
    world.netns(on)?.nft(&format!("table inet dark {{ chain in {{ type filter hook input priority 0; {rule}\n}}\n}}"))
}

/// So many connects at the same time, each from a port of its own from `first` on, closed as soon as they are up.
#[derive(Clone, Copy, Debug)]
pub struct Burst<'a> {
    /// Whose.
    pub from: &'a str,
    /// Where to.
    pub to: SocketAddr,
    /// The first port.
    pub first: u16,
    /// How many.
    pub count: u16,
    /// How long the application waits, in milliseconds.
    pub timeout_ms: u64,
    /// What it must get.
    pub expected: &'a str,
}

/// Makes the connects; an error if one of them got what it must not.
pub fn connect(world: &mut World, burst: Burst<'_>) -> Result<u64> {
    let Burst { from, to, first, count, timeout_ms, expected } = burst;
    let (from_port, timeout_ms) = (Some(first), Some(timeout_ms));
    let command = Command::ConnectMany {
        socket: format!("c{}-{first}-{from}", to.port()),
        to,
        count,
        how: ConnectHow { from_port, timeout_ms, blocking: false, way: Default::default() },
        close: true,
        at: None,
        cpu: 0,
    };
    let Done::Connected(connected) = world.worker(from)?.ask(command, PATIENCE)? else {
        return lab("a worker did not say what came of its connects");
    };
    match connected.iter().find(|connected| connected.result != expected) {
        Some(other) => {
            lab(format!("a connect of {from} from port {first} on to {to} ended with {}, not {expected}", other.result))
        }
        None => Ok(connected.len() as u64),
    }
}

/// Waits until a node's agent has dealt with so many attempts, and none is open; or has dealt with none for some seconds,
/// and what is missing is for the judge to miss.
pub fn settle(agents: &Agents, world: &World, node: &str, attempts: u64) -> Result<()> {
    let (mut known, mut since) = (0, Instant::now());
    while since.elapsed() < SETTLES {
        let status = agents.status(world, node)?;
        let of = |place: &str| status.pointer(place).and_then(serde_json::Value::as_u64);
        let (Some(open), Some(finished)) = (of("/attempts/open"), of("/attempts/finished")) else {
            return lab(format!("the agent of {node} does not say how many attempts there are: {status}"));
        };
        if open == 0 && finished >= attempts {
            return Ok(());
        }
        if finished != known {
            (known, since) = (finished, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
