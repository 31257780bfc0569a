//! The encoder: a healthy attempt behind NAT named, made into spans and a record, and made into the bytes that are sent.

#![allow(missing_docs, reason = "criterion makes the functions")]

mod history;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use synspan::deliver::{Parcel, Priority, Signal};
use synspan::encode::envelope::scope_bytes;
use synspan::encode::{Encoder, Options};
use synspan::identify::chain::Identities;
use synspan::identify::clock::WallClock;
use synspan::identify::describe::Describer;
use synspan::identify::node::Node;
use synspan::identify::static_list::{Entry, StaticList};
use synspan::track::attempt::{Attempt, Finding};
use synspan::track::trace_id::DEFAULT_KEY;

use history::{connection, tracker};

const ATTEMPTS: u64 = 1_000;

/// Attempts as the tracker reports them.
fn attempts() -> Vec<Attempt> {
    let mut tracker = tracker();
    let mut seen = Vec::new();
    (0..ATTEMPTS).for_each(|n| connection(n, 60_000, &mut seen));
    seen.iter().for_each(|observation| tracker.observe(observation));
    tracker.finish_all();
    std::iter::from_fn(|| tracker.next_finding())
        .filter_map(|finding| match finding {
            Finding::Attempt(attempt) => Some(*attempt),
            _ => None,
        })
        .collect()
}

fn bench(criterion: &mut Criterion) {
    let node = Node::new("node-a", true, &[]);
    let entry = |address: &str, name: &str| Entry {
        prefixes: address.parse().into_iter().collect(),
        cgroups: Vec::new(),
        attributes: vec![("service.name".into(), name.into()), ("service.namespace".into(), "shop".into())],
    };
    let list = [entry("10.244.1.11/32", "cart"), entry("192.168.50.20/32", "accounts")];
    let fixed = StaticList::new(&list, &node, None);
    let mut describer = Describer::new(Identities::new(vec![Arc::new(fixed)]), None, &node, 10_000);
    let options = Options {
        node_name: Arc::from("node-a"),
        covered: synspan::identify::covered::Covered::default(),
        internal_kind: false,
        id_key: DEFAULT_KEY,
        replay: false,
    };
    let encoder = Encoder::new(options);
    let attempts = attempts();
    let mut group = criterion.benchmark_group("encoder");
    group.throughput(Throughput::Elements(attempts.len() as u64));
    group.bench_function("attempts", |bencher| {
        bencher.iter_batched(
            || attempts.clone(),
            |attempts| {
                for attempt in attempts {
                    let described = describer.describe_now(Box::new(attempt), WallClock::fixed(0));
                    let facts = encoder.facts(&described);
                    let spans = encoder.spans(&described, &facts, None).into_iter();
                    let spans = spans.map(|span| (span.resource, span.bytes));
                    black_box(Parcel::encoded(Signal::Traces, Priority::Success, &scope_bytes(), spans));
                    let record = encoder.record(&described, &facts, true).into_iter();
                    let record = record.map(|record| (record.resource, record.bytes));
                    black_box(Parcel::encoded(Signal::Logs, Priority::Success, &scope_bytes(), record));
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
