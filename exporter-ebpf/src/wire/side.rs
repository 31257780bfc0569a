//! Whether a segment is reported, and on whose side: the node's own attempts, or those from outside.
//! Keeps the tables of pending SYNs and of initial sequence numbers.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use synspan_ebpf::record::{INGRESS, POINT_POD, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, counter};

use super::headers::Tcp;
use super::{Found, NOTABLE};
use crate::context::field;
use crate::isns::{self, Mark};
use crate::maps::{KINDS, Side, count, has_room_for_inbound, now};
use crate::{budget, pending, sums};

/// The side of a segment that is to be reported, none of one that is not.
///
/// # Safety
///
/// `skb` is the program's context.
#[inline(always)]
pub unsafe fn of(skb: *mut __sk_buff, found: &mut Found) -> Option<Side> {
    // SAFETY: as the caller promises.
    let ifindex = unsafe { field!(skb, __sk_buff, ifindex) };
    let Tcp { flags, ports, .. } = found.tcp;
    (found.cookie, found.time) = (0, 0);
    if flags & (TCP_SYN | TCP_ACK | TCP_RST) == TCP_SYN {
        let time = now();
        found.time = time;
        // SAFETY: as the caller promises.
        found.cookie = unsafe { bpf_get_socket_cookie(skb.cast()) };
        let side = syn(found, ifindex, time)?;
        pending::expect(side, pending::key(&found.destination, &found.source, ports.rotate_left(16), ifindex), time);
        return Some(side);
    }
    if flags & (TCP_SYN | TCP_ACK) == TCP_ACK && flags & (TCP_RST | TCP_FIN) == TCP_FIN {
        // An end, of a connection that was established: it answers no SYN that is its own.
        return Some(Side::Own);
    }
    let last = flags & (TCP_SYN | TCP_RST) != 0;
    let side = pending::answer(pending::key(&found.source, &found.destination, ports, ifindex), last);
    if side.is_some() || flags & NOTABLE == 0 {
        return side;
    }
    unawaited(found, ifindex)
}

/// The side of a SYN. One that a watched socket announced is the node's own, and so is what leaves with
/// a socket's cookie, what a pod sends, and the same packet further on. The rest comes from outside, or
/// by a way in that is not watched: within a budget, and while the reader keeps up, it is reported, at each
/// interface alike; beyond it is summed, once.
#[inline(always)]
fn syn(found: &mut Found, ifindex: u32, time: u64) -> Option<Side> {
    let isn = u32::from_be(found.tcp.seq);
    let mark = isns::mark(isn, time);
    if mark == Mark::Own {
        return Some(Side::Own);
    }
    let ingress = found.direction == u32::from(INGRESS);
    // A cookie that comes in is of a socket behind a veth: of a pod's, or of nobody on this node.
    let own = if ingress {
        // SAFETY: the value is one word, which user space writes whole.
        unsafe { KINDS.get(ifindex) }.is_none_or(|kind| *kind == POINT_POD)
    } else {
        found.cookie != 0
    };
    if own {
        isns::note(isn, Mark::Own, time);
        return Some(Side::Own);
    }
    found.cookie = 0;
    if mark == Mark::Summed && !ingress {
        return None;
    }
    let told = mark == Mark::Told && !ingress;
    if (told || has_room_for_inbound()) && budget::take(budget::INBOUND_SYNS, budget::MOST_INBOUND_SYNS, time) {
        isns::note(isn, Mark::Told, time);
        return Some(Side::Inbound);
    }
    if told {
        count(counter::LOST_INBOUND);
        return None;
    }
    isns::note(isn, Mark::Summed, time);
    sums::add(&found.destination, u32::from_be(found.tcp.ports) as u16, time);
    None
}

/// The side of a SYN-ACK or a reset that no pending SYN awaits here: one sent again, or the answer to
/// something that was not seen or only summed.
#[inline(always)]
fn unawaited(found: &Found, ifindex: u32) -> Option<Side> {
    let Tcp { flags, ports, .. } = found.tcp;
    let is_answer = flags & TCP_ACK != 0;
    // What a client resets its handshake with has the number after its SYN.
    let number = u32::from_be(if is_answer { found.tcp.ack } else { found.tcp.seq });
    let time = now();
    let mark = isns::mark(number.wrapping_sub(1), time);
    let is_syn_ack = is_answer && flags & (TCP_SYN | TCP_RST) == TCP_SYN;
    if !is_syn_ack {
        return if mark == Mark::Unknown { Some(Side::Own) } else { mark.side() };
    }
    if let Some(side) = mark.side() {
        // The client's answer to it tells that the first was not lost, though the server acts so.
        let answer = pending::key(&found.destination, &found.source, ports.rotate_left(16), ifindex);
        pending::expect_once(side, answer, time);
        return Some(side);
    }
    if mark == Mark::Summed {
        return None;
    }
    // Whose it is cannot be told, and anyone may send such.
    if budget::take(budget::INBOUND_SYNS, budget::MOST_INBOUND_SYNS, time) {
        return Some(Side::Inbound);
    }
    count(counter::LOST_INBOUND);
    None
}
