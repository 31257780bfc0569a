//! The configuration as plain values, with the defaults.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

pub use super::otlp_model::{
    Compression, Endpoint, Keepalive, OtlpExporter, Pem, QueueBatch, Retry, SendingQueue, Sizer, Tls, TlsVersion,
};
pub use super::signals_model::{
    AddressPrivacy, Budget, ConnectLogs, Flows, HistogramKind, Logs, Metrics, NamedDestination, OwnTelemetry,
    OwnerPrivacy, Pipelines, Privacy, Quiet, Sampling, Temporality,
};

/// Everything that is configured. [`Config::default`] is what holds with no file and no environment.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// The exporters, in the file's order, those in no pipeline included.
    pub exporters: Vec<Exporter>,
    /// `service.pipelines`.
    pub pipelines: Pipelines,
    /// `service.telemetry.logs.level`: how much synspan says about itself on standard error.
    pub log_level: LogLevel,
    /// `service.telemetry`, the rest of it.
    pub own_telemetry: OwnTelemetry,
    /// `capture`.
    pub capture: Capture,
    /// `tracking`.
    pub tracking: Tracking,
    /// `identity`.
    pub identity: Identity,
    /// `kubernetes`.
    pub kubernetes: Kubernetes,
    /// `spans.kind`.
    pub span_kind: SpanKind,
    /// `metrics`.
    pub metrics: Metrics,
    /// `logs`.
    pub logs: Logs,
    /// `flows`.
    pub flows: Flows,
    /// `sampling`.
    pub sampling: Sampling,
    /// `privacy`.
    pub privacy: Privacy,
    /// `quiet`.
    pub quiet: Quiet,
    /// `delivery`.
    pub delivery: Delivery,
    /// `agent`.
    pub agent: Agent,
    /// OTEL_RESOURCE_ATTRIBUTES: what holds for every resource (environment, cluster, cloud), sorted by name.
    pub resource_attributes: Vec<(String, String)>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            exporters: vec![Exporter { id: "debug".to_owned(), kind: ExporterKind::Debug(DebugExporter::default()) }],
            pipelines: Pipelines::all_to(vec!["debug".to_owned()]),
            log_level: LogLevel::default(),
            own_telemetry: OwnTelemetry::default(),
            capture: Capture::default(),
            tracking: Tracking::default(),
            identity: Identity::default(),
            kubernetes: Kubernetes::default(),
            span_kind: SpanKind::default(),
            metrics: Metrics::default(),
            logs: Logs::default(),
            flows: Flows::default(),
            sampling: Sampling::default(),
            privacy: Privacy::default(),
            quiet: Quiet::default(),
            delivery: Delivery::default(),
            agent: Agent::default(),
            resource_attributes: Vec::new(),
        }
    }
}

impl Config {
    /// The exporter with that id.
    pub fn exporter(&self, id: &str) -> Option<&Exporter> {
        self.exporters.iter().find(|exporter| exporter.id == id)
    }

    /// The exporters of the traces pipeline, in its order.
    pub fn trace_exporters(&self) -> impl Iterator<Item = &Exporter> {
        self.named(&self.pipelines.traces)
    }

    /// The exporters of the logs pipeline, in its order.
    pub fn log_exporters(&self) -> impl Iterator<Item = &Exporter> {
        self.named(&self.pipelines.logs)
    }

    /// The exporters of the metrics pipeline, in its order.
    pub fn metric_exporters(&self) -> impl Iterator<Item = &Exporter> {
        self.named(&self.pipelines.metrics)
    }

    /// The exporters with these ids, such as those of [`OwnTelemetry`], in their order.
    pub fn named<'c>(&'c self, ids: &'c [String]) -> impl Iterator<Item = &'c Exporter> {
        ids.iter().filter_map(|id| self.exporter(id))
    }
}

/// An entry of `exporters`.
#[derive(Clone, PartialEq, Debug)]
pub struct Exporter {
    /// Its key in the file: `type` or `type/name`.
    pub id: String,
    /// What it is.
    pub kind: ExporterKind,
}

/// The kinds of exporter.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum ExporterKind {
    /// `otlp`, `otlp_grpc`: OTLP over gRPC.
    Otlp(Box<OtlpExporter>),
    /// `debug`: the console.
    Debug(DebugExporter),
}

/// The console.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DebugExporter {
    /// Show every attempt, not only those that failed, came late or reused a port (`all`, or
    /// `verbosity: detailed`).
    pub all: bool,
    /// When to colour.
    pub color: Color,
}

/// When the console uses colours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Color {
    /// On a terminal.
    #[default]
    Auto,
    /// Also into a pipe or file.
    Always,
    /// Never.
    Never,
}

/// How much synspan says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// The name as `tracing` filters know it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// What is watched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Capture {
    /// The cgroup whose sockets are watched; none: the root of the cgroup2 file system that is found.
    pub cgroup: Option<PathBuf>,
    /// Which interface is what.
    pub interfaces: Interfaces,
    /// Attempts from or to these are left out.
    pub exclude_addresses: Vec<IpNet>,
    /// How programs are attached to interfaces.
    pub attach: Attach,
    /// Bytes of the ring buffer from the kernel; a power of two, at least a page.
    pub ring_size: u64,
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            cgroup: None,
            interfaces: Interfaces::default(),
            exclude_addresses: Vec::new(),
            attach: Attach::default(),
            ring_size: 8 << 20,
        }
    }
}

/// Patterns of interface names (`*` any text, `?` one character). An interface is what the first
/// list that matches says, in the order ignore, pod_nic, node_nic, overlay; one that no pattern
/// matches is judged by its kind, as the capture stage finds it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Interfaces {
    /// The host side of pods' interfaces.
    pub pod_nic: Vec<String>,
    /// The node's own interfaces.
    pub node_nic: Vec<String>,
    /// Tunnels.
    pub overlay: Vec<String>,
    /// Left alone.
    pub ignore: Vec<String>,
}

/// How programs are attached to interfaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Attach {
    /// tcx where the kernel has it (from 6.6), else clsact.
    #[default]
    Auto,
    /// tcx or nothing.
    Tcx,
    /// clsact, whatever the kernel has.
    Clsact,
}

/// How attempts are followed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tracking {
    /// How long a past tenancy of a wire tuple can explain a failure.
    pub reuse_window: Duration,
    /// Addresses whose nodes run a synspan of their own, so that spans may name parents there.
    pub covered: Vec<IpNet>,
    /// Most attempts open at once, at least 1.
    pub max_attempts: usize,
    /// Most tenancies remembered, at least 1.
    pub max_tenancies: usize,
    /// How long a finished attempt waits for observations that are still on their way.
    pub settle: Duration,
    /// The fleet's secret for trace ids; none: the well-known key.
    pub id_key: Option<IdKey>,
}

impl Default for Tracking {
    fn default() -> Self {
        Self {
            reuse_window: Duration::from_secs(600),
            covered: Vec::new(),
            max_attempts: 65_536,
            max_tenancies: 300_000,
            settle: Duration::from_millis(100),
            id_key: None,
        }
    }
}

/// `tracking.id_key`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IdKey {
    /// 32 hex digits: the key itself.
    Key(SecretKey),
    /// Any other text of at least 16 characters, from which the key is to be derived.
    Passphrase(Secret),
}

/// A key that is not shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretKey(pub [u8; 16]);

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Text that is not shown, not even by `Debug`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Who is who, outside Kubernetes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Identity {
    /// The node's name; none: the host's name.
    pub node_name: Option<String>,
    /// The static list (`static`); the first entry that matches holds.
    pub fixed: Vec<StaticIdentity>,
}

/// An entry of `identity.static`: at least one address or cgroup, and at least one attribute.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StaticIdentity {
    /// Addresses (as /32 and /128) and prefixes.
    pub addresses: Vec<IpNet>,
    /// Paths of cgroups below the watched root, each for itself and all below it.
    pub cgroups: Vec<String>,
    /// Resource attributes, in the file's order.
    pub attributes: Vec<(String, String)>,
}

/// Names from the API of a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kubernetes {
    /// Whether it is asked.
    pub enabled: Enabled,
    /// How to reach it from outside a cluster; none: by the pod's own service account.
    pub kubeconfig: Option<PathBuf>,
    /// The cluster's name, which no API tells (`k8s.cluster.name`).
    pub cluster_name: Option<String>,
    /// Literal OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES of a container come first.
    pub pod_env: bool,
    /// The labels app.kubernetes.io/instance and app.kubernetes.io/name come before the owner's name.
    pub label_names: bool,
    /// Whether the cluster's nodes are listed, so that their addresses and their pods' are covered: by itself in a
    /// cluster of at most 100.
    pub nodes: Enabled,
    /// Services and endpoint slices are watched, so that the Service behind an address has a name.
    pub services: bool,
    /// All pods of the cluster are watched, and not this node's alone, so that the far side has a name where no agent
    /// runs.
    pub cluster_pods: bool,
    /// How long an attempt waits for the name of an end on this node that the API has not told of yet.
    pub unknown_wait: Duration,
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self {
            enabled: Enabled::default(),
            kubeconfig: None,
            cluster_name: None,
            pod_env: true,
            label_names: false,
            nodes: Enabled::default(),
            services: false,
            cluster_pods: false,
            unknown_wait: Duration::from_secs(2),
        }
    }
}

/// Whether something is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Enabled {
    /// Where it can be.
    #[default]
    Auto,
    /// Or the start fails.
    Yes,
    /// Never.
    No,
}

/// Which kinds spans have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SpanKind {
    /// CLIENT, SERVER and INTERNAL, so that service graphs draw edges.
    #[default]
    Standard,
    /// INTERNAL for all, for vendors that count or bill the others as requests.
    Internal,
}

/// What holds for all queues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// Most bytes in all queues together.
    pub memory_limit: u64,
}

impl Default for Delivery {
    fn default() -> Self {
        Self { memory_limit: 32 << 20 }
    }
}

/// The agent as something to be asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Agent {
    /// Where `synspan attempts`, `synspan who` and `synspan status` find it; none: it answers nobody.
    pub socket: Option<PathBuf>,
    /// Who may ask how it is.
    pub health: AgentHealth,
}

impl Default for Agent {
    fn default() -> Self {
        Self { socket: Some(PathBuf::from("/run/synspan/agent.sock")), health: AgentHealth::default() }
    }
}

/// `agent.health`: how the agent is, over HTTP.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AgentHealth {
    /// Where it listens; none: nowhere.
    pub endpoint: Option<SocketAddr>,
    /// Whether its own metrics are there, too.
    pub metrics: bool,
}
