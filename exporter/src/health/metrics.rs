//! synspan's own metrics as Prometheus text (exposition format 0.0.4), made of a [`Status`].
//!
//! What synspan finds out about connections is no part of it: that goes out by OTLP, by workload and destination.

use std::fmt::Write as _;

use super::status::{Exporter, Kubernetes, Pods, Status};

/// The media type of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A figure of an exporter.
type OfExporter = fn(&Exporter) -> u64;

/// The text.
pub fn text(status: &Status) -> String {
    let mut text = Text::default();
    agent(status, &mut text);
    capture(status, &mut text);
    attempts(status, &mut text);
    names(status, &mut text);
    exporters(status, &mut text);
    text.0
}

fn agent(status: &Status, text: &mut Text) {
    text.gauge("synspan_build_info", "The program that runs.");
    text.labelled("synspan_build_info", &[("version", &status.version)], 1.0);
    text.gauge("synspan_uptime_seconds", "Time since the agent's start.");
    text.value("synspan_uptime_seconds", status.started.ago_s);
    text.gauge("synspan_live", "Whether the agent lives: 1 where /livez says 200.");
    text.value("synspan_live", flag(status.live.ok));
    text.gauge("synspan_ready", "Whether the agent is ready: 1 where /readyz says 200.");
    text.value("synspan_ready", flag(status.ready.ok));
    text.gauge("synspan_thread_idle_seconds", "Time since a thread last went on; above 30 it is stuck.");
    for thread in &status.threads {
        text.labelled("synspan_thread_idle_seconds", &[("thread", &thread.name)], thread.last.ago_s);
    }
}

fn capture(status: &Status, text: &mut Text) {
    let capture = &status.capture;
    text.one_gauge("synspan_capture_hooks", "Hooks attached: a side of an interface each.", capture.hooks);
    text.one_gauge("synspan_capture_blind_hooks", "Hooks that could not be attached.", capture.blind);
    text.one("synspan_observations_total", "Observations taken in.", capture.observations);
    let lost = "synspan_capture_lost_records_total";
    text.counter(lost, "Records that found the ring buffer full, by the side that began the attempt.");
    text.labelled(lost, &[("side", "node")], float(capture.lost));
    text.labelled(lost, &[("side", "outside")], float(capture.lost_inbound));
    for (name, help, value) in [
        ("drops_untold", "Dropped segments beyond the budget for telling of them.", capture.drops_untold),
        ("summed_syns", "SYNs from outside that were summed and not told one by one.", capture.summed),
        ("summed_unplaced_syns", "Summed SYNs whose listener is not known.", capture.summed_unplaced),
        ("pending_overwritten", "Pending SYNs whose slot another took.", capture.pending_overwritten),
        ("unreadable_segments", "Segments whose headers could not be read.", capture.unreadable),
        ("undecodable_records", "Records that made no sense.", capture.undecodable),
        ("unasked_questions", "Questions to the kernel that found no room.", capture.unasked),
        ("flags_reasserted", "Sockets whose flags another program had overwritten.", capture.flags_reasserted),
    ] {
        text.one(&format!("synspan_capture_{name}_total"), help, value);
    }
}

fn attempts(status: &Status, text: &mut Text) {
    let attempts = &status.attempts;
    text.one_gauge("synspan_attempts_open", "Attempts open now.", attempts.open);
    text.one("synspan_attempts_finished_total", "Attempts finished.", attempts.finished);
    let help = "Attempts whose outcome is unseen, since too many were open.";
    text.one("synspan_attempts_evicted_total", help, attempts.evicted);
    text.one_gauge("synspan_ledger_tenancies", "Tenancies of ports that are remembered.", attempts.tenancies);
    let help = "Tenancies forgotten before the reuse window had passed.";
    text.one("synspan_ledger_evicted_tenancies_total", help, attempts.tenancies_evicted);
    let help = "Established connections whose wire tuple had another tenant within the reuse window.";
    text.one("synspan_port_reuses_total", help, attempts.reuses);
    let help = "Findings dropped, since telemetry could not keep up.";
    text.one("synspan_findings_dropped_total", help, attempts.findings_dropped);
}

fn names(status: &Status, text: &mut Text) {
    let help = "Ends of connections on this node that went out with no name, or with less than there would be.";
    text.one("synspan_names_nameless_ends_total", help, status.names.nameless);
    let Some(kubernetes) = &status.names.kubernetes else { return };
    let Kubernetes { synced, last_contact, away, requests, lists, pods } = kubernetes;
    text.gauge("synspan_kubernetes_synced", "Whether this node's pods were listed once.");
    text.value("synspan_kubernetes_synced", flag(*synced));
    let help = "For how long the API server has not answered, or has refused; 0 while all is well.";
    text.gauge("synspan_kubernetes_away_seconds", help);
    text.value("synspan_kubernetes_away_seconds", away.as_ref().map_or(0.0, |away| away.since.ago_s));
    if let Some(contact) = last_contact {
        let help = "Time since the API server was last heard: the age of what is known of pods.";
        text.gauge("synspan_kubernetes_contact_age_seconds", help);
        text.value("synspan_kubernetes_contact_age_seconds", contact.ago_s);
    }
    text.one("synspan_kubernetes_requests_total", "Requests to the API server.", *requests);
    text.one("synspan_kubernetes_lists_total", "Complete lists of pods received.", *lists);
    let Some(Pods { known, bytes, conflicts, out_of_order, doubtful }) = *pods else { return };
    text.one_gauge("synspan_kubernetes_pods", "Pods of this node that are known.", known);
    text.one_gauge("synspan_kubernetes_pods_size_bytes", "About how much memory all that is known takes.", bytes);
    for (name, help, value) in [
        ("address_conflicts", "Times that two pods claimed one address.", conflicts),
        ("out_of_order_events", "Events older than what was known, left out.", out_of_order),
        ("doubtful_ends", "Ends whose address may have been another pod's, left nameless.", doubtful),
    ] {
        text.one(&format!("synspan_kubernetes_{name}_total"), help, value);
    }
}

fn exporters(status: &Status, text: &mut Text) {
    let counters: [(&str, &str, OfExporter); 6] = [
        ("offered_records", "Records offered to an exporter.", |exporter| exporter.offered),
        ("sent_records", "Records taken by the backend.", |exporter| exporter.sent),
        ("sent_requests", "Requests taken by the backend.", |exporter| exporter.requests),
        ("sent_bytes", "Bytes of the requests taken, before compression.", |exporter| exporter.bytes),
        ("failed_requests", "Requests that failed, each try.", |exporter| exporter.failures),
        ("dropped_records", "Records dropped, by reason.", |_| 0),
    ];
    for (name, help, of) in counters {
        let name = format!("synspan_exporter_{name}_total");
        text.counter(&name, help);
        for exporter in &status.exporters {
            let labels = labels(exporter);
            if !name.contains("_dropped_") {
                text.labelled(&name, &labels, float(of(exporter)));
                continue;
            }
            for dropped in &exporter.dropped {
                text.labelled(&name, &[labels[0], labels[1], ("reason", &dropped.reason)], float(dropped.records));
            }
        }
    }
    let gauges: [(&str, &str, OfExporter); 3] = [
        ("queue_records", "Records that wait.", |exporter| exporter.queued),
        ("queue_size_bytes", "Bytes of the records that wait.", |exporter| exporter.queued_bytes),
        ("in_flight_records", "Records on their way.", |exporter| exporter.in_flight),
    ];
    for (name, help, of) in gauges {
        let name = format!("synspan_exporter_{name}");
        text.gauge(&name, help);
        for exporter in &status.exporters {
            text.labelled(&name, &labels(exporter), float(of(exporter)));
        }
    }
    let name = "synspan_exporter_failing_seconds";
    text.gauge(name, "For how long every request has failed; 0 while all is well.");
    for exporter in &status.exporters {
        let since = exporter.failing_since.as_ref().map_or(0.0, |since| since.ago_s);
        text.labelled(name, &labels(exporter), since);
    }
}

fn labels(exporter: &Exporter) -> [(&'static str, &str); 2] {
    [("exporter", &exporter.exporter), ("signal", &exporter.signal)]
}

fn flag(on: bool) -> f64 {
    f64::from(u8::from(on))
}

/// Values are 64-bit floats in this format: counts are exact up to 2^53.
fn float(count: u64) -> f64 {
    count as f64
}

/// Writes the format. Each family is a HELP and a TYPE line, then its samples.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn gauge(&mut self, name: &str, help: &str) {
        self.family(name, "gauge", help);
    }

    fn counter(&mut self, name: &str, help: &str) {
        self.family(name, "counter", help);
    }

    /// A counter with one sample.
    fn one(&mut self, name: &str, help: &str, count: u64) {
        self.counter(name, help);
        self.value(name, float(count));
    }

    /// A gauge with one sample.
    fn one_gauge(&mut self, name: &str, help: &str, count: u64) {
        self.gauge(name, help);
        self.value(name, float(count));
    }

    fn value(&mut self, name: &str, value: f64) {
        self.labelled(name, &[], value);
    }

    fn labelled(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

/// A label's value as the format wants it: backslash, quote and newline escaped.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;
    use crate::health::status::Names;
    use crate::health::testing::status;

    #[test]
    fn what_a_prometheus_reads() {
        insta::assert_snapshot!(text(&status()));
    }

    /// The rules of the format that a reader insists on: one HELP and TYPE before a family's samples, samples of a
    /// family together, no sample twice, counters end in `_total`.
    #[test]
    fn every_family_is_whole_and_stands_once() {
        let text = text(&status());
        let (mut kinds, mut samples, mut current) = (HashMap::new(), HashSet::new(), "");
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a kind");
                assert!(kinds.insert(name, kind).is_none(), "{name} twice");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
                current = name;
            } else if !line.starts_with("# HELP ") {
                let (sample, value) = line.rsplit_once(' ').expect("a value");
                assert_eq!(sample.split('{').next(), Some(current), "{line}");
                assert!(samples.insert(sample), "{line} twice");
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
        assert!(kinds.len() > 30 && kinds.keys().all(|name| name.starts_with("synspan_")));
    }

    #[test]
    fn labels_are_escaped() {
        let line = text(&status()).lines().find(|line| line.contains("odd")).expect("the odd exporter").to_owned();
        assert_eq!(line, r#"synspan_exporter_offered_records_total{exporter="otlp/\"odd\\\n",signal="traces"} 1300"#);
    }

    #[test]
    fn outside_a_cluster_nothing_is_said_of_one() {
        let status = crate::health::status::Status { names: Names::default(), ..status() };
        assert!(!text(&status).contains("kubernetes"));
        assert!(text(&status).contains("synspan_names_nameless_ends_total 0\n"));
    }
}
