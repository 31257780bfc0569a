//! Files and variables that are right: where signals go, and what becomes of them.

use std::time::Duration;

use super::load;
use crate::config::*;

fn warnings(text: &str) -> Vec<String> {
    load(text).warnings.iter().map(ToString::to_string).collect()
}

/// The pipelines of traces, logs and metrics.
fn pipelines(config: &Config) -> [Vec<&str>; 3] {
    let ids = |exporters: &mut dyn Iterator<Item = &'_ Exporter>| -> Vec<String> {
        exporters.map(|exporter| exporter.id.clone()).collect()
    };
    assert_eq!(ids(&mut config.trace_exporters()), config.pipelines.traces);
    assert_eq!(ids(&mut config.log_exporters()), config.pipelines.logs);
    assert_eq!(ids(&mut config.metric_exporters()), config.pipelines.metrics);
    [&config.pipelines.traces, &config.pipelines.logs, &config.pipelines.metrics]
        .map(|ids| ids.iter().map(String::as_str).collect())
}

const THREE: &str = "exporters: {debug: , otlp/a: {endpoint: 'http://a:1'}, otlp/b: {endpoint: 'http://b:1'}}\n";

#[test]
fn each_signal_has_its_pipeline() {
    let all = vec!["debug", "otlp/a", "otlp/b"];
    assert_eq!(pipelines(&load(THREE).config), [all.clone(), all.clone(), all]);
    assert_eq!(pipelines(&Config::default()), [["debug"], ["debug"], ["debug"]]);
    let text = "service:\n  pipelines:\n    metrics: {exporters: [otlp/b]}\n    traces: {exporters: [debug, otlp/a]}\n";
    let Loaded { config, warnings } = load(&format!("{THREE}{text}"));
    assert_eq!(pipelines(&config), [vec!["debug", "otlp/a"], vec![], vec!["otlp/b"]]);
    assert_eq!(config.pipelines.ids(), ["debug", "otlp/a", "otlp/b"]);
    assert_eq!(warnings, []);
}

#[test]
fn several_pipelines_of_a_signal_are_one() {
    let text = "service:\n  pipelines:\n    traces: {exporters: [debug]}\n    \
                traces/2: {receivers: [], processors: [], exporters: [otlp/b, debug]}\n    \
                logs/only: {exporters: [otlp/a]}\n    metrics/b: {exporters: [otlp/b]}\n";
    let config = load(&format!("{THREE}{text}")).config;
    assert_eq!(pipelines(&config), [vec!["debug", "otlp/b"], vec!["otlp/a"], vec!["otlp/b"]]);
}

#[test]
fn exporters_that_are_given_nothing() {
    let named = |signal: &str, rest: &str| {
        format!("{THREE}service:\n  pipelines: {{{signal}: {{exporters: [otlp/a]}}}}\n{rest}")
    };
    let unused = |id: &str| {
        format!(
            "test.yaml:1: exporters.{id}: this exporter is in no pipeline; add {id} to the exporters of one below service.pipelines, or remove it"
        )
    };
    assert_eq!(warnings(&named("logs", "")), [unused("debug"), unused("otlp/b")]);
    assert_eq!(warnings(&named("metrics", "  telemetry: {logs: {exporters: [otlp/b]}}")), [unused("debug")]);
    assert_eq!(warnings(&named("metrics", "  telemetry: {metrics: {exporters: [otlp/b]}}")), [unused("debug")]);
    assert_eq!(
        warnings("exporters: {debug: }\nservice: {pipelines: {logs: {exporters: [debug]}}}"),
        [
            "test.yaml:1: exporters.debug: the console shows what is in a pipeline of traces, and nothing else; add debug to service.pipelines.traces.exporters, or remove it"
        ]
    );
}

#[test]
fn everything_of_the_signals_is_read() {
    let text = r#"
exporters: {otlp: {endpoint: "http://a:1"}, otlp/own: {endpoint: "http://b:1"}}
service:
  telemetry:
    logs: {level: warn, exporters: [otlp/own, otlp]}
    metrics: {exporters: [otlp/own], interval: 10s}
metrics:
  interval: 15s
  temporality: low_memory
  histogram: exponential
  max_series: 10_000
  max_destinations: 50
  max_addresses: 0
  expire_after: 1h
  exemplars: false
  destinations:
    - {name: billing, addresses: [192.0.2.0/24, "2001:db8::/32"]}
    - name: mainframe
      addresses: [198.51.100.7]
logs: {connect: failures, stalled: false, flows: false}
flows: {interval: 0}
sampling: {ratio: 0.01, ceiling: 0, budget: {rate: 20, burst: 5}}
privacy: {addresses: hash, previous_owner: redacted}
quiet: {loopback: false, health_checks: false, sidecar: false, own_exports: false}
"#;
    let Loaded { config, warnings } = load(text);
    assert_eq!(warnings, []);
    let own = OwnTelemetry {
        log_exporters: vec!["otlp/own".to_owned(), "otlp".to_owned()],
        metric_exporters: vec!["otlp/own".to_owned()],
        metric_interval: Duration::from_secs(10),
        service_name: None,
    };
    assert_eq!((config.log_level, &config.own_telemetry), (LogLevel::Warn, &own));
    let named = |name: &str, prefixes: &[&str]| NamedDestination {
        name: name.to_owned(),
        prefixes: prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect(),
    };
    let metrics = Metrics {
        interval: Duration::from_secs(15),
        temporality: Temporality::LowMemory,
        histogram: HistogramKind::Exponential,
        max_series: 10_000,
        max_destinations: 50,
        max_addresses: 0,
        expire_after: Duration::from_secs(3600),
        exemplars: false,
        destinations: vec![
            named("billing", &["192.0.2.0/24", "2001:db8::/32"]),
            named("mainframe", &["198.51.100.7/32"]),
        ],
    };
    assert_eq!(config.metrics, metrics);
    assert_eq!(config.logs, Logs { connect: ConnectLogs::Failures, stalled: false, flows: false });
    assert_eq!(config.flows, Flows { interval: Duration::ZERO });
    assert_eq!(config.sampling, Sampling { ratio: 0.01, ceiling: 0, budget: Budget { rate: 20, burst: 5 } });
    let privacy = Privacy { addresses: AddressPrivacy::Hash, previous_owner: OwnerPrivacy::Redacted };
    assert_eq!(config.privacy, privacy);
    let quiet = Quiet { loopback: false, health_checks: false, sidecar: false, own_exports: false };
    assert_eq!(config.quiet, quiet);
}

#[test]
fn every_word_is_known() {
    for (word, temporality) in
        [("cumulative", Temporality::Cumulative), ("delta", Temporality::Delta), ("low_memory", Temporality::LowMemory)]
    {
        assert_eq!(load(&format!("metrics: {{temporality: {word}}}")).config.metrics.temporality, temporality);
    }
    for (word, connect) in [("all", ConnectLogs::All), ("failures", ConnectLogs::Failures), ("none", ConnectLogs::None)]
    {
        assert_eq!(load(&format!("logs: {{connect: {word}}}")).config.logs.connect, connect);
    }
    for (word, addresses) in [
        ("keep", AddressPrivacy::Keep),
        ("prefix", AddressPrivacy::Prefix),
        ("hash", AddressPrivacy::Hash),
        ("drop", AddressPrivacy::Drop),
    ] {
        assert_eq!(load(&format!("privacy: {{addresses: {word}}}")).config.privacy.addresses, addresses);
    }
    for (word, owner) in
        [("full", OwnerPrivacy::Full), ("namespace", OwnerPrivacy::Namespace), ("redacted", OwnerPrivacy::Redacted)]
    {
        assert_eq!(load(&format!("privacy: {{previous_owner: {word}}}")).config.privacy.previous_owner, owner);
    }
    for ratio in ["0", "1", "0.25", "1e-6"] {
        let read = load(&format!("sampling: {{ratio: {ratio}}}")).config.sampling.ratio;
        assert_eq!(read, ratio.parse::<f64>().unwrap());
    }
}

#[test]
fn what_is_doubtful_of_metrics() {
    let text = "metrics:\n  expire_after: 30s\n  destinations:\n    - {name: a, addresses: [10.0.0.0/8, 10.1.0.0/16]}\n    \
                - {name: b, addresses: [192.0.2.1, 10.1.2.0/24]}\n    - {name: c, addresses: [10.1.2.0/24, 'fd00::/8']}\n";
    let right = "that is right if it is meant: the longest prefix holds, and of equal ones the first";
    assert_eq!(
        warnings(text),
        [
            "test.yaml:2: metrics.expire_after: shorter than metrics.interval: series end at each export; write a time that several intervals fit in".to_owned(),
            format!("test.yaml:5: metrics.destinations[1].addresses[1]: 10.1.2.0/24 overlaps 10.1.0.0/16 of `a`; {right}"),
            format!("test.yaml:6: metrics.destinations[2].addresses[0]: 10.1.2.0/24 overlaps 10.1.2.0/24 of `b`; {right}"),
        ]
    );
}
