//! A ceiling of spans a second for successes, by a threshold that rises with the load.

use std::time::Duration;

use super::ratio::Threshold;
use crate::capture::observation::Mono;

/// For so long spans are counted before the threshold is set anew.
const WINDOW: Duration = Duration::from_secs(1);

/// Keeps about so many spans a second, of traces whose ids are the highest.
#[derive(Debug)]
pub struct Ceiling {
    /// Spans a second; 0: no limit.
    limit: u32,
    since: Option<Mono>,
    /// Spans that were offered in the window, and kept.
    offered: u64,
    kept: u64,
    share: f64,
}

impl Ceiling {
    /// A ceiling of so many spans a second; 0: none.
    pub fn new(limit: u32) -> Self {
        Self { limit, since: None, offered: 0, kept: 0, share: 1.0 }
    }

    /// The threshold for the next success of so many spans.
    pub fn threshold(&mut self, now: Mono, spans: usize) -> Threshold {
        if self.limit == 0 {
            return Threshold::KEEP_ALL;
        }
        let limit = f64::from(self.limit);
        let since = *self.since.get_or_insert(now);
        let passed = now.since(since);
        if passed >= WINDOW {
            // What was offered in the last window is what the next one is prepared for.
            let rate = self.offered as f64 / passed.as_secs_f64();
            self.share = if rate > limit { limit / rate } else { 1.0 };
            (self.since, self.offered, self.kept) = (Some(now), 0, 0);
        }
        self.offered += spans as u64;
        // A burst that nobody foresaw: each quarter of the limit beyond it halves the share.
        let beyond = (self.kept as f64 - limit).max(0.0) / (limit / 4.0);
        Threshold::of(self.share * (-beyond.ceil()).exp2())
    }

    /// So many spans were kept.
    pub fn keep(&mut self, spans: usize) {
        self.kept += spans as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::track::trace_id::TraceId;

    /// Spans kept of `rate` a second, each a trace of its own, for ten seconds.
    fn kept(limit: u32, rate: u32) -> Vec<u32> {
        let mut ceiling = Ceiling::new(limit);
        let mut id: u128 = 1;
        (0..10_u64)
            .map(|second| {
                let mut kept = 0;
                for at in 0..rate {
                    id = id.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).wrapping_add(0x5851_f42d);
                    let now = Mono(second * 1_000_000_000 + u64::from(at) * 1_000_000_000 / u64::from(rate));
                    let trace = TraceId((id ^ id >> 64).to_be_bytes());
                    if ceiling.threshold(now, 1).keeps(trace) {
                        ceiling.keep(1);
                        kept += 1;
                    }
                }
                kept
            })
            .collect()
    }

    #[test]
    fn below_it_all_are_kept_and_above_it_about_as_many_as_may_be() {
        assert!(kept(1_000, 900).into_iter().all(|kept| kept == 900));
        let many = kept(1_000, 20_000);
        assert!(many[0] < 3_500, "the first second: {}", many[0]);
        assert!(many[1..].iter().all(|kept| (800..1_200).contains(kept)), "{many:?}");
        assert!(kept(0, 5_000).into_iter().all(|kept| kept == 5_000));
    }
}
