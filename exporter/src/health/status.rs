//! How the agent stands, as plain data: the object of `/status.json` and of `synspan status --json`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::judge::Verdict;
use crate::capture::observation::Mono;
use crate::identify::clock::{Utc, WallClock};

/// How the agent stands.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// The node's name.
    pub node: String,
    /// The agent's process id, as it sees itself.
    pub pid: u32,
    /// When it started.
    pub started: Moment,
    /// Whether it lives: what `/livez` says.
    pub live: Verdict,
    /// Whether it is ready: what `/readyz` says.
    pub ready: Verdict,
    /// Its threads.
    pub threads: Vec<Thread>,
    /// What is seen.
    pub capture: Capture,
    /// What became of it.
    pub attempts: Attempts,
    /// What of it is not told one by one.
    pub untold: Untold,
    /// What the agent itself takes; none where that cannot be read.
    pub process: Option<Process>,
    /// Who is who.
    pub names: Names,
    /// Whether attempts are shown on the console.
    pub console: bool,
    /// Where telemetry goes: an entry for each exporter and signal.
    pub exporters: Vec<Exporter>,
}

/// A time in the past.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Moment {
    /// UTC, as RFC 3339 has it.
    pub time: String,
    /// How long ago, in seconds.
    pub ago_s: f64,
}

impl Moment {
    /// A monotonic time, seen from `now`.
    pub fn at(time: Mono, now: Mono, clock: WallClock) -> Self {
        Self { time: Utc::new(clock.unix_nanos(time)).rfc3339(), ago_s: now.since(time).as_secs_f64() }
    }

    /// A time that is so long ago.
    pub fn ago(ago: Duration, now: Mono, clock: WallClock) -> Self {
        Self::at(now.minus(ago), now, clock)
    }
}

/// A moment in words: `2026-11-23 20:31:07 UTC (2 min 4 s)`.
pub fn for_people(moment: &Moment) -> String {
    let second = moment.time.split('.').next().unwrap_or_default().replacen('T', " ", 1);
    format!("{second} UTC ({})", span(moment.ago_s))
}

/// A length of time in words, in two units at most: `3.2 s`, `2 min 4 s`, `3 h 20 min`, `5 d 7 h`.
pub fn span(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    match whole {
        0..60 => format!("{:.1} s", seconds.max(0.0)),
        60..3_600 => format!("{} min {} s", whole / 60, whole % 60),
        3_600..86_400 => format!("{} h {} min", whole / 3_600, whole / 60 % 60),
        _ => format!("{} d {} h", whole / 86_400, whole / 3_600 % 24),
    }
}

/// A thread that everything rests on.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Thread {
    /// `capture` or `telemetry`.
    pub name: String,
    /// When it last went on.
    pub last: Moment,
}

/// What is seen.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Capture {
    /// The cgroup whose sockets are watched.
    pub cgroup: String,
    /// How programs are attached to interfaces: `tcx` or `clsact`.
    pub attach: String,
    /// Whether every interface of the start has had its turn.
    pub attached: bool,
    /// Hooks attached now: a side of an interface each.
    pub hooks: u64,
    /// Hooks that should be attached and could not be.
    pub blind: u64,
    /// Pods with an interface that has such a hook.
    pub blind_pods: u64,
    /// What this kernel or these rights do not allow.
    pub missing: Vec<Missing>,
    /// Observations taken in.
    pub observations: Seen,
    /// Records of this node's own attempts that found the ring buffer full.
    pub lost: u64,
    /// Records of attempts from outside that found no room.
    pub lost_inbound: u64,
    /// Dropped segments beyond the budget for telling of them.
    pub drops_untold: u64,
    /// SYNs from outside that were summed and not told one by one.
    pub summed: u64,
    /// Those of them whose listener is not known.
    pub summed_unplaced: u64,
    /// Pending SYNs whose slot was taken by another before they were answered.
    pub pending_overwritten: u64,
    /// Segments whose headers could not be read.
    pub unreadable: u64,
    /// Records that made no sense.
    pub undecodable: u64,
    /// Questions to the kernel that could not be put.
    pub unasked: u64,
    /// Sockets whose callback flags another program had overwritten.
    pub flags_reasserted: u64,
}

/// Observations by the place where they were made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// All of them.
    pub all: u64,
    /// At sockets.
    pub socket: u64,
    /// At interfaces of pods.
    pub pod_nic: u64,
    /// At interfaces that lead out of the node.
    pub node_nic: u64,
    /// At tunnel devices.
    pub overlay: u64,
    /// By the kernel itself: drops, answers to questions.
    pub kernel: u64,
}

/// Something that cannot be seen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Missing {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}

/// What became of what was seen.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Attempts {
    /// Open now.
    pub open: u64,
    /// Finished since the start.
    pub finished: u64,
    /// Ended with their outcome unseen, since too many were open.
    pub evicted: u64,
    /// Tenancies of ports that are remembered.
    pub tenancies: u64,
    /// Tenancies forgotten before the reuse window had passed.
    pub tenancies_evicted: u64,
    /// Established connections whose wire tuple had another tenant within the reuse window.
    pub reuses: u64,
    /// Findings dropped, since telemetry could not keep up.
    pub findings_dropped: u64,
    /// How far back the ledger reaches, in seconds.
    pub ledger_reaches_s: f64,
    /// The configured reuse window, in seconds.
    pub reuse_window_s: f64,
}

/// Attempts that are not told one by one, by why; and measurements without a series of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Untold {
    /// Attempts on loopback.
    pub loopback: u64,
    /// Connects from outside a pod that closed again with nothing said.
    pub health_checks: u64,
    /// Successes that a pod's own sidecar took.
    pub sidecar: u64,
    /// The agent's own connects to its backends.
    pub own_exports: u64,
    /// Successes that the ratio left out; in metrics they are, here and below.
    pub by_ratio: u64,
    /// Successes beyond the ceiling.
    pub by_ceiling: u64,
    /// Others beyond their budget, summed up.
    pub by_budget: u64,
    /// Attempts that hung and were told of at their end alone, beyond the budget for telling of it before.
    pub stalled: u64,
    /// Measurements that went to a series of overflow.
    pub overflowed: u64,
}

/// What the agent's process takes.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Process {
    /// CPU time in the program, in seconds.
    pub cpu_user_s: f64,
    /// CPU time in the kernel on its behalf, in seconds.
    pub cpu_system_s: f64,
    /// Memory that is resident.
    pub memory_bytes: u64,
}

/// Who is who.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Names {
    /// The Kubernetes API; none: it is not asked.
    pub kubernetes: Option<Kubernetes>,
    /// Ends of connections on this node that went out with no name, or with less than there would be: nothing knew
    /// them in time.
    pub nameless: u64,
}

/// How the Kubernetes API stands as a source of names.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Kubernetes {
    /// Whether every pod of this node was listed once.
    pub synced: bool,
    /// When the API server was last heard. While all is well that is at most a minute ago or so.
    pub last_contact: Option<Moment>,
    /// Since when it does not answer, or refuses; none while all is well. What is known stays known, and gets older.
    pub away: Option<Away>,
    /// Requests sent.
    pub requests: u64,
    /// Complete lists received.
    pub lists: u64,
    /// What is known of pods; none where that could not be looked at in time.
    pub pods: Option<Pods>,
}

/// An API server that does not tell.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Away {
    /// Since when.
    pub since: Moment,
    /// Why, as it was said last.
    pub why: String,
}

/// What is known of pods.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Pods {
    /// Pods of this node that are there.
    pub known: u64,
    /// About how many bytes all that is known takes.
    pub bytes: u64,
    /// Two pods claimed an address at once.
    pub conflicts: u64,
    /// Events that were older than what was known.
    pub out_of_order: u64,
    /// Questions by address that had no sure answer.
    pub doubtful: u64,
}

/// What one exporter does with one signal. Records are spans, log records or data points.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Exporter {
    /// Its key in the configuration.
    pub exporter: String,
    /// Where it sends to.
    pub endpoint: String,
    /// `traces`, `logs` or `metrics`.
    pub signal: String,
    /// Records offered.
    pub offered: u64,
    /// Records taken by the backend.
    pub sent: u64,
    /// Requests taken by the backend.
    pub requests: u64,
    /// Bytes of those requests before compression.
    pub bytes: u64,
    /// Requests that failed, each try.
    pub failures: u64,
    /// Those of them by status.
    pub failures_by: Vec<FailedBy>,
    /// Records dropped, by reason; every reason there is.
    pub dropped: Vec<Dropped>,
    /// Records in the queue now.
    pub queued: u64,
    /// Bytes in the queue now.
    pub queued_bytes: u64,
    /// Records on their way now.
    pub in_flight: u64,
    /// Since when every request fails; none while all is well.
    pub failing_since: Option<Moment>,
    /// The last failure, also of one that is well again.
    pub last_failure: Option<Failed>,
}

/// Records dropped for a reason.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Dropped {
    /// The reason: `queue_full`, `permanent`, ...
    pub reason: String,
    /// Records.
    pub records: u64,
}

/// Requests that failed with a status.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FailedBy {
    /// The gRPC status by its name, or `NO_ANSWER`.
    pub status: String,
    /// Requests.
    pub requests: u64,
}

/// A request that failed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Failed {
    /// When.
    pub at: Moment,
    /// Why, and what to check.
    pub why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_have_two_units_at_most() {
        let shown = [0.04, 59.9, 60.0, 124.0, 3_600.0, 12_000.0, 100_000.0, f64::NAN, -3.0].map(span);
        assert_eq!(
            shown,
            ["0.0 s", "59.9 s", "1 min 0 s", "2 min 4 s", "1 h 0 min", "3 h 20 min", "1 d 3 h", "0.0 s", "0.0 s"]
        );
    }

    #[test]
    fn a_moment_is_told_by_the_wall_clock_and_its_age() {
        let moment = Moment::ago(Duration::from_secs(124), Mono(1_000_000_000_000), WallClock::fixed(0));
        assert_eq!(moment.time, "1970-01-01T00:14:36.000000Z");
        assert_eq!(for_people(&moment), "1970-01-01 00:14:36 UTC (2 min 4 s)");
    }
}
