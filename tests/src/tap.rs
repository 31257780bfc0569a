//! The lab's own look at the wire, independent of the agent: what it says is what happened.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{LinkAddr, recvfrom, setsockopt, sockopt};
use nix::sys::time::TimeVal;

use crate::error::{Context, Result};
use crate::net::netns;
use crate::segment::{ACK, RST, SYN, Segment};
use crate::worker::raw::packet_socket;

/// A segment that passed an interface of a namespace.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When.
    pub at: Instant,
    /// Interface index in that namespace.
    pub ifindex: usize,
    /// Whether it left by that interface.
    pub out: bool,
    /// What it was.
    pub segment: Segment,
}

/// All TCP segments at all interfaces of one namespace but its loopback.
#[derive(Debug)]
pub struct Tap {
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Dropped with the tap: the thread ends.
    _alive: Arc<()>,
}

/// Segments beyond this are not kept: a lab's runs are small.
const MOST: usize = 500_000;
const PACKET_OUTGOING: u8 = 4;

impl Tap {
    /// Starts to look.
    pub fn start(netns: &str) -> Result<Self> {
        let fd = netns::inside(netns, packet_socket)?.context("open a packet socket")?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(0, 200_000)).context("set a receive timeout")?;
        setsockopt(&fd, sockopt::RcvBufForce, &(8 << 20)).context("set a receive buffer")?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let alive = Arc::new(());
        let (sink, watch) = (seen.clone(), Arc::downgrade(&alive));
        std::thread::Builder::new()
            .name("tap".into())
            .spawn(move || {
                let mut buffer = vec![0; 65_536];
                while watch.strong_count() > 0 {
                    match recvfrom::<LinkAddr>(fd.as_raw_fd(), &mut buffer) {
                        Ok((length, Some(from))) => {
                            let Some(segment) = Segment::parse(&buffer[..length]) else { continue };
                            // The agent's own exports, and nothing of a scenario.
                            if segment.src.ip().is_loopback() {
                                continue;
                            }
                            let at = Instant::now();
                            let out = from.pkttype() == PACKET_OUTGOING;
                            let mut seen = sink.lock().unwrap_or_else(PoisonError::into_inner);
                            if seen.len() < MOST {
                                seen.push(Seen { at, ifindex: from.ifindex(), out, segment });
                            }
                        }
                        Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
                        Err(_) => return,
                    }
                }
            })
            .context("start the tap's thread")?;
        Ok(Self { seen, _alive: alive })
    }

    /// What passed so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until nothing has passed for a while, at most for some seconds.
    pub fn wait_quiet(&self, quiet: Duration) {
        let deadline = Instant::now() + Duration::from_secs(3);
        while Instant::now() < deadline {
            let last = self.seen.lock().unwrap_or_else(PoisonError::into_inner).last().map(|seen| seen.at);
            if last.is_none_or(|at| at.elapsed() >= quiet) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The story of what a client's end sent and got since a time, at one point.
    pub fn of_client(&self, client: SocketAddr, since: Instant) -> Vec<Segment> {
        let mut all = self.seen();
        all.retain(|seen| seen.at >= since);
        // The first interface that showed it is the client's own.
        let Some(first) = all.iter().find(|seen| seen.segment.src == client).map(|seen| seen.ifindex) else {
            return Vec::new();
        };
        let of = |seen: &&Seen| seen.ifindex == first && (seen.segment.src == client || seen.segment.dst == client);
        all.iter().filter(of).map(|seen| seen.segment.clone()).collect()
    }
}

/// Where the client's stream and the server's stand at the end of a connection's story.
pub fn ends(story: &[Segment], client: SocketAddr) -> Option<(u32, u32)> {
    let last = |ours: bool| {
        story.iter().rfind(|segment| !segment.has(RST) && (segment.src == client) == ours).map(Segment::end)
    };
    Some((last(true)?, last(false)?))
}

/// Whether a connection's story has an answer to its SYN that is neither a SYN-ACK nor a RST, before any
/// SYN-ACK, with a number that is not its own.
pub fn stale_ack(story: &[Segment]) -> Option<&Segment> {
    let syn = story.iter().find(|segment| segment.flags & (SYN | ACK) == SYN)?;
    let own = syn.end();
    let pending = story.iter().take_while(|segment| segment.flags & (SYN | ACK) != SYN | ACK);
    pending
        .into_iter()
        .find(|segment| segment.dst == syn.src && segment.flags & (SYN | RST | ACK) == ACK && segment.ack != own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(up: bool, flags: u8, seq: u32, ack: u32) -> Segment {
        let (client, server) = ("10.0.0.1:4000".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
        let (src, dst) = if up { (client, server) } else { (server, client) };
        Segment { src, dst, seq, ack, flags, payload: 0, timestamps: None }
    }

    #[test]
    fn a_stale_ack_is_told_from_a_healthy_answer() {
        let stale = [segment(true, SYN, 100, 0), segment(false, ACK, 9, 50), segment(true, RST, 50, 0)];
        assert_eq!(stale_ack(&stale).map(|segment| segment.ack), Some(50));
        let healthy = [segment(true, SYN, 100, 0), segment(false, SYN | ACK, 9, 101), segment(false, ACK, 10, 105)];
        assert_eq!(stale_ack(&healthy), None);
        let refused = [segment(true, SYN, 100, 0), segment(false, RST | ACK, 0, 101)];
        assert_eq!(stale_ack(&refused), None);
    }
}
