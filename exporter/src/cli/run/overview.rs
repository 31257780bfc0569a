//! What the running agent knows of itself: where health and `synspan status` take it from.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use super::signals::Untold;
use super::sink::Tally;
use super::usage;
use crate::capture::live::{CounterReader, Features, monotonic};
use crate::capture::observation::Mono;
use crate::cli::exporters::delivery_options;
use crate::cli::stages;
use crate::config::{Config, ExporterKind};
use crate::deliver::{Delivery, DropReason, Snapshot};
use crate::health::Source;
use crate::health::heartbeat::Heartbeat;
use crate::health::judge::{self, Facts};
use crate::health::status::{
    Attempts, Away, Capture, Dropped, Exporter, Failed, FailedBy, Kubernetes, Missing, Moment, Names as NamesStatus,
    Pods, Seen, Status, Thread, Untold as UntoldStatus,
};
use crate::identify::clock::WallClock;
use crate::identify::kubernetes::registry::Registry;
use crate::identify::kubernetes::status::SharedStatus;

/// How long what is known of pods may be busy before it is left out.
const BUSY: u32 = 20;

/// The signs of life of the threads, and whether capture is attached: what the threads write.
#[derive(Clone)]
pub struct Signs {
    /// Of the capture thread.
    pub capture: Heartbeat,
    /// Of the telemetry thread.
    pub telemetry: Heartbeat,
    attached: Arc<AtomicBool>,
}

impl Signs {
    /// None yet.
    pub fn new() -> Self {
        let now = monotonic();
        Self { capture: Heartbeat::new(now), telemetry: Heartbeat::new(now), attached: Arc::default() }
    }

    /// Every interface of the start has had its turn.
    pub fn attached(&self) {
        self.attached.store(true, Ordering::Relaxed);
    }
}

/// Where names come from, and how that goes.
pub struct Naming {
    node: String,
    /// None where Kubernetes is not asked.
    registry: Option<Arc<Mutex<Registry>>>,
    status: SharedStatus,
    nameless: Arc<AtomicU64>,
}

impl Naming {
    /// `registry` is none where Kubernetes is not asked; `nameless` counts the ends that went out with no name.
    pub fn new(
        config: &Config,
        registry: Option<Arc<Mutex<Registry>>>,
        status: SharedStatus,
        nameless: Arc<AtomicU64>,
    ) -> Self {
        Self { node: stages::node_name(config), registry, status, nameless }
    }
}

/// All of it.
pub struct Overview {
    started: Mono,
    signs: Signs,
    counters: CounterReader,
    seen: Capture,
    tally: Tally,
    dropped: Arc<AtomicU64>,
    naming: Naming,
    delivery: Arc<Delivery>,
    untold: Arc<Untold>,
    window: Duration,
    /// Where each exporter sends to.
    endpoints: HashMap<String, String>,
    console: bool,
}

/// What an [`Overview`] is put together from.
pub struct Parts<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// When the agent started.
    pub started: Mono,
    /// The threads' signs of life.
    pub signs: Signs,
    /// Capture's counters.
    pub counters: CounterReader,
    /// What there is to see.
    pub features: &'a Features,
    /// The tracker's counts.
    pub tally: Tally,
    /// Findings that found no room.
    pub dropped: Arc<AtomicU64>,
    /// Where names come from.
    pub naming: Naming,
    /// The exporters.
    pub delivery: Arc<Delivery>,
    /// What is not told.
    pub untold: Arc<Untold>,
}

impl Overview {
    /// Puts it together.
    pub fn new(parts: Parts<'_>) -> Self {
        let Parts { config, started, signs, counters, features, tally, dropped, naming, delivery, untold } = parts;
        let exporters = delivery_options(config).exporters.into_iter();
        let endpoints = exporters.map(|exporter| (exporter.id.clone(), exporter.grpc.url())).collect();
        let console = config.trace_exporters().any(|exporter| matches!(exporter.kind, ExporterKind::Debug(_)));
        let (seen, window) = (seen(features), config.tracking.reuse_window);
        Self { started, signs, counters, seen, tally, dropped, naming, delivery, untold, window, endpoints, console }
    }

    fn capture(&self) -> Capture {
        let (counters, seen) = (self.counters.read(), self.tally.get().observations);
        Capture {
            attached: self.signs.attached.load(Ordering::Relaxed),
            hooks: counters.attached_points,
            blind: counters.blind_points,
            blind_pods: counters.blind_pods,
            observations: Seen {
                all: seen.all(),
                socket: seen.socket,
                pod_nic: seen.pod_nic,
                node_nic: seen.node_nic,
                overlay: seen.overlay,
                kernel: seen.kernel,
            },
            lost: counters.lost,
            lost_inbound: counters.lost_inbound,
            drops_untold: counters.drops_untold,
            summed: counters.summed,
            summed_unplaced: counters.summed_unplaced,
            pending_overwritten: counters.pending_overwritten,
            unreadable: counters.unreadable,
            undecodable: counters.undecodable,
            unasked: counters.unasked,
            flags_reasserted: counters.flags_reasserted,
            ..self.seen.clone()
        }
    }

    fn attempts(&self, now: Mono) -> Attempts {
        let counts = self.tally.get();
        Attempts {
            open: counts.open_attempts,
            finished: counts.finished_attempts,
            evicted: counts.evicted_attempts,
            tenancies: counts.tenancies,
            tenancies_evicted: counts.evicted_tenancies,
            reuses: counts.reuses,
            findings_dropped: self.dropped.load(Ordering::Relaxed),
            ledger_reaches_s: now.since(counts.remembers_since.max(self.started)).as_secs_f64(),
            reuse_window_s: self.window.as_secs_f64(),
        }
    }

    fn untold(&self) -> UntoldStatus {
        let (counts, untold) = (self.tally.get(), &self.untold);
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        UntoldStatus {
            loopback: counts.quiet_loopback,
            health_checks: of(&untold.health_checks),
            sidecar: of(&untold.sidecar),
            own_exports: counts.quiet_own,
            by_ratio: of(&untold.by_ratio),
            by_ceiling: of(&untold.by_ceiling),
            by_budget: of(&untold.by_budget),
            stalled: of(&untold.stalled),
            overflowed: of(&untold.overflowed),
        }
    }

    fn names(&self, when: When) -> NamesStatus {
        let kubernetes = self.naming.registry.as_ref().map(|registry| {
            let status = self.naming.status.get();
            let why = status.last_error.unwrap_or_default();
            Kubernetes {
                synced: status.synced,
                last_contact: status.last_contact.map(|at| when.was(at)),
                away: status.lost_since.map(|since| Away { since: when.was(since), why }),
                requests: status.requests,
                lists: status.lists,
                pods: patiently(registry).map(|registry| {
                    let counts = registry.counts();
                    Pods {
                        known: wide(registry.len()),
                        bytes: wide(registry.weight()),
                        conflicts: counts.conflicts,
                        out_of_order: counts.out_of_order,
                        doubtful: counts.doubtful,
                    }
                }),
            }
        });
        NamesStatus { kubernetes, nameless: self.naming.nameless.load(Ordering::Relaxed) }
    }

    fn exporter(&self, snapshot: Snapshot, when: When) -> Exporter {
        let Snapshot { exporter, signal, counters } = snapshot;
        let dropped = DropReason::ALL
            .into_iter()
            .map(|reason| Dropped { reason: reason.name().to_owned(), records: counters.dropped(reason) });
        Exporter {
            endpoint: self.endpoints.get(&exporter).cloned().unwrap_or_default(),
            exporter,
            signal: signal.name().to_owned(),
            offered: counters.offered,
            sent: counters.sent,
            requests: counters.requests,
            bytes: counters.bytes,
            failures: counters.failures,
            failures_by: counters
                .failures_by
                .iter()
                .map(|&(status, requests)| FailedBy { status: status.to_owned(), requests })
                .collect(),
            dropped: dropped.collect(),
            queued: counters.queued,
            queued_bytes: counters.queued_bytes,
            in_flight: counters.in_flight,
            failing_since: counters.failing_since.map(|since| when.was(since)),
            last_failure: counters.last_failure.map(|(at, why)| Failed { at: when.was(at), why }),
        }
    }
}

impl Source for Overview {
    fn facts(&self) -> Facts {
        let names = match &self.naming.registry {
            None => judge::Names::NotAsked,
            Some(_) => {
                let status = self.naming.status.get();
                if status.synced { judge::Names::Synced } else { judge::Names::Waiting(status.last_error) }
            }
        };
        Facts {
            // Before the clock is read: a beat must not be later than now.
            capture: self.signs.capture.last(),
            telemetry: self.signs.telemetry.last(),
            now: monotonic(),
            clock: WallClock::now(),
            started: self.started,
            attached: self.signs.attached.load(Ordering::Relaxed),
            blind: self.counters.blind_points(),
            names,
        }
    }

    fn status(&self) -> Status {
        let facts = self.facts();
        let when = When { now: facts.now, clock: facts.clock };
        let threads = [("capture", facts.capture), ("telemetry", facts.telemetry)];
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.naming.node.clone(),
            pid: std::process::id(),
            started: when.at(self.started),
            live: judge::live(&facts),
            ready: judge::ready(&facts),
            threads: threads.map(|(name, last)| Thread { name: name.to_owned(), last: when.at(last) }).into(),
            capture: self.capture(),
            attempts: self.attempts(facts.now),
            untold: self.untold(),
            process: usage::own(),
            names: self.names(when),
            console: self.console,
            exporters: self.delivery.counters().into_iter().map(|snapshot| self.exporter(snapshot, when)).collect(),
        }
    }
}

/// Now, for all times of one status.
#[derive(Clone, Copy)]
struct When {
    now: Mono,
    clock: WallClock,
}

impl When {
    fn at(self, time: Mono) -> Moment {
        Moment::at(time, self.now, self.clock)
    }

    fn was(self, time: Instant) -> Moment {
        Moment::ago(time.elapsed(), self.now, self.clock)
    }
}

/// What does not change after the start.
fn seen(features: &Features) -> Capture {
    let can = &features.can;
    let missing = [
        (&features.error_tracepoint, "errors of sockets"),
        (&features.netns_cookie, "network namespaces of sockets"),
        (&features.drops, "drops in the kernel"),
        (&features.drop_reasons, "their reasons"),
        (&features.call_results, "what connect() returns"),
        (&can.conntrack, "connection tracking"),
        (&can.sock_diag, "sockets by sock_diag"),
        (&can.namespaces, "sockets in other network namespaces"),
        (&can.numbers, "sequence numbers of open connections"),
    ];
    let missing = missing.into_iter().filter_map(|(feature, what)| match feature {
        crate::capture::live::Feature::Present => None,
        crate::capture::live::Feature::Absent(why) => Some(Missing { what: what.to_owned(), why: why.clone() }),
    });
    Capture {
        cgroup: features.cgroup.display().to_string(),
        attach: features.attach.as_str().to_owned(),
        missing: missing.collect(),
        ..Capture::default()
    }
}

/// The lock, if it can be had within some milliseconds: the runtime's tasks must not wait for a thread that is stuck.
fn patiently<T>(lock: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    for _ in 0..BUSY {
        match lock.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    None
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
