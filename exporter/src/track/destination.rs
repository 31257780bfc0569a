//! The habits of destinations: does it answer, and do fresh tuples fare better there than reused ones?

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use foldhash::quality::FixedState;

use crate::capture::observation::Mono;
use crate::capture::tuple::Endpoint;

/// How near in time another SYN must have been sent, and answered, to speak for the destination.
const NEAR: Duration = Duration::from_secs(5);
/// Counts are halved at this interval, so that old habits fade.
const HALF_LIFE: Duration = Duration::from_secs(60);
/// Answered SYNs remembered per destination, at least this far apart but for the latest.
const SPACING: Duration = Duration::from_millis(500);
const REMEMBERED: usize = 32;
/// So many fresh tuples answered falsely make a habit, if they are half of all.
const GUARD: f64 = 2.0;
/// Destinations remembered; the oldest gives way.
const LIMIT: usize = 16_384;

/// What became of SYNs to one destination.
#[derive(Debug, Default)]
struct Habits {
    /// When SYNs were sent that were answered by a SYN-ACK, thinned out.
    answered: VecDeque<Mono>,
    /// [answered, not] for fresh tuples and for reused ones.
    fresh: [f64; 2],
    reused: [f64; 2],
    /// Fresh tuples that were answered falsely, and all fresh ones.
    false_acks: [f64; 2],
    halved: Mono,
}

/// The habits of all destinations seen lately.
pub struct Destinations {
    map: HashMap<Endpoint, Habits, FixedState>,
    order: VecDeque<Endpoint>,
}

impl Destinations {
    /// None seen yet.
    pub fn new(seed: u64) -> Self {
        Self { map: HashMap::with_hasher(FixedState::with_seed(seed)), order: VecDeque::new() }
    }

    /// The habits of a destination, made where they were none.
    fn habits(&mut self, destination: Endpoint) -> &mut Habits {
        if !self.map.contains_key(&destination) {
            if self.map.len() >= LIMIT
                && let Some(oldest) = self.order.pop_front()
            {
                self.map.remove(&oldest);
            }
            self.order.push_back(destination);
        }
        self.map.entry(destination).or_default()
    }

    /// A SYN-ACK came for the SYN sent at `syn`: the destination is alive. To be called at once, for others may
    /// be judged before that attempt is over.
    pub fn answers(&mut self, destination: Endpoint, syn: Mono) {
        let answered = &mut self.habits(destination).answered;
        let mut latest = answered.iter().rev().copied();
        match (latest.next(), latest.next()) {
            (Some(last), _) if syn <= last => return,
            (Some(last), Some(before)) if last.since(before) < SPACING => {
                answered.pop_back();
            }
            _ if answered.len() >= REMEMBERED => {
                answered.pop_front();
            }
            _ => {}
        }
        answered.push_back(syn);
    }

    /// An attempt whose last SYN was sent at `syn` is over: it was answered (by a SYN-ACK) or was not.
    pub fn record(&mut self, destination: Endpoint, syn: Mono, answered: bool, reused: bool) {
        if answered {
            self.answers(destination, syn);
        }
        let habits = self.habits(destination);
        if syn.since(habits.halved) >= HALF_LIFE {
            habits.halved = syn;
            for count in habits.fresh.iter_mut().chain(&mut habits.reused).chain(&mut habits.false_acks) {
                *count /= 2.0;
            }
        }
        let counts = if reused { &mut habits.reused } else { &mut habits.fresh };
        counts[usize::from(!answered)] += 1.0;
    }

    /// A fresh tuple's first SYN was answered falsely, or was not. To be called after [`Self::record`].
    pub fn record_false(&mut self, destination: Endpoint, falsely: bool) {
        if let Some(habits) = self.map.get_mut(&destination) {
            habits.false_acks[0] += f64::from(u8::from(falsely));
            habits.false_acks[1] += 1.0;
        }
    }

    /// Whether it answers first SYNs of fresh tuples falsely by habit, as guards against floods do.
    pub fn guards(&self, destination: Endpoint) -> bool {
        self.map.get(&destination).is_some_and(|habits| {
            let [falsely, all] = habits.false_acks;
            falsely >= GUARD && falsely * 2.0 >= all
        })
    }

    /// Whether the destination answered a SYN of another attempt that was sent after the first of
    /// `syns` and within five seconds of one of them: it was alive while these went unanswered.
    pub fn answered_others(&self, destination: Endpoint, syns: &[Mono]) -> bool {
        let (Some(habits), Some(&first)) = (self.map.get(&destination), syns.first()) else { return false };
        habits
            .answered
            .iter()
            .filter(|&&at| at >= first)
            .any(|&at| syns.iter().any(|&syn| at.since(syn).max(syn.since(at)) <= NEAR))
    }

    /// Whether fresh tuples fare better there than reused ones, an unanswered reused one included.
    pub fn fresh_fare_better(&self, destination: Endpoint) -> bool {
        self.map.get(&destination).is_some_and(|habits| {
            let [fresh_ok, fresh_bad] = habits.fresh;
            let [reused_ok, reused_bad] = habits.reused;
            let (fresh, reused) = (fresh_ok + fresh_bad, reused_ok + reused_bad + 1.0);
            fresh > 0.0 && fresh_ok * reused > reused_ok * fresh
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const SECOND: u64 = 1_000_000_000;

    fn server() -> Endpoint {
        Endpoint::new(Ipv4Addr::new(192, 168, 50, 20), 8443)
    }

    #[test]
    fn a_destination_that_went_dark_answered_nobody_after() {
        let mut seen = Destinations::new(0);
        seen.record(server(), Mono(10 * SECOND), true, false);
        assert!(!seen.answered_others(server(), &[Mono(11 * SECOND), Mono(12 * SECOND)]));
        seen.record(server(), Mono(13 * SECOND), true, false);
        assert!(seen.answered_others(server(), &[Mono(11 * SECOND), Mono(12 * SECOND)]));
        assert!(!seen.answered_others(server(), &[Mono(SECOND)]), "too far away in time");
    }

    #[test]
    fn the_latest_answer_is_never_thinned_out() {
        let mut seen = Destinations::new(0);
        let ms = |ms: u64| Mono(ms * 1_000_000);
        for at in [0, 3, 6, 9, 700, 703] {
            seen.answers(server(), ms(at));
        }
        assert!(seen.answered_others(server(), &[ms(702)]));
        assert!(!seen.answered_others(server(), &[ms(704)]));
        assert!(seen.map[&server()].answered.len() <= 3);
    }

    #[test]
    fn fresh_tuples_must_fare_better() {
        let mut seen = Destinations::new(0);
        assert!(!seen.fresh_fare_better(server()));
        seen.record(server(), Mono(SECOND), true, false);
        assert!(seen.fresh_fare_better(server()));
        for _ in 0..9 {
            seen.record(server(), Mono(SECOND), false, false);
            seen.record(server(), Mono(SECOND), true, true);
        }
        assert!(!seen.fresh_fare_better(server()), "fresh 1 of 10, reused 9 of 10");
    }

    #[test]
    fn a_guard_is_known_by_its_habit_towards_fresh_tuples() {
        let mut seen = Destinations::new(0);
        let mut tell = |falsely| {
            seen.record(server(), Mono(SECOND), true, false);
            seen.record_false(server(), falsely);
            seen.guards(server())
        };
        assert_eq!([true, true, false, false, false].map(&mut tell), [false, true, true, true, false]);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut seen = Destinations::new(0);
        for port in 0..u16::MAX {
            seen.record(Endpoint::new(Ipv4Addr::LOCALHOST, port), Mono(u64::from(port)), true, false);
        }
        assert!(seen.map.len() <= LIMIT && seen.order.len() <= LIMIT);
    }
}
