//! ICMP errors that answer a segment of an attempt (RFC 792, RFC 4443): what they quote tells which.

use aya_ebpf::bindings::__sk_buff;
use core::mem::MaybeUninit;
use synspan_ebpf::record::{IcmpRecord, KIND_ICMP};

use super::headers::{Ipv4, Ipv6, Place};
use super::{IPPROTO_TCP, load};
use crate::context::field;
use crate::maps::{header, mapped, now, reserve, submit};
use crate::{isns, pending};

/// The protocol number of ICMP.
pub const IPPROTO_ICMP: u8 = 1;
/// The protocol number of ICMPv6.
pub const IPPROTO_ICMPV6: u8 = 58;

/// An ICMP message behind its IP header, and the IP header that it quotes.
#[repr(C)]
struct Message<T> {
    ip: T,
    icmp: [u8; 8],
    quoted: T,
}

/// What an error quotes, and where it came from; addresses v4-mapped, in network order.
#[repr(C)]
struct Quote {
    from: [u32; 4],
    source: [u32; 4],
    destination: [u32; 4],
    /// Both ports, and the sequence number: what every error has room for.
    tcp: [u32; 2],
    icmp_type: u32,
    code: u32,
}

/// An ICMP message behind an IPv4 header without options.
///
/// # Safety
///
/// `skb` is the program's context.
#[inline(never)]
pub unsafe fn v4(skb: *mut __sk_buff, direction: u8) {
    let mut start = MaybeUninit::<Message<Ipv4>>::uninit();
    let mut quote = MaybeUninit::<Quote>::uninit();
    // SAFETY: as the caller promises; the helper fills what it reads whole.
    unsafe {
        if load(skb, Place::LINEAR, 0, start.as_mut_ptr().cast(), 48) != 0 {
            return;
        }
        let Message { ip, icmp, quoted } = start.assume_init_ref();
        // Destination unreachable, time exceeded, parameter problem.
        if ip.version_length != 0x45 || !matches!(icmp[0], 3 | 11 | 12) {
            return;
        }
        if quoted.version_length >> 4 != 4 || quoted.protocol != IPPROTO_TCP || quoted.is_later_fragment() {
            return;
        }
        let quote = quote.as_mut_ptr();
        let at = 28 + u32::from(quoted.version_length & 15) * 4;
        if load(skb, Place::LINEAR, at, (&raw mut (*quote).tcp).cast(), 8) != 0 {
            return;
        }
        (*quote).from = mapped(ip.source);
        (*quote).source = mapped(quoted.source);
        (*quote).destination = mapped(quoted.destination);
        (*quote).icmp_type = u32::from(icmp[0]);
        (*quote).code = u32::from(icmp[1]);
        tell(skb, &*quote, direction);
    }
}

/// An ICMPv6 message behind an IPv6 header without extensions.
///
/// # Safety
///
/// `skb` is the program's context.
#[inline(never)]
pub unsafe fn v6(skb: *mut __sk_buff, direction: u8) {
    let mut start = MaybeUninit::<Message<Ipv6>>::uninit();
    let mut quote = MaybeUninit::<Quote>::uninit();
    // SAFETY: as the caller promises; the helper fills what it reads whole.
    unsafe {
        if load(skb, Place::LINEAR, 0, start.as_mut_ptr().cast(), 88) != 0 {
            return;
        }
        let Message { ip, icmp, quoted } = start.assume_init_ref();
        // Destination unreachable, packet too big, time exceeded, parameter problem.
        if !matches!(icmp[0], 1..=4) || quoted.next != IPPROTO_TCP {
            return;
        }
        let quote = quote.as_mut_ptr();
        if load(skb, Place::LINEAR, 88, (&raw mut (*quote).tcp).cast(), 8) != 0 {
            return;
        }
        (*quote).from = ip.source;
        (*quote).source = quoted.source;
        (*quote).destination = quoted.destination;
        (*quote).icmp_type = u32::from(icmp[0]);
        (*quote).code = u32::from(icmp[1]);
        tell(skb, &*quote, direction);
    }
}

/// Writes the record, if the quoted segment is one of an attempt.
///
/// # Safety
///
/// `skb` is the program's context.
#[inline(always)]
unsafe fn tell(skb: *mut __sk_buff, quote: &Quote, direction: u8) {
    // SAFETY: as the caller promises.
    unsafe {
        let ifindex = field!(skb, __sk_buff, ifindex);
        let [ports, seq] = quote.tcp;
        let seq = u32::from_be(seq);
        let time = now();
        let awaited = pending::key(&quote.destination, &quote.source, ports.rotate_left(16), ifindex);
        let Some(side) = isns::mark(seq, time).side().or_else(|| pending::side(awaited)) else { return };
        let Some(mut entry) = reserve::<IcmpRecord>(side) else { return };
        let record = entry.as_mut_ptr();
        (*record).header = header::<IcmpRecord>(KIND_ICMP, time);
        (&raw mut (*record).from_address).cast::<[u32; 4]>().write(quote.from);
        (&raw mut (*record).source_address).cast::<[u32; 4]>().write(quote.source);
        (&raw mut (*record).destination_address).cast::<[u32; 4]>().write(quote.destination);
        (*record).ifindex = ifindex;
        (*record).seq = seq;
        let ports = u32::from_be(ports);
        (*record).source_port = (ports >> 16) as u16;
        (*record).destination_port = ports as u16;
        (*record).icmp_type = quote.icmp_type as u8;
        (*record).code = quote.code as u8;
        (*record).direction = direction;
        (*record).reserved = 0;
        submit(side, entry);
    }
}
