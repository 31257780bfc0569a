//! The telemetry thread: who is who, encoding, the console, and the exporters' queues.

use std::collections::HashMap;
use std::io::Stdout;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::names::Names;
use super::signals::{Signals, Told, Untold};
use super::sink::{Batch, Message};
use super::waiting::Waiting;
use crate::answer::held::{Lookup, Name, Named};
use crate::answer::recent::Recent;
use crate::capture::live::monotonic;
use crate::capture::probe::kernel::in_initial_pid_namespace;
use crate::cli::stages;
use crate::config::{Color, Config, ExporterKind};
use crate::deliver::console::{Console, Options as ConsoleOptions};
use crate::deliver::{Delivery, DropReason};
use crate::health::heartbeat::Heartbeat;
use crate::identify::cgroup::CgroupPaths;
use crate::identify::chain::Identities;
use crate::identify::clock::WallClock;
use crate::identify::describe::{Described, Describer};
use crate::identify::host::HostProcesses;
use crate::identify::kubernetes::registry::Registry;
use crate::identify::kubernetes::services::ServiceNames;
use crate::identify::kubernetes::{Pods, has_v1_cgroups};
use crate::identify::static_list::StaticList;
use crate::identify::{End, Identify};
use crate::track::attempt::Finding;
use crate::track::flow::Flow;
use crate::track::holders::Holders;

/// Where processes are looked up, if the agent is in the machine's own pid namespace.
const PROC: &str = "/proc";
/// With nothing to do, the thread says this often that it goes on.
const IDLE: Duration = Duration::from_secs(1);

/// Everything after the tracker.
pub struct Telemetry {
    describer: Describer,
    signals: Signals,
    consoles: Vec<Console<Stdout>>,
    recent: Arc<Recent>,
    waiting: Waiting,
    /// The flows of attempts that wait, by the attempts' serials: an entry for each that waits.
    flows: HashMap<u64, Vec<Flow>>,
}

impl Telemetry {
    /// Builds the stages by the configuration. `all` shows every attempt on the console; `recent` remembers
    /// attempts for who asks; `names` is the source that Kubernetes is, where there is one.
    pub fn new(config: &Config, all: bool, delivery: Arc<Delivery>, recent: Arc<Recent>, names: Names) -> Self {
        let node = names.node;
        let paths = cgroup_mount().map(|mount| Arc::new(CgroupPaths::new(mount)));
        let fixed = StaticList::new(&stages::static_list(config), &node, paths.clone());
        let host = Arc::new(HostProcesses::new(processes(), node.clone(), paths.clone()));
        let pods = names.registry.map(|registry| Arc::new(pods(registry, paths)) as Arc<dyn Identify>);
        let mut sources: Vec<Arc<dyn Identify>> = vec![Arc::new(fixed)];
        sources.extend(pods);
        sources.push(host.clone());
        let identities = Identities::with_late(sources, names.late);
        let services = names.services.map(|services| Arc::new(ServiceNames(services)) as Arc<dyn Identify>);
        let network = Arc::new(node.network());
        let describer =
            Describer::new(identities, Some(host), &node, config.tracking.max_tenancies).with_services(services);
        let consoles = config.trace_exporters().filter_map(|exporter| match &exporter.kind {
            ExporterKind::Debug(debug) => Some(match debug.color {
                Color::Auto => Console::stdout(all || debug.all),
                Color::Always | Color::Never => {
                    let options = ConsoleOptions { all: all || debug.all, colour: debug.color == Color::Always };
                    Console::new(std::io::stdout(), options)
                }
            }),
            _ => None,
        });
        Self {
            describer,
            signals: Signals::new(config, node.name(), names.covered, network, delivery, monotonic()),
            consoles: consoles.collect(),
            recent,
            waiting: Waiting::new(config.kubernetes.unknown_wait),
            flows: HashMap::new(),
        }
    }

    /// How many ends went out with no name, for whoever tells of it.
    pub fn nameless(&self) -> Arc<AtomicU64> {
        self.describer.nameless_count()
    }

    /// What is not told, for whoever counts it.
    pub fn untold(&self) -> Arc<Untold> {
        self.signals.untold()
    }

    /// Works until the capture thread has ended and all it told is dealt with.
    pub fn run(mut self, receiver: &Receiver<Batch>, heartbeat: &Heartbeat) {
        loop {
            heartbeat.beat(monotonic());
            let pause = self.waiting.next_look(Instant::now()).unwrap_or(IDLE);
            match receiver.recv_timeout(pause) {
                Ok(batch) => self.take(batch),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.look_again(Instant::now());
        }
        // There is no later.
        for attempt in self.waiting.all() {
            let described = self.describer.describe_now(attempt, WallClock::now());
            self.say(&described);
        }
        if self.describer.nameless() > 0 {
            tracing::info!(
                "{} ends of connections went out with no name: nothing knew them in time",
                self.describer.nameless()
            );
        }
        self.signals.tick(monotonic(), true);
        self.on_console(Console::finish);
    }

    fn take(&mut self, batch: Batch) {
        for message in batch {
            match message {
                Message::Called(process, netns, time) => self.describer.notice(&process, netns, time),
                Message::Found(finding) => self.tell(finding),
                Message::Survey(survey) => self.signals.survey(&survey),
                Message::Held(lookup, holders) => self.name(lookup, holders),
                Message::Tick(now) => {
                    self.on_console(|console| console.tick(now));
                    self.signals.tick(now, false);
                }
            }
        }
    }

    fn tell(&mut self, finding: Finding) {
        match finding {
            Finding::Attempt(attempt) => match self.describer.describe(attempt, WallClock::now()) {
                Ok(described) => self.say(&described),
                Err(attempt) => {
                    let serial = attempt.serial;
                    match self.waiting.put(attempt, Instant::now()) {
                        Some(attempt) => {
                            let described = self.describer.describe_now(attempt, WallClock::now());
                            self.say(&described);
                        }
                        None => {
                            self.flows.insert(serial, Vec::new());
                        }
                    }
                }
            },
            Finding::Inbound(summary) => {
                self.on_console(|console| console.inbound(&summary));
                self.signals.inbound(&summary);
            }
            Finding::Stalled(attempt) => {
                let described = self.describer.describe_passing(attempt, WallClock::now());
                self.signals.stalled(&self.signals.privacy().apply(&described));
            }
            // The attempt is told first: its names are the flow's.
            Finding::Flow(flow) => match self.flows.get_mut(&flow.serial) {
                Some(wait) => wait.push(*flow),
                None => self.flow(*flow),
            },
        }
    }

    /// Whoever was not known and may be now, or has waited long enough.
    fn look_again(&mut self, now: Instant) {
        for (attempt, due) in self.waiting.look(now) {
            let described = if due {
                Ok(self.describer.describe_now(attempt, WallClock::now()))
            } else {
                self.describer.describe(attempt, WallClock::now())
            };
            match described {
                Ok(described) => self.say(&described),
                Err(attempt) => self.waiting.put_back(attempt),
            }
        }
        self.waiting.settle();
    }

    fn flow(&mut self, flow: Flow) {
        if self.signals.wants(&flow)
            && let Some(described) = self.describer.describe_flow(flow, WallClock::now())
        {
            self.signals.flow(&described);
        }
    }

    /// Tells of an attempt, then of its flows that came while it waited.
    fn say(&mut self, described: &Described) {
        self.say_attempt(described);
        for flow in self.flows.remove(&described.attempt.serial).unwrap_or_default() {
            self.flow(flow);
        }
    }

    fn say_attempt(&mut self, described: &Described) {
        if self.signals.is_quiet(described) {
            self.describer.quiet(described.attempt.serial);
            return;
        }
        // Who may ask the agent is root on this node, and is told all.
        self.recent.push(described);
        let told = self.signals.privacy().apply(described);
        self.on_console(|console| console.attempt(&told));
        if self.signals.attempt(&told, monotonic()) == Told::Kept {
            self.describer.sent(described.attempt.serial);
            // If it had not been before, it was with this one.
            if let Some(owner) = told.attempt.previous_owner.as_ref().filter(|owner| owner.serial != 0) {
                self.describer.sent(owner.serial);
            }
        }
    }

    /// Gives those who held a port their names.
    fn name(&self, lookup: Lookup, holders: Holders) {
        let names = holders.found.iter().map(|holder| {
            let process = holder.process.as_deref();
            let end = End { process, address: Some(holder.tuple.src.addr.ip()), ..End::default() };
            Name {
                identity: self.describer.past_client(holder.serial, &end, holder.opened),
                executable: process.and_then(|process| self.describer.executable(process, holder.opened)),
            }
        });
        let named = Named { names: names.collect(), holders, clock: WallClock::now() };
        // Who asked may have gone away.
        let _ = lookup.reply.send(named);
    }

    /// A console that cannot be written to says so once, and the rest goes on.
    fn on_console(&mut self, mut act: impl FnMut(&mut Console<Stdout>) -> std::io::Result<()>) {
        self.consoles.retain_mut(|console| match act(console) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!("cannot write to the console: {error}; nothing more is written there");
                false
            }
        });
    }
}

/// The counters of every exporter, for the last line of the log.
pub fn counted(delivery: &Delivery) -> serde_json::Value {
    let exporters = delivery.counters().into_iter().map(|snapshot| {
        let counters = &snapshot.counters;
        let dropped: serde_json::Map<_, _> = DropReason::ALL
            .into_iter()
            .filter(|&reason| counters.dropped(reason) > 0)
            .map(|reason| (reason.name().to_owned(), counters.dropped(reason).into()))
            .collect();
        serde_json::json!({
            "exporter": snapshot.exporter,
            "signal": snapshot.signal.name(),
            "offered": counters.offered,
            "sent": counters.sent,
            "requests": counters.requests,
            "bytes": counters.bytes,
            "failures": counters.failures,
            "retries": counters.retries,
            "dropped": dropped,
        })
    });
    exporters.collect()
}

/// Pods by their cgroups; on a host that sorts processes in v1 hierarchies too, by those.
fn pods(registry: Arc<Mutex<Registry>>, paths: Option<Arc<CgroupPaths>>) -> Pods {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    Pods::new(registry, paths, processes().filter(|_| has_v1_cgroups(&own)))
}

/// Where the kernel's numbers of processes are those of files.
fn processes() -> Option<PathBuf> {
    in_initial_pid_namespace().then(|| PathBuf::from(PROC))
}

/// Where cgroup2 is mounted; cgroups have no paths without it, and capture does not start.
fn cgroup_mount() -> Option<std::path::PathBuf> {
    crate::capture::live::cgroup2_mount().ok()
}
