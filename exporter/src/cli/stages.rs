//! From the configuration to the options of each stage: the only place that knows them all.

use std::sync::Arc;

use siphasher::sip128::{Hasher128 as _, SipHasher24};

#[cfg(feature = "live")]
use crate::capture::live::{AttachMode, InterfaceRules, Options as CaptureOptions};
use crate::config::{
    AddressPrivacy, Config, HistogramKind, IdKey as ConfiguredKey, NamedDestination, OwnerPrivacy, SpanKind,
    Temporality,
};
#[cfg(feature = "live")]
use crate::config::{Attach, Enabled};
use crate::deliver::{Parcel, Priority as Due, Signal};
use crate::encode::envelope::{Record, scope_bytes};
use crate::encode::metrics::Options as MetricOptions;
use crate::encode::metrics::destination::PrefixNames;
use crate::encode::privacy::{Addresses, Owner, Privacy};
use crate::encode::spans::Options as EncodeOptions;
use crate::encode::volume::Options as VolumeOptions;
use crate::encode::{Priority, priority};
use crate::identify::covered::Covered;
use crate::identify::static_list::Entry;
use crate::track::Options as TrackOptions;
use crate::track::attempt::Attempt;
use crate::track::trace_id::{DEFAULT_KEY, IdKey};

/// What live capture is told.
#[cfg(feature = "live")]
pub fn capture(config: &Config) -> CaptureOptions {
    let capture = &config.capture;
    CaptureOptions {
        cgroup: capture.cgroup.clone(),
        interfaces: InterfaceRules {
            pod_nic: capture.interfaces.pod_nic.clone(),
            node_nic: capture.interfaces.node_nic.clone(),
            overlay: capture.interfaces.overlay.clone(),
            ignore: capture.interfaces.ignore.clone(),
        },
        attach: match capture.attach {
            Attach::Auto => AttachMode::Auto,
            Attach::Tcx => AttachMode::Tcx,
            Attach::Clsact => AttachMode::Clsact,
        },
        // The configuration bounds it to what a ring buffer can be.
        ring_bytes: u32::try_from(capture.ring_size).unwrap_or(1 << 31),
        exclude: capture.exclude_addresses.clone(),
        ..CaptureOptions::default()
    }
}

/// What the tracker is told of the configuration; the machine's own facts are added by who knows them.
pub fn track(config: &Config) -> TrackOptions {
    let tracking = &config.tracking;
    TrackOptions {
        reuse_window: tracking.reuse_window,
        max_attempts: tracking.max_attempts,
        max_tenancies: tracking.max_tenancies,
        settle: tracking.settle,
        id_key: id_key(config),
        report_own: !config.quiet.own_exports,
        report_loopback: !config.quiet.loopback,
        flow_interval: config.flows.interval,
        ..TrackOptions::default()
    }
}

/// The addresses whose nodes run an agent, as configured; a cluster may tell more.
pub fn covered(config: &Config) -> Covered {
    Covered::new(config.tracking.covered.iter().copied())
}

/// What the encoder is told; `replay` says that capture files are told of.
pub fn encode(config: &Config, node_name: &Arc<str>, covered: Covered, replay: bool) -> EncodeOptions {
    EncodeOptions {
        node_name: node_name.clone(),
        covered,
        internal_kind: config.span_kind == SpanKind::Internal,
        id_key: id_key(config),
        replay,
    }
}

/// How metrics are made.
pub fn metrics(config: &Config, node_name: &Arc<str>) -> MetricOptions {
    let metrics = &config.metrics;
    let named = |entry: &NamedDestination| {
        let name: Arc<str> = Arc::from(entry.name.as_str());
        entry.prefixes.iter().map(move |prefix| (*prefix, name.clone())).collect::<Vec<_>>()
    };
    MetricOptions {
        node_name: node_name.clone(),
        delta: metrics.temporality != Temporality::Cumulative,
        exponential: metrics.histogram == HistogramKind::Exponential,
        max_series: metrics.max_series,
        max_destinations: metrics.max_destinations,
        max_addresses: metrics.max_addresses,
        expire_after: metrics.expire_after,
        exemplars: metrics.exemplars,
        prefixes: PrefixNames::new(metrics.destinations.iter().flat_map(named)),
    }
}

/// How much is kept.
pub fn volume(config: &Config) -> VolumeOptions {
    let sampling = &config.sampling;
    let budget = sampling.budget;
    VolumeOptions { ratio: sampling.ratio, ceiling: sampling.ceiling, rate: budget.rate, burst: budget.burst }
}

/// What is told of peers and of previous owners.
pub fn privacy(config: &Config, covered: Covered) -> Privacy {
    let addresses = match config.privacy.addresses {
        AddressPrivacy::Keep => Addresses::Keep,
        AddressPrivacy::Prefix => Addresses::Prefix,
        AddressPrivacy::Hash => Addresses::Hash,
        AddressPrivacy::Drop => Addresses::Drop,
    };
    let owner = match config.privacy.previous_owner {
        OwnerPrivacy::Full => Owner::Full,
        OwnerPrivacy::Namespace => Owner::Namespace,
        OwnerPrivacy::Redacted => Owner::Redacted,
    };
    Privacy { addresses, owner, covered, key: id_key(config) }
}

/// What an attempt's telemetry gives way to on its way out.
pub fn due(attempt: &Attempt) -> Due {
    match priority(attempt) {
        Priority::Success => Due::Success,
        Priority::Failure => Due::Failure,
    }
}

/// This node's name: the configured one, else the machine's.
pub fn node_name(config: &Config) -> String {
    config.identity.node_name.clone().or_else(host_name).unwrap_or_else(|| "localhost".to_owned())
}

#[cfg(target_os = "linux")]
fn host_name() -> Option<String> {
    nix::unistd::gethostname().ok()?.into_string().ok()
}

#[cfg(not(target_os = "linux"))]
fn host_name() -> Option<String> {
    let named = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    named("HOSTNAME").or_else(|| named("COMPUTERNAME"))
}

/// Whether the Kubernetes API is a source of names: by the configuration, or by the surroundings.
#[cfg(feature = "live")]
pub fn asks_kubernetes(config: &Config) -> bool {
    let kubernetes = &config.kubernetes;
    match kubernetes.enabled {
        Enabled::Yes => true,
        Enabled::No => false,
        Enabled::Auto => kubernetes.kubeconfig.is_some() || crate::identify::kubernetes::client::is_in_cluster(),
    }
}

/// The static list.
pub fn static_list(config: &Config) -> Vec<Entry> {
    let entries = config.identity.fixed.iter();
    entries
        .map(|entry| Entry {
            prefixes: entry.addresses.clone(),
            cgroups: entry.cgroups.clone(),
            attributes: entry.attributes.clone(),
        })
        .collect()
}

/// The key of the trace ids: the well-known one, the fleet's own, or one made from its secret.
fn id_key(config: &Config) -> IdKey {
    match &config.tracking.id_key {
        None => DEFAULT_KEY,
        Some(ConfiguredKey::Key(key)) => IdKey(key.0),
        Some(ConfiguredKey::Passphrase(secret)) => {
            // Every node must come to the same key, so it rests on the secret alone.
            let mut hasher = SipHasher24::new_with_key(&DEFAULT_KEY.0);
            std::hash::Hasher::write(&mut hasher, secret.0.as_bytes());
            IdKey(hasher.finish128().as_u128().to_be_bytes())
        }
    }
}

/// Spans for delivery.
pub fn spans(due: Due, records: impl IntoIterator<Item = Record>) -> Parcel {
    encoded(Signal::Traces, due, records)
}

/// Log records for delivery.
pub fn records(due: Due, records: impl IntoIterator<Item = Record>) -> Parcel {
    encoded(Signal::Logs, due, records)
}

fn encoded(signal: Signal, due: Due, records: impl IntoIterator<Item = Record>) -> Parcel {
    let records = records.into_iter().map(|Record { resource, bytes }| (resource, bytes));
    Parcel::encoded(signal, due, &scope_bytes(), records)
}
