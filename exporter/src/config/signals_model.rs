//! What becomes of the signals as plain values: where each goes, what is sent of it, and what is not.

use std::time::Duration;

use ipnet::IpNet;

/// Which exporters each signal goes to. A signal with none is not sent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pipelines {
    /// Spans. Ids of exporters, each once, in the file's order. The console is fed by this pipeline alone.
    pub traces: Vec<String>,
    /// Log records; the same.
    pub logs: Vec<String>,
    /// Metrics of workloads and of the node's network; the same.
    pub metrics: Vec<String>,
}

impl Pipelines {
    /// Every signal to all of these.
    pub fn all_to(ids: Vec<String>) -> Self {
        Self { traces: ids.clone(), logs: ids.clone(), metrics: ids }
    }

    /// The ids that any pipeline names, each once: those of traces, then what logs and metrics name besides.
    pub fn ids(&self) -> Vec<&str> {
        let mut ids: Vec<&str> = Vec::new();
        for id in self.traces.iter().chain(&self.logs).chain(&self.metrics) {
            if !ids.contains(&id.as_str()) {
                ids.push(id);
            }
        }
        ids
    }
}

/// `service.telemetry`, besides the level: where synspan's telemetry of itself goes. Ids are of exporters, each once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnTelemetry {
    /// `logs.exporters`: where its log goes besides standard error.
    pub log_exporters: Vec<String>,
    /// `metrics.exporters`: where its metrics go; none: they are not sent.
    pub metric_exporters: Vec<String>,
    /// `metrics.interval`: from one export to the next, at least 1 s.
    pub metric_interval: Duration,
    /// OTEL_SERVICE_NAME: what it is called, in place of `synspan`.
    pub service_name: Option<String>,
}

impl Default for OwnTelemetry {
    fn default() -> Self {
        Self {
            log_exporters: Vec::new(),
            metric_exporters: Vec::new(),
            metric_interval: Duration::from_secs(60),
            service_name: None,
        }
    }
}

/// `metrics`: how what is seen is summed up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Metrics {
    /// From one export to the next, at least 1 s.
    pub interval: Duration,
    /// What the points of an export count from.
    pub temporality: Temporality,
    /// The kind of histograms.
    pub histogram: HistogramKind,
    /// Most series of one instrument, of all resources together, at least 1.
    pub max_series: usize,
    /// Most destinations of one workload, at least 1.
    pub max_destinations: usize,
    /// Most destinations of one workload that are named by address; those beyond are named by prefix. 0: all are.
    pub max_addresses: usize,
    /// A series that nothing was added to for this long ends, at least 1 s.
    pub expire_after: Duration,
    /// Whether points name traces as examples.
    pub exemplars: bool,
    /// Names for prefixes. The longest prefix that has an address names it, of equal ones the first.
    pub destinations: Vec<NamedDestination>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(60),
            temporality: Temporality::default(),
            histogram: HistogramKind::default(),
            max_series: 2000,
            max_destinations: 200,
            max_addresses: 20,
            expire_after: Duration::from_secs(15 * 60),
            exemplars: true,
            destinations: Vec::new(),
        }
    }
}

/// What points count from, by OpenTelemetry's three preferences.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Temporality {
    /// From the start of the series.
    #[default]
    Cumulative,
    /// Counters and histograms from the export before; what goes up and down from the start of the series.
    Delta,
    /// Of synspan's instruments the same as [`Self::Delta`]: the two differ in counters that are asked for their
    /// value, which stay cumulative here.
    LowMemory,
}

/// The kind of histograms.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HistogramKind {
    /// With the boundaries that each instrument has.
    #[default]
    Explicit,
    /// Of base 2, with boundaries that follow the values.
    Exponential,
}

/// An entry of `metrics.destinations`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedDestination {
    /// What it is called; no other entry has the name.
    pub name: String,
    /// Its addresses (as /32 and /128) and prefixes, at least one.
    pub prefixes: Vec<IpNet>,
}

/// `logs`: which events are logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Logs {
    /// `synspan.connect`.
    pub connect: ConnectLogs,
    /// `synspan.connect.stalled`.
    pub stalled: bool,
    /// `synspan.flow`.
    pub flows: bool,
}

impl Default for Logs {
    fn default() -> Self {
        Self { connect: ConnectLogs::default(), stalled: true, flows: true }
    }
}

/// Which attempts have a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ConnectLogs {
    /// Each.
    #[default]
    All,
    /// Those that failed, came late or reused a port.
    Failures,
    /// None.
    None,
}

/// `flows`: connections that stay open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flows {
    /// From one record of an open connection to its next, at least 1 s; zero: only the one at its end.
    pub interval: Duration,
}

impl Default for Flows {
    fn default() -> Self {
        Self { interval: Duration::from_secs(300) }
    }
}

/// `sampling`: which attempts have spans. Metrics count all.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sampling {
    /// The part of successes that is kept, 0 to 1.
    pub ratio: f64,
    /// Spans a second of this node, above which successes are thinned further; 0: no limit.
    pub ceiling: u32,
    /// For failed, slow and reused ones.
    pub budget: Budget,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { ratio: 1.0, ceiling: 1000, budget: Budget::default() }
    }
}

/// `sampling.budget`: what each workload, destination and cause may have. What is beyond is summed up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Attempts a second; 0: no limit.
    pub rate: u32,
    /// Attempts at once after a silence, at least 1.
    pub burst: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self { rate: 10, burst: 100 }
    }
}

/// `privacy`: what is told of others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Privacy {
    /// Addresses of peers outside `tracking.covered`.
    pub addresses: AddressPrivacy,
    /// Who held a reused port before.
    pub previous_owner: OwnerPrivacy,
}

/// What is told of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AddressPrivacy {
    /// All of it.
    #[default]
    Keep,
    /// The network it is in: /24 or /64.
    Prefix,
    /// What tells it from others, but not the address.
    Hash,
    /// Nothing.
    Drop,
}

/// What is told of the previous owner of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OwnerPrivacy {
    /// All that is known.
    #[default]
    Full,
    /// Of its names the namespace alone.
    Namespace,
    /// That there was one.
    Redacted,
}

/// `quiet`: attempts that are left out of all signals and counted; each true by default.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quiet {
    /// From and to the same host by its loopback.
    pub loopback: bool,
    /// Health checks, which connect and close.
    pub health_checks: bool,
    /// A pod's hop to its sidecar.
    pub sidecar: bool,
    /// The agent's own exports.
    pub own_exports: bool,
}

impl Default for Quiet {
    fn default() -> Self {
        Self { loopback: true, health_checks: true, sidecar: true, own_exports: true }
    }
}
