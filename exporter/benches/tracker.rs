//! The tracker alone: healthy connections behind NAT, from connect() to the last FIN, on one core.
//!
//! `attempts` has each connection take a port of its own; `reuse` has a thousand ports go round, so that
//! every connection finds a previous tenant in the ledger. `who` asks who held a port while the ledger is
//! as full as it may be by default, once with a port of five tenants and once with one of nobody.

#![allow(missing_docs, reason = "criterion makes the functions")]

mod history;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

use history::{connection, tracker};

const CONNECTIONS: u64 = 10_000;

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tracker");
    group.throughput(Throughput::Elements(CONNECTIONS)).sample_size(20);
    for (name, ports) in [("attempts", 60_000), ("reuse", 1_000)] {
        let mut history = Vec::new();
        for n in 0..CONNECTIONS {
            connection(n, ports, &mut history);
        }
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                tracker,
                |mut tracker| {
                    // As live capture does: a batch each 10 ms.
                    for batch in history.chunks(2_400) {
                        batch.iter().for_each(|observation| tracker.observe(observation));
                        if let Some(last) = batch.last() {
                            tracker.advance(last.time);
                        }
                        while let Some(finding) = tracker.next_finding() {
                            black_box(finding);
                        }
                    }
                    tracker
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

/// The ledger's limit by default.
const TENANCIES: u64 = 300_000;
/// The most that `synspan who` asks for.
const ANSWER: usize = 1_000;

fn who(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("who");
    group.sample_size(20);
    let mut full = tracker();
    let mut history = Vec::new();
    for n in 0..TENANCIES {
        history.clear();
        connection(n, 60_000, &mut history);
        history.iter().for_each(|observation| full.observe(observation));
        if n % 200 == 0
            && let Some(last) = history.last()
        {
            full.advance(last.time);
            while full.next_finding().is_some() {}
        }
    }
    assert_eq!(full.counts().tenancies, TENANCIES);
    for (name, port) in [("five_tenants", 2024), ("nobody", 1)] {
        group.bench_function(name, |bencher| bencher.iter(|| black_box(full.holders_of(port, ANSWER))));
    }
    group.finish();
}

criterion_group!(benches, bench, who);
criterion_main!(benches);
