//! The filters of tc's clsact hooks, over route netlink: list them, and take one away.
//!
//! Layouts: `struct tcmsg` (`include/uapi/linux/rtnetlink.h`), `TCA_BPF_*` (`pkt_cls.h`).

use std::io;

use super::bpf;
use super::netlink::{Socket, attributes, push_attribute};
use crate::capture::observation::Direction;

const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_CHAIN: u16 = 11;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_TAG: u16 = 10;
const TCA_BPF_ID: u16 = 11;
const TCMSG: usize = 20;

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

/// The filters of one hook in the order in which they run; none where there is no clsact qdisc.
///
/// # Errors
/// The kernel's.
pub fn list(socket: &mut Socket, ifindex: u32, direction: Direction) -> io::Result<Vec<Filter>> {
    let answers = match socket.dump(RTM_GETTFILTER, &tcmsg(ifindex, 0, parent(direction), 0)) {
        // No such hook on this interface, or the interface has just gone.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::ENODEV)) => {
            return Ok(vec![]);
        }
        answers => answers?,
    };
    Ok(answers.iter().filter_map(|(_, body)| read(body, direction)).collect())
}

/// Reads one answer; a preference's own entry, which has no handle, is no filter.
fn read(body: &[u8], direction: Direction) -> Option<Filter> {
    let word = |at: usize| body.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes);
    let mut filter = Filter {
        ifindex: word(4)?,
        direction,
        info: word(16)?,
        handle: word(8).filter(|&handle| handle != 0)?,
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
            TCA_CHAIN => filter.chain = number(value).unwrap_or(0),
            _ => {}
        }
    }
    if filter.kind == "bpf" {
        for (kind, value) in attributes(options.unwrap_or_default()) {
            match kind {
                TCA_BPF_NAME => filter.name = Some(text(value)),
                TCA_BPF_FLAGS => filter.direct_action = number(value).is_some_and(|flags| flags & 1 == 1),
                TCA_BPF_TAG => filter.tag = value.try_into().ok(),
                TCA_BPF_ID => filter.program = number(value),
                _ => {}
            }
        }
    }
    Some(filter)
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&b| b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// Takes this one filter away; the qdisc and every other filter stay.
///
/// # Errors
/// `ENOENT` if it is gone already, `EPERM` without `CAP_NET_ADMIN`.
pub fn remove(socket: &mut Socket, filter: &Filter) -> io::Result<()> {
    let mut body = tcmsg(filter.ifindex, filter.handle, parent(filter.direction), filter.info);
    push_attribute(&mut body, TCA_KIND, b"bpf\0");
    if filter.chain != 0 {
        push_attribute(&mut body, TCA_CHAIN, &filter.chain.to_ne_bytes());
    }
    socket.command(RTM_DELTFILTER, 0, &body)
}

/// What a filter's program is, asked by its id and held against the filter's own tag.
///
/// # Errors
/// Why it cannot be known: no id, the look-up refused, or another program's tag.
pub fn program_of(filter: &Filter) -> io::Result<bpf::Info> {
    let id = filter.program.ok_or_else(|| io::Error::other("the filter names no program"))?;
    let info = bpf::info_of(id)?;
    match filter.tag {
        Some(tag) if tag != info.tag => Err(io::Error::other("the filter's tag is not that of its program")),
        _ => Ok(info),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(handle: u32) -> Vec<u8> {
        let mut options = Vec::new();
        push_attribute(&mut options, TCA_BPF_NAME, b"synspan_ingress\0");
        push_attribute(&mut options, TCA_BPF_FLAGS, &1u32.to_ne_bytes());
        push_attribute(&mut options, TCA_BPF_TAG, &[1, 2, 3, 4, 5, 6, 7, 8]);
        push_attribute(&mut options, TCA_BPF_ID, &42u32.to_ne_bytes());
        let mut body = tcmsg(7, handle, parent(Direction::Ingress), 49_152 << 16 | 0x0300);
        push_attribute(&mut body, TCA_KIND, b"bpf\0");
        push_attribute(&mut body, TCA_CHAIN, &0u32.to_ne_bytes());
        push_attribute(&mut body, TCA_OPTIONS, &options);
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
}
