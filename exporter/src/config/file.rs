//! Reading the whole file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::model::{
    Agent, Attach, Capture, Color, Config, DebugExporter, Delivery, Enabled, Exporter, ExporterKind, IdKey, Identity,
    Kubernetes, LogLevel, Pipelines, Secret, SecretKey, SpanKind, StaticIdentity, Tracking,
};
use super::otlp::otlp;
use super::reader::{Field, MapReader, Reading, join};
use super::tree::Node;
use super::values::{Wrong, boolean, choice, duration, nearest, number, one_of, prefix, shown, size};

/// Types of exporters that exist.
const TYPES: [&str; 3] = ["otlp", "otlp_grpc", "debug"];

/// What the file says of exporters and pipelines may be nothing; then others decide.
pub(super) struct FileConfig {
    pub config: Config,
    pub names_exporters: bool,
}

/// Reads the file's tree. Every problem is in `reading`.
pub(super) fn file(root: &Node, reading: &mut Reading<'_>) -> FileConfig {
    let mut config = Config::default();
    let mut map = Field { node: root, line: root.line, path: String::new() }.map(reading);
    let names_exporters = exporters_and_pipelines(&mut map, reading, &mut config);
    capture(&mut map, reading, &mut config.capture);
    tracking(&mut map, reading, &mut config.tracking);
    identity(&mut map, reading, &mut config.identity);
    kubernetes(&mut map, reading, &mut config.kubernetes);
    let mut spans = map.map(reading, "spans");
    spans.set(reading, "kind", &mut config.span_kind, |text| {
        choice(text, &[("standard", SpanKind::Standard), ("internal", SpanKind::Internal)])
    });
    spans.finish(reading);
    delivery(&mut map, reading, &mut config.delivery);
    agent(&mut map, reading, &mut config.agent);
    for key in ["receivers", "processors", "connectors", "extensions"] {
        map.unsupported(
            reading,
            key,
            &[],
            "remove it: of a Collector's file synspan takes `exporters` and their pipelines",
        );
    }
    for key in ["sampling", "privacy"] {
        map.unsupported(reading, key, &[], "remove it: it comes with a later version");
    }
    map.finish(reading);
    FileConfig { config, names_exporters }
}

/// Whether the file names any exporter.
fn exporters_and_pipelines(map: &mut MapReader<'_>, reading: &mut Reading<'_>, config: &mut Config) -> bool {
    let mut defined: Vec<(String, usize)> = Vec::new();
    let mut exporters = Vec::new();
    if let Some(field) = map.field("exporters") {
        for entry in field.entries(reading).unwrap_or_default() {
            let block = Field { node: &entry.value, line: entry.line, path: join(&field.path, &entry.key) };
            defined.push((entry.key.clone(), entry.line));
            if let Some(kind) = exporter(&entry.key, &block, reading) {
                exporters.push(Exporter { id: entry.key.clone(), kind });
            }
        }
    }
    let traces = service(map, reading, config, &defined);
    if defined.is_empty() {
        return false;
    }
    config.exporters = exporters;
    let ids = match traces {
        Some(traces) => {
            for (id, line) in defined.iter().filter(|(id, _)| !traces.contains(id)) {
                let right = format!("add {id} to service.pipelines.traces.exporters, or remove it");
                reading.warning(*line, &join("exporters", id), "this exporter is in no pipeline", right);
            }
            traces
        }
        // With no pipelines at all, everything goes to every exporter.
        None => defined.into_iter().map(|(id, _)| id).collect(),
    };
    config.pipelines = Pipelines::all_to(ids);
    true
}

fn exporter(id: &str, block: &Field<'_>, reading: &mut Reading<'_>) -> Option<ExporterKind> {
    let (kind, name) = match id.split_once('/') {
        Some((kind, name)) => (kind, Some(name)),
        None => (id, None),
    };
    if name.is_some_and(str::is_empty) {
        reading.problem(
            block.line,
            &block.path,
            "the name after the slash is empty",
            format!("write {kind} or {kind}/name"),
        );
        return None;
    }
    match kind {
        "otlp" | "otlp_grpc" => otlp(block, reading).map(|otlp| ExporterKind::Otlp(Box::new(otlp))),
        "debug" => Some(ExporterKind::Debug(debug(block, reading))),
        "otlphttp" | "otlp_http" => {
            reading.problem(
                block.line,
                &block.path,
                "OTLP over HTTP is not supported by this version",
                "use otlp (gRPC, port 4317 by custom)",
            );
            None
        }
        _ => {
            let right = match nearest(kind, TYPES) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("use {}", one_of(&TYPES)),
            };
            reading.problem(
                block.line,
                &block.path,
                format!("{} is no type of exporter that synspan has", shown(kind)),
                right,
            );
            None
        }
    }
}

fn debug(block: &Field<'_>, reading: &mut Reading<'_>) -> DebugExporter {
    let mut map = block.map(reading);
    let mut debug = DebugExporter::default();
    if let Some(all) =
        map.get(reading, "verbosity", |text| choice(text, &[("basic", false), ("normal", false), ("detailed", true)]))
    {
        debug.all = all;
    }
    map.set(reading, "all", &mut debug.all, boolean);
    map.set(reading, "color", &mut debug.color, |text| {
        choice(text, &[("auto", Color::Auto), ("always", Color::Always), ("never", Color::Never)])
    });
    for key in ["sampling_initial", "sampling_thereafter", "use_internal_logger", "output_paths", "sending_queue"] {
        map.unsupported(reading, key, &[], "remove it: the console sums up what it does not show");
    }
    map.finish(reading);
    debug
}

/// The traces pipeline's exporters, if the file names pipelines.
fn service(
    map: &mut MapReader<'_>,
    reading: &mut Reading<'_>,
    config: &mut Config,
    defined: &[(String, usize)],
) -> Option<Vec<String>> {
    let mut service = map.map(reading, "service");
    let mut traces = None;
    if let Some(field) = service.field("pipelines") {
        let mut pipelines = field.map(reading);
        for key in ["logs", "metrics", "profiles"] {
            pipelines.unsupported(reading, key, &[], "remove it: this version sends traces only");
        }
        match pipelines.field("traces") {
            Some(field) => traces = pipeline(&field, reading, defined),
            None => reading.problem(
                field.line,
                &field.path,
                "there is no pipeline `traces`",
                "add traces: {exporters: [...]}, or remove `pipelines` to send to every exporter",
            ),
        }
        pipelines.finish(reading);
    }
    service.unsupported(reading, "extensions", &[], "remove it: synspan has no extensions");
    let mut telemetry = service.map(reading, "telemetry");
    let mut logs = telemetry.map(reading, "logs");
    logs.set(reading, "level", &mut config.log_level, |text| {
        let levels = [
            ("error", LogLevel::Error),
            ("warn", LogLevel::Warn),
            ("info", LogLevel::Info),
            ("debug", LogLevel::Debug),
            ("trace", LogLevel::Trace),
        ];
        choice(&text.to_ascii_lowercase(), &levels)
    });
    logs.finish(reading);
    for key in ["metrics", "traces", "resource"] {
        telemetry.unsupported(reading, key, &[], "remove it: this version has no telemetry of its own to send");
    }
    telemetry.finish(reading);
    service.finish(reading);
    traces
}

fn pipeline(field: &Field<'_>, reading: &mut Reading<'_>, defined: &[(String, usize)]) -> Option<Vec<String>> {
    let mut map = field.map(reading);
    for key in ["receivers", "processors"] {
        map.unsupported(reading, key, &[], "remove it: synspan is the receiver, and has no processors");
    }
    let listed = map.field("exporters");
    map.finish(reading);
    let Some(listed) = listed else {
        reading.problem(field.line, &field.path, "no exporter is named", "add exporters: [...]");
        return None;
    };
    let mut ids: Vec<String> = Vec::new();
    let items = listed.items(reading)?;
    if items.is_empty() {
        reading.problem(listed.line, &listed.path, "the list is empty", "name at least one exporter");
    }
    for item in items {
        let Some(id) = item.text(reading) else { continue };
        if ids.iter().any(|other| other == id) {
            reading.problem(item.line, &item.path, format!("{} is named twice", shown(id)), "keep one of the two");
        } else if !defined.iter().any(|(other, _)| other == id) {
            let right = match nearest(id, defined.iter().map(|(id, _)| id.as_str())) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add {id}: below `exporters`, or remove it here"),
            };
            reading.problem(item.line, &item.path, format!("the exporter {} is not defined", shown(id)), right);
        } else {
            ids.push(id.to_owned());
        }
    }
    Some(ids)
}

fn capture(map: &mut MapReader<'_>, reading: &mut Reading<'_>, capture: &mut Capture) {
    let mut map = map.map(reading, "capture");
    capture.cgroup = map.get(reading, "cgroup", absolute).map(PathBuf::from);
    let mut interfaces = map.map(reading, "interfaces");
    interfaces.set_list(reading, "pod_nic", &mut capture.interfaces.pod_nic, interface);
    interfaces.set_list(reading, "node_nic", &mut capture.interfaces.node_nic, interface);
    interfaces.set_list(reading, "overlay", &mut capture.interfaces.overlay, interface);
    interfaces.set_list(reading, "ignore", &mut capture.interfaces.ignore, interface);
    interfaces.finish(reading);
    map.set_list(reading, "exclude_addresses", &mut capture.exclude_addresses, prefix);
    map.set(reading, "attach", &mut capture.attach, |text| {
        choice(text, &[("auto", Attach::Auto), ("tcx", Attach::Tcx), ("clsact", Attach::Clsact)])
    });
    map.set(reading, "ring_size", &mut capture.ring_size, ring_size);
    map.finish(reading);
}

fn absolute(text: &str) -> Result<String, Wrong> {
    if text.starts_with('/') {
        Ok(text.to_owned())
    } else {
        Err(Wrong::new(format!("{} is no absolute path", shown(text)), "begin it with /"))
    }
}

fn interface(text: &str) -> Result<String, Wrong> {
    // IFNAMSIZ, include/uapi/linux/if.h: 16 with the terminating zero; stars may make a pattern longer.
    let longest = 15 + text.matches('*').count();
    if text.is_empty() || text.len() > longest || text.contains(['/', ' ', '\t']) {
        return Err(Wrong::new(
            format!("{} can match no interface", shown(text)),
            "write a name of at most 15 characters; * stands for any text, ? for one character",
        ));
    }
    Ok(text.to_owned())
}

/// Ring buffers are a power of two of whole pages (kernel/bpf/ringbuf.c).
fn ring_size(text: &str) -> Result<u64, Wrong> {
    let bytes = size(text)?;
    if bytes.is_power_of_two() && (64 << 10..=1 << 30).contains(&bytes) {
        return Ok(bytes);
    }
    Err(Wrong::new(
        format!("{} is no size of a ring buffer", shown(text)),
        "write a power of two from 64KiB to 1GiB, such as 8MiB",
    ))
}

fn tracking(map: &mut MapReader<'_>, reading: &mut Reading<'_>, tracking: &mut Tracking) {
    let mut map = map.map(reading, "tracking");
    map.set(reading, "reuse_window", &mut tracking.reuse_window, duration);
    map.set_list(reading, "covered", &mut tracking.covered, prefix);
    map.set(reading, "max_attempts", &mut tracking.max_attempts, |text| number(text, 1));
    map.set(reading, "max_tenancies", &mut tracking.max_tenancies, |text| number(text, 1));
    map.set(reading, "settle", &mut tracking.settle, duration);
    tracking.id_key = map.get(reading, "id_key", id_key);
    map.finish(reading);
}

fn id_key(text: &str) -> Result<IdKey, Wrong> {
    if text.len() == 32
        && let Ok(key) = u128::from_str_radix(text, 16).map(u128::to_be_bytes)
        && !text.starts_with('+')
    {
        return Ok(IdKey::Key(SecretKey(key)));
    }
    if text.chars().count() < 16 {
        return Err(Wrong::new(
            "the key is shorter than 16 characters",
            "write 32 hex digits, or a secret of 16 characters or more",
        ));
    }
    Ok(IdKey::Passphrase(Secret(text.to_owned())))
}

fn identity(map: &mut MapReader<'_>, reading: &mut Reading<'_>, identity: &mut Identity) {
    let mut map = map.map(reading, "identity");
    identity.node_name = map.text(reading, "node_name").filter(|name| !name.is_empty());
    for item in map.field("static").and_then(|field| field.items(reading)).unwrap_or_default() {
        identity.fixed.push(static_identity(&item, reading));
    }
    map.finish(reading);
}

fn static_identity(item: &Field<'_>, reading: &mut Reading<'_>) -> StaticIdentity {
    let mut fixed = StaticIdentity::default();
    let mut map = item.map(reading);
    map.set_list(reading, "addresses", &mut fixed.addresses, prefix);
    map.set_list(reading, "cgroups", &mut fixed.cgroups, absolute);
    let attributes = map.field("attributes");
    let entries = attributes.as_ref().and_then(|field| field.entries(reading)).unwrap_or_default();
    for entry in entries {
        let field =
            Field { node: &entry.value, line: entry.line, path: join(&join(&item.path, "attributes"), &entry.key) };
        match field.text(reading) {
            Some(value) if !entry.key.is_empty() => fixed.attributes.push((entry.key.clone(), value.to_owned())),
            None if !field.is_null() => {}
            _ => reading.problem(field.line, &field.path, "the attribute is empty", "write name: value, or remove it"),
        }
    }
    if !map.has("addresses") && !map.has("cgroups") {
        reading.problem(item.line, &item.path, "neither addresses nor cgroups", "add what the attributes are for");
    }
    if attributes.is_none() {
        reading.problem(item.line, &item.path, "no attributes", "add attributes: {service.name: ...}");
    }
    map.finish(reading);
    fixed
}

fn enabled(text: &str) -> Result<Enabled, Wrong> {
    choice(text, &[("auto", Enabled::Auto), ("true", Enabled::Yes), ("false", Enabled::No)])
}

fn kubernetes(map: &mut MapReader<'_>, reading: &mut Reading<'_>, kubernetes: &mut Kubernetes) {
    // An attempt that waits is held in memory, and its span comes that much later.
    const LONGEST: Duration = Duration::from_secs(30);
    let mut map = map.map(reading, "kubernetes");
    map.set(reading, "enabled", &mut kubernetes.enabled, enabled);
    kubernetes.kubeconfig = map.get(reading, "kubeconfig", absolute).map(PathBuf::from);
    kubernetes.cluster_name = map.text(reading, "cluster_name").filter(|name| !name.is_empty());
    map.set(reading, "pod_env", &mut kubernetes.pod_env, boolean);
    map.set(reading, "label_names", &mut kubernetes.label_names, boolean);
    map.set(reading, "nodes", &mut kubernetes.nodes, enabled);
    map.set(reading, "services", &mut kubernetes.services, boolean);
    map.set(reading, "cluster_pods", &mut kubernetes.cluster_pods, boolean);
    map.set(reading, "unknown_wait", &mut kubernetes.unknown_wait, |text| match duration(text)? {
        wait if wait > LONGEST => Err(Wrong::new(format!("{} is too long", shown(text)), "write at most 30s")),
        wait => Ok(wait),
    });
    map.finish(reading);
}

fn delivery(map: &mut MapReader<'_>, reading: &mut Reading<'_>, delivery: &mut Delivery) {
    let mut map = map.map(reading, "delivery");
    map.set(reading, "memory_limit", &mut delivery.memory_limit, |text| match size(text)? {
        bytes if bytes < 1 << 20 => Err(Wrong::new(format!("{} is too small", shown(text)), "write at least 1MiB")),
        bytes => Ok(bytes),
    });
    map.finish(reading);
}

fn agent(map: &mut MapReader<'_>, reading: &mut Reading<'_>, agent: &mut Agent) {
    let mut map = map.map(reading, "agent");
    map.set(reading, "socket", &mut agent.socket, socket);
    let mut health = map.map(reading, "health");
    health.set(reading, "endpoint", &mut agent.health.endpoint, address);
    if let Some(field) = health.field("metrics") {
        agent.health.metrics = field.parse(reading, boolean).unwrap_or_default();
        let nowhere = agent.health.endpoint.is_none() && !reading.is_wrong("agent.health.endpoint");
        if agent.health.metrics && nowhere {
            let right = "add endpoint: 127.0.0.1:13134, or remove it";
            reading.warning(field.line, &field.path, "nobody listens without an endpoint", right);
        }
    }
    health.finish(reading);
    map.finish(reading);
}

/// An address and port to listen at, or `none`. No name: what it would stand for may change.
fn address(text: &str) -> Result<Option<SocketAddr>, Wrong> {
    if text == "none" {
        return Ok(None);
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(Some(address)),
        _ => Err(Wrong::new(
            format!("{} is no IP address with a port", shown(text)),
            "write one such as 127.0.0.1:13134 or [::1]:13134",
        )),
    }
}

/// A path for a Unix socket, or `none`.
fn socket(text: &str) -> Result<Option<PathBuf>, Wrong> {
    // sun_path, include/uapi/linux/un.h: 108 with the terminating zero.
    const LONGEST: usize = 107;
    if text == "none" {
        return Ok(None);
    }
    let path = absolute(text)?;
    if path.len() > LONGEST || path.ends_with('/') || path.contains('\0') {
        return Err(Wrong::new(
            format!("{} can be no socket's path", shown(text)),
            format!("write the path of a file, of at most {LONGEST} bytes"),
        ));
    }
    Ok(Some(PathBuf::from(path)))
}
