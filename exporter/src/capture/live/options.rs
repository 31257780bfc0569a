//! How live capture behaves.

use std::path::PathBuf;

use ipnet::IpNet;

/// How live capture behaves (`capture:` in the configuration).
#[derive(Clone, Debug)]
pub struct Options {
    /// The cgroup v2 directory whose sockets are watched; none: the root of the cgroup2 mount.
    pub cgroup: Option<PathBuf>,
    /// Which interface is what.
    pub interfaces: InterfaceRules,
    /// How the programs on interfaces are attached.
    pub attach: AttachMode,
    /// Size of the ring buffer in bytes; rounded up to a power of two and at least a page.
    pub ring_bytes: u32,
    /// Most programs attached or detached in a second. Each holds the kernel's network lock for some
    /// 12 ms, in which a pod that starts has to wait.
    pub attach_per_second: u32,
    /// What has an address in one of these is left out.
    pub exclude: Vec<IpNet>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cgroup: None,
            interfaces: InterfaceRules::default(),
            attach: AttachMode::Auto,
            ring_bytes: 8 << 20,
            attach_per_second: 10,
            exclude: Vec::new(),
        }
    }
}

/// Names of interfaces, as patterns with `*` and `?`, that go before what the kernel says of them.
/// `ignore` goes before the others, and these in the order `pod_nic`, `node_nic`, `overlay`.
#[derive(Clone, Debug, Default)]
pub struct InterfaceRules {
    /// Host sides of pods' interfaces.
    pub pod_nic: Vec<String>,
    /// Interfaces that lead out of the node.
    pub node_nic: Vec<String>,
    /// Tunnels.
    pub overlay: Vec<String>,
    /// Not to be watched.
    pub ignore: Vec<String>,
}

/// How the programs on interfaces are attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AttachMode {
    /// By tcx where the kernel has it (6.6), else by clsact.
    #[default]
    Auto,
    /// By tcx: gone with the agent, first in the list.
    Tcx,
    /// By a filter at the clsact qdisc: outlives an agent that is killed, until the next start.
    Clsact,
}

impl AttachMode {
    /// The word used in telemetry, configuration and on the console.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}
