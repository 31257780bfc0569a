//! The tracker: observations and time in, verdicts out.
//!
//! It does no input or output, reads no clock and holds no global: observations carry their time, and
//! time passes only by being told. Live capture, tests, fuzzing and benchmarks drive the same code.

mod answers;
pub mod attempt;
mod calls;
pub mod causes;
mod destination;
mod ending;
mod errno;
mod extra;
pub mod flow;
mod flows;
pub mod holders;
mod inbound;
mod judge;
mod ledger;
mod node;
mod open;
mod recent;
mod report;
mod rules;
mod seq;
mod socket;
mod stall;
pub mod survey;
mod sweep;
mod tenancy;
pub mod trace_id;
mod tracker;
pub mod verdict;
mod wire;
mod wire_only;
mod witness;

pub use tracker::Tracker;

use std::time::Duration;

use trace_id::{DEFAULT_KEY, IdKey};

use crate::capture::observation::Mono;

/// How the tracker behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a past tenancy of a wire tuple can explain a failure (`tracking.reuse_window`).
    pub reuse_window: Duration,
    /// Most attempts open at once (`tracking.max_attempts`).
    pub max_attempts: usize,
    /// Most tenancies remembered, open flows included (`tracking.max_tenancies`).
    pub max_tenancies: usize,
    /// How long a finished attempt waits for observations that are still on their way.
    pub settle: Duration,
    /// The key of the trace ids (`tracking.id_key`).
    pub id_key: IdKey,
    /// The kernel's boot id, for attempts seen on no wire.
    pub boot_id: u128,
    /// The cookie of the node's own network namespace, 0 if the kernel cannot tell.
    pub host_netns: u64,
    /// Whether capture sees the errors that sockets get: only then is a close without one the
    /// application's own.
    pub errors_seen: bool,
    /// Whether capture can watch what connect() returns when asked to: then a call with no SYN and no error
    /// seen has not failed.
    pub calls_watched: bool,
    /// A process whose connections are not reported: the agent itself, for its own exports.
    pub quiet_pid: Option<u32>,
    /// Whether those are reported all the same.
    pub report_own: bool,
    /// Whether attempts on loopback are reported.
    pub report_loopback: bool,
    /// How often a connection that stays open is told of: the first time half an interval after it opened at the
    /// earliest and one and a half at the latest, so that those opened together are not told together. Zero for never:
    /// then flows are told at their end alone, and a count of segments may have wrapped by then.
    pub flow_interval: Duration,
    /// No sockets are in sight, as in capture files: what the wire shows has to do for the outcome, for who
    /// is the client, and for who held a tuple.
    pub wire_only: bool,
    /// Seeds the hash tables, so that nobody outside can aim at a bucket; fixed in tests.
    pub hash_seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            reuse_window: Duration::from_secs(600),
            max_attempts: 65_536,
            max_tenancies: 300_000,
            settle: Duration::from_millis(100),
            id_key: DEFAULT_KEY,
            boot_id: 0,
            host_netns: 0,
            errors_seen: false,
            calls_watched: false,
            quiet_pid: None,
            report_own: false,
            report_loopback: false,
            flow_interval: Duration::from_secs(300),
            wire_only: false,
            hash_seed: 0,
        }
    }
}

/// Observations by the place where they were made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Sockets, and the calls of their processes.
    pub socket: u64,
    /// Interfaces of pods.
    pub pod_nic: u64,
    /// Interfaces that lead out of the node.
    pub node_nic: u64,
    /// Tunnel devices.
    pub overlay: u64,
    /// Of the kernel itself, drops and answers say; and of interfaces that are not known any more.
    pub kernel: u64,
}

impl Seen {
    /// All of them.
    pub fn all(&self) -> u64 {
        self.socket + self.pod_nic + self.node_nic + self.overlay + self.kernel
    }
}

/// What the tracker counts: nothing is lost silently.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Observations taken in, by where they were made.
    pub observations: Seen,
    /// Since when the ledger remembers: of what ended later, nothing was missed and nothing given up early.
    pub remembers_since: Mono,
    /// Observations that capture lost.
    pub lost: u64,
    /// Of them, those of attempts from outside.
    pub lost_inbound: u64,
    /// connect() calls that failed before any SYN.
    pub failed_calls: u64,
    /// Questions to the kernel that found no room.
    pub questions_dropped: u64,
    /// SYNs from outside that came to nothing and were summed up.
    pub inbound_summed: u64,
    /// Connections that were open before the start.
    pub seeded: u64,
    /// Attempts open now.
    pub open_attempts: u64,
    /// Attempts finished.
    pub finished_attempts: u64,
    /// Attempts that ended with their outcome unseen because the table was full.
    pub evicted_attempts: u64,
    /// Tenancies remembered now.
    pub tenancies: u64,
    /// Tenancies forgotten before the reuse window had passed.
    pub evicted_tenancies: u64,
    /// Attempts on loopback, which are not reported.
    pub quiet_loopback: u64,
    /// Attempts of the agent itself, which are not reported.
    pub quiet_own: u64,
    /// Connections of sockets of this node whose end was never told: their last record was lost, or the ledger's
    /// memory of them.
    pub unended_flows: u64,
    /// Two unrelated tuples with one fingerprint, told apart.
    pub fingerprint_collisions: u64,
    /// Established connections whose wire tuple had another tenant within the reuse window.
    pub reuses: u64,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends by its panic")]
mod tests;
