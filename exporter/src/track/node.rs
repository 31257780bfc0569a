//! The state of the node's own connection tracking over time, and of its source ports.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use foldhash::quality::FixedState;

use super::attempt::SnatFact;
use crate::capture::observation::{ConntrackState, Mono, SnatPorts};
use crate::capture::tuple::{Addr, Endpoint};

/// Samples kept: each drop asks for one, 500 a second at most, and an attempt is judged some seconds after its drop.
const SAMPLES: usize = 2_048;
/// How long after a drop a sample still speaks of it.
const AFTER: Duration = Duration::from_secs(2);
/// How long before.
const BEFORE: Duration = Duration::from_millis(1_500);
/// How old a count of source ports may be.
const COUNT_VALID: Duration = Duration::from_secs(10);
/// Destinations whose source ports are remembered.
const DESTINATIONS: usize = 1_024;

/// What the node's connection tracking was like.
pub struct Node {
    samples: VecDeque<(Mono, ConntrackState)>,
    ports: HashMap<Endpoint, (Mono, SnatPorts), FixedState>,
    order: VecDeque<Endpoint>,
}

impl Node {
    /// Nothing known yet.
    pub fn new(seed: u64) -> Self {
        Self {
            samples: VecDeque::new(),
            ports: HashMap::with_hasher(FixedState::with_seed(seed)),
            order: VecDeque::new(),
        }
    }

    /// Takes in a sample.
    pub fn conntrack(&mut self, time: Mono, state: ConntrackState) {
        if self.samples.back().is_some_and(|&(last, _)| last > time) {
            return; // answers may overtake each other; an old one says nothing new
        }
        if self.samples.len() >= SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((time, state));
    }

    /// Takes in a count of source ports.
    pub fn ports(&mut self, time: Mono, ports: SnatPorts) {
        if self.ports.insert(ports.destination, (time, ports)).is_none() {
            self.order.push_back(ports.destination);
            if self.order.len() > DESTINATIONS
                && let Some(oldest) = self.order.pop_front()
            {
                self.ports.remove(&oldest);
            }
        }
    }

    /// Whether an insert failed about `time`; false if nobody watched.
    pub fn insert_failed_at(&self, time: Mono) -> bool {
        let before = self.samples.iter().rev().find(|&&(at, _)| at <= time);
        let Some((_, before)) = before else { return false };
        self.around(time).any(|state| state.insert_failed > before.insert_failed)
    }

    /// Whether the table was as full as it may be at any time from about `since` to about `time`. The limit is
    /// global, the count is of the node, and each drop of a packet there may have made room for one entry.
    pub fn full_at(&self, since: Mono, time: Mono) -> bool {
        // A sample is told when something changed: until the next one, the last one is in force.
        let before = self.samples.iter().rev().find(|&&(at, _)| at <= since).map(|(_, state)| state);
        let full = |state: &ConntrackState| state.limit > 0 && state.entries.saturating_mul(100) >= state.limit * 99;
        self.between(since, time).chain(before).any(full)
    }

    /// The source ports towards a destination about `time`.
    pub fn ports_at(&self, destination: Endpoint, time: Mono) -> Option<SnatFact> {
        let &(at, ports) = self.ports.get(&destination)?;
        (at.since(time).max(time.since(at)) <= COUNT_VALID).then_some(SnatFact { used: ports.used, range: ports.range })
    }

    /// The last count of the source ports from an egress address towards a destination, if it is not older than `age`.
    pub fn ports_of(&self, egress: Addr, destination: Endpoint, now: Mono, age: Duration) -> Option<SnatFact> {
        let &(at, ports) = self.ports.get(&destination)?;
        let known = ports.egress == egress && now.since(at) <= age;
        known.then_some(SnatFact { used: ports.used, range: ports.range })
    }

    /// The last state that was told.
    pub fn last_conntrack(&self) -> Option<ConntrackState> {
        self.samples.back().map(|&(_, state)| state)
    }

    fn around(&self, time: Mono) -> impl Iterator<Item = &ConntrackState> {
        self.between(time, time)
    }

    fn between(&self, since: Mono, time: Mono) -> impl Iterator<Item = &ConntrackState> {
        let (from, to) = (since.minus(BEFORE), time.plus(AFTER));
        self.samples.iter().filter(move |&&(at, _)| at >= from && at <= to).map(|(_, state)| state)
    }
}

/// Whether at least nine tenths of a known range are in use (netfilter gives up after some 250 tries, so
/// some may be left).
pub fn exhausted(fact: SnatFact) -> bool {
    fact.range.is_some_and(|(low, high)| {
        let size = u64::from(high.saturating_sub(low)) + 1;
        u64::from(fact.used) * 10 >= size * 9
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn ms(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    #[test]
    fn a_failed_insert_is_told_by_the_counter_before_and_after() {
        let mut node = Node::new(0);
        let state = |insert_failed| ConntrackState { entries: 5, limit: 100, insert_failed, ..Default::default() };
        assert!(!node.insert_failed_at(ms(1_000)), "nobody watched");
        node.conntrack(ms(1_000), state(7));
        assert!(!node.insert_failed_at(ms(1_500)));
        node.conntrack(ms(1_600), state(8));
        assert!(node.insert_failed_at(ms(1_500)));
        assert!(!node.insert_failed_at(ms(1_700)), "that one was before");
        assert!(!node.insert_failed_at(ms(900)), "nothing to compare with");
        node.conntrack(ms(9_000), state(9));
        assert!(!node.insert_failed_at(ms(5_000)), "four seconds later says nothing of then");
    }

    #[test]
    fn the_table_is_full_until_a_sample_says_otherwise() {
        let mut node = Node::new(0);
        let state = |entries| ConntrackState { entries, limit: 1_000, ..Default::default() };
        node.conntrack(ms(1_000), state(999));
        assert!(node.full_at(ms(1_500), ms(1_500)));
        assert!(node.full_at(ms(20_000), ms(20_000)), "nothing has changed since");
        node.conntrack(ms(30_000), state(500));
        assert!(node.full_at(ms(29_000), ms(33_000)));
        assert!(node.full_at(ms(29_900), ms(29_900)), "what was in force then");
        assert!(!node.full_at(ms(31_000), ms(31_000)));
    }

    #[test]
    fn nine_tenths_of_a_known_range_are_as_good_as_all() {
        let fact = |used, range| SnatFact { used, range };
        assert!(exhausted(fact(1, Some((46_994, 46_994)))));
        assert!(exhausted(fact(959, Some((20_000, 20_999)))));
        assert!(!exhausted(fact(899, Some((20_000, 20_999)))));
        assert!(!exhausted(fact(60_000, None)), "an unknown range proves nothing");
    }

    #[test]
    fn counts_of_ports_are_bounded_and_grow_old() {
        let mut node = Node::new(0);
        let there = |port| Endpoint::new(Ipv4Addr::LOCALHOST, port);
        for port in 1..3_000 {
            let ports =
                SnatPorts { egress: Ipv4Addr::LOCALHOST.into(), destination: there(port), used: 1, range: None };
            node.ports(ms(1_000), ports);
        }
        assert!(node.ports.len() <= DESTINATIONS && node.order.len() <= DESTINATIONS);
        assert!(node.ports_at(there(2_999), ms(2_000)).is_some());
        assert!(node.ports_at(there(2_999), ms(12_000)).is_none());
    }
}
