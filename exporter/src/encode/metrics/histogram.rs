//! Histograms, and the bounds of their buckets.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::{ExponentialHistogramDataPoint, HistogramDataPoint};

use super::exponential::Exponential;
use super::series::Exemplar;

/// Seconds to an outcome. From 1 s on each bound is the time at which a SYN is sent again, before Linux 6.5 (1, 3, 7,
/// 15, 31, 63) or from it on (1, 2, 3, 4, 5, 7, 11, 19, 35, 67), so that a bucket tells how many SYNs it took.
pub const SYN_STEPS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 11.0, 15.0, 19.0, 31.0,
    35.0, 63.0, 67.0, 130.0,
];
/// Seconds between two tenants of a port.
pub const GAPS: &[f64] = &[0.01, 0.1, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 240.0, 600.0];
/// Seconds of a round trip.
pub const ROUND_TRIPS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// A histogram of one series.
#[derive(Clone, Debug)]
pub struct Histogram {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    kind: Kind,
    /// To the slowest that was kept since the last collection.
    pub exemplar: Option<Exemplar>,
}

#[derive(Clone, Debug)]
enum Kind {
    Explicit(&'static [f64], Box<[u64]>),
    Exponential(Box<Exponential>),
}

impl Histogram {
    /// An empty one: of these bounds, or exponential.
    pub fn new(bounds: &'static [f64], exponential: bool) -> Self {
        let kind = if exponential {
            Kind::Exponential(Box::default())
        } else {
            Kind::Explicit(bounds, vec![0; bounds.len() + 1].into())
        };
        Self { count: 0, sum: 0.0, min: f64::INFINITY, max: 0.0, kind, exemplar: None }
    }

    /// Takes in a value, and where it leads to.
    pub fn record(&mut self, value: f64, exemplar: Option<Exemplar>) {
        self.count += 1;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        match &mut self.kind {
            // A bound belongs to the bucket below it.
            Kind::Explicit(bounds, counts) => counts[bounds.partition_point(|&bound| bound < value)] += 1,
            Kind::Exponential(exponential) => exponential.record(value),
        }
        if let Some(new) = exemplar
            && self.exemplar.as_ref().is_none_or(|old| old.value <= new.value)
        {
            self.exemplar = Some(new);
        }
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether it is exponential.
    pub fn is_exponential(&self) -> bool {
        matches!(self.kind, Kind::Exponential(_))
    }

    /// Forgets all values.
    pub fn clear(&mut self) {
        let empty = match &self.kind {
            Kind::Explicit(bounds, _) => Self::new(bounds, false),
            Kind::Exponential(_) => Self::new(&[], true),
        };
        *self = empty;
    }

    /// A point with explicit buckets.
    pub fn explicit(&self, attributes: Vec<KeyValue>, start: u64, time: u64) -> HistogramDataPoint {
        let (bounds, counts) = match &self.kind {
            Kind::Explicit(bounds, counts) => (bounds.to_vec(), counts.to_vec()),
            Kind::Exponential(_) => (Vec::new(), vec![self.count]),
        };
        HistogramDataPoint {
            attributes,
            start_time_unix_nano: start,
            time_unix_nano: time,
            count: self.count,
            sum: Some(self.sum),
            bucket_counts: counts,
            explicit_bounds: bounds,
            exemplars: self.exemplar.iter().map(|exemplar| exemplar.double()).collect(),
            flags: 0,
            min: (self.count > 0).then_some(self.min),
            max: (self.count > 0).then_some(self.max),
        }
    }

    /// An exponential point; none if it is not exponential.
    pub fn exponential(
        &self,
        attributes: Vec<KeyValue>,
        start: u64,
        time: u64,
    ) -> Option<ExponentialHistogramDataPoint> {
        let Kind::Exponential(inner) = &self.kind else { return None };
        let (offset, counts) = inner.buckets();
        Some(ExponentialHistogramDataPoint {
            attributes,
            start_time_unix_nano: start,
            time_unix_nano: time,
            count: self.count,
            sum: Some(self.sum),
            scale: inner.scale(),
            zero_count: inner.zeros(),
            positive: Some(Buckets { offset, bucket_counts: counts.to_vec() }),
            negative: None,
            flags: 0,
            exemplars: self.exemplar.iter().map(|exemplar| exemplar.double()).collect(),
            min: (self.count > 0).then_some(self.min),
            max: (self.count > 0).then_some(self.max),
            zero_threshold: 0.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_the_bucket_below_it() {
        let mut histogram = Histogram::new(&[1.0, 2.0], false);
        for value in [0.5, 1.0, 1.013, 2.0, 9.0] {
            histogram.record(value, None);
        }
        let point = histogram.explicit(Vec::new(), 1, 2);
        assert_eq!((point.bucket_counts, point.count, point.min, point.max), (vec![2, 2, 1], 5, Some(0.5), Some(9.0)));
        histogram.clear();
        let point = histogram.explicit(Vec::new(), 1, 2);
        assert_eq!((point.bucket_counts, point.count, point.min), (vec![0, 0, 0], 0, None));
    }

    #[test]
    fn bounds_rise() {
        for bounds in [SYN_STEPS, GAPS, ROUND_TRIPS] {
            assert!(bounds.is_sorted_by(|a, b| a < b));
        }
    }
}
