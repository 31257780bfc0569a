//! Making the connection under an HTTP/2 channel. Our own rather than tonic's, so that TLS versions,
//! files read again and unverified certificates work, and so that a failure says which step failed.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use super::tls::TlsSource;

/// Connects to one host and port, whatever URI it is called with.
#[derive(Clone)]
pub(super) struct Connector {
    pub host: Arc<str>,
    pub port: u16,
    pub timeout: Duration,
    pub tls: Option<(Arc<TlsSource>, ServerName<'static>)>,
}

/// Which step of connecting failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectFailure {
    /// The name has no address.
    #[error("the name {0} cannot be resolved: {1}")]
    Resolve(Arc<str>, io::Error),
    /// No TCP connection.
    #[error("cannot connect: {0}")]
    Tcp(io::Error),
    /// No TLS session.
    #[error("the TLS handshake failed: {0}")]
    Tls(io::Error),
    /// TLS, but not for HTTP/2.
    #[error("the server speaks TLS but not HTTP/2 (no h2 in ALPN)")]
    NotHttp2,
    /// Too slow.
    #[error("no connection within {0:?}")]
    TimedOut(Duration),
}

impl ConnectFailure {
    /// What to check.
    pub fn check(&self) -> &'static str {
        match self {
            Self::Resolve(..) => "check the host in `endpoint`, and DNS",
            Self::Tcp(_) => "check that the backend runs and listens there, and that the port is right",
            Self::Tls(_) => {
                "check that this port speaks TLS (else http:// or tls.insecure), tls.ca_file, and the name in the certificate"
            }
            Self::NotHttp2 => "check that this is a gRPC port and not one of OTLP over HTTP",
            Self::TimedOut(_) => "check the address, and firewalls on the way",
        }
    }
}

impl Connector {
    async fn connect(self) -> Result<Stream, ConnectFailure> {
        match tokio::time::timeout(self.timeout, self.clone().steps()).await {
            Ok(result) => result,
            Err(_) => Err(ConnectFailure::TimedOut(self.timeout)),
        }
    }

    async fn steps(self) -> Result<Stream, ConnectFailure> {
        let addresses = tokio::net::lookup_host((&*self.host, self.port))
            .await
            .map_err(|error| ConnectFailure::Resolve(self.host.clone(), error))?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let mut connected = None;
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    connected = Some(stream);
                    break;
                }
                Err(error) => last = error,
            }
        }
        let stream = connected.ok_or(ConnectFailure::Tcp(last))?;
        stream.set_nodelay(true).map_err(ConnectFailure::Tcp)?;
        let Some((source, name)) = self.tls else { return Ok(Stream::Plain(stream)) };
        let stream = tokio_rustls::TlsConnector::from(source.config())
            .connect(name, stream)
            .await
            .map_err(ConnectFailure::Tls)?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(ConnectFailure::NotHttp2);
        }
        Ok(Stream::Tls(Box::new(stream)))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = ConnectFailure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connect = self.clone().connect();
        Box::pin(async move { connect.await.map(TokioIo::new) })
    }
}

/// A connection, plain or not.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
