//! One address handed from pod to pod, many times and under load: whose is each attempt?
//!
//! The lab plays scheduler, kubelet and container runtime against a real API server. The pods connect while the API's
//! word of them comes early, late and out of turn, half of them with a process that the agent sees and half with none,
//! as sandboxed ones are. Each connect() is remembered with its pod, so every span can be judged: it has the right
//! pod's uid, or none and is counted; never another's.

mod api;
mod judge;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, SystemTime};

use crate::error::{Error, Result, lab};
use crate::load::bed;
use crate::net::leftovers::Mark;
use crate::scenario::agents::{Agents, Watch};
use crate::topology::{Family, Masquerade, Topology};
use crate::worker::client::Worker;
use crate::worker::protocol::{Accept, Command, ConnectHow, Connected, Done};
use crate::world::World;

use self::api::{Api, Object};
pub use self::judge::Judgement;

const NODE: &str = "node-a";
/// The lab's name of the place whose address is handed on, and of the pod that makes the load.
const PLACE: &str = "cart";
const LOAD: &str = "vehicle-control";
const SERVER: &str = "server";
const PORT: u16 = 8443;
/// Connects made at once; of the load, which pauses after each, and of a pod.
const AT_ONCE: u16 = 20;
const PACE: Duration = Duration::from_millis(25);
const BATCH: u16 = 5;
/// More than the second to which the API's times are cut.
const DWELL: Duration = Duration::from_millis(1_100);
const PATIENCE: Duration = Duration::from_secs(30);

/// A connect() whose pod is known.
#[derive(Clone, Debug)]
pub struct Truth {
    /// The pod's uid.
    pub uid: String,
    /// The socket's port.
    pub port: u16,
    /// Between these times, in nanoseconds since 1970, it was called.
    pub called: (u64, u64),
    /// Its process was in the agent's sight.
    pub seen: bool,
}

/// In which order the API and the node tell of a handover.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    /// The old pod is told to end, ends and goes; the new one comes.
    Orderly,
    /// As before, but the new pod connects before the API has its address.
    LateWord,
    /// The old pod's object is deleted by force while it goes on connecting.
    Forced,
    /// The new pod is there while the API has the old one still.
    TwoClaims,
}

const ORDERS: [Order; 4] = [Order::Orderly, Order::LateWord, Order::Forced, Order::TwoClaims];

/// Hands the address on that many times and judges every span.
///
/// # Errors
/// Where the lab or the API server could not do its part. A wrong name is no error but in the result.
pub fn run(times: usize, program: &Path, agent: &Path) -> Result<Judgement> {
    let node = bed::node(NODE, &[PLACE, LOAD], Some(Masquerade::default()));
    let topology = Topology { nodes: vec![node], servers: vec![SERVER.to_owned()], services: Vec::new() };
    let mut world = World::build(&topology, program)?;
    if world.cluster().is_none() {
        return lab("this needs a cluster's API server: run it by scripts/lab-kubernetes.sh");
    }
    let api = Api::connect()?;
    let watch = Watch { agent: Some(agent.to_owned()), forward: None, captures: None, console: false };
    let mut agents = Agents::new(&world, watch)?;
    let to = match topology.address(SERVER, Family::V4) {
        Some(address) => std::net::SocketAddr::new(address, PORT),
        None => return lab("the server has no address"),
    };
    let listen =
        Command::Listen { socket: "s".into(), at: to, backlog: 4096, accept: Accept::Serve, way: Default::default() };
    world.worker(SERVER)?.ask(listen, PATIENCE)?;
    // The address is an object's of the lab; it starts with nobody.
    world.remove_pod(PLACE)?;
    for name in api.names()?.iter().filter(|name| name.starts_with("cart-")) {
        api.delete(name, 0)?;
    }
    agents.start(&world, NODE)?;

    let load = Load::start(&world, program, to)?;
    let mut relay = Relay { world: &mut world, api: &api, to, truth: Vec::new(), number: 0, held: None };
    let handed = relay.hand_on(times);
    let Relay { truth, .. } = relay;
    let calls = load.stop()?;
    handed?;
    // What waits for a name waits two seconds.
    sleep(Duration::from_secs(4));
    let address = topology.address(PLACE, Family::V4).map(|address| address.to_string()).unwrap_or_default();
    agents.stop()?;
    let judgement = Judgement::new(&truth, &agents.spans(), &address, &agents.logs());
    Ok(Judgement { load: calls, ..judgement })
}

/// A pod that is there.
struct Held {
    object: Object,
    seen: bool,
}

struct Relay<'a> {
    world: &'a mut World,
    api: &'a Api,
    to: std::net::SocketAddr,
    truth: Vec<Truth>,
    number: usize,
    held: Option<Held>,
}

impl Relay<'_> {
    fn hand_on(&mut self, times: usize) -> Result<()> {
        for turn in 0..=times {
            // Pairs of turns, so that each order is tried with and without a process in sight.
            let (order, seen) = (ORDERS[turn % ORDERS.len()], (turn / ORDERS.len()).is_multiple_of(2));
            self.turn(order, seen)?;
        }
        Ok(())
    }

    fn turn(&mut self, order: Order, seen: bool) -> Result<()> {
        let old = self.held.take();
        let new = match (order, &old) {
            (_, None) => self.come(seen)?,
            (Order::Orderly | Order::LateWord, Some(old)) => {
                self.api.delete(&old.object.name, 1)?;
                self.connect(old)?;
                self.world.remove_pod(PLACE)?;
                self.api.delete(&old.object.name, 0)?;
                self.come(seen)?
            }
            (Order::Forced, Some(old)) => {
                self.api.delete(&old.object.name, 0)?;
                self.connect(old)?;
                sleep(Duration::from_millis(50));
                // The next is taken by the kubelet while the old one runs still.
                let object = self.create()?;
                self.connect(old)?;
                self.world.remove_pod(PLACE)?;
                self.place(&object, seen)?;
                Held { object, seen }
            }
            (Order::TwoClaims, Some(old)) => {
                let object = self.create()?;
                self.connect(old)?;
                self.world.remove_pod(PLACE)?;
                self.place(&object, seen)?;
                Held { object, seen }
            }
        };
        if order == Order::LateWord {
            self.connect(&new)?;
            sleep(Duration::from_millis(100));
            self.connect(&new)?;
        }
        self.api.running(&new.object, &self.addresses())?;
        self.connect(&new)?;
        if let (Order::TwoClaims, Some(old)) = (order, &old) {
            sleep(Duration::from_millis(50));
            self.connect(&new)?;
            self.api.delete(&old.object.name, 0)?;
        }
        sleep(Duration::from_millis(50));
        self.connect(&new)?;
        if order == Order::Orderly && !seen {
            // Long enough for its address alone to tell: the API's times are cut to the second, both ways.
            sleep(DWELL);
            self.connect(&new)?;
            sleep(DWELL);
        }
        self.held = Some(new);
        Ok(())
    }

    fn create(&mut self) -> Result<Object> {
        self.number += 1;
        let object = self.api.create(NODE, self.number)?;
        self.api.take(&object)?;
        Ok(object)
    }

    fn come(&mut self, seen: bool) -> Result<Held> {
        let object = self.create()?;
        self.place(&object, seen)?;
        Ok(Held { object, seen })
    }

    /// Its network and its process; one out of the agent's sight has a cgroup that is not below the node's.
    fn place(&mut self, object: &Object, seen: bool) -> Result<()> {
        let above = if seen { NODE } else { "elsewhere" };
        let cgroup: PathBuf = self.world.cgroup(&format!("{above}/{}", object.cgroup()))?;
        self.world.add_pod_in(PLACE, &cgroup)
    }

    fn addresses(&self) -> Vec<String> {
        let of = |family| self.world.topology().address(PLACE, family).map(|address| address.to_string());
        [Family::V4, Family::V6].into_iter().filter_map(of).collect()
    }

    fn connect(&mut self, pod: &Held) -> Result<()> {
        let before = now();
        let done = self.world.worker(PLACE)?.ask(many(self.to, BATCH), PATIENCE)?;
        let called = (before, now());
        for connected in outcomes(done)? {
            let Some(local) = connected.local.filter(|_| connected.result == "ok") else {
                return lab(format!("a connect ended with {}", connected.result));
            };
            self.truth.push(Truth { uid: pod.object.uid.clone(), port: local.port(), called, seen: pod.seen });
        }
        Ok(())
    }
}

fn many(to: std::net::SocketAddr, count: u16) -> Command {
    Command::ConnectMany { socket: "c".into(), to, count, how: ConnectHow::default(), close: true, at: None, cpu: 0 }
}

fn outcomes(done: Done) -> Result<Vec<Connected>> {
    match done {
        Done::Connected(all) => Ok(all),
        other => lab(format!("a worker answered {other:?} to a connect")),
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Another pod of the node that connects all the time.
struct Load {
    stop: std::sync::Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl Load {
    fn start(world: &World, program: &Path, to: std::net::SocketAddr) -> Result<Self> {
        let cgroup = world.cluster().and_then(|cluster| cluster.cgroups.get(LOAD)).cloned();
        let Some(cgroup) = cgroup else { return lab(format!("the cluster has no {LOAD}")) };
        let cgroup = world.cgroup(&format!("{NODE}/{cgroup}"))?;
        let mut worker = Worker::start("load", program, &Mark::name(LOAD), Some(&cgroup))?;
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::Builder::new().name("load".into()).spawn(move || {
            let mut calls = 0;
            while !told.load(Ordering::Relaxed) {
                calls += outcomes(worker.ask(many(to, AT_ONCE), PATIENCE)?)?.len() as u64;
                sleep(PACE);
            }
            Ok(calls)
        });
        let thread = crate::error::Context::context(thread, "start a thread")?;
        Ok(Self { stop, thread })
    }

    fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| Error::Lab("the load panicked".into()))?
    }
}
