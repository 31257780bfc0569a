//! The attempts of late, in bounded memory: what went wrong stays longer than what did not.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::line::Kept;
use super::remembered::Remembered;
use super::request::{MAX_LIMIT, Wanted};
use crate::capture::observation::Mono;
use crate::identify::describe::Described;
use crate::track::attempt::Attempt;

/// Most attempts kept, and most bytes, whichever is reached first.
const LIMITS: Limits = Limits { attempts: MAX_LIMIT as usize, bytes: 8 << 20 };

/// The share of memory that attempts without trouble have at least: a storm of failures leaves them that.
const CLEAN_SHARE: usize = 8;

/// Whether an attempt is one that somebody who looks for failures wants to see: it went wrong for the
/// application, it came late, or its cause is a fault (a stale ACK that cost a few milliseconds today
/// costs a second on another kernel). A reused port that did no harm is none.
pub fn is_trouble(attempt: &Attempt) -> bool {
    attempt.failed() || attempt.slow() || attempt.verdict.cause.is_some_and(|cause| cause.entry().fault)
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    attempts: usize,
    bytes: usize,
}

/// How far a reader has read: the number of the next entry of each kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Position {
    trouble: u64,
    clean: u64,
}

/// What was found, and where to read on.
#[derive(Clone, Debug)]
pub struct Found {
    /// In the order in which they ended.
    pub attempts: Vec<Arc<Remembered>>,
    /// Where to read on.
    pub position: Position,
    /// What the memory holds; `more` are those beyond the limit.
    pub kept: Kept,
    /// Those that were overwritten before they could be read, of the kind asked for.
    pub missed: u64,
}

/// The memory, shared by its one writer and its readers.
#[derive(Debug)]
pub struct Recent {
    memory: Mutex<Memory>,
    written: watch::Sender<u64>,
}

impl Default for Recent {
    fn default() -> Self {
        Self::new(LIMITS)
    }
}

impl Recent {
    fn new(limits: Limits) -> Self {
        Self { memory: Mutex::new(Memory::new(limits)), written: watch::channel(0).0 }
    }

    /// Remembers an attempt.
    pub fn push(&self, described: &Described) {
        let remembered = Remembered::new(described, is_trouble(&described.attempt));
        let number = self.memory.lock().unwrap_or_else(PoisonError::into_inner).push(remembered);
        self.written.send_replace(number);
    }

    /// Tells of each push, for those who follow.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }

    /// The newest that are wanted; `now` is the monotonic time.
    pub fn newest(&self, wanted: &Wanted, now: Mono) -> Found {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).newest(wanted, now)
    }

    /// The oldest after a position, at most `limit`.
    pub fn after(&self, position: Position, failed: bool, limit: usize) -> Found {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).after(position, failed, limit)
    }

    /// All that a function wants, oldest first.
    pub fn all(&self, wanted: impl Fn(&Remembered) -> bool) -> Vec<Arc<Remembered>> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.merged(true).map(|entry| &entry.attempt).filter(|attempt| wanted(attempt)).cloned().collect()
    }
}

#[derive(Debug)]
struct Entry {
    /// Rises with each entry of either kind.
    number: u64,
    attempt: Arc<Remembered>,
}

/// Entries of one kind, oldest first.
#[derive(Debug, Default)]
struct Kind {
    entries: VecDeque<Entry>,
    /// How many were overwritten: the place of the first entry since the start.
    overwritten: u64,
    bytes: usize,
}

impl Kind {
    fn push(&mut self, entry: Entry) {
        self.bytes += entry.attempt.bytes();
        self.entries.push_back(entry);
    }

    /// Overwrites the oldest.
    fn pop(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= entry.attempt.bytes();
            self.overwritten += 1;
        }
    }

    /// The place behind the last entry.
    fn end(&self) -> u64 {
        self.overwritten + self.entries.len() as u64
    }

    /// The entries from a place on.
    fn from(&self, place: u64) -> impl Iterator<Item = &Entry> {
        self.entries.iter().skip(usize::try_from(place.saturating_sub(self.overwritten)).unwrap_or(usize::MAX))
    }
}

#[derive(Debug)]
struct Memory {
    limits: Limits,
    trouble: Kind,
    clean: Kind,
    next: u64,
}

impl Memory {
    fn new(limits: Limits) -> Self {
        Self { limits, trouble: Kind::default(), clean: Kind::default(), next: 0 }
    }

    fn push(&mut self, attempt: Remembered) -> u64 {
        self.next += 1;
        let entry = Entry { number: self.next, attempt: Arc::new(attempt) };
        if entry.attempt.trouble { &mut self.trouble } else { &mut self.clean }.push(entry);
        while self.trouble.entries.len() + self.clean.entries.len() > self.limits.attempts
            || self.trouble.bytes + self.clean.bytes > self.limits.bytes
        {
            let clean = self.clean.entries.len() > self.limits.attempts / CLEAN_SHARE
                || self.clean.bytes > self.limits.bytes / CLEAN_SHARE
                || self.trouble.entries.is_empty();
            if clean { &mut self.clean } else { &mut self.trouble }.pop();
        }
        self.next
    }

    fn kept(&self) -> Kept {
        Kept {
            more: 0,
            kept: (self.trouble.entries.len() + self.clean.entries.len()) as u64,
            overwritten_failed: self.trouble.overwritten,
            overwritten_clean: self.clean.overwritten,
        }
    }

    /// Both kinds, in the order of their writing.
    fn merged(&self, clean_too: bool) -> impl Iterator<Item = &Entry> {
        merge(self.trouble.from(0), self.clean.from(if clean_too { 0 } else { u64::MAX }))
    }

    fn newest(&self, wanted: &Wanted, now: Mono) -> Found {
        let since = wanted.since.map_or(Mono(0), |since| now.minus(since));
        let fits = |entry: &&Entry| entry.attempt.ended >= since;
        let count = self.merged(!wanted.failed).filter(fits).count();
        let more = count.saturating_sub(wanted.limit);
        let newest = self.merged(!wanted.failed).filter(fits).skip(more);
        Found {
            attempts: newest.map(|entry| entry.attempt.clone()).collect(),
            position: Position { trouble: self.trouble.end(), clean: self.clean.end() },
            kept: Kept { more: more as u64, ..self.kept() },
            missed: 0,
        }
    }

    fn after(&self, position: Position, failed: bool, limit: usize) -> Found {
        let clean_from = if failed { u64::MAX } else { position.clean };
        let mut read = Position {
            trouble: position.trouble.max(self.trouble.overwritten),
            clean: if failed { self.clean.end() } else { position.clean.max(self.clean.overwritten) },
        };
        let mut attempts = Vec::new();
        for entry in merge(self.trouble.from(position.trouble), self.clean.from(clean_from)).take(limit) {
            if entry.attempt.trouble {
                read.trouble += 1;
            } else {
                read.clean += 1;
            }
            attempts.push(entry.attempt.clone());
        }
        let lost = |kind: &Kind, from: u64| kind.overwritten.saturating_sub(from);
        let missed = lost(&self.trouble, position.trouble) + if failed { 0 } else { lost(&self.clean, position.clean) };
        Found { attempts, position: read, kept: self.kept(), missed }
    }
}

/// Two rising lists as one.
fn merge<'a>(
    one: impl Iterator<Item = &'a Entry>,
    other: impl Iterator<Item = &'a Entry>,
) -> impl Iterator<Item = &'a Entry> {
    let (mut one, mut other) = (one.peekable(), other.peekable());
    std::iter::from_fn(move || match (one.peek(), other.peek()) {
        (Some(a), Some(b)) if b.number < a.number => other.next(),
        (Some(_), _) => one.next(),
        (None, _) => other.next(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::identify::fixtures;

    fn remembered(trouble: bool, ended: u64) -> Remembered {
        let mut remembered = Remembered::new(&fixtures::clean(), trouble);
        (remembered.ended, remembered.serial) = (Mono(ended), ended);
        remembered
    }

    fn memory(attempts: usize) -> Memory {
        Memory::new(Limits { attempts, bytes: 1 << 20 })
    }

    fn wanted(failed: bool, limit: usize) -> Wanted {
        Wanted { failed, since: None, limit }
    }

    fn serials(found: &Found) -> Vec<u64> {
        found.attempts.iter().map(|attempt| attempt.serial).collect()
    }

    #[test]
    fn what_went_wrong_stays_and_what_was_overwritten_is_counted() {
        let mut memory = memory(16);
        memory.push(remembered(true, 1));
        for ended in 2..=100 {
            memory.push(remembered(false, ended));
        }
        let found = memory.newest(&wanted(false, 100), Mono(100));
        assert_eq!(found.attempts.len(), 16);
        assert_eq!(found.attempts.first().map(|attempt| attempt.serial), Some(1));
        assert_eq!(found.kept, Kept { more: 0, kept: 16, overwritten_failed: 0, overwritten_clean: 84 });
    }

    #[test]
    fn a_storm_of_failures_leaves_the_rest_their_share() {
        let mut memory = memory(16);
        for ended in 0..100 {
            memory.push(remembered(ended >= 10, ended));
        }
        assert_eq!((memory.clean.entries.len(), memory.trouble.entries.len()), (2, 14));
        assert_eq!((memory.clean.overwritten, memory.trouble.overwritten), (8, 76));
    }

    #[test]
    fn bytes_are_bounded_too() {
        let one = remembered(true, 1).bytes();
        let mut memory = Memory::new(Limits { attempts: 1000, bytes: 10 * one });
        for ended in 0..100 {
            memory.push(remembered(ended % 3 == 0, ended));
        }
        assert!(memory.trouble.bytes + memory.clean.bytes <= 10 * one);
        assert_eq!(memory.trouble.entries.len() + memory.clean.entries.len(), 10);
        assert!(LIMITS.attempts * one < LIMITS.bytes, "{one} bytes each: the count is reached first as a rule");
    }

    #[test]
    fn the_newest_are_given_in_order_and_the_rest_is_counted() {
        let mut memory = memory(100);
        for ended in 0..10 {
            memory.push(remembered(ended % 2 == 0, ended));
        }
        let found = memory.newest(&wanted(false, 3), Mono(10));
        assert_eq!((serials(&found), found.kept.more), (vec![7, 8, 9], 7));
        assert_eq!(serials(&memory.newest(&wanted(true, 100), Mono(10))), [0, 2, 4, 6, 8]);
        let late = Wanted { failed: false, since: Some(Duration::from_nanos(3)), limit: 100 };
        assert_eq!(serials(&memory.newest(&late, Mono(10))), [7, 8, 9]);
    }

    #[test]
    fn a_reused_port_that_did_no_harm_is_no_trouble_and_a_late_success_is() {
        assert!(is_trouble(&fixtures::case().attempt));
        assert!(is_trouble(&fixtures::refused().attempt));
        let mut harmless = fixtures::clean().attempt;
        harmless.reused = true;
        assert!(!is_trouble(&harmless));
    }

    proptest! {
        /// Whoever reads on and on gets each attempt once and in order, or is told how many were missed.
        #[test]
        fn readers_miss_nothing_unsaid(
            steps in proptest::collection::vec((any::<bool>(), 0..4_usize), 1..200),
            failed in any::<bool>(),
        ) {
            let mut memory = memory(16);
            let (mut position, mut told, mut missed, mut written) = (Position::default(), Vec::new(), 0, 0);
            let mut read = |memory: &Memory, limit| {
                let found = memory.after(position, failed, limit);
                position = found.position;
                missed += found.missed;
                told.extend(serials(&found));
            };
            for (at, &(trouble, limit)) in steps.iter().enumerate() {
                memory.push(remembered(trouble, at as u64));
                written += u64::from(trouble || !failed);
                if limit > 0 {
                    read(&memory, limit);
                }
            }
            read(&memory, usize::MAX);
            prop_assert!(told.is_sorted_by(|a, b| a < b), "{told:?}");
            prop_assert_eq!(told.len() as u64 + missed, written);
        }
    }
}
