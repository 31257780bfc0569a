//! The books, the room, and who gives way.

use super::super::testing::parcel;
use super::*;

const NONE: usize = usize::MAX;

fn options(capacity: Capacity) -> QueueOptions {
    QueueOptions {
        consumers: 1,
        capacity,
        flush_timeout: Duration::from_millis(200),
        min_items: 10,
        min_bytes: NONE,
        max_items: NONE,
        max_bytes: NONE,
    }
}

fn one(priority: Priority) -> Arc<Parcel> {
    Arc::new(parcel(priority, "a", 1, 100))
}

fn items(batch: &Batch) -> usize {
    batch.parcels.iter().map(|parcel| parcel.items()).sum()
}

/// What is dropped, and for what.
fn drops(queues: &mut Queues, at: usize) -> Vec<(DropReason, u64)> {
    let counters = queues.queue(at).snapshot();
    assert_eq!(counters.offered, counters.sent + counters.dropped_in_all() + counters.queued + counters.in_flight);
    DropReason::ALL
        .into_iter()
        .map(|reason| (reason, counters.dropped(reason)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

#[test]
fn a_failure_pushes_out_successes_and_not_the_other_way() {
    let now = Instant::now();
    let mut queues = Queues::new(1 << 20, [options(Capacity::Items(3))]);
    for priority in [Priority::Success, Priority::Success, Priority::Failure] {
        queues.offer(0, &one(priority), now);
    }
    queues.offer(0, &one(Priority::Success), now);
    assert_eq!(drops(&mut queues, 0), [(DropReason::QueueFull, 1)]);
    queues.offer(0, &one(Priority::Failure), now);
    queues.offer(0, &one(Priority::Failure), now);
    assert_eq!(drops(&mut queues, 0), [(DropReason::QueueFull, 3)]);
    queues.offer(0, &one(Priority::Failure), now);
    assert_eq!(drops(&mut queues, 0), [(DropReason::QueueFull, 4)]);
    let batch = queues.take(0, now).unwrap();
    assert!(batch.parcels.iter().all(|parcel| parcel.priority() == Priority::Failure));
    assert_eq!(items(&batch), 3);
}

#[test]
fn memory_is_shared_and_a_failure_pushes_out_another_queues_success() {
    let now = Instant::now();
    let bytes = one(Priority::Success).bytes();
    let mut queues = Queues::new(bytes * 2, [options(Capacity::Items(NONE)), options(Capacity::Items(NONE))]);
    queues.offer(0, &one(Priority::Success), now);
    queues.offer(0, &one(Priority::Failure), now);
    queues.offer(1, &one(Priority::Success), now);
    assert_eq!(drops(&mut queues, 1), [(DropReason::MemoryLimit, 1)]);
    queues.offer(1, &one(Priority::Failure), now);
    assert_eq!(drops(&mut queues, 0), [(DropReason::MemoryLimit, 1)]);
    assert_eq!(queues.queue(1).snapshot().queued, 1);
    assert_eq!(queues.used, bytes * 2);
}

#[test]
fn requests_are_sized_by_what_a_request_holds() {
    let now = Instant::now();
    let mut queues = Queues::new(1 << 20, [options(Capacity::Requests(2))]);
    for _ in 0..25 {
        queues.offer(0, &one(Priority::Success), now);
    }
    assert_eq!(drops(&mut queues, 0), [(DropReason::QueueFull, 5)]);
}

#[test]
fn due_when_full_or_old_or_hurried() {
    let now = Instant::now();
    let mut queues = Queues::new(1 << 20, [options(Capacity::Items(NONE))]);
    assert_eq!(queues.due(0, true), Due::Never);
    assert!(queues.offer(0, &one(Priority::Success), now), "the first wakes the worker");
    assert!(!queues.offer(0, &one(Priority::Success), now));
    assert_eq!(queues.due(0, false), Due::At(now + Duration::from_millis(200)));
    assert_eq!(queues.due(0, true), Due::Now);
    let wakes = (0..8).filter(|_| queues.offer(0, &one(Priority::Success), now)).count();
    assert_eq!((wakes, queues.due(0, false)), (1, Due::Now));
}

#[test]
fn requests_keep_their_limits_and_the_order() {
    let now = Instant::now();
    let one = one(Priority::Success);
    let limits = QueueOptions { max_items: 4, max_bytes: one.bytes() * 3, ..options(Capacity::Items(NONE)) };
    let mut queues = Queues::new(1 << 20, [limits]);
    (0..5).for_each(|_| {
        queues.offer(0, &one, now);
    });
    let sizes: Vec<usize> = std::iter::from_fn(|| queues.take(0, now)).map(|batch| items(&batch)).collect();
    assert_eq!(sizes, [3, 2]);
}

#[test]
fn what_failed_comes_again_until_it_is_too_old() {
    let start = Instant::now();
    let mut queues = Queues::new(1 << 20, [options(Capacity::Items(NONE))]);
    queues.offer(0, &one(Priority::Success), start);
    queues.offer(0, &one(Priority::Failure), start);
    let again =
        Ending::Again { after: Duration::from_secs(5), give_up: Some(Duration::from_secs(9)), status: "UNAVAILABLE" };
    let first = queues.take(0, start).unwrap();
    assert_eq!(queues.done(0, first.id, again, start + Duration::from_secs(1)), 0);
    assert_eq!(queues.queue(0).snapshot().retries, 1);
    queues.offer(0, &one(Priority::Success), start);
    let second = queues.take(0, start + Duration::from_secs(6)).unwrap();
    assert_eq!(items(&second), 3);
    assert_eq!(queues.done(0, second.id, again, start + Duration::from_secs(7)), 2, "the third was tried once");
    assert_eq!(drops(&mut queues, 0), [(DropReason::RetriesExhausted, 2)]);
}

#[test]
fn the_books_balance() {
    let now = Instant::now();
    let mut queues = Queues::new(1 << 20, [options(Capacity::Items(NONE))]);
    for _ in 0..3 {
        queues.offer(0, &Arc::new(parcel(Priority::Success, "a", 2, 10)), now);
        let batch = queues.take(0, now).unwrap();
        queues.done(0, batch.id, Ending::Taken { rejected: 1, bytes: 7 }, now);
    }
    queues.offer(0, &one(Priority::Success), now);
    let refused = queues.take(0, now).unwrap();
    queues.done(0, refused.id, Ending::Refused { status: "INTERNAL" }, now);
    queues.offer(0, &one(Priority::Success), now);
    queues.take(0, now).unwrap();
    queues.offer(0, &one(Priority::Failure), now);
    queues.close();
    queues.offer(0, &one(Priority::Failure), now);
    assert_eq!(queues.drop_all(0), 2);
    assert_eq!(
        drops(&mut queues, 0),
        [(DropReason::Rejected, 3), (DropReason::Permanent, 1), (DropReason::Shutdown, 3)]
    );
    let counters = queues.queue(0).snapshot();
    assert_eq!((counters.sent, counters.requests, counters.bytes), (3, 3, 21));
    assert_eq!((queues.used, queues.in_flight_bytes), (0, 0));
}

#[test]
fn a_record_too_large_alone_is_dropped_and_its_neighbours_are_not() {
    let now = Instant::now();
    let limits = QueueOptions { max_bytes: 1000, ..options(Capacity::Items(NONE)) };
    let mut queues = Queues::new(1 << 20, [limits]);
    let mut resources = vec![super::super::testing::spans("a", 1, 2000)];
    resources.push(super::super::testing::spans("a", 12, 100));
    queues.offer(0, &Arc::new(Parcel::traces(Priority::Failure, resources)), now);
    assert_eq!(drops(&mut queues, 0), [(DropReason::TooLarge, 1)]);
    assert_eq!(queues.queue(0).snapshot().queued, 12);
}
