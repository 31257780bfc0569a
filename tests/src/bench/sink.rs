//! An OTLP/gRPC receiver that costs next to nothing while it is sent to: it keeps each request as it came, and
//! looks into them afterwards.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll};

use http_body_util::{BodyExt, Full};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::codegen::http::{Method, Request, Response, Uri};
use tonic::codegen::{BoxFuture, Bytes, Service};
use tonic::server::NamedService;

use crate::error::{Context, Result};
use crate::net::netns;

/// A receiver on a node's loopback. It ends with the program.
#[derive(Debug)]
pub struct Sink {
    /// Where it listens.
    pub address: SocketAddr,
    kept: Arc<Mutex<Vec<Request<Bytes>>>>,
}

/// What was received.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Received {
    /// Spans whose name is `tcp connect`: one for each attempt.
    pub connects: u64,
    /// Those of them whose resource is a pod with a workload's name.
    pub named: u64,
    /// Spans of any name.
    pub spans: u64,
    /// Bytes of the requests' bodies, as compressed on the wire; of all signals.
    pub bytes: u64,
}

impl Sink {
    /// Starts it in a network namespace, on a port that is free there.
    pub fn start(namespace: &str) -> Result<Self> {
        let listener = netns::inside(namespace, || std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?
            .context("listen for the agent's exports")?;
        listener.set_nonblocking(true).context("set up the listener")?;
        let address = listener.local_addr().context("ask for the listener's address")?;
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&kept);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
        std::thread::Builder::new()
            .name("sink".into())
            .spawn(move || {
                runtime.block_on(async move {
                    let listener = tokio::net::TcpListener::from_std(listener)?;
                    let incoming = TcpListenerStream::new(listener);
                    let server = tonic::transport::Server::builder()
                        .add_service(Keep::<0>(keep.clone()))
                        .add_service(Keep::<1>(keep.clone()))
                        .add_service(Keep::<2>(keep));
                    server.serve_with_incoming(incoming).await.map_err(std::io::Error::other)
                })
            })
            .context("start the receiver's thread")?;
        Ok(Self { address, kept })
    }

    /// Decodes what came since the last call, and forgets it.
    pub fn take(&self) -> Result<Received> {
        let kept = std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        let count = Count::default();
        let runtime = tokio::runtime::Builder::new_current_thread().build().context("start a runtime")?;
        let mut service = TraceServiceServer::new(count.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd)
            .max_decoding_message_size(usize::MAX);
        let mut bytes = 0;
        for request in kept {
            bytes += request.body().len() as u64;
            if request.uri().path() == EXPORT {
                // Infallible; a refused request counts nothing, which the caller sees.
                let Ok(_) = runtime.block_on(service.call(request.map(Full::new)));
            }
        }
        let (connects, named, spans) = *count.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Received { connects, named, spans, bytes })
    }
}

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// The services of the three signals.
const SERVICES: [&str; 3] = [
    "opentelemetry.proto.collector.trace.v1.TraceService",
    "opentelemetry.proto.collector.logs.v1.LogsService",
    "opentelemetry.proto.collector.metrics.v1.MetricsService",
];

/// Keeps requests of one of the services undecoded and answers each as received.
#[derive(Clone, Debug)]
struct Keep<const SERVICE: usize>(Arc<Mutex<Vec<Request<Bytes>>>>);

impl<const SERVICE: usize> NamedService for Keep<SERVICE> {
    const NAME: &'static str = SERVICES[SERVICE];
}

impl<const SERVICE: usize> Service<Request<Body>> for Keep<SERVICE> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<std::result::Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let kept = Arc::clone(&self.0);
        Box::pin(async move {
            let (head, body) = request.into_parts();
            if let Ok(body) = body.collect().await {
                let whole = Request::from_parts(head, body.to_bytes());
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(whole);
            }
            // The answers of all three are empty messages, so that of one will do: five bytes of header, no compression.
            let mut empty = Request::new(Full::new(Bytes::from_static(&[0; 5])));
            *empty.method_mut() = Method::POST;
            *empty.uri_mut() = Uri::from_static(EXPORT);
            TraceServiceServer::new(Count::default()).call(empty).await
        })
    }
}

/// Counts spans: those named `tcp connect`, those of them with a pod's workload, and all.
#[derive(Clone, Debug, Default)]
struct Count(Arc<Mutex<(u64, u64, u64)>>);

#[tonic::async_trait]
impl TraceService for Count {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> std::result::Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let request = request.into_inner();
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for group in &request.resource_spans {
            let attributes = group.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
            let has = |name: &str| attributes.iter().any(|attribute| attribute.key == name);
            let named = has("k8s.pod.uid") && has("k8s.deployment.name");
            for span in group.scope_spans.iter().flat_map(|scope| &scope.spans) {
                let connect = span.name == "tcp connect";
                count.0 += u64::from(connect);
                count.1 += u64::from(connect && named);
                count.2 += 1;
            }
        }
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}
