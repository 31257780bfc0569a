//! The tracker alone: healthy connections behind NAT, from connect() to the last FIN, on one core.
//!
//! `attempts` has each connection take a port of its own; `reuse` has a thousand ports go round, so that
//! every connection finds a previous tenant in the ledger.

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

criterion_group!(benches, bench);
criterion_main!(benches);
