//! Network packets: from bytes to the TCP segment, or the ICMP error about one, that is in them, through
//! fragments, extension headers and tunnels. Pure, and for any bytes.

use super::link::{array, ethernet};
use crate::capture::tuple::{Addr, Endpoint, Tuple};

/// How many headers of tunnels are looked behind.
const DEPTH: usize = 4;
/// Most extension headers of an IPv6 packet.
const MOST_EXTENSIONS: usize = 16;
/// Bytes of a TCP header without options.
pub const TCP_HEADER: usize = 20;
/// What an ICMP error quotes of a segment at the least: ports and sequence number (RFC 792).
const QUOTED: usize = 8;

const ICMP: u8 = 1;
const IP_IN_IP: u8 = 4;
const TCP: u8 = 6;
const UDP: u8 = 17;
const IPV6_IN_IP: u8 = 41;
const GRE: u8 = 47;
const ICMP_V6: u8 = 58;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// Ethernet frames in a tunnel ("transparent Ethernet bridging").
const BRIDGED: u16 = 0x6558;

/// A tunnel that a packet was in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Tunnel {
    /// VXLAN, with its network's number (RFC 7348).
    Vxlan(u32),
    /// Geneve, with its network's number (RFC 8926).
    Geneve(u32),
    /// GRE (RFC 2784).
    Gre,
    /// IPv4 or IPv6 in IP (RFC 2003, RFC 4213).
    Ip,
}

/// What was found in a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found<'a> {
    /// The innermost tunnel that it was in.
    pub tunnel: Option<Tunnel>,
    /// What it is.
    pub what: What<'a>,
}

/// The kinds of thing found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What<'a> {
    /// A TCP segment.
    Segment(Raw<'a>),
    /// An ICMP error that quotes a TCP segment.
    Icmp(Icmp),
    /// A TCP segment whose header the capture has cut.
    Cut,
}

/// A TCP segment, its options unread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Raw<'a> {
    /// From sender to receiver.
    pub tuple: Tuple,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Its header, at least [`TCP_HEADER`] bytes, and what of its payload was captured.
    pub bytes: &'a [u8],
    /// Bytes of header and payload on the wire.
    pub length: u32,
}

/// An ICMP error about a TCP segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Icmp {
    /// Who sent it.
    pub from: Addr,
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The quoted segment's tuple.
    pub tuple: Tuple,
    /// The quoted sequence number.
    pub seq: u32,
}

/// An IP packet's header, read.
struct Ip<'a> {
    source: Addr,
    destination: Addr,
    ttl: u8,
    protocol: u8,
    /// What comes after the headers, without what pads the frame.
    payload: &'a [u8],
    /// How long that was on the wire.
    length: u32,
}

/// What is in a packet of an Ethernet type. `length` is how long the packet was on the wire, for those
/// whose header does not say (segments merged by the kernel, BIG TCP).
pub fn find(kind: u16, bytes: &[u8], length: u32) -> Option<Found<'_>> {
    let (mut kind, mut bytes, mut length) = (kind, bytes, length);
    let mut tunnel = None;
    for _ in 0..=DEPTH {
        let ip = match kind {
            IPV4 => ipv4(bytes, length),
            IPV6 => ipv6(bytes, length),
            _ => None,
        }?;
        let what = match ip.protocol {
            TCP => segment(&ip),
            ICMP | ICMP_V6 => icmp(&ip),
            _ => {
                let inner = tunneled(&ip)?;
                let before = ip.payload.len().saturating_sub(inner.bytes.len());
                length = ip.length.saturating_sub(u32::try_from(before).unwrap_or(u32::MAX));
                (kind, bytes, tunnel) = (inner.kind, inner.bytes, Some(inner.tunnel));
                continue;
            }
        };
        return what.map(|what| Found { tunnel, what });
    }
    None
}

fn ipv4(bytes: &[u8], wire: u32) -> Option<Ip<'_>> {
    let head: [u8; 20] = array(bytes, 0)?;
    let header = usize::from(head[0] & 0xf) * 4;
    let fragment = u16::from_be_bytes([head[6], head[7]]) & 0x1fff;
    // Only the first fragment has the next header.
    if head[0] >> 4 != 4 || header < 20 || fragment != 0 {
        return None;
    }
    let total = match u16::from_be_bytes([head[2], head[3]]) {
        0 => wire,
        total => u32::from(total),
    };
    let end = bytes.len().min(total as usize);
    Some(Ip {
        source: v4([head[12], head[13], head[14], head[15]]),
        destination: v4([head[16], head[17], head[18], head[19]]),
        ttl: head[8],
        protocol: head[9],
        payload: bytes.get(header..end)?,
        length: total.checked_sub(header as u32)?,
    })
}

fn ipv6(bytes: &[u8], wire: u32) -> Option<Ip<'_>> {
    let head: [u8; 40] = array(bytes, 0)?;
    if head[0] >> 4 != 6 {
        return None;
    }
    // 0 for jumbograms, and for segments merged beyond 64 KiB (BIG TCP).
    let total = match u16::from_be_bytes([head[4], head[5]]) {
        0 => wire,
        payload => 40 + u32::from(payload),
    };
    let end = bytes.len().min(total as usize);
    let mut at = 40;
    let mut next = head[6];
    for _ in 0..MOST_EXTENSIONS {
        let size = match next {
            // Hop by hop, routing, destination, mobility, HIP, shim6: units of eight bytes beyond the first.
            0 | 43 | 60 | 135 | 139 | 140 => (usize::from(*bytes.get(at + 1)?) + 1) * 8,
            // A fragment: only the first has the next header.
            44 => {
                if u16::from_be_bytes(array(bytes, at + 2)?) & 0xfff8 != 0 {
                    return None;
                }
                8
            }
            // Authentication: units of four bytes beyond the first two.
            51 => (usize::from(*bytes.get(at + 1)?) + 2) * 4,
            _ => break,
        };
        next = *bytes.get(at)?;
        at += size;
    }
    let (source, destination) = (Addr(array(&head, 8)?), Addr(array(&head, 24)?));
    // No such address may be on a wire, and no Linux takes one in (`ip6_rcv_core`): here it would be taken for IPv4.
    if source.is_v4() || destination.is_v4() {
        return None;
    }
    Some(Ip {
        source,
        destination,
        ttl: head[7],
        protocol: next,
        payload: bytes.get(at..end)?,
        length: total.checked_sub(u32::try_from(at).ok()?)?,
    })
}

fn v4(octets: [u8; 4]) -> Addr {
    let [a, b, c, d] = octets;
    Addr([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
}

fn tuple(ip: &Ip<'_>, ports: [u8; 4]) -> Tuple {
    Tuple {
        src: Endpoint { addr: ip.source, port: u16::from_be_bytes([ports[0], ports[1]]) },
        dst: Endpoint { addr: ip.destination, port: u16::from_be_bytes([ports[2], ports[3]]) },
    }
}

fn segment<'a>(ip: &Ip<'a>) -> Option<What<'a>> {
    let Some(offset) = ip.payload.get(12) else { return Some(What::Cut) };
    let header = usize::from(offset >> 4) * 4;
    if header < TCP_HEADER || ip.length < header as u32 {
        return None;
    }
    if ip.payload.len() < header {
        return Some(What::Cut);
    }
    let tuple = tuple(ip, array(ip.payload, 0)?);
    Some(What::Segment(Raw { tuple, ttl: ip.ttl, bytes: ip.payload, length: ip.length }))
}

fn icmp<'a>(ip: &Ip<'a>) -> Option<What<'a>> {
    let [kind, code]: [u8; 2] = array(ip.payload, 0)?;
    let quote = ip.payload.get(8..)?;
    let v4 = ip.source.is_v4();
    let quoted = match (v4, ip.protocol, kind) {
        // Unreachable, source quench, time exceeded, parameter problem (RFC 792).
        (true, ICMP, 3 | 4 | 11 | 12) => ipv4(quote, u32::MAX),
        // Unreachable, packet too big, time exceeded, parameter problem (RFC 4443).
        (false, ICMP_V6, 1..=4) => ipv6(quote, u32::MAX),
        _ => None,
    }?;
    if quoted.protocol != TCP || quoted.payload.len() < QUOTED {
        return None;
    }
    Some(What::Icmp(Icmp {
        from: ip.source,
        kind,
        code,
        tuple: tuple(&quoted, array(quoted.payload, 0)?),
        seq: u32::from_be_bytes(array(quoted.payload, 4)?),
    }))
}

struct Inner<'a> {
    kind: u16,
    bytes: &'a [u8],
    tunnel: Tunnel,
}

fn tunneled<'a>(ip: &Ip<'a>) -> Option<Inner<'a>> {
    let bytes = ip.payload;
    match ip.protocol {
        IP_IN_IP => Some(Inner { kind: IPV4, bytes, tunnel: Tunnel::Ip }),
        IPV6_IN_IP => Some(Inner { kind: IPV6, bytes, tunnel: Tunnel::Ip }),
        GRE => gre(bytes),
        UDP => {
            let port = u16::from_be_bytes(array(bytes, 2)?);
            match port {
                // The second is what Linux took before there was a number, and some overlays take still.
                4789 | 8472 => vxlan(bytes.get(8..)?),
                6081 => geneve(bytes.get(8..)?),
                _ => None,
            }
        }
        _ => None,
    }
}

fn vxlan(bytes: &[u8]) -> Option<Inner<'_>> {
    let head: [u8; 8] = array(bytes, 0)?;
    if head[0] & 0x08 == 0 {
        return None;
    }
    bridged(bytes.get(8..)?, Tunnel::Vxlan(u32::from_be_bytes([0, head[4], head[5], head[6]])))
}

fn geneve(bytes: &[u8]) -> Option<Inner<'_>> {
    let head: [u8; 8] = array(bytes, 0)?;
    if head[0] >> 6 != 0 {
        return None;
    }
    let inner = bytes.get(8 + usize::from(head[0] & 0x3f) * 4..)?;
    let tunnel = Tunnel::Geneve(u32::from_be_bytes([0, head[4], head[5], head[6]]));
    carried(u16::from_be_bytes([head[2], head[3]]), inner, tunnel)
}

fn gre(bytes: &[u8]) -> Option<Inner<'_>> {
    let flags = u16::from_be_bytes(array(bytes, 0)?);
    // Another version (PPTP), or routing, which nobody uses.
    if flags & 0x4007 != 0 {
        return None;
    }
    let options = [0x8000, 0x2000, 0x1000].iter().filter(|&&bit| flags & bit != 0).count();
    carried(u16::from_be_bytes(array(bytes, 2)?), bytes.get(4 + options * 4..)?, Tunnel::Gre)
}

fn carried(kind: u16, bytes: &[u8], tunnel: Tunnel) -> Option<Inner<'_>> {
    if kind == BRIDGED { bridged(bytes, tunnel) } else { Some(Inner { kind, bytes, tunnel }) }
}

fn bridged(bytes: &[u8], tunnel: Tunnel) -> Option<Inner<'_>> {
    let packet = ethernet(bytes)?;
    Some(Inner { kind: packet.kind, bytes: packet.bytes, tunnel })
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
