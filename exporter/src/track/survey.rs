//! The state of the node's connections, looked at from time to time.

use std::cmp::Reverse;
use std::time::Duration;

use super::attempt::Role;
use super::judge;
use super::tracker::{Map, Tracker};
use super::verdict::Outcome;
use crate::capture::observation::ConntrackState;
use crate::capture::question::Question;
use crate::capture::tuple::{Addr, Endpoint};

/// How long connection tracking keeps the port of a connection that has ended (`nf_conntrack_tcp_timeout_time_wait`).
const TIME_WAIT: Duration = Duration::from_secs(120);
/// How old a count by connection tracking may be to stand in for the ledger's,
const COUNT_STANDS: Duration = Duration::from_secs(120);
/// and from when on it is asked for again.
const COUNT_AGES: Duration = Duration::from_secs(30);
/// Most entries of [`Survey::snat`], and how many of them are asked about.
const MOST: usize = 200;
const ASKED: usize = 4;
/// Where the age classes of attempts that pend end.
const AGES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(60)];

/// What [`Tracker::survey`] found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Survey {
    /// Attempts of this node's clients that have no outcome yet, by age: under one second, under ten, under sixty, and
    /// older. Those that are not reported are not counted.
    pub pending: [u64; 4],
    /// Source ports in use, the most used first; at most 200.
    pub snat: Vec<SnatUse>,
    /// The last state of connection tracking that was told; none where it is not to be had.
    pub conntrack: Option<ConntrackState>,
    /// How far back the ledger reaches: of what ended since, nothing is missing.
    pub ledger_reaches: Duration,
}

/// Source ports in use from an egress address towards a destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnatUse {
    /// The address after NAT.
    pub egress: Addr,
    /// The destination after NAT.
    pub destination: Endpoint,
    /// Distinct ports: by connection tracking where it was asked lately, else those of connections in the ledger that
    /// are open or ended less than 120 s ago.
    pub used: u32,
    /// The range in force, both ends included; none if it could not be told.
    pub range: Option<(u16, u16)>,
}

impl Tracker {
    /// Looks at all of it, and asks connection tracking about the most used source ports. It goes through the whole
    /// ledger: meant for every ten seconds or more.
    pub fn survey(&mut self) -> Survey {
        let mut pending = [0; 4];
        for (_, open) in &self.open {
            if !open.quiet && open.role() == Role::Client && judge::outcome(self, open, true).0 == Outcome::Pending {
                let age = self.now.since(open.started);
                pending[AGES.iter().take_while(|&&end| age >= end).count()] += 1;
            }
        }
        Survey {
            pending,
            snat: self.snat(),
            conntrack: self.node.last_conntrack(),
            ledger_reaches: self.now.since(self.remembers_since()),
        }
    }

    fn snat(&mut self) -> Vec<SnatUse> {
        // With each, the own address of one client, to ask by.
        let mut used: Map<(Addr, Endpoint), (u32, Addr)> = Map::with_hasher(self.hasher());
        let since = self.now.minus(TIME_WAIT);
        for tenancy in self.ledger.latest() {
            if tenancy.closed.is_none_or(|closed| closed > since)
                && let Some(wire) = tenancy.wire.filter(|_| tenancy.is_translated())
            {
                let (count, _) = used.entry((wire.src.addr, wire.dst)).or_insert((0, tenancy.inner.src.addr));
                *count += 1;
            }
        }
        let mut found: Vec<(SnatUse, Addr)> = used
            .into_iter()
            .map(|((egress, destination), (used, client))| {
                let told = self.node.ports_of(egress, destination, self.now, COUNT_STANDS);
                let (used, range) = told.map_or((used, None), |told| (told.used, told.range));
                (SnatUse { egress, destination, used, range }, client)
            })
            .collect();
        found.sort_unstable_by_key(|(entry, _)| (Reverse(entry.used), entry.egress, entry.destination));
        found.truncate(MOST);
        for (entry, from) in found.iter().take(ASKED) {
            if self.node.ports_of(entry.egress, entry.destination, self.now, COUNT_AGES).is_none() {
                self.ask(Question::SnatPorts { from: *from, destination: entry.destination });
            }
        }
        found.into_iter().map(|(entry, _)| entry).collect()
    }
}
