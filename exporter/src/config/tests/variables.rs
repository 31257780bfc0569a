//! The standard variables, for each signal.

use std::time::Duration;

use crate::config::*;

fn load<const N: usize>(variables: [(&str, &str); N]) -> Loaded {
    match Config::load(None, &MapEnv::from(variables)) {
        Ok(loaded) => loaded,
        Err(error) => panic!("{error}"),
    }
}

/// The pipelines of traces, logs and metrics, and each exporter with its endpoint.
fn sent<const N: usize>(variables: [(&str, &str); N]) -> ([String; 3], Vec<String>) {
    let Loaded { config, warnings } = load(variables);
    assert_eq!(warnings, []);
    let exporters = config.exporters.iter().map(|Exporter { id, kind }| match kind {
        ExporterKind::Otlp(otlp) => format!("{id} {}", otlp.endpoint),
        ExporterKind::Debug(_) => id.clone(),
    });
    let pipelines = &config.pipelines;
    ([&pipelines.traces, &pipelines.logs, &pipelines.metrics].map(|ids| ids.join(" ")), exporters.collect())
}

#[track_caller]
fn gives<const N: usize>(variables: [(&str, &str); N], pipelines: [&str; 3], exporters: &[&str]) {
    assert_eq!(sent(variables), (pipelines.map(str::to_owned), exporters.iter().map(|&it| it.to_owned()).collect()));
}

const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4317");

#[test]
fn one_exporter_for_what_is_alike() {
    gives([], ["debug", "debug", "debug"], &["debug"]);
    gives([ENDPOINT], ["otlp", "otlp", "otlp"], &["otlp http://a:4317"]);
    gives([("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://l:4317")], ["", "otlp", ""], &["otlp http://l:4317"]);
}

#[test]
fn one_exporter_for_each_signal_that_differs() {
    let apart = ["otlp/traces", "otlp/logs", "otlp/metrics"];
    gives(
        [ENDPOINT, ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "https://m:4317")],
        apart,
        &["otlp/traces http://a:4317", "otlp/logs http://a:4317", "otlp/metrics https://m:4317"],
    );
    let config = load([
        ENDPOINT,
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=1"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a=2"),
        ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "1000"),
        ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "zstd"),
        ("OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", "/m.pem"),
        ("OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE", "/c.pem"),
        ("OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY", "/k.pem"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc"),
    ])
    .config;
    let [traces, logs, metrics] = apart.map(|id| match &config.exporter(id).unwrap().kind {
        ExporterKind::Otlp(otlp) => otlp,
        other => panic!("{other:?}"),
    });
    assert_eq!([traces, logs, metrics].map(|otlp| otlp.headers[0].1.0.as_str()), ["2", "1", "1"]);
    assert_eq!([traces, logs, metrics].map(|otlp| otlp.timeout.as_secs()), [10, 1, 10]);
    assert_eq!((traces.compression, metrics.compression), (Compression::Gzip, Compression::Zstd));
    assert_eq!((&traces.tls.ca, &metrics.tls.ca), (&None, &Some(Pem::File("/m.pem".into()))));
    assert!(metrics.tls.cert.is_some() && metrics.tls.key.is_some() && logs.tls.cert.is_none());
    gives(
        [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "a:4317"),
            ("OTEL_EXPORTER_OTLP_LOGS_INSECURE", "true"),
            ("OTEL_METRICS_EXPORTER", "none"),
        ],
        ["otlp/traces", "otlp/logs", ""],
        &["otlp/traces https://a:4317", "otlp/logs http://a:4317"],
    );
}

#[test]
fn exporters_by_name() {
    gives([ENDPOINT, ("OTEL_LOGS_EXPORTER", "none")], ["otlp", "", "otlp"], &["otlp http://a:4317"]);
    gives(
        [ENDPOINT, ("OTEL_TRACES_EXPORTER", "otlp, console")],
        ["otlp debug", "otlp", "otlp"],
        &["otlp http://a:4317", "debug"],
    );
    gives([("OTEL_METRICS_EXPORTER", "otlp")], ["", "", "otlp"], &["otlp http://localhost:4317"]);
    gives([("OTEL_TRACES_EXPORTER", "console")], ["debug", "debug", "debug"], &["debug"]);
    let none = ["OTEL_TRACES_EXPORTER", "OTEL_LOGS_EXPORTER", "OTEL_METRICS_EXPORTER"].map(|name| (name, "none"));
    gives(none, ["", "", ""], &[]);
    let Loaded { config, warnings } = load([ENDPOINT, ("OTEL_METRICS_EXPORTER", "prometheus")]);
    assert_eq!(config.pipelines.metrics, ["otlp"]);
    assert_eq!(
        warnings[0].to_string(),
        "environment: OTEL_METRICS_EXPORTER: `prometheus` is no exporter that synspan has, so the variable is ignored; set it to otlp, console or none"
    );
}

#[test]
fn what_is_wrong_for_all_is_said_once() {
    let env = MapEnv::from([ENDPOINT, ("OTEL_EXPORTER_OTLP_TIMEOUT", "5s"), ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "6s")]);
    let error = Config::load(None, &env).unwrap_err().to_string();
    let names: Vec<&str> = error.lines().filter_map(|line| line.split(": ").nth(1)).collect();
    assert_eq!(names, ["OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT"]);
}

#[test]
fn preferences_of_metrics() {
    const TEMPORALITY: &str = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
    const HISTOGRAM: &str = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION";
    const INTERVAL: &str = "OTEL_METRIC_EXPORT_INTERVAL";
    for (word, temporality) in [
        ("Cumulative", Temporality::Cumulative),
        ("DELTA", Temporality::Delta),
        ("lowmemory", Temporality::LowMemory),
        ("", Temporality::Cumulative),
    ] {
        assert_eq!(load([(TEMPORALITY, word)]).config.metrics.temporality, temporality, "{word}");
    }
    let env =
        MapEnv::from([(TEMPORALITY, "delta"), (HISTOGRAM, "base2_exponential_bucket_histogram"), (INTERVAL, "15000")]);
    // They hold with a file, too, unless that has the key.
    let with = |text: &str| Config::parse("t.yaml", text, &env).unwrap().config;
    let config = with("exporters: {debug: }\nmetrics: {exemplars: false, temporality: ~}");
    let metrics = &config.metrics;
    let quarter = Duration::from_secs(15);
    assert_eq!((metrics.temporality, metrics.histogram), (Temporality::Delta, HistogramKind::Exponential));
    assert_eq!((metrics.interval, config.own_telemetry.metric_interval), (quarter, quarter));
    let config = with("metrics: {temporality: cumulative, histogram: explicit, interval: 60s}");
    assert_eq!(config.metrics, Metrics::default());
    assert_eq!(config.own_telemetry.metric_interval, quarter);
    let config = with("service: {telemetry: {metrics: {interval: 20s}}}");
    assert_eq!((config.metrics.interval, config.own_telemetry.metric_interval.as_secs()), (quarter, 20));

    let Loaded { config, warnings } = load([(TEMPORALITY, "low_memory"), (HISTOGRAM, "x"), (INTERVAL, "500")]);
    assert_eq!(config, Config::default());
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "environment: OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE: `low_memory` is not known here, so the variable is ignored; write cumulative, delta or lowmemory",
            "environment: OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION: `x` is not known here, so the variable is ignored; write explicit_bucket_histogram or base2_exponential_bucket_histogram",
            "environment: OTEL_METRIC_EXPORT_INTERVAL: `500` is too short, so the variable is ignored; set it to at least 1000",
        ]
    );
}
