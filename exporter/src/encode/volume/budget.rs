//! Budgets of failed, slow and reused attempts: so many a second of each workload, destination and cause, and a sum of
//! the rest.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::capture::observation::Mono;
use crate::capture::tuple::Endpoint;
use crate::identify::Identity;
use crate::track::verdict::{Cause, Outcome};

/// Most budgets; what has none of its own shares one.
const MAX_BUDGETS: usize = 4_096;
/// How often what went beyond a budget is summed up.
const INTERVAL: Duration = Duration::from_secs(10);

/// What a budget is for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    /// The workload; none for all that have no budget of their own.
    pub client: Option<Arc<Identity>>,
    /// Where it wanted to go.
    pub destination: Option<Endpoint>,
    /// What it got.
    pub outcome: Option<Outcome>,
    /// Why.
    pub cause: Option<Cause>,
}

impl Key {
    const SHARED: Self = Self { client: None, destination: None, outcome: None, cause: None };
}

/// Attempts beyond a budget, which have neither span nor record of their own.
#[derive(Clone, PartialEq, Debug)]
pub struct Summary {
    /// Whose.
    pub key: Key,
    /// How many.
    pub attempts: u64,
    /// Of them, how many failed.
    pub failed: u64,
    /// From when.
    pub from: Mono,
    /// Until when.
    pub until: Mono,
}

/// Whether an attempt is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spent {
    /// It is, as all of late.
    All,
    /// It is, and others were not.
    Some,
    /// It is not.
    Beyond,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Mono,
    beyond: u64,
    failed: u64,
    since: Mono,
    last_beyond: Option<Mono>,
}

/// All budgets.
#[derive(Debug)]
pub struct Budgets {
    rate: f64,
    burst: f64,
    buckets: HashMap<Key, Bucket>,
    looked: Mono,
}

impl Budgets {
    /// So many attempts a second of each, and so many at once; a rate of 0: no limit.
    pub fn new(rate: u32, burst: u32) -> Self {
        Self { rate: rate.into(), burst: burst.max(1).into(), buckets: HashMap::new(), looked: Mono(0) }
    }

    /// Whether there is room for one more.
    pub fn spend(&mut self, now: Mono, key: Key, failed: bool) -> Spent {
        if self.rate == 0.0 {
            return Spent::All;
        }
        let key = if self.buckets.contains_key(&key) || self.buckets.len() < MAX_BUDGETS { key } else { Key::SHARED };
        let (rate, burst) = (self.rate, self.burst);
        let new = || Bucket { tokens: burst, filled: now, beyond: 0, failed: 0, since: now, last_beyond: None };
        let bucket = self.buckets.entry(key).or_insert_with(new);
        bucket.tokens = (bucket.tokens + now.since(bucket.filled).as_secs_f64() * rate).min(burst);
        bucket.filled = bucket.filled.max(now);
        if bucket.tokens < 1.0 {
            if bucket.beyond == 0 {
                bucket.since = now;
            }
            bucket.beyond += 1;
            bucket.failed += u64::from(failed);
            bucket.last_beyond = Some(now);
            return Spent::Beyond;
        }
        bucket.tokens -= 1.0;
        let lately = bucket.last_beyond.is_some_and(|last| now.since(last) < INTERVAL);
        if lately { Spent::Some } else { Spent::All }
    }

    /// The sums whose time has come; all of them at the end.
    pub fn due(&mut self, now: Mono, all: bool) -> Vec<Summary> {
        if !all && now.since(self.looked) < Duration::from_secs(1) {
            return Vec::new();
        }
        self.looked = now;
        let mut due = Vec::new();
        for (key, bucket) in &mut self.buckets {
            if bucket.beyond > 0 && (all || now.since(bucket.since) >= INTERVAL) {
                due.push(Summary {
                    key: key.clone(),
                    attempts: std::mem::take(&mut bucket.beyond),
                    failed: std::mem::take(&mut bucket.failed),
                    from: bucket.since,
                    until: now.max(bucket.since),
                });
                bucket.since = now;
            }
        }
        // A bucket that is full again says nothing that a new one would not.
        let (rate, burst) = (self.rate, self.burst);
        self.buckets.retain(|_, bucket| {
            let idle = now.since(bucket.filled);
            bucket.beyond > 0 || idle < INTERVAL || bucket.tokens + idle.as_secs_f64() * rate < burst
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identify::fixtures;

    fn key(number: u16) -> Key {
        let destination = Some(fixtures::endpoint(&format!("192.0.2.1:{number}")));
        Key { destination, cause: Some(Cause::NoResponse), ..Key::SHARED }
    }

    #[test]
    fn a_storm_is_kept_within_its_budget_and_summed_exactly() {
        let mut budgets = Budgets::new(10, 100);
        let (mut kept, mut summed) = (0, 0);
        for at in 0..100_000_u64 {
            let now = Mono(at * 100_000);
            kept += u64::from(budgets.spend(now, key(443), true) != Spent::Beyond);
            summed += budgets.due(now, false).into_iter().map(|summary| summary.attempts).sum::<u64>();
        }
        summed += budgets.due(Mono(10_000_000_000), true).into_iter().map(|summary| summary.attempts).sum::<u64>();
        assert!((199..=201).contains(&kept), "{kept}");
        assert_eq!(kept + summed, 100_000);
        assert!(budgets.due(Mono(10_000_000_000), true).is_empty());
    }

    #[test]
    fn one_storm_takes_nothing_from_another_and_budgets_are_bounded() {
        let mut budgets = Budgets::new(1, 1);
        assert_eq!(budgets.spend(Mono(0), key(1), true), Spent::All);
        assert_eq!(budgets.spend(Mono(0), key(1), true), Spent::Beyond);
        assert_eq!(budgets.spend(Mono(0), key(2), true), Spent::All);
        let mut kept = 2;
        for number in 0..u16::MAX {
            kept += u64::from(budgets.spend(Mono(0), key(number), false) != Spent::Beyond);
        }
        assert!(budgets.buckets.len() <= MAX_BUDGETS + 1);
        let beyond: u64 = budgets.due(Mono(1), true).iter().map(|summary| summary.attempts).sum();
        assert_eq!(kept + beyond, 3 + u64::from(u16::MAX));
        budgets.due(Mono(100_000_000_000), false);
        assert!(budgets.buckets.is_empty());
    }

    #[test]
    fn what_is_kept_beside_what_is_not_says_so() {
        let mut budgets = Budgets::new(10, 1);
        let outcome = |budgets: &mut Budgets, ms: u64| budgets.spend(Mono(ms * 1_000_000), key(1), true);
        assert_eq!(outcome(&mut budgets, 0), Spent::All);
        assert_eq!(outcome(&mut budgets, 1), Spent::Beyond);
        assert_eq!(outcome(&mut budgets, 150), Spent::Some);
        assert_eq!(outcome(&mut budgets, 20_000), Spent::All);
    }
}
