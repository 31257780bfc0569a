//! What the tracker says of a finished attempt: plain facts, with no names of pods or workloads yet.

use std::sync::Arc;
use std::time::Duration;

use super::flow::Flow;
use super::trace_id::TraceId;
use super::verdict::{Cause, ClosedBy, Evidence, Outcome, ServerState, Side};
use crate::capture::observation::{Direction, Mono, PointKind, Process};
use crate::capture::tuple::{Addr, Endpoint, Tuple};

/// What the tracker reports.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Finding {
    /// An attempt is over, and its verdict is final.
    Attempt(Box<Attempt>),
    /// SYNs from outside that came to nothing, summed up by listener.
    Inbound(InboundSummary),
    /// What a connection has carried: at its end, right after its attempt at the earliest, and from time to time
    /// while it stays open.
    Flow(Box<Flow>),
    /// An attempt of this node's client has sent its second SYN and is open still, told once: the outcome is
    /// pending, and the attempt itself comes later.
    Stalled(Box<Attempt>),
}

/// Which part this node had in an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// The client is on this node: its socket was seen, or its first SYN came in by a pod's interface.
    Client,
    /// The attempt came in from outside, for a server on this node.
    Server,
    /// It only passed through, or which end is here was not seen.
    Transit,
}

/// A finished attempt. Its times are monotonic; its tuples run from client to server.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Unique within this process, rising with time.
    pub serial: u64,
    /// This node's part.
    pub role: Role,
    /// connect(), or the first SYN seen.
    pub started: Mono,
    /// When the outcome was reached.
    pub ended: Mono,
    /// The verdict.
    pub verdict: Verdict,
    /// The client's socket, if it is on this node and was seen.
    pub client: Option<ClientSocket>,
    /// The server's accepted socket, if it is on this node.
    pub server: Option<ServerSocket>,
    /// The trace that this attempt's first SYN belongs to.
    pub trace: TraceId,
    /// How many bits of the fingerprint the trace id rests on survive translation: false where the
    /// SYN had no timestamp option, so that another node may give another id.
    pub trace_survives_nat: bool,
    /// The traces of later SYNs of the same attempt (another timestamp each), without the first.
    pub retry_traces: Vec<TraceId>,
    /// The trace of the SYN that the SYN-ACK answered, if that is known and not `trace`.
    pub answered_trace: Option<TraceId>,
    /// How many SYNs left the socket, or were seen if there is no socket here.
    pub syns: u32,
    /// Where its SYN was seen, in the order of first sight.
    pub sightings: Vec<Sighting>,
    /// The wire tuples at the node's outward interface, in turn; more than one after a change of port.
    pub wire: Vec<Tuple>,
    /// The first steps, at most [`MAX_STEPS`], in time order.
    pub steps: Vec<TimedStep>,
    /// How many more there were.
    pub steps_dropped: u32,
    /// Who held the wire tuple before, if the verdict rests on it or the tuple was reused at all.
    pub previous_owner: Option<PreviousOwner>,
    /// The wire tuple was in use by another tenancy within the reuse window, whatever came of it.
    pub reused: bool,
    /// Reuse may explain it, but nothing tells it from a server that answers nobody.
    pub reuse_possible: bool,
    /// The verdict leans on the ledger, and that reaches back less than the reuse window, since the agent
    /// is young or memory was short: a missing owner proves nothing.
    pub ledger_partial: bool,
    /// Observations were lost while it was open.
    pub lossy: bool,
    /// The client's own sidecar took it: its success says nothing about the far side.
    pub proxied: bool,
    /// Its connection has ended by now, and carried no payload in either direction.
    pub closed_without_data: bool,
    /// What else the verdict rests on.
    pub facts: Facts,
}

/// Facts that some verdicts rest on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// The drop of one of its segments, by the kernel's own record.
    pub drop: Option<DropFact>,
    /// The ICMP error that answered it.
    pub icmp: Option<IcmpFact>,
    /// Source ports in use towards its destination, where that explains it.
    pub snat: Option<SnatFact>,
    /// The attempt that raced it for its source port.
    pub competitor: Option<Competitor>,
    /// The listener's accept queue, where that explains it.
    pub listener: Option<ListenerFact>,
    /// The false acknowledgement looks like a guard's against floods: its time to live is not the server's, or
    /// fresh tuples get one there too.
    pub guard: bool,
}

/// A drop by the kernel's own record (`skb/kfree_skb`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DropFact {
    /// The kernel's reason, as `NETFILTER_DROP`; none below 5.17.
    pub reason: Option<Arc<str>>,
    /// The kernel's function that dropped it, where symbols can be read.
    pub place: Option<Arc<str>>,
    /// Whether the segment was on its way to the client: an answer.
    pub answer: bool,
}

/// An ICMP error (RFC 792, RFC 4443).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IcmpFact {
    /// Who sent it.
    pub from: Addr,
    /// Type, by the family of `from`.
    pub kind: u8,
    /// Code.
    pub code: u8,
}

/// Source ports towards a destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnatFact {
    /// Distinct ports in use from the egress address to the destination.
    pub used: u32,
    /// The range in force, both ends included; none if it could not be told.
    pub range: Option<(u16, u16)>,
}

/// The attempt that won the race for a source port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Competitor {
    /// Its serial.
    pub serial: u64,
    /// Its trace.
    pub trace: TraceId,
    /// Its process, if it is of this node.
    pub process: Option<Process>,
    /// Its network namespace, 0 if not known.
    pub netns: u64,
    /// Before NAT.
    pub tuple: Tuple,
    /// After NAT.
    pub wire: Option<Tuple>,
}

/// A listener's accept queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenerFact {
    /// Connections in it, when it was asked.
    pub queue: u32,
    /// Its limit.
    pub limit: u32,
    /// How far the namespace's overflow counter rose meanwhile.
    pub overflows: u64,
}

/// SYNs from outside that came to nothing: a flood, or a service under attack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InboundSummary {
    /// Where they went.
    pub listener: Endpoint,
    /// From when.
    pub from: Mono,
    /// Until when.
    pub until: Mono,
    /// SYNs that came and were not followed by a connection, those that were only counted included.
    pub syns: u64,
    /// Of them, those that were counted in the kernel and not looked at one by one.
    pub counted: u64,
}

/// Most steps kept for one attempt; the rest are counted.
pub const MAX_STEPS: usize = 32;

/// The judgement of an attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// What the application got.
    pub outcome: Outcome,
    /// The error number it got, if the kernel said.
    pub errno: Option<i32>,
    /// Why; none if nothing went wrong, or it is not known.
    pub cause: Option<Cause>,
    /// What else holds, best first.
    pub also: Vec<Cause>,
    /// How sure the cause is.
    pub evidence: Evidence,
    /// Who is responsible for the cause.
    pub responsible: Option<Side>,
}

/// The client's own socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientSocket {
    /// Its cookie.
    pub cookie: u64,
    /// Its network namespace's cookie, 0 if not known.
    pub netns: u64,
    /// The process that called connect(), if that was seen.
    pub process: Option<Process>,
    /// The address asked for, if that was seen.
    pub asked: Option<Endpoint>,
    /// The socket's own tuple, from itself to its peer.
    pub tuple: Tuple,
}

/// The server's accepted socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerSocket {
    /// Its cookie.
    pub cookie: u64,
    /// Its network namespace's cookie, 0 if not known.
    pub netns: u64,
    /// From the client as the server sees it to the server.
    pub tuple: Tuple,
    /// When it was established.
    pub established: Mono,
}

/// A SYN at an observation point.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sighting {
    /// Interface index.
    pub ifindex: u32,
    /// Interface name, empty if it is not known any more.
    pub interface: Arc<str>,
    /// What the interface is to the node.
    pub kind: PointKind,
    /// The side of the interface.
    pub direction: Direction,
    /// The tuple at this point; of the last SYN, where it changed between SYNs.
    pub tuple: Tuple,
    /// When the first was seen.
    pub first: Mono,
    /// When the last was seen.
    pub last: Mono,
    /// How many SYNs.
    pub syns: u32,
}

/// A step in an attempt's story.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimedStep {
    /// When.
    pub time: Mono,
    /// Where: index into [`Attempt::sightings`], none for the socket.
    pub point: Option<usize>,
    /// What.
    pub step: StoryStep,
}

/// The kinds of step in an attempt's story.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoryStep {
    /// A SYN; `retry` counts from 0.
    Syn {
        /// 0 for the first, 1 for the first retransmission.
        retry: u32,
        /// The tuple it had at this point.
        tuple: Tuple,
    },
    /// The SYN was answered as it should be.
    SynAck,
    /// The SYN was answered by an acknowledgement that is not its own. Its numbers are those of an
    /// old connection.
    StaleAck {
        /// Sequence number.
        seq: u32,
        /// Acknowledgement number.
        ack: u32,
    },
    /// A RST; `by_client` says by which side, `seq` its sequence number.
    Reset {
        /// Whether the client sent it.
        by_client: bool,
        /// Its sequence number.
        seq: u32,
    },
    /// An ICMP error.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
    /// The kernel dropped one of its segments inside the node.
    Dropped {
        /// Whether it was an answer, on its way to the client.
        answer: bool,
    },
    /// The SYN-ACK again.
    SynAckAgain,
    /// The retransmission timer ran out for the last time.
    GaveUp,
    /// The application's socket was established.
    Established,
    /// The socket was closed.
    Closed,
}

/// Who held the wire tuple before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PreviousOwner {
    /// Serial of the attempt that opened it; 0 if it was not an attempt that we saw.
    pub serial: u64,
    /// The client process, if it was on this node.
    pub process: Option<Process>,
    /// The network namespace's cookie of the client's socket, 0 if not known.
    pub netns: u64,
    /// Before NAT: the client's own tuple.
    pub tuple: Tuple,
    /// After NAT; none if it was never known.
    pub wire: Option<Tuple>,
    /// Its trace.
    pub trace: TraceId,
    /// When it opened.
    pub opened: Mono,
    /// When it closed; none if it is open still.
    pub closed: Option<Mono>,
    /// Time from its close to this attempt's SYN; none if it is open still.
    pub gap: Option<Duration>,
    /// Which end closed first.
    pub closed_by: ClosedBy,
    /// In which state the server holds it.
    pub server_state: ServerState,
    /// The last sequence number and acknowledgement the server should hold for it, if they are known
    /// and the connection has ended: where the client's stream and the server's stream ended.
    pub client_end: Option<u32>,
    /// See `client_end`.
    pub server_end: Option<u32>,
}

impl Attempt {
    /// The tuple nearest to the client that is known: its socket's, else that of the first sighting,
    /// else the wire's, else the server's.
    pub fn client_tuple(&self) -> Option<Tuple> {
        let socket = self.client.as_ref().map(|socket| socket.tuple);
        let sighted = || self.sightings.first().map(|sighting| sighting.tuple);
        let wire = || self.wire.first().copied();
        let server = || self.server.as_ref().map(|socket| socket.tuple);
        socket.or_else(sighted).or_else(wire).or_else(server)
    }

    /// What the application asked for; where that was not seen, what its socket or its first SYN was sent to.
    pub fn destination(&self) -> Option<Endpoint> {
        let asked = self.client.as_ref().and_then(|socket| socket.asked);
        asked.or_else(|| self.client_tuple().map(|tuple| tuple.dst))
    }

    /// From the start to the outcome.
    pub fn duration(&self) -> Duration {
        self.ended.since(self.started)
    }

    /// Whether it went wrong for the application. One that it gave up itself is a failure if the
    /// packets show a fault, or if a SYN had to be sent again and no cause could be told.
    pub fn failed(&self) -> bool {
        match self.verdict.outcome {
            Outcome::Established | Outcome::Pending => false,
            Outcome::Aborted => self.verdict.cause.map_or(self.syns > 1, |cause| cause.entry().fault),
            Outcome::Refused | Outcome::TimedOut | Outcome::Unreachable | Outcome::Failed => true,
        }
    }

    /// Whether the application waited: half a second or more, or for a SYN to be sent again.
    pub fn slow(&self) -> bool {
        self.duration() >= SLOW || self.syns > 1
    }
}

/// From when an attempt counts as slow (design section 7).
pub const SLOW: Duration = Duration::from_millis(500);
