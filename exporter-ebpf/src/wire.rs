//! Segments at an observation point: tcx (or clsact) ingress and egress.
//!
//! A segment that is no part of a handshake or an end leaves after one look at its flags and one slot
//! of the table of pending SYNs. Nothing is changed, and the verdict is always "next".

use aya_ebpf::bindings::{__sk_buff, bpf_hdr_start_off::BPF_HDR_START_NET};
use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_skb_load_bytes_relative};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use core::mem::MaybeUninit;
use synspan_ebpf::record::{EGRESS, INGRESS, KIND_SEGMENT, OPTION_CUT, SegmentRecord, TCP_FIN, TCP_RST, TCP_SYN};

use crate::context::field;
use crate::maps::{Side, header, now, reserve, submit};
use crate::pending;

pub mod headers;
mod icmp;
mod options;
mod side;

use headers::{Ipv4, Ipv6, Place, Tcp};

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
pub struct Found {
    /// Addresses as words in network order, v4-mapped.
    source: [u32; 4],
    destination: [u32; 4],
    /// The fixed part of the TCP header.
    tcp: Tcp,
    /// Where the TCP header starts, and how to read there.
    place: Place,
    /// The network header's offset of the TCP header.
    transport: u32,
    /// Bytes from the network header to the end of the payload; 0 if the header does not say (BIG TCP).
    total: u32,
    /// Time to live, or hop limit.
    ttl: u32,
    direction: u32,
    /// The sending socket's cookie where a SYN still carries one, else 0.
    cookie: u64,
    /// When it was seen, 0 if nobody has asked yet.
    time: u64,
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
    let mut segment = MaybeUninit::<(Ipv4, Tcp)>::uninit();
    // SAFETY: as the caller promises; the helper fills the buffer whole, with zeros on failure.
    unsafe {
        if load(skb, Place::LINEAR, 0, segment.as_mut_ptr().cast(), 40) == 0 {
            let (ip, tcp) = segment.assume_init_ref();
            if ip.protocol != IPPROTO_TCP {
                if ip.protocol == icmp::IPPROTO_ICMP {
                    icmp::v4(skb, direction);
                }
                return;
            }
            if ip.version_length == 0x45 && tcp.flags & NOTABLE == 0 {
                let ifindex = field!(skb, __sk_buff, ifindex);
                if !pending::is_awaited(pending::v4(ip.source, ip.destination, tcp.ports, ifindex)) {
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
    let mut segment = MaybeUninit::<(Ipv6, Tcp)>::uninit();
    // SAFETY: as the caller promises; the helper fills the buffer whole, with zeros on failure.
    unsafe {
        if load(skb, Place::LINEAR, 0, segment.as_mut_ptr().cast(), 60) == 0 {
            let (ip, tcp) = segment.assume_init_ref();
            if ip.next == IPPROTO_TCP {
                if tcp.flags & NOTABLE == 0 {
                    let ifindex = field!(skb, __sk_buff, ifindex);
                    if !pending::is_awaited(pending::v6(&ip.source, &ip.destination, tcp.ports, ifindex)) {
                        return;
                    }
                }
            } else if ip.next == icmp::IPPROTO_ICMPV6 {
                icmp::v6(skb, direction);
                return;
            } else if !headers::is_extension(ip.next) {
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
        let mut found = MaybeUninit::<Found>::uninit();
        if headers::find(skb, direction, found.as_mut_ptr()) {
            let found = found.assume_init_mut();
            if let Some(side) = side::of(skb, found) {
                report(skb, found, side);
            }
        }
    }
}

/// Writes the record.
///
/// # Safety
///
/// `skb` is the program's context.
#[inline(never)]
unsafe fn report(skb: *mut __sk_buff, found: &Found, side: Side) {
    // SAFETY: as the caller promises.
    unsafe {
        let tcp = &found.tcp;
        let header_bytes = u32::from(tcp.offset >> 4) * 4;
        let mut read = options::read(skb, found.place, found.transport, header_bytes);
        let mut total = found.total;
        if total == 0 {
            read.bits |= OPTION_CUT;
            total = headers::length(skb);
        }
        let ifindex = field!(skb, __sk_buff, ifindex);
        let time = if found.time == 0 { now() } else { found.time };
        let Some(mut entry) = reserve::<SegmentRecord>(side) else { return };
        // Field by field: a whole record would be made on the stack first, and copied.
        let record = entry.as_mut_ptr();
        (*record).header = header::<SegmentRecord>(KIND_SEGMENT, time);
        (*record).cookie = found.cookie;
        (&raw mut (*record).source_address).cast::<[u32; 4]>().write(found.source);
        (&raw mut (*record).destination_address).cast::<[u32; 4]>().write(found.destination);
        (*record).ifindex = ifindex;
        (*record).seq = u32::from_be(tcp.seq);
        (*record).ack = u32::from_be(tcp.ack);
        (*record).tsval = read.tsval;
        (*record).tsecr = read.tsecr;
        (*record).payload = total.saturating_sub(found.transport).saturating_sub(header_bytes);
        let ports = u32::from_be(tcp.ports);
        (*record).source_port = (ports >> 16) as u16;
        (*record).destination_port = ports as u16;
        (*record).window = u16::from_be(tcp.window);
        (*record).mss = read.mss;
        (*record).flags = tcp.flags;
        (*record).direction = found.direction as u8;
        (*record).ttl = found.ttl as u8;
        (*record).options = read.bits;
        // With the reserved bytes behind it.
        (&raw mut (*record).wscale).cast::<u32>().write(u32::from_ne_bytes([read.wscale, 0, 0, 0]));
        submit(side, entry);
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
