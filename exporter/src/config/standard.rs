//! The standard variables of the OpenTelemetry specification: `OTEL_EXPORTER_OTLP_*`
//! (specification/protocol/exporter.md) and `OTEL_RESOURCE_ATTRIBUTES` (specification/resource/sdk.md).
//!
//! Two things differ from an SDK. Where no PROTOCOL is named the protocol is gRPC, the only one there
//! is yet (the specification's default is http/protobuf); naming another is an error. And requests are
//! compressed by gzip unless COMPRESSION says otherwise, which the specification leaves open.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::environment::Env;
use super::error::Problem;
use super::model::{Config, Exporter, ExporterKind, Pipelines, Secret};
use super::otlp::{compression, endpoint_parts, header_name, visible};
use super::otlp_model::{Endpoint, OtlpExporter, Pem};
use super::values::{Wrong, boolean, shown};

/// The specification's default of TIMEOUT.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What the variables say, and what is wrong with them.
pub(super) struct Standard<'e> {
    env: &'e dyn Env,
    source: Arc<str>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

impl<'e> Standard<'e> {
    pub fn new(env: &'e dyn Env) -> Self {
        Self { env, source: "environment".into(), problems: Vec::new(), warnings: Vec::new() }
    }

    /// Puts an OTLP exporter in the place of the default console if an endpoint is named.
    pub fn exporter(&mut self, config: &mut Config) {
        let Some(otlp) = self.otlp() else { return };
        config.exporters = vec![Exporter { id: "otlp".to_owned(), kind: ExporterKind::Otlp(Box::new(otlp)) }];
        config.pipelines = Pipelines::all_to(vec!["otlp".to_owned()]);
    }

    /// Sets the attributes of every resource.
    pub fn resource(&mut self, config: &mut Config) {
        const NAME: &str = "OTEL_RESOURCE_ATTRIBUTES";
        let Some(text) = self.env.var(NAME).filter(|text| !text.trim().is_empty()) else { return };
        let pairs = match pairs(&text) {
            Ok(pairs) => pairs,
            Err(wrong) => {
                // The specification: discard the whole value and report it.
                let warning =
                    self.make(NAME, Wrong::new(format!("{}, so all of it is ignored", wrong.what), wrong.instead));
                self.warnings.push(warning);
                return;
            }
        };
        let mut attributes = std::collections::BTreeMap::new();
        for (key, value) in pairs {
            if names_an_owner(&key) {
                let what = format!("{} is ignored: it would name one workload as the owner of all", shown(&key));
                let warning = self.make(
                    NAME,
                    Wrong::new(what, "give what holds for every resource, such as deployment.environment.name"),
                );
                self.warnings.push(warning);
            } else {
                attributes.insert(key, value);
            }
        }
        config.resource_attributes = attributes.into_iter().collect();
    }

    fn otlp(&mut self) -> Option<OtlpExporter> {
        let (name, text) = self.setting("ENDPOINT")?;
        let (host, port, tls) = self.parse(&name, endpoint_parts, &text)?;
        let insecure = self.value("INSECURE", |text| boolean(&text.to_ascii_lowercase())).unwrap_or(false);
        let mut otlp = OtlpExporter::new(Endpoint { host, port, tls: tls.unwrap_or(!insecure) });
        self.value("PROTOCOL", |text| match text {
            "grpc" => Ok(()),
            "http/protobuf" | "http/json" => Err(Wrong::new(
                format!("{} is not supported by this version", shown(text)),
                "set it to grpc, with an endpoint that speaks it (port 4317 by custom)",
            )),
            _ => Err(Wrong::new(format!("{} is no protocol of OTLP", shown(text)), "set it to grpc")),
        });
        otlp.timeout = self.value("TIMEOUT", milliseconds).unwrap_or(TIMEOUT);
        if let Some(value) = self.value("COMPRESSION", compression) {
            otlp.compression = value;
        }
        if let Some(headers) = self.value("HEADERS", headers) {
            otlp.headers = headers;
        }
        let file = |name| self.setting(name).map(|(_, path)| Pem::File(PathBuf::from(path)));
        otlp.tls.ca = file("CERTIFICATE");
        otlp.tls.cert = file("CLIENT_CERTIFICATE");
        otlp.tls.key = file("CLIENT_KEY");
        if otlp.tls.cert.is_some() != otlp.tls.key.is_some() {
            let problem = self.make(
                "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
                Wrong::new(
                    "a client certificate and its key belong together",
                    "set CLIENT_CERTIFICATE and CLIENT_KEY, or neither",
                ),
            );
            self.problems.push(problem);
        }
        Some(otlp)
    }

    /// A variable's full name and value: that of the signal before the general one; empty is unset.
    fn setting(&self, name: &str) -> Option<(String, String)> {
        ["OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"].iter().find_map(|prefix| {
            let name = format!("{prefix}{name}");
            let value = self.env.var(&name)?;
            (!value.trim().is_empty()).then(|| (name, value.trim().to_owned()))
        })
    }

    fn value<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
        let (name, text) = self.setting(name)?;
        self.parse(&name, parse, &text)
    }

    fn parse<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, Wrong>, text: &str) -> Option<T> {
        match parse(text) {
            Ok(value) => Some(value),
            Err(wrong) => {
                let problem = self.make(name, wrong);
                self.problems.push(problem);
                None
            }
        }
    }

    fn make(&self, name: &str, wrong: Wrong) -> Problem {
        Problem {
            source: self.source.clone(),
            line: None,
            path: name.to_owned(),
            what: wrong.what,
            instead: wrong.instead,
        }
    }
}

/// Whether an attribute says whose telemetry it is, which differs from resource to resource.
fn names_an_owner(key: &str) -> bool {
    let prefixes = ["service.", "container.", "process.", "k8s.pod.", "k8s.container.", "telemetry.sdk."];
    let workloads = ["deployment", "replicaset", "statefulset", "daemonset", "cronjob", "job"];
    prefixes.iter().any(|prefix| key.starts_with(prefix))
        || key
            .strip_prefix("k8s.")
            .and_then(|rest| rest.split_once('.'))
            .is_some_and(|(kind, _)| workloads.contains(&kind))
}

fn milliseconds(text: &str) -> Result<Duration, Wrong> {
    text.parse().map(Duration::from_millis).map_err(|_| {
        Wrong::new(format!("{} is no whole number of milliseconds", shown(text)), "set it to such as 10000")
    })
}

fn headers(text: &str) -> Result<Vec<(String, Secret)>, Wrong> {
    let mut headers: Vec<(String, Secret)> = Vec::new();
    for (name, value) in pairs(text)? {
        let name = header_name(&name)?;
        headers.retain(|(other, _)| *other != name);
        headers.push((name, Secret(visible(&value)?)));
    }
    Ok(headers)
}

/// `name=value,name=value` with percent encoding, as W3C Baggage without properties. The values may be
/// secret, so messages do not repeat them.
fn pairs(text: &str) -> Result<Vec<(String, String)>, Wrong> {
    const RIGHT: &str = "write name=value,name=value, with special characters percent-encoded";
    let mut pairs = Vec::new();
    for (at, member) in text.split(',').enumerate().filter(|(_, member)| !member.trim().is_empty()) {
        let wrong = |why: &str| Wrong::new(format!("member {} {why}", at + 1), RIGHT);
        let (name, value) = member.split_once('=').ok_or_else(|| wrong("has no ="))?;
        let name = decode(name.trim()).ok_or_else(|| wrong("has a name that is not well encoded"))?;
        let value = decode(value.trim()).ok_or_else(|| wrong("has a value that is not well encoded"))?;
        if name.is_empty() {
            return Err(wrong("has no name"));
        }
        pairs.push((name, value));
    }
    Ok(pairs)
}

/// Percent decoding (RFC 3986, section 2.1).
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded() {
        assert_eq!(
            pairs("a=1, b = x%20y ,,c=d=e").unwrap(),
            [("a", "1"), ("b", "x y"), ("c", "d=e")].map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        for text in ["a", "=1", "a=%4", "a=%zz", "a=%ff"] {
            assert!(pairs(text).is_err(), "{text}");
        }
    }

    #[test]
    fn owners_are_told_from_surroundings() {
        for key in ["service.name", "k8s.pod.uid", "k8s.deployment.name", "container.id"] {
            assert!(names_an_owner(key), "{key}");
        }
        for key in ["deployment.environment.name", "k8s.cluster.name", "cloud.region", "k8s.node.name", "host.name"] {
            assert!(!names_an_owner(key), "{key}");
        }
    }
}
