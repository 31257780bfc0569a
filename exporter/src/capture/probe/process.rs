//! What this process may do: its user, capabilities and limits.

use std::fs;

/// A capability the agent may need (`include/uapi/linux/capability.h`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the kernel's names say it")]
pub enum Capability {
    DacReadSearch,
    NetAdmin,
    SysPtrace,
    SysAdmin,
    SysResource,
    Syslog,
    Perfmon,
    Bpf,
}

impl Capability {
    /// All of them, in the order in which doctor prints them.
    pub const ALL: [Self; 8] = [
        Self::Bpf,
        Self::Perfmon,
        Self::NetAdmin,
        Self::SysAdmin,
        Self::SysResource,
        Self::DacReadSearch,
        Self::SysPtrace,
        Self::Syslog,
    ];

    /// Without one of these nothing is captured.
    pub const NEEDED: [Self; 3] = [Self::Bpf, Self::Perfmon, Self::NetAdmin];

    /// The kernel's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::DacReadSearch => "CAP_DAC_READ_SEARCH",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysResource => "CAP_SYS_RESOURCE",
            Self::Syslog => "CAP_SYSLOG",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        }
    }

    fn bit(self) -> u32 {
        match self {
            Self::DacReadSearch => 2,
            Self::NetAdmin => 12,
            Self::SysPtrace => 19,
            Self::SysAdmin => 21,
            Self::SysResource => 24,
            Self::Syslog => 34,
            Self::Perfmon => 38,
            Self::Bpf => 39,
        }
    }
}

/// A set of capabilities, as `/proc/PID/status` prints it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// Whether the set has this one.
    pub fn has(self, capability: Capability) -> bool {
        self.0 >> capability.bit() & 1 == 1
    }

    /// The set with this one.
    #[must_use]
    pub fn with(self, capability: Capability) -> Self {
        Self(self.0 | 1 << capability.bit())
    }
}

/// This process.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Process {
    /// Effective user id.
    pub uid: u32,
    /// Effective capabilities; none if `/proc` could not be read.
    pub capabilities: Capabilities,
    /// Soft limit of locked memory in bytes, none if unlimited. Counts for BPF below kernel 5.11.
    pub memlock: Option<u64>,
    /// Whether it runs in the machine's own pid namespace, so that `/proc` shows every process.
    pub sees_all_processes: bool,
}

impl Process {
    /// Those that are not held, nor stood in for: `CAP_SYS_ADMIN` stands in for `CAP_BPF` and `CAP_PERFMON`
    /// (capabilities(7)).
    pub fn lacking(&self, needed: &[Capability]) -> Vec<Capability> {
        let admin = self.capabilities.has(Capability::SysAdmin);
        let stands_in = |capability| admin && matches!(capability, Capability::Bpf | Capability::Perfmon);
        needed.iter().copied().filter(|&needed| !self.capabilities.has(needed) && !stands_in(needed)).collect()
    }

    /// Asks the kernel.
    pub fn gather() -> Self {
        Self {
            uid: nix::unistd::geteuid().as_raw(),
            capabilities: fs::read_to_string("/proc/self/status")
                .ok()
                .and_then(|status| effective(&status))
                .unwrap_or_default(),
            memlock: memlock(),
            sees_all_processes: super::kernel::in_initial_pid_namespace(),
        }
    }
}

fn memlock() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: limit is a valid place for the answer.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    (result == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// The effective set from the text of `/proc/PID/status`.
fn effective(status: &str) -> Option<Capabilities> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok().map(Capabilities)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_by_bit() {
        let set = effective("Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t0000008000001000\n");
        let set = set.expect("a set");
        assert!(set.has(Capability::Bpf) && set.has(Capability::NetAdmin));
        assert!(!set.has(Capability::SysAdmin) && !set.has(Capability::Perfmon));
        assert_eq!(set, Capabilities::default().with(Capability::Bpf).with(Capability::NetAdmin));
    }

    #[test]
    fn sys_admin_stands_in_for_two() {
        let with =
            |capability| Process { capabilities: Capabilities::default().with(capability), ..Process::default() };
        let needed = Capability::NEEDED;
        assert_eq!(with(Capability::SysAdmin).lacking(&needed), [Capability::NetAdmin]);
        assert_eq!(with(Capability::NetAdmin).lacking(&needed), [Capability::Bpf, Capability::Perfmon]);
    }

    #[test]
    fn a_status_without_the_line_gives_nothing() {
        assert_eq!(effective("Name:\tx\n"), None);
        assert_eq!(effective("CapEff:\tnonsense\n"), None);
    }
}
