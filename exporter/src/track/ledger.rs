//! The ledger: who held which wire tuple, and where each connection ended.
//!
//! Bounded in number, with counted eviction and a known horizon. First to go is what was never
//! translated and closed cleanly; the last tenant of each translated tuple stays longest.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, Hash};
use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::FixedState;
use hashbrown::HashTable;

use super::tenancy::{Tenancy, TenancyKey};
use crate::capture::observation::Mono;
use crate::capture::tuple::{Endpoint, Tuple};

/// Most tenancies remembered of one tuple: a server holds one connection of it at a time, so the last
/// few are all that can ever explain an answer.
const DEPTH: usize = 8;

/// No tenancy.
const NIL: u32 = u32::MAX;

/// The kinds of tenancy, in the order in which they are given up.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
enum Class {
    /// Never translated and closed cleanly.
    Plain = 0,
    /// Closed, and a later tenant has the tuple, or it was cut off untranslated.
    Superseded = 1,
    /// Closed, and the last tenant of a translated tuple.
    Last = 2,
    /// Open.
    Open = 3,
}
const CLASSES: usize = 4;

struct Slot {
    tenancy: Option<Tenancy>,
    generation: u32,
    /// The tenancy of the same tuple before this one.
    previous: u32,
    class: Class,
}

/// Every tenancy within the reuse window, as far as memory allows.
pub struct Ledger {
    slots: Vec<Slot>,
    free: Vec<u32>,
    live: usize,
    limit: usize,
    window: Duration,
    hasher: FixedState,
    /// Latest tenancy of each tuple.
    by_tuple: HashTable<u32>,
    /// Tenancies by destination and the number their client's stream ended at.
    by_end: HashTable<(u32, u32)>,
    /// Tenancies by the cookie of a socket of this node.
    by_cookie: HashTable<(u64, u32)>,
    queues: [VecDeque<(u32, u32)>; CLASSES],
    evicted: u64,
    evicted_until: Mono,
    /// Cookies that still led to a tenancy when it was forgotten.
    orphans: Vec<u64>,
}

impl Ledger {
    /// A ledger of at most `limit` tenancies, each kept for `window` after its end.
    pub fn new(limit: usize, window: Duration, seed: u64) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            live: 0,
            limit: limit.clamp(1, NIL as usize),
            window,
            hasher: FixedState::with_seed(seed),
            by_tuple: HashTable::new(),
            by_end: HashTable::new(),
            by_cookie: HashTable::new(),
            queues: Default::default(),
            evicted: 0,
            evicted_until: Mono(0),
            orphans: Vec::new(),
        }
    }

    /// How many tenancies are remembered.
    pub fn len(&self) -> usize {
        self.live
    }

    /// How many were forgotten before their time.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The time from which on nothing that ended was forgotten.
    pub fn horizon(&self) -> Mono {
        self.evicted_until
    }

    /// Opens a tenancy.
    pub fn open(&mut self, tenancy: Tenancy) -> TenancyKey {
        while self.live >= self.limit {
            if !self.evict_one() {
                break;
            }
        }
        let tuple = tenancy.tuple();
        let cookie = tenancy.cookie;
        let oldest = self.tenants(tuple).nth(DEPTH - 1).map(|(key, _)| key);
        if let Some(oldest) = oldest {
            self.remove(oldest);
        }
        let slot = Slot { tenancy: Some(tenancy), generation: 0, previous: NIL, class: Class::Open };
        let index = match self.free.pop() {
            Some(index) => {
                let old = &mut self.slots[index as usize];
                let generation = old.generation.wrapping_add(1);
                *old = Slot { generation, ..slot };
                index
            }
            None => {
                if self.slots.is_empty() {
                    // Reserved at once: pages that are never written cost no memory, and growing would copy.
                    self.slots.reserve_exact(self.limit);
                }
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        self.live += 1;
        self.index_tuple(index, tuple);
        self.add_cookie(index, cookie);
        let key = TenancyKey { index, generation: self.slots[index as usize].generation };
        self.push(Class::Open, key);
        key
    }

    /// The tenancy of a key, if it is still remembered.
    pub fn get(&self, key: TenancyKey) -> Option<&Tenancy> {
        let slot = self.slots.get(key.index as usize)?;
        (slot.generation == key.generation).then_some(slot.tenancy.as_ref()).flatten()
    }

    /// Changes a tenancy. Its tuple, its end and its closing are indexed anew.
    pub fn update(&mut self, key: TenancyKey, change: impl FnOnce(&mut Tenancy)) {
        let Some(slot) = self.slots.get_mut(key.index as usize) else { return };
        if slot.generation != key.generation {
            return;
        }
        let Some(tenancy) = slot.tenancy.as_mut() else { return };
        let (tuple, end, cookie, closed) = (tenancy.tuple(), tenancy.end_key(), tenancy.cookie, tenancy.closed);
        change(tenancy);
        let now = (tenancy.tuple(), tenancy.end_key(), tenancy.cookie, tenancy.closed);
        if now.0 != tuple {
            self.unindex_tuple(key.index, tuple);
            self.index_tuple(key.index, now.0);
        }
        if now.1 != end {
            if let Some(end) = end {
                self.unindex_end(key.index, end);
            }
            if let Some(end) = now.1 {
                let (hash, tag) = self.end_hash(end);
                let hasher = &self.hasher;
                self.by_end.insert_unique(hash, (tag, key.index), |entry| rehash_tag(hasher, entry.0));
            }
        }
        if now.2 != cookie {
            self.remove_cookie(key.index, cookie);
            self.add_cookie(key.index, now.2);
        }
        if closed.is_none() && now.3.is_some() {
            self.classify(key);
        }
    }

    /// All tenancies, in no order.
    pub fn tenancies(&self) -> impl Iterator<Item = &Tenancy> {
        self.slots.iter().filter_map(|slot| slot.tenancy.as_ref())
    }

    /// How many places there are, taken or not.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The tenancy at a place, if it is taken.
    pub fn at(&self, index: usize) -> Option<(TenancyKey, &Tenancy)> {
        let slot = self.slots.get(index)?;
        let key = TenancyKey { index: u32::try_from(index).ok()?, generation: slot.generation };
        Some((key, slot.tenancy.as_ref()?))
    }

    /// The latest tenancy of each tuple, in no order that means anything.
    pub fn latest(&self) -> impl Iterator<Item = &Tenancy> {
        // In the order of memory, which is many times faster than by the index.
        let mut superseded = vec![false; self.slots.len()];
        for slot in self.slots.iter().filter(|slot| slot.tenancy.is_some()) {
            if let Some(earlier) = superseded.get_mut(slot.previous as usize) {
                *earlier = true;
            }
        }
        let latest = self.slots.iter().zip(superseded).filter(|(_, superseded)| !superseded);
        latest.filter_map(|(slot, _)| slot.tenancy.as_ref())
    }

    /// Takes the cookies that still led to a tenancy when it was forgotten: their sockets' end was never told.
    pub fn take_orphans(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.orphans)
    }

    /// The tenancies of a tuple, the latest first.
    pub fn tenants(&self, tuple: Tuple) -> impl Iterator<Item = (TenancyKey, &Tenancy)> {
        let hash = self.hash(&tuple);
        let first = self.by_tuple.find(hash, |&index| self.tuple_of(index) == Some(tuple)).copied().unwrap_or(NIL);
        let mut at = first;
        std::iter::from_fn(move || {
            let slot = self.slots.get(at as usize)?;
            let key = TenancyKey { index: at, generation: slot.generation };
            let tenancy = slot.tenancy.as_ref()?;
            at = slot.previous;
            Some((key, tenancy))
        })
    }

    /// The tenancies of a destination whose client's stream ended at `number` (a FIN counted or not).
    pub fn ended_at(&self, destination: Endpoint, number: u32) -> impl Iterator<Item = (TenancyKey, &Tenancy)> {
        // The FIN takes one number: the index holds the end of the data.
        [number, number.wrapping_sub(1)].into_iter().flat_map(move |end| {
            let (hash, tag) = self.end_hash((destination, end));
            self.by_end.iter_hash(hash).filter_map(move |&(found, index)| {
                let slot = self.slots.get(index as usize)?;
                let tenancy = slot.tenancy.as_ref()?;
                let same = found == tag && tenancy.end_key() == Some((destination, end));
                (same && tenancy.ended_at(number))
                    .then_some((TenancyKey { index, generation: slot.generation }, tenancy))
            })
        })
    }

    /// The tenancy of a socket of this node.
    pub fn of_cookie(&self, cookie: u64) -> Option<TenancyKey> {
        let hash = self.hash(&cookie);
        let &(_, index) = self.by_cookie.find(hash, |entry| entry.0 == cookie)?;
        Some(TenancyKey { index, generation: self.slots[index as usize].generation })
    }

    /// Lets the accepted socket lead to the tenancy as well, if it is of this node.
    pub fn set_server_cookie(&mut self, key: TenancyKey, cookie: u64) {
        if self.get(key).is_some() {
            self.update(key, |tenancy| tenancy.server_cookie = cookie);
            self.add_cookie(key.index, cookie);
        }
    }

    /// A socket is gone: its cookie leads nowhere any more.
    pub fn forget_cookie(&mut self, key: TenancyKey, cookie: u64) {
        self.remove_cookie(key.index, cookie);
    }

    /// Forgets what ended longer ago than the reuse window.
    pub fn expire(&mut self, now: Mono) {
        let before = now.minus(self.window);
        for class in [Class::Plain, Class::Superseded, Class::Last] {
            while let Some(&(index, generation)) = self.queues[class as usize].front() {
                let key = TenancyKey { index, generation };
                let current = self.is_in(key, class);
                let closed = self.get(key).and_then(|tenancy| tenancy.closed);
                if current && closed.is_some_and(|closed| closed > before) {
                    break;
                }
                self.queues[class as usize].pop_front();
                if current {
                    self.remove(key);
                }
            }
        }
    }

    fn is_in(&self, key: TenancyKey, class: Class) -> bool {
        self.slots
            .get(key.index as usize)
            .is_some_and(|slot| slot.generation == key.generation && slot.tenancy.is_some() && slot.class == class)
    }

    fn classify(&mut self, key: TenancyKey) {
        let Some(tenancy) = self.get(key) else { return };
        let tuple = tenancy.tuple();
        let last = self.tenants(tuple).next().is_some_and(|(latest, _)| latest == key);
        let class = match (tenancy.is_translated(), tenancy.ended_cleanly(), last) {
            (false, true, _) => Class::Plain,
            (true, _, true) => Class::Last,
            _ => Class::Superseded,
        };
        self.slots[key.index as usize].class = class;
        self.push(class, key);
    }

    fn push(&mut self, class: Class, key: TenancyKey) {
        self.queues[class as usize].push_back((key.index, key.generation));
        // Entries of tenancies that left the class stay until they reach the front; a flow that lives
        // for days must not let them pile up behind it.
        if self.queues[class as usize].len() > 2 * self.live + 1024 {
            let mut queue = std::mem::take(&mut self.queues[class as usize]);
            queue.retain(|&(index, generation)| self.is_in(TenancyKey { index, generation }, class));
            self.queues[class as usize] = queue;
        }
    }

    fn evict_one(&mut self) -> bool {
        for class in [Class::Plain, Class::Superseded, Class::Last, Class::Open] {
            while let Some((index, generation)) = self.queues[class as usize].pop_front() {
                let key = TenancyKey { index, generation };
                if !self.is_in(key, class) {
                    continue;
                }
                if let Some(tenancy) = self.get(key) {
                    self.evicted_until = self.evicted_until.max(tenancy.closed.unwrap_or(tenancy.opened));
                }
                self.evicted += 1;
                self.remove(key);
                return true;
            }
        }
        false
    }

    fn remove(&mut self, key: TenancyKey) {
        let Some(tenancy) = self.get(key) else { return };
        let (tuple, end, cookies) = (tenancy.tuple(), tenancy.end_key(), [tenancy.cookie, tenancy.server_cookie]);
        self.unindex_tuple(key.index, tuple);
        if let Some(end) = end {
            self.unindex_end(key.index, end);
        }
        for cookie in cookies {
            if self.remove_cookie(key.index, cookie) {
                self.orphans.push(cookie);
            }
        }
        let slot = &mut self.slots[key.index as usize];
        slot.tenancy = None;
        slot.previous = NIL;
        self.free.push(key.index);
        self.live -= 1;
    }

    fn tuple_of(&self, index: u32) -> Option<Tuple> {
        self.slots.get(index as usize)?.tenancy.as_ref().map(Tenancy::tuple)
    }

    fn hash(&self, value: &impl Hash) -> u64 {
        self.hasher.hash_one(value)
    }

    fn index_tuple(&mut self, index: u32, tuple: Tuple) {
        let hash = self.hash(&tuple);
        let found = self.by_tuple.find(hash, |&other| self.tuple_of(other) == Some(tuple)).copied();
        match found {
            Some(latest) => {
                self.slots[index as usize].previous = latest;
                let slots = &self.slots;
                if let Some(entry) = self
                    .by_tuple
                    .find_mut(hash, |&other| slots[other as usize].tenancy.as_ref().map(Tenancy::tuple) == Some(tuple))
                {
                    *entry = index;
                }
                if self.slots[latest as usize].class == Class::Last {
                    self.slots[latest as usize].class = Class::Superseded;
                    let generation = self.slots[latest as usize].generation;
                    self.push(Class::Superseded, TenancyKey { index: latest, generation });
                }
            }
            None => {
                let slots = &self.slots;
                let hasher = &self.hasher;
                self.by_tuple.insert_unique(hash, index, |&other| {
                    hasher.hash_one(slots[other as usize].tenancy.as_ref().map(Tenancy::tuple).unwrap_or_default())
                });
            }
        }
    }

    fn unindex_tuple(&mut self, index: u32, tuple: Tuple) {
        let hash = self.hash(&tuple);
        let previous = self.slots[index as usize].previous;
        self.slots[index as usize].previous = NIL;
        let slots = &self.slots;
        // An entry whose tenancy has changed its tuple already is still found by its index.
        let is_it =
            |&other: &u32| other == index || slots[other as usize].tenancy.as_ref().map(Tenancy::tuple) == Some(tuple);
        let Ok(mut entry) = self.by_tuple.find_entry(hash, is_it) else { return };
        if *entry.get() == index {
            if previous == NIL {
                entry.remove();
            } else {
                *entry.get_mut() = previous;
            }
            return;
        }
        let mut at = *entry.get();
        while at != NIL {
            let next = self.slots[at as usize].previous;
            if next == index {
                self.slots[at as usize].previous = previous;
                return;
            }
            at = next;
        }
    }

    fn end_hash(&self, end: (Endpoint, u32)) -> (u64, u32) {
        // The table keeps 32 bits of the hash, from which it can be grown without a look at the tenancy.
        let tag = (self.hash(&end) >> 32) as u32;
        (rehash_tag(&self.hasher, tag), tag)
    }

    fn unindex_end(&mut self, index: u32, end: (Endpoint, u32)) {
        let (hash, _) = self.end_hash(end);
        if let Ok(entry) = self.by_end.find_entry(hash, |entry| entry.1 == index) {
            entry.remove();
        }
    }

    fn add_cookie(&mut self, index: u32, cookie: u64) {
        if cookie != 0 {
            self.remove_cookie_of_any(cookie);
            let hasher = &self.hasher;
            self.by_cookie.insert_unique(hasher.hash_one(cookie), (cookie, index), |entry| hasher.hash_one(entry.0));
        }
    }

    fn remove_cookie_of_any(&mut self, cookie: u64) {
        let hash = self.hash(&cookie);
        if let Ok(entry) = self.by_cookie.find_entry(hash, |entry| entry.0 == cookie) {
            entry.remove();
        }
    }

    /// Takes a socket out of the index, if it is there.
    fn remove_cookie(&mut self, index: u32, cookie: u64) -> bool {
        let hash = self.hash(&cookie);
        let found = self.by_cookie.find_entry(hash, |entry| *entry == (cookie, index)).map(|entry| entry.remove());
        found.is_ok()
    }
}

fn rehash_tag(hasher: &FixedState, tag: u32) -> u64 {
    hasher.hash_one(tag)
}

/// A process shared by the tenancies it opened.
pub type SharedProcess = Arc<crate::capture::observation::Process>;

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
