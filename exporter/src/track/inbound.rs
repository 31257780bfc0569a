//! SYNs from outside that came to nothing, summed up by listener: a flood is one summary, not a million
//! findings.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use foldhash::quality::FixedState;

use super::attempt::InboundSummary;
use crate::capture::observation::Mono;
use crate::capture::tuple::Endpoint;

/// Attempts to one listener that are told one by one in each period; the rest are summed up.
const ONE_BY_ONE: u32 = 10;
/// The period.
const PERIOD: Duration = Duration::from_secs(10);
/// A sum is told when nothing was added for so long,
const QUIET: Duration = Duration::from_secs(25);
/// or when it is as old as this.
const LONGEST: Duration = Duration::from_secs(120);
/// Listeners with a sum at a time.
const LISTENERS: usize = 1_024;

#[derive(Clone, Copy, Debug)]
struct Tally {
    /// When the current period began, and how many were told in it.
    period: Mono,
    told: u32,
    from: Mono,
    until: Mono,
    /// When something was added last.
    touched: Mono,
    syns: u64,
    counted: u64,
}

/// The sums of all listeners.
pub struct Inbound {
    tallies: HashMap<Endpoint, Tally, FixedState>,
    order: VecDeque<Endpoint>,
}

impl Inbound {
    /// Nothing yet.
    pub fn new(seed: u64) -> Self {
        Self { tallies: HashMap::with_hasher(FixedState::with_seed(seed)), order: VecDeque::new() }
    }

    /// An attempt that began at `time` came to nothing. True if it is to be told by itself; else it is in the sum.
    /// `must_sum` says that it never is. A sum that had to make room is returned too.
    pub fn failed(
        &mut self,
        listener: Endpoint,
        time: Mono,
        now: Mono,
        syns: u32,
        must_sum: bool,
    ) -> (bool, Option<InboundSummary>) {
        let (tally, out) = self.tally(listener, now);
        if now.since(tally.period) >= PERIOD {
            tally.period = now;
            tally.told = 0;
        }
        if !must_sum && tally.syns == 0 && tally.told < ONE_BY_ONE {
            tally.told += 1;
            return (true, out);
        }
        tally.add(time, now, u64::from(syns.max(1)));
        (false, out)
    }

    /// SYNs that were only counted.
    pub fn counted(&mut self, listener: Endpoint, time: Mono, syns: u64) -> Option<InboundSummary> {
        let (tally, out) = self.tally(listener, time);
        tally.add(time, time, syns);
        tally.counted = tally.counted.saturating_add(syns);
        out
    }

    /// Takes out the sums that are due; all of them if `all`.
    pub fn due(&mut self, now: Mono, all: bool) -> Vec<InboundSummary> {
        let mut due = Vec::new();
        for listener in &self.order {
            let Some(tally) = self.tallies.get_mut(listener) else { continue };
            let ready = all || now.since(tally.touched) >= QUIET || now.since(tally.from) >= LONGEST;
            if tally.syns > 0 && ready {
                due.push(tally.take(*listener));
            }
        }
        self.order.retain(|listener| {
            let stays = self.tallies.get(listener).is_some_and(|t| t.syns > 0 || now.since(t.period) < PERIOD);
            if !stays {
                self.tallies.remove(listener);
            }
            stays
        });
        due
    }

    /// Whether nothing is summed up.
    pub fn is_empty(&self) -> bool {
        self.tallies.is_empty()
    }

    fn tally(&mut self, listener: Endpoint, time: Mono) -> (&mut Tally, Option<InboundSummary>) {
        let mut out = None;
        if !self.tallies.contains_key(&listener) {
            if self.order.len() >= LISTENERS
                && let Some(oldest) = self.order.pop_front()
            {
                out = self.tallies.remove(&oldest).filter(|t| t.syns > 0).map(|mut t| t.take(oldest));
            }
            self.order.push_back(listener);
        }
        let tally = self.tallies.entry(listener).or_insert(Tally {
            period: time,
            told: 0,
            from: time,
            until: time,
            touched: time,
            syns: 0,
            counted: 0,
        });
        (tally, out)
    }
}

impl Tally {
    fn add(&mut self, time: Mono, now: Mono, syns: u64) {
        self.touched = self.touched.max(now);
        if self.syns == 0 {
            self.from = time;
            self.until = time;
        }
        self.from = self.from.min(time);
        self.until = self.until.max(time);
        self.syns = self.syns.saturating_add(syns);
    }

    fn take(&mut self, listener: Endpoint) -> InboundSummary {
        let summary =
            InboundSummary { listener, from: self.from, until: self.until, syns: self.syns, counted: self.counted };
        (self.syns, self.counted) = (0, 0);
        summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn second(n: u64) -> Mono {
        Mono(n * 1_000_000_000)
    }

    fn there(port: u16) -> Endpoint {
        Endpoint::new(Ipv4Addr::LOCALHOST, port)
    }

    #[test]
    fn a_few_are_told_and_a_flood_is_one_sum() {
        let mut inbound = Inbound::new(0);
        let told = (0..100_000).filter(|_| inbound.failed(there(80), second(5), second(5), 1, false).0).count();
        assert_eq!(told, 10);
        assert_eq!(inbound.counted(there(80), second(6), 900_000), None);
        assert!(inbound.due(second(8), false).is_empty());
        let due = inbound.due(second(31), false);
        assert_eq!(due.len(), 1);
        assert_eq!((due[0].syns, due[0].counted), (999_990, 900_000));
        assert_eq!((due[0].from, due[0].until), (second(5), second(6)));
        assert!(inbound.due(second(300), true).is_empty());
        assert!(inbound.is_empty());
    }

    #[test]
    fn listeners_are_bounded_and_no_sum_is_lost() {
        let mut inbound = Inbound::new(0);
        let mut sum: u64 = 0;
        for port in 0..u16::MAX {
            sum += inbound.counted(there(port), second(1), 2).map_or(0, |summary| summary.syns);
        }
        assert!(inbound.tallies.len() <= LISTENERS);
        sum += inbound.due(second(1), true).iter().map(|summary| summary.syns).sum::<u64>();
        assert_eq!(sum, 2 * u64::from(u16::MAX));
    }
}
