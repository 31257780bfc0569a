//! Every place of a table looked at once in each interval, a few at a time: what came into it together is spread over
//! the interval, and nothing is kept for each entry.

use std::time::Duration;

use crate::capture::observation::Mono;

/// Parts of an interval. Neighbours in the table are looked at in different ones.
const PARTS: u64 = 256;

/// See the module.
#[derive(Debug)]
pub struct Sweep {
    interval: Duration,
    /// Which part of which interval was looked at last: the count of parts since time began.
    done: u64,
    /// Where the first part lies.
    offset: u64,
}

impl Sweep {
    /// Begins at `now`; `seed` says which part comes first. An interval of zero looks at nothing.
    pub fn new(interval: Duration, seed: u64, now: Mono) -> Self {
        let mut sweep = Self { interval, done: 0, offset: seed % PARTS };
        sweep.done = sweep.part_at(now);
        sweep
    }

    /// The interval.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// How many places can be dealt with in an interval at so many a second.
    pub fn most(&self, rate: u64) -> usize {
        let most = u128::from(rate) * self.interval.as_millis() / 1000;
        usize::try_from(most).unwrap_or(usize::MAX).max(1)
    }

    /// Looks at the places of a table of `len` whose turn came until `now`: at each once at most, however long ago
    /// the last call was.
    pub fn advance(&mut self, now: Mono, len: usize, mut look: impl FnMut(usize)) {
        if self.interval.is_zero() {
            return;
        }
        let until = self.part_at(now);
        let first = self.done.saturating_add(1).max(until.saturating_sub(PARTS - 1));
        for part in first..=until {
            let start = usize::try_from(part.wrapping_add(self.offset) % PARTS).unwrap_or_default();
            if start >= len {
                continue;
            }
            // Not always the same ones last, in case that there is no room for all.
            let count = (len - start).div_ceil(PARTS as usize);
            let turn = usize::try_from(part / PARTS % count as u64).unwrap_or_default();
            for step in (turn..count).chain(0..turn) {
                look(start + step * PARTS as usize);
            }
        }
        self.done = self.done.max(until);
    }

    fn part_at(&self, now: Mono) -> u64 {
        let part = u64::try_from(self.interval.as_nanos() / u128::from(PARTS)).unwrap_or(u64::MAX);
        now.0 / part.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn neighbours_are_spread_and_everyone_is_looked_at_once_an_interval() {
        let mut sweep = Sweep::new(Duration::from_secs(256), 7, Mono(0));
        let mut seen: Vec<Vec<u64>> = vec![Vec::new(); 1000];
        for second in 1..=512 {
            let mut at_once = 0;
            sweep.advance(Mono(second * 1_000_000_000), seen.len(), |index| {
                seen[index].push(second);
                at_once += 1;
            });
            assert!(at_once <= 4, "{at_once}");
        }
        assert!(seen.iter().all(|times| times.len() == 2 && times[1] - times[0] == 256), "{seen:?}");
        assert_ne!(seen[0], seen[1]);
    }

    #[test]
    fn zero_is_never() {
        Sweep::new(Duration::ZERO, 0, Mono(0)).advance(Mono(u64::MAX), 10, |_| panic!("never"));
    }

    proptest! {
        #[test]
        fn nobody_is_looked_at_twice_in_a_call(interval in 0_u64..u64::MAX, seed: u64, len in 0_usize..2000, times in proptest::collection::vec(any::<u64>(), 1..10)) {
            let mut sweep = Sweep::new(Duration::from_nanos(interval), seed, Mono(0));
            for time in times {
                let mut seen = vec![false; len];
                sweep.advance(Mono(time), len, |index| {
                    assert!(!std::mem::replace(&mut seen[index], true));
                });
            }
        }
    }
}
