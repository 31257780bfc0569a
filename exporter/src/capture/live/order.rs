//! Two rings read as one: what is in the one is handed on no earlier than what came before it in the other.

use crate::capture::observation::{Mono, Observation};

/// Most records of a ring that are handed on at once, unless the other needs more.
pub const BATCH: usize = 512;

/// Takes a batch of records by `next`, which gives the time of each that makes sense, and goes on until one is of the
/// time `until`: none if there are no more, else the time of the last.
pub fn drain(until: Mono, mut next: impl FnMut() -> Option<Option<Mono>>) -> Option<Mono> {
    let mut last = Mono::default();
    let mut taken = 0;
    while taken < BATCH || last < until {
        last = next()?.unwrap_or(last);
        taken += 1;
    }
    Some(last)
}

/// What was read of the ring of attempts from outside and came later than what was read of the other. A segment of an
/// attempt of this node may be among it, whose first sight is in the other ring still: without that it would be an
/// attempt of its own.
#[derive(Debug, Default)]
pub struct Early(Vec<Observation>);

impl Early {
    /// The time of the first; none if there are none.
    pub fn first(&self) -> Option<Mono> {
        self.0.iter().map(|observation| observation.time).min()
    }

    /// Whether some are later than that: then the ring has been read far enough.
    pub fn beyond(&self, horizon: Mono) -> bool {
        self.0.iter().any(|observation| observation.time > horizon)
    }

    /// Puts those held back behind the batch.
    pub fn release(&mut self, batch: &mut Vec<Observation>) {
        batch.append(&mut self.0);
    }

    /// Takes out of the batch, from the place `from` on, what is later than the horizon, and puts the rest in the order
    /// of time.
    pub fn hold(&mut self, batch: &mut Vec<Observation>, from: usize, horizon: Mono) {
        self.0.extend(batch.extract_if(from.., |observation| observation.time > horizon));
        if from > 0 && from < batch.len() {
            batch.sort_by_key(|observation| observation.time);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::observation::{SocketError, What};

    #[test]
    fn a_ring_is_read_as_far_as_what_came_later_in_the_other() {
        let times = |count: u64| {
            let mut left = (1..=count).map(|time| Some(Mono(time)));
            move || left.next()
        };
        let (batch, more) = (BATCH as u64, 3 * BATCH as u64);
        assert_eq!(drain(Mono::default(), times(more)), Some(Mono(batch)));
        assert_eq!(drain(Mono(10), times(more)), Some(Mono(batch)));
        assert_eq!(drain(Mono(more - 1), times(more)), Some(Mono(more - 1)));
        assert_eq!(drain(Mono(more + 1), times(more)), None, "it was all there is");
        assert_eq!(drain(Mono::default(), times(batch - 1)), None);
        // What makes no sense has no time, and holds nothing up.
        let mut taken = 0;
        let senseless = || {
            taken += 1;
            (taken <= more).then_some(None)
        };
        assert_eq!(drain(Mono(10), senseless), None);
        assert_eq!(taken, more + 1);
    }

    #[test]
    fn what_is_later_than_the_other_ring_was_read_waits() {
        let at = |time| Observation { time: Mono(time), what: What::Error(SocketError { cookie: 1, errno: 110 }) };
        let times = |batch: &[Observation]| batch.iter().map(|one| one.time.0).collect::<Vec<_>>();
        let mut early = Early::default();
        assert!(early.first().is_none() && !early.beyond(Mono(0)));

        // The one ring was read to 10, the other to 15.
        let mut batch = vec![at(4), at(10), at(3), at(9), at(12), at(15)];
        early.hold(&mut batch, 2, Mono(10));
        assert_eq!(times(&batch), [3, 4, 9, 10]);
        assert_eq!(early.first(), Some(Mono(12)));
        assert!(early.beyond(Mono(14)) && !early.beyond(Mono(15)));

        // Then to 13.
        let mut batch = vec![at(11), at(13)];
        early.release(&mut batch);
        early.hold(&mut batch, 2, Mono(13));
        assert_eq!((times(&batch), early.first()), (vec![11, 12, 13], Some(Mono(15))));

        // And to its end, with nothing new in it.
        let mut batch = Vec::new();
        early.release(&mut batch);
        early.hold(&mut batch, 0, Mono(20));
        assert_eq!((times(&batch), early.first()), (vec![15], None));
    }
}
