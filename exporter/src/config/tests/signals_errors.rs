//! Files that are wrong in what they say of signals.

use crate::config::*;

#[track_caller]
fn one(text: &str, message: &str) {
    let error = Config::parse("t.yaml", text, &MapEnv::default()).expect_err(text);
    assert_eq!(error.to_string(), message, "{text}");
}

#[test]
fn metrics() {
    for (setting, message) in [
        ("interval: 999ms", "interval: `999ms` is too short; write at least 1s"),
        ("interval: 0", "interval: `0` is too short; write at least 1s"),
        ("expire_after: 10ms", "expire_after: `10ms` is too short; write at least 1s"),
        ("temporality: lowmemory", "temporality: `lowmemory` is not known here; write cumulative, delta or low_memory"),
        ("histogram: native", "histogram: `native` is not known here; write explicit or exponential"),
        ("max_series: 0", "max_series: `0` is too small; write a whole number of at least 1"),
        ("max_destinations: 0", "max_destinations: `0` is too small; write a whole number of at least 1"),
        ("max_addresses: -1", "max_addresses: `-1` is no whole number; write a whole number of at least 0"),
        ("exemplars: some", "exemplars: `some` is neither true nor false; write true or false"),
        ("max_serie: 1", "max_serie: unknown key; did you mean `max_series`?"),
        ("destinations: {a: b}", "destinations: a map where a list belongs; write [one, two], or one `- item` a line"),
        ("destinations: [{addresses: [10.0.0.1]}]", "destinations[0]: the destination has no name; add name: ..."),
        (
            "destinations: [{name: '', addresses: [10.0.0.1]}]",
            "destinations[0]: the destination has no name; add name: ...",
        ),
        ("destinations: [{name: a}]", "destinations[0]: the destination has no addresses; add addresses: [...]"),
        (
            "destinations: [{name: a, addresses: []}]",
            "destinations[0]: the destination has no addresses; add addresses: [...]",
        ),
        (
            "destinations: [{name: a, addresses: [10.0.0.1/8]}]",
            "destinations[0].addresses[0]: `10.0.0.1/8` has bits set beyond its length; write 10.0.0.0/8",
        ),
        (
            "destinations: [{name: a, prefixes: [10.0.0.1], addresses: [10.0.0.1]}]",
            "destinations[0].prefixes: unknown key; known here: name, addresses",
        ),
        (
            "destinations: [{name: a, addresses: [10.0.0.1]}, {name: a, addresses: [10.0.0.2]}]",
            "destinations[1].name: `a` is the name of two destinations; put all its addresses in one of them",
        ),
    ] {
        one(&format!("metrics:\n  {setting}"), &format!("t.yaml:2: metrics.{message}"));
    }
}

#[test]
fn logs_flows_sampling_privacy_and_quiet() {
    for (text, message) in [
        ("logs: {connect: some}", "logs.connect: `some` is not known here; write all, failures or none"),
        ("logs: {flow: true}", "logs.flow: unknown key; did you mean `flows`?"),
        (
            "flows: {interval: 1ms}",
            "flows.interval: `1ms` is too short; write at least 1s, or 0 for none before the end",
        ),
        ("sampling: {ratio: 1.5}", "sampling.ratio: `1.5` is out of range; write a number from 0 to 1"),
        ("sampling: {ratio: -0.1}", "sampling.ratio: `-0.1` is out of range; write a number from 0 to 1"),
        ("sampling: {ratio: NaN}", "sampling.ratio: `NaN` is out of range; write a number from 0 to 1"),
        ("sampling: {ratio: 10%}", "sampling.ratio: `10%` is no number; write a number from 0 to 1"),
        ("sampling: {ceiling: -1}", "sampling.ceiling: `-1` is no whole number; write a whole number of at least 0"),
        ("sampling: {ceiling: 4294967296}", "sampling.ceiling: `4294967296` is too large; write at most 4294967295"),
        (
            "sampling: {budget: {burst: 0}}",
            "sampling.budget.burst: `0` is too small; write a whole number of at least 1",
        ),
        (
            "sampling: {budget: 10}",
            "sampling.budget: a value where a map belongs; write `key: value` lines, indented below it",
        ),
        ("privacy: {addresses: mask}", "privacy.addresses: `mask` is not known here; write keep, prefix, hash or drop"),
        (
            "privacy: {previous_owner: none}",
            "privacy.previous_owner: `none` is not known here; write full, namespace or redacted",
        ),
        ("quiet: {health-checks: true}", "quiet.health-checks: unknown key; did you mean `health_checks`?"),
        ("quiet: {sidecar: 1}", "quiet.sidecar: `1` is neither true nor false; write true or false"),
    ] {
        one(text, &format!("t.yaml:1: {message}"));
    }
}

#[test]
fn pipelines() {
    for (pipelines, message) in [
        (
            "{}",
            ": there is no pipeline; add traces, logs or metrics: {exporters: [...]}, or remove `pipelines` to send all to every exporter",
        ),
        ("{profiles: {exporters: [debug]}}", ".profiles: not supported by synspan; remove it: synspan has no profiles"),
        ("{log: {exporters: [debug]}}", ".log: unknown key; did you mean `logs`?"),
        ("{spans: {exporters: [debug]}}", ".spans: unknown key; known here: traces, logs, metrics"),
        ("{metric/2: {exporters: [debug]}}", ".metric/2: unknown key; did you mean `metrics`?"),
        ("{traces/: {exporters: [debug]}}", ".traces/: the name after the slash is empty; write traces or traces/name"),
        ("{metrics: }", ".metrics: no exporter is named; add exporters: [...]"),
        ("{logs/2: {exporters: []}}", ".logs/2.exporters: the list is empty; name at least one exporter"),
        ("{logs: {exporters: [debug, ~]}}", ".logs.exporters[1]: the list item is empty; write a value, or remove it"),
        ("{logs: {exporters: [debug, debug]}}", ".logs.exporters[1]: `debug` is named twice; keep one of the two"),
        (
            "{metrics: {exporters: [debgu]}}",
            ".metrics.exporters[0]: the exporter `debgu` is not defined; did you mean `debug`?",
        ),
        (
            "{logs: {processors: [batch], exporters: [debug]}}",
            ".logs.processors: not supported by synspan; remove it: synspan is the receiver, and has no processors",
        ),
    ] {
        one(
            &format!("exporters: {{debug: }}\nservice:\n  pipelines: {pipelines}"),
            &format!("t.yaml:3: service.pipelines{message}"),
        );
    }
}

#[test]
fn own_telemetry() {
    for (telemetry, message) in [
        ("logs: {exporters: [otpl]}", "logs.exporters[0]: the exporter `otpl` is not defined; did you mean `otlp`?"),
        (
            "metrics: {exporters: [zebra]}",
            "metrics.exporters[0]: the exporter `zebra` is not defined; add zebra: below `exporters`, or remove it here",
        ),
        ("metrics: {interval: 10ms}", "metrics.interval: `10ms` is too short; write at least 1s"),
        (
            "metrics: {level: detailed}",
            "metrics.level: `detailed` is not supported by synspan; remove it: all of synspan's own metrics are sent to `exporters`, or none if that is empty",
        ),
        (
            "metrics: {readers: [{pull: }]}",
            "metrics.readers: not supported by synspan; remove it: name exporters in `exporters`, or set agent.health.metrics to be scraped",
        ),
        (
            "traces: {processors: [{batch: }]}",
            "traces: not supported by synspan; remove it: of itself synspan sends logs and metrics only",
        ),
        (
            "resource: {service.name: x}",
            "resource: not supported by synspan; remove it: of itself synspan sends logs and metrics only",
        ),
    ] {
        one(
            &format!(
                "exporters: {{debug: , otlp: {{endpoint: 'http://a:1'}}}}\nservice:\n  telemetry:\n    {telemetry}"
            ),
            &format!("t.yaml:4: service.telemetry.{message}"),
        );
    }
}
