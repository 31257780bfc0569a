//! Keeping a share of traces, alike on every node (OpenTelemetry's consistent probability sampling).
//!
//! A trace is kept if the low 56 bits of its id, which are random, are at or above a threshold; the threshold goes along
//! in `tracestate` as `ot=th:` with its trailing zeros left out, so that a backend can count what each kept trace stands
//! for.

use crate::track::trace_id::TraceId;

/// All of the 56 bits, and one.
const ALL: u64 = 1 << 56;

/// From where on traces are kept: of 2^56 ids so many are rejected.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Threshold(u64);

impl Threshold {
    /// All are kept.
    pub const KEEP_ALL: Self = Self(0);

    /// Keeps a share of 0 to 1; of a share that is not 0, never less than one in 2^56.
    pub fn of(share: f64) -> Self {
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 1.0 };
        // Exact: 2^56 is a power of two, and what it is multiplied with a double.
        Self(((1.0 - share) * ALL as f64) as u64)
    }

    /// The share that is kept.
    pub fn share(self) -> f64 {
        (ALL - self.0) as f64 / ALL as f64
    }

    /// Of those that both keep: so much of what this one keeps as `other` would of all.
    pub fn stricter(self, other: Self) -> Self {
        Self::of(self.share() * other.share()).max(self)
    }

    /// Whether a trace is kept.
    pub fn keeps(self, trace: TraceId) -> bool {
        randomness(trace) >= self.0
    }

    /// The entry of `tracestate`.
    pub fn trace_state(self) -> String {
        let digits = format!("{:014x}", self.0.min(ALL - 1));
        let digits = digits.trim_end_matches('0');
        format!("ot=th:{}", if digits.is_empty() { "0" } else { digits })
    }
}

/// The random bits of a trace id: its low 56 (W3C Trace Context level 2, random-trace-id flag).
fn randomness(trace: TraceId) -> u64 {
    let [.., _, a, b, c, d, e, f, g] = trace.0;
    u64::from_be_bytes([0, a, b, c, d, e, f, g])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_those_of_the_specification() {
        for (share, state) in [(1.0, "ot=th:0"), (0.5, "ot=th:8"), (0.25, "ot=th:c"), (0.0625, "ot=th:f")] {
            assert_eq!(Threshold::of(share).trace_state(), state);
            assert!((Threshold::of(share).share() - share).abs() < 1e-12);
        }
        assert!(Threshold::of(0.1).trace_state().starts_with("ot=th:e6666666"));
        assert_eq!(Threshold::of(f64::NAN), Threshold::KEEP_ALL);
    }

    #[test]
    fn the_low_bits_decide() {
        let id = |low: u64| TraceId((u128::from(u64::MAX) << 64 | u128::from(low)).to_be_bytes());
        let half = Threshold::of(0.5);
        assert!(half.keeps(id(0x80_0000_0000_0000)) && !half.keeps(id(0xff7f_ffff_ffff_ffff)));
        assert!(Threshold::KEEP_ALL.keeps(id(0)));
        assert!(!Threshold::of(0.0).keeps(id(u64::MAX >> 8)));
    }
}
