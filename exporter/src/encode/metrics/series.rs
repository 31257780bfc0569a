//! One series of a counter, and what an exemplar is.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::exemplar::Value as ExemplarValue;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{self as otlp, NumberDataPoint};

use crate::encode::ids::SpanId;
use crate::track::trace_id::TraceId;

/// A measurement that leads to a trace that was kept.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Exemplar {
    /// Its trace.
    pub trace: TraceId,
    /// Its span there.
    pub span: SpanId,
    /// What was measured.
    pub value: f64,
    /// When, in nanoseconds since 1970.
    pub time: u64,
}

impl Exemplar {
    /// As OTLP has it, of a histogram.
    pub fn double(&self) -> otlp::Exemplar {
        self.with(ExemplarValue::AsDouble(self.value))
    }

    /// As OTLP has it, of a counter: one.
    pub fn one(&self) -> otlp::Exemplar {
        self.with(ExemplarValue::AsInt(1))
    }

    fn with(&self, value: ExemplarValue) -> otlp::Exemplar {
        otlp::Exemplar {
            filtered_attributes: Vec::new(),
            time_unix_nano: self.time,
            span_id: self.span.0.to_vec(),
            trace_id: self.trace.0.to_vec(),
            value: Some(value),
        }
    }
}

/// The times of a collection, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Of the collection before; the start of what is new.
    pub last: u64,
    /// Now; later than `last`.
    pub now: u64,
    /// Whether totals since the last collection are wanted, and not since the series' start.
    pub delta: bool,
}

/// From a collection to the start of what begins after it. One that ended with that collection and begins anew has its
/// first point later than its last: a Prometheus refuses a whole request for two points of one time.
const AFTER: u64 = 1_000_000;

impl Times {
    /// At `unix`, or as soon after the collection before as there is room for a start between the two: a wall clock
    /// that steps back changes no order.
    pub fn at(unix: u64, last: u64, delta: bool) -> Self {
        Self { last, now: unix.max(last.saturating_add(2 * AFTER)), delta }
    }

    /// When that begins which is new.
    pub fn start(self) -> u64 {
        self.last.saturating_add(AFTER)
    }
}

/// A counter's series: its total never goes back.
#[derive(Clone, Debug, Default)]
pub struct Counter {
    total: u64,
    /// What was sent of it.
    sent: u64,
    /// When it began: set by the first collection.
    start: Option<u64>,
    /// To the last one that was kept since the last collection.
    exemplar: Option<Exemplar>,
}

impl Counter {
    /// Adds to it.
    pub fn add(&mut self, by: u64, exemplar: Option<Exemplar>) {
        self.total = self.total.saturating_add(by);
        if exemplar.is_some() {
            self.exemplar = exemplar;
        }
    }

    /// Its points. A series that is new begins with a 0 at its start, so that a rate sees the first measurement.
    pub fn points(&mut self, attributes: &[KeyValue], times: Times, points: &mut Vec<NumberDataPoint>) {
        let exemplars: Vec<_> = self.exemplar.take().iter().map(Exemplar::one).collect();
        if times.delta {
            let new = self.total - self.sent;
            if new > 0 {
                points.push(point(attributes, times.last, times.now, new, exemplars));
            }
            self.sent = self.total;
            return;
        }
        let is_new = self.start.is_none();
        let start = *self.start.get_or_insert(times.start());
        if is_new && self.total > 0 {
            points.push(point(attributes, start, start, 0, Vec::new()));
        }
        points.push(point(attributes, start, times.now, self.total, exemplars));
        self.sent = self.total;
    }

    /// The point that ends it: no value, and the flag that says so.
    pub fn end(&self, attributes: &[KeyValue], times: Times, points: &mut Vec<NumberDataPoint>) {
        if let Some(start) = self.start.filter(|_| !times.delta) {
            points.push(no_value(attributes, start, times.now));
        }
    }
}

/// A point of a counter or of a sum that goes both ways.
pub fn point(
    attributes: &[KeyValue],
    start: u64,
    time: u64,
    value: u64,
    exemplars: Vec<otlp::Exemplar>,
) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes.to_vec(),
        start_time_unix_nano: start,
        time_unix_nano: time,
        exemplars,
        flags: 0,
        value: Some(Value::AsInt(i64::try_from(value).unwrap_or(i64::MAX))),
    }
}

fn no_value(attributes: &[KeyValue], start: u64, time: u64) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes.to_vec(),
        start_time_unix_nano: start,
        time_unix_nano: time,
        exemplars: Vec::new(),
        flags: otlp::DataPointFlags::NoRecordedValueMask as u32,
        value: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(counter: &mut Counter, times: Times) -> Vec<(u64, u64, Option<Value>)> {
        let mut points = Vec::new();
        counter.points(&[], times, &mut points);
        points.into_iter().map(|p| (p.start_time_unix_nano, p.time_unix_nano, p.value)).collect()
    }

    fn int(value: i64) -> Option<Value> {
        Some(Value::AsInt(value))
    }

    #[test]
    fn a_new_series_begins_with_zero() {
        let mut counter = Counter::default();
        counter.add(3, None);
        let ms = 1_000_000;
        let first = values(&mut counter, Times::at(20 * ms, 10 * ms, false));
        assert_eq!(first, [(11 * ms, 11 * ms, int(0)), (11 * ms, 20 * ms, int(3))]);
        counter.add(1, None);
        assert_eq!(values(&mut counter, Times::at(30 * ms, 20 * ms, false)), [(11 * ms, 30 * ms, int(4))]);
        let mut idle = Counter::default();
        assert_eq!(values(&mut idle, Times::at(20 * ms, 10 * ms, false)), [(11 * ms, 20 * ms, int(0))]);
        let mut points = Vec::new();
        counter.end(&[], Times::at(40 * ms, 30 * ms, false), &mut points);
        assert_eq!((points[0].flags, points[0].value), (1, None));
    }

    #[test]
    fn deltas_add_up_to_the_total_and_idle_ones_are_silent() {
        let mut counter = Counter::default();
        counter.add(3, None);
        assert_eq!(values(&mut counter, Times { last: 10, now: 20, delta: true }), [(10, 20, int(3))]);
        assert!(values(&mut counter, Times { last: 20, now: 30, delta: true }).is_empty());
        counter.add(2, None);
        assert_eq!(values(&mut counter, Times { last: 30, now: 40, delta: true }), [(30, 40, int(2))]);
        assert_eq!(counter.total, 5);
    }
}
