//! An attempt while it is open: what is known of it so far.

use std::sync::Arc;

use smallvec::SmallVec;

use super::attempt::{ClientSocket, MAX_STEPS, Role, ServerSocket, Sighting, StoryStep, TimedStep};
use super::extra::Extra;
use super::seq;
use super::tenancy::TenancyKey;
use super::trace_id::Seed;
use super::witness::Entry;
use crate::capture::observation::{Direction, Interface, Mono, PointKind, Segment};
use crate::capture::tuple::{Endpoint, Tuple};

/// Most points kept for one attempt; a bridge and its veths make a handful.
pub const MAX_SIGHTINGS: usize = 8;
/// Most wire tuples and timestamps kept for one attempt.
pub(super) const MAX_TURNS: usize = 16;
/// The SYN-ACK that answered.
#[derive(Clone, Copy, Debug)]
pub struct SynAck {
    /// When it was first seen.
    pub time: Mono,
    /// The server's initial sequence number.
    pub isn: u32,
    /// The timestamp it echoes: which SYN it answers.
    pub echo: Option<u32>,
}

/// What is known of an attempt that is not finished.
#[derive(Clone, Debug)]
pub struct Open {
    /// Unique, rising.
    pub serial: u64,
    /// connect(), or the first SYN seen.
    pub started: Mono,
    /// When anything was last seen of it.
    pub touched: Mono,
    /// When it is looked at next, whether it is over by then.
    pub looked_at: Option<Mono>,
    /// Initial sequence number of its SYNs.
    pub isn: u32,
    /// The client's socket.
    pub client: Option<ClientSocket>,
    /// The accepted socket.
    pub server: Option<ServerSocket>,
    /// Not to be reported.
    pub quiet: bool,
    /// No socket will ever tell of it ([`super::Options::wire_only`]).
    pub wire_only: bool,
    /// Points in the order of first sight.
    pub sightings: Vec<Sighting>,
    /// When SYNs left, as seen at the first point, or by the socket.
    pub syn_times: SmallVec<[Mono; 4]>,
    /// Distinct timestamp values of its SYNs, in order.
    pub tsvals: SmallVec<[u32; 4]>,
    /// Payload of the SYN (Fast Open).
    pub syn_payload: u32,
    /// Tuples at the node's outward interface, in turn, with the time of their first SYN.
    pub wire: SmallVec<[(Tuple, Mono); 1]>,
    /// Window scales offered by client and server.
    pub scales: [u8; 2],
    /// The largest window seen.
    pub window: u32,
    /// The right answer.
    pub syn_ack: Option<SynAck>,
    /// The acknowledgement number of the last wrong one: where another connection of this tuple stands.
    pub stale: Option<u32>,
    /// An ACK of this very connection was seen before its SYN-ACK: segments were missed.
    pub own_ack: bool,
    /// A RST that refuses the SYN.
    pub refused: Option<Mono>,
    /// A RST that answers nothing of this attempt.
    pub stray_reset: bool,
    /// The client's socket came up.
    pub established: Option<Mono>,
    /// The kernel gave up.
    pub gave_up: Option<Mono>,
    /// Timer runs while connecting.
    pub timeouts: u32,
    /// SYN retransmissions by the socket's own count.
    pub retransmitted: u32,
    /// The client's socket closed before it came up.
    pub closed: Option<Mono>,
    /// The error its owner got.
    pub errno: Option<i32>,
    /// The story so far.
    pub story: Vec<TimedStep>,
    /// Steps beyond [`MAX_STEPS`].
    pub story_dropped: u32,
    /// Its tenancy, once it is established.
    pub tenancy: Option<TenancyKey>,
    /// Times to live of its answers, by interface: of the SYN-ACK, and (true) of the wrong one before it.
    pub answer_ttl: Ttls,
    /// Where its SYN-ACK was seen.
    pub syn_ack_seen: Seen,
    /// Where the first SYN-ACK was seen first: there another one is a retransmission.
    pub syn_ack_at: Option<(u32, Direction, Mono)>,
    /// How often the SYN-ACK was sent again.
    pub syn_acks_again: u32,
    /// Where a RST by the server's side was seen.
    pub reset_seen: Seen,
    /// The client's segment after the SYN-ACK was seen.
    pub client_acked: bool,
    /// The interface at which a capture tells no directions, and the sightings' are known better than by guess.
    pub turned: Option<u32>,
    /// How far its first SYN had come where it was seen first.
    pub syn_ttl: Option<u8>,
    /// It was not, in a capture that may lack it, and nobody asked for it again.
    pub assumed_acked: bool,
    /// A RST right after the SYN-ACK, and whether the client sent it.
    pub handshake_reset: Option<bool>,
    /// connect() ended before any SYN; the port that the socket had bound, 0 if none.
    pub never_sent: Option<u16>,
    /// Its second SYN was seen: if it hangs, that is told once.
    pub stalled: bool,
    /// Its own sidecar took it.
    pub proxied: bool,
    /// What went wrong, apart.
    pub extra: Option<Box<Extra>>,
}

/// Times to live of answers at the first interface that saw one.
#[derive(Clone, Copy, Default, Debug)]
pub struct Ttls {
    at: u32,
    right: Option<u8>,
    wrong: Option<u8>,
}

impl Ttls {
    /// Notes one; `(interface, whether it is a wrong answer, time to live)`.
    pub fn push(&mut self, (ifindex, wrong, ttl): (u32, bool, u8)) {
        if self.right.is_none() && self.wrong.is_none() {
            self.at = ifindex;
        }
        if self.at == ifindex {
            if wrong { &mut self.wrong } else { &mut self.right }.get_or_insert(ttl);
        }
    }

    /// Whether the wrong answer came from somebody else on the way: another number of hops away.
    pub fn differ(&self) -> bool {
        matches!((self.right, self.wrong), (Some(right), Some(wrong)) if right != wrong)
    }
}

/// Where an answer was seen.
#[derive(Clone, Copy, Default, Debug)]
pub struct Seen {
    /// Coming in by an interface that leads out of the node.
    pub in_outer: bool,
    /// Going out to a pod.
    pub out_pod: bool,
    /// Coming in from a pod.
    pub in_pod: bool,
    /// Going out of the node.
    pub out_outer: bool,
}

impl Seen {
    /// Notes a point.
    pub fn at(&mut self, kind: PointKind, direction: Direction) {
        match (kind == PointKind::PodNic, direction) {
            (false, Direction::Ingress) => self.in_outer = true,
            (true, Direction::Egress) => self.out_pod = true,
            (true, Direction::Ingress) => self.in_pod = true,
            (false, Direction::Egress) => self.out_outer = true,
        }
    }
}

impl Open {
    /// An attempt of which nothing is known but its ISN.
    pub fn new(serial: u64, isn: u32, time: Mono) -> Self {
        Self {
            serial,
            started: time,
            touched: time,
            looked_at: None,
            isn,
            client: None,
            server: None,
            quiet: false,
            wire_only: false,
            sightings: Vec::new(),
            syn_times: SmallVec::new(),
            tsvals: SmallVec::new(),
            syn_payload: 0,
            wire: SmallVec::new(),
            scales: [0; 2],
            window: 0,
            syn_ack: None,
            stale: None,
            own_ack: false,
            refused: None,
            stray_reset: false,
            established: None,
            gave_up: None,
            timeouts: 0,
            retransmitted: 0,
            closed: None,
            errno: None,
            story: Vec::new(),
            story_dropped: 0,
            tenancy: None,
            answer_ttl: Ttls::default(),
            syn_ack_seen: Seen::default(),
            syn_ack_at: None,
            syn_acks_again: 0,
            reset_seen: Seen::default(),
            client_acked: false,
            turned: None,
            syn_ttl: None,
            assumed_acked: false,
            handshake_reset: None,
            never_sent: None,
            stalled: false,
            proxied: false,
            extra: None,
        }
    }

    /// Takes in a SYN at a point.
    pub fn syn(&mut self, time: Mono, segment: &Segment, interface: Option<&Interface>) {
        self.touched = self.touched.max(time);
        if self.client.is_none() {
            self.started = self.started.min(time);
        }
        let known =
            self.sightings.iter().position(|s| s.ifindex == segment.ifindex && s.direction == segment.direction);
        let kind = interface.map_or(PointKind::NodeNic, |i| i.kind);
        let at = match known {
            Some(at) => {
                let sighting = &mut self.sightings[at];
                if sighting.last == time {
                    return; // the same observation twice
                }
                sighting.syns += 1;
                if time >= sighting.last {
                    sighting.last = time;
                    sighting.tuple = segment.tuple;
                }
                sighting.first = sighting.first.min(time);
                Some(at)
            }
            None if self.sightings.len() < MAX_SIGHTINGS => {
                self.turn(segment, kind);
                self.sightings.push(Sighting {
                    ifindex: segment.ifindex,
                    interface: interface.map_or_else(|| Arc::from(""), |i| i.name.clone()),
                    kind,
                    direction: segment.direction,
                    tuple: segment.tuple,
                    first: time,
                    last: time,
                    syns: 1,
                });
                Some(self.sightings.len() - 1)
            }
            None => None,
        };
        self.syn_ttl.get_or_insert(segment.ttl);
        if at == Some(0) && self.syn_times.len() < MAX_TURNS {
            self.syn_times.push(time);
        }
        if let Some(timestamps) = segment.timestamps
            && !self.tsvals.contains(&timestamps.val)
            && self.tsvals.len() < MAX_TURNS
        {
            self.tsvals.push(timestamps.val);
        }
        self.syn_payload = self.syn_payload.max(segment.payload);
        self.scales[0] = segment.wscale.unwrap_or(0).min(14);
        self.window = self.window.max(u32::from(segment.window));
        if kind != PointKind::PodNic {
            self.on_wire(segment.tuple, time);
        }
        let retry = at.map_or(0, |at| self.sightings[at].syns - 1);
        self.tell(time, at, StoryStep::Syn { retry, tuple: segment.tuple });
    }

    /// Notes the tuple at the node's outward interface.
    pub fn on_wire(&mut self, tuple: Tuple, time: Mono) {
        if let Some((_, first)) = self.wire.iter_mut().find(|(known, _)| *known == tuple) {
            *first = (*first).min(time);
        } else if self.wire.len() < MAX_TURNS {
            self.wire.push((tuple, time));
        }
    }

    /// What went wrong, made room for.
    pub fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// The interface of the client's pod, if its SYN came in by one.
    pub fn client_nic(&self) -> Option<u32> {
        self.sightings
            .first()
            .filter(|s| s.kind == PointKind::PodNic && s.direction == Direction::Ingress)
            .map(|s| s.ifindex)
    }

    /// The interface of the server's pod, if its SYN went in there, and how many of them.
    pub fn server_nic(&self) -> Option<(u32, u32)> {
        self.sightings
            .iter()
            .find(|s| s.kind == PointKind::PodNic && s.direction == Direction::Egress)
            .map(|s| (s.ifindex, s.syns))
    }

    /// Whether the connection came up for either end that is on this node.
    pub fn came_up(&self) -> bool {
        self.established.is_some() || self.server.is_some() || (self.wire_only && self.wire_complete())
    }

    /// Adds a step to the story.
    pub fn tell(&mut self, time: Mono, point: Option<usize>, step: StoryStep) {
        self.touched = self.touched.max(time);
        if self.story.len() < MAX_STEPS {
            self.story.push(TimedStep { time, point, step });
        } else {
            self.story_dropped += 1;
        }
    }

    /// The sighting at an interface, whatever its direction.
    pub fn point_at(&self, ifindex: u32) -> Option<usize> {
        self.sightings.iter().position(|sighting| sighting.ifindex == ifindex)
    }

    /// Every tuple this attempt is known by, client to server.
    pub fn tuples(&self) -> impl Iterator<Item = Tuple> + '_ {
        let socket = self.client.as_ref().map(|client| client.tuple);
        let accepted = self.server.as_ref().map(|server| server.tuple);
        let seen = self.sightings.iter().map(|sighting| sighting.tuple);
        seen.chain(self.wire.iter().map(|&(tuple, _)| tuple)).chain(socket).chain(accepted)
    }

    /// The tuple of the client itself: its socket's, else at the first point.
    pub fn inner(&self) -> Tuple {
        self.client
            .as_ref()
            .map(|client| client.tuple)
            .or_else(|| self.sightings.first().map(|sighting| sighting.tuple))
            .or_else(|| self.server.as_ref().map(|server| server.tuple))
            .unwrap_or_default()
    }

    /// The last wire tuple: at the node's outward interface, else at the last way out.
    pub fn outer(&self) -> Option<Tuple> {
        let exit = || self.sightings.iter().rev().find(|s| s.direction == Direction::Egress).map(|s| s.tuple);
        self.wire.last().map(|&(tuple, _)| tuple).or_else(exit)
    }

    /// Wire tuples with the time of their first SYN; the way out stands in where no outward interface
    /// was passed, and the socket's own tuple where nothing was.
    pub fn tenures(&self) -> SmallVec<[(Tuple, Mono); 2]> {
        if self.wire.is_empty() {
            std::iter::once((self.outer().unwrap_or_else(|| self.inner()), self.first_syn())).collect()
        } else {
            self.wire.iter().copied().collect()
        }
    }

    /// The destination as the outside sees it.
    pub fn destination(&self) -> Endpoint {
        self.outer().unwrap_or_else(|| self.inner()).dst
    }

    /// When its first SYN was seen, or its start.
    pub fn first_syn(&self) -> Mono {
        self.syn_times.first().copied().unwrap_or(self.started)
    }

    /// This node's part in it.
    pub fn role(&self) -> Role {
        let entered = self.sightings.first();
        // With no sockets in sight, what leaves and was seen nowhere before began here.
        let began_here = |s: &Sighting| s.kind == PointKind::NodeNic && s.direction == Direction::Egress;
        if self.client.is_some()
            || (self.wire_only && entered.is_some_and(began_here))
            || entered.is_some_and(|s| s.kind == PointKind::PodNic && s.direction == Direction::Ingress)
        {
            Role::Client
        } else if self.server.is_some()
            || self.sightings.iter().any(|s| s.kind == PointKind::PodNic && s.direction == Direction::Egress)
        {
            Role::Server
        } else {
            Role::Transit
        }
    }

    /// How many SYNs left the client.
    pub fn syns(&self) -> u32 {
        if self.never_sent.is_some() {
            return 0;
        }
        let seen = self.sightings.iter().map(|sighting| sighting.syns).max().unwrap_or(0);
        // A timer run that gave up sent nothing; one that did not sent one more SYN.
        let timers = self.timeouts.saturating_sub(u32::from(self.gave_up.is_some()));
        let sent = u32::from(self.client.is_some()) + self.retransmitted.max(timers);
        seen.max(sent)
    }

    /// Where its SYNs enter the node's network; none if that is not known. `host` is the cookie of the
    /// node's own network namespace.
    pub fn entry(&self, host: u64) -> Option<Entry> {
        match self.sightings.first() {
            Some(first) if first.direction == Direction::Ingress => Some(Entry::Interface(first.ifindex)),
            _ => self.client.as_ref().filter(|client| client.netns != 0 && client.netns == host).map(|_| Entry::Host),
        }
    }

    /// Whether one of its SYNs was seen leaving.
    pub fn left(&self) -> bool {
        self.sightings.iter().any(|sighting| sighting.direction == Direction::Egress)
    }

    /// Whether its last SYN was seen leaving after it was seen entering.
    pub fn is_out(&self) -> bool {
        let last = |direction| self.sightings.iter().filter(|s| s.direction == direction).map(|s| s.last).max();
        last(Direction::Egress).is_some_and(|out| last(Direction::Ingress).is_none_or(|entered| out >= entered))
    }

    /// Whether every SYN that came to the node's way out went on, as far as both ends of that way are in sight.
    pub fn all_left(&self) -> bool {
        let most = |direction| self.sightings.iter().filter(|s| s.direction == direction).map(|s| s.syns).max();
        match (most(Direction::Ingress), most(Direction::Egress)) {
            (Some(entered), Some(left)) => left >= entered,
            _ => true,
        }
    }

    /// When a SYN was last seen leaving, if that was not before `time`.
    pub fn left_since(&self, time: Mono) -> Option<Mono> {
        let left = self.sightings.iter().filter(|sighting| sighting.direction == Direction::Egress);
        left.map(|sighting| sighting.last).max().filter(|&last| last >= time)
    }

    /// Whether one of its SYNs was seen leaving the node itself.
    pub fn left_node(&self) -> bool {
        self.sightings
            .iter()
            .any(|sighting| sighting.direction == Direction::Egress && sighting.kind != PointKind::PodNic)
    }

    /// Whether anything at all answered.
    pub fn answered(&self) -> bool {
        self.syn_ack.is_some()
            || self.stale.is_some()
            || self.refused.is_some()
            || self.established.is_some()
            || self.own_ack
            || self.stray_reset
            || self.server.is_some()
    }

    /// Whether an ACK towards the client belongs to this very connection.
    pub fn is_own(&self, segment: &Segment) -> bool {
        seq::just_beyond(self.isn, segment.ack)
            || segment.timestamps.is_some_and(|timestamps| self.tsvals.contains(&timestamps.ecr))
    }

    /// What its trace id is made from.
    pub fn seed(&self, boot: u128) -> Seed {
        let isn = self.isn;
        if let (Some(_), Some(client)) = (self.never_sent, &self.client) {
            return Seed::Call { cookie: client.cookie, time: self.started.0, boot };
        }
        match (self.tsvals.first(), self.wire.first(), &self.client) {
            (Some(&tsval), ..) => Seed::Fingerprint { isn, tsval },
            (None, Some(&(tuple, _)), _) => Seed::Wire { isn, tuple },
            (None, None, Some(client)) if self.sightings.is_empty() => {
                Seed::Namespace { isn, tuple: client.tuple, netns: client.netns, boot }
            }
            (None, None, _) => Seed::Wire { isn, tuple: self.outer().unwrap_or_else(|| self.inner()) },
        }
    }
}
