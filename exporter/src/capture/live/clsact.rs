//! Filters at the clsact qdisc: list, add, take away (`include/uapi/linux/pkt_cls.h`).

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::netlink::{CREATE, EXCL, Socket, attributes, put, put_nested, text, u32_at};
use crate::capture::observation::Direction;

const RTM_NEWQDISC: u16 = 36;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;

/// `TC_H_CLSACT`: the qdisc's place.
const CLSACT: u32 = 0xffff_fff1;
/// `TC_H_MAKE(TC_H_CLSACT, 0)`: its handle.
const CLSACT_HANDLE: u32 = 0xffff_0000;
const PARENT_INGRESS: u32 = 0xffff_fff2;
const PARENT_EGRESS: u32 = 0xffff_fff3;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
const DIRECT_ACTION: u32 = 1;

/// Bytes of `struct tcmsg`.
const TCMSG: usize = 20;
const ETH_P_ALL: u16 = 3;
/// The handle of our filter at its preference, where it is alone.
const HANDLE: u32 = 1;

/// A bpf filter at an interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    /// Index of the interface.
    pub interface: u32,
    /// Which side.
    pub direction: Direction,
    /// Its preference.
    pub priority: u16,
    /// Its handle.
    pub handle: u32,
    /// The kernel's id of its program.
    pub program: u32,
    /// The name that it was added with.
    pub name: String,
}

/// The filters of one side of an interface: which preferences are taken, and the bpf filters.
#[derive(Default)]
pub struct Listing {
    /// Taken preferences, of filters of any kind.
    pub priorities: BTreeSet<u16>,
    /// The bpf filters.
    pub filters: Vec<Filter>,
}

/// Adds the clsact qdisc unless it is there.
///
/// # Errors
///
/// The kernel's.
pub fn add_qdisc(socket: &mut Socket, interface: u32) -> io::Result<()> {
    let mut body = message(interface, CLSACT_HANDLE, CLSACT, 0);
    put(&mut body, TCA_KIND, b"clsact\0");
    match socket.request(RTM_NEWQDISC, CREATE | EXCL, &body) {
        Err(e) if e.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other,
    }
}

/// Adds a filter at the lowest free preference, so that it comes before all that are there.
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
    let taken = list(socket, interface, direction)?.priorities;
    let priority =
        (1..=u16::MAX).find(|p| !taken.contains(p)).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOSPC))?;
    let mut body = message(interface, HANDLE, parent(direction), info(priority));
    put(&mut body, TCA_KIND, b"bpf\0");
    put_nested(&mut body, TCA_OPTIONS, |options| {
        put(options, TCA_BPF_FD, &program.as_raw_fd().to_ne_bytes());
        put(options, TCA_BPF_NAME, &[name.as_bytes(), b"\0"].concat());
        put(options, TCA_BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes());
    });
    socket.request(RTM_NEWTFILTER, CREATE | EXCL, &body)?;
    // The program's id, by which the filter is known again when it is to go.
    let added = list(socket, interface, direction)?.filters;
    added
        .into_iter()
        .find(|f| f.priority == priority && f.handle == HANDLE)
        .ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
}

/// Lists the filters of one side of an interface; none where there is no qdisc for them.
///
/// # Errors
///
/// The kernel's.
pub fn list(socket: &mut Socket, interface: u32, direction: Direction) -> io::Result<Listing> {
    let body = message(interface, 0, parent(direction), 0);
    let listing = socket.dump(RTM_GETTFILTER, &body, |listing: &mut Listing, payload| {
        let (Some(handle), Some(info)) = (u32_at(payload, 8), u32_at(payload, 16)) else { return };
        let Ok(priority) = u16::try_from(info >> 16) else { return };
        listing.priorities.insert(priority);
        let (mut bpf, mut program, mut name) = (false, None, String::new());
        for (kind, value) in attributes(payload.get(TCMSG..).unwrap_or_default()) {
            match kind {
                TCA_KIND => bpf = text(value) == "bpf",
                TCA_OPTIONS => {
                    for (kind, value) in attributes(value) {
                        match kind {
                            TCA_BPF_ID => program = u32_at(value, 0),
                            TCA_BPF_NAME => name = text(value),
                            _ => (),
                        }
                    }
                }
                _ => (),
            }
        }
        if let (true, Some(program)) = (bpf, program) {
            listing.filters.push(Filter { interface, direction, priority, handle, program, name });
        }
    });
    match listing {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok(Listing::default()),
        other => other,
    }
}

impl Filter {
    /// Takes the filter away, if its place still holds the same program; the qdisc stays.
    ///
    /// # Errors
    ///
    /// The kernel's, except that the interface or the filter has gone already.
    pub fn remove(&self, socket: &mut Socket) -> io::Result<()> {
        let gone = |e: &io::Error| matches!(e.raw_os_error(), Some(libc::ENODEV | libc::ENOENT));
        let there = match list(socket, self.interface, self.direction) {
            Err(e) if gone(&e) => return Ok(()),
            other => other?,
        };
        let same = |f: &&Filter| f.priority == self.priority && f.handle == self.handle && f.program == self.program;
        if there.filters.iter().find(same).is_none() {
            return Ok(());
        }
        let mut body = message(self.interface, self.handle, parent(self.direction), info(self.priority));
        put(&mut body, TCA_KIND, b"bpf\0");
        match socket.request(RTM_DELTFILTER, 0, &body) {
            Err(e) if gone(&e) => Ok(()),
            other => other,
        }
    }
}

fn parent(direction: Direction) -> u32 {
    match direction {
        Direction::Ingress => PARENT_INGRESS,
        Direction::Egress => PARENT_EGRESS,
    }
}

/// `tcm_info`: preference and protocol.
fn info(priority: u16) -> u32 {
    u32::from(priority) << 16 | u32::from(ETH_P_ALL.to_be())
}

/// A `struct tcmsg`.
fn message(interface: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    for word in [interface, handle, parent, info] {
        body.extend_from_slice(&word.to_ne_bytes());
    }
    debug_assert_eq!(body.len(), TCMSG);
    body
}
