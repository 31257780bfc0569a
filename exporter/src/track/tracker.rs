//! The tracker: the table of open attempts and the passing of time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::FixedState;
use slab::Slab;
use smallvec::SmallVec;

use super::attempt::{Finding, Role};
use super::destination::Destinations;
use super::flow::Flow;
use super::flows::Flows;
use super::inbound::Inbound;
use super::ledger::{Ledger, SharedProcess};
use super::node::Node;
use super::open::Open;
use super::recent::Recent;
use super::witness::Witnesses;
use super::{Counts, Options, report};
use crate::capture::observation::{Interface, Mono, Observation, PointKind, Process, ProcessStep, What};
use crate::capture::question::Question;
use crate::capture::tuple::{Endpoint, Tuple};

/// An attempt whose client socket is here ends by its socket; this is for the case that the end was lost.
const SOCKET_PATIENCE: Duration = Duration::from_secs(900);
/// When an attempt is looked at for the first time, at the latest.
const FIRST_LOOK: Duration = Duration::from_secs(4);
/// A client with no socket in sight: longer than the longest gap between two SYNs (64 s), twice.
const UNSEEN_PATIENCE: Duration = Duration::from_secs(135);
/// An attempt from outside: the handshake's last segment is not captured, so it ends by the accepted
/// socket or not at all.
const FOREIGN_PATIENCE: Duration = Duration::from_secs(20);
/// A server on this node that does not take the connection its client believes in: until its SYN-ACK has
/// been sent again, and its listener asked.
const SERVER_PATIENCE: Duration = Duration::from_millis(2_500);
/// Questions that may wait.
const MAX_QUESTIONS: usize = 256;
/// Network namespaces and listeners remembered.
const MAX_NAMESPACES: usize = 4_096;
const MAX_LISTENERS: usize = 4_096;
/// Candidates for one ISN that are worth comparing.
const MAX_SAME_ISN: usize = 16;
/// Distinct processes shared between tenancies.
const MAX_PROCESSES: usize = 8_192;

pub(super) type Map<K, V> = HashMap<K, V, FixedState>;

/// Observations and time in, findings out.
pub struct Tracker {
    pub(super) options: Options,
    pub(super) started: Mono,
    pub(super) now: Mono,
    pub(super) open: Slab<Open>,
    pub(super) by_cookie: Map<u64, usize>,
    pub(super) by_tuple: Map<Tuple, usize>,
    pub(super) by_isn: Map<u32, SmallVec<[usize; 2]>>,
    pub(super) calls: Map<u64, (Mono, ProcessStep)>,
    pub(super) calls_order: VecDeque<(Mono, u64)>,
    pub(super) interfaces: Map<u32, Interface>,
    pub(super) ledger: Ledger,
    pub(super) destinations: Destinations,
    pub(super) witnesses: Witnesses,
    pub(super) node: Node,
    pub(super) inbound: Inbound,
    pub(super) flows: Flows,
    /// Network namespaces of sockets of this node.
    pub(super) namespaces: Recent<u64>,
    /// Listeners whose accepted sockets are in sight.
    pub(super) accepting: Recent<Endpoint>,
    /// Attempts of pods by namespace and source, to find those that a sidecar took.
    pub(super) by_source: Map<(u64, Endpoint), usize>,
    pub(super) last_lost: Option<Mono>,
    /// The last loss of observations of attempts from outside.
    pub(super) last_lost_inbound: Option<Mono>,
    pub(super) counts: Counts,
    /// The last call of each thread.
    pub(super) by_tid: Map<u32, u64>,
    /// Calls that are too young for their SYN to be missed.
    pub(super) calls_young: VecDeque<(Mono, u64)>,
    /// When it was last asked to watch what connect() returns.
    pub(super) watching: Option<Mono>,
    processes: Map<Process, SharedProcess>,
    timers: BinaryHeap<Reverse<(Mono, usize, u64)>>,
    /// Attempts whose second SYN was seen: when to look whether they hang.
    pub(super) stalls: BinaryHeap<Reverse<(Mono, usize, u64)>>,
    /// Serial and slot of attempts from outside, and of all others, oldest first.
    foreign: VecDeque<(u64, usize)>,
    local: VecDeque<(u64, usize)>,
    next_serial: u64,
    pub(super) findings: VecDeque<Finding>,
    pub(super) questions: VecDeque<Question>,
    /// SYNs that netfilter dropped a moment ago: when, with which tuple, of which attempt (its slot and serial).
    pub(super) losers: VecDeque<(Mono, Tuple, usize, u64)>,
}

impl Tracker {
    /// A tracker that starts to see at `start`.
    pub fn new(options: Options, start: Mono) -> Self {
        let seed = options.hash_seed;
        let hasher = || FixedState::with_seed(seed);
        Self {
            ledger: Ledger::new(options.max_tenancies, options.reuse_window, options.hash_seed),
            destinations: Destinations::new(options.hash_seed),
            witnesses: Witnesses::new(options.hash_seed),
            node: Node::new(options.hash_seed),
            inbound: Inbound::new(options.hash_seed),
            flows: Flows::new(options.flow_interval, options.hash_seed, start),
            namespaces: Recent::new(MAX_NAMESPACES, options.hash_seed),
            accepting: Recent::new(MAX_LISTENERS, options.hash_seed),
            options,
            started: start,
            now: start,
            open: Slab::new(),
            by_cookie: Map::with_hasher(hasher()),
            by_tuple: Map::with_hasher(hasher()),
            by_isn: Map::with_hasher(hasher()),
            calls: Map::with_hasher(hasher()),
            calls_order: VecDeque::new(),
            interfaces: Map::with_hasher(hasher()),
            last_lost: None,
            last_lost_inbound: None,
            by_source: Map::with_hasher(hasher()),
            by_tid: Map::with_hasher(hasher()),
            calls_young: VecDeque::new(),
            watching: None,
            counts: Counts::default(),
            processes: Map::with_hasher(hasher()),
            timers: BinaryHeap::new(),
            stalls: BinaryHeap::new(),
            foreign: VecDeque::new(),
            local: VecDeque::new(),
            next_serial: 1,
            findings: VecDeque::new(),
            questions: VecDeque::new(),
            losers: VecDeque::new(),
        }
    }

    /// Takes in one observation.
    pub fn observe(&mut self, observation: &Observation) {
        *self.seen_at(&observation.what) += 1;
        let time = observation.time;
        match &observation.what {
            What::Process(step) => self.on_call(time, step),
            What::Socket(step) => self.on_socket(time, step),
            What::Segment(segment) => self.on_segment(time, segment),
            What::Error(error) => {
                if let Some(&at) = self.by_cookie.get(&error.cookie)
                    && let Some(open) = self.open.get_mut(at)
                {
                    match error.errno {
                        0 => open.extra_mut().told = Some(time),
                        errno => open.errno = Some(errno),
                    }
                }
            }
            What::CallFailed(failed) => self.on_call_failed(time, *failed),
            What::Dropped(dropped) => self.on_dropped(time, dropped),
            What::Icmp(icmp) => self.on_icmp(time, icmp),
            What::Nat(answer) => self.on_nat(time, answer),
            What::Conntrack(state) => self.node.conntrack(time, *state),
            What::SnatPorts(ports) => self.node.ports(time, *ports),
            What::Listener(listener) => self.on_listener(*listener),
            What::Flow(flow) => self.on_flow(time, flow),
            What::FlowNumbers(answer) => self.on_flow_numbers(time, answer),
            What::Inbound(count) => {
                self.counts.inbound_summed += count.syns;
                let out = self.inbound.counted(count.listener, time, count.syns);
                self.findings.extend(out.map(Finding::Inbound));
            }
            What::Interface(change) => {
                match &change.now {
                    Some(interface) => self.interfaces.insert(change.ifindex, interface.clone()),
                    None => self.interfaces.remove(&change.ifindex),
                };
            }
            What::Lost(lost) => {
                self.counts.lost += lost.count;
                self.counts.lost_inbound += if lost.inbound { lost.count } else { 0 };
                let last = if lost.inbound { &mut self.last_lost_inbound } else { &mut self.last_lost };
                *last = Some(last.map_or(time, |last| last.max(time)));
            }
        }
    }

    /// The count of what was seen at that place.
    fn seen_at(&mut self, what: &What) -> &mut u64 {
        let seen = &mut self.counts.observations;
        let ifindex = match what {
            What::Process(_) | What::Socket(_) | What::Error(_) | What::CallFailed(_) => return &mut seen.socket,
            What::Segment(segment) => segment.ifindex,
            What::Icmp(icmp) => icmp.ifindex,
            _ => return &mut seen.kernel,
        };
        match self.interfaces.get(&ifindex).map(|interface| interface.kind) {
            Some(PointKind::PodNic) => &mut seen.pod_nic,
            Some(PointKind::NodeNic) => &mut seen.node_nic,
            Some(PointKind::Overlay) => &mut seen.overlay,
            None => &mut seen.kernel,
        }
    }

    /// Lets time pass: attempts that are due become findings. Time never runs backwards.
    pub fn advance(&mut self, now: Mono) {
        self.now = self.now.max(now);
        while let Some(&Reverse((due, at, serial))) = self.timers.peek() {
            if due > self.now {
                break;
            }
            self.timers.pop();
            // One of an attempt that is over, or that is to be looked at at another time.
            let is_its = |open: &&Open| open.serial == serial && open.looked_at == Some(due);
            let Some(open) = self.open.get(at).filter(is_its) else { continue };
            let due = self.due(open);
            if due > self.now {
                self.look_at(at, due);
            } else {
                self.finish(at, false);
            }
        }
        self.advance_stalls();
        self.expire_calls();
        if !self.inbound.is_empty() {
            let due = self.inbound.due(self.now, false);
            self.findings.extend(due.into_iter().map(Finding::Inbound));
        }
        self.ledger.expire(self.now);
        self.advance_flows();
    }

    /// The next finding, oldest first.
    pub fn next_finding(&mut self) -> Option<Finding> {
        self.findings.pop_front()
    }

    /// The next question to the kernel, oldest first, those about flows last; its answer, if there is one, is an
    /// observation.
    pub fn next_question(&mut self) -> Option<Question> {
        self.questions.pop_front().or_else(|| self.next_flow_question())
    }

    /// Ends everything that is open: what has an outcome is judged, the rest is `pending`.
    pub fn finish_all(&mut self) {
        let mut slots: Vec<(u64, usize)> = self.open.iter().map(|(at, open)| (open.serial, at)).collect();
        slots.sort_unstable();
        for (_, at) in slots {
            self.finish(at, true);
        }
        let due = self.inbound.due(self.now, true);
        self.findings.extend(due.into_iter().map(Finding::Inbound));
    }

    /// A hasher for another table.
    pub(super) fn hasher(&self) -> FixedState {
        FixedState::with_seed(self.options.hash_seed)
    }

    /// Whether a process is the agent itself, and its connections are not to be reported.
    pub(super) fn is_own(&self, pid: u32) -> bool {
        self.options.quiet_pid == Some(pid) && !self.options.report_own
    }

    /// Asks the kernel something, unless the same waits already.
    pub(super) fn ask(&mut self, question: Question) {
        if self.questions.contains(&question) {
            return;
        }
        if self.questions.len() >= MAX_QUESTIONS {
            self.counts.questions_dropped += 1;
        } else {
            self.questions.push_back(question);
        }
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        Counts {
            open_attempts: self.open.len() as u64,
            tenancies: self.ledger.len() as u64,
            evicted_tenancies: self.ledger.evicted(),
            remembers_since: self.remembers_since(),
            ..self.counts
        }
    }

    /// How far back the ledger reaches: of what ended later, nothing was missed and nothing given up early.
    pub fn remembers_since(&self) -> Mono {
        self.started.max(self.ledger.horizon())
    }

    /// Puts a new attempt into the table and returns its slot.
    pub(super) fn insert(&mut self, isn: u32, time: Mono, foreign: bool) -> usize {
        self.make_room(foreign);
        let serial = self.serial();
        let at = self.open.insert(Open { wire_only: self.options.wire_only, ..Open::new(serial, isn, time) });
        let same = self.by_isn.entry(isn).or_default();
        if same.len() < MAX_SAME_ISN {
            same.push(at);
        }
        if foreign { &mut self.foreign } else { &mut self.local }.push_back((serial, at));
        self.timer(at);
        at
    }

    /// The next attempt's serial.
    pub(super) fn serial(&mut self) -> u64 {
        let serial = self.next_serial;
        self.next_serial += 1;
        serial
    }

    /// Sets the timer of an attempt by what is known of it now.
    pub(super) fn timer(&mut self, at: usize) {
        let Some(open) = self.open.get(at) else { return };
        // Nearly all are over soon. An entry for each that waits for the longest that it may would outlive it by minutes.
        let due = match open.looked_at {
            None => self.due(open).min(open.started.plus(FIRST_LOOK)),
            Some(_) => self.due(open),
        };
        if open.looked_at.is_none_or(|at| due < at) {
            self.look_at(at, due);
        }
    }

    /// How many looks are to come.
    #[cfg(test)]
    pub(super) fn looks(&self) -> usize {
        self.timers.len()
    }

    /// Looks at an attempt when it is due, and not when it was to be looked at before.
    fn look_at(&mut self, at: usize, due: Mono) {
        if let Some(open) = self.open.get_mut(at) {
            open.looked_at = Some(due);
            self.timers.push(Reverse((due, at, open.serial)));
        }
    }

    /// Files an attempt under a tuple; the latest holder of a tuple gets its segments.
    pub(super) fn file(&mut self, at: usize, tuple: Tuple) {
        self.by_tuple.insert(tuple, at);
    }

    /// One copy of each process for all its tenancies.
    pub(super) fn shared(&mut self, process: &Process) -> SharedProcess {
        if let Some(shared) = self.processes.get(process) {
            return shared.clone();
        }
        if self.processes.len() >= MAX_PROCESSES {
            self.processes.clear();
        }
        let shared = Arc::new(process.clone());
        self.processes.insert(process.clone(), shared.clone());
        shared
    }

    /// When an attempt is to be finished, by what is known of it.
    fn due(&self, open: &Open) -> Mono {
        let settled = |time: Mono| time.plus(self.options.settle);
        if let Some(over) = open.established.or(open.closed) {
            return if self.awaits_server(open) { over.plus(SERVER_PATIENCE) } else { settled(over) };
        }
        if open.client.is_some() {
            return open.touched.plus(SOCKET_PATIENCE);
        }
        if let Some(over) = open.refused.or(open.server.as_ref().map(|server| server.established)) {
            return settled(over);
        }
        match (open.role(), open.syn_ack) {
            (_, Some(syn_ack)) if open.wire_only && open.wire_complete() => settled(syn_ack.time),
            (_, Some(_)) if open.wire_only => settled(open.overdue_at()),
            _ if open.wire_only => open.touched.plus(UNSEEN_PATIENCE),
            (Role::Client | Role::Transit, Some(syn_ack)) => settled(syn_ack.time),
            (Role::Client, None) => open.touched.plus(UNSEEN_PATIENCE),
            _ => open.touched.plus(FOREIGN_PATIENCE),
        }
    }

    /// Whether the client came up and the server, which is on this node too, has not yet: its accept queue
    /// may be full, and it will answer again.
    fn awaits_server(&self, open: &Open) -> bool {
        open.established.is_some()
            && open.server.is_none()
            && open.handshake_reset.is_none()
            && open.server_nic().is_some()
            && open.sightings.last().is_some_and(|last| self.accepting.contains(&last.tuple.dst))
    }

    /// Takes an attempt out of the table and reports it. `flush` ends what has no outcome as pending.
    pub(super) fn finish(&mut self, at: usize, flush: bool) {
        self.end(at, flush, false);
    }

    /// Whether an attempt from outside came to nothing and is only summed up.
    fn sum_up(&mut self, open: &Open, evicted: bool) -> bool {
        let (role, tried) = (open.role(), open.first_syn());
        let came_up = open.came_up() || open.client_acked || (role == Role::Transit && open.syn_ack.is_some());
        if role == Role::Client || came_up || !(evicted || role == Role::Server) {
            return false;
        }
        let listener = open.sightings.last().map_or(open.inner().dst, |sighting| sighting.tuple.dst);
        let (told, out) = self.inbound.failed(listener, tried, self.now, open.syns(), evicted);
        self.findings.extend(out.map(Finding::Inbound));
        if !told {
            self.counts.inbound_summed += 1;
        }
        !told
    }

    fn end(&mut self, at: usize, flush: bool, evicted: bool) {
        let Some(mut open) = self.open.try_remove(at) else { return };
        open.assume_acked(self.now);
        if let Some(same) = self.by_isn.get_mut(&open.isn) {
            same.retain(|slot| *slot != at);
            if same.is_empty() {
                self.by_isn.remove(&open.isn);
            }
        }
        if let Some(client) = &open.client {
            let source = (client.netns, client.tuple.src);
            if self.by_source.get(&source) == Some(&at) {
                self.by_source.remove(&source);
            }
        }
        for tuple in open.tuples() {
            if self.by_tuple.get(&tuple) == Some(&at) {
                self.by_tuple.remove(&tuple);
            }
        }
        if let Some(client) = &open.client
            && self.by_cookie.get(&client.cookie) == Some(&at)
        {
            self.by_cookie.remove(&client.cookie);
        }
        self.counts.finished_attempts += 1;
        let flows = open.extra.as_mut().map(|extra| extra.flows.clone()).unwrap_or_default();
        if !self.sum_up(&open, evicted) && !open.quiet {
            let tenancy = open.tenancy;
            let attempt = report::report(self, open, flush);
            self.settle_trace(tenancy, attempt.trace);
            let trace = Some(attempt.trace);
            self.findings.push_back(Finding::Attempt(Box::new(attempt)));
            self.findings.extend(flows.into_iter().map(|flow| Finding::Flow(Box::new(Flow { trace, ..flow }))));
        }
    }

    /// Keeps the table within its bound. Attempts from outside have a quarter of it, so that a flood of
    /// SYNs from there costs no attempt of this node.
    fn make_room(&mut self, foreign: bool) {
        let limit = self.options.max_attempts.max(4);
        prune(&mut self.foreign, &self.open);
        prune(&mut self.local, &self.open);
        if foreign && self.foreign.len() >= limit / 4 {
            self.evict(true);
        }
        while self.open.len() >= limit {
            let was = self.open.len();
            self.evict(!self.foreign.is_empty());
            if self.open.len() == was {
                break;
            }
        }
    }

    fn evict(&mut self, foreign: bool) {
        let queue = if foreign { &mut self.foreign } else { &mut self.local };
        while let Some((serial, at)) = queue.pop_front() {
            if self.open.get(at).is_some_and(|open| open.serial == serial) {
                self.counts.evicted_attempts += 1;
                self.end(at, true, foreign);
                return;
            }
        }
    }
}

/// Drops finished attempts from the front of a queue, and from its middle when they are most of it.
fn prune(queue: &mut VecDeque<(u64, usize)>, open: &Slab<Open>) {
    let lives = |&(serial, at): &(u64, usize)| open.get(at).is_some_and(|open| open.serial == serial);
    while queue.front().is_some_and(|entry| !lives(entry)) {
        queue.pop_front();
    }
    if queue.len() > 2 * open.len() + 64 {
        queue.retain(lives);
    }
}
