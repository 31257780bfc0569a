//! The standard variables of the OpenTelemetry specification: `OTEL_EXPORTER_OTLP_*`
//! (specification/protocol/exporter.md), `OTEL_{TRACES,LOGS,METRICS}_EXPORTER` and `OTEL_METRIC_EXPORT_INTERVAL`
//! (specification/configuration/sdk-environment-variables.md), the preferences of metrics
//! (specification/metrics/sdk_exporters/otlp.md) and `OTEL_RESOURCE_ATTRIBUTES` (specification/resource/sdk.md).
//!
//! Three things differ from an SDK. Where no PROTOCOL is named the protocol is gRPC, the only one there
//! is yet (the specification's default is http/protobuf); naming another is an error. Requests are
//! compressed by gzip unless COMPRESSION says otherwise, which the specification leaves open. A signal is
//! sent only if its endpoint is named or its exporter is: the specification's default is `otlp` to localhost.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::environment::Env;
use super::error::Problem;
use super::file::Given;
use super::model::{Config, DebugExporter, Exporter, ExporterKind, HistogramKind, Pipelines, Secret, Temporality};
use super::otlp::{compression, endpoint_parts, header_name, visible};
use super::otlp_model::{Endpoint, OtlpExporter, Pem};
use super::signals::SHORTEST;
use super::values::{Wrong, boolean, choice, shown};

/// The specification's default of TIMEOUT.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The specification's default of ENDPOINT, for gRPC.
const LOCAL: &str = "http://localhost:4317";
/// The signals as the variables have them, in the order of [`Pipelines`].
const SIGNALS: [&str; 3] = ["TRACES", "LOGS", "METRICS"];

/// What a variable names for a signal; neither: it is not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Wanted {
    otlp: bool,
    console: bool,
}

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

    /// Puts other exporters in the place of the default console if any is named: `otlp` for all signals that
    /// have it alike, else `otlp/SIGNAL` for each.
    pub fn exporters(&mut self, config: &mut Config) {
        let wanted = SIGNALS.map(|signal| self.wanted(signal));
        let mut otlp = [const { None }; 3];
        for ((signal, wanted), otlp) in SIGNALS.into_iter().zip(&wanted).zip(&mut otlp) {
            if wanted.map_or_else(|| self.setting(signal, "ENDPOINT").is_some(), |wanted| wanted.otlp) {
                *otlp = self.otlp(signal);
            }
        }
        let nowhere = otlp.iter().all(Option::is_none);
        if nowhere && wanted.iter().all(Option::is_none) {
            return;
        }
        let alike = {
            let mut named = otlp.iter().flatten();
            let first = named.next();
            named.all(|other| Some(other) == first)
        };
        let mut exporters: Vec<Exporter> = Vec::new();
        let ids = otlp.into_iter().zip(SIGNALS).zip(wanted).map(|((otlp, signal), wanted)| {
            let id = if alike { "otlp".to_owned() } else { format!("otlp/{}", signal.to_ascii_lowercase()) };
            let otlp = otlp.map(|otlp| Exporter { id, kind: ExporterKind::Otlp(Box::new(otlp)) });
            // A signal that nothing is said of goes to the console, unless something is named for another.
            let console = wanted.map_or(nowhere, |wanted| wanted.console);
            let debug = Exporter { id: "debug".to_owned(), kind: ExporterKind::Debug(DebugExporter::default()) };
            let mut ids = Vec::new();
            for exporter in otlp.into_iter().chain(console.then_some(debug)) {
                ids.push(exporter.id.clone());
                if exporters.iter().all(|other| other.id != exporter.id) {
                    exporters.push(exporter);
                }
            }
            ids
        });
        let mut ids = ids.collect::<Vec<_>>().into_iter();
        let mut next = || ids.next().unwrap_or_default();
        config.pipelines = Pipelines { traces: next(), logs: next(), metrics: next() };
        config.exporters = exporters;
    }

    /// Sets what the file does not say of metrics.
    pub fn metrics(&mut self, config: &mut Config, given: Given) {
        let temporality = self.preference("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", |text| {
            let choices = [
                ("cumulative", Temporality::Cumulative),
                ("delta", Temporality::Delta),
                ("lowmemory", Temporality::LowMemory),
            ];
            choice(&text.to_ascii_lowercase(), &choices)
        });
        let histogram = self.preference("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", |text| {
            let choices = [
                ("explicit_bucket_histogram", HistogramKind::Explicit),
                ("base2_exponential_bucket_histogram", HistogramKind::Exponential),
            ];
            choice(&text.to_ascii_lowercase(), &choices)
        });
        let interval = self.preference("OTEL_METRIC_EXPORT_INTERVAL", |text| match milliseconds(text)? {
            time if time < SHORTEST => {
                Err(Wrong::new(format!("{} is too short", shown(text)), "set it to at least 1000"))
            }
            time => Ok(time),
        });
        let metrics = &mut config.metrics;
        metrics.temporality = temporality.filter(|_| !given.temporality).unwrap_or(metrics.temporality);
        metrics.histogram = histogram.filter(|_| !given.histogram).unwrap_or(metrics.histogram);
        metrics.interval = interval.filter(|_| !given.interval).unwrap_or(metrics.interval);
        let own = &mut config.own_telemetry.metric_interval;
        *own = interval.filter(|_| !given.own_interval).unwrap_or(*own);
    }

    /// What is named for a signal by the variable OTEL_SIGNAL_EXPORTER; none if it is not set to what is known.
    fn wanted(&mut self, signal: &str) -> Option<Wanted> {
        self.preference(&format!("OTEL_{signal}_EXPORTER"), |text| {
            let mut wanted = Wanted::default();
            for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
                match word.to_ascii_lowercase().as_str() {
                    "otlp" => wanted.otlp = true,
                    "console" => wanted.console = true,
                    "none" => {}
                    _ => {
                        return Err(Wrong::new(
                            format!("{} is no exporter that synspan has", shown(word)),
                            "set it to otlp, console or none",
                        ));
                    }
                }
            }
            Ok(wanted)
        })
    }

    /// The value of a variable that no signal has of its own. The specification: what is not known is ignored with
    /// a warning.
    fn preference<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
        let text = self.env.var(name)?;
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        match parse(text) {
            Ok(value) => Some(value),
            Err(wrong) => {
                let what = format!("{}, so the variable is ignored", wrong.what);
                let warning = self.make(name, Wrong::new(what, wrong.instead));
                self.warnings.push(warning);
                None
            }
        }
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

    /// Sets what synspan itself is called.
    pub fn own_name(&mut self, config: &mut Config) {
        config.own_telemetry.service_name = self.env.var("OTEL_SERVICE_NAME").filter(|name| !name.trim().is_empty());
    }

    fn otlp(&mut self, signal: &str) -> Option<OtlpExporter> {
        let (name, text) = self.setting(signal, "ENDPOINT").unwrap_or_else(|| (String::new(), LOCAL.to_owned()));
        let (host, port, tls) = self.parse(&name, endpoint_parts, &text)?;
        let insecure = self.value(signal, "INSECURE", |text| boolean(&text.to_ascii_lowercase())).unwrap_or(false);
        let mut otlp = OtlpExporter::new(Endpoint { host, port, tls: tls.unwrap_or(!insecure) });
        self.value(signal, "PROTOCOL", |text| match text {
            "grpc" => Ok(()),
            "http/protobuf" | "http/json" => Err(Wrong::new(
                format!("{} is not supported by this version", shown(text)),
                "set it to grpc, with an endpoint that speaks it (port 4317 by custom)",
            )),
            _ => Err(Wrong::new(format!("{} is no protocol of OTLP", shown(text)), "set it to grpc")),
        });
        otlp.timeout = self.value(signal, "TIMEOUT", milliseconds).unwrap_or(TIMEOUT);
        if let Some(value) = self.value(signal, "COMPRESSION", compression) {
            otlp.compression = value;
        }
        if let Some(headers) = self.value(signal, "HEADERS", headers) {
            otlp.headers = headers;
        }
        let file = |name| self.setting(signal, name).map(|(_, path)| Pem::File(PathBuf::from(path)));
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
            self.problem(problem);
        }
        Some(otlp)
    }

    /// A variable's full name and value: that of the signal before the general one; empty is unset.
    fn setting(&self, signal: &str, name: &str) -> Option<(String, String)> {
        [format!("OTEL_EXPORTER_OTLP_{signal}_"), "OTEL_EXPORTER_OTLP_".to_owned()].iter().find_map(|prefix| {
            let name = format!("{prefix}{name}");
            let value = self.env.var(&name)?;
            (!value.trim().is_empty()).then(|| (name, value.trim().to_owned()))
        })
    }

    fn value<T>(&mut self, signal: &str, name: &str, parse: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
        let (name, text) = self.setting(signal, name)?;
        self.parse(&name, parse, &text)
    }

    fn parse<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, Wrong>, text: &str) -> Option<T> {
        match parse(text) {
            Ok(value) => Some(value),
            Err(wrong) => {
                let problem = self.make(name, wrong);
                self.problem(problem);
                None
            }
        }
    }

    /// Keeps a problem. What a variable of all signals has is found with each of them.
    fn problem(&mut self, problem: Problem) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
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
