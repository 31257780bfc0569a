//! A namespace's connection tracking, filled with entries that nobody made.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, send, setsockopt, socket, sockopt};

use super::netns::{self, Netns};
use crate::error::{Context, Result, lab};

/// linux/netfilter/nfnetlink_conntrack.h, and nf_conntrack_common.h for the status bits.
mod ct {
    pub const MESSAGE_NEW: u16 = 1 << 8;
    pub const TUPLE_ORIG: u16 = 1;
    pub const TUPLE_REPLY: u16 = 2;
    pub const STATUS: u16 = 3;
    pub const TIMEOUT: u16 = 7;
    pub const TUPLE_IP: u16 = 1;
    pub const TUPLE_PROTO: u16 = 2;
    pub const IP_V4_SRC: u16 = 1;
    pub const IP_V4_DST: u16 = 2;
    pub const PROTO_NUM: u16 = 1;
    pub const PROTO_SRC_PORT: u16 = 2;
    pub const PROTO_DST_PORT: u16 = 3;
    /// SEEN_REPLY, ASSURED, CONFIRMED: the kernel drops no assured entry to make room.
    pub const KEPT: u32 = (1 << 1) | (1 << 2) | (1 << 3);
}

const NESTED: u16 = 1 << 15;
const UDP: u8 = 17;
/// Bytes of messages in one system call.
const BATCH: usize = 128 << 10;
/// Seconds that the entries live.
const LIFE: u32 = 600;

/// Fills a namespace's table up to the kernel's limit, which all namespaces have in common, each for itself.
/// The entries are assured ones of UDP, from addresses that no scenario uses.
pub fn fill(netns: &Netns) -> Result<()> {
    let most = netns::inside(netns.name(), move || -> Result<(usize, usize)> {
        let most = read("nf_conntrack_max")?;
        let missing = most.saturating_sub(read("nf_conntrack_count")?);
        // Some of what is there may end meanwhile.
        insert(&connect()?, missing + 1000)?;
        Ok((most, read("nf_conntrack_count")?))
    })?;
    match most? {
        (most, count) if count >= most => Ok(()),
        (most, count) => lab(format!("the table holds {count} entries of {most} after it was filled")),
    }
}

fn read(name: &str) -> Result<usize> {
    let path = format!("/proc/sys/net/netfilter/{name}");
    let text = std::fs::read_to_string(&path).context(format_args!("read {path}"))?;
    text.trim().parse().or_else(|_| lab(format!("{path} holds no number: {text}")))
}

fn connect() -> Result<OwnedFd> {
    let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)
        .context("open a netlink socket")?;
    setsockopt(&fd, sockopt::SndBufForce, &(4 * BATCH)).context("set a send buffer")?;
    Ok(fd)
}

fn insert(fd: &OwnedFd, count: usize) -> Result<()> {
    let mut batch = Vec::with_capacity(BATCH + 1024);
    for number in 0..u32::try_from(count).unwrap_or(u32::MAX) {
        batch.extend(entry(number));
        if batch.len() > BATCH {
            // What the kernel refuses shows in the count.
            send(fd.as_raw_fd(), &batch, MsgFlags::empty()).context("insert connection tracking entries")?;
            batch.clear();
        }
    }
    if !batch.is_empty() {
        send(fd.as_raw_fd(), &batch, MsgFlags::empty()).context("insert connection tracking entries")?;
    }
    Ok(())
}

/// The message that makes one entry.
fn entry(number: u32) -> Vec<u8> {
    // 100.64.0.0/10 is nobody's here (RFC 6598).
    let client = Ipv4Addr::from(0x6440_0000 | (number >> 12));
    let server = Ipv4Addr::new(100, 127, 0, 1);
    let port = 10_000 + u16::try_from(number & 0xfff).unwrap_or(0);
    let mut attributes = tuple(ct::TUPLE_ORIG, (client, port), (server, 9));
    attributes.extend(tuple(ct::TUPLE_REPLY, (server, 9), (client, port)));
    attributes.extend(attribute(ct::STATUS, &ct::KEPT.to_be_bytes()));
    attributes.extend(attribute(ct::TIMEOUT, &LIFE.to_be_bytes()));
    let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_CREATE | libc::NLM_F_EXCL).unwrap_or(0);
    let length = u32::try_from(16 + 4 + attributes.len()).unwrap_or(0);
    let mut message = length.to_ne_bytes().to_vec();
    // Message type, flags, sequence number, port; then nfgenmsg: family, version, resource.
    message.extend(ct::MESSAGE_NEW.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([u8::try_from(libc::AF_INET).unwrap_or(0), 0, 0, 0]);
    message.extend(attributes);
    message
}

fn tuple(kind: u16, src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16)) -> Vec<u8> {
    let ip = [attribute(ct::IP_V4_SRC, &src.0.octets()), attribute(ct::IP_V4_DST, &dst.0.octets())].concat();
    let proto = [
        attribute(ct::PROTO_NUM, &[UDP]),
        attribute(ct::PROTO_SRC_PORT, &src.1.to_be_bytes()),
        attribute(ct::PROTO_DST_PORT, &dst.1.to_be_bytes()),
    ]
    .concat();
    let both = [attribute(ct::TUPLE_IP | NESTED, &ip), attribute(ct::TUPLE_PROTO | NESTED, &proto)].concat();
    attribute(kind | NESTED, &both)
}

/// A netlink attribute, padded to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = u16::try_from(4 + value.len()).unwrap_or(0).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_whole_and_entries_differ() {
        let message = entry(5000);
        let length = u32::from_ne_bytes(message[..4].try_into().unwrap());
        assert_eq!((length as usize, message.len() % 4), (message.len(), 0));
        assert_ne!(entry(0), entry(1));
        assert_ne!(entry(0), entry(4096));
        assert_eq!(attribute(7, &[1]).len(), 8);
    }
}
