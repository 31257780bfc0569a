//! Connection tracking of the node's own network namespace: entries, statistics, SNAT ports.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use crate::capture::netlink::conntrack::{self, Entry};
use crate::capture::netlink::nftables::{self, SourceNat, has_old_nat, range_in_force};
use crate::capture::netlink::{Protocol, Socket};
use crate::capture::observation::{ConntrackState, NatEntry, SnatPorts};
use crate::capture::probe::questions::tracks_connections;
use crate::capture::tuple::{Addr, Endpoint, Tuple};

/// Most zones that are remembered, the last seen first.
const ZONES: usize = 16;
/// After a dump as many times its own duration pass before the next.
const REST: u32 = 50;
/// But never less or more than these.
const SHORTEST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(5);
/// A search for zones comes no sooner after the last.
const ZONE_SEARCH: Duration = Duration::from_secs(10);

/// The node's connection tracking.
#[derive(Debug)]
pub struct Tracking {
    socket: Socket,
    zones: VecDeque<u16>,
    zones_searched: Option<Instant>,
    rested: Instant,
    rules: Option<(u32, Vec<SourceNat>)>,
}

impl Tracking {
    /// Opens it in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// Where connections are not tracked, or the kernel does not tell them by netlink, or no `CAP_NET_ADMIN` is
    /// held.
    pub fn open() -> io::Result<Self> {
        tracks_connections()?;
        let socket = Socket::open(Protocol::Netfilter, 0)?;
        let (zones, rested) = (VecDeque::new(), Instant::now());
        let mut tracking = Self { socket, zones, zones_searched: None, rested, rules: None };
        tracking.state()?;
        Ok(tracking)
    }

    /// The table's state now.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn state(&mut self) -> io::Result<ConntrackState> {
        let body = conntrack::plain();
        let mut state = self.socket.dump(conntrack::GET_STATS_CPU, &body, |state: &mut ConntrackState, payload| {
            let cpu = conntrack::cpu_stats(payload);
            state.insert_failed += u64::from(cpu.insert_failed);
            state.dropped += u64::from(cpu.drop);
            state.early_drop += u64::from(cpu.early_drop);
        })?;
        let (mut entries, mut limit) = (None, None);
        self.socket.ask(conntrack::GET_STATS, &body, &mut |_, payload| (entries, limit) = conntrack::table(payload))?;
        state.entries = entries.map_or_else(|| setting("nf_conntrack_count"), u64::from);
        state.limit = limit.map_or_else(|| setting("nf_conntrack_max"), u64::from);
        Ok(state)
    }

    /// The entry with this original tuple, in the zones seen lately.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn find(&mut self, tuple: Tuple) -> io::Result<Option<NatEntry>> {
        if let Some(found) = self.find_in_known_zones(tuple)? {
            return Ok(Some(found));
        }
        let searched = self.zones_searched.is_some_and(|at| at.elapsed() < ZONE_SEARCH);
        if searched || !self.is_rested() {
            return Ok(None);
        }
        let known = self.zones.len();
        self.all(usize::MAX, |_| false)?;
        if self.zones.len() > known { self.find_in_known_zones(tuple) } else { Ok(None) }
    }

    fn find_in_known_zones(&mut self, tuple: Tuple) -> io::Result<Option<NatEntry>> {
        for zone in std::iter::once(0).chain(self.zones.clone()) {
            let mut found = None;
            match self.socket.ask(conntrack::GET, &conntrack::lookup(tuple, zone), &mut |kind, payload| {
                if kind == conntrack::ENTRY {
                    found = conntrack::entry(payload);
                }
            }) {
                Ok(()) => (),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
                Err(error) => return Err(error),
            }
            // By the other tuple of an entry, it would be another connection's.
            if let Some(Entry { nat, .. }) = found.filter(|entry| entry.nat.original == tuple) {
                remember(&mut self.zones, nat.zone);
                return Ok(Some(nat));
            }
        }
        Ok(None)
    }

    /// All TCP entries that `take` wants, as many at most; the second is false if there were more.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn all(&mut self, most: usize, take: impl Fn(&Entry) -> bool) -> io::Result<(Vec<Entry>, bool)> {
        let start = Instant::now();
        let (mut entries, mut complete) = (Vec::new(), true);
        for v6 in [false, true] {
            let room = most - entries.len();
            let (found, all, zones) = self.socket.dump(
                conntrack::GET,
                &conntrack::all(v6),
                |(found, more, zones): &mut (Vec<Entry>, bool, VecDeque<u16>), payload| {
                    let Some(entry) = conntrack::entry(payload) else { return };
                    remember(zones, entry.nat.zone);
                    if !take(&entry) {
                    } else if found.len() < room {
                        found.push(entry);
                    } else {
                        *more = true;
                    }
                },
            )?;
            entries.extend(found);
            complete &= !all;
            zones.into_iter().rev().for_each(|zone| remember(&mut self.zones, zone));
        }
        self.zones_searched = Some(Instant::now());
        self.rest(start);
        Ok((entries, complete))
    }

    /// Whether the last dump is long enough ago.
    pub fn is_rested(&self) -> bool {
        self.rested <= Instant::now()
    }

    fn rest(&mut self, start: Instant) {
        self.rested = Instant::now() + (start.elapsed() * REST).clamp(SHORTEST_REST, LONGEST_REST);
    }

    /// Source ports in use towards a destination from the address that `from` is translated to, or else the
    /// address that has most of them. What is closed counts as long as an entry remembers it: its port is
    /// taken, though newer kernels give the port of an entry in TIME_WAIT away if the new connection's first
    /// sequence number is beyond the old one's last. None if there is no entry towards the destination.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn ports(&mut self, from: Addr, destination: Endpoint) -> io::Result<Option<SnatPorts>> {
        let start = Instant::now();
        let body = conntrack::towards(destination);
        let entries = self.socket.dump(conntrack::GET, &body, |entries: &mut Vec<NatEntry>, payload| {
            // Kernels before 5.8 do not filter.
            entries.extend(conntrack::entry(payload).map(|e| e.nat).filter(|nat| nat.reply.src == destination));
        });
        self.rest(start);
        let Some((egress, ports)) = used(&entries?, from) else { return Ok(None) };
        let range = self.range(egress).unwrap_or_else(|error| {
            tracing::debug!(%error, "the rules that translate addresses cannot be read");
            None
        });
        let within = |port: &&u16| range.is_none_or(|(first, last)| (first..=last).contains(port));
        let used = u32::try_from(ports.iter().filter(within).count()).unwrap_or(u32::MAX);
        Ok(Some(SnatPorts { egress, destination, used, range }))
    }

    /// The range of the rule in force for connections that leave by an address.
    fn range(&mut self, egress: Addr) -> io::Result<Option<(u16, u16)>> {
        let names = if egress.is_v4() { "ip_tables_names" } else { "ip6_tables_names" };
        if has_old_nat(&fs::read_to_string(format!("/proc/thread-self/net/{names}")).unwrap_or_default()) {
            return Ok(None);
        }
        let mut generation = None;
        self.socket.ask(nftables::GET_GENERATION, &nftables::plain(), &mut |_, payload| {
            generation = nftables::generation(payload);
        })?;
        let known = self.rules.as_ref().filter(|(of, _)| Some(*of) == generation);
        if known.is_none() {
            let rules = self.socket.dump(nftables::GET_RULE, &nftables::plain(), |rules: &mut Vec<_>, payload| {
                rules.extend(nftables::source_nat(payload));
            })?;
            self.rules = Some((generation.unwrap_or(0), rules));
        }
        Ok(self.rules.as_ref().and_then(|(_, rules)| range_in_force(rules, egress)))
    }
}

/// Puts a zone first; zone 0 is always tried.
fn remember(zones: &mut VecDeque<u16>, zone: u16) {
    if zone == 0 || zones.front() == Some(&zone) {
        return;
    }
    zones.retain(|known| *known != zone);
    zones.push_front(zone);
    zones.truncate(ZONES);
}

/// The egress address by the rule of [`Tracking::ports`], and the ports in use from it, in the zone that
/// has most of them.
fn used(entries: &[NatEntry], from: Addr) -> Option<(Addr, HashSet<u16>)> {
    let mut ports: HashMap<(Addr, u16), HashSet<u16>> = HashMap::new();
    for entry in entries {
        ports.entry((entry.reply.dst.addr, entry.zone)).or_default().insert(entry.reply.dst.port);
    }
    let own = entries.iter().find(|entry| entry.original.src.addr == from).map(|entry| entry.reply.dst.addr);
    let candidates = ports.into_iter().filter(|((egress, _), _)| own.is_none_or(|own| own == *egress));
    let most = candidates.max_by_key(|((egress, zone), ports)| (ports.len(), *egress, *zone));
    most.map(|((egress, _), ports)| (egress, ports))
}

/// A number of /proc/sys/net/netfilter, 0 if it cannot be read.
fn setting(name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/sys/net/netfilter/{name}")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(client: &str, egress: &str, zone: u16) -> NatEntry {
        let end = |text: &str| Endpoint::from(text.parse::<std::net::SocketAddr>().unwrap());
        let server = end("192.0.2.1:443");
        NatEntry { original: Tuple::new(end(client), server), reply: Tuple::new(server, end(egress)), zone, mark: 0 }
    }

    #[test]
    fn ports_of_the_address_that_the_client_is_translated_to() {
        let entries = [
            entry("10.0.0.1:1000", "198.51.100.1:2000", 0),
            entry("10.0.0.2:1000", "198.51.100.2:2000", 0),
            entry("10.0.0.2:1001", "198.51.100.2:2001", 0),
            entry("10.0.0.2:1001", "198.51.100.2:2001", 7),
        ];
        let by = |from: &str| {
            let (egress, ports) = used(&entries, from.parse::<std::net::IpAddr>().unwrap().into()).unwrap();
            (egress.to_string(), ports.len())
        };
        assert_eq!(by("10.0.0.1"), ("198.51.100.1".to_owned(), 1));
        assert_eq!(by("10.0.0.2"), ("198.51.100.2".to_owned(), 2));
        assert_eq!(by("10.0.0.3"), ("198.51.100.2".to_owned(), 2), "the most used");
        assert!(used(&[], Addr::default()).is_none());
    }

    #[test]
    fn zones_are_remembered_by_their_last_use() {
        let mut zones = VecDeque::new();
        for zone in [0, 1, 2, 1, 0, 3] {
            remember(&mut zones, zone);
        }
        assert_eq!(zones, [3, 1, 2]);
        (10..100).for_each(|zone| remember(&mut zones, zone));
        assert_eq!((zones.len(), zones[0]), (ZONES, 99));
    }
}
