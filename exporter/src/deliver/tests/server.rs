//! An OTLP trace receiver that keeps what it gets and answers as it is told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::transport::{Server as TonicServer, ServerTlsConfig};
use tonic::{Request, Response, Status};

use super::super::*;

/// What came in.
pub(super) struct Received {
    pub metadata: MetadataMap,
    pub request: ExportTraceServiceRequest,
}

impl Received {
    pub fn spans(&self) -> usize {
        self.request.resource_spans.iter().flat_map(|rs| &rs.scope_spans).map(|ss| ss.spans.len()).sum()
    }

    pub fn header(&self, name: &str) -> &str {
        self.metadata.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

#[derive(Clone, Default)]
pub(super) struct Server {
    received: Arc<Mutex<Vec<Received>>>,
    /// Answers to the next requests; then all is well.
    answers: Arc<Mutex<VecDeque<Result<ExportTracePartialSuccess, Status>>>>,
}

#[tonic::async_trait]
impl TraceService for Server {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        self.received.lock().unwrap().push(Received { metadata, request });
        let answer = self.answers.lock().unwrap().pop_front();
        let partial_success = answer.transpose()?;
        Ok(Response::new(ExportTraceServiceResponse { partial_success }))
    }
}

impl Server {
    /// Starts it. The receiver's own limit is gRPC's 4 MiB.
    pub async fn start(tls: Option<ServerTlsConfig>) -> (Self, SocketAddr) {
        let server = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        server.clone().serve(listener, tls);
        (server, address)
    }

    pub fn serve(self, listener: TcpListener, tls: Option<ServerTlsConfig>) {
        let service = TraceServiceServer::new(self)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd);
        let mut builder = TonicServer::builder();
        if let Some(tls) = tls {
            builder = builder.tls_config(tls).unwrap();
        }
        tokio::spawn(builder.add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
    }

    pub fn answer(&self, answer: Result<ExportTracePartialSuccess, Status>) {
        self.answers.lock().unwrap().push_back(answer);
    }

    pub fn with<T>(&self, look: impl FnOnce(&[Received]) -> T) -> T {
        look(&self.received.lock().unwrap())
    }

    pub fn requests(&self) -> usize {
        self.with(<[Received]>::len)
    }
}

/// An exporter to that address with short waits.
pub(super) fn exporter(address: SocketAddr) -> ExporterOptions {
    ExporterOptions {
        id: "otlp".to_owned(),
        signals: vec![Signal::Traces],
        grpc: GrpcOptions {
            host: address.ip().to_string(),
            port: address.port(),
            tls: None,
            timeout: Duration::from_secs(10),
            compression: Compression::Gzip,
            headers: vec![("x-tenant".to_owned(), "shop".to_owned())],
            user_agent: None,
            authority: None,
            keepalive_time: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(10),
            keepalive_while_idle: false,
        },
        retry: RetryOptions {
            enabled: true,
            initial: Duration::from_millis(20),
            randomization: 0.5,
            multiplier: 1.5,
            max: Duration::from_millis(50),
            max_elapsed: Duration::ZERO,
        },
        queue: QueueOptions {
            consumers: 2,
            capacity: Capacity::Items(1_000_000),
            flush_timeout: Duration::from_millis(10),
            min_items: 8192,
            min_bytes: usize::MAX,
            max_items: usize::MAX,
            max_bytes: MAX_REQUEST,
        },
    }
}

pub(super) fn start(exporter: ExporterOptions) -> Delivery {
    Delivery::start(Options { memory_limit: 64 << 20, exporters: vec![exporter] }, &Handle::current()).unwrap()
}

/// The counters of the only exporter; they always balance.
pub(super) fn counters(delivery: &Delivery) -> Counters {
    let counters = delivery.counters().remove(0).counters;
    assert_eq!(counters.offered, counters.sent + counters.dropped_in_all() + counters.queued + counters.in_flight);
    counters
}

/// Waits for something that must come.
pub(super) async fn until(delivery: &Delivery, what: impl Fn(&Counters) -> bool) -> Counters {
    let start = Instant::now();
    loop {
        let now = counters(delivery);
        if what(&now) {
            return now;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "it never came: {now:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
