//! What delivery is told.

use std::path::PathBuf;
use std::time::Duration;

use super::parcel::Signal;

/// All of it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most bytes in all queues together, requests on their way included.
    pub memory_limit: usize,
    /// The exporters, each with a queue of its own for each signal.
    pub exporters: Vec<ExporterOptions>,
}

/// One exporter. Field by field the Collector's keys, whose defaults the configuration knows.
#[derive(Clone, Debug)]
pub struct ExporterOptions {
    /// Its name in messages and counters.
    pub id: String,
    /// What it carries.
    pub signals: Vec<Signal>,
    /// Where to and how.
    pub grpc: GrpcOptions,
    /// What happens to requests that fail.
    pub retry: RetryOptions,
    /// What waits.
    pub queue: QueueOptions,
}

/// OTLP over gRPC.
#[derive(Clone, Debug)]
pub struct GrpcOptions {
    /// Name or address, IPv6 without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// TLS; none: plain.
    pub tls: Option<TlsOptions>,
    /// For one request and its answer, and for a connect.
    pub timeout: Duration,
    /// Of requests.
    pub compression: Compression,
    /// Lower-case names and ASCII values. The values may be secret.
    pub headers: Vec<(String, String)>,
    /// Instead of `synspan/VERSION`.
    pub user_agent: Option<String>,
    /// The `:authority` of requests; none: host and port.
    pub authority: Option<String>,
    /// HTTP/2 ping after this much silence.
    pub keepalive_time: Duration,
    /// The connection is dead if no answer to a ping comes within this.
    pub keepalive_timeout: Duration,
    /// Ping also while no request is on its way.
    pub keepalive_while_idle: bool,
}

impl GrpcOptions {
    /// `http://host:port` or `https://host:port`.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.address())
    }

    /// `host:port`, IPv6 in brackets.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// TLS of a client.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// Accept any certificate.
    pub insecure_skip_verify: bool,
    /// The name to verify and to ask for instead of the host.
    pub server_name: Option<String>,
    /// Certificates that may sign the server's; none: the system's.
    pub ca: Option<Pem>,
    /// The system's certificates beside `ca`.
    pub system_roots: bool,
    /// The client's certificate chain and key.
    pub client: Option<(Pem, Pem)>,
    /// Speak 1.2.
    pub tls12: bool,
    /// Speak 1.3.
    pub tls13: bool,
    /// New connections use files read no longer ago than this; none: read once.
    pub reload_interval: Option<Duration>,
}

/// PEM text, or its file.
#[derive(Clone)]
pub enum Pem {
    /// A file.
    File(PathBuf),
    /// The text; not shown, since it may be a key.
    Text(String),
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Text(_) => f.write_str("(text)"),
        }
    }
}

/// Compression of requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Compression {
    Gzip,
    Zstd,
    None,
}

/// Retry with exponential backoff.
#[derive(Clone, Copy, Debug)]
pub struct RetryOptions {
    /// Whether at all.
    pub enabled: bool,
    /// The first wait.
    pub initial: Duration,
    /// Spread of each wait, as a part of it, 0 to 1.
    pub randomization: f64,
    /// Growth of waits, at least 1.
    pub multiplier: f64,
    /// The longest wait.
    pub max: Duration,
    /// When a record is given up, from its first try; zero: never.
    pub max_elapsed: Duration,
}

/// The queue and how requests are made from it.
#[derive(Clone, Copy, Debug)]
pub struct QueueOptions {
    /// Requests on their way at once, at least 1.
    pub consumers: usize,
    /// What it holds.
    pub capacity: Capacity,
    /// The longest time that a record waits for company.
    pub flush_timeout: Duration,
    /// A request is sent as soon as it has this many records...
    pub min_items: usize,
    /// ...or bytes.
    pub min_bytes: usize,
    /// Most records in a request.
    pub max_items: usize,
    /// Most bytes in a request before compression; [`MAX_REQUEST`] holds besides.
    pub max_bytes: usize,
}

/// What a queue holds, what is on its way included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Capacity {
    /// Requests of `min_items` records or [`MAX_REQUEST`] bytes each.
    Requests(usize),
    /// Records.
    Items(usize),
    /// Bytes.
    Bytes(usize),
}

/// Receivers written in Go take 4 MiB for a message before compression; a little is left for what we
/// do not see.
pub const MAX_REQUEST: usize = (4 << 20) - (64 << 10);
