//! Where the agents send to: an OTLP trace service of the lab's own on each node's loopback, so that
//! nothing of it passes an interface that an agent watches; or a pipe from there to another receiver.

use std::io::BufRead;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Status};

use crate::error::{Context, Error, Result};
use crate::net::netns;
use crate::seen::{self, Record, Span};

/// Where each agent finds it, in its own node's namespace.
pub const ENDPOINT: &str = "127.0.0.1:4317";

/// Receives for all nodes of a lab.
#[derive(Debug)]
pub struct Receiver {
    runtime: Runtime,
    spans: Arc<Mutex<Vec<Span>>>,
    kept: Arc<Mutex<Kept>>,
    forward: Option<SocketAddr>,
}

#[derive(Clone)]
struct Service {
    node: String,
    spans: Arc<Mutex<Vec<Span>>>,
    kept: Arc<Mutex<Kept>>,
}

/// The requests as they came.
#[derive(Debug, Default)]
pub struct Kept {
    /// Of spans.
    pub traces: Vec<ExportTraceServiceRequest>,
    /// Of log records.
    pub logs: Vec<ExportLogsServiceRequest>,
    /// Of metrics.
    pub metrics: Vec<ExportMetricsServiceRequest>,
}

impl Kept {
    /// All spans, of nodes that are not told apart.
    pub fn spans(&self) -> Vec<Span> {
        self.traces.iter().flat_map(|request| seen::spans("", request.clone())).collect()
    }

    /// How many spans, log records and metrics there are.
    pub fn items(&self) -> [u64; 3] {
        let spans = self.traces.iter().flat_map(|request| &request.resource_spans);
        let spans = spans.flat_map(|group| &group.scope_spans).map(|scope| scope.spans.len() as u64);
        let records = self.logs.iter().flat_map(|request| &request.resource_logs);
        let records = records.flat_map(|group| &group.scope_logs).map(|scope| scope.log_records.len() as u64);
        let metrics = self.metrics.iter().flat_map(|request| &request.resource_metrics);
        let metrics = metrics.flat_map(|group| &group.scope_metrics).map(|scope| scope.metrics.len() as u64);
        [spans.sum(), records.sum(), metrics.sum()]
    }

    /// All log records.
    pub fn records(&self) -> Vec<Record> {
        self.logs.iter().flat_map(|request| seen::records(request.clone())).collect()
    }

    /// What a Collector wrote into a folder: `traces.jsonl`, `logs.jsonl` and `metrics.jsonl`, a request a line.
    ///
    /// # Errors
    /// Where a file is missing or no OTLP.
    pub fn written(dir: &Path) -> Result<Self> {
        Ok(Self {
            traces: lines(&dir.join("traces.jsonl"))?,
            logs: lines(&dir.join("logs.jsonl"))?,
            metrics: lines(&dir.join("metrics.jsonl"))?,
        })
    }
}

fn lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let file = std::fs::File::open(path).context(format_args!("read {}", path.display()))?;
    let mut all = Vec::new();
    for line in std::io::BufReader::new(file).lines() {
        let line = line.context(format_args!("read {}", path.display()))?;
        all.push(serde_json::from_str(&line).map_err(|error| Error::Lab(format!("{}: {error}", path.display())))?);
    }
    Ok(all)
}

impl Service {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl LogsService for Service {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> std::result::Result<Response<ExportLogsServiceResponse>, Status> {
        self.kept().logs.push(request.into_inner());
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> std::result::Result<Response<ExportMetricsServiceResponse>, Status> {
        self.kept().metrics.push(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> std::result::Result<Response<ExportTraceServiceResponse>, Status> {
        let request = request.into_inner();
        self.kept().traces.push(request.clone());
        let new = seen::spans(&self.node, request);
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).extend(new);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Receiver {
    /// A receiver that keeps what it gets, or hands the bytes on to another one, reached from the
    /// lab's own network namespace.
    pub fn start(forward: Option<SocketAddr>) -> Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().context("start the receiver's runtime")?;
        Ok(Self { runtime, spans: Arc::default(), kept: Arc::default(), forward })
    }

    /// Listens on the loopback of a node's namespace.
    pub fn listen(&self, node: &str, netns: &str) -> Result<()> {
        let listener = netns::inside(netns, || TcpListener::bind(ENDPOINT))?
            .context(format_args!("bind {ENDPOINT} in {netns}"))?;
        self.serve(node, listener)
    }

    /// Makes an address of the lab's own network namespace one of a node's, too.
    pub fn relay(&self, netns: &str, address: SocketAddr) -> Result<()> {
        let listener = netns::inside(netns, move || TcpListener::bind(address))?
            .context(format_args!("bind {address} in {netns}"))?;
        listener.set_nonblocking(true).context("make the relay non-blocking")?;
        let _context = self.runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener).context("listen for agents")?;
        self.runtime.spawn(pipe(listener, address));
        Ok(())
    }

    fn serve(&self, node: &str, listener: TcpListener) -> Result<()> {
        listener.set_nonblocking(true).context("make the receiver non-blocking")?;
        let service = Service { node: node.to_owned(), spans: self.spans.clone(), kept: self.kept.clone() };
        let forward = self.forward;
        let _context = self.runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener).context("listen for agents")?;
        self.runtime.spawn(async move {
            match forward {
                None => {
                    let traces = TraceServiceServer::new(service.clone())
                        .accept_compressed(CompressionEncoding::Gzip)
                        .accept_compressed(CompressionEncoding::Zstd)
                        .max_decoding_message_size(64 << 20);
                    let logs = LogsServiceServer::new(service.clone()).max_decoding_message_size(64 << 20);
                    let metrics = MetricsServiceServer::new(service).max_decoding_message_size(64 << 20);
                    let incoming = TcpListenerStream::new(listener);
                    // It runs until the runtime ends with the lab.
                    let mut server = tonic::transport::Server::builder();
                    let server = server.add_service(traces).add_service(logs).add_service(metrics);
                    let _ = server.serve_with_incoming(incoming).await;
                }
                Some(to) => pipe(listener, to).await,
            }
        });
        Ok(())
    }

    /// What came so far.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All requests that came so far, of every signal.
    pub fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the spans go elsewhere.
    pub fn forwards(&self) -> bool {
        self.forward.is_some()
    }
}

async fn pipe(listener: tokio::net::TcpListener, to: SocketAddr) {
    while let Ok((mut near, _)) = listener.accept().await {
        tokio::spawn(async move {
            if let Ok(mut far) = tokio::net::TcpStream::connect(to).await {
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
    use opentelemetry_proto::tonic::trace::v1 as otlp;

    fn send(receiver: &Receiver, to: SocketAddr) {
        let span = otlp::Span { name: "tcp connect".into(), ..otlp::Span::default() };
        let request = ExportTraceServiceRequest {
            resource_spans: vec![otlp::ResourceSpans {
                scope_spans: vec![otlp::ScopeSpans { spans: vec![span], ..otlp::ScopeSpans::default() }],
                ..otlp::ResourceSpans::default()
            }],
        };
        receiver.runtime.block_on(async {
            let mut client = TraceServiceClient::connect(format!("http://{to}")).await.unwrap();
            client.export(request).await.unwrap();
        });
    }

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        (listener, at)
    }

    #[test]
    fn what_an_agent_sends_is_kept_with_its_node_directly_and_by_a_pipe() {
        let receiver = Receiver::start(None).unwrap();
        let (direct, at) = listener();
        receiver.serve("node-a", direct).unwrap();
        send(&receiver, at);
        let pipe = Receiver::start(Some(at)).unwrap();
        let (piped, at) = listener();
        pipe.serve("node-b", piped).unwrap();
        send(&pipe, at);
        let nodes: Vec<_> = receiver.spans().into_iter().map(|span| (span.node, span.name)).collect();
        assert_eq!(nodes, [("node-a".to_owned(), "tcp connect".to_owned()), ("node-a".into(), "tcp connect".into())]);
        assert!(pipe.forwards() && pipe.spans().is_empty());
    }
}
