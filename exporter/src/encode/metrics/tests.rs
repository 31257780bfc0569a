use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint, ResourceMetrics};
use synspan_schema::{Registry, otlp};

use super::*;
use crate::capture::observation::Mono;
use crate::encode::ids::SpanId;
use crate::identify::describe::Described;
use crate::identify::fixtures;
use crate::track::trace_id::TraceId;

fn meter(options: Options) -> Meter {
    let network = fixtures::identity(&[("service.name", "node-network"), ("host.name", "node-1")]);
    Meter::new(Options { node_name: Arc::from("node-1"), ..options }, &network, 1_000)
}

fn at(seconds: u64) -> (Mono, u64) {
    (fixtures::START.plus(Duration::from_secs(seconds)), seconds * 1_000_000_000)
}

fn to(mut described: Described, destination: &str) -> Described {
    described.peer = None;
    let socket = described.attempt.client.as_mut().expect("socket");
    socket.asked = Some(fixtures::endpoint(destination));
    described
}

fn of<'a>(all: &'a [ResourceMetrics], name: &'a str) -> impl Iterator<Item = &'a Metric> {
    let metrics = all.iter().flat_map(|resource| &resource.scope_metrics).flat_map(|scope| &scope.metrics);
    metrics.filter(move |metric| metric.name == name)
}

fn numbers<'a>(all: &'a [ResourceMetrics], name: &'a str) -> Vec<&'a NumberDataPoint> {
    let points = of(all, name).flat_map(|metric| match &metric.data {
        Some(Data::Sum(sum)) => sum.data_points.iter(),
        _ => panic!("{name} is no sum"),
    });
    points.collect()
}

fn value(point: &NumberDataPoint) -> i64 {
    match point.value {
        Some(Value::AsInt(value)) => value,
        _ => panic!("no value"),
    }
}

/// The total of an instrument: of each series its last point.
fn total(all: &[ResourceMetrics], name: &str) -> i64 {
    let latest = numbers(all, name).into_iter().map(|point| point.time_unix_nano).max();
    numbers(all, name).into_iter().filter(|point| Some(point.time_unix_nano) == latest).map(value).sum()
}

#[test]
fn totals_are_exact_and_never_go_back() {
    let mut meter = meter(Options::default());
    for _ in 0..7 {
        meter.attempt(&fixtures::clean(), None);
    }
    meter.attempt(&fixtures::refused(), None);
    meter.attempt(&fixtures::case(), None);
    let (now, unix) = at(60);
    let first = meter.collect(now, unix);
    assert_eq!(total(&first, "synspan.connect.attempts"), 9);
    assert_eq!(total(&first, "synspan.connect.failures"), 1);
    assert_eq!(total(&first, "synspan.port_reuses"), 1);
    meter.attempt(&fixtures::refused(), None);
    // The clock steps back by a minute.
    let second = meter.collect(at(61).0, 1_000_000_000);
    assert_eq!(total(&second, "synspan.connect.attempts"), 10);
    assert_eq!(total(&second, "synspan.connect.failures"), 2);
    let last = numbers(&first, "synspan.connect.failures").into_iter().map(|point| point.time_unix_nano).max();
    assert!(numbers(&second, "synspan.connect.failures").iter().all(|point| Some(point.time_unix_nano) > last));
}

#[test]
fn failures_and_reuses_are_zero_from_the_first_attempt() {
    let mut meter = meter(Options::default());
    meter.attempt(&fixtures::clean(), None);
    let all = meter.collect(at(60).0, at(60).1);
    for name in ["synspan.connect.failures", "synspan.port_reuses"] {
        assert_eq!(numbers(&all, name).into_iter().map(value).collect::<Vec<_>>(), [0], "{name}");
    }
}

#[test]
fn destinations_beyond_the_limits_have_one_series_and_nothing_is_lost() {
    let options = Options { max_destinations: 10, max_series: 50, max_addresses: 5, ..Options::default() };
    let mut meter = meter(options);
    for number in 0..10_000_u32 {
        let [_, b, c, d] = number.to_be_bytes();
        let mut described = to(fixtures::clean(), &format!("10.{b}.{c}.{d}:443"));
        described.client =
            Some(fixtures::pod("shop", &format!("client-{}", number % 1_000), &format!("c-{}", number % 1_000)));
        meter.attempt(&described, None);
    }
    assert!(meter.pairs.len() <= 50 && meter.workloads.len() <= 50, "{}", meter.pairs.len());
    let all = meter.collect(at(60).0, at(60).1);
    assert_eq!(total(&all, "synspan.connect.attempts"), 10_000);
    assert!(numbers(&all, "synspan.connect.attempts").len() <= 2 * 51 + 2);
    assert!(meter.overflowed() > 9_000);
    assert_eq!(otlp::of_metrics(&Registry::embedded().expect("the registry"), &all), Vec::<String>::new());
    let flagged = |point: &&NumberDataPoint| point.attributes.iter().any(|kv| kv.key == "otel.metric.overflow");
    assert!(numbers(&all, "synspan.connect.attempts").iter().any(flagged));
}

#[test]
fn a_series_that_is_not_used_ends_and_begins_anew_with_a_new_start() {
    let mut meter = meter(Options::default());
    meter.attempt(&fixtures::clean(), None);
    let first = meter.collect(at(60).0, at(60).1);
    let start = numbers(&first, "synspan.connect.attempts")[0].start_time_unix_nano;
    let ended = meter.collect(at(2_000).0, at(2_000).1);
    assert!(numbers(&ended, "synspan.connect.attempts").iter().all(|point| point.flags == 1 && point.value.is_none()));
    assert!(meter.pairs.is_empty() && meter.workloads.is_empty() && meter.series.iter().all(|&count| count == 0));
    assert!(meter.collect(at(2_060).0, at(2_060).1).is_empty());
    meter.attempt(&fixtures::clean(), None);
    let again = meter.collect(at(2_120).0, at(2_120).1);
    let again = numbers(&again, "synspan.connect.attempts");
    assert!(again.iter().all(|point| point.start_time_unix_nano >= at(2_060).1 && point.start_time_unix_nano > start));
    assert_eq!(again.into_iter().map(value).max(), Some(1));
}

#[test]
fn deltas_add_up() {
    let mut meter = meter(Options { delta: true, exponential: true, ..Options::default() });
    let mut sum = 0;
    for round in 1..5 {
        for _ in 0..round {
            meter.attempt(&fixtures::clean(), None);
        }
        let all = meter.collect(at(round * 60).0, at(round * 60).1);
        sum += numbers(&all, "synspan.connect.attempts").into_iter().map(value).sum::<i64>();
        assert_eq!(of(&all, "synspan.connect.duration").count(), 1);
    }
    assert_eq!(sum, 10);
    let idle = meter.collect(at(600).0, at(600).1);
    assert!(idle.is_empty(), "{idle:?}");
}

#[test]
fn exemplars_lead_to_kept_traces_of_the_failed_and_the_slowest() {
    let mut meter = meter(Options::default());
    let kept =
        |number: u8| Some(Exemplar { trace: TraceId([number; 16]), span: SpanId([number; 8]), value: 1.0, time: 5 });
    meter.attempt(&fixtures::clean(), None);
    meter.attempt(&fixtures::refused(), kept(2));
    let all = meter.collect(at(60).0, at(60).1);
    let exemplars = |name| {
        let points = numbers(&all, name).into_iter().flat_map(|point| &point.exemplars);
        points.map(|exemplar| exemplar.trace_id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(exemplars("synspan.connect.failures"), [vec![2; 16]]);
    assert_eq!(exemplars("synspan.connect.attempts"), [vec![2; 16]]);
    let again = meter.collect(at(120).0, at(120).1);
    assert!(numbers(&again, "synspan.connect.failures").iter().all(|point| point.exemplars.is_empty()), "said once");
}

#[test]
fn flows_are_counted_on_the_destination_of_their_attempt() {
    let mut meter = meter(Options::default());
    let described = fixtures::clean();
    meter.attempt(&described, None);
    let client = described.client.clone().expect("client");
    let moved = Moved { sent_bytes: 5, received_bytes: 7, rtt: Some(Duration::from_millis(3)), ..Moved::default() };
    let to = described.attempt.destination().expect("destination");
    meter.flow(&client, described.peer.as_ref(), to, moved);
    assert_eq!(meter.pairs.len(), 1);
    let all = meter.collect(at(60).0, at(60).1);
    assert_eq!(otlp::of_metrics(&Registry::embedded().expect("the registry"), &all), Vec::<String>::new());
    assert_eq!(total(&all, "synspan.flow.io"), 12);
    assert_eq!(of(&all, "synspan.flow.rtt").count(), 1);
}
