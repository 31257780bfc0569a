//! Witnesses: absence proves a loss only where others were seen (design section 5).
//!
//! A SYN that entered the node and was not seen leaving was dropped only if, in the last minute,
//! another attempt with the same entry, family and way out was seen leaving, and no observation was
//! lost since. The way out is known by the destination's address: two packets from one entry to one
//! address take the same way, unless a rule for one of them drops it.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use foldhash::quality::FixedState;

use crate::capture::observation::Mono;
use crate::capture::tuple::Addr;

/// How long a witness speaks.
const VALID: Duration = Duration::from_secs(60);
const LIMIT: usize = 65_536;

/// Where a SYN enters the node's network.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Entry {
    /// By an interface, from a pod or from outside.
    Interface(u32),
    /// From a socket in the node's own network namespace.
    Host,
    /// Answers of servers, out of their pod by its interface. Spoken for by family.
    Answers(u32),
    /// Answers from outside, to a client's pod by its interface. Spoken for by family.
    Replies(u32),
}

/// Which ways out of the node were seen to be used lately.
pub struct Witnesses {
    seen: HashMap<(Entry, Addr), Mono, FixedState>,
    order: VecDeque<(Mono, (Entry, Addr))>,
}

impl Witnesses {
    /// None yet.
    pub fn new(seed: u64) -> Self {
        Self { seen: HashMap::with_hasher(FixedState::with_seed(seed)), order: VecDeque::new() }
    }

    /// A SYN from `entry` to `destination` (as it stood at the entry) was seen leaving.
    pub fn saw(&mut self, entry: Entry, destination: Addr, time: Mono) {
        let key = (entry, destination);
        let known = self.seen.get(&key).copied();
        // A refresh each second is enough for a minute's validity and keeps the queue short.
        if known.is_some_and(|at| time.since(at) < Duration::from_secs(1)) {
            return;
        }
        self.seen.insert(key, time);
        self.order.push_back((time, key));
        while self.order.len() > LIMIT || self.order.front().is_some_and(|&(at, _)| time.since(at) > 4 * VALID) {
            if let Some((at, key)) = self.order.pop_front()
                && self.seen.get(&key) == Some(&at)
            {
                self.seen.remove(&key);
            }
        }
    }

    /// Whether somebody was seen on this way in the minute before `time` or since, and later than `lost`,
    /// the last loss of observations.
    pub fn speaks(&self, entry: Entry, destination: Addr, time: Mono, lost: Option<Mono>) -> bool {
        self.seen
            .get(&(entry, destination))
            .is_some_and(|&at| at >= time.minus(VALID) && lost.is_none_or(|lost| at > lost))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_witness_speaks_for_a_minute_and_for_its_own_way_only() {
        let second = |n: u64| Mono(n * 1_000_000_000);
        let there: Addr = Ipv4Addr::new(192, 0, 2, 1).into();
        let mut witnesses = Witnesses::new(0);
        witnesses.saw(Entry::Interface(7), there, second(100));
        assert!(witnesses.speaks(Entry::Interface(7), there, second(160), None));
        assert!(!witnesses.speaks(Entry::Interface(7), there, second(161), None));
        assert!(!witnesses.speaks(Entry::Interface(8), there, second(101), None));
        assert!(!witnesses.speaks(Entry::Host, there, second(101), None));
        assert!(!witnesses.speaks(Entry::Interface(7), Ipv4Addr::LOCALHOST.into(), second(101), None));
        assert!(!witnesses.speaks(Entry::Interface(7), there, second(120), Some(second(110))), "lost since");
        assert!(witnesses.speaks(Entry::Interface(7), there, second(120), Some(second(99))));
    }
}
