//! Files that are right.

use std::time::Duration;

use super::{load, load_with};
use crate::config::*;

fn otlp<'c>(config: &'c Config, id: &str) -> &'c OtlpExporter {
    match &config.exporter(id).unwrap().kind {
        ExporterKind::Otlp(otlp) => otlp,
        other => panic!("{other:?}"),
    }
}

/// The example that ships shows every default: reading it gives what no file gives.
#[test]
fn the_example_file_shows_the_defaults() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/synspan.yaml");
    let loaded = Config::load(Some(&path), &MapEnv::default()).unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config, Config::default());
}

/// The commented OTLP block of the example shows every default of that exporter.
#[test]
fn the_example_exporter_shows_the_defaults() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/synspan.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let block: Vec<&str> = text
        .lines()
        .skip_while(|line| *line != "  # otlp:")
        .take_while(|line| line.starts_with("  #"))
        .map(|line| line.strip_prefix("  # ").unwrap_or(""))
        .collect();
    assert!(block.len() > 20, "the block is missing");
    let text = format!("exporters:\n  {}\n", block.join("\n  "));
    let loaded = load(&text);
    let endpoint = Endpoint { host: "localhost".into(), port: 4317, tls: false };
    assert_eq!(otlp(&loaded.config, "otlp"), &OtlpExporter::new(endpoint));
}

#[test]
fn nothing_is_the_default() {
    for text in ["", "# nothing\n", "capture:\n", "exporters: {}\n"] {
        assert_eq!(load(text).config, Config::default(), "{text}");
    }
    assert_eq!(Config::load(None, &MapEnv::default()).unwrap().config, Config::default());
}

#[test]
fn everything_is_read() {
    let text = r#"
exporters:
  otlp/backup:
    endpoint: https://collector:4317
    timeout: 1m30s
    compression: zstd
    headers: {X-Tenant: a, authorization: "Bearer ${env:TOKEN}"}
    tls: {ca_file: /ca.pem, cert_file: /c.pem, key_file: /k.pem, server_name_override: other, min_version: "1.3", reload_interval: 1h}
    retry_on_failure: {initial_interval: 1s, randomization_factor: 0, multiplier: 2, max_interval: 10s, max_elapsed_time: 0}
    sending_queue:
      num_consumers: 2
      queue_size: 5000
      sizer: items
      batch: {flush_timeout: 1s, min_size: 100, max_size: 1000, sizer: bytes}
    keepalive: {time: 20s, permit_without_stream: true}
    user_agent: me
    authority: other:80
    wait_for_ready: false
    auth: null
    middlewares: []
  otlp_grpc: {endpoint: "localhost:4317", tls: {insecure: true}, headers: [{name: a, value: b}]}
  debug: {verbosity: detailed, color: never}
service:
  pipelines:
    traces: {exporters: [otlp/backup, otlp_grpc, debug]}
  telemetry: {logs: {level: DEBUG}}
capture:
  cgroup: /sys/fs/cgroup/x
  interfaces: {pod_nic: ["veth*"], node_nic: [eth0], ignore: [docker?]}
  exclude_addresses: ["169.254.0.0/16", "10.1.2.3"]
  attach: tcx
  ring_size: 16MiB
tracking: {reuse_window: 5m, covered: ["10.0.0.0/8"], max_attempts: 10, max_tenancies: 20, settle: 50ms, id_key: 000102030405060708090a0b0c0d0e0f}
identity:
  node_name: node-a
  static:
    - addresses: ["10.244.1.11", "10.244.2.0/24"]
      cgroups: ["/shop/cart"]
      attributes: {service.name: cart, number: 1}
kubernetes: {enabled: true, kubeconfig: /etc/kube.conf, cluster_name: blue, pod_env: false, label_names: true, nodes: false, services: true, cluster_pods: true, unknown_wait: 500ms}
spans: {kind: internal}
delivery: {memory_limit: 64MiB}
"#;
    let Loaded { config, warnings } = load_with(text, &MapEnv::from([("TOKEN", "t")]));
    assert_eq!(warnings, []);
    let backup = otlp(&config, "otlp/backup");
    assert_eq!(backup.endpoint, Endpoint { host: "collector".into(), port: 4317, tls: true });
    assert_eq!(backup.timeout, Duration::from_secs(90));
    assert_eq!(backup.compression, Compression::Zstd);
    let headers: Vec<_> = backup.headers.iter().map(|(name, value)| (name.as_str(), value.0.as_str())).collect();
    assert_eq!(headers, [("x-tenant", "a"), ("authorization", "Bearer t")]);
    assert_eq!(backup.tls.ca, Some(Pem::File("/ca.pem".into())));
    assert_eq!(backup.tls.min_version, TlsVersion::V1_3);
    assert_eq!(backup.tls.reload_interval, Some(Duration::from_secs(3600)));
    assert_eq!((backup.retry.multiplier, backup.retry.max_elapsed_time), (2.0, Duration::ZERO));
    assert_eq!((backup.queue.num_consumers, backup.queue.queue_size, backup.queue.sizer), (2, 5000, Sizer::Items));
    assert_eq!((backup.queue.batch.min_size, backup.queue.batch.sizer), (100, Sizer::Bytes));
    assert_eq!(backup.keepalive.timeout, Duration::from_secs(10));
    let plain = otlp(&config, "otlp_grpc");
    assert!(!plain.endpoint.tls);
    assert_eq!(plain.headers, [("a".to_owned(), Secret("b".to_owned()))]);
    assert_eq!(
        config.exporter("debug").unwrap().kind,
        ExporterKind::Debug(DebugExporter { all: true, color: Color::Never })
    );
    assert_eq!(config.trace_exporters().count(), 3);
    assert_eq!(config.log_level, LogLevel::Debug);
    assert_eq!(config.capture.interfaces.ignore, ["docker?"]);
    assert_eq!(config.capture.exclude_addresses[1].to_string(), "10.1.2.3/32");
    let kubernetes = Kubernetes {
        enabled: Enabled::Yes,
        kubeconfig: Some("/etc/kube.conf".into()),
        cluster_name: Some("blue".into()),
        pod_env: false,
        label_names: true,
        nodes: Enabled::No,
        services: true,
        cluster_pods: true,
        unknown_wait: Duration::from_millis(500),
    };
    assert_eq!(config.kubernetes, kubernetes);
    assert_eq!((config.capture.attach, config.capture.ring_size), (Attach::Tcx, 16 << 20));
    assert_eq!(
        config.tracking.id_key,
        Some(IdKey::Key(SecretKey([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])))
    );
    assert_eq!(config.identity.fixed[0].attributes[1], ("number".to_owned(), "1".to_owned()));
    assert_eq!((config.span_kind, config.delivery.memory_limit), (SpanKind::Internal, 64 << 20));
}

#[test]
fn where_the_agent_says_how_it_is() {
    let health = |text: &str| load(text).config.agent.health;
    assert_eq!(health(""), AgentHealth::default());
    for value in ["none", "null"] {
        assert_eq!(health(&format!("agent: {{health: {{endpoint: {value}}}}}")), AgentHealth::default(), "{value}");
    }
    let v6 = health("agent: {health: {endpoint: '[::1]:13134', metrics: true}}");
    assert_eq!((v6.endpoint, v6.metrics), (Some("[::1]:13134".parse().unwrap()), true));
    let deaf = load("agent:\n  health:\n    metrics: true");
    assert_eq!(deaf.config.agent.health.endpoint, None);
    assert_eq!(
        deaf.warnings[0].to_string(),
        "test.yaml:3: agent.health.metrics: nobody listens without an endpoint; add endpoint: 127.0.0.1:13134, or remove it"
    );
}

#[test]
fn the_agents_socket() {
    let socket = |text: &str| load(text).config.agent.socket.map(|path| path.display().to_string());
    assert_eq!(socket("").as_deref(), Some("/run/synspan/agent.sock"));
    assert_eq!(socket("agent: {socket: /run/other.sock}").as_deref(), Some("/run/other.sock"));
    assert_eq!(socket("agent: {socket: none}"), None);
}

#[test]
fn without_pipelines_every_exporter_is_used() {
    let config = load("exporters: {debug: , otlp: {endpoint: 'http://a:1'}}").config;
    assert_eq!(config.pipelines.traces, ["debug", "otlp"]);
}

#[test]
fn tls_follows_the_scheme_then_insecure() {
    for (text, tls) in [
        ("{endpoint: 'http://a:1'}", false),
        ("{endpoint: 'https://a:1', tls: {insecure: true}}", true),
        ("{endpoint: 'a:1'}", true),
        ("{endpoint: 'a:1', tls: {insecure: true}}", false),
        ("{endpoint: 'a:1', tls: {insecure: true, ca_file: /x}}", true),
    ] {
        let config = load(&format!("exporters: {{otlp: {text}}}")).config;
        assert_eq!(otlp(&config, "otlp").endpoint.tls, tls, "{text}");
    }
}

#[test]
fn warnings_do_not_stop() {
    let text = "exporters:\n  debug:\n  otlp: {endpoint: 'http://a:4318', tls: {ca_file: /x}}\nservice:\n  pipelines:\n    traces: {exporters: [debug]}\n";
    let warnings: Vec<String> = load(text).warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "test.yaml:3: exporters.otlp.endpoint: port 4318 is that of OTLP over HTTP by custom; gRPC's is 4317",
            "test.yaml:3: exporters.otlp.tls: these settings are not used; the endpoint is not https:// or tls.insecure is true",
            "test.yaml:3: exporters.otlp: this exporter is in no pipeline; add otlp to the exporters of one below service.pipelines, or remove it",
        ]
    );
}

#[test]
fn the_standard_variables() {
    let env = MapEnv::from([
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces:4317"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=b%20c"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "1500"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=x,k8s.cluster.name=c,deployment.environment.name=prod"),
    ]);
    let Loaded { config, warnings } = Config::load(None, &env).unwrap();
    assert_eq!(config.pipelines.traces, ["otlp"]);
    let exporter = otlp(&config, "otlp");
    assert_eq!(exporter.endpoint.to_string(), "https://traces:4317");
    assert_eq!(exporter.headers, [("a".to_owned(), Secret("b c".to_owned()))]);
    assert_eq!(exporter.timeout, Duration::from_millis(1500));
    assert_eq!(exporter.compression, Compression::None);
    assert_eq!(exporter.tls.ca, Some(Pem::File("/ca.pem".into())));
    assert_eq!(
        config.resource_attributes,
        [
            ("deployment.environment.name".to_owned(), "prod".to_owned()),
            ("k8s.cluster.name".to_owned(), "c".to_owned())
        ]
    );
    assert_eq!(warnings.len(), 1);
    // A file that names exporters has the last word; one that names none has not.
    let named = load_with("exporters: {debug: }", &env).config;
    assert_eq!(named.pipelines.traces, ["debug"]);
    let unnamed = load_with("spans: {kind: internal}", &env).config;
    assert_eq!(unnamed.pipelines.traces, ["otlp"]);
}

#[test]
fn secrets_are_not_shown() {
    let text = "exporters: {otlp: {endpoint: 'http://a:1', headers: {authorization: hush-hush}}}\ntracking: {id_key: hush-hush-hush-hush}";
    let shown = format!("{:?}", load(text).config);
    assert!(!shown.contains("hush"), "{shown}");
}
