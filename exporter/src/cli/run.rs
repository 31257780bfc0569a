//! `synspan run`: the stages put together, from the start to a clean end.

mod machine;
mod names;
mod overview;
mod own_telemetry;
mod priority;
mod signals;
mod sink;
mod telemetry;
mod usage;
mod waiting;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use super::{capabilities, exporters, stages};
use crate::answer::held::MAX_LOOKUPS;
use crate::answer::recent::Recent;
use crate::answer::server::{Server, Sources};
use crate::capture::live::{Can, Capture, Features};
use crate::config::Config;
use crate::deliver::{Delivery, StartError as DeliveryError};
use crate::health::server as health;
use crate::own;
use crate::track::Tracker;

use overview::{Naming, Overview, Parts, Signs};
use own_telemetry::Own;
use sink::{Tally, TrackerSink};
use telemetry::Telemetry;

/// Batches that may be on their way to the telemetry thread: a third of a second of a storm of 25,000 attempts a second.
const BATCHES: usize = 16;
/// How long the end may take to send what is pending.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// How often it is asked whether the interfaces of the start are attached.
const GLANCE: Duration = Duration::from_millis(20);

/// The command line.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// The configuration; without one: the defaults, and the console or what OTEL_EXPORTER_OTLP_* says
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Show every attempt on the console, not only those that failed, came late or reused a port
    #[arg(long)]
    pub all: bool,
}

/// Why the agent cannot run. Each is one line for people.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Capture.
    #[error("{0}")]
    Capture(#[from] crate::capture::live::StartError),
    /// Delivery.
    #[error("{0}")]
    Delivery(#[from] DeliveryError),
    /// The Kubernetes API.
    #[error("{0}")]
    Kubernetes(#[from] crate::identify::kubernetes::client::Error),
    /// synspan's own telemetry.
    #[error("service.telemetry: {0}")]
    Own(String),
    /// The runtime, a thread or a signal.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// Runs until SIGTERM or SIGINT, then sends what is pending. `log` is where what is logged can be sent to exporters. True
/// if it ended as it was told to; where it cannot run, the log says why. A backend that cannot be reached is no reason.
pub fn run(config: &Config, args: &Args, log: &own::log::Handle) -> bool {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("synspan-export")
        .on_thread_start(priority::after_the_workloads)
        .enable_all()
        .build();
    let mut own = None;
    let ended = match &runtime {
        Ok(runtime) => agent(config, args, runtime, log, &mut own),
        Err(error) => Err(Error::System(io::Error::new(error.kind(), error.to_string()))),
    };
    if let Err(error) = &ended {
        tracing::error!("{error}");
    }
    // Last of all, so that the reason goes out too.
    if let Some(own) = own {
        own.shutdown();
    }
    ended.is_ok()
}

/// The agent, from its start to its end. What it tells of itself is left in `own`.
fn agent(
    config: &Config,
    args: &Args,
    runtime: &Runtime,
    log: &own::log::Handle,
    own: &mut Option<Own>,
) -> Result<(), Error> {
    // Before anything is attached, so that a signal that comes early ends cleanly too.
    let (mut terminate, mut interrupt) = runtime
        .block_on(async { Ok::<_, io::Error>((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)) })?;
    let delivery = Arc::new(Delivery::start(exporters::delivery_options(config), runtime.handle())?);
    let dropped = Arc::new(AtomicU64::new(0));
    let (sender, receiver) = mpsc::sync_channel(BATCHES);
    let recent = Arc::new(Recent::default());
    let machine = machine::Machine::here();
    let (names, named) = names::start(config, machine.host_netns(), runtime)?;
    let own = own.insert(Own::start(config, &names.node, log, runtime)?);
    let signs = Signs::new();
    let pods = names.registry.clone();
    let telemetry = Telemetry::new(config, args.all, delivery.clone(), recent.clone(), names);
    let untold = telemetry.untold();
    let naming = Naming::new(config, pods, named.clone(), telemetry.nameless());
    let heartbeat = signs.telemetry.clone();
    let telemetry = std::thread::Builder::new().name("synspan-tell".to_owned()).spawn(move || {
        priority::after_the_workloads();
        telemetry.run(&receiver, &heartbeat);
    })?;
    let tally = Tally::default();
    let (lookups, asked) = mpsc::sync_channel(MAX_LOOKUPS);
    let (capture, features) = Capture::start_with(stages::capture(config), |features| {
        let options = machine.complete(stages::track(config), features);
        let (tracker, heartbeat) = (Tracker::new(options, machine.now), signs.capture.clone());
        TrackerSink::new(tracker, sender, dropped.clone(), tally.clone(), asked, heartbeat)
    })?;
    announce(&features);
    let overview = Arc::new(Overview::new(Parts {
        config,
        started: machine.now,
        signs: signs.clone(),
        counters: capture.counter_reader(),
        features: &features,
        tally: tally.clone(),
        dropped: dropped.clone(),
        naming,
        delivery: delivery.clone(),
        untold: untold.clone(),
    }));
    own.measure(config, overview.clone(), runtime)?;
    // Only now: where capture cannot start, because another agent runs, that one's socket stays as it is.
    let answering = answer(config, Sources { recent, lookups, health: overview.clone() }, runtime);
    let listening = config.agent.health.endpoint.map(|endpoint| {
        let options = health::Options { endpoint, metrics: config.agent.health.metrics };
        health::Server::start(options, overview, runtime.handle())
    });
    runtime.block_on(async {
        let ready = async {
            while !capture.is_settled() {
                tokio::time::sleep(GLANCE).await;
            }
            signs.attached();
            let counters = capture.counters();
            tracing::info!(hooks = counters.attached_points, blind = counters.blind_points, "capture ready");
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: sending what is pending"),
            _ = interrupt.recv() => tracing::info!("SIGINT: sending what is pending"),
            () = ready => (),
        }
    });
    drop((answering, listening));
    let counters = capture.counter_reader();
    // The capture thread ends with its sink, and the sink with the last findings; the telemetry thread
    // ends when it has told them.
    capture.stop();
    if telemetry.join().is_err() {
        tracing::error!("the telemetry thread panicked");
    }
    finish(runtime, &delivery);
    let counted = serde_json::json!({
        "capture": {
            "lost": counters.read().lost,
            "lost_inbound": counters.read().lost_inbound,
            "drops_untold": counters.read().drops_untold,
            "summed": counters.read().summed,
            "summed_unplaced": counters.read().summed_unplaced,
            "pending_overwritten": counters.read().pending_overwritten,
            "unreadable": counters.read().unreadable,
            "undecodable": counters.read().undecodable,
            "unasked": counters.read().unasked,
            "flags_reasserted": counters.read().flags_reasserted,
        },
        "track": tally.json(),
        "kubernetes": { "requests": named.get().requests, "lists": named.get().lists },
        "untold": untold.json(),
        "findings_dropped": dropped.load(Ordering::Relaxed),
        "deliver": telemetry::counted(&delivery),
    });
    tracing::info!("synspan counters {counted}");
    Ok(())
}

/// Says what is there, and one line for each thing that is not.
fn announce(features: &Features) {
    tracing::info!(cgroup = %features.cgroup.display(), attach = features.attach.as_str(), "capture started");
    match &features.leftovers {
        Ok(removed) => removed.iter().for_each(|removed| tracing::info!("taken away from an earlier agent: {removed}")),
        Err(error) => tracing::warn!("cannot look for what an earlier agent left: {error}"),
    }
    if !features.error_tracepoint.is_present() {
        tracing::warn!(
            "errors of sockets are not seen ({}): an attempt that neither timed out nor was refused ends as `failed`, not `aborted` or `unreachable`",
            features.error_tracepoint
        );
    }
    if !features.netns_cookie.is_present() {
        tracing::warn!(
            "network namespaces of sockets are not seen ({}): drops inside the node are not told for processes of the host",
            features.netns_cookie
        );
    }
    if !features.drops.is_present() {
        tracing::warn!(
            "drops in the kernel are not seen ({}): what is lost within the node is known by its absence alone, with no reason",
            features.drops
        );
    } else if !features.drop_reasons.is_present() {
        tracing::warn!("drops in the kernel come with no reason ({})", features.drop_reasons);
    }
    if !features.call_results.is_present() {
        tracing::warn!(
            "what connect() returns is not seen ({}): an attempt that fails before any SYN ends as `failed`, with no cause",
            features.call_results
        );
    }
    announce_questions(&features.can);
    capabilities::silent_losses().iter().for_each(|lost| tracing::warn!("{lost}"));
}

/// Says what cannot be asked of the kernel, and what is lost by it.
fn announce_questions(can: &Can) {
    for (feature, what, lost) in [
        (
            &can.conntrack,
            "connection tracking cannot be asked",
            "NAT is known only where both sides of it are watched, and no full table, race or exhaustion of SNAT ports is told",
        ),
        (
            &can.sock_diag,
            "sockets cannot be asked",
            "accept queues are not seen, and connections of before the start are not known",
        ),
        (
            &can.namespaces,
            "sockets in other network namespaces cannot be asked",
            "accept queues of pods are not seen, and their connections of before the start are not known",
        ),
        (
            &can.numbers,
            "sequence numbers of open connections cannot be asked",
            "the reuse of an open connection's port has weaker evidence",
        ),
    ] {
        if !feature.is_present() {
            tracing::warn!("{what} ({feature}): {lost}");
        }
    }
}

/// Answers `synspan attempts`, `synspan who` and `synspan status`; where that cannot be, the rest goes on without.
fn answer(config: &Config, sources: Sources, runtime: &Runtime) -> Option<Server> {
    let path = config.agent.socket.as_deref()?;
    match Server::start(path, sources, runtime.handle()) {
        Ok(server) => {
            tracing::debug!("questions are answered at {}", path.display());
            Some(server)
        }
        Err(error) => {
            tracing::warn!("`synspan attempts`, `who` and `status` cannot ask this agent: {error}");
            None
        }
    }
}

/// Lets the exporters send what waits; a second signal is not needed, since this ends by itself.
fn finish(runtime: &Runtime, delivery: &Delivery) {
    runtime.block_on(delivery.shutdown(LAST_WORDS));
}
