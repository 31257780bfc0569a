//! What the interfaces say: SYNs joined to attempts, their answers, and the ends of connections.

use super::attempt::StoryStep;
use super::open::{Open, SynAck};
use super::seq;
use super::tracker::Tracker;
use crate::capture::observation::{Direction, Mono, PointKind, Segment};

impl Tracker {
    /// Takes in a segment at a point.
    pub(super) fn on_segment(&mut self, time: Mono, segment: &Segment) {
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
            return; // a FIN is an end, and an answer only by its acknowledgement, which the rest carries too
        }
        if flags.syn() {
            self.on_syn_ack(time, segment);
        } else if flags.rst() {
            self.on_reset(time, segment);
        } else if flags.ack() {
            self.on_ack(time, segment);
        }
    }

    fn on_syn(&mut self, time: Mono, segment: &Segment) {
        let at = match self.join(segment) {
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
        if let Some(entry) = entry {
            self.witnesses.saw(entry, towards, time);
        }
        if interface.is_none_or(|i| i.kind != PointKind::PodNic) {
            self.refile_tenancy(at, segment.tuple);
        }
        self.timer(at);
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
            let stays = |known: crate::capture::tuple::Tuple| {
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
        let at = match filed.or_else(|| self.learn_from_answer(segment)) {
            Some(at) => at,
            None => return,
        };
        let outward = self.interfaces.get(&segment.ifindex).is_some_and(|i| i.kind != PointKind::PodNic);
        let Some(open) = self.open.get_mut(at) else { return };
        if !seq::answers_syn(open.isn, open.syn_payload, segment.ack) {
            if open.syn_ack.is_none() && open.established.is_none() && time >= open.first_syn() {
                stale(open, time, segment);
            }
            return;
        }
        if filed.is_none() {
            // NAT that conntrack does not know, or a way out that is not watched: the answer tells the tuple.
            if outward {
                open.on_wire(to_client, time);
            }
        }
        let point = open.point_at(segment.ifindex);
        match open.syn_ack.as_mut() {
            Some(known) => known.time = known.time.min(time),
            None => open.syn_ack = Some(SynAck { time, isn: segment.seq, echo }),
        }
        open.scales[1] = segment.wscale.unwrap_or(0).min(14);
        open.window = open.window.max(u32::from(segment.window));
        open.tell(time, point, StoryStep::SynAck);
        if filed.is_none() {
            self.file(at, to_client);
            if outward {
                self.refile_tenancy(at, to_client);
            }
        }
        self.timer(at);
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

    fn on_ack(&mut self, time: Mono, segment: &Segment) {
        let Some(open) = self.by_tuple.get(&segment.tuple.reversed()).and_then(|&at| self.open.get_mut(at)) else {
            return;
        };
        if open.syn_ack.is_some() || open.established.is_some() || time < open.first_syn() {
            return;
        }
        if open.is_own(segment) {
            open.own_ack = true;
        } else {
            stale(open, time, segment);
        }
    }

    fn on_reset(&mut self, time: Mono, segment: &Segment) {
        if let Some(&at) = self.by_tuple.get(&segment.tuple.reversed())
            && let Some(open) = self.open.get_mut(at)
        {
            if open.established.is_some() || time < open.first_syn() {
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
        let Some(open) = self.by_tuple.get(&segment.tuple).and_then(|&at| self.open.get_mut(at)) else { return };
        if open.established.is_some() || open.syn_ack.is_some() || time < open.first_syn() {
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
            let Some((key, tenancy)) = self.ledger.tenants(tuple).next() else { continue };
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
            self.ledger.update(key, |tenancy| {
                tenancy.window = tenancy.window.max(window).min(seq::MAX_WINDOW);
                if by_client {
                    tenancy.client_segment(time, segment.seq, segment.payload, fin, rst);
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
    open.stale = Some(segment.ack);
    open.tell(time, point, StoryStep::StaleAck { seq: segment.seq, ack: segment.ack });
}
