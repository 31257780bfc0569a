//! The HTTP side: bounded in the number of connections, the size of a request and the time that one may take.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

use super::{Source, judge, metrics, page};

/// Connections at the same time. One more takes the place of the oldest: whoever holds connections and says nothing
/// must not keep a probe out.
pub const CONNECTIONS: usize = 16;
/// Most bytes of a request's head; hyper takes no less.
const HEAD: usize = 8 << 10;
/// How long a client may take to say what it wants.
const HEAD_PATIENCE: Duration = Duration::from_secs(5);
/// How long a connection may last in all: a client that does not read is let go.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where the port is taken, or accepting fails, it is tried again after this long.
const AGAIN: Duration = Duration::from_secs(5);

const TEXT: &str = "text/plain; charset=utf-8";

/// How it listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Where.
    pub endpoint: SocketAddr,
    /// Whether `/metrics` is there.
    pub metrics: bool,
}

/// A listener that answers until this is dropped.
#[derive(Debug)]
pub struct Server {
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Listens and answers in the background. A port that is taken is no error: it is said once, and tried again for
    /// as long as it takes, since the rest of the agent is worth more than its probes.
    pub fn start(options: Options, source: Arc<dyn Source>, runtime: &Handle) -> Self {
        if !options.endpoint.ip().to_canonical().is_loopback() {
            tracing::warn!(
                "agent.health.endpoint {} is not on loopback: whoever reaches it may read the node's name, where telemetry goes, and why that fails",
                options.endpoint
            );
        }
        let task = runtime.spawn(async move {
            let listener = listen(options.endpoint).await;
            serve(listener, options.metrics, source).await;
        });
        Self { task }
    }
}

async fn listen(endpoint: SocketAddr) -> TcpListener {
    let mut told = false;
    loop {
        match TcpListener::bind(endpoint).await {
            Ok(listener) => {
                if told {
                    tracing::info!("health is answered at http://{endpoint} now");
                } else {
                    tracing::debug!("health is answered at http://{endpoint}");
                }
                return listener;
            }
            Err(error) if !told => {
                told = true;
                tracing::warn!(
                    "cannot listen at agent.health.endpoint {endpoint} ({error}): nobody is told how this agent is, and probes fail or ask another; it goes on, and tries again every {} s",
                    AGAIN.as_secs()
                );
            }
            Err(_) => {}
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn serve(listener: TcpListener, metrics: bool, source: Arc<dyn Source>) {
    // Ended with this task.
    let mut connections = JoinSet::new();
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!("cannot take a connection: {error}");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        open.retain(|connection| !connection.is_finished());
        if open.len() >= CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        open.push_back(connections.spawn(connection(stream, metrics, Arc::clone(&source))));
    }
}

async fn connection(stream: TcpStream, metrics: bool, source: Arc<dyn Source>) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let response = respond(request.method(), request.uri().path(), metrics, &*source);
        async move { Ok::<_, Infallible>(response) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(HEAD)
        // One request a connection: nobody holds one open for the next.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // Who went away, says nothing or reads nothing is told nothing more.
    let _ = tokio::time::timeout(PATIENCE, serving).await;
}

/// The answer to a request. HEAD is answered as GET, and hyper leaves the body out.
fn respond(method: &Method, path: &str, metrics: bool, source: &dyn Source) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/livez" => verdict(judge::live(&source.facts())),
        "/readyz" => verdict(judge::ready(&source.facts())),
        "/status" => answer(StatusCode::OK, TEXT, page::page(&source.status())),
        "/status.json" => match serde_json::to_string(&source.status()) {
            Ok(json) => answer(StatusCode::OK, "application/json", json + "\n"),
            Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        },
        "/metrics" if metrics => answer(StatusCode::OK, metrics::CONTENT_TYPE, metrics::text(&source.status())),
        _ => {
            let more = if metrics { ", /metrics" } else { "" };
            let what = format!("there is /livez, /readyz, /status, /status.json{more}\n");
            answer(StatusCode::NOT_FOUND, TEXT, what)
        }
    }
}

fn verdict(verdict: judge::Verdict) -> Response<Full<Bytes>> {
    let code = if verdict.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    // What the API server said may stand in it.
    answer(code, TEXT, page::one_line(&verdict.says) + "\n")
}

fn answer(code: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;
