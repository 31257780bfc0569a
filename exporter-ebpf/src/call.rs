//! What connect() returned: tracepoint `syscalls/sys_exit_connect`.
//!
//! Attached only while user space wants to know, since it makes every system call of the machine slower.
//! `process` notes the threads that are within connect() on a TCP socket of the watched cgroup, so that
//! what others call is left out.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_get_current_pid_tgid;
use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;
use core::ptr::{read_volatile, write_volatile};
use synspan_ebpf::record::{CallRecord, KIND_CALL};

use crate::context;
use crate::maps::{CALL_SLOTS, CALLS, Side, WATCHING, header, now, reserve, submit};

/// Where the result is in the tracepoint's record: behind its head and the system call's number.
const RESULT: usize = 16;

const MAX_ERRNO: u64 = 4095;
const EINTR: u64 = 4;
const EISCONN: u64 = 106;
const EALREADY: u64 = 114;
const EINPROGRESS: u64 = 115;
// include/linux/errno.h: the call goes on after a signal. The application gets another, or none.
const ERESTARTSYS: u64 = 512;
const ERESTART_RESTARTBLOCK: u64 = 516;

/// A thread is about to connect a TCP socket.
#[inline(always)]
pub fn enter(tid: u32) {
    let Some(watching) = WATCHING.get_ptr(0) else { return };
    // SAFETY: the verifier has checked the pointers; other CPUs may write the words, each whole.
    unsafe {
        if read_volatile(watching) == 0 {
            return;
        }
        if let Some(slot) = CALLS.get_ptr_mut(tid & (CALL_SLOTS - 1)) {
            write_volatile(slot, tid);
        }
    }
}

/// connect() returns.
#[tracepoint]
pub fn synspan_connret(ctx: TracePointContext) -> u32 {
    // SAFETY: the context is valid while the program runs, and has the result there.
    let result = unsafe { context::long::<RESULT, _>(ctx.as_ptr()) };
    // SAFETY: the helper takes nothing and cannot fail in a task.
    let ids = unsafe { bpf_get_current_pid_tgid() };
    let tid = ids as u32;
    let Some(slot) = CALLS.get_ptr_mut(tid & (CALL_SLOTS - 1)) else { return 0 };
    // SAFETY: as in `enter`.
    unsafe {
        if read_volatile(slot) != tid {
            return 0;
        }
        write_volatile(slot, 0);
    }
    let errno = result.wrapping_neg();
    if errno == 0 || errno > MAX_ERRNO {
        return 0;
    }
    let goes_on = errno >= ERESTARTSYS && errno <= ERESTART_RESTARTBLOCK;
    if goes_on || errno == EINTR || errno == EISCONN || errno == EALREADY || errno == EINPROGRESS {
        return 0;
    }
    let time = now();
    let Some(mut entry) = reserve::<CallRecord>(Side::Own) else { return 0 };
    entry.write(CallRecord {
        header: header::<CallRecord>(KIND_CALL, time),
        pid: (ids >> 32) as u32,
        tid,
        errno: errno as u32,
        reserved: 0,
    });
    submit(Side::Own, entry);
    0
}
