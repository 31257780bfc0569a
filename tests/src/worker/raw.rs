//! Packets past the kernel's TCP: a server's side that answers SYNs falsely.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvfrom, sendto, socket};

use super::protocol::{FalseHow, FalseNumbers};
use crate::segment::{ACK, SYN, Segment};

/// A packet socket of all interfaces, without link headers. Needs CAP_NET_RAW.
pub fn packet_socket() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Packet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?)
}

/// Answers each SYN to `port` by an ACK of another connection, on a thread of its own, for ever.
/// The kernel's own answer must be stopped by a rule: packet sockets see segments before netfilter.
pub fn answer_falsely(port: u16, numbers: FalseNumbers, how: FalseHow) -> io::Result<()> {
    let fd = packet_socket()?;
    std::thread::Builder::new().spawn(move || {
        let mut buffer = vec![0; 65_536];
        let mut answered = HashSet::new();
        loop {
            let Ok((length, Some(from))) = recvfrom::<LinkAddr>(fd.as_raw_fd(), &mut buffer) else { continue };
            let Some(segment) = Segment::parse(&buffer[..length]) else { continue };
            if segment.dst.port() == port && segment.flags & (SYN | ACK) == SYN {
                if !answered.insert(segment.src) && how.first_only {
                    continue;
                }
                let answer = Segment {
                    src: segment.dst,
                    dst: segment.src,
                    seq: numbers.seq,
                    ack: numbers.ack,
                    flags: if how.syn_ack { SYN | ACK } else { ACK },
                    payload: 0,
                    // The echo is not of this SYN: it would belong to this very connection.
                    timestamps: segment.timestamps.map(|(value, _)| (1, value.wrapping_sub(1_000_000))),
                };
                // The sender's link address is the way back; a failed answer is a lost one.
                let _ = sendto(fd.as_raw_fd(), &answer.build_with(how.ttl.unwrap_or(64)), &from, MsgFlags::empty());
            }
        }
    })?;
    Ok(())
}
