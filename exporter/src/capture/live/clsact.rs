//! Our filter at the clsact hooks of an interface: added before all others, taken away as it was added.

use std::io;
use std::os::fd::BorrowedFd;

use crate::capture::netlink::Socket;
use crate::capture::netlink::filters::{self, Filter, add_qdisc, list};
use crate::capture::observation::Direction;
use crate::capture::probe::bpf::{info_of_held, mark};

/// Adds a filter at the lowest free preference, so that it comes before all that are there; and the qdisc,
/// if it is missing.
///
/// # Errors
///
/// The kernel's; `ENOSPC` if no preference is free.
pub fn attach(
    socket: &mut Socket,
    program: BorrowedFd<'_>,
    name: &str,
    interface: u32,
    direction: Direction,
) -> io::Result<Filter> {
    add_qdisc(socket, interface)?;
    let taken = list(socket, interface, direction)?.preferences;
    let preference =
        (1..=u16::MAX).find(|p| !taken.contains(p)).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOSPC))?;
    let mark = mark(name, info_of_held(program)?.tag);
    filters::add(socket, program, &mark, interface, direction, preference)?;
    // The program's id, by which the filter is known again when it is to go.
    let added = list(socket, interface, direction)?.filters;
    added
        .into_iter()
        .find(|f| f.preference() == preference && f.program.is_some())
        .ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
}

/// Whether the filter's place still holds the same program.
///
/// # Errors
///
/// The kernel's.
pub fn is_there(socket: &mut Socket, filter: &Filter) -> io::Result<bool> {
    let there = list(socket, filter.ifindex, filter.direction)?;
    let same = |f: &Filter| f.info == filter.info && f.handle == filter.handle && f.program == filter.program;
    Ok(there.filters.iter().any(same))
}

/// Takes the filter away, if its place still holds the same program; the qdisc stays.
///
/// # Errors
///
/// The kernel's, except that the interface or the filter has gone already.
pub fn detach(socket: &mut Socket, filter: &Filter) -> io::Result<()> {
    if !is_there(socket, filter)? {
        return Ok(());
    }
    match filters::remove(socket, filter) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENODEV | libc::ENOENT)) => Ok(()),
        other => other,
    }
}
