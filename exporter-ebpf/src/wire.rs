//! Segments at an observation point: tcx (or clsact) ingress and egress.
//!
//! A segment that is no part of a handshake or an end leaves after one look at its flags and one slot
//! of [`PENDING`]. Nothing is changed, and the verdict is always "next".

use aya_ebpf::bindings::{__sk_buff, bpf_hdr_start_off::BPF_HDR_START_NET};
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_skb_load_bytes, bpf_skb_load_bytes_relative};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use core::mem::MaybeUninit;
use core::ptr::read_volatile;
use synspan_ebpf::record::{
    EGRESS, INGRESS, KIND_SEGMENT, OPTION_CUT, SegmentRecord, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN,
};

use crate::maps::{bytes, header, mapped, now, reserve, submit};

mod headers;
mod options;
mod pending;

use headers::Place;
use pending::Key;

/// `TC_ACT_UNSPEC` for clsact, `TCX_NEXT` for tcx: go on as if this program were not there.
const NEXT: i32 = -1;

// Ethernet types as `__sk_buff::protocol` has them: network order in the low half.
const ETH_P_IP: u32 = 0x0800_u16.to_be() as u32;
const ETH_P_IPV6: u32 = 0x86dd_u16.to_be() as u32;
const ETH_P_8021Q: u32 = 0x8100_u16.to_be() as u32;
const ETH_P_8021AD: u32 = 0x88a8_u16.to_be() as u32;

const IPPROTO_TCP: u8 = 6;

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
        match read_volatile(&raw const (*skb).protocol) {
            ETH_P_IP => ipv4(skb, direction),
            ETH_P_IPV6 => ipv6(skb, direction),
            ETH_P_8021Q | ETH_P_8021AD => unusual(skb, direction),
            _ => (),
        }
    }
}

/// IPv4 without options in the linear part, which is nearly all; the rest goes to [`unusual`].
///
/// # Safety
///
/// `skb` is the program's context.
#[inline(always)]
unsafe fn ipv4(skb: *mut __sk_buff, direction: u8) {
    let mut packet = MaybeUninit::<[u8; 40]>::uninit();
    // SAFETY: as the caller promises; the helper fills the buffer whole, with zeros on failure.
    unsafe {
        if load(skb, Place::LINEAR, 0, packet.as_mut_ptr().cast(), 40) != 0 {
            return unusual(skb, direction);
        }
        let packet = packet.assume_init();
        if packet[9] != IPPROTO_TCP || be16(&packet, 6) & 0x1fff != 0 {
            return;
        }
        if packet[0] != 0x45 {
            return unusual(skb, direction);
        }
        let (source, destination) = (word(&packet, 12), word(&packet, 16));
        let key = Key::v4(skb, source, destination, word(&packet, 20));
        if !wanted(&key, packet[33]) {
            return;
        }
        let mut tcp = [0_u8; 20];
        tcp.copy_from_slice(&packet[20..40]);
        report(
            skb,
            &Found {
                source: mapped(source),
                destination: mapped(destination),
                tcp,
                place: Place::LINEAR,
                transport: 20,
                total: u32::from(be16(&packet, 2)),
                ttl: u32::from(packet[8]),
                direction: u32::from(direction),
            },
        );
    }
}

/// IPv6 without extension headers in the linear part, which is nearly all; the rest goes to [`unusual`].
///
/// # Safety
///
/// `skb` is the program's context.
#[inline(always)]
unsafe fn ipv6(skb: *mut __sk_buff, direction: u8) {
    let mut packet = MaybeUninit::<[u8; 60]>::uninit();
    // SAFETY: as the caller promises; the helper fills the buffer whole, with zeros on failure.
    unsafe {
        if load(skb, Place::LINEAR, 0, packet.as_mut_ptr().cast(), 60) != 0 {
            return unusual(skb, direction);
        }
        let packet = packet.assume_init();
        if packet[6] != IPPROTO_TCP {
            if headers::is_extension(packet[6]) {
                unusual(skb, direction);
            }
            return;
        }
        let source = [word(&packet, 8), word(&packet, 12), word(&packet, 16), word(&packet, 20)];
        let destination = [word(&packet, 24), word(&packet, 28), word(&packet, 32), word(&packet, 36)];
        let key = Key::v6(skb, source, destination, word(&packet, 40));
        if !wanted(&key, packet[53]) {
            return;
        }
        let mut tcp = [0_u8; 20];
        tcp.copy_from_slice(&packet[40..60]);
        let payload = u32::from(be16(&packet, 4));
        report(
            skb,
            &Found {
                source,
                destination,
                tcp,
                place: Place::LINEAR,
                transport: 40,
                total: if payload == 0 { 0 } else { 40 + payload },
                ttl: u32::from(packet[7]),
                direction: u32::from(direction),
            },
        );
    }
}

/// Anything else: VLAN tags in the packet, options, extension headers, headers outside the linear part.
///
/// # Safety
///
/// `skb` is the program's context.
#[inline(never)]
unsafe fn unusual(skb: *mut __sk_buff, direction: u8) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut found = MaybeUninit::<Found>::zeroed().assume_init();
        found.direction = u32::from(direction);
        if !headers::find(skb, &mut found) {
            return;
        }
        let ports = word(&found.tcp, 0);
        let key = if found.source[0] == 0 && found.source[1] == 0 && found.source[2] == 0xffff_u32.to_be() {
            Key::v4(skb, found.source[3], found.destination[3], ports)
        } else {
            Key::v6(skb, found.source, found.destination, ports)
        };
        if wanted(&key, found.tcp[13]) {
            report(skb, &found);
        }
    }
}

/// Whether a segment with these flags is to be reported. Keeps the table of pending SYNs.
#[inline(always)]
fn wanted(key: &Key, flags: u8) -> bool {
    if flags & (TCP_SYN | TCP_RST | TCP_FIN) == 0 {
        return key.answers(false);
    }
    if flags & TCP_RST != 0 || flags & (TCP_SYN | TCP_ACK) == TCP_SYN | TCP_ACK {
        key.answers(true);
    } else if flags & TCP_SYN != 0 {
        key.expect_answer(now());
    }
    true
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
        let ifindex = read_volatile(&raw const (*skb).ifindex);
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
