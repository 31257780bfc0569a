//! Flows in the tracker: what each socket has told so far, its end, and the questions about those that stay open.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use foldhash::quality::FixedState;

use super::attempt::Finding;
use super::flow::{Fins, Flow, FlowSide, FlowTotals};
use super::sweep::Sweep;
use super::tenancy::{Tenancy, TenancyKey};
use super::trace_id::TraceId;
use super::tracker::{Map, Tracker};
use crate::capture::flow::{FlowAnswer, FlowNumbers};
use crate::capture::observation::{KnownFlow, Mono, SocketStep, TcpState};
use crate::capture::question::Question;
use crate::capture::tuple::Tuple;

/// Most questions about flows in a second, so that they never keep the others waiting: with more than 60,000
/// connections open for long, their records come less often than every 300 s.
const RATE: u64 = 200;
/// Most of them at once.
const BURST: u64 = 8;
/// Sockets that wait for their question.
const MAX_WAITING: usize = 4_096;

/// What a socket has told so far.
#[derive(Clone, Copy, Debug)]
struct Progress {
    totals: FlowTotals,
    /// Of the next record.
    sequence: u32,
}

/// What is known of flows beside the ledger. A connection that opens and closes within an interval costs nothing here.
pub(super) struct Flows {
    /// By socket: those that have told something, or had counted something when capture began.
    progress: Map<u64, Progress>,
    /// The ends of accepted sockets that have neither the client's own tuple nor the wire's.
    ends: Map<u64, Tuple>,
    sweep: Sweep,
    /// The sockets whose question is due, in turn, and the same as a set.
    waiting: VecDeque<u64>,
    waits: HashSet<u64, FixedState>,
    /// How many nanoseconds' worth of questions may be put at once.
    credit: u64,
    credited: Mono,
}

impl Flows {
    /// None yet. `interval` is that of the records of flows that stay open; zero for none.
    pub fn new(interval: Duration, seed: u64, now: Mono) -> Self {
        let hasher = || FixedState::with_seed(seed);
        Self {
            progress: Map::with_hasher(hasher()),
            ends: Map::with_hasher(hasher()),
            sweep: Sweep::new(interval, seed, now),
            waiting: VecDeque::new(),
            waits: HashSet::with_hasher(hasher()),
            credit: 0,
            credited: now,
        }
    }

    /// Forgets a socket.
    pub fn forget(&mut self, cookie: u64) {
        self.progress.remove(&cookie);
        self.ends.remove(&cookie);
    }

    /// How many sockets are remembered.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.progress.len().max(self.ends.len())
    }
}

impl Tracker {
    /// A new tenancy has these sockets: what was known of them was another connection's.
    pub(super) fn flow_opened(&mut self, tenancy: &Tenancy) {
        for cookie in [tenancy.cookie, tenancy.server_cookie] {
            self.flow_replaced(cookie);
        }
    }

    /// A socket becomes another connection's, or a connection's at all. Where it had one before, nobody told its end.
    fn flow_replaced(&mut self, cookie: u64) {
        if cookie != 0 {
            self.counts.unended_flows += u64::from(self.ledger.of_cookie(cookie).is_some());
            self.flows.forget(cookie);
        }
    }

    /// The accepted socket of a tenancy is known, and has these ends.
    pub(super) fn flow_accepted(&mut self, key: TenancyKey, cookie: u64, ends: Tuple) {
        if self.ledger.of_cookie(cookie) != Some(key) {
            self.flow_replaced(cookie);
        }
        let known = self.ledger.get(key).is_some_and(|t| t.inner == ends || t.wire == Some(ends));
        if !known && cookie != 0 {
            self.flows.ends.insert(cookie, ends);
        }
    }

    /// A connection of before the start: what it has counted by now is not news.
    pub(super) fn flow_seeded(&mut self, flow: &KnownFlow) {
        if let Some(numbers) = flow.numbers.filter(|_| flow.cookie != 0) {
            let side = if flow.server_socket { FlowSide::Server } else { FlowSide::Client };
            let totals = FlowTotals::of(&numbers, side, Fins::of_state(numbers.state), &FlowTotals::default());
            self.flows.progress.insert(flow.cookie, Progress { totals, sequence: 0 });
        }
    }

    /// A socket closes. `tenancy` is its connection as it was known before this step.
    pub(super) fn flow_closed(&mut self, time: Mono, step: &SocketStep, from: TcpState, tenancy: &Tenancy) {
        let side = tenancy.side_of(step.cookie);
        let numbers = FlowNumbers::of_step(from, &step.numbers);
        let fins = Fins::at_close(tenancy, side, from, &step.numbers);
        let mut flow = self.flow(time, step.cookie, side, tenancy, &numbers, fins);
        let ends = if side == FlowSide::Server { step.tuple.reversed() } else { step.tuple };
        self.flows.forget(step.cookie);
        (flow.socket, flow.netns) = (ends, step.netns);
        flow.end = Some(self.ledger.of_cookie(step.cookie).and_then(|key| self.ledger.get(key)).map_or(
            // It ended with the ledger's memory of it.
            tenancy.closed_by,
            |tenancy| tenancy.closed_by,
        ));
        self.tell_flow(tenancy, flow);
    }

    /// What an open connection has counted.
    pub(super) fn on_flow_numbers(&mut self, time: Mono, answer: &FlowAnswer) {
        let Some(tenancy) = self.ledger.of_cookie(answer.cookie).and_then(|key| self.ledger.get(key)).cloned() else {
            return; // it has ended meanwhile
        };
        let side = tenancy.side_of(answer.cookie);
        let numbers = &answer.numbers;
        let mut flow = self.flow(time, answer.cookie, side, &tenancy, numbers, Fins::of_state(numbers.state));
        if answer.netns != 0 {
            flow.netns = answer.netns;
        }
        let progress = Progress { totals: flow.totals, sequence: flow.sequence.saturating_add(1) };
        if !tenancy.quiet {
            self.flows.progress.insert(answer.cookie, progress);
        }
        self.tell_flow(&tenancy, flow);
    }

    /// The record of a socket's numbers.
    fn flow(
        &self,
        time: Mono,
        cookie: u64,
        side: FlowSide,
        tenancy: &Tenancy,
        numbers: &FlowNumbers,
        fins: Fins,
    ) -> Flow {
        let before = self.flows.progress.get(&cookie);
        let known = before.map(|progress| progress.totals);
        let totals = FlowTotals::of(numbers, side, fins, &known.unwrap_or_default());
        let seen = tenancy.serial != 0;
        // Of what it carried before capture began nothing is news; how much that was may not be known.
        let base = known.unwrap_or(if seen { FlowTotals::default() } else { totals });
        let client = side == FlowSide::Client;
        Flow {
            serial: tenancy.serial,
            trace: seen.then_some(tenancy.trace),
            side,
            tuple: tenancy.inner,
            wire: tenancy.wire,
            socket: self.flow_ends(cookie, tenancy),
            process: tenancy.process.as_deref().filter(|_| client).cloned(),
            netns: if client { tenancy.netns } else { 0 },
            opened: seen.then_some(tenancy.opened),
            at: time,
            sequence: before.map_or(0, |progress| progress.sequence),
            end: None,
            totals,
            delta: totals.since(&base),
            rtt: (numbers.srtt_us != 0).then(|| Duration::from_micros(numbers.srtt_us.into())),
        }
    }

    /// A socket's ends, client to server.
    fn flow_ends(&self, cookie: u64, tenancy: &Tenancy) -> Tuple {
        match tenancy.side_of(cookie) {
            FlowSide::Client => tenancy.inner,
            FlowSide::Server => self.flows.ends.get(&cookie).copied().or(tenancy.wire).unwrap_or(tenancy.inner),
        }
    }

    /// Tells a flow, but not before the attempt that opened it.
    fn tell_flow(&mut self, tenancy: &Tenancy, flow: Flow) {
        if tenancy.quiet || self.options.wire_only {
            return;
        }
        let open = self.open.get_mut(tenancy.slot as usize);
        match open.filter(|open| flow.serial != 0 && open.serial == flow.serial) {
            Some(open) => open.extra_mut().flows.push(flow),
            None => self.findings.push_back(Finding::Flow(Box::new(flow))),
        }
    }

    /// The trace of an attempt is final: a SYN that was told late may have changed it since its connection opened.
    pub(super) fn settle_trace(&mut self, tenancy: Option<TenancyKey>, trace: TraceId) {
        if let Some(key) = tenancy
            && self.ledger.get(key).is_some_and(|tenancy| tenancy.trace != trace)
        {
            self.ledger.update(key, |tenancy| tenancy.trace = trace);
        }
    }

    /// Lets time pass: which flows are to be asked about.
    pub(super) fn advance_flows(&mut self) {
        for cookie in self.ledger.take_orphans() {
            self.counts.unended_flows += 1;
            self.flows.forget(cookie);
        }
        if self.options.wire_only {
            return;
        }
        let flows = &mut self.flows;
        let passed = u64::try_from(self.now.since(flows.credited).as_nanos()).unwrap_or(u64::MAX);
        flows.credited = self.now;
        flows.credit = flows.credit.saturating_add(passed).min(BURST * (1_000_000_000 / RATE));
        let room = MAX_WAITING.min(flows.sweep.most(RATE));
        let before = self.now.minus(flows.sweep.interval() / 2);
        let (waiting, waits) = (&mut flows.waiting, &mut flows.waits);
        let mut dropped = 0;
        flows.sweep.advance(self.now, self.ledger.slots(), |index| {
            let Some((key, tenancy)) = self.ledger.at(index).filter(|(_, t)| !t.quiet && t.opened <= before) else {
                return;
            };
            for cookie in [tenancy.cookie, tenancy.server_cookie] {
                if cookie == 0 || self.ledger.of_cookie(cookie) != Some(key) {
                    continue;
                }
                if waiting.len() >= room {
                    dropped += 1;
                } else if waits.insert(cookie) {
                    waiting.push_back(cookie);
                }
            }
        });
        self.counts.questions_dropped += dropped;
    }

    /// The next question about a flow, if one may be put.
    pub(super) fn next_flow_question(&mut self) -> Option<Question> {
        while self.flows.credit >= 1_000_000_000 / RATE {
            let cookie = self.flows.waiting.pop_front()?;
            self.flows.waits.remove(&cookie);
            // It may have ended since.
            let Some(tenancy) = self.ledger.of_cookie(cookie).and_then(|key| self.ledger.get(key)) else { continue };
            let ends = self.flow_ends(cookie, tenancy);
            let (tuple, netns) = match tenancy.side_of(cookie) {
                FlowSide::Client => (ends, tenancy.netns),
                FlowSide::Server => (ends.reversed(), 0),
            };
            self.flows.credit -= 1_000_000_000 / RATE;
            return Some(Question::FlowNumbers { tuple, netns, cookie });
        }
        None
    }
}
