//! Does a scenario's steps in a world.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::agents::{Agents, Watch};
use super::attempted::Attempted;
use super::check;
use super::inbound::{self, Flooded, Sums};
use super::judged::Judgement;
use super::lasting;
use super::model::{Connect, Scenario, Step};
use super::records;
use super::upkeep;
use crate::bench::kernel::Constant;
use crate::captures::Captures;
use crate::error::{Error, Result, lab};
use crate::net::netns::Netns;
use crate::net::{command, conntrack};
use crate::receiver::Kept;
use crate::replay;
use crate::segment::{ACK, Segment};
use crate::tap::{self, stale_ack};
use crate::topology::Family;
use crate::worker::client::Pending;
use crate::worker::protocol::{Command, ConnectHow, Done, FalseNumbers};
use crate::world::World;

/// Any command but a connect by the kernel's patience is over by then.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How long the agents may take to tell of what has happened.
const TELL_PATIENCE: Duration = Duration::from_secs(12);
/// And of attempts whose client is not theirs: those that come to nothing are told of when nothing more is heard.
const TELL_OF_OTHERS_PATIENCE: Duration = Duration::from_secs(35);
/// How long the lab's own look at the wire may lag behind on a busy machine.
const TAP_PATIENCE: Duration = Duration::from_secs(5);
/// A chore may be a flood.
const CHORE_PATIENCE: Duration = Duration::from_secs(300);
/// The longest that captures wait for what is overdue.
const CAPTURE_PATIENCE: Duration = Duration::from_secs(25);
/// How soon connects start that start together: by then all workers know of it.
const TOGETHER: Duration = Duration::from_millis(300);
/// And how long the lab waits for what should not come.
const QUIET: Duration = Duration::from_millis(400);

/// Sets how long the kernel of a namespace tries to connect.
fn patience(scenario: &Scenario, netns: &Netns) -> Result<()> {
    // Below 6.5 there is no such setting, and no such steps.
    let _ = netns.sysctl(&[("net/ipv4/tcp_syn_linear_timeouts", &scenario.syn_linear.to_string())]);
    netns.sysctl(&[("net/ipv4/tcp_syn_retries", &scenario.syn_retries.to_string())])
}

/// When connects start that start together.
#[derive(Clone, Copy, Debug)]
struct Moment {
    /// Since 1970.
    at: Duration,
    /// How many do so far.
    connects: usize,
}

/// A scenario under way.
#[derive(Debug)]
pub struct Run<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) family: Family,
    background: BTreeMap<String, Pending>,
    /// When connects start that start together.
    moments: BTreeMap<String, Moment>,
    /// What else is under way.
    pub(super) chores: BTreeMap<String, Pending>,
    attempted: Vec<Attempted>,
    agents: Agents,
    captures: Vec<Captures>,
    /// Listeners that a flood went to, each with its node.
    floods: Vec<(String, SocketAddr)>,
    pub(super) foreign: Vec<Constant>,
    pub(super) world: World,
}

impl<'a> Run<'a> {
    /// Builds the world and starts the agents that run from the start.
    pub fn start(scenario: &'a Scenario, family: Family, program: &Path, watch: Watch) -> Result<Self> {
        let world = World::build(&scenario.topology, program)?;
        for (name, _) in world.namespaces() {
            patience(scenario, world.netns(name)?)?;
        }
        // Where the agent comes late, so do the captures: replay is to know what live knew.
        let early = || scenario.topology.nodes.iter().filter(|node| !node.late_agent);
        let mut captures = Vec::new();
        if let Some(dir) = &watch.captures {
            for node in early() {
                captures.push(Captures::start(world.netns(&node.name)?.name(), &dir.join(&node.name))?);
            }
        }
        let mut agents = Agents::new(&world, watch)?;
        for node in early() {
            agents.start(&world, &node.name)?;
        }
        Ok(Self {
            scenario,
            family,
            background: BTreeMap::new(),
            moments: BTreeMap::new(),
            chores: BTreeMap::new(),
            attempted: Vec::new(),
            agents,
            captures,
            floods: Vec::new(),
            foreign: Vec::new(),
            world,
        })
    }

    /// Does all steps. An error means that the lab did not get where the scenario wants it.
    pub fn steps(&mut self) -> Result<()> {
        for (number, step) in (1..).zip(&self.scenario.steps) {
            self.step(step)
                .map_err(|error| Error::Lab(format!("step {number}, {step:?}: {error}\n{}", self.story())))?;
        }
        Ok(())
    }

    /// What came of each flood by what the agents sent, once they have ended.
    pub fn flooded(&self, kept: &Kept) -> Result<Vec<Flooded>> {
        let mut counters = self.agents.counters()?;
        let of = |(node, listener): &(String, SocketAddr)| {
            let came = inbound::came(self.world.netns(node)?)?;
            let Some(counters) = counters.remove(node) else { return lab(format!("{node} has no agent")) };
            Ok(Flooded { listener: *listener, came, sums: Sums::of(kept, *listener), counters })
        };
        self.floods.iter().map(of).collect()
    }

    /// Waits for the agents' spans, ends the agents, and says what is wrong; nothing if all is right.
    pub fn verdict(&mut self) -> Result<Judgement> {
        let scenario = self.scenario;
        let from_afar = scenario.expect.iter().any(|expect| expect.at.is_some());
        let deadline = Instant::now() + if from_afar { TELL_OF_OTHERS_PATIENCE } else { TELL_PATIENCE };
        if self.agents.checked() {
            while !check::judge(scenario, &self.attempted, &self.agents.spans()).wrong.is_empty()
                && Instant::now() < deadline
            {
                std::thread::sleep(Duration::from_millis(50));
            }
            std::thread::sleep(QUIET);
        }
        self.outlast();
        let peaks = self.agents.memory_peaks();
        self.agents.stop()?;
        self.captures.iter_mut().try_for_each(Captures::end)?;
        if !self.agents.checked() {
            return Ok(Judgement::default());
        }
        let spans = self.agents.spans();
        let mut judgement = check::judge(scenario, &self.attempted, &spans);
        let wrong = &mut judgement.wrong;
        wrong.extend(upkeep::wrong(&scenario.agents, &peaks, &self.agents, self.world.dir()));
        wrong.extend(records::wrong(&self.agents.kept())?);
        for flood in self.flooded(&self.agents.kept())? {
            wrong.extend(flood.faults());
        }
        if !wrong.is_empty() {
            wrong.push(format!("spans:\n{}", check::table(&spans)));
            wrong.push(self.story());
            wrong.push(self.agents.logs());
        }
        if let Some(dir) = self.agents.captures() {
            replay::write(dir, &judgement.live)?;
        }
        Ok(judgement)
    }

    /// Waits until nothing pends on the wire, where captures are kept.
    fn outlast(&self) {
        let deadline = Instant::now() + CAPTURE_PATIENCE;
        let nodes = &self.scenario.topology.nodes;
        let due = || {
            let taps = nodes.iter().filter_map(|node| self.world.tap(&node.name).ok());
            taps.filter_map(|tap| lasting::due(&tap.seen())).max()
        };
        while !self.captures.is_empty() && Instant::now() < deadline && due().is_some_and(|due| due > Instant::now()) {
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// The world, for a look around.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The agents.
    pub fn agents(&self) -> &Agents {
        &self.agents
    }

    /// What the lab itself saw on the nodes' wires: handshakes and ends, not data.
    pub fn story(&self) -> String {
        let mut text = String::from("the wire as the lab saw it:\n");
        for node in &self.scenario.topology.nodes {
            let Ok(tap) = self.world.tap(&node.name) else { continue };
            let all = tap.seen();
            let Some(start) = all.first().map(|seen| seen.at) else { continue };
            for seen in all.iter().take(200) {
                let way = if seen.out { "out" } else { "in " };
                let after = seen.at.duration_since(start).as_secs_f64();
                text.push_str(&format!("  {} {after:8.3} if{} {way} {}\n", node.name, seen.ifindex, seen.segment));
            }
            if all.len() > 200 {
                text.push_str(&format!("  and {} more\n", all.len() - 200));
            }
        }
        text
    }

    pub(super) fn address(&self, name: &str, family: Family) -> Result<IpAddr> {
        let found = self.scenario.topology.address(name, family);
        found.ok_or_else(|| Error::Lab(format!("nothing with an address is called `{name}`")))
    }

    fn attempted(&self, name: &str) -> Result<&Attempted> {
        let found = self.attempted.iter().find(|attempted| attempted.connect.name == name);
        found.ok_or_else(|| Error::Lab(format!("no connect is called `{name}`")))
    }

    fn client(&self, name: &str) -> Result<SocketAddr> {
        let attempted = self.attempted(name)?;
        let local = attempted.results.first().and_then(|result| result.local);
        local.ok_or_else(|| Error::Lab(format!("where `{name}` came from is not known")))
    }

    /// The worker that has a socket, and the socket's name there.
    fn socket(&self, socket: &str) -> Result<(String, String)> {
        if let Some((host, name)) = socket.split_once('/') {
            return Ok((host.to_owned(), name.to_owned()));
        }
        let base = socket.rsplit_once('-').map_or(socket, |(base, _)| base);
        let attempted = self.attempted(socket).or_else(|_| self.attempted(base))?;
        Ok((attempted.connect.from.clone(), socket.to_owned()))
    }

    fn on_socket(&mut self, socket: &str, command: impl FnOnce(String) -> Command) -> Result<()> {
        let (worker, name) = self.socket(socket)?;
        self.world.worker(&worker)?.ask(command(name), PATIENCE).map(drop)
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Listen { on, port, accept, backlog, any, way } => {
                for (family, socket) in
                    [(self.family, port.to_string()), (self.family.other(), format!("{port}-other"))]
                {
                    let ip = if *any { family.any() } else { self.address(on, family)? };
                    let at = SocketAddr::new(ip, *port);
                    let (backlog, accept, way) = (*backlog, *accept, way.clone());
                    let command = Command::Listen { socket, at, backlog, accept, way };
                    self.world.worker(on)?.ask(command, PATIENCE)?;
                }
                Ok(())
            }
            Step::Connect(connect) => self.connect(connect),
            Step::Wait(name) => match (self.background.remove(name), self.chores.remove(name)) {
                (Some(pending), _) => self.connected(name, &pending),
                (None, Some(chore)) => chore.wait(CHORE_PATIENCE).map(drop),
                (None, None) => lab(format!("no connect `{name}` is in the background")),
            },
            Step::Sh { at, line, says } => self.sh(at, line, says.as_deref()),
            Step::Counter { at, name, least } => self.counter(at, name, *least),
            Step::Deny { pod, port } => self.deny(pod, *port),
            Step::AnswerAndReset { on, port } => {
                self.world.worker(on)?.ask(Command::AnswerAndReset { port: *port }, PATIENCE).map(drop)
            }
            Step::Flood { name, from, to: target, port, syns, rate } => {
                let to = SocketAddr::new(self.address(target, self.family)?, *port);
                let Some((_, node)) = self.scenario.topology.node_of(target) else { return lab("a flood of no pod") };
                inbound::count(self.world.netns(&node.name)?, to)?;
                self.floods.push((node.name.clone(), to));
                let command = Command::Flood { to, syns: *syns, rate: *rate };
                let chore = self.world.worker(from)?.begin(command)?;
                self.chores.insert(name.clone(), chore);
                Ok(())
            }
            Step::Send { socket, bytes } => {
                let bytes = *bytes;
                self.on_socket(socket, |socket| Command::Send { socket, bytes })
            }
            Step::Recv { socket, bytes } => {
                let bytes = *bytes;
                self.on_socket(socket, |socket| Command::Recv { socket, bytes })
            }
            Step::Shutdown { socket } => self.on_socket(socket, |socket| Command::Shutdown { socket }),
            Step::Close { socket, reset } => {
                let reset = *reset;
                self.on_socket(socket, |socket| Command::Close { socket, reset })
            }
            Step::Destroy { socket } => self.destroy(socket),
            Step::Forget { node } => self.world.forget_connections(node),
            Step::Translate { node, masquerade } => self.world.translate(node, Some(masquerade)),
            Step::Block { name, at, hook, kind, priority, times, rule } => {
                let rule = format!("{}\n  ", self.scenario.topology.fill(rule, self.family)).repeat(*times);
                self.world.netns(at)?.nft(&format!(
                    "table inet lab_{name} {{\n chain block {{\n  type {kind} hook {hook} priority {priority}; policy accept;\n  {rule}\n }}\n}}\n"
                ))
            }
            Step::Unblock(name) => {
                let names: Vec<String> = self.world.namespaces().map(|(_, netns)| netns.to_owned()).collect();
                let table = format!("lab_{name}");
                let gone =
                    names.iter().filter(|ns| command::run_in(ns, "nft", &["delete", "table", "inet", &table]).is_ok());
                if gone.count() == 0 { lab(format!("nothing was blocked as `{name}`")) } else { Ok(()) }
            }
            Step::FillConntrack { node } => conntrack::fill(self.world.netns(node)?),
            Step::Sleep(ms) => {
                std::thread::sleep(Duration::from_millis(*ms));
                Ok(())
            }
            Step::StartAgent(node) => {
                if let Some(dir) = self.agents.captures() {
                    self.captures.push(Captures::start(self.world.netns(node)?.name(), &dir.join(node))?);
                }
                self.agents.start(&self.world, node)
            }
            Step::StartPod(pod) => {
                self.world.add_pod(pod)?;
                patience(self.scenario, self.world.netns(pod)?)
            }
            Step::StopPod(pod) => self.world.remove_pod(pod),
            Step::Redirect { pod } => self.redirect(pod),
            Step::Swallow { pod, port } => self.swallow(pod, *port),
            Step::RedirectReplies { pod } => self.redirect_replies(pod),
            Step::TranslateByProgram { node } => self.translate_by_program(node),
            Step::Foreign { node } => self.foreign(node),
            Step::Inject { on, to, numbers_of } => self.inject(on, to, numbers_of),
            Step::AnswerFalsely { on, port, numbers_of, how } => {
                let numbers = match numbers_of {
                    None => FalseNumbers { seq: 0x1234_5678, ack: 0x9abc_def0 },
                    Some(name) => self.numbers(name)?,
                };
                self.world
                    .worker(on)?
                    .ask(Command::AnswerFalsely { port: *port, numbers, how: *how }, PATIENCE)
                    .map(drop)
            }
            Step::StaleAck { connect, seen } => self.stale_ack(connect, *seen),
            Step::Holds { on, port, state, count } => self.holds(on, *port, state, *count),
        }
    }

    fn connect(&mut self, connect: &Connect) -> Result<()> {
        let family = if connect.other_family { self.family.other() } else { self.family };
        let to = SocketAddr::new(self.address(&connect.to, family)?, connect.port);
        let way = connect.way.clone();
        let how =
            ConnectHow { from_port: connect.from_port, timeout_ms: connect.timeout, blocking: connect.blocking, way };
        let socket = connect.name.clone();
        let (at, cpu) = self.moment(connect)?;
        let command = if connect.count == 1 {
            Command::Connect { socket, to, how }
        } else {
            Command::ConnectMany { socket, to, count: connect.count, how, close: connect.close, at, cpu }
        };
        let began = since_1970()?;
        // Before the command: its segments may pass before the lab goes on.
        let at = Instant::now();
        let pending = self.world.worker(&connect.from)?.begin(command)?;
        self.attempted.push(Attempted { connect: connect.clone(), to, began, ended: None, at, results: Vec::new() });
        if connect.background {
            self.background.insert(connect.name.clone(), pending);
            return Ok(());
        }
        self.connected(&connect.name, &pending)
    }

    /// When a connect starts that starts together with others, in nanoseconds since 1970, and on which CPU.
    fn moment(&mut self, connect: &Connect) -> Result<(Option<u64>, usize)> {
        let Some(word) = &connect.together else { return Ok((None, 0)) };
        let now = since_1970()?;
        let moment = self.moments.entry(word.clone()).or_insert(Moment { at: now + TOGETHER, connects: 0 });
        moment.connects += 1;
        Ok((u64::try_from(moment.at.as_nanos()).ok(), moment.connects))
    }

    fn connected(&mut self, name: &str, pending: &Pending) -> Result<()> {
        let Done::Connected(results) = pending.wait(PATIENCE)? else { return lab("a connect with no result") };
        let ended = since_1970()?;
        let Some(attempted) = self.attempted.iter_mut().find(|attempted| attempted.connect.name == name) else {
            return lab(format!("no connect is called `{name}`"));
        };
        attempted.ended = Some(ended);
        attempted.results = results;
        let wanted = &attempted.connect.result;
        match attempted.results.iter().find(|result| wanted.split('|').all(|word| word != result.result)) {
            Some(other) => {
                lab(format!("the application got {} and not {wanted}, after {} us", other.result, other.took_us))
            }
            None => Ok(()),
        }
    }

    fn destroy(&mut self, name: &str) -> Result<()> {
        let client = self.client(name)?;
        let from = self.attempted(name)?.connect.from.clone();
        let netns = self.world.netns(&from)?;
        let port = format!("= :{}", client.port());
        let gone = netns.run("ss", &["-K", "-t", "-n", "-H", "sport", &port])?;
        if gone.trim().is_empty() {
            return lab(format!("no socket of `{name}` was there to be destroyed"));
        }
        Ok(())
    }

    /// Sends a server's segment of an old connection to the client's end of another, which has the same ports.
    fn inject(&mut self, on: &str, to: &str, numbers_of: &str) -> Result<()> {
        let numbers = self.numbers(numbers_of)?;
        let (src, dst) = (self.attempted(to)?.to, self.client(to)?);
        let FalseNumbers { seq, ack } = numbers;
        // Its timestamps are an old connection's, and so is its echo.
        let segment = Segment { src, dst, seq, ack, flags: ACK, payload: 0, timestamps: Some((1, 1)) };
        let command = Command::Inject { packet: segment.build(), to: dst.ip() };
        self.world.worker(on)?.ask(command, PATIENCE).map(drop)
    }

    /// Where the streams of a connect that ended stand: what its server's stale ACK would say.
    fn numbers(&self, name: &str) -> Result<FalseNumbers> {
        let (client, since) = (self.client(name)?, self.attempted(name)?.at);
        if let Some((ack, seq)) = tap::ends(&self.wire(client, since), client) {
            return Ok(FalseNumbers { seq, ack });
        }
        lab(format!("nothing of `{name}` was seen on the wire"))
    }

    /// What a client's end sent and got since a time, once the wire is quiet: the taps may lag behind.
    fn wire(&self, client: SocketAddr, since: Instant) -> Vec<Segment> {
        let taps = self.scenario.topology.nodes.iter().filter_map(|node| self.world.tap(&node.name).ok());
        let mut stories = taps.map(|tap| {
            tap.wait_quiet(Duration::from_millis(100));
            tap.of_client(client, since)
        });
        stories.find(|story| !story.is_empty()).unwrap_or_default()
    }

    fn stale_ack(&self, name: &str, wanted: bool) -> Result<()> {
        let (client, since) = (self.client(name)?, self.attempted(name)?.at);
        let deadline = Instant::now() + TAP_PATIENCE;
        loop {
            let story = self.wire(client, since);
            match (stale_ack(&story), wanted) {
                (Some(_), true) | (None, false) => return Ok(()),
                (Some(segment), false) => return lab(format!("a stale ACK answered `{name}`: {segment}")),
                (None, true) if Instant::now() > deadline => return lab(format!("no stale ACK answered `{name}`")),
                (None, true) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn holds(&self, on: &str, port: u16, state: &str, count: usize) -> Result<()> {
        let netns = self.world.netns(on)?;
        let filter = format!("= :{port}");
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let held = netns.run("ss", &["-t", "-n", "-H", "state", state, "sport", &filter])?;
            if held.lines().count() == count {
                return Ok(());
            }
            if Instant::now() > deadline {
                return lab(format!("{on} should hold {count} of port {port} in {state}, and holds:\n{held}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn since_1970() -> Result<Duration> {
    SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| Error::Lab(error.to_string()))
}
