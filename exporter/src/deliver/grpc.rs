//! OTLP over gRPC: tonic's channel and its reading of answers, with requests that are bytes already.
//!
//! Not the generated client, since that encodes a request from its message types at each try, and the
//! queue holds encoded records (see [`super::parcel`]); nor tonic's framing of requests (see [`super::frame`]).
//! The answers are the generated types.

use std::error::Error;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderValue, Uri};
use http_body_util::Full;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tonic::codec::{CompressionEncoding, DecodeBuf, Decoder, Streaming};
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tower_service::Service;

use super::connect::{ConnectFailure, Connector};
use super::frame;
use super::options::{Compression, GrpcOptions};
use super::parcel::Signal;
use super::retry::{Answer, Failure, one_line};
use super::tls::{TlsSource, server_name};

/// What the answers may be compressed by.
const ACCEPTED: HeaderValue = HeaderValue::from_static("gzip,zstd,identity");

/// The largest answer that is read; tonic's own default.
const MAX_ANSWER: usize = 4 << 20;

/// Sends requests to one backend. It connects when the first is sent, and again after each loss.
#[derive(Clone)]
pub struct GrpcSender {
    channel: Channel,
    /// Of every request, those of gRPC included.
    headers: Arc<HeaderMap>,
    compression: Compression,
    timeout: Duration,
}

impl GrpcSender {
    /// Reads certificates; connects to nobody yet. To be called within a tokio runtime.
    ///
    /// # Errors
    /// What in the options cannot be used: a certificate file, a header, a name.
    pub fn new(options: &GrpcOptions) -> Result<Self, String> {
        let channel = channel(options, None)?;
        let mut template = Request::new(());
        *template.metadata_mut() = headers(options)?;
        template.set_timeout(options.timeout);
        let mut headers = template.into_parts().0.into_headers();
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-accept-encoding", ACCEPTED);
        if let Some(encoding) = frame::encoding(options.compression) {
            headers.insert("grpc-encoding", HeaderValue::from_static(encoding));
        }
        Ok(Self { channel, headers: Arc::new(headers), compression: options.compression, timeout: options.timeout })
    }

    /// Sends one encoded request of a signal, and waits for the answer or the timeout.
    pub async fn send(&self, signal: Signal, body: Bytes) -> Answer {
        match tokio::time::timeout(self.timeout, self.call(signal, body)).await {
            Ok(Ok(response)) => response.answer(),
            Ok(Err(status)) => Answer::Failed(failure(&status)),
            Err(_) => Answer::Failed(Failure::transport(
                format!("no answer within {:?}", self.timeout),
                "check the backend's load, `timeout`, and firewalls on the way",
            )),
        }
    }

    async fn call(&self, signal: Signal, body: Bytes) -> Result<Response, Status> {
        let path = match signal {
            Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        };
        let mut channel = self.channel.clone();
        poll_fn(|context| channel.poll_ready(context)).await.map_err(|error| Status::from_error(error.into()))?;
        let message = frame::message(&body, self.compression).map_err(|error| Status::internal(error.to_string()))?;
        drop(body);
        let mut request = http::Request::new(tonic::body::Body::new(Full::new(message)));
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = http::Version::HTTP_2;
        *request.uri_mut() = Uri::from_static(path);
        *request.headers_mut() = (*self.headers).clone();
        let answer = channel.call(request).await.map_err(|error| Status::from_error(error.into()))?;
        read(answer).await
    }
}

/// Reads an answer: one message and the trailers, or a status alone.
async fn read(answer: http::Response<tonic::body::Body>) -> Result<Response, Status> {
    let (head, body) = answer.into_parts();
    let encoding = match head.headers.get("grpc-encoding").map(HeaderValue::as_bytes) {
        Some(b"gzip") => Some(CompressionEncoding::Gzip),
        Some(b"zstd") => Some(CompressionEncoding::Zstd),
        _ => None,
    };
    match Status::from_header_map(&head.headers) {
        Some(status) if status.code() != Code::Ok => return Err(status),
        // Taken, and nothing said.
        Some(_) => return Ok(Response::default()),
        None => {}
    }
    let mut stream = pin!(Streaming::new_response(Answers, body, head.status, encoding, Some(MAX_ANSWER)));
    let message = stream.message().await?.ok_or_else(|| Status::internal("an answer without a message"))?;
    stream.trailers().await?;
    Ok(message)
}

/// A channel to a backend, of our own connections: TLS as the options say, and failures that say which step failed. It
/// connects when the first request is sent. `limit` is for each request, where whoever sends them has none.
///
/// # Errors
/// What in the options cannot be used: a certificate file, a name.
pub fn channel(options: &GrpcOptions, limit: Option<Duration>) -> Result<Channel, String> {
    let tls = match &options.tls {
        Some(tls) => Some((Arc::new(TlsSource::new(tls.clone())?), server_name(tls, &options.host)?)),
        None => None,
    };
    let connector = Connector { host: options.host.as_str().into(), port: options.port, timeout: options.timeout, tls };
    let address = options.address();
    let authority = options.authority.as_deref().unwrap_or(&address);
    let scheme = if options.tls.is_some() { "https" } else { "http" };
    let origin =
        format!("{scheme}://{authority}").parse().map_err(|error| format!("{authority} is no authority: {error}"))?;
    // The scheme here is not that of the requests: it only keeps tonic from adding TLS of its own.
    let agent = options.user_agent.clone().unwrap_or_else(|| concat!("synspan/", env!("CARGO_PKG_VERSION")).to_owned());
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| format!("{address} is no endpoint: {error}"))?
        .origin(origin)
        .user_agent(agent)
        .map_err(|_| "user_agent has characters that no header can carry".to_owned())?
        .http2_keep_alive_interval(options.keepalive_time)
        .keep_alive_timeout(options.keepalive_timeout)
        .keep_alive_while_idle(options.keepalive_while_idle);
    let endpoint = match limit {
        Some(limit) => endpoint.timeout(limit),
        None => endpoint,
    };
    Ok(endpoint.connect_with_connector_lazy(connector))
}

/// The headers of every request.
///
/// # Errors
/// A name or a value that no header can have.
pub fn headers(options: &GrpcOptions) -> Result<MetadataMap, String> {
    let mut headers = MetadataMap::new();
    for (name, value) in &options.headers {
        let key =
            AsciiMetadataKey::from_bytes(name.as_bytes()).map_err(|_| format!("{name} is no name of a header"))?;
        let mut value = AsciiMetadataValue::try_from(value.as_str())
            .map_err(|_| format!("the value of the header {name} has characters that no header can carry"))?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(headers)
}

/// What a status means. One that the transport made has a source, one that the backend sent has none;
/// of the backend's, OTLP says which to retry, and the transport's are always worth another try.
fn failure(status: &Status) -> Failure {
    let mut source = status.source();
    if source.is_none() {
        return Failure::status(status);
    }
    let mut innermost = String::new();
    while let Some(error) = source {
        if let Some(connect) = error.downcast_ref::<ConnectFailure>() {
            return Failure::transport(connect.to_string(), connect.check());
        }
        innermost = error.to_string();
        source = error.source();
    }
    if matches!(status.code(), Code::Unavailable | Code::Cancelled) && innermost.is_empty() {
        innermost = status.message().to_owned();
    }
    Failure::transport(
        format!("the connection failed: {}", one_line(&innermost)),
        "check that this port speaks gRPC (4317 by custom; 4318 is OTLP over HTTP), and TLS or not as the backend has it",
    )
}

/// The answer; the three signals' answers have one shape on the wire.
#[derive(Clone, Default)]
struct Response(ExportTraceServiceResponse);

impl Response {
    fn answer(self) -> Answer {
        let partial = self.0.partial_success.unwrap_or_default();
        let message = if partial.error_message.is_empty() { String::new() } else { one_line(&partial.error_message) };
        Answer::Taken { rejected: u64::try_from(partial.rejected_spans).unwrap_or(0), message }
    }
}

/// Reads answers.
#[derive(Clone, Copy, Default)]
struct Answers;

impl Decoder for Answers {
    type Item = Response;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Response>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        // The backend took the request; an answer that cannot be read must not send it twice.
        Ok(Some(Response(ExportTraceServiceResponse::decode(bytes).unwrap_or_default())))
    }
}
