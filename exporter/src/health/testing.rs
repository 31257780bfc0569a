//! An agent's state for tests.

use super::Source;
use super::judge::{Facts, Names, Verdict};
use super::status::{
    Attempts, Away, Capture, Dropped, Exporter, Failed, FailedBy, Kubernetes, Missing, Moment, Names as NamesStatus,
    Pods, Process, Seen, Status, Thread, Untold,
};
use crate::capture::observation::Mono;
use crate::identify::clock::WallClock;

const MINUTE: u64 = 60_000_000_000;

/// An agent two minutes after its start, in which all is well.
pub fn facts() -> Facts {
    let now = Mono(2 * MINUTE);
    let (clock, started) = (WallClock::fixed(0), Mono(0));
    Facts { now, clock, started, capture: now, telemetry: now, attached: true, blind: 0, names: Names::NotAsked }
}

fn ago(seconds: u64) -> Moment {
    let now = Mono(1_795_465_867_000_000_000);
    Moment::ago(std::time::Duration::from_secs(seconds), now, WallClock::fixed(0))
}

/// An agent that has seen better days: something stands in every place.
pub fn status() -> Status {
    let exporter = Exporter {
        exporter: "otlp/\"odd\\\n".to_owned(),
        endpoint: "http://collector:4317".to_owned(),
        signal: "traces".to_owned(),
        offered: 1_300,
        sent: 1_234,
        requests: 12,
        bytes: 345_678,
        failures: 7,
        failures_by: [("UNAVAILABLE", 5), ("NO_ANSWER", 2)]
            .map(|(status, requests)| FailedBy { status: status.to_owned(), requests })
            .into(),
        dropped: [("queue_full", 6), ("permanent", 0)]
            .map(|(reason, records)| Dropped { reason: reason.to_owned(), records })
            .into(),
        queued: 50,
        queued_bytes: 43_210,
        in_flight: 10,
        failing_since: Some(ago(95)),
        last_failure: Some(Failed { at: ago(2), why: "cannot connect: refused; is a Collector there?".to_owned() }),
    };
    let well = Exporter {
        exporter: "otlp".to_owned(),
        queued: 0,
        queued_bytes: 0,
        in_flight: 0,
        failures: 0,
        failures_by: Vec::new(),
        dropped: Vec::new(),
        failing_since: None,
        last_failure: None,
        ..exporter.clone()
    };
    Status {
        version: "0.1.0".to_owned(),
        node: "node-a".to_owned(),
        pid: 4711,
        started: ago(12_000),
        live: Verdict { ok: true, says: "ok".to_owned() },
        ready: Verdict { ok: true, says: "ok; capture: hooks that could not be attached: 1".to_owned() },
        threads: ["capture", "telemetry"].map(|name| Thread { name: name.to_owned(), last: ago(0) }).into(),
        capture: Capture {
            cgroup: "/sys/fs/cgroup".to_owned(),
            attach: "tcx".to_owned(),
            attached: true,
            hooks: 41,
            blind: 1,
            missing: vec![Missing { what: "drop reasons".to_owned(), why: "no BTF".to_owned() }],
            observations: Seen {
                all: 98_765,
                socket: 60_000,
                pod_nic: 20_000,
                node_nic: 18_000,
                overlay: 0,
                kernel: 765,
            },
            blind_pods: 1,
            lost: 3,
            summed: 17,
            ..Capture::default()
        },
        attempts: Attempts {
            open: 2,
            finished: 4_321,
            tenancies: 1_000,
            reuses: 5,
            ledger_reaches_s: 300.0,
            reuse_window_s: 900.0,
            ..Attempts::default()
        },
        untold: Untold { loopback: 8, by_budget: 31, ..Untold::default() },
        process: Some(Process { cpu_user_s: 12.5, cpu_system_s: 3.25, memory_bytes: 40 << 20 }),
        names: NamesStatus {
            kubernetes: Some(Kubernetes {
                synced: true,
                last_contact: Some(ago(190)),
                away: Some(Away { since: ago(184), why: "connection refused \u{1b}[2J".to_owned() }),
                requests: 9,
                lists: 1,
                pods: Some(Pods { known: 12, bytes: 34_567, conflicts: 1, out_of_order: 0, doubtful: 2 }),
            }),
            nameless: 4,
        },
        console: true,
        exporters: vec![exporter, well],
    }
}

/// An agent whose facts a test sets.
pub struct Fake {
    /// What is judged.
    pub facts: std::sync::Mutex<Facts>,
    /// What is told.
    pub status: Status,
}

impl Source for Fake {
    fn facts(&self) -> Facts {
        self.facts.lock().expect("lock").clone()
    }

    fn status(&self) -> Status {
        self.status.clone()
    }
}
