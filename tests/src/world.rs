//! A topology built: namespaces, links, routes, translation, cgroups, workers.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cluster::Cluster;
use crate::error::{Context, Error, Result, lab};
use crate::net::cgroup::Cgroup;
use crate::net::leftovers::{Mark, PREFIX};
use crate::net::netns::Netns;
use crate::tap::Tap;
use crate::topology::{self as topo, Family, Masquerade, POD_NETWORKS, Topology};
use crate::worker::client::Worker;

/// What stands while a scenario runs. Fields are dropped in this order.
#[derive(Debug)]
pub struct World {
    workers: BTreeMap<String, Worker>,
    taps: BTreeMap<String, Tap>,
    netns: BTreeMap<String, Netns>,
    cgroup: Cgroup,
    mark: Mark,
    program: PathBuf,
    topology: Topology,
    cluster: Option<Cluster>,
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// The interface that leads out of a node, a pod or a server.
pub const UPLINK: &str = "eth0";

/// The bridge of a node whose pods hang at one.
const BRIDGE: &str = "cni0";

/// Starts the name of the node's side of a pod's veth.
pub const VETH: &str = "veth-";

/// The node's side of a pod's veth.
pub fn veth_name(pod: &str) -> String {
    // IFNAMSIZ is 16 with the final NUL.
    format!("{VETH}{pod}").chars().take(15).collect()
}

impl World {
    /// Builds a topology, with a worker for each pod, process and server, run from the lab's `program`.
    pub fn build(topology: &Topology, program: &Path) -> Result<Self> {
        topology.check()?;
        let mark = Mark::create()?;
        let cgroup = Cgroup::create(&format!("{PREFIX}{}", std::process::id()))?;
        let mut world = Self {
            workers: BTreeMap::new(),
            taps: BTreeMap::new(),
            netns: BTreeMap::new(),
            cgroup,
            mark,
            program: program.to_owned(),
            topology: topology.clone(),
            cluster: Cluster::from_environment()?,
        };
        world.add_netns("router")?;
        world.forwarding("router")?;
        for (number, server) in (0u8..).zip(&topology.servers) {
            world.add_server(number, server)?;
        }
        for (number, node) in (0u8..).zip(&topology.nodes) {
            world.add_node(number, &node.name)?;
        }
        for (number, node) in (0u8..).zip(&topology.nodes) {
            world.translate(&node.name, node.masquerade.as_ref())?;
            for pod in &node.pods {
                world.add_pod(pod)?;
            }
            for process in &node.processes {
                world.add_process(number, process)?;
            }
        }
        Ok(world)
    }

    /// What it was built from.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The lab's own directory, gone with it.
    pub fn dir(&self) -> &Path {
        self.mark.dir()
    }

    /// A namespace by the name of its node, pod or server, or `router`; a process has its node's.
    pub fn netns(&self, name: &str) -> Result<&Netns> {
        let process_node = self.topology.node_of(name).filter(|(_, node)| node.processes.iter().any(|p| p == name));
        let name = process_node.map_or(name, |(_, node)| node.name.as_str());
        self.netns.get(name).ok_or_else(|| Error::Lab(format!("nothing is called `{name}`")))
    }

    /// The namespaces by name, for people who look at a lab that stands.
    pub fn namespaces(&self) -> impl Iterator<Item = (&str, &str)> {
        self.netns.iter().map(|(name, netns)| (name.as_str(), netns.name()))
    }

    /// The worker of a pod, process or server.
    pub fn worker(&mut self, name: &str) -> Result<&mut Worker> {
        self.workers.get_mut(name).ok_or_else(|| Error::Lab(format!("no process is called `{name}`")))
    }

    /// The lab's look at a node's interfaces.
    pub fn tap(&self, node: &str) -> Result<&Tap> {
        self.taps.get(node).ok_or_else(|| Error::Lab(format!("no tap at `{node}`")))
    }

    /// A cgroup of the lab, by its path below the lab's own; a node's are below that node's name.
    pub fn cgroup(&self, path: &str) -> Result<PathBuf> {
        self.cgroup.child(path)
    }

    /// A node's cgroup, and the kernel's name of it.
    pub fn node_cgroup(&self, node: &str) -> Result<PathBuf> {
        self.cgroup.child(node)
    }

    /// The cgroup of a pod or process as the kernel names it.
    pub fn cgroup_name(&self, name: &str) -> Result<String> {
        let Some((_, node)) = self.topology.node_of(name) else { return lab(format!("`{name}` is on no node")) };
        Ok(self.cgroup.kernel_name(&self.pod_cgroup(&node.name, name)?))
    }

    /// The cluster whose objects the pods are.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    fn pod_cgroup(&self, node: &str, pod: &str) -> Result<PathBuf> {
        let known = self.cluster.as_ref().and_then(|cluster| cluster.cgroups.get(pod));
        self.cgroup.child(&format!("{node}/{}", known.map_or(pod, String::as_str)))
    }

    fn add_netns(&mut self, name: &str) -> Result<()> {
        let netns = Netns::create(&Mark::name(name))?;
        netns.sysctl(&[("net/ipv4/conf/all/rp_filter", "0"), ("net/ipv4/conf/default/rp_filter", "0")])?;
        self.netns.insert(name.to_owned(), netns);
        Ok(())
    }

    fn forwarding(&self, name: &str) -> Result<()> {
        self.netns(name)?.sysctl(&[
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            ("net/ipv4/conf/all/send_redirects", "0"),
            ("net/ipv4/conf/default/send_redirects", "0"),
        ])
    }

    fn add_server(&mut self, number: u8, server: &str) -> Result<()> {
        self.add_netns(server)?;
        let bridge = "br-servers";
        let mut router = String::new();
        if number == 0 {
            let _ = writeln!(router, "link add {bridge} type bridge\nlink set {bridge} up");
            for family in FAMILIES {
                let (gateway, prefix) = (topo::server_gateway(family), topo::prefix(family));
                let _ = writeln!(router, "addr add {gateway}/{prefix} dev {bridge}{}", nodad(family));
            }
        }
        let far = self.netns(server)?.name();
        let _ = writeln!(router, "link add s{number} type veth peer name {UPLINK} netns {far}");
        let _ = writeln!(router, "link set s{number} master {bridge} up");
        self.netns("router")?.ip(&router)?;
        let mut host = format!("link set {UPLINK} up\n");
        for family in FAMILIES {
            let (address, prefix) = (topo::server_address(number, family), topo::prefix(family));
            let _ = writeln!(host, "addr add {address}/{prefix} dev {UPLINK}{}", nodad(family));
            let _ = writeln!(host, "route add default via {}", topo::server_gateway(family));
        }
        self.netns(server)?.ip(&host)?;
        self.start_worker(server, &self.program.clone(), server, None)
    }

    fn add_node(&mut self, number: u8, node: &str) -> Result<()> {
        self.add_netns(node)?;
        self.forwarding(node)?;
        let far = self.netns(node)?.name();
        let mut router =
            format!("link add n{number} type veth peer name {UPLINK} netns {far}\nlink set n{number} up\n");
        let mut host = format!("link set {UPLINK} up\n");
        for family in FAMILIES {
            let prefix = topo::prefix(family);
            let (gateway, address) = (topo::router_address(number, family), topo::node_address(number, family));
            let _ = writeln!(router, "addr add {gateway}/{prefix} dev n{number}{}", nodad(family));
            let pods = match family {
                Family::V4 => format!("10.244.{}.0/24", 1 + number),
                Family::V6 => format!("fd00:10:244:{}::/64", 1 + number),
            };
            let _ = writeln!(router, "route add {pods} via {address}");
            let _ = writeln!(host, "addr add {address}/{prefix} dev {UPLINK}{}", nodad(family));
            let _ = writeln!(host, "route add default via {gateway}");
        }
        self.netns("router")?.ip(&router)?;
        self.netns(node)?.ip(&host)?;
        self.node_cgroup(node)?;
        self.taps.insert(node.to_owned(), Tap::start(self.netns(node)?.name())?);
        Ok(())
    }

    /// Adds a pod of the topology: a veth to its node, a /32 and a /128, a link-local gateway.
    pub fn add_pod(&mut self, pod: &str) -> Result<()> {
        let Some((_, node)) = self.topology.node_of(pod) else { return lab(format!("no pod is called `{pod}`")) };
        let cgroup = self.pod_cgroup(&node.name.clone(), pod)?;
        self.add_pod_in(pod, &cgroup)
    }

    /// Adds a pod whose process is in a cgroup of its own.
    pub fn add_pod_in(&mut self, pod: &str, cgroup: &Path) -> Result<()> {
        let Some((_, node)) = self.topology.node_of(pod) else { return lab(format!("no pod is called `{pod}`")) };
        if node.bridge {
            return self.add_bridged_pod(pod, cgroup);
        }
        let node = node.name.clone();
        self.add_netns(pod)?;
        let veth = veth_name(pod);
        let far = self.netns(pod)?.name();
        let mut host = format!("link add {veth} type veth peer name {UPLINK} netns {far}\nlink set {veth} up\n");
        host.push_str(&format!("addr add fe80::1/64 dev {veth} nodad\n"));
        let mut inner = format!("link set {UPLINK} up\n");
        for family in FAMILIES {
            let Some(address) = self.topology.address(pod, family) else { continue };
            let _ = writeln!(host, "route add {address} dev {veth}");
            let _ = writeln!(inner, "addr add {address} dev {UPLINK}{}", nodad(family));
            let gateway = if family == Family::V4 { "169.254.1.1" } else { "fe80::1" };
            let onlink = if family == Family::V4 { " onlink" } else { "" };
            let _ = writeln!(inner, "route add default via {gateway} dev {UPLINK}{onlink}");
        }
        self.netns(&node)?.ip(&host)?;
        let proxy = format!("net/ipv4/conf/{veth}/proxy_arp");
        let delay = format!("net/ipv4/neigh/{veth}/proxy_delay");
        self.netns(&node)?.sysctl(&[(&proxy, "1"), (&delay, "0")])?;
        self.netns(pod)?.ip(&inner)?;
        self.start_worker(pod, &self.program.clone(), pod, Some(cgroup))
    }

    /// Adds a pod at its node's bridge: on one network with the node's other pods, the bridge its gateway.
    fn add_bridged_pod(&mut self, pod: &str, cgroup: &Path) -> Result<()> {
        let Some((number, node)) = self.topology.node_of(pod) else { return lab(format!("no pod is called `{pod}`")) };
        let node = node.name.clone();
        self.add_netns(pod)?;
        let (veth, far) = (veth_name(pod), self.netns(pod)?.name());
        let mut host = String::new();
        if self.netns(&node)?.run("ip", &["link", "show", "dev", BRIDGE]).is_err() {
            let _ = writeln!(host, "link add {BRIDGE} type bridge\nlink set {BRIDGE} up");
            for family in FAMILIES {
                let (gateway, prefix) = (topo::bridge_gateway(number, family), topo::prefix(family));
                let _ = writeln!(host, "addr add {gateway}/{prefix} dev {BRIDGE}{}", nodad(family));
            }
        }
        let _ = writeln!(host, "link add {veth} type veth peer name {UPLINK} netns {far}");
        let _ = writeln!(host, "link set {veth} master {BRIDGE} up");
        let mut inner = format!("link set {UPLINK} up\n");
        for family in FAMILIES {
            let Some(address) = self.topology.address(pod, family) else { continue };
            let (gateway, prefix) = (topo::bridge_gateway(number, family), topo::prefix(family));
            let _ = writeln!(inner, "addr add {address}/{prefix} dev {UPLINK}{}", nodad(family));
            let _ = writeln!(inner, "route add default via {gateway}");
        }
        self.netns(&node)?.ip(&host)?;
        self.netns(pod)?.ip(&inner)?;
        self.start_worker(pod, &self.program.clone(), pod, Some(cgroup))
    }

    /// Takes a pod away: its process, its namespace and interface.
    pub fn remove_pod(&mut self, pod: &str) -> Result<()> {
        let Some((_, node)) = self.topology.node_of(pod) else { return lab(format!("no pod is called `{pod}`")) };
        self.workers.remove(pod);
        // The namespace's own end goes some time after its name; a CNI deletes the link first, too.
        self.netns(&node.name)?.ip(&format!("link del {}\n", veth_name(pod)))?;
        self.netns.remove(pod);
        Ok(())
    }

    /// A process of the node's own network, with an executable of its own name.
    fn add_process(&mut self, number: u8, process: &str) -> Result<()> {
        let node = self.topology.nodes[usize::from(number)].name.clone();
        let program = self.dir().join(process);
        std::fs::copy(&self.program, &program).context(format_args!("copy the lab to {}", program.display()))?;
        let cgroup = self.cgroup.child(&format!("{node}/{process}"))?;
        self.start_worker(process, &program, &node, Some(&cgroup))
    }

    fn start_worker(&mut self, name: &str, program: &Path, netns: &str, cgroup: Option<&Path>) -> Result<()> {
        let netns = self.netns(netns)?.name().to_owned();
        let worker = Worker::start(name, program, &netns, cgroup)?;
        self.workers.insert(name.to_owned(), worker);
        Ok(())
    }

    /// Sets a node's source translation anew.
    pub fn translate(&self, node: &str, masquerade: Option<&Masquerade>) -> Result<()> {
        let Some(masquerade) = masquerade else { return Ok(()) };
        self.netns(node)?.nft(&translation(&self.topology, masquerade))
    }

    /// Empties a node's connection tracking of TCP, as time would.
    pub fn forget_connections(&self, node: &str) -> Result<()> {
        // What is still under way, a delayed ACK say, would come to the node itself and be reset.
        self.tap(node)?.wait_quiet(Duration::from_millis(100));
        for family in ["ipv4", "ipv6"] {
            // It fails where there was nothing to delete.
            let _ = self.netns(node)?.run("conntrack", &["-D", "-p", "tcp", "-f", family]);
        }
        Ok(())
    }
}

fn nodad(family: Family) -> &'static str {
    match family {
        Family::V4 => "",
        Family::V6 => " nodad",
    }
}

/// The nftables script of a source translation, as CNIs make it: what leaves by the uplink and is of a pod.
fn translation(topology: &Topology, masquerade: &Masquerade) -> String {
    let mut rules = String::new();
    for (family, pods) in FAMILIES.into_iter().zip(POD_NETWORKS) {
        let ip = family.nft();
        if !masquerade.between_nodes {
            let _ = writeln!(rules, "  {ip} daddr {pods} return");
        }
        for first in &masquerade.first {
            let _ = writeln!(rules, "  {}", topology.fill(first, family));
        }
        let to = masquerade.ports.as_ref().map(|ports| format!(" to :{ports}")).unwrap_or_default();
        let random = if masquerade.fully_random { " fully-random" } else { "" };
        let _ = writeln!(rules, "  {ip} saddr {pods} meta l4proto tcp masquerade{to}{random}");
    }
    format!(
        "table inet lab_nat\ndelete table inet lab_nat\ntable inet lab_nat {{\n chain post {{\n  \
         type nat hook postrouting priority srcnat; policy accept;\n  oifname != \"{UPLINK}\" return\n{rules} }}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn translation_leaves_pods_among_themselves_alone_unless_told() {
        let topology: Topology = serde_yaml::from_str("nodes: [{name: node-a, pods: [cart]}]").unwrap();
        let mut masquerade = Masquerade { ports: Some("46994".into()), ..Masquerade::default() };
        let script = translation(&topology, &masquerade);
        assert!(script.contains("ip daddr 10.244.0.0/16 return"), "{script}");
        assert!(script.contains("ip6 saddr fd00:10:244::/48 meta l4proto tcp masquerade to :46994\n"), "{script}");
        masquerade.between_nodes = true;
        masquerade.fully_random = true;
        let script = translation(&topology, &masquerade);
        assert!(!script.contains("ip daddr 10.244.0.0/16 return"), "{script}");
        assert!(script.contains("masquerade to :46994 fully-random"), "{script}");
    }

    #[test]
    fn interface_names_fit() {
        assert_eq!(veth_name("vehicle-control"), "veth-vehicle-co");
    }
}
