//! Who asked for a connection, and where to: cgroup `connect4` and `connect6`.
//!
//! Programs of child cgroups run before those of their parents, so a load balancer that rewrites the
//! address further up has not done so yet. These programs only look: they always allow.

use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_netns_cookie,
    bpf_get_socket_cookie,
};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use core::mem::{MaybeUninit, offset_of};
use synspan_ebpf::record::{KIND_PROCESS, ProcessRecord};

use crate::call;
use crate::context::{self, field};
use crate::maps::{Side, bytes, header, mapped, now, reserve, submit};

const ALLOW: i32 = 1;
const IPPROTO_TCP: u32 = 6;

/// connect() on an IPv4 socket.
#[cgroup_sock_addr(connect4)]
pub fn synspan_conn4(ctx: SockAddrContext) -> i32 {
    // SAFETY: the context is valid while the program runs.
    unsafe {
        if field!(ctx.sock_addr, bpf_sock_addr, protocol) == IPPROTO_TCP {
            let address = mapped(field!(ctx.sock_addr, bpf_sock_addr, user_ip4));
            report(ctx.sock_addr, address);
        }
    }
    ALLOW
}

/// connect() on an IPv6 socket, v4-mapped ones included.
#[cgroup_sock_addr(connect6)]
pub fn synspan_conn6(ctx: SockAddrContext) -> i32 {
    // SAFETY: the context is valid while the program runs. Each word is read by itself, as the
    // kernel's context access wants it.
    unsafe {
        if field!(ctx.sock_addr, bpf_sock_addr, protocol) == IPPROTO_TCP {
            let address = [
                field!(ctx.sock_addr, bpf_sock_addr, user_ip6, 0),
                field!(ctx.sock_addr, bpf_sock_addr, user_ip6, 1),
                field!(ctx.sock_addr, bpf_sock_addr, user_ip6, 2),
                field!(ctx.sock_addr, bpf_sock_addr, user_ip6, 3),
            ];
            report(ctx.sock_addr, address);
        }
    }
    ALLOW
}

/// Writes the record.
///
/// # Safety
///
/// `addr` is the program's context.
#[inline(always)]
unsafe fn report(addr: *mut bpf_sock_addr, address: [u32; 4]) {
    // SAFETY: as the caller promises; the socket pointer is checked before it is followed.
    unsafe {
        let time = now();
        let cookie = bpf_get_socket_cookie(addr.cast());
        let netns_cookie = bpf_get_netns_cookie(addr.cast());
        let cgroup_id = bpf_get_current_cgroup_id();
        let ids = bpf_get_current_pid_tgid();
        call::enter(ids as u32);
        let port = field!(addr, bpf_sock_addr, user_port);
        let family = field!(addr, bpf_sock_addr, user_family);
        let socket = context::long::<{ offset_of!(bpf_sock_addr, __bindgen_anon_1) }, _>(addr) as *const bpf_sock;
        let bound_port = if socket.is_null() { 0 } else { field!(socket, bpf_sock, src_port) };
        let mut comm = MaybeUninit::<[u64; 2]>::uninit();
        // On failure the helper leaves an empty name.
        let _ = bpf_get_current_comm(comm.as_mut_ptr().cast(), 16);
        let comm: [u8; 16] = core::mem::transmute(comm.assume_init());
        let Some(mut entry) = reserve::<ProcessRecord>(Side::Own) else { return };
        entry.write(ProcessRecord {
            header: header::<ProcessRecord>(KIND_PROCESS, time),
            cookie,
            netns_cookie,
            cgroup_id,
            pid: (ids >> 32) as u32,
            tid: ids as u32,
            address: bytes(address),
            comm,
            port: u16::from_be(port as u16),
            bound_port: bound_port as u16,
            family: family as u16,
            reserved: 0,
        });
        submit(Side::Own, entry);
    }
}
