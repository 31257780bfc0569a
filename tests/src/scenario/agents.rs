//! The agents and the receiver of a run.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::agent::{self, Agent, Sink};
use crate::counters::Counters;
use crate::error::{Result, lab};
use crate::receiver::{Kept, Receiver};
use crate::seen::Span;
use crate::world::World;

/// How long a Collector may take to write down what it got.
const WRITES: Duration = Duration::from_secs(15);

/// How a run is watched.
#[derive(Clone, Debug)]
pub struct Watch {
    /// The agent's program; without one the scenario runs unwatched, and only the lab's own checks count.
    pub agent: Option<PathBuf>,
    /// Hand the agents' OTLP to this receiver instead of the lab's own.
    pub forward: Option<SocketAddr>,
    /// Keep capture files of every interface here, and what the agents said.
    pub captures: Option<PathBuf>,
    /// Print the agents' console trees, and send nothing.
    pub console: bool,
}

/// The agents of a run, one a node, and where they send to.
#[derive(Debug)]
pub struct Agents {
    running: Vec<Agent>,
    /// What those counted that another took the place of.
    before: Vec<Counters>,
    receiver: Receiver,
    watch: Watch,
}

impl Agents {
    /// Makes the receiver, reachable from every node. No agent runs yet.
    pub fn new(world: &World, watch: Watch) -> Result<Self> {
        let receiver = Receiver::start(watch.forward)?;
        for node in &world.topology().nodes {
            receiver.listen(&node.name, world.netns(&node.name)?.name())?;
            if let Some(cluster) = world.cluster() {
                receiver.relay(world.netns(&node.name)?.name(), cluster.server)?;
            }
        }
        Ok(Self { running: Vec::new(), before: Vec::new(), receiver, watch })
    }

    /// Starts a node's agent and waits until it captures.
    pub fn start(&mut self, world: &World, node: &str) -> Result<()> {
        let Some(program) = self.watch.agent.clone() else { return Ok(()) };
        let sink = if self.watch.console { Sink::Console } else { Sink::Receiver };
        self.running.push(Agent::start(world, node, &program, sink)?);
        Ok(())
    }

    /// Ends a node's agent as an update would, and starts it anew.
    pub fn restart(&mut self, world: &World, node: &str) -> Result<()> {
        for agent in self.running.iter_mut().filter(|agent| agent.node() == node) {
            agent.stop()?;
            self.before.extend(Counters::of(&agent.stderr()));
        }
        self.running.retain(|agent| agent.node() != node);
        self.start(world, node)
    }

    /// What a node's agent says of itself: `synspan status --json`.
    pub fn status(&self, world: &World, node: &str) -> Result<Value> {
        let Some(program) = &self.watch.agent else { return lab("there is no agent to ask") };
        let text = agent::ask(world, node, program, &["status", "--json"])?;
        // Its standard error, if it says anything there, comes after.
        let mut values = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) => lab(format!("the agent of {node} gave no JSON: {error}: {text}")),
            None => lab(format!("the agent of {node} said nothing of itself")),
        }
    }

    /// What each counted until its end, by node; an error if one left no count.
    pub fn counters(&self) -> Result<BTreeMap<String, Counters>> {
        let of = |(node, log): (&str, String)| match Counters::of(&log) {
            Some(counters) => Ok((node.to_owned(), counters)),
            None => lab(format!("the agent of {node} left no line `synspan counters`:\n{log}")),
        };
        self.stderrs().map(of).collect()
    }

    /// Ends all, first to last.
    pub fn stop(&mut self) -> Result<()> {
        let mut result = Ok(());
        for agent in &mut self.running {
            let stopped = agent.stop();
            result = result.and(stopped);
        }
        result
    }

    /// The spans so far.
    pub fn spans(&self) -> Vec<Span> {
        self.receiver.spans()
    }

    /// All requests so far, of every signal.
    pub fn kept(&self) -> std::sync::MutexGuard<'_, crate::receiver::Kept> {
        self.receiver.kept()
    }

    /// What a Collector wrote into a folder of what the agents sent, once all of it is there; after some seconds, what
    /// is there.
    pub fn written(&self, dir: &Path) -> Result<Kept> {
        let counters: Vec<Counters> = self.before.iter().cloned().chain(self.counters()?.into_values()).collect();
        let sent = |signal| counters.iter().map(|counters| counters.sent(signal)).sum::<u64>();
        let wanted = [sent("traces"), sent("logs"), sent("metrics")];
        let deadline = Instant::now() + WRITES;
        loop {
            let kept = Kept::written(dir);
            let all = |kept: &Kept| kept.items().iter().zip(&wanted).all(|(is, wanted)| is >= wanted);
            match kept {
                Ok(kept) if all(&kept) || Instant::now() > deadline => return Ok(kept),
                // The end of a line may be under way.
                Err(error) if Instant::now() > deadline => return Err(error),
                Ok(_) | Err(_) => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    /// Whether there is anything to check: spans come to the lab.
    pub fn checked(&self) -> bool {
        self.watch.agent.is_some() && !self.watch.console && !self.receiver.forwards()
    }

    /// Where captures are kept.
    pub fn captures(&self) -> Option<&Path> {
        self.watch.captures.as_deref()
    }

    /// What the agents said on standard error.
    pub fn logs(&self) -> String {
        self.running.iter().map(|agent| format!("--- agent of {}\n{}", agent.node(), agent.stderr())).collect()
    }

    /// What each said on standard error, by node.
    pub fn stderrs(&self) -> impl Iterator<Item = (&str, String)> {
        self.running.iter().map(|agent| (agent.node(), agent.stderr()))
    }

    /// The most memory that each has held so far, in KiB, by node.
    pub fn memory_peaks(&self) -> Vec<(String, u64)> {
        let peak = |id: u32| -> Option<u64> {
            let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
            line.trim().strip_suffix("kB")?.trim().parse().ok()
        };
        self.ids().filter_map(|(node, id)| Some((node.to_owned(), peak(id)?))).collect()
    }

    /// Node and process id of each.
    pub fn ids(&self) -> impl Iterator<Item = (&str, u32)> {
        self.running.iter().map(|agent| (agent.node(), agent.id()))
    }
}
