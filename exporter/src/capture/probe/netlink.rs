//! A route netlink socket, as far as the probe needs it: one dump or one command at a time.
//!
//! Layouts: `struct nlmsghdr` (`include/uapi/linux/netlink.h`) and attributes as of netlink(7).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x01;
const NLM_F_ACK: u16 = 0x04;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
/// A dump that was disturbed by a change is asked again this often.
const TRIES: usize = 5;

/// A socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

/// How a reply ended.
enum End {
    More,
    Done,
}

impl Socket {
    /// Opens one, with a time limit of five seconds on every answer.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> io::Result<Self> {
        // SAFETY: socket takes no pointers.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just returned this descriptor, and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let limit = libc::timeval { tv_sec: 5, tv_usec: 0 };
        // SAFETY: limit is a timeval and its size is given.
        let result = unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const limit).cast(),
                size_of::<libc::timeval>() as libc::socklen_t,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(Self { fd, sequence: 0 }) }
    }

    /// Asks for all objects of a kind; returns each answer's message type and body.
    ///
    /// # Errors
    /// The kernel's; `EINTR`-like disturbance is tried again and reported only if it does not end.
    pub fn dump(&mut self, kind: u16, body: &[u8]) -> io::Result<Vec<(u16, Vec<u8>)>> {
        for _ in 0..TRIES {
            self.send(kind, NLM_F_REQUEST | NLM_F_DUMP, body)?;
            let mut found = Vec::new();
            let mut disturbed = false;
            while let End::More = self.receive(|kind, flags, body| {
                disturbed |= flags & NLM_F_DUMP_INTR != 0;
                found.push((kind, body.to_vec()));
            })? {}
            if !disturbed {
                return Ok(found);
            }
        }
        Err(io::Error::other("the kernel's tables changed during every one of five dumps; try again"))
    }

    /// Sends a command, with further `NLM_F_*` flags, and waits for its acknowledgement.
    ///
    /// # Errors
    /// The kernel's.
    pub fn command(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.send(kind, NLM_F_REQUEST | NLM_F_ACK | flags, body)?;
        while let End::More = self.receive(|_, _, _| {})? {}
        Ok(())
    }

    fn send(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence += 1;
        let message = message(kind, flags, self.sequence, body);
        // SAFETY: message is as long as said.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn receive(&mut self, each: impl FnMut(u16, u16, &[u8])) -> io::Result<End> {
        let mut buffer = vec![0u8; 64 * 1024];
        let length = loop {
            // SAFETY: buffer is as long as said.
            let length = unsafe { libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            if let Ok(length) = usize::try_from(length) {
                break length;
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        };
        read(&buffer[..length], self.sequence, each)
    }
}

fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend(0u32.to_ne_bytes());
    message.extend(body);
    message
}

/// Reads the messages of one datagram; those with another sequence number are of an earlier request.
fn read(mut rest: &[u8], sequence: u32, mut each: impl FnMut(u16, u16, &[u8])) -> io::Result<End> {
    while rest.len() >= HEADER {
        let word = |at: usize| u32::from_ne_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
        let half = |at: usize| u16::from_ne_bytes([rest[at], rest[at + 1]]);
        let length = word(0) as usize;
        let Some(body) = rest.get(HEADER..length) else {
            return Err(io::Error::other("a netlink answer is cut short"));
        };
        if word(8) == sequence {
            match half(4) {
                NLMSG_DONE | NLMSG_ERROR => {
                    let error = body.get(..4).and_then(|b| b.try_into().ok()).map_or(0, i32::from_ne_bytes);
                    return if error < 0 { Err(io::Error::from_raw_os_error(-error)) } else { Ok(End::Done) };
                }
                kind => each(kind, half(6), body),
            }
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(End::More)
}

/// The attributes in a body: type (without its flag bits) and value.
pub fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(rest.get(0..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?) & 0x3fff;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Appends an attribute, padded.
pub fn push_attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend(u16::try_from(4 + value.len()).unwrap_or(u16::MAX).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_survive_a_round_and_broken_ones_end_it() {
        let mut body = Vec::new();
        push_attribute(&mut body, 1, b"bpf\0");
        push_attribute(&mut body, 11, &[7]);
        let found: Vec<_> = attributes(&body).collect();
        assert_eq!(found, [(1, &b"bpf\0"[..]), (11, &[7][..])]);
        for cut in 0..body.len() {
            assert!(attributes(&body[..cut]).count() <= 1 + usize::from(cut >= 13), "cut at {cut}");
        }
        assert_eq!(attributes(&[2, 0, 1, 0]).count(), 0, "a length below the header's is no attribute");
    }

    #[test]
    fn an_error_of_this_request_ends_it_and_others_are_passed_over() {
        let mut datagram = message(NLMSG_ERROR, 0, 8, &(-libc::EPERM).to_ne_bytes());
        datagram.extend(message(44, 0, 9, b"abcd"));
        datagram.extend(message(NLMSG_ERROR, 0, 9, &(-libc::ENOENT).to_ne_bytes()));
        let mut seen = Vec::new();
        let end = read(&datagram, 9, |kind, _, body| seen.push((kind, body.to_vec())));
        assert_eq!(end.err().and_then(|error| error.raw_os_error()), Some(libc::ENOENT));
        assert_eq!(seen, [(44, b"abcd".to_vec())]);
    }

    #[test]
    fn a_cut_message_is_an_error() {
        let whole = message(44, 0, 1, b"abcdefgh");
        assert!(read(&whole[..20], 1, |_, _, _| {}).is_err());
    }
}
