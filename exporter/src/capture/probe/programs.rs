//! Which kinds of program this kernel lets this process load and attach, found by trying.
//!
//! Each try is a program of two instructions that changes nothing; it is gone when the try ends.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::bpf::{self, returns};
use super::tracepoint;

/// The kernel's answer to a try.
pub type Tried = Result<(), Refusal>;

/// Why the kernel refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The error number, 0 if it was none of the kernel's.
    pub errno: i32,
    /// The error in words.
    pub text: String,
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self { errno: error.raw_os_error().unwrap_or(0), text: error.to_string() }
    }
}

impl Refusal {
    /// Whether a privilege is missing, not a feature.
    pub fn is_denied(&self) -> bool {
        self.errno == libc::EPERM || self.errno == libc::EACCES
    }
}

/// How far tcx (kernel 6.6) is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tcx {
    /// A program was attached to a loopback interface in a network namespace made for this try.
    Attaches,
    /// The kernel answers a question about it; attaching was not tried.
    Known,
    /// The kernel does not know it.
    Missing,
    /// The kernel would not say.
    Unknown(Refusal),
}

/// What loads and attaches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Programs {
    /// A ring buffer map (kernel 5.8).
    pub ring_buffer: Tried,
    /// A `sock_ops` program.
    pub sock_ops: Tried,
    /// A cgroup `connect4` program.
    pub connect4: Tried,
    /// A cgroup `connect6` program.
    pub connect6: Tried,
    /// A `sched_cls` program.
    pub sched_cls: Tried,
    /// A raw tracepoint program, loaded.
    pub raw_tracepoint: Tried,
    /// The same, attached to `inet_sk_error_report` for an instant.
    pub error_report: Tried,
    /// The same, attached to `kfree_skb` for an instant.
    pub kfree_skb: Tried,
    /// The tracepoint of what connect() returns, with a program, for an instant.
    pub connect_exit: Tried,
    /// tcx links.
    pub tcx: Tcx,
}

impl Programs {
    /// Tries all of them.
    pub fn gather() -> Self {
        let load = |kind, attach_type, value| bpf::load_returning(kind, attach_type, "synspan_try", value);
        let tracepoint = load(bpf::PROG_RAW_TRACEPOINT, 0, returns::NOTHING);
        let attach = |name: &CStr| match &tracepoint {
            Ok(program) => tried(bpf::open_raw_tracepoint(name, program.as_fd())),
            Err(error) => Err(io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO)).into()),
        };
        let classifier = load(bpf::PROG_SCHED_CLS, 0, returns::NEXT);
        Self {
            ring_buffer: tried(bpf::create_ring_buffer()),
            sock_ops: tried(load(bpf::PROG_SOCK_OPS, bpf::ATTACH_SOCK_OPS, returns::ALLOW)),
            connect4: tried(load(bpf::PROG_CGROUP_SOCK_ADDR, bpf::ATTACH_CONNECT4, returns::ALLOW)),
            connect6: tried(load(bpf::PROG_CGROUP_SOCK_ADDR, bpf::ATTACH_CONNECT6, returns::ALLOW)),
            error_report: attach(c"inet_sk_error_report"),
            kfree_skb: attach(c"kfree_skb"),
            raw_tracepoint: tried(tracepoint),
            connect_exit: tried(try_connect_exit()),
            tcx: try_tcx(classifier.as_ref().ok().map(AsFd::as_fd)),
            sched_cls: tried(classifier),
        }
    }
}

fn try_connect_exit() -> io::Result<OwnedFd> {
    let program = bpf::load_returning(bpf::PROG_TRACEPOINT, 0, "synspan_try", returns::NOTHING)?;
    tracepoint::attach(program.as_fd(), tracepoint::event_number()?)
}

fn tried(result: io::Result<OwnedFd>) -> Tried {
    result.map(drop).map_err(Refusal::from)
}

/// Loopback's index in every network namespace (`LOOPBACK_IFINDEX`, `include/net/flow.h`).
const LOOPBACK: u32 = 1;

/// Attaches in a network namespace that lives as long as the thread; asks where there may be none.
fn try_tcx(classifier: Option<BorrowedFd<'_>>) -> Tcx {
    let attached = classifier.and_then(|program| {
        std::thread::scope(|scope| {
            let in_own_namespace = scope.spawn(move || {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).ok()?;
                Some(tried(bpf::create_link(program, LOOPBACK, bpf::ATTACH_TCX_INGRESS)))
            });
            in_own_namespace.join().ok().flatten()
        })
    });
    match attached {
        Some(Ok(())) => Tcx::Attaches,
        Some(Err(refusal)) if refusal.errno == libc::EINVAL => Tcx::Missing,
        Some(Err(refusal)) => Tcx::Unknown(refusal),
        None => match bpf::query(LOOPBACK, bpf::ATTACH_TCX_INGRESS, false) {
            Ok(_) => Tcx::Known,
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Tcx::Missing,
            Err(error) => Tcx::Unknown(error.into()),
        },
    }
}
