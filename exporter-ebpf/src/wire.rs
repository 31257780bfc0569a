//! Segments at an observation point: tcx (or clsact) ingress and egress.
//!
//! A segment that is no part of a handshake or an end leaves after one look at its flags and one slot
//! of [`PENDING`]. Nothing is changed, and the verdict is always "next".

use aya_ebpf::bindings::{__sk_buff, bpf_hdr_start_off::BPF_HDR_START_NET};
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_skb_load_bytes, bpf_skb_load_bytes_relative};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use core::mem::MaybeUninit;
use synspan_ebpf::record::{
    EGRESS, INGRESS, KIND_SEGMENT, OPTION_CUT, SegmentRecord, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN,
};

use crate::context::field;
use crate::maps::{bytes, header, now, reserve, submit};

mod headers;
mod options;
mod pending;

use headers::Place;

/// `TC_ACT_UNSPEC` for clsact, `TCX_NEXT` for tcx: go on as if this program were not there.
const NEXT: i32 = -1;

// Ethernet types as `__sk_buff::protocol` has them: network order in the low half.
const ETH_P_IP: u32 = 0x0800_u16.to_be() as u32;
const ETH_P_IPV6: u32 = 0x86dd_u16.to_be() as u32;
const ETH_P_8021Q: u32 = 0x8100_u16.to_be() as u32;
const ETH_P_8021AD: u32 = 0x88a8_u16.to_be() as u32;

const IPPROTO_TCP: u8 = 6;

/// Flags of segments that are always reported.
const NOTABLE: u8 = TCP_SYN | TCP_RST | TCP_FIN;

/// A segment comes in.
#[classifier]
pub fn synspan_ingress(ctx: TcContext) -> i32 {
    // SAFETY: the context is valid while the program runs.
    unsafe { observe(ctx.skb.skb, INGRESS) };
    NEXT
}

/// A segment goes out.
#[classifier]
pub fn synspan_egress(ctx: TcContext) -> i32 {
    // SAFETY: the context is valid while the program runs.
    unsafe { observe(ctx.skb.skb, EGRESS) };
    NEXT
}

/// A TCP segment whose headers were found.
#[repr(C)]
struct Found {
    /// Addresses as words in network order, v4-mapped.
    source: [u32; 4],
    destination: [u32; 4],
    /// The fixed part of the TCP header.
    tcp: [u8; 20],
    /// Where the TCP header starts, and how to read there.
    place: Place,
    /// The network header's offset of the TCP header.
    transport: u32,
    /// Bytes from the network header to the end of the payload; 0 if the header does not say (BIG TCP).
    total: u32,
    /// Time to live, or hop limit.
    ttl: u32,
    direction: u32,
}

/// Sorts a packet.
///
/// # Safety
///
/// `skb` is the program's context.
#[inline(always)]
unsafe fn observe(skb: *mut __sk_buff, direction: u8) {
    // SAFETY: as the caller promises.
    unsafe {
        match field!(skb, __sk_buff, protocol) {
            ETH_P_IP => ipv4(skb, direction),
            ETH_P_IPV6 => ipv6(skb, direction),
            ETH_P_8021Q | ETH_P_8021AD => look(skb, direction),
            _ => (),
        }
    }
}

/// IPv4 without options in the linear part, which is nearly all: most segments are found ordinary here.
///
/// # Safety
///
/// `skb` is the program's context.
#[inline(always)]
unsafe fn ipv4(skb: *mut __sk_buff, direction: u8) {
    let mut packet = MaybeUninit::<[u8; 40]>::uninit();
    // SAFETY: as the caller promises; the helper fills the buffer whole, with zeros on failure.
    unsafe {
        if load(skb, Place::LINEAR, 0, packet.as_mut_ptr().cast(), 40) == 0 {
            let packet = packet.assume_init_ref();
            if packet[9] != IPPROTO_TCP {
                return;
            }
            if packet[0] == 0x45 && packet[33] & NOTABLE == 0 {
                let ifindex = field!(skb, __sk_buff, ifindex);
                let key = pending::v4(word(packet, 12), word(packet, 16), word(packet, 20), ifindex);
                if !pending::is_awaited(key) {
                    return;
                }
            }
        }
        look(skb, direction);
    }
}

/// IPv6 without extension headers in the linear part, which is nearly all: most segments are found
/// ordinary here.
///
/// # Safety
///
/// `skb` is the program's context.
#[inline(always)]
unsafe fn ipv6(skb: *mut __sk_buff, direction: u8) {
    let mut packet = MaybeUninit::<[u8; 60]>::uninit();
    // SAFETY: as the caller promises; the helper fills the buffer whole, with zeros on failure.
    unsafe {
        if load(skb, Place::LINEAR, 0, packet.as_mut_ptr().cast(), 60) == 0 {
            let packet = packet.assume_init_ref();
            if packet[6] == IPPROTO_TCP {
                if packet[53] & NOTABLE == 0 {
                    let ifindex = field!(skb, __sk_buff, ifindex);
                    let source = [word(packet, 8), word(packet, 12), word(packet, 16), word(packet, 20)];
                    let destination = [word(packet, 24), word(packet, 28), word(packet, 32), word(packet, 36)];
                    let key = pending::v6(source, destination, word(packet, 40), ifindex);
                    if !pending::is_awaited(key) {
                        return;
                    }
                }
            } else if !headers::is_extension(packet[6]) {
                return;
            }
        }
        look(skb, direction);
    }
}

/// A closer look at a packet that is to be reported, or is no common one: VLAN tags in the packet,
/// options, extension headers, headers outside the linear part.
///
/// # Safety
///
/// `skb` is the program's context.
#[inline(never)]
unsafe fn look(skb: *mut __sk_buff, direction: u8) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut found = Found {
            source: [0; 4],
            destination: [0; 4],
            tcp: [0; 20],
            place: Place::LINEAR,
            transport: 0,
            total: 0,
            ttl: 0,
            direction: u32::from(direction),
        };
        if headers::find(skb, &mut found) && wanted(skb, &found) {
            report(skb, &found);
        }
    }
}

/// Whether a segment is to be reported. Keeps the table of pending SYNs.
///
/// # Safety
///
/// `skb` is the program's context.
#[inline(always)]
unsafe fn wanted(skb: *mut __sk_buff, found: &Found) -> bool {
    // SAFETY: as the caller promises.
    let ifindex = unsafe { field!(skb, __sk_buff, ifindex) };
    let flags = found.tcp[13];
    let ports = word(&found.tcp, 0);
    if flags & (TCP_SYN | TCP_ACK | TCP_RST) == TCP_SYN {
        pending::expect(key(&found.destination, &found.source, ports.rotate_left(16), ifindex), now());
        return true;
    }
    if flags & (TCP_SYN | TCP_ACK) == TCP_ACK && flags & (TCP_RST | TCP_FIN) == TCP_FIN {
        // An end, of a connection that was established: it answers no SYN that is its own.
        return true;
    }
    let last = flags & (TCP_SYN | TCP_RST) != 0;
    let answers = pending::answer(key(&found.source, &found.destination, ports, ifindex), last);
    answers || flags & NOTABLE != 0
}

/// The key of a segment in the table of pending SYNs.
#[inline(always)]
fn key(source: &[u32; 4], destination: &[u32; 4], ports: u32, ifindex: u32) -> u64 {
    if source[0] == 0 && source[1] == 0 && source[2] == 0xffff_u32.to_be() {
        pending::v4(source[3], destination[3], ports, ifindex)
    } else {
        pending::v6(*source, *destination, ports, ifindex)
    }
}

/// Writes the record.
///
/// # Safety
///
/// `skb` is the program's context.
#[inline(never)]
unsafe fn report(skb: *mut __sk_buff, found: &Found) {
    // SAFETY: as the caller promises.
    unsafe {
        let tcp = &found.tcp;
        let flags = tcp[13];
        let header_bytes = u32::from(tcp[12] >> 4) * 4;
        let mut read = options::read(skb, found.place, found.transport, header_bytes);
        let mut total = found.total;
        if total == 0 {
            read.bits |= OPTION_CUT;
            total = headers::length(skb);
        }
        let payload = total.saturating_sub(found.transport).saturating_sub(header_bytes);
        let cookie = if flags & (TCP_SYN | TCP_ACK) == TCP_SYN { bpf_get_socket_cookie(skb.cast()) } else { 0 };
        let ifindex = field!(skb, __sk_buff, ifindex);
        let time = now();
        let Some(mut entry) = reserve::<SegmentRecord>() else { return };
        entry.write(SegmentRecord {
            header: header::<SegmentRecord>(KIND_SEGMENT, time),
            cookie,
            source_address: bytes(found.source),
            destination_address: bytes(found.destination),
            ifindex,
            seq: u32::from_be(word(tcp, 4)),
            ack: u32::from_be(word(tcp, 8)),
            tsval: read.tsval,
            tsecr: read.tsecr,
            payload,
            source_port: be16(tcp, 0),
            destination_port: be16(tcp, 2),
            window: be16(tcp, 14),
            mss: read.mss,
            flags,
            direction: found.direction as u8,
            ttl: found.ttl as u8,
            options: read.bits,
            wscale: read.wscale,
            reserved: [0; 3],
        });
        submit(entry);
    }
}

/// Copies bytes of the packet; `at` counts from the network header. 0 if all could be read.
///
/// # Safety
///
/// `skb` is the program's context, and `to` has room for `len` bytes.
#[inline(always)]
unsafe fn load(skb: *mut __sk_buff, place: Place, at: u32, to: *mut u8, len: u32) -> i64 {
    // SAFETY: as the caller promises.
    unsafe {
        if place.linear != 0 {
            bpf_skb_load_bytes_relative(skb.cast(), place.base + at, to.cast(), len, BPF_HDR_START_NET)
        } else {
            bpf_skb_load_bytes(skb.cast(), place.base + at, to.cast(), len)
        }
    }
}

/// Two bytes in network order, as a number.
#[inline(always)]
fn be16<const N: usize>(packet: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

/// Four bytes as they stand, in network order.
#[inline(always)]
fn word<const N: usize>(packet: &[u8; N], at: usize) -> u32 {
    u32::from_ne_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
}
