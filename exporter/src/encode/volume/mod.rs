//! Volume: which attempts have a span and a record of their own. Metrics count all of them.
//!
//! Successes are kept by a ratio that is decided by the trace id, so that all nodes agree, and thinned further above a
//! ceiling of spans a second. What failed, came late or used a port again is kept within a budget by workload,
//! destination and cause; one record sums up the rest.

mod budget;
mod ceiling;
mod ratio;

pub use budget::{Key, Summary};
pub use ratio::Threshold;

use budget::{Budgets, Spent};
use ceiling::Ceiling;

use super::{Priority, priority};
use crate::capture::observation::Mono;
use crate::identify::describe::Described;

/// How much is kept.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Options {
    /// Share of successes, 0 to 1.
    pub ratio: f64,
    /// Spans of successes a second; 0: no limit.
    pub ceiling: u32,
    /// Others a second by workload, destination and cause; 0: no limit.
    pub rate: u32,
    /// As many of them at once.
    pub burst: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { ratio: 1.0, ceiling: 1_000, rate: 10, burst: 100 }
    }
}

/// What becomes of an attempt's span and record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// They go out; the probability with which they were kept, if it is known.
    Keep(Option<Threshold>),
    /// They do not, by the ratio.
    ByRatio,
    /// They do not, by the ceiling.
    ByCeiling,
    /// They do not, by a budget; a summary counts the attempt.
    ByBudget,
}

impl Decision {
    /// Whether they go out.
    pub fn keeps(self) -> bool {
        matches!(self, Self::Keep(_))
    }
}

/// How many attempts went without span and record, by what decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Left {
    pub by_ratio: u64,
    pub by_ceiling: u64,
    pub by_budget: u64,
}

/// Decides on attempts.
#[derive(Debug)]
pub struct Volume {
    ratio: Threshold,
    ceiling: Ceiling,
    budgets: Budgets,
    /// Of attempts that hang: so many are told of while they do.
    hanging: Budgets,
    left: Left,
}

impl Volume {
    /// By these options.
    pub fn new(options: Options) -> Self {
        Self {
            ratio: Threshold::of(options.ratio),
            ceiling: Ceiling::new(options.ceiling),
            budgets: Budgets::new(options.rate, options.burst),
            hanging: Budgets::new(options.rate, options.burst),
            left: Left::default(),
        }
    }

    /// What becomes of an attempt that has so many spans.
    pub fn decide(&mut self, described: &Described, spans: usize, now: Mono) -> Decision {
        let attempt = &*described.attempt;
        let decision = match priority(attempt) {
            Priority::Failure => match self.budgets.spend(now, key(described), attempt.failed()) {
                Spent::All => Decision::Keep(Some(Threshold::KEEP_ALL)),
                Spent::Some => Decision::Keep(None),
                Spent::Beyond => Decision::ByBudget,
            },
            Priority::Success => {
                let kept_by_ratio = self.ratio.keeps(attempt.trace);
                let ceiling = if kept_by_ratio { self.ceiling.threshold(now, spans) } else { Threshold::KEEP_ALL };
                let threshold = self.ratio.stricter(ceiling);
                if !kept_by_ratio {
                    Decision::ByRatio
                } else if threshold.keeps(attempt.trace) {
                    self.ceiling.keep(spans);
                    Decision::Keep(Some(threshold))
                } else {
                    Decision::ByCeiling
                }
            }
        };
        match decision {
            Decision::Keep(_) => (),
            Decision::ByRatio => self.left.by_ratio += 1,
            Decision::ByCeiling => self.left.by_ceiling += 1,
            Decision::ByBudget => self.left.by_budget += 1,
        }
        decision
    }

    /// Whether an attempt that hangs is told of while it does. Each is told of, or summed up, at its end, too.
    pub fn tells_hanging(&mut self, described: &Described, now: Mono) -> bool {
        self.hanging.spend(now, key(described), false) != Spent::Beyond
    }

    /// Sums of what went beyond a budget whose time has come; all of them at the end.
    pub fn summaries(&mut self, now: Mono, all: bool) -> Vec<Summary> {
        // Those that hang are in the sums when they end.
        self.hanging.due(now, all);
        self.budgets.due(now, all)
    }

    /// How many attempts went without.
    pub fn left(&self) -> Left {
        self.left
    }
}

/// Whose budget an attempt's telling comes from.
fn key(described: &Described) -> Key {
    let attempt = &*described.attempt;
    Key {
        client: Some(described.client.as_ref().unwrap_or(&described.unknown).clone()),
        destination: attempt.destination(),
        outcome: Some(attempt.verdict.outcome),
        cause: attempt.verdict.cause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identify::fixtures;
    use crate::track::trace_id::TraceId;

    fn with_trace(mut described: Described, number: u128) -> Described {
        let id = number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        described.attempt.trace = TraceId((id ^ id >> 61).to_be_bytes());
        described
    }

    #[test]
    fn two_nodes_agree_on_successes_and_all_failures_are_kept() {
        let options = Options { ratio: 0.1, ceiling: 0, rate: 0, burst: 0 };
        let (mut one, mut other) = (Volume::new(options), Volume::new(options));
        let mut kept = 0;
        for number in 0..20_000 {
            let described = with_trace(fixtures::clean(), number);
            let decision = one.decide(&described, 3, fixtures::START);
            assert_eq!(decision, other.decide(&described, 1, fixtures::START));
            kept += u64::from(decision.keeps());
            let failed = with_trace(fixtures::refused(), number);
            assert_eq!(one.decide(&failed, 1, fixtures::START), Decision::Keep(Some(Threshold::KEEP_ALL)));
        }
        // Five standard deviations of 20,000 draws at one in ten.
        assert!((1_788..=2_212).contains(&kept), "{kept}");
        assert_eq!(one.left(), Left { by_ratio: 20_000 - kept, by_ceiling: 0, by_budget: 0 });
    }

    #[test]
    fn attempts_that_hang_have_a_budget_of_their_own_and_are_in_no_sum() {
        let mut volume = Volume::new(Options { rate: 10, burst: 100, ..Options::default() });
        let refused = fixtures::refused();
        let at = |number: u64| Mono(fixtures::START.0 + number * 1_000_000);
        // Ten seconds of a thousand each.
        let told = (0..10_000).filter(|&number| volume.tells_hanging(&refused, at(number))).count();
        assert!((198..=200).contains(&told), "{told}");
        assert_eq!(volume.decide(&refused, 1, at(10_000)), Decision::Keep(Some(Threshold::KEEP_ALL)));
        assert!(volume.summaries(at(60_000), true).is_empty());
        let mut unbounded = Volume::new(Options { rate: 0, ..Options::default() });
        assert!((0..10_000).all(|number| unbounded.tells_hanging(&refused, at(number))));
    }

    #[test]
    fn the_ceiling_takes_the_lowest_of_what_the_ratio_kept() {
        let mut volume = Volume::new(Options { ratio: 0.5, ceiling: 10, rate: 0, burst: 0 });
        let mut decisions = [0_u32; 3];
        for number in 0..5_000 {
            let now = Mono(number as u64 * 1_000_000);
            match volume.decide(&with_trace(fixtures::clean(), number), 1, now) {
                Decision::Keep(Some(threshold)) => {
                    assert!(threshold.share() <= 0.5);
                    decisions[0] += 1;
                }
                Decision::ByRatio => decisions[1] += 1,
                Decision::ByCeiling => decisions[2] += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!((30..120).contains(&decisions[0]), "{decisions:?}");
        assert!((2_300..2_700).contains(&decisions[1]), "{decisions:?}");
    }
}
