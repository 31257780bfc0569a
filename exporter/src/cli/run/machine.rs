//! The facts of this machine that the tracker rests on, read once at the start.

use std::fs;

use crate::capture::live::{Features, monotonic};
use crate::capture::observation::Mono;
use crate::capture::probe::kernel::{in_initial_pid_namespace, netns_cookie};
use crate::track::Options;

/// This machine.
pub struct Machine {
    /// The monotonic time.
    pub now: Mono,
    boot_id: u128,
    host_netns: u64,
    pid: Option<u32>,
}

impl Machine {
    /// Reads the facts; what cannot be read is left out, and what needs it does without.
    pub fn here() -> Self {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        // The kernel counts processes by the initial pid namespace: elsewhere our number is another's.
        let initial = in_initial_pid_namespace();
        Self {
            now: monotonic(),
            boot_id: u128::from_str_radix(&boot_id.trim().replace('-', ""), 16).unwrap_or(0),
            host_netns: netns_cookie().unwrap_or(0),
            pid: initial.then(std::process::id),
        }
    }

    /// Cookie of the network namespace that the agent is in, the node's own; 0 if not known.
    pub fn host_netns(&self) -> u64 {
        self.host_netns
    }

    /// Adds the facts to the tracker's options; `features` is what capture says of itself.
    pub fn complete(&self, options: Options, features: &Features) -> Options {
        Options {
            boot_id: self.boot_id,
            host_netns: self.host_netns,
            quiet_pid: self.pid,
            errors_seen: features.error_tracepoint.is_present(),
            calls_watched: features.call_results.is_present(),
            hash_seed: rand::random(),
            ..options
        }
    }
}
