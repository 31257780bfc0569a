//! What connect() returns, watched while somebody wants to know: the tracepoint
//! `syscalls/sys_exit_connect`, attached and detached by a thread of its own.
//!
//! While it is attached every system call of the machine takes a few nanoseconds more, so it is not
//! attached otherwise. The kernel's number of the tracepoint stands in tracefs alone; where that is not
//! mounted it is mounted in a mount namespace of this thread's, which nobody else sees.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use aya::maps::{Array, MapData};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// How long the calls are watched after somebody last wanted to know.
const WATCHED: Duration = Duration::from_secs(60);

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

/// The thread, and the way to tell it that somebody wants to know.
pub struct Calls {
    wanted: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread holds.
struct Watcher {
    program: OwnedFd,
    watching: Array<MapData, u32>,
    event: u64,
    wanted: Receiver<()>,
}

impl Calls {
    /// Tries the tracepoint for a moment, and starts the thread, which leaves it alone until asked.
    ///
    /// # Errors
    ///
    /// Where tracefs can neither be found nor mounted, or the kernel refuses the event (`CAP_PERFMON`).
    pub fn prepare(program: OwnedFd, watching: Array<MapData, u32>) -> io::Result<Self> {
        let event = event_number()?;
        drop(attach(program.as_fd(), event)?);
        let (wanted, receiver) = sync_channel(1);
        let watcher = Watcher { program, watching, event, wanted: receiver };
        let thread = Builder::new().name("synspan-calls".to_owned()).spawn(move || watcher.run())?;
        Ok(Self { wanted: Some(wanted), thread: Some(thread) })
    }

    /// Watches the calls from now on for a minute. Never waits.
    pub fn watch(&self) {
        if let Some(wanted) = &self.wanted {
            // One that waits already says the same.
            let _ = wanted.try_send(());
        }
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        drop(self.wanted.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that watches connect() panicked");
        }
    }
}

impl Watcher {
    fn run(mut self) {
        while self.wanted.recv().is_ok() {
            let attached = attach(self.program.as_fd(), self.event)
                .and_then(|event| self.watching.set(0, 1, 0).map(|()| event).map_err(io::Error::other));
            let event = match attached {
                Ok(event) => event,
                Err(error) => {
                    tracing::warn!(%error, "cannot watch what connect() returns, though it could at the start");
                    continue;
                }
            };
            tracing::debug!("watching what connect() returns");
            while self.wanted.recv_timeout(WATCHED).is_ok() {}
            if let Err(error) = self.watching.set(0, 0, 0) {
                tracing::warn!(%error, "threads that connect are noted on");
            }
            drop(event);
            tracing::debug!("what connect() returns is watched no more");
        }
    }
}

/// The kernel's number of the tracepoint.
fn event_number() -> io::Result<u64> {
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
fn attach(program: BorrowedFd<'_>, event: u64) -> io::Result<OwnedFd> {
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
