//! From the series to OTLP: one ResourceMetrics for each workload, one Metric for each instrument of it.

use std::collections::{HashMap, HashSet};

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
};

use super::meter::Meter;
use super::pair::{Distributed, Instrument, Pair};
use super::series::Times;
use crate::capture::observation::Mono;
use crate::encode::envelope;
use crate::identify::Identity;
use crate::names::{self, SCHEMA_URL};

/// The points of one instrument of one resource.
#[derive(Default)]
struct Points {
    numbers: Vec<NumberDataPoint>,
    histograms: Vec<HistogramDataPoint>,
    exponentials: Vec<ExponentialHistogramDataPoint>,
}

type OfResource = [Points; Instrument::COUNT];

impl Meter {
    /// All points at a time. `now` ends what was not used for long; `unix` is the same time in nanoseconds since 1970.
    ///
    /// A wall clock that steps back changes no order: time goes on by two milliseconds a collection until the clock has
    /// caught up.
    pub fn collect(&mut self, now: Mono, unix: u64) -> Vec<ResourceMetrics> {
        let times = Times::at(unix, self.last, self.options.delta);
        self.last = times.now;
        let mut expired = HashSet::new();
        for (at, pair) in &mut self.pairs {
            if std::mem::take(&mut pair.fresh) {
                pair.used = Some(now);
            } else if pair.used.is_some_and(|used| now.since(used) >= self.options.expire_after) {
                expired.insert(at);
            }
        }
        let mut found: HashMap<usize, OfResource> = HashMap::new();
        for (at, pair) in &mut self.pairs {
            let points = found.entry(pair.workload).or_default();
            if expired.contains(&at) { end(pair, times, points) } else { tell(pair, times, points) }
        }
        let mut metrics: Vec<ResourceMetrics> = Vec::with_capacity(found.len() + 1);
        for (at, points) in found {
            if let Some(workload) = self.workloads.get(at) {
                metrics.extend(enclose(&workload.resource, of_resource(points, times)));
            }
        }
        self.forget(&expired);
        let mut points = OfResource::default();
        tell(&mut self.overflow, times, &mut points);
        metrics.extend(enclose(&self.network, of_resource(points, times)));
        metrics
    }
}

fn tell(pair: &mut Pair, times: Times, points: &mut OfResource) {
    for counted in &mut pair.counters {
        let into = &mut points[counted.series.instrument() as usize];
        counted.counter.points(&counted.attributes, times, &mut into.numbers);
    }
    for distributed in &mut pair.histograms {
        let into = &mut points[distributed.of.instrument() as usize];
        histogram(distributed, times, into);
    }
}

fn histogram(distributed: &mut Distributed, times: Times, into: &mut Points) {
    let Distributed { attributes, histogram, start, .. } = distributed;
    if times.delta && histogram.count() == 0 {
        return;
    }
    let start = if times.delta { times.last } else { *start.get_or_insert(times.start()) };
    match histogram.exponential(attributes.clone(), start, times.now) {
        Some(point) => into.exponentials.push(point),
        None => into.histograms.push(histogram.explicit(attributes.clone(), start, times.now)),
    }
    if times.delta {
        histogram.clear();
    }
    histogram.exemplar = None;
}

/// The last points of a pair: they say that its series have ended.
fn end(pair: &mut Pair, times: Times, points: &mut OfResource) {
    if times.delta {
        // Nothing was measured for long, so all was told.
        return;
    }
    for counted in &pair.counters {
        let into = &mut points[counted.series.instrument() as usize];
        counted.counter.end(&counted.attributes, times, &mut into.numbers);
    }
    for Distributed { of, attributes, histogram, start } in &pair.histograms {
        let Some(start) = *start else { continue };
        let into = &mut points[of.instrument() as usize];
        if histogram.is_exponential() {
            into.exponentials.push(ExponentialHistogramDataPoint {
                attributes: attributes.clone(),
                start_time_unix_nano: start,
                time_unix_nano: times.now,
                flags: NO_VALUE,
                ..ExponentialHistogramDataPoint::default()
            });
        } else {
            into.histograms.push(HistogramDataPoint {
                attributes: attributes.clone(),
                start_time_unix_nano: start,
                time_unix_nano: times.now,
                flags: NO_VALUE,
                ..HistogramDataPoint::default()
            });
        }
    }
}

const NO_VALUE: u32 = opentelemetry_proto::tonic::metrics::v1::DataPointFlags::NoRecordedValueMask as u32;

fn of_resource(points: OfResource, times: Times) -> Vec<Metric> {
    let mut metrics = Vec::new();
    for (points, name) in points.into_iter().zip(&Instrument::ALL) {
        let mut push = |data| metrics.push(metric(name, data));
        let temporality = temporality(times.delta);
        if !points.numbers.is_empty() {
            push(sum(points.numbers, times.delta, true));
        }
        if !points.histograms.is_empty() {
            push(Data::Histogram(Histogram { data_points: points.histograms, aggregation_temporality: temporality }));
        }
        if !points.exponentials.is_empty() {
            let data_points = points.exponentials;
            push(Data::ExponentialHistogram(ExponentialHistogram {
                data_points,
                aggregation_temporality: temporality,
            }));
        }
    }
    metrics
}

fn temporality(delta: bool) -> i32 {
    if delta { AggregationTemporality::Delta } else { AggregationTemporality::Cumulative }.into()
}

/// A sum: of a counter if it is monotonic.
pub(super) fn sum(data_points: Vec<NumberDataPoint>, delta: bool, is_monotonic: bool) -> Data {
    Data::Sum(Sum { data_points, aggregation_temporality: temporality(delta), is_monotonic })
}

/// A metric.
pub(super) fn metric(name: &names::Metric, data: Data) -> Metric {
    Metric {
        name: name.name.to_owned(),
        unit: name.unit.to_owned(),
        description: name.description.to_owned(),
        metadata: Vec::<KeyValue>::new(),
        data: Some(data),
    }
}

/// The metrics of a resource; none if there are none.
pub(super) fn enclose(resource: &Identity, metrics: Vec<Metric>) -> Option<ResourceMetrics> {
    (!metrics.is_empty()).then(|| ResourceMetrics {
        resource: envelope::resource(resource),
        scope_metrics: vec![ScopeMetrics { scope: envelope::scope(), metrics, schema_url: SCHEMA_URL.to_owned() }],
        schema_url: SCHEMA_URL.to_owned(),
    })
}
