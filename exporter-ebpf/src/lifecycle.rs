//! The steps of a TCP socket: `sock_ops`.
//!
//! The kernel asks this program many things in a connection's life; all but a few return at the first
//! comparison. `reply` is never written, since it would change the kernel's own choice. Callback flags
//! are added to those that are set: the helper replaces them, and another program may need its own.

use aya_ebpf::bindings::{
    BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_RTO_CB,
    BPF_SOCK_OPS_RTO_CB_FLAG, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TIMEOUT_INIT,
    bpf_sock_ops,
};
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_sock_ops_cb_flags_set};
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use core::mem::offset_of;
use synspan_ebpf::record::{
    KIND_SOCKET, STEP_ACTIVE_ESTABLISHED, STEP_CONNECT, STEP_PASSIVE_ESTABLISHED, STEP_RTO, STEP_STATE, SocketRecord,
    counter,
};

use crate::maps::{NETNS_COOKIE, Side, bytes, count, header, mapped, now, reserve, submit};
use crate::{budget, context, isns};

/// What `sock_ops` programs return when they have nothing to refuse.
const OK: u32 = 1;

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

// include/net/tcp_states.h
const TCP_ESTABLISHED: u32 = 1;
const TCP_SYN_SENT: u32 = 2;
const TCP_FIN_WAIT1: u32 = 4;
const TCP_CLOSE: u32 = 7;
const TCP_CLOSE_WAIT: u32 = 8;

/// A field of the context; the arguments are the first thing in the union after `op`.
macro_rules! field {
    ($ops:expr, args[$index:literal]) => {
        context::field!($ops, bpf_sock_ops, __bindgen_anon_1, $index)
    };
    ($ops:expr, $name:ident[$index:literal]) => {
        context::field!($ops, bpf_sock_ops, $name, $index)
    };
    ($ops:expr, $name:ident) => {
        context::field!($ops, bpf_sock_ops, $name)
    };
}

/// All callbacks of all sockets below the cgroup.
#[sock_ops]
pub fn synspan_sockops(ctx: SockOpsContext) -> u32 {
    // SAFETY: the context is valid while the program runs.
    unsafe { step(ctx.ops) };
    OK
}

/// Sorts a callback.
///
/// # Safety
///
/// `ops` is the program's context.
#[inline(always)]
unsafe fn step(ops: *mut bpf_sock_ops) {
    // SAFETY: as the caller promises.
    unsafe {
        let op = field!(ops, op);
        let (step, old, new) = match op {
            // Asked for request sockets too (not full ones), just before the first SYN leaves, and at
            // each timeout after it. Before the first, the sequence number is chosen and not yet sent.
            BPF_SOCK_OPS_TIMEOUT_INIT => {
                if field!(ops, is_fullsock) == 0
                    || field!(ops, state) != TCP_SYN_SENT
                    || field!(ops, snd_nxt) != field!(ops, snd_una)
                {
                    return;
                }
                let flags = field!(ops, bpf_sock_ops_cb_flags);
                set_flags(ops, flags | BPF_SOCK_OPS_STATE_CB_FLAG | BPF_SOCK_OPS_RTO_CB_FLAG);
                (STEP_CONNECT, TCP_SYN_SENT, TCP_SYN_SENT)
            }
            BPF_SOCK_OPS_STATE_CB => {
                let old = field!(ops, args[0]);
                let new = field!(ops, args[1]);
                let first_fin = old == TCP_ESTABLISHED && (new == TCP_FIN_WAIT1 || new == TCP_CLOSE_WAIT);
                if new != TCP_CLOSE && !first_fin {
                    return;
                }
                (STEP_STATE, old, new)
            }
            BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => {
                let flags = field!(ops, bpf_sock_ops_cb_flags);
                if flags & BPF_SOCK_OPS_STATE_CB_FLAG == 0 {
                    count(counter::FLAGS_REASSERTED);
                    set_flags(ops, flags | BPF_SOCK_OPS_STATE_CB_FLAG);
                }
                (STEP_ACTIVE_ESTABLISHED, TCP_ESTABLISHED, TCP_ESTABLISHED)
            }
            BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => {
                let flags = field!(ops, bpf_sock_ops_cb_flags);
                set_flags(ops, flags | BPF_SOCK_OPS_STATE_CB_FLAG);
                budget::refund(budget::INBOUND_SYNS, budget::SYNS_OF_A_CONNECTION);
                (STEP_PASSIVE_ESTABLISHED, TCP_ESTABLISHED, TCP_ESTABLISHED)
            }
            BPF_SOCK_OPS_RTO_CB => {
                if field!(ops, state) != TCP_SYN_SENT {
                    return;
                }
                (STEP_RTO, TCP_SYN_SENT, TCP_SYN_SENT)
            }
            _ => return,
        };
        report(ops, step, old, new);
    }
}

/// Sets the callback flags. It fails only for sockets that are not full ones, which do not come here.
///
/// # Safety
///
/// `ops` is the program's context.
#[inline(always)]
unsafe fn set_flags(ops: *mut bpf_sock_ops, flags: u32) {
    // SAFETY: as the caller promises.
    let _ = unsafe { bpf_sock_ops_cb_flags_set(ops, flags as i32) };
}

/// Writes the record.
///
/// # Safety
///
/// `ops` is the program's context.
#[inline(always)]
unsafe fn report(ops: *mut bpf_sock_ops, step: u8, old: u32, new: u32) {
    // SAFETY: as the caller promises.
    unsafe {
        let (local, remote) = match field!(ops, family) {
            AF_INET => (mapped(field!(ops, local_ip4)), mapped(field!(ops, remote_ip4))),
            AF_INET6 => (
                [
                    field!(ops, local_ip6[0]),
                    field!(ops, local_ip6[1]),
                    field!(ops, local_ip6[2]),
                    field!(ops, local_ip6[3]),
                ],
                [
                    field!(ops, remote_ip6[0]),
                    field!(ops, remote_ip6[1]),
                    field!(ops, remote_ip6[2]),
                    field!(ops, remote_ip6[3]),
                ],
            ),
            _ => return,
        };
        let cookie = bpf_get_socket_cookie(ops.cast());
        let netns_cookie = if NETNS_COOKIE.load() == 0 { 0 } else { bpf_get_netns_cookie(ops.cast()) };
        let time = now();
        if step == STEP_CONNECT {
            // Here already, since the SYN may be dropped before it comes to any interface.
            isns::note(field!(ops, snd_nxt), isns::Mark::Own, time);
        }
        let Some(mut entry) = reserve::<SocketRecord>(Side::Own) else { return };
        entry.write(SocketRecord {
            header: header::<SocketRecord>(KIND_SOCKET, time),
            cookie,
            netns_cookie,
            bytes_acked: context::long::<{ offset_of!(bpf_sock_ops, bytes_acked) }, _>(ops),
            bytes_received: context::long::<{ offset_of!(bpf_sock_ops, bytes_received) }, _>(ops),
            local_address: bytes(local),
            remote_address: bytes(remote),
            // Host order, and network order in the upper half: so says include/uapi/linux/bpf.h.
            local_port: field!(ops, local_port) as u16,
            remote_port: u32::from_be(field!(ops, remote_port)) as u16,
            step,
            state_old: old as u8,
            state_new: new as u8,
            reserved: 0,
            snd_nxt: field!(ops, snd_nxt),
            snd_una: field!(ops, snd_una),
            rcv_nxt: field!(ops, rcv_nxt),
            srtt_us: field!(ops, srtt_us) >> 3,
            total_retrans: field!(ops, total_retrans),
            segs_in: field!(ops, segs_in),
            segs_out: field!(ops, segs_out),
            args: [field!(ops, args[0]), field!(ops, args[1]), field!(ops, args[2])],
        });
        submit(Side::Own, entry);
    }
}
