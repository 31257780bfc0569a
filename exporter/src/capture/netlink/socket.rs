//! A netlink socket: requests, dumps and notifications.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::message::{ACK, DONE, DUMP, DUMP_INTERRUPTED, ERROR, REQUEST, build, messages};

/// Room for one datagram; the kernel never sends a larger one than it is offered room for in a dump.
const ROOM: usize = 64 << 10;
/// How often a dump is asked again when the tables changed under it.
const DUMP_TRIES: u32 = 4;
/// Longest wait for an answer, in seconds: the kernel answers at once or never.
const PATIENCE: i64 = 5;

/// A message: its type, and its payload after the netlink header.
pub type Handler<'a> = dyn FnMut(u16, &[u8]) + 'a;

/// Whom a socket speaks with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// `NETLINK_ROUTE`: links, addresses, routes, traffic control.
    Route,
    /// `NETLINK_NETFILTER`: connection tracking, nftables.
    Netfilter,
    /// `NETLINK_SOCK_DIAG`: sockets.
    SockDiag,
}

/// A netlink socket, for good in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    room: Vec<u8>,
}

impl Socket {
    /// Opens a socket that gets the notifications of `groups` (the bits of `RTMGRP_*`); 0 for requests only.
    ///
    /// # Errors
    ///
    /// Those of socket(2) and bind(2); `EPROTONOSUPPORT` where the kernel has no such protocol.
    pub fn open(protocol: Protocol, groups: u32) -> io::Result<Self> {
        let protocol = match protocol {
            Protocol::Route => SockProtocol::NetlinkRoute,
            Protocol::Netfilter => SockProtocol::NetlinkNetFilter,
            Protocol::SockDiag => SockProtocol::NetlinkSockDiag,
        };
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, Some(protocol))?;
        if groups != 0 {
            // A burst of pods must not overflow the queue; where it cannot be raised, an overflow is
            // noticed and all is read anew.
            let _ = setsockopt(&fd, sockopt::RcvBufForce, &(4 << 20));
        }
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE))?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Self { fd, sequence: 0, room: vec![0; ROOM] })
    }

    /// Hands every waiting notification to `handler`, without blocking. False if some were lost.
    ///
    /// # Errors
    ///
    /// Those of recv(2).
    pub fn notifications(&mut self, handler: &mut Handler<'_>) -> io::Result<bool> {
        let mut complete = true;
        loop {
            match recv(self.fd.as_raw_fd(), &mut self.room, MsgFlags::MSG_DONTWAIT) {
                Ok(len) => {
                    for message in messages(&self.room[..len]) {
                        handler(message.kind, message.payload);
                    }
                }
                Err(nix::Error::EAGAIN) => return Ok(complete),
                Err(nix::Error::ENOBUFS) => complete = false,
                Err(nix::Error::EINTR) => (),
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Asks for all entries of a table, again if it changed meanwhile; what the last try found is taken as
    /// it is. Each try starts with an empty `T`.
    ///
    /// # Errors
    ///
    /// The kernel's answer, or those of send(2) and recv(2).
    pub fn dump<T: Default>(&mut self, kind: u16, body: &[u8], mut take: impl FnMut(&mut T, &[u8])) -> io::Result<T> {
        let mut tries = 0;
        loop {
            tries += 1;
            let mut table = T::default();
            let complete = self.converse(kind, DUMP, body, &mut |_, payload| take(&mut table, payload))?;
            if complete || tries == DUMP_TRIES {
                return Ok(table);
            }
        }
    }

    /// Sends a request and waits until the kernel has done it.
    ///
    /// # Errors
    ///
    /// The kernel's answer, or those of send(2) and recv(2).
    pub fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.converse(kind, flags | ACK, body, &mut |_, _| ()).map(|_| ())
    }

    /// Asks for one thing; its answers go to `handler`, `ENOENT` where there is no such thing.
    ///
    /// # Errors
    ///
    /// The kernel's answer, or those of send(2) and recv(2).
    pub fn ask(&mut self, kind: u16, body: &[u8], handler: &mut Handler<'_>) -> io::Result<()> {
        self.converse(kind, ACK, body, handler).map(|_| ())
    }

    /// Sends a request and reads until its end. False if the kernel says that a dump was interrupted.
    fn converse(&mut self, kind: u16, flags: u16, body: &[u8], handler: &mut Handler<'_>) -> io::Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        let message = build(kind, REQUEST | flags, self.sequence, body)?;
        send(self.fd.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut complete = true;
        loop {
            let len = match recv(self.fd.as_raw_fd(), &mut self.room, MsgFlags::empty()) {
                Ok(len) => len,
                Err(nix::Error::EINTR) => continue,
                Err(e) => return Err(e.into()),
            };
            for message in messages(&self.room[..len]) {
                if message.sequence != self.sequence {
                    // Of an earlier request, whose answers were not read to their end.
                    continue;
                }
                complete &= message.flags & DUMP_INTERRUPTED == 0;
                match message.kind {
                    DONE | ERROR => return message.result().map(|()| complete),
                    kind => handler(kind, message.payload),
                }
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::netlink::{attributes, text};

    #[test]
    fn the_loopback_link_is_dumped() {
        let mut socket = Socket::open(Protocol::Route, 0).unwrap();
        // RTM_GETLINK with an empty ifinfomsg.
        let names: Vec<String> = socket
            .dump(18, &[0; 16], |names: &mut Vec<String>, payload| {
                names.extend(attributes(&payload[16..]).filter(|(kind, _)| *kind == 3).map(|(_, v)| text(v)));
            })
            .unwrap();
        assert!(names.iter().any(|n| n == "lo"), "{names:?}");
    }

    #[test]
    fn what_the_kernel_refuses_is_an_error() {
        let mut socket = Socket::open(Protocol::Route, 0).unwrap();
        // RTM_GETLINK of an index that no link has.
        let mut body = [0_u8; 16];
        body[4..8].copy_from_slice(&i32::MAX.to_ne_bytes());
        let error = socket.ask(18, &body, &mut |_, _| ()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }
}
