//! What was open before capture began: connections from sock_diag of each namespace of the node, joined
//! with one dump of connection tracking.

use std::collections::{HashMap, HashSet};

use super::namespace::Namespaces;
use super::sockets::{self, Listeners};
use super::tracking::Tracking;
use crate::capture::netlink::conntrack::{Entry, State};
use crate::capture::netlink::sock_diag::TcpSocket;
use crate::capture::observation::{KnownFlow, NatEntry};
use crate::capture::tuple::Tuple;

/// Most connections that are told, and most entries that are looked at.
const MOST: usize = 100_000;

/// What the seeding found.
#[derive(Debug, Default)]
pub struct Seeds {
    /// The connections.
    pub flows: Vec<KnownFlow>,
    /// Namespaces asked.
    pub namespaces: usize,
    /// Whether that is all, or there were more than [`MOST`].
    pub complete: bool,
}

/// Gathers the connections of all namespaces and of connection tracking.
pub fn gather(namespaces: &mut Namespaces, tracking: Option<&mut Tracking>) -> Seeds {
    let wanted = |entry: &Entry| {
        let ends = entry.nat.original;
        entry.state.is_some_and(State::was_established) && !ends.src.addr.is_loopback() && !ends.dst.addr.is_loopback()
    };
    let (entries, complete) = tracking.map_or((Vec::new(), true), |tracking| {
        tracking.all(MOST, wanted).unwrap_or_else(|error| {
            tracing::warn!(%error, "the entries of connection tracking cannot be listed; what was open before is known from sockets alone");
            (Vec::new(), true)
        })
    });
    let mut seeds = Seeds { complete, ..Seeds::default() };
    let mut join = Join::new(&entries);
    for id in namespaces.all() {
        let room = MOST.saturating_sub(seeds.flows.len());
        match namespaces.within(id, || sockets::connections(room)) {
            Ok((found, listeners)) => {
                seeds.namespaces += 1;
                seeds.complete &= found.len() < room;
                let netns = namespaces.cookie(id);
                seeds.flows.extend(found.iter().map(|socket| join.socket(socket, &listeners, netns)));
            }
            // It went meanwhile, and its connections with it.
            Err(error) => tracing::debug!(%error, "a network namespace cannot be asked for its connections"),
        }
    }
    let room = MOST.saturating_sub(seeds.flows.len());
    let rest: Vec<KnownFlow> = join.rest(&entries, |entry| namespaces.has(entry.original.src.addr)).collect();
    seeds.complete &= rest.len() <= room;
    seeds.flows.extend(rest.into_iter().take(room));
    seeds
}

/// Joins sockets with the entries of their connections.
struct Join {
    /// By the client's own tuple.
    original: HashMap<Tuple, NatEntry>,
    /// By the server's tuple: from its own end to its client, as answers leave it.
    reply: HashMap<Tuple, NatEntry>,
    joined: HashSet<Tuple>,
}

impl Join {
    fn new(entries: &[Entry]) -> Self {
        let by = |key: fn(&NatEntry) -> Tuple| entries.iter().map(|entry| (key(&entry.nat), entry.nat)).collect();
        Self { original: by(|nat| nat.original), reply: by(|nat| nat.reply), joined: HashSet::new() }
    }

    /// The connection of a socket. Which end is the client's is told by the entry, else by who listens.
    fn socket(&mut self, socket: &TcpSocket, listeners: &Listeners, netns: u64) -> KnownFlow {
        let own = socket.tuple;
        let (entry, server_socket) = match (self.original.get(&own), self.reply.get(&own)) {
            (Some(entry), _) => (Some(*entry), false),
            (None, Some(entry)) => (Some(*entry), true),
            (None, None) => (None, listeners.accept(own.src)),
        };
        if let Some(entry) = entry {
            self.joined.insert(entry.original);
        }
        let seen = if server_socket { own.reversed() } else { own };
        KnownFlow {
            tuple: entry.map_or(seen, |entry| entry.original),
            wire: entry.map(|entry| entry.translated()),
            cookie: socket.cookie,
            server_socket,
            netns,
            client_acked: None,
            client_next: None,
            server_next: None,
            numbers: socket.numbers,
            over: socket.is_time_wait(),
        }
    }

    /// The entries that no socket was found for. Such a connection is over if its state says so, or if the
    /// client's namespace was asked and has no such socket any more; else it may be one that this node
    /// forwards, or of a namespace that is out of sight.
    fn rest(self, entries: &[Entry], asked: impl Fn(&NatEntry) -> bool) -> impl Iterator<Item = KnownFlow> {
        entries.iter().filter(move |entry| !self.joined.contains(&entry.nat.original)).map(move |entry| KnownFlow {
            tuple: entry.nat.original,
            wire: Some(entry.nat.translated()),
            cookie: 0,
            server_socket: false,
            netns: 0,
            client_acked: None,
            client_next: None,
            server_next: None,
            numbers: None,
            over: entry.state.is_some_and(State::is_over) || asked(&entry.nat),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::tuple::Endpoint;

    fn tuple(from: &str, to: &str) -> Tuple {
        let end = |text: &str| Endpoint::from(text.parse::<std::net::SocketAddr>().unwrap());
        Tuple::new(end(from), end(to))
    }

    fn entry(client: &str, egress: &str, state: u8) -> Entry {
        let server = "192.0.2.1:443";
        let nat = NatEntry { original: tuple(client, server), reply: tuple(server, egress), zone: 0, mark: 0 };
        Entry { nat, state: Some(State(state)) }
    }

    fn socket(own: &str, peer: &str, state: u8) -> TcpSocket {
        TcpSocket {
            tuple: tuple(own, peer),
            state,
            cookie: 9,
            receive_queue: 0,
            send_queue: 0,
            one_family: true,
            numbers: None,
        }
    }

    #[test]
    fn sides_and_translation_come_from_the_entry() {
        let entries = [entry("10.0.0.1:1000", "198.51.100.1:2000", 3), entry("10.0.0.2:1000", "10.0.0.2:1000", 3)];
        let mut join = Join::new(&entries);
        let none = Listeners::default();
        let client = join.socket(&socket("10.0.0.1:1000", "192.0.2.1:443", 1), &none, 5);
        assert_eq!((client.server_socket, client.wire), (false, Some(tuple("198.51.100.1:2000", "192.0.2.1:443"))));
        assert_eq!((client.cookie, client.netns, client.over), (9, 5, false));
        let server = join.socket(&socket("192.0.2.1:443", "198.51.100.1:2000", 6), &none, 6);
        assert_eq!((server.server_socket, server.tuple, server.over), (true, client.tuple, true));
        let rest: Vec<KnownFlow> = join.rest(&entries, |_| false).collect();
        assert_eq!(rest.len(), 1);
        assert_eq!((rest[0].tuple.src.addr.to_string().as_str(), rest[0].over), ("10.0.0.2", false));
    }

    #[test]
    fn without_an_entry_who_listens_is_the_server() {
        let mut join = Join::new(&[]);
        let flow = join.socket(&socket("10.0.0.1:1000", "192.0.2.1:443", 1), &Listeners::default(), 0);
        assert_eq!((flow.server_socket, flow.wire, flow.tuple.src.port), (false, None, 1000));
    }

    #[test]
    fn an_entry_whose_socket_is_gone_is_over() {
        for (state, asked, over) in [(3, false, false), (3, true, true), (7, false, true), (8, false, true)] {
            let entries = [entry("10.0.0.1:1000", "198.51.100.1:2000", state)];
            let rest: Vec<KnownFlow> = Join::new(&entries).rest(&entries, |_| asked).collect();
            assert_eq!(rest[0].over, over, "state {state}, asked {asked}");
        }
    }
}
