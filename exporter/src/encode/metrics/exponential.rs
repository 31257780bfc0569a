//! The base-2 exponential histogram (OpenTelemetry's metrics data model, "ExponentialHistogram").
//!
//! At scale s a bucket of index i holds the values in (b^i, b^(i+1)] with b = 2^(2^-s). Where the values do not fit into
//! the buckets that there may be, the scale goes down: two neighbours become one.

/// Most buckets, and the scale to begin with (the SDK specification's defaults).
const MAX_SIZE: usize = 160;
const MAX_SCALE: i32 = 20;
/// Below it every double falls into one bucket.
const MIN_SCALE: i32 = -10;

/// Counts of positive values.
#[derive(Clone, PartialEq, Debug)]
pub struct Exponential {
    scale: i32,
    /// Index of the first bucket.
    offset: i32,
    counts: Vec<u64>,
    zeros: u64,
}

impl Default for Exponential {
    fn default() -> Self {
        Self { scale: MAX_SCALE, offset: 0, counts: Vec::new(), zeros: 0 }
    }
}

impl Exponential {
    /// Takes in a value; what is not positive counts as zero.
    pub fn record(&mut self, value: f64) {
        if !value.is_normal() || value <= 0.0 {
            self.zeros += 1;
            return;
        }
        let mut index = index(value, self.scale);
        while !self.fits(index) {
            self.halve();
            index >>= 1;
        }
        if self.counts.is_empty() {
            (self.offset, self.counts) = (index, vec![1]);
            return;
        }
        if index < self.offset {
            let more = usize::try_from(self.offset - index).unwrap_or(0);
            self.counts.splice(0..0, std::iter::repeat_n(0, more));
            self.offset = index;
        }
        let at = usize::try_from(index - self.offset).unwrap_or(0);
        if at >= self.counts.len() {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] += 1;
    }

    /// The scale.
    pub fn scale(&self) -> i32 {
        self.scale
    }

    /// How many values were zero.
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// Index of the first bucket, and the buckets' counts.
    pub fn buckets(&self) -> (i32, &[u64]) {
        (self.offset, &self.counts)
    }

    fn fits(&self, index: i32) -> bool {
        if self.counts.is_empty() || self.scale <= MIN_SCALE {
            return true;
        }
        let last = i64::from(self.offset) + self.counts.len() as i64 - 1;
        let (low, high) = (i64::from(self.offset).min(index.into()), last.max(index.into()));
        high - low < MAX_SIZE as i64
    }

    /// Makes one bucket of each two.
    fn halve(&mut self) {
        let mut halved: Vec<u64> = Vec::with_capacity(self.counts.len() / 2 + 1);
        let first = self.offset >> 1;
        for (at, count) in self.counts.iter().enumerate() {
            let index = (self.offset + i32::try_from(at).unwrap_or(i32::MAX)) >> 1;
            let at = usize::try_from(index - first).unwrap_or(0);
            if at >= halved.len() {
                halved.resize(at + 1, 0);
            }
            halved[at] += count;
        }
        (self.offset, self.counts) = (first, halved);
        self.scale -= 1;
    }
}

/// The bucket of a positive normal value: the largest i with b^i < value.
fn index(value: f64, scale: i32) -> i32 {
    if scale > 0 {
        let exact = value.log2() * f64::from(scale).exp2();
        // A power of two is the upper bound of its bucket; the logarithm of others may be a hair off, as everybody's.
        return exact.ceil() as i32 - 1;
    }
    let bits = value.to_bits();
    let exponent = i32::try_from(bits >> 52 & 0x7ff).unwrap_or(0) - 1023;
    let exponent = if bits & ((1 << 52) - 1) == 0 { exponent - 1 } else { exponent };
    exponent >> -scale
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn powers_of_two_are_upper_bounds() {
        assert_eq!([1.0, 1.5, 2.0, 2.1, 4.0, 0.5].map(|value| index(value, 0)), [-1, 0, 0, 1, 1, -2]);
        assert_eq!([1.0, 4.0, 4.1, 16.0].map(|value| index(value, -1)), [-1, 0, 1, 1]);
        assert_eq!([1.0, 2.0].map(|value| index(value, 3)), [-1, 7]);
    }

    proptest! {
        #[test]
        fn every_value_is_in_a_bucket_that_holds_it(values in proptest::collection::vec(1e-9_f64..1e9, 1..300)) {
            let mut histogram = Exponential::default();
            values.iter().for_each(|&value| histogram.record(value));
            let (offset, counts) = histogram.buckets();
            prop_assert!(counts.len() <= MAX_SIZE);
            prop_assert_eq!(counts.iter().sum::<u64>(), values.len() as u64);
            let base = f64::from(-histogram.scale()).exp2().exp2();
            for (at, &count) in counts.iter().enumerate() {
                let index = offset + at as i32;
                let (low, high) = (base.powi(index), base.powi(index + 1));
                let inside = |slack: f64| {
                    values.iter().filter(|&&v| v > low * (1.0 - slack) && v <= high * (1.0 + slack)).count() as u64
                };
                prop_assert!(count <= inside(1e-9), "bucket {index}: {count} of {}", inside(1e-9));
            }
        }
    }

    #[test]
    fn zeros_are_counted_apart() {
        let mut histogram = Exponential::default();
        for value in [0.0, -1.0, f64::NAN, 1.0] {
            histogram.record(value);
        }
        assert_eq!((histogram.zeros(), histogram.buckets().1.iter().sum::<u64>()), (3, 1));
    }
}
