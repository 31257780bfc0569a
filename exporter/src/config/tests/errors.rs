//! Files that are wrong: file, line, path, what, and what would be right.

use proptest::prelude::*;

use crate::config::*;

fn errors(text: &str) -> Vec<String> {
    let error = Config::parse("t.yaml", text, &MapEnv::default()).expect_err(text);
    error.to_string().lines().map(str::to_owned).collect()
}

#[track_caller]
fn one(text: &str, message: &str) {
    assert_eq!(errors(text), [message], "{text}");
}

#[test]
fn each_form_of_error() {
    one("captur: {}", "t.yaml:1: captur: unknown key; did you mean `capture`?");
    one(
        "exporters:\n  otlp:\n    endpoint: http://a:1\n    retry_on_failure:\n      initial_intervall: 1s",
        "t.yaml:5: exporters.otlp.retry_on_failure.initial_intervall: unknown key; did you mean `initial_interval`?",
    );
    one("spans: {colour: red}", "t.yaml:1: spans.colour: unknown key; known here: kind");
    one(
        "capture:\n  interfaces:\n    pod_nic: veth*",
        "t.yaml:3: capture.interfaces.pod_nic: a value where a list belongs; write [one, two], or one `- item` a line",
    );
    one("agent: {socket: agent.sock}", "t.yaml:1: agent.socket: `agent.sock` is no absolute path; begin it with /");
    one(
        "agent: {socket: /run/}",
        "t.yaml:1: agent.socket: `/run/` can be no socket's path; write the path of a file, of at most 107 bytes",
    );
    for wrong in ["localhost:13134", "127.0.0.1", "127.0.0.1:0", "::1:13134"] {
        one(
            &format!("agent:\n  health:\n    endpoint: '{wrong}'"),
            &format!(
                "t.yaml:3: agent.health.endpoint: `{wrong}` is no IP address with a port; write one such as 127.0.0.1:13134 or [::1]:13134"
            ),
        );
    }
    one(
        "agent: {health: {metrics: maybe}}",
        "t.yaml:1: agent.health.metrics: `maybe` is neither true nor false; write true or false",
    );
    one("agent: {health: {port: 1}}", "t.yaml:1: agent.health.port: unknown key; known here: endpoint, metrics");
    one("agent: {sockets: /run/a}", "t.yaml:1: agent.sockets: unknown key; did you mean `socket`?");
    one("capture: [a]", "t.yaml:1: capture: a list where a map belongs; write `key: value` lines, indented below it");
    one("tracking: {settle: [1s]}", "t.yaml:1: tracking.settle: a list where a single value belongs; write one value");
    one(
        "tracking:\n  reuse_window: 10",
        "t.yaml:2: tracking.reuse_window: `10` has no unit; write numbers with units (ns, us, ms, s, m, h), such as 300ms, 5s or 1m30s",
    );
    one(
        "delivery: {memory_limit: lots}",
        "t.yaml:1: delivery.memory_limit: `lots` is no size; write bytes, or a figure with KiB, MiB or GiB, such as 8MiB",
    );
    one(
        "capture: {ring_size: 9MiB}",
        "t.yaml:1: capture.ring_size: `9MiB` is no size of a ring buffer; write a power of two from 64KiB to 1GiB, such as 8MiB",
    );
    one(
        "tracking:\n  covered:\n    - 10.0.0.0/8\n    - 10.0.0.1/8",
        "t.yaml:4: tracking.covered[1]: `10.0.0.1/8` has bits set beyond its length; write 10.0.0.0/8",
    );
    one(
        "tracking: {max_attempts: 0}",
        "t.yaml:1: tracking.max_attempts: `0` is too small; write a whole number of at least 1",
    );
    one(
        "tracking: {id_key: short}",
        "t.yaml:1: tracking.id_key: the key is shorter than 16 characters; write 32 hex digits, or a secret of 16 characters or more",
    );
    one("capture: {attach: xdp}", "t.yaml:1: capture.attach: `xdp` is not known here; write auto, tcx or clsact");
    one(
        "kubernetes: {enabled: maybe}",
        "t.yaml:1: kubernetes.enabled: `maybe` is not known here; write auto, true or false",
    );
    one(
        "kubernetes: {kubeconfig: kube.conf}",
        "t.yaml:1: kubernetes.kubeconfig: `kube.conf` is no absolute path; begin it with /",
    );
    one("kubernetes: {nodes: few}", "t.yaml:1: kubernetes.nodes: `few` is not known here; write auto, true or false");
    one("kubernetes: {unknown_wait: 1m}", "t.yaml:1: kubernetes.unknown_wait: `1m` is too long; write at most 30s");
    one(
        "spans: {}\ncapture: {}\nspans: {}",
        "t.yaml:3: spans: the key is given twice, first on line 1; keep one of the two",
    );
    one(
        "a:\n  - b\n c",
        "t.yaml:3: this is not YAML: while parsing a block mapping, did not find expected key (column 2); check the indentation, quotes and brackets at and above this line",
    );
}

#[test]
fn exporters_and_pipelines() {
    one(
        "exporters:\n  debug:\nservice:\n  pipelines:\n    traces:\n      exporters:\n        - debug\n        - otlp",
        "t.yaml:8: service.pipelines.traces.exporters[1]: the exporter `otlp` is not defined; add otlp: below `exporters`, or remove it here",
    );
    one(
        "exporters:\n  otlp/backup: {endpoint: 'http://a:1'}\nservice: {pipelines: {traces: {exporters: [otlp/bakup]}}}",
        "t.yaml:3: service.pipelines.traces.exporters[0]: the exporter `otlp/bakup` is not defined; did you mean `otlp/backup`?",
    );
    one(
        "exporters:\n  otlphttp:\n    endpoint: http://a:1",
        "t.yaml:2: exporters.otlphttp: OTLP over HTTP is not supported by this version; use otlp (gRPC, port 4317 by custom)",
    );
    one(
        "exporters: {kafka: {}}",
        "t.yaml:1: exporters.kafka: `kafka` is no type of exporter that synspan has; use otlp, otlp_grpc or debug",
    );
    one(
        "exporters: {otlp/: {}}",
        "t.yaml:1: exporters.otlp/: the name after the slash is empty; write otlp or otlp/name",
    );
    one(
        "exporters: {otlp: }",
        "t.yaml:1: exporters.otlp: `endpoint` is missing; add one, such as endpoint: http://localhost:4317",
    );
    one(
        "exporters: {debug: }\nservice: {pipelines: {traces: {exporters: []}}}",
        "t.yaml:2: service.pipelines.traces.exporters: the list is empty; name at least one exporter",
    );
    one(
        "exporters: {debug: }\nreceivers:\n  otlp: {protocols: {grpc: }}",
        "t.yaml:2: receivers: not supported by synspan; remove it: of a Collector's file synspan takes `exporters` and their pipelines",
    );
}

/// A setting of an OTLP exporter on line 3 and the path and text of its error.
#[test]
fn settings_that_cannot_be_honoured() {
    for (setting, message) in [
        (
            "auth: {authenticator: oauth2}",
            "auth: not supported by synspan; remove it, and give the credentials in `headers` (authorization: ...)",
        ),
        (
            "middlewares: [{id: x}]",
            "middlewares: not supported by synspan; remove it, or send by way of a Collector that has them",
        ),
        (
            "wait_for_ready: true",
            "wait_for_ready: `true` is not supported by synspan; remove it: what cannot be sent yet waits in the queue and is tried again",
        ),
        (
            "balancer_name: xds",
            "balancer_name: `xds` is not supported by synspan; remove it: one connection is used, to the first address that answers",
        ),
        ("compression: snappy", "compression: `snappy` is not supported by synspan; write gzip, zstd or none"),
        (
            "sending_queue: {enabled: false}",
            "sending_queue.enabled: `false` is not supported by synspan; remove it: the queue is always on, since export must not slow capture",
        ),
        (
            "sending_queue: {block_on_overflow: true}",
            "sending_queue.block_on_overflow: `true` is not supported by synspan; remove it: nothing waits for export; what does not fit is dropped and counted",
        ),
        (
            "sending_queue: {storage: file_storage}",
            "sending_queue.storage: `file_storage` is not supported by synspan; remove it: this version has no queue on disk",
        ),
        (
            "tls: {min_version: \"1.1\"}",
            "tls.min_version: TLS 1.1 is not supported by synspan; write \"1.2\" or \"1.3\"",
        ),
        ("tls: {cert_file: /c}", "tls: a client certificate alone; add key_file, or remove both"),
        ("tls: {ca_file: /c, ca_pem: x}", "tls: both ca_file and ca_pem; keep one of the two"),
        (
            "headers: {grpc-timeout: 1S}",
            "headers.grpc-timeout: `grpc-timeout` is a header that gRPC sets itself; remove it",
        ),
        ("headers: [{nam: a, value: b}]", "headers[0].nam: unknown key; did you mean `name`?"),
        (
            "timeout: '${env:T}'",
            "timeout: the environment variable T is not set; set it, or give a default: ${env:T:-default}",
        ),
        (
            "retry_on_failure: {multiplier: 0.5}",
            "retry_on_failure.multiplier: `0.5` is out of range; write a number of at least 1",
        ),
    ] {
        let found = errors(&format!("exporters:\n  otlp: {{endpoint: 'http://a:1',\n    {setting}}}"));
        assert_eq!(
            found.first().map(String::as_str).unwrap_or_default(),
            format!("t.yaml:3: exporters.otlp.{message}")
        );
    }
}

#[test]
fn all_problems_at_once_in_the_order_of_lines() {
    let found = errors("tracking:\n  settle: x\nexporters:\n  otlp: {endpoint: a}\nspans: {kind: y}\nzebra: 1\n");
    let lines: Vec<&str> = found.iter().map(|message| message.split(':').nth(1).unwrap()).collect();
    assert_eq!(lines, ["2", "4", "5", "6"]);
}

#[test]
fn files_that_cannot_be_read() {
    let missing = Config::load(Some(std::path::Path::new("/nonexistent/x.yaml")), &MapEnv::default()).unwrap_err();
    assert!(missing.to_string().starts_with("/nonexistent/x.yaml: cannot be read: "), "{missing}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"a: 1\nb: \xff\n").unwrap();
    let binary = Config::load(Some(file.path()), &MapEnv::default()).unwrap_err();
    assert!(binary.to_string().contains("line 2 is not UTF-8"), "{binary}");
}

#[test]
fn wrong_variables() {
    for (name, value, message) in [
        (
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "http/protobuf",
            "`http/protobuf` is not supported by this version; set it to grpc, with an endpoint that speaks it (port 4317 by custom)",
        ),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "5s", "`5s` is no whole number of milliseconds; set it to such as 10000"),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "a",
            "member 1 has no =; write name=value,name=value, with special characters percent-encoded",
        ),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "snappy", "`snappy` is not supported by synspan; write gzip, zstd or none"),
    ] {
        let env = MapEnv::from([("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4317"), (name, value)]);
        let error = Config::load(None, &env).unwrap_err();
        assert_eq!(error.to_string(), format!("environment: {name}: {message}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_text_never_panics(text in "\\PC{0,200}") {
        let _ = Config::parse("t.yaml", &text, &MapEnv::default());
    }

    #[test]
    fn random_yaml_never_panics(
        lines in prop::collection::vec(
            "( {0,6})(- |\\? )?(exporters|otlp|debug|service|pipelines|traces|logs/2|telemetry|metrics|sampling|destinations|endpoint|headers|tls|identity|static|attributes|<<|\"a|&x|\\*x)?(:|: |,|\\{|\\[|\\}|\\]|\\||>|\t|!!x )?([a-z0-9$\\{\\}:/.\\-]{0,12})",
            0..20,
        ),
    ) {
        let _ = Config::parse("t.yaml", &lines.join("\n"), &MapEnv::default());
    }
}
