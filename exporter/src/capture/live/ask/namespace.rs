//! Network namespaces of this node: found, told apart from those of others, and entered by turns.
//!
//! A namespace is this node's if one of its links has its other end in the node's own namespace, as the
//! pod's end of a veth does, or sits on a link there, as macvlan does. Where the other end is the node's
//! own way out the namespace is what lies beyond (a node in a container, a lab's router), and is left out.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

use super::super::classify::{Tables, classify};
use super::super::options::InterfaceRules;
use super::super::tables;
use crate::capture::netlink::attributes::{attributes, find, i32_at, text, u32_at};
use crate::capture::netlink::{Protocol, Socket, put};
use crate::capture::observation::PointKind;
use crate::capture::probe::kernel::netns_cookie;
use crate::capture::probe::questions::{NAMED_NAMESPACES, other_namespaces};
use crate::capture::tuple::Addr;

/// Most namespaces that are kept in mind.
const MOST: usize = 4096;
/// Shortest time between two searches, and how many times its own duration one is followed by rest.
const PAUSE: Duration = Duration::from_secs(2);
const REST: u32 = 200;

const RTM_GETLINK: u16 = 18;
const RTM_GETADDR: u16 = 22;
const RTM_GETNSID: u16 = 90;
const IFINFOMSG: usize = 16;
const IFADDRMSG: usize = 8;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_LINK_NETNSID: u16 = 37;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

/// A namespace's identity: device and inode of its file.
pub type Id = (u64, u64);

/// The network namespace that a thread started in, to which it returns.
#[derive(Debug)]
pub struct Home {
    file: File,
    id: Id,
}

impl Home {
    /// That of the calling thread.
    ///
    /// # Errors
    ///
    /// `ENOENT` where /proc is not mounted.
    pub fn here() -> io::Result<Self> {
        let file = File::open("/proc/thread-self/ns/net")?;
        let id = id(&file.metadata()?);
        Ok(Self { file, id })
    }

    /// Runs in another namespace, and returns.
    ///
    /// # Errors
    ///
    /// Where the other cannot be entered, or is no longer the one that was meant.
    ///
    /// # Panics
    ///
    /// Where the thread cannot return: all that it said from then on would be of another network.
    fn within<T>(&self, place: &Place, run: impl FnOnce(&File) -> io::Result<T>) -> io::Result<T> {
        if place.id == self.id {
            return run(&self.file);
        }
        let file = File::open(&place.path)?;
        if id(&file.metadata()?) != place.id {
            return Err(io::Error::from_raw_os_error(libc::ESTALE));
        }
        setns(&file, CloneFlags::CLONE_NEWNET)?;
        let result = run(&self.file);
        setns(&self.file, CloneFlags::CLONE_NEWNET).expect("a thread returns to its own network namespace");
        result
    }
}

fn id(metadata: &fs::Metadata) -> Id {
    (metadata.dev(), metadata.ino())
}

#[derive(Clone, Debug)]
struct Place {
    id: Id,
    path: PathBuf,
}

/// A namespace as it was found.
#[derive(Clone, Debug)]
struct Known {
    place: Place,
    /// Its cookie, 0 below kernel 5.14.
    cookie: u64,
    /// Its addresses but loopback.
    addresses: Vec<Addr>,
    ours: bool,
}

/// The namespaces.
#[derive(Debug)]
pub struct Namespaces {
    home: Home,
    /// Why no other can be entered.
    alone: Option<String>,
    rules: InterfaceRules,
    known: HashMap<Id, Known>,
    by_address: HashMap<Addr, Vec<Id>>,
    /// When the next search may be.
    search_due: Instant,
}

impl Namespaces {
    /// None searched yet. Says by [`Namespaces::alone`] if only the thread's own can be asked.
    ///
    /// # Errors
    ///
    /// Those of [`Home::here`].
    pub fn new(rules: InterfaceRules) -> io::Result<Self> {
        let home = Home::here()?;
        let alone = other_namespaces()
            .err()
            .map(|error| format!("{error}; it takes CAP_SYS_ADMIN, and hostPID or the host's /run/netns"));
        let (known, by_address) = (HashMap::new(), HashMap::new());
        Ok(Self { home, alone, rules, known, by_address, search_due: Instant::now() })
    }

    /// Why only the thread's own namespace can be asked; none if others can.
    pub fn alone(&self) -> Option<&str> {
        self.alone.as_deref()
    }

    /// All of this node's namespaces, searched anew; its own first.
    pub fn all(&mut self) -> Vec<Id> {
        self.search();
        let mut all: Vec<Id> = self.known.values().filter(|known| known.ours).map(|known| known.place.id).collect();
        all.sort_by_key(|id| (*id != self.home.id, *id));
        all
    }

    /// Those of this node's namespaces that have an address, and may be the one with a cookie (0: any).
    /// Searches once if there is none; not for an address of loopback, which takes a cookie.
    pub fn with(&mut self, address: Addr, cookie: u64) -> Vec<Id> {
        if address.is_loopback() && cookie != 0 {
            return self.of_cookie(cookie);
        }
        let found = self.find(address, cookie);
        if !found.is_empty() || Instant::now() < self.search_due {
            return found;
        }
        self.search();
        self.find(address, cookie)
    }

    /// The namespace with a cookie: each has the addresses of loopback.
    fn of_cookie(&self, cookie: u64) -> Vec<Id> {
        let known = self.known.values().filter(|known| known.ours && known.cookie == cookie);
        known.map(|known| known.place.id).collect()
    }

    fn find(&self, address: Addr, cookie: u64) -> Vec<Id> {
        // Its process may have ended, or the address may be another pod's by now.
        let is_there = |known: &Known| {
            known.place.id == self.home.id
                || fs::metadata(&known.place.path).is_ok_and(|now| id(&now) == known.place.id)
        };
        let ids = self.by_address.get(&address).map(Vec::as_slice).unwrap_or_default();
        let fits = |known: &Known| cookie == 0 || known.cookie == 0 || known.cookie == cookie;
        let fits = |id: &&Id| self.known.get(id).is_some_and(|known| fits(known) && is_there(known));
        ids.iter().filter(fits).copied().collect()
    }

    /// The cookie of a namespace, 0 if not known.
    pub fn cookie(&self, id: Id) -> u64 {
        self.known.get(&id).map_or(0, |known| known.cookie)
    }

    /// Whether one of this node's namespaces has an address, by the last search.
    pub fn has(&self, address: Addr) -> bool {
        self.by_address.contains_key(&address)
    }

    /// Runs in one of the namespaces.
    ///
    /// # Errors
    ///
    /// `ENOENT` and `ESTALE` where it has gone, and those of `run`.
    pub fn within<T>(&self, id: Id, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let known = self.known.get(&id).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
        self.home.within(&known.place, |_| run())
    }

    /// Looks for namespaces that came or went. Those that had an address are not looked into again.
    fn search(&mut self) {
        let start = Instant::now();
        let outward = outward_links(&self.rules).unwrap_or_default();
        let mut found = HashMap::new();
        for place in self.places() {
            if found.len() >= MOST {
                break;
            }
            let old = self.known.remove(&place.id).filter(|old| place.id != self.home.id && !old.addresses.is_empty());
            let known = match old {
                Some(old) => Known { place: place.clone(), ..old },
                None => match self.look_into(&place, &outward) {
                    Ok(known) => known,
                    Err(error) => {
                        tracing::debug!(%error, path = %place.path.display(), "a network namespace cannot be looked into");
                        continue;
                    }
                },
            };
            found.insert(place.id, known);
        }
        self.known = found;
        self.by_address.clear();
        for known in self.known.values().filter(|known| known.ours) {
            for address in &known.addresses {
                self.by_address.entry(*address).or_default().push(known.place.id);
            }
        }
        self.search_due = Instant::now() + (start.elapsed() * REST).max(PAUSE);
    }

    /// One path for each namespace in sight, the thread's own first.
    fn places(&self) -> Vec<Place> {
        let mut places = vec![Place { id: self.home.id, path: "/proc/thread-self/ns/net".into() }];
        if self.alone.is_some() {
            return places;
        }
        let mut seen: HashSet<Id> = HashSet::from([self.home.id]);
        let named = NAMED_NAMESPACES
            .iter()
            .filter_map(|dir| fs::read_dir(dir).ok())
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        let numeric = |name: &std::ffi::OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let by_process = processes.filter(|entry| numeric(&entry.file_name())).map(|entry| entry.path().join("ns/net"));
        for path in named.chain(by_process) {
            let Ok(metadata) = fs::metadata(&path) else { continue };
            if seen.insert(id(&metadata)) {
                places.push(Place { id: id(&metadata), path });
            }
        }
        places
    }

    fn look_into(&self, place: &Place, outward: &HashSet<u32>) -> io::Result<Known> {
        let at_home = place.id == self.home.id;
        self.home.within(place, |home| {
            let mut socket = Socket::open(Protocol::Route, 0)?;
            let ours = at_home || links_to(&mut socket, home)?.iter().any(|peer| peer.leads_home(outward));
            Ok(Known {
                place: place.clone(),
                cookie: netns_cookie().unwrap_or(0),
                addresses: addresses(&mut socket)?,
                ours,
            })
        })
    }
}

/// The links by which packets leave the node, in the calling thread's namespace.
fn outward_links(rules: &InterfaceRules) -> io::Result<HashSet<u32>> {
    let mut socket = Socket::open(Protocol::Route, 0)?;
    let tables = Tables {
        links: tables::links(&mut socket)?,
        default_routes: tables::default_routes(&mut socket)?,
        shared_prefixes: tables::shared_prefixes(&mut socket)?,
    };
    let leads_out = |link: &&super::super::classify::Link| classify(link, &tables, rules) == Some(PointKind::NodeNic);
    Ok(tables.links.values().filter(leads_out).map(|link| link.index).collect())
}

/// A link whose other end, or the link that it sits on, is in the home namespace.
struct Peer {
    /// That one's index.
    index: u32,
    /// Whether this is an end of a pair, and does not sit on the other.
    pair: bool,
}

impl Peer {
    fn leads_home(&self, outward: &HashSet<u32>) -> bool {
        !(self.pair && outward.contains(&self.index))
    }
}

/// The links of the calling thread's namespace that lead to `home`.
fn links_to(socket: &mut Socket, home: &File) -> io::Result<Vec<Peer>> {
    let mut body = vec![0; 4];
    put(&mut body, NETNSA_FD, &home.as_fd().as_raw_fd().to_ne_bytes());
    let mut number = None;
    socket.ask(RTM_GETNSID, &body, &mut |_, payload| {
        number = payload.get(4..).and_then(|body| find(body, NETNSA_NSID)).and_then(|value| i32_at(value, 0));
    })?;
    let Some(number) = number.filter(|number| *number >= 0) else { return Ok(Vec::new()) };
    socket.dump(RTM_GETLINK, &[0; IFINFOMSG], |peers: &mut Vec<Peer>, payload| peers.extend(peer(payload, number)))
}

/// Reads a link; none if it does not lead to the namespace with this number.
fn peer(payload: &[u8], number: i32) -> Option<Peer> {
    let body = payload.get(IFINFOMSG..)?;
    let there = i32_at(find(body, IFLA_LINK_NETNSID)?, 0)?;
    let kind = find(body, IFLA_LINKINFO).and_then(|info| find(info, IFLA_INFO_KIND)).map(text).unwrap_or_default();
    let index = u32_at(find(body, IFLA_LINK)?, 0)?;
    (there == number).then_some(Peer { index, pair: matches!(kind.as_str(), "veth" | "netkit") })
}

/// The addresses of the calling thread's namespace but loopback.
fn addresses(socket: &mut Socket) -> io::Result<Vec<Addr>> {
    socket.dump(RTM_GETADDR, &[0; IFADDRMSG], |found: &mut Vec<Addr>, payload| found.extend(address(payload)))
}

fn address(payload: &[u8]) -> Option<Addr> {
    let (mut own, mut other) = (None, None);
    for (kind, value) in attributes(payload.get(IFADDRMSG..)?) {
        let addr = match value.len() {
            4 => <[u8; 4]>::try_from(value).ok().map(|bytes| std::net::Ipv4Addr::from(bytes).into()),
            16 => value.try_into().ok().map(Addr),
            _ => None,
        };
        match kind {
            // Of a point-to-point link this is the other end's.
            IFA_ADDRESS => other = addr,
            IFA_LOCAL => own = addr,
            _ => (),
        }
    }
    own.or(other).filter(|addr| !addr.is_loopback())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::capture::netlink::put_nested;

    fn link(kind: &str, on: u32, number: i32) -> Vec<u8> {
        let mut payload = vec![0; IFINFOMSG];
        put(&mut payload, IFLA_LINK, &on.to_ne_bytes());
        put(&mut payload, IFLA_LINK_NETNSID, &number.to_ne_bytes());
        put_nested(&mut payload, IFLA_LINKINFO, |info| put(info, IFLA_INFO_KIND, format!("{kind}\0").as_bytes()));
        payload
    }

    #[test]
    fn the_other_end_must_lie_in_the_node_and_not_lead_out_of_it() {
        let outward = HashSet::from([2]);
        let leads = |payload: Vec<u8>| peer(&payload, 0).is_some_and(|peer| peer.leads_home(&outward));
        assert!(leads(link("veth", 7, 0)), "a pod");
        assert!(!leads(link("veth", 7, 1)), "another node's pod");
        assert!(!leads(link("veth", 2, 0)), "the router");
        assert!(leads(link("macvlan", 2, 0)), "a pod on the node's card");
        assert!(peer(&[0; 5], 0).is_none());
    }

    #[test]
    fn addresses_but_loopback() {
        let with = |kind: u16, bytes: &[u8]| {
            let mut payload = vec![0; IFADDRMSG];
            put(&mut payload, IFA_ADDRESS, &[10, 0, 0, 9]);
            put(&mut payload, kind, bytes);
            address(&payload).map(|addr| addr.to_string())
        };
        assert_eq!(with(IFA_LOCAL, &[10, 0, 0, 1]).as_deref(), Some("10.0.0.1"));
        assert_eq!(with(IFA_LOCAL, &[127, 0, 0, 1]), None);
        assert_eq!(with(99, &[1, 2, 3, 4]).as_deref(), Some("10.0.0.9"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (peer(&bytes, 0), address(&bytes));
        }
    }
}
