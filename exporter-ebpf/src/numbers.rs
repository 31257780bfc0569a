//! The sequence numbers of one connection, for whoever asks: no hook of the kernel runs this program,
//! user space does, by a test run in the network namespace of the socket.
//!
//! Sock_diag does not tell these numbers, and what would (an iterator, a repair of the socket) walks all
//! sockets or disturbs this one. `bpf_sk_lookup_tcp` finds it as a segment would, and touches nothing.

use core::mem::offset_of;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_F_CURRENT_NETNS, bpf_sock, bpf_sock_tuple, bpf_tcp_sock};
use aya_ebpf::helpers::generated::{
    bpf_sk_lookup_tcp, bpf_sk_release, bpf_skb_load_bytes, bpf_skb_store_bytes, bpf_tcp_sock as tcp_sock,
};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use synspan_ebpf::lookup::{Answer, Lookup};

use crate::context::field;

/// Bytes of `struct bpf_sock_tuple` for IPv4.
const TUPLE4: u32 = 12;
/// Bytes of `struct bpf_sock_tuple` for IPv6.
const TUPLE6: u32 = 36;

/// Looks for the socket of the tuple in the packet, and writes its numbers into the packet.
#[classifier]
pub fn synspan_numbers(ctx: TcContext) -> i32 {
    let skb = ctx.as_ptr();
    let mut family = 0_u8;
    let mut tuple = [0_u32; 9];
    // SAFETY: the helpers write as many bytes as are asked for, into memory that has room for them; the
    // socket is read while it is held.
    unsafe {
        let at = core::ptr::from_mut(&mut family).cast();
        if bpf_skb_load_bytes(skb.cast(), offset_of!(Lookup, family) as u32, at, 1) != 0 {
            return -1;
        }
        let size = if family == 4 { TUPLE4 } else { TUPLE6 };
        let place = tuple.as_mut_ptr();
        let found = if size == TUPLE4 {
            if bpf_skb_load_bytes(skb.cast(), offset_of!(Lookup, tuple) as u32, place.cast(), TUPLE4) != 0 {
                return -1;
            }
            bpf_sk_lookup_tcp(skb, place.cast::<bpf_sock_tuple>(), TUPLE4, BPF_F_CURRENT_NETNS as u64, 0)
        } else {
            if bpf_skb_load_bytes(skb.cast(), offset_of!(Lookup, tuple) as u32, place.cast(), TUPLE6) != 0 {
                return -1;
            }
            bpf_sk_lookup_tcp(skb, place.cast::<bpf_sock_tuple>(), TUPLE6, BPF_F_CURRENT_NETNS as u64, 0)
        };
        if found.is_null() {
            return 0;
        }
        let mut answer = Answer { state: field!(found, bpf_sock, state), snd_una: 0, snd_nxt: 0, rcv_nxt: 0 };
        let tcp = tcp_sock(found);
        if !tcp.is_null() {
            answer.snd_una = field!(tcp, bpf_tcp_sock, snd_una);
            answer.snd_nxt = field!(tcp, bpf_tcp_sock, snd_nxt);
            answer.rcv_nxt = field!(tcp, bpf_tcp_sock, rcv_nxt);
        }
        bpf_sk_release(found.cast());
        let from = core::ptr::from_ref(&answer).cast();
        bpf_skb_store_bytes(skb.cast(), offset_of!(Lookup, answer) as u32, from, size_of::<Answer>() as u32, 0);
    }
    0
}
