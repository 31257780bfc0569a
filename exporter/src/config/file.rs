//! Reading the whole file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::model::{
    Agent, Attach, Capture, Config, Delivery, Enabled, IdKey, Identity, Kubernetes, Secret, SecretKey, SpanKind,
    StaticIdentity, Tracking,
};
use super::pipelines::exporters_and_pipelines;
use super::reader::{Field, MapReader, Reading, join};
use super::signals::signals;
use super::tree::Node;
use super::values::{Wrong, boolean, choice, duration, number, prefix, shown, size};

/// What the file gives.
pub(super) struct FileConfig {
    pub config: Config,
    pub given: Given,
}

/// What the file says itself, so that the environment does not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Given {
    /// Which exporters there are, and so where each signal goes.
    pub exporters: bool,
    /// `metrics.interval`.
    pub interval: bool,
    /// `metrics.temporality`.
    pub temporality: bool,
    /// `metrics.histogram`.
    pub histogram: bool,
    /// `service.telemetry.metrics.interval`.
    pub own_interval: bool,
}

/// Reads the file's tree. Every problem is in `reading`.
pub(super) fn file(root: &Node, reading: &mut Reading<'_>) -> FileConfig {
    let mut config = Config::default();
    let mut map = Field { node: root, line: root.line, path: String::new() }.map(reading);
    let mut given = Given::default();
    exporters_and_pipelines(&mut map, reading, &mut config, &mut given);
    capture(&mut map, reading, &mut config.capture);
    tracking(&mut map, reading, &mut config.tracking);
    identity(&mut map, reading, &mut config.identity);
    kubernetes(&mut map, reading, &mut config.kubernetes);
    let mut spans = map.map(reading, "spans");
    spans.set(reading, "kind", &mut config.span_kind, |text| {
        choice(text, &[("standard", SpanKind::Standard), ("internal", SpanKind::Internal)])
    });
    spans.finish(reading);
    signals(&mut map, reading, &mut config, &mut given);
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
    map.finish(reading);
    FileConfig { config, given }
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
