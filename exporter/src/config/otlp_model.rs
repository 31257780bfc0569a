//! An OTLP exporter's block as plain values. Names and defaults are the OpenTelemetry Collector's
//! (configgrpc, configtls, configretry, exporterhelper); where synspan differs, the field says so.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::model::Secret;

/// OTLP over gRPC.
#[derive(Clone, PartialEq, Debug)]
pub struct OtlpExporter {
    /// Where to.
    pub endpoint: Endpoint,
    /// For one request and its answer.
    pub timeout: Duration,
    /// Of requests.
    pub compression: Compression,
    /// Sent with every request; names are lower case.
    pub headers: Vec<(String, Secret)>,
    /// TLS, used if [`Endpoint::tls`].
    pub tls: Tls,
    /// What happens to requests that fail.
    pub retry: Retry,
    /// What waits to be sent.
    pub queue: SendingQueue,
    /// HTTP/2 pings.
    pub keepalive: Keepalive,
    /// Instead of `synspan/VERSION`.
    pub user_agent: Option<String>,
    /// The `:authority` of requests; none: host and port of the endpoint.
    pub authority: Option<String>,
}

impl OtlpExporter {
    /// An exporter to that endpoint with the defaults for all else.
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            timeout: Duration::from_secs(5),
            compression: Compression::default(),
            headers: Vec::new(),
            tls: Tls::default(),
            retry: Retry::default(),
            queue: SendingQueue::default(),
            keepalive: Keepalive::default(),
            user_agent: None,
            authority: None,
        }
    }
}

/// A host, a port, and whether TLS is spoken there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// Name or address, IPv6 without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// From `http://` or `https://`; without either, from `tls.insecure`.
    pub tls: bool,
}

impl Endpoint {
    /// `host:port`, IPv6 in brackets.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

/// Compression of requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Compression {
    #[default]
    Gzip,
    Zstd,
    None,
}

/// `tls`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tls {
    /// Do not verify the server's certificate.
    pub insecure_skip_verify: bool,
    /// The name to verify, and to ask for, instead of the endpoint's host.
    pub server_name_override: Option<String>,
    /// Certificates that may sign the server's; none: the system's.
    pub ca: Option<Pem>,
    /// The client's certificate chain; set together with `key`.
    pub cert: Option<Pem>,
    /// The client's key.
    pub key: Option<Pem>,
    /// The system's certificates beside `ca`.
    pub include_system_ca_certs_pool: bool,
    /// Lowest version.
    pub min_version: TlsVersion,
    /// Highest version.
    pub max_version: Option<TlsVersion>,
    /// New connections use files read no longer ago than this; none: read once at start.
    pub reload_interval: Option<Duration>,
}

/// PEM text, or the file that holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pem {
    /// `*_file`.
    File(PathBuf),
    /// `*_pem`.
    Text(Secret),
}

/// Versions of TLS that are supported.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum TlsVersion {
    /// 1.2
    #[default]
    V1_2,
    /// 1.3
    V1_3,
}

/// `retry_on_failure`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Retry {
    /// Whether at all.
    pub enabled: bool,
    /// The first wait.
    pub initial_interval: Duration,
    /// Each wait is spread by plus or minus this part of it, 0 to 1.
    pub randomization_factor: f64,
    /// Each wait is the one before times this, at least 1.
    pub multiplier: f64,
    /// The longest wait.
    pub max_interval: Duration,
    /// When to give up a record, counted from its first try; zero: never.
    pub max_elapsed_time: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            enabled: true,
            initial_interval: Duration::from_secs(5),
            randomization_factor: 0.5,
            multiplier: 1.5,
            max_interval: Duration::from_secs(30),
            max_elapsed_time: Duration::from_secs(300),
        }
    }
}

/// `sending_queue`. It is always on, since export must not slow capture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SendingQueue {
    /// Requests on their way at once, at least 1.
    pub num_consumers: usize,
    /// What the queue holds, in units of `sizer`, at least 1. `delivery.memory_limit` holds besides.
    pub queue_size: usize,
    /// The unit; a request is what `batch` makes one.
    pub sizer: Sizer,
    /// How records are put together. Unlike in the Collector, where batches come from before the
    /// queue, this is always on.
    pub batch: QueueBatch,
}

impl Default for SendingQueue {
    fn default() -> Self {
        Self { num_consumers: 10, queue_size: 1000, sizer: Sizer::Requests, batch: QueueBatch::default() }
    }
}

/// `sending_queue.batch`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueBatch {
    /// The longest time that a record waits for company.
    pub flush_timeout: Duration,
    /// A request is sent as soon as it has this many units.
    pub min_size: usize,
    /// No request has more units than this; 0: only the byte limit of gRPC holds.
    pub max_size: usize,
    /// Unit of `min_size` and `max_size`: items (spans) or bytes before compression.
    pub sizer: Sizer,
}

impl Default for QueueBatch {
    fn default() -> Self {
        Self { flush_timeout: Duration::from_millis(200), min_size: 8192, max_size: 0, sizer: Sizer::Items }
    }
}

/// What a size counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sizer {
    /// Export requests.
    Requests,
    /// Spans, log records, data points.
    Items,
    /// Encoded bytes before compression.
    Bytes,
}

/// `keepalive`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keepalive {
    /// Ping after this much silence.
    pub time: Duration,
    /// The connection is dead if no answer comes within this.
    pub timeout: Duration,
    /// Also while no request is on its way.
    pub permit_without_stream: bool,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { time: Duration::from_secs(10), timeout: Duration::from_secs(10), permit_without_stream: false }
    }
}
