//! Connection tracking over netlink (`include/uapi/linux/netfilter/nfnetlink_conntrack.h`): TCP entries,
//! statistics, and the requests for them.

use super::attributes::{attributes, be16_at, be32_at, bytes_at, find, put, put_nested};
use super::{INET, INET6, NFGENMSG, TCP, nfgenmsg};
use crate::capture::observation::NatEntry;
use crate::capture::tuple::{Addr, Endpoint, Tuple};

/// `NFNL_SUBSYS_CTNETLINK`, in the place where a message's type has it.
const SUBSYSTEM: u16 = 1 << 8;
/// `IPCTNL_MSG_CT_NEW`: an entry, in an answer.
pub const ENTRY: u16 = SUBSYSTEM;
/// `IPCTNL_MSG_CT_GET`: one entry, or a dump of them.
pub const GET: u16 = SUBSYSTEM | 1;
/// `IPCTNL_MSG_CT_GET_STATS_CPU`: a dump of counters, a message for each CPU.
pub const GET_STATS_CPU: u16 = SUBSYSTEM | 4;
/// `IPCTNL_MSG_CT_GET_STATS`: the table's size and limit.
pub const GET_STATS: u16 = SUBSYSTEM | 5;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_PROTOINFO: u16 = 4;
const CTA_MARK: u16 = 8;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;

const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_TUPLE_ZONE: u16 = 3;

const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;

const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_STATE: u16 = 1;

const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
/// What of the tuple a filter looks at (`CTA_FILTER_F_*`, `net/netfilter/nf_internals.h`).
const BY_SOURCE: u32 = 1 << 0;
const BY_PROTOCOL: u32 = 1 << 3;
const BY_SOURCE_PORT: u32 = 1 << 4;

const CTA_STATS_INSERT_FAILED: u16 = 9;
const CTA_STATS_DROP: u16 = 10;
const CTA_STATS_EARLY_DROP: u16 = 11;
const CTA_STATS_GLOBAL_ENTRIES: u16 = 1;
const CTA_STATS_GLOBAL_MAX_ENTRIES: u16 = 2;

/// A TCP connection's state as conntrack has it (`enum tcp_conntrack`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct State(pub u8);

impl State {
    /// `TCP_CONNTRACK_ESTABLISHED`.
    pub const ESTABLISHED: Self = Self(3);
    /// `TCP_CONNTRACK_TIME_WAIT`.
    pub const TIME_WAIT: Self = Self(7);
    /// `TCP_CONNTRACK_CLOSE`.
    pub const CLOSE: Self = Self(8);

    /// Whether the connection has been established, and perhaps ended since.
    pub fn was_established(self) -> bool {
        self >= Self::ESTABLISHED && self <= Self::CLOSE
    }

    /// Whether both ends are done with it, as far as can be seen.
    pub fn is_over(self) -> bool {
        self == Self::TIME_WAIT || self == Self::CLOSE
    }
}

/// A TCP entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its tuples, zone and mark.
    pub nat: NatEntry,
    /// Its state, where the kernel tells it.
    pub state: Option<State>,
}

/// Reads an entry; none if it is no TCP entry, or makes no sense.
pub fn entry(payload: &[u8]) -> Option<Entry> {
    let (mut original, mut reply) = (None, None);
    let (mut zone, mut mark, mut state) = (0, 0, None);
    for (kind, value) in attributes(payload.get(NFGENMSG..)?) {
        match kind {
            CTA_TUPLE_ORIG => {
                original = Some(tuple(value)?);
                // A zone of one direction stands in its tuple.
                zone = find(value, CTA_TUPLE_ZONE).and_then(|v| be16_at(v, 0)).unwrap_or(zone);
            }
            CTA_TUPLE_REPLY => reply = Some(tuple(value)?),
            CTA_MARK => mark = be32_at(value, 0)?,
            CTA_ZONE => zone = be16_at(value, 0)?,
            CTA_PROTOINFO => {
                state = find(value, CTA_PROTOINFO_TCP)
                    .and_then(|tcp| find(tcp, CTA_PROTOINFO_TCP_STATE))
                    .and_then(|v| v.first().copied())
                    .map(State);
            }
            _ => (),
        }
    }
    Some(Entry { nat: NatEntry { original: original?, reply: reply?, zone, mark }, state })
}

/// Reads a tuple; none unless it is one of TCP.
fn tuple(value: &[u8]) -> Option<Tuple> {
    let (mut source, mut destination) = (None, None);
    for (kind, value) in attributes(find(value, CTA_TUPLE_IP)?) {
        match kind {
            CTA_IP_V4_SRC => source = Some(v4(value)?),
            CTA_IP_V4_DST => destination = Some(v4(value)?),
            CTA_IP_V6_SRC => source = Some(Addr(bytes_at(value, 0)?)),
            CTA_IP_V6_DST => destination = Some(Addr(bytes_at(value, 0)?)),
            _ => (),
        }
    }
    let (mut protocol, mut from, mut to) = (None, None, None);
    for (kind, value) in attributes(find(value, CTA_TUPLE_PROTO)?) {
        match kind {
            CTA_PROTO_NUM => protocol = value.first().copied(),
            CTA_PROTO_SRC_PORT => from = be16_at(value, 0),
            CTA_PROTO_DST_PORT => to = be16_at(value, 0),
            _ => (),
        }
    }
    (protocol == Some(TCP) && source?.is_v4() == destination?.is_v4()).then_some(())?;
    Some(Tuple::new(Endpoint { addr: source?, port: from? }, Endpoint { addr: destination?, port: to? }))
}

fn v4(value: &[u8]) -> Option<Addr> {
    bytes_at::<4>(value, 0).map(|bytes| Addr::from(std::net::Ipv4Addr::from(bytes)))
}

fn family(addr: Addr) -> u8 {
    if addr.is_v4() { INET } else { INET6 }
}

fn put_addr(body: &mut Vec<u8>, addr: Addr, v4: u16, v6: u16) {
    if addr.is_v4() { put(body, v4, &addr.0[12..]) } else { put(body, v6, &addr.0) }
}

/// Asks for the entry whose original tuple this is, in a zone ([`GET`]).
pub fn lookup(tuple: Tuple, zone: u16) -> Vec<u8> {
    let mut body = nfgenmsg(family(tuple.src.addr));
    put_nested(&mut body, CTA_TUPLE_ORIG, |body| {
        put_nested(body, CTA_TUPLE_IP, |ip| {
            put_addr(ip, tuple.src.addr, CTA_IP_V4_SRC, CTA_IP_V6_SRC);
            put_addr(ip, tuple.dst.addr, CTA_IP_V4_DST, CTA_IP_V6_DST);
        });
        put_nested(body, CTA_TUPLE_PROTO, |proto| {
            put(proto, CTA_PROTO_NUM, &[TCP]);
            put(proto, CTA_PROTO_SRC_PORT, &tuple.src.port.to_be_bytes());
            put(proto, CTA_PROTO_DST_PORT, &tuple.dst.port.to_be_bytes());
        });
    });
    if zone != 0 {
        put(&mut body, CTA_ZONE, &zone.to_be_bytes());
    }
    body
}

/// Asks for the TCP entries whose answers come from `destination` (a dump by [`GET`]). Kernels before 5.8
/// give all entries of the family.
pub fn towards(destination: Endpoint) -> Vec<u8> {
    let mut body = nfgenmsg(family(destination.addr));
    put_nested(&mut body, CTA_TUPLE_REPLY, |body| {
        put_nested(body, CTA_TUPLE_IP, |ip| put_addr(ip, destination.addr, CTA_IP_V4_SRC, CTA_IP_V6_SRC));
        put_nested(body, CTA_TUPLE_PROTO, |proto| {
            put(proto, CTA_PROTO_NUM, &[TCP]);
            put(proto, CTA_PROTO_SRC_PORT, &destination.port.to_be_bytes());
        });
    });
    // Comparing IPv6 addresses, kernels give what differs (`ctnetlink_filter_match_tuple` takes `ipv6_addr_cmp`
    // for a test of equality): there only the port is compared here, and the address by whoever asks.
    let by_address = if destination.addr.is_v4() { BY_SOURCE } else { 0 };
    let flags = by_address | BY_PROTOCOL | BY_SOURCE_PORT;
    put_nested(&mut body, CTA_FILTER, |filter| put(filter, CTA_FILTER_REPLY_FLAGS, &flags.to_ne_bytes()));
    body
}

/// Asks for all TCP entries of a family (a dump by [`GET`]). Kernels before 5.8 give all entries of it.
pub fn all(v6: bool) -> Vec<u8> {
    let mut body = nfgenmsg(if v6 { INET6 } else { INET });
    put_nested(&mut body, CTA_TUPLE_ORIG, |body| {
        put_nested(body, CTA_TUPLE_PROTO, |proto| put(proto, CTA_PROTO_NUM, &[TCP]));
    });
    put_nested(&mut body, CTA_FILTER, |filter| put(filter, CTA_FILTER_ORIG_FLAGS, &BY_PROTOCOL.to_ne_bytes()));
    body
}

/// Asks for what has no parameters.
pub fn plain() -> Vec<u8> {
    nfgenmsg(0)
}

/// One CPU's counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuStats {
    /// Entries that could not be inserted.
    pub insert_failed: u32,
    /// Packets dropped.
    pub drop: u32,
    /// Entries ended early to make room.
    pub early_drop: u32,
}

/// Reads one CPU's counters ([`GET_STATS_CPU`]); what is not told is 0.
pub fn cpu_stats(payload: &[u8]) -> CpuStats {
    let mut stats = CpuStats::default();
    for (kind, value) in attributes(payload.get(NFGENMSG..).unwrap_or_default()) {
        let value = be32_at(value, 0).unwrap_or(0);
        match kind {
            CTA_STATS_INSERT_FAILED => stats.insert_failed = value,
            CTA_STATS_DROP => stats.drop = value,
            CTA_STATS_EARLY_DROP => stats.early_drop = value,
            _ => (),
        }
    }
    stats
}

/// Reads the table's size and, from kernel 5.0 on, its limit ([`GET_STATS`]).
pub fn table(payload: &[u8]) -> (Option<u32>, Option<u32>) {
    let body = payload.get(NFGENMSG..).unwrap_or_default();
    let number = |kind| find(body, kind).and_then(|value| be32_at(value, 0));
    (number(CTA_STATS_GLOBAL_ENTRIES), number(CTA_STATS_GLOBAL_MAX_ENTRIES))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addr() -> impl Strategy<Value = Addr> {
        prop_oneof![
            any::<[u8; 4]>().prop_map(|b| Addr::from(std::net::Ipv4Addr::from(b))),
            any::<[u8; 16]>().prop_map(|mut b| {
                b[0] = 0xfd;
                Addr(b)
            }),
        ]
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (entry(&bytes), cpu_stats(&bytes), table(&bytes));
        }

        /// A request holds the tuple as the kernel writes it in an entry.
        #[test]
        fn a_tuple_survives_a_round(src in addr(), dst in addr(), from: u16, to: u16, zone: u16, cut in 0_usize..200) {
            prop_assume!(src.is_v4() == dst.is_v4());
            let asked = Tuple::new(Endpoint { addr: src, port: from }, Endpoint { addr: dst, port: to });
            let request = lookup(asked, zone);
            let body = &request[NFGENMSG..];
            prop_assert_eq!(find(body, CTA_TUPLE_ORIG).and_then(tuple), Some(asked));
            prop_assert_eq!(find(body, CTA_ZONE).and_then(|v| be16_at(v, 0)).unwrap_or(0), zone);
            // An entry as the kernel sends it: both tuples, zone, mark.
            let mut answer = request.clone();
            let back = lookup(asked.reversed(), 0);
            put_nested(&mut answer, CTA_TUPLE_REPLY, |body| {
                body.extend_from_slice(find(&back[NFGENMSG..], CTA_TUPLE_ORIG).unwrap());
            });
            put(&mut answer, CTA_MARK, &7_u32.to_be_bytes());
            let read = entry(&answer).unwrap();
            prop_assert_eq!(read.nat, NatEntry { original: asked, reply: asked.reversed(), zone, mark: 7 });
            prop_assert_eq!(read.nat.translated(), asked);
            let _ = entry(&answer[..cut.min(answer.len())]);
        }
    }

    #[test]
    fn states_in_the_kernels_order() {
        assert!(!State(1).was_established() && !State(2).was_established() && !State(9).was_established());
        assert!(State(3).was_established() && !State(3).is_over() && State(7).is_over() && State(8).is_over());
    }
}
