//! What reaches a backend that is well.

use std::time::Duration;

use prost::Message;
use tokio::net::TcpListener;

use super::super::testing::parcel;
use super::super::*;
use super::server::{Server, counters, exporter, start, until};

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn parcels_become_one_request_per_batch() {
    let (server, address) = Server::start(None).await;
    let mut options = exporter(address);
    options.queue.flush_timeout = LONG;
    options.queue.min_items = 20;
    let delivery = start(options);
    for at in 0..20 {
        delivery.offer(parcel(Priority::Success, if at % 2 == 0 { "a" } else { "b" }, 1, 10));
    }
    let done = until(&delivery, |counters| counters.sent == 20).await;
    assert_eq!((done.requests, done.health, done.health_changes), (1, Health::Ok, 0));
    server.with(|received| {
        assert_eq!(received.len(), 1);
        assert_eq!(received[0].request.resource_spans.len(), 2, "one envelope for each resource");
        assert_eq!(received[0].spans(), 20);
        assert_eq!(received[0].header("grpc-encoding"), "gzip");
        assert_eq!(received[0].header("x-tenant"), "shop");
        assert!(received[0].header("user-agent").starts_with(concat!("synspan/", env!("CARGO_PKG_VERSION"))));
    });
}

#[tokio::test]
async fn compression_and_authority_as_configured() {
    for (compression, name) in [(Compression::Zstd, "zstd"), (Compression::None, "")] {
        let (server, address) = Server::start(None).await;
        let mut options = exporter(address);
        options.grpc.compression = compression;
        options.grpc.user_agent = Some("other/1".to_owned());
        let delivery = start(options);
        delivery.offer(parcel(Priority::Success, "a", 3, 1000));
        until(&delivery, |counters| counters.sent == 3).await;
        server.with(|received| {
            assert_eq!(received[0].header("grpc-encoding"), name);
            assert!(received[0].header("user-agent").starts_with("other/1"));
        });
    }
}

#[tokio::test]
async fn requests_stay_under_the_limit_of_receivers() {
    let (server, address) = Server::start(None).await;
    let delivery = start(exporter(address));
    // 10 MiB in one parcel and 5 MiB in many.
    delivery.offer(parcel(Priority::Failure, "a", 100, 100 << 10));
    for _ in 0..50 {
        delivery.offer(parcel(Priority::Success, "a", 1, 100 << 10));
    }
    delivery.offer(parcel(Priority::Failure, "a", 1, 5 << 20));
    let done = until(&delivery, |counters| counters.sent == 150).await;
    assert_eq!(done.dropped(DropReason::TooLarge), 1);
    assert_eq!(done.dropped_in_all(), 1);
    server.with(|received| {
        assert!(received.iter().all(|received| received.request.encoded_len() <= 4 << 20));
        assert_eq!(received.iter().map(|received| received.spans()).sum::<usize>(), 150);
    });
}

#[tokio::test]
async fn shutdown_sends_what_waits() {
    let (server, address) = Server::start(None).await;
    let mut options = exporter(address);
    options.queue.flush_timeout = LONG;
    let delivery = start(options);
    delivery.offer(parcel(Priority::Success, "a", 5, 10));
    delivery.shutdown(Duration::from_secs(30)).await;
    assert_eq!(counters(&delivery).sent, 5);
    assert_eq!(server.requests(), 1);
    delivery.offer(parcel(Priority::Failure, "a", 2, 10));
    assert_eq!(counters(&delivery).dropped(DropReason::Shutdown), 2);
}

/// A server that comes up late gets what was kept: the failures, and of the successes what had room.
#[tokio::test]
async fn a_late_server_gets_failures_first() {
    let place = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = place.local_addr().unwrap();
    drop(place);
    let mut options = exporter(address);
    options.queue.capacity = Capacity::Items(10);
    let delivery = start(options);
    for _ in 0..50 {
        delivery.offer(parcel(Priority::Success, "success", 1, 10));
    }
    let failing =
        until(&delivery, |counters| matches!(counters.health, Health::Failing(_)) && counters.in_flight == 0).await;
    let Health::Failing(why) = &failing.health else { panic!() };
    assert!(why.contains("cannot connect") && why.contains("check that the backend runs"), "{why}");
    // No more than the room, whatever is on its way at that moment.
    for _ in 0..10 {
        delivery.offer(parcel(Priority::Failure, "failure", 1, 10));
    }
    let before = until(&delivery, |counters| counters.failures >= 4).await;
    assert_eq!(before.health_changes, 1, "said once");
    assert_eq!(before.dropped_in_all(), before.dropped(DropReason::QueueFull));
    let server = Server::default();
    server.clone().serve(TcpListener::bind(address).await.unwrap(), None);
    let after = until(&delivery, |counters| counters.sent > 0 && counters.queued + counters.in_flight == 0).await;
    assert_eq!((&after.health, after.health_changes), (&Health::Ok, 2));
    assert_eq!(after.sent + after.dropped(DropReason::QueueFull), 60);
    server.with(|received| {
        let all: Vec<_> = received.iter().flat_map(|received| &received.request.resource_spans).collect();
        let failures: usize = all
            .iter()
            .filter(|rs| format!("{:?}", rs.resource).contains("failure"))
            .map(|rs| rs.scope_spans[0].spans.len())
            .sum();
        // While a request of successes is on its way it holds its room, so some failures may find none.
        assert!(failures > 0);
    });
}
