//! The telemetry thread: who is who, encoding, the console, and the exporters' queues.

use std::io::Stdout;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use super::sink::{Batch, Message};
use crate::answer::held::{Lookup, Name, Named};
use crate::answer::recent::Recent;
use crate::cli::stages;
use crate::config::{Color, Config, ExporterKind};
use crate::deliver::console::{Console, Options as ConsoleOptions};
use crate::deliver::{Delivery, DropReason, Parcel, Priority};
use crate::encode::spans::Encoder;
use crate::identify::Identify;
use crate::identify::cgroup::CgroupPaths;
use crate::identify::chain::Identities;
use crate::identify::clock::WallClock;
use crate::identify::describe::Describer;
use crate::identify::host::HostProcesses;
use crate::identify::node::Node;
use crate::identify::static_list::StaticList;
use crate::track::attempt::Finding;
use crate::track::holders::Holders;

/// Where processes are looked up.
const PROC: &str = "/proc";

/// Everything after the tracker.
pub struct Telemetry {
    describer: Describer,
    encoder: Encoder,
    consoles: Vec<Console<Stdout>>,
    delivery: Arc<Delivery>,
    recent: Arc<Recent>,
}

impl Telemetry {
    /// Builds the stages by the configuration. `all` shows every attempt on the console; `recent` remembers
    /// attempts for who asks.
    pub fn new(config: &Config, all: bool, delivery: Arc<Delivery>, recent: Arc<Recent>) -> Self {
        let name = stages::node_name(config);
        let node = Node::new(&name, false, &config.resource_attributes);
        let paths = cgroup_mount().map(|mount| Arc::new(CgroupPaths::new(mount)));
        let fixed = StaticList::new(&stages::static_list(config), &node, paths.clone());
        let host = Arc::new(HostProcesses::new(Path::new(PROC), node.clone(), paths));
        let sources: Vec<Arc<dyn Identify>> = vec![Arc::new(fixed), host.clone()];
        let describer = Describer::new(Identities::new(sources), Some(host), &node, config.tracking.max_tenancies);
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
            encoder: Encoder::new(stages::encode(config, node.name(), false)),
            consoles: consoles.collect(),
            delivery,
            recent,
        }
    }

    /// Works until the capture thread has ended and all it told is dealt with.
    pub fn run(mut self, receiver: &Receiver<Batch>) {
        while let Ok(batch) = receiver.recv() {
            for message in batch {
                match message {
                    Message::Called(process, time) => self.describer.notice(&process, time),
                    Message::Found(finding) => self.tell(finding),
                    Message::Held(lookup, holders) => self.name(lookup, holders),
                    Message::Tick(now) => self.on_console(|console| console.tick(now)),
                }
            }
        }
        self.on_console(Console::finish);
    }

    fn tell(&mut self, finding: Finding) {
        match finding {
            Finding::Attempt(attempt) => {
                let described = self.describer.describe(attempt, WallClock::now());
                self.recent.push(&described);
                let encoded = self.encoder.encode(&described);
                self.on_console(|console| console.attempt(&described));
                let priority = if encoded.keep { Priority::Failure } else { Priority::Success };
                self.delivery.offer(Parcel::traces(priority, encoded.resource_spans));
            }
            Finding::Inbound(summary) => self.on_console(|console| console.inbound(&summary)),
        }
    }

    /// Gives those who held a port their names.
    fn name(&self, lookup: Lookup, holders: Holders) {
        let names = holders.found.iter().map(|holder| {
            let process = holder.process.as_deref();
            let address = holder.tuple.src.addr.ip();
            Name {
                identity: self.describer.past_client(holder.serial, process, address, holder.opened),
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

/// Where cgroup2 is mounted; cgroups have no paths without it, and capture does not start.
fn cgroup_mount() -> Option<std::path::PathBuf> {
    crate::capture::live::cgroup2_mount().ok()
}
