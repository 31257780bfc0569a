//! Segments that the kernel drops: raw tracepoint `kfree_skb`, with reasons from kernel 5.17.
//!
//! It also fires for much that is no TCP, so the first look is at the packet's protocol alone. The fields
//! of `struct sk_buff` are read at offsets that user space takes from the kernel's own BTF. Only segments
//! of attempts whose initial sequence number was seen of late are told, or that answer a pending SYN.

use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use aya_ebpf::{EbpfContext, Global};
use core::mem::MaybeUninit;
use synspan_ebpf::record::{DroppedRecord, KIND_DROP, NO_REASON, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, counter};

use crate::isns::{self, Mark};
use crate::kernel::read;
use crate::maps::{Side, count, header, mapped, now, reserve, submit};
use crate::wire::headers::{Ipv4, Ipv6, Tcp};
use crate::{budget, pending};

const ETH_P_IP: u16 = 0x0800_u16.to_be();
const ETH_P_IPV6: u16 = 0x86dd_u16.to_be();
const IPPROTO_TCP: u8 = 6;

/// 1 where the tracepoint has the reason as its third argument.
#[unsafe(no_mangle)]
static DROP_REASONS: Global<u32> = Global::new(0);
/// The reason that means none.
#[unsafe(no_mangle)]
static DROP_NOT_YET: Global<u32> = Global::new(NO_REASON);
/// The reason that means a packet was used up, and none lost.
#[unsafe(no_mangle)]
static DROP_CONSUMED: Global<u32> = Global::new(NO_REASON);
/// Offset of `protocol` (16 bits) in `struct sk_buff`.
#[unsafe(no_mangle)]
static SKB_PROTOCOL: Global<u32> = Global::new(0);
/// How many 16-bit fields behind it `network_header` is: 1 to 3.
#[unsafe(no_mangle)]
static SKB_NETWORK: Global<u32> = Global::new(0);
/// Offset of `head`.
#[unsafe(no_mangle)]
static SKB_HEAD: Global<u32> = Global::new(0);
/// Offset of `dev`.
#[unsafe(no_mangle)]
static SKB_DEV: Global<u32> = Global::new(0);
/// Offset of `sk`.
#[unsafe(no_mangle)]
static SKB_SK: Global<u32> = Global::new(0);
/// Offset of `ifindex` (32 bits) in `struct net_device`.
#[unsafe(no_mangle)]
static DEV_IFINDEX: Global<u32> = Global::new(0);
/// Offset of `nd_net.net` in `struct net_device`; 0 if there is none.
#[unsafe(no_mangle)]
static DEV_NET: Global<u32> = Global::new(0);
/// Offset of `__sk_common.skc_net.net` in `struct sock`; 0 if there is none.
#[unsafe(no_mangle)]
static SK_NET: Global<u32> = Global::new(0);
/// Offset of `net_cookie` (64 bits) in `struct net`; 0 if there is none.
#[unsafe(no_mangle)]
static NET_COOKIE: Global<u32> = Global::new(0);

/// A TCP segment that was dropped; addresses as words in network order, v4-mapped.
struct Segment {
    source: [u32; 4],
    destination: [u32; 4],
    tcp: Tcp,
}

/// How most segments start.
#[repr(C)]
struct Start {
    ip: Ipv4,
    tcp: Tcp,
}

/// A packet is freed that was not used up.
#[raw_tracepoint(tracepoint = "kfree_skb")]
pub fn synspan_drop(ctx: RawTracePointContext) -> i32 {
    // SAFETY: the tracepoint's arguments are a `struct sk_buff`, an address in the kernel and, if user
    // space says so, a reason. What is read of the packet is copied by a helper that checks the address.
    unsafe {
        let args = ctx.as_ptr().cast::<u64>();
        let skb = *args;
        let mut reason = NO_REASON;
        if DROP_REASONS.load() != 0 {
            reason = *args.add(2) as u32;
            if reason == DROP_NOT_YET.load() || reason == DROP_CONSUMED.load() {
                return 0;
            }
        }
        // All in one: each look is a call of a helper.
        let mut fields = 0_u64;
        if !read(skb, SKB_PROTOCOL.load(), &raw mut fields) {
            return 0;
        }
        let field = |number: u32| u16::from_le((u64::from_le(fields) >> (16 * number)) as u16);
        let protocol = field(0);
        if protocol != ETH_P_IP && protocol != ETH_P_IPV6 {
            return 0;
        }
        let network = field(SKB_NETWORK.load() & 3);
        let mut head = 0_u64;
        if !read(skb, SKB_HEAD.load(), &raw mut head) {
            return 0;
        }
        let mut segment = MaybeUninit::<Segment>::uninit();
        if find(head.wrapping_add(u64::from(network)), protocol, segment.as_mut_ptr()) {
            tell(skb, segment.assume_init_ref(), *args.add(1), reason);
        }
    }
    0
}

/// Reads the headers; false, and `segment` is not filled in, if this is no TCP segment.
///
/// # Safety
///
/// `segment` has room.
#[inline(always)]
unsafe fn find(at: u64, protocol: u16, segment: *mut Segment) -> bool {
    // SAFETY: as the caller promises; the helper fills what it reads whole.
    unsafe {
        if protocol == ETH_P_IP {
            let mut start = MaybeUninit::<Start>::uninit();
            if !read(at, 0, start.as_mut_ptr()) {
                return false;
            }
            let Start { ip, tcp } = start.assume_init();
            if ip.version_length >> 4 != 4 || ip.protocol != IPPROTO_TCP || ip.is_later_fragment() {
                return false;
            }
            (*segment).source = mapped(ip.source);
            (*segment).destination = mapped(ip.destination);
            (*segment).tcp = tcp;
            let length = u32::from(ip.version_length & 15) * 4;
            length == 20 || read(at, length, &raw mut (*segment).tcp)
        } else {
            let mut ip = MaybeUninit::<Ipv6>::uninit();
            if !read(at, 0, ip.as_mut_ptr()) {
                return false;
            }
            let ip = ip.assume_init_ref();
            if ip.next != IPPROTO_TCP {
                return false;
            }
            (*segment).source = ip.source;
            (*segment).destination = ip.destination;
            read(at, 40, &raw mut (*segment).tcp)
        }
    }
}

/// Writes the record, if the segment is one of an attempt.
///
/// # Safety
///
/// `skb` is the address of a `struct sk_buff`.
#[inline(always)]
unsafe fn tell(skb: u64, segment: &Segment, location: u64, reason: u32) {
    // SAFETY: as the caller promises.
    unsafe {
        let tcp = &segment.tcp;
        if tcp.flags & TCP_FIN != 0 {
            // The last segment to a socket in TIME_WAIT is freed as if it were dropped, so nearly every
            // connection comes here once.
            return;
        }
        let (seq, ack) = (u32::from_be(tcp.seq), u32::from_be(tcp.ack));
        let isn = match tcp.flags & (TCP_SYN | TCP_ACK | TCP_RST) {
            TCP_SYN => seq,
            // The client's third segment, or its reset: the first number after the SYN.
            TCP_ACK | TCP_RST => seq.wrapping_sub(1),
            _ => ack.wrapping_sub(1),
        };
        let time = now();
        let mark = isns::mark(isn, time);
        if mark == Mark::Summed || (mark == Mark::Unknown && tcp.flags & TCP_SYN != 0) {
            return;
        }
        let (mut device, mut ifindex) = (0_u64, 0_u32);
        if read(skb, SKB_DEV.load(), &raw mut device) && device != 0 {
            read(device, DEV_IFINDEX.load(), &raw mut ifindex);
        }
        let Some(side) = mark.side().or_else(|| answered(segment, ifindex)) else { return };
        let limit = if side == Side::Own { budget::OWN_DROPS } else { budget::INBOUND_DROPS };
        if !budget::take(limit, budget::MOST_DROPS, time) {
            count(counter::DROPS_UNTOLD);
            return;
        }
        let netns_cookie = netns(skb, device);
        let Some(mut entry) = reserve::<DroppedRecord>(side) else { return };
        let record = entry.as_mut_ptr();
        (*record).header = header::<DroppedRecord>(KIND_DROP, time);
        (*record).netns_cookie = netns_cookie;
        (*record).location = location;
        (&raw mut (*record).source_address).cast::<[u32; 4]>().write(segment.source);
        (&raw mut (*record).destination_address).cast::<[u32; 4]>().write(segment.destination);
        (*record).ifindex = ifindex;
        (*record).seq = seq;
        (*record).ack = ack;
        (*record).reason = reason;
        let ports = u32::from_be(tcp.ports);
        (*record).source_port = (ports >> 16) as u16;
        (*record).destination_port = ports as u16;
        // With the reserved bytes behind it.
        (&raw mut (*record).flags).cast::<u32>().write(u32::from_ne_bytes([tcp.flags, 0, 0, 0]));
        submit(side, entry);
    }
}

/// Whose pending SYN at this interface the segment answers by something else than its number: a stale
/// ACK, or the client's reset of one.
#[inline(always)]
fn answered(segment: &Segment, ifindex: u32) -> Option<Side> {
    let Segment { source, destination, tcp } = segment;
    let answer = pending::side(pending::key(source, destination, tcp.ports, ifindex));
    if answer.is_some() || tcp.flags & TCP_RST == 0 {
        return answer;
    }
    pending::side(pending::key(destination, source, tcp.ports.rotate_left(16), ifindex))
}

/// The cookie of the network namespace of a packet's device, or else of its socket; 0 if it cannot be told.
///
/// # Safety
///
/// `skb` is the address of a `struct sk_buff`, `device` of a `struct net_device` or 0.
#[inline(always)]
unsafe fn netns(skb: u64, device: u64) -> u64 {
    let (mut net, mut cookie) = (0_u64, 0_u64);
    if NET_COOKIE.load() == 0 || DEV_NET.load() == 0 || SK_NET.load() == 0 {
        return 0;
    }
    // SAFETY: as the caller promises.
    unsafe {
        if device != 0 {
            read(device, DEV_NET.load(), &raw mut net);
        } else {
            // Not routed yet on its way out.
            let mut socket = 0_u64;
            if read(skb, SKB_SK.load(), &raw mut socket) && socket != 0 {
                read(socket, SK_NET.load(), &raw mut net);
            }
        }
        if net != 0 {
            read(net, NET_COOKIE.load(), &raw mut cookie);
        }
    }
    cookie
}
