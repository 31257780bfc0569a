//! Attempts as spans: `tcp connect`, `tcp forward`, `tcp accept`.

use std::sync::Arc;

use opentelemetry_proto::tonic::logs::v1::ResourceLogs;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use super::attributes::Attributes;
use super::forward::Forward;
use super::ids::{self, SpanId, SpanRole};
use super::links::{HAS_IS_REMOTE, IS_REMOTE, TRACE_FLAGS};
use super::volume::Threshold;
use super::{envelope, error_type, events, explanation, facts, links, logs};
use crate::capture::observation::Mono;
use crate::identify::Identity;
use crate::identify::clock::WallClock;
use crate::identify::covered::Covered;
use crate::identify::describe::Described;
use crate::names::{SCHEMA_URL, attribute, event, span, value};
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
}

/// A span's place in its trace.
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
        Self { options }
    }

    /// How many spans an attempt has.
    pub fn count(&self, attempt: &Attempt) -> usize {
        let connect = attempt.role == Role::Client;
        let again = connect && attempt.answered_trace.is_some_and(|answered| answered != attempt.trace);
        let (forward, accept) = (Forward::of(attempt).is_some(), attempt.server.is_some());
        [connect, again, forward, accept].into_iter().filter(|&is| is).count()
    }

    /// The spans of an attempt, with the probability of their being kept, if it is known.
    pub fn encode_kept(&self, described: &Described, kept: Option<Threshold>) -> Vec<ResourceSpans> {
        let mut resources = self.encode(described);
        if let Some(kept) = kept {
            let state = kept.trace_state();
            let scopes = resources.iter_mut().flat_map(|resource| &mut resource.scope_spans);
            scopes.flat_map(|scope| &mut scope.spans).for_each(|span| span.trace_state.clone_from(&state));
        }
        resources
    }

    /// The `tcp connect` of a previous owner that was not sent when it was new: as much as the ledger knows of it.
    pub fn late(&self, owner: &PreviousOwner, identity: &Identity, clock: WallClock) -> ResourceSpans {
        let mut attributes = Attributes::with_capacity(16);
        facts::put_transport(&mut attributes, owner.tuple.dst.addr);
        attributes.endpoint(attribute::SERVER_ADDRESS, attribute::SERVER_PORT, owner.tuple.dst);
        facts::put_own_ends(&mut attributes, owner.tuple);
        if let Some(tuple) = owner.wire {
            facts::put_wire_ends(&mut attributes, tuple);
        }
        attributes.str(attribute::SYNSPAN_OUTCOME, Outcome::Established.as_str());
        attributes.bool(attribute::SYNSPAN_LATE, true);
        let span = Span {
            trace_id: owner.trace.0.to_vec(),
            span_id: ids::connect(&self.options.id_key, owner.trace).0.to_vec(),
            flags: TRACE_FLAGS | HAS_IS_REMOTE,
            name: span::TCP_CONNECT.to_owned(),
            kind: if self.options.internal_kind { SpanKind::Internal } else { SpanKind::Client }.into(),
            start_time_unix_nano: clock.unix_nanos(owner.opened),
            end_time_unix_nano: clock.unix_nanos(owner.opened),
            attributes: attributes.finish(),
            status: Some(Status::default()),
            ..Span::default()
        };
        enclose(identity, vec![span])
    }

    /// The spans of an attempt, one entry for each resource; empty if this node has nothing to say of it.
    pub fn encode(&self, described: &Described) -> Vec<ResourceSpans> {
        let attempt = &*described.attempt;
        let mut groups = Groups::default();
        if attempt.role == Role::Client {
            let client = described.client.as_ref().unwrap_or(&described.unknown);
            groups.push(client, self.connect(described));
            if let Some(answered) = attempt.answered_trace.filter(|&answered| answered != attempt.trace) {
                groups.push(client, self.connect_again(described, answered));
            }
        }
        let connect = self.connect_as_parent(attempt);
        let accept = attempt.server.as_ref().map(|socket| self.accept(described, socket, connect));
        if let Some(forward) = Forward::of(attempt) {
            // With no `tcp connect` to come, the accepted connection holds the trace together.
            let accept = accept.as_ref().map(|_| Parent { id: self.accept_id(attempt), remote: false });
            groups.push(&described.node, self.forward(described, &forward, connect.or(accept)));
        }
        if let Some(accept) = accept {
            groups.push(described.server.as_ref().unwrap_or(&described.unknown), accept);
        }
        groups.finish()
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

    fn connect(&self, described: &Described) -> Span {
        let attempt = &*described.attempt;
        let attributes = self.client_facts(described);
        let (events, dropped_events_count) = events::of_attempt(attempt, described.clock);
        let (links, dropped_links_count) = links::of_attempt(attempt, &self.options.id_key);
        let id = ids::connect(&self.options.id_key, attempt.trace);
        let place = Place { trace: attempt.trace, id, parent: None };
        let times = (attempt.started, attempt.ended);
        Span {
            events,
            dropped_events_count,
            links,
            dropped_links_count,
            status: Some(status(described)),
            ..self.span(described, span::TCP_CONNECT, SpanKind::Client, place, times, attributes)
        }
    }

    /// All that is known of a client's attempt, for its span and its record alike.
    fn client_facts(&self, described: &Described) -> Attributes {
        let attempt = &*described.attempt;
        let mut attributes = Attributes::with_capacity(48);
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

    /// The attempt's log record; none if another node's agent has it. `sampled` says whether the span was kept.
    ///
    /// The client's node tells of every attempt; the server's of those whose client has no agent.
    pub fn record(&self, described: &Described, sampled: bool) -> Option<ResourceLogs> {
        let attempt = &*described.attempt;
        let pending = attempt.verdict.outcome == Outcome::Pending;
        let name = if pending && attempt.syns > 1 { event::SYNSPAN_CONNECT_STALLED } else { event::SYNSPAN_CONNECT };
        let (resource, mut attributes, span) = match (attempt.role, &attempt.server) {
            (Role::Client, _) => {
                let span = ids::connect(&self.options.id_key, attempt.trace);
                let mut attributes = self.client_facts(described);
                if let Some(forward) = Forward::of(attempt) {
                    forward.put_nat(&mut attributes);
                }
                (described.client.as_ref(), attributes, span)
            }
            (Role::Server, Some(socket)) if self.connect_as_parent(attempt).is_none() => {
                (described.server.as_ref(), self.server_facts(described, socket), self.accept_id(attempt))
            }
            _ => return None,
        };
        attributes.double(attribute::SYNSPAN_DURATION, attempt.duration().as_secs_f64());
        attributes.mark(attribute::SYNSPAN_REPLAY, self.options.replay);
        let event = logs::Event {
            name,
            severity: logs::Severity::of(attempt),
            time: described.clock.unix_nanos(attempt.ended),
            body: logs::line(described),
            span: Some((attempt.trace, span)),
            sampled,
        };
        Some(logs::enclose(resource.unwrap_or(&described.unknown), event.record(attributes)))
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
    fn connect_again(&self, described: &Described, answered: TraceId) -> Span {
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
        Span {
            links: vec![links::to(attempt.trace, value::link_type::SYN_RETRY, &self.options.id_key)],
            status: Some(status(described)),
            ..self.span(described, span::TCP_CONNECT, SpanKind::Client, place, times, attributes)
        }
    }

    fn forward(&self, described: &Described, forward: &Forward<'_>, parent: Option<Parent>) -> Span {
        let attempt = &*described.attempt;
        let mut attributes = Attributes::with_capacity(32);
        forward.put(&mut attributes);
        facts::put_transport(&mut attributes, forward.entry.tuple.dst.addr);
        let culprit = attempt.verdict.cause == Some(Cause::DroppedInNode);
        // Where no other span of this node says what came of it, this one does.
        let status = if attempt.role != Role::Client && attempt.server.is_none() {
            facts::put_verdict(&mut attributes, described);
            status(described)
        } else if culprit {
            attributes.str(attribute::SYNSPAN_OUTCOME, attempt.verdict.outcome.as_str());
            attributes.str(attribute::SYNSPAN_CAUSE, Cause::DroppedInNode.as_str());
            attributes.opt_str(attribute::ERROR_TYPE, error_type(attempt));
            status(described)
        } else {
            Status::default()
        };
        let point = &forward.entry.interface;
        let id = ids::span(&self.options.id_key, attempt.trace, &self.options.node_name, SpanRole::Forward, point);
        let place = Place { trace: attempt.trace, id, parent };
        Span {
            status: Some(status),
            ..self.span(described, span::TCP_FORWARD, SpanKind::Internal, place, forward.times(), attributes)
        }
    }

    fn accept(&self, described: &Described, socket: &ServerSocket, parent: Option<Parent>) -> Span {
        let attempt = &*described.attempt;
        let attributes = self.server_facts(described, socket);
        // From the SYN's arrival; on the client's own node the last sight of it is the nearest.
        let last_sight = attempt.sightings.last().map(|sighting| sighting.first);
        let arrived = if attempt.role == Role::Client { last_sight } else { None };
        let start = arrived.unwrap_or(attempt.started).min(socket.established);
        let place = Place { trace: attempt.trace, id: self.accept_id(attempt), parent };
        let times = (start, socket.established);
        self.span(described, span::TCP_ACCEPT, SpanKind::Server, place, times, attributes)
    }

    /// All that is known of an accepted connection.
    fn server_facts(&self, described: &Described, socket: &ServerSocket) -> Attributes {
        let attempt = &*described.attempt;
        let mut attributes = Attributes::with_capacity(24);
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

    fn span(
        &self,
        described: &Described,
        name: &str,
        kind: SpanKind,
        place: Place,
        (start, end): (Mono, Mono),
        mut attributes: Attributes,
    ) -> Span {
        attributes.mark(attribute::SYNSPAN_REPLAY, self.options.replay);
        let kind = if self.options.internal_kind { SpanKind::Internal } else { kind };
        let remote = place.parent.is_some_and(|parent| parent.remote);
        Span {
            trace_id: place.trace.0.to_vec(),
            span_id: place.id.0.to_vec(),
            trace_state: String::new(),
            parent_span_id: place.parent.map(|parent| parent.id.0.to_vec()).unwrap_or_default(),
            flags: TRACE_FLAGS | HAS_IS_REMOTE | if remote { IS_REMOTE } else { 0 },
            name: name.to_owned(),
            kind: kind.into(),
            start_time_unix_nano: described.clock.unix_nanos(start),
            end_time_unix_nano: described.clock.unix_nanos(end.max(start)),
            attributes: attributes.finish(),
            status: Some(Status::default()),
            ..Span::default()
        }
    }
}

/// Unset on success, Error with the sentence on failure.
fn status(described: &Described) -> Status {
    if !described.attempt.failed() {
        return Status::default();
    }
    Status { message: explanation(described).unwrap_or_default(), code: StatusCode::Error.into() }
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

/// Spans by resource, in the order in which the resources came.
#[derive(Default)]
struct Groups(Vec<(Arc<Identity>, Vec<Span>)>);

impl Groups {
    fn push(&mut self, resource: &Arc<Identity>, span: Span) {
        match self.0.iter_mut().find(|(known, _)| known == resource) {
            Some((_, spans)) => spans.push(span),
            None => self.0.push((Arc::clone(resource), vec![span])),
        }
    }

    fn finish(self) -> Vec<ResourceSpans> {
        self.0.into_iter().map(|(resource, spans)| enclose(&resource, spans)).collect()
    }
}

fn enclose(resource: &Identity, spans: Vec<Span>) -> ResourceSpans {
    ResourceSpans {
        resource: envelope::resource(resource),
        scope_spans: vec![ScopeSpans { scope: envelope::scope(), spans, schema_url: SCHEMA_URL.to_owned() }],
        schema_url: SCHEMA_URL.to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod arbitrary;
#[cfg(test)]
mod tests;
