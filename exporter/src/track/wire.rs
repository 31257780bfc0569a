//! What the interfaces say: SYNs joined to attempts, their answers, and the ends of connections.

use super::attempt::{Role, StoryStep};
use super::open::{Open, SynAck};
use super::seq;
use super::tracker::Tracker;
use super::witness::Entry;
use crate::capture::observation::{Direction, Mono, PointKind, Segment};
use crate::capture::question::Question;
use crate::capture::tuple::Tuple;

impl Tracker {
    /// Takes in a segment at a point.
    pub(super) fn on_segment(&mut self, time: Mono, segment: &Segment) {
        let turned = self.turned(segment);
        let segment = turned.as_ref().unwrap_or(segment);
        let flags = segment.flags;
        if flags.syn() && !flags.ack() {
            if !flags.rst() {
                self.on_syn(time, segment);
            }
            return;
        }
        if flags.fin() || flags.rst() {
            self.on_end(time, segment);
        }
        if flags.fin() && !flags.syn() && !flags.rst() {
            // A FIN is an end, and an answer only by its acknowledgement, which the rest carries too.
            self.on_client_ack(segment);
            return;
        }
        if flags.syn() {
            self.on_syn_ack(time, segment);
        } else if flags.rst() {
            self.on_reset(time, segment);
        } else if flags.ack() {
            self.on_ack(time, segment);
        }
    }

    /// The segment with its direction put right, where the capture told none and it was guessed wrong.
    fn turned(&self, segment: &Segment) -> Option<Segment> {
        if !self.options.wire_only {
            return None;
        }
        let back = segment.tuple.reversed();
        let at = self.by_tuple.get(&segment.tuple).or_else(|| self.by_tuple.get(&back))?;
        let open = self.open.get(*at).filter(|open| open.turned == Some(segment.ifindex))?;
        let way = |tuple| {
            let seen = open.sightings.iter().find(|s| s.ifindex == segment.ifindex && s.tuple == tuple);
            seen.map(|sighting| sighting.direction)
        };
        let direction = way(segment.tuple).or_else(|| way(back).map(Direction::opposite))?;
        Some(Segment { direction, ..*segment })
    }

    /// The attempt whose first SYN this is, on its way out of the interface by which it came, where the capture
    /// tells no directions.
    fn turns_back(&mut self, segment: &Segment) -> Option<usize> {
        if !self.options.wire_only {
            return None;
        }
        let candidates = self.by_isn.get(&segment.seq)?;
        candidates.iter().copied().find(|&at| self.open.get_mut(at).is_some_and(|open| open.turns_back(segment)))
    }

    fn on_syn(&mut self, time: Mono, segment: &Segment) {
        let back = self.turns_back(segment);
        let left = Segment { direction: Direction::Egress, ..*segment };
        let segment = if back.is_some() { &left } else { segment };
        let at = match back.or_else(|| self.join(segment)) {
            Some(at) => at,
            None => {
                let interface = self.interfaces.get(&segment.ifindex);
                let pod = interface.is_some_and(|i| i.kind == PointKind::PodNic);
                let foreign = !(pod && segment.direction == Direction::Ingress) && segment.cookie.is_none();
                self.insert(segment.seq, time, foreign)
            }
        };
        let interface = self.interfaces.get(&segment.ifindex).cloned();
        let host = self.options.host_netns;
        let Some(open) = self.open.get_mut(at) else { return };
        open.syn(time, segment, interface.as_ref());
        let left = segment.direction == Direction::Egress;
        let entry = open.entry(host).filter(|_| left);
        let towards = open.inner().dst.addr;
        self.file(at, segment.tuple);
        if left && !self.losers.is_empty() {
            self.find_losers(at, segment.tuple, time);
        }
        if let Some(entry) = entry {
            self.witnesses.saw(entry, towards, time);
        }
        if interface.is_none_or(|i| i.kind != PointKind::PodNic) {
            self.refile_tenancy(at, segment.tuple);
        }
        self.ask_about_syn(at, segment);
        self.timer(at);
        self.note_stall(at, time);
    }

    /// A SYN sent again raises questions: where the first one went, and why nobody answered it.
    fn ask_about_syn(&mut self, at: usize, segment: &Segment) {
        let Some(open) = self.open.get(at) else { return };
        let again = open.point_at(segment.ifindex).is_some_and(|point| open.sightings[point].syns > 1);
        if !again || open.answered() {
            return;
        }
        if open.server_nic().is_some_and(|(ifindex, _)| ifindex == segment.ifindex) {
            self.ask_listener(at, segment.tuple.dst);
        } else if !open.left() {
            let destination = open.inner().dst;
            self.ask_nat(at);
            self.ask_way_out(at, destination);
        }
    }

    /// The open attempt that a SYN belongs to: by its socket, by its tuple, else by ISN and the parts of
    /// the tuple that stay under NAT; the timestamp breaks ties.
    fn join(&mut self, segment: &Segment) -> Option<usize> {
        let isn = segment.seq;
        let same = |at: &usize| self.open.get(*at).is_some_and(|open| open.isn == isn);
        if let Some(at) = segment.cookie.and_then(|cookie| self.by_cookie.get(&cookie).copied()).filter(same) {
            return Some(at);
        }
        if let Some(at) = self.by_tuple.get(&segment.tuple).copied().filter(same) {
            return Some(at);
        }
        let candidates = self.by_isn.get(&isn)?;
        let mut best = None;
        let mut collision = false;
        for &at in candidates {
            let Some(open) = self.open.get(at) else { continue };
            let stamped = segment.timestamps.is_some_and(|t| open.tsvals.contains(&t.val));
            let stays = |known: Tuple| {
                usize::from(known.src == segment.tuple.src) + usize::from(known.dst == segment.tuple.dst)
            };
            let parts = open.tuples().map(stays).max().unwrap_or(0);
            // Both ends rewritten at once (DNAT with SNAT): only on the way out, and only the same packet.
            let hairpin = parts == 0 && stamped && segment.direction == Direction::Egress;
            if parts == 0 && !hairpin {
                collision |= stamped;
                continue;
            }
            let score = (stamped, parts, open.serial);
            if best.is_none_or(|(known, _)| score > known) {
                best = Some((score, at));
            }
        }
        if best.is_none() && collision {
            self.counts.fingerprint_collisions += 1;
        }
        best.map(|(_, at)| at)
    }

    fn on_syn_ack(&mut self, time: Mono, segment: &Segment) {
        let to_client = segment.tuple.reversed();
        let echo = segment.timestamps.map(|timestamps| timestamps.ecr);
        let filed = self.by_tuple.get(&to_client).copied();
        let answers = |at: &usize| {
            self.open.get(*at).is_some_and(|open| seq::answers_syn(open.isn, open.syn_payload, segment.ack))
        };
        // The tuple may have had another attempt, and its next one is not known to be on it yet.
        let learned = if filed.as_ref().is_some_and(answers) { None } else { self.learn_from_answer(segment) };
        let Some(at) = learned.or(filed) else { return };
        let kind = self.interfaces.get(&segment.ifindex).map_or(PointKind::NodeNic, |i| i.kind);
        let outward = kind != PointKind::PodNic;
        let Some(open) = self.open.get_mut(at) else { return };
        if !seq::answers_syn(open.isn, open.syn_payload, segment.ack) {
            if open.syn_ack.is_none() && open.established.is_none() && time >= open.first_syn() {
                stale(open, time, segment);
                self.ask_numbers(at, to_client);
            }
            return;
        }
        if learned.is_some() {
            // NAT that conntrack does not know, or a way out that is not watched: the answer tells the tuple.
            if outward {
                open.on_wire(to_client, time);
            }
        }
        let point = open.point_at(segment.ifindex);
        match open.syn_ack.as_mut() {
            Some(known) => known.time = known.time.min(time),
            None => {
                open.syn_ack = Some(SynAck { time, isn: segment.seq, echo });
                let syn = open.syn_times.last().copied().unwrap_or(open.started);
                self.destinations.answers(open.destination(), syn);
            }
        }
        open.answer_ttl.push((segment.ifindex, false, segment.ttl));
        open.scales[1] = segment.wscale.unwrap_or(0).min(14);
        open.window = open.window.max(u32::from(segment.window));
        open.syn_ack_seen.at(kind, segment.direction);
        let (ifindex, direction, first) = *open.syn_ack_at.get_or_insert((segment.ifindex, segment.direction, time));
        let here = (ifindex, direction) == (segment.ifindex, segment.direction);
        let again = here && time > first;
        open.syn_acks_again += u32::from(again);
        open.tell(time, point, if again { StoryStep::SynAckAgain } else { StoryStep::SynAck });
        let wire_only = open.wire_only;
        self.witness_answer(at, segment, kind, time);
        if wire_only {
            // No socket will say that it came up.
            self.open_tenancy(at, time);
        }
        if again
            && self.open.get(at).is_some_and(|open| {
                open.server.is_none() && (open.role() == Role::Server || open.server_nic().is_some())
            })
        {
            self.ask_listener(at, segment.tuple.src);
        }
        if learned.is_some() {
            self.file(at, to_client);
            if outward {
                self.refile_tenancy(at, to_client);
            }
        }
        self.timer(at);
    }

    /// An answer seen on its way speaks for the way of others.
    fn witness_answer(&mut self, at: usize, segment: &Segment, kind: PointKind, time: Mono) {
        let family = segment.tuple.src.addr.unspecified();
        match (kind, segment.direction) {
            (PointKind::PodNic, Direction::Ingress) => {
                self.witnesses.saw(Entry::Answers(segment.ifindex), family, time);
            }
            (PointKind::PodNic, Direction::Egress)
                if self.open.get(at).is_some_and(|open| open.syn_ack_seen.in_outer) =>
            {
                self.witnesses.saw(Entry::Replies(segment.ifindex), family, time);
            }
            _ => {}
        }
    }

    /// NAT done where nothing told of it is learned from the answer: a SYN-ACK that carries ISN + 1 and
    /// the SYN's timestamp.
    fn learn_from_answer(&self, segment: &Segment) -> Option<usize> {
        let echo = segment.timestamps?.ecr;
        let candidates = self.by_isn.get(&segment.ack.wrapping_sub(1))?;
        candidates
            .iter()
            .copied()
            .filter(|&at| self.open.get(at).is_some_and(|open| open.tsvals.contains(&echo)))
            .max_by_key(|&at| self.open.get(at).map(|open| open.serial))
    }

    /// The client's acknowledgement of the SYN-ACK: live it is reported only where that had to be sent again.
    fn on_client_ack(&mut self, segment: &Segment) -> bool {
        let Some(&at) = self.by_tuple.get(&segment.tuple) else { return false };
        let Some(open) = self.open.get_mut(at) else { return false };
        if open.syn_ack.is_none_or(|syn_ack| segment.ack == syn_ack.isn) {
            return false;
        }
        open.client_acked = true;
        if open.wire_only {
            self.timer(at);
        }
        true
    }

    fn on_ack(&mut self, time: Mono, segment: &Segment) {
        if self.on_client_ack(segment) {
            return;
        }
        let to_client = segment.tuple.reversed();
        let Some(&at) = self.by_tuple.get(&to_client) else { return };
        let Some(open) = self.open.get_mut(at) else { return };
        if open.syn_ack.is_some() || open.established.is_some() || time < open.first_syn() {
            return;
        }
        if open.is_own(segment) {
            open.own_ack = true;
        } else {
            stale(open, time, segment);
            self.ask_numbers(at, to_client);
        }
    }

    /// Asks for the numbers of an owner that is open still: no segment tells them.
    fn ask_numbers(&mut self, at: usize, wire: Tuple) {
        let serial = self.open.get(at).map_or(0, |open| open.serial);
        let owner = self.ledger.tenants(wire).map(|(_, tenancy)| tenancy).find(|tenancy| tenancy.serial != serial);
        if let Some(question) = owner
            .filter(|tenancy| tenancy.closed.is_none() && !tenancy.end_known)
            .map(|tenancy| Question::Numbers { tuple: tenancy.inner, netns: tenancy.netns })
        {
            self.ask(question);
        }
    }

    fn on_reset(&mut self, time: Mono, segment: &Segment) {
        if let Some(&at) = self.by_tuple.get(&segment.tuple.reversed())
            && let Some(open) = self.open.get_mut(at)
        {
            if time < open.first_syn() {
                return;
            }
            let kind = self.interfaces.get(&segment.ifindex).map_or(PointKind::NodeNic, |i| i.kind);
            open.reset_seen.at(kind, segment.direction);
            if let Some(syn_ack) = open.syn_ack {
                // Just behind the SYN-ACK, before anything was said: the handshake itself is taken back. After the
                // server's FIN the connection has come and gone, and a late segment found nobody there.
                let tenancy = open.tenancy.and_then(|key| self.ledger.get(key));
                let ended = tenancy.is_some_and(|tenancy| tenancy.server_fin);
                if segment.seq == syn_ack.isn.wrapping_add(1) && open.server.is_none() && !ended {
                    open.handshake_reset.get_or_insert(false);
                    let point = open.point_at(segment.ifindex);
                    open.tell(time, point, StoryStep::Reset { by_client: false, seq: segment.seq });
                }
                return;
            }
            if open.established.is_some() {
                return;
            }
            let point = open.point_at(segment.ifindex);
            open.tell(time, point, StoryStep::Reset { by_client: false, seq: segment.seq });
            if segment.flags.ack() && seq::answers_syn(open.isn, open.syn_payload, segment.ack) {
                if open.syn_ack.is_none() && open.refused.is_none() {
                    open.refused = Some(time);
                    self.timer(at);
                }
            } else {
                open.stray_reset = true;
            }
            return;
        }
        // The client's own RST: it carries the number of the acknowledgement that it refuses, and so is
        // proof of a stale ACK by itself (RFC 9293, 3.10.7.3).
        // One that acknowledges comes from a socket that had taken the SYN-ACK (RFC 9293, 3.10.7.1), which live
        // says itself.
        if self.options.wire_only && segment.flags.ack() && self.on_client_ack(segment) {
            return;
        }
        let Some(open) = self.by_tuple.get(&segment.tuple).and_then(|&at| self.open.get_mut(at)) else { return };
        if open.came_up() || time < open.first_syn() {
            return;
        }
        if open.syn_ack.is_some() {
            if seq::just_beyond(open.isn, segment.seq) {
                open.handshake_reset.get_or_insert(true);
                let point = open.point_at(segment.ifindex);
                open.tell(time, point, StoryStep::Reset { by_client: true, seq: segment.seq });
            }
            return;
        }
        let point = open.point_at(segment.ifindex);
        open.tell(time, point, StoryStep::Reset { by_client: true, seq: segment.seq });
        let own = segment.seq == open.isn || seq::just_beyond(open.isn, segment.seq);
        if !own && !segment.flags.ack() {
            open.stale = Some(segment.seq);
        }
    }

    /// A FIN or RST tells where a connection ended.
    fn on_end(&mut self, time: Mono, segment: &Segment) {
        let (fin, rst) = (segment.flags.fin(), segment.flags.rst());
        for (tuple, by_client) in [(segment.tuple, true), (segment.tuple.reversed(), false)] {
            let filed = self.ledger.tenants(tuple).next();
            // At a point before translation that only the answers told of, it has its client's own tuple.
            let young = || {
                let key = self.by_tuple.get(&tuple).and_then(|&at| self.open.get(at))?.tenancy?;
                Some((key, self.ledger.get(key)?))
            };
            let Some((key, tenancy)) = filed.or_else(young) else { continue };
            // While a new SYN is open on the tuple, a RST is about that SYN: it says nothing of where the
            // connection before it ended.
            let contested = self
                .by_tuple
                .get(&tuple)
                .and_then(|&at| self.open.get(at))
                .is_some_and(|open| open.serial != tenancy.serial && open.tenancy.is_none());
            if contested && rst {
                continue;
            }
            let scale = tenancy.scales[usize::from(!by_client)];
            let window = u32::from(segment.window) << scale.min(14);
            let ack = segment.flags.ack().then_some(segment.ack);
            let wire_only = self.options.wire_only;
            self.ledger.update(key, |tenancy| {
                tenancy.window = tenancy.window.max(window).min(seq::MAX_WINDOW);
                if by_client {
                    tenancy.client_segment(time, segment.seq, segment.payload, fin, rst);
                    // With no sockets in sight, the client's goodbye is when it let go of its port.
                    if wire_only && tenancy.client_fin && tenancy.closed.is_none() {
                        tenancy.closed = Some(time);
                    }
                } else {
                    tenancy.server_segment(time, segment.seq, ack, segment.payload, fin, rst);
                }
            });
            return;
        }
    }
}

/// Notes an answer that belongs to another connection of the tuple.
fn stale(open: &mut Open, time: Mono, segment: &Segment) {
    let point = open.point_at(segment.ifindex);
    open.answer_ttl.push((segment.ifindex, true, segment.ttl));
    open.stale = Some(segment.ack);
    open.tell(time, point, StoryStep::StaleAck { seq: segment.seq, ack: segment.ack });
}
