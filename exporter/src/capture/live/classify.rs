//! What an interface is to the node, from what the kernel says of it.

use std::collections::{HashMap, HashSet};

use super::options::InterfaceRules;
use crate::capture::observation::PointKind;

/// `ARPHRD_ETHER`.
const ETHERNET: u16 = 1;
/// `IFF_LOOPBACK`.
const LOOPBACK: u32 = 0x8;

/// Kinds of tunnel device (`IFLA_INFO_KIND`).
const OVERLAYS: [&str; 12] = [
    "vxlan",
    "geneve",
    "ipip",
    "sit",
    "gre",
    "gretap",
    "erspan",
    "ip6gre",
    "ip6gretap",
    "ip6tnl",
    "wireguard",
    "bareudp",
];

/// A link as rtnetlink describes it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its kind of virtual device, empty for a physical one.
    pub kind: String,
    /// Its hardware type (`ARPHRD_*`).
    pub hardware: u16,
    /// Its flags (`IFF_*`).
    pub flags: u32,
    /// The bridge or bond it belongs to, 0 if none.
    pub master: u32,
    /// Whether its other end (of a veth) is in another network namespace.
    pub peer_elsewhere: bool,
}

/// The tables of the network namespace that a judgement rests on.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// All links, by index.
    pub links: HashMap<u32, Link>,
    /// Links that a default route of the main table leaves by, of either family.
    pub default_routes: HashSet<u32>,
    /// Links with a global address whose on-link prefix others share: shorter than /31, or /127.
    pub shared_prefixes: HashSet<u32>,
}

/// What a link is to the node, none if it is not to be watched.
///
/// The names in the configuration go first, then: tunnels; what a default route leaves by, or a
/// physical device that is no part of a bond; the host side of a veth or netkit pair. In a namespace
/// without any default route a veth with an address in a shared prefix leads out.
pub fn classify(link: &Link, tables: &Tables, rules: &InterfaceRules) -> Option<PointKind> {
    let named = |patterns: &[String]| patterns.iter().any(|p| matches(p, &link.name));
    if named(&rules.ignore) {
        return None;
    }
    for (patterns, kind) in [
        (&rules.pod_nic, PointKind::PodNic),
        (&rules.node_nic, PointKind::NodeNic),
        (&rules.overlay, PointKind::Overlay),
    ] {
        if named(patterns) {
            return Some(kind);
        }
    }
    if link.flags & LOOPBACK != 0 {
        return None;
    }
    if OVERLAYS.contains(&link.kind.as_str()) {
        return Some(PointKind::Overlay);
    }
    if tables.default_routes.contains(&link.index) {
        return Some(PointKind::NodeNic);
    }
    if link.kind.is_empty() && link.hardware == ETHERNET {
        let bonded = tables.links.get(&link.master).is_some_and(|m| m.kind == "bond" || m.kind == "team");
        return (!bonded).then_some(PointKind::NodeNic);
    }
    if matches!(link.kind.as_str(), "veth" | "netkit") && link.peer_elsewhere {
        let leads_out = tables.default_routes.is_empty() && tables.shared_prefixes.contains(&link.index);
        return Some(if leads_out { PointKind::NodeNic } else { PointKind::PodNic });
    }
    None
}

/// Whether `name` is matched by `pattern`, in which `*` stands for any characters and `?` for one.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where the last star was, and how far it has eaten.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, eaten)) = star else { return false };
                star = Some((at, eaten + 1));
                p = at + 1;
                n = eaten + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, kind: &str) -> Link {
        Link { index, name: name.into(), kind: kind.into(), hardware: ETHERNET, ..Link::default() }
    }

    fn veth(index: u32, name: &str) -> Link {
        Link { peer_elsewhere: true, ..link(index, name, "veth") }
    }

    fn tables(links: &[Link], default_routes: &[u32], shared: &[u32]) -> Tables {
        Tables {
            links: links.iter().map(|l| (l.index, l.clone())).collect(),
            default_routes: default_routes.iter().copied().collect(),
            shared_prefixes: shared.iter().copied().collect(),
        }
    }

    #[test]
    fn a_node_with_a_physical_card() {
        let all = [
            Link { flags: LOOPBACK, hardware: 772, ..link(1, "lo", "") },
            link(2, "eth0", ""),
            veth(3, "veth1"),
            link(4, "vethx", "veth"),
            link(5, "cni0", "bridge"),
            link(6, "flannel.1", "vxlan"),
            Link { hardware: 65534, ..link(7, "wg0", "wireguard") },
            link(8, "tap0", "tun"),
            Link { hardware: 768, ..link(9, "tunl0", "ipip") },
            link(10, "dummy0", "dummy"),
        ];
        let tables = tables(&all, &[2], &[2, 5]);
        let rules = InterfaceRules::default();
        let kinds: Vec<_> = all.iter().map(|l| classify(l, &tables, &rules)).collect();
        use PointKind::{NodeNic, Overlay, PodNic};
        assert_eq!(
            kinds,
            [None, Some(NodeNic), Some(PodNic), None, None, Some(Overlay), Some(Overlay), None, Some(Overlay), None]
        );
    }

    #[test]
    fn a_default_route_makes_a_veth_or_a_bridge_lead_out() {
        let all = [veth(2, "up"), veth(3, "pod"), link(4, "br0", "bridge")];
        let rules = InterfaceRules::default();
        let by_veth = tables(&all, &[2], &[2, 3]);
        assert_eq!(classify(&all[0], &by_veth, &rules), Some(PointKind::NodeNic));
        assert_eq!(classify(&all[1], &by_veth, &rules), Some(PointKind::PodNic));
        let by_bridge = tables(&all, &[4], &[4]);
        assert_eq!(classify(&all[0], &by_bridge, &rules), Some(PointKind::PodNic));
        assert_eq!(classify(&all[2], &by_bridge, &rules), Some(PointKind::NodeNic));
    }

    #[test]
    fn without_a_default_route_a_shared_prefix_decides() {
        let all = [veth(2, "up"), veth(3, "pod")];
        let tables = tables(&all, &[], &[2]);
        let rules = InterfaceRules::default();
        assert_eq!(classify(&all[0], &tables, &rules), Some(PointKind::NodeNic));
        assert_eq!(classify(&all[1], &tables, &rules), Some(PointKind::PodNic));
    }

    #[test]
    fn the_parts_of_a_bond_are_left_to_the_bond() {
        let all = [
            link(2, "bond0", "bond"),
            Link { master: 2, ..link(3, "eth0", "") },
            link(4, "br0", "bridge"),
            Link { master: 4, ..link(5, "eth1", "") },
        ];
        let tables = tables(&all, &[2], &[2]);
        let rules = InterfaceRules::default();
        let kinds: Vec<_> = all.iter().map(|l| classify(l, &tables, &rules)).collect();
        assert_eq!(kinds, [Some(PointKind::NodeNic), None, None, Some(PointKind::NodeNic)]);
    }

    #[test]
    fn names_in_the_configuration_go_first() {
        let all = [link(2, "eth0", ""), link(3, "tap7", "tun"), veth(4, "veth1")];
        let tables = tables(&all, &[2], &[]);
        let rules = InterfaceRules {
            pod_nic: vec!["tap*".into()],
            overlay: vec!["veth?".into()],
            ignore: vec!["eth0".into()],
            ..InterfaceRules::default()
        };
        let kinds: Vec<_> = all.iter().map(|l| classify(l, &tables, &rules)).collect();
        assert_eq!(kinds, [None, Some(PointKind::PodNic), Some(PointKind::Overlay)]);
    }

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("*", "", true),
            ("*", "x", true),
            ("", "", true),
            ("", "x", false),
            ("cali*", "cali1234", true),
            ("*.1", "flannel.1", true),
            ("*.1", "flannel.10", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxcyyb", false),
            ("e?h*", "eth0", true),
            ("??", "e", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
