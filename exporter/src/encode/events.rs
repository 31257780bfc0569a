//! Span events: an attempt's story, step by step.

use super::attributes::Attributes;
use super::{Priority, priority, wire};
use crate::capture::tuple::Tuple;
use crate::identify::clock::WallClock;
use crate::names::{attribute, span_event};
use crate::track::attempt::{Attempt, MAX_STEPS, StoryStep, TimedStep};

/// `events` in Span.
const EVENTS: u32 = 11;

/// Writes the events of an attempt, at most [`MAX_STEPS`], and returns how many more there were.
///
/// What the span itself says is not said again: when it was established is its end, and the answer to
/// the one SYN of an attempt that went well is no event of its own.
pub fn of_attempt(attempt: &Attempt, clock: WallClock, out: &mut Vec<u8>) -> u32 {
    let clean = priority(attempt) == Priority::Success;
    let told = |step: &&TimedStep| match step.step {
        StoryStep::Established => false,
        StoryStep::SynAck => !clean,
        _ => true,
    };
    let steps = || attempt.steps.iter().filter(told);
    let mut event = Vec::with_capacity(160);
    for step in steps().take(MAX_STEPS) {
        event.clear();
        of_step(attempt, step, clock, &mut event);
        wire::framed(out, EVENTS, &event);
    }
    let cut = u32::try_from(steps().count().saturating_sub(MAX_STEPS)).unwrap_or(u32::MAX);
    attempt.steps_dropped.saturating_add(cut)
}

/// Whether the span's own attributes tell this tuple: the socket's, or the last one on the wire.
fn told_by_span(attempt: &Attempt, tuple: Tuple) -> bool {
    attempt.client_tuple() == Some(tuple) || attempt.wire.last() == Some(&tuple)
}

/// Whether the numbers of segments that belong to the previous connection may leave the node: for a
/// connection that is open still they would help an attacker (design section 6).
fn may_tell_numbers(attempt: &Attempt) -> bool {
    attempt.previous_owner.as_ref().is_none_or(|owner| owner.closed.is_some())
}

/// Of Event `time_unix_nano` is field 1, `name` 2, `attributes` 3.
fn of_step(attempt: &Attempt, step: &TimedStep, clock: WallClock, out: &mut Vec<u8>) {
    let mut attributes = Attributes::with_capacity(7);
    match step.point.map(|at| attempt.sightings.get(at)) {
        Some(Some(sighting)) => {
            attributes.str(attribute::SYNSPAN_POINT, sighting.kind.as_str());
            attributes.str(attribute::NETWORK_INTERFACE_NAME, &sighting.interface);
        }
        Some(None) => {}
        None => attributes.str(attribute::SYNSPAN_POINT, "socket"),
    }
    let tells = may_tell_numbers(attempt);
    let name = match step.step {
        StoryStep::Syn { retry, tuple } => {
            if !told_by_span(attempt, tuple) {
                put_tuple(&mut attributes, tuple);
            }
            if retry == 0 {
                span_event::SYNSPAN_SYN
            } else {
                attributes.int(attribute::SYNSPAN_SYN_RETRY_COUNT, retry);
                span_event::SYNSPAN_SYN_RETRANSMISSION
            }
        }
        StoryStep::SynAck => span_event::SYNSPAN_SYN_ACK,
        StoryStep::StaleAck { seq, ack } => {
            if tells {
                attributes.int(attribute::SYNSPAN_TCP_SEQ, seq);
                attributes.int(attribute::SYNSPAN_TCP_ACK, ack);
            }
            span_event::SYNSPAN_STALE_ACK
        }
        StoryStep::Reset { by_client, seq } => {
            attributes.str(attribute::SYNSPAN_SENT_BY, if by_client { "client" } else { "server" });
            // The client's RST carries the stale acknowledgement number as its own.
            if tells {
                attributes.int(attribute::SYNSPAN_TCP_SEQ, seq);
            }
            span_event::SYNSPAN_RST
        }
        StoryStep::SynAckAgain => span_event::SYNSPAN_SYN_ACK_RETRANSMISSION,
        StoryStep::Icmp { kind, code } => {
            attributes.int(attribute::SYNSPAN_ICMP_TYPE, kind);
            attributes.int(attribute::SYNSPAN_ICMP_CODE, code);
            span_event::SYNSPAN_ICMP_ERROR
        }
        StoryStep::Dropped { answer } => {
            attributes.bool(attribute::SYNSPAN_DROP_ANSWER, answer);
            span_event::SYNSPAN_DROPPED
        }
        StoryStep::GaveUp => span_event::SYNSPAN_GAVE_UP,
        StoryStep::Established => span_event::SYNSPAN_ESTABLISHED,
        StoryStep::Closed => span_event::SYNSPAN_CLOSED,
    };
    wire::fixed64(out, 1, clock.unix_nanos(step.time));
    wire::bytes(out, 2, name.as_bytes());
    attributes.write(3, out);
}

fn put_tuple(attributes: &mut Attributes, tuple: Tuple) {
    attributes.endpoint(attribute::SOURCE_ADDRESS, attribute::SOURCE_PORT, tuple.src);
    attributes.endpoint(attribute::DESTINATION_ADDRESS, attribute::DESTINATION_PORT, tuple.dst);
}
