//! What the agent of the server's node says of a connect: by its `tcp accept`, or by its `tcp forward` where nothing
//! was accepted.

use std::collections::HashSet;

use super::attempted::Attempted;
use super::model::Scenario;
use crate::seen::Span;

const OUTCOME: &str = "synspan.outcome";
const CAUSE: &str = "synspan.cause";

/// Whether a connect comes from outside, where no agent makes a `tcp connect` of it.
pub fn outside(scenario: &Scenario, attempt: &Attempted) -> bool {
    scenario.topology.node_of(&attempt.connect.from).is_none()
}

/// The node of a connect's server.
pub fn servers_node<'a>(scenario: &'a Scenario, attempt: &Attempted) -> Option<&'a str> {
    scenario.topology.node_of(&attempt.connect.to).map(|(_, node)| node.name.as_str())
}

/// Whether a span says what came of an attempt that is not its node's own.
pub fn is_verdict(span: &Span) -> bool {
    (span.is("tcp accept") || span.is("tcp forward")) && span.get(OUTCOME).is_some()
}

/// The spans of a node that tell of a connect: of its traces, or of its ends as they stand without translation.
/// `near` are the client's own spans of it.
pub fn of<'a>(attempt: &Attempted, node: &str, near: &[&Span], spans: &'a [Span]) -> Vec<&'a Span> {
    let traces = traces(near);
    let ports: Vec<String> =
        attempt.results.iter().filter_map(|result| Some(result.local?.port().to_string())).collect();
    let to = (attempt.to.ip().to_string(), attempt.to.port().to_string());
    let same_ends = |span: &Span| {
        let ends = if span.is("tcp accept") {
            ["client.port", "server.address", "server.port"]
        } else {
            [
                "synspan.forward.in.source.port",
                "synspan.forward.in.destination.address",
                "synspan.forward.in.destination.port",
            ]
        };
        let [port, address, to_port] = ends.map(|name| span.get(name).unwrap_or_default());
        u128::from(span.end) >= attempt.began.as_nanos()
            && (address, to_port) == (&to.0, &to.1)
            && ports.iter().any(|known| known == port)
    };
    let told = spans.iter().filter(|span| span.node == node && is_verdict(span));
    told.filter(|span| traces.contains(span.trace.as_str()) || (near.is_empty() && same_ends(span))).collect()
}

fn traces<'a>(near: &[&'a Span]) -> HashSet<&'a str> {
    let links = near.iter().flat_map(|span| span.links_of("syn_retry").map(|link| link.trace.as_str()));
    near.iter().map(|span| span.trace.as_str()).chain(links).collect()
}

/// Causes that a node told of attempts which nobody expected one of: those of the traces of controls, and those of
/// no connect of the scenario. `known` are the traces of which a cause is expected.
pub fn strays(known: &HashSet<String>, strangers: bool, spans: &[Span]) -> Vec<String> {
    let mut wrong = Vec::new();
    for span in spans.iter().filter(|span| !strangers && is_verdict(span) && !known.contains(&span.trace)) {
        if let Some(cause) = span.get(CAUSE) {
            wrong.push(format!("`{}` of {} has cause {cause}, and nothing of it was at fault", span.name, span.node));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(name: &str, trace: &str, cause: Option<&str>) -> Span {
        let mut span = Span { node: "node-b".into(), name: name.into(), trace: trace.into(), ..Span::default() };
        span.attributes.insert(OUTCOME.into(), "failed".into());
        if let Some(cause) = cause {
            span.attributes.insert(CAUSE.into(), cause.into());
        }
        span
    }

    #[test]
    fn a_cause_at_the_server_that_nobody_expects_is_a_stray() {
        let spans = [
            span("tcp forward", "a", Some("accept_queue_overflow")),
            span("tcp accept", "b", None),
            span("tcp accept", "c", Some("handshake_reset")),
            span("tcp connect", "d", Some("refused")),
        ];
        let known = HashSet::from(["a".to_owned()]);
        let wrong = strays(&known, false, &spans);
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(wrong[0].contains("handshake_reset"), "{wrong:?}");
        assert!(strays(&known, true, &spans).is_empty());
    }
}
