//! How attempts end: when each is looked at, what becomes of it then, and the bounds of the table.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::Duration;

use slab::Slab;

use super::attempt::{Finding, Role};
use super::flow::Flow;
use super::open::Open;
use super::report;
use super::tracker::Tracker;
use crate::capture::observation::Mono;

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

impl Tracker {
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

    /// Looks at the attempts that are due.
    pub(super) fn advance_looks(&mut self) {
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
    pub(super) fn make_room(&mut self, foreign: bool) {
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
