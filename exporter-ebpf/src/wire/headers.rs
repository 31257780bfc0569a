//! Finding the headers of a packet that is not the common kind.
//!
//! The kernel knows where the network header is, but lends that only for the linear part. Where the
//! headers are elsewhere (a driver that leaves all in pages), the link header's length is worked out
//! from the packet: Ethernet, Ethernet with a tag, or none.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use core::mem::MaybeUninit;
use synspan_ebpf::record::{INGRESS, counter};

use super::{ETH_P_8021AD, ETH_P_8021Q, ETH_P_IP, ETH_P_IPV6, Found, IPPROTO_TCP, be16, load, word};
use crate::context::field;
use crate::maps::{count, mapped};

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

/// Most extension headers walked (RFC 8200 4.1 recommends each at most once, destination options twice).
const MOST_EXTENSIONS: u32 = 6;

/// How to read a packet from its network header on.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Place {
    /// 1: by the kernel's own network header, in the linear part. 0: from the start of the packet.
    pub linear: u32,
    /// What to add to an offset.
    pub base: u32,
}

impl Place {
    /// The network header as the kernel has it.
    pub const LINEAR: Self = Self { linear: 1, base: 0 };
}

/// Whether a next-header value names an extension header that is walked.
#[inline(always)]
pub fn is_extension(next: u8) -> bool {
    matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION)
}

/// Fills in all but the direction, which is read; false if this is no TCP segment, or none that can be read.
///
/// # Safety
///
/// `skb` is the program's context.
#[inline(always)]
pub unsafe fn find(skb: *mut __sk_buff, found: &mut Found) -> bool {
    // SAFETY: as the caller promises; the helpers fill the buffers whole, with zeros on failure.
    unsafe {
        let protocol = field!(skb, __sk_buff, protocol);
        let tagged = protocol == ETH_P_8021Q || protocol == ETH_P_8021AD;
        // A tag left in the packet: on the way in the kernel takes it for the network header, on the
        // way out the network header is already the right one.
        let tag = if tagged && found.direction == u32::from(INGRESS) { 4 } else { 0 };
        found.place = Place { linear: 1, base: tag };
        let mut packet = MaybeUninit::<[u8; 20]>::uninit();
        if load(skb, found.place, 0, packet.as_mut_ptr().cast(), 20) != 0 {
            found.place = Place { linear: 0, base: link_header(skb) };
            if load(skb, found.place, 0, packet.as_mut_ptr().cast(), 20) != 0 {
                // Too short for any TCP segment.
                return false;
            }
        }
        let packet = packet.assume_init();
        let version = packet[0] >> 4;
        let reached = if version == 4 && protocol != ETH_P_IPV6 {
            ipv4(found, &packet)
        } else if version == 6 && protocol != ETH_P_IP {
            ipv6(skb, found)
        } else {
            false
        };
        if !reached {
            return false;
        }
        if load(skb, found.place, found.transport, found.tcp.as_mut_ptr(), 20) == 0 {
            return true;
        }
        // The IP header was in the linear part, the TCP header is not.
        found.place = Place { linear: 0, base: link_header(skb) };
        if load(skb, found.place, found.transport, found.tcp.as_mut_ptr(), 20) == 0 {
            return true;
        }
        count(counter::UNREADABLE);
        false
    }
}

/// An IPv4 header; false if no TCP header follows.
#[inline(always)]
fn ipv4(found: &mut Found, packet: &[u8; 20]) -> bool {
    let bytes = u32::from(packet[0] & 15) * 4;
    if packet[9] != IPPROTO_TCP || be16(packet, 6) & 0x1fff != 0 || bytes < 20 {
        return false;
    }
    found.source = mapped(word(packet, 12));
    found.destination = mapped(word(packet, 16));
    found.transport = bytes;
    found.total = u32::from(be16(packet, 2));
    found.ttl = u32::from(packet[8]);
    true
}

/// An IPv6 header and its extensions; false if no TCP header follows.
///
/// # Safety
///
/// `skb` is the program's context.
#[inline(always)]
unsafe fn ipv6(skb: *mut __sk_buff, found: &mut Found) -> bool {
    let mut packet = MaybeUninit::<[u8; 40]>::uninit();
    // SAFETY: as the caller promises; the helpers fill the buffers whole, with zeros on failure.
    unsafe {
        if load(skb, found.place, 0, packet.as_mut_ptr().cast(), 40) != 0 {
            return false;
        }
        let packet = packet.assume_init();
        found.source = [word(&packet, 8), word(&packet, 12), word(&packet, 16), word(&packet, 20)];
        found.destination = [word(&packet, 24), word(&packet, 28), word(&packet, 32), word(&packet, 36)];
        let payload = u32::from(be16(&packet, 4));
        found.total = if payload == 0 { 0 } else { 40 + payload };
        found.ttl = u32::from(packet[7]);
        let mut next = packet[6];
        let mut at = 40;
        for _ in 0..MOST_EXTENSIONS {
            if !is_extension(next) {
                break;
            }
            let mut extension = MaybeUninit::<[u8; 4]>::uninit();
            if load(skb, found.place, at, extension.as_mut_ptr().cast(), 4) != 0 {
                count(counter::UNREADABLE);
                return false;
            }
            let extension = extension.assume_init();
            let units = u32::from(extension[1]);
            at += match next {
                FRAGMENT if be16(&extension, 2) & 0xfff8 != 0 => return false,
                FRAGMENT => 8,
                AUTHENTICATION => (units + 2) * 4,
                _ => (units + 1) * 8,
            };
            next = extension[0];
        }
        found.transport = at;
        next == IPPROTO_TCP
    }
}

/// Bytes before the network header, worked out from the packet's start.
///
/// # Safety
///
/// `skb` is the program's context.
#[inline(always)]
unsafe fn link_header(skb: *mut __sk_buff) -> u32 {
    let mut start = MaybeUninit::<[u8; 20]>::uninit();
    // SAFETY: as the caller promises; the helper fills the buffer whole, with zeros on failure.
    unsafe {
        if bpf_skb_load_bytes(skb.cast(), 0, start.as_mut_ptr().cast(), 20) != 0 {
            return 0;
        }
        let start = start.assume_init();
        match be16(&start, 12) {
            0x0800 if start[14] >> 4 == 4 => 14,
            0x86dd if start[14] >> 4 == 6 => 14,
            0x8100 | 0x88a8 if matches!(be16(&start, 16), 0x0800 | 0x86dd) => 18,
            _ => 0,
        }
    }
}

/// Bytes from the network header to the packet's end, where the IP header does not say (BIG TCP).
///
/// # Safety
///
/// `skb` is the program's context.
#[inline(always)]
pub unsafe fn length(skb: *mut __sk_buff) -> u32 {
    // SAFETY: as the caller promises.
    unsafe { field!(skb, __sk_buff, len).saturating_sub(link_header(skb)) }
}
