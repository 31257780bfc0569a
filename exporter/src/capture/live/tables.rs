//! Links, addresses and routes of the network namespace, read from rtnetlink.

use std::collections::{HashMap, HashSet};
use std::io;

use super::classify::Link;
use crate::capture::netlink::Socket;
use crate::capture::netlink::attributes::{attributes, i32_at, text, u16_at, u32_at};

/// `RTM_NEWLINK`, and what follows it up to [`DELLINK`].
pub const NEWLINK: u16 = 16;
/// `RTM_DELLINK`.
pub const DELLINK: u16 = 17;
/// `RTM_NEWADDR`.
pub const NEWADDR: u16 = 20;
/// `RTM_DELADDR`.
pub const DELADDR: u16 = 21;
/// `RTM_NEWROUTE`.
pub const NEWROUTE: u16 = 24;
/// `RTM_DELROUTE`.
pub const DELROUTE: u16 = 25;
const GETLINK: u16 = 18;
const GETADDR: u16 = 22;
const GETROUTE: u16 = 26;

/// The notifications that tell of changes in these tables: links, addresses and routes of both families.
pub const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

// Bytes of the structures before the attributes.
const IFINFOMSG: usize = 16;
const IFADDRMSG: usize = 8;
const RTMSG: usize = 12;
/// Bytes of `struct rtnexthop`.
const NEXTHOP: usize = 8;

const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_LINK_NETNSID: u16 = 37;
const RTA_OIF: u16 = 4;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RT_TABLE_MAIN: u32 = 254;
const RTN_UNICAST: u8 = 1;
const RT_SCOPE_UNIVERSE: u8 = 0;
const AF_INET: u8 = 2;

/// All links, by index.
///
/// # Errors
///
/// Those of netlink.
pub fn links(socket: &mut Socket) -> io::Result<HashMap<u32, Link>> {
    socket.dump(GETLINK, &[0; IFINFOMSG], |links: &mut HashMap<u32, Link>, payload| {
        if let Some(link) = link(payload) {
            links.insert(link.index, link);
        }
    })
}

pub(super) fn link(payload: &[u8]) -> Option<Link> {
    let mut link = Link {
        hardware: u16_at(payload, 2)?,
        index: u32_at(payload, 4)?,
        flags: u32_at(payload, 8)?,
        ..Link::default()
    };
    for (kind, value) in attributes(payload.get(IFINFOMSG..)?) {
        match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_MASTER => link.master = u32_at(value, 0).unwrap_or(0),
            IFLA_LINK_NETNSID => link.peer_elsewhere = i32_at(value, 0).is_some_and(|id| id >= 0),
            IFLA_LINKINFO => {
                if let Some((_, kind)) = attributes(value).find(|(kind, _)| *kind == IFLA_INFO_KIND) {
                    link.kind = text(kind);
                }
            }
            _ => (),
        }
    }
    Some(link)
}

/// Links with a global address in a prefix that others share: shorter than /31, or /127.
///
/// # Errors
///
/// Those of netlink.
pub fn shared_prefixes(socket: &mut Socket) -> io::Result<HashSet<u32>> {
    socket.dump(GETADDR, &[0; IFADDRMSG], shared_prefix)
}

pub(super) fn shared_prefix(found: &mut HashSet<u32>, payload: &[u8]) {
    let (Some([family, prefix, _, scope]), Some(index)) = (payload.get(..4), u32_at(payload, 4)) else { return };
    let longest = if *family == AF_INET { 31 } else { 127 };
    if *prefix < longest && *scope == RT_SCOPE_UNIVERSE {
        found.insert(index);
    }
}

/// Links that a default route of the main table leaves by.
///
/// # Errors
///
/// Those of netlink.
pub fn default_routes(socket: &mut Socket) -> io::Result<HashSet<u32>> {
    socket.dump(GETROUTE, &[0; RTMSG], |found: &mut HashSet<u32>, payload| found.extend(default_route(payload)))
}

/// Whether a message about a route can be about a default route of the main table.
pub fn is_default(payload: &[u8]) -> bool {
    let table = attributes(payload.get(RTMSG..).unwrap_or_default())
        .find(|(kind, _)| *kind == RTA_TABLE)
        .and_then(|(_, value)| u32_at(value, 0))
        .or_else(|| payload.get(4).copied().map(u32::from));
    payload.get(1) == Some(&0) && payload.get(7) == Some(&RTN_UNICAST) && table == Some(RT_TABLE_MAIN)
}

pub(super) fn default_route(payload: &[u8]) -> Vec<u32> {
    let mut by = Vec::new();
    if !is_default(payload) {
        return by;
    }
    for (kind, value) in attributes(payload.get(RTMSG..).unwrap_or_default()) {
        match kind {
            RTA_OIF => by.extend(u32_at(value, 0)),
            RTA_MULTIPATH => {
                let mut rest = value;
                while let (Some(len), Some(index)) = (u16_at(rest, 0), u32_at(rest, 4)) {
                    by.push(index);
                    let len = usize::from(len).max(NEXTHOP).next_multiple_of(4);
                    rest = rest.get(len..).unwrap_or_default();
                }
            }
            _ => (),
        }
    }
    by
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::netlink::put;

    fn route(prefix: u8, table: u8) -> Vec<u8> {
        vec![AF_INET, prefix, 0, 0, table, 4, 0, RTN_UNICAST, 0, 0, 0, 0]
    }

    #[test]
    fn default_routes_of_the_main_table_alone() {
        let mut plain = route(0, 254);
        put(&mut plain, RTA_OIF, &7_u32.to_ne_bytes());
        assert_eq!(default_route(&plain), [7]);
        let mut narrow = route(24, 254);
        put(&mut narrow, RTA_OIF, &7_u32.to_ne_bytes());
        assert!(default_route(&narrow).is_empty());
        let mut other = route(0, 252);
        put(&mut other, RTA_TABLE, &1000_u32.to_ne_bytes());
        put(&mut other, RTA_OIF, &7_u32.to_ne_bytes());
        assert!(default_route(&other).is_empty());
    }

    #[test]
    fn every_next_hop_counts() {
        let mut hops = Vec::new();
        for index in [3_u32, 4] {
            hops.extend_from_slice(&8_u16.to_ne_bytes());
            hops.extend_from_slice(&[0, 0]);
            hops.extend_from_slice(&index.to_ne_bytes());
        }
        let mut multipath = route(0, 254);
        put(&mut multipath, RTA_MULTIPATH, &hops);
        assert_eq!(default_route(&multipath), [3, 4]);
    }

    #[test]
    fn a_message_that_is_cut_says_nothing() {
        assert!(default_route(&[2, 0, 0]).is_empty());
        assert!(link(&[0; 5]).is_none());
    }
}
