//! What is really in the spans of hand-made attempts.

mod registry;

use std::collections::HashMap;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use proptest::prelude::*;

use super::arbitrary::any_described;
use super::*;
use crate::encode::{Priority, priority};
use crate::identify::fixtures::{self, STALE, START_UNIX};
use crate::names::SCHEMA_URL;
use crate::track::attempt::MAX_STEPS;
use crate::track::trace_id::DEFAULT_KEY;

fn encoder(node: &str, covered: &[&str]) -> Encoder {
    Encoder::new(Options {
        node_name: Arc::from(node),
        covered: Covered::new(covered.iter().map(|prefix| prefix.parse().expect("prefix"))),
        internal_kind: false,
        id_key: DEFAULT_KEY,
        replay: false,
    })
}

#[test]
fn what_replay_made_says_so_on_every_span() {
    let options = |replay| Options {
        node_name: Arc::from("node-a"),
        covered: Covered::default(),
        internal_kind: false,
        id_key: DEFAULT_KEY,
        replay,
    };
    for replay in [false, true] {
        let encoded = Encoder::new(options(replay)).encode(&fixtures::case());
        let all = encoded.iter().flat_map(|of| &of.scope_spans).flat_map(|of| &of.spans);
        let marked: Vec<bool> = all
            .map(|span| span.attributes.iter().any(|attribute| attribute.key == attribute::SYNSPAN_REPLAY))
            .collect();
        assert!(!marked.is_empty() && marked.iter().all(|&marked| marked == replay));
    }
}

/// All spans with the service name of their resource.
fn spans(encoded: &[ResourceSpans]) -> Vec<(String, Span)> {
    let mut all = Vec::new();
    for group in encoded {
        assert_eq!(group.schema_url, SCHEMA_URL);
        let service = text(&group.resource.as_ref().expect("resource").attributes, "service.name").expect("service");
        assert!(!group.scope_spans.is_empty());
        for scope in &group.scope_spans {
            assert_eq!(scope.schema_url, SCHEMA_URL);
            assert_eq!(scope.scope.as_ref().map(|scope| scope.name.as_str()), Some("synspan"));
            all.extend(scope.spans.iter().map(|span| (service.clone(), span.clone())));
        }
    }
    all
}

fn only(encoded: &[ResourceSpans], name: &str) -> (String, Span) {
    let mut named: Vec<_> = spans(encoded).into_iter().filter(|(_, span)| span.name == name).collect();
    assert_eq!(named.len(), 1, "{name}: {named:?}");
    named.remove(0)
}

fn value(attributes: &[KeyValue], name: &str) -> Option<Value> {
    let found: Vec<_> = attributes.iter().filter(|attribute| attribute.key == name).collect();
    assert!(found.len() <= 1, "{name} is there twice");
    found.first()?.value.clone()?.value
}

fn text(attributes: &[KeyValue], name: &str) -> Option<String> {
    match value(attributes, name)? {
        Value::StringValue(text) => Some(text),
        Value::ArrayValue(list) => Some(
            list.values
                .into_iter()
                .map(|item| match item.value {
                    Some(Value::StringValue(text)) => text,
                    other => panic!("{other:?} in a list of strings"),
                })
                .collect::<Vec<_>>()
                .join(" "),
        ),
        Value::IntValue(number) => Some(number.to_string()),
        Value::DoubleValue(number) => Some(number.to_string()),
        Value::BoolValue(truth) => Some(truth.to_string()),
        other => panic!("{name} is {other:?}"),
    }
}

fn assert_has(span: &Span, expected: &[(&str, &str)]) {
    for &(name, wanted) in expected {
        assert_eq!(text(&span.attributes, name).as_deref(), Some(wanted), "{name}");
    }
}

fn assert_lacks(span: &Span, names: &[&str]) {
    for name in names {
        assert_eq!(text(&span.attributes, name), None, "{name}");
    }
}

/// Whatever the sampling ratio says.
fn kept_by_rule(described: &Described) -> bool {
    priority(&described.attempt) == Priority::Failure
}

fn code(span: &Span) -> i32 {
    span.status.as_ref().map_or(0, |status| status.code)
}

#[test]
fn the_case_tells_the_whole_story_on_tcp_connect() {
    let encoded = encoder("node-1", &[]).encode(&fixtures::case());
    assert!(kept_by_rule(&fixtures::case()));
    let (service, connect) = only(&encoded, span::TCP_CONNECT);
    assert_eq!(service, "vehicle-control");
    assert_eq!(connect.kind, SpanKind::Client as i32);
    assert_eq!(connect.trace_id, vec![0x4f; 16]);
    assert!(connect.parent_span_id.is_empty());
    assert_eq!(connect.flags, 0x103);
    assert_eq!(connect.start_time_unix_nano, START_UNIX);
    assert_eq!(connect.end_time_unix_nano, START_UNIX + 1_013_000_000);
    assert_eq!(code(&connect), StatusCode::Unset as i32, "late, but a success");
    let owners_span = ids::connect(&DEFAULT_KEY, TraceId([0x1c; 16])).to_string();
    assert_has(
        &connect,
        &[
            ("server.address", "192.168.50.20"),
            ("server.port", "8443"),
            ("network.local.address", "10.244.1.12"),
            ("network.local.port", "34732"),
            ("network.peer.address", "192.168.50.20"),
            ("network.transport", "tcp"),
            ("network.type", "ipv4"),
            ("synspan.wire.local.address", "192.168.50.10"),
            ("synspan.wire.local.port", "46994"),
            ("synspan.wire.peer.port", "8443"),
            ("synspan.outcome", "established"),
            ("synspan.cause", "source_port_reuse"),
            ("synspan.causes", "source_port_reuse syn_lost"),
            ("synspan.evidence", "exact"),
            ("synspan.responsible", "node"),
            ("synspan.points", "socket pod_nic:veth-b:ingress node_nic:eth0:egress"),
            ("synspan.syns", "2"),
            ("synspan.reuse", "true"),
            ("synspan.previous_owner.service.name", "cart"),
            ("synspan.previous_owner.service.namespace", "shop"),
            ("synspan.previous_owner.k8s.pod.name", "cart-7f9c"),
            ("synspan.previous_owner.local.address", "10.244.1.11"),
            ("synspan.previous_owner.local.port", "51544"),
            ("synspan.previous_owner.wire.address", "192.168.50.10"),
            ("synspan.previous_owner.wire.port", "46994"),
            ("synspan.previous_owner.gap", "0.162"),
            ("synspan.previous_owner.duration", "2.5"),
            ("synspan.previous_owner.closed_by", "client"),
            ("synspan.previous_owner.server_state", "never_closed"),
            ("synspan.previous_owner.trace_id", &"1c".repeat(16)),
            ("synspan.previous_owner.span_id", &owners_span),
            ("process.pid", "4711"),
            ("process.executable.name", "java"),
        ],
    );
    assert_lacks(&connect, &["error.type", "synspan.reuse.possible", "synspan.lossy", "synspan.ledger_partial"]);
}

#[test]
fn the_cases_links_lead_to_the_owner_and_to_the_later_syn() {
    let (_, connect) = only(&encoder("node-1", &[]).encode(&fixtures::case()), span::TCP_CONNECT);
    let links: Vec<_> = connect
        .links
        .iter()
        .map(|link| (text(&link.attributes, "synspan.link.type").expect("type"), link.trace_id[0], link.flags))
        .collect();
    assert_eq!(links, [("previous_owner".to_owned(), 0x1c, 0x103), ("syn_retry".to_owned(), 0x50, 0x103)]);
    assert_eq!(connect.links[0].span_id, ids::connect(&DEFAULT_KEY, TraceId([0x1c; 16])).0);
}

#[test]
fn the_cases_events_tell_each_step_with_its_place_and_numbers() {
    let (_, connect) = only(&encoder("node-1", &[]).encode(&fixtures::case()), span::TCP_CONNECT);
    let names: Vec<&str> = connect.events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "synspan.syn",
            "synspan.syn",
            "synspan.stale_ack",
            "synspan.stale_ack",
            "synspan.rst",
            "synspan.rst",
            "synspan.syn_retransmission",
            "synspan.syn_retransmission",
            "synspan.syn_ack",
            "synspan.syn_ack",
        ]
    );
    let stale = &connect.events[2];
    assert_eq!(stale.time_unix_nano, START_UNIX + 400_000);
    let has = |at: usize, name: &str| text(&connect.events[at].attributes, name);
    assert_eq!(has(2, "synspan.point").as_deref(), Some("node_nic"));
    assert_eq!(has(2, "network.interface.name").as_deref(), Some("eth0"));
    assert_eq!(has(2, "synspan.tcp.seq"), Some(STALE.0.to_string()));
    assert_eq!(has(2, "synspan.tcp.ack"), Some(STALE.1.to_string()));
    assert_eq!(has(4, "synspan.tcp.seq"), Some(STALE.1.to_string()), "the RST alone is proof");
    assert_eq!(has(1, "source.port"), None, "the span's own attributes tell the last wire tuple");
    assert_eq!(text(&connect.attributes, "synspan.wire.local.port").as_deref(), Some("46994"));
}

#[test]
fn numbers_of_a_connection_that_is_open_still_do_not_leave_the_node() {
    let mut case = fixtures::case();
    let owner = case.attempt.previous_owner.as_mut().expect("owner");
    owner.closed = None;
    owner.gap = None;
    let (_, connect) = only(&encoder("node-1", &[]).encode(&case), span::TCP_CONNECT);
    assert!(connect.events.iter().all(|event| text(&event.attributes, "synspan.tcp.ack").is_none()));
    assert!(connect.events.iter().all(|event| text(&event.attributes, "synspan.tcp.seq").is_none()));
    assert_has(&connect, &[("synspan.previous_owner.open", "true")]);
    assert_lacks(&connect, &["synspan.previous_owner.gap", "synspan.previous_owner.duration"]);
}

#[test]
fn the_node_tells_what_it_rewrote() {
    let encoded = encoder("node-1", &[]).encode(&fixtures::case());
    let (service, forward) = only(&encoded, span::TCP_FORWARD);
    assert_eq!(service, "node-network");
    assert_eq!(forward.kind, SpanKind::Internal as i32);
    let (_, connect) = only(&encoded, span::TCP_CONNECT);
    assert_eq!(forward.parent_span_id, connect.span_id);
    assert_eq!(forward.trace_id, connect.trace_id);
    assert_eq!(forward.flags, 0x103);
    assert_eq!(forward.end_time_unix_nano - forward.start_time_unix_nano, 30_000);
    assert_has(
        &forward,
        &[
            ("synspan.forward.in.interface", "veth-b"),
            ("synspan.forward.in.point", "pod_nic"),
            ("synspan.forward.in.source.port", "34732"),
            ("synspan.forward.out.interface", "eth0"),
            ("synspan.forward.out.source.address", "192.168.50.10"),
            ("synspan.forward.out.source.port", "46994"),
            ("synspan.forward.left", "true"),
            ("synspan.nat.source", "true"),
            ("synspan.nat.destination", "false"),
            ("synspan.forward.duration", "0.00003"),
        ],
    );
}

#[test]
fn failures_are_errors_by_what_the_application_got() {
    let cases = [
        (fixtures::refused(), "connection_refused", "connection_refused"),
        (fixtures::no_response(), "timed_out", "no_response"),
        (fixtures::aborted(), "aborted", "no_response"),
        (fixtures::suspected(), "timed_out", "source_port_reuse_suspected"),
        (fixtures::dropped_in_node(), "timed_out", "dropped_in_node"),
    ];
    for (described, error, cause) in cases {
        let encoded = encoder("node-1", &[]).encode(&described);
        assert!(kept_by_rule(&described), "{cause}");
        let (_, connect) = only(&encoded, span::TCP_CONNECT);
        assert_eq!(code(&connect), StatusCode::Error as i32, "{cause}");
        assert!(!connect.status.as_ref().expect("status").message.is_empty());
        assert_has(&connect, &[("error.type", error), ("synspan.cause", cause)]);
    }
}

#[test]
fn a_client_that_aborted_with_nothing_wrong_is_no_error() {
    let mut described = fixtures::aborted();
    described.attempt.verdict.cause = Some(Cause::ClientAborted);
    let (_, connect) = only(&encoder("node-1", &[]).encode(&described), span::TCP_CONNECT);
    assert_eq!(code(&connect), StatusCode::Unset as i32);
    assert_lacks(&connect, &["error.type"]);
}

#[test]
fn a_syn_that_never_left_marks_the_node() {
    let (service, forward) = only(&encoder("node-1", &[]).encode(&fixtures::dropped_in_node()), span::TCP_FORWARD);
    assert_eq!(service, "node-network");
    assert_eq!(code(&forward), StatusCode::Error as i32);
    assert_has(&forward, &[("synspan.forward.left", "false"), ("synspan.cause", "dropped_in_node")]);
    assert_lacks(&forward, &["synspan.forward.out.interface", "synspan.forward.duration"]);
}

#[test]
fn a_clean_success_is_not_kept_by_rule_and_says_no_cause() {
    let encoded = encoder("node-1", &[]).encode(&fixtures::clean());
    assert!(!kept_by_rule(&fixtures::clean()));
    let (_, connect) = only(&encoded, span::TCP_CONNECT);
    assert_lacks(&connect, &["synspan.cause", "synspan.evidence", "synspan.reuse", "synspan.explanation"]);
    assert!(connect.links.is_empty());
}

#[test]
fn slow_and_reused_successes_are_kept() {
    let mut slow = fixtures::clean();
    slow.attempt.ended = fixtures::at(500_000);
    let mut reused = fixtures::clean();
    reused.attempt.reused = true;
    let mut again = fixtures::clean();
    again.attempt.syns = 2;
    for described in [slow, reused, again] {
        assert!(kept_by_rule(&described));
    }
}

#[test]
fn ipv6_without_nat_has_one_span_with_equal_ends() {
    let encoded = encoder("node-1", &[]).encode(&fixtures::ipv6());
    assert_eq!(spans(&encoded).len(), 1, "a host's own SYN is not forwarded");
    let (service, connect) = only(&encoded, span::TCP_CONNECT);
    assert_eq!(service, "backup");
    assert_has(
        &connect,
        &[
            ("network.type", "ipv6"),
            ("server.address", "2001:db8::20"),
            ("network.local.address", "2001:db8::10"),
            ("synspan.wire.local.address", "2001:db8::10"),
            ("synspan.points", "socket node_nic:eth0:egress"),
        ],
    );
}

#[test]
fn two_nodes_make_one_trace_with_no_coordination() {
    let client = encoder("node-1", &[]).encode(&fixtures::clean());
    let server = encoder("node-2", &["192.168.50.0/28"]).encode(&fixtures::server_side());
    let (_, connect) = only(&client, span::TCP_CONNECT);
    let (service, accept) = only(&server, span::TCP_ACCEPT);
    assert_eq!(service, "account");
    assert_eq!(accept.kind, SpanKind::Server as i32);
    assert_eq!(accept.trace_id, connect.trace_id);
    assert_eq!(accept.parent_span_id, connect.span_id);
    assert_eq!(accept.flags, 0x303, "the parent is another node's");
    assert_has(
        &accept,
        &[
            ("client.address", "192.168.50.10"),
            ("client.port", "46994"),
            ("server.address", "10.245.0.9"),
            ("server.port", "443"),
            ("network.local.address", "10.245.0.9"),
            ("synspan.outcome", "established"),
        ],
    );
    let (_, forward_1) = only(&client, span::TCP_FORWARD);
    let (_, forward_2) = only(&server, span::TCP_FORWARD);
    assert_ne!(forward_1.span_id, forward_2.span_id);
    assert_eq!(forward_2.parent_span_id, connect.span_id);
    assert_has(&forward_2, &[("synspan.nat.source", "false"), ("synspan.nat.destination", "true")]);
    assert!(spans(&server).iter().all(|(_, span)| span.name != span::TCP_CONNECT));
}

#[test]
fn a_client_with_no_agent_leaves_the_accept_as_root() {
    let encoded = encoder("node-2", &[]).encode(&fixtures::server_side());
    let (_, accept) = only(&encoded, span::TCP_ACCEPT);
    assert!(accept.parent_span_id.is_empty());
    let (_, forward) = only(&encoded, span::TCP_FORWARD);
    assert_eq!(forward.parent_span_id, accept.span_id, "one root in the trace");
}

#[test]
fn a_failed_inbound_attempt_is_told_by_the_forward() {
    let mut described = fixtures::server_side();
    described.attempt.server = None;
    described.server = None;
    described.attempt.verdict.outcome = Outcome::Failed;
    let encoded = encoder("node-2", &[]).encode(&described);
    let (_, forward) = only(&encoded, span::TCP_FORWARD);
    assert!(forward.parent_span_id.is_empty());
    assert_eq!(code(&forward), StatusCode::Error as i32);
    assert_has(&forward, &[("synspan.outcome", "failed"), ("error.type", "_OTHER")]);
}

#[test]
fn both_ends_on_one_node_are_parent_and_child() {
    let mut described = fixtures::clean();
    described.server = Some(fixtures::pod("bank", "account", "account-1"));
    described.peer = described.server.clone();
    let inside = described.attempt.sightings[0].tuple;
    described.attempt.server =
        Some(ServerSocket { cookie: 9, netns: 8, tuple: inside, established: fixtures::at(395) });
    let encoded = encoder("node-1", &[]).encode(&described);
    let (_, connect) = only(&encoded, span::TCP_CONNECT);
    let (service, accept) = only(&encoded, span::TCP_ACCEPT);
    assert_eq!(service, "account");
    assert_eq!(accept.parent_span_id, connect.span_id);
    assert_eq!(accept.flags, 0x103);
    assert_has(&connect, &[("service.peer.name", "account"), ("peer.service", "account")]);
    assert_has(&connect, &[("service.peer.namespace", "bank")]);
    assert_eq!(encoded.len(), 3);
}

#[test]
fn an_answered_later_syn_gets_its_connect_so_that_no_parent_is_missing() {
    let mut described = fixtures::case();
    described.attempt.answered_trace = Some(TraceId([0x50; 16]));
    let encoded = encoder("node-1", &[]).encode(&described);
    let connects: Vec<Span> =
        spans(&encoded).into_iter().map(|(_, span)| span).filter(|span| span.name == span::TCP_CONNECT).collect();
    assert_eq!(connects.len(), 2);
    let (first, later) = (&connects[0], &connects[1]);
    assert_eq!(later.trace_id, vec![0x50; 16]);
    assert_eq!(later.span_id, ids::connect(&DEFAULT_KEY, TraceId([0x50; 16])).0);
    assert_eq!(later.start_time_unix_nano, START_UNIX + 1_002_020_000, "from when that SYN was sent");
    assert_eq!(later.end_time_unix_nano, first.end_time_unix_nano);
    assert_has(later, &[("synspan.syn_retry", "true"), ("server.address", "192.168.50.20")]);
    assert_eq!(later.links.len(), 1);
    assert_eq!(later.links[0].span_id, first.span_id);
    let to_later = first.links.iter().filter(|link| link.span_id == later.span_id).count();
    assert_eq!(to_later, 1, "linked both ways, once");
}

#[test]
fn internal_kind_holds_for_all() {
    let mut encoder = encoder("node-1", &[]);
    encoder.options.internal_kind = true;
    for described in [fixtures::clean(), fixtures::server_side()] {
        for (_, span) in spans(&encoder.encode(&described)) {
            assert_eq!(span.kind, SpanKind::Internal as i32, "{}", span.name);
        }
    }
}

#[test]
fn an_unknown_client_is_called_so_and_its_address_is_no_name() {
    let mut described = fixtures::clean();
    described.client = None;
    let (service, connect) = only(&encoder("node-1", &[]).encode(&described), span::TCP_CONNECT);
    assert_eq!(service, "unknown_service");
    assert_has(&connect, &[("network.local.address", "10.244.1.12")]);
}

#[test]
fn long_names_are_cut_on_resources_and_spans() {
    let mut described = fixtures::clean();
    let long = "n".repeat(5_000);
    described.client = Some(fixtures::identity(&[("service.name", &long)]));
    described.executable = Some(Arc::from(long.as_str()));
    let (service, connect) = only(&encoder("node-1", &[]).encode(&described), span::TCP_CONNECT);
    assert_eq!(service.len(), 1024);
    assert_eq!(text(&connect.attributes, "process.executable.name").expect("name").len(), 1024);
}

#[test]
fn events_beyond_the_limit_are_counted() {
    let mut described = fixtures::case();
    let step = described.attempt.steps[0].clone();
    described.attempt.steps = vec![step; MAX_STEPS + 8];
    described.attempt.steps_dropped = 5;
    let (_, connect) = only(&encoder("node-1", &[]).encode(&described), span::TCP_CONNECT);
    assert_eq!(connect.events.len(), 32);
    assert_eq!(connect.dropped_events_count, 13);
}

proptest! {
    #[test]
    fn any_attempt_becomes_valid_spans(described in any_described()) {
        let encoded = encoder("node-1", &["10.0.0.0/8"]).encode(&described);
        let mut ids = HashMap::new();
        for (_, span) in spans(&encoded) {
            prop_assert_eq!(span.trace_id.len(), 16);
            prop_assert_eq!(span.span_id.len(), 8);
            prop_assert!(span.span_id.iter().any(|&byte| byte != 0));
            prop_assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
            prop_assert!(span.events.len() <= 32 && span.links.len() <= 32);
            prop_assert!(span.parent_span_id != span.span_id);
            prop_assert!(ids.insert((span.trace_id.clone(), span.span_id.clone()), ()).is_none(), "an id twice");
            for attribute in &span.attributes {
                // Panics where a name is there twice.
                prop_assert!(value(&span.attributes, &attribute.key).is_some());
            }
        }
    }
}
