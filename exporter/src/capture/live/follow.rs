//! Interfaces come and go: the thread that follows rtnetlink, and attaches and detaches the programs.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use synspan_ebpf::record::{POINT_NODE, POINT_OVERLAY, POINT_POD};

use super::classify::{Tables, classify};
use super::hook::{Hook, attach_clsact, attach_tcx};
use super::object::{EGRESS, INGRESS, KindMap};
use super::options::{AttachMode, InterfaceRules};
use super::reader::{Shared, now};
use super::tables;
use super::watched::{Side, Watched};
use crate::capture::netlink::attributes::u32_at;
use crate::capture::netlink::{Socket, filters};
use crate::capture::observation::{Direction, Interface, InterfaceChange, Mono, PointKind};

/// A new interface is looked at after this; its peer and kind are told in one burst.
const SETTLE_LINKS: Duration = Duration::from_millis(20);
/// Routes and addresses are looked at after this; a change of them comes in many steps.
const SETTLE_ROUTES: Duration = Duration::from_millis(200);
/// Longest time that detaching at the end may take by its pace.
const LONGEST_STOP: Duration = Duration::from_secs(5);
/// Pause after the tables could not be read.
const RETRY: Duration = Duration::from_secs(1);

const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];

/// What the thread is given.
pub struct Follower {
    pub mode: AttachMode,
    pub rules: InterfaceRules,
    /// Time between two programs attached or detached.
    pub pace: Duration,
    pub ingress: OwnedFd,
    pub egress: OwnedFd,
    /// Where the programs look up what an interface is.
    pub kinds: KindMap,
    pub shared: Arc<Shared>,
    pub changes: Sender<(Mono, InterfaceChange)>,
    pub requests: Socket,
    pub events: Socket,
}

struct Follow {
    with: Follower,
    tables: Tables,
    watched: HashMap<u32, Watched>,
    /// Interfaces where a filter went, which may have been ours.
    doubted: HashSet<u32>,
    links_due: Option<Instant>,
    routes_due: Option<Instant>,
    turn: Instant,
    started: bool,
}

impl Follower {
    /// Follows until the other end of `stop` is closed, then detaches.
    ///
    /// # Errors
    ///
    /// Those of poll and of the notification socket; none is expected.
    pub fn run(self, stop: &impl AsFd) -> io::Result<()> {
        let start = Instant::now();
        let mut follow = Follow {
            with: self,
            tables: Tables::default(),
            watched: HashMap::new(),
            doubted: HashSet::new(),
            links_due: Some(start),
            routes_due: Some(start),
            turn: start,
            started: false,
        };
        let result = follow.follow(stop);
        follow.detach_all();
        result
    }
}

impl Follow {
    fn follow(&mut self, stop: &impl AsFd) -> io::Result<()> {
        loop {
            self.refresh();
            self.take_turn();
            let wait = match self.next_due() {
                None => PollTimeout::NONE,
                Some(due) => {
                    let wait = due.saturating_duration_since(Instant::now());
                    // Rounded up, or the last part of a millisecond would be spent in a busy loop.
                    PollTimeout::try_from(wait.as_millis() + 1).unwrap_or(PollTimeout::MAX)
                }
            };
            let mut fds = [
                PollFd::new(stop.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.with.events.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, wait) {
                Ok(_) | Err(nix::Error::EINTR) => (),
                Err(e) => return Err(e.into()),
            }
            if fds[0].any().unwrap_or(true) {
                return Ok(());
            }
            self.notice()?;
        }
    }

    /// When something is to be done next.
    fn next_due(&self) -> Option<Instant> {
        let turn = self.next_task().is_some().then_some(self.turn);
        [turn, self.links_due, self.routes_due].into_iter().flatten().min()
    }

    /// Reads notifications, for what tables they put in doubt.
    fn notice(&mut self) -> io::Result<()> {
        let (mut links, mut routes) = (false, false);
        let (watched, doubted) = (&self.watched, &mut self.doubted);
        let complete = self.with.events.notifications(&mut |kind, payload| match kind {
            tables::NEWLINK | tables::DELLINK => links = true,
            tables::NEWADDR | tables::DELADDR => routes = true,
            tables::NEWROUTE | tables::DELROUTE => routes |= tables::is_default(payload),
            filters::RTM_DELTFILTER | filters::RTM_DELQDISC => {
                // Looked at once it is known whether the interface itself has gone.
                let ours = u32_at(payload, 4).filter(|index| watched.get(index).is_some_and(Watched::has_filters));
                links |= ours.is_some();
                doubted.extend(ours);
            }
            _ => (),
        })?;
        if !complete {
            let filtered = self.watched.iter().filter(|(_, watched)| watched.has_filters());
            self.doubted.extend(filtered.map(|(index, _)| index));
        }
        let moment = Instant::now();
        if links || !complete {
            self.links_due.get_or_insert(moment + SETTLE_LINKS);
        }
        if routes || !complete {
            self.routes_due.get_or_insert(moment + SETTLE_ROUTES);
        }
        Ok(())
    }

    /// Reads the tables that are due anew, and judges all links by them.
    fn refresh(&mut self) {
        let moment = Instant::now();
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= moment);
        let (links, routes) = (due(self.links_due), due(self.routes_due));
        if !links && !routes {
            return;
        }
        match self.read(links, routes) {
            Ok(()) => {
                if links {
                    self.links_due = None;
                }
                if routes {
                    self.routes_due = None;
                }
                self.judge();
                if links {
                    self.look_for_filters();
                }
                self.started = true;
                self.publish();
            }
            Err(error) => {
                tracing::warn!(%error, "interfaces cannot be listed; trying again");
                self.links_due = Some(moment + RETRY);
            }
        }
    }

    fn read(&mut self, links: bool, routes: bool) -> io::Result<()> {
        if links {
            self.tables.links = tables::links(&mut self.with.requests)?;
        }
        if routes {
            self.tables.default_routes = tables::default_routes(&mut self.with.requests)?;
            self.tables.shared_prefixes = tables::shared_prefixes(&mut self.with.requests)?;
        }
        Ok(())
    }

    /// Compares what should be watched with what is.
    fn judge(&mut self) {
        let mut wanted: HashMap<u32, Interface> = HashMap::new();
        for link in self.tables.links.values() {
            if let Some(kind) = classify(link, &self.tables, &self.with.rules) {
                wanted.insert(link.index, Interface { name: link.name.as_str().into(), kind });
            }
        }
        let gone: Vec<u32> = self.watched.keys().copied().filter(|i| !self.tables.links.contains_key(i)).collect();
        for index in gone {
            // The kernel has detached its programs; what is left of them is only let go.
            self.forget(index);
        }
        for (index, watched) in &mut self.watched {
            watched.leaving = !wanted.contains_key(index);
        }
        for (index, interface) in wanted {
            match self.watched.get_mut(&index) {
                Some(watched) if watched.interface == interface => (),
                Some(watched) => {
                    tracing::info!(interface = %interface.name, index, kind = interface.kind.as_str(), "interface changed");
                    watched.interface = interface.clone();
                    publish_kind(&mut self.with.kinds, index, &interface);
                    self.tell(index, Some(interface));
                }
                None => {
                    tracing::debug!(interface = %interface.name, index, kind = interface.kind.as_str(), "interface found");
                    let watched = Watched {
                        interface: interface.clone(),
                        sides: Default::default(),
                        leaving: false,
                        old: !self.started,
                    };
                    self.watched.insert(index, watched);
                    publish_kind(&mut self.with.kinds, index, &interface);
                    self.tell(index, Some(interface));
                }
            }
        }
        self.publish();
    }

    /// Looks whether filters that others may have taken away are there. They are not attached again: whoever took them
    /// away meant it (`synspan clean --running` before an agent's end, a CNI that resets the interface).
    fn look_for_filters(&mut self) {
        let mut gone = Vec::new();
        for index in std::mem::take(&mut self.doubted) {
            let Some(watched) = self.watched.get_mut(&index) else { continue };
            let lost = watched.lose_filters(&mut self.with.requests);
            gone.extend(std::iter::repeat_n(watched.interface.name.clone(), lost));
        }
        if let Some(interface) = gone.first() {
            // What was not seen since is no proof of anything.
            self.with.shared.unhooked.fetch_add(gone.len() as u64, Ordering::Relaxed);
            tracing::warn!(filters = gone.len(), %interface,
                "filters were taken away by others; segments that pass there are not seen until the next start");
        }
    }

    /// The most urgent thing to do: which interface, and which of its sides.
    fn next_task(&self) -> Option<(u32, usize)> {
        let mut best = None;
        for (index, watched) in &self.watched {
            for (side, state) in watched.sides.iter().enumerate() {
                let urgency = match (watched.leaving, state) {
                    (false, Side::Waiting) => match watched.interface.kind {
                        PointKind::PodNic if !watched.old => 0,
                        PointKind::NodeNic => 1,
                        PointKind::Overlay => 2,
                        PointKind::PodNic => 3,
                    },
                    (true, Side::Attached(_)) => 4,
                    _ => continue,
                };
                let rank = (urgency, side, *index);
                best = Some(best.map_or(rank, |known: (u8, usize, u32)| known.min(rank)));
            }
        }
        best.map(|(_, side, index)| (index, side))
    }

    /// Does one thing, if its turn has come.
    fn take_turn(&mut self) {
        // Interfaces that leave and have nothing attached need no turn.
        let left: Vec<u32> = (self.watched.iter())
            .filter(|(_, w)| w.leaving && !w.sides.iter().any(|s| matches!(s, Side::Attached(_))))
            .map(|(index, _)| *index)
            .collect();
        for index in left {
            self.forget(index);
        }
        if Instant::now() < self.turn {
            return;
        }
        let Some((index, side)) = self.next_task() else { return };
        let Some(watched) = self.watched.get_mut(&index) else { return };
        if watched.leaving {
            if let Side::Attached(hook) = std::mem::take(&mut watched.sides[side]) {
                detach(&mut self.with.requests, hook, &watched.interface);
            }
        } else {
            let attached = attach(&mut self.with, index, DIRECTIONS[side]);
            match attached {
                Ok(hook) => watched.sides[side] = Side::Attached(hook),
                Err(e) if matches!(e.raw_os_error(), Some(libc::ENODEV | libc::ENXIO)) => {
                    tracing::debug!(interface = %watched.interface.name, index, "interface went while it was attached");
                    self.links_due.get_or_insert(Instant::now());
                    watched.sides[side] = Side::Blind;
                }
                Err(error) => {
                    let first = !watched.sides.iter().any(|s| matches!(s, Side::Blind));
                    watched.sides[side] = Side::Blind;
                    if first {
                        tracing::warn!(interface = %watched.interface.name, index, direction = ?DIRECTIONS[side], %error,
                            "cannot attach; segments that pass there are not seen, and nothing can be said to be lost between there and elsewhere");
                    }
                }
            }
        }
        self.turn = Instant::now() + self.with.pace;
        self.publish();
    }

    /// Lets an interface go.
    fn forget(&mut self, index: u32) {
        let Some(watched) = self.watched.remove(&index) else { return };
        tracing::debug!(interface = %watched.interface.name, index, "interface is watched no more");
        drop(watched);
        // It may not be there; either way it is not there now.
        let _ = self.with.kinds.remove(&index);
        self.tell(index, None);
        self.publish();
    }

    fn tell(&self, ifindex: u32, now_is: Option<Interface>) {
        // The reader ends after this thread, so the channel is open.
        let _ = self.with.changes.send((now(), InterfaceChange { ifindex, now: now_is }));
    }

    /// Counts the hooks for the others to see.
    fn publish(&self) {
        let sides = || self.watched.values().flat_map(|w| &w.sides);
        let attached = sides().filter(|s| matches!(s, Side::Attached(_))).count();
        let blind = sides().filter(|s| matches!(s, Side::Blind)).count();
        self.with.shared.attached.store(attached as u64, Ordering::Relaxed);
        self.with.shared.blind.store(blind as u64, Ordering::Relaxed);
        let pods = self.watched.values().filter(|w| w.interface.kind == PointKind::PodNic);
        let blind_pods = pods.filter(|w| w.sides.iter().any(|s| matches!(s, Side::Blind))).count();
        self.with.shared.blind_pods.store(blind_pods as u64, Ordering::Relaxed);
        let settled = self.started && self.next_task().is_none();
        self.with.shared.settled.store(settled, Ordering::Relaxed);
    }

    /// Detaches everything, at the pace or faster where that would take too long.
    fn detach_all(&mut self) {
        let mut hooks = Vec::new();
        for (_, watched) in self.watched.drain() {
            for side in watched.sides {
                if let Side::Attached(hook) = side {
                    hooks.push((hook, watched.interface.clone()));
                }
            }
        }
        let pace = self.with.pace.min(LONGEST_STOP / u32::try_from(hooks.len().max(1)).unwrap_or(u32::MAX));
        for (number, (hook, interface)) in hooks.into_iter().enumerate() {
            if number > 0 {
                std::thread::sleep(pace);
            }
            detach(&mut self.with.requests, hook, &interface);
        }
        self.publish();
    }
}

/// Tells the programs what an interface is, before they are attached to it.
fn publish_kind(kinds: &mut KindMap, index: u32, interface: &Interface) {
    let kind = match interface.kind {
        PointKind::PodNic => POINT_POD,
        PointKind::NodeNic => POINT_NODE,
        PointKind::Overlay => POINT_OVERLAY,
    };
    if let Err(error) = kinds.insert(index, kind, 0) {
        tracing::warn!(interface = %interface.name, %error, "the programs do not know what it is: SYNs that come in there count as this node's own");
    }
}

fn attach(with: &mut Follower, index: u32, direction: Direction) -> io::Result<Hook> {
    let (program, name) = match direction {
        Direction::Ingress => (with.ingress.as_fd(), INGRESS),
        Direction::Egress => (with.egress.as_fd(), EGRESS),
    };
    match with.mode {
        AttachMode::Clsact => attach_clsact(&mut with.requests, program, name, index, direction),
        AttachMode::Auto | AttachMode::Tcx => attach_tcx(program, index, direction),
    }
}

fn detach(requests: &mut Socket, hook: Hook, interface: &Interface) {
    if let Err(error) = hook.detach(requests) {
        tracing::warn!(interface = %interface.name, %error, "cannot detach; the next start, or `synspan clean`, will");
    }
}
