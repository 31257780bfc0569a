//! Wall-clock time for monotonic times.

#[cfg(target_os = "linux")]
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
    #[cfg(target_os = "linux")]
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

/// A wall-clock time in UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Utc {
    pub year: u64,
    pub month: u64,
    pub day: u64,
    pub hour: u64,
    pub minute: u64,
    pub second: u64,
    /// Nanoseconds of the second.
    pub nanos: u64,
}

impl Utc {
    /// The time that is so many nanoseconds after 1970.
    pub fn new(unix_nanos: u64) -> Self {
        let (seconds, nanos) = (unix_nanos / 1_000_000_000, unix_nanos % 1_000_000_000);
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil(days);
        Self { year, month, day, hour: second / 3_600, minute: second / 60 % 60, second: second % 60, nanos }
    }

    /// As RFC 3339 has it, with microseconds: `2026-11-23T20:31:07.123456Z`.
    pub fn rfc3339(self) -> String {
        let Self { year, month, day, hour, minute, second, nanos } = self;
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z", nanos / 1_000)
    }
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar: counted in eras of
/// 400 years (146,097 days) from 1 March of the year 0, so that the leap day is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
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
    fn utc_is_right_around_leap_days() {
        for (unix, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400_000_000_000, "2000-02-29T00:00:00.000000Z"),
            (1_709_251_199_999_999_999, "2024-02-29T23:59:59.999999Z"),
            (1_795_465_867_123_456_789, "2026-11-23T20:31:07.123456Z"),
        ] {
            assert_eq!(Utc::new(unix).rfc3339(), text);
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn now_is_after_2020() {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("clock");
        let mono = Mono(u64::try_from(now.tv_sec()).expect("positive") * 1_000_000_000);
        assert!(WallClock::now().unix_nanos(mono) > 1_577_836_800_000_000_000);
    }
}
