//! What each capability buys, found by taking them away one by one (`scripts/test-capabilities.sh`).

use crate::capture::probe::process::{Capability, Process};
use crate::capture::probe::questions::symbols;

/// What is lost without it.
pub fn lost_without(capability: Capability) -> &'static str {
    match capability {
        Capability::Bpf => "no program can be loaded: nothing is captured",
        Capability::Perfmon => "the kernel takes none of the programs, for what they ask of it: nothing is captured",
        Capability::NetAdmin => {
            "no program can be loaded for sockets or interfaces, nor attached to them: nothing is captured"
        }
        Capability::SysAdmin => {
            "the network namespaces of pods (full accept queues there, connections of before the start), tracefs where it \
             is not mounted, and the names of other programs at the hooks"
        }
        Capability::SysResource => "the limit of locked memory cannot be raised, and this kernel charges BPF to it",
        Capability::DacReadSearch => {
            "cgroups by their number: each new one is looked for in the whole tree, at most once a second, and a pod or \
             unit that is gone by then has no name by its cgroup"
        }
        Capability::SysPtrace => {
            "the executable of processes of other users or with more capabilities, and which of them holds a filter of ours"
        }
        Capability::Syslog => "the kernel function that dropped a segment; the reason stays",
    }
}

/// What is lost in a pid namespace of its own, whatever is held.
pub const UNSEEN_PROCESSES: &str = "the executable of processes, the quiet about the agent's own exports, names of pods by \
    their cgroup v1, network namespaces that have no name, and who holds a filter of ours";

/// One line for each that is not held and that no other line of the agent's start speaks of.
pub fn silent_losses() -> Vec<String> {
    let process = Process::gather();
    let silent = [Capability::SysPtrace, Capability::DacReadSearch, Capability::Syslog];
    let lacks = |capability: &Capability| match capability {
        // Some machines show them to all.
        Capability::Syslog => symbols().is_err(),
        capability => !process.capabilities.has(*capability),
    };
    let mut lines = Vec::new();
    if !process.sees_all_processes {
        lines.push(format!("this is not the machine's own pid namespace (hostPID: true); lost: {UNSEEN_PROCESSES}"));
    }
    let line =
        |capability: Capability| format!("{} is not held; lost: {}", capability.name(), lost_without(capability));
    lines.extend(silent.into_iter().filter(lacks).map(line));
    lines
}

/// Whether capture does its main work without it.
pub fn is_optional(capability: Capability) -> bool {
    !Capability::NEEDED.contains(&capability)
}
