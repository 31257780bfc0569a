//! The tracepoint `syscalls/sys_exit_connect`: what connect() returns.
//!
//! The kernel's number of it stands in tracefs alone; where that is not mounted it is mounted in a mount
//! namespace of a thread's own, which nobody else sees (`CAP_SYS_ADMIN`).

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::thread::Builder;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
const EVENT: &str = "events/syscalls/sys_exit_connect/id";

const PERF_TYPE_TRACEPOINT: u32 = 2;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;
const PERF_EVENT_IOC_ENABLE: libc::Ioctl = libc::_IO(b'$' as u32, 0);
const PERF_EVENT_IOC_SET_BPF: libc::Ioctl = libc::_IOW::<u32>(b'$' as u32, 8);

/// `struct perf_event_attr` in its first form, of 64 bytes.
#[repr(C)]
#[derive(Default)]
struct EventAttr {
    kind: u32,
    size: u32,
    config: u64,
    rest: [u64; 6],
}

/// The kernel's number of the tracepoint.
///
/// # Errors
///
/// Where tracefs is neither mounted nor can be.
pub fn event_number() -> io::Result<u64> {
    for at in TRACEFS {
        if let Ok(number) = read_number(at) {
            return Ok(number);
        }
    }
    let unseen = |e: io::Error| io::Error::new(e.kind(), format!("tracefs is not mounted, and cannot be: {e}"));
    let thread = Builder::new().name("synspan-tracefs".to_owned()).spawn(|| {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let nothing = None::<&str>;
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
        mount(Some("tracefs"), TRACEFS[0], Some("tracefs"), MsFlags::empty(), nothing)?;
        read_number(TRACEFS[0])
    })?;
    thread.join().map_err(|_| io::Error::other("panicked"))?.map_err(unseen)
}

fn read_number(tracefs: &str) -> io::Result<u64> {
    let text = fs::read_to_string(Path::new(tracefs).join(EVENT))?;
    text.trim().parse().map_err(|e| io::Error::other(format!("{EVENT} holds no number: {e}")))
}

/// Attaches a program to a tracepoint for all of the machine, until what is returned is dropped.
///
/// # Errors
///
/// `EACCES` without `CAP_PERFMON`, where `kernel.perf_event_paranoid` is above -1.
pub fn attach(program: BorrowedFd<'_>, event: u64) -> io::Result<OwnedFd> {
    let size = u32::try_from(size_of::<EventAttr>()).unwrap_or(0);
    let attr = EventAttr { kind: PERF_TYPE_TRACEPOINT, size, config: event, ..EventAttr::default() };
    // Of one CPU, yet programs at a tracepoint run on all.
    let (process, cpu, group) = (-1, 0, -1);
    // SAFETY: the kernel reads as many bytes as the structure says it has, during the call.
    let fd =
        unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attr, process, cpu, group, PERF_FLAG_FD_CLOEXEC) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just made this descriptor, and nothing else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: both take a number, and no memory.
    let failed = unsafe {
        libc::ioctl(fd.as_raw_fd(), PERF_EVENT_IOC_SET_BPF, program.as_raw_fd()) < 0
            || libc::ioctl(fd.as_raw_fd(), PERF_EVENT_IOC_ENABLE, 0) < 0
    };
    if failed { Err(io::Error::last_os_error()) } else { Ok(fd) }
}
