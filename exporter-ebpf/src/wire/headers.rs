//! Finding the headers of a packet that is not the common kind.
//!
//! The kernel knows where the network header is, but lends that only for the linear part. Where the
//! headers are elsewhere (a driver that leaves all in pages), the link header's length is worked out
//! from the packet: Ethernet, Ethernet with a tag, or none.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use core::mem::MaybeUninit;
use synspan_ebpf::record::{INGRESS, counter};

use super::{ETH_P_8021AD, ETH_P_8021Q, ETH_P_IP, ETH_P_IPV6, Found, IPPROTO_TCP, load};
use crate::context::field;
use crate::maps::{count, mapped};

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

/// Most extension headers walked (RFC 8200 4.1 recommends each at most once, destination options twice).
const MOST_EXTENSIONS: u32 = 6;

/// An IPv4 header (RFC 791), as it stands.
#[repr(C)]
pub struct Ipv4 {
    pub version_length: u8,
    service: u8,
    total: u16,
    id: u16,
    fragment: u16,
    ttl: u8,
    pub protocol: u8,
    checksum: u16,
    pub source: u32,
    pub destination: u32,
}

impl Ipv4 {
    /// Whether this is a fragment that has no transport header.
    #[inline(always)]
    pub fn is_later_fragment(&self) -> bool {
        u16::from_be(self.fragment) & 0x1fff != 0
    }
}

/// An IPv6 header (RFC 8200), as it stands.
#[repr(C)]
pub struct Ipv6 {
    flow: u32,
    payload: u16,
    pub next: u8,
    hops: u8,
    pub source: [u32; 4],
    pub destination: [u32; 4],
}

/// The fixed part of a TCP header (RFC 9293), as it stands; both ports are one word.
#[repr(C)]
pub struct Tcp {
    pub ports: u32,
    pub seq: u32,
    pub ack: u32,
    pub offset: u8,
    pub flags: u8,
    pub window: u16,
    checksum: u16,
    urgent: u16,
}

/// The start of an IPv6 extension header.
#[repr(C)]
struct Extension {
    next: u8,
    length: u8,
    fragment: u16,
}

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

/// Finds the headers; false, and `found` is not filled in, if this is no TCP segment, or none that can be read.
///
/// # Safety
///
/// `skb` is the program's context, and `found` has room.
#[inline(always)]
pub unsafe fn find(skb: *mut __sk_buff, direction: u8, found: *mut Found) -> bool {
    // SAFETY: as the caller promises; the helpers fill the buffers whole, with zeros on failure.
    unsafe {
        let protocol = field!(skb, __sk_buff, protocol);
        let tagged = protocol == ETH_P_8021Q || protocol == ETH_P_8021AD;
        // A tag left in the packet: on the way in the kernel takes it for the network header, on the
        // way out the network header is already the right one.
        let tag = if tagged && direction == INGRESS { 4 } else { 0 };
        let mut place = Place { linear: 1, base: tag };
        let mut ip = MaybeUninit::<Ipv4>::uninit();
        if load(skb, place, 0, ip.as_mut_ptr().cast(), 20) != 0 {
            place = Place { linear: 0, base: link_header(skb) };
            if load(skb, place, 0, ip.as_mut_ptr().cast(), 20) != 0 {
                // Too short for any TCP segment.
                return false;
            }
        }
        let ip = ip.assume_init_ref();
        let version = ip.version_length >> 4;
        let transport = if version == 4 && protocol != ETH_P_IPV6 {
            ipv4(ip, found)
        } else if version == 6 && protocol != ETH_P_IP {
            ipv6(skb, place, found)
        } else {
            None
        };
        let Some(transport) = transport else { return false };
        let tcp = (&raw mut (*found).tcp).cast::<u8>();
        if load(skb, place, transport, tcp, 20) != 0 {
            // The IP header was in the linear part, the TCP header is not.
            place = Place { linear: 0, base: link_header(skb) };
            if load(skb, place, transport, tcp, 20) != 0 {
                count(counter::UNREADABLE);
                return false;
            }
        }
        (*found).place = place;
        (*found).transport = transport;
        (*found).direction = u32::from(direction);
        true
    }
}

/// An IPv4 header: where the TCP header is, none if there is none.
///
/// # Safety
///
/// `found` has room.
#[inline(always)]
unsafe fn ipv4(ip: &Ipv4, found: *mut Found) -> Option<u32> {
    let bytes = u32::from(ip.version_length & 15) * 4;
    if ip.protocol != IPPROTO_TCP || ip.is_later_fragment() || bytes < 20 {
        return None;
    }
    // SAFETY: as the caller promises.
    unsafe {
        (*found).source = mapped(ip.source);
        (*found).destination = mapped(ip.destination);
        (*found).total = u32::from(u16::from_be(ip.total));
        (*found).ttl = u32::from(ip.ttl);
    }
    Some(bytes)
}

/// An IPv6 header and its extensions: where the TCP header is, none if there is none.
///
/// # Safety
///
/// `skb` is the program's context, and `found` has room.
#[inline(always)]
unsafe fn ipv6(skb: *mut __sk_buff, place: Place, found: *mut Found) -> Option<u32> {
    let mut ip = MaybeUninit::<Ipv6>::uninit();
    // SAFETY: as the caller promises; the helpers fill the buffers whole, with zeros on failure.
    unsafe {
        if load(skb, place, 0, ip.as_mut_ptr().cast(), 40) != 0 {
            return None;
        }
        let ip = ip.assume_init_ref();
        let payload = u32::from(u16::from_be(ip.payload));
        (*found).source = ip.source;
        (*found).destination = ip.destination;
        (*found).total = if payload == 0 { 0 } else { 40 + payload };
        (*found).ttl = u32::from(ip.hops);
        let mut next = ip.next;
        let mut at = 40;
        for _ in 0..MOST_EXTENSIONS {
            if !is_extension(next) {
                break;
            }
            let mut extension = MaybeUninit::<Extension>::uninit();
            if load(skb, place, at, extension.as_mut_ptr().cast(), 4) != 0 {
                count(counter::UNREADABLE);
                return None;
            }
            let extension = extension.assume_init_ref();
            let units = u32::from(extension.length);
            at += match next {
                FRAGMENT if u16::from_be(extension.fragment) & 0xfff8 != 0 => return None,
                FRAGMENT => 8,
                AUTHENTICATION => (units + 2) * 4,
                _ => (units + 1) * 8,
            };
            next = extension.next;
        }
        (next == IPPROTO_TCP).then_some(at)
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
        let number = |at: usize| u16::from_be_bytes([start[at], start[at + 1]]);
        match number(12) {
            0x0800 if start[14] >> 4 == 4 => 14,
            0x86dd if start[14] >> 4 == 6 => 14,
            0x8100 | 0x88a8 if matches!(number(16), 0x0800 | 0x86dd) => 18,
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
