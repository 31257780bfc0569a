//! What the signals say of the attempts: each by itself, from what came by OTLP.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::io::BufRead;
use std::path::Path;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::NumberDataPoint;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::trace::v1::span::Link;
use serde::de::DeserializeOwned;

use super::tally::Tally;
use crate::error::{Context, Error, Result};
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
    pub summed: u64,
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

/// Of what the lab's receiver kept.
pub fn of_kept(kept: &Kept) -> Judgement {
    let mut reading = Reading::default();
    kept.traces.iter().for_each(|request| reading.traces(request));
    kept.logs.iter().for_each(|request| reading.logs(request));
    kept.metrics.iter().for_each(|request| reading.metrics(request));
    reading.finish()
}

/// Of what a Collector wrote: `traces.jsonl`, `logs.jsonl` and `metrics.jsonl`, a request a line.
///
/// # Errors
/// Where a file is missing or no OTLP.
pub fn of_files(dir: &Path) -> Result<Judgement> {
    let mut reading = Reading::default();
    lines(&dir.join("traces.jsonl"), |request| reading.traces(&request))?;
    lines(&dir.join("logs.jsonl"), |request| reading.logs(&request))?;
    lines(&dir.join("metrics.jsonl"), |request| reading.metrics(&request))?;
    Ok(reading.finish())
}

fn lines<T: DeserializeOwned>(path: &Path, mut take: impl FnMut(T)) -> Result<()> {
    let file = std::fs::File::open(path).context(format_args!("read {}", path.display()))?;
    for line in std::io::BufReader::new(file).lines() {
        let line = line.context(format_args!("read {}", path.display()))?;
        let request =
            serde_json::from_str(&line).map_err(|error| Error::Lab(format!("{}: {error}", path.display())))?;
        take(request);
    }
    Ok(())
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
                        let summed = text(&record.attributes, "synspan.summary.attempts");
                        self.judgement.summed += summed.parse::<u64>().unwrap_or(0);
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

impl Judgement {
    /// What is not as it was done, in lines; nothing if all is. `all` says that every attempt must have a span and a
    /// record, for nothing was left out on purpose; else every failure and reuse must have them or be summed up.
    pub fn faults(&self, truth: &Tally, all: bool) -> Vec<String> {
        let mut faults = Vec::new();
        let mut without_reuse = Tally::default();
        let mut failures: BTreeMap<String, u64> = BTreeMap::new();
        let mut reuses: BTreeMap<String, u64> = BTreeMap::new();
        for ((workload, outcome, cause, again), count) in &truth.0 {
            without_reuse.add((workload.clone(), outcome.clone(), cause.clone(), false), *count);
            *failures.entry(workload.clone()).or_default() += if outcome == "established" { 0 } else { *count };
            *reuses.entry(workload.clone()).or_default() += if *again { *count } else { 0 };
        }
        let mut compare = |what: &str, is: &Tally, must: &Tally| {
            if is != must {
                faults.push(format!("{what} differ from what was done; they say\n{is}"));
            }
        };
        compare("the totals of synspan.connect.attempts", &self.attempts, &without_reuse);
        if all {
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
        } else {
            // Of failures and reuses none is missing that no summary counts.
            let kept_always = |tally: &Tally| -> u64 {
                let counted = tally.0.iter().filter(|((_, outcome, _, again), _)| outcome != "established" || *again);
                counted.map(|(_, count)| count).sum()
            };
            let (is, must) = (kept_always(&self.spans) + self.summed, kept_always(truth));
            if is != must {
                faults.push(format!("{is} failed or reused attempts have a span or are summed up, and {must} must"));
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
        writeln!(f, "summed up {}, links that lead nowhere {}", self.summed, self.dangling)?;
        for ((workload, name), total) in &self.totals {
            writeln!(f, "  {name:<40} {workload:<16} {total:>12}")?;
        }
        Ok(())
    }
}
