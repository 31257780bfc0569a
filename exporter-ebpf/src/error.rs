//! The error that a socket's owner gets: raw tracepoint `inet_sk_error_report` (kernel 5.14).
//!
//! The tracepoint has neither the cookie nor the protocol; they are read from `struct sock` at offsets
//! that user space takes from the kernel's own BTF. A socket whose cookie was never asked for is none
//! that the other programs have seen, and is left out.

use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use aya_ebpf::{EbpfContext, Global};
use synspan_ebpf::record::{ErrorRecord, KIND_ERROR};

use crate::kernel::read;
use crate::maps::{Side, header, now, reserve, submit};

const IPPROTO_TCP: u16 = 6;
/// The state of a socket that connects (`net/tcp_states.h`).
const TCP_SYN_SENT: u8 = 2;
/// The state of a socket that an error ended.
const TCP_CLOSE: u8 = 7;

/// Offset of `sk_protocol` (16 bits) in `struct sock`.
#[unsafe(no_mangle)]
static SK_PROTOCOL: Global<u32> = Global::new(0);
/// Offset of `__sk_common.skc_cookie` (64 bits).
#[unsafe(no_mangle)]
static SK_COOKIE: Global<u32> = Global::new(0);
/// Offset of `__sk_common.skc_state` (8 bits).
#[unsafe(no_mangle)]
static SK_STATE: Global<u32> = Global::new(0);
/// Offset of `sk_err` (32 bits).
#[unsafe(no_mangle)]
static SK_ERR: Global<u32> = Global::new(0);

/// A socket reports an error to its owner.
#[raw_tracepoint(tracepoint = "inet_sk_error_report")]
pub fn synspan_skerr(ctx: RawTracePointContext) -> i32 {
    // SAFETY: the first argument of the tracepoint is a `struct sock`; what is read of it is copied
    // by a helper that checks the address.
    unsafe {
        let sock = *ctx.as_ptr().cast::<u64>();
        let mut protocol = 0_u16;
        if !read(sock, SK_PROTOCOL.load(), &mut protocol) || protocol != IPPROTO_TCP {
            return 0;
        }
        let (mut cookie, mut errno) = (0_u64, 0_u32);
        if !read(sock, SK_COOKIE.load(), &mut cookie) || cookie == 0 {
            return 0;
        }
        if !read(sock, SK_ERR.load(), &mut errno) {
            return 0;
        }
        // An owner woken with no number found it faster than this program, or finds an ICMP error in the socket's
        // error queue. In other states that is how sent data are confirmed, often.
        let mut state = 0_u8;
        if errno == 0 && !(read(sock, SK_STATE.load(), &mut state) && matches!(state, TCP_SYN_SENT | TCP_CLOSE)) {
            return 0;
        }
        let time = now();
        let Some(mut entry) = reserve::<ErrorRecord>(Side::Own) else { return 0 };
        entry.write(ErrorRecord { header: header::<ErrorRecord>(KIND_ERROR, time), cookie, errno, reserved: 0 });
        submit(Side::Own, entry);
    }
    0
}
