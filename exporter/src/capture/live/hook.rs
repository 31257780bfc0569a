//! One program at one side of one interface: attached, and detached when dropped.

use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::clsact;
use crate::capture::netlink::Socket;
use crate::capture::netlink::filters::Filter;
use crate::capture::observation::Direction;

const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;
/// `BPF_F_BEFORE`; with no other program named: first of all.
const BEFORE: u32 = 1 << 3;

/// The loopback interface's index, the same in every network namespace.
const LOOPBACK: u32 = 1;

/// `union bpf_attr` as `BPF_LINK_CREATE` reads it for tcx.
#[repr(C)]
struct LinkCreate {
    program: i32,
    interface: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    reserved: u32,
    revision: u64,
}

/// Where a program is attached.
#[derive(Debug)]
pub enum Hook {
    /// A link, which ends with its file descriptor.
    Tcx {
        /// Held for its life alone.
        _link: OwnedFd,
    },
    /// A filter, which stays until it is taken away.
    Clsact(Filter),
}

/// Attaches a program by tcx, before all others.
///
/// # Errors
///
/// `EINVAL` below kernel 6.6, `ENODEV` if the interface has gone, `EPERM` without `CAP_NET_ADMIN` and
/// `CAP_BPF`.
pub fn attach_tcx(program: BorrowedFd<'_>, interface: u32, direction: Direction) -> io::Result<Hook> {
    let attr = LinkCreate {
        program: program.as_raw_fd(),
        interface,
        attach_type: match direction {
            Direction::Ingress => BPF_TCX_INGRESS,
            Direction::Egress => BPF_TCX_EGRESS,
        },
        flags: BEFORE,
        relative: 0,
        reserved: 0,
        revision: 0,
    };
    // SAFETY: the kernel reads as many bytes as it is told the structure has.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_LINK_CREATE, &raw const attr, size_of_val(&attr)) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just made this descriptor, and nothing else owns it.
    Ok(Hook::Tcx { _link: unsafe { OwnedFd::from_raw_fd(fd) } })
}

/// Whether the kernel has tcx: tried on loopback, where a moment's attachment disturbs nobody.
pub fn has_tcx(program: &impl AsFd) -> bool {
    match attach_tcx(program.as_fd(), LOOPBACK, Direction::Ingress) {
        Ok(_) => true,
        // It knows the hook, and refused for a reason of its own.
        Err(e) => !matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)),
    }
}

/// Attaches a program as a filter at the clsact qdisc, which is added if it is missing.
///
/// # Errors
///
/// Those of the kernel: `ENODEV` if the interface has gone, `EPERM` without `CAP_NET_ADMIN`.
pub fn attach_clsact(
    socket: &mut Socket,
    program: BorrowedFd<'_>,
    name: &str,
    interface: u32,
    direction: Direction,
) -> io::Result<Hook> {
    clsact::attach(socket, program, name, interface, direction).map(Hook::Clsact)
}

impl Hook {
    /// Detaches the program. A hook of an interface that has gone is detached already.
    ///
    /// # Errors
    ///
    /// Those of the kernel.
    pub fn detach(self, socket: &mut Socket) -> io::Result<()> {
        match self {
            Self::Tcx { .. } => Ok(()),
            Self::Clsact(filter) => clsact::detach(socket, &filter),
        }
    }
}
