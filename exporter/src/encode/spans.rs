//! Attempts as spans: `tcp connect`, `tcp forward`, `tcp accept`.

use std::sync::Arc;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use super::attributes::Attributes;
use super::envelope::{Record, Resources};
use super::forward::Forward;
use super::ids::{self, SpanId, SpanRole};
use super::links::{HAS_IS_REMOTE, IS_REMOTE, TRACE_FLAGS};
use super::volume::Threshold;
use super::{error_type, events, explanation, facts, flows, links, logs, wire};
use crate::capture::observation::Mono;
use crate::identify::Identity;
use crate::identify::clock::WallClock;
use crate::identify::covered::Covered;
use crate::identify::describe::{Described, DescribedFlow};
use crate::names::{attribute, event, span, value};
use crate::track::attempt::{Attempt, PreviousOwner, Role, ServerSocket, StoryStep};
use crate::track::trace_id::{IdKey, TraceId};
use crate::track::verdict::{Cause, Outcome};

/// How spans are made.
#[derive(Clone, Debug)]
pub struct Options {
    /// This node's name: part of the ids of its spans, so no two nodes may share it.
    pub node_name: Arc<str>,
    /// Addresses whose nodes run an agent of their own (`tracking.covered`): their `tcp connect` is
    /// named as a parent.
    pub covered: Covered,
    /// Makes all spans INTERNAL.
    pub internal_kind: bool,
    /// The key of the ids (`tracking.id_key`).
    pub id_key: IdKey,
    /// Marks every span as made from capture files.
    pub replay: bool,
}

/// Makes spans of attempts.
#[derive(Clone, Debug)]
pub struct Encoder {
    options: Options,
    resources: Resources,
}

/// What is known of an attempt, encoded once for spans and record.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Of the client's attempt; empty where the client is not of this node.
    client: Attributes,
    /// Of the accepted connection; empty where the server is not of this node.
    server: Attributes,
}

/// A span before it is written. Its fields in OTLP's Span: `trace_id` 1, `span_id` 2, `trace_state` 3, `parent_span_id` 4, `name`
/// 5, `kind` 6, `start_time_unix_nano` 7, `end_time_unix_nano` 8, `attributes` 9, `events` 11, `dropped_events_count` 12,
/// `links` 13, `dropped_links_count` 14, `status` 15, `flags` 16.
struct Draft<'a> {
    name: &'static str,
    kind: SpanKind,
    place: Place,
    /// From when to when, in nanoseconds since 1970.
    times: (u64, u64),
    attributes: &'a Attributes,
    /// Events and links, written already, and how many there were beyond.
    events: Vec<u8>,
    dropped_events: u32,
    links: Vec<u8>,
    dropped_links: u32,
    /// The sentence of one that failed.
    failed: Option<String>,
}

impl Draft<'_> {
    fn write(&self, state: &str) -> Vec<u8> {
        let parts = self.attributes.written() + self.events.len() + self.links.len();
        let mut out = Vec::with_capacity(parts + state.len() + 128 + self.failed.as_ref().map_or(0, String::len));
        let parent = self.place.parent;
        wire::bytes(&mut out, 1, &self.place.trace.0);
        wire::bytes(&mut out, 2, &self.place.id.0);
        wire::bytes(&mut out, 3, state.as_bytes());
        if let Some(parent) = parent {
            wire::bytes(&mut out, 4, &parent.id.0);
        }
        wire::bytes(&mut out, 5, self.name.as_bytes());
        wire::varint(&mut out, 6, self.kind as u64);
        wire::fixed64(&mut out, 7, self.times.0);
        wire::fixed64(&mut out, 8, self.times.1);
        self.attributes.write(9, &mut out);
        out.extend_from_slice(&self.events);
        wire::varint(&mut out, 12, self.dropped_events.into());
        out.extend_from_slice(&self.links);
        wire::varint(&mut out, 14, self.dropped_links.into());
        // Unset on success, Error with the sentence on failure: `message` is field 2 of Status, `code` 3.
        let mut status = Vec::new();
        if let Some(why) = &self.failed {
            wire::bytes(&mut status, 2, why.as_bytes());
            wire::varint(&mut status, 3, StatusCode::Error as u64);
        }
        wire::framed(&mut out, 15, &status);
        let remote = if parent.is_some_and(|parent| parent.remote) { IS_REMOTE } else { 0 };
        wire::fixed32(&mut out, 16, TRACE_FLAGS | HAS_IS_REMOTE | remote);
        out
    }
}

/// A span's place in its trace.
#[derive(Clone, Copy)]
struct Place {
    trace: TraceId,
    id: SpanId,
    parent: Option<Parent>,
}

#[derive(Clone, Copy)]
struct Parent {
    id: SpanId,
    remote: bool,
}

impl Encoder {
    /// An encoder.
    pub fn new(options: Options) -> Self {
        Self { options, resources: Resources::default() }
    }

    /// How many spans an attempt has.
    pub fn count(&self, attempt: &Attempt) -> usize {
        let connect = attempt.role == Role::Client;
        let again = connect && attempt.answered_trace.is_some_and(|answered| answered != attempt.trace);
        let (forward, accept) = (Forward::of(attempt).is_some(), attempt.server.is_some());
        [connect, again, forward, accept].into_iter().filter(|&is| is).count()
    }

    /// The `tcp connect` of a previous owner that was not sent when it was new: as much as the ledger knows of it.
    pub fn late(&self, owner: &PreviousOwner, identity: &Arc<Identity>, clock: WallClock) -> Record {
        let mut attributes = Attributes::with_capacity(16);
        facts::put_transport(&mut attributes, owner.tuple.dst.addr);
        attributes.endpoint(attribute::SERVER_ADDRESS, attribute::SERVER_PORT, owner.tuple.dst);
        facts::put_own_ends(&mut attributes, owner.tuple);
        if let Some(tuple) = owner.wire {
            facts::put_wire_ends(&mut attributes, tuple);
        }
        attributes.str(attribute::SYNSPAN_OUTCOME, Outcome::Established.as_str());
        attributes.bool(attribute::SYNSPAN_LATE, true);
        let id = ids::connect(&self.options.id_key, owner.trace);
        let place = Place { trace: owner.trace, id, parent: None };
        let times = (owner.opened, owner.opened);
        let span = self.span(clock, span::TCP_CONNECT, SpanKind::Client, place, times, &attributes);
        Record { resource: self.resources.of(identity), bytes: span.write("") }
    }

    /// The spans of an attempt whose facts those are, and their being kept with that probability, if it is known; none if
    /// this node has nothing to say of it. Those of one resource follow each other.
    pub fn spans(&self, described: &Described, facts: &Facts, kept: Option<Threshold>) -> Vec<Record> {
        let attempt = &*described.attempt;
        let state = kept.map(Threshold::trace_state).unwrap_or_default();
        let mut records = Vec::with_capacity(3);
        let mut push = |resource: &Arc<Identity>, bytes| {
            records.push(Record { resource: self.resources.of(resource), bytes });
        };
        if attempt.role == Role::Client {
            let client = described.client.as_ref().unwrap_or(&described.unknown);
            push(client, self.connect(described, &facts.client, &state));
            if let Some(answered) = attempt.answered_trace.filter(|&answered| answered != attempt.trace) {
                push(client, self.connect_again(described, answered, &state));
            }
        }
        let connect = self.connect_as_parent(attempt);
        if let Some(forward) = Forward::of(attempt) {
            // With no `tcp connect` to come, the accepted connection holds the trace together.
            let accept = attempt.server.as_ref().map(|_| Parent { id: self.accept_id(attempt), remote: false });
            push(&described.node, self.forward(described, &forward, connect.or(accept), &state));
        }
        if let Some(socket) = &attempt.server {
            let server = described.server.as_ref().unwrap_or(&described.unknown);
            push(server, self.accept(described, &facts.server, socket, connect, &state));
        }
        records
    }

    /// The record of a flow.
    pub fn flow(&self, described: &DescribedFlow, sampled: bool) -> Record {
        let bytes = flows::record(described, &self.options.id_key, sampled);
        Record { resource: self.resources.of(&described.own), bytes }
    }

    /// The attempt's `tcp connect` as a parent: this node's own, or that of a client with an agent of
    /// its own. None where no such span will ever come.
    fn connect_as_parent(&self, attempt: &Attempt) -> Option<Parent> {
        let id = ids::connect(&self.options.id_key, attempt.trace);
        if attempt.role == Role::Client {
            return Some(Parent { id, remote: false });
        }
        let seen = attempt.wire.last().or_else(|| attempt.sightings.first().map(|sighting| &sighting.tuple));
        let client = seen.or(attempt.server.as_ref().map(|socket| &socket.tuple))?.src.addr.ip();
        self.options.covered.contains(client).then_some(Parent { id, remote: true })
    }

    fn accept_id(&self, attempt: &Attempt) -> SpanId {
        ids::span(&self.options.id_key, attempt.trace, &self.options.node_name, SpanRole::Accept, "")
    }

    fn connect(&self, described: &Described, attributes: &Attributes, state: &str) -> Vec<u8> {
        let attempt = &*described.attempt;
        let (mut events, mut links) = (Vec::with_capacity(512), Vec::new());
        let dropped_events = events::of_attempt(attempt, described.clock, &mut events);
        let dropped_links = links::of_attempt(attempt, &self.options.id_key, &mut links);
        let id = ids::connect(&self.options.id_key, attempt.trace);
        let place = Place { trace: attempt.trace, id, parent: None };
        let times = (attempt.started, attempt.ended);
        Draft {
            events,
            dropped_events,
            links,
            dropped_links,
            failed: failed(described),
            ..self.span(described.clock, span::TCP_CONNECT, SpanKind::Client, place, times, attributes)
        }
        .write(state)
    }

    /// All that is known of an attempt, for its spans and its record alike.
    pub fn facts(&self, described: &Described) -> Facts {
        let attempt = &*described.attempt;
        let client = attempt.role == Role::Client;
        let server = attempt.server.as_ref();
        Facts {
            client: if client { self.client_facts(described) } else { Attributes::default() },
            server: server.map(|socket| self.server_facts(described, socket)).unwrap_or_default(),
        }
    }

    /// All that is known of a client's attempt, for its span and its record alike.
    fn client_facts(&self, described: &Described) -> Attributes {
        let attempt = &*described.attempt;
        let mut attributes = Attributes::with_capacity(32);
        attributes.mark(attribute::SYNSPAN_REPLAY, self.options.replay);
        facts::put_client_ends(&mut attributes, attempt);
        facts::put_verdict(&mut attributes, described);
        if let Some(peer) = &described.peer {
            facts::put_peer(&mut attributes, peer);
        }
        if let Some(service) = &described.service {
            attributes.opt_str(attribute::K8S_SERVICE_NAME, service.get(attribute::K8S_SERVICE_NAME));
        }
        if let Some(owner) = &attempt.previous_owner {
            let identity = described.previous_owner.as_deref();
            facts::put_previous_owner(&mut attributes, owner, identity, &self.options.id_key);
        }
        if let Some(process) = attempt.client.as_ref().and_then(|socket| socket.process.as_ref()) {
            attributes.int(attribute::PROCESS_PID, process.pid);
        }
        attributes.opt_str(attribute::PROCESS_EXECUTABLE_NAME, described.executable.as_deref());
        attributes
    }

    /// The log record of an attempt whose facts those are; none if another node's agent has it. `sampled` says whether the
    /// span was kept.
    ///
    /// The client's node tells of every attempt; the server's of those whose client has no agent.
    pub fn record(&self, described: &Described, facts: &Facts, sampled: bool) -> Option<Record> {
        let attempt = &*described.attempt;
        let pending = attempt.verdict.outcome == Outcome::Pending;
        let name = if pending && attempt.syns > 1 { event::SYNSPAN_CONNECT_STALLED } else { event::SYNSPAN_CONNECT };
        let mut more = Attributes::with_capacity(4);
        let (resource, facts, span) = match (attempt.role, &attempt.server) {
            (Role::Client, _) => {
                if let Some(forward) = Forward::of(attempt) {
                    forward.put_nat(&mut more);
                }
                (described.client.as_ref(), &facts.client, ids::connect(&self.options.id_key, attempt.trace))
            }
            (Role::Server, Some(_)) if self.connect_as_parent(attempt).is_none() => {
                (described.server.as_ref(), &facts.server, self.accept_id(attempt))
            }
            _ => return None,
        };
        more.double(attribute::SYNSPAN_DURATION, attempt.duration().as_secs_f64());
        let event = logs::Event {
            name,
            severity: logs::Severity::of(attempt),
            time: described.clock.unix_nanos(attempt.ended),
            body: logs::line(described),
            span: Some((attempt.trace, span)),
            sampled,
        };
        let resource = self.resources.of(resource.unwrap_or(&described.unknown));
        Some(Record { resource, bytes: event.record(&[facts, &more]) })
    }

    /// Where an attempt's own span is: the client's, else the server's.
    pub fn own_span(&self, attempt: &Attempt) -> SpanId {
        match attempt.role {
            Role::Client => ids::connect(&self.options.id_key, attempt.trace),
            Role::Server | Role::Transit => self.accept_id(attempt),
        }
    }

    /// The short `tcp connect` in the trace of a later SYN that was the one answered: a far node that
    /// never saw the first SYN names it as its parent.
    fn connect_again(&self, described: &Described, answered: TraceId, state: &str) -> Vec<u8> {
        let attempt = &*described.attempt;
        let mut attributes = Attributes::with_capacity(16);
        facts::put_client_ends(&mut attributes, attempt);
        attributes.str(attribute::SYNSPAN_OUTCOME, attempt.verdict.outcome.as_str());
        attributes.opt_str(attribute::ERROR_TYPE, error_type(attempt));
        attributes.bool(attribute::SYNSPAN_SYN_RETRY, true);
        if let Some(peer) = &described.peer {
            facts::put_peer(&mut attributes, peer);
        }
        let id = ids::connect(&self.options.id_key, answered);
        let place = Place { trace: answered, id, parent: None };
        let times = (answered_syn(attempt, answered), attempt.ended);
        attributes.mark(attribute::SYNSPAN_REPLAY, self.options.replay);
        let mut links = Vec::new();
        links::to(attempt.trace, value::link_type::SYN_RETRY, &self.options.id_key, &mut links);
        Draft {
            links,
            failed: failed(described),
            ..self.span(described.clock, span::TCP_CONNECT, SpanKind::Client, place, times, &attributes)
        }
        .write(state)
    }

    fn forward(&self, described: &Described, forward: &Forward<'_>, parent: Option<Parent>, state: &str) -> Vec<u8> {
        let attempt = &*described.attempt;
        let mut attributes = Attributes::with_capacity(32);
        forward.put(&mut attributes);
        facts::put_transport(&mut attributes, forward.entry.tuple.dst.addr);
        let culprit = attempt.verdict.cause == Some(Cause::DroppedInNode);
        // Where no other span of this node says what came of it, this one does.
        let failed = if attempt.role != Role::Client && attempt.server.is_none() {
            facts::put_verdict(&mut attributes, described);
            failed(described)
        } else if culprit {
            attributes.str(attribute::SYNSPAN_OUTCOME, attempt.verdict.outcome.as_str());
            attributes.str(attribute::SYNSPAN_CAUSE, Cause::DroppedInNode.as_str());
            attributes.opt_str(attribute::ERROR_TYPE, error_type(attempt));
            failed(described)
        } else {
            None
        };
        attributes.mark(attribute::SYNSPAN_REPLAY, self.options.replay);
        let point = &forward.entry.interface;
        let id = ids::span(&self.options.id_key, attempt.trace, &self.options.node_name, SpanRole::Forward, point);
        let place = Place { trace: attempt.trace, id, parent };
        let times = forward.times();
        Draft { failed, ..self.span(described.clock, span::TCP_FORWARD, SpanKind::Internal, place, times, &attributes) }
            .write(state)
    }

    fn accept(
        &self,
        described: &Described,
        attributes: &Attributes,
        socket: &ServerSocket,
        parent: Option<Parent>,
        state: &str,
    ) -> Vec<u8> {
        let attempt = &*described.attempt;
        // From the SYN's arrival; on the client's own node the last sight of it is the nearest.
        let last_sight = attempt.sightings.last().map(|sighting| sighting.first);
        let arrived = if attempt.role == Role::Client { last_sight } else { None };
        let start = arrived.unwrap_or(attempt.started).min(socket.established);
        let place = Place { trace: attempt.trace, id: self.accept_id(attempt), parent };
        let times = (start, socket.established);
        self.span(described.clock, span::TCP_ACCEPT, SpanKind::Server, place, times, attributes).write(state)
    }

    /// All that is known of an accepted connection.
    fn server_facts(&self, described: &Described, socket: &ServerSocket) -> Attributes {
        let attempt = &*described.attempt;
        let mut attributes = Attributes::with_capacity(24);
        attributes.mark(attribute::SYNSPAN_REPLAY, self.options.replay);
        attributes.endpoint(attribute::CLIENT_ADDRESS, attribute::CLIENT_PORT, socket.tuple.src);
        attributes.endpoint(attribute::SERVER_ADDRESS, attribute::SERVER_PORT, socket.tuple.dst);
        facts::put_transport(&mut attributes, socket.tuple.dst.addr);
        facts::put_own_ends(&mut attributes, socket.tuple.reversed());
        if attempt.role == Role::Client {
            attributes.str(attribute::SYNSPAN_OUTCOME, Outcome::Established.as_str());
        } else {
            facts::put_verdict(&mut attributes, described);
        }
        attributes
    }

    fn span<'a>(
        &self,
        clock: WallClock,
        name: &'static str,
        kind: SpanKind,
        place: Place,
        (start, end): (Mono, Mono),
        attributes: &'a Attributes,
    ) -> Draft<'a> {
        Draft {
            name,
            kind: if self.options.internal_kind { SpanKind::Internal } else { kind },
            place,
            times: (clock.unix_nanos(start), clock.unix_nanos(end.max(start))),
            attributes,
            events: Vec::new(),
            dropped_events: 0,
            links: Vec::new(),
            dropped_links: 0,
            failed: None,
        }
    }
}

#[cfg(test)]
impl Encoder {
    /// The spans of an attempt as a backend reads them, one entry for each resource.
    pub(crate) fn encode(&self, described: &Described) -> Vec<opentelemetry_proto::tonic::trace::v1::ResourceSpans> {
        super::decoded::spans(&self.spans(described, &self.facts(described), None))
    }
}

/// The sentence of an attempt that failed.
fn failed(described: &Described) -> Option<String> {
    described.attempt.failed().then(|| explanation(described).unwrap_or_default())
}

/// When the SYN of a later trace was sent: the n-th later trace belongs to the n-th retransmission.
fn answered_syn(attempt: &Attempt, answered: TraceId) -> Mono {
    let place = attempt.retry_traces.iter().position(|&trace| trace == answered);
    let wanted = place.and_then(|place| u32::try_from(place + 1).ok());
    let sent = attempt.steps.iter().find_map(|step| match step.step {
        StoryStep::Syn { retry, .. } if Some(retry) == wanted => Some(step.time),
        _ => None,
    });
    sent.unwrap_or(attempt.started)
}

#[cfg(test)]
pub(crate) mod arbitrary;
#[cfg(test)]
mod tests;
