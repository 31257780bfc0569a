//! Who made the attempts of late: they may turn up as previous owners, and their connections end later.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::Identity;
use crate::capture::tuple::Endpoint;

/// Most distinct facts that are shared before those that nobody uses any more go.
const MAX_SHARED: usize = 65_536;

/// What is remembered of an attempt of a client of this node.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Past {
    /// Who made it.
    pub client: Arc<Identity>,
    /// Who was at the other end.
    pub peer: Option<Arc<Identity>>,
    /// What was asked for.
    pub destination: Endpoint,
    /// Whether its span was sent.
    pub sent: bool,
    /// Whether it is left out of everything.
    pub quiet: bool,
}

/// Attempts by serial; the oldest go first. Equal facts are held once, so that each costs some 40 bytes.
pub struct Owners {
    max: usize,
    by_serial: HashMap<u64, Arc<Past>>,
    order: VecDeque<u64>,
    shared: HashMap<Key, Arc<Past>>,
}

/// Facts by the place of the identities, which those who hold the facts keep where they are.
type Key = (usize, usize, Endpoint, bool, bool);

impl Owners {
    /// A memory of at most so many.
    pub fn new(max: usize) -> Self {
        Self { max, by_serial: HashMap::new(), order: VecDeque::new(), shared: HashMap::new() }
    }

    /// Remembers an attempt.
    pub fn remember(&mut self, serial: u64, past: Past) {
        // 0 stands for "not an attempt that we saw".
        if serial == 0 || self.max == 0 {
            return;
        }
        let past = self.share(past);
        if self.by_serial.insert(serial, past).is_none() {
            self.order.push_back(serial);
        }
        while self.order.len() > self.max {
            if let Some(oldest) = self.order.pop_front() {
                self.by_serial.remove(&oldest);
            }
        }
    }

    /// What is remembered of an attempt.
    pub fn get(&self, serial: u64) -> Option<Past> {
        self.by_serial.get(&serial).map(|past| Past::clone(past))
    }

    /// Its span was sent.
    pub fn sent(&mut self, serial: u64) {
        if let Some(past) = self.get(serial) {
            let past = self.share(Past { sent: true, ..past });
            self.by_serial.insert(serial, past);
        }
    }

    /// It is left out of everything.
    pub fn quiet(&mut self, serial: u64) {
        if let Some(past) = self.get(serial) {
            let past = self.share(Past { quiet: true, ..past });
            self.by_serial.insert(serial, past);
        }
    }

    fn share(&mut self, past: Past) -> Arc<Past> {
        let place = |identity: &Arc<Identity>| Arc::as_ptr(identity) as usize;
        let key = (place(&past.client), past.peer.as_ref().map_or(0, place), past.destination, past.sent, past.quiet);
        if let Some(shared) = self.shared.get(&key) {
            return Arc::clone(shared);
        }
        if self.shared.len() >= MAX_SHARED {
            self.shared.retain(|_, shared| Arc::strong_count(shared) > 1);
            if self.shared.len() >= MAX_SHARED {
                self.shared.clear();
            }
        }
        let shared = Arc::new(past);
        self.shared.insert(key, Arc::clone(&shared));
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identify::fixtures;

    fn past() -> Past {
        let client = fixtures::pod("shop", "cart", "cart");
        Past { client, peer: None, destination: Endpoint::default(), sent: false, quiet: false }
    }

    #[test]
    fn the_memory_of_owners_is_bounded_and_forgets_the_oldest() {
        let mut owners = Owners::new(2);
        for serial in [0, 1, 2, 3] {
            owners.remember(serial, past());
        }
        assert!(owners.get(0).is_none() && owners.get(1).is_none());
        assert!(owners.get(2).is_some() && owners.get(3).is_some());
        assert_eq!(owners.order.len(), 2);
    }

    #[test]
    fn equal_facts_are_held_once_and_what_was_sent_is_noted_for_one_alone() {
        let mut owners = Owners::new(10);
        let past = past();
        for serial in 1..=9 {
            owners.remember(serial, past.clone());
        }
        assert_eq!(owners.shared.len(), 1);
        owners.sent(4);
        assert!(owners.get(4).is_some_and(|past| past.sent) && owners.get(5).is_some_and(|past| !past.sent));
        assert_eq!(owners.shared.len(), 2);
    }
}
