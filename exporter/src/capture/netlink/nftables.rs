//! Rules of nftables (`include/uapi/linux/netfilter/nf_tables.h`): those that translate source addresses,
//! and the ports that they give out. Rules written by iptables (its nft variant) come the same way.

use std::collections::HashMap;

use super::attributes::{attributes, be16_at, be32_at, bytes_at, find, text, u32_at};
use super::{INET, INET6, NFGENMSG};
use crate::capture::tuple::Addr;

/// `NFNL_SUBSYS_NFTABLES`, in the place where a message's type has it.
const SUBSYSTEM: u16 = 10 << 8;
/// `NFT_MSG_GETRULE`.
pub const GET_RULE: u16 = SUBSYSTEM | 7;
/// `NFT_MSG_GETGEN`: the number of the rule set in force.
pub const GET_GENERATION: u16 = SUBSYSTEM | 16;

const NFTA_GEN_ID: u16 = 1;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_MASQ_PROTO_MIN: u16 = 2;
const NFTA_MASQ_PROTO_MAX: u16 = 3;
const NFTA_NAT_TYPE: u16 = 1;
const NFTA_NAT_ADDR_MIN: u16 = 3;
const NFTA_NAT_ADDR_MAX: u16 = 4;
const NFTA_NAT_PROTO_MIN: u16 = 5;
const NFTA_NAT_PROTO_MAX: u16 = 6;
const NFT_NAT_SNAT: u32 = 0;
const NFTA_TARGET_NAME: u16 = 1;
const NFTA_TARGET_INFO: u16 = 3;
/// `NFPROTO_INET`: both families.
const BOTH: u8 = 1;

/// `NF_NAT_RANGE_MAP_IPS`.
const MAPS_ADDRESSES: u32 = 1 << 0;
/// `NF_NAT_RANGE_PROTO_SPECIFIED`.
const NAMES_PORTS: u32 = 1 << 1;
/// Bytes of `struct nf_nat_ipv4_multi_range_compat` with its one range.
const RANGE_V4: usize = 20;
/// Bytes of `struct nf_nat_range`; `nf_nat_range2` has more behind.
const RANGE: usize = 40;

/// The ports that a rule gives out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ports {
    /// It names none: netfilter keeps the port if it is free, else one of 1024 to 65535 (of 1 to 511 or
    /// 600 to 1023 for a port below 512 or 1024).
    Any,
    /// From the first to the last.
    Range(u16, u16),
    /// They are looked up in a map, or could not be read.
    Unknown,
}

/// A rule that translates source addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SourceNat {
    /// For IPv4 packets.
    pub v4: bool,
    /// For IPv6 packets.
    pub v6: bool,
    /// The addresses that it gives out, first and last; none where it is the interface's, or not known.
    pub addresses: Option<(Addr, Addr)>,
    /// The ports that it gives out.
    pub ports: Ports,
}

impl SourceNat {
    /// Whether a connection that left by an address can have been translated by this rule.
    pub fn may_give(&self, egress: Addr) -> bool {
        let family = if egress.is_v4() { self.v4 } else { self.v6 };
        family && self.addresses.is_none_or(|(first, last)| first <= egress && egress <= last)
    }
}

/// Asks for the rules of all tables of both families (a dump by [`GET_RULE`]), or for the generation.
pub fn plain() -> Vec<u8> {
    super::nfgenmsg(0)
}

/// Reads the number of the rule set in force.
pub fn generation(payload: &[u8]) -> Option<u32> {
    find(payload.get(NFGENMSG..)?, NFTA_GEN_ID).and_then(|value| be32_at(value, 0))
}

/// Reads a rule; none if it translates no source addresses.
pub fn source_nat(payload: &[u8]) -> Option<SourceNat> {
    let family = *payload.first()?;
    let (v4, v6) = (family == INET || family == BOTH, family == INET6 || family == BOTH);
    let mut registers: HashMap<u32, &[u8]> = HashMap::new();
    for (_, expression) in attributes(find(payload.get(NFGENMSG..)?, NFTA_RULE_EXPRESSIONS)?) {
        let name = find(expression, NFTA_EXPR_NAME).map(text).unwrap_or_default();
        let data = find(expression, NFTA_EXPR_DATA).unwrap_or_default();
        let value = |kind| register(data, kind).and_then(|number| registers.get(&number).copied());
        let ports = |min, max| match (register(data, min), value(min).map(|v| be16_at(v, 0))) {
            (None, _) => Ports::Any,
            (_, Some(Some(first))) => match value(max).map_or(Some(first), |v| be16_at(v, 0)) {
                Some(last) => Ports::Range(first, last),
                None => Ports::Unknown,
            },
            _ => Ports::Unknown,
        };
        match name.as_str() {
            "immediate" => {
                let constant = find(data, NFTA_IMMEDIATE_DATA).and_then(|data| find(data, NFTA_DATA_VALUE));
                if let (Some(register), Some(constant)) = (register(data, NFTA_IMMEDIATE_DREG), constant) {
                    registers.insert(register, constant);
                }
            }
            "masq" => {
                let ports = ports(NFTA_MASQ_PROTO_MIN, NFTA_MASQ_PROTO_MAX);
                return Some(SourceNat { v4, v6, addresses: None, ports });
            }
            "nat" => {
                let kind = find(data, NFTA_NAT_TYPE).and_then(|value| be32_at(value, 0));
                if kind != Some(NFT_NAT_SNAT) {
                    return None;
                }
                let first = value(NFTA_NAT_ADDR_MIN).and_then(address);
                let last = value(NFTA_NAT_ADDR_MAX).and_then(address).or(first);
                let ports = ports(NFTA_NAT_PROTO_MIN, NFTA_NAT_PROTO_MAX);
                return Some(SourceNat { v4, v6, addresses: first.zip(last), ports });
            }
            "target" => {
                let target = find(data, NFTA_TARGET_NAME).map(text).unwrap_or_default();
                if !matches!(target.as_str(), "MASQUERADE" | "SNAT") {
                    continue;
                }
                let (addresses, ports) = find(data, NFTA_TARGET_INFO).and_then(range).unwrap_or((None, Ports::Unknown));
                return Some(SourceNat { v4, v6, addresses, ports });
            }
            // These leave the registers alone.
            "cmp" | "range" | "counter" | "limit" | "quota" | "log" | "match" => (),
            _ => registers.clear(),
        }
    }
    None
}

fn register(data: &[u8], kind: u16) -> Option<u32> {
    find(data, kind).and_then(|value| be32_at(value, 0))
}

fn address(value: &[u8]) -> Option<Addr> {
    match value.len() {
        4 => bytes_at::<4>(value, 0).map(|bytes| std::net::Ipv4Addr::from(bytes).into()),
        16 => bytes_at(value, 0).map(Addr),
        _ => None,
    }
}

/// What an iptables target holds, by its length: `nf_nat_ipv4_multi_range_compat`, `nf_nat_range` or
/// `nf_nat_range2`.
fn range(info: &[u8]) -> Option<(Option<(Addr, Addr)>, Ports)> {
    let (flags, first, last, port) = if info.len() >= RANGE {
        (u32_at(info, 0)?, info.get(4..20)?, info.get(20..36)?, 36)
    } else if info.len() >= RANGE_V4 && u32_at(info, 0) == Some(1) {
        (u32_at(info, 4)?, info.get(8..12)?, info.get(12..16)?, 16)
    } else {
        return None;
    };
    let ports = match flags & NAMES_PORTS {
        0 => Ports::Any,
        _ => Ports::Range(be16_at(info, port)?, be16_at(info, port + 2)?),
    };
    let v4_in_range = info.len() >= RANGE && first[4..].iter().all(|b| *b == 0);
    let end = |bytes: &[u8]| address(if v4_in_range { &bytes[..4] } else { bytes });
    let addresses = if flags & MAPS_ADDRESSES == 0 { None } else { end(first).zip(end(last)) };
    Some((addresses, ports))
}

/// The one range that connections leaving by an address can have: none if there is no rule, or several
/// that differ, or one whose ports are not known. Where no port is named it is 1024 to 65535, which
/// holds for clients' ports from 1024 on.
pub fn range_in_force(rules: &[SourceNat], egress: Addr) -> Option<(u16, u16)> {
    let mut found = None;
    for rule in rules.iter().filter(|rule| rule.may_give(egress)) {
        let range = match rule.ports {
            Ports::Any => (1024, u16::MAX),
            Ports::Range(first, last) if first <= last => (first, last),
            Ports::Range(..) | Ports::Unknown => return None,
        };
        if *found.get_or_insert(range) != range {
            return None;
        }
    }
    found
}

/// Whether a list of `/proc/net/ip_tables_names` or `ip6_tables_names` names a table that translates:
/// rules of iptables' older variant, which are not told by netlink.
pub fn has_old_nat(names: &str) -> bool {
    names.lines().any(|name| name.trim() == "nat")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::capture::netlink::{put, put_nested};

    type Fill<'a> = &'a dyn Fn(&mut Vec<u8>);

    fn rule(family: u8, expressions: &[(&str, Fill<'_>)]) -> Vec<u8> {
        let mut body = vec![family, 0, 0, 0];
        put(&mut body, 1, b"n\0");
        put_nested(&mut body, NFTA_RULE_EXPRESSIONS, |list| {
            for (name, fill) in expressions {
                put_nested(list, 1, |expression| {
                    put(expression, NFTA_EXPR_NAME, format!("{name}\0").as_bytes());
                    put_nested(expression, NFTA_EXPR_DATA, |data| fill(data));
                });
            }
        });
        body
    }

    fn immediate(data: &mut Vec<u8>, register: u32, value: &[u8]) {
        put(data, NFTA_IMMEDIATE_DREG, &register.to_be_bytes());
        put_nested(data, NFTA_IMMEDIATE_DATA, |inner| put(inner, NFTA_DATA_VALUE, value));
    }

    fn numbers(data: &mut Vec<u8>, numbers: &[(u16, u32)]) {
        numbers.iter().for_each(|(kind, number)| put(data, *kind, &number.to_be_bytes()));
    }

    #[test]
    fn ranges_of_masquerade_and_snat() {
        let plain = source_nat(&rule(2, &[("counter", &|_| ()), ("masq", &|_| ())])).unwrap();
        assert_eq!((plain.ports, plain.v4, plain.v6), (Ports::Any, true, false));
        let narrow = source_nat(&rule(
            1,
            &[
                ("immediate", &|d| immediate(d, 1, &20_000_u16.to_be_bytes())),
                ("immediate", &|d| immediate(d, 2, &20_009_u16.to_be_bytes())),
                ("masq", &|d| numbers(d, &[(NFTA_MASQ_PROTO_MIN, 1), (NFTA_MASQ_PROTO_MAX, 2)])),
            ],
        ))
        .unwrap();
        assert_eq!((narrow.ports, narrow.v4, narrow.v6), (Ports::Range(20_000, 20_009), true, true));
        let snat = source_nat(&rule(
            2,
            &[
                ("immediate", &|d| immediate(d, 1, &[5, 6, 7, 8])),
                ("immediate", &|d| immediate(d, 2, &[3, 232])),
                ("nat", &|d| {
                    numbers(d, &[(NFTA_NAT_TYPE, 0), (NFTA_NAT_ADDR_MIN, 1), (NFTA_NAT_PROTO_MIN, 2)]);
                }),
            ],
        ))
        .unwrap();
        assert_eq!(snat.ports, Ports::Range(1000, 1000));
        let own = Addr::from(std::net::Ipv4Addr::new(5, 6, 7, 8));
        let other = Addr::from(std::net::Ipv4Addr::new(5, 6, 7, 9));
        assert!(snat.may_give(own) && !snat.may_give(other));
        assert_eq!(range_in_force(&[plain, snat], other), Some((1024, 65535)));
        assert_eq!(range_in_force(&[plain, snat], own), None, "two that differ");
        assert_eq!(range_in_force(&[], own), None);
        assert_eq!(source_nat(&rule(2, &[("nat", &|d| numbers(d, &[(NFTA_NAT_TYPE, 1)]))])), None, "DNAT");
    }

    #[test]
    fn a_port_from_a_map_is_not_known() {
        let mapped = source_nat(&rule(
            2,
            &[
                ("immediate", &|d| immediate(d, 1, &[3, 232])),
                ("lookup", &|_| ()),
                ("nat", &|d| numbers(d, &[(NFTA_NAT_TYPE, 0), (NFTA_NAT_PROTO_MIN, 1)])),
            ],
        ))
        .unwrap();
        assert_eq!(mapped.ports, Ports::Unknown);
        assert_eq!(range_in_force(&[mapped], Addr::from(std::net::Ipv4Addr::LOCALHOST)), None);
    }

    #[test]
    fn targets_of_iptables() {
        let target = |name: &'static str, info: Vec<u8>| {
            source_nat(&rule(
                2,
                &[("target", &move |d| {
                    put(d, NFTA_TARGET_NAME, format!("{name}\0").as_bytes());
                    put(d, NFTA_TARGET_INFO, &info);
                })],
            ))
        };
        let mut old = [1_u32.to_ne_bytes(), 2_u32.to_ne_bytes(), [0; 4], [0; 4]].concat();
        old.extend([3000_u16.to_be_bytes(), 4000_u16.to_be_bytes()].concat());
        assert_eq!(target("MASQUERADE", old).unwrap().ports, Ports::Range(3000, 4000));
        let mut new = 3_u32.to_ne_bytes().to_vec();
        for last in [4, 6] {
            new.extend([5, 6, 7, last, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        new.extend([3000_u16.to_be_bytes(), 4000_u16.to_be_bytes()].concat());
        let snat = target("SNAT", new).unwrap();
        assert_eq!(snat.ports, Ports::Range(3000, 4000));
        assert!(snat.may_give(Addr::from(std::net::Ipv4Addr::new(5, 6, 7, 5))));
        assert!(!snat.may_give(Addr::from(std::net::Ipv4Addr::new(5, 6, 7, 7))));
        assert_eq!(target("SNAT", vec![1, 2, 3]).unwrap().ports, Ports::Unknown);
        assert_eq!(target("REDIRECT", vec![]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (source_nat(&bytes), generation(&bytes), range(&bytes));
        }

        #[test]
        fn what_is_cut_does_no_harm(cut in 0_usize..200) {
            let whole = rule(2, &[
                ("immediate", &|d| immediate(d, 1, &[3, 232])),
                ("masq", &|d| numbers(d, &[(NFTA_MASQ_PROTO_MIN, 1)])),
            ]);
            let _ = source_nat(&whole[..cut.min(whole.len())]);
        }
    }
}
