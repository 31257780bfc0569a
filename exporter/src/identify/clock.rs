//! Wall-clock time for monotonic times.

use nix::time::{ClockId, clock_gettime};

use crate::capture::observation::Mono;

/// How far the wall clock is ahead of the monotonic clock. It is sampled once for an attempt and used
/// for all its times, so that a wall clock that jumps never changes a duration or an order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WallClock {
    offset: i64,
}

impl WallClock {
    /// The offset as it is now, of `CLOCK_REALTIME` to `CLOCK_MONOTONIC`.
    pub fn now() -> Self {
        let read = |clock: ClockId| {
            clock_gettime(clock).map_or(0, |time| time.tv_sec().saturating_mul(1_000_000_000) + time.tv_nsec())
        };
        let sample = || {
            let before = read(ClockId::CLOCK_MONOTONIC);
            let wall = read(ClockId::CLOCK_REALTIME);
            let after = read(ClockId::CLOCK_MONOTONIC);
            (after - before, wall - (before + (after - before) / 2))
        };
        // Where the thread was set aside between the readings, it reads again.
        let (mut apart, mut offset) = sample();
        for _ in 0..5 {
            if apart <= 20_000 {
                break;
            }
            (apart, offset) = (apart, offset).min(sample());
        }
        Self { offset }
    }

    /// A known offset in nanoseconds: for capture files, whose times are wall-clock times (0), and tests.
    pub fn fixed(offset: i64) -> Self {
        Self { offset }
    }

    /// Nanoseconds since 1970 for a monotonic time.
    pub fn unix_nanos(self, time: Mono) -> u64 {
        time.0.saturating_add_signed(self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_is_added_and_never_wraps() {
        assert_eq!(WallClock::fixed(1_000).unix_nanos(Mono(5)), 1_005);
        assert_eq!(WallClock::fixed(-10).unix_nanos(Mono(5)), 0);
        assert_eq!(WallClock::fixed(i64::MAX).unix_nanos(Mono(u64::MAX)), u64::MAX);
    }

    #[test]
    fn now_is_after_2020() {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("clock");
        let mono = Mono(u64::try_from(now.tv_sec()).expect("positive") * 1_000_000_000);
        assert!(WallClock::now().unix_nanos(mono) > 1_577_836_800_000_000_000);
    }
}
