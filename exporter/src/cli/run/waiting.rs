//! Attempts whose ends will be known in a moment: a pod's object comes some milliseconds after its first connect().

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::track::attempt::Attempt;

/// Most attempts that wait; beyond, they go out as they are.
const MAX_WAITING: usize = 4_096;
/// How often it is asked again.
const EVERY: Duration = Duration::from_millis(100);

/// The attempts that wait, the longest first.
pub struct Waiting {
    patience: Duration,
    waiting: VecDeque<(Instant, Box<Attempt>)>,
    looked: Option<Instant>,
    /// Due times of those given out to be looked at, to be matched with those put back.
    given: VecDeque<(Instant, u64)>,
    back: VecDeque<(Instant, Box<Attempt>)>,
}

impl Waiting {
    /// `patience` is how long each one may wait; with none, nothing does.
    pub fn new(patience: Duration) -> Self {
        Self { patience, waiting: VecDeque::new(), looked: None, given: VecDeque::new(), back: VecDeque::new() }
    }

    /// An attempt to wait; it is given back where there is no room.
    pub fn put(&mut self, attempt: Box<Attempt>, now: Instant) -> Option<Box<Attempt>> {
        if self.waiting.len() >= MAX_WAITING || self.patience.is_zero() {
            return Some(attempt);
        }
        self.waiting.push_back((now + self.patience, attempt));
        None
    }

    /// In how long to look again; none where nothing waits.
    pub fn next_look(&self, now: Instant) -> Option<Duration> {
        (!self.waiting.is_empty())
            .then(|| self.looked.map_or(EVERY, |looked| (looked + EVERY).saturating_duration_since(now)))
    }

    /// Those to be asked for again, and whether it is for the last time. Nothing if that was a moment ago.
    pub fn look(&mut self, now: Instant) -> Vec<(Box<Attempt>, bool)> {
        if self.waiting.is_empty() || self.looked.is_some_and(|looked| now.saturating_duration_since(looked) < EVERY) {
            return Vec::new();
        }
        self.looked = Some(now);
        let all = std::mem::take(&mut self.waiting);
        self.given = all.iter().map(|(due, attempt)| (*due, attempt.serial)).collect();
        all.into_iter().map(|(due, attempt)| (attempt, due <= now)).collect()
    }

    /// One that waits on.
    pub fn put_back(&mut self, attempt: Box<Attempt>) {
        while let Some((due, serial)) = self.given.pop_front() {
            if serial == attempt.serial {
                self.back.push_back((due, attempt));
                return;
            }
        }
    }

    /// After a look: those that were put back wait before those that came since.
    pub fn settle(&mut self) {
        self.given.clear();
        if !self.back.is_empty() {
            self.back.append(&mut self.waiting);
            std::mem::swap(&mut self.back, &mut self.waiting);
        }
    }

    /// All that wait, for there is no later.
    pub fn all(&mut self) -> impl Iterator<Item = Box<Attempt>> + use<> {
        std::mem::take(&mut self.waiting).into_iter().map(|(_, attempt)| attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identify::fixtures;

    const PATIENCE: Duration = Duration::from_secs(2);

    fn attempt(serial: u64) -> Box<Attempt> {
        let mut attempt = fixtures::clean().attempt;
        attempt.serial = serial;
        attempt
    }

    fn serials(found: Vec<(Box<Attempt>, bool)>) -> Vec<(u64, bool)> {
        found.into_iter().map(|(attempt, due)| (attempt.serial, due)).collect()
    }

    #[test]
    fn one_that_is_not_known_in_time_goes_out_as_it_is() {
        let (mut waiting, start) = (Waiting::new(PATIENCE), Instant::now());
        assert_eq!(waiting.next_look(start), None);
        assert!(waiting.put(attempt(1), start).is_none());
        assert!(waiting.next_look(start).is_some_and(|pause| pause <= EVERY));
        for (attempt, due) in waiting.look(start) {
            assert!(!due);
            waiting.put_back(attempt);
        }
        waiting.settle();
        assert!(waiting.look(start + EVERY / 2).is_empty(), "it was asked a moment ago");
        assert_eq!(serials(waiting.look(start + PATIENCE)), [(1, true)]);
        waiting.settle();
        assert_eq!(waiting.next_look(start), None);
    }

    #[test]
    fn those_put_back_keep_their_time_and_their_place() {
        let (mut waiting, start) = (Waiting::new(PATIENCE), Instant::now());
        for serial in [1, 2, 3] {
            waiting.put(attempt(serial), start + EVERY * u32::try_from(serial).expect("small"));
        }
        for (attempt, _) in waiting.look(start + EVERY * 3) {
            // The second is known by now.
            if attempt.serial != 2 {
                waiting.put_back(attempt);
            }
        }
        waiting.put(attempt(4), start + EVERY * 4);
        waiting.settle();
        assert_eq!(serials(waiting.look(start + PATIENCE + EVERY)), [(1, true), (3, false), (4, false)]);
    }

    #[test]
    fn with_no_patience_or_no_room_nothing_waits() {
        let now = Instant::now();
        assert!(Waiting::new(Duration::ZERO).put(attempt(1), now).is_some());
        let mut full = Waiting::new(PATIENCE);
        for serial in 0..u64::try_from(MAX_WAITING).expect("fits") {
            assert!(full.put(attempt(serial), now).is_none());
        }
        assert!(full.put(attempt(9), now).is_some());
        assert_eq!(full.all().count(), MAX_WAITING);
        assert_eq!(full.next_look(now), None);
    }
}
