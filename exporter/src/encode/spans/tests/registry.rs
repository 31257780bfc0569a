//! Spans and records against the registry of telemetry.

use synspan_schema::{Registry, otlp};

use super::encoder;
use crate::encode::decoded;
use crate::identify::fixtures;

#[test]
fn what_is_encoded_is_what_the_registry_says() {
    let registry = Registry::embedded().expect("the registry");
    let cases = [
        fixtures::clean(),
        fixtures::case(),
        fixtures::refused(),
        fixtures::no_response(),
        fixtures::dropped_in_node(),
        fixtures::aborted(),
        fixtures::suspected(),
        fixtures::server_side(),
        fixtures::ipv6(),
    ];
    for case in cases {
        let encoder = encoder("node-1", &[]);
        let mut found = otlp::of_spans(&registry, &encoder.encode(&case));
        found.extend(otlp::of_logs(
            &registry,
            &decoded::logs(encoder.record(&case, &encoder.facts(&case), true).as_slice()),
        ));
        assert!(found.is_empty(), "{found:#?}");
    }
}
