//! Real connections, also of clients that do what they should not.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::health::judge::{Facts, STUCK_AFTER};
use crate::health::metrics;
use crate::health::status::Status;
use crate::health::testing::{Fake, facts, status};

/// An agent's health, with no agent behind it.
struct Bench {
    source: Arc<Fake>,
    address: SocketAddr,
    _runtime: Runtime,
}

impl Bench {
    fn new(metrics: bool) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime");
        let source = Arc::new(Fake { facts: Mutex::new(facts()), status: status() });
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("its address");
        runtime.spawn(serve(listener, metrics, source.clone()));
        Self { source, address, _runtime: runtime }
    }

    fn connect(&self) -> TcpStream {
        connect(self.address)
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path)
    }

    fn ask(&self, method: &str, path: &str) -> Answer {
        self.raw(format!("{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
    }

    fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        // It may refuse before all of it is written.
        let _ = stream.write_all(bytes);
        Answer::read(stream)
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("somebody listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    stream
}

struct Answer {
    code: u16,
    head: String,
    body: String,
}

impl Answer {
    /// Reads to the end: each connection carries one answer.
    fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        // A connection that is closed with bytes unread is reset; what came before counts.
        let mut part = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut part) {
            bytes.extend_from_slice(&part[..read]);
        }
        let text = String::from_utf8(bytes).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        Self { code, head: head.to_lowercase(), body: body.to_owned() }
    }

    fn has(&self, header: &str) -> bool {
        self.head.lines().any(|line| line == header)
    }
}

#[test]
fn each_path_says_what_it_is_for() {
    let bench = Bench::new(true);
    for path in ["/livez", "/readyz"] {
        let answer = bench.get(path);
        assert_eq!((answer.code, answer.body.as_str()), (200, "ok\n"), "{path}");
        assert!(answer.has("content-type: text/plain; charset=utf-8") && answer.has("cache-control: no-store"));
    }
    assert_eq!(bench.get("/status").body, page::page(&status()));
    let json = bench.get("/status.json");
    assert!(json.has("content-type: application/json"));
    assert_eq!(serde_json::from_str::<Status>(&json.body).expect("a status"), status());
    let metrics = bench.get("/metrics?x=1");
    assert!(metrics.has("content-type: text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(metrics.body, metrics::text(&status()));
}

#[test]
fn other_paths_are_told_what_there_is() {
    let bench = Bench::new(false);
    for path in ["/", "/healthz", "/livez/", "/metrics", "/%2e%2e/etc/passwd"] {
        let answer = bench.get(path);
        assert_eq!(answer.code, 404, "{path}");
        assert_eq!(answer.body, "there is /livez, /readyz, /status, /status.json\n");
    }
    assert!(Bench::new(true).get("/").body.ends_with(", /metrics\n"));
}

#[test]
fn head_has_the_head_alone_and_other_methods_are_refused() {
    let bench = Bench::new(false);
    let (head, get) = (bench.ask("HEAD", "/status"), bench.get("/status"));
    assert_eq!((head.code, head.body.as_str()), (200, ""));
    assert!(head.has(&format!("content-length: {}", get.body.len())), "{}", head.head);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let answer = bench.ask(method, "/livez");
        assert_eq!(answer.code, 405, "{method}");
        assert!(answer.has("allow: get, head"));
    }
    let body = "POST /livez HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n".to_owned() + &"x".repeat(200_000);
    assert_eq!(bench.raw(body.as_bytes()).code, 405);
}

#[test]
fn a_thread_that_stalls_turns_both_probes_and_one_that_goes_on_turns_them_back() {
    let bench = Bench::new(false);
    let set = |facts: Facts| *bench.source.facts.lock().expect("lock") = facts;
    let healthy = facts();
    let now = healthy.now.plus(STUCK_AFTER + Duration::from_secs(1));
    set(Facts { now, telemetry: now, ..healthy.clone() });
    for path in ["/livez", "/readyz"] {
        let answer = bench.get(path);
        assert_eq!(answer.code, 503, "{path}");
        assert_eq!(answer.body, "the capture thread is stuck since 1970-01-01 00:02:00 UTC (31.0 s)\n");
    }
    set(Facts { attached: false, ..healthy.clone() });
    assert_eq!((bench.get("/livez").code, bench.get("/readyz").code), (200, 503));
    set(healthy);
    assert_eq!((bench.get("/livez").code, bench.get("/readyz").code), (200, 200));
}

#[test]
fn clients_that_take_their_time_are_let_go_and_hold_up_nobody() {
    let bench = Bench::new(false);
    let silent = bench.connect();
    let mut slow = bench.connect();
    slow.write_all(b"GET /livez HTTP/1.1\r\nx: ").expect("written");
    let start = Instant::now();
    // A byte now and then does not buy time.
    let mut trickle = slow.try_clone().expect("a second handle");
    let writer = std::thread::spawn(move || {
        while trickle.write_all(b"x").is_ok() && start.elapsed().as_secs() < 15 {
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    assert_eq!(bench.get("/livez").code, 200);
    assert!(start.elapsed() < Duration::from_secs(1));
    for stream in [slow, silent] {
        let answer = Answer::read(stream);
        assert!(matches!(answer.code, 0 | 408), "{}", answer.head);
        let took = start.elapsed();
        assert!(took > HEAD_PATIENCE - Duration::from_millis(500) && took < PATIENCE, "{took:?}");
    }
    writer.join().expect("ended");
}

#[test]
fn one_too_many_takes_the_place_of_the_oldest() {
    let bench = Bench::new(false);
    let start = Instant::now();
    let mut idle: Vec<TcpStream> = (0..CONNECTIONS).map(|_| bench.connect()).collect();
    // They are taken in the order in which they came.
    let answer = bench.get("/livez");
    assert_eq!((answer.code, answer.body.as_str()), (200, "ok\n"));
    let mut byte = [0];
    assert!(!matches!(idle[0].read(&mut byte), Ok(1..)), "the oldest is closed");
    assert!(start.elapsed() < HEAD_PATIENCE / 2, "at once");
    let last = idle.last_mut().expect("the youngest");
    last.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").expect("written");
    assert_eq!(Answer::read(idle.pop().expect("the youngest")).code, 200);
}

#[test]
fn what_is_no_request_or_too_long_is_refused() {
    let bench = Bench::new(false);
    for wrong in ["\r\n\r\n\r\n\0\0", "GET\r\n\r\n", "\u{16}\u{3}\u{1}\u{2}\0", "GET /livez HTTP/9.9\r\n\r\n"] {
        assert!(matches!(bench.raw(wrong.as_bytes()).code, 0 | 400), "{wrong:?}");
    }
    let long = format!("GET /livez HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(4 * HEAD));
    assert_eq!(bench.raw(long.as_bytes()).code, 431);
    let path = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "y".repeat(4 * HEAD));
    assert!(matches!(bench.raw(path.as_bytes()).code, 414 | 431));
    let many: String = (0..200).map(|at| format!("x{at}: y\r\n")).collect();
    assert_eq!(bench.raw(format!("GET /livez HTTP/1.1\r\n{many}\r\n").as_bytes()).code, 431);
    // A second request on the same connection is not answered: the first answer is the whole.
    let twice = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n".repeat(2);
    let answer = bench.raw(twice.as_bytes());
    assert_eq!((answer.code, answer.body.as_str()), (200, "ok\n"));
    assert!(answer.has("connection: close"));
}

#[test]
fn a_port_that_is_taken_is_had_when_it_is_free() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = taken.local_addr().expect("its address");
    let source = Arc::new(Fake { facts: Mutex::new(facts()), status: status() });
    let server = Server::start(Options { endpoint, metrics: false }, source, runtime.handle());
    std::thread::sleep(Duration::from_millis(300));
    drop(taken);
    let deadline = Instant::now() + AGAIN + Duration::from_secs(5);
    while TcpStream::connect(endpoint).is_err() {
        assert!(Instant::now() < deadline, "nobody listens");
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut stream = connect(endpoint);
    stream.write_all(b"GET /livez HTTP/1.0\r\n\r\n").expect("written");
    assert_eq!(Answer::read(stream).code, 200);
    drop(server);
    std::thread::sleep(Duration::from_millis(300));
    assert!(TcpStream::connect(endpoint).is_err(), "it ends with its owner");
}
