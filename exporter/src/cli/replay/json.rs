//! An attempt as one JSON object.

use serde_json::{Value, json};

use crate::encode::facts::direction;
use crate::encode::{error_type, explanation};
use crate::identify::describe::Described;
use crate::track::attempt::{Attempt, PreviousOwner, Role, Sighting};

/// The object: every key is always there, null where there is nothing.
pub fn attempt(described: &Described) -> Value {
    let attempt: &Attempt = &described.attempt;
    let verdict = &attempt.verdict;
    let name =
        |identity: Option<&std::sync::Arc<crate::identify::Identity>>| identity.and_then(|who| who.display_name());
    json!({
        "role": match attempt.role {
            Role::Client => "client",
            Role::Server => "server",
            Role::Transit => "transit",
        },
        "started_unix_nano": described.clock.unix_nanos(attempt.started),
        "duration_s": attempt.duration().as_secs_f64(),
        "client": name(described.client.as_ref()),
        "source": attempt.client_tuple().map(|tuple| tuple.src.to_string()),
        "destination": attempt.destination().map(|end| end.to_string()),
        "outcome": verdict.outcome.as_str(),
        "error": error_type(attempt),
        "cause": verdict.cause.map(|cause| cause.as_str()),
        "evidence": verdict.evidence.as_str(),
        "responsible": verdict.responsible.map(|side| side.as_str()),
        "also": verdict.also.iter().map(|cause| cause.as_str()).collect::<Vec<_>>(),
        "explanation": explanation(described),
        "syns": attempt.syns,
        "points": attempt.sightings.iter().map(point).collect::<Vec<_>>(),
        "previous_owner": attempt.previous_owner.as_ref().map(|owner| previous_owner(
            owner,
            name(described.previous_owner.as_ref()),
        )),
        "reused": attempt.reused,
        "reuse_possible": attempt.reuse_possible,
        "ledger_partial": attempt.ledger_partial,
        "lossy": attempt.lossy,
        "trace_id": attempt.trace.to_string(),
        "retry_trace_ids": attempt.retry_traces.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn point(sighting: &Sighting) -> Value {
    json!({
        "kind": sighting.kind.as_str(),
        "name": &*sighting.interface,
        "direction": direction(sighting.direction),
        "tuple": sighting.tuple.to_string(),
        "source": sighting.tuple.src.to_string(),
        "destination": sighting.tuple.dst.to_string(),
        "syns": sighting.syns,
    })
}

fn previous_owner(owner: &PreviousOwner, name: Option<String>) -> Value {
    json!({
        "name": name,
        "tuple": owner.tuple.to_string(),
        "wire_tuple": owner.wire.map(|tuple| tuple.to_string()),
        "trace_id": owner.trace.to_string(),
        "closed_by": owner.closed_by.as_str(),
        "gap_s": owner.gap.map(|gap| gap.as_secs_f64()),
        "server_state": owner.server_state.as_str(),
    })
}
