//! What the kernel says beside segments and sockets: drops, ICMP errors, connection tracking, listeners,
//! connections from before the start, and what connect() returned.

use super::attempt::{ClientSocket, Competitor, Finding, IcmpFact, StoryStep};
use super::extra::{self, Drop, Icmp, Where};
use super::open::Open;
use super::report;
use super::tenancy::{Tenancy, TenancyKey};
use super::trace_id::Seed;
use super::tracker::Tracker;
use super::verdict::ClosedBy;
use crate::capture::observation::{
    CallFailed, Direction, Dropped, IcmpError, KnownFlow, ListenerState, Mono, NatAnswer, PointKind, ProcessStep,
};
use crate::capture::question::Question;
use crate::capture::tuple::{Endpoint, Tuple};

/// Questions about one attempt's way out, and about its listener.
const MOST_QUESTIONS: u8 = 3;
/// Two attempts for one port are a race if their SYNs are so near.
const RACE: std::time::Duration = std::time::Duration::from_millis(50);
/// Dropped SYNs whose winner is not known yet.
const MAX_LOSERS: usize = 256;

impl Tracker {
    /// connect() returned an error: if its SYN was never seen, that is all there is of it.
    pub(super) fn on_call_failed(&mut self, time: Mono, failed: CallFailed) {
        let Some(&cookie) = self.by_tid.get(&failed.tid) else { return };
        if self.calls.get(&cookie).is_some_and(|(called, call)| *called <= time && call.process.pid == failed.pid)
            && let Some((called, call)) = self.forget_call(cookie)
        {
            self.report_call(called, time, call, Some(failed.errno));
        }
    }

    /// Reports a connect() that sent no SYN.
    pub(super) fn report_call(&mut self, called: Mono, time: Mono, call: ProcessStep, errno: Option<i32>) {
        if call.asked.addr.is_loopback() && !self.options.report_loopback {
            self.counts.quiet_loopback += 1;
            return;
        }
        if self.is_own(call.process.pid) {
            self.counts.quiet_own += 1;
            return;
        }
        self.counts.failed_calls += 1;
        self.counts.finished_attempts += 1;
        let mut open = Open::new(self.serial(), 0, called);
        let src = Endpoint { addr: call.asked.addr.unspecified(), port: call.bound_port };
        open.client = Some(ClientSocket {
            cookie: call.cookie,
            netns: call.netns,
            process: Some(call.process),
            asked: Some(call.asked),
            tuple: Tuple { src, dst: call.asked },
        });
        open.never_sent = Some(call.bound_port);
        open.errno = errno;
        open.closed = Some(time);
        let attempt = report::report(self, open, false);
        self.findings.push_back(Finding::Attempt(Box::new(attempt)));
    }

    /// The kernel dropped a segment.
    pub(super) fn on_dropped(&mut self, time: Mono, dropped: &Dropped) {
        let flags = dropped.flags;
        if flags.rst() {
            return; // freed after it has done its work, or lost: the story shows it
        }
        // A SYN, the SYN-ACK, or the client's first segment after it.
        let (isn, answer) = match (flags.syn(), flags.ack()) {
            (true, false) => (dropped.seq, false),
            (true, true) => (dropped.ack.wrapping_sub(1), true),
            (false, _) => (dropped.seq.wrapping_sub(1), false),
        };
        let tuple = if answer { dropped.tuple.reversed() } else { dropped.tuple };
        let Some(at) = self.find(isn, tuple) else { return };
        let Some(place) = self.place(dropped.netns, at) else { return };
        let Some(open) = self.open.get_mut(at) else { return };
        let fact = extra::fact(dropped.reason.as_ref(), dropped.place.as_ref(), answer);
        let drop = Drop { time, place, tuple, fact };
        if drop.is_no_socket() {
            return; // refused, which its RST tells
        }
        if drop.is_overflow() || place == Where::OtherPod || !flags.syn() {
            // Where the server's socket is; a client's segment after the SYN counts only there.
            if drop.is_overflow() || place == Where::OtherPod {
                open.client_acked |= !flags.syn();
                open.extra_mut().server_drop = Some(drop);
            }
            return;
        }
        if !answer && place == Where::Node && open.is_out() {
            return; // it had left: whoever dropped it is further on
        }
        if answer && open.established.is_some() {
            return; // a SYN-ACK too many
        }
        open.tell(time, None, StoryStep::Dropped { answer });
        if answer {
            open.extra_mut().answer_drop = Some(drop);
            return;
        }
        let netfilter = drop.may_be_netfilter();
        open.extra_mut().syn_drop = Some(drop);
        if netfilter && place == Where::Node {
            self.ask_way_out(at, tuple.dst);
            self.find_competitor(at, tuple, time);
        }
    }

    /// The open attempt of an ISN: by a tuple that it has, else by one that shares an end with it, else the
    /// only one there is.
    fn find(&self, isn: u32, tuple: Tuple) -> Option<usize> {
        let same = |at: &usize| self.open.get(*at).is_some_and(|open| open.isn == isn);
        if let Some(at) = self.by_tuple.get(&tuple).copied().filter(same) {
            return Some(at);
        }
        let candidates = self.by_isn.get(&isn)?;
        let shares = |at: &usize| {
            self.open
                .get(*at)
                .is_some_and(|open| open.tuples().any(|known| known.src == tuple.src || known.dst == tuple.dst))
        };
        candidates.iter().copied().find(shares)
    }

    /// Whose network namespace it is; none if it is not of this node.
    fn place(&self, netns: u64, at: usize) -> Option<Where> {
        let open = self.open.get(at)?;
        let host = self.options.host_netns;
        if host != 0 && netns == 0 {
            // The kernel takes the interface from a segment that reached a socket: whose, only the way it
            // went can tell.
            open.server_nic().map(|_| Where::OtherPod)
        } else if host == 0 || netns == host {
            Some(Where::Node)
        } else if open.client.as_ref().is_some_and(|client| client.netns == netns) {
            Some(Where::Client)
        } else {
            self.namespaces.contains(&netns).then_some(Where::OtherPod)
        }
    }

    /// Asks what may have kept a SYN from leaving.
    pub(super) fn ask_way_out(&mut self, at: usize, destination: Endpoint) {
        let Some(open) = self.open.get_mut(at) else { return };
        let inner = open.inner();
        let asked = &mut open.extra_mut().asked[0];
        if *asked >= MOST_QUESTIONS {
            return;
        }
        *asked += 1;
        self.ask(Question::Conntrack);
        self.ask(Question::SnatPorts { from: inner.src.addr, destination });
    }

    /// Asks how an attempt is translated that was not seen leaving.
    pub(super) fn ask_nat(&mut self, at: usize) {
        if let Some(inner) = self.open.get(at).map(Open::inner) {
            self.ask(Question::Nat(inner));
        }
    }

    /// Asks for the listener of an attempt from outside that is not answered as it should be.
    pub(super) fn ask_listener(&mut self, at: usize, listener: Endpoint) {
        let Some(open) = self.open.get_mut(at) else { return };
        let asked = &mut open.extra_mut().asked[1];
        if *asked < MOST_QUESTIONS {
            *asked += 1;
            self.ask(Question::Listener(listener));
        }
    }

    /// Another attempt on the wire tuple with which this one was dropped, at the same moment: one that has left, or
    /// is about to be seen leaving. A SYN sent again that is dropped too lost no race: the winner of the first is
    /// known to translation by then.
    fn find_competitor(&mut self, at: usize, tuple: Tuple, time: Mono) {
        let Some(open) = self.open.get_mut(at) else { return };
        open.extra_mut().competitor = None;
        let serial = open.serial;
        match self.by_tuple.get(&tuple).copied().filter(|&other| other != at) {
            Some(winner) => self.won(winner, (at, serial), time),
            None => {
                if self.losers.len() >= MAX_LOSERS {
                    self.losers.pop_front();
                }
                self.losers.push_back((time, tuple, at, serial));
            }
        }
    }

    /// A SYN left on a tuple on which another was dropped a moment ago.
    pub(super) fn find_losers(&mut self, winner: usize, tuple: Tuple, time: Mono) {
        while self.losers.front().is_some_and(|&(dropped, ..)| time.since(dropped) > RACE) {
            self.losers.pop_front();
        }
        let lost = self.losers.iter().position(|&(_, dropped, at, _)| dropped == tuple && at != winner);
        if let Some((dropped, _, at, serial)) = lost.and_then(|index| self.losers.remove(index)) {
            self.won(winner, (at, serial), dropped);
        }
    }

    /// Notes who was faster than an attempt whose SYN was dropped at `time`.
    fn won(&mut self, winner: usize, (at, serial): (usize, u64), time: Mono) {
        let Some(winner) = self.open.get(winner) else { return };
        let syn = winner.first_syn();
        if syn.since(time).max(time.since(syn)) > RACE {
            return;
        }
        let competitor = Competitor {
            serial: winner.serial,
            trace: winner.seed(self.options.boot_id).trace_id(&self.options.id_key),
            process: winner.client.as_ref().and_then(|client| client.process.clone()),
            netns: winner.client.as_ref().map_or(0, |client| client.netns),
            tuple: winner.inner(),
            wire: winner.outer(),
        };
        if let Some(open) = self.open.get_mut(at).filter(|open| open.serial == serial) {
            open.extra_mut().competitor = Some(competitor);
        }
    }

    /// An ICMP error that quotes a SYN of ours.
    pub(super) fn on_icmp(&mut self, time: Mono, icmp: &IcmpError) {
        let Some(at) = self.find(icmp.seq, icmp.tuple) else { return };
        let kind = self.interfaces.get(&icmp.ifindex).map_or(PointKind::NodeNic, |i| i.kind);
        let Some(open) = self.open.get_mut(at) else { return };
        if open.came_up() || time < open.first_syn() {
            return;
        }
        let fact = IcmpFact { from: icmp.from, kind: icmp.kind, code: icmp.code };
        let point = open.point_at(icmp.ifindex);
        open.tell(time, point, StoryStep::Icmp { kind: icmp.kind, code: icmp.code });
        let came_in = icmp.direction == Direction::Ingress;
        let foreign = came_in && (kind != PointKind::PodNic || open.client_nic() != Some(icmp.ifindex));
        let before = open.extra_mut().icmp.is_some_and(|before| before.from_outside);
        open.extra_mut().icmp = Some(Icmp { fact, from_outside: before || foreign });
    }

    /// What connection tracking says of an attempt.
    pub(super) fn on_nat(&mut self, time: Mono, answer: &NatAnswer) {
        let Some(entry) = answer.entry else { return };
        let Some(at) = self.by_tuple.get(&answer.asked).copied() else { return };
        let Some(open) = self.open.get_mut(at) else { return };
        open.extra_mut().nat = Some(entry);
        let translated = entry.translated();
        // It stands in only where no interface on the way out was seen to be passed.
        if !open.left() && !open.came_up() {
            open.on_wire(translated, time.min(open.touched));
            self.file(at, translated);
        }
    }

    /// A listener's queue and counters.
    pub(super) fn on_listener(&mut self, listener: ListenerState) {
        // Attempts that wait for it are few: each asked.
        let waiting: Vec<usize> = self
            .open
            .iter()
            .filter(|(_, open)| open.extra.as_ref().is_some_and(|extra| extra.asked[1] > 0))
            .filter(|(_, open)| open.tuples().any(|tuple| tuple.dst == listener.endpoint))
            .map(|(at, _)| at)
            .collect();
        for at in waiting {
            if let Some(open) = self.open.get_mut(at) {
                let known = &mut open.extra_mut().listener;
                *known = Some(match known.take() {
                    Some((first, before)) => (
                        first,
                        if listener.queue > before.queue {
                            listener
                        } else {
                            ListenerState { queue: before.queue.max(listener.queue), ..listener }
                        },
                    ),
                    None => (listener, listener),
                });
            }
        }
    }

    /// A connection from before the start, or the numbers of one that was asked for.
    pub(super) fn on_flow(&mut self, time: Mono, flow: &KnownFlow) {
        let tuple = flow.wire.unwrap_or(flow.tuple);
        let of_tuple = self.ledger.tenants(tuple).map(|(key, _)| key).next();
        let known = self.ledger.of_cookie(flow.cookie).filter(|_| flow.cookie != 0).or(of_tuple);
        let same =
            |key: &TenancyKey| self.ledger.get(*key).is_some_and(|t| t.closed.is_none() && t.inner == flow.tuple);
        if let Some(key) = known.filter(same) {
            self.ledger.update(key, |tenancy| {
                if let Some(acked) = flow.client_acked {
                    tenancy.client_acked = acked;
                    tenancy.asked = true;
                }
                if let Some(next) = flow.client_next.filter(|_| !tenancy.end_known) {
                    tenancy.client_end = next;
                }
                if let Some(next) = flow.server_next {
                    tenancy.server_end = next;
                }
            });
            return;
        }
        if flow.cookie != 0 && self.ledger.of_cookie(flow.cookie).is_some() || self.by_tuple.contains_key(&flow.tuple) {
            return; // seen to open, meanwhile
        }
        self.counts.seeded += 1;
        let trace = Seed::Wire { isn: 0, tuple: flow.tuple }.trace_id(&self.options.id_key);
        let (client, server) = if flow.server_socket { (0, flow.cookie) } else { (flow.cookie, 0) };
        let netns = if flow.server_socket { 0 } else { flow.netns };
        let acked = flow.client_acked.unwrap_or_default();
        let tenancy = Tenancy {
            serial: 0,
            slot: u32::MAX,
            trace,
            inner: flow.tuple,
            wire: flow.wire,
            process: None,
            netns,
            cookie: client,
            server_cookie: server,
            opened: self.started.min(time),
            closed: None,
            closed_by: ClosedBy::Unknown,
            client_end: flow.client_next.unwrap_or(acked),
            client_acked: acked,
            server_end: flow.server_next.unwrap_or_default(),
            window: 0,
            scales: [0; 2],
            end_known: false,
            asked: flow.client_acked.is_some(),
            client_fin: false,
            server_fin: false,
            quiet: false,
        };
        self.flow_opened(&tenancy);
        let key = self.ledger.open(tenancy);
        if server != 0 {
            self.ledger.set_server_cookie(key, server);
        }
        if flow.over {
            self.ledger.update(key, |tenancy| tenancy.closed = Some(time));
            self.ledger.forget_cookie(key, flow.cookie);
        } else {
            self.flow_seeded(flow);
        }
    }
}
