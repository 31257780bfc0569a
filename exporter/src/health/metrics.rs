//! synspan's own metrics as Prometheus text (exposition format 0.0.4): the [`readings`] of a [`Status`].

use std::fmt::Write as _;

use super::readings::{Kind, Number, Reading, readings};
use super::status::Status;
use crate::names::Metric;

/// The media type of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The text.
pub fn text(status: &Status) -> String {
    let mut text = Text::default();
    text.family("synspan_build_info", "gauge", "The program that runs.");
    text.sample("synspan_build_info", &[("version", status.version.clone())], Number::Count(1));
    for Reading { metric, kind, points } in readings(status) {
        if points.is_empty() {
            continue;
        }
        let name = translated(&metric, kind);
        text.family(&name, if kind == Kind::Counter { "counter" } else { "gauge" }, metric.description);
        for point in points {
            text.sample(&name, &point.attributes, point.value);
        }
    }
    text.0
}

/// What Prometheus calls an instrument (OpenTelemetry specification, compatibility with Prometheus): the name that its
/// backends give what comes by OTLP, so that one query finds both.
fn translated(metric: &Metric, kind: Kind) -> String {
    let unit = match metric.unit {
        "s" => "_seconds",
        "By" => "_bytes",
        _ => "",
    };
    let total = if kind == Kind::Counter { "_total" } else { "" };
    format!("{}{unit}{total}", metric.name.replace('.', "_"))
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

    /// Values are 64-bit floats in this format: counts are exact up to 2^53.
    fn sample(&mut self, name: &str, attributes: &[(&str, String)], value: Number) {
        let label = |(name, value): &(&str, String)| format!("{}=\"{}\"", name.replace('.', "_"), escaped(value));
        let labels: Vec<String> = attributes.iter().map(label).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let value = match value {
            Number::Count(count) => count as f64,
            Number::Seconds(seconds) => seconds,
        };
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
        assert!(
            kinds.len() > 30 && kinds.keys().all(|name| name.starts_with("synspan_") || name.starts_with("process_"))
        );
    }

    #[test]
    fn labels_are_escaped() {
        let line = text(&status()).lines().find(|line| line.contains("odd")).expect("the odd exporter").to_owned();
        assert_eq!(
            line,
            r#"synspan_agent_exporter_offered_records_total{synspan_exporter="otlp/\"odd\\\n",synspan_signal="traces"} 1300"#
        );
    }

    #[test]
    fn outside_a_cluster_nothing_is_said_of_one() {
        let status = crate::health::status::Status { names: Names::default(), ..status() };
        assert!(!text(&status).contains("kubernetes_"));
        assert!(text(&status).contains("synspan_agent_names_missing_total 0\n"));
    }
}
