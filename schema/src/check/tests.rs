use std::sync::LazyLock;

use super::*;

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| Registry::embedded().expect("the registry"));

fn text(value: &str) -> Value {
    Value::Str(value.to_owned())
}

fn attributes<const N: usize>(pairs: [(&str, Value); N]) -> Vec<(String, Value)> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn one(findings: &[String], words: &str) {
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].contains(words), "{findings:?}");
}

fn connect(more: &[(&str, Value)]) -> Vec<String> {
    let mut all = attributes([("synspan.outcome", text("established"))]);
    all.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    REGISTRY.check_span("tcp connect", "client", &all)
}

#[test]
fn a_span_as_it_should_be_has_no_findings() {
    let causes = Value::Strs(vec!["source_port_reuse".to_owned(), "syn_lost".to_owned()]);
    let more = [
        ("server.port", Value::Int(8443)),
        ("synspan.previous_owner.gap", Value::Double(0.162)),
        ("synspan.reuse", Value::Bool(true)),
        ("synspan.causes", causes),
    ];
    assert_eq!(connect(&more), Vec::<String>::new());
}

#[test]
fn a_span_may_be_internal_but_not_of_another_kind() {
    let all = attributes([("synspan.outcome", text("failed"))]);
    assert!(REGISTRY.check_span("tcp connect", "internal", &all).is_empty());
    one(&REGISTRY.check_span("tcp connect", "server", &all), "kind is server and not client");
    one(&REGISTRY.check_span("tcp conect", "client", &all), "not known");
}

#[test]
fn attributes_must_be_known_and_belong_to_the_record() {
    one(&connect(&[("synspan.outcom", text("x"))]), "`synspan.outcom` is not known");
    one(&connect(&[("synspan.flow.rtt", Value::Double(0.1))]), "`synspan.flow.rtt` is not one of its");
    one(&connect(&[("http.route", text("/"))]), "`http.route` is not known");
}

#[test]
fn values_must_be_of_the_type_and_in_the_list() {
    one(&connect(&[("server.port", text("8443"))]), "is string and not int");
    one(&connect(&[("synspan.previous_owner.gap", Value::Int(1))]), "is int and not double");
    one(&connect(&[("synspan.lossy", Value::Other)]), "is another type and not boolean");
    one(&connect(&[("synspan.cause", text("bad_luck"))]), "`bad_luck`, which is not in its list");
    one(&connect(&[("synspan.cause", Value::Int(1))]), "is int and not enum");
    one(&connect(&[("synspan.causes", Value::Strs(vec!["bad_luck".to_owned()]))]), "has `bad_luck`");
}

#[test]
fn required_attributes_must_be_there_and_none_twice() {
    one(&REGISTRY.check_span("tcp connect", "client", &[]), "`synspan.outcome` is missing");
    one(&connect(&[("synspan.outcome", text("established"))]), "`synspan.outcome` is there twice");
}

#[test]
fn events_of_a_span_are_its_own() {
    let all = attributes([("synspan.point", text("node_nic")), ("synspan.sent_by", text("server"))]);
    assert!(REGISTRY.check_span_event("tcp connect", "synspan.rst", &all).is_empty());
    one(&REGISTRY.check_span_event("tcp accept", "synspan.rst", &all), "span `tcp accept` has no such event");
    one(&REGISTRY.check_span_event("tcp connect", "synspan.fin", &all), "not known");
}

#[test]
fn links_say_what_they_are() {
    assert!(REGISTRY.check_link(&attributes([("synspan.link.type", text("previous_owner"))])).is_empty());
    one(&REGISTRY.check_link(&[]), "`synspan.link.type` is missing");
    one(&REGISTRY.check_link(&attributes([("synspan.link.type", text("friend"))])), "not in its list");
}

#[test]
fn records_carry_their_name_twice() {
    let record = |name: &str| {
        attributes([
            ("event.name", text(name)),
            ("server.address", text("10.0.0.1")),
            ("server.port", Value::Int(80)),
            ("synspan.inbound.syns", Value::Int(3)),
            ("synspan.summary.duration", Value::Double(10.0)),
        ])
    };
    assert!(REGISTRY.check_log("synspan.inbound", &record("synspan.inbound")).is_empty());
    one(&REGISTRY.check_log("synspan.inbound", &record("synspan.flow")), "`event.name` is `synspan.flow`");
    one(&REGISTRY.check_log("synspan.syn", &record("synspan.syn")), "event `synspan.syn`: not known");
}

#[test]
fn metrics_have_their_unit_and_instrument() {
    let all = attributes([("synspan.destination", text("shop/pay")), ("server.port", Value::Int(8443))]);
    let counter = Data::Sum { monotonic: true };
    let check = |name, unit, data, all: &Attributes| REGISTRY.check_metric(name, unit, data, all);
    assert!(check("synspan.connect.failures", "{attempt}", counter, &all).is_empty());
    one(&check("synspan.connect.failures", "1", counter, &all), "unit is `1` and not `{attempt}`");
    let falls = Data::Sum { monotonic: false };
    one(&check("synspan.connect.failures", "{attempt}", falls, &all), "instrument is updowncounter and not counter");
    one(&check("synspan.flow.rtt", "s", Data::Gauge, &all), "instrument is gauge and not histogram");
    one(&check("synspan.flow.rtt", "s", Data::Histogram, &all[..1]), "`server.port` is missing");
    one(&check("synspan.flow.jitter", "s", Data::Histogram, &all), "not known");
    assert!(check("process.memory.usage", "By", falls, &[]).is_empty());
}

#[test]
fn the_overflow_may_lack_what_is_required() {
    const COUNTER: Data = Data::Sum { monotonic: true };
    let alone = attributes([("otel.metric.overflow", Value::Bool(true))]);
    assert!(REGISTRY.check_metric("synspan.flow.rtt", "s", Data::Histogram, &alone).is_empty());
    let two = attributes([("otel.metric.overflow", Value::Bool(true)), ("synspan.outcome", text("established"))]);
    assert!(REGISTRY.check_metric("synspan.connect.attempts", "{attempt}", COUNTER, &two).is_empty());
    one(&REGISTRY.check_metric("synspan.flow.rtt", "s", Data::Histogram, &two), "is not one of its");
}

#[test]
fn resources_may_carry_what_the_user_gave_but_not_under_our_name() {
    let with = |name: &str, value: Value| {
        let mut all = attributes([("service.name", text("cart")), ("host.name", text("node-1"))]);
        all.push((name.to_owned(), value));
        all
    };
    assert!(REGISTRY.check_resource(&with("team", text("blue"))).is_empty());
    one(&REGISTRY.check_resource(&with("synspan.outcome", text("failed"))), "`synspan.outcome` is not one of its");
    one(&REGISTRY.check_resource(&with("synspan.team", text("blue"))), "`synspan.team` is not one of its");
    one(&REGISTRY.check_resource(&with("k8s.node.name", Value::Int(1))), "is int and not string");
    one(&REGISTRY.check_resource(&with("host.name", text("node-2"))), "`host.name` is there twice");
    one(&REGISTRY.check_resource(&attributes([("host.name", text("node-1"))])), "`service.name` is missing");
}

#[test]
fn resources_are_told_apart() {
    let kind = |all: &Attributes| REGISTRY.resource_of(all).map(|kind| kind.name.as_str());
    let pod = attributes([("service.name", text("cart")), ("k8s.pod.uid", text("u-1"))]);
    assert_eq!(kind(&pod), Some("synspan.pod"));
    let findings = REGISTRY.check_resource(&pod);
    assert_eq!(findings.len(), 2, "the pod's name and namespace: {findings:?}");
    let process = attributes([("service.name", text("nginx")), ("host.name", text("h"))]);
    assert_eq!(kind(&process), Some("synspan.host_process"));
    assert_eq!(kind(&process[..1]), Some("synspan.static"));
    let network = attributes([("service.name", text("node-network"))]);
    assert_eq!(kind(&network), Some("synspan.node_network"));
    one(&REGISTRY.check_resource(&network), "`host.name` is missing");
    assert_eq!(kind(&[]), None);
}
