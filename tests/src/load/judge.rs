//! What the signals say of the attempts: each by itself, from what came by OTLP.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::NumberDataPoint;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::trace::v1::span::Link;

use super::tally::Tally;
use crate::receiver::Kept;

/// What each signal says.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// Of `tcp connect` spans.
    pub spans: Tally,
    /// Of records of `synspan.connect`.
    pub records: Tally,
    /// Of the last totals of `synspan.connect.attempts`; it does not tell what was used again.
    pub attempts: Tally,
    /// The last total of other counters, by workload and name.
    pub totals: BTreeMap<(String, String), u64>,
    /// Last records of connections by the client's socket, by workload.
    pub flows: BTreeMap<String, u64>,
    /// Attempts that summaries tell of.
    pub summed: Tally,
    /// Of them, those that failed.
    pub summed_failed: Tally,
    /// Records of attempts that hang.
    pub stalled: Tally,
    /// Totals that went back without a new start.
    pub went_back: u64,
    /// Links to a previous owner whose span did not come.
    pub dangling: u64,
    /// Records whose span did not come, and spans with no record.
    pub alone: u64,
    /// Spans and records that came twice.
    pub twice: u64,
}

type SpanKey = (Vec<u8>, Vec<u8>);

/// Of all that came.
pub fn of_kept(kept: &Kept) -> Judgement {
    let mut reading = Reading::default();
    kept.traces.iter().for_each(|request| reading.traces(request));
    kept.logs.iter().for_each(|request| reading.logs(request));
    kept.metrics.iter().for_each(|request| reading.metrics(request));
    reading.finish()
}

#[derive(Default)]
struct Reading {
    judgement: Judgement,
    spans: HashSet<SpanKey>,
    connects: HashSet<SpanKey>,
    links: Vec<SpanKey>,
    records: HashSet<SpanKey>,
    /// Of each series its start and its last value: its time, its total, and where it belongs.
    series: HashMap<Vec<u8>, Series>,
}

#[derive(Clone, Default)]
struct Series {
    start: u64,
    time: u64,
    value: u64,
    /// Of starts before.
    before: u64,
    workload: String,
    name: String,
    outcome: String,
    cause: String,
}

fn text(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|attribute| attribute.value.as_ref()).and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        _ => String::new(),
    }
}

fn key(workload: &str, attributes: &[KeyValue]) -> super::tally::Key {
    let of = |name| text(attributes, name);
    (workload.to_owned(), of("synspan.outcome"), of("synspan.cause"), of("synspan.reuse") == "true")
}

impl Reading {
    fn traces(&mut self, request: &ExportTraceServiceRequest) {
        for resource in &request.resource_spans {
            let of = resource.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
            let workload = text(of, "service.name");
            for span in resource.scope_spans.iter().flat_map(|scope| &scope.spans) {
                let id = (span.trace_id.clone(), span.span_id.clone());
                self.judgement.twice += u64::from(!self.spans.insert(id.clone()));
                let previous = |link: &&Link| text(&link.attributes, "synspan.link.type") == "previous_owner";
                let links = span.links.iter().filter(previous);
                self.links.extend(links.map(|link| (link.trace_id.clone(), link.span_id.clone())));
                let stands_alone = |name| text(&span.attributes, name) == "true";
                // Of an attempt of its own: not what was made for a link, nor for a later SYN of one.
                if span.name == "tcp connect" && !stands_alone("synspan.late") && !stands_alone("synspan.syn_retry") {
                    self.connects.insert(id);
                    self.judgement.spans.add(key(&workload, &span.attributes), 1);
                }
            }
        }
    }

    fn logs(&mut self, request: &ExportLogsServiceRequest) {
        for resource in &request.resource_logs {
            let of = resource.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
            let workload = text(of, "service.name");
            for record in resource.scope_logs.iter().flat_map(|scope| &scope.log_records) {
                match record.event_name.as_str() {
                    "synspan.connect" => {
                        let id = (record.trace_id.clone(), record.span_id.clone());
                        self.judgement.twice += u64::from(!self.records.insert(id));
                        self.judgement.records.add(key(&workload, &record.attributes), 1);
                    }
                    "synspan.flow" => {
                        let is = |name, value: &str| text(&record.attributes, name) == value;
                        if is("synspan.flow.side", "client") && is("synspan.flow.final", "true") {
                            *self.judgement.flows.entry(workload.clone()).or_default() += 1;
                        }
                    }
                    "synspan.connect.summary" => {
                        let key = key(&workload, &record.attributes);
                        let count = |name| text(&record.attributes, name).parse::<u64>().unwrap_or(0);
                        self.judgement.summed.add(key.clone(), count("synspan.summary.attempts"));
                        self.judgement.summed_failed.add(key, count("synspan.summary.failed"));
                    }
                    "synspan.connect.stalled" => {
                        self.judgement.stalled.add(key(&workload, &record.attributes), 1);
                    }
                    _ => (),
                }
            }
        }
    }

    fn metrics(&mut self, request: &ExportMetricsServiceRequest) {
        for resource in &request.resource_metrics {
            let of = resource.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
            let instance = text(of, "service.instance.id");
            let workload = text(of, "service.name");
            for metric in resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
                let Some(Data::Sum(sum)) =
                    metric.data.as_ref().filter(|data| matches!(data, Data::Sum(sum) if sum.is_monotonic))
                else {
                    continue;
                };
                let delta = sum.aggregation_temporality == 1;
                for point in &sum.data_points {
                    self.point(&workload, &instance, &metric.name, delta, point);
                }
            }
        }
    }

    fn point(&mut self, workload: &str, instance: &str, name: &str, delta: bool, point: &NumberDataPoint) {
        let Some(Number::AsInt(value)) = point.value else { return };
        let value = u64::try_from(value).unwrap_or(0);
        let mut id = format!("{workload}\0{instance}\0{name}\0").into_bytes();
        let mut attributes: Vec<String> =
            point.attributes.iter().map(|kv| format!("{}={}", kv.key, text(&point.attributes, &kv.key))).collect();
        attributes.sort();
        id.extend(attributes.join("\0").bytes());
        let series = self.series.entry(id).or_insert_with(|| Series {
            workload: workload.to_owned(),
            name: name.to_owned(),
            outcome: text(&point.attributes, "synspan.outcome"),
            cause: text(&point.attributes, "synspan.cause"),
            start: point.start_time_unix_nano,
            ..Series::default()
        });
        if delta {
            series.value += value;
        } else if point.start_time_unix_nano != series.start {
            series.before += series.value;
            (series.start, series.time, series.value) = (point.start_time_unix_nano, point.time_unix_nano, value);
        } else {
            let back = value < series.value || point.time_unix_nano < series.time;
            self.judgement.went_back += u64::from(back);
            (series.time, series.value) = (point.time_unix_nano, value);
        }
    }

    fn finish(mut self) -> Judgement {
        let judgement = &mut self.judgement;
        for series in self.series.values() {
            let total = series.before + series.value;
            if series.name == "synspan.connect.attempts" {
                let key = (series.workload.clone(), series.outcome.clone(), series.cause.clone(), false);
                judgement.attempts.add(key, total);
            }
            *judgement.totals.entry((series.workload.clone(), series.name.clone())).or_default() += total;
        }
        judgement.dangling = self.links.iter().filter(|link| !self.spans.contains(*link)).count() as u64;
        judgement.alone = self.connects.symmetric_difference(&self.records).count() as u64;
        self.judgement
    }
}

/// Whether so many of `of` are what a ratio lets through: within five standard deviations.
pub(super) fn within(is: u64, of: u64, ratio: f64) -> bool {
    let mean = of as f64 * ratio;
    (is as f64 - mean).abs() <= 5.0 * (mean * (1.0 - ratio)).sqrt()
}

impl Judgement {
    /// What is not as it was done, in lines; nothing if all is. With no `ratio` every attempt must have a span and a
    /// record, for nothing was left out on purpose; else that part of the successes, and every failure and reuse must
    /// have them or be summed up.
    pub fn faults(&self, truth: &Tally, ratio: Option<f64>) -> Vec<String> {
        let mut faults = Vec::new();
        let mut failures: BTreeMap<String, u64> = BTreeMap::new();
        let mut reuses: BTreeMap<String, u64> = BTreeMap::new();
        for ((workload, outcome, _, again), count) in &truth.0 {
            *failures.entry(workload.clone()).or_default() += if outcome == "established" { 0 } else { *count };
            *reuses.entry(workload.clone()).or_default() += if *again { *count } else { 0 };
        }
        let mut compare = |what: &str, is: &Tally, must: &Tally| {
            if is != must {
                faults.push(format!("{what} differ from what was done; they say\n{is}"));
            }
        };
        compare("the totals of synspan.connect.attempts", &self.attempts, &truth.without_reuse());
        if let Some(ratio) = ratio {
            // Of failures and reuses none is missing that no summary counts; a summary does not say what was used again.
            let kept_always = |tally: &Tally| -> Tally {
                let counted = tally.0.iter().filter(|((_, outcome, _, again), _)| outcome != "established" || *again);
                Tally(counted.map(|(key, count)| (key.clone(), *count)).collect()).without_reuse()
            };
            let mut told = kept_always(&self.spans);
            self.summed.0.iter().for_each(|(key, count)| told.add(key.clone(), *count));
            compare("failed and reused attempts that have a span or are summed up", &told, &kept_always(truth));
            let successes = |tally: &Tally| -> u64 {
                let counted = tally.0.iter().filter(|((_, outcome, _, again), _)| outcome == "established" && !again);
                counted.map(|(_, count)| count).sum()
            };
            let (is, of) = (successes(&self.spans), successes(truth));
            if !within(is, of, ratio) {
                faults.push(format!("of {of} successes {is} have a span, and the ratio is {ratio}"));
            }
        } else {
            compare("spans", &self.spans, truth);
            compare("records", &self.records, truth);
            let mut established: BTreeMap<String, u64> = BTreeMap::new();
            for ((workload, outcome, ..), count) in &truth.0 {
                *established.entry(workload.clone()).or_default() += if outcome == "established" { *count } else { 0 };
            }
            if self.flows != established {
                let (is, must) = (&self.flows, &established);
                faults.push(format!("connections that ended, by workload, are {is:?}, and must be {must:?}"));
            }
        }
        for (name, must) in [("synspan.connect.failures", failures), ("synspan.port_reuses", reuses)] {
            for (workload, must) in must {
                let is = self.totals.get(&(workload.clone(), name.to_owned())).copied().unwrap_or(0);
                if is != must {
                    faults.push(format!("{name} of {workload} is {is}, and must be {must}"));
                }
            }
        }
        for (count, what) in [
            (self.went_back, "totals went back with no new start"),
            (self.dangling, "links to a previous owner lead nowhere"),
            (self.twice, "spans or records came twice"),
            (self.alone, "attempts have a span and no record, or a record and no span"),
        ] {
            if count > 0 {
                faults.push(format!("{count} {what}"));
            }
        }
        faults
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "spans\n{}records\n{}metrics\n{}", self.spans, self.records, self.attempts)?;
        writeln!(f, "connections that ended {:?}", self.flows)?;
        writeln!(f, "summed up\n{}hanging\n{}", self.summed, self.stalled)?;
        writeln!(f, "links that lead nowhere {}", self.dangling)?;
        for ((workload, name), total) in &self.totals {
            writeln!(f, "  {name:<40} {workload:<16} {total:>12}")?;
        }
        Ok(())
    }
}
