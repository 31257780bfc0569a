//! The tracker: the table of open attempts and the passing of time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use foldhash::quality::FixedState;
use slab::Slab;
use smallvec::SmallVec;

use super::attempt::Finding;
use super::destination::Destinations;
use super::flows::Flows;
use super::inbound::Inbound;
use super::ledger::{Ledger, SharedProcess};
use super::node::Node;
use super::open::Open;
use super::recent::Recent;
use super::witness::Witnesses;
use super::{Counts, Options};
use crate::capture::observation::{Interface, Mono, Observation, PointKind, Process, ProcessStep, What};
use crate::capture::question::Question;
use crate::capture::tuple::{Endpoint, Tuple};

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
    pub(super) timers: BinaryHeap<Reverse<(Mono, usize, u64)>>,
    /// Attempts whose second SYN was seen: when to look whether they hang.
    pub(super) stalls: BinaryHeap<Reverse<(Mono, usize, u64)>>,
    /// Serial and slot of attempts from outside, and of all others, oldest first.
    pub(super) foreign: VecDeque<(u64, usize)>,
    pub(super) local: VecDeque<(u64, usize)>,
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
        self.advance_looks();
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
}
