//! The way to a Collector outside: a listener on the node's loopback that passes bytes on, and counts them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::error::{Context, Result};
use crate::net::netns;

/// A relay. It ends with the program.
#[derive(Debug)]
pub struct Relay {
    /// Where it listens, in its namespace.
    pub address: SocketAddr,
    sent: Arc<AtomicU64>,
}

impl Relay {
    /// Starts it in a network namespace, on a port that is free there; `to` is reached from here.
    pub fn start(namespace: &str, to: SocketAddr) -> Result<Self> {
        let listener = netns::inside(namespace, || std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?
            .context("listen for the agent's exports")?;
        listener.set_nonblocking(true).context("set up the listener")?;
        let address = listener.local_addr().context("ask for the listener's address")?;
        let sent = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&sent);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
        std::thread::Builder::new()
            .name("relay".into())
            .spawn(move || runtime.block_on(accept(listener, to, count)))
            .context("start the relay's thread")?;
        Ok(Self { address, sent })
    }

    /// Bytes that the agent has sent: all of TCP's payload, HTTP/2 with it.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

async fn accept(listener: std::net::TcpListener, to: SocketAddr, count: Arc<AtomicU64>) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(pass(stream, to, Arc::clone(&count)));
    }
}

async fn pass(stream: TcpStream, to: SocketAddr, count: Arc<AtomicU64>) -> std::io::Result<()> {
    let there = TcpStream::connect(to).await?;
    let ((mut from_agent, mut to_agent), (mut from_there, mut to_there)) = (stream.into_split(), there.into_split());
    let back = tokio::spawn(async move { tokio::io::copy(&mut from_there, &mut to_agent).await });
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = from_agent.read(&mut buffer).await?;
        if length == 0 {
            break;
        }
        count.fetch_add(length as u64, Ordering::Relaxed);
        to_there.write_all(&buffer[..length]).await?;
    }
    to_there.shutdown().await?;
    back.await.map_err(std::io::Error::other)?.map(drop)
}
