//! What a node did with a SYN that passed through it.

use std::time::Duration;

use super::attributes::Attributes;
use crate::capture::observation::{Direction, Mono};
use crate::names::attribute;
use crate::track::attempt::{Attempt, Role, Sighting};
use crate::track::verdict::{Cause, Outcome};

/// A SYN's way through this node.
#[derive(Clone, Copy, Debug)]
pub struct Forward<'a> {
    /// Where it came in.
    pub entry: &'a Sighting,
    /// Where it left; none if it never did.
    pub exit: Option<&'a Sighting>,
}

impl<'a> Forward<'a> {
    /// The way of an attempt's SYN, if the node forwarded it, or should have.
    ///
    /// A SYN that came in and left by no watched point was forwarded only if a drop in the node is the
    /// verdict, or it is a client's here that got no answer: an end on this node takes SYNs in as well,
    /// and some CNIs redirect past interfaces.
    pub fn of(attempt: &'a Attempt) -> Option<Self> {
        let entry = attempt.sightings.iter().find(|sighting| sighting.direction == Direction::Ingress)?;
        let exit = attempt.sightings.iter().rfind(|sighting| sighting.direction == Direction::Egress);
        let answered = matches!(attempt.verdict.outcome, Outcome::Established | Outcome::Refused);
        let lost_inside = attempt.server.is_none()
            && (attempt.verdict.cause == Some(Cause::DroppedInNode) || (attempt.role == Role::Client && !answered));
        (exit.is_some() || lost_inside).then_some(Self { entry, exit })
    }

    /// From when to when: the first SYN's time inside, or until the last one came that never left.
    pub fn times(&self) -> (Mono, Mono) {
        let end = self.exit.map_or(self.entry.last, |exit| exit.first);
        (self.entry.first, end.max(self.entry.first))
    }

    /// Time that the first SYN spent inside; none if it never left.
    pub fn inside(&self) -> Option<Duration> {
        self.exit.map(|exit| exit.first.since(self.entry.first))
    }

    /// Puts which end was rewritten on the way, if it left.
    pub fn put_nat(&self, attributes: &mut Attributes) {
        if let Some(exit) = self.exit {
            attributes.bool(attribute::SYNSPAN_NAT_SOURCE, self.entry.tuple.src != exit.tuple.src);
            attributes.bool(attribute::SYNSPAN_NAT_DESTINATION, self.entry.tuple.dst != exit.tuple.dst);
        }
    }

    /// Puts its facts.
    pub fn put(&self, attributes: &mut Attributes) {
        let entry = self.entry;
        attributes.str(attribute::SYNSPAN_FORWARD_IN_INTERFACE, &entry.interface);
        attributes.str(attribute::SYNSPAN_FORWARD_IN_POINT, entry.kind.as_str());
        attributes.endpoint(
            attribute::SYNSPAN_FORWARD_IN_SOURCE_ADDRESS,
            attribute::SYNSPAN_FORWARD_IN_SOURCE_PORT,
            entry.tuple.src,
        );
        attributes.endpoint(
            attribute::SYNSPAN_FORWARD_IN_DESTINATION_ADDRESS,
            attribute::SYNSPAN_FORWARD_IN_DESTINATION_PORT,
            entry.tuple.dst,
        );
        attributes.bool(attribute::SYNSPAN_FORWARD_LEFT, self.exit.is_some());
        if let Some(exit) = self.exit {
            attributes.str(attribute::SYNSPAN_FORWARD_OUT_INTERFACE, &exit.interface);
            attributes.str(attribute::SYNSPAN_FORWARD_OUT_POINT, exit.kind.as_str());
            attributes.endpoint(
                attribute::SYNSPAN_FORWARD_OUT_SOURCE_ADDRESS,
                attribute::SYNSPAN_FORWARD_OUT_SOURCE_PORT,
                exit.tuple.src,
            );
            attributes.endpoint(
                attribute::SYNSPAN_FORWARD_OUT_DESTINATION_ADDRESS,
                attribute::SYNSPAN_FORWARD_OUT_DESTINATION_PORT,
                exit.tuple.dst,
            );
        }
        self.put_nat(attributes);
        if let Some(inside) = self.inside() {
            attributes.double(attribute::SYNSPAN_FORWARD_DURATION, inside.as_secs_f64());
        }
    }
}
