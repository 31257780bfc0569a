//! Whatever comes, in any order, twice or not at all: no panic, bounded memory, the same answer to the
//! same input, and never a cause without its evidence.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::world::{NODE, POD_A, POD_B, tuple};
use crate::capture::flow::{FlowAnswer, FlowNumbers};
use crate::capture::observation::{
    CallFailed, ConntrackState, Direction, Dropped, Flags, IcmpError, InboundCount, Interface, InterfaceChange,
    KnownFlow, ListenerState, Lost, Mono, NatAnswer, NatEntry, Observation, PointKind, Process, ProcessStep, Segment,
    SnatPorts, SocketError, SocketNumbers, SocketStep, Step, TcpState, Timestamps, What,
};
use crate::capture::tuple::Tuple;
use crate::track::attempt::{Attempt, Finding, MAX_STEPS, Role, StoryStep};
use crate::track::flow::FlowTotals;
use crate::track::verdict::{Cause, Evidence, Outcome};
use crate::track::{Options, Tracker};

const MAX_ATTEMPTS: usize = 12;
const MAX_TENANCIES: usize = 10;

/// Few tuples and few numbers, so that joins, collisions and reuse happen all the time.
fn any_tuple() -> impl Strategy<Value = Tuple> {
    (0..3_u8, 0..2_u8, 0..2_u8, any::<bool>()).prop_map(|(host, port, server, back)| {
        let client = ["10.244.1.11", "10.244.1.12", "192.168.50.10"][usize::from(host)];
        let there = ["192.168.50.20:8443", "[fd00::20]:8443"][usize::from(server)];
        let forth = tuple(&format!("{client}:{}", 46_994 + u16::from(port)), there);
        if back { forth.reversed() } else { forth }
    })
}

fn any_number() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 1000..1006_u32, 2 => 5000..5004_u32, 1 => Just(0), 1 => Just(u32::MAX), 1 => any::<u32>()]
}

fn any_state() -> impl Strategy<Value = TcpState> {
    prop_oneof![
        Just(TcpState::Established),
        Just(TcpState::SynSent),
        Just(TcpState::FinWait1),
        Just(TcpState::FinWait2),
        Just(TcpState::CloseWait),
        Just(TcpState::LastAck),
        Just(TcpState::Close),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Connect),
        2 => Just(Step::ActiveEstablished),
        2 => Just(Step::PassiveEstablished),
        2 => any::<bool>().prop_map(|gave_up| Step::Rto { gave_up }),
        4 => (any_state(), any_state()).prop_map(|(from, to)| Step::State { from, to }),
    ]
}

/// What a socket may have counted. Boxed, as those are that hold it: one value of all of them is too much for a stack.
fn any_counters() -> BoxedStrategy<FlowNumbers> {
    let count = || prop_oneof![4 => 0..50_u64, 1 => any::<u64>()];
    (any_state(), count(), count(), any_number(), any_number(), 0..3_u32)
        .prop_map(|(state, bytes_acked, bytes_received, segs_out, segs_in, few)| FlowNumbers {
            state,
            bytes_acked,
            bytes_received,
            segs_out,
            segs_in,
            total_retrans: few,
            srtt_us: few,
        })
        .boxed()
}

fn any_socket() -> BoxedStrategy<What> {
    (1..6_u64, 0..3_u64, any_tuple(), any_step(), any_number(), any_number(), any_number(), any_counters())
        .prop_map(|(cookie, netns, tuple, step, snd_nxt, snd_una, rcv_nxt, c)| {
            let numbers = SocketNumbers {
                snd_nxt,
                snd_una,
                rcv_nxt,
                srtt_us: c.srtt_us,
                total_retrans: c.total_retrans,
                segs_in: c.segs_in,
                segs_out: c.segs_out,
                bytes_acked: c.bytes_acked,
                bytes_received: c.bytes_received,
            };
            What::Socket(SocketStep { cookie, netns, tuple, step, numbers })
        })
        .boxed()
}

fn any_segment() -> impl Strategy<Value = What> {
    let flags = prop_oneof![
        6 => Just(Flags::SYN),
        4 => Just(Flags::SYN | Flags::ACK),
        3 => Just(Flags::ACK),
        2 => Just(Flags::RST),
        2 => Just(Flags::RST | Flags::ACK),
        2 => Just(Flags::FIN | Flags::ACK),
        1 => any::<u8>(),
    ];
    let point = prop_oneof![Just(POD_A), Just(POD_B), Just(NODE), Just(99)];
    let stamps = proptest::option::of((1..5_u32, 0..5_u32).prop_map(|(val, ecr)| Timestamps { val, ecr }));
    let cookie = proptest::option::of(1..6_u64);
    (point, any::<bool>(), any_tuple(), flags, any_number(), any_number(), stamps, cookie, 0..3_u32, any::<u16>())
        .prop_map(|(ifindex, out, tuple, flags, seq, ack, timestamps, cookie, payload, window)| {
            What::Segment(Segment {
                ifindex,
                direction: if out { Direction::Egress } else { Direction::Ingress },
                tuple,
                flags: Flags(flags),
                seq,
                ack,
                timestamps,
                payload,
                window,
                mss: 0,
                wscale: Some(200),
                ttl: 1,
                cookie,
            })
        })
}

/// What the kernel says when it is asked, and of its own accord.
fn any_answer() -> BoxedStrategy<What> {
    let dropped = (0..4_u64, any_tuple(), any::<u8>(), any_number(), any_number(), 0..4_usize).prop_map(
        |(netns, tuple, flags, seq, ack, reason)| {
            let reason = [None, Some("NETFILTER_DROP"), Some("TCP_LISTEN_OVERFLOW"), Some("NEIGH_FAILED")][reason];
            let place = None;
            What::Dropped(Dropped {
                netns,
                ifindex: 0,
                tuple,
                flags: Flags(flags),
                seq,
                ack,
                reason: reason.map(Arc::from),
                place,
            })
        },
    );
    let point = prop_oneof![Just(POD_A), Just(NODE)];
    let icmp = (point, any::<bool>(), any_tuple(), any_number(), 0..4_u8, 0..16_u8).prop_map(
        |(ifindex, out, tuple, seq, kind, code)| {
            let direction = if out { Direction::Egress } else { Direction::Ingress };
            What::Icmp(IcmpError { ifindex, direction, from: tuple.dst.addr, tuple, seq, kind, code })
        },
    );
    let nat = (any_tuple(), proptest::option::of((any_tuple(), any_tuple()))).prop_map(|(asked, entry)| {
        let entry = entry.map(|(original, reply)| NatEntry { original, reply, zone: 0, mark: 0 });
        What::Nat(NatAnswer { asked, entry })
    });
    let conntrack = (0..12_u64, 0..3_u64).prop_map(|(entries, insert_failed)| {
        What::Conntrack(ConntrackState { entries, limit: 10, insert_failed, ..Default::default() })
    });
    let ports =
        (any_tuple(), any::<u32>(), proptest::option::of(any::<(u16, u16)>())).prop_map(|(tuple, used, range)| {
            What::SnatPorts(SnatPorts { egress: tuple.src.addr, destination: tuple.dst, used, range })
        });
    let listener = (any_tuple(), any::<bool>(), 0..3_u32, 0..3_u64).prop_map(|(tuple, listens, queue, overflows)| {
        What::Listener(ListenerState { endpoint: tuple.dst, netns: 2, listens, queue, limit: 1, overflows, drops: 0 })
    });
    let flow = (
        any_tuple(),
        proptest::option::of(any_tuple()),
        0..6_u64,
        any::<bool>(),
        proptest::option::of(any_number()),
        any::<bool>(),
        proptest::option::of(any_counters()),
    )
        .prop_map(|(tuple, wire, cookie, server_socket, client_acked, over, numbers)| {
            What::Flow(KnownFlow {
                tuple,
                wire,
                cookie,
                server_socket,
                netns: 1,
                client_acked,
                client_next: client_acked,
                server_next: None,
                numbers,
                over,
            })
        });
    let numbers = (1..6_u64, any_counters())
        .prop_map(|(cookie, numbers)| What::FlowNumbers(FlowAnswer { cookie, netns: 0, numbers }));
    let counted =
        (any_tuple(), 1..9_u64).prop_map(|(tuple, syns)| What::Inbound(InboundCount { listener: tuple.dst, syns }));
    let failed = (0..2_u32, prop_oneof![Just(1), Just(99), Just(101), any::<i32>()])
        .prop_map(|(tid, errno)| What::CallFailed(CallFailed { pid: 7, tid, errno }));
    prop_oneof![4 => dropped, 2 => icmp, 1 => nat, 1 => conntrack, 1 => ports, 1 => listener, 1 => flow, 2 => numbers, 1 => counted, 1 => failed]
    .boxed()
}

fn any_what() -> impl Strategy<Value = What> {
    prop_oneof![
        12 => any_segment(),
        4 => any_answer(),
        8 => any_socket(),
        2 => (1..6_u64, any_tuple()).prop_map(|(cookie, tuple)| {
            What::Process(ProcessStep { cookie, netns: 1, process: Process { pid: 7, ..Default::default() }, asked: tuple.dst, bound_port: 0 })
        }),
        2 => (1..6_u64, prop_oneof![Just(110), Just(111), Just(113), any::<i32>()])
            .prop_map(|(cookie, errno)| What::Error(SocketError { cookie, errno })),
        1 => (0..3_u64).prop_map(|count| What::Lost(Lost { count, inbound: count == 1 })),
        1 => (prop_oneof![Just(POD_A), Just(NODE)], any::<bool>()).prop_map(|(ifindex, there)| {
            let now = there.then(|| Interface { name: Arc::from("x"), kind: PointKind::PodNic });
            What::Interface(InterfaceChange { ifindex, now })
        }),
    ]
}

/// Observations with steps of time that may go back, and long silences.
fn any_history() -> impl Strategy<Value = Vec<Observation>> {
    let step = prop_oneof![6 => 0..2_000_000_i64, 2 => -500_000_000..1_500_000_000_i64, 1 => Just(700_000_000_000_i64)];
    proptest::collection::vec((step, any_what()), 0..200).prop_map(|steps| {
        let mut now = 1_000_000_000_000_i64;
        steps
            .into_iter()
            .map(|(step, what)| {
                now = (now + step).max(0);
                Observation { time: Mono(now as u64), what }
            })
            .collect()
    })
}

/// What a history gave, and that it holds together.
#[derive(Default, Debug)]
struct Found {
    attempts: Vec<Attempt>,
    stalled: Vec<u64>,
    /// By serial and side: totals, sum of the deltas, next number, and whether there is an end.
    flows: BTreeMap<(u64, &'static str), (FlowTotals, FlowTotals, u32, bool)>,
    /// How many were told of those from before the start.
    older: usize,
}

impl Found {
    fn take(&mut self, finding: Finding) {
        let is_told = |attempts: &[Attempt], serial| attempts.iter().any(|attempt| attempt.serial == serial);
        match finding {
            Finding::Attempt(attempt) => self.attempts.push(*attempt),
            Finding::Inbound(summary) => assert!(summary.syns > 0 && summary.syns >= summary.counted),
            Finding::Stalled(attempt) => {
                assert_eq!((attempt.verdict.outcome, attempt.role), (Outcome::Pending, Role::Client));
                assert!(attempt.syns > 1 && !self.stalled.contains(&attempt.serial), "once, and not before its time");
                assert!(!is_told(&self.attempts, attempt.serial), "not when it is over");
                self.stalled.push(attempt.serial);
            }
            Finding::Flow(flow) if flow.serial == 0 => {
                assert!(flow.trace.is_none() && flow.opened.is_none());
                assert_eq!(flow.delta, flow.delta.min_of(&flow.totals), "no more than all");
                self.older += 1;
            }
            Finding::Flow(flow) => {
                assert!(is_told(&self.attempts, flow.serial), "after its attempt");
                let known = self.flows.entry((flow.serial, flow.side.as_str())).or_default();
                let (totals, sum, sequence, ended) = known;
                assert!(!*ended, "one end, and nothing after it");
                assert_eq!(*totals, totals.min_of(&flow.totals), "totals never go back");
                assert_eq!(flow.sequence, *sequence);
                *sum = sum.plus(&flow.delta);
                assert_eq!(*sum, flow.totals, "the deltas add up");
                (*totals, *sequence, *ended) = (flow.totals, *sequence + 1, flow.end.is_some());
            }
        }
    }
}

impl FlowTotals {
    fn both(&self, other: &Self, op: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            sent_bytes: op(self.sent_bytes, other.sent_bytes),
            received_bytes: op(self.received_bytes, other.received_bytes),
            sent_segments: op(self.sent_segments, other.sent_segments),
            received_segments: op(self.received_segments, other.received_segments),
            retransmissions: op(self.retransmissions, other.retransmissions),
        }
    }

    fn min_of(&self, other: &Self) -> Self {
        self.both(other, u64::min)
    }

    fn plus(&self, other: &Self) -> Self {
        self.both(other, |a, b| a + b)
    }
}

fn run(history: &[Observation]) -> Found {
    let options = Options {
        max_attempts: MAX_ATTEMPTS,
        max_tenancies: MAX_TENANCIES,
        errors_seen: true,
        host_netns: 1,
        flow_interval: Duration::from_secs(10),
        ..Options::default()
    };
    let mut tracker = Tracker::new(options, Mono(0));
    for (ifindex, kind) in [(POD_A, PointKind::PodNic), (POD_B, PointKind::PodNic), (NODE, PointKind::NodeNic)] {
        let now = Some(Interface { name: Arc::from("if"), kind });
        tracker.observe(&Observation { time: Mono(0), what: What::Interface(InterfaceChange { ifindex, now }) });
    }
    let mut found = Found::default();
    let mut drain = |tracker: &mut Tracker| {
        while let Some(finding) = tracker.next_finding() {
            found.take(finding);
        }
        while tracker.next_question().is_some() {}
        let survey = tracker.survey();
        assert!(survey.pending.iter().sum::<u64>() <= tracker.counts().open_attempts);
    };
    for observation in history {
        tracker.observe(observation);
        tracker.advance(observation.time);
        let counts = tracker.counts();
        assert!(counts.open_attempts <= MAX_ATTEMPTS as u64, "{counts:?}");
        assert!(counts.tenancies <= MAX_TENANCIES as u64, "{counts:?}");
        drain(&mut tracker);
    }
    tracker.finish_all();
    drain(&mut tracker);
    assert_eq!(tracker.counts().open_attempts, 0);
    found
}

/// The rules of section 5, read backwards: what a verdict says must stand in the attempt's own record.
fn evidence_is_there(attempt: &Attempt) {
    let verdict = &attempt.verdict;
    assert!(attempt.steps.len() <= MAX_STEPS);
    assert!(attempt.ended >= attempt.started);
    assert!(attempt.steps.is_sorted_by_key(|step| step.time));
    let Some(cause) = verdict.cause else {
        assert_eq!(verdict.evidence, Evidence::None);
        assert!(verdict.also.is_empty() && verdict.responsible.is_none());
        return;
    };
    assert!(cause.entry().evidence.contains(&verdict.evidence), "{verdict:?}");
    assert!(verdict.responsible.is_some());
    let whole = attempt.steps_dropped == 0;
    let stale: Vec<u32> = attempt
        .steps
        .iter()
        .filter_map(|step| match step.step {
            StoryStep::StaleAck { ack, .. } => Some(ack),
            StoryStep::Reset { by_client: true, seq } => Some(seq),
            _ => None,
        })
        .collect();
    // A RST of the client's own (it closed with data unread, say) is no proof of anything.
    let wrongly_answered = attempt.steps.iter().any(|s| matches!(s.step, StoryStep::StaleAck { .. }));
    let answered = attempt.steps.iter().any(|s| matches!(s.step, StoryStep::SynAck | StoryStep::Established));
    let over = !matches!(verdict.outcome, Outcome::Established | Outcome::Pending);
    for cause in std::iter::once(cause).chain(verdict.also.iter().copied()) {
        match cause {
            Cause::SourcePortReuse => {
                assert!(!whole || !stale.is_empty(), "{attempt:#?}");
                let owner = attempt.previous_owner.as_ref().expect("an owner");
                assert_ne!(owner.serial, attempt.serial);
                if let (Some(end), Evidence::Exact, true) = (owner.client_end, verdict.evidence, whole) {
                    assert!(stale.iter().any(|&ack| ack == end || ack == end.wrapping_add(1)), "{attempt:#?}");
                }
            }
            Cause::UnexpectedAck => {
                assert!(!whole || !stale.is_empty());
            }
            Cause::SourcePortReuseSuspected => {
                assert!(over && attempt.reused && attempt.previous_owner.is_some() && !wrongly_answered);
            }
            Cause::DroppedInNode | Cause::SnatPortExhausted | Cause::SnatRace | Cause::ConntrackTableFull => {
                let facts = &attempt.facts;
                if facts.drop.is_some() {
                    let dropped = |s: &StoryStep| matches!(s, StoryStep::Dropped { answer: false });
                    assert!(!whole || attempt.steps.iter().any(|step| dropped(&step.step)), "{attempt:#?}");
                } else {
                    assert!(over && !attempt.lossy && attempt.syns >= 2);
                    assert!(attempt.sightings.iter().all(|sighting| sighting.direction == Direction::Ingress));
                }
                if cause == Cause::SnatPortExhausted {
                    assert!(facts.snat.is_some_and(|snat| snat.range.is_some()));
                }
                if cause == Cause::SnatRace {
                    assert!(facts.competitor.as_ref().is_some_and(|winner| winner.serial != attempt.serial));
                }
            }
            Cause::ReplyDroppedInNode => {
                let dropped = |s: &StoryStep| matches!(s, StoryStep::Dropped { answer: true });
                let told = attempt.facts.drop.is_some() && (!whole || attempt.steps.iter().any(|s| dropped(&s.step)));
                assert!(over && (told || answered && !attempt.lossy), "{attempt:#?}");
            }
            Cause::PolicyDenied => {
                let by_call = attempt.syns == 0 && attempt.verdict.errno.is_some();
                assert!(over && (by_call || attempt.facts.icmp.is_some() || verdict.outcome == Outcome::Refused));
            }
            Cause::Unreachable => {
                assert!(over && (attempt.facts.icmp.is_some() || verdict.errno.is_some()), "{attempt:#?}");
            }
            Cause::LocalPortConflict | Cause::EphemeralPortExhausted => {
                assert_eq!((attempt.syns, verdict.errno), (0, Some(99)));
            }
            Cause::AcceptQueueOverflow => {
                let full = attempt.facts.listener.is_some_and(|l| l.queue > l.limit || l.overflows > 0);
                assert!(full || attempt.facts.drop.is_some(), "{attempt:#?}");
            }
            Cause::SynUnansweredByServer => {
                assert!(over && !answered && !wrongly_answered && !attempt.lossy && attempt.syns >= 2);
            }
            Cause::SynAckUnanswered => {
                assert!(over && !attempt.lossy && attempt.server.is_none());
                let again = |s: &StoryStep| matches!(s, StoryStep::SynAckAgain);
                assert!(!whole || attempt.steps.iter().any(|step| again(&step.step)), "{attempt:#?}");
            }
            Cause::HandshakeReset => {
                let reset = |s: &StoryStep| matches!(s, StoryStep::Reset { .. });
                assert!(!whole || attempt.steps.iter().any(|step| reset(&step.step)));
            }
            Cause::NoResponse => {
                assert!(over && !answered && !wrongly_answered && !attempt.lossy);
                assert!(attempt.sightings.iter().any(|sighting| sighting.direction == Direction::Egress));
            }
            Cause::SynLost => {
                assert!(attempt.syns > 1 && !wrongly_answered);
                assert!(matches!(verdict.outcome, Outcome::Established | Outcome::Refused));
            }
            Cause::ConnectionRefused => {
                assert_eq!(verdict.outcome, Outcome::Refused);
                let reset = |s: &StoryStep| matches!(s, StoryStep::Reset { by_client: false, .. });
                assert!(!whole || attempt.steps.iter().any(|step| reset(&step.step)));
            }
            Cause::ClientAborted => {
                assert_eq!(verdict.outcome, Outcome::Aborted);
                assert!(!answered && attempt.syns <= 1);
            }
        }
    }
}

proptest! {
    #[test]
    fn any_history_gives_bounded_deterministic_and_founded_verdicts(history in any_history()) {
        let found = run(&history);
        prop_assert_eq!(format!("{:?}", found), format!("{:?}", run(&history)));
        found.attempts.iter().for_each(evidence_is_there);
        let mut serials: Vec<u64> = found.attempts.iter().map(|attempt| attempt.serial).collect();
        serials.sort_unstable();
        serials.dedup();
        prop_assert_eq!(serials.len(), found.attempts.len(), "each attempt is reported once");
    }

    #[test]
    fn shuffled_doubled_and_lost_observations_change_no_rule(
        history in any_history(),
        swaps in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..40),
        doubled in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
        lost in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let mut history = history;
        if !history.is_empty() {
            for (a, b) in swaps {
                let (a, b) = (a.index(history.len()), b.index(history.len()));
                history.swap(a, b);
            }
            for at in doubled {
                let observation = history[at.index(history.len())].clone();
                history.push(observation);
            }
            for at in lost {
                if !history.is_empty() {
                    history.remove(at.index(history.len()));
                }
            }
        }
        run(&history).attempts.iter().for_each(evidence_is_there);
    }
}
