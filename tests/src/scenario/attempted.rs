//! A connect that was made, and the spans that are its own.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::model::Connect;
use crate::seen::Span;
use crate::worker::protocol::Connected;

/// A connect that was made.
#[derive(Clone, Debug)]
pub struct Attempted {
    /// As the scenario has it.
    pub connect: Connect,
    /// Where to.
    pub to: SocketAddr,
    /// When, since 1970.
    pub began: Duration,
    /// When its results were there, since 1970.
    pub ended: Option<Duration>,
    /// When, by the lab's own clock.
    pub at: Instant,
    /// How it went, one for each.
    pub results: Vec<Connected>,
}

/// The attribute that every attempt's own span has. A span that only stands in for a parent in a later
/// SYN's trace is of the same name and is told by `synspan.syn_retry`.
pub(super) const OUTCOME: &str = "synspan.outcome";

/// Clocks of kernel and user space, read apart.
const CLOCK_SLACK: Duration = Duration::from_millis(50);

/// A span that is an attempt of a client, and not a stand-in for a parent.
pub(super) fn is_attempt(span: &Span) -> bool {
    span.is("tcp connect") && span.get(OUTCOME).is_some() && span.get("synspan.syn_retry").is_none()
}

/// The spans of a connect: by workload, destination and, where it is known, the client's port.
pub(super) fn of<'a>(attempt: &Attempted, spans: &'a [Span]) -> Vec<&'a Span> {
    // A socket that failed before it had a port says 0, and one that failed may say one that nobody else saw.
    let same_port = |own: Option<u16>| {
        attempt.results.iter().any(|result| match (result.local.map(|local| local.port()), own) {
            (None, _) | (Some(0), None) => true,
            (Some(known), Some(own)) => known == own,
            (Some(_), None) => result.result != "ok",
        })
    };
    let port = |span: &Span, name: &str| span.get(name).and_then(|port| port.parse::<u16>().ok());
    let own = |span: &Span| port(span, "network.local.port").filter(|&port| port != 0);
    // Where there never was a socket with two ends, there is still what was asked for.
    let to = |span: &Span| {
        let sides = [("network.peer.address", "network.peer.port"), ("server.address", "server.port")];
        let (address, to_port) = sides.into_iter().find(|(_, name)| port(span, name).is_some_and(|port| port != 0))?;
        Some(SocketAddr::new(span.get(address)?.parse().ok()?, port(span, to_port)?))
    };
    let earliest = attempt.began.saturating_sub(CLOCK_SLACK).as_nanos();
    spans
        .iter()
        .filter(|span| is_attempt(span) && span.service() == attempt.connect.from)
        .filter(|span| to(span) == Some(attempt.to))
        .filter(|span| u128::from(span.start) >= earliest && before_end(attempt, span))
        .filter(|span| same_port(own(span)))
        .collect()
}

/// Whether a span began before its connect was over, so that a later one from the same port is not taken for it.
fn before_end(attempt: &Attempted, span: &Span) -> bool {
    // Many are made one after the other, and on a busy machine there is time between them.
    let took: u64 = attempt.results.iter().map(|result| result.took_us).sum();
    let between = CLOCK_SLACK * 4 * u32::try_from(attempt.results.len().max(1)).unwrap_or(u32::MAX);
    let end = attempt.began + Duration::from_micros(took) + between;
    let end = attempt.ended.map_or(end, |ended| end.min(ended + CLOCK_SLACK));
    u128::from(span.start) <= end.as_nanos()
}
