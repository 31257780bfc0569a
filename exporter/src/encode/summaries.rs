//! Records that sum up: attempts beyond their budget, and SYNs from outside that came to nothing.

use super::attributes::Attributes;
use super::envelope::{Record, resource_bytes};
use super::logs::{Event, Severity};
use super::volume::Summary;
use crate::identify::Identity;
use crate::identify::clock::WallClock;
use crate::names::{attribute, event};
use crate::track::attempt::InboundSummary;

/// Attempts of one workload, destination and cause beyond their budget; those of many on the node's network.
pub fn beyond_budget(summary: &Summary, network: &Identity, clock: WallClock) -> Record {
    let Summary { key, attempts, failed, from, until } = summary;
    let seconds = until.since(*from).as_secs_f64();
    let mut attributes = Attributes::with_capacity(8);
    if let Some(destination) = key.destination {
        attributes.endpoint(attribute::SERVER_ADDRESS, attribute::SERVER_PORT, destination);
    }
    attributes.opt_str(attribute::SYNSPAN_OUTCOME, key.outcome.map(|outcome| outcome.as_str()));
    attributes.opt_str(attribute::SYNSPAN_CAUSE, key.cause.map(|cause| cause.as_str()));
    attributes.int(attribute::SYNSPAN_SUMMARY_ATTEMPTS, int(*attempts));
    attributes.int(attribute::SYNSPAN_SUMMARY_FAILED, int(*failed));
    attributes.double(attribute::SYNSPAN_SUMMARY_DURATION, seconds);
    let who = key.client.as_ref().and_then(|client| client.display_name());
    let to = key.destination.map_or_else(|| "several destinations".to_owned(), |to| to.to_string());
    let outcome = key.outcome.map_or("", |outcome| outcome.as_str());
    let cause = key.cause.map(|cause| format!(": {}", cause.as_str())).unwrap_or_default();
    let who = who.as_deref().unwrap_or("several workloads");
    let event = Event {
        name: event::SYNSPAN_CONNECT_SUMMARY,
        severity: if *failed > 0 { Severity::Error } else { Severity::Warn },
        time: clock.unix_nanos(*until),
        body: format!(
            "{attempts} more attempts of {who} -> {to} in {seconds:.1} s, {failed} of them failed; {outcome}{cause}; over the budget, so none has a span of its own"
        ),
        span: None,
        sampled: false,
    };
    let resource = resource_bytes(key.client.as_deref().unwrap_or(network));
    Record { resource, bytes: event.record(&[&attributes]) }
}

/// SYNs from outside to a listener of this node.
pub fn inbound(summary: &InboundSummary, network: &Identity, clock: WallClock) -> Record {
    let seconds = summary.until.since(summary.from).as_secs_f64();
    let mut attributes = Attributes::with_capacity(8);
    attributes.endpoint(attribute::SERVER_ADDRESS, attribute::SERVER_PORT, summary.listener);
    attributes.int(attribute::SYNSPAN_INBOUND_SYNS, int(summary.syns));
    attributes.int(attribute::SYNSPAN_INBOUND_COUNTED, int(summary.counted));
    attributes.double(attribute::SYNSPAN_SUMMARY_DURATION, seconds);
    let event = Event {
        name: event::SYNSPAN_INBOUND,
        severity: Severity::Warn,
        time: clock.unix_nanos(summary.until),
        body: format!(
            "{} SYNs from outside to {} in {seconds:.1} s were followed by no connection",
            summary.syns, summary.listener
        ),
        span: None,
        sampled: false,
    };
    Record { resource: resource_bytes(network), bytes: event.record(&[&attributes]) }
}

fn int(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
