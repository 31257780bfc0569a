//! Where the benchmark runs: a pod, its node with source translation, and servers outside.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::traffic::Done;
use crate::error::{Context, Result, lab};
use crate::net::cgroup::Cgroup;
use crate::net::leftovers::Mark;
use crate::net::netns::Netns;
use crate::net::process::Process;

const SERVERS: [&str; 4] = ["192.168.70.20", "192.168.70.21", "192.168.70.22", "192.168.70.23"];

/// Where connections go that stay open, and the ports after it.
const FIRST_HOLDING_PORT: u16 = 21_000;
/// Of one client; the limit of open files is at least that on any machine.
const HELD_BY_ONE: u32 = 15_000;

/// The namespaces, the cgroups and the servers. All of it goes on drop, the processes first.
#[derive(Debug)]
pub struct Bed {
    _servers: Process,
    pod: Netns,
    /// The node's network namespace.
    pub node: Netns,
    outside: Netns,
    cgroup: Cgroup,
    /// The cgroup of the node, where the agent attaches.
    pub node_cgroup: PathBuf,
    pod_cgroup: PathBuf,
    /// The node's name, for its agent.
    pub node_name: String,
    mark: Mark,
}

/// What the node is called, and its pod's cgroup below its own.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The node's name.
    pub node: String,
    /// A path.
    pub pod: String,
}

/// The host side of the pod's interface.
pub const POD_INTERFACE: &str = "veth-pod";
/// The node's own interface.
pub const NODE_INTERFACE: &str = "eth0";

impl Bed {
    /// Builds it and starts the servers.
    pub fn build() -> Result<Self> {
        Self::place(&Placed { node: "bench".to_owned(), pod: "pod".to_owned() })
    }

    /// The same, with names that mean something elsewhere.
    pub fn place(placed: &Placed) -> Result<Self> {
        let mark = Mark::create()?;
        let cgroup = Cgroup::create(&Mark::name("bench"))?;
        let node_cgroup = cgroup.child("node")?;
        let pod_cgroup = cgroup.child(&format!("node/{}", placed.pod))?;
        let pod = Netns::create(&Mark::name("pod"))?;
        let node = Netns::create(&Mark::name("node"))?;
        let outside = Netns::create(&Mark::name("out"))?;
        node.sysctl(&[("net/ipv4/ip_forward", "1")])?;
        node.ip(&format!(
            "link add {POD_INTERFACE} type veth peer name eth0 netns {pod}\n\
             link add {NODE_INTERFACE} type veth peer name eth0 netns {outside}\n\
             address add 10.244.9.1/24 dev {POD_INTERFACE}\n\
             address add 192.168.70.10/24 dev {NODE_INTERFACE}\n\
             link set {POD_INTERFACE} up\n\
             link set {NODE_INTERFACE} up\n\
             route add default via 192.168.70.20\n",
            pod = pod.name(),
            outside = outside.name()
        ))?;
        pod.ip("address add 10.244.9.11/24 dev eth0\nlink set eth0 up\nroute add default via 10.244.9.1\n")?;
        for server in SERVERS {
            outside.ip(&format!("address add {server}/24 dev eth0\n"))?;
        }
        outside.ip("link set eth0 up\n")?;
        node.nft(&format!(
            "table ip bench {{ chain out {{ type nat hook postrouting priority srcnat; policy accept;\n\
             ip saddr 10.244.0.0/16 oifname \"{NODE_INTERFACE}\" masquerade\n}}\n}}"
        ))?;
        // Entries of closed connections stay for two minutes by default; their number must not grow from round
        // to round. The setting is there once the rule above has brought connection tracking in.
        node.sysctl(&[("net/netfilter/nf_conntrack_tcp_timeout_time_wait", "20")])?;
        let servers = start_servers(&outside)?;
        Ok(Self {
            _servers: servers,
            pod,
            node,
            outside,
            cgroup,
            node_cgroup,
            pod_cgroup,
            node_name: placed.node.clone(),
            mark,
        })
    }

    /// A directory for files that go with the bed.
    pub fn dir(&self) -> &Path {
        self.mark.dir()
    }

    /// A cgroup beside the node's, whose processor time is then a contender's alone.
    pub fn account(&self, name: &str) -> Result<PathBuf> {
        self.cgroup.child(name)
    }

    /// Makes that many connections from the pod, one after the other: nanoseconds for each.
    pub fn connect(&self, connections: u32) -> Result<f64> {
        let line = first_line(&mut self.start_client(connections)?)?;
        let Ok(done) = serde_json::from_str::<Done>(&line) else {
            return lab("the benchmark's client failed; what it said is above");
        };
        Ok(done.nanoseconds as f64 / f64::from(connections))
    }

    /// Makes connections that send nothing and stay open until what is returned is dropped. They are of several clients
    /// and servers: a process may have no more than some ten thousand files open.
    pub fn hold(&self, connections: u32) -> Result<Vec<Process>> {
        let mut all = Vec::new();
        let (mut left, mut port) = (connections, FIRST_HOLDING_PORT);
        while left > 0 {
            let now = left.min(HELD_BY_ONE);
            let mut command = worker(&self.outside)?;
            command.args(["--hold", &port.to_string()]);
            let mut server = Process::spawn(command, "a server that holds connections")?;
            if first_line(&mut server)?.trim() != "ready" {
                return lab("a server that holds connections did not start");
            }
            let mut command = worker(&self.pod)?;
            command.args(["--cgroup".as_ref(), self.pod_cgroup.as_os_str()]).stdin(Stdio::piped());
            command.args(["--hold", &port.to_string(), "--servers", &SERVERS.join(",")]);
            command.args(["--connections", &now.to_string()]);
            let mut client = Process::spawn(command, "a client that holds connections")?;
            if serde_json::from_str::<Done>(&first_line(&mut client)?).is_err() {
                return lab("a client that holds connections failed; what it said is above");
            }
            all.extend([client, server]);
            (left, port) = (left - now, port + 1);
        }
        Ok(all)
    }

    /// Starts the client, for a caller that does not wait for it.
    pub fn start_client(&self, connections: u32) -> Result<Process> {
        let mut command = worker(&self.pod)?;
        command.args(["--cgroup".as_ref(), self.pod_cgroup.as_os_str()]);
        command.args(["--servers", &SERVERS.join(","), "--connections", &connections.to_string()]);
        Process::spawn(command, "the benchmark's client")
    }

    /// Forgets the connections that the node tracks, so that each run finds as many entries as the one before.
    pub fn forget_connections(&self) {
        // It fails where there are none.
        let _ = self.node.run("conntrack", &["-F"]);
    }
}

fn worker(netns: &Netns) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("find this program's own file")?);
    command.args(["bench-worker", "--netns", netns.name()]).stdin(Stdio::null()).stdout(Stdio::piped());
    Ok(command)
}

/// What a worker says first.
fn first_line(worker: &mut Process) -> Result<String> {
    let mut line = String::new();
    if let Some(stdout) = worker.child().stdout.take() {
        BufReader::new(stdout).read_line(&mut line).context("read what a worker says")?;
    }
    Ok(line)
}

fn start_servers(outside: &Netns) -> Result<Process> {
    let command = worker(outside)?;
    let mut servers = Process::spawn(command, "the benchmark's servers")?;
    if first_line(&mut servers)?.trim() == "ready" { Ok(servers) } else { lab("the benchmark's servers did not start") }
}
