//! Attempts of any shape, for property tests.

use proptest::prelude::*;

use crate::capture::observation::{Direction, Mono, PointKind};
use crate::identify::describe::Described;
use crate::identify::fixtures;
use crate::track::attempt::{Role, StoryStep, TimedStep};
use crate::track::trace_id::TraceId;
use crate::track::verdict::{CAUSES, Outcome};

fn any_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Pending),
        Just(Outcome::Established),
        Just(Outcome::Refused),
        Just(Outcome::TimedOut),
        Just(Outcome::Unreachable),
        Just(Outcome::Aborted),
        Just(Outcome::Failed),
    ]
}

fn any_step() -> impl Strategy<Value = StoryStep> {
    let tuple = fixtures::tuple("10.0.0.1:1", "10.0.0.2:2");
    prop_oneof![
        any::<u32>().prop_map(move |retry| StoryStep::Syn { retry, tuple }),
        Just(StoryStep::SynAck),
        any::<(u32, u32)>().prop_map(|(seq, ack)| StoryStep::StaleAck { seq, ack }),
        any::<(bool, u32)>().prop_map(|(by_client, seq)| StoryStep::Reset { by_client, seq }),
        Just(StoryStep::GaveUp),
        Just(StoryStep::Established),
        Just(StoryStep::Closed),
    ]
}

/// Attempts with any mixture of what may be missing, out of order or out of range.
pub(crate) fn any_described() -> impl Strategy<Value = Described> {
    let cause = proptest::option::of(0..CAUSES.len());
    let steps = proptest::collection::vec((any::<u64>(), proptest::option::of(0..9_usize), any_step()), 0..40);
    let sightings = proptest::collection::vec((any::<bool>(), any::<[u8; 16]>(), any::<u64>(), ".*"), 0..5);
    let parts = (any::<[bool; 8]>(), any_outcome(), cause, proptest::option::of(any::<i32>()));
    let traces = (any::<[u8; 16]>(), proptest::collection::vec(any::<[u8; 16]>(), 0..50));
    (parts, any::<(u64, u64)>(), steps, sightings, traces, 0..3_usize).prop_map(
        |((has, outcome, cause, errno), (started, ended), steps, sightings, (trace, retries), role)| {
            let mut described = if has[0] { fixtures::case() } else { fixtures::server_side() };
            if has[1] {
                described.client = None;
                described.peer = None;
            }
            let attempt = &mut *described.attempt;
            attempt.role = [Role::Client, Role::Server, Role::Transit][role];
            attempt.started = Mono(started);
            attempt.ended = Mono(ended);
            attempt.verdict.outcome = outcome;
            attempt.verdict.cause = cause.map(|at| CAUSES[at].cause);
            attempt.verdict.errno = errno;
            attempt.trace = TraceId(trace);
            attempt.retry_traces = retries.into_iter().map(TraceId).collect();
            attempt.answered_trace = attempt.retry_traces.last().copied().filter(|_| has[2]);
            if has[3] {
                attempt.client = None;
            }
            if has[4] {
                attempt.server = None;
            }
            if has[5] {
                attempt.wire.clear();
            }
            if has[6] {
                attempt.previous_owner = None;
            }
            if has[7] {
                attempt.steps_dropped = u32::MAX;
            }
            attempt.sightings = sightings
                .into_iter()
                .map(|(inward, address, first, name)| {
                    let direction = if inward { Direction::Ingress } else { Direction::Egress };
                    let mut tuple = fixtures::tuple("10.0.0.1:1", "10.0.0.2:2");
                    tuple.src.addr.0 = address;
                    let mut sighting = fixtures::sighting(&name, PointKind::PodNic, direction, tuple, 0);
                    sighting.first = Mono(first);
                    sighting
                })
                .collect();
            attempt.steps =
                steps.into_iter().map(|(time, point, step)| TimedStep { time: Mono(time), point, step }).collect();
            described
        },
    )
}
