//! What to build, as data, and the addresses that follow from it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::error::{Result, lab};

/// An IP family.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, PartialOrd, Ord)]
#[serde(into = "u8", try_from = "u8")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    /// The address that stands for all of a host's.
    pub fn any(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// The word of nftables for its header.
    pub fn nft(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }
}

impl From<Family> for u8 {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => 4,
            Family::V6 => 6,
        }
    }
}

impl TryFrom<u8> for Family {
    type Error = String;
    fn try_from(number: u8) -> std::result::Result<Self, String> {
        match number {
            4 => Ok(Self::V4),
            6 => Ok(Self::V6),
            _ => Err(format!("{number} is no IP family: 4 or 6")),
        }
    }
}

impl std::str::FromStr for Family {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        text.parse::<u8>().map_err(|_| format!("{text} is no IP family: 4 or 6"))?.try_into()
    }
}

/// Nodes, their pods, and servers outside. A router stands between them all.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// One or two nodes.
    pub nodes: Vec<Node>,
    /// Hosts behind the router that are on no node.
    #[serde(default = "one_server")]
    pub servers: Vec<String>,
    /// Service addresses: nobody has them, and a node's rules translate them.
    #[serde(default)]
    pub services: Vec<String>,
}

fn one_server() -> Vec<String> {
    vec!["server".into()]
}

/// A node: a network namespace, a cgroup subtree, an agent.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Pods that are there from the start.
    #[serde(default)]
    pub pods: Vec<String>,
    /// Pods that a step starts later.
    #[serde(default)]
    pub late_pods: Vec<String>,
    /// Processes on the node's own network; the name is that of the executable.
    #[serde(default)]
    pub processes: Vec<String>,
    /// Source translation of what its pods send out.
    #[serde(default)]
    pub masquerade: Option<Masquerade>,
    /// Whether a step starts its agent, not the set-up.
    #[serde(default)]
    pub late_agent: bool,
    /// Whether its pods hang at a bridge, which is their gateway, and not each at a route of its own.
    #[serde(default)]
    pub bridge: bool,
}

/// Source translation to the node's address.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, Default)]
#[serde(deny_unknown_fields)]
pub struct Masquerade {
    /// A port or a range, `46994` or `20000-20999`; the kernel's choice without.
    #[serde(default)]
    pub ports: Option<String>,
    /// `masquerade ... fully-random`.
    #[serde(default)]
    pub fully_random: bool,
    /// Whether connections between the nodes' pods are translated too.
    #[serde(default)]
    pub between_nodes: bool,
    /// Statements of an nftables chain that come before the general one; `{name}` stands for an address.
    #[serde(default)]
    pub first: Vec<String>,
}

/// Network of all pods.
pub const POD_NETWORKS: [&str; 2] = ["10.244.0.0/16", "fd00:10:244::/48"];
/// Network of all nodes.
pub const NODE_NETWORKS: [&str; 2] = ["192.168.50.0/23", "fd00:192:168::/56"];

impl Topology {
    /// Whether all names differ and are known to be usable as interface and file names.
    pub fn check(&self) -> Result<()> {
        let mut names: Vec<&str> = self.hosts().collect();
        names.extend(self.nodes.iter().flat_map(|node| node.processes.iter().map(String::as_str)));
        names.push("router");
        if self.nodes.is_empty() || self.nodes.len() > 2 {
            return lab("a topology has one node or two");
        }
        for (at, name) in names.iter().enumerate() {
            let fits =
                !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
            if !fits || names[..at].contains(name) {
                return lab(format!("`{name}` is used twice, or is no name of a-z, 0-9 and -"));
            }
        }
        Ok(())
    }

    /// All that have an address: nodes, pods and servers.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        let nodes = self.nodes.iter().flat_map(|node| std::iter::once(&node.name).chain(node.all_pods()));
        nodes.chain(&self.servers).chain(&self.services).map(String::as_str)
    }

    /// The address of a node, pod, process or server.
    pub fn address(&self, name: &str, family: Family) -> Option<IpAddr> {
        for (number, node) in (0u8..).zip(&self.nodes) {
            if node.name == name || node.processes.iter().any(|process| process == name) {
                return Some(node_address(number, family));
            }
            if let Some((pod, _)) = (0u8..).zip(node.all_pods()).find(|(_, pod)| *pod == name) {
                return Some(pod_address(number, pod, family));
            }
        }
        let of = |names: &[String]| (0u8..).zip(names).find(|(_, other)| *other == name).map(|(number, _)| number);
        let server = of(&self.servers).map(|number| server_address(number, family));
        server.or_else(|| of(&self.services).map(|number| service_address(number, family)))
    }

    /// The node with that name, or the one that a pod or process is on, with its number.
    pub fn node_of(&self, name: &str) -> Option<(u8, &Node)> {
        (0u8..).zip(&self.nodes).find(|(_, node)| {
            node.name == name || node.all_pods().any(|pod| pod == name) || node.processes.iter().any(|p| p == name)
        })
    }

    /// Replaces `{name}` by the address of that name, `{name:` by the address and what stands between it and a port
    /// (the closing brace goes too), and `{ip}`, `{nfproto}` by nftables' words for the family.
    pub fn fill(&self, text: &str, family: Family) -> String {
        let nfproto = if family == Family::V4 { "ipv4" } else { "ipv6" };
        let mut text = text.replace("{ip}", family.nft()).replace("{nfproto}", nfproto);
        for name in self.hosts() {
            if let Some(address) = self.address(name, family) {
                text = text.replace(&format!("{{{name}}}"), &address.to_string());
                let with_port = format!("{{{name}:");
                while let Some((before, rest)) = text.split_once(&with_port) {
                    let Some((port, after)) = rest.split_once('}') else { break };
                    let shown = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
                    text = format!("{before}{shown}:{port}{after}");
                }
            }
        }
        text
    }
}

impl Node {
    /// Its pods, the late ones last.
    pub fn all_pods(&self) -> impl Iterator<Item = &String> {
        self.pods.iter().chain(&self.late_pods)
    }
}

/// The address of a node on its uplink.
pub fn node_address(node: u8, family: Family) -> IpAddr {
    uplink(node, 10, family)
}

/// The router's address on a node's uplink.
pub fn router_address(node: u8, family: Family) -> IpAddr {
    uplink(node, 1, family)
}

fn uplink(node: u8, host: u8, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(192, 168, 50 + node, host).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0x192, 0x168, node.into(), 0, 0, 0, u16::from(host)).into(),
    }
}

/// The address of a pod.
pub fn pod_address(node: u8, pod: u8, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 244, 1 + node, 11 + pod).into(),
        // Read aloud both families give the same: pod 0 of node 0 is 10.244.1.11 and fd00:10:244:1::11.
        Family::V6 => Ipv6Addr::new(0xfd00, 0x10, 0x244, u16::from(1 + node), 0, 0, 0, as_read(11 + pod)).into(),
    }
}

/// The address of an outside server; 1 is the router's there.
pub fn server_address(server: u8, family: Family) -> IpAddr {
    outside(20 + server, family)
}

/// A service's address.
pub fn service_address(service: u8, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 96, 0, 10 + service).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, as_read(10 + service)).into(),
    }
}

/// A node's address towards its pods where they hang at a bridge.
pub fn bridge_gateway(node: u8, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 244, 1 + node, 1).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0x10, 0x244, u16::from(1 + node), 0, 0, 0, 1).into(),
    }
}

/// The router's address towards the servers.
pub fn server_gateway(family: Family) -> IpAddr {
    outside(1, family)
}

fn outside(host: u8, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(192, 168, 60, host).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0x192, 0x168, 0x6000, 0, 0, 0, as_read(host)).into(),
    }
}

/// The number whose hexadecimal digits read like the decimal ones of `number`.
fn as_read(number: u8) -> u16 {
    let n = u16::from(number);
    ((n / 100) << 8) | ((n / 10 % 10) << 4) | (n % 10)
}

/// The prefix length of a network with more than one host on it.
pub fn prefix(family: Family) -> u8 {
    match family {
        Family::V4 => 24,
        Family::V6 => 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology() -> Topology {
        serde_yaml::from_str("nodes: [{name: node-a, pods: [cart], late_pods: [late], processes: [biller]}, {name: node-b, pods: [web]}]")
            .unwrap()
    }

    #[test]
    fn addresses_follow_from_names() {
        let topology = topology();
        topology.check().unwrap();
        let at = |name, family| topology.address(name, family).map(|address| address.to_string());
        assert_eq!(at("cart", Family::V4).as_deref(), Some("10.244.1.11"));
        assert_eq!(at("late", Family::V6).as_deref(), Some("fd00:10:244:1::12"));
        assert_eq!(at("web", Family::V4).as_deref(), Some("10.244.2.11"));
        assert_eq!(at("biller", Family::V4), at("node-a", Family::V4));
        assert_eq!(at("server", Family::V6).as_deref(), Some("fd00:192:168:6000::20"));
        assert_eq!(at("nobody", Family::V4), None);
    }

    #[test]
    fn text_is_filled_with_addresses() {
        assert_eq!(topology().fill("{ip} daddr {server}", Family::V4), "ip daddr 192.168.60.20");
        assert_eq!(
            topology().fill("dnat to {cart:80} or {web:81}", Family::V6),
            "dnat to [fd00:10:244:1::11]:80 or [fd00:10:244:2::11]:81"
        );
        assert_eq!(topology().fill("dnat to {cart:80}", Family::V4), "dnat to 10.244.1.11:80");
        assert_eq!(topology().fill("{ip} saddr {cart}", Family::V6), "ip6 saddr fd00:10:244:1::11");
    }

    #[test]
    fn a_name_used_twice_is_refused() {
        let mut topology = topology();
        topology.nodes[1].pods.push("cart".into());
        assert!(topology.check().is_err());
    }
}
