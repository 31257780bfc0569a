//! The filters of tc's clsact hooks, over route netlink: list them, add one, and take one away.
//!
//! Layouts: `struct tcmsg` (`include/uapi/linux/rtnetlink.h`), `TCA_BPF_*` (`pkt_cls.h`).

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::attributes::{attributes, bytes_at, put, put_nested, text, u32_at};
use super::message::{CREATE, EXCL};
use super::socket::Socket;
use crate::capture::observation::Direction;

const RTM_NEWQDISC: u16 = 36;
/// The kernel's word that a queueing discipline was taken away, and with it what hung on it.
pub const RTM_DELQDISC: u16 = 37;
/// `RTMGRP_TC`: the notifications of both.
pub const GROUP: u32 = 0x8;
const RTM_NEWTFILTER: u16 = 44;
/// The kernel's word that a filter was taken away.
pub const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_CHAIN: u16 = 11;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_TAG: u16 = 10;
const TCA_BPF_ID: u16 = 11;
const TCMSG: usize = 20;

/// `TC_H_CLSACT`: the qdisc's place.
const CLSACT: u32 = 0xffff_fff1;
/// `TC_H_MAKE(TC_H_CLSACT, 0)`: its handle.
const CLSACT_HANDLE: u32 = 0xffff_0000;
const DIRECT_ACTION: u32 = 1;
const ETH_P_ALL: u16 = 3;
/// The handle of our filter at its preference, where it is alone.
const HANDLE: u32 = 1;

/// The parent handles of clsact's two hooks (`TC_H_CLSACT` with `TC_H_MIN_INGRESS` or `_EGRESS`).
fn parent(direction: Direction) -> u32 {
    match direction {
        Direction::Ingress => 0xFFFF_FFF2,
        Direction::Egress => 0xFFFF_FFF3,
    }
}

/// A filter at a clsact hook. Interface, direction, `info`, chain and handle name it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    /// Interface index.
    pub ifindex: u32,
    /// Which hook.
    pub direction: Direction,
    /// `tcm_info`: preference in the upper half, protocol in network order in the lower.
    pub info: u32,
    /// Which of its preference.
    pub handle: u32,
    /// Chain, 0 for the one that packets start in.
    pub chain: u32,
    /// The classifier: `bpf`, `flower`, ...
    pub kind: String,
    /// The id of a bpf filter's program.
    pub program: Option<u32>,
    /// The name that whoever attached a bpf filter gave it; it need not be the program's.
    pub name: Option<String>,
    /// The tag of a bpf filter's program.
    pub tag: Option<[u8; 8]>,
    /// Whether what the program returns is the packet's fate (`direct-action`).
    pub direct_action: bool,
}

impl Filter {
    /// tc's `pref`: lower runs first.
    pub fn preference(&self) -> u16 {
        (self.info >> 16) as u16
    }
}

fn tcmsg(ifindex: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    let mut body = vec![0u8; 4];
    for word in [ifindex, handle, parent, info] {
        body.extend(word.to_ne_bytes());
    }
    body
}

/// What is at one hook.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listing {
    /// Taken preferences; one may be taken with no filter in it.
    pub preferences: BTreeSet<u16>,
    /// The filters in the order in which they run.
    pub filters: Vec<Filter>,
}

/// What is at one hook; nothing where there is no clsact qdisc, or no such interface.
///
/// # Errors
///
/// The kernel's.
pub fn list(socket: &mut Socket, ifindex: u32, direction: Direction) -> io::Result<Listing> {
    let body = tcmsg(ifindex, 0, parent(direction), 0);
    let listing = socket.dump(RTM_GETTFILTER, &body, |listing: &mut Listing, payload| {
        if let Some(info) = u32_at(payload, 16) {
            listing.preferences.insert((info >> 16) as u16);
        }
        listing.filters.extend(read(payload, direction));
    });
    match listing {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::ENODEV)) => {
            Ok(Listing::default())
        }
        listing => listing,
    }
}

/// Reads one answer; a preference's own entry, which has no handle, is no filter.
pub fn read(body: &[u8], direction: Direction) -> Option<Filter> {
    let mut filter = Filter {
        ifindex: u32_at(body, 4)?,
        direction,
        info: u32_at(body, 16)?,
        handle: u32_at(body, 8).filter(|&handle| handle != 0)?,
        chain: 0,
        kind: String::new(),
        program: None,
        name: None,
        tag: None,
        direct_action: false,
    };
    let mut options = None;
    for (kind, value) in attributes(body.get(TCMSG..)?) {
        match kind {
            TCA_KIND => filter.kind = text(value),
            TCA_OPTIONS => options = Some(value),
            TCA_CHAIN => filter.chain = u32_at(value, 0).unwrap_or(0),
            _ => {}
        }
    }
    if filter.kind == "bpf" {
        for (kind, value) in attributes(options.unwrap_or_default()) {
            match kind {
                TCA_BPF_NAME => filter.name = Some(text(value)),
                TCA_BPF_FLAGS => {
                    filter.direct_action = u32_at(value, 0).is_some_and(|flags| flags & DIRECT_ACTION != 0)
                }
                TCA_BPF_TAG => filter.tag = bytes_at(value, 0),
                TCA_BPF_ID => filter.program = u32_at(value, 0),
                _ => {}
            }
        }
    }
    Some(filter)
}

/// Takes this one filter away; the qdisc and every other filter stay.
///
/// # Errors
///
/// `ENOENT` if it is gone already, `EPERM` without `CAP_NET_ADMIN`.
pub fn remove(socket: &mut Socket, filter: &Filter) -> io::Result<()> {
    let mut body = tcmsg(filter.ifindex, filter.handle, parent(filter.direction), filter.info);
    put(&mut body, TCA_KIND, b"bpf\0");
    if filter.chain != 0 {
        put(&mut body, TCA_CHAIN, &filter.chain.to_ne_bytes());
    }
    socket.request(RTM_DELTFILTER, 0, &body)
}

/// Adds the clsact qdisc unless it is there.
///
/// # Errors
///
/// The kernel's.
pub fn add_qdisc(socket: &mut Socket, ifindex: u32) -> io::Result<()> {
    let mut body = tcmsg(ifindex, CLSACT_HANDLE, CLSACT, 0);
    put(&mut body, TCA_KIND, b"clsact\0");
    match socket.request(RTM_NEWQDISC, CREATE | EXCL, &body) {
        Err(e) if e.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other,
    }
}

/// Adds a filter that runs a program, whose verdicts are the packet's fate, at a preference of its own.
///
/// # Errors
///
/// The kernel's; `EEXIST` if the preference is taken.
pub fn add(
    socket: &mut Socket,
    program: BorrowedFd<'_>,
    name: &str,
    ifindex: u32,
    direction: Direction,
    preference: u16,
) -> io::Result<()> {
    let info = u32::from(preference) << 16 | u32::from(ETH_P_ALL.to_be());
    let mut body = tcmsg(ifindex, HANDLE, parent(direction), info);
    put(&mut body, TCA_KIND, b"bpf\0");
    put_nested(&mut body, TCA_OPTIONS, |options| {
        put(options, TCA_BPF_FD, &program.as_raw_fd().to_ne_bytes());
        put(options, TCA_BPF_NAME, &[name.as_bytes(), b"\0"].concat());
        put(options, TCA_BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes());
    });
    socket.request(RTM_NEWTFILTER, CREATE | EXCL, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(handle: u32) -> Vec<u8> {
        let mut options = Vec::new();
        put(&mut options, TCA_BPF_NAME, b"synspan_ingress\0");
        put(&mut options, TCA_BPF_FLAGS, &1u32.to_ne_bytes());
        put(&mut options, TCA_BPF_TAG, &[1, 2, 3, 4, 5, 6, 7, 8]);
        put(&mut options, TCA_BPF_ID, &42u32.to_ne_bytes());
        let mut body = tcmsg(7, handle, parent(Direction::Ingress), 49_152 << 16 | 0x0300);
        put(&mut body, TCA_KIND, b"bpf\0");
        put(&mut body, TCA_CHAIN, &0u32.to_ne_bytes());
        put(&mut body, TCA_OPTIONS, &options);
        body
    }

    #[test]
    fn a_bpf_filter_is_read_whole() {
        let filter = read(&answer(1), Direction::Ingress).expect("a filter");
        assert_eq!((filter.ifindex, filter.preference(), filter.handle), (7, 49_152, 1));
        assert_eq!((filter.kind.as_str(), filter.name.as_deref()), ("bpf", Some("synspan_ingress")));
        assert_eq!((filter.program, filter.tag), (Some(42), Some([1, 2, 3, 4, 5, 6, 7, 8])));
        assert!(filter.direct_action);
    }

    #[test]
    fn a_preferences_own_entry_is_no_filter_and_cut_answers_do_no_harm() {
        assert_eq!(read(&answer(0), Direction::Ingress), None);
        let whole = answer(1);
        for cut in 0..whole.len() {
            let _ = read(&whole[..cut], Direction::Egress);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_do_no_harm(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = read(&bytes, Direction::Ingress);
        }
    }
}
