//! Handshakes past the kernel's TCP: a scanner's SYN, a server's side that resets what it answered, and a flood of
//! SYNs from addresses of nobody.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{LinkAddr, MsgFlags, SockaddrStorage, recvfrom, sendto, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use super::protocol::Connected;
use super::raw::packet_socket;
use crate::segment::{ACK, RST, SYN, Segment};

/// The sequence number that false SYN-ACKs start from.
const OWN_ISN: u32 = 0x0bad_cafe;

/// A socket that takes whole IP packets.
fn packets_out(v4: bool) -> io::Result<OwnedFd> {
    let family = if v4 { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: a plain system call with no memory of ours.
    let fd = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_RAW) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn send(fd: &OwnedFd, segment: &Segment) -> nix::Result<()> {
    // The port of a raw socket's address must be 0 for IPv6.
    let to = SockaddrStorage::from(SocketAddr::new(segment.dst.ip(), 0));
    sendto(fd.as_raw_fd(), &segment.build(), &to, MsgFlags::empty()).map(drop)
}

/// Sends an IP packet as it is.
pub fn inject(packet: &[u8], to: IpAddr) -> io::Result<()> {
    let to_address = SockaddrStorage::from(SocketAddr::new(to, 0));
    sendto(packets_out(to.is_ipv4())?.as_raw_fd(), packet, &to_address, MsgFlags::empty())?;
    Ok(())
}

/// Sends one SYN and tells what answered it: `syn-ack`, `rst` or `silence`. The kernel knows no such socket, and so
/// resets what comes.
pub fn raw_syn(to: SocketAddr, from_port: u16, patience_ms: u64) -> io::Result<Connected> {
    let any: SocketAddr =
        if to.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let probe = UdpSocket::bind(any)?;
    probe.connect(to)?;
    let src = SocketAddr::new(probe.local_addr()?.ip(), from_port);
    let tap = packet_socket()?;
    setsockopt(&tap, sockopt::ReceiveTimeout, &TimeVal::milliseconds(50))?;
    let seq = rand::random();
    let syn = Segment { src, dst: to, seq, ack: 0, flags: SYN, payload: 0, timestamps: Some((rand::random(), 0)) };
    let start = Instant::now();
    send(&packets_out(to.is_ipv4())?, &syn)?;
    let mut buffer = vec![0; 65_536];
    let mut result = "silence";
    while start.elapsed() < Duration::from_millis(patience_ms) && result == "silence" {
        let length = match recvfrom::<LinkAddr>(tap.as_raw_fd(), &mut buffer) {
            Ok((length, _)) => length,
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let Some(answer) = Segment::parse(&buffer[..length]) else { continue };
        if answer.src == to && answer.dst == src && answer.ack == seq.wrapping_add(1) {
            result = if answer.has(RST) { "rst" } else { "syn-ack" };
        }
    }
    let took_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    Ok(Connected { result: result.into(), local: Some(src), took_us })
}

/// Answers each SYN to `port` by a SYN-ACK and what follows by a RST, on a thread of its own, for ever.
/// The kernel's own answer must be stopped by a rule: packet sockets see segments before netfilter.
pub fn answer_and_reset(port: u16) -> io::Result<()> {
    let fd = packet_socket()?;
    std::thread::Builder::new().spawn(move || {
        let mut buffer = vec![0; 65_536];
        loop {
            let Ok((length, Some(from))) = recvfrom::<LinkAddr>(fd.as_raw_fd(), &mut buffer) else { continue };
            let Some(segment) = Segment::parse(&buffer[..length]) else { continue };
            if segment.dst.port() != port || segment.has(RST) {
                continue;
            }
            let mut answer = Segment {
                src: segment.dst,
                dst: segment.src,
                seq: OWN_ISN,
                ack: segment.end(),
                flags: SYN | ACK,
                payload: 0,
                timestamps: segment.timestamps.map(|(value, _)| (1, value)),
            };
            if !segment.has(SYN) {
                // The application is to learn that it is connected before it learns that it is not.
                std::thread::sleep(Duration::from_millis(20));
                (answer.seq, answer.ack, answer.flags, answer.timestamps) = (segment.ack, 0, RST, None);
            }
            // The sender's link address is the way back; a failed answer is a lost one.
            let _ = sendto(fd.as_raw_fd(), &answer.build(), &from, MsgFlags::empty());
        }
    })?;
    Ok(())
}

/// Sends SYNs from addresses that are for benchmarks alone (RFC 2544, RFC 5180), each from another address and port.
pub fn flood(to: SocketAddr, syns: u32, rate: u32) -> io::Result<()> {
    let fd = packets_out(to.is_ipv4())?;
    let start = Instant::now();
    let first: u32 = rand::random();
    for sent in 0..syns {
        let from: IpAddr = if to.is_ipv4() {
            Ipv4Addr::from_bits(0xc612_0000 | (rand::random::<u32>() & 0x1_ffff)).into()
        } else {
            Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, rand::random(), rand::random()).into()
        };
        let syn = Segment {
            src: SocketAddr::new(from, rand::random::<u16>() | 1024),
            dst: to,
            // Each has another number: an odd factor takes no two of 2^32 to the same.
            seq: first.wrapping_add(sent).wrapping_mul(0x9e37_79b1),
            ack: 0,
            flags: SYN,
            payload: 0,
            timestamps: Some((rand::random(), 0)),
        };
        // The interface's queue may be full for a moment.
        while let Err(errno) = send(&fd, &syn) {
            if !matches!(errno, Errno::ENOBUFS | Errno::EAGAIN) {
                return Err(errno.into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        if sent % 64 == 0 {
            let due = Duration::from_secs_f64(f64::from(sent) / f64::from(rate.max(1)));
            std::thread::sleep(due.saturating_sub(start.elapsed()));
        }
    }
    Ok(())
}
