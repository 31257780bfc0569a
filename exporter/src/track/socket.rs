//! What the sockets of this node say: connect, established, timer, state.

use super::attempt::{ClientSocket, ServerSocket, StoryStep};
use super::flow::FlowSide;
use super::tenancy::Tenancy;
use super::tracker::Tracker;
use super::verdict::ClosedBy;
use crate::capture::observation::{Mono, SocketStep, Step, TcpState};
use crate::capture::tuple::Tuple;

impl Tracker {
    /// Takes in a step of a socket.
    pub(super) fn on_socket(&mut self, time: Mono, step: &SocketStep) {
        match step.step {
            Step::Connect => self.on_connect(time, step),
            Step::ActiveEstablished => self.on_active(time, step),
            Step::PassiveEstablished => self.on_passive(time, step),
            Step::Rto { gave_up } => {
                if let Some(&at) = self.by_cookie.get(&step.cookie)
                    && let Some(open) = self.open.get_mut(at)
                {
                    open.timeouts += 1;
                    open.touched = open.touched.max(time);
                    if gave_up {
                        open.gave_up = Some(time);
                        open.tell(time, None, StoryStep::GaveUp);
                    }
                    self.note_stall(at, time);
                }
            }
            Step::State { from, to } => self.on_state(time, step, from, to),
        }
    }

    fn on_connect(&mut self, time: Mono, step: &SocketStep) {
        let call = self.forget_call(step.cookie).map(|(called, call)| (called.min(time), call));
        if step.tuple.dst.addr.is_loopback() && !self.options.report_loopback {
            self.counts.quiet_loopback += 1;
            return;
        }
        let isn = step.numbers.snd_nxt;
        if let Some(&at) = self.by_cookie.get(&step.cookie) {
            if self.open.get(at).is_some_and(|open| isn.wrapping_sub(open.isn) <= 1) {
                return; // the same observation twice, or the question asked again after the SYN was sent
            }
            // The socket connects again: what it tried before is over.
            self.finish(at, true);
        }
        let seen = self
            .by_tuple
            .get(&step.tuple)
            .copied()
            .filter(|&at| self.open.get(at).is_some_and(|open| open.isn == isn && open.client.is_none()));
        let at = seen.unwrap_or_else(|| self.insert(isn, time, false));
        let own = call.as_ref().is_some_and(|(_, call)| self.is_own(call.process.pid));
        if let Some(open) = self.open.get_mut(at) {
            let called = call.as_ref().map_or(time, |&(called, _)| called);
            open.started = if seen.is_some() { open.started.min(called) } else { called };
            open.quiet = own;
            if open.syn_times.is_empty() {
                open.syn_times.push(time);
            }
            let (process, asked) = call.map(|(_, call)| (call.process, call.asked)).unzip();
            open.client =
                Some(ClientSocket { cookie: step.cookie, netns: step.netns, process, asked, tuple: step.tuple });
        }
        if self.open.get(at).is_some_and(|open| open.quiet) {
            self.counts.quiet_own += 1;
        }
        self.by_cookie.insert(step.cookie, at);
        self.namespaces.insert(step.netns);
        self.by_source.insert((step.netns, step.tuple.src), at);
        self.file(at, step.tuple);
        self.timer(at);
    }

    fn on_active(&mut self, time: Mono, step: &SocketStep) {
        let at = match self.by_cookie.get(&step.cookie) {
            Some(&at) => at,
            // Its connect() was not seen, its SYN perhaps was.
            None => match self.by_tuple.get(&step.tuple) {
                Some(&at) if self.open.get(at).is_some_and(|open| open.client.is_none()) => {
                    if let Some(open) = self.open.get_mut(at) {
                        open.client = Some(ClientSocket {
                            cookie: step.cookie,
                            netns: step.netns,
                            process: None,
                            asked: None,
                            tuple: step.tuple,
                        });
                    }
                    self.by_cookie.insert(step.cookie, at);
                    at
                }
                _ => return,
            },
        };
        let Some(open) = self.open.get_mut(at) else { return };
        if open.established.is_some() {
            return;
        }
        open.established = Some(time);
        open.retransmitted = step.numbers.total_retrans;
        open.tell(time, None, StoryStep::Established);
        self.open_tenancy(at, time);
        self.timer(at);
    }

    fn on_passive(&mut self, time: Mono, step: &SocketStep) {
        let tuple = step.tuple.reversed();
        self.namespaces.insert(step.netns);
        if tuple.src.addr.is_loopback() && !self.options.report_loopback {
            return;
        }
        // A socket whose own SYN crossed its peer's (simultaneous open, RFC 9293, 3.5) comes up as the kernel's
        // passive ends do, and is the client it was.
        if self.by_cookie.contains_key(&step.cookie) {
            return self.on_active(time, step);
        }
        self.accepting.insert(tuple.dst);
        // A sidecar in the client's own namespace took what was meant for elsewhere (REDIRECT).
        if let Some(&at) = self.by_source.get(&(step.netns, tuple.src))
            && let Some(open) = self.open.get_mut(at)
            && open.client.as_ref().is_some_and(|client| client.tuple.dst != tuple.dst)
            && open.sightings.is_empty()
        {
            open.proxied = true;
            return;
        }
        // Data may have come with the handshake's last segment, so the number is not compared: the
        // tuple's latest attempt is the one that was accepted.
        let Some(&at) = self.by_tuple.get(&tuple) else { return };
        let Some(open) = self.open.get_mut(at) else { return };
        if open.server.is_none() {
            open.server = Some(ServerSocket { cookie: step.cookie, netns: step.netns, tuple, established: time });
            if open.client.is_none() {
                open.tell(time, None, StoryStep::Established);
            }
        }
        self.open_tenancy(at, time);
        // Once for each: what is told twice must not bring a socket back that has closed since.
        if let Some(key) = self.open.get(at).and_then(|open| open.tenancy)
            && self.ledger.get(key).is_some_and(|tenancy| tenancy.server_cookie == 0)
        {
            self.flow_accepted(key, step.cookie, tuple);
            self.ledger.set_server_cookie(key, step.cookie);
        }
        self.timer(at);
    }

    fn on_state(&mut self, time: Mono, step: &SocketStep, from: TcpState, to: TcpState) {
        if let Some(key) = self.ledger.of_cookie(step.cookie) {
            let server = self.ledger.get(key).is_some_and(|t| t.side_of(step.cookie) == FlowSide::Server);
            let before = self.ledger.get(key).filter(|_| to == TcpState::Close).cloned();
            self.ledger.update(key, |tenancy| tenancy.socket_state(time, server, from, to, &step.numbers));
            if let Some(before) = before {
                self.flow_closed(time, step, from, &before);
                self.ledger.forget_cookie(key, step.cookie);
            }
        }
        if to != TcpState::Close {
            return;
        }
        self.forget_call(step.cookie);
        if let Some(&at) = self.by_cookie.get(&step.cookie)
            && let Some(open) = self.open.get_mut(at)
            && open.established.is_none()
            && open.closed.is_none()
        {
            open.closed = Some(time);
            open.retransmitted = open.retransmitted.max(step.numbers.total_retrans);
            open.tell(time, None, StoryStep::Closed);
            self.timer(at);
        }
    }

    /// Opens the tenancy of an attempt that came up, or of one whose SYN-ACK was seen.
    pub(super) fn open_tenancy(&mut self, at: usize, time: Mono) {
        let Some(open) = self.open.get(at).filter(|open| open.tenancy.is_none()) else { return };
        let process = open.client.as_ref().and_then(|client| client.process.clone());
        let process = process.map(|process| self.shared(&process));
        let Some(open) = self.open.get(at) else { return };
        let client_next = open.isn.wrapping_add(1);
        let tenancy = Tenancy {
            serial: open.serial,
            slot: u32::try_from(at).unwrap_or(u32::MAX),
            trace: open.seed(self.options.boot_id).trace_id(&self.options.id_key),
            inner: open.inner(),
            wire: open.outer(),
            process,
            netns: open.client.as_ref().map_or(0, |client| client.netns),
            cookie: open.client.as_ref().map_or(0, |client| client.cookie),
            // Filed by whoever saw it accept.
            server_cookie: 0,
            opened: time,
            closed: None,
            closed_by: ClosedBy::Unknown,
            client_end: client_next,
            client_acked: client_next,
            server_end: open.syn_ack.map_or(0, |syn_ack| syn_ack.isn.wrapping_add(1)),
            window: open.window,
            scales: open.scales,
            end_known: false,
            asked: false,
            client_fin: false,
            server_fin: false,
            quiet: open.quiet,
        };
        self.flow_opened(&tenancy);
        let key = self.ledger.open(tenancy);
        if let Some(open) = self.open.get_mut(at) {
            open.tenancy = Some(key);
        }
    }

    /// A wire tuple learned late belongs to the tenancy too.
    pub(super) fn refile_tenancy(&mut self, at: usize, wire: Tuple) {
        if let Some(key) = self.open.get(at).and_then(|open| open.tenancy) {
            self.ledger.update(key, |tenancy| tenancy.wire = Some(wire));
        }
    }
}
