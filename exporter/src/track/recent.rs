//! A bounded set that forgets what was put in first.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;

use foldhash::quality::FixedState;

/// See the module.
pub struct Recent<T> {
    known: HashSet<T, FixedState>,
    order: VecDeque<T>,
    limit: usize,
}

impl<T: Copy + Eq + Hash> Recent<T> {
    /// An empty set of at most `limit`.
    pub fn new(limit: usize, seed: u64) -> Self {
        Self { known: HashSet::with_hasher(FixedState::with_seed(seed)), order: VecDeque::new(), limit }
    }

    /// Puts one in.
    pub fn insert(&mut self, value: T) {
        if !self.known.insert(value) {
            return;
        }
        self.order.push_back(value);
        if self.order.len() > self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Whether it is in.
    pub fn contains(&self, value: &T) -> bool {
        self.known.contains(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten() {
        let mut recent = Recent::new(2, 0);
        for value in [1, 2, 2, 3] {
            recent.insert(value);
        }
        assert!(!recent.contains(&1) && recent.contains(&2) && recent.contains(&3));
    }
}
