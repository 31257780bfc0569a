//! Just enough of rtnetlink: requests, dumps and notifications, all blocking.
//!
//! Traffic control filters are asked for and written in the kernel's own attributes (`TCA_BPF_*`);
//! links, addresses and routes come the same way, so that one thread and one order of events serve all.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
    sockopt,
};

/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Room for one datagram; the kernel never sends a larger one than it is offered room for in a dump.
const ROOM: usize = 64 << 10;

/// `NLMSG_ERROR`: an error, or a success with error 0.
const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump.
const DONE: u16 = 3;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`.
const ACK: u16 = 0x4;
/// `NLM_F_DUMP_INTR`: the dump may have missed something, since the tables changed meanwhile.
const DUMP_INTERRUPTED: u16 = 0x10;
/// `NLM_F_ROOT | NLM_F_MATCH`.
const DUMP: u16 = 0x300;
/// `NLM_F_EXCL`.
pub const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`.
pub const CREATE: u16 = 0x400;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;

/// How often a dump is asked again when the tables changed under it.
const DUMP_TRIES: u32 = 4;

/// A message: its type, and its payload after the netlink header.
pub type Handler<'a> = dyn FnMut(u16, &[u8]) + 'a;

/// An rtnetlink socket in the calling thread's network namespace.
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
    /// Those of socket(2) and bind(2).
    pub fn open(groups: u32) -> io::Result<Self> {
        let fd =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, Some(SockProtocol::NetlinkRoute))?;
        if groups != 0 {
            // A burst of pods must not overflow the queue; where it cannot be raised, an overflow is
            // noticed and all is read anew.
            let _ = setsockopt(&fd, sockopt::RcvBufForce, &(4 << 20));
        }
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
                    for message in Messages::new(&self.room[..len]) {
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

    /// Asks for all entries of a table, again if it changed meanwhile. `reset` is called before each try.
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

    /// Sends a request and reads until its end. False if the kernel says that a dump was interrupted.
    fn converse(&mut self, kind: u16, flags: u16, body: &[u8], handler: &mut Handler<'_>) -> io::Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        let len = u32::try_from(HEADER + body.len()).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend_from_slice(&len.to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&0_u32.to_ne_bytes());
        message.extend_from_slice(body);
        send(self.fd.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut complete = true;
        loop {
            let len = match recv(self.fd.as_raw_fd(), &mut self.room, MsgFlags::empty()) {
                Ok(len) => len,
                Err(nix::Error::EINTR) => continue,
                Err(e) => return Err(e.into()),
            };
            for message in Messages::new(&self.room[..len]) {
                if message.sequence != self.sequence {
                    continue;
                }
                complete &= message.flags & DUMP_INTERRUPTED == 0;
                match message.kind {
                    DONE => return Ok(complete),
                    ERROR => {
                        let code = i32_at(message.payload, 0).unwrap_or(-libc::EBADMSG);
                        return if code == 0 { Ok(complete) } else { Err(io::Error::from_raw_os_error(-code)) };
                    }
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

struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

/// The messages of a datagram; ends early at one whose length makes no sense.
struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let len = u32_at(self.rest, 0)? as usize;
        let message = Message {
            kind: u16_at(self.rest, 4)?,
            flags: u16_at(self.rest, 6)?,
            sequence: u32_at(self.rest, 8)?,
            payload: self.rest.get(HEADER..len)?,
        };
        self.rest = self.rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

/// The attributes in `bytes` (`struct nlattr`): type and value; ends early at one that makes no sense.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & 0x3fff;
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Adds an attribute. Values here are short: a name, a number, or some of them.
pub fn put(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    body.extend_from_slice(&len.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// Adds an attribute that holds attributes.
pub fn put_nested(body: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    fill(&mut inner);
    put(body, kind | NESTED, &inner);
}

/// A number in the machine's order; none if the bytes end before it.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

/// A number in the machine's order; none if the bytes end before it.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// A number in the machine's order; none if the bytes end before it.
pub fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    u32_at(bytes, at).map(u32::cast_signed)
}

/// The text before the first NUL.
pub fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_back_as_they_were_put() {
        let mut body = Vec::new();
        put(&mut body, 1, b"clsact\0");
        put_nested(&mut body, 2, |inner| put(inner, 6, &7_u32.to_ne_bytes()));
        let found: Vec<_> = attributes(&body).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], (1, &b"clsact\0"[..]));
        assert_eq!(found[1].0, 2);
        assert_eq!(attributes(found[1].1).next(), Some((6, &7_u32.to_ne_bytes()[..])));
    }

    #[test]
    fn a_length_that_makes_no_sense_ends_the_list() {
        for bytes in [&[3, 0, 1, 0][..], &[0, 0, 0, 0], &[200, 0, 1, 0, 9], &[8, 0]] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
            assert_eq!(Messages::new(bytes).count(), 0, "{bytes:?}");
        }
        // A message that claims less than its own header.
        let mut short = [0_u8; 16];
        short[0] = 8;
        assert_eq!(Messages::new(&short).count(), 0);
    }

    #[test]
    fn the_loopback_link_is_dumped() {
        let mut socket = Socket::open(0).unwrap();
        // RTM_GETLINK with an empty ifinfomsg.
        let names: Vec<String> = socket
            .dump(18, &[0; 16], |names: &mut Vec<String>, payload| {
                names.extend(attributes(&payload[16..]).filter(|(kind, _)| *kind == 3).map(|(_, v)| text(v)));
            })
            .unwrap();
        assert!(names.iter().any(|n| n == "lo"), "{names:?}");
    }
}
