//! Backends that are not well.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tonic::{Code, Status};

use super::super::retry::{Any, ProtoDuration, RETRY_INFO, RetryInfo, RpcStatus};
use super::super::testing::parcel;
use super::super::*;
use super::server::{Server, counters, exporter, start, until};

fn exhausted(delay: Duration) -> Status {
    let delay = ProtoDuration { seconds: delay.as_secs() as i64, nanos: delay.subsec_nanos() as i32 };
    let info = RetryInfo { retry_delay: Some(delay) };
    let any = Any { type_url: RETRY_INFO.to_owned(), value: info.encode_to_vec() };
    let details = RpcStatus { code: 8, message: "slow down".to_owned(), details: vec![any] }.encode_to_vec();
    Status::with_details(Code::ResourceExhausted, "slow down", details.into())
}

#[tokio::test]
async fn what_may_be_retried_is_retried() {
    let (server, address) = Server::start(None).await;
    server.answer(Err(Status::unavailable("starting")));
    server.answer(Err(exhausted(Duration::from_millis(30))));
    server.answer(Err(Status::data_loss("oh")));
    let delivery = start(exporter(address));
    delivery.offer(parcel(Priority::Failure, "a", 3, 10));
    let done = until(&delivery, |counters| counters.sent == 3).await;
    assert_eq!((done.failures, done.retries, done.requests, done.dropped_in_all()), (3, 3, 1, 0));
    assert_eq!(done.health_changes, 2);
    server.with(|received| {
        assert_eq!(received.len(), 4);
        assert!(received.iter().all(|other| other.request == received[0].request));
    });
}

#[tokio::test]
async fn the_backends_delay_is_honoured() {
    let (server, address) = Server::start(None).await;
    server.answer(Err(exhausted(Duration::from_secs(3000))));
    let delivery = start(exporter(address));
    delivery.offer(parcel(Priority::Failure, "a", 1, 10));
    until(&delivery, |counters| counters.failures == 1).await;
    // Its own wait is 30 ms at the most.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(server.requests(), 1);
    assert_eq!(counters(&delivery).queued, 1);
}

#[tokio::test]
async fn what_may_not_be_retried_is_dropped_and_counted() {
    let (server, address) = Server::start(None).await;
    let delivery = start(exporter(address));
    let refusals =
        [Status::invalid_argument("bad"), Status::unauthenticated("who"), Status::resource_exhausted("full")];
    for (at, status) in refusals.into_iter().enumerate() {
        server.answer(Err(status));
        delivery.offer(parcel(Priority::Failure, "a", 2, 10));
        until(&delivery, |counters| counters.failures == at as u64 + 1).await;
    }
    let done = counters(&delivery);
    assert_eq!((done.dropped(DropReason::Permanent), done.retries, server.requests()), (6, 0, 3));
    assert!(matches!(done.health, Health::Failing(why) if why.starts_with("ResourceExhausted (8): full")));
}

#[tokio::test]
async fn partial_success_is_counted_and_not_retried() {
    let (server, address) = Server::start(None).await;
    server.answer(Ok(ExportTracePartialSuccess { rejected_spans: 2, error_message: "too old".to_owned() }));
    server.answer(Ok(ExportTracePartialSuccess { rejected_spans: 99, error_message: "a slip".to_owned() }));
    let delivery = start(exporter(address));
    delivery.offer(parcel(Priority::Success, "a", 5, 10));
    let first = until(&delivery, |counters| counters.requests == 1).await;
    assert_eq!((first.sent, first.dropped(DropReason::Rejected), first.health), (3, 2, Health::Ok));
    delivery.offer(parcel(Priority::Success, "a", 5, 10));
    let second = until(&delivery, |counters| counters.requests == 2).await;
    assert_eq!((second.sent, second.dropped(DropReason::Rejected)), (3, 7), "never more than were sent");
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn retries_end() {
    let (server, address) = Server::start(None).await;
    let mut options = exporter(address);
    options.retry.max_elapsed = Duration::from_millis(1);
    let delivery = start(options.clone());
    server.answer(Err(Status::unavailable("no")));
    delivery.offer(parcel(Priority::Failure, "a", 2, 10));
    until(&delivery, |counters| counters.dropped(DropReason::RetriesExhausted) == 2).await;
    options.retry.enabled = false;
    let delivery = start(options);
    server.answer(Err(Status::unavailable("no")));
    delivery.offer(parcel(Priority::Failure, "a", 2, 10));
    let done = until(&delivery, |counters| counters.dropped(DropReason::RetriesExhausted) == 2).await;
    assert_eq!(done.retries, 0);
}

#[tokio::test]
async fn shutdown_counts_what_cannot_be_sent() {
    let place = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = place.local_addr().unwrap();
    drop(place);
    let mut options = exporter(address);
    options.retry.initial = Duration::from_secs(3600);
    options.retry.max = Duration::from_secs(3600);
    let delivery = start(options);
    delivery.offer(parcel(Priority::Failure, "a", 4, 10));
    // It ends long before the deadline, since the next try would come after it.
    delivery.shutdown(Duration::from_secs(600)).await;
    let done = counters(&delivery);
    assert_eq!((done.dropped(DropReason::Shutdown), done.queued, done.in_flight), (4, 0, 0));
}

/// A backend that takes the connection and never answers holds the shutdown no longer than its deadline.
#[tokio::test]
async fn shutdown_does_not_wait_for_silence() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = exporter(listener.local_addr().unwrap());
    options.grpc.timeout = Duration::from_secs(3600);
    let delivery = start(options);
    delivery.offer(parcel(Priority::Failure, "a", 4, 10));
    until(&delivery, |counters| counters.in_flight == 4).await;
    delivery.shutdown(Duration::from_millis(50)).await;
    assert_eq!(counters(&delivery).dropped(DropReason::Shutdown), 4);
}

#[tokio::test]
async fn a_server_that_speaks_something_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 64];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    let delivery = start(exporter(address));
    delivery.offer(parcel(Priority::Failure, "a", 4, 10));
    let failing = until(&delivery, |counters| counters.failures >= 5).await;
    assert_eq!((failing.dropped_in_all(), failing.health_changes), (0, 1), "kept, and said once");
    let Health::Failing(why) = &failing.health else { panic!("{failing:?}") };
    assert!(why.starts_with("the connection failed: ") && why.contains("check that this port speaks gRPC"), "{why}");
}
