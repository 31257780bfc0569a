//! synspan's own metrics: the registry's instruments and what they read, of one [`Status`].
//!
//! Both ways out are made of it, Prometheus text (see [`super::metrics`]) and the OpenTelemetry SDK (`own`), so that
//! they never tell two stories. What synspan finds out about connections is no part of it.

use super::status::{Dropped, Exporter, FailedBy, Kubernetes, Pods, Status};
use crate::names::value::{cpu_mode, lost_side, point, quiet_reason, sampling_reason};
use crate::names::{Metric, attribute, metric};

/// What kind of instrument it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A total that never falls.
    Counter,
    /// A number of things there are now: may be added over agents.
    UpDownCounter,
    /// A value now: adding makes no sense.
    Gauge,
}

/// A value. Counts are whole.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Number {
    /// A count.
    Count(u64),
    /// Seconds.
    Seconds(f64),
}

/// One value of an instrument, with its attributes.
#[derive(Clone, PartialEq, Debug)]
pub struct Point {
    /// Names and values.
    pub attributes: Vec<(&'static str, String)>,
    /// The value.
    pub value: Number,
}

/// An instrument and its values now.
#[derive(Clone, PartialEq, Debug)]
pub struct Reading {
    /// Name, unit and description.
    pub metric: Metric,
    /// Its kind.
    pub kind: Kind,
    /// Its values; there may be none.
    pub points: Vec<Point>,
}

/// All instruments, each once and always in the same order, whatever the status says.
pub fn readings(status: &Status) -> Vec<Reading> {
    let mut all = Readings::default();
    agent(status, &mut all);
    capture(status, &mut all);
    attempts(status, &mut all);
    names(status, &mut all);
    kubernetes(status.names.kubernetes.as_ref(), &mut all);
    exporters(&status.exporters, &mut all);
    all.0
}

#[derive(Default)]
struct Readings(Vec<Reading>);

impl Readings {
    fn add(&mut self, kind: Kind, metric: Metric, points: Vec<Point>) {
        self.0.push(Reading { metric, kind, points });
    }

    fn count(&mut self, metric: Metric, count: u64) {
        self.add(Kind::Counter, metric, vec![bare(Number::Count(count))]);
    }

    fn now(&mut self, metric: Metric, count: u64) {
        self.add(Kind::UpDownCounter, metric, vec![bare(Number::Count(count))]);
    }

    fn seconds(&mut self, metric: Metric, seconds: impl IntoIterator<Item = f64>) {
        self.add(Kind::Gauge, metric, seconds.into_iter().map(|seconds| bare(Number::Seconds(seconds))).collect());
    }

    /// A counter with a value for each of a closed list.
    fn counts<const N: usize>(&mut self, metric: Metric, name: &'static str, counts: [(&str, u64); N]) {
        let points = counts.map(|(value, count)| point_of(name, value, Number::Count(count)));
        self.add(Kind::Counter, metric, points.into());
    }
}

fn bare(value: Number) -> Point {
    Point { attributes: Vec::new(), value }
}

fn point_of(name: &'static str, value: &str, number: Number) -> Point {
    Point { attributes: vec![(name, value.to_owned())], value: number }
}

fn agent(status: &Status, all: &mut Readings) {
    all.seconds(metric::SYNSPAN_AGENT_UPTIME, [status.started.ago_s]);
    all.now(metric::SYNSPAN_AGENT_LIVE, status.live.ok.into());
    all.now(metric::SYNSPAN_AGENT_READY, status.ready.ok.into());
    let threads = status.threads.iter();
    let idle =
        threads.map(|thread| point_of(attribute::SYNSPAN_THREAD, &thread.name, Number::Seconds(thread.last.ago_s)));
    all.add(Kind::Gauge, metric::SYNSPAN_AGENT_THREAD_IDLE, idle.collect());
    let process = status.process.iter();
    let cpu = process.clone().flat_map(|process| {
        [(cpu_mode::USER, process.cpu_user_s), (cpu_mode::SYSTEM, process.cpu_system_s)]
            .map(|(mode, seconds)| point_of(attribute::CPU_MODE, mode, Number::Seconds(seconds)))
    });
    all.add(Kind::Counter, metric::PROCESS_CPU_TIME, cpu.collect());
    let memory = process.map(|process| bare(Number::Count(process.memory_bytes)));
    all.add(Kind::UpDownCounter, metric::PROCESS_MEMORY_USAGE, memory.collect());
}

fn capture(status: &Status, all: &mut Readings) {
    let capture = &status.capture;
    let seen = capture.observations;
    all.counts(
        metric::SYNSPAN_AGENT_OBSERVATIONS,
        attribute::SYNSPAN_POINT,
        [
            (point::SOCKET, seen.socket),
            (point::POD_NIC, seen.pod_nic),
            (point::NODE_NIC, seen.node_nic),
            (point::OVERLAY, seen.overlay),
            (point::KERNEL, seen.kernel),
        ],
    );
    all.counts(
        metric::SYNSPAN_AGENT_LOST_OBSERVATIONS,
        attribute::SYNSPAN_LOST_SIDE,
        [(lost_side::NODE, capture.lost), (lost_side::OUTSIDE, capture.lost_inbound)],
    );
    all.now(metric::SYNSPAN_AGENT_HOOKS_ATTACHED, capture.hooks);
    all.now(metric::SYNSPAN_AGENT_HOOKS_BLIND, capture.blind);
    all.now(metric::SYNSPAN_AGENT_PODS_BLIND, capture.blind_pods);
    for (metric, count) in [
        (metric::SYNSPAN_AGENT_CAPTURE_DROPS_UNTOLD, capture.drops_untold),
        (metric::SYNSPAN_AGENT_CAPTURE_SUMMED_SYNS, capture.summed),
        (metric::SYNSPAN_AGENT_CAPTURE_SUMMED_UNPLACED_SYNS, capture.summed_unplaced),
        (metric::SYNSPAN_AGENT_CAPTURE_PENDING_OVERWRITTEN, capture.pending_overwritten),
        (metric::SYNSPAN_AGENT_CAPTURE_UNREADABLE_SEGMENTS, capture.unreadable),
        (metric::SYNSPAN_AGENT_CAPTURE_UNDECODABLE_RECORDS, capture.undecodable),
        (metric::SYNSPAN_AGENT_CAPTURE_UNASKED_QUESTIONS, capture.unasked),
        (metric::SYNSPAN_AGENT_CAPTURE_FLAGS_REASSERTED, capture.flags_reasserted),
    ] {
        all.count(metric, count);
    }
}

fn attempts(status: &Status, all: &mut Readings) {
    let attempts = &status.attempts;
    all.now(metric::SYNSPAN_AGENT_ATTEMPTS_OPEN, attempts.open);
    all.count(metric::SYNSPAN_AGENT_ATTEMPTS_FINISHED, attempts.finished);
    all.count(metric::SYNSPAN_AGENT_ATTEMPTS_EVICTED, attempts.evicted);
    let untold = &status.untold;
    all.counts(
        metric::SYNSPAN_AGENT_ATTEMPTS_QUIET,
        attribute::SYNSPAN_QUIET_REASON,
        [
            (quiet_reason::LOOPBACK, untold.loopback),
            (quiet_reason::HEALTH_CHECK, untold.health_checks),
            (quiet_reason::SIDECAR, untold.sidecar),
            (quiet_reason::OWN_EXPORT, untold.own_exports),
        ],
    );
    all.counts(
        metric::SYNSPAN_AGENT_ATTEMPTS_SAMPLED_OUT,
        attribute::SYNSPAN_SAMPLING_REASON,
        [
            (sampling_reason::RATIO, untold.by_ratio),
            (sampling_reason::CEILING, untold.by_ceiling),
            (sampling_reason::BUDGET, untold.by_budget),
        ],
    );
    all.count(metric::SYNSPAN_AGENT_ATTEMPTS_STALLED_UNTOLD, untold.stalled);
    all.now(metric::SYNSPAN_AGENT_LEDGER_TENANCIES, attempts.tenancies);
    all.count(metric::SYNSPAN_AGENT_LEDGER_EVICTIONS, attempts.tenancies_evicted);
    all.count(metric::SYNSPAN_AGENT_LEDGER_REUSES, attempts.reuses);
    all.seconds(metric::SYNSPAN_AGENT_LEDGER_HORIZON, [attempts.ledger_reaches_s]);
    all.seconds(metric::SYNSPAN_AGENT_LEDGER_WINDOW, [attempts.reuse_window_s]);
    all.count(metric::SYNSPAN_AGENT_FINDINGS_DROPPED, attempts.findings_dropped);
    all.count(metric::SYNSPAN_AGENT_SERIES_OVERFLOWED, untold.overflowed);
}

fn names(status: &Status, all: &mut Readings) {
    all.count(metric::SYNSPAN_AGENT_NAMES_MISSING, status.names.nameless);
}

/// Instruments without a value where Kubernetes is not asked.
fn kubernetes(asked: Option<&Kubernetes>, all: &mut Readings) {
    let counts = |of: fn(&Kubernetes) -> u64| asked.map(|k| bare(Number::Count(of(k)))).into_iter().collect();
    all.seconds(
        metric::SYNSPAN_AGENT_IDENTITY_AGE,
        asked.and_then(|k| k.last_contact.as_ref()).map(|contact| contact.ago_s),
    );
    all.add(Kind::UpDownCounter, metric::SYNSPAN_AGENT_KUBERNETES_SYNCED, counts(|k| k.synced.into()));
    all.seconds(
        metric::SYNSPAN_AGENT_KUBERNETES_AWAY,
        asked.map(|k| k.away.as_ref().map_or(0.0, |away| away.since.ago_s)),
    );
    all.add(Kind::Counter, metric::SYNSPAN_AGENT_KUBERNETES_REQUESTS, counts(|k| k.requests));
    all.add(Kind::Counter, metric::SYNSPAN_AGENT_KUBERNETES_LISTS, counts(|k| k.lists));
    let pods = asked.and_then(|k| k.pods);
    let of_pods = |of: fn(Pods) -> u64| pods.map(|pods| bare(Number::Count(of(pods)))).into_iter().collect();
    all.add(Kind::UpDownCounter, metric::SYNSPAN_AGENT_KUBERNETES_PODS, of_pods(|pods| pods.known));
    all.add(Kind::UpDownCounter, metric::SYNSPAN_AGENT_KUBERNETES_PODS_SIZE, of_pods(|pods| pods.bytes));
    all.add(Kind::Counter, metric::SYNSPAN_AGENT_KUBERNETES_ADDRESS_CONFLICTS, of_pods(|pods| pods.conflicts));
    all.add(Kind::Counter, metric::SYNSPAN_AGENT_KUBERNETES_OUT_OF_ORDER_EVENTS, of_pods(|pods| pods.out_of_order));
    all.add(Kind::Counter, metric::SYNSPAN_AGENT_KUBERNETES_DOUBTFUL_ENDS, of_pods(|pods| pods.doubtful));
}

fn exporters(exporters: &[Exporter], all: &mut Readings) {
    let count = |value: fn(&Exporter) -> u64| -> Vec<Point> {
        let point = |exporter: &Exporter| Point { attributes: who(exporter), value: Number::Count(value(exporter)) };
        exporters.iter().map(point).collect()
    };
    all.add(Kind::Counter, metric::SYNSPAN_AGENT_EXPORTER_OFFERED_RECORDS, count(|e| e.offered));
    all.add(Kind::Counter, metric::SYNSPAN_AGENT_EXPORTER_SENT_RECORDS, count(|e| e.sent));
    let with = |exporter: &Exporter, name: &'static str, value: &str, count: u64| {
        let attributes = who(exporter).into_iter().chain([(name, value.to_owned())]).collect();
        Point { attributes, value: Number::Count(count) }
    };
    let dropped = exporters.iter().flat_map(|exporter| {
        let point = |d: &Dropped| with(exporter, attribute::SYNSPAN_EXPORTER_DROP_REASON, &d.reason, d.records);
        exporter.dropped.iter().map(point)
    });
    all.add(Kind::Counter, metric::SYNSPAN_AGENT_EXPORTER_DROPPED_RECORDS, dropped.collect());
    all.add(Kind::Counter, metric::SYNSPAN_AGENT_EXPORTER_REQUESTS, count(|e| e.requests));
    all.add(Kind::Counter, metric::SYNSPAN_AGENT_EXPORTER_SENT_SIZE, count(|e| e.bytes));
    let failures = exporters.iter().flat_map(|exporter| {
        let point = |f: &FailedBy| with(exporter, attribute::SYNSPAN_STATUS, &f.status, f.requests);
        exporter.failures_by.iter().map(point)
    });
    all.add(Kind::Counter, metric::SYNSPAN_AGENT_EXPORTER_FAILURES, failures.collect());
    let failing = exporters.iter().map(|exporter| {
        let seconds = exporter.failing_since.as_ref().map_or(0.0, |since| since.ago_s);
        Point { attributes: who(exporter), value: Number::Seconds(seconds) }
    });
    all.add(Kind::Gauge, metric::SYNSPAN_AGENT_EXPORTER_FAILING, failing.collect());
    all.add(Kind::UpDownCounter, metric::SYNSPAN_AGENT_EXPORTER_QUEUE_RECORDS, count(|e| e.queued));
    all.add(Kind::UpDownCounter, metric::SYNSPAN_AGENT_EXPORTER_QUEUE_SIZE, count(|e| e.queued_bytes));
    all.add(Kind::UpDownCounter, metric::SYNSPAN_AGENT_EXPORTER_IN_FLIGHT_RECORDS, count(|e| e.in_flight));
}

fn who(exporter: &Exporter) -> Vec<(&'static str, String)> {
    vec![(attribute::SYNSPAN_EXPORTER, exporter.exporter.clone()), (attribute::SYNSPAN_SIGNAL, exporter.signal.clone())]
}
